//! A thread that frees what is large: to free a million rules takes as long as to find them.
//!
//! It is there while it has something to do, one for the whole process. What comes while it has much to do is freed by
//! whoever brings it.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most things that wait to be freed.
const MAX_WAITING: usize = 4;

type Thing = Box<dyn Any + Send>;

struct State {
    waiting: VecDeque<Thing>,
    running: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    waiting: VecDeque::new(),
    running: false,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees `thing` soon.
pub(super) fn free(thing: impl Send + 'static) {
    let mut s = state();
    if s.waiting.len() >= MAX_WAITING {
        drop(s);
        return drop(thing);
    }
    s.waiting.push_back(Box::new(thing));
    if !s.running {
        s.running = true;
        drop(s);
        let thread = std::thread::Builder::new().name("free".into());
        if thread.spawn(run).is_err() {
            run();
        }
    }
}

fn run() {
    while let Some(thing) = next() {
        drop(thing);
    }
}

fn next() -> Option<Thing> {
    let mut s = state();
    let thing = s.waiting.pop_front();
    s.running = thing.is_some();
    thing
}
