//! OpenFlow actions and instructions as values: what a flow, a group bucket or a packet-out does to a packet.
//!
//! One enum holds both, as Open vSwitch does: instructions are the last variants ([`Action::Meter`] to
//! [`Action::GotoTable`]) and `apply_actions` is simply the rest of the list. A few variants remember how they were
//! written (`load` against `set_field`, say) because Open vSwitch gives them back the same way.
//!
//! Everything that is particular to an action stands in its row, in the file of its family: numbers and words, how
//! it is read, written, shown and checked. The list at the end of this file ties rows to variants.
//!
//! ```text
//!  output  controller  hash  vlan  header  encap  set_field  tables  learn  ct  sample  meta  instruction     families
//!      \______\________\____\______\______\_______\________\______\____\______\______\_______/
//!                                  row: one table by word and by number
//!           decode, encode (lists of bytes)   check (match)   verify (order, nesting)   instructions   text
//! ```

pub mod check;
mod controller;
mod ct;
pub mod decode;
mod encap;
pub mod encode;
mod hash;
mod header;
mod instruction;
pub mod instructions;
mod learn;
mod meta;
mod output;
pub(crate) mod row;
mod sample;
mod set_field;
mod tables;
pub mod verify;
mod vlan;

pub use controller::Controller;
pub use ct::{ALG_FTP, ALG_TFTP, CT_NO_RECIRC, Ct, CtZone, Nat, NatRange};
pub use encap::{Encap, EncapProp};
pub use hash::{Bundle, BundleAlgorithm, Multipath, MultipathAlgorithm};
pub use learn::{Learn, LearnDst, LearnSpec, LearnSrc};
pub use sample::{Sample, SampleDirection, SampleId};
pub use set_field::{SetField, SetFieldForm};
pub use tables::Resubmit;

use std::net::Ipv4Addr;

use ferrovs_packet::field::{FieldId, SubField};
pub use ferrovs_packet::hash::HashFields;
use ferrovs_packet::types::{Be16, MacAddr, OfPort};

use crate::error::OfpErr;
use crate::warn::{Topic, warn};
use row::{Row, Target};

/// `max_len` of an output to the controller that wants the whole packet.
pub const MAX_LEN_NO_BUFFER: u16 = u16::MAX;
/// A table number that stands for "the current table" in resubmit and "every table" in requests.
pub const TABLE_ALL: u8 = 0xff;

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

    /// What complaints about the action call it.
    pub fn name(&self) -> &'static str {
        self.row().name
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
    reach(actions, Target::Port(port))
}

/// Whether the actions use `group`.
pub fn outputs_to_group(actions: &[Action], group: u32) -> bool {
    reach(actions, Target::Group(group))
}

fn reach(actions: &[Action], target: Target) -> bool {
    actions.iter().any(|a| {
        let row = a.row();
        (row.reaches)(a, target) || reach((row.nested)(a), target)
    })
}

/// Ties each variant to its row: an action that has none here does not compile.
macro_rules! rows {
    ($($action:pat => $row:path,)*) => {
        /// The rows of all actions.
        static ROWS: &[&Row] = &[$(&$row),*];

        impl Action {
            pub(crate) fn row(&self) -> &'static Row {
                match self {
                    $($action => &$row,)*
                }
            }
        }
    };
}

rows! {
    Action::Output { .. } => output::OUTPUT,
    Action::OutputReg { .. } => output::OUTPUT_REG,
    Action::OutputTrunc { .. } => output::OUTPUT_TRUNC,
    Action::Group(_) => output::GROUP,
    Action::Controller(_) => controller::CONTROLLER,
    Action::Enqueue { .. } => output::ENQUEUE,
    Action::Bundle(_) => hash::BUNDLE,
    Action::SetField(_) => set_field::SET_FIELD,
    Action::RegMove { .. } => set_field::REG_MOVE,
    Action::SetVlanVid { .. } => vlan::SET_VLAN_VID,
    Action::SetVlanPcp { .. } => vlan::SET_VLAN_PCP,
    Action::StripVlan { .. } => vlan::STRIP_VLAN,
    Action::PushVlan(_) => vlan::PUSH_VLAN,
    Action::SetEthSrc(_) => header::SET_ETH_SRC,
    Action::SetEthDst(_) => header::SET_ETH_DST,
    Action::SetIpv4Src(_) => header::SET_IPV4_SRC,
    Action::SetIpv4Dst(_) => header::SET_IPV4_DST,
    Action::SetIpDscp(_) => header::SET_IP_DSCP,
    Action::SetIpEcn(_) => header::SET_IP_ECN,
    Action::SetIpTtl(_) => header::SET_IP_TTL,
    Action::SetL4SrcPort { .. } => header::SET_L4_SRC_PORT,
    Action::SetL4DstPort { .. } => header::SET_L4_DST_PORT,
    Action::DecTtl { .. } => header::DEC_TTL,
    Action::SetMplsLabel(_) => encap::SET_MPLS_LABEL,
    Action::SetMplsTc(_) => encap::SET_MPLS_TC,
    Action::SetMplsTtl(_) => encap::SET_MPLS_TTL,
    Action::DecMplsTtl => encap::DEC_MPLS_TTL,
    Action::PushMpls(_) => encap::PUSH_MPLS,
    Action::PopMpls(_) => encap::POP_MPLS,
    Action::DecNshTtl => encap::DEC_NSH_TTL,
    Action::DeleteField(_) => set_field::DELETE_FIELD,
    Action::SetTunnel { .. } => meta::SET_TUNNEL,
    Action::SetQueue(_) => meta::SET_QUEUE,
    Action::PopQueue => meta::POP_QUEUE,
    Action::FinTimeout { .. } => tables::FIN_TIMEOUT,
    Action::Resubmit(_) => tables::RESUBMIT,
    Action::Learn(_) => learn::LEARN,
    Action::Conjunction { .. } => tables::CONJUNCTION,
    Action::Multipath(_) => hash::MULTIPATH,
    Action::StackPush(_) => set_field::STACK_PUSH,
    Action::StackPop(_) => set_field::STACK_POP,
    Action::Note(_) => meta::NOTE,
    Action::Exit => tables::EXIT,
    Action::Sample(_) => sample::SAMPLE,
    Action::UnrollXlate { .. } => controller::UNROLL_XLATE,
    Action::Ct(_) => ct::CT,
    Action::Nat(_) => ct::NAT,
    Action::CtClear => ct::CT_CLEAR,
    Action::Clone(_) => tables::CLONE,
    Action::CheckPktLarger { .. } => set_field::CHECK_PKT_LARGER,
    Action::Encap(_) => encap::ENCAP,
    Action::Decap { .. } => encap::DECAP,
    Action::DebugSlow => meta::DEBUG_SLOW,
    Action::DebugRecirc => meta::DEBUG_RECIRC,
    Action::Meter(_) => instruction::METER,
    Action::ClearActions => instruction::CLEAR_ACTIONS,
    Action::WriteActions(_) => instruction::WRITE_ACTIONS,
    Action::WriteMetadata { .. } => instruction::WRITE_METADATA,
    Action::GotoTable(_) => instruction::GOTO_TABLE,
}
