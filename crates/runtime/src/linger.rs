//! Looking again for a short while before a wait, as long as waits are short.
//!
//! Whoever sends to a thread that sleeps pays for waking it, and the thread answers late: of two that speak in turns
//! and answer fast, each would sleep and be woken between any two messages.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::clock;

/// So long is looked again: about what going to sleep and being woken costs the two sides, so that a wait costs at
/// most twice what it would without.
pub const LINGER: Duration = Duration::from_micros(50);

/// Who yields the processor and gets it back so late gave it to somebody who is busy, not to who is to send: there are
/// no processors to spare.
const TAKEN: Duration = Duration::from_micros(500);
/// So long is not lingered after that; twice as long whenever it happens again soon, but not longer than the other.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How many times as long as the pause counts as soon.
const SOON: u32 = 10;

/// Whether waits for one thing are short; learned from the last one. The default never lingers.
#[derive(Debug, Default)]
pub struct Linger {
    may: bool,
    pays: bool,
    /// The last pause, and its end.
    pause: Duration,
    not_before: Option<Instant>,
    /// Since when is waited otherwise for what a look did not find.
    since: Option<Instant>,
}

impl Linger {
    /// On a machine with a processor for either side.
    pub fn new() -> Linger {
        static MAY: OnceLock<bool> = OnceLock::new();
        let may = || std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        Linger {
            may: *MAY.get_or_init(may),
            ..Linger::default()
        }
    }

    /// Looks until something is found, if it is likely that this will not take long.
    pub fn look<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let mut end = None;
        while self.pays {
            let found = look();
            if found.is_some() {
                return found;
            }
            let now = clock::real_now();
            self.pays = now < *end.get_or_insert(now + LINGER);
            // Who is to send may be waiting for this very processor.
            std::thread::yield_now();
            self.yielded(now, clock::real_now());
        }
        self.waits();
        None
    }

    /// The processor was given away, and came back.
    fn yielded(&mut self, from: Instant, to: Instant) {
        if to.saturating_duration_since(from) > TAKEN {
            self.pays = false;
            let soon = |end| from < end + SOON * self.pause;
            self.pause = match self.not_before.is_some_and(soon) {
                true => LONGEST_PAUSE.min(2 * self.pause),
                false => PAUSE,
            };
            self.not_before = Some(to + self.pause);
        }
    }

    /// The wait begins, without a look.
    pub fn waits(&mut self) {
        if self.may {
            self.since = Some(clock::real_now());
        }
    }

    /// What was waited for has come. A look would have found it if it came soon after.
    pub fn came(&mut self) {
        if let Some(since) = self.since.take() {
            let now = clock::real_now();
            let pauses = self.not_before.is_some_and(|at| now < at);
            self.pays = !pauses && pays(now.saturating_duration_since(since));
        }
    }
}

/// Whether lingering before a wait of this length would have made it unnecessary.
fn pays(waited: Duration) -> bool {
    waited < LINGER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eager() -> Linger {
        Linger {
            may: true,
            pays: true,
            ..Linger::default()
        }
    }

    #[test]
    fn who_lingers_finds_what_is_there_and_gives_up_on_what_is_not() {
        let mut linger = eager();
        assert_eq!(linger.look(|| Some(1)), Some(1));
        assert!(linger.pays && linger.since.is_none());
        assert_eq!(linger.look(|| None::<()>), None);
        assert!(!linger.pays && linger.since.is_some());
        // It has looked long enough until it learns better.
        assert_eq!(linger.look(|| Some(1)), None);
    }

    #[test]
    fn it_lingers_only_while_waits_are_short() {
        assert!(pays(Duration::ZERO) && pays(LINGER / 2));
        assert!(!pays(LINGER) && !pays(Duration::from_secs(1)));
        let mut linger = eager();
        linger.since = clock::real_now().checked_sub(LINGER);
        linger.came();
        assert!(!linger.pays);
        linger.since = Some(clock::real_now() + LINGER);
        linger.came();
        assert!(linger.pays);
        // What came without a wait says nothing.
        linger.came();
        assert!(linger.pays);
    }

    #[test]
    fn nobody_lingers_while_others_take_the_processors() {
        let (mut linger, now) = (eager(), clock::real_now());
        linger.yielded(now, now + TAKEN);
        assert!(linger.pays, "the other side worked that long");
        linger.yielded(now, now + 2 * TAKEN);
        assert!(!linger.pays);
        // However short the waits are.
        linger.since = Some(now + LONGEST_PAUSE);
        linger.not_before = Some(now + 1000 * LONGEST_PAUSE);
        linger.came();
        assert!(!linger.pays);
        linger.since = Some(now + LONGEST_PAUSE);
        linger.not_before = Some(now);
        linger.came();
        assert!(linger.pays);
    }

    #[test]
    fn pauses_grow_while_the_processors_stay_taken() {
        let (mut linger, mut now) = (eager(), clock::real_now());
        let mut hit = |linger: &mut Linger, after| {
            now += after;
            linger.yielded(now, now + 2 * TAKEN);
            now = linger.not_before.unwrap();
            linger.pause
        };
        assert_eq!(hit(&mut linger, Duration::ZERO), PAUSE);
        for n in 1..20 {
            let pause = LONGEST_PAUSE.min(PAUSE * (1 << n));
            assert_eq!(hit(&mut linger, Duration::ZERO), pause);
        }
        // A hiccup now and then costs little.
        for _ in 0..3 {
            assert_eq!(hit(&mut linger, SOON * LONGEST_PAUSE), PAUSE);
        }
    }

    #[test]
    fn who_may_not_linger_never_does() {
        let mut linger = Linger::default();
        assert_eq!(linger.look(|| Some(1)), None);
        linger.came();
        assert!(!linger.pays);
    }
}
