//! Threads that keep the installed flows true; see the parent's text.
//!
//! A round dumps every flow once. Rounds follow each other when something has changed or somebody waits for
//! one ([`Udpif::barrier`]), and every `max-revalidator` ms otherwise. Between two rounds there is a short
//! rest, in which changes gather; who waits for a round does not wait for the rest, and makes it himself
//! where there are but a few flows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use ferrovs_datapath::action::DropReason;
use ferrovs_datapath::dpif::{FlowEntry, FlowPut, PmdId, Ufid};
use ferrovs_packet::flow::FlowWildcards;
use ferrovs_runtime::vlog::modules::OFPROTO_DPIF_UPCALL;
use ferrovs_runtime::{Poller, clock, vlog};

use super::Udpif;
use super::ukey::Ukey;
use crate::xlate::xcache::{PacketCount, XCache};

/// The rest between two rounds.
const REST: Duration = Duration::from_millis(1);

/// With at most so many flows whoever waits for a round makes it: that costs less than waking a thread.
pub const FEW_FLOWS: usize = 32;

/// Bookkeeping of rounds, for those who wait for one.
#[derive(Debug, Default)]
pub struct Rounds {
    pub started: u64,
    pub finished: u64,
    pub wanted: u64,
    pub stopped: bool,
    /// No round begins, and nobody waits for one.
    pub paused: bool,
}

impl Rounds {
    /// Whether nobody need wait for round `number` any longer.
    pub fn has_ended(&self, number: u64) -> bool {
        self.finished >= number || self.stopped || self.paused
    }
}

/// What `upcall/show` tells.
#[derive(Debug, Default)]
pub struct DumpStats {
    pub duration_ms: AtomicU64,
    pub max_n_flows: AtomicUsize,
    pub avg_n_flows: AtomicUsize,
    pub n_flows: AtomicUsize,
}

/// What happens to a flow.
enum Verdict {
    Keep,
    Delete,
    Modify,
}

pub fn spawn(udpif: &Arc<Udpif>) {
    // Questions are answered where they come up.
    vlog::info!(
        OFPROTO_DPIF_UPCALL,
        "Overriding n-handler-threads to 0, setting n-revalidator-threads to 1"
    );
    vlog::info!(OFPROTO_DPIF_UPCALL, "Starting 1 threads");
    let weak = Arc::downgrade(udpif);
    let thread = std::thread::Builder::new()
        .name("revalidator".into())
        .stack_size(ferrovs_datapath::upcall::STACK_SIZE)
        .spawn(move || main(&weak));
    match thread {
        Ok(thread) => udpif
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread),
        Err(e) => ferrovs_runtime::fatal_io(&e, "pthread_create failed"),
    }
}

