//! What is remembered of one installed flow.
//!
//! ```text
//!   upcall ----> Visible ----> Operational ----> Evicting ----> Deleted
//!                   |               |                             ^
//!                   +---------------+-----------------------------+
//! ```
//!
//! A record is [`Visible`](Phase::Visible) from the moment at which the datapath is asked to install its flow: a round
//! that meets the flow before the datapath has answered finds the record, with all that packets are to be credited to.
//! It is [`Operational`](Phase::Operational) when the datapath has said that the flow is there, or when a dump has shown
//! it. Whoever moves it to [`Evicting`](Phase::Evicting) deletes the flow, and nobody else does; then it is
//! [`Deleted`](Phase::Deleted), out of the table. A record never goes back.
//!
//! The phase and the round in which the flow was last known to be there are read without the lock, which a
//! translation holds for long.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{FlowStats, PackedMatch, PmdId, Ufid};
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::hash::{self, mix};
use ferrovs_packet::miniflow::{Miniflow, Minimask};
use ferrovs_runtime::clock;

use crate::xlate::recirc::Recirc;
use crate::xlate::xcache::XCache;

/// See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    Visible,
    Operational,
    Evicting,
    Deleted,
}

/// One flow. Hundreds of thousands of these may be held: keys and masks are packed.
pub struct Ukey {
    pub ufid: Ufid,
    pub pmd: PmdId,
    phase: AtomicU8,
    /// Tells this record from others of the same flow.
    pub ticket: u64,
    /// The last round that met the flow in the datapath, or during which it came there.
    seen: AtomicU64,
    pub created: Instant,
    /// With the whole key of the packet that the flow was made for: a translation that is made again may look at any
    /// bit of it.
    pub match_: Arc<PackedMatch>,
    state: Mutex<UkeyState>,
}

/// What changes with each look at the flow.
pub struct UkeyState {
    pub actions: Arc<[Action]>,
    /// What had been credited at the last dump.
    pub stats: FlowStats,
    /// Value of the sequence number that the translation is true for.
    pub reval_seq: u64,
    /// What the translation touched; none for a flow that somebody else installed, until it is translated.
    pub xcache: Option<Arc<XCache>>,
    pub recircs: Box<[Arc<Recirc>]>,
}

/// What a translation leaves for later.
#[derive(Default)]
pub struct Translation {
    pub actions: Arc<[Action]>,
    pub xcache: Option<Arc<XCache>>,
    pub recircs: Vec<Arc<Recirc>>,
    pub reval_seq: u64,
}

impl From<Translation> for UkeyState {
    fn from(t: Translation) -> UkeyState {
        UkeyState {
            actions: t.actions,
            stats: FlowStats::default(),
            reval_seq: t.reval_seq,
            xcache: t.xcache,
            recircs: t.recircs.into(),
        }
    }
}

impl Ukey {
    pub fn new(ufid: Ufid, pmd: PmdId, match_: Arc<PackedMatch>, translation: Translation) -> Ukey {
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        Ukey {
            ufid,
            pmd,
            phase: AtomicU8::new(Phase::Visible as u8),
            ticket: TICKETS.fetch_add(1, Ordering::Relaxed),
            seen: AtomicU64::new(0),
            created: clock::now(),
            match_,
            state: Mutex::new(translation.into()),
        }
    }

    /// The key that the flow was made for.
    pub fn flow(&self) -> Flow {
        self.match_.key.expand()
    }

