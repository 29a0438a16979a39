//! Questions that a datapath asks when a packet matches no flow, or when an action says so.
//!
//! In the userspace datapath the handler runs on the thread that received the packet: what it waited for, the packets
//! behind it would wait for, so it waits for nobody (a flow that is learned while tables are being written is queued).

use std::sync::Arc;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, FlowTnl, FlowWildcards, VLAN_CFI, VLAN_VID_MASK};

use crate::action::{Action, Userspace};
use crate::flow::PackedMatch;
use crate::id::{PmdId, Ufid};

/// Why the packet came up.
#[derive(Clone, Debug)]
pub enum UpcallKind<'a> {
    Miss,
    /// A `userspace` action, whose user data is as it was given to the datapath.
    Action {
        userspace: &'a Userspace,
        /// The actions of its flow, if it asked for them.
        actions: &'a [Action],
        /// What the packet's tunnel headers would be on the port that the action names, if it names one and the
        /// datapath can tell.
        egress_tunnel: Option<&'a FlowTnl>,
    },
}

#[derive(Debug)]
pub struct Upcall<'a> {
    pub packet: &'a mut Packet,
    /// The key, with a datapath port number as `in_port`.
    pub flow: &'a Flow,
    pub kind: UpcallKind<'a>,
    pub pmd: PmdId,
    /// The identifier that a flow for this packet shall have, where the datapath makes identifiers.
    pub ufid: Option<Ufid>,
    /// Hash of the packet's connection, as its device or the datapath computed it.
    pub hash: Option<u32>,
    /// Size of the largest fragment that the packet was put together from; 0 if it was not.
    pub mru: u16,
}

/// A flow that shall be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    pub ufid: Ufid,
    /// The packet's key, and the bits that decided with those of [`complete`]: the flow matches these and no other.
    pub match_: Arc<PackedMatch>,
    /// Given back in [`UpcallHandler::installed`]: tells this wish from others for the same flow.
    pub ticket: u64,
}

/// What to do with the packet, and with those like it.
#[derive(Clone, Debug)]
pub struct UpcallReply {
    /// To run on this packet (for a miss: also the flow's, unless `slow`).
    pub actions: Arc<[Action]>,
    /// When given, the actions of the flow to install, which differ when each packet must come up.
    pub flow_actions: Option<Arc<[Action]>>,
    /// The flow to install; none means that nothing shall be installed.
    pub install: Option<Install>,
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

    /// The flow that the answer to an upcall asked for was installed, or could not be. Each wish is answered, once, after
    /// its outcome is certain.
    fn installed(&self, install: Install, pmd: PmdId, installed: bool);
}

/// Stack of a thread that asks an [`UpcallHandler`]: a translation may nest thousands of tables deep. Only what
/// is used takes memory.
pub const STACK_SIZE: usize = 32 << 20;
