//! When to connect, to probe and to give up: a pure machine, told the time and what happened.
//!
//! ```text
//!            enable            Connect            connected
//!   VOID ------------> BACKOFF -------> CONNECTING ---------> ACTIVE <--+
//!                         ^                |                    | idle   | activity
//!                         |   disconnected |                    v        |
//!                         +----------------+<---- RECONNECT    IDLE -----+
//!                         +<--------------------------------------+ no answer to the probe
//! ```
//!
//! The owner calls [`Reconnect::run`] and does what the [`Action`] says, tells the machine about
//! the outcome, and sleeps until [`Reconnect::deadline`]. Backoff starts at one second and doubles
//! to eight; a connection that outlived its backoff starts over. While the wait is at its longest
//! the log goes quiet. Passive names ("ptcp:") go through LISTENING instead of CONNECTING. What is said in the log
//! is up to a [`Voice`].

mod voice;

use ferrovs_runtime::vlog::Level;
use std::io;
use std::time::{Duration, Instant};

pub use voice::{News, Voice};

static LOUD: voice::Session = voice::Session(Level::Info);
static QUIET: voice::Session = voice::Session(Level::Dbg);

/// What the owner must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start to connect (or to listen), and say how it went.
    Connect,
    /// Close the connection, and call [`Reconnect::disconnected`].
    Disconnect,
    /// Send something that the peer answers.
    Probe,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Void,
    Backoff,
    Connecting,
    Active,
    Idle,
    Reconnect,
    Listening,
}

impl State {
    /// As status columns and the log name it.
    pub fn name(self) -> &'static str {
        match self {
            State::Void => "VOID",
            State::Backoff => "BACKOFF",
            State::Connecting => "CONNECTING",
            State::Active => "ACTIVE",
            State::Idle => "IDLE",
            State::Reconnect => "RECONNECT",
            State::Listening => "LISTENING",
        }
    }
}

/// Counters and times for status columns and `show` commands.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub attempted_connections: u64,
    pub successful_connections: u64,
    pub created: Option<Instant>,
    pub last_connected: Option<Instant>,
    pub last_disconnected: Option<Instant>,
    pub last_activity: Option<Instant>,
    /// Bumped by every connection and disconnection.
    pub seqno: u64,
    pub is_connected: bool,
    pub connected_duration: Duration,
    pub backoff: Duration,
    pub state: &'static str,
    pub state_elapsed: Duration,
}

/// The machine. All times are given by the caller.
pub struct Reconnect {
    name: String,
    min_backoff: Duration,
    max_backoff: Duration,
    probe_interval: Option<Duration>,
    passive: bool,
    voice: &'static dyn Voice,
    silence_counts: bool,
    state: State,
    entered: Instant,
    backoff: Duration,
    created: Instant,
    last_activity: Instant,
    last_connected: Option<Instant>,
    last_disconnected: Option<Instant>,
    /// When the owner last tried to receive; `None` if it never says so.
    receive_attempt: Option<Instant>,
    max_tries: Option<u32>,
    backoff_free_tries: u32,
    attempted: u64,
    successful: u64,
    connected_duration: Duration,
    seqno: u64,
}

pub const MIN_BACKOFF: Duration = Duration::from_secs(1);
pub const MAX_BACKOFF: Duration = Duration::from_secs(8);
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

impl Reconnect {
    /// A machine at rest: call [`Reconnect::enable`].
    pub fn new(now: Instant) -> Reconnect {
        Reconnect {
            name: "void".into(),
            min_backoff: MIN_BACKOFF,
            max_backoff: MAX_BACKOFF,
            probe_interval: Some(PROBE_INTERVAL),
            passive: false,
            voice: &LOUD,
            silence_counts: false,
            state: State::Void,
            entered: now,
            backoff: Duration::ZERO,
            created: now,
            last_activity: now,
            last_connected: None,
            last_disconnected: None,
            receive_attempt: None,
            max_tries: None,
            backoff_free_tries: 0,
            attempted: 0,
            successful: 0,
            connected_duration: Duration::ZERO,
            seqno: 0,
        }
    }

