//! ovs ovsdb_tool
