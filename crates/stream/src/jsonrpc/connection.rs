//! One stream carrying JSON-RPC messages.
//!
//! What a peer can make this process hold is bounded: the text of a message that is not complete
//! yet, and the memory of the tree that is made of it (see [`Limits`]); how much of the output
//! waits is bounded if the owner says so. All connections of a thread receive into one buffer, so
//! an idle connection holds none; a message that came as a whole is parsed right there.

use super::message::{Incoming, split, split_reply};
use super::{Limits, Msg};
use crate::json::{self, ParseError, Prefix, Scan, Scanner};
use crate::{Stream, eof_error, error_text, protocol_error};
use ferrovs_runtime::Poller;
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

static RL: RateLimit = RateLimit::new(5, 20);

/// At most this many reads before the owner gets its turn: half a megabyte, a millisecond's work.
const READS_PER_RECV: usize = 8;
/// Bytes of one read. A message that came in one read is not worth to be kept as text.
const READ_SIZE: usize = 1 << 16;
/// Messages that wait together are sent together up to that size.
const JOIN_SIZE: usize = 1 << 16;

thread_local! {
    /// What a read fills, for all connections of the thread.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The text of a message that is to be sent.
pub enum Text {
    /// Also sent to others.
    Shared(Arc<str>),
    Own(Vec<u8>),
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Shared(text) => text.as_bytes(),
            Text::Own(text) => text,
        }
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Text {
        Text::Shared(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::Own(text.into_bytes())
    }
}

impl From<Vec<u8>> for Text {
    fn from(text: Vec<u8>) -> Text {
        Text::Own(text)
    }
}

/// A JSON-RPC connection. After the first error it stays failed: see [`Connection::error`].
pub struct Connection {
    stream: Stream,
    limits: Limits,
    scanner: Scanner,
    /// Received, but behind a message that was handed out.
    input: Vec<u8>,
    consumed: usize,
    /// The last read took all there was.
    drained: bool,
    output: VecDeque<Text>,
    /// Bytes of the first message in `output` that went already.
    sent: usize,
    backlog: usize,
    max_messages: usize,
    max_bytes: usize,
    failure: Option<Failure>,
}

#[derive(Clone, Copy)]
enum Failure {
    Eof,
    Os(i32),
}

impl Connection {
    pub fn new(stream: Stream) -> Connection {
        Connection::with_limits(stream, Limits::default())
    }

    pub fn with_limits(stream: Stream, limits: Limits) -> Connection {
        Connection {
            stream,
            limits,
            scanner: Scanner::new(limits.text),
            input: Vec::new(),
            consumed: 0,
            drained: false,
            output: VecDeque::new(),
            sent: 0,
            backlog: 0,
            max_messages: 0,
            max_bytes: 0,
            failure: None,
        }
    }

    pub fn name(&self) -> &str {
        self.stream.name()
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Disconnects when more than this waits to be sent; 0 is no limit.
    pub fn set_backlog_threshold(&mut self, max_messages: usize, max_bytes: usize) {
        self.max_messages = max_messages;
        self.max_bytes = max_bytes;
    }

    /// Why the connection is over, if it is.
    pub fn error(&self) -> Option<io::Error> {
        self.failure.map(|f| match f {
            Failure::Eof => eof_error(),
            Failure::Os(n) => io::Error::from_raw_os_error(n),
        })
    }

    fn fail(&mut self, error: &io::Error) {
        if self.failure.is_none() {
            self.failure = Some(match error.raw_os_error() {
                Some(n) => Failure::Os(n),
                None => Failure::Eof,
            });
            self.output.clear();
            self.backlog = 0;
            self.sent = 0;
        }
    }

    /// Bytes that wait to be sent.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// Bytes that were received but not yet handed out as messages.
    pub fn buffered(&self) -> usize {
        self.input.len() - self.consumed + self.scanner.size()
    }

    /// Sends what can be sent.
    pub fn run(&mut self) {
        self.stream.run();
        while self.failure.is_none() {
            let Some(front) = self.output.front() else {
                break;
            };
            match self.stream.send(&front.as_bytes()[self.sent..]) {
                Ok(n) => {
                    self.sent += n;
                    self.backlog -= n;
                    if self.sent >= front.len() {
                        self.output.pop_front();
                        self.sent = 0;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    let (name, text) = (self.stream.name(), error_text(&e));
                    vlog::warn_rl!(RL, modules::JSONRPC, "{name}: send error: {text}");
                    self.fail(&e);
                }
            }
        }
    }

    /// Wakes when [`Connection::run`] can do something.
    pub fn wait(&self, poller: &mut Poller) {
        if self.failure.is_none() {
            self.stream.run_wait(poller);
            if !self.output.is_empty() {
                self.stream.send_wait(poller);
            }
        }
    }

    /// Queues a message; it is sent at once as far as that goes without blocking.
    pub fn send(&mut self, msg: &Msg) {
        self.send_texts([msg.to_wire().into()]);
    }

    /// Queues messages that are text already (one text may go to many connections).
    pub fn send_texts(&mut self, texts: impl IntoIterator<Item = Text>) {
        if self.failure.is_some() {
            return;
        }
        let idle = self.output.is_empty();
        let mut messages = 0;
        let logged = modules::JSONRPC.enabled(vlog::Level::Dbg);
        for text in texts.into_iter().filter(|t| t.len() > 0) {
            if logged {
                self.log_sent(&text);
            }
            self.backlog += text.len();
            messages += 1;
            // Whatever waits goes in one system call.
            match self.output.back_mut() {
                Some(Text::Own(last)) if last.len() + text.len() <= JOIN_SIZE => {
                    last.extend_from_slice(text.as_bytes());
                }
                Some(last) if messages > 1 && last.len() + text.len() <= JOIN_SIZE => {
                    *last = Text::Own([last.as_bytes(), text.as_bytes()].concat());
                }
                _ => self.output.push_back(text),
            }
        }
        let waiting = self.output.len().max(messages);
        let over = (self.max_messages > 0 && waiting > self.max_messages)
            || (self.max_bytes > 0 && self.backlog > self.max_bytes);
        if over && !idle {
            vlog::warn!(
                modules::JSONRPC,
                "{}: connection dropped because backlog ({} messages, {} bytes) exceeds threshold",
                self.stream.name(),
                waiting,
                self.backlog
            );
            self.fail(&io::Error::from_raw_os_error(
                rustix::io::Errno::NOSPC.raw_os_error(),
            ));
        } else if idle {
            self.run();
        }
    }

    fn log_sent(&self, text: &Text) {
        let msg = json::parse_bytes(text.as_bytes()).map_err(|e| e.to_string());
        if let Ok(msg) = msg.and_then(Msg::from_json) {
            let (name, msg) = (self.stream.name(), msg.to_log());
            vlog::dbg!(modules::JSONRPC, "{name}: send {msg}");
        }
    }

    /// Takes the next message. `Ok(None)`: nothing now, the poller knows when. An error is final.
    pub fn recv(&mut self) -> io::Result<Option<Msg>> {
        match self.recv_whole()? {
            Some(Incoming::Msg(msg)) => Ok(Some(msg)),
            _ => Ok(None),
        }
    }

    pub(super) fn recv_whole(&mut self) -> io::Result<Option<Incoming>> {
        self.next(Keep::Nothing)
    }

    /// Like [`Connection::recv`], but the parameters of a large request stay text.
    pub fn recv_incoming(&mut self) -> io::Result<Option<Incoming>> {
        self.next(Keep::Requests)
    }

    /// Like [`Connection::recv`], but the result of a large reply stays text.
    pub fn recv_result(&mut self) -> io::Result<Option<Incoming>> {
        self.next(Keep::Results)
    }

    fn next(&mut self, keep: Keep) -> io::Result<Option<Incoming>> {
        for _ in 0..READS_PER_RECV {
            if let Some(error) = self.error() {
                return Err(error);
            }
            if self.consumed < self.input.len() {
                let input = std::mem::take(&mut self.input);
                let from = self.consumed;
                let got = self.consume(&input, from, keep);
                if self.consumed < input.len() {
                    self.input = input;
                } else {
                    self.consumed = 0;
                }
                if let Some(got) = got {
                    return self.hand_out(got).map(Some);
                }
            }
            if std::mem::take(&mut self.drained) {
                return Ok(None);
            }
            let received: io::Result<_> = BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(READ_SIZE, 0);
                let n = self.stream.recv(buffer)?;
                // Less than was asked for is all there is. Of TLS, one record comes at a time.
                self.drained = n < buffer.len() && !self.stream.is_tls();
                let got = self.consume(&buffer[..n], 0, keep);
                self.input.extend_from_slice(&buffer[self.consumed..n]);
                self.consumed = 0;
                Ok((n, got))
            });
            match received {
                Ok((0, _)) => self.fail(&eof_error()),
                Ok((_, Some(got))) => return self.hand_out(got).map(Some),
                Ok((_, None)) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => {
                    let (name, text) = (self.stream.name(), error_text(&e));
                    vlog::warn_rl!(RL, modules::JSONRPC, "{name}: receive error: {text}");
                    self.fail(&e);
                }
            }
        }
        match self.error() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Reads a message from `bytes[from..]` as far as it is there; sets `consumed`.
    fn consume(&mut self, bytes: &[u8], from: usize, keep: Keep) -> Option<Result<Parsed, Fault>> {
        // What is longer than that and to be kept as text is no tree in between.
        let is_long = keep == Keep::Results && bytes.len() - from == READ_SIZE;
        if self.scanner.is_idle() && !is_long {
            // No more than one read: its tree needs no limit.
            match json::parse_prefix(&bytes[from..]) {
                Prefix::Value(value, used) => {
                    self.consumed = from + used;
                    return Some(Ok(Parsed::Tree(value)));
                }
                Prefix::Failed(why) => {
                    // A TLS handshake, which no JSON begins like.
                    let tls = bytes[from..].starts_with(&[0x16, 0x03]);
                    return Some(Err(Fault { why, tls }));
                }
                Prefix::Incomplete => {}
            }
        }
        let (used, status) = self.scanner.feed(&bytes[from..]);
        self.consumed = from + used;
        match status {
            Scan::More => None,
            Scan::Failed(why) => Some(Err(Fault { why, tls: false })),
            Scan::Done => {
                let text = self.scanner.take();
                let is_large = text.len() > READ_SIZE;
                let parts = match keep {
                    Keep::Requests if is_large => split(text),
                    Keep::Results if is_large && !modules::JSONRPC.enabled(vlog::Level::Dbg) => {
                        split_reply(text)
                    }
                    _ => Err(text),
                };
                let text = match parts {
                    Ok(large) => return Some(Ok(Parsed::Large(large))),
                    Err(text) => text,
                };
                let tree = json::parse_limited(&text, self.limits.tree);
                Some(match tree {
                    Ok(value) => Ok(Parsed::Tree(value)),
                    Err(why) => Err(Fault { why, tls: false }),
                })
            }
        }
    }

    fn hand_out(&mut self, got: Result<Parsed, Fault>) -> io::Result<Incoming> {
        let name = self.stream.name();
        let value = match got {
            Ok(Parsed::Tree(value)) => value,
            Ok(Parsed::Large(large)) => return Ok(large),
            Err(Fault { why, tls }) => {
                vlog::warn_rl!(RL, modules::JSONRPC, "{name}: error parsing stream: {why}");
                if tls {
                    vlog::warn_rl!(
                        RL,
                        modules::JSONRPC,
                        "{name}: received SSL/TLS data on JSON-RPC channel"
                    );
                }
                self.scanner = Scanner::new(0);
                self.input = Vec::new();
                self.consumed = 0;
                self.fail(&protocol_error());
                return Err(protocol_error());
            }
        };
        match Msg::from_json(value) {
            Ok(msg) => {
                vlog::dbg!(modules::JSONRPC, "{name}: received {}", msg.to_log());
                Ok(Incoming::Msg(msg))
            }
            Err(why) => {
                vlog::warn_rl!(
                    RL,
                    modules::JSONRPC,
                    "{name}: received bad JSON-RPC message: {why}"
                );
                self.fail(&protocol_error());
                Err(protocol_error())
            }
        }
    }

    /// Wakes when [`Connection::recv`] has something to say.
    pub fn recv_wait(&self, poller: &mut Poller) {
        if self.failure.is_some() || self.consumed < self.input.len() {
            poller.wake_now();
        } else {
            self.stream.recv_wait(poller);
        }
    }

    /// Waits for the next message.
    pub fn recv_block(&mut self) -> io::Result<Msg> {
        let mut poller = Poller::new();
        loop {
            if let Some(msg) = self.recv()? {
                return Ok(msg);
            }
            self.run();
            self.wait(&mut poller);
            self.recv_wait(&mut poller);
            poller.block();
        }
    }

    /// Waits for the reply to the request `id`; anything else that comes meanwhile is dropped.
    pub fn reply_block(&mut self, id: &json::Value) -> io::Result<Msg> {
        loop {
            let msg = self.recv_block()?;
            if matches!(msg, Msg::Reply { .. } | Msg::Error { .. }) && msg.id() == Some(id) {
                return Ok(msg);
            }
        }
    }
}

/// What stays text when it is large.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    /// The parameters of requests.
    Requests,
    /// The results of replies.
    Results,
}

/// Why the stream is no JSON.
struct Fault {
    why: ParseError,
    tls: bool,
}

/// A complete value from the stream.
enum Parsed {
    Tree(json::Value),
    Large(Incoming),
}
