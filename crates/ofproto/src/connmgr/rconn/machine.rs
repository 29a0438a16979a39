//! An OpenFlow connection without its bytes: hellos, probes, admission, and when to connect and to give up.
//!
//! The machine stands on [`Reconnect`] and does no I/O. Its owner tells it the time ([`Machine::run`], due at
//! [`Machine::poll_timeout`]), that a stream stands or broke, and each message that came ([`Machine::input`]); it asks
//! for what the machine has to say ([`Machine::poll_transmit`]) and what is to be done ([`Machine::poll_event`]), in
//! this order, for last words are sent before a connection is closed.
//!
//! A peer that merely connects may still turn the switch away. So a connection counts as *admitted* only when the
//! peer has sent something that a controller sends to a switch that it accepts, or when it has stood for half a
//! minute; the fail mode goes by that.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use ferrovs_openflow::raw::{self, Kind};
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_runtime::vlog;
use ferrovs_stream::error_text;
use ferrovs_stream::reconnect::{Action, Reconnect, State};

use super::super::hello;
use super::{RL, voice};

/// A connection that has stood for so long is taken for admitted.
const ADMITTED_AFTER: Duration = Duration::from_secs(30);

const OFPT_ECHO_REQUEST: u8 = 2;
const OFPT_ECHO_REPLY: u8 = 3;

/// What the owner must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Open a stream to the target, and say how it went.
    Connect,
    /// Drop the stream, and what waits to be sent or to be read.
    Close,
}

