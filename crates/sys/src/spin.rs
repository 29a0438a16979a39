//! A lock for what is held some hundreds of nanoseconds: it costs one atomic exchange, and to let go of it a store.
//!
//! Who waits spins; after a while it gives the processor away each time, in case whoever holds the lock needs it.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a waiting thread looks before it gives its processor away.
const SPINS: u32 = 100;

/// See the module's text. The value is beside the lock, so that one cache line may hold both.
#[derive(Default)]
#[repr(C)]
pub struct Spin<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: at most one thread has a guard, through which alone the value is reached.
unsafe impl<T: Send> Sync for Spin<T> {}

impl<T> Spin<T> {
    pub fn new(value: T) -> Spin<T> {
        Spin {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        if self.held.swap(true, Ordering::Acquire) {
            self.wait();
        }
        SpinGuard {
            spin: self,
            value: PhantomData,
        }
    }

    #[cold]
    fn wait(&self) {
        let mut spins = 0;
        loop {
            while self.held.load(Ordering::Relaxed) {
                spins += 1;
                match spins < SPINS {
                    true => std::hint::spin_loop(),
                    false => std::thread::yield_now(),
                }
            }
            if !self.held.swap(true, Ordering::Acquire) {
                return;
            }
        }
    }
}

/// The lock is held as long as this lives.
pub struct SpinGuard<'a, T> {
    spin: &'a Spin<T>,
    /// Other threads may see it as they may see a mutable reference.
    value: PhantomData<&'a mut T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so nobody else changes the value.
        unsafe { &*self.spin.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held and this guard is borrowed mutably, so nobody else sees the value.
        unsafe { &mut *self.spin.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.spin.held.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_has_the_value() {
        let (spin, rounds) = (Spin::new(0u64), 20_000);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..rounds {
                        // Two steps, which another thread would come between.
                        let mut value = spin.lock();
                        let seen = *value;
                        *value = std::hint::black_box(seen) + 1;
                    }
                });
            }
        });
        assert_eq!(*spin.lock(), 4 * rounds);
    }

    #[test]
    fn a_panic_lets_go() {
        let spin = Spin::new(1);
        let panics = std::panic::AssertUnwindSafe(|| {
            let _held = spin.lock();
            std::panic::panic_any(());
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(*spin.lock(), 1);
    }
}