    /// Says its progress at DBG instead of INFO.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.voice = if quiet { &QUIET } else { &LOUD };
    }

    /// Speaks in the log with another voice than that of JSON-RPC sessions.
    pub fn set_voice(&mut self, voice: &'static dyn Voice) {
        self.voice = voice;
    }

    /// Whether a connection outlives its backoff by standing for as long, even if nothing came meanwhile.
    pub fn set_silence_counts(&mut self, counts: bool) {
        self.silence_counts = counts;
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that log lines begin with.
    pub fn set_name(&mut self, name: &str) {
        self.name = name.into();
    }

    pub fn set_passive(&mut self, passive: bool, now: Instant) {
        if self.passive != passive {
            self.passive = passive;
            let wrong = if passive {
                State::Connecting
            } else {
                State::Listening
            };
            if self.state == wrong
                || (passive && self.state == State::Reconnect && self.last_connected.is_none())
            {
                self.transition(now, State::Backoff);
                self.backoff = Duration::ZERO;
            }
        }
    }

    pub fn is_passive(&self) -> bool {
        self.passive
    }

    pub fn min_backoff(&self) -> Duration {
        self.min_backoff
    }

    pub fn max_backoff(&self) -> Duration {
        self.max_backoff
    }

    pub fn set_backoff(&mut self, min: Duration, max: Duration) {
        self.min_backoff = min.max(Duration::from_millis(1));
        self.max_backoff = max.max(self.min_backoff);
        if self.state == State::Backoff && self.backoff > self.max_backoff {
            self.backoff = self.max_backoff;
        }
    }

    pub fn probe_interval(&self) -> Option<Duration> {
        self.probe_interval
    }

    /// `None` turns probing off. Less than a second counts as a second.
    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.probe_interval = interval
            .filter(|i| !i.is_zero())
            .map(|i| i.max(Duration::from_secs(1)));
    }

    /// The next connection attempts, this many, do not wait.
    pub fn set_backoff_free_tries(&mut self, tries: u32) {
        self.backoff_free_tries = tries;
    }

    /// Connect at most this often, then rest; `None` is without limit.
    pub fn set_max_tries(&mut self, tries: Option<u32>) {
        self.max_tries = tries;
    }

    pub fn max_tries(&self) -> Option<u32> {
        self.max_tries
    }

    pub fn is_enabled(&self) -> bool {
        self.state != State::Void
    }

    /// Begins to connect, at once.
    pub fn enable(&mut self, now: Instant) {
        if self.state == State::Void && self.may_reconnect() {
            self.transition(now, State::Backoff);
            self.backoff = Duration::ZERO;
        }
    }

    /// Stops all activity; the owner closes its connection.
    pub fn disable(&mut self, now: Instant) {
        if self.state != State::Void {
            self.transition(now, State::Void);
        }
    }

    /// Drops the connection, if any, and connects anew.
    pub fn force_reconnect(&mut self, now: Instant) {
        if matches!(
            self.state,
            State::Connecting | State::Active | State::Idle | State::Listening
        ) {
            self.transition(now, State::Reconnect);
        }
    }

    /// Forgets the wait that earlier failures earned.
    pub fn skip_backoff(&mut self) {
        if self.state == State::Backoff {
            self.backoff = Duration::ZERO;
        }
    }

    /// The connection attempt has begun.
    pub fn connecting(&mut self, now: Instant) {
        if self.state != State::Connecting {
            let passive = self.passive;
            if passive || self.backoff < self.max_backoff {
                self.tell(&News::Connecting { passive });
            }
            self.transition(now, State::Connecting);
        }
    }

    /// Listening has begun; an accepted peer is told by [`Reconnect::connected`].
    pub fn listening(&mut self, now: Instant) {
        if self.state != State::Listening {
            self.tell(&News::Listening);
            self.transition(now, State::Listening);
        }
    }

    /// Listening failed.
    pub fn listen_error(&mut self, now: Instant, error: Option<&io::Error>) {
        if self.state == State::Listening {
            self.disconnected(now, error);
        }
    }

    /// The connection stands.
    pub fn connected(&mut self, now: Instant) {
        if !self.is_connected() {
            self.connecting(now);
            self.tell(&News::Connected);
            self.transition(now, State::Active);
            self.last_connected = Some(now);
        }
    }

    /// The connection attempt failed; `None` is a timeout.
    pub fn connect_failed(&mut self, now: Instant, error: Option<&io::Error>) {
        self.connecting(now);
        self.disconnected(now, error);
    }

    /// The connection, or the attempt, is over. `None`: closed on purpose, or timed out.
    pub fn disconnected(&mut self, now: Instant, error: Option<&io::Error>) {
        if matches!(self.state, State::Backoff | State::Void) {
            return;
        }
        self.tell_disconnect(error);
        if self.is_connected() {
            self.last_disconnected = Some(now);
        }
        if !self.may_reconnect() {
            self.transition(now, State::Void);
            return;
        }
        let outlived = match (self.is_connected(), self.last_connected) {
            (true, Some(at)) => {
                let last = if self.silence_counts {
                    now
                } else {
                    self.last_activity
                };
                self.passive || last.saturating_duration_since(at) >= self.backoff
            }
            _ => false,
        };
        if self.backoff_free_tries > 1 {
            self.backoff_free_tries -= 1;
            self.backoff = Duration::ZERO;
        } else if outlived {
            self.backoff = if self.passive {
                Duration::ZERO
            } else {
                self.min_backoff
            };
        } else if self.backoff < self.max_backoff / 2 || self.backoff < self.min_backoff {
            let first = self.backoff < self.min_backoff;
            self.backoff = if first {
                self.min_backoff
            } else {
                self.backoff * 2
            };
            let (wait, passive) = (self.backoff, self.passive);
            self.tell(&News::Waiting {
                wait,
                passive,
                first,
            });
        } else {
            if self.backoff < self.max_backoff {
                self.tell(&News::Hushing {
                    passive: self.passive,
                });
            }
            self.backoff = self.max_backoff;
        }
        self.transition(now, State::Backoff);
    }

    fn tell_disconnect(&self, error: Option<&io::Error>) {
        self.tell(&match self.state {
            State::Active | State::Idle => News::Dropped(error),
            State::Listening => News::ListenFailed(error),
            _ => News::AttemptFailed {
                error,
                passive: self.passive,
                hushed: self.backoff >= self.max_backoff,
            },
        });
    }

    fn tell(&self, news: &News<'_>) {
        self.voice.tell(&self.name, news);
    }

    /// Something came from the peer.
    pub fn activity(&mut self, now: Instant) {
        if self.state == State::Idle {
            self.transition(now, State::Active);
        }
        self.last_activity = now;
    }

    /// The owner tried to receive. Owners that say so are not called dead for being slow.
    pub fn receive_attempted(&mut self, now: Instant) {
        self.receive_attempt = Some(now);
    }

    /// What to do now, if anything.
    pub fn run(&mut self, now: Instant) -> Option<Action> {
        if now < self.deadline()? {
            return None;
        }
        match self.state {
            State::Backoff => Some(Action::Connect),
            State::Connecting | State::Reconnect => Some(Action::Disconnect),
            State::Active => {
                let idle = now.saturating_duration_since(self.last_activity.max(self.entered));
                self.tell(&News::Probing { idle });
                self.transition(now, State::Idle);
                Some(Action::Probe)
            }
            State::Idle => {
                let waited = now.saturating_duration_since(self.entered);
                self.tell(&News::NoAnswer { waited });
                Some(Action::Disconnect)
            }
            State::Void | State::Listening => None,
        }
    }

    /// When [`Reconnect::run`] will have something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Void | State::Listening => None,
            State::Backoff => Some(self.entered + self.backoff),
            State::Connecting => Some(self.entered + self.backoff.max(Duration::from_secs(1))),
            State::Active => self
                .probe_interval
                .map(|i| self.not_before_receive(self.last_activity.max(self.entered) + i)),
            State::Idle => self
                .probe_interval
                .map(|i| self.not_before_receive(self.entered + i)),
            State::Reconnect => Some(self.entered),
        }
    }

    /// A deadline about silence counts only once the owner has listened after it: if it was busy
    /// elsewhere, it gets a second to do so.
    fn not_before_receive(&self, deadline: Instant) -> Instant {
        match self.receive_attempt {
            Some(at) if at < deadline => deadline.max(at + Duration::from_secs(1)),
            _ => deadline,
        }
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Active | State::Idle)
    }

    /// Bumped by every connection and disconnection.
    pub fn seqno(&self) -> u64 {
        self.seqno
    }

    pub fn last_connected(&self) -> Option<Instant> {
        self.last_connected
    }

    pub fn last_disconnected(&self) -> Option<Instant> {
        self.last_disconnected
    }

    pub fn stats(&self, now: Instant) -> Stats {
        let current = match (self.is_connected(), self.last_connected) {
            (true, Some(at)) => now.saturating_duration_since(at),
            _ => Duration::ZERO,
        };
        Stats {
            attempted_connections: self.attempted,
            successful_connections: self.successful,
            created: Some(self.created),
            last_connected: self.last_connected,
            last_disconnected: self.last_disconnected,
            last_activity: Some(self.last_activity),
            seqno: self.seqno,
            is_connected: self.is_connected(),
            connected_duration: self.connected_duration + current,
            backoff: self.backoff,
            state: self.state.name(),
            state_elapsed: now.saturating_duration_since(self.entered),
        }
    }

    fn may_reconnect(&mut self) -> bool {
        match &mut self.max_tries {
            None => true,
            Some(0) => false,
            Some(n) => {
                *n -= 1;
                true
            }
        }
    }

    fn transition(&mut self, now: Instant, to: State) {
        if to == State::Connecting {
            self.attempted += 1;
        }
        if to == State::Active && self.state == State::Connecting {
            self.successful += 1;
        }
        let connected = matches!(to, State::Active | State::Idle);
        if self.is_connected() != connected {
            if let (false, Some(at)) = (connected, self.last_connected) {
                self.connected_duration += now.saturating_duration_since(at);
            }
            self.seqno += 1;
        }
        self.tell(&News::Entering(to.name()));
        self.state = to;
        self.entered = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Error {
        io::Error::from_raw_os_error(111)
    }

    #[test]
    fn backoff_doubles_from_one_second_to_eight() {
        let mut now = ferrovs_runtime::clock::now();
        let mut fsm = Reconnect::new(now);
        fsm.enable(now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let at = fsm.deadline().unwrap();
            waits.push(at.saturating_duration_since(now).as_secs());
            now = at;
            assert_eq!(fsm.run(now), Some(Action::Connect));
            fsm.connecting(now);
            fsm.connect_failed(now, Some(&refused()));
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 8]);
    }

    #[test]
    fn a_silent_peer_is_probed_and_then_dropped() {
        let mut now = ferrovs_runtime::clock::now();
        let mut fsm = Reconnect::new(now);
        fsm.enable(now);
        fsm.connecting(now);
        fsm.connected(now);
        assert_eq!(fsm.run(now), None);
        now += PROBE_INTERVAL;
        assert_eq!(fsm.run(now), Some(Action::Probe));
        fsm.activity(now);
        now += PROBE_INTERVAL;
        assert_eq!(fsm.run(now), Some(Action::Probe));
        now += PROBE_INTERVAL;
        assert_eq!(fsm.run(now), Some(Action::Disconnect));
        fsm.disconnected(now, None);
        assert!(!fsm.is_connected());
        // It lived longer than its backoff, so the wait starts over.
        assert_eq!(fsm.deadline(), Some(now + MIN_BACKOFF));
    }

    #[test]
    fn tries_run_out() {
        let now = ferrovs_runtime::clock::now();
        let mut fsm = Reconnect::new(now);
        fsm.set_max_tries(Some(1));
        fsm.enable(now);
        fsm.connect_failed(now, Some(&refused()));
        assert!(!fsm.is_enabled());
    }

    #[test]
    fn a_listener_that_fails_never_connects() {
        let now = ferrovs_runtime::clock::now();
        let mut fsm = Reconnect::new(now);
        fsm.set_passive(true, now);
        fsm.enable(now);
        assert_eq!(fsm.run(now), Some(Action::Connect));
        fsm.connect_failed(now, Some(&refused()));
        assert_eq!(fsm.deadline(), Some(now + MIN_BACKOFF));
        assert_eq!(fsm.stats(now).state, "BACKOFF");
    }
}
