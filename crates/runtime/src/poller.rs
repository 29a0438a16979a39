//! A stateless, level-triggered sleep: poll(2) over what the components asked for this time.
//!
//! Nothing stays registered between two sleeps, so a component that goes away cannot leave anything
//! behind, and the order in which things run is the order in which the loop calls them. A sleep
//! also ends when the clock jumps and, on the main thread, when a signal comes.
//!
//! Components try to read without asking whether there is something; where that costs a system call
//! on every turn of the loop, [`is_quiet`] tells them what the sleep has found out already.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use ferrovs_sync::{Seq, Waker};
use ferrovs_sys::fd::{Events, PollEntry, poll};
use ferrovs_sys::process::{Usage, thread_usage};

use crate::clock::{self, Sleeper};
use crate::linger::{LINGER, Linger};
use crate::vlog::modules::{POLL_LOOP, TIMEVAL};
use crate::vlog::{self, RateLimit};
use crate::{coverage, fatal_signal};

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// Until it can be read, or its peer is gone.
    pub const READ: Interest = Interest(1);
    /// Until it can be written.
    pub const WRITE: Interest = Interest(2);
    /// Either.
    pub const BOTH: Interest = Interest(3);

    fn flags(self) -> Events {
        let mut f = Events::empty();
        if self.0 & 1 != 0 {
            f |= Events::IN;
        }
        if self.0 & 2 != 0 {
            f |= Events::OUT;
        }
        f
    }
}

impl std::ops::BitOr for Interest {
    type Output = Interest;
    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        self.0 |= other.0;
    }
}

/// What components asked a poller for.
#[derive(Debug, Default)]
pub struct Wants {
    pub fds: Vec<(RawFd, Interest)>,
    pub deadline: Option<Instant>,
    pub wake_now: bool,
}

/// What the thread has used is known so exactly at a wake-up, for the log of long intervals: asking each time would cost
/// more than many of them have to do.
const USAGE_AGE: Duration = Duration::from_millis(1);

thread_local! {
    /// Descriptors that the thread's last sleep waited to read from in vain, one bit each.
    static QUIET: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Whether the last sleep of this thread was to end when `fd` can be read, and found that it cannot. What has come
/// since ends the next sleep at once.
pub fn is_quiet(fd: BorrowedFd<'_>) -> bool {
    let (word, bit) = quiet_bit(fd.as_raw_fd());
    QUIET.with_borrow(|quiet| quiet.get(word).is_some_and(|w| w & bit != 0))
}

fn quiet_bit(fd: RawFd) -> (usize, u64) {
    (fd as usize / 64, 1 << (fd % 64))
}

struct Wanted {
    fd: RawFd,
    flags: Events,
    location: &'static Location<'static>,
}

/// Collects what would wake a thread, then sleeps until one of it happens.
pub struct Poller {
    wanted: Vec<Wanted>,
    deadline: Option<(Instant, &'static Location<'static>)>,
    wake_now: Option<&'static Location<'static>>,
    sleeper: Arc<Sleeper>,
    main: bool,
    linger: Linger,
    /// The memory of what is handed to poll(2).
    fds: Vec<PollEntry>,
    woke: Option<Instant>,
    /// What the thread had used lately: see [`USAGE_AGE`].
    usage: (Instant, Usage),
    /// Start of the second over which the CPU share is measured, and the CPU time at its start.
    share: (Instant, Duration),
    cpu_percent: Option<u32>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller")
            .field("wanted", &self.wanted.len())
            .finish_non_exhaustive()
    }
}

impl Default for Poller {
    fn default() -> Poller {
        Poller::new()
    }
}

impl Poller {
    /// A poller for the calling thread.
    pub fn new() -> Poller {
        let main = ferrovs_sys::process::thread_id() == ferrovs_sys::process::pid();
        let sleeper = Arc::new(Sleeper {
            waker: Arc::new(Waker::new().expect("eventfd for a poll loop")),
            asleep: false.into(),
            sleeps: 0.into(),
        });
        // The main thread drives the warps: it does not wait for itself.
        if !main {
            clock::register(&sleeper);
        }
        let (now, usage) = (clock::real_now(), thread_usage());
        Poller {
            wanted: Vec::new(),
            deadline: None,
            wake_now: None,
            sleeper,
            main,
            linger: Linger::default(),
            fds: Vec::new(),
            woke: None,
            share: (now, usage.user + usage.system),
            usage: (now, usage),
            cpu_percent: None,
        }
    }

    /// A waker that ends the next (or present) sleep of this poller; for other threads.
    pub fn waker(&self) -> Arc<Waker> {
        self.sleeper.waker.clone()
    }

