//! The rules that a translation meets.
//!
//! A rule that was met stays where it is until the translation has ended, so that its actions can run, and nested ones
//! in them, without counting who looks at it.
//!
//! Packets that are alike mostly go the same way. So a translation guesses that it will go the way of an
//! [earlier one](Draft), whose record holds the rules already: only where it strays from that does it hold rules itself.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use ferrovs_classifier::Found;
use smallvec::SmallVec;

use super::xcache::{Draft, Way, XCache};
use crate::rule::Rule;
use crate::tables::Tables;

/// Rules that have a place when the first comes, and that are added when there is none left.
const CHUNK: usize = 32;

#[derive(Default)]
struct Chunk {
    rules: [OnceCell<Arc<Rule>>; CHUNK],
    next: Next,
}

type Next = OnceCell<Box<Chunk>>;

/// See the module's text.
#[derive(Default)]
pub struct Met {
    guess: Option<Arc<XCache>>,
    /// How far the guess has come true: whole ways, and rules of the next.
    as_guessed: Cell<(usize, usize)>,
    /// The rules from where it did not, and how many.
    own: Next,
    len: Cell<usize>,
    /// Whose rules they are: from which on those of which tables.
    stays: RefCell<SmallVec<[(usize, Arc<Tables>); 1]>>,
}

impl Met {
    /// Begins with the guess of a draft.
    pub fn guessing(draft: Option<&Draft>) -> Met {
        Met {
            guess: draft.and_then(|draft| draft.guess.clone()),
            ..Met::default()
        }
    }

    /// Adds a rule of these tables.
    pub fn add(&self, tables: &Arc<Tables>, rule: Found<'_, Rule>) -> &Arc<Rule> {
        if let Some(guessed) = self.expected()
            && Arc::ptr_eq(guessed, &rule)
        {
            let (way, n) = self.as_guessed.get();
            self.as_guessed.set((way, n + 1));
            return guessed;
        }
        self.add_own(tables, rule.into_arc())
    }

    /// The rule that comes next if the guess is right; none once it was not.
    pub fn expected(&self) -> Option<&Arc<Rule>> {
        if self.len.get() > 0 {
            return None;
        }
        let ways = &self.guess.as_ref()?.ways;
        let (way, n) = self.as_guessed.get();
        let rules = &ways.get(way)?.rules;
        if n < rules.len() {
            return Some(&rules[n]);
        }
        self.as_guessed.set((way + 1, 0));
        ways.get(way + 1)?.rules.first()
    }

    fn add_own(&self, tables: &Arc<Tables>, rule: Arc<Rule>) -> &Arc<Rule> {
        let n = self.len.get();
        self.len.set(n + 1);
        let mut stays = self.stays.borrow_mut();
        if stays
            .last()
            .is_none_or(|(_, last)| !Arc::ptr_eq(last, tables))
        {
            stays.push((n, tables.clone()));
        }
        let mut chunk = self.own.get_or_init(Box::default);
        for _ in 0..n / CHUNK {
            chunk = chunk.next.get_or_init(Box::default);
        }
        chunk.rules[n % CHUNK].get_or_init(|| rule)
    }

    /// Whether the rules were those of the guess, and all of them.
    fn came_true(&self) -> bool {
        let (way, n) = self.as_guessed.get();
        self.guess
            .as_ref()
            .is_some_and(|guess| match guess.ways.get(way) {
                Some(last) => way + 1 == guess.ways.len() && n == last.rules.len(),
                None => true,
            })
            && self.len.get() == 0
    }

    /// Writes the rules down, those of one bridge together for as long as the packet stayed there.
    pub fn note(self, draft: &mut Draft) {
        draft.is_guess = self.came_true();
        if draft.is_guess {
            return;
        }
        let guessed = self.guess.iter().flat_map(|guess| &guess.ways);
        let (whole, rest) = self.as_guessed.get();
        let mut ways: Vec<_> = guessed
            .enumerate()
            .map_while(|(i, way)| match i.cmp(&whole) {
                std::cmp::Ordering::Less => Some((&way.tables, way.rules.to_vec())),
                std::cmp::Ordering::Equal if rest > 0 => {
                    Some((&way.tables, way.rules[..rest].to_vec()))
                }
                _ => None,
            })
            .map(|(tables, rules)| (tables.clone(), rules))
            .collect();
        let stays = self.stays.into_inner();
        let ends: SmallVec<[usize; 1]> = (stays.iter().skip(1).map(|stay| stay.0))
            .chain([self.len.get()])
            .collect();
        let mut rules = Rules(self.own.into_inner(), 0);
        for ((start, tables), end) in stays.into_iter().zip(ends) {
            let own = rules.by_ref().take(end - start);
            match ways.last_mut() {
                Some((last, rules)) if Arc::ptr_eq(last, &tables) => rules.extend(own),
                _ => ways.push((tables, own.collect())),
            }
        }
        let ways = ways.into_iter().map(|(tables, rules)| Way {
            tables,
            rules: rules.into(),
        });
        draft.record.ways = ways.collect();
    }
}

/// Takes the rules out in order, and which place comes next.
struct Rules(Option<Box<Chunk>>, usize);

impl Iterator for Rules {
    type Item = Arc<Rule>;

    fn next(&mut self) -> Option<Arc<Rule>> {
        if self.1 == CHUNK {
            *self = Rules(self.0.take()?.next.into_inner(), 0);
        }
        self.1 += 1;
        self.0.as_mut()?.rules[self.1 - 1].take()
    }
}
