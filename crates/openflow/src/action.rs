//! OpenFlow actions and instructions as values: what a flow, a group bucket or a packet-out does to a packet.
//!
//! One enum holds both, as Open vSwitch does: instructions are the last variants ([`Action::Meter`] to
//! [`Action::GotoTable`]) and `apply_actions` is simply the rest of the list. The wire formats of the versions
//! are in `wire`, the text in `text` below this module; a few variants remember how they were
//! written (`load` against `set_field`, say) because Open vSwitch gives them back the same way.

pub mod check;
pub mod decode;
pub mod encode;
pub mod instructions;
mod raw;
pub mod verify;

use ferrovs_packet::field::{FieldId, FieldValue, SubField};
pub use ferrovs_packet::hash::HashFields;
use ferrovs_packet::types::{Be16, MacAddr, OfPort};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::OfpErr;
use crate::packet_in::PacketInReason;
use crate::warn::{Topic, warn};

/// `max_len` of an output to the controller that wants the whole packet.
pub const MAX_LEN_NO_BUFFER: u16 = u16::MAX;
/// A table number that stands for "the current table" in resubmit and "every table" in requests.
pub const TABLE_ALL: u8 = 0xff;
/// `recirc_table` of `ct` when the packet is not recirculated.
pub const CT_NO_RECIRC: u8 = 0xff;
/// Helpers of `ct`, named by their ports.
pub const ALG_FTP: u16 = 21;
pub const ALG_TFTP: u16 = 69;

/// One action or instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    // Output.
    /// `max_len` matters only when `port` is the controller.
    Output {
        port: OfPort,
        max_len: u16,
    },
    OutputReg {
        src: SubField,
        max_len: u16,
    },
    OutputTrunc {
        port: OfPort,
        max_len: u32,
    },
    Group(u32),
    Controller(Box<Controller>),
    Enqueue {
        port: OfPort,
        queue: u32,
    },
    Bundle(Box<Bundle>),

    // Header changes.
    SetField(Box<SetField>),
    /// `onf`: it came as ONF's extension of OpenFlow 1.3.
    RegMove {
        src: SubField,
        dst: SubField,
        onf: bool,
    },
    SetVlanVid {
        vid: u16,
        push_if_needed: bool,
        flow_has_vlan: bool,
    },
    SetVlanPcp {
        pcp: u8,
        push_if_needed: bool,
        flow_has_vlan: bool,
    },
    /// `pop`: it came as OpenFlow 1.1's pop-VLAN, and is shown so.
    StripVlan {
        pop: bool,
    },
    PushVlan(Be16),
    SetEthSrc(MacAddr),
    SetEthDst(MacAddr),
    SetIpv4Src(Ipv4Addr),
    SetIpv4Dst(Ipv4Addr),
    /// The DSCP bits in the upper six bits of a byte.
    SetIpDscp(u8),
    SetIpEcn(u8),
    SetIpTtl(u8),
    /// `flow_ip_proto` is the protocol that the flow's match fixes, 0 if none.
    SetL4SrcPort {
        port: u16,
        flow_ip_proto: u8,
    },
    SetL4DstPort {
        port: u16,
        flow_ip_proto: u8,
    },
    /// Controller ids that hear of packets whose TTL ran out; `[0]` for a plain `dec_ttl`.
    DecTtl {
        ids: Vec<u16>,
        explicit_ids: bool,
    },
    SetMplsLabel(u32),
    SetMplsTc(u8),
    SetMplsTtl(u8),
    DecMplsTtl,
    PushMpls(Be16),
    PopMpls(Be16),
    DecNshTtl,
    DeleteField(FieldId),

    // Metadata.
    SetTunnel {
        id: u64,
        wide: bool,
    },
    SetQueue(u32),
    PopQueue,
    FinTimeout {
        idle: u16,
        hard: u16,
    },

    // Flow table interaction.
    Resubmit(Resubmit),
    Learn(Box<Learn>),
    Conjunction {
        id: u32,
        clause: u8,
        n_clauses: u8,
    },

    // Arithmetic and stack.
    Multipath(Box<Multipath>),
    StackPush(SubField),
    StackPop(SubField),

    // Other.
    Note(Vec<u8>),
    Exit,
    Sample(Box<Sample>),
    /// Only in frozen state: restores the rule's table and cookie for packet-ins after a recirculation.
    UnrollXlate {
        table_id: u8,
        rule_cookie: u64,
    },
    Ct(Box<Ct>),
    Nat(Box<Nat>),
    CtClear,
    Clone(Vec<Action>),
    CheckPktLarger {
        pkt_len: u16,
        dst: SubField,
    },
    Encap(Encap),
    Decap {
        new_packet_type: u32,
    },
    DebugSlow,
    DebugRecirc,

    // Instructions.
    Meter(u32),
    ClearActions,
    WriteActions(Vec<Action>),
    WriteMetadata {
        metadata: u64,
        mask: u64,
    },
    GotoTable(u8),
}

