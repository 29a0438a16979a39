//! Which devices changed of late, so that those who look after many need not look at all.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ferrovs_sync::Seq;

/// So many changes are remembered; who is further behind looks at every device.
const KEPT: usize = 1024;

static CHANGES: Seq = Seq::new();
static RECENT: Mutex<Recent> = Mutex::new(Recent {
    end: 0,
    names: VecDeque::new(),
});

/// The last changes, the oldest first.
struct Recent {
    /// How many there have been.
    end: u64,
    names: VecDeque<String>,
}

/// How far somebody has followed the changes of devices.
#[derive(Debug)]
pub struct Changes {
    seen: u64,
}

/// Changes whenever any device changed, or a link of the host came or went.
pub fn change_seq() -> &'static Seq {
    &CHANGES
}

/// A device changed.
pub(crate) fn changed(name: &str) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.end += 1;
    if recent.names.len() == KEPT {
        recent.names.pop_front();
    }
    recent.names.push_back(name.to_owned());
    drop(recent);
    CHANGES.change();
}

impl Default for Changes {
    fn default() -> Changes {
        Changes::new()
    }
}

impl Changes {
    /// Follows what comes from now on.
    pub fn new() -> Changes {
        let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        Changes { seen: recent.end }
    }

    /// The devices that changed since the last call, some more than once; none if they were too many to be remembered.
    pub fn take(&mut self) -> Option<Vec<String>> {
        let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = (recent.end - std::mem::replace(&mut self.seen, recent.end)) as usize;
        let known = recent.names.len().checked_sub(missed)?;
        Some(recent.names.range(known..).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_hears_of_every_change_or_that_there_were_too_many() {
        let (mut early, mut late) = (Changes::new(), Changes::new());
        changed("changes-a");
        changed("changes-b");
        changed("changes-a");
        let mut heard = early.take().unwrap();
        // Other tests change devices too.
        heard.retain(|name| name.starts_with("changes-"));
        assert_eq!(heard, ["changes-a", "changes-b", "changes-a"]);
        for _ in 0..KEPT {
            changed("changes-c");
        }
        assert_eq!(late.take(), None);
        changed("changes-d");
        assert!(late.take().unwrap().contains(&"changes-d".to_string()));
    }
}
