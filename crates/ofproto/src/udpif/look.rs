//! One round's look at the installed flows.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ferrovs_datapath::action::DropReason;
use ferrovs_datapath::dpif::{DumpWant, FlowPut, FlowStats, FlowView, Op, PackedMatch, Put, Shard};
use ferrovs_packet::miniflow::{Miniflow, Minimask};
use ferrovs_runtime::coverage;

use super::ukey::{Translation, Ukey, UkeyState};
use super::{Udpif, limit};
use crate::xlate::tunnel::Request;
use crate::xlate::xcache::{Draft, PacketCount};

/// With more flows than the limit, idle ones go after this long.
const HASTY_IDLE: Duration = Duration::from_millis(100);
/// How many operations the datapath is asked for at once.
const BATCH: usize = 64;

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Delete,
    Modify,
}

/// What holds for all flows of a round.
pub struct Look {
    udpif: Arc<Udpif>,
    round: u64,
    now: Instant,
    max_idle: Duration,
    /// There are far too many flows.
    kill_all: bool,
    /// A flow must have met so many packets a second to be worth a new translation; 0 for none.
    least_pps: u64,
}

impl Look {
    pub fn new(udpif: &Arc<Udpif>, now: Instant) -> Look {
        let settings = &udpif.settings;
        let n_flows = udpif.dpif.stats().n_flows as usize;
        udpif.limit.begin(n_flows);
        let limit = udpif.limit.get();
        let kill_all = n_flows > limit * 2;
        if kill_all {
            limit::tell_emergency(n_flows, limit);
        }
        // While rounds are quick, every flow is worth it.
        let slow = udpif.limit.duration_ms.load(Relaxed) >= settings.max_revalidator_ms() / 2;
        Look {
            udpif: udpif.clone(),
            round: udpif.ukeys.begin_round(),
            now,
            max_idle: match n_flows > limit {
                true => HASTY_IDLE,
                false => Duration::from_millis(settings.max_idle_ms()),
            },
            kill_all,
            least_pps: match slow {
                true => settings.min_revalidate_pps.load(Relaxed),
                false => 0,
            },
        }
    }

    /// Looks at the flows of one part, and does what must be done about them.
    pub fn part(&self, shard: Shard) {
        let mut work = Vec::new();
        let mut requests = Vec::new();
        let dpif = &self.udpif.dpif;
        dpif.dump(shard, DumpWant::STATS, &mut |flow| {
            let (ufid, pmd) = (flow.ufid(), flow.pmd());
            let key = self.udpif.ukeys.meet(ufid, pmd, self.round, || adopt(flow));
            let Some(key) = key else { return };
            let verdict = self.check(&key, &flow.stats(), &mut requests);
            if verdict != Verdict::Keep {
                work.push((key, verdict));
            }
        });
        for some in work.chunks(BATCH) {
            self.udpif.change_flows(some);
        }
        self.udpif.ask(&mut requests);
    }

    /// Forgets flows that the datapath has lost (it was flushed, a port went); those that came since the round began
    /// stay.
    pub fn sweep(&self, shard: usize) {
        self.udpif.ukeys.sweep(shard, self.round);
    }

    /// Credits the packets since the last round, and translates again if something has changed.
    fn check(&self, key: &Ukey, stats: &FlowStats, requests: &mut Vec<Request>) -> Verdict {
        let seq = self.udpif.reval_seq.read();
        let mut state = key.state();
        let count = PacketCount::since(&state.stats, stats);
        let used_before = state.stats.used;
        state.stats = *stats;
        let used = stats.used.unwrap_or(key.created);
        let idle = self.kill_all || self.now.saturating_duration_since(used) > self.max_idle;
        let stale = state.reval_seq != seq;
        // What the flow did so far it did by its old translation.
        if count.packets > 0
            && let Some(xcache) = &state.xcache
        {
            xcache.push(count, used);
        }
        match (idle, stale) {
            (true, _) => Verdict::Delete,
            (false, false) => Verdict::Keep,
            (false, true) => match self.is_worth_translating(count.packets, used_before) {
                true => self.translate(key, &mut state, seq, requests),
                false => Verdict::Delete,
            },
        }
    }

    /// Whether enough packets came since the flow was used last.
    fn is_worth_translating(&self, packets: u64, used_before: Option<Instant>) -> bool {
        let (Some(before), 1..) = (used_before, self.least_pps) else {
            return true;
        };
        let ms = self.now.saturating_duration_since(before).as_millis() as u64;
        packets > 0 && ms / packets < 1000 / self.least_pps
    }