/// How a field write was written, where that decides how it is shown and sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SetFieldForm {
    #[default]
    SetField,
    /// `load:V->F[..]` on the wire (NXAST_REG_LOAD).
    RegLoad,
    /// NXAST_REG_LOAD2.
    RegLoad2,
}

/// Writes the bits of `value` that `mask` has into `field`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetField {
    pub field: FieldId,
    pub value: FieldValue,
    pub mask: FieldValue,
    pub form: SetFieldForm,
    /// Whether a VLAN header is known to be there when the action runs.
    pub flow_has_vlan: bool,
}

/// Sends the packet to controllers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    pub max_len: u16,
    pub controller_id: u16,
    pub reason: PacketInReason,
    /// Holds the packet's pipeline until the controller resumes it.
    pub pause: bool,
    pub userdata: Vec<u8>,
    /// `None`: the meter `controller`, or the one of a preceding meter action.
    pub meter_id: Option<u32>,
    pub provider_meter_id: Option<u32>,
    /// Whether it came as NXAST_CONTROLLER2 (always sent so if userdata, pause or meter need it).
    pub controller2: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum BundleAlgorithm {
    ActiveBackup = 0,
    Hrw = 1,
}

/// Chooses one member port by liveness or hash; outputs to it or (`dst`) stores its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bundle {
    pub fields: HashFields,
    pub basis: u16,
    pub algorithm: BundleAlgorithm,
    pub dst: Option<SubField>,
    pub members: Vec<OfPort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MultipathAlgorithm {
    ModuloN = 0,
    HashThreshold = 1,
    Hrw = 2,
    IterHash = 3,
}

impl MultipathAlgorithm {
    pub const ALL: [(MultipathAlgorithm, &'static str); 4] = [
        (MultipathAlgorithm::ModuloN, "modulo_n"),
        (MultipathAlgorithm::HashThreshold, "hash_threshold"),
        (MultipathAlgorithm::Hrw, "hrw"),
        (MultipathAlgorithm::IterHash, "iter_hash"),
    ];
}

/// Hashes packet fields onto a link number and stores it in `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Multipath {
    pub fields: HashFields,
    pub basis: u16,
    pub algorithm: MultipathAlgorithm,
    /// The greatest link number (one less than the number of links).
    pub max_link: u16,
    pub arg: u32,
    pub dst: SubField,
}

/// Looks the packet up again; `in_port` [`OfPort::IN_PORT`] and `table` [`TABLE_ALL`] mean "as it is".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resubmit {
    pub in_port: OfPort,
    pub table: u8,
    /// With the addresses and ports of the connection's original direction.
    pub with_ct_orig: bool,
    /// Whether it has the old form `resubmit:PORT`.
    pub port_only: bool,
}

/// Where a learned match or load takes its value from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LearnSrc {
    Field(SubField),
    /// Right-justified value of the spec's width.
    Immediate(FieldValue),
}

/// What a learn spec makes of its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LearnDst {
    Match(SubField),
    Load(SubField),
    Output,
}