pub fn stop(udpif: &Udpif) {
    udpif.rounds().stopped = true;
    udpif.round_done.notify_all();
    udpif.round_seq.change();
    udpif.wake.change();
    let threads =
        std::mem::take(&mut *udpif.threads.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in threads {
        // A revalidator that panicked has nothing left to stop.
        let _ = thread.join();
    }
}

fn main(weak: &Weak<Udpif>) {
    vlog::set_thread_name("revalidator1");
    let mut poller = Poller::new();
    let mut next = clock::now();
    loop {
        let Some(udpif) = weak.upgrade() else { return };
        let (reval, wake) = (udpif.reval_seq.read(), udpif.wake.read());
        if udpif.rounds().stopped {
            return;
        }
        if !is_paused(&udpif) {
            round(&udpif);
        }
        let now = clock::now();
        if next <= now {
            next = now + Duration::from_millis(udpif.settings.max_revalidator_ms.load(Relaxed));
        }
        let rested = now + REST;
        loop {
            // A clock that stands still ends no rest.
            let resting = clock::now() < rested && !clock::is_stopped();
            let changed = udpif.reval_seq.read() != reval;
            let wanted = {
                let rounds = udpif.rounds();
                rounds.stopped || (rounds.finished < rounds.wanted && !rounds.paused)
            };
            if changed && !resting && !is_paused(&udpif)
                || wanted
                || clock::now() >= next
                || udpif.wake.read() != wake
            {
                break;
            }
            poller.wait_seq(&udpif.wake, wake);
            poller.wait_until(if resting { rested.min(next) } else { next });
            if !resting && !changed {
                poller.wait_seq(&udpif.reval_seq, reval);
            }
            poller.block();
        }
    }
}

fn is_paused(udpif: &Udpif) -> bool {
    let rounds = udpif.rounds();
    rounds.paused
}

/// Stops looking at flows, when the round that is under way has ended, or goes on with it.
pub fn set_paused(udpif: &Udpif, paused: bool) {
    let mut rounds = udpif.rounds();
    rounds.paused = paused;
    udpif.wake.change();
    udpif.round_done.notify_all();
    udpif.round_seq.change();
    while paused && rounds.finished < rounds.started && !rounds.stopped {
        let wait = udpif.round_done.wait(rounds);
        rounds = wait.unwrap_or_else(PoisonError::into_inner);
    }
}

/// Looks at every flow once.
pub fn round(udpif: &Udpif) {
    let _alone = udpif
        .in_round
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (this, wanted) = {
        let mut rounds = udpif.rounds();
        rounds.started += 1;
        (rounds.started, rounds.started <= rounds.wanted)
    };
    // Who asked means the packets before, too.
    if wanted {
        udpif.dpif.quiesce();
    }
    let start = clock::now();
    dump(udpif, start);
    adapt_limit(udpif, start);
    udpif.rounds().finished = this;
    udpif.round_done.notify_all();
    if wanted {
        udpif.round_seq.change();
    }
}

fn dump(udpif: &Udpif, now: Instant) {
    let n_flows = udpif.dpif.stats().n_flows as usize;
    let stats = &udpif.stats;
    stats.n_flows.store(n_flows, Relaxed);
    stats.max_n_flows.fetch_max(n_flows, Relaxed);
    stats
        .avg_n_flows
        .store((stats.avg_n_flows.load(Relaxed) + n_flows) / 2, Relaxed);

    let limit = udpif.flow_limit.load(Relaxed);
    let max_idle = Duration::from_millis(match n_flows > limit {
        true => 100,
        false => udpif.settings.max_idle_ms.load(Relaxed),
    });
    let kill_all = n_flows > limit * 2;

    let mut seen: HashSet<(Ufid, PmdId)> = HashSet::with_capacity(n_flows);
    let mut work = Vec::new();
    udpif.dpif.flow_dump_terse(&mut |entry| {
        seen.insert((entry.ufid, entry.pmd));
        let key = match udpif.ukeys.find(entry.ufid, entry.pmd) {
            Some(key) => key,
            None => adopt(udpif, &entry),
        };
        let used = entry.stats.used.unwrap_or_else(|| key.state().created);
        let idle = kill_all || now.saturating_duration_since(used) > max_idle;
        let mut verdict = check(udpif, &key, &entry, idle);
        if idle {
            verdict = Verdict::Delete;
        }
        if !matches!(verdict, Verdict::Keep) {
            work.push((key, verdict));
        }
    });
    for (key, verdict) in work {
        match verdict {
            Verdict::Keep => {}
            Verdict::Delete => delete(udpif, &key),
            Verdict::Modify => modify(udpif, &key),
        }
    }
    // Flows that the datapath lost (it was flushed, a port went) have nothing to remember; those that were
    // installed since the dump began stay.
    udpif
        .ukeys
        .forget_unseen(now, |key| seen.contains(&(key.ufid, key.pmd)));
}

/// A flow that somebody else installed is held to the tables like any other.
fn adopt(udpif: &Udpif, entry: &FlowEntry) -> Arc<Ukey> {
    let key = Ukey::new(
        entry.ufid,
        entry.pmd,
        &entry.match_.flow,
        &entry.match_.wc,
        entry.actions.clone(),
        None,
        vec![],
        0,
    );
    udpif.ukeys.adopt(key)
}

/// Credits the packets since the last round, and translates again if something has changed.
fn check(udpif: &Udpif, key: &Ukey, entry: &FlowEntry, dying: bool) -> Verdict {
    let seq = udpif.reval_seq.read();
    let mut state = key.state();
    let count = PacketCount::since(&state.stats, &entry.stats);
    state.stats = entry.stats;
    let used = entry.stats.used.unwrap_or(state.created);
    let stale = state.reval_seq != seq;
    if !stale {
        if count.packets > 0
            && let Some(xcache) = &state.xcache
        {
            xcache.push(count, used);
        }
        return Verdict::Keep;
    }
    // What the flow did so far it did by its old translation.
    if count.packets > 0
        && let Some(xcache) = state.xcache.take()
    {
        xcache.push(count, used);
    }
    if dying {
        return Verdict::Delete;
    }
    let snapshot = udpif.snapshot.load_full();
    let Some(origin) = udpif.origin(&snapshot, &key.flow) else {
        return if state.actions.is_empty() && key.flow.recirc_id == 0 {
            state.reval_seq = seq;
            Verdict::Keep
        } else {
            Verdict::Delete
        };
    };
    let mut xcache = XCache::default();
    let out = udpif.translate(&snapshot, &origin, None, None, Some(&mut xcache));
    // What cannot be translated any more is told by the packet that comes next.
    if out.error != DropReason::Ok || out.avoid_caching || too_wide(&out.wc, &state.wc) {
        return Verdict::Delete;
    }
    let actions = match out.slow.is_none() {
        true => out.actions.into(),
        false => super::slow_path_actions(&out.slow, &origin),
    };
    let same = state.actions == actions;
    state.reval_seq = seq;
    state.xcache = Some(xcache);
    state.recircs = out.recircs;
    if same {
        return Verdict::Keep;
    }
    state.actions = actions;
    Verdict::Modify
}

/// Whether the translation looks at bits that the installed match leaves open.
fn too_wide(wanted: &FlowWildcards, installed: &FlowWildcards) -> bool {
    wanted
        .masks
        .words()
        .iter()
        .zip(installed.masks.words())
        .any(|(want, have)| want & !have != 0)
}

fn delete(udpif: &Udpif, key: &Ukey) {
    udpif.ukeys.remove(key.ufid, key.pmd);
    // Packets that came since the dump are credited with the final counters.
    if let Ok(last) = udpif.dpif.flow_del(key.ufid, Some(key.pmd)) {
        let state = key.state();
        let count = PacketCount::since(&state.stats, &last);
        if let Some(xcache) = state.xcache.as_ref().filter(|_| count.packets > 0) {
            xcache.push(count, last.used.unwrap_or(state.created));
        }
    }
}

fn modify(udpif: &Udpif, key: &Ukey) {
    let put = {
        let state = key.state();
        FlowPut {
            ufid: key.ufid,
            pmd: Some(key.pmd),
            match_: ferrovs_packet::flow::Match::new(&key.flow, &state.wc),
            actions: state.actions.clone(),
            create: false,
            modify: true,
            zero_stats: false,
        }
    };
    if udpif.dpif.flow_put(put).is_err() {
        delete(udpif, key);
    }
}

/// Removes every flow.
pub fn purge(udpif: &Udpif) {
    let mut keys = Vec::new();
    udpif
        .dpif
        .flow_dump_terse(&mut |entry| keys.push((entry.ufid, entry.pmd)));
    for (ufid, pmd) in keys {
        match udpif.ukeys.find(ufid, pmd) {
            Some(key) => delete(udpif, &key),
            None => {
                // Gone meanwhile, which is what was wanted.
                let _ = udpif.dpif.flow_del(ufid, Some(pmd));
            }
        }
    }
}

/// Fits the number of flows to what one round can look at in a second.
fn adapt_limit(udpif: &Udpif, start: Instant) {
    let duration = clock::now().saturating_duration_since(start).as_millis() as u64;
    udpif.stats.duration_ms.store(duration.max(1), Relaxed);
    let n_flows = udpif.stats.n_flows.load(Relaxed);
    let mut limit = udpif.flow_limit.load(Relaxed);
    if duration > 2000 {
        limit /= (duration / 1000) as usize;
    } else if duration > 1300 {
        limit = limit * 3 / 4;
    } else if duration < 1000 && limit < n_flows.saturating_mul(1000) / duration.max(1) as usize {
        limit += 1000;
    }
    let max = udpif.settings.flow_limit.load(Relaxed);
    udpif.flow_limit.store(limit.max(1000).min(max), Relaxed);
}
