//! A reliable OpenFlow connection: the bytes of one stream, in and out, around a [`Machine`] that has the protocol.
//!
//! The states are those of [`ferrovs_stream::reconnect`]: `VOID` (an accepted connection that ended: it never comes
//! back), `BACKOFF` (waiting before the next attempt), `CONNECTING` (the stream connects, then both sides say hello),
//! `ACTIVE`, and `IDLE` (a probe is out and must be answered).
//!
//! What is sent waits until the owner has no more to say and calls [`Rconn::flush`], so that many messages leave at
//! once.
//!
//! Invariants: what waits to be received is bounded by one maximal message plus one read; the owner bounds the
//! answers that wait to be sent by asking [`Rconn::tx_backlog`] before it makes more; what nobody asked for and the
//! peer does not read ends the connection at [`TX_LIMIT`]; an unfinished message is never handed up.

mod inbox;
mod machine;
mod outbox;
mod voice;

use std::io;
use std::ops::Deref;
use std::time::{Duration, Instant};

use ferrovs_openflow::version::Versions;
use ferrovs_runtime::{Linger, Poller, coverage, vlog};
use ferrovs_stream::Stream;
use ferrovs_stream::reconnect::State;

use inbox::Inbox;
use machine::{Event, Machine};
use outbox::Outbox;

/// Size of an OpenFlow header, the smallest message.
pub const HEADER_LEN: usize = 8;
/// When so many bytes wait they go out without being told to.
const FLUSH_AT: usize = 64 * 1024;
/// Copies for snoopers are dropped when one of them has this much waiting.
const SNOOP_BACKLOG: usize = 256 * 1024;

/// A connection ends when what waits to be sent takes up so much memory. This is a million small notices: more
/// than a peer has to catch up with that reads at all.
const TX_LIMIT: usize = 128 * 1024 * 1024;

static RL: vlog::RateLimit = vlog::RateLimit::new(10, 25);
/// For the log of whole messages.
static MESSAGES_RL: vlog::RateLimit = vlog::RateLimit::new(600, 600);

/// See the module's text. What can be asked about the connection is asked of its machine.
pub struct Rconn {
    machine: Machine,
    dscp: u8,
    stream: Option<Stream>,
    stream_connected: bool,
    /// Whether the owner's messages are in the outbox, not those of the beginning.
    established: bool,
    inbox: Inbox,
    outbox: Outbox,
    tx_limit: usize,
    /// Whether the peer is quick to say the next thing once it is answered.
    linger: Linger,
    snoopers: Vec<Rconn>,
}

impl Deref for Rconn {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Rconn {
    /// A connection that is made and kept by this side.
    pub fn active(bridge: &str, target: &str, dscp: u8, allowed: Versions, now: Instant) -> Rconn {
        let name = format!("{bridge}<->{target}");
        Rconn::new(Machine::made(&name, target, allowed, now), dscp, None)
    }

    /// A connection that a peer made; it ends when the peer goes.
    pub fn accepted(bridge: &str, stream: Stream, allowed: Versions, now: Instant) -> Rconn {
        let name = format!("{bridge}<->{}", stream.name());
        let machine = Machine::accepted(&name, stream.name(), allowed, now);
        Rconn::new(machine, ferrovs_stream::DSCP_DEFAULT, Some(stream))
    }

    fn new(machine: Machine, dscp: u8, stream: Option<Stream>) -> Rconn {
        Rconn {
            machine,
            dscp,
            stream_connected: stream.is_some(),
            stream,
            established: false,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            tx_limit: TX_LIMIT,
            linger: Linger::new(),
            snoopers: Vec::new(),
        }
    }

    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.machine.set_probe_interval(interval);
    }

    pub fn set_max_backoff(&mut self, max: Duration) {
        self.machine.set_max_backoff(max);
    }

    pub fn set_dscp(&mut self, dscp: u8) {
        self.dscp = dscp;
    }

    /// The versions to offer; a connection whose version is no longer among them starts anew.
    pub fn set_allowed(&mut self, allowed: Versions, now: Instant) {
        self.machine.set_allowed(allowed, now);
        self.serve(now);
    }

    /// Drops the connection and makes it anew.
    pub fn reconnect(&mut self, now: Instant) {
        self.machine.reconnect(now);
        self.serve(now);
    }

    /// Messages of the connection are copied to `snooper` from now on.
    pub fn add_snooper(&mut self, snooper: Rconn) {
        self.snoopers.push(snooper);
    }

    /// Bytes that wait to be sent.
    pub fn tx_backlog(&self) -> usize {
        self.outbox.bytes()
    }

    pub fn run(&mut self, now: Instant) {
        self.inbox.rearm();
        let mut ignored = Vec::new();
        self.snoopers.retain_mut(|s| {
            s.run(now);
            while s.recv(&mut ignored, now) {}
            s.flush(now);
            s.is_alive()
        });
        let before = self.state();
        if before == State::Connecting {
            self.run_connecting(now);
        }
        self.machine.run(now);
        self.serve(now);
        if before == State::Backoff && self.state() == State::Connecting {
            self.run_connecting(now);
        }
        self.flush(now);
    }

