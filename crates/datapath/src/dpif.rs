//! The interface of a datapath: ports, flows, packets and statistics, whatever it is made of.
//!
//! Flows and packets go down as [`Op`]s, in batches; flows are read by [`Dpif::dump`], which lends them and can be
//! shared by several readers, a shard each. What not every datapath has is a trait of its own
//! ([`Dpif::meters`], [`Dpif::conntrack`]): a datapath that gives none is one that Open vSwitch says "Operation not supported" of.
//!
//! Every method can be called from any thread. Packets do not wait for these calls, but for [`Dpif::quiesce`] and for
//! ports that go: there a thread hands back what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ferrovs_packet::types::DpPort;

use crate::conntrack::Conntrack;
use crate::features::DpFeatures;
use crate::offload::Offload;
use crate::upcall::UpcallHandler;

mod dump;
mod ops;
mod port_events;

// What the interface speaks of, which texts speak of too.
pub use crate::errno::Errno;
pub use crate::flow::{FlowAttrs, FlowEntry, FlowStats, FlowView, PackedMatch};
pub use crate::id::{PmdId, Ufid};
pub use crate::port::{DpPortInfo, PortStats, port_number};
pub use dump::{DumpWant, Shard};
pub use ops::{Execute, FlowPut, Op, Put, RefusedPut};
pub use port_events::{PortChanges, PortEvents, PortLog};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpStats {
    pub n_hit: u64,
    pub n_missed: u64,
    pub n_lost: u64,
    pub n_flows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterBand {
    pub rate: u32,
    pub burst_size: u32,
    pub n_packets: u64,
    pub n_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Meter {
    /// Bits of OpenFlow's `OFPMF_*`.
    pub flags: u16,
    pub bands: Vec<MeterBand>,
    pub n_packets: u64,
    pub n_bytes: u64,
}

/// What becomes of ports, or of a whole datapath, when the switch lets go of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// They stay for the process that follows, if they can: see [`Dpif::outlives_process`].
    Keep,
    Delete,
}

/// A datapath.
pub trait Dpif: Send + Sync {
    /// Kind: `netdev`, `system` or `dummy`.
    fn kind(&self) -> &'static str;
    fn name(&self) -> &str;

    /// Work that is due on the caller's (the main) thread.
    fn run(&self) {}

    /// What the datapath can do; it does not change while the datapath is open.
    fn features(&self) -> DpFeatures;
    /// Whether ports and flows are still there when the process has ended.
    fn outlives_process(&self) -> bool;

    fn stats(&self) -> DpStats;

    /// Attaches the device of that name and kind, which the netdev registry has open. A wanted number that is
    /// taken gives EBUSY.
    fn port_add(&self, name: &str, kind: &str, wanted: Option<DpPort>) -> Result<DpPort, Errno>;
    fn port_del(&self, port: DpPort) -> Result<(), Errno>;
    fn port_by_number(&self, port: DpPort) -> Result<DpPortInfo, Errno>;
    fn port_by_name(&self, name: &str) -> Result<DpPortInfo, Errno>;
    fn ports(&self) -> Vec<DpPortInfo>;
    /// Tells which ports come, go or get another number from now on, whoever does that.
    fn port_events(&self) -> PortEvents;
    /// Counters of a port's device.
    fn port_stats(&self, port: DpPort) -> Result<PortStats, Errno>;
    /// Applies `Interface.other_config` that concerns the datapath.
    fn port_set_config(&self, port: DpPort, config: &BTreeMap<String, String>)
    -> Result<(), Errno>;
    /// Applies `Open_vSwitch.other_config`.
    fn set_config(&self, config: &BTreeMap<String, String>);

    /// Does one operation after the other; one that fails does not keep those behind it from being tried.
    fn operate(&self, ops: &mut [Op<'_>]);
    /// Tells of a flow that could not even be asked for; the error is the answer to whoever wanted it.
    fn flow_refused(&self, _put: &RefusedPut<'_>) -> Errno {
        Errno::EINVAL
    }
    /// The greatest number of parts in which the flows can be dumped.
    fn dump_shards(&self) -> usize;
    /// Shows every installed flow of one part; flows that come and go meanwhile may or may not be seen.
    fn dump(&self, shard: Shard, want: DumpWant, visit: &mut dyn FnMut(&dyn FlowView));
    fn flow_flush(&self);

    /// Who answers when no flow matches. Replaces an earlier handler, and lets go of it.
    fn set_upcall_handler(&self, handler: Option<Arc<dyn UpcallHandler>>);
    /// Whether packets that no flow matches are brought to the handler, as they are at first, or dropped.
    fn recv_enable(&self, enable: bool);

    /// Returns when all packets that were given to the datapath before (posted by [`Op::Execute`], or waiting in the
    /// queues of ports that are not polled) have been handled, as far as the datapath can know: what tests and
    /// barriers wait for.
    fn quiesce(&self);

    /// Meters, if it has them.
    fn meters(&self) -> Option<&dyn Meters> {
        None
    }

    /// Connection tracking, if it has that.
    fn conntrack(&self) -> Option<&dyn Conntrack> {
        None
    }

    /// Who offloads its flows, if anybody can.
    fn offload(&self) -> Option<&dyn Offload> {
        None
    }

    /// Removes the datapath with its ports.
    fn destroy(&self);
}

/// Token buckets that flows send their packets through.
pub trait Meters {
    fn set(&self, id: u32, meter: &Meter, now: Instant) -> Result<(), Errno>;
    fn stats(&self, id: u32) -> Result<Meter, Errno>;
    fn delete(&self, id: u32) -> Result<Meter, Errno>;
}

/// A kind of datapath that can be created by name; the list of kinds is made by the program alone.
pub trait DpifClass: Send + Sync {
    fn kind(&self) -> &'static str;
    fn enumerate(&self) -> Vec<String>;
    /// Whether the last enumeration failed, so that the list may lack some.
    fn enumeration_failed(&self) -> bool {
        false
    }
    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn Dpif>, Errno>;
    /// Kind of device to open for a port that a user calls `kind` (the netdev datapath makes `internal` a `tap`).
    fn port_open_kind(&self, kind: &str) -> String;
}