/// One part of a learned flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnSpec {
    pub n_bits: u16,
    pub src: LearnSrc,
    pub dst: LearnDst,
}

/// Adds or modifies a flow built from the packet that runs the action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learn {
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub fin_idle_timeout: u16,
    pub fin_hard_timeout: u16,
    pub priority: u16,
    pub table_id: u8,
    pub cookie: u64,
    pub send_flow_rem: bool,
    pub delete_learned: bool,
    /// Most flows with this cookie in the table; 0: no limit.
    pub limit: u32,
    /// One bit that tells whether the limit let the flow be learned.
    pub result_dst: Option<SubField>,
    /// Whether it came as NXAST_LEARN2 (always sent so if a limit or a result needs it).
    pub second: bool,
    pub specs: Vec<LearnSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleDirection {
    Default,
    Ingress,
    Egress,
}

/// An observation id of `sample`: fixed, or taken from a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SampleId {
    Immediate(u32),
    Field(SubField),
}

/// Sends a share of the packets to a sample collector set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    pub probability: u16,
    pub collector_set_id: u32,
    pub obs_domain_id: SampleId,
    pub obs_point_id: SampleId,
    pub sampling_port: OfPort,
    pub direction: SampleDirection,
    /// Which NXAST_SAMPLE it came as: 1 to 4.
    pub form: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CtZone {
    Immediate(u16),
    Field(SubField),
}

/// Sends the packet through the connection tracker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ct {
    pub commit: bool,
    pub force: bool,
    pub zone: CtZone,
    /// [`CT_NO_RECIRC`] for none.
    pub recirc_table: u8,
    /// The helper's port: 21 ftp, 69 tftp, 0 none.
    pub alg: u16,
    /// Nested `nat` and what `exec` holds.
    pub actions: Vec<Action>,
}

/// Address translation; nested in `ct`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Nat {
    pub snat: bool,
    pub dnat: bool,
    pub persistent: bool,
    pub proto_hash: bool,
    pub proto_random: bool,
    pub range: NatRange,
    /// First and last port; 0 where not given.
    pub proto_min: u16,
    pub proto_max: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NatRange {
    #[default]
    None,
    V4 {
        min: Ipv4Addr,
        max: Option<Ipv4Addr>,
    },
    V6 {
        min: Ipv6Addr,
        max: Option<Ipv6Addr>,
    },
}

/// Puts a header before the packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encap {
    /// The new packet type (name space and type).
    pub new_packet_type: u32,
    pub header_size: u16,
    pub props: Vec<EncapProp>,
}

/// A property of [`Encap`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EncapProp {
    NshMdType(u8),
    NshTlv {
        class: u16,
        type_: u8,
        data: Vec<u8>,
    },
}

impl Action {
    /// A plain output.
    pub fn output(port: OfPort) -> Action {
        Action::Output {
            port,
            max_len: if port == OfPort::CONTROLLER {
                MAX_LEN_NO_BUFFER
            } else {
                0
            },
        }
    }

    /// Whether the variant is an instruction rather than an action.
    pub fn is_instruction(&self) -> bool {
        matches!(
            self,
            Action::Meter(_)
                | Action::ClearActions
                | Action::WriteActions(_)
                | Action::WriteMetadata { .. }
                | Action::GotoTable(_)
        )
    }

