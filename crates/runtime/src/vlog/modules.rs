//! Every log module of every program: the one table.
//!
//! A row says which programs list the module in `vlog/list` and accept it in a log specification:
//! `S` ovs-vswitchd, `D` ovsdb-server, `SD` both daemons, `T` the tools. Modules of the daemons'
//! common parts belong to the tools too, which use the same code.

use super::Module;

/// In ovs-vswitchd.
pub(crate) const S: u8 = 1;
/// In ovsdb-server.
pub(crate) const D: u8 = 2;
/// In the command line tools.
pub(crate) const T: u8 = 4;
const SD: u8 = S | D | T;

macro_rules! modules {
    ($($id:ident $name:literal $programs:expr;)*) => {
        $(
            #[doc = concat!("Log module `", $name, "`.")]
            pub static $id: Module = Module::new($name, $programs);
        )*

        /// All modules, by name.
        pub(crate) static ALL: &[&Module] = &[$(&$id),*];
    };
}

modules! {
    APPCTL "appctl" T;
    BACKTRACE "backtrace" SD;
    BFD "bfd" S;
    BOND "bond" S;
    BRIDGE "bridge" S;
    BUNDLE "bundle" SD;
    BUNDLES "bundles" S;
    CFM "cfm" S;
    COLLECTORS "collectors" S;
    COMMAND_LINE "command_line" SD;
    CONNMGR "connmgr" S;
    CONNTRACK "conntrack" SD;
    CONNTRACK_TP "conntrack_tp" SD;
    COOPERATIVE_MULTITASKING "cooperative_multitasking" SD;
    COVERAGE "coverage" SD;
    CT_DPIF "ct_dpif" SD;
    DAEMON "daemon" SD;
    DAEMON_UNIX "daemon_unix" SD;
    DB_CTL_BASE "db_ctl_base" T;
    DNS_RESOLVE "dns_resolve" SD;
    DPCTL "dpctl" T;
    DPDK "dpdk" SD;
    DPIF "dpif" SD;
    DPIF_LOOKUP_AUTOVALIDATOR "dpif_lookup_autovalidator" SD;
    DPIF_LOOKUP_GENERIC "dpif_lookup_generic" SD;
    DPIF_MFEX_EXTRACT_STUDY "dpif_mfex_extract_study" SD;
    DPIF_NETDEV "dpif_netdev" SD;
    DPIF_NETDEV_EXTRACT "dpif_netdev_extract" SD;
    DPIF_NETDEV_IMPL "dpif_netdev_impl" SD;
    DPIF_NETDEV_LOOKUP "dpif_netdev_lookup" SD;
    DPIF_NETLINK "dpif_netlink" SD;
    DPIF_NETLINK_RTNL "dpif_netlink_rtnl" SD;
    DPIF_OFFLOAD "dpif_offload" S;
    DPIF_OFFLOAD_DUMMY "dpif_offload_dummy" S;
    ENTROPY "entropy" SD;
    FAIL_OPEN "fail_open" S;
    FATAL_SIGNAL "fatal_signal" SD;
    FLOW "flow" SD;
    HMAP "hmap" SD;
    IN_BAND "in_band" S;
    IPF "ipf" SD;
    IPFIX "ipfix" S;
    JSONRPC "jsonrpc" SD;
    LACP "lacp" S;
    LLDP "lldp" S;
    LLDPD "lldpd" S;
    LLDPD_STRUCTS "lldpd_structs" S;
    LOCKFILE "lockfile" SD;
    MEMORY "memory" SD;
    META_FLOW "meta_flow" SD;
    NATIVE_TNL "native_tnl" SD;
    NETDEV "netdev" SD;
    NETDEV_AFXDP "netdev_afxdp" SD;
    NETDEV_DPDK "netdev_dpdk" S;
    NETDEV_DUMMY "netdev_dummy" S;
    NETDEV_LINUX "netdev_linux" SD;
    NETDEV_OFFLOAD "netdev_offload" SD;
    NETDEV_OFFLOAD_TC "netdev_offload_tc" SD;
    NETDEV_VPORT "netdev_vport" SD;
    NETFLOW "netflow" S;
    NETLINK "netlink" SD;
    NETLINK_CONNTRACK "netlink_conntrack" SD;
    NETLINK_NOTIFIER "netlink_notifier" SD;
    NETLINK_SOCKET "netlink_socket" SD;
    NX_MATCH "nx_match" SD;
    ODP_EXECUTE "odp_execute" SD;
    ODP_EXECUTE_IMPL "odp_execute_impl" SD;
    ODP_UTIL "odp_util" SD;
    OFCTL "ofctl" T;
    OFP_ACTIONS "ofp_actions" SD;
    OFP_BUNDLE "ofp_bundle" SD;
    OFP_CONNECTION "ofp_connection" SD;
    OFP_ERRORS "ofp_errors" SD;
    OFP_FLOW "ofp_flow" SD;
    OFP_GROUP "ofp_group" SD;
    OFP_MATCH "ofp_match" SD;
    OFP_METER "ofp_meter" SD;
    OFP_MONITOR "ofp_monitor" SD;
    OFP_MSGS "ofp_msgs" SD;
    OFP_PACKET "ofp_packet" SD;
    OFP_PORT "ofp_port" SD;
    OFP_PROTOCOL "ofp_protocol" SD;
    OFP_QUEUE "ofp_queue" SD;
    OFP_TABLE "ofp_table" SD;
    OFP_UTIL "ofp_util" SD;
    OFPROTO "ofproto" S;
    OFPROTO_DPIF "ofproto_dpif" S;
    OFPROTO_DPIF_MIRROR "ofproto_dpif_mirror" S;
    OFPROTO_DPIF_MONITOR "ofproto_dpif_monitor" S;
    OFPROTO_DPIF_RID "ofproto_dpif_rid" S;
    OFPROTO_DPIF_UPCALL "ofproto_dpif_upcall" S;
    OFPROTO_DPIF_XLATE "ofproto_dpif_xlate" S;
    OFPROTO_XLATE_CACHE "ofproto_xlate_cache" S;
    OVS_LLDP "ovs_lldp" S;
    OVS_NUMA "ovs_numa" SD;
    OVS_RCU "ovs_rcu" SD;
    OVS_REPLAY "ovs_replay" SD;
    OVS_ROUTER "ovs_router" SD;
    OVS_THREAD "ovs_thread" SD;
    OVSDB "ovsdb" D;
    OVSDB_CLIENT "ovsdb_client" T;
    OVSDB_CS "ovsdb_cs" SD;
    OVSDB_ERROR "ovsdb_error" SD;
    OVSDB_FILE "ovsdb_file" D;
    OVSDB_IDL "ovsdb_idl" SD;
    OVSDB_JSONRPC_SERVER "ovsdb_jsonrpc_server" D;
    OVSDB_LOG "ovsdb_log" D;
    OVSDB_MONITOR "ovsdb_monitor" D;
    OVSDB_RBAC "ovsdb_rbac" D;
    OVSDB_SERVER "ovsdb_server" D;
    OVSDB_TOOL "ovsdb_tool" T;
    OVSDB_UTIL "ovsdb_util" D;
    OX_STAT "ox_stat" SD;
    PCAP "pcap" S;
    PMD_PERF "pmd_perf" SD;
    POLL_LOOP "poll_loop" SD;
    PROCESS "process" SD;
    RAFT "raft" D;
    RAFT_RPC "raft_rpc" D;
    RCONN "rconn" S;
    RECONNECT "reconnect" SD;
    RELAY "relay" D;
    REPLICATION "replication" D;
    ROUTE_TABLE "route_table" SD;
    RSTP "rstp" S;
    RSTP_SM "rstp_sm" S;
    SFLOW "sflow" S;
    SHA1 "sha1" SD;
    SIGNALS "signals" SD;
    SOCKET_UTIL "socket_util" SD;
    SOCKET_UTIL_UNIX "socket_util_unix" SD;
    STORAGE "storage" D;
    STP "stp" S;
    STREAM "stream" SD;
    STREAM_FD "stream_fd" SD;
    STREAM_REPLAY "stream_replay" SD;
    STREAM_SSL "stream_ssl" SD;
    STREAM_TCP "stream_tcp" SD;
    STREAM_UNIX "stream_unix" SD;
    SVEC "svec" SD;
    SYSTEM_STATS "system_stats" S;
    TABLE "table" T;
    TC "tc" SD;
    TIMEVAL "timeval" SD;
    TRANSACTION "transaction" D;
    TRANSACTION_FORWARD "transaction_forward" D;
    TRIGGER "trigger" D;
    TUNNEL "tunnel" S;
    UNIXCTL "unixctl" SD;
    USERSPACE_TSO "userspace_tso" SD;
    UTIL "util" SD;
    UUID "uuid" SD;
    VCONN "vconn" S | T;
    VCONN_STREAM "vconn_stream" S | T;
    VLOG "vlog" SD;
    VSCTL "vsctl" T;
    VSWITCHD "vswitchd" S;
    VTEP_CTL "vtep_ctl" T;
}
