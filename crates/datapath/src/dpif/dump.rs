//! What a dump of flows is to show.

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
