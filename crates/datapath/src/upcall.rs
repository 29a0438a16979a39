//! Questions that a datapath asks when a packet matches no flow, or when an action says so.
//!
//! In the userspace datapath the handler runs on the thread that received the packet: what it waits for (a
//! flow that is learned waits for the writer of its table), the packets behind it wait for.

use std::sync::Arc;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, FlowWildcards, VLAN_CFI, VLAN_VID_MASK};

use crate::action::{Action, Userspace};
use crate::dpif::{PmdId, Ufid};

/// Why the packet came up.
#[derive(Clone, Debug)]
pub enum UpcallKind<'a> {
    Miss,
    /// A `userspace` action, with the actions of its flow if it asked for them.
    Action {
        userspace: &'a Userspace,
        actions: &'a [Action],
    },
}

#[derive(Debug)]
pub struct Upcall<'a> {
    pub packet: &'a mut Packet,
    /// The key, with a datapath port number as `in_port`.
    pub flow: &'a Flow,
    pub kind: UpcallKind<'a>,
    pub pmd: PmdId,
}

/// What to do with the packet, and with those like it.
#[derive(Clone, Debug)]
pub struct UpcallReply {
    /// To run on this packet (for a miss: also the flow's, unless `slow`).
    pub actions: Arc<[Action]>,
    /// When given, the actions of the flow to install, which differ when each packet must come up.
    pub flow_actions: Option<Arc<[Action]>>,
    /// Bits that decided, and those of [`complete`]; the flow matches these and no other.
    pub wc: Box<FlowWildcards>,
    /// Identifier for the flow to install; none means that nothing shall be installed.
    pub install: Option<Ufid>,
}

/// Adds what every flow of a datapath matches, looked at or not: where the packet came from, and whether it has a
/// VLAN header. Who gives flows identifiers does it first: flows that differ in nothing else are two.
pub fn complete(wc: &mut FlowWildcards) {
    let masks = &mut wc.masks;
    masks.in_port = u32::MAX;
    masks.recirc_id = u32::MAX;
    if masks.vlans[0].tci.get() == 0 {
        masks.vlans[0].tci = (VLAN_CFI | VLAN_VID_MASK).into();
    }
}

/// Answers upcalls.
pub trait UpcallHandler: Send + Sync {
    /// None: the packet is dropped (and counted as an upcall error).
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply>;

    /// The flow that an upcall asked for could not be installed (`installed` false) or was.
    fn installed(&self, ufid: Ufid, pmd: PmdId, installed: bool);
}

/// Stack of a thread that asks an [`UpcallHandler`]: a translation may nest thousands of tables deep. Only what
/// is used takes memory.
pub const STACK_SIZE: usize = 32 << 20;
