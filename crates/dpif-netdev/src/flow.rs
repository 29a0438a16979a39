//! An installed flow.
//!
//! A flow belongs to one thread, which alone looks it up and counts its packets; others read its counters,
//! replace its actions, or mark it dead so that the thread takes it out at its next step.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{FlowAttrs, FlowStats, FlowView, PackedMatch, PmdId, Ufid};
use ferrovs_datapath::offload::Offloaded;
use ferrovs_datapath::text::miniflow_bits;
use ferrovs_packet::flow::{FLOW_N_REGS, FLOW_WORDS, Flow, FlowWildcards, Match};
use ferrovs_packet::miniflow::{FlowMap, MiniRef, Minimask};
use ferrovs_packet::parse::Brief;
use ferrovs_packet::types::DpPort;
use ferrovs_sys::prefetch;
use smallvec::SmallVec;

/// A list of actions that can be replaced while packets run through it.
pub type Actions = Arc<[Action]>;

/// Words of a match that lie in the flow itself: those of all but long ones.
const INLINE: usize = 10;

/// The words of a mask that packets are compared in. What only tables see (metadata, registers) is zero in their keys; a
/// flow that matches its packet exactly has all of it in its mask.
pub fn mask_words(mask: MiniRef<'_>) -> impl Iterator<Item = (usize, u64)> {
    const START: usize = offset_of!(Flow, metadata) / 8;
    const END: usize = offset_of!(Flow, skb_priority) / 8;
    const _: () = assert!(offset_of!(Flow, regs) == START * 8 + 8);
    const _: () = assert!(END * 8 == offset_of!(Flow, regs) + 4 * FLOW_N_REGS);
    let part = |start, end| mask.map.and(FlowMap::range(start, end));
    let (below, above) = (part(0, START), part(END, FLOW_WORDS));
    let masks = mask.values;
    let [low, high] = [
        &masks[..below.count()],
        &masks[masks.len() - above.count()..],
    ];
    let words = |map: FlowMap, masks| map.iter().zip(Iterator::copied(<[u64]>::iter(masks)));
    words(below, low).chain(words(above, high))
}

// In the order in which a lookup reads the members, so that a packet touches few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct DpFlow {
    /// The key under the mask: what a packet must have.
    values: SmallVec<[u64; INLINE]>,
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
    /// The port that the packets are sent to, if that is all that is done with them.
    output: AtomicU32,
    actions: ArcSwap<Actions>,
    pub ufid: Ufid,
    /// Flows that were made earlier have smaller numbers.
    pub serial: u64,
    /// The whole key of the packet that the flow was made for, and what of it matters: shared with whoever asked for the
    /// flow.
    match_: Arc<PackedMatch>,
    brief: Option<Brief>,
    /// How much of its work is done elsewhere: an [`Offloaded`].
    offloaded: AtomicU8,
}

impl DpFlow {
    pub fn new(ufid: Ufid, match_: Arc<PackedMatch>, actions: Actions, epoch: Instant) -> DpFlow {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let (key, mask) = (match_.key.view(), match_.mask.view());
        let (flow, words) = (key.expand(), mask_words(mask));
        let mut values = SmallVec::with_capacity(words.size_hint().0);
        words.for_each(|(i, mask)| values.push(flow.words()[i] & mask));
        DpFlow {
            values,
            ufid,
            serial: SERIAL.fetch_add(1, Relaxed),
            brief: Brief::of_packed(key, mask),
            match_,
            offloaded: AtomicU8::new(Offloaded::No as u8),
            output: AtomicU32::new(only_output(&actions)),
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

    /// What a packet must have in the [words of the mask](mask_words).
    #[inline]
    pub fn values(&self) -> &[u64] {
        &self.values
    }

    /// What a packet must have, if its headers need not be read further than that.
    pub fn brief(&self) -> Option<Brief> {
        self.brief
    }

    /// The flow will be looked at.
    #[inline]
    pub fn prefetch(&self) {
        prefetch::read(&self.values);
        prefetch::read(&self.dead);
    }

    /// The port that the packets are sent to, if that is all that is done with them.
    #[inline]
    pub fn output(&self) -> Option<DpPort> {
        let port = DpPort(self.output.load(Relaxed));
        (port != DpPort::NONE).then_some(port)
    }

    pub fn actions(&self) -> Guard<Arc<Actions>> {
        self.actions.load()
    }

    /// Gives the flow other actions; returns those that it had.
    pub fn replace_actions(&self, actions: Actions) -> Arc<Actions> {
        self.output.store(only_output(&actions), Relaxed);
        self.actions.swap(Arc::new(actions))
    }

    /// The bits that a packet must have.
    pub fn mask(&self) -> &Minimask {
        &self.match_.mask
    }

    /// The input port that it matches.
    pub fn in_port(&self) -> u32 {
        const WORD: usize = offset_of!(Flow, in_port) / 8;
        const _: () = assert!(offset_of!(Flow, in_port) % 8 == 4);
        let bytes = self.match_.key.view().word(WORD).to_ne_bytes();
        u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
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

    pub fn offloaded(&self) -> Offloaded {
        match self.offloaded.load(Relaxed) {
            n if n == Offloaded::Full as u8 => Offloaded::Full,
            n if n == Offloaded::Partial as u8 => Offloaded::Partial,
            _ => Offloaded::No,
        }
    }

    pub fn set_offloaded(&self, offloaded: Offloaded) {
        self.offloaded.store(offloaded as u8, Relaxed);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    #[cfg(test)]
    pub fn matches(&self, key: ferrovs_packet::miniflow::MiniRef<'_>) -> bool {
        let mut words = mask_words(self.mask().view()).zip(&self.values);
        words.all(|((i, mask), value)| key.word(i) & mask == *value)
    }

    /// The whole key and the mask.
    pub fn match_(&self) -> Match {
        self.match_.expand()
    }
}

fn only_output(actions: &[Action]) -> u32 {
    match actions {
        [Action::Output(port)] => port.0,
        _ => DpPort::NONE.0,
    }
}

/// A flow and the thread that it belongs to, as dumps show it.
pub struct Shown<'a> {
    pub flow: &'a DpFlow,
    pub pmd: PmdId,
}

impl FlowView for Shown<'_> {
    fn ufid(&self) -> Ufid {
        self.flow.ufid
    }

    fn pmd(&self) -> PmdId {
        self.pmd
    }

    fn stats(&self) -> FlowStats {
        self.flow.stats()
    }

    fn key(&self) -> Flow {
        self.flow.match_.key.expand()
    }

    fn mask(&self) -> FlowWildcards {
        self.flow.match_.mask.expand()
    }

    fn actions(&self) -> Arc<[Action]> {
        Actions::clone(&self.flow.actions.load())
    }

    fn attrs(&self) -> FlowAttrs {
        let (low, high) = miniflow_bits(&self.flow.match_());
        FlowAttrs {
            offloaded: self.flow.offloaded(),
            dp_layer: "ovs",
            dp_extra_info: Some(format!("miniflow_bits({low},{high})")),
        }
    }
}
