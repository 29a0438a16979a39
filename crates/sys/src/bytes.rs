//! Bytes that several can hold and one alone can change.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// A run of bytes of fixed length. A clone is another holder of the same bytes; while there are several, none can
/// change them. Unlike [`Arc::get_mut`], asking for that costs no locked instruction, which matters where packets ask
/// for each header.
#[derive(Clone, Debug, Default)]
// Invariant: no `Weak` to it is ever made, so the strong count alone says how many holders there are. None is no bytes:
// an empty Arc would count its holders too, in one place for all threads.
pub struct SharedBytes(Option<Arc<[u8]>>);

impl SharedBytes {
    /// Zeroes.
    pub fn new(len: usize) -> SharedBytes {
        SharedBytes(Some(std::iter::repeat_n(0, len).collect()))
    }

    /// Whether somebody else holds the bytes too.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.0.as_ref().is_some_and(|b| Arc::strong_count(b) != 1)
    }

    /// The bytes to change; None while they are shared.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        if self.is_shared() {
            return None;
        }
        let bytes = self.0.as_ref()?;
        // What other holders did with the bytes happened before they let go.
        fence(Ordering::Acquire);
        // SAFETY: this is the only holder, there is no Weak (see the type), and `self` is borrowed exclusively for as
        // long as the slice lives, so no clone can be made meanwhile. Arc::as_ptr points into the allocation that the
        // Arc owns, with leave to write.
        Some(unsafe { &mut *Arc::as_ptr(bytes).cast_mut() })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sole_holder_can_change_the_bytes() {
        let mut a = SharedBytes::new(4);
        a.get_mut().unwrap()[1] = 7;
        let mut b = a.clone();
        assert!(a.get_mut().is_none() && b.get_mut().is_none());
        assert_eq!(b[..], [0, 7, 0, 0]);
        std::thread::spawn(move || drop(a)).join().unwrap();
        b.get_mut().unwrap()[0] = 1;
        assert_eq!(b[..], [1, 7, 0, 0]);
    }

    #[test]
    fn no_bytes_are_held_by_nobody() {
        let (a, b) = (SharedBytes::default(), SharedBytes::default());
        assert!(a.is_empty() && !a.is_shared() && !b.is_shared());
        assert!(a.clone().get_mut().is_none());
        assert_eq!(size_of::<SharedBytes>(), size_of::<Arc<[u8]>>());
    }
}
