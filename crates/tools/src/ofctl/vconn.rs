//! Blocking OpenFlow connections: opening with version negotiation, sending, receiving, asking.
//!
//! Transaction ids come from one counter for the whole program, hellos included, as in Open vSwitch: the numbers
//! that are printed with replies are the same.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use ferrovs_openflow::codec::{encode_hello, frame_len, hello_error};
use ferrovs_openflow::error::OfpErr;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::raw::{self, Kind};
use ferrovs_openflow::text;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version, Versions};
use ferrovs_runtime::vlog::modules;
use ferrovs_runtime::{Poller, dirs, fatal, fatal_io, vlog};
use ferrovs_stream::{OPENFLOW_PORT, Stream};

use super::Options;

/// For the log of whole messages.
static MESSAGES_RL: vlog::RateLimit = vlog::RateLimit::new(600, 600);

static NEXT_XID: AtomicU32 = AtomicU32::new(1);

/// The next transaction id.
pub fn next_xid() -> u32 {
    next_xids(1)
}

/// The first of the next `n` transaction ids.
pub fn next_xids(n: u32) -> u32 {
    NEXT_XID.fetch_add(n, Ordering::Relaxed)
}

/// So many bytes are sent or received together.
pub const READ_SIZE: usize = 65536;

/// The transaction id that comes next, still unused.
pub fn this_xid() -> u32 {
    NEXT_XID.load(Ordering::Relaxed)
}

/// An OpenFlow connection.
pub struct Vconn {
    stream: Stream,
    pub name: String,
    pub version: Version,
    rx: Vec<u8>,
    /// What one read fills.
    buffer: Box<[u8]>,
    poller: Poller,
    /// Whole messages that were received while waiting for another.
    stash: VecDeque<Vec<u8>>,
}

/// The versions' numbers as in the log about a failed negotiation.
fn describe(v: Versions) -> String {
    let list: Vec<u8> = v.iter().map(Version::wire).collect();
    match list[..] {
        [] => "no versions".to_owned(),
        [one] => format!("version 0x{one:02x}"),
        [a, .., b] if usize::from(b - a) == list.len() - 1 && a == 1 => {
            format!("version 0x{b:02x} and earlier")
        }
        _ => {
            let texts: Vec<String> = list.iter().map(|n| format!("0x{n:02x}")).collect();
            format!("versions {}", texts.join(", "))
        }
    }
}

