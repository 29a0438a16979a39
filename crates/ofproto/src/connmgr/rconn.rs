//! A reliable OpenFlow connection: bytes in and out of one stream, cut into messages, with version negotiation,
//! inactivity probes and, for a connection that this switch makes, reconnection with backoff.
//!
//! States: `Void` (closed on purpose), `Backoff` (waiting before the next attempt), `Connecting` (the stream
//! connects, then both sides say hello), `Active`, `Idle` (a probe is out and must be answered) and
//! `Disconnected` (an accepted connection ended: it never comes back).
//!
//! A peer that merely connects may still turn the switch away. So a connection counts as *admitted* only when the
//! peer has sent something that a controller sends to a switch that it accepts, or when it has stood for half a
//! minute; the fail mode goes by that.
//!
//! Invariants: what waits to be received is bounded by one maximal message plus one read; the owner bounds the
//! answers that wait to be sent by asking [`Rconn::tx_backlog`] before it makes more; what nobody asked for and the
//! peer does not read ends the connection at [`TX_LIMIT`]; an unfinished message is never handed up.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use ferrovs_openflow::raw::{self, Kind};
use ferrovs_openflow::text;
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_runtime::{Poller, coverage, vlog};
use ferrovs_stream::{Stream, error_text};

use super::hello;

/// Size of an OpenFlow header, the smallest message.
pub const HEADER_LEN: usize = 8;
const READ_SIZE: usize = 64 * 1024;
/// Copies for snoopers are dropped when one of them has this much waiting.
const SNOOP_BACKLOG: usize = 256 * 1024;

/// A connection ends when what waits to be sent takes up so much memory. This is a million small notices: more
/// than a peer has to catch up with that reads at all.
const TX_LIMIT: usize = 128 * 1024 * 1024;
/// What a waiting message takes up besides its bytes: its place in the queue, and the allocator's own.
const TX_OVERHEAD: usize = std::mem::size_of::<Waiting>() + 16;

/// A connection that has stood for so long is taken for admitted.
const ADMITTED_AFTER: Duration = Duration::from_secs(30);

const OFPT_ECHO_REQUEST: u8 = 2;
const OFPT_ECHO_REPLY: u8 = 3;

static RL: vlog::RateLimit = vlog::RateLimit::new(10, 25);
/// For the log of whole messages.
static MESSAGES_RL: vlog::RateLimit = vlog::RateLimit::new(600, 600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Void,
    Backoff,
    Connecting,
    Active,
    Idle,
    Disconnected,
}

impl State {
    /// The name in column `status` of a controller.
    pub fn name(self) -> &'static str {
        match self {
            State::Void => "VOID",
            State::Backoff => "BACKOFF",
            State::Connecting => "CONNECTING",
            State::Active => "ACTIVE",
            State::Idle => "IDLE",
            State::Disconnected => "DISCONNECTED",
        }
    }
}

pub struct Rconn {
    name: String,
    target: String,
    reliable: bool,
    dscp: u8,
    allowed: Versions,
    state: State,
    entered: Instant,
    stream: Option<Stream>,
    stream_connected: bool,
    version: Option<Version>,
    hello_sent: bool,
    backoff: Duration,
    max_backoff: Duration,
    backoff_until: Option<Instant>,
    probe_interval: Option<Duration>,
    last_activity: Instant,
    last_connected: Option<Instant>,
    last_disconnected: Option<Instant>,
    /// Whether the peer of this connection has admitted the switch.
    admitted: bool,
    /// When a peer that had admitted the switch was last heard from; when none was, the beginning.
    last_admitted: Instant,
    last_error: Option<String>,
    connection_seqno: u64,
    /// Received bytes are those from `rx_at` to `rx_end`; the rest is room.
    rx: Vec<u8>,
    rx_at: usize,
    /// Whether a read may find something. One that found less than it had room for took all there was; what came since
    /// ends the next sleep at once.
    rx_more: bool,
    rx_end: usize,
    tx: VecDeque<Waiting>,
    /// Packet-ins among them.
    tx_packet_ins: usize,
    tx_at: usize,
    tx_bytes: usize,
    tx_memory: usize,
    tx_limit: usize,
    snoopers: Vec<Rconn>,
}

/// A message that waits to be sent.
struct Waiting {
    bytes: Vec<u8>,
    packet_in: bool,
}

impl Rconn {
    /// A connection that is made and kept by this side.
    pub fn active(bridge: &str, target: &str, dscp: u8, allowed: Versions, now: Instant) -> Rconn {
        let mut rc = Rconn::blank(format!("{bridge}<->{target}"), target, allowed, now);
        rc.reliable = true;
        rc.dscp = dscp;
        rc.state = State::Backoff;
        rc.backoff_until = Some(now);
        rc
    }

