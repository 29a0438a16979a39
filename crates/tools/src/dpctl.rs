//! ovs dpctl
