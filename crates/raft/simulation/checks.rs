//! What must hold at each step, whatever happened before.
//!
//! - Election safety: a term has one leader at most.
//! - Log matching: entries of one index and term are the same, and so are those before them.
//! - Leader completeness: a leader has what was committed in earlier terms.
//! - State machine safety: what is committed at an index is committed there everywhere.
//! - Durability: what was acknowledged is committed, and nothing that is committed goes away.
//! - Prerequisites: a change is applied to the state that it was made for.

use std::collections::BTreeMap;

use ferrovs_ovsdb::Uuid;
use ferrovs_raft::{Entry, Raft, Snapshot};

use super::Failure;

struct Committed {
    entry: Entry,
    /// The term of the leader that committed it.
    term: u64,
    /// The id of the database's state, and what all changes up to it come to.
    eid: Uuid,
    sum: u64,
}

#[derive(Default)]
pub struct Checks {
    leaders: BTreeMap<u64, Uuid>,
    entries: BTreeMap<(u64, u64), (Entry, Option<u64>)>,
    committed: BTreeMap<u64, Committed>,
    /// Commands, and the states that they were made for.
    commands: BTreeMap<Uuid, Uuid>,
    pub acknowledged: u64,
}

/// The index, id and sum of the first state.
pub const FIRST: u64 = 1;

fn fail<T>(text: String) -> Result<T, Failure> {
    Err(Failure(text))
}

pub fn next_sum(sum: u64, eid: Uuid) -> u64 {
    let (a, b) = eid.as_u64_pair();
    (sum ^ a ^ b)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(17)
}

impl Checks {
    pub fn command(&mut self, eid: Uuid, prereq: Uuid) {
        self.commands.insert(eid, prereq);
    }

    pub fn last_committed(&self) -> u64 {
        self.committed.keys().next_back().copied().unwrap_or(FIRST)
    }

    pub fn leader(&mut self, raft: &Raft) -> Result<bool, Failure> {
        let (term, id) = (raft.term(), raft.server());
        match self.leaders.insert(term, id) {
            Some(other) if other != id => return fail(format!("two leaders in term {term}")),
            Some(_) => return Ok(false),
            None => {}
        }
        for (index, committed) in self.committed.range(raft.first_index()..) {
            if committed.term < term && raft.entry(*index) != Some(&committed.entry) {
                return fail(format!(
                    "leader of term {term} has not entry {index}, committed in term {}",
                    committed.term
                ));
            }
        }
        Ok(true)
    }

    /// An entry is written to a disk.
    pub fn entry(&mut self, raft: &Raft, index: u64, entry: &Entry) -> Result<(), Failure> {
        let prev = raft.term_at(index - 1);
        let known = self
            .entries
            .entry((index, entry.term))
            .or_insert_with(|| (entry.clone(), prev));
        let same = known.1 == prev || known.1.is_none() || prev.is_none();
        if known.0 == *entry && same {
            return Ok(());
        }
        fail(format!("two entries {index} in term {}", entry.term))
    }

    /// An entry is committed at a server.
    pub fn commit(&mut self, raft: &Raft, index: u64) -> Result<(), Failure> {
        // It may be part of a snapshot already.
        let Some(entry) = raft.entry(index) else {
            return Ok(());
        };
        if let Some(known) = self.committed.get(&index) {
            if known.entry == *entry {
                return Ok(());
            }
            return fail(format!("two entries committed at {index}"));
        }
        let (eid, sum) = match index.checked_sub(1).filter(|i| *i > FIRST) {
            None => (Uuid::nil(), 0),
            Some(before) => match self.committed.get(&before) {
                Some(known) => (known.eid, known.sum),
                None => return fail(format!("entry {index} committed before entry {before}")),
            },
        };
        let (mut next_eid, mut next) = (eid, sum);
        if let Some(payload) = &entry.payload {
            if self.commands.get(&payload.eid) != Some(&eid) {
                return fail(format!("entry {index} was made for another state"));
            }
            (next_eid, next) = (payload.eid, next_sum(sum, payload.eid));
        }
        let committed = Committed {
            entry: entry.clone(),
            term: raft.term(),
            eid: next_eid,
            sum: next,
        };
        self.committed.insert(index, committed);
        Ok(())
    }

    /// A database is in this state after the entry `index`.
    pub fn state(&self, index: u64, eid: Uuid, sum: u64) -> Result<(), Failure> {
        let (known_eid, known_sum) = match self.committed.get(&index) {
            Some(known) => (known.eid, known.sum),
            None if index == FIRST => (Uuid::nil(), 0),
            None => return fail(format!("state of entry {index}, which is not committed")),
        };
        if (known_eid, known_sum) == (eid, sum) {
            return Ok(());
        }
        fail(format!("another state after entry {index}"))
    }

    pub fn snapshot(&self, snapshot: &Snapshot) -> Result<u64, Failure> {
        let sum = snapshot.data.trim_matches(['[', ']', '"']).parse();
        let sum = sum.map_err(|_| Failure("snapshot without data".to_owned()))?;
        self.state(snapshot.index, snapshot.eid, sum)?;
        match self.committed.get(&snapshot.index) {
            Some(known) if known.entry.term != snapshot.term => {
                fail(format!("snapshot of another entry {}", snapshot.index))
            }
            _ => Ok(sum),
        }
    }

    pub fn acknowledged(&mut self, eid: Uuid, index: u64) -> Result<(), Failure> {
        let known = self.committed.get(&index);
        let payload = known.and_then(|known| known.entry.payload.as_ref());
        if payload.is_some_and(|p| p.eid == eid) {
            self.acknowledged += 1;
            return Ok(());
        }
        fail(format!("acknowledged what is not committed at {index}"))
    }
}
