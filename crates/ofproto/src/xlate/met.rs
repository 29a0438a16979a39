//! The rules that a translation meets.
//!
//! A rule that was met stays where it is until the translation has ended, so that its actions can run, and nested ones
//! in them, without counting who looks at it.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use smallvec::SmallVec;

use super::xcache::Way;
use crate::rule::Rule;
use crate::tables::Tables;

/// Rules that have a place from the beginning, and that are added when there is none left.
const CHUNK: usize = 32;

#[derive(Default)]
struct Chunk {
    rules: [OnceCell<Arc<Rule>>; CHUNK],
    next: OnceCell<Box<Chunk>>,
}

/// See the module's text.
#[derive(Default)]
pub struct Met {
    first: Chunk,
    len: Cell<usize>,
    /// Whose rules they are: from which on those of which tables.
    stays: RefCell<SmallVec<[(usize, Arc<Tables>); 1]>>,
}

impl Met {
    /// Adds a rule of these tables.
    pub fn add(&self, tables: &Arc<Tables>, rule: Arc<Rule>) -> &Arc<Rule> {
        let n = self.len.get();
        self.len.set(n + 1);
        let mut stays = self.stays.borrow_mut();
        if stays
            .last()
            .is_none_or(|(_, last)| !Arc::ptr_eq(last, tables))
        {
            stays.push((n, tables.clone()));
        }
        let mut chunk = &self.first;
        for _ in 0..n / CHUNK {
            chunk = chunk.next.get_or_init(Box::default);
        }
        chunk.rules[n % CHUNK].get_or_init(|| rule)
    }

    /// The rules in order, those of one bridge together for as long as the packet stayed there.
    pub fn ways(self) -> impl Iterator<Item = Way> {
        let len = self.len.get();
        let stays = self.stays.into_inner();
        let ends: SmallVec<[usize; 1]> = stays.iter().skip(1).map(|s| s.0).chain([len]).collect();
        let mut rules = Rules(self.first, 0);
        stays
            .into_iter()
            .zip(ends)
            .map(move |((start, tables), end)| {
                let rules = rules.by_ref().take(end - start).collect();
                Way { tables, rules }
            })
    }
}

/// Takes the rules out in order, and which place comes next.
struct Rules(Chunk, usize);

impl Iterator for Rules {
    type Item = Arc<Rule>;

    fn next(&mut self) -> Option<Arc<Rule>> {
        if self.1 == CHUNK {
            *self = Rules(*self.0.next.take()?, 0);
        }
        self.1 += 1;
        self.0.rules[self.1 - 1].take()
    }
}
