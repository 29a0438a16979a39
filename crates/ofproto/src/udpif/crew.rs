//! Threads that share a piece of work with the one who brings it.
//!
//! The work is a number of items, each done by whoever comes first. Who brought it works too, and goes on when the last
//! item is done, so that one piece is there at a time. Without helpers it is an ordinary loop.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Work = dyn Fn(usize) + Send + Sync;

struct Job {
    work: Box<Work>,
    n_items: usize,
    next: AtomicUsize,
    left: AtomicUsize,
}

impl Job {
    fn has_more(&self) -> bool {
        self.next.load(Relaxed) < self.n_items
    }
}

#[derive(Default)]
struct Inner {
    job: Option<Arc<Job>>,
    n_helpers: usize,
    stopped: bool,
}

/// See the module's text.
#[derive(Default)]
pub struct Crew {
    inner: Mutex<Inner>,
    /// There is work, or the end has come.
    posted: Condvar,
    /// The last item is done.
    done: Condvar,
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` for each number below `n_items`, and returns when all are done.
    pub fn share(&self, n_items: usize, work: impl Fn(usize) + Send + Sync + 'static) {
        let mut inner = self.lock();
        if inner.n_helpers == 0 || n_items < 2 {
            drop(inner);
            return (0..n_items).for_each(work);
        }
        let job = Arc::new(Job {
            work: Box::new(work),
            n_items,
            next: AtomicUsize::new(0),
            left: AtomicUsize::new(n_items),
        });
        inner.job = Some(job.clone());
        drop(inner);
        self.posted.notify_all();
        self.work_on(&job);
        let mut inner = self.lock();
        while job.left.load(Relaxed) > 0 {
            let wait = self.done.wait(inner);
            inner = wait.unwrap_or_else(PoisonError::into_inner);
        }
        inner.job = None;
    }

    /// Helps with all work until [`Crew::stop`].
    pub fn help(&self) {
        let mut inner = self.lock();
        inner.n_helpers += 1;
        while !inner.stopped {
            let job = inner.job.clone().filter(|job| job.has_more());
            if let Some(job) = job {
                drop(inner);
                self.work_on(&job);
                inner = self.lock();
            } else {
                let wait = self.posted.wait(inner);
                inner = wait.unwrap_or_else(PoisonError::into_inner);
            }
        }
        inner.n_helpers -= 1;
    }

    /// Sends the helpers home; what they have begun they finish.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.posted.notify_all();
    }

    /// Lets helpers come again.
    pub fn restart(&self) {
        self.lock().stopped = false;
    }

    fn work_on(&self, job: &Job) {
        /// An item counts as done even if its work panicked: who waits must not wait for ever.
        struct Done<'a>(&'a Crew, &'a Job);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                let _inner = self.0.lock();
                if self.1.left.fetch_sub(1, Relaxed) == 1 {
                    self.0.done.notify_all();
                }
            }
        }
        loop {
            let item = job.next.fetch_add(1, Relaxed);
            if item >= job.n_items {
                return;
            }
            let _done = Done(self, job);
            (job.work)(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn every_item_is_done_once_and_by_all() {
        let crew = Arc::new(Crew::default());
        let helpers: Vec<_> = (0..3)
            .map(|_| {
                let crew = crew.clone();
                std::thread::spawn(move || crew.help())
            })
            .collect();
        while crew.lock().n_helpers < 3 {
            std::thread::yield_now();
        }
        // Nobody gets on before four threads have an item each.
        let meeting = Arc::new(Barrier::new(4));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (met, all) = (meeting.clone(), seen.clone());
        crew.share(4, move |item| {
            met.wait();
            all.lock().unwrap().push(item);
        });
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        crew.stop();
        for helper in helpers {
            helper.join().unwrap();
        }
        // Alone it works as well.
        let n = Arc::new(AtomicUsize::new(0));
        let count = n.clone();
        crew.share(5, move |item| _ = count.fetch_add(item, Relaxed));
        assert_eq!(n.load(Relaxed), 10);
    }
}