    /// Lets the poller look again for a short while before it sleeps, as long as sleeps are short.
    pub fn let_linger(&mut self) {
        self.linger = Linger::new();
    }

    /// Wakes when `fd` is ready for `interest`, in trouble, or hung up.
    #[track_caller]
    pub fn wait_fd(&mut self, fd: BorrowedFd<'_>, interest: Interest) {
        let fd = fd.as_raw_fd();
        let flags = interest.flags();
        let location = Location::caller();
        self.wanted.push(Wanted {
            fd,
            flags,
            location,
        });
    }

    /// Wakes at `when` at the latest.
    #[track_caller]
    pub fn wait_until(&mut self, when: Instant) {
        if self.deadline.is_none_or(|(d, _)| when < d) {
            self.deadline = Some((when, Location::caller()));
        }
    }

    /// Does not sleep this time.
    #[track_caller]
    pub fn wake_now(&mut self) {
        self.wake_now.get_or_insert(Location::caller());
    }

    /// Wakes when `seq` has a value other than `last`.
    #[track_caller]
    pub fn wait_seq(&mut self, seq: &Seq, last: u64) {
        if !seq.watch(last, &self.sleeper.waker) {
            self.wake_now();
        }
    }

    /// Moves what was asked for to `wants`, instead of sleeping: for whoever waits by other means.
    pub fn take_wants(&mut self, wants: &mut Wants) {
        let interest = |flags: Events| {
            Interest(
                u8::from(flags.contains(Events::IN)) | u8::from(flags.contains(Events::OUT)) << 1,
            )
        };
        wants.fds.clear();
        wants
            .fds
            .extend(self.wanted.drain(..).map(|w| (w.fd, interest(w.flags))));
        wants.deadline = self.deadline.take().map(|(deadline, _)| deadline);
        wants.wake_now = self.wake_now.take().is_some();
    }

    /// Sleeps until something that was asked for happens, then forgets everything.
    pub fn block(&mut self) {
        let timeout = self.fall_asleep();
        self.poll(timeout);
        self.wake_up();
    }

    /// The same for a poller that waits for one thing only: while it lingers, `look` looks for that itself. Returns
    /// what it found.
    pub fn block_looking<T>(&mut self, look: impl FnMut() -> Option<T>) -> Option<T> {
        let timeout = self.fall_asleep();
        let found = may_linger(timeout)
            .then(|| self.linger.look(look))
            .flatten();
        match &found {
            Some(_) => QUIET.with_borrow_mut(|quiet| quiet.fill(0)),
            None => self.poll(timeout),
        }
        self.wake_up();
        found
    }

    /// What is to be done before a sleep; how long it may last.
    fn fall_asleep(&mut self) -> Option<Duration> {
        coverage::POLL_CREATE_NODE.add(self.wanted.len() as u64);
        if self.main {
            fatal_signal::run();
            if clock::advance() {
                self.wake_now();
            }
        }
        self.note_interval();
        let timeout = self.timeout();
        if timeout == Some(Duration::ZERO) {
            coverage::POLL_ZERO_TIMEOUT.inc();
        }
        self.sleeper.sleeps.fetch_add(1, SeqCst);
        self.sleeper.asleep.store(true, SeqCst);
        timeout
    }

    /// What is to be done after a sleep.
    fn wake_up(&mut self) {
        self.sleeper.asleep.store(false, SeqCst);
        self.wanted.clear();
        self.deadline = None;
        self.wake_now = None;
        let now = clock::real_now();
        if now.saturating_duration_since(self.usage.0) >= USAGE_AGE {
            self.usage = (now, thread_usage());
        }
        self.woke = Some(now);
        if self.main {
            coverage::run();
            fatal_signal::run();
        }
    }

    /// How long to sleep; None is forever.
    fn timeout(&self) -> Option<Duration> {
        if self.wake_now.is_some() {
            return Some(Duration::ZERO);
        }
        let mut timeout = self.deadline.and_then(|(deadline, _)| {
            let left = deadline.saturating_duration_since(clock::now());
            // A stopped clock never gets there by itself.
            (left.is_zero() || !clock::is_stopped()).then_some(left)
        });
        if self.main
            && let Some(left) = fatal_signal::alarm_left()
        {
            timeout = Some(timeout.map_or(left, |t| t.min(left)));
        }
        timeout
    }

