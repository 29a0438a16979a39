//! ovs ovsdb_client
