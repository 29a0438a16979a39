//! What packets are kept in between uses: lists of each thread, so that the packet path does not allocate.

use std::cell::RefCell;

use ferrovs_sys::bytes::SharedBytes;

use super::{Batch, HEADROOM, MAX_DATA, Packet, PacketBuf};

/// Sizes of pooled buffers: ordinary frames, and GSO frames.
const SMALL: usize = 2048 + HEADROOM;
const LARGE: usize = MAX_DATA + HEADROOM;
/// Buffers of each size that a thread keeps.
const KEEP_SMALL: usize = 1024;
const KEEP_LARGE: usize = 96;
const KEEP_BARE: usize = 1024;

/// Packets that a thread can use again: with a buffer of either size, and without one.
// The boxes are what packets are handed out in.
#[allow(clippy::vec_box)]
pub(super) struct Pool {
    pub(super) small: Vec<Box<PacketBuf>>,
    pub(super) large: Vec<Box<PacketBuf>>,
    pub(super) bare: Vec<Box<PacketBuf>>,
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            small: Vec::new(),
            large: Vec::new(),
            bare: Vec::new(),
        })
    };
}

/// What `f` says of the thread's pool; None in a thread that is ending, whose packets are simply freed.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(&mut Pool) -> R) -> Option<R> {
    let found = POOL.try_with(|pool| pool.try_borrow_mut().ok().map(|mut pool| f(&mut pool)));
    found.ok().flatten()
}

/// A packet with a buffer of that size at least.
#[inline]
pub(super) fn take(size: usize) -> Box<PacketBuf> {
    with(|pool| pool.take(size)).unwrap_or_else(|| PacketBuf::new(SharedBytes::new(size)))
}

/// A packet without a buffer.
pub(super) fn take_bare() -> Box<PacketBuf> {
    with(Pool::take_bare).unwrap_or_else(|| PacketBuf::new(SharedBytes::default()))
}

/// Drops all packets of a batch, which takes less than to drop one after the other.
#[inline]
pub fn free(batch: &mut Batch) {
    with(|pool| {
        for mut packet in batch.drain(..) {
            if let Some(buf) = packet.0.take() {
                pool.give(buf);
            }
        }
    });
    batch.clear();
}

/// Fills a batch with copies of frames, as many as there are and find room.
#[inline]
pub fn copy<'a>(frames: impl Iterator<Item = &'a [u8]>, batch: &mut Batch) {
    let mut frames = frames.take(batch.remaining_capacity());
    make(batch, |maker| {
        for frame in frames.by_ref() {
            maker.add(frame.len(), |room| room.copy_from_slice(frame));
        }
    });
}

/// Adds packets to a batch.
pub struct Maker<'a> {
    /// None in a thread that is ending.
    pool: Option<&'a mut Pool>,
    batch: &'a mut Batch,
}

/// Lets `f` add packets to a batch, which takes less than to make one after the other.
#[inline]
pub fn make(batch: &mut Batch, mut f: impl FnMut(&mut Maker<'_>)) {
    let made = with(|pool| {
        let pool = Some(pool);
        f(&mut Maker { pool, batch });
    });
    if made.is_none() {
        f(&mut Maker { pool: None, batch });
    }
}

impl Maker<'_> {
    /// Adds a packet of `size` bytes, all of which `write` sets; the batch must have room. Returns it.
    #[inline]
    pub fn add(&mut self, size: usize, write: impl FnOnce(&mut [u8])) -> &mut Packet {
        let end = HEADROOM + size;
        let mut buf = match &mut self.pool {
            Some(pool) => pool.take(end),
            None => PacketBuf::new(SharedBytes::new(end)),
        };
        (buf.start, buf.end) = (HEADROOM as u32, end as u32);
        if let Some(bytes) = buf.storage.get_mut() {
            write(&mut bytes[HEADROOM..end]);
        }
        let at = self.batch.len();
        self.batch.push(Packet(Some(buf)));
        &mut self.batch[at]
    }
}

impl Pool {
    #[inline]
    fn take(&mut self, size: usize) -> Box<PacketBuf> {
        let list = match size {
            0..=SMALL => &mut self.small,
            _ => &mut self.large,
        };
        match list.pop() {
            Some(buf) if size <= LARGE => buf,
            other => {
                list.extend(other);
                self.make(size)
            }
        }
    }

    /// A packet with a new buffer.
    #[cold]
    fn make(&mut self, size: usize) -> Box<PacketBuf> {
        let size = match size {
            0..=SMALL => SMALL,
            n if n <= LARGE => LARGE,
            _ => size,
        };
        let mut buf = self.take_bare();
        buf.storage = SharedBytes::new(size);
        buf
    }

    /// A packet without a buffer.
    fn take_bare(&mut self) -> Box<PacketBuf> {
        let bare = self.bare.pop();
        bare.unwrap_or_else(|| PacketBuf::new(SharedBytes::default()))
    }

    #[inline]
    pub(super) fn give(&mut self, mut buf: Box<PacketBuf>) {
        buf.reset();
        if !buf.storage.is_shared() {
            match buf.storage.len() {
                SMALL if self.small.len() < KEEP_SMALL => return self.small.push(buf),
                LARGE if self.large.len() < KEEP_LARGE => return self.large.push(buf),
                _ => {}
            }
        }
        if self.bare.len() < KEEP_BARE {
            buf.storage = SharedBytes::default();
            self.bare.push(buf);
        }
    }
}
