//! Devices whose ports went, and whose names are wanted again, be it for devices of another type, or that whoever
//! waits for the configuration must not find any more.
//!
//! What is being translated or sent may hold a device for a moment yet. A thread waits for that: the main loop
//! goes on, and configures the rest when the names are free, or when it has waited for long enough.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ferrovs_runtime::Poller;
use ferrovs_sync::Seq;

/// How often is looked, by the thread alone; so long is waited: a device that does not close is told as an error.
const TURN: Duration = Duration::from_millis(1);
const TURNS: u32 = 200;

/// See the module's text.
#[derive(Default)]
pub(crate) enum Closing {
    #[default]
    Nothing,
    Waiting {
        names: BTreeSet<String>,
        /// Changes when the thread has finished.
        done: Arc<Seq>,
        seen: u64,
    },
    /// The names that are not free yet will not be.
    Over,
}

impl Closing {
    /// Names that were waited for already.
    pub fn names(&self) -> BTreeSet<String> {
        match self {
            Closing::Waiting { names, .. } => names.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// Whether names that are not free are still to be waited for.
    pub fn is_patient(&self) -> bool {
        !matches!(self, Closing::Over)
    }

    /// Waits for `names`, none or more; without any the configuration is complete.
    pub fn set(&mut self, names: BTreeSet<String>) {
        if names.is_empty() {
            *self = Closing::Nothing;
        } else if let Closing::Waiting { names: old, .. } = self
            && names.is_subset(old)
        {
            *old = names;
        } else {
            self.start(names);
        }
    }

    fn start(&mut self, names: BTreeSet<String>) {
        let done = Arc::new(Seq::new());
        let (seen, list, end) = (done.read(), names.clone(), done.clone());
        let wait = move || {
            let is_held = || list.iter().any(|n| ferrovs_netdev::lookup(n).is_some());
            let mut turns = 0;
            while turns < TURNS && is_held() {
                turns += 1;
                std::thread::sleep(TURN);
            }
            // What nobody holds is on its way, however long that takes.
            list.iter().for_each(|n| ferrovs_netdev::wait_for(n));
            end.change();
        };
        *self = match std::thread::Builder::new()
            .name("closing".into())
            .spawn(wait)
        {
            Ok(_) => Closing::Waiting { names, done, seen },
            Err(_) => Closing::Over,
        };
    }

    /// Whether the wait has just ended: then it is time to configure again.
    pub fn ends(&mut self) -> bool {
        let ends = matches!(self, Closing::Waiting { done, seen, .. } if done.read() != *seen);
        if ends {
            *self = Closing::Over;
        }
        ends
    }

    pub fn wait(&self, poller: &mut Poller) {
        if let Closing::Waiting { done, seen, .. } = self {
            poller.wait_seq(done, *seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_runtime::clock;

    fn names(name: &str) -> BTreeSet<String> {
        BTreeSet::from([name.to_string()])
    }

    /// How the wait ends, as the main loop would find out.
    fn end(closing: &mut Closing) {
        let mut poller = Poller::new();
        while !closing.ends() {
            closing.wait(&mut poller);
            poller.block();
        }
    }

    #[test]
    fn who_waits_for_devices_is_woken_when_they_are_closed_and_does_not_sleep() {
        ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
        let device = ferrovs_netdev::open("closing0", "dummy").unwrap();
        let mut closing = Closing::default();
        let start = clock::real_now();
        closing.set(names("closing0"));
        assert!(!closing.ends());
        assert_eq!(closing.names(), names("closing0"));
        let (sender, receiver) = std::sync::mpsc::channel();
        let closer = std::thread::spawn(move || {
            receiver.recv().unwrap();
            drop(device);
        });
        sender.send(()).unwrap();
        end(&mut closing);
        closer.join().unwrap();
        assert!(!closing.is_patient());
        closing.set(BTreeSet::new());
        assert!(closing.is_patient() && closing.names().is_empty());
        // Long before the patience ends, but for a machine that stands still.
        assert!(start.elapsed() < TURN * TURNS * 50);
    }

    #[test]
    fn patience_ends() {
        ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
        let _device = ferrovs_netdev::open("closing1", "dummy").unwrap();
        let mut closing = Closing::default();
        closing.set(names("closing1"));
        end(&mut closing);
        assert!(!closing.is_patient());
    }
}
