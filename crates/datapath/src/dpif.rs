//! The interface of a datapath: ports, flows, packets and statistics, whatever it is made of.
//!
//! Flows and packets go down as [`Op`]s, in batches; flows are read by [`Dpif::dump`], which lends them and can be
//! shared by several readers, a shard each. What not every datapath has is a trait of its own
//! ([`Dpif::meters`]): a datapath that gives none is one that Open vSwitch says "Operation not supported" of.
//!
//! Every method can be called from any thread. Packets do not wait for these calls, but for [`Dpif::quiesce`] and for
//! ports that go: there a thread hands back what it holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ferrovs_packet::flow::Flow;
use ferrovs_packet::hash::{self, mix};
use ferrovs_packet::types::DpPort;

use crate::features::DpFeatures;
use crate::upcall::UpcallHandler;

mod dump;
mod ops;
mod port_events;

pub use dump::{DumpWant, FlowAttrs, FlowEntry, FlowStats, FlowView, Shard};
pub use ops::{Execute, FlowPut, Op, PackedMatch, Put, RefusedPut};
pub use port_events::{PortChanges, PortEvents, PortLog};

/// A failure, by the name that the operating system gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    pub const EPERM: Errno = Errno(1);
    pub const ENOENT: Errno = Errno(2);
    pub const ESRCH: Errno = Errno(3);
    pub const EAGAIN: Errno = Errno(11);
    pub const EBUSY: Errno = Errno(16);
    pub const EEXIST: Errno = Errno(17);
    pub const ENODEV: Errno = Errno(19);
    pub const EINVAL: Errno = Errno(22);
    pub const EFBIG: Errno = Errno(27);
    pub const EOPNOTSUPP: Errno = Errno(95);
    pub const EAFNOSUPPORT: Errno = Errno(97);
}

impl fmt::Display for Errno {
    /// The operating system's text, for example "No such device".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl std::error::Error for Errno {}

/// Unique flow identifier: a hash of the masked key, made by [`Ufid::of`] or by who installs the flow. It has the form
/// of a random UUID, and a key's differs from process to process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ufid(pub u128);

impl Ufid {
    /// A hash of the whole key: the identifier of a flow that is made by hand.
    pub fn of(flow: &Flow) -> Ufid {
        let seed = hash::seed();
        let half = |basis: u64| {
            let words = flow.words().iter();
            u128::from(words.fold(basis ^ seed, |hash, word| mix(hash, *word)))
        };
        Ufid::from_hash(half(0x6b65_795f_6869_6768) << 64 | half(0x6b65_795f_6c6f_7700))
    }

    /// The bits that make a hash look like a random UUID (RFC 9562, version 4).
    pub fn from_hash(hash: u128) -> Ufid {
        Ufid(
            uuid::Builder::from_random_bytes(hash.to_be_bytes())
                .into_uuid()
                .as_u128(),
        )
    }
}

/// Numbers below this can be given to ports.
const MAX_PORTS: u32 = 65535;

/// A number for a new port called `name`, of those that are free: where ports are numbered `by_name` the first number in
/// the name (100 more for a name that begins with "br"), else and otherwise the lowest that is not less than `lowest`.
pub fn port_number(
    name: &str,
    by_name: bool,
    lowest: u32,
    is_free: impl Fn(u32) -> bool,
) -> Option<DpPort> {
    let is_free = |n: u32| n < MAX_PORTS && is_free(n);
    let named = || {
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit());
        let number: u32 = digits[..end.unwrap_or(digits.len())].parse().ok()?;
        let base = if name.starts_with("br") { 100 } else { 0 };
        number.checked_add(base).filter(|&n| n > 0 && is_free(n))
    };
    let number = by_name.then(named).flatten();
    let number = number.or_else(|| (lowest.max(1)..MAX_PORTS).find(|&n| is_free(n)));
    number.map(DpPort)
}

/// Which polling thread a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PmdId(pub u32);

impl PmdId {
    /// The thread that serves the ports that are not polled ("main thread" in texts).
    pub const NON_PMD: PmdId = PmdId(i32::MAX as u32);
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpStats {
    pub n_hit: u64,
    pub n_missed: u64,
    pub n_lost: u64,
    pub n_flows: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpPortInfo {
    pub name: String,
    pub kind: String,
    pub port: DpPort,
    /// Options that matter to a reader of `dpctl/show`.
    pub config: BTreeMap<String, String>,
}

/// Counters of a port's device; None where it cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    pub rx_packets: Option<u64>,
    pub tx_packets: Option<u64>,
    pub rx_bytes: Option<u64>,
    pub tx_bytes: Option<u64>,
    pub rx_errors: Option<u64>,
    pub tx_errors: Option<u64>,
    pub rx_dropped: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub collisions: Option<u64>,
    pub rx_over_errors: Option<u64>,
    pub rx_frame_errors: Option<u64>,
    pub tx_aborted_errors: Option<u64>,
    pub tx_carrier_errors: Option<u64>,
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
