//! One client.

use std::sync::Arc;

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
    pub(crate) output: Vec<Arc<str>>,
}

impl Session {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            ..Self::default()
        }
    }

    pub(crate) fn reset(&mut self) {
        let access = std::mem::take(&mut self.access);
        *self = Self::new(access);
    }
}
