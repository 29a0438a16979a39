//! Flows: what they match, in few bytes, and how a datapath shows those that it has.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_packet::miniflow::{Miniflow, Minimask};

use crate::action::Action;
use crate::id::{PmdId, Ufid};

/// How much of a flow's work is done elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Offloaded {
    #[default]
    No,
    /// Its packets are recognised.
    Partial,
    Full,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    pub n_packets: u64,
    pub n_bytes: u64,
    pub used: Option<Instant>,
    /// All TCP flags seen.
    pub tcp_flags: u16,
}

/// Where the work of a flow is done, as its datapath says: "ovs" for one that does all itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowAttrs {
    pub offloaded: Offloaded,
    pub dp_layer: &'static str,
    pub dp_extra_info: Option<String>,
}

/// A flow that a datapath lends to the reader of a dump. Nothing is made before it is asked for; what was not
/// [wanted](crate::dpif::DumpWant) may take a question to the datapath.
pub trait FlowView {
    fn ufid(&self) -> Ufid;
    fn pmd(&self) -> PmdId;
    fn stats(&self) -> FlowStats;
    /// The whole key that the flow was made from, so that `-m` texts and retranslation see it, unlike other matches, in
    /// all its bits.
    fn key(&self) -> Flow;
    /// Bits of the key that matter.
    fn mask(&self) -> FlowWildcards;
    fn actions(&self) -> Arc<[Action]>;
    fn attrs(&self) -> FlowAttrs;
}

/// One installed flow, in whole.
#[derive(Clone, Debug)]
pub struct FlowEntry {
    pub ufid: Ufid,
    pub pmd: PmdId,
    /// See [`FlowView::key`].
    pub match_: Match,
    pub actions: Arc<[Action]>,
    pub stats: FlowStats,
    pub attrs: FlowAttrs,
}

impl FlowEntry {
    pub fn of(flow: &dyn FlowView) -> FlowEntry {
        FlowEntry {
            ufid: flow.ufid(),
            pmd: flow.pmd(),
            match_: Match {
                flow: flow.key(),
                wc: flow.mask(),
            },
            actions: flow.actions(),
            stats: flow.stats(),
            attrs: flow.attrs(),
        }
    }
}

/// A key and which of its bits a flow matches, packed. Bits of the key outside the mask need not be zero: they are those
/// of the packet that the flow was made for, which texts and translations look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedMatch {
    pub key: Miniflow,
    /// Many flows share theirs.
    pub mask: Arc<Minimask>,
}

impl PackedMatch {
    pub fn new(m: &Match) -> PackedMatch {
        PackedMatch {
            key: Miniflow::new(&m.flow),
            mask: Arc::new(Minimask::new(&m.wc)),
        }
    }

    pub fn expand(&self) -> Match {
        Match {
            flow: self.key.expand(),
            wc: self.mask.expand(),
        }
    }
}
