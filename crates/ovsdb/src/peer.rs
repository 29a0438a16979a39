//! Talking to another server: what a protocol machine asks to be sent, and what it has to say in
//! the log. Connections, the clock and the log itself are the program's.

use serde_json::Value;

/// A request to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub id: u64,
    pub method: &'static str,
    /// Text of an array.
    pub params: Vec<u8>,
}

impl Call {
    /// The JSON-RPC message.
    pub fn into_text(self) -> Vec<u8> {
        let Self { id, method, params } = self;
        let mut text = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":").into_bytes();
        text.extend_from_slice(&params);
        text.push(b'}');
        text
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// Which part of Open vSwitch would have written a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Replication,
    Relay,
    Client,
    Error,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub speaker: Speaker,
    pub level: Level,
    pub text: String,
}

/// Requests and lines on their way out, and the numbers of the requests.
#[derive(Default)]
pub(crate) struct Out {
    last_id: u64,
    pub calls: Vec<Call>,
    pub said: Vec<Said>,
}

impl Out {
    /// Queues a request and returns its number.
    pub fn call(&mut self, method: &'static str, params: &Value) -> u64 {
        let mut text = Vec::new();
        crate::json::write(&mut text, params);
        self.call_text(method, text)
    }

    /// The same for parameters that are text.
    pub fn call_text(&mut self, method: &'static str, params: Vec<u8>) -> u64 {
        self.last_id += 1;
        self.calls.push(Call {
            id: self.last_id,
            method,
            params,
        });
        self.last_id
    }

    pub fn say(&mut self, speaker: Speaker, level: Level, text: impl Into<String>) {
        self.said.push(Said {
            speaker,
            level,
            text: text.into(),
        });
    }
}
