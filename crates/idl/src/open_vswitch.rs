//! The Open_vSwitch database, schema 8.8.0, declared once.
//!
//! Typed rows, the schema's JSON text and the documentation all derive from this table. Tables
//! stand in the order of the published schema, columns in order of name.

use crate::database;
use crate::kind::{Bool, Int, Map, Opt, Ref, Set, Str};
use crate::schema::{
    BOOLEAN, INTEGER, STRING, at_least, choice, map, one, optional, range, set, set_of, strong,
    weak,
};
use ferrovs_ovsdb::types::UNLIMITED;

/// The text of `vswitch.ovsschema`.
pub fn schema_json_text() -> String {
    crate::schema::schema_json_text(&OPEN_VSWITCH)
}

database! {
    /// The Open_vSwitch database.
    OPEN_VSWITCH = "Open_vSwitch" "8.8.0" "2823623553 27869";

    /// The root: one row that everything else hangs from.
    table OpenVSwitch = "Open_vSwitch" (is_root: true, max_rows: Some(1)) {
        /// Bridges to run.
        BRIDGES bridges: Set<Ref> = set(strong("Bridge"));
        /// Last applied sequence (vsctl waits).
        CUR_CFG cur_cfg: Int = one(INTEGER);
        /// Supported bridge datapath types (written by vswitchd).
        DATAPATH_TYPES datapath_types: Set<Str> = set(STRING);
        /// Datapath type to Datapath row.
        DATAPATHS datapaths: Map<Str, Ref> = map(STRING, strong("Datapath"));
        /// Schema version (written by ovs-ctl).
        DB_VERSION db_version: Opt<Str> = optional(STRING);
        /// DPDK up flag (written).
        DPDK_INITIALIZED dpdk_initialized: Bool = one(BOOLEAN);
        /// DPDK version string (written).
        DPDK_VERSION dpdk_version: Opt<Str> = optional(STRING);
        /// Free ids (system-id, hostname, rundir; OVN ovn-*).
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Supported interface types (written).
        IFACE_TYPES iface_types: Set<Str> = set(STRING);
        /// OVSDB manager connections.
        MANAGER_OPTIONS manager_options: Set<Ref> = set(strong("Manager"));
        /// Client-incremented config sequence.
        NEXT_CFG next_cfg: Int = one(INTEGER);
        /// Global tuning (keys below).
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Software version (written by ovs-ctl).
        OVS_VERSION ovs_version: Opt<Str> = optional(STRING);
        /// TLS config.
        SSL ssl: Opt<Ref> = optional(strong("SSL"));
        /// Host cpu/load/memory/process/fs stats when enable-statistics.
        STATISTICS statistics: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Host distro id.
        SYSTEM_TYPE system_type: Opt<Str> = optional(STRING);
        /// Host distro version.
        SYSTEM_VERSION system_version: Opt<Str> = optional(STRING);
    }

    /// A bridge.
    table Bridge = "Bridge" (indexes: &[&["name"]]) {
        /// 802.1Qcj Auto Attach config.
        AUTO_ATTACH auto_attach: Opt<Ref> = optional(strong("AutoAttach"));
        /// OpenFlow controllers.
        CONTROLLER controller: Set<Ref> = set(strong("Controller"));
        /// Actual dpid hex16 (written).
        DATAPATH_ID datapath_id: Opt<Str> = optional(STRING).ephemeral();
        /// "" /system = kernel, netdev = userspace.
        DATAPATH_TYPE datapath_type: Str = one(STRING);
        /// Dp version string, "<built-in>" for userspace.
        DATAPATH_VERSION datapath_version: Str = one(STRING);
        /// Free ids.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Standalone (default) or secure.
        FAIL_MODE fail_mode: Opt<Str> = optional(choice(&["standalone", "secure"]));
        /// VLANs without MAC learning (for RSPAN).
        FLOOD_VLANS flood_vlans: Set<Int> = set_of(range(0, 4095), 0, 4096);
        /// Table id 0..254 to Flow_Table.
        FLOW_TABLES flow_tables: Map<Int, Ref> = map(range(0, 254), strong("Flow_Table"));
        /// Per-bridge IPFIX.
        IPFIX ipfix: Opt<Ref> = optional(strong("IPFIX"));
        /// IGMP/MLD snooping on.
        MCAST_SNOOPING_ENABLE mcast_snooping_enable: Bool = one(BOOLEAN);
        /// SPAN/RSPAN mirrors.
        MIRRORS mirrors: Set<Ref> = set(strong("Mirror"));
        /// Unique name, immutable, becomes LOCAL iface name.
        NAME name: Str = one(STRING).immutable();
        /// NetFlow v5 export.
        NETFLOW netflow: Opt<Ref> = optional(strong("NetFlow"));
        /// Bridge tuning (keys below).
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Ports.
        PORTS ports: Set<Ref> = set(strong("Port"));
        /// Enabled OpenFlow versions (empty = all).
        PROTOCOLS protocols: Set<Str> = set(choice(&[
            "OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15",
        ]));
        /// 802.1D-2004 RSTP on.
        RSTP_ENABLE rstp_enable: Bool = one(BOOLEAN);
        /// RSTP status (written).
        RSTP_STATUS rstp_status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// SFlow v5 export.
        SFLOW sflow: Opt<Ref> = optional(strong("sFlow"));
        /// STP status (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// 802.1D STP on.
        STP_ENABLE stp_enable: Bool = one(BOOLEAN);
    }

    /// A port of a bridge: one interface, or several as a bond.
    table Port = "Port" (indexes: &[&["name"]]) {
        /// MAC of active member (written; restored at start).
        BOND_ACTIVE_SLAVE bond_active_slave: Opt<Str> = optional(STRING);
        /// Ms link must be down.
        BOND_DOWNDELAY bond_downdelay: Int = one(INTEGER);
        /// Create fake net device for bond.
        BOND_FAKE_IFACE bond_fake_iface: Bool = one(BOOLEAN);
        /// Active-backup (default), balance-slb, balance-tcp.
        BOND_MODE bond_mode: Opt<Str> =
            optional(choice(&["balance-tcp", "balance-slb", "active-backup"]));
        /// Ms link must be up.
        BOND_UPDELAY bond_updelay: Int = one(INTEGER);
        /// Allowed inner VLANs for dot1q-tunnel.
        CVLANS cvlans: Set<Int> = set_of(range(0, 4095), 0, 4096);
        /// Free ids.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Port is a fake bridge (VLAN sub-bridge).
        FAKE_BRIDGE fake_bridge: Bool = one(BOOLEAN);
        /// 1 = plain, ≥2 = bond members.
        INTERFACES interfaces: Set<Ref> = set_of(strong("Interface"), 1, UNLIMITED);
        /// Off (default) / passive / active.
        LACP lacp: Opt<Str> = optional(choice(&["active", "passive", "off"]));
        /// MAC of port (for bridge local/fake).
        MAC mac: Opt<Str> = optional(STRING);
        /// Unique, immutable.
        NAME name: Str = one(STRING).immutable();
        /// Port tuning.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// No forwarding between protected ports.
        PROTECTED protected: Bool = one(BOOLEAN);
        /// QoS row.
        QOS qos: Opt<Ref> = optional(strong("QoS"));
        /// RSTP counters (written).
        RSTP_STATISTICS rstp_statistics: Map<Str, Int> = map(STRING, INTEGER).ephemeral();
        /// RSTP port status (written).
        RSTP_STATUS rstp_status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// STP counters (written).
        STATISTICS statistics: Map<Str, Int> = map(STRING, INTEGER).ephemeral();
        /// STP port status (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Access / native VLAN.
        TAG tag: Opt<Int> = optional(range(0, 4095));
        /// Trunk VLAN list (empty = all).
        TRUNKS trunks: Set<Int> = set_of(range(0, 4095), 0, 4096);
        /// Access, trunk, native-tagged, native-untagged, dot1q-tunnel; default from tag.
        VLAN_MODE vlan_mode: Opt<Str> = optional(choice(&[
            "trunk", "access", "native-tagged", "native-untagged", "dot1q-tunnel",
        ]));
    }

    /// An interface: a network device, or one end of a tunnel or patch.
    table Interface = "Interface" (indexes: &[&["name"]]) {
        /// Up/down (written).
        ADMIN_STATE admin_state: Opt<Str> = optional(choice(&["up", "down"])).ephemeral();
        /// BFD config keys.
        BFD bfd: Map<Str, Str> = map(STRING, STRING);
        /// BFD state (written).
        BFD_STATUS bfd_status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Fault flag (written).
        CFM_FAULT cfm_fault: Opt<Bool> = optional(BOOLEAN).ephemeral();
        /// Fault reasons (written).
        CFM_FAULT_STATUS cfm_fault_status: Set<Str> = set(STRING).ephemeral();
        /// State changes (written).
        CFM_FLAP_COUNT cfm_flap_count: Opt<Int> = optional(INTEGER);
        /// 0..100 % (written).
        CFM_HEALTH cfm_health: Opt<Int> = optional(range(0, 100)).ephemeral();
        /// CFM id; set = enable 802.1ag.
        CFM_MPID cfm_mpid: Opt<Int> = optional(INTEGER);
        /// Seen remote ids (written).
        CFM_REMOTE_MPIDS cfm_remote_mpids: Set<Int> = set(INTEGER).ephemeral();
        /// Up/down of remote (written).
        CFM_REMOTE_OPSTATE cfm_remote_opstate: Opt<Str> =
            optional(choice(&["up", "down"])).ephemeral();
        /// Half/full (written).
        DUPLEX duplex: Opt<Str> = optional(choice(&["half", "full"])).ephemeral();
        /// Error text when port failed (written).
        ERROR error: Opt<Str> = optional(STRING);
        /// Attached-mac, iface-id (OVN/Neutron binding), iface-status, vm-id.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Kernel index (written).
        IFINDEX ifindex: Opt<Int> = optional(range(0, 4_294_967_295)).ephemeral();
        /// Kb.
        INGRESS_POLICING_BURST ingress_policing_burst: Int = one(at_least(0));
        /// Kpkts.
        INGRESS_POLICING_KPKTS_BURST ingress_policing_kpkts_burst: Int = one(at_least(0));
        /// Kpkts/s.
        INGRESS_POLICING_KPKTS_RATE ingress_policing_kpkts_rate: Int = one(at_least(0));
        /// Kbps, 0 = off.
        INGRESS_POLICING_RATE ingress_policing_rate: Int = one(at_least(0));
        /// LACP info current (written).
        LACP_CURRENT lacp_current: Opt<Bool> = optional(BOOLEAN).ephemeral();
        /// Carrier changes (written).
        LINK_RESETS link_resets: Opt<Int> = optional(INTEGER).ephemeral();
        /// Bit/s (written).
        LINK_SPEED link_speed: Opt<Int> = optional(INTEGER).ephemeral();
        /// Carrier (written).
        LINK_STATE link_state: Opt<Str> = optional(choice(&["up", "down"])).ephemeral();
        /// Enable=true for LLDP/AA.
        LLDP lldp: Map<Str, Str> = map(STRING, STRING);
        /// MAC to set.
        MAC mac: Opt<Str> = optional(STRING);
        /// Actual MAC (written).
        MAC_IN_USE mac_in_use: Opt<Str> = optional(STRING).ephemeral();
        /// Actual MTU (written).
        MTU mtu: Opt<Int> = optional(INTEGER).ephemeral();
        /// Wanted MTU ≥1.
        MTU_REQUEST mtu_request: Opt<Int> = optional(at_least(1));
        /// Unique, immutable, ≤15 char device name.
        NAME name: Str = one(STRING).immutable();
        /// Assigned OF port or -1 on error (written).
        OFPORT ofport: Opt<Int> = optional(INTEGER);
        /// Wanted OF port 1..65279.
        OFPORT_REQUEST ofport_request: Opt<Int> = optional(range(1, 65279));
        /// Type-specific options.
        OPTIONS options: Map<Str, Str> = map(STRING, STRING);
        /// Iface tuning.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Counters (written).
        STATISTICS statistics: Map<Str, Int> = map(STRING, INTEGER).ephemeral();
        /// Driver/tunnel status (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Netdev type (18+ values).
        TYPE type_ ("type"): Str = one(STRING);
    }

    /// How one OpenFlow table of a bridge is set up.
    table FlowTable = "Flow_Table" {
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Max flows.
        FLOW_LIMIT flow_limit: Opt<Int> = optional(at_least(0));
        /// Eviction fields.
        GROUPS groups: Set<Str> = set(STRING);
        /// OF table name.
        NAME name: Opt<Str> = optional(STRING);
        /// Refuse/evict.
        OVERFLOW_POLICY overflow_policy: Opt<Str> = optional(choice(&["refuse", "evict"]));
        /// Up to 4 fields for prefix-trie lookups (default ip_dst, ip_src, ipv6_dst, ipv6_src).
        PREFIXES prefixes: Set<Str> = set_of(STRING, 0, 4);
    }

    /// Quality of service of a port.
    table QoS = "QoS" (is_root: true) {
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Type options.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Queue id to Queue.
        QUEUES queues: Map<Int, Ref> = map(range(0, 4_294_967_295), strong("Queue"));
        /// Linux-htb, linux-hfsc, linux-sfq, linux-codel, linux-fq_codel, linux-netem, linux-noop, egress-policer, trtcm-policer, "".
        TYPE type_ ("type"): Str = one(STRING);
    }

    /// A queue of a QoS configuration.
    table Queue = "Queue" (is_root: true) {
        /// Mark DSCP of packets in queue.
        DSCP dscp: Opt<Int> = optional(range(0, 63));
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Min/max rate, burst, priority.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
    }

    /// A mirror of a bridge.
    table Mirror = "Mirror" {
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Flow match restriction (new).
        FILTER filter: Opt<Str> = optional(STRING);
        /// Name.
        NAME name: Str = one(STRING);
        /// SPAN target (ERSPAN tunnel port possible).
        OUTPUT_PORT output_port: Opt<Ref> = optional(weak("Port"));
        /// RSPAN VLAN.
        OUTPUT_VLAN output_vlan: Opt<Int> = optional(range(1, 4095));
        /// All packets.
        SELECT_ALL select_all: Bool = one(BOOLEAN);
        /// Egress ports.
        SELECT_DST_PORT select_dst_port: Set<Ref> = set(weak("Port"));
        /// Ingress ports.
        SELECT_SRC_PORT select_src_port: Set<Ref> = set(weak("Port"));
        /// VLANs.
        SELECT_VLAN select_vlan: Set<Int> = set_of(range(0, 4095), 0, 4096);
        /// Truncate 14..65535.
        SNAPLEN snaplen: Opt<Int> = optional(range(14, 65535));
        /// Tx_packets/bytes (written).
        STATISTICS statistics: Map<Str, Int> = map(STRING, INTEGER).ephemeral();
    }

    /// NetFlow export of a bridge.
    table NetFlow = "NetFlow" {
        /// S, -1 disables active expiry (default 600).
        ACTIVE_TIMEOUT active_timeout: Int = one(at_least(-1));
        /// Put engine id in upper bits.
        ADD_ID_TO_INTERFACE add_id_to_interface: Bool = one(BOOLEAN);
        /// Id.
        ENGINE_ID engine_id: Opt<Int> = optional(range(0, 255));
        /// Id.
        ENGINE_TYPE engine_type: Opt<Int> = optional(range(0, 255));
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Ip:port list, v5 UDP.
        TARGETS targets: Set<Str> = set_of(STRING, 1, UNLIMITED);
    }

    /// sFlow export of bridges.
    table SFlow = "sFlow" {
        /// Agent device/IP.
        AGENT agent: Opt<Str> = optional(STRING);
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Bytes.
        HEADER header: Opt<Int> = optional(INTEGER);
        /// S.
        POLLING polling: Opt<Int> = optional(INTEGER);
        /// 1/N.
        SAMPLING sampling: Opt<Int> = optional(INTEGER);
        /// Ip:port list.
        TARGETS targets: Set<Str> = set_of(STRING, 1, UNLIMITED);
    }

    /// IPFIX export, per bridge or per flow.
    table Ipfix = "IPFIX" {
        /// S ≤4200.
        CACHE_ACTIVE_TIMEOUT cache_active_timeout: Opt<Int> = optional(range(0, 4200));
        /// Cache size.
        CACHE_MAX_FLOWS cache_max_flows: Opt<Int> = optional(range(0, 4_294_967_295));
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Id.
        OBS_DOMAIN_ID obs_domain_id: Opt<Int> = optional(range(0, 4_294_967_295));
        /// Id.
        OBS_POINT_ID obs_point_id: Opt<Int> = optional(range(0, 4_294_967_295));
        /// Tunnel sampling, virtual_obs_id, in/out sampling.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// 1/N (per-bridge).
        SAMPLING sampling: Opt<Int> = optional(range(1, 4_294_967_295));
        /// S (option template).
        STATS_INTERVAL stats_interval: Opt<Int> = optional(range(1, 3600));
        /// Ip:port list.
        TARGETS targets: Set<Str> = set(STRING);
        /// S.
        TEMPLATE_INTERVAL template_interval: Opt<Int> = optional(range(1, 3600));
    }

    /// Where flow-based samples of a bridge go.
    table FlowSampleCollectorSet = "Flow_Sample_Collector_Set" (is_root: true, indexes: &[&["id", "bridge"]]) {
        /// Bridge.
        BRIDGE bridge: Ref = one(strong("Bridge"));
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Id used by sample().
        ID id: Int = one(range(0, 4_294_967_295));
        /// IPFIX row.
        IPFIX ipfix: Opt<Ref> = optional(strong("IPFIX"));
        /// Psample group.
        LOCAL_GROUP_ID local_group_id: Opt<Int> = optional(range(0, 4_294_967_295));
    }

    /// An OpenFlow controller of a bridge.
    table Controller = "Controller" {
        /// In-band/out-of-band.
        CONNECTION_MODE connection_mode: Opt<Str> = optional(choice(&["in-band", "out-of-band"]));
        /// ≥25.
        CONTROLLER_BURST_LIMIT controller_burst_limit: Opt<Int> = optional(at_least(25));
        /// 1..512 packets.
        CONTROLLER_QUEUE_SIZE controller_queue_size: Opt<Int> = optional(range(1, 512));
        /// Pps ≥100.
        CONTROLLER_RATE_LIMIT controller_rate_limit: Opt<Int> = optional(at_least(100));
        /// Async by default.
        ENABLE_ASYNC_MESSAGES enable_async_messages: Opt<Bool> = optional(BOOLEAN);
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Ms, 0 off.
        INACTIVITY_PROBE inactivity_probe: Opt<Int> = optional(INTEGER);
        /// (written).
        IS_CONNECTED is_connected: Bool = one(BOOLEAN).ephemeral();
        /// In-band gateway.
        LOCAL_GATEWAY local_gateway: Opt<Str> = optional(STRING);
        /// In-band static ip.
        LOCAL_IP local_ip: Opt<Str> = optional(STRING);
        /// In-band netmask.
        LOCAL_NETMASK local_netmask: Opt<Str> = optional(STRING);
        /// Ms ≥1000.
        MAX_BACKOFF max_backoff: Opt<Int> = optional(at_least(1000));
        /// Dscp.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Other/master/slave (written).
        ROLE role: Opt<Str> = optional(choice(&["other", "master", "slave"])).ephemeral();
        /// State/error/times/packet-in counts (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Ssl:,tcp:,unix:,pssl:,ptcp:,punix:.
        TARGET target: Str = one(STRING);
        /// Primary/service.
        TYPE type_ ("type"): Opt<Str> = optional(choice(&["primary", "service"]));
    }

    /// An OVSDB manager connection.
    table Manager = "Manager" (indexes: &[&["target"]]) {
        /// In-band/out-of-band.
        CONNECTION_MODE connection_mode: Opt<Str> = optional(choice(&["in-band", "out-of-band"]));
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Ms.
        INACTIVITY_PROBE inactivity_probe: Opt<Int> = optional(INTEGER);
        /// (written).
        IS_CONNECTED is_connected: Bool = one(BOOLEAN).ephemeral();
        /// Ms.
        MAX_BACKOFF max_backoff: Opt<Int> = optional(at_least(1000));
        /// Dscp.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Ssl:,tcp:,pssl:,ptcp:.
        TARGET target: Str = one(STRING);
    }

    /// A datapath: what it can do, and its conntrack zones.
    table Datapath = "Datapath" {
        /// 26 probed capabilities (written).
        CAPABILITIES capabilities: Map<Str, Str> = map(STRING, STRING);
        /// Default per-zone limit.
        CT_ZONE_DEFAULT_LIMIT ct_zone_default_limit: Opt<Int> = optional(range(0, 4_294_967_295));
        /// Zone id to CT_Zone.
        CT_ZONES ct_zones: Map<Int, Ref> = map(range(0, 65535), strong("CT_Zone"));
        /// Version (written).
        DATAPATH_VERSION datapath_version: Str = one(STRING);
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
    }

    /// A conntrack zone.
    table CtZone = "CT_Zone" {
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Max conns in zone.
        LIMIT limit: Opt<Int> = optional(range(0, 4_294_967_295));
        /// Policy row.
        TIMEOUT_POLICY timeout_policy: Opt<Ref> = optional(strong("CT_Timeout_Policy"));
    }

    /// Timeouts of conntrack entries by state.
    table CtTimeoutPolicy = "CT_Timeout_Policy" {
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// 16 keys s.
        TIMEOUTS timeouts: Map<Str, Int> = map(choice(&[
            "tcp_syn_sent", "tcp_syn_recv", "tcp_established", "tcp_fin_wait", "tcp_close_wait",
            "tcp_last_ack", "tcp_time_wait", "tcp_close", "tcp_syn_sent2", "tcp_retransmit",
            "tcp_unack", "udp_first", "udp_single", "udp_multiple", "icmp_first", "icmp_reply",
        ]), range(0, 4_294_967_295));
    }

    /// The TLS configuration.
    table Ssl = "SSL" (max_rows: Some(1)) {
        /// Trust-on-first-use.
        BOOTSTRAP_CA_CERT bootstrap_ca_cert: Bool = one(BOOLEAN);
        /// PEM path.
        CA_CERT ca_cert: Str = one(STRING);
        /// PEM path.
        CERTIFICATE certificate: Str = one(STRING);
        /// Free.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// PEM path.
        PRIVATE_KEY private_key: Str = one(STRING);
    }

    /// Auto-attach of a bridge (IEEE 802.1Qcj).
    table AutoAttach = "AutoAttach" {
        /// I-SID to VLAN.
        MAPPINGS mappings: Map<Int, Int> = map(range(0, 16_777_215), range(0, 4095));
        /// LLDP TLV.
        SYSTEM_DESCRIPTION system_description: Str = one(STRING);
        /// LLDP TLV.
        SYSTEM_NAME system_name: Str = one(STRING);
    }
}

#[cfg(test)]
pub(crate) mod tests;
