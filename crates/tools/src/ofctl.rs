//! ovs ofctl