impl Vconn {
    /// Opens a connection; what fails at once fails here.
    fn begin(target: &str) -> io::Result<Stream> {
        let mut stream = Stream::open_with(target, Some(OPENFLOW_PORT), None)?;
        match stream.connect() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            _ => Ok(stream),
        }
    }

    /// Completes a connection and negotiates a version.
    fn complete(mut stream: Stream, target: &str, allowed: Versions) -> io::Result<Vconn> {
        loop {
            match stream.connect() {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut poller = Poller::new();
                    stream.connect_wait(&mut poller);
                    poller.block();
                }
                Err(e) => return Err(e),
            }
        }
        let version = allowed.newest().unwrap_or(Version::V10);
        let mut v = Vconn {
            stream,
            name: target.to_owned(),
            version,
            rx: Vec::new(),
            buffer: vec![0; READ_SIZE].into(),
            poller: Poller::new(),
            stash: VecDeque::new(),
        };
        // Answers come soon, mostly.
        v.poller.let_linger();
        let mut hello = encode_hello(allowed);
        hello[4..8].copy_from_slice(&next_xid().to_be_bytes());
        v.send_bytes(&hello)?;
        let msg = v.recv()?;
        if msg.get(1) != Some(&0) {
            vlog::warn!(
                modules::VCONN,
                "{}: received message while expecting hello",
                v.name
            );
            return Err(ferrovs_stream::protocol_error());
        }
        let (peer, _) = ferrovs_openflow::codec::decode_hello(&msg);
        let both = allowed.intersect(peer);
        let Some(version) = both.newest() else {
            vlog::warn!(
                modules::VCONN,
                "{}: version negotiation failed (we support {}, peer supports {})",
                v.name,
                describe(allowed),
                describe(peer)
            );
            let text = format!(
                "We support {}, you support {}, no common versions.",
                describe(allowed),
                describe(peer)
            );
            let newest = allowed.newest().unwrap_or(Version::V10);
            let error = hello_error(OfpErr::OFPHFC_INCOMPATIBLE, newest, &text);
            let _ = v.send_bytes(&error);
            return Err(rustix::io::Errno::PIPE.into());
        };
        vlog::dbg!(
            modules::VCONN,
            "{}: negotiated OpenFlow version 0x{:02x} (we support {}, peer supports {})",
            v.name,
            version.wire(),
            describe(allowed),
            describe(peer)
        );
        v.version = version;
        Ok(v)
    }

    /// Sends messages, waiting as long as that takes.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.send_all(bytes);
        let how = sent.as_ref().err().map_or(Cow::from("Success"), |e| {
            ferrovs_stream::error_text(e).into()
        });
        let mut rest = bytes;
        while let Some(Ok(len)) = frame_len(rest)
            && len <= rest.len()
        {
            let (message, after) = rest.split_at(len);
            self.log(format_args!("sent ({how})"), message);
            rest = after;
        }
        sent
    }

    /// Shows a message in the log.
    fn log(&self, what: std::fmt::Arguments<'_>, message: &[u8]) {
        vlog::dbg_rl!(
            MESSAGES_RL,
            modules::VCONN,
            "{}: {what}: {}",
            self.name,
            text::log::message(message)
        );
    }

    fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.send(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.send_wait(&mut self.poller);
                    self.poller.block();
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes a whole message from what has arrived, without waiting.
    pub fn try_recv(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(m) = self.take()? {
                return Ok(Some(m));
            }
            match read(&mut self.stream, &mut self.buffer) {
                Some(got) => self.received(got)?,
                None => return Ok(None),
            }
        }
    }

    /// Waits for the next message.
    pub fn recv(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(m) = self.take()? {
                return Ok(m);
            }
            self.stream.recv_wait(&mut self.poller);
            let (stream, buffer) = (&mut self.stream, &mut self.buffer);
            let got = self.poller.block_looking(|| read(stream, buffer));
            if let Some(got) = got.or_else(|| read(stream, buffer)) {
                self.received(got)?;
            }
        }
    }

    /// The next whole message, if it is there.
    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(m) = self.stash.pop_front() {
            return Ok(Some(m));
        }
        match frame_len(&self.rx) {
            Some(Err(_)) => Err(ferrovs_stream::protocol_error()),
            Some(Ok(len)) if self.rx.len() >= len => {
                let rest = self.rx.split_off(len);
                let message = std::mem::replace(&mut self.rx, rest);
                self.log(format_args!("received"), &message);
                Ok(Some(message))
            }
            _ => Ok(None),
        }
    }

    /// Takes in what a read brought.
    fn received(&mut self, got: io::Result<usize>) -> io::Result<()> {
        match got? {
            0 if !self.rx.is_empty() => {
                vlog::err!(modules::VCONN_STREAM, "connection dropped mid-packet");
                Err(ferrovs_stream::protocol_error())
            }
            0 => Err(ferrovs_stream::eof_error()),
            n => {
                self.rx.extend_from_slice(&self.buffer[..n]);
                Ok(())
            }
        }
    }

    /// Wakes when something may be received.
    pub fn recv_wait(&self, poller: &mut Poller) {
        if self.stash.is_empty() {
            self.stream.recv_wait(poller);
        } else {
            poller.wake_now();
        }
    }

    /// Encodes with a new transaction id.
    pub fn encode(&self, body: Message, tun: &Tun<'_>) -> (u32, Vec<u8>) {
        let xid = next_xid();
        (xid, Msg::new(self.version, xid, body).to_bytes(tun))
    }

    /// Waits for the message with this transaction id; others are put aside or dropped as Open vSwitch does.
    pub fn recv_xid(&mut self, xid: u32) -> io::Result<Vec<u8>> {
        self.recv_xid_after(xid, &mut |_| {})
    }

    /// The same; `other` is shown what comes before.
    fn recv_xid_after(&mut self, xid: u32, other: &mut dyn FnMut(Vec<u8>)) -> io::Result<Vec<u8>> {
        loop {
            let m = self.recv()?;
            if m[4..8] == xid.to_be_bytes() {
                return Ok(m);
            }
            // An echo request must not be left unanswered.
            self.answer_echo(&m)?;
            other(m);
        }
    }

    fn answer_echo(&mut self, m: &[u8]) -> io::Result<()> {
        if m.get(1) == Some(&2) {
            let mut reply = m.to_vec();
            reply[1] = 3;
            self.send_bytes(&reply)?;
        }
        Ok(())
    }

    /// Sends a request and waits for its reply.
    pub fn transact(&mut self, body: Message, tun: &Tun<'_>) -> io::Result<Vec<u8>> {
        let (xid, bytes) = self.encode(body, tun);
        self.send_bytes(&bytes)?;
        self.recv_xid(xid)
    }

    /// Sends a request and waits for its reply; errors about other messages that come before are put into `errors`.
    pub fn transact_after(
        &mut self,
        body: Message,
        tun: &Tun<'_>,
        errors: &mut Vec<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        let (xid, bytes) = self.encode(body, tun);
        self.send_bytes(&bytes)?;
        self.recv_xid_after(xid, &mut |m| errors.extend((m[1] == 1).then_some(m)))
    }

    /// Sends messages that have no reply and a barrier; gives the first error that comes back.
    pub fn transact_noreply(&mut self, messages: &[(u32, Vec<u8>)]) -> io::Result<Option<Vec<u8>>> {
        let (barrier, barrier_bytes) = self.encode(Message::BarrierRequest, &Tun::none());
        // What goes out together is read together.
        let mut together = Vec::new();
        for bytes in messages
            .iter()
            .map(|(_, bytes)| bytes)
            .chain([&barrier_bytes])
        {
            together.extend_from_slice(bytes);
            if together.len() >= READ_SIZE {
                self.send_bytes(&together)?;
                together.clear();
            }
        }
        self.send_bytes(&together)?;
        let is_sent = |xid| messages.iter().any(|(sent, _)| *sent == xid);
        Ok(self.errors_before(barrier, is_sent)?.into_iter().next())
    }

    /// Sends messages that have no reply one by one, each with a barrier of its own; the first error that comes back
    /// ends that. The next message is made while the peer is at work on one.
    pub fn transact_each(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
        tun: &Tun<'_>,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut messages = messages.into_iter();
        let mut next = messages.next().map(|m| self.encode_with_barrier(m, tun));
        while let Some(((xid, barrier), bytes)) = next {
            self.send_bytes(&bytes)?;
            next = messages.next().map(|m| self.encode_with_barrier(m, tun));
            let errors = self.errors_before(barrier, |sent| sent == xid)?;
            if let Some(error) = errors.into_iter().next() {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// A message and the barrier that follows it: their transaction ids, and their bytes.
    fn encode_with_barrier(&self, message: Message, tun: &Tun<'_>) -> ((u32, u32), Vec<u8>) {
        let (xid, mut bytes) = self.encode(message, tun);
        let (barrier, more) = self.encode(Message::BarrierRequest, tun);
        bytes.extend_from_slice(&more);
        ((xid, barrier), bytes)
    }

    /// Sends a barrier; gives the errors that come back before its reply about messages that were sent.
    pub fn barrier(&mut self, is_sent: impl Fn(u32) -> bool) -> io::Result<Vec<Vec<u8>>> {
        let (barrier, bytes) = self.encode(Message::BarrierRequest, &Tun::none());
        self.send_bytes(&bytes)?;
        self.errors_before(barrier, is_sent)
    }

    fn errors_before(
        &mut self,
        barrier: u32,
        is_sent: impl Fn(u32) -> bool,
    ) -> io::Result<Vec<Vec<u8>>> {
        let mut errors = Vec::new();
        loop {
            let m = self.recv()?;
            let xid = u32::from_be_bytes([m[4], m[5], m[6], m[7]]);
            if xid == barrier {
                return Ok(errors);
            }
            if m[1] == 1 && is_sent(xid) {
                errors.push(m);
            } else {
                self.answer_echo(&m)?;
            }
        }
    }
}

/// Reads what has arrived; nothing if nothing has.
fn read(stream: &mut Stream, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    match stream.recv(buffer) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
        got => Some(got),
    }
}

/// What kind of message bytes are, if they are any.
pub fn kind_of(msg: &[u8]) -> Option<Kind> {
    raw::parse(msg).ok().map(|p| p.raw.kind)
}

/// Resolves a bridge's name or a connection method to a target; ends the program if it is neither.
pub fn target_of(name: &str, suffix: &str) -> String {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.file_type().is_socket());
    if name.contains(':') {
        return name.to_owned();
    }
    let in_rundir = dirs::rundir().join(format!("{name}.{suffix}"));
    if is_socket(&in_rundir) {
        return format!("unix:{}", in_rundir.display());
    }
    if is_socket(Path::new(name)) {
        return format!("unix:{name}");
    }
    fatal(format_args!("{name} is not a bridge or a socket"))
}

