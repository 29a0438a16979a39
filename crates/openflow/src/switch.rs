//! Messages about the switch as a whole: features, configuration, tables, roles, asynchronous message masks,
//! bundles, the tunnel option table and connection tracking flushes.

use bitflags::bitflags;
use ferrovs_packet::field::FieldId;
use std::net::IpAddr;

use crate::port::PortDesc;
use crate::version::Version;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Capabilities: u32 {
        const FLOW_STATS = 1 << 0;
        const TABLE_STATS = 1 << 1;
        const PORT_STATS = 1 << 2;
        /// 802.1D spanning tree (1.0) has the bit of group statistics (1.1 and later).
        const GROUP_STATS = 1 << 3;
        const IP_REASM = 1 << 5;
        const QUEUE_STATS = 1 << 6;
        /// Matches IP addresses in ARP packets (1.0).
        const ARP_MATCH_IP = 1 << 7;
        /// Blocks looping ports (1.2 and later).
        const PORT_BLOCKED = 1 << 8;
        const BUNDLES = 1 << 9;
        const FLOW_MONITORING = 1 << 10;
        /// Not a wire bit: [`Capabilities::GROUP_STATS`] of 1.0.
        const STP = 1 << 31;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SwitchFeatures {
    pub datapath_id: u64,
    pub n_buffers: u32,
    pub n_tables: u8,
    pub auxiliary_id: u8,
    pub capabilities: Capabilities,
    /// Bit n: action n of OpenFlow 1.0 (only in 1.0).
    pub actions: u32,
    /// The ports, up to 1.2.
    pub ports: Vec<PortDesc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u16)]
pub enum FragHandling {
    #[default]
    Normal = 0,
    Drop = 1,
    Reassemble = 2,
    NxMatch = 3,
}

