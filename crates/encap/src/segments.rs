//! Segments that wait for the rest of their frame, of tunnels that cut frames as STT does.
//!
//! Whoever can send to the host can make segments wait, so there is room for so many bytes and no more: when it is used up,
//! the frame that waited longest is given up, as is one that waited too long. Segments that overlap make no frame; one
//! that comes twice is there once.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Bytes that may wait, with what each segment costs besides.
const MAX_BYTES: usize = 16 << 20;
const OVERHEAD: usize = 128;
/// The segments of a frame are sent in one go.
const PATIENCE: Duration = Duration::from_secs(1);

/// What tells the segments of one frame from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub addresses: (IpAddr, IpAddr),
    pub ports: u32,
    pub id: u32,
    /// Length of the whole.
    pub len: usize,
}

#[derive(Debug)]
struct Frame {
    /// Its number in the order of arrival.
    number: u64,
    /// By offset.
    parts: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Segments {
    frames: HashMap<Key, Frame>,
    /// By order of arrival: until when a frame is waited for.
    order: BTreeMap<u64, (Instant, Key)>,
    next: u64,
    bytes: usize,
}

/// What came of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The parts of the frame, in order, if it is whole.
    pub frame: Option<Vec<Vec<u8>>>,
    /// So many segments were given up, this one maybe among them.
    pub given_up: usize,
}

impl Segments {
    /// Takes a segment in.
    pub fn add(&mut self, key: Key, offset: usize, payload: &[u8], now: Instant) -> Added {
        let mut given_up = self.expire(now);
        let frame = self.frames.entry(key).or_insert_with(|| {
            let number = self.next;
            self.next += 1;
            self.order.insert(number, (now + PATIENCE, key));
            Frame {
                number,
                parts: BTreeMap::new(),
                bytes: 0,
            }
        });
        let before = frame.parts.range(..=offset).next_back();
        let behind = frame.parts.range(offset..).next();
        let end = offset + payload.len();
        if before.is_some_and(|(at, part)| *at == offset && part == payload) {
            given_up += 1;
            return Added {
                frame: None,
                given_up,
            };
        }
        let overlaps = before.is_some_and(|(at, part)| at + part.len() > offset)
            || behind.is_some_and(|(at, _)| *at < end);
        if overlaps {
            given_up += 1 + self.give_up(&key);
            return Added {
                frame: None,
                given_up,
            };
        }
        frame.parts.insert(offset, payload.to_vec());
        frame.bytes += payload.len();
        self.bytes += payload.len() + OVERHEAD;
        if frame.bytes == key.len {
            let parts = self.take(&key).map(|f| f.parts.into_values().collect());
            return Added {
                frame: parts,
                given_up,
            };
        }
        while self.bytes > MAX_BYTES {
            let oldest = self.order.first_key_value().map(|(_, (_, key))| *key);
            given_up += oldest.map_or(0, |key| self.give_up(&key));
        }
        Added {
            frame: None,
            given_up,
        }
    }

    /// Gives up what waited too long.
    fn expire(&mut self, now: Instant) -> usize {
        let mut given_up = 0;
        while let Some((_, (until, key))) = self.order.first_key_value() {
            if *until > now {
                break;
            }
            let key = *key;
            given_up += self.give_up(&key);
        }
        given_up
    }

    fn give_up(&mut self, key: &Key) -> usize {
        self.take(key).map_or(0, |f| f.parts.len())
    }

    fn take(&mut self, key: &Key) -> Option<Frame> {
        let frame = self.frames.remove(key)?;
        self.order.remove(&frame.number);
        self.bytes -= frame.bytes + OVERHEAD * frame.parts.len();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32, len: usize) -> Key {
        Key {
            addresses: (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])),
            ports: 7,
            id,
            len,
        }
    }

    fn whole(a: Added) -> Option<Vec<u8>> {
        assert_eq!(a.given_up, 0);
        a.frame.map(|parts| parts.concat())
    }

    #[test]
    fn segments_make_their_frame_in_any_order_beside_others() {
        let (mut s, now) = (Segments::default(), ferrovs_runtime::clock::now());
        assert_eq!(whole(s.add(key(1, 6), 4, b"ef", now)), None);
        assert_eq!(whole(s.add(key(2, 4), 0, b"AB", now)), None);
        assert_eq!(whole(s.add(key(1, 6), 0, b"ab", now)), None);
        assert_eq!(whole(s.add(key(2, 4), 2, b"CD", now)).unwrap(), b"ABCD");
        assert_eq!(whole(s.add(key(1, 6), 2, b"cd", now)).unwrap(), b"abcdef");
        assert_eq!((s.frames.len(), s.order.len(), s.bytes), (0, 0, 0));
    }

    #[test]
    fn what_overlaps_or_waits_too_long_is_given_up_and_counted() {
        let (mut s, now) = (Segments::default(), ferrovs_runtime::clock::now());
        s.add(key(1, 9), 0, b"abc", now);
        let twice = s.add(key(1, 9), 0, b"abc", now);
        assert_eq!((twice.frame, twice.given_up), (None, 1));
        assert_eq!(s.add(key(1, 9), 2, b"cd", now).given_up, 2);
        assert_eq!(s.bytes, 0);
        s.add(key(2, 9), 3, b"def", now);
        s.add(key(3, 9), 3, b"def", now + PATIENCE / 2);
        let late = s.add(key(2, 9), 0, b"abc", now + PATIENCE);
        assert_eq!((late.frame, late.given_up), (None, 1));
        assert_eq!(s.frames.len(), 2);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let (mut s, now) = (Segments::default(), ferrovs_runtime::clock::now());
        let mut given_up = 0;
        let part = vec![7; 1460];
        const N: u32 = 30_000;
        for id in 0..N {
            given_up += s.add(key(id, 3000), 0, &part, now).given_up;
            assert!(s.bytes <= MAX_BYTES);
        }
        assert_eq!(given_up + s.frames.len(), N as usize);
        assert!(s.frames.contains_key(&key(N - 1, 3000)));
        assert!(!s.frames.contains_key(&key(0, 3000)));
        assert_eq!(s.frames.len(), s.order.len());
    }

    #[test]
    fn whatever_comes_a_frame_is_its_bytes_and_every_segment_is_accounted_for() {
        // A small generator: the same every time.
        let mut seed = 12345u32;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % n
        };
        let (mut s, start) = (Segments::default(), ferrovs_runtime::clock::now());
        let (mut came, mut made, mut lost) = (0, 0, 0);
        for step in 0..200_000 {
            let len = [40, 60][random(2)];
            let offset = random(len);
            let n = 1 + random(len - offset);
            let bytes: Vec<u8> = (offset..offset + n).map(|at| at as u8).collect();
            let now = start + Duration::from_millis(step / 10);
            let added = s.add(key(random(20) as u32, len), offset, &bytes, now);
            came += 1;
            lost += added.given_up;
            if let Some(parts) = added.frame {
                made += parts.len();
                let want: Vec<u8> = (0..len).map(|at| at as u8).collect();
                assert_eq!(parts.concat(), want);
            }
            assert_eq!(s.frames.len(), s.order.len());
        }
        let waits: usize = s.frames.values().map(|f| f.parts.len()).sum();
        assert_eq!(came, made + lost + waits);
        assert!(made > 0 && lost > 0);
    }
}