    fn run_connecting(&mut self, now: Instant) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if !self.stream_connected {
            match stream.connect() {
                Ok(()) => {
                    self.stream_connected = true;
                    self.machine.opened();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => return self.broken(&e, now),
            }
        }
        self.serve(now);
        self.flush(now);
        let Some(stream) = &mut self.stream else {
            return;
        };
        if let Err(e) = self.inbox.fill(stream) {
            return self.broken(&e, now);
        }
        match self.inbox.next(self.machine.target()) {
            Ok(None) => {}
            Ok(Some(msg)) => {
                self.machine.input(msg, now);
                self.serve(now);
            }
            Err(e) => self.broken(&e, now),
        }
    }

    /// Sends what the machine has to say, and does what it asks for.
    fn serve(&mut self, now: Instant) {
        loop {
            while let Some(msg) = self.machine.poll_transmit() {
                match self.is_connected() {
                    true => self.send(msg, now),
                    false => self.outbox.push(msg, false),
                }
            }
            match self.machine.poll_event() {
                Some(Event::Connect) => self.open(now),
                Some(Event::Close) => self.close(),
                None => break,
            }
        }
        self.established = self.is_connected();
    }

    fn open(&mut self, now: Instant) {
        coverage::VCONN_OPEN.inc();
        let (port, dscp) = (ferrovs_stream::OPENFLOW_PORT, self.dscp);
        match Stream::open_with(self.machine.target(), Some(port), Some(dscp)) {
            Ok(stream) => self.stream = Some(stream),
            Err(e) => self.machine.broken(&e, now),
        }
    }

    fn close(&mut self) {
        if self.established {
            coverage::RCONN_DISCARDED.add(self.outbox.len() as u64);
        } else if let Some(stream) = &mut self.stream {
            // A peer that is turned away may be told why, if it takes that at once.
            let _ = self.outbox.flush(stream, self.machine.target(), false);
        }
        self.established = false;
        self.stream = None;
        self.stream_connected = false;
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
    }

    fn broken(&mut self, e: &io::Error, now: Instant) {
        self.machine.broken(e, now);
        self.serve(now);
    }

    /// Takes the next whole message, if one has come, in place of what is in `msg`.
    pub fn recv(&mut self, msg: &mut Vec<u8>, now: Instant) -> bool {
        while self.is_connected() {
            let read = match self.inbox.next(self.machine.target()) {
                Ok(Some(next)) => {
                    msg.clear();
                    msg.extend_from_slice(next);
                    let is_taken = self.machine.input(msg, now);
                    self.serve(now);
                    if is_taken {
                        self.copy_to_snoopers(msg, now);
                        if !machine::is_echo_reply(msg) {
                            return true;
                        }
                    }
                    continue;
                }
                Ok(None) => match &mut self.stream {
                    Some(stream) => self.inbox.fill(stream),
                    None => Ok(0),
                },
                Err(e) => Err(e),
            };
            match read {
                Ok(0) => return false,
                Ok(_) => self.linger.came(),
                Err(e) => self.broken(&e, now),
            }
        }
        false
    }

    /// Sends what waits. If those are answers, and the peer is one that waits for them and then goes on at once,
    /// waits a moment for what it says next; true if something came.
    pub fn flush_and_listen(&mut self, now: Instant) -> bool {
        let is_answered = !self.outbox.is_empty();
        self.flush(now);
        let is_sent = is_answered && self.outbox.is_empty();
        let Some(stream) = self.stream.as_mut().filter(|_| is_sent) else {
            return false;
        };
        let inbox = &mut self.inbox;
        let came = self.linger.look(|| {
            inbox.rearm();
            match inbox.fill(stream) {
                Ok(0) => None,
                result => Some(result),
            }
        });
        match came {
            Some(Ok(_)) => true,
            Some(Err(e)) => {
                self.broken(&e, now);
                false
            }
            None => false,
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
        if self.outbox.packet_ins() >= limit as usize {
            // Only those count that the peer does not take.
            self.flush(now);
        }
        if self.outbox.packet_ins() < limit as usize {
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
        self.outbox.push(msg, packet_in);
        if self.outbox.bytes() > FLUSH_AT {
            self.flush(now);
        }
        if self.outbox.memory() > self.tx_limit {
            vlog::err!(
                vlog::modules::RCONN,
                "{}: excessive sending backlog, num of msgs: {}, backlog: {}, disconnecting",
                self.name(),
                self.outbox.len(),
                self.outbox.bytes()
            );
            let no_room = io::Error::from_raw_os_error(105);
            self.machine.abandon(&no_room, now);
            self.serve(now);
        }
    }

    fn copy_to_snoopers(&mut self, msg: &[u8], now: Instant) {
        for s in &mut self.snoopers {
            if s.is_connected() && s.tx_backlog() < SNOOP_BACKLOG {
                s.send(msg.to_vec(), now);
            }
        }
    }

    /// Sends what waits, as far as the peer takes it.
    pub fn flush(&mut self, now: Instant) {
        for s in &mut self.snoopers {
            s.flush(now);
        }
        if let Some(stream) = self.stream.as_mut().filter(|_| self.stream_connected) {
            let target = self.machine.target();
            if let Err(e) = self.outbox.flush(stream, target, self.established) {
                self.broken(&e, now);
            }
        }
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
                if !self.outbox.is_empty() {
                    stream.send_wait(poller);
                }
                if reading || self.state() == State::Connecting {
                    if self.inbox.has_next() {
                        poller.wake_now();
                    }
                    stream.recv_wait(poller);
                }
            }
        }
        if let Some(at) = self.poll_timeout() {
            poller.wait_until(at);
        }
    }
}

#[cfg(test)]
mod tests;
