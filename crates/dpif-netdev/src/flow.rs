//! An installed flow.
//!
//! A flow belongs to one thread, which alone looks it up and counts its packets; others read its counters,
//! replace its actions, or mark it dead so that the thread takes it out at its next step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{FlowAttrs, FlowEntry, FlowStats, PmdId, Ufid};
use ferrovs_datapath::text::miniflow_bits;
use ferrovs_packet::flow::Match;
use ferrovs_packet::miniflow::{MiniMatch, Miniflow};

/// A list of actions that can be replaced while packets run through it.
pub type Actions = Arc<[Action]>;

#[derive(Debug)]
pub struct DpFlow {
    pub ufid: Ufid,
    /// Flows that were made earlier have smaller numbers.
    pub serial: u64,
    /// The match: masked words and the mask.
    pub rule: MiniMatch,
    /// The whole key of the packet that the flow was made for.
    key: Miniflow,
    pub actions: ArcSwap<Actions>,
    pub dead: AtomicBool,
    /// Number in the owning thread's list.
    pub slot: AtomicU32,
    // Written by the owning thread alone.
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
    /// Nanoseconds since `epoch`, plus one; 0 for never.
    used: AtomicU64,
    tcp_flags: AtomicU64,
    epoch: Instant,
}

impl DpFlow {
    pub fn new(ufid: Ufid, match_: &Match, actions: Actions, epoch: Instant) -> DpFlow {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        DpFlow {
            ufid,
            serial: SERIAL.fetch_add(1, Relaxed),
            rule: MiniMatch::new(match_),
            key: Miniflow::new(&match_.flow),
            actions: ArcSwap::from_pointee(actions),
            dead: AtomicBool::new(false),
            slot: AtomicU32::new(u32::MAX),
            n_packets: AtomicU64::new(0),
            n_bytes: AtomicU64::new(0),
            used: AtomicU64::new(0),
            tcp_flags: AtomicU64::new(0),
            epoch,
        }
    }

    /// Counts packets; for the owning thread.
    #[inline]
    pub fn count(&self, packets: u64, bytes: u64, tcp_flags: u16, now: Instant) {
        let add = |c: &AtomicU64, n| c.store(c.load(Relaxed) + n, Relaxed);
        add(&self.n_packets, packets);
        add(&self.n_bytes, bytes);
        let used = now.saturating_duration_since(self.epoch).as_nanos() as u64 + 1;
        self.used.store(used, Relaxed);
        if tcp_flags != 0 {
            let flags = self.tcp_flags.load(Relaxed) | u64::from(tcp_flags);
            self.tcp_flags.store(flags, Relaxed);
        }
    }

    pub fn zero_stats(&self) {
        for c in [&self.n_packets, &self.n_bytes, &self.used, &self.tcp_flags] {
            c.store(0, Relaxed);
        }
    }

    pub fn stats(&self) -> FlowStats {
        let used = match self.used.load(Relaxed) {
            0 => None,
            ns => Some(self.epoch + Duration::from_nanos(ns - 1)),
        };
        FlowStats {
            n_packets: self.n_packets.load(Relaxed),
            n_bytes: self.n_bytes.load(Relaxed),
            used,
            tcp_flags: self.tcp_flags.load(Relaxed) as u16,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    pub fn entry(&self, pmd: PmdId) -> FlowEntry {
        let match_ = Match {
            flow: self.key.expand(),
            wc: self.rule.mask.expand(),
        };
        let (low, high) = miniflow_bits(&match_);
        FlowEntry {
            ufid: self.ufid,
            pmd,
            match_,
            actions: Actions::clone(&self.actions.load()),
            stats: self.stats(),
            attrs: FlowAttrs {
                offloaded: false,
                dp_layer: "ovs",
                dp_extra_info: Some(format!("miniflow_bits({low},{high})")),
            },
        }
    }
}
