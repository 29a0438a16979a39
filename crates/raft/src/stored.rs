//! What a server remembers: its file's records, put together again.

use ferrovs_json::Value;
use ferrovs_ovsdb::{Error, Uuid};

use crate::message::Snapshot;
use crate::record::{Header, HeaderState, NOTE_LEFT, Record, RecordBody};
use crate::types::{Entry, short};

/// All that survives a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub header: Header,
    pub term: u64,
    pub vote: Option<Uuid>,
    pub entries: Vec<Entry>,
    /// The highest index that was noted as committed.
    pub commit: u64,
    records: u64,
}

impl Stored {
    /// From the first record.
    pub fn new(header: Header) -> Self {
        let commit = match &header.state {
            HeaderState::Member { snapshot, .. } => snapshot.index,
            HeaderState::Joining { .. } => 0,
        };
        Self {
            header,
            term: 0,
            vote: None,
            entries: Vec::new(),
            commit,
            records: 0,
        }
    }

    /// Takes the next record. What stands in the file of a server that did not join yet after the
    /// first record means nothing.
    pub fn add(&mut self, record: &Value) -> Result<(), Error> {
        self.records += 1;
        if matches!(self.header.state, HeaderState::Joining { .. }) {
            return Ok(());
        }
        let where_ = format!(
            "error reading record {} from {} log",
            self.records, self.header.name
        );
        let record = Record::decode(record).map_err(|e| e.context(&where_))?;
        self.apply(record)
            .map_err(|text| Error::ovsdb(format!("{where_}: {text}")))
    }

    pub fn snapshot(&self) -> Option<&Snapshot> {
        match &self.header.state {
            HeaderState::Member { snapshot, .. } => Some(snapshot),
            HeaderState::Joining { .. } => None,
        }
    }

    /// Says whether the server can work with this.
    pub fn check_member(&self) -> Result<(), Error> {
        let Some(snapshot) = self.snapshot() else {
            return Ok(());
        };
        let servers = self.entries.iter().rev().find_map(|e| e.servers.as_ref());
        let servers = servers.unwrap_or(&snapshot.servers);
        if servers.contains_key(&self.header.server) {
            return Ok(());
        }
        Err(Error::ovsdb("server does not belong to cluster"))
    }

    fn apply(&mut self, record: Record) -> Result<(), String> {
        let n = self.records;
        match record.body {
            RecordBody::Term(term) => self.set_term(term),
            RecordBody::Vote { term, vote } => self.set_vote(n, term, vote)?,
            RecordBody::Entry { index, entry } => self.set_entry(n, index, entry)?,
            RecordBody::CommitIndex(index) => {
                let (old, last) = (self.commit, self.last_index());
                if index < old {
                    return Err(format!(
                        "record {n} regresses commit index from {old} to {index}"
                    ));
                }
                if index > last {
                    return Err(format!(
                        "record {n} advances commit index to {index} but last log index is {last}"
                    ));
                }
                self.commit = index;
            }
            RecordBody::Note(note) if note == NOTE_LEFT => {
                return Err(format!(
                    "record {n} indicates server has left the cluster; it cannot be added back \
                     (use \"ovsdb-tool join-cluster\" to add a new server)"
                ));
            }
            RecordBody::Leader { .. } | RecordBody::Note(_) => {}
        }
        Ok(())
    }

    fn set_term(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
    }

    fn set_vote(&mut self, n: u64, term: u64, vote: Uuid) -> Result<(), String> {
        if term < self.term {
            let current = self.term;
            return Err(format!(
                "record {n} votes for term {term} but current term is {current}"
            ));
        }
        self.set_term(term);
        match self.vote {
            Some(old) if old != vote => Err(format!(
                "record {n} votes for {} in term {term} but a previous record for the same term \
                 voted for {}",
                short(vote),
                short(old)
            )),
            _ => {
                self.vote = Some(vote);
                Ok(())
            }
        }
    }

    fn set_entry(&mut self, n: u64, index: u64, entry: Entry) -> Result<(), String> {
        let (first, prev_term) = self.snapshot().map_or((1, 0), |s| (s.index + 1, s.term));
        let expected = self.last_index() + 1;
        if index > expected {
            return Err(format!(
                "record {n} with index {index} skips past expected index {expected}"
            ));
        }
        // Open vSwitch's own server crashes here.
        let Some(keep) = index.checked_sub(first) else {
            return Err(format!(
                "record {n} with index {index} precedes first index {first}"
            ));
        };
        self.entries
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.commit = self.commit.min(index - 1);
        let prev_term = self.entries.last().map_or(prev_term, |e| e.term);
        if entry.term < prev_term {
            let term = entry.term;
            return Err(format!(
                "record {n} with index {index} term {term} precedes previous entry's term \
                 {prev_term}"
            ));
        }
        self.entries.push(entry);
        Ok(())
    }

    fn last_index(&self) -> u64 {
        let before = self.snapshot().map_or(0, |s| s.index);
        before + self.entries.len() as u64
    }
}