/// Opens a connection to a switch; ends the program on failure.
pub fn open(name: &str, suffix: &str, versions: Versions) -> Vconn {
    let target = target_of(name, suffix);
    let stream = match Vconn::begin(&target) {
        Ok(stream) => stream,
        Err(e) if name.contains(':') => fatal_io(&e, format_args!("connecting to {name}")),
        Err(e) => fatal_io(&e, format_args!("{name}: failed to connect to socket")),
    };
    match Vconn::complete(stream, &target, versions) {
        Ok(v) => v,
        Err(e) => fatal_io(&e, format_args!("{name}: failed to connect to socket")),
    }
}

/// Opens a connection in the versions that the options allow.
pub fn open_switch(name: &str, opt: &Options) -> Vconn {
    open(name, "mgmt", opt.versions)
}

/// Ends the program because a connection failed in the middle.
pub fn talking(v: &Vconn, e: &io::Error) -> ! {
    fatal_io(e, format_args!("talking to {}", v.name))
}

/// Tries to switch to `want`; whether the connection now speaks it.
pub fn try_protocol(v: &mut Vconn, want: Protocol, current: &mut Protocol) -> bool {
    if want.version() != v.version {
        return false;
    }
    let tun = Tun::none();
    let ask = |v: &mut Vconn, body: Message| -> bool {
        let m = v.encode(body, &tun);
        match v.transact_noreply(&[m]) {
            Ok(None) => true,
            Ok(Some(_)) => false,
            Err(e) => talking(v, &e),
        }
    };
    if want.is_nxm() != current.is_nxm() && v.version == Version::V10 {
        if !ask(v, Message::SetFlowFormat { nxm: want.is_nxm() }) {
            return false;
        }
        *current = if want.is_nxm() {
            Protocol::OF10_NXM
        } else {
            Protocol::OF10_STD
        }
        .with_tid(current.has_tid());
    }
    if want.has_tid() != current.has_tid() && v.version == Version::V10 {
        if !ask(v, Message::FlowModTableId(want.has_tid())) {
            return false;
        }
        *current = current.with_tid(want.has_tid());
    }
    *current == want
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFPT_ERROR: u8 = 1;
    const BARRIER: u8 = 18;
    const BARRIER_REPLY: u8 = 19;

    /// A peer that answers barriers, and the second also with an error about the message before it. Returns the types
    /// and transaction ids of what it got in one piece each time.
    fn answer(mut stream: Stream) -> Vec<Vec<(u8, u32)>> {
        let (mut poller, mut buffer, mut got) = (Poller::new(), vec![0; READ_SIZE], Vec::new());
        stream.send(&encode_hello(Versions::ALL)).unwrap();
        loop {
            stream.recv_wait(&mut poller);
            poller.block();
            let Some(Ok(n)) = read(&mut stream, &mut buffer) else {
                continue;
            };
            let mut rest = &buffer[..n];
            let mut piece = Vec::new();
            while let Some(Ok(len)) = frame_len(rest) {
                piece.push((
                    rest[1],
                    u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]),
                ));
                rest = &rest[len..];
            }
            let is_over = piece.is_empty();
            if let [.., (_, about), (BARRIER, barrier)] = piece[..] {
                let mut reply = Vec::new();
                if got.len() == 2 {
                    reply.extend([1, OFPT_ERROR, 0, 12]);
                    reply.extend(about.to_be_bytes());
                    reply.extend([0; 4]);
                }
                reply.extend([1, BARRIER_REPLY, 0, 8]);
                reply.extend(barrier.to_be_bytes());
                stream.send(&reply).unwrap();
            }
            if is_over {
                return got;
            }
            got.push(piece);
        }
    }

    #[test]
    fn messages_are_sent_one_by_one_until_there_is_an_error() {
        let (ours, theirs) = Stream::pair().unwrap();
        let peer = std::thread::spawn(move || answer(theirs));
        let mut v = Vconn::complete(ours, "peer", Versions::of(Version::V10)).unwrap();
        let messages = (0..4).map(|n| Message::SetFlowFormat { nxm: n % 2 == 0 });
        let error = v.transact_each(messages, &Tun::none()).unwrap().unwrap();
        drop(v);
        let got = peer.join().unwrap();
        // The hello, then each message with the barrier that was made right after it.
        assert_eq!(got.len(), 3);
        let first = got[1][0].1;
        for (n, piece) in (0..).zip(&got[1..]) {
            let [(kind, xid), (BARRIER, barrier)] = piece[..] else {
                panic!("{piece:?}");
            };
            assert_eq!((kind, xid, barrier), (4, first + 2 * n, first + 2 * n + 1));
        }
        assert_eq!(error[1], OFPT_ERROR);
        assert_eq!(error[4..8], got[2][0].1.to_be_bytes());
    }
}