    /// A connection that a peer made; it ends when the peer goes.
    pub fn accepted(bridge: &str, stream: Stream, allowed: Versions, now: Instant) -> Rconn {
        let target = stream.name().to_string();
        let mut rc = Rconn::blank(format!("{bridge}<->{target}"), &target, allowed, now);
        rc.stream = Some(stream);
        rc.stream_connected = true;
        rc.state = State::Connecting;
        rc
    }

    fn blank(name: String, target: &str, allowed: Versions, now: Instant) -> Rconn {
        Rconn {
            name,
            target: target.to_string(),
            reliable: false,
            dscp: ferrovs_stream::DSCP_DEFAULT,
            allowed,
            state: State::Void,
            entered: now,
            stream: None,
            stream_connected: false,
            version: None,
            hello_sent: false,
            backoff: Duration::ZERO,
            max_backoff: Duration::from_secs(8),
            backoff_until: None,
            probe_interval: None,
            last_activity: now,
            last_connected: None,
            last_disconnected: None,
            admitted: false,
            last_admitted: now,
            last_error: None,
            connection_seqno: 0,
            rx: Vec::new(),
            rx_at: 0,
            rx_more: true,
            rx_end: 0,
            tx: VecDeque::new(),
            tx_packet_ins: 0,
            tx_at: 0,
            tx_bytes: 0,
            tx_memory: 0,
            tx_limit: TX_LIMIT,
            snoopers: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Active | State::Idle)
    }

