//! Installed flows as a datapath shows them.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_packet::flow::{Flow, FlowWildcards, Match};

use super::{PmdId, Ufid};
use crate::action::Action;

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
    pub offloaded: bool,
    pub dp_layer: &'static str,
    pub dp_extra_info: Option<String>,
}

/// What a dump is read for. A datapath that must ask for each part, or copy it, leaves out what nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpWant {
    pub key: bool,
    pub mask: bool,
    pub actions: bool,
    pub stats: bool,
}

impl DumpWant {
    pub const ALL: DumpWant = DumpWant {
        key: true,
        mask: true,
        actions: true,
        stats: true,
    };
    /// For a reader who knows the flows by their identifiers.
    pub const STATS: DumpWant = DumpWant {
        key: false,
        mask: false,
        actions: false,
        stats: true,
    };
}

/// One of several parts of all flows, each of which somebody else may read. A flow is in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    /// How many parts there are, at most [`Dpif::dump_shards`](super::Dpif::dump_shards).
    pub of: usize,
}

impl Shard {
    /// All flows.
    pub const WHOLE: Shard = Shard { index: 0, of: 1 };
}

/// A flow that a datapath lends to the reader of a dump. Nothing is made before it is asked for; what was not
/// [wanted](DumpWant) may take a question to the datapath.
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
