//! Threads that keep the installed flows true; see the parent's text.
//!
//! A round dumps every flow once. Rounds follow each other when something has changed or somebody waits for
//! one ([`Udpif::barrier`]), and every `max-revalidator` ms otherwise. Between two rounds there is a short
//! rest, in which changes gather; who waits for a round does not wait for the rest, and makes it himself
//! where there are but a few flows.
//!
//! ```text
//!   revalidator1 ------- begins rounds ---> parts of the dump ---> parts of the records ---> limit
//!   revalidator2, 3 .. ---------------------> share them -----------> share them
//! ```

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ferrovs_datapath::dpif::{DumpWant, Shard};
use ferrovs_runtime::vlog::modules::OFPROTO_DPIF_UPCALL;
use ferrovs_runtime::{Poller, clock, vlog};

use super::look::{self, Look};
use super::{Udpif, ukeys};

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
    /// A user wants no rounds.
    pub paused: bool,
    /// Flows must stay as they are until the tables are restored.
    pub held: bool,
}

impl Rounds {
    /// No round begins, and nobody waits for one.
    pub fn rest(&self) -> bool {
        self.paused || self.held
    }

    /// Whether nobody need wait for round `number` any longer.
    pub fn has_ended(&self, number: u64) -> bool {
        self.finished >= number || self.stopped || self.rest()
    }
}

impl Udpif {
    /// Lets `wanted` threads look at the flows; 0 for as many as Open vSwitch takes. Flows that were installed before go.
    pub fn set_revalidators(self: &Arc<Self>, wanted: usize) {
        // A datapath whose questions are answered where they come up has no handlers to share the cores with:
        // `n-handler-threads` is overruled, as the log says below.
        let n = wanted.max(1);
        if n == self.n_revalidators() {
            return;
        }
        vlog::info!(
            OFPROTO_DPIF_UPCALL,
            "Overriding n-handler-threads to 0, setting n-revalidator-threads to {n}"
        );
        if self.n_revalidators() > 0 {
            stop(self);
            purge(self);
        }
        vlog::info!(OFPROTO_DPIF_UPCALL, "Starting {n} threads");
        self.rounds().stopped = false;
        self.crew.restart();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for i in 1..=n {
            let thread = std::thread::Builder::new()
                .name(format!("revalidator{i}"))
                .stack_size(ferrovs_datapath::upcall::STACK_SIZE);
            let spawned = if i == 1 {
                let weak = Arc::downgrade(self);
                thread.spawn(move || main(&weak))
            } else {
                let crew = self.crew.clone();
                thread.spawn(move || {
                    vlog::set_thread_name(&format!("revalidator{i}"));
                    crew.help();
                })
            };
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(e) => ferrovs_runtime::fatal_io(&e, "pthread_create failed"),
            }
        }
    }

    /// How many threads look at the flows.
    pub fn n_revalidators(&self) -> usize {
        let threads = self.threads.lock();
        threads.unwrap_or_else(PoisonError::into_inner).len()
    }
}

pub fn stop(udpif: &Udpif) {
    udpif.rounds().stopped = true;
    udpif.round_done.notify_all();
    udpif.round_seq.change();
    udpif.wake.change();
    udpif.crew.stop();
    let threads: Vec<JoinHandle<()>> =
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
        if !udpif.rounds().rest() {
            round(&udpif);
        }
        let now = clock::now();
        if next <= now {
            let settings = &udpif.settings;
            let ms = settings.max_revalidator_ms().min(settings.max_idle_ms());
            next = now + Duration::from_millis(ms);
        }
        let rested = now + REST;
        loop {
            // A clock that stands still ends no rest.
            let resting = clock::now() < rested && !clock::is_stopped();
            let changed = udpif.reval_seq.read() != reval;
            let (idle, wanted) = {
                let rounds = udpif.rounds();
                let wanted = rounds.finished < rounds.wanted && !rounds.rest();
                (rounds.rest(), rounds.stopped || wanted)
            };
            if changed && !resting && !idle
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

/// Changes who wants no rounds. Waits until the round that is under way has ended if there shall be none.
pub fn set_rest(udpif: &Udpif, change: impl FnOnce(&mut Rounds)) {
    let mut rounds = udpif.rounds();
    change(&mut rounds);
    udpif.wake.change();
    udpif.round_done.notify_all();
    udpif.round_seq.change();
    while rounds.rest() && rounds.finished < rounds.started && !rounds.stopped {
        let wait = udpif.round_done.wait(rounds);
        rounds = wait.unwrap_or_else(PoisonError::into_inner);
    }
}

/// Looks at every flow once.
pub fn round(udpif: &Arc<Udpif>) {
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
    let look = Arc::new(Look::new(udpif, start));
    // Few flows are not worth waking anybody.
    if udpif.ukeys.len() > FEW_FLOWS {
        let (crew, of) = (&udpif.crew, udpif.dpif.dump_shards());
        let sweep = look.clone();
        crew.share(of, move |index| look.part(Shard { index, of }));
        crew.share(ukeys::SHARDS, move |shard| sweep.sweep(shard));
    } else {
        look.part(Shard::WHOLE);
        (0..ukeys::SHARDS).for_each(|shard| look.sweep(shard));
    }
    let most = udpif.settings.flow_limit.load(Relaxed);
    let duration = clock::now().saturating_duration_since(start);
    udpif.limit.end(duration, most);
    udpif.rounds().finished = this;
    udpif.round_done.notify_all();
    if wanted {
        udpif.round_seq.change();
    }
}

/// Removes every flow.
pub fn purge(udpif: &Udpif) {
    let _alone = udpif
        .in_round
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::new();
    let dpif = &udpif.dpif;
    dpif.dump(Shard::WHOLE, DumpWant::STATS, &mut |flow| {
        let (ufid, pmd) = (flow.ufid(), flow.pmd());
        all.extend(udpif.ukeys.meet(ufid, pmd, 0, || look::adopt(flow)));
    });
    udpif.delete_flows(&all);
}
