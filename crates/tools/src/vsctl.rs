//! ovs vsctl