    pub fn state(&self) -> MutexGuard<'_, UkeyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Visible,
            1 => Phase::Operational,
            2 => Phase::Evicting,
            _ => Phase::Deleted,
        }
    }

    /// Goes on from one phase to a later one; false if another thread was quicker.
    fn advance(&self, from: Phase, to: Phase) -> bool {
        debug_assert!(from < to);
        let (from, to) = (from as u8, to as u8);
        let swap = self
            .phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        swap.is_ok()
    }

    /// The flow is in the datapath, as of this round. False if it is being deleted, or was.
    pub fn is_there(&self, round: u64) -> bool {
        self.seen.fetch_max(round, Ordering::AcqRel);
        self.advance(Phase::Visible, Phase::Operational) || self.phase() == Phase::Operational
    }

    /// Makes the caller the one who deletes the flow; false if somebody else is, or if it has not come yet.
    pub fn evict(&self) -> bool {
        self.advance(Phase::Operational, Phase::Evicting)
    }

    /// The flow is not in the datapath any more.
    pub fn is_gone(&self) {
        self.phase.store(Phase::Deleted as u8, Ordering::Release);
    }

    /// Whether the datapath has lost the flow: it had come before `round`, which did not meet it.
    pub fn is_lost(&self, round: u64) -> bool {
        self.phase() == Phase::Operational && self.seen.load(Ordering::Acquire) < round
    }

    /// Whether a translation looks at bits that the installed match leaves open.
    pub fn is_too_wide_for(&self, wanted: &FlowWildcards) -> bool {
        let installed = self.match_.mask.view();
        let mut words = wanted.masks.words().iter().enumerate();
        words.any(|(i, want)| *want != 0 && want & !installed.word(i) != 0)
    }
}

/// The identifier of a megaflow: of what its key is under its mask, whose [hash](hash_mask) is given too.
pub fn ufid_of(key: &Miniflow, wc: &FlowWildcards, mask_hash: [u64; 2]) -> Ufid {
    let mut halves = mask_hash;
    for (i, word) in key.view().iter() {
        let word = word & wc.masks.words()[i];
        if word != 0 {
            halves = halves.map(|half| mix(half.wrapping_add(i as u64), word));
        }
    }
    let [high, low] = halves.map(u128::from);
    Ufid::from_hash(high << 64 | low)
}

/// Two hashes of a mask. They are the same for all threads and over restarts of a thread, so that equal megaflows meet.
pub fn hash_mask(mask: &Minimask) -> [u64; 2] {
    let seed = hash::seed();
    [0x6675_6c6c, 0x666c_6f77].map(|half| mask.view().hash(seed ^ half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_packet::flow::Match;
    use ferrovs_packet::types::eth_type;

    #[test]
    fn a_record_goes_through_its_phases_once() {
        let key = Ukey::new(
            Ufid(1),
            PmdId(0),
            Arc::new(PackedMatch::new(&Match::default())),
            Translation::default(),
        );
        assert_eq!(key.phase(), Phase::Visible);
        assert!(!key.evict(), "nothing is there yet");
        assert!(!key.is_lost(u64::MAX), "it is on its way");
        assert!(key.is_there(3));
        assert!(key.is_there(3));
        assert!(!key.is_lost(3));
        assert!(key.is_lost(4));
        assert!(key.evict());
        assert!(!key.evict(), "one thread deletes");
        assert!(!key.is_there(5));
        assert!(!key.is_lost(6));
        key.is_gone();
        assert_eq!(key.phase(), Phase::Deleted);
    }

    #[test]
    fn a_record_takes_a_few_hundred_bytes() {
        let mut wc = FlowWildcards::default();
        wc.masks.dl_type = 0xffff.into();
        let flow = Flow {
            in_port: 1,
            dl_type: eth_type::IP.into(),
            nw_src: 0x0a00_0001.into(),
            nw_proto: 6,
            ..Flow::default()
        };
        let match_ = Arc::new(PackedMatch::new(&Match { flow, wc }));
        let key = Ukey::new(Ufid(1), PmdId(0), match_, Translation::default());
        assert_eq!(key.flow(), flow);
        assert!(!key.is_too_wide_for(&wc));
        wc.masks.nw_proto = 0xff;
        assert!(key.is_too_wide_for(&wc));
        let PackedMatch { key: packed, mask } = &*key.match_;
        let words = packed.view().values.len() + mask.view().values.len();
        // The match is shared with the datapath.
        let size = size_of::<Ukey>() + size_of::<PackedMatch>() + 16 + 8 * words;
        assert!(size <= 352, "{size}");
    }
}
