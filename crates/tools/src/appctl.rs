//! ovs appctl
