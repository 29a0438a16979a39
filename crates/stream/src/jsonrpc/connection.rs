//! One stream carrying JSON-RPC messages.

use super::Msg;
use crate::json::{Parser, Status};
use crate::{Stream, eof_error, error_text, protocol_error};
use ferrovs_runtime::Poller;
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

static RL: RateLimit = RateLimit::new(5, 20);

/// The largest single message that is read.
const MAX_MESSAGE: usize = 1 << 30;
/// At most this many reads before the owner gets its turn.
const READS_PER_RECV: usize = 50;

/// A JSON-RPC connection. After the first error it stays failed: see [`Connection::error`].
pub struct Connection {
    stream: Stream,
    parser: Parser,
    input: Vec<u8>,
    consumed: usize,
    output: VecDeque<Arc<str>>,
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
        Connection {
            stream,
            parser: Parser::new(MAX_MESSAGE),
            input: Vec::new(),
            consumed: 0,
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
        self.input.len() - self.consumed
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
        vlog::dbg!(
            modules::JSONRPC,
            "{}: send {}",
            self.stream.name(),
            msg.to_wire()
        );
        self.send_text(Arc::from(msg.to_wire()));
    }

    /// Queues a message that is text already (one text may go to many connections).
    pub fn send_text(&mut self, text: Arc<str>) {
        if self.failure.is_some() || text.is_empty() {
            return;
        }
        self.backlog += text.len();
        self.output.push_back(text);
        let len = self.output.len();
        let over = (self.max_messages > 0 && len > self.max_messages)
            || (self.max_bytes > 0 && self.backlog > self.max_bytes);
        if over && len > 1 {
            vlog::warn!(
                modules::JSONRPC,
                "{}: connection dropped because backlog ({} messages, {} bytes) exceeds threshold",
                self.stream.name(),
                len,
                self.backlog
            );
            self.fail(&io::Error::from_raw_os_error(
                rustix::io::Errno::NOSPC.raw_os_error(),
            ));
        } else if len == 1 {
            self.run();
        }
    }

    /// Takes the next message. `Ok(None)`: nothing now. An error is final.
    pub fn recv(&mut self) -> io::Result<Option<Msg>> {
        for _ in 0..READS_PER_RECV {
            if let Some(error) = self.error() {
                return Err(error);
            }
            while self.consumed < self.input.len() {
                let (used, status) = self.parser.feed(&self.input[self.consumed..]);
                self.consumed += used;
                match status {
                    Status::More => {}
                    Status::Done => {
                        let value = self.parser.take().unwrap_or_default();
                        return self.message(value).map(Some);
                    }
                    Status::Failed(why) => {
                        let name = self.stream.name();
                        vlog::warn_rl!(RL, modules::JSONRPC, "{name}: error parsing stream: {why}");
                        // A TLS handshake, which no JSON begins like.
                        if used == 0 && self.input[self.consumed..].starts_with(&[0x16, 0x03]) {
                            vlog::warn_rl!(
                                RL,
                                modules::JSONRPC,
                                "{name}: received SSL/TLS data on JSON-RPC channel"
                            );
                        }
                        self.fail(&protocol_error());
                        return Err(protocol_error());
                    }
                }
            }
            self.consumed = 0;
            let room = if self.parser.is_idle() { 4096 } else { 65536 };
            self.input.resize(room, 0);
            match self.stream.recv(&mut self.input) {
                Ok(0) => {
                    self.input.clear();
                    self.fail(&eof_error());
                }
                Ok(n) => self.input.truncate(n),
                Err(e) => {
                    self.input.clear();
                    if e.kind() == io::ErrorKind::WouldBlock {
                        return Ok(None);
                    }
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

    fn message(&mut self, value: crate::json::Value) -> io::Result<Msg> {
        match Msg::from_json(value) {
            Ok(msg) => {
                vlog::dbg!(
                    modules::JSONRPC,
                    "{}: received {}",
                    self.stream.name(),
                    msg.to_wire()
                );
                Ok(msg)
            }
            Err(why) => {
                let name = self.stream.name();
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

    /// Sends `msg` and waits until it is out.
    pub fn send_block(&mut self, msg: &Msg) -> io::Result<()> {
        self.send(msg);
        let mut poller = Poller::new();
        loop {
            self.run();
            if let Some(error) = self.error() {
                return Err(error);
            }
            if self.output.is_empty() {
                return Ok(());
            }
            self.wait(&mut poller);
            poller.block();
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

    /// Sends a request and waits for its reply; anything else that comes meanwhile is dropped.
    pub fn transact_block(&mut self, request: &Msg) -> io::Result<Msg> {
        self.send_block(request)?;
        loop {
            let msg = self.recv_block()?;
            if matches!(msg, Msg::Reply { .. } | Msg::Error { .. }) && msg.id() == request.id() {
                return Ok(msg);
            }
        }
    }
}
