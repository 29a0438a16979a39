//! Which clients have something to do: an epoll instance that stands for all of them in the poll
//! loop.
//!
//! The loop asks its components anew before each sleep what would wake them, which is cheap for a
//! few and not for a thousand clients of which one did something. So a client is asked only after it
//! ran: what it waits for stays registered here until it runs again, and the loop waits for the one
//! descriptor of the epoll instance and for the earliest deadline.
//!
//! Invariant: whoever ran, or was given something to send, is updated before the next sleep. A
//! descriptor that its owner closed is out of the epoll instance by itself; the owner's epoch tells
//! that, since the number may belong to another owner by then.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

use ferrovs_runtime::{Interest, Poller, Wants};
use ferrovs_sys::fd::{self, Events};
use hashbrown::HashMap;
use rustix::event::epoll::{self, CreateFlags};

/// Names who is watched.
pub type Key = u64;

/// Events that are taken at once; more come in the next turn.
const EVENTS_PER_TURN: usize = 256;

#[derive(Default)]
struct Entry {
    epoch: u64,
    fds: Vec<(RawFd, Interest)>,
    deadline: Option<Instant>,
}

pub struct Watch {
    epoll: OwnedFd,
    entries: HashMap<Key, Entry>,
    deadlines: BTreeSet<(Instant, Key)>,
    /// Who has to run without waiting.
    now: BTreeSet<Key>,
    events: Vec<epoll::Event>,
    /// Asks components what they wait for.
    asker: Poller,
    wants: Wants,
}

impl Watch {
    pub fn new() -> Self {
        Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance"),
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            now: BTreeSet::new(),
            events: Vec::with_capacity(EVENTS_PER_TURN),
            asker: Poller::new(),
            wants: Wants::default(),
        }
    }

    /// Who has something to do.
    pub fn ready(&mut self, now: Instant) -> BTreeSet<Key> {
        let mut ready = std::mem::take(&mut self.now);
        while let Some(&(deadline, key)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(e) = self.entries.get_mut(&key) {
                e.deadline = None;
            }
            ready.insert(key);
        }
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        let none = rustix::event::Timespec::default();
        if epoll::wait(&self.epoll, spare, Some(&none)).is_ok() {
            ready.extend(self.events.iter().map(|e| e.data.u64()));
        }
        ready
    }

    /// Who asked to run since [`Watch::ready`] was asked.
    pub fn newcomers(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.now)
    }

    /// Has `key` run in the next turn.
    pub fn run_again(&mut self, key: Key) {
        self.now.insert(key);
    }

    /// Registers what `ask` asks for in place of what `key` waited for.
    pub fn update(&mut self, key: Key, epoch: u64, ask: impl FnOnce(&mut Poller)) {
        ask(&mut self.asker);
        self.asker.take_wants(&mut self.wants);
        let entry = self.entries.entry(key).or_default();
        if entry.epoch != epoch {
            entry.fds.clear();
            entry.epoch = epoch;
        }
        if self.wants.wake_now {
            self.now.insert(key);
        }
        if entry.deadline != self.wants.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, key));
            }
            entry.deadline = self.wants.deadline;
            self.deadlines.extend(entry.deadline.map(|d| (d, key)));
        }
        let mut fds = std::mem::take(&mut self.wants.fds);
        merge(&mut fds);
        if entry.fds != fds {
            for &(fd, _) in &entry.fds {
                if !fds.iter().any(|new| new.0 == fd) {
                    let _ = fd::epoll_delete(&self.epoll, fd);
                }
            }
            for &(fd, interest) in &fds {
                if !entry.fds.contains(&(fd, interest)) && !register(&self.epoll, key, fd, interest)
                {
                    self.now.insert(key);
                }
            }
            std::mem::swap(&mut entry.fds, &mut fds);
        }
        self.wants.fds = fds;
    }

    /// `key` is gone, and its descriptors are closed.
    pub fn forget(&mut self, key: Key) {
        self.now.remove(&key);
        if let Some(Entry {
            deadline: Some(d), ..
        }) = self.entries.remove(&key)
        {
            self.deadlines.remove(&(d, key));
        }
    }

    pub fn wait(&self, poller: &mut Poller) {
        if !self.now.is_empty() {
            poller.wake_now();
        }
        if let Some(&(deadline, _)) = self.deadlines.first() {
            poller.wait_until(deadline);
        }
        poller.wait_fd(self.epoll.as_fd(), Interest::READ);
    }
}

/// One interest for each descriptor.
fn merge(fds: &mut Vec<(RawFd, Interest)>) {
    fds.sort_by_key(|f| f.0);
    fds.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 |= next.1;
        }
        same
    });
}

fn register(epoll: &OwnedFd, key: Key, fd: RawFd, interest: Interest) -> bool {
    let mut events = Events::empty();
    events.set(Events::IN, interest != Interest::WRITE);
    events.set(Events::OUT, interest != Interest::READ);
    fd::epoll_set(epoll, fd, key, events).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    fn who_waits_for_what_is_there_is_ready_until_he_waits_for_something_else() {
        let ((read, write), now) = (pipe().unwrap(), ferrovs_runtime::clock::now());
        let mut watch = Watch::new();
        watch.update(7, 1, |p| p.wait_fd(read.as_fd(), Interest::READ));
        assert!(watch.ready(now).is_empty());
        rustix::io::write(&write, b"x").unwrap();
        assert!(watch.ready(now).contains(&7));
        assert!(watch.ready(now).contains(&7));
        watch.update(7, 1, |_| {});
        assert!(watch.ready(now).is_empty());
    }

    #[test]
    fn a_number_that_was_closed_belongs_to_its_next_owner() {
        let ((read, write), now) = (pipe().unwrap(), ferrovs_runtime::clock::now());
        rustix::io::write(&write, b"x").unwrap();
        let mut watch = Watch::new();
        watch.update(1, 1, |p| p.wait_fd(read.as_fd(), Interest::READ));
        // Owner 1 closed it and has the next epoch; owner 2 got the same number.
        watch.update(2, 1, |p| p.wait_fd(read.as_fd(), Interest::READ));
        watch.update(1, 2, |_| {});
        assert_eq!(watch.ready(now), BTreeSet::from([2]));
    }

    #[test]
    fn deadlines_come_once() {
        let now = ferrovs_runtime::clock::now();
        let mut watch = Watch::new();
        watch.update(3, 1, |p| p.wait_until(now));
        assert_eq!(watch.ready(now), BTreeSet::from([3]));
        assert!(watch.ready(now).is_empty());
        watch.update(3, 1, |p| p.wake_now());
        assert_eq!(watch.ready(now), BTreeSet::from([3]));
    }
}