pub struct Machine {
    target: String,
    allowed: Versions,
    fsm: Reconnect,
    version: Option<Version>,
    /// Whether the peer of this connection has admitted the switch.
    admitted: bool,
    /// When a peer that had admitted the switch was last heard from; when none was, the beginning.
    last_admitted: Instant,
    last_error: Option<String>,
    transmit: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Machine {
    /// A connection that this side makes and keeps.
    pub fn made(name: &str, target: &str, allowed: Versions, now: Instant) -> Machine {
        let mut machine = Machine::new(name, target, allowed, now);
        machine.fsm.set_voice(&voice::Made);
        machine.fsm.enable(now);
        machine
    }

    /// A connection that a peer made and that ends when the peer goes; its stream stands.
    pub fn accepted(name: &str, target: &str, allowed: Versions, now: Instant) -> Machine {
        let mut machine = Machine::new(name, target, allowed, now);
        machine.fsm.set_voice(&voice::Accepted);
        machine.fsm.set_max_tries(Some(0));
        machine.fsm.connecting(now);
        machine.opened();
        machine
    }

    fn new(name: &str, target: &str, allowed: Versions, now: Instant) -> Machine {
        let mut fsm = Reconnect::new(now);
        fsm.set_name(name);
        fsm.set_probe_interval(None);
        fsm.set_silence_counts(true);
        Machine {
            target: target.to_string(),
            allowed,
            fsm,
            version: None,
            admitted: false,
            last_admitted: now,
            last_error: None,
            transmit: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub fn name(&self) -> &str {
        self.fsm.name()
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn state(&self) -> State {
        self.fsm.state()
    }

    pub fn is_connected(&self) -> bool {
        self.fsm.is_connected()
    }

    /// False for an accepted connection that has ended.
    pub fn is_alive(&self) -> bool {
        self.fsm.is_enabled()
    }

    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Bumped whenever the connection is made or lost.
    pub fn connection_seqno(&self) -> u64 {
        self.fsm.seqno()
    }

    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub fn last_connected(&self) -> Option<Instant> {
        self.fsm.last_connected()
    }

    pub fn last_disconnected(&self) -> Option<Instant> {
        self.fsm.last_disconnected()
    }

    /// Whether the connection is up and its peer has admitted the switch.
    pub fn is_admitted(&self) -> bool {
        self.is_connected() && self.admitted
    }

    /// How long no peer that admits the switch has been heard from; None while one is there.
    pub fn failure_duration(&self, now: Instant) -> Option<Duration> {
        (!self.is_admitted()).then(|| now.saturating_duration_since(self.last_admitted))
    }

    pub fn probe_interval(&self) -> Option<Duration> {
        self.fsm.probe_interval()
    }

    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.fsm.set_probe_interval(interval);
    }

    pub fn set_max_backoff(&mut self, max: Duration) {
        let min = self.fsm.min_backoff();
        self.fsm.set_backoff(min, max);
    }

    /// The versions to offer; a connection whose version is no longer among them starts anew.
    pub fn set_allowed(&mut self, allowed: Versions, now: Instant) {
        self.allowed = allowed;
        if self.version.is_some_and(|v| !allowed.contains(v)) {
            self.reconnect(now);
        }
    }

    /// Drops the connection and makes it anew.
    pub fn reconnect(&mut self, now: Instant) {
        if self.is_connected() {
            vlog::info!(vlog::modules::RCONN, "{}: disconnecting", self.name());
            self.close(None, now);
        }
    }

    /// Does what is due. While it is told to connect, the owner says how that went before the next turn.
    pub fn run(&mut self, now: Instant) {
        match self.fsm.run(now) {
            None => {}
            Some(Action::Connect) => {
                self.fsm.connecting(now);
                self.events.push_back(Event::Connect);
            }
            Some(Action::Probe) => {
                let version = self.version.map_or(1, Version::wire);
                self.transmit
                    .push_back(vec![version, OFPT_ECHO_REQUEST, 0, 8, 0, 0, 0, 0]);
            }
            Some(Action::Disconnect) => {
                self.last_error = Some(error_text(&io::Error::from_raw_os_error(110)));
                self.close(None, now);
            }
        }
    }

    /// When [`Machine::run`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.fsm.deadline()
    }

    /// The next message that the machine itself has to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The stream stands: time to say hello.
    pub fn opened(&mut self) {
        let hello = hello::encode(self.allowed, hello::next_xid());
        self.transmit.push_back(hello);
    }

    /// The stream could not be opened, or broke.
    pub fn broken(&mut self, e: &io::Error, now: Instant) {
        self.last_error = Some(error_text(e));
        self.close(Some(e), now);
    }

    /// The connection is given up for a reason that the log knows already.
    pub fn abandon(&mut self, reason: &io::Error, now: Instant) {
        self.last_error = Some(error_text(reason));
        self.close(None, now);
    }

    fn close(&mut self, error: Option<&io::Error>, now: Instant) {
        self.fsm.disconnected(now, error);
        self.version = None;
        self.events.push_back(Event::Close);
    }

    /// Takes a whole message that came; returns whether it is one for the owner.
    pub fn input(&mut self, msg: &[u8], now: Instant) -> bool {
        let Some(version) = self.version.filter(|_| self.is_connected()) else {
            if self.state() == State::Connecting {
                self.negotiate(msg, now);
            }
            return false;
        };
        self.fsm.activity(now);
        let ours = version.wire();
        // Hellos, errors and echoes are taken in any version.
        if msg[0] != ours && msg[1] > OFPT_ECHO_REPLY {
            vlog::err_rl!(
                RL,
                vlog::modules::VCONN,
                "{}: received OpenFlow version 0x{:02x} != expected {:02x}",
                self.target,
                msg[0],
                ours
            );
            self.transmit.push_back(crate::codec::bad_version(msg));
            return false;
        }
        self.note_admission(msg, now);
        true
    }

    fn negotiate(&mut self, msg: &[u8], now: Instant) {
        let Some(hello) = hello::decode(msg) else {
            vlog::warn_rl!(
                RL,
                vlog::modules::VCONN,
                "{}: received message while expecting hello: {}",
                self.target,
                crate::codec::title(msg)
            );
            return self.broken(&ferrovs_stream::protocol_error(), now);
        };
        if !hello.understood {
            vlog::warn_rl!(
                RL,
                vlog::modules::VCONN,
                "{}: unknown data in hello:",
                self.target
            );
        }
        let peer = hello.versions;
        let Some(version) = peer.intersect(self.allowed).newest() else {
            return self.refuse(peer, now);
        };
        vlog::dbg!(
            vlog::modules::VCONN,
            "{}: negotiated OpenFlow version 0x{:02x} (we support {}, peer supports {})",
            self.target,
            version.wire(),
            hello::versions_text(self.allowed),
            hello::versions_text(peer)
        );
        self.version = Some(version);
        self.admitted = false;
        self.fsm.activity(now);
        self.fsm.connected(now);
    }

    /// There is no version in common with the peer.
    fn refuse(&mut self, peer: Versions, now: Instant) {
        let ours = hello::versions_text(self.allowed);
        let theirs = hello::versions_text(peer);
        vlog::warn_rl!(
            RL,
            vlog::modules::VCONN,
            "{}: version negotiation failed (we support {ours}, peer supports {theirs})",
            self.target
        );
        let text = format!("We support {ours}, you support {theirs}, no common versions.");
        self.transmit.push_back(hello::failed(peer, &text));
        self.broken(&ferrovs_stream::protocol_error(), now);
    }

    fn note_admission(&mut self, msg: &[u8], now: Instant) {
        let stood = self
            .last_connected()
            .map(|at| now.saturating_duration_since(at));
        self.admitted = self.admitted
            || stood.is_some_and(|stood| stood >= ADMITTED_AFTER)
            || raw::parse(msg).is_ok_and(|parsed| admits(parsed.raw.kind));
        if self.admitted {
            self.last_admitted = now;
        }
    }
}

/// Whether a message only answers a probe: it has done its work by coming.
pub fn is_echo_reply(msg: &[u8]) -> bool {
    msg[1] == OFPT_ECHO_REPLY
}

/// Whether a controller sends such a message only to a switch that it accepts. What it may send to learn who
/// the switch is, and what never comes to a switch at all, says nothing.
fn admits(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Hello
            | Kind::Error
            | Kind::EchoRequest
            | Kind::EchoReply
            | Kind::FeaturesRequest
            | Kind::FeaturesReply
            | Kind::GetConfigRequest
            | Kind::GetConfigReply
            | Kind::SetConfig
            | Kind::QueueGetConfigRequest
            | Kind::QueueGetConfigReply
            | Kind::GetAsyncRequest
            | Kind::GetAsyncReply
            | Kind::GroupStatsRequest
            | Kind::GroupStatsReply
            | Kind::GroupDescRequest
            | Kind::GroupDescReply
            | Kind::GroupFeaturesRequest
            | Kind::GroupFeaturesReply
            | Kind::TableFeaturesRequest
            | Kind::TableFeaturesReply
            | Kind::TableDescRequest
            | Kind::TableDescReply
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_runtime::clock;

    const HELLO: [u8; 8] = [4, 0, 0, 8, 0, 0, 0, 1];
    const ECHO: [u8; 8] = [4, OFPT_ECHO_REPLY, 0, 8, 0, 0, 0, 0];
    const BARRIER: [u8; 8] = [4, 20, 0, 8, 0, 0, 0, 9];

    /// A connection that is made and has come to the hello; the time.
    fn connected() -> (Machine, Instant) {
        let now = clock::now();
        let mut machine = Machine::made("br<->tcp:a", "tcp:a", Versions::ALL, now);
        machine.set_probe_interval(Some(Duration::from_secs(5)));
        machine.run(now);
        assert_eq!(machine.poll_event(), Some(Event::Connect));
        machine.opened();
        assert_eq!(machine.poll_transmit().map(|m| m[1]), Some(0));
        assert!(!machine.input(&HELLO, now) && machine.is_connected());
        assert_eq!(machine.version(), Some(Version::V13));
        (machine, now)
    }

    #[test]
    fn a_silent_peer_is_probed_and_given_up() {
        let (mut machine, mut now) = connected();
        for _ in 0..3 {
            now = machine.poll_timeout().unwrap();
            machine.run(now);
            assert_eq!(machine.state(), State::Idle);
            assert_eq!(
                machine.poll_transmit().map(|m| m[..2].to_vec()),
                Some(vec![4, 2])
            );
            assert!(machine.input(&ECHO, now) && is_echo_reply(&ECHO));
            assert_eq!(machine.state(), State::Active);
        }
        for wait in [5, 5] {
            assert_eq!(
                machine.poll_timeout(),
                Some(now + Duration::from_secs(wait))
            );
            now += Duration::from_secs(wait);
            machine.run(now);
        }
        assert_eq!(machine.poll_event(), Some(Event::Close));
        assert_eq!(machine.last_error(), Some("Connection timed out"));
        // It stood for longer than the wait before it: the waits start over.
        assert_eq!(machine.poll_timeout(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_controller_admits_the_switch_by_a_command_or_by_staying() {
        let (mut machine, start) = connected();
        let at = |s| start + Duration::from_secs(s);
        machine.input(&ECHO, at(10));
        assert_eq!(
            machine.failure_duration(at(10)),
            Some(Duration::from_secs(10))
        );
        machine.input(&ECHO, at(30));
        assert!(machine.is_admitted());
        machine.reconnect(at(31));
        assert_eq!(machine.poll_event(), Some(Event::Close));
        assert_eq!(
            machine.failure_duration(at(32)),
            Some(Duration::from_secs(2))
        );
        let (mut machine, now) = connected();
        assert!(machine.input(&BARRIER, now) && machine.is_admitted());
    }

    #[test]
    fn an_accepted_connection_ends_once() {
        let now = clock::now();
        let mut machine = Machine::accepted("br<->unix", "unix", Versions::ALL, now);
        assert!(machine.is_alive() && machine.poll_transmit().is_some());
        machine.broken(&ferrovs_stream::eof_error(), now);
        assert_eq!(machine.poll_event(), Some(Event::Close));
        assert!(!machine.is_alive());
        assert_eq!((machine.poll_timeout(), machine.poll_event()), (None, None));
    }

    #[test]
    fn failures_make_the_waits_longer() {
        let mut now = clock::now();
        let mut machine = Machine::made("br<->tcp:a", "tcp:a", Versions::ALL, now);
        let refused = io::Error::from_raw_os_error(111);
        for secs in [0, 1, 2, 4, 8, 8] {
            let at = machine.poll_timeout().unwrap();
            assert_eq!(at, now + Duration::from_secs(secs));
            now = at;
            machine.run(now);
            assert_eq!(machine.poll_event(), Some(Event::Connect));
            machine.broken(&refused, now);
            assert_eq!(machine.poll_event(), Some(Event::Close));
        }
    }

    #[test]
    fn a_message_of_another_version_is_answered_by_the_machine() {
        let (mut machine, now) = connected();
        assert!(!machine.input(&[6, 20, 0, 8, 0, 0, 0, 9], now));
        let error = machine.poll_transmit().unwrap();
        assert_eq!((error[1], error[7]), (1, 9));
    }
}