    fn translate(
        &self,
        key: &Ukey,
        state: &mut UkeyState,
        seq: u64,
        requests: &mut Vec<Request>,
    ) -> Verdict {
        let udpif = &self.udpif;
        let snapshot = udpif.snapshot.load_full();
        let flow = key.flow();
        let Some(origin) = udpif.origin(&snapshot, &flow) else {
            return if state.actions.is_empty() && flow.recirc_id == 0 {
                state.reval_seq = seq;
                // Nothing is touched any more.
                state.xcache = None;
                Verdict::Keep
            } else {
                Verdict::Delete
            };
        };
        let mut draft = Draft::guessing(state.xcache.clone());
        let mut out = udpif.translate(&snapshot, &origin, None, None, Some(&mut draft));
        requests.append(&mut out.requests);
        // What cannot be translated any more is told by the packet that comes next.
        if out.error != DropReason::Ok || out.avoid_caching || key.is_too_wide_for(&out.wc) {
            return Verdict::Delete;
        }
        let record = udpif.records.share(draft);
        let actions = match out.slow.is_none() {
            true => record.share_actions(out.actions),
            false => super::slow_path_actions(&out.slow, &origin),
        };
        let same = state.actions == actions;
        *state = UkeyState {
            stats: state.stats,
            ..UkeyState::from(Translation {
                actions,
                xcache: Some(record),
                recircs: out.recircs,
                reval_seq: seq,
            })
        };
        match same {
            true => Verdict::Keep,
            false => Verdict::Modify,
        }
    }
}

/// A flow that somebody else installed is held to the tables like any other.
pub(super) fn adopt(flow: &dyn FlowView) -> Ukey {
    coverage::DUMPED_NEW_FLOW.inc();
    let match_ = Arc::new(PackedMatch {
        key: Miniflow::new(&flow.key()),
        mask: Arc::new(Minimask::new(&flow.mask())),
    });
    let translation = Translation {
        actions: flow.actions(),
        ..Translation::default()
    };
    Ukey::new(flow.ufid(), flow.pmd(), match_, translation)
}

impl Udpif {
    /// Has flows modified or deleted; one that cannot be modified is deleted.
    fn change_flows(&self, work: &[(Arc<Ukey>, Verdict)]) {
        let mut ops = Vec::with_capacity(work.len());
        let mut keys = Vec::with_capacity(work.len());
        for (key, verdict) in work {
            let (ufid, pmd) = (key.ufid, Some(key.pmd));
            let op = match verdict {
                Verdict::Modify => Op::put(FlowPut {
                    ufid,
                    pmd,
                    put: Put::Modify {
                        told_as: &key.match_,
                    },
                    actions: key.state().actions.clone(),
                    zero_stats: false,
                }),
                // Whoever is the first deletes it.
                Verdict::Delete if key.evict() => Op::del(ufid, pmd),
                Verdict::Delete | Verdict::Keep => continue,
            };
            ops.push(op);
            keys.push(key);
        }
        self.dpif.operate(&mut ops);
        let mut failed = Vec::new();
        for (op, key) in ops.iter().zip(keys) {
            match op {
                Op::Put { result: Err(_), .. } => failed.push(key.clone()),
                Op::Del { result, .. } => self.bury(key, result.as_ref().ok()),
                _ => {}
            }
        }
        self.delete_flows(&failed);
    }

    /// Has flows deleted.
    pub(super) fn delete_flows(&self, keys: &[Arc<Ukey>]) {
        for some in keys.chunks(BATCH) {
            let doomed: Vec<_> = some.iter().filter(|key| key.evict()).collect();
            let ops = doomed.iter().map(|key| Op::del(key.ufid, Some(key.pmd)));
            let mut ops: Vec<_> = ops.collect();
            self.dpif.operate(&mut ops);
            for (op, key) in ops.iter().zip(doomed) {
                if let Op::Del { result, .. } = op {
                    self.bury(key, result.as_ref().ok());
                }
            }
        }
    }

    /// Credits the packets that came since the dump, and forgets the flow.
    fn bury(&self, key: &Arc<Ukey>, last: Option<&FlowStats>) {
        if let Some(last) = last {
            let state = key.state();
            let count = PacketCount::since(&state.stats, last);
            if let Some(xcache) = state.xcache.as_ref().filter(|_| count.packets > 0) {
                xcache.push(count, last.used.unwrap_or(key.created));
            }
        }
        self.ukeys.remove(key);
    }
}