    /// False for an accepted connection that has ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, State::Void | State::Disconnected)
    }

    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Bumped whenever the connection is made or lost.
    pub fn connection_seqno(&self) -> u64 {
        self.connection_seqno
    }

    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub fn last_connected(&self) -> Option<Instant> {
        self.last_connected
    }

    pub fn last_disconnected(&self) -> Option<Instant> {
        self.last_disconnected
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
        self.probe_interval
    }

    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.probe_interval = interval.map(|i| i.max(Duration::from_secs(5).min(i)));
    }

    pub fn set_max_backoff(&mut self, max: Duration) {
        self.max_backoff = max.max(Duration::from_secs(1));
        self.backoff = self.backoff.min(self.max_backoff);
    }

    pub fn set_dscp(&mut self, dscp: u8) {
        self.dscp = dscp;
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
        if matches!(self.state, State::Active | State::Idle) {
            vlog::info!(vlog::modules::RCONN, "{}: disconnecting", self.name);
            self.disconnect(None, now);
        }
    }

    /// Messages of the connection are copied to `snooper` from now on.
    pub fn add_snooper(&mut self, snooper: Rconn) {
        self.snoopers.push(snooper);
    }

    /// Bytes that wait to be sent.
    pub fn tx_backlog(&self) -> usize {
        self.tx_bytes
    }

    pub fn run(&mut self, now: Instant) {
        self.rx_more = true;
        self.snoopers.retain_mut(|s| {
            s.run(now);
            while s.recv(now).is_some() {}
            s.is_alive()
        });
        match self.state {
            State::Void | State::Disconnected => {}
            State::Backoff => {
                if self.backoff_until.is_none_or(|at| now >= at) {
                    self.connect(now);
                }
            }
            State::Connecting => self.run_connecting(now),
            State::Active | State::Idle => {
                self.flush(now);
                self.run_probe(now);
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        if self.logs_attempts() {
            vlog::info!(vlog::modules::RCONN, "{}: connecting...", self.name);
        }
        self.enter(State::Connecting, now);
        coverage::VCONN_OPEN.inc();
        match Stream::open_with(
            &self.target,
            Some(ferrovs_stream::OPENFLOW_PORT),
            Some(self.dscp),
        ) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.stream_connected = false;
                self.run_connecting(now);
            }
            Err(e) => self.connect_failed(&e, now),
        }
    }

    fn connect_failed(&mut self, e: &io::Error, now: Instant) {
        if !self.reliable {
            return self.dropped(e, now);
        }
        vlog::warn!(
            vlog::modules::RCONN,
            "{}: connection failed ({})",
            self.name,
            error_text(e)
        );
        self.disconnect(Some(e), now);
    }

    fn run_connecting(&mut self, now: Instant) {
        if !self.stream_connected {
            let Some(stream) = &mut self.stream else {
                return;
            };
            match stream.connect() {
                Ok(()) => self.stream_connected = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.check_connect_timeout(now);
                    return;
                }
                Err(e) => return self.connect_failed(&e, now),
            }
        }
        if !self.hello_sent {
            self.hello_sent = true;
            self.queue(hello::encode(self.allowed, hello::next_xid()), false);
        }
        self.flush(now);
        if self.state != State::Connecting {
            return;
        }
        if let Err(e) = self.fill() {
            return self.connect_failed(&e, now);
        }
        match self.next_frame() {
            Ok(None) => self.check_connect_timeout(now),
            Ok(Some(msg)) => self.negotiate(&msg, now),
            Err(e) => self.connect_failed(&e, now),
        }
    }

    fn check_connect_timeout(&mut self, now: Instant) {
        if now >= self.entered + self.connect_timeout() {
            if !self.reliable || self.logs_attempts() {
                vlog::info!(vlog::modules::RCONN, "{}: connection timed out", self.name);
            }
            let timeout = io::Error::from_raw_os_error(110);
            self.disconnect(Some(&timeout), now);
        }
    }

    /// How long an attempt to connect, or the wait for the peer's hello, may last.
    fn connect_timeout(&self) -> Duration {
        self.backoff.max(Duration::from_secs(1))
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
            return self.connect_failed(&ferrovs_stream::protocol_error(), now);
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
            let ours = hello::versions_text(self.allowed);
            let theirs = hello::versions_text(peer);
            let text = format!("We support {ours}, you support {theirs}, no common versions.");
            vlog::warn_rl!(
                RL,
                vlog::modules::VCONN,
                "{}: version negotiation failed (we support {ours}, peer supports {theirs})",
                self.target
            );
            // The connection ends whether or not the peer can still be told why.
            let bytes = hello::failed(peer, &text);
            let _ = self.stream.as_mut().map(|s| s.send(&bytes));
            return self.connect_failed(&ferrovs_stream::protocol_error(), now);
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
        if self.reliable {
            vlog::info!(vlog::modules::RCONN, "{}: connected", self.name);
        }
        self.last_connected = Some(now);
        self.last_activity = now;
        self.admitted = false;
        self.connection_seqno += 1;
        self.enter(State::Active, now);
    }

    fn run_probe(&mut self, now: Instant) {
        let Some(interval) = self.probe_interval else {
            return;
        };
        match self.state {
            State::Active => {
                let base = self.last_activity.max(self.entered);
                if now >= base + interval {
                    vlog::dbg!(
                        vlog::modules::RCONN,
                        "{}: idle {} seconds, sending inactivity probe",
                        self.name,
                        now.saturating_duration_since(base).as_secs()
                    );
                    self.enter(State::Idle, now);
                    let version = self.version.map_or(1, |v| v.wire());
                    self.send(vec![version, OFPT_ECHO_REQUEST, 0, 8, 0, 0, 0, 0], now);
                }
            }
            State::Idle if now >= self.entered + interval => {
                vlog::err!(
                    vlog::modules::RCONN,
                    "{}: no response to inactivity probe after {} seconds, disconnecting",
                    self.name,
                    now.saturating_duration_since(self.entered).as_secs()
                );
                let timeout = io::Error::from_raw_os_error(110);
                self.disconnect(Some(&timeout), now);
            }
            _ => {}
        }
    }

    /// The next whole message, if one has come.
    pub fn recv(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.is_connected() {
            return None;
        }
        loop {
            match self.next_frame() {
                Ok(Some(msg)) => {
                    self.last_activity = now;
                    if self.state == State::Idle {
                        self.enter(State::Active, now);
                    }
                    let ours = self.version.map_or(0, |v| v.wire());
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
                        self.send(crate::codec::bad_version(&msg), now);
                        continue;
                    }
                    self.note_admission(&msg, now);
                    self.copy_to_snoopers(&msg, now);
                    if msg[1] == OFPT_ECHO_REPLY {
                        continue;
                    }
                    return Some(msg);
                }
                Ok(None) => match self.fill() {
                    Ok(0) => return None,
                    Ok(_) => continue,
                    Err(e) => {
                        self.dropped(&e, now);
                        return None;
                    }
                },
                Err(e) => {
                    self.dropped(&e, now);
                    return None;
                }
            }
        }
    }

    fn note_admission(&mut self, msg: &[u8], now: Instant) {
        let stood = self
            .last_connected
            .map(|at| now.saturating_duration_since(at));
        self.admitted = self.admitted
            || stood.is_some_and(|stood| stood >= ADMITTED_AFTER)
            || raw::parse(msg).is_ok_and(|parsed| admits(parsed.raw.kind));
        if self.admitted {
            self.last_admitted = now;
        }
    }

    /// Queues a message, or several in a row; without a connection they are lost.
    pub fn send(&mut self, mut bytes: Vec<u8>, now: Instant) {
        while let Some(&[_, _, a, b]) = bytes.first_chunk() {
            let size = usize::from(u16::from_be_bytes([a, b])).max(HEADER_LEN);
            if size >= bytes.len() {
                return self.send_one(bytes, false, now);
            }
            let rest = bytes.split_off(size);
            self.send_one(bytes, false, now);
            bytes = rest;
        }
    }

    /// Queues a packet-in, which is lost if `limit` of them wait already.
    pub fn send_packet_in(&mut self, msg: Vec<u8>, limit: u32, now: Instant) {
        if self.tx_packet_ins < limit as usize {
            self.send_one(msg, true, now);
        } else {
            coverage::RCONN_OVERFLOW.inc();
        }
    }

    fn send_one(&mut self, msg: Vec<u8>, packet_in: bool, now: Instant) {
        if !self.is_connected() {
            return;
        }
        self.copy_to_snoopers(&msg, now);
        coverage::RCONN_QUEUED.inc();
        self.queue(msg, packet_in);
        if self.tx.len() == 1 || self.tx_bytes > READ_SIZE {
            self.flush(now);
        }
        if self.tx_memory > self.tx_limit {
            vlog::err!(
                vlog::modules::RCONN,
                "{}: excessive sending backlog, num of msgs: {}, backlog: {}, disconnecting",
                self.name,
                self.tx.len(),
                self.tx_bytes
            );
            let no_room = io::Error::from_raw_os_error(105);
            self.disconnect(Some(&no_room), now);
        }
    }

    fn copy_to_snoopers(&mut self, msg: &[u8], now: Instant) {
        for s in &mut self.snoopers {
            if s.is_connected() && s.tx_backlog() < SNOOP_BACKLOG {
                s.send(msg.to_vec(), now);
            }
        }
    }

    fn queue(&mut self, bytes: Vec<u8>, packet_in: bool) {
        self.tx_bytes += bytes.len();
        self.tx_memory += bytes.capacity() + TX_OVERHEAD;
        self.tx_packet_ins += usize::from(packet_in);
        self.tx.push_back(Waiting { bytes, packet_in });
    }

    fn flush(&mut self, now: Instant) {
        while let (Some(first), Some(stream)) = (self.tx.front(), &mut self.stream) {
            let msg = &first.bytes;
            let sent = match stream.send(&msg[self.tx_at..]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                sent => sent,
            };
            // A message counts as sent when it begins to leave.
            if self.tx_at == 0 {
                vlog::dbg_rl!(
                    MESSAGES_RL,
                    vlog::modules::VCONN,
                    "{}: sent ({}): {}",
                    self.target,
                    sent.as_ref().err().map_or("Success".into(), error_text),
                    text::log::message(msg)
                );
            }
            match sent {
                Ok(n) => {
                    if self.tx_at == 0 {
                        coverage::VCONN_SENT.inc();
                    }
                    self.tx_bytes -= n;
                    self.tx_at += n;
                    if self.tx_at == msg.len() {
                        self.tx_memory -= msg.capacity() + TX_OVERHEAD;
                        self.tx_packet_ins -= usize::from(first.packet_in);
                        self.tx.pop_front();
                        self.tx_at = 0;
                        if self.is_connected() {
                            coverage::RCONN_SENT.inc();
                        }
                    }
                }
                Err(e) => return self.dropped(&e, now),
            }
        }
    }

    /// Reads what is there, once; 0 when nothing is.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.rx_more) else {
            return Ok(0);
        };
        if self.rx_at > 0 {
            self.rx.copy_within(self.rx_at..self.rx_end, 0);
            self.rx_end -= self.rx_at;
            self.rx_at = 0;
        }
        if self.rx.len() < self.rx_end + READ_SIZE {
            self.rx.resize(self.rx_end + READ_SIZE, 0);
        }
        let got = stream.recv(&mut self.rx[self.rx_end..]);
        let n = *got.as_ref().unwrap_or(&0);
        // A TLS session gives out records one by one.
        self.rx_more = n == self.rx.len() - self.rx_end || (n > 0 && stream.is_tls());
        self.rx_end += n;
        match got {
            Ok(0) if self.rx_end > self.rx_at => {
                vlog::err_rl!(
                    RL,
                    vlog::modules::VCONN_STREAM,
                    "connection dropped mid-packet"
                );
                Err(ferrovs_stream::protocol_error())
            }
            Ok(0) => Err(ferrovs_stream::eof_error()),
            Ok(n) => Ok(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e),
        }
    }

    fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let have = &self.rx[self.rx_at..self.rx_end];
        if have.len() < HEADER_LEN {
            return Ok(None);
        }
        let size = usize::from(u16::from_be_bytes([have[2], have[3]]));
        if size < HEADER_LEN {
            vlog::err_rl!(
                RL,
                vlog::modules::VCONN_STREAM,
                "received too-short ofp_header ({size} bytes)"
            );
            return Err(ferrovs_stream::protocol_error());
        }
        if have.len() < size {
            return Ok(None);
        }
        let msg = have[..size].to_vec();
        self.rx_at += size;
        coverage::VCONN_RECEIVED.inc();
        vlog::dbg_rl!(
            MESSAGES_RL,
            vlog::modules::VCONN,
            "{}: received: {}",
            self.target,
            text::log::message(&msg)
        );
        Ok(Some(msg))
    }

    /// Whether a whole message waits that [`Rconn::recv`] would return without reading.
    fn has_frame(&self) -> bool {
        let have = &self.rx[self.rx_at..self.rx_end];
        have.len() >= HEADER_LEN
            && have.len() >= usize::from(u16::from_be_bytes([have[2], have[3]]))
    }

    /// An established connection broke.
    fn dropped(&mut self, e: &io::Error, now: Instant) {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            if self.reliable {
                vlog::info!(
                    vlog::modules::RCONN,
                    "{}: connection closed by peer",
                    self.name
                );
            }
        } else {
            vlog::warn!(
                vlog::modules::RCONN,
                "{}: connection dropped ({})",
                self.name,
                error_text(e)
            );
        }
        self.disconnect(Some(e), now);
    }

    fn disconnect(&mut self, error: Option<&io::Error>, now: Instant) {
        if let Some(e) = error {
            self.last_error = Some(error_text(e));
        }
        let was_connected = self.is_connected();
        if was_connected {
            self.connection_seqno += 1;
            self.last_disconnected = Some(now);
        }
        self.stream = None;
        self.stream_connected = false;
        self.hello_sent = false;
        self.version = None;
        self.rx = Vec::new();
        self.rx_at = 0;
        self.rx_end = 0;
        if was_connected {
            coverage::RCONN_DISCARDED.add(self.tx.len() as u64);
        }
        self.tx = VecDeque::new();
        self.tx_packet_ins = 0;
        self.tx_at = 0;
        self.tx_bytes = 0;
        self.tx_memory = 0;
        if !self.reliable {
            return self.enter(State::Disconnected, now);
        }
        let second = Duration::from_secs(1);
        // A connection that stood for longer than the wait before it has earned a fresh start.
        let lasted = self
            .last_connected
            .map(|at| now.saturating_duration_since(at));
        if was_connected && lasted.is_some_and(|lasted| lasted >= self.backoff) {
            self.backoff = second;
        } else if self.backoff < self.max_backoff / 2 {
            self.backoff = (self.backoff * 2).max(second);
            vlog::info!(
                vlog::modules::RCONN,
                "{}: waiting {} seconds before reconnect",
                self.name,
                self.backoff.as_secs()
            );
        } else {
            if self.logs_attempts() {
                vlog::info!(
                    vlog::modules::RCONN,
                    "{}: continuing to retry connections in the background but suppressing further logging",
                    self.name
                );
            }
            self.backoff = self.max_backoff;
        }
        self.backoff_until = Some(now + self.backoff);
        self.enter(State::Backoff, now);
    }

    fn logs_attempts(&self) -> bool {
        self.backoff < self.max_backoff
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.entered = now;
    }

    /// `reading`: whether the owner wants messages now.
    pub fn wait(&self, poller: &mut Poller, reading: bool) {
        for s in &self.snoopers {
            s.wait(poller, true);
        }
        if let Some(stream) = &self.stream {
            stream.run_wait(poller);
            if !self.stream_connected {
                stream.connect_wait(poller);
            } else {
                if !self.tx.is_empty() {
                    stream.send_wait(poller);
                }
                if reading || self.state == State::Connecting {
                    if self.has_frame() {
                        poller.wake_now();
                    }
                    stream.recv_wait(poller);
                }
            }
        }
        match self.state {
            State::Backoff => poller.wait_until(self.backoff_until.unwrap_or(self.entered)),
            State::Connecting => poller.wait_until(self.entered + self.connect_timeout()),
            State::Active => {
                if let Some(interval) = self.probe_interval {
                    poller.wait_until(self.last_activity.max(self.entered) + interval);
                }
            }
            State::Idle => {
                if let Some(interval) = self.probe_interval {
                    poller.wait_until(self.entered + interval);
                }
            }
            State::Void | State::Disconnected => {}
        }
    }
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
mod tests;
