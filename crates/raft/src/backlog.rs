//! When the messages that wait for a slow server are too many: its connection is closed then, and
//! what it missed is sent anew, as a snapshot if need be.

/// Up to so many messages may always wait, whatever the limits say.
const ALWAYS: usize = 50;

/// What may wait on a connection (`cluster/set-backlog-threshold`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub messages: u64,
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 500,
            bytes: u64::from(u32::MAX),
        }
    }
}

impl Limits {
    /// Limits as an operator sets them.
    pub fn new(messages: u64, bytes: u64) -> Option<Self> {
        let limits = Self { messages, bytes };
        (messages >= ALWAYS as u64).then_some(limits)
    }

    /// True if the connection is to be closed.
    pub fn exceeded(&self, messages: usize, bytes: usize) -> bool {
        messages > ALWAYS && (messages as u64 > self.messages || bytes as u64 > self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_at_when_more_than_fifty_messages_wait() {
        let limits = Limits::new(60, 1000).unwrap();
        assert!(!limits.exceeded(50, 1 << 40));
        assert!(limits.exceeded(51, 1001));
        assert!(!limits.exceeded(60, 1000));
        assert!(limits.exceeded(61, 0));
        assert_eq!(Limits::new(10, 20), None);
    }
}