    /// Sleeps.
    fn poll(&mut self, timeout: Option<Duration>) {
        let extra = if self.main { 2 } else { 1 };
        let mut fds = std::mem::take(&mut self.fds);
        fds.clear();
        let waker = self.sleeper.waker.as_fd().as_raw_fd();
        fds.push(PollEntry::new(waker, Events::IN));
        if self.main {
            let signals = ferrovs_sys::signal::pipe_fd().as_raw_fd();
            fds.push(PollEntry::new(signals, Events::IN));
        }
        let wanted = self.wanted.iter();
        fds.extend(wanted.map(|w| PollEntry::new(w.fd, w.flags)));
        let look = || match poll(&mut fds, Some(Duration::ZERO)) {
            Ok(0) => None,
            result => Some(result),
        };
        let found = match may_linger(timeout) {
            true => self.linger.look(look),
            false => {
                self.linger.waits();
                None
            }
        };
        let result = found.unwrap_or_else(|| poll(&mut fds, timeout));
        self.linger.came();
        QUIET.with_borrow_mut(|quiet| note_quiet(quiet, &self.wanted, &fds[extra..]));
        self.log_result(&result, &fds[extra..], timeout);
        if result.is_err() || !fds[0].revents().is_empty() {
            self.sleeper.waker.drain();
        }
        self.fds = fds;
    }

