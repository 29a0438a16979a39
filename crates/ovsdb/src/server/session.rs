//! One client.

use std::sync::Arc;

use crate::monitor::SessionId;

/// A piece of what is to be sent.
pub enum Text {
    /// Other sessions get the same.
    Shared(Arc<str>),
    Own(Vec<u8>),
}

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Shared(t) => t.as_bytes(),
            Self::Own(t) => t,
        }
    }
}

/// What a remote's clients may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub read_only: bool,
    /// Role for access control; empty is none.
    pub role: String,
    /// Who the client is, by its certificate.
    pub client: Option<String>,
}

#[derive(Default)]
pub struct Session {
    pub(crate) access: Access,
    /// Wants `monitor_canceled` instead of a disconnection.
    pub(crate) change_aware: bool,
    pub(crate) output: Vec<Text>,
    /// Bytes in `output`.
    pub(crate) pending: usize,
    /// Bytes that its locks take.
    pub(crate) locks: usize,
}

impl Session {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            ..Self::default()
        }
    }

    /// Queues a text; a session that had none joins the busy ones.
    pub(crate) fn send(&mut self, id: SessionId, text: Text, busy: &mut Vec<SessionId>) {
        if self.output.is_empty() {
            busy.push(id);
        }
        self.pending += text.as_bytes().len();
        self.output.push(text);
    }

    pub(crate) fn reset(&mut self) {
        let access = std::mem::take(&mut self.access);
        *self = Self::new(access);
    }
}