impl FragHandling {
    pub const ALL: [(FragHandling, &'static str); 4] = [
        (FragHandling::Normal, "normal"),
        (FragHandling::Drop, "drop"),
        (FragHandling::Reassemble, "reassemble"),
        (FragHandling::NxMatch, "nx-match"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Accepts the names without regard to case.
    pub fn from_name(s: &str) -> Option<FragHandling> {
        Self::ALL
            .iter()
            .find(|(_, n)| n.eq_ignore_ascii_case(s))
            .map(|(f, _)| *f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SwitchConfig {
    pub frag: FragHandling,
    /// Whether packets with a bad TTL go to the controller; `None`: as the version has it by default.
    pub invalid_ttl_to_controller: Option<bool>,
    pub miss_send_len: u16,
}

/// Description strings of the switch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DescStats {
    pub mfr_desc: String,
    pub hw_desc: String,
    pub sw_desc: String,
    pub serial_num: String,
    pub dp_desc: String,
}

/// What happens to packets that match no flow of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TableMiss {
    #[default]
    Default,
    Controller,
    Continue,
    Drop,
}

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct EvictionFlags: u32 {
        const OTHER = 1 << 0;
        const IMPORTANCE = 1 << 1;
        const LIFETIME = 1 << 2;
    }
}

/// Percentages between which vacancy events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Vacancy {
    pub down: u8,
    pub up: u8,
    /// The current vacancy, in descriptions.
    pub vacancy: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TableMod {
    /// 0xff all.
    pub table_id: u8,
    pub miss: TableMiss,
    /// `None` unspecified.
    pub eviction: Option<bool>,
    /// `None` where the message does not say (`u32::MAX` before 1.4).
    pub eviction_flags: Option<EvictionFlags>,
    /// `None` unspecified, `Some(None)` off.
    pub vacancy: Option<Option<Vacancy>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TableDesc {
    pub table_id: u8,
    pub eviction: Option<bool>,
    pub eviction_flags: Option<EvictionFlags>,
    pub vacancy: Option<Option<Vacancy>>,
}

/// What a table can do in a flow, or in its table-miss flow.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TableInstructions {
    /// Tables that goto_table may name: bit n of word n/64.
    pub next: [u64; 4],
    /// Bit n: [`Instruction`] n.
    pub instructions: u32,
    pub write: TableActions,
    pub apply: TableActions,
}

/// Instructions in OpenFlow's numbering, less one: bit positions of [`TableInstructions::instructions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Instruction {
    GotoTable = 1,
    WriteMetadata = 2,
    WriteActions = 3,
    ApplyActions = 4,
    ClearActions = 5,
    Meter = 6,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TableActions {
    /// Names of supported actions as in [`TABLE_ACTIONS`]; bit n: the n-th.
    pub actions: u64,
    /// Fields that set_field can set.
    pub set_fields: Vec<FieldId>,
}

/// Actions that table features can name, in the order in which they are shown, with their numbers in OpenFlow 1.1
/// and later; bit n of [`TableActions::actions`] is the n-th.
pub const TABLE_ACTIONS: [(&str, u16); 24] = [
    ("output", 0),
    ("group", 22),
    ("set_field", 25),
    ("set_vlan_vid", 1),
    ("set_vlan_pcp", 2),
    ("strip_vlan", 18),
    ("push_vlan", 17),
    ("mod_dl_src", 3),
    ("mod_dl_dst", 4),
    ("mod_nw_src", 5),
    ("mod_nw_dst", 6),
    ("mod_nw_tos", 7),
    ("mod_nw_ecn", 8),
    ("mod_nw_ttl", 23),
    ("mod_tp_src", 9),
    ("mod_tp_dst", 10),
    ("dec_ttl", 24),
    ("set_mpls_label", 13),
    ("set_mpls_tc", 14),
    ("set_mpls_ttl", 15),
    ("dec_mpls_ttl", 16),
    ("push_mpls", 19),
    ("pop_mpls", 20),
    ("set_queue", 21),
];

/// The actions that a switch tells of in `version`, as bits of [`TABLE_ACTIONS`]: until 1.1 each header change has
/// its own, later set-field stands for them.
pub fn table_actions_of(version: Version) -> u64 {
    const GENERAL: [&str; 12] = [
        "output",
        "group",
        "set_field",
        "strip_vlan",
        "push_vlan",
        "mod_nw_ttl",
        "dec_ttl",
        "set_mpls_ttl",
        "dec_mpls_ttl",
        "push_mpls",
        "pop_mpls",
        "set_queue",
    ];
    let has = |name: &str| {
        if version <= Version::V11 {
            name != "set_field"
        } else {
            GENERAL.contains(&name)
        }
    };
    let bits = TABLE_ACTIONS.iter().enumerate();
    bits.filter(|(_, (name, _))| has(name))
        .fold(0, |set, (i, _)| set | 1 << i)
}

/// The same in the version's own numbering of actions.
pub fn action_numbers_of(version: Version) -> u32 {
    if version == Version::V10 {
        // Numbers 0 (output) to 11 (enqueue).
        return 0xfff;
    }
    let bits = table_actions_of(version);
    let rows = TABLE_ACTIONS.iter().enumerate();
    rows.filter(|(i, _)| bits & 1 << i != 0)
        .fold(0, |set, (_, (_, number))| set | 1 << number)
}

/// What a table matches and does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TableFeatures {
    pub table_id: u8,
    /// 1.5: 0 replace, 1 modify, 2 enable, 3 disable.
    pub command: u8,
    pub name: String,
    pub metadata_match: u64,
    pub metadata_write: u64,
    pub max_entries: u32,
    pub miss: TableMiss,
    pub supports_eviction: Option<bool>,
    pub supports_vacancy: Option<bool>,
    pub nonmiss: TableInstructions,
    pub miss_instructions: TableInstructions,
    /// Matchable fields.
    pub match_: Vec<FieldId>,
    /// Those of `match_` that can be masked.
    pub mask: Vec<FieldId>,
    pub wildcard: Vec<FieldId>,
    /// Whether any property was in the message (a request without asks, one with sets).
    pub any_properties: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TableStats {
    pub table_id: u8,
    pub active_count: u32,
    pub lookup_count: u64,
    pub matched_count: u64,
    /// In 1.0 to 1.2 the message has the table's features too.
    pub features: Option<Box<TableFeatures>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Role {
    /// Only asks.
    NoChange = 0,
    /// `other` in Nicira's terms.
    Equal = 1,
    Primary = 2,
    Secondary = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleRequest {
    pub role: Role,
    pub generation_id: Option<u64>,
    /// Whether it is Nicira's message.
    pub nicira: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RoleReason {
    PrimaryRequest = 0,
    Config = 1,
    Experimenter = 2,
    /// Only shown, never sent.
    Unknown = 255,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleStatus {
    pub role: Role,
    pub generation_id: u64,
    pub reason: RoleReason,
}

/// Kinds of asynchronous messages that a controller can turn on and off by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum AsyncType {
    PacketIn = 0,
    PortStatus = 1,
    FlowRemoved = 2,
    RoleStatus = 3,
    TableStatus = 4,
    RequestForward = 5,
}

/// Bit n of a mask: reason n is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AsyncConfig {
    /// For a primary (or equal) connection, indexed by [`AsyncType`].
    pub primary: [u32; 6],
    pub secondary: [u32; 6],
}

/// A request to change asynchronous messages: only what it names changes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AsyncMod {
    /// Kind, whether for the secondary role, mask.
    pub changes: Vec<(AsyncType, bool, u32)>,
}

impl AsyncConfig {
    pub fn apply(&mut self, m: &AsyncMod) {
        for &(kind, secondary, mask) in &m.changes {
            let set = if secondary {
                &mut self.secondary
            } else {
                &mut self.primary
            };
            set[kind as usize] = mask;
        }
    }

    /// What a new connection of `version` receives.
    pub fn default_for(version: Version) -> AsyncConfig {
        let mut c = AsyncConfig::default();
        // All reasons but an invalid TTL, which must be asked for.
        c.primary[AsyncType::PacketIn as usize] = if version >= Version::V14 { 0x3b } else { 0x3 };
        c.primary[AsyncType::FlowRemoved as usize] =
            if version >= Version::V14 { 0x3f } else { 0xf };
        c.primary[AsyncType::PortStatus as usize] = 7;
        c.secondary[AsyncType::PortStatus as usize] = 7;
        c
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum BundleCtrlType {
    OpenRequest = 0,
    OpenReply = 1,
    CloseRequest = 2,
    CloseReply = 3,
    CommitRequest = 4,
    CommitReply = 5,
    DiscardRequest = 6,
    DiscardReply = 7,
}

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct BundleFlags: u16 {
        const ATOMIC = 1 << 0;
        const ORDERED = 1 << 1;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleCtrl {
    pub bundle_id: u32,
    pub type_: BundleCtrlType,
    pub flags: BundleFlags,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleAdd {
    pub bundle_id: u32,
    pub flags: BundleFlags,
    /// The message as it came, header included.
    pub msg: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum TlvTableCommand {
    Add = 0,
    Delete = 1,
    Clear = 2,
}

/// Maps a tunnel option to field `tun_metadata<index>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlvMap {
    pub option_class: u16,
    pub option_type: u8,
    pub option_len: u8,
    pub index: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlvTableMod {
    pub command: TlvTableCommand,
    pub maps: Vec<TlvMap>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlvTableReply {
    pub max_option_space: u32,
    pub max_fields: u16,
    pub maps: Vec<TlvMap>,
}

/// One direction of a connection, as far as a flush names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CtTuple {
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_id: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// 0 for IPv4 by default where neither address says.
    pub l3_type: u16,
}

/// Which connections to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CtFlush {
    pub zone: Option<u16>,
    pub ip_proto: u8,
    pub orig: CtTuple,
    pub reply: CtTuple,
    pub mark: u32,
    pub mark_mask: u32,
    pub labels: u128,
    pub labels_mask: u128,
}

/// Counters of IPFIX exporting, of a bridge or of one flow-based collector set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IpfixStats {
    pub collector_set_id: u32,
    pub total_flows: u64,
    pub current_flows: u64,
    pub pkts: u64,
    pub ipv4_pkts: u64,
    pub ipv6_pkts: u64,
    pub error_pkts: u64,
    pub ipv4_error_pkts: u64,
    pub ipv6_error_pkts: u64,
    pub tx_pkts: u64,
    pub tx_errors: u64,
}