    /// The action's name in text.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Output { .. } => "output",
            Action::OutputReg { .. } => "output_reg",
            Action::OutputTrunc { .. } => "output_trunc",
            Action::Group(_) => "group",
            Action::Controller(_) => "controller",
            Action::Enqueue { .. } => "enqueue",
            Action::Bundle(_) => "bundle",
            Action::SetField(_) => "set_field",
            Action::RegMove { .. } => "move",
            Action::SetVlanVid { .. } => "set_vlan_vid",
            Action::SetVlanPcp { .. } => "set_vlan_pcp",
            Action::StripVlan { .. } => "strip_vlan",
            Action::PushVlan(_) => "push_vlan",
            Action::SetEthSrc(_) => "mod_dl_src",
            Action::SetEthDst(_) => "mod_dl_dst",
            Action::SetIpv4Src(_) => "mod_nw_src",
            Action::SetIpv4Dst(_) => "mod_nw_dst",
            Action::SetIpDscp(_) => "mod_nw_tos",
            Action::SetIpEcn(_) => "mod_nw_ecn",
            Action::SetIpTtl(_) => "mod_nw_ttl",
            Action::SetL4SrcPort { .. } => "mod_tp_src",
            Action::SetL4DstPort { .. } => "mod_tp_dst",
            Action::DecTtl { .. } => "dec_ttl",
            Action::SetMplsLabel(_) => "set_mpls_label",
            Action::SetMplsTc(_) => "set_mpls_tc",
            Action::SetMplsTtl(_) => "set_mpls_ttl",
            Action::DecMplsTtl => "dec_mpls_ttl",
            Action::PushMpls(_) => "push_mpls",
            Action::PopMpls(_) => "pop_mpls",
            Action::DecNshTtl => "dec_nsh_ttl",
            Action::DeleteField(_) => "delete_field",
            Action::SetTunnel { .. } => "set_tunnel",
            Action::SetQueue(_) => "set_queue",
            Action::PopQueue => "pop_queue",
            Action::FinTimeout { .. } => "fin_timeout",
            Action::Resubmit(_) => "resubmit",
            Action::Learn(_) => "learn",
            Action::Conjunction { .. } => "conjunction",
            Action::Multipath(_) => "multipath",
            Action::StackPush(_) => "push",
            Action::StackPop(_) => "pop",
            Action::Note(_) => "note",
            Action::Exit => "exit",
            Action::Sample(_) => "sample",
            Action::UnrollXlate { .. } => "unroll_xlate",
            Action::Ct(_) => "ct",
            Action::Nat(_) => "nat",
            Action::CtClear => "ct_clear",
            Action::Clone(_) => "clone",
            Action::CheckPktLarger { .. } => "check_pkt_larger",
            Action::Encap(_) => "encap",
            Action::Decap { .. } => "decap",
            Action::DebugSlow => "debug_slow",
            Action::DebugRecirc => "debug_recirc",
            Action::Meter(_) => "meter",
            Action::ClearActions => "clear_actions",
            Action::WriteActions(_) => "write_actions",
            Action::WriteMetadata { .. } => "write_metadata",
            Action::GotoTable(_) => "goto_table",
        }
    }
}

/// Refuses a destination that cannot be written, and logs it.
pub(crate) fn check_writable(sf: &SubField) -> Result<(), OfpErr> {
    let f = sf.field.field();
    if f.writable {
        return Ok(());
    }
    warn(Topic::MetaFlow, || {
        format!("destination field {} is not writable", f.name)
    });
    Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT)
}

/// Whether the actions name `port` as an output, in Open vSwitch's sense: truncated and computed outputs do not
/// count.
pub fn outputs_to_port(actions: &[Action], port: OfPort) -> bool {
    actions.iter().any(|a| match a {
        Action::Output { port: p, .. } | Action::Enqueue { port: p, .. } => *p == port,
        Action::Controller(_) => port == OfPort::CONTROLLER,
        Action::Clone(nested) | Action::WriteActions(nested) => outputs_to_port(nested, port),
        _ => false,
    })
}

/// Whether the actions use `group`.
pub fn outputs_to_group(actions: &[Action], group: u32) -> bool {
    actions.iter().any(|a| match a {
        Action::Group(g) => *g == group,
        Action::Clone(nested) | Action::WriteActions(nested) => outputs_to_group(nested, group),
        _ => false,
    })
}

/// The meter that a flow's `meter` instruction or first meter action names.
pub fn meter_of(actions: &[Action]) -> Option<u32> {
    actions.iter().find_map(|a| match a {
        Action::Meter(id) => Some(*id),
        _ => None,
    })
}