    /// Says what ended the sleep; `found` is what happened to what was wanted.
    fn log_result(
        &self,
        result: &io::Result<usize>,
        found: &[PollEntry],
        timeout: Option<Duration>,
    ) {
        match result {
            Ok(0) => match (self.wake_now, self.deadline) {
                (Some(l), _) => self.log_wakeup(l, None, Some(Duration::ZERO)),
                (None, Some((_, l))) => self.log_wakeup(l, None, timeout),
                (None, None) => {}
            },
            Ok(_) => {
                let all = self.wanted.iter().zip(found);
                for (wanted, found) in all.filter(|(_, found)| !found.revents().is_empty()) {
                    if found.revents().contains(Events::NVAL) {
                        vlog::err!(
                            POLL_LOOP,
                            "fd {} was closed while it was waited for",
                            wanted.fd
                        );
                    }
                    let why = Some((wanted.fd, found.revents()));
                    self.log_wakeup(wanted.location, why, None);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                static RL: RateLimit = RateLimit::new(5, 1);
                vlog::err_rl!(RL, POLL_LOOP, "poll: {}", crate::text::errno(e));
            }
        }
    }

    /// Says why the loop woke: at level DBG, or INFO when the thread uses much CPU.
    fn log_wakeup(
        &self,
        at: &Location<'_>,
        fd: Option<(RawFd, Events)>,
        timeout: Option<Duration>,
    ) {
        static RL: RateLimit = RateLimit::new(10, 10);
        let busy = self.cpu_percent.is_some_and(|p| p > 50);
        let level = if busy {
            vlog::Level::Info
        } else {
            vlog::Level::Dbg
        };
        if !POLL_LOOP.enabled(level) || (busy && RL.should_drop(&POLL_LOOP, level)) {
            return;
        }
        let mut s = String::from("wakeup due to ");
        if let Some((fd, flags)) = fd {
            for (flag, name) in [
                (Events::IN, "[POLLIN]"),
                (Events::OUT, "[POLLOUT]"),
                (Events::ERR, "[POLLERR]"),
                (Events::HUP, "[POLLHUP]"),
                (Events::NVAL, "[POLLNVAL]"),
            ] {
                if flags.contains(flag) {
                    s.push_str(name);
                }
            }
            let what = std::fs::read_link(format!("/proc/self/fd/{fd}"))
                .map_or_else(|e| e.to_string(), |p| p.to_string_lossy().into_owned());
            s.push_str(&format!(" on fd {fd} ({what})"));
        } else if let Some(t) = timeout {
            s.push_str(&format!("{}-ms timeout", t.as_millis()));
        }
        s.push_str(&format!(" at {}:{}", at.file(), at.line()));
        if let Some(p) = self.cpu_percent {
            s.push_str(&format!(" ({p}% CPU usage)"));
        }
        vlog::write(&POLL_LOOP, level, format_args!("{s}"));
    }

    /// Warns when the loop took long since it last woke, and keeps the CPU share up to date.
    fn note_interval(&mut self) {
        let now = clock::real_now();
        let span = now.saturating_duration_since(self.share.0);
        if span >= Duration::from_secs(10) {
            let usage = thread_usage();
            let cpu = usage.user + usage.system;
            let used = cpu.saturating_sub(self.share.1);
            self.cpu_percent = (span < Duration::from_secs(20))
                .then(|| (used.as_millis() * 100 / span.as_millis()) as u32);
            self.share = (now, cpu);
        }
        let Some(woke) = self.woke.take() else {
            return;
        };
        let took = now.saturating_duration_since(woke);
        if took <= Duration::from_millis(1000) || clock::is_stopped() {
            return;
        }
        let (before, usage) = (self.usage.1, thread_usage());
        vlog::warn!(
            TIMEVAL,
            "Unreasonably long {}ms poll interval ({}ms user, {}ms system)",
            took.as_millis(),
            usage.user.saturating_sub(before.user).as_millis(),
            usage.system.saturating_sub(before.system).as_millis()
        );
        let (minor, major) = (
            usage.minor_faults - before.minor_faults,
            usage.major_faults - before.major_faults,
        );
        if minor != 0 || major != 0 {
            vlog::warn!(TIMEVAL, "faults: {minor} minor, {major} major");
        }
        let (reads, writes) = (
            usage.disk_reads - before.disk_reads,
            usage.disk_writes - before.disk_writes,
        );
        if reads != 0 || writes != 0 {
            vlog::warn!(TIMEVAL, "disk: {reads} reads, {writes} writes");
        }
        let (own, forced) = (
            usage.voluntary_switches - before.voluntary_switches,
            usage.involuntary_switches - before.involuntary_switches,
        );
        if own != 0 || forced != 0 {
            vlog::warn!(
                TIMEVAL,
                "context switches: {own} voluntary, {forced} involuntary"
            );
        }
        coverage::log();
    }
}

/// Notes which of `wanted` could not be read. Of a descriptor that several wait for, each has to say so.
fn note_quiet(quiet: &mut Vec<u64>, wanted: &[Wanted], found: &[PollEntry]) {
    quiet.fill(0);
    let readers = wanted.iter().zip(found);
    let readers = readers.filter(|(w, _)| w.flags.contains(Events::IN));
    for (w, found) in readers.clone() {
        let (word, bit) = quiet_bit(w.fd);
        if quiet.len() <= word {
            quiet.resize(word + 1, 0);
        }
        if found.revents().is_empty() {
            quiet[word] |= bit;
        }
    }
    for (w, _) in readers.filter(|(_, found)| !found.revents().is_empty()) {
        let (word, bit) = quiet_bit(w.fd);
        quiet[word] &= !bit;
    }
}

/// Whether a sleep may last long enough to linger before it.
fn may_linger(timeout: Option<Duration>) -> bool {
    timeout.is_none_or(|t| t >= LINGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_when_a_descriptor_is_ready_or_a_sequence_changes() {
        let mut p = Poller::new();
        let w = Waker::new().unwrap();
        w.wake();
        p.wait_fd(w.as_fd(), Interest::READ);
        p.block();
        let seq = Arc::new(Seq::new());
        let last = seq.read();
        p.wait_seq(&seq, last);
        let s = seq.clone();
        let t = std::thread::spawn(move || s.change());
        p.block();
        t.join().unwrap();
        assert_ne!(seq.read(), last);
    }

    #[test]
    fn a_descriptor_is_quiet_after_a_sleep_that_found_nothing_there() {
        let (mut p, idle, busy) = (Poller::new(), Waker::new().unwrap(), Waker::new().unwrap());
        assert!(!is_quiet(idle.as_fd()), "nobody has looked");
        busy.wake();
        for w in [&idle, &busy] {
            p.wait_fd(w.as_fd(), Interest::READ);
        }
        p.block();
        assert!(is_quiet(idle.as_fd()) && !is_quiet(busy.as_fd()));
        // Whoever waits to write only says nothing about reading.
        p.wait_fd(idle.as_fd(), Interest::WRITE);
        p.block();
        assert!(!is_quiet(idle.as_fd()));
    }

    #[test]
    fn a_poller_that_lingers_finds_what_is_there_without_sleep() {
        // A timeout that is over before a look would be is waited for as usual.
        assert!(!may_linger(Some(LINGER / 2)) && may_linger(Some(LINGER)) && may_linger(None));
        let (mut p, w) = (Poller::new(), Waker::new().unwrap());
        p.let_linger();
        for _ in 0..3 {
            w.wake();
            p.wait_fd(w.as_fd(), Interest::READ);
            p.block();
            assert!(!is_quiet(w.as_fd()) && w.drain());
        }
    }

    #[test]
    fn what_is_looked_for_ends_a_sleep_either_way() {
        let (mut p, w) = (Poller::new(), Waker::new().unwrap());
        p.let_linger();
        for _ in 0..3 {
            w.wake();
            p.wait_fd(w.as_fd(), Interest::READ);
            match p.block_looking(|| w.drain().then_some(())) {
                Some(()) => assert!(!is_quiet(w.as_fd())),
                None => assert!(w.drain()),
            }
        }
    }

    #[test]
    fn usage_at_a_wake_up_is_at_most_so_old() {
        let mut p = Poller::new();
        for _ in 0..3 {
            p.wait_until(clock::real_now() + USAGE_AGE);
            p.block();
            let woke = p.woke.unwrap();
            assert!(woke.saturating_duration_since(p.usage.0) < USAGE_AGE);
        }
    }
}
