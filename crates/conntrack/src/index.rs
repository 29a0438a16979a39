//! From hashes to places: a table of cache lines, each with eight entries, that are searched one after the other until
//! one has room.
//!
//! An entry is the lower half of a hash, its tag, and a number; the tag says in which line to begin. Whoever asks says
//! of the numbers under a tag which one was meant. Where a line is in memory may be told to others, who have it
//! fetched without holding anything: see [`Index::fetch`].
//!
//! ```text
//!   line   [ tag tag tag tag tag tag tag tag | at at at at at at at at ]    packed to the left; at = 0: free
//! ```
//!
//! Invariant: all lines from that in which an entry should be up to that in which it is are full.

use ferrovs_sys::prefetch;

const WAYS: usize = 8;

#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line {
    tags: [u32; WAYS],
    /// The numbers, plus one.
    ats: [u32; WAYS],
}

impl Line {
    /// The places whose tag it is, as bits; free places among them.
    #[inline]
    fn having(&self, tag: u32) -> u32 {
        // In this shape it becomes a handful of vector instructions.
        const BITS: [u32; WAYS] = [1, 2, 4, 8, 16, 32, 64, 128];
        let bits: [u32; WAYS] =
            std::array::from_fn(|i| if self.tags[i] == tag { BITS[i] } else { 0 });
        let half: [u32; WAYS / 2] = std::array::from_fn(|i| bits[i] | bits[i + WAYS / 2]);
        half[0] | half[1] | half[2] | half[3]
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.ats[WAYS - 1] != 0
    }

    fn len(&self) -> usize {
        self.ats.iter().take_while(|at| **at != 0).count()
    }

    fn push(&mut self, tag: u32, at: u32) {
        let len = self.len();
        if let (Some(t), Some(a)) = (self.tags.get_mut(len), self.ats.get_mut(len)) {
            (*t, *a) = (tag, at);
        }
    }

    /// Takes the entry at a place out, where the last one then is.
    fn remove(&mut self, i: usize) -> (u32, u32) {
        let gone = (self.tags[i], self.ats[i]);
        let last = self.len() - 1;
        (self.tags[i], self.ats[i]) = (self.tags[last], self.ats[last]);
        (self.tags[last], self.ats[last]) = (0, 0);
        gone
    }
}

/// Where an index is, for [`fetch`]: its address, in the lower bits of which, which are zero, is the binary logarithm of
/// how many lines it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts(pub usize);

/// Has the line fetched in which entries of a tag begin, if the index is still there.
#[inline]
pub fn fetch(there: Whereabouts, tag: u32) {
    let low = align_of::<Line>() - 1;
    let mask = (1usize << (there.0 & low)) - 1;
    prefetch::at((there.0 & !low) + (tag as usize & mask) * size_of::<Line>());
}

/// See the module's text.
#[repr(C)]
pub struct Index {
    /// A power of two.
    lines: Box<[Line]>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Index {
            lines: Box::new([Line::default()]),
            len: 0,
        }
    }
}

impl Index {
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts(self.lines.as_ptr().addr() | self.lines.len().ilog2() as usize)
    }

    #[inline]
    fn mask(&self) -> usize {
        self.lines.len() - 1
    }

    /// The number under a tag that was meant.
    #[inline]
    pub fn find(&self, tag: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = tag as usize;
        loop {
            let line = &self.lines[at & self.mask()];
            let mut having = line.having(tag);
            while having != 0 {
                let number = line.ats[having.trailing_zeros() as usize % WAYS];
                having &= having - 1;
                if number != 0 && is(number - 1) {
                    return Some(number - 1);
                }
            }
            // One line at least has room.
            if !line.is_full() {
                return None;
            }
            at += 1;
        }
    }

    /// Adds a number under a tag; tells whether the whereabouts have changed.
    pub fn insert(&mut self, tag: u32, number: u32) -> bool {
        // At most five of eight: few lines are full then.
        let grows = (self.len + 1) * 8 > self.lines.len() * WAYS * 5;
        if grows {
            let lines = vec![Line::default(); self.lines.len() * 2];
            let old = std::mem::replace(&mut self.lines, lines.into());
            for line in &old {
                for (tag, at) in line.tags.iter().zip(&line.ats).filter(|(_, at)| **at != 0) {
                    self.put(*tag, *at);
                }
            }
        }
        self.put(tag, number + 1);
        self.len += 1;
        grows
    }

    fn put(&mut self, tag: u32, at: u32) {
        let mask = self.mask();
        let mut line = tag as usize & mask;
        while self.lines[line].is_full() {
            line = (line + 1) & mask;
        }
        self.lines[line].push(tag, at);
    }

    /// Takes a number out; false if it is not there under the tag.
    pub fn remove(&mut self, tag: u32, number: u32) -> bool {
        let mask = self.mask();
        let mut line = tag as usize & mask;
        loop {
            let here = &mut self.lines[line];
            let was_full = here.is_full();
            let is = |(t, at): (&u32, &u32)| *t == tag && *at == number + 1;
            if let Some(i) = here.tags.iter().zip(&here.ats).position(is) {
                here.remove(i);
                self.len -= 1;
                if was_full {
                    self.refill(line);
                }
                return true;
            }
            if !was_full {
                return false;
            }
            line = (line + 1) & mask;
        }
    }

    /// Room has become in a line that was full: fetches back what went past it, so that the invariant holds.
    fn refill(&mut self, mut room: usize) {
        let mask = self.mask();
        let mut line = room;
        loop {
            line = (line + 1) & mask;
            if line == room {
                return;
            }
            let from = &mut self.lines[line];
            let was_full = from.is_full();
            let way = line.wrapping_sub(room) & mask;
            let len = from.len();
            let passed = |tag: &u32| line.wrapping_sub(*tag as usize) & mask >= way;
            if let Some(i) = from.tags[..len].iter().position(passed) {
                let (tag, at) = from.remove(i);
                self.lines[room].push(tag, at);
                room = line;
            }
            if !was_full {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_set_has(
            // Few tags that share lines, so that these overflow.
            steps in prop::collection::vec((any::<bool>(), 0u32..6, 0u32..40), 0..150),
        ) {
            let mut index = Index::default();
            let mut model = HashSet::new();
            for (add, tag, number) in steps {
                // One number is under one tag only.
                let tag = (tag ^ (number % 3)) << 1;
                match add {
                    true if model.iter().all(|(_, n)| *n != number) => {
                        index.insert(tag, number);
                        model.insert((tag, number));
                    }
                    true => {}
                    false => prop_assert_eq!(index.remove(tag, number), model.remove(&(tag, number))),
                }
                for tag in 0..16 {
                    for number in 0..40 {
                        let found = index.find(tag, |n| n == number).is_some();
                        prop_assert_eq!(found, model.contains(&(tag, number)));
                    }
                }
            }
            prop_assert_eq!(index.len, model.len());
        }
    }

    #[test]
    fn it_is_where_it_says_until_it_grows() {
        let mut index = Index::default();
        let mut there = index.whereabouts();
        for n in 0..1000u32 {
            let moved = index.insert(n.wrapping_mul(0x9e37_79b9), n);
            assert_eq!(moved, index.whereabouts() != there, "{n}");
            there = index.whereabouts();
        }
        assert!(index.lines.len() * WAYS < 1000 * 4);
        assert!(
            (0..1000u32).all(|n| index.find(n.wrapping_mul(0x9e37_79b9), |m| m == n) == Some(n))
        );
    }
}
