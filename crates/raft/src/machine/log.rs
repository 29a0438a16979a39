//! The log in memory, what is on its way to the disk, and what waits for that.

use super::{Deferred, Destination, Level, Message, Mutation, Output, Raft, Role, Write};
use crate::message::Snapshot;
use crate::record::{Header, HeaderState, Record, RecordBody};
use crate::types::{Data, Entry};
use ferrovs_ovsdb::Uuid;
use std::sync::Arc;

impl Raft {
    /// The index before the first entry: the snapshot's.
    pub(super) fn before_first(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |s| s.index)
    }

    /// The index of the first entry that is in the log, or would be.
    pub fn first_index(&self) -> u64 {
        self.before_first() + 1
    }

    pub fn last_index(&self) -> u64 {
        self.before_first() + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> Option<usize> {
        let past = index.checked_sub(self.first_index())?;
        usize::try_from(past).ok()
    }

    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(self.position(index)?)
    }

    /// The term of an entry, or of the snapshot that ends with it.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        match &self.snapshot {
            Some(s) if s.index == index => Some(s.term),
            _ => self.entry(index).map(|e| e.term),
        }
    }

    pub(super) fn last_term(&self) -> u64 {
        self.term_at(self.last_index()).unwrap_or(0)
    }

    /// The id of the database's state at the end of the log.
    pub fn last_eid(&self) -> Uuid {
        self.eid_at(self.last_index())
    }

    /// The id of the database's state after an entry.
    pub fn eid_at(&self, index: u64) -> Uuid {
        let n = self.position(index).map_or(0, |i| i + 1);
        let entries = self.entries.iter().take(n).rev();
        let eid = entries
            .filter_map(|e| e.payload.as_ref())
            .map(|p| p.eid)
            .next();
        eid.unwrap_or_else(|| self.snapshot.as_ref().map_or(Uuid::nil(), |s| s.eid))
    }

    /// Finds out who the servers are as of the end of the log.
    pub(super) fn refresh_servers(&mut self) {
        let first = self.first_index();
        let listed = self.entries.iter().enumerate().rev();
        let listed = listed.filter_map(|(i, e)| Some((i as u64 + first, e.servers.clone()?)));
        let snapshot = self.snapshot.as_ref().map(|s| (s.index, s.servers.clone()));
        let (index, servers) = listed.clone().next().or(snapshot).unwrap_or_default();
        (self.servers_index, self.servers) = (index, servers);
    }

    pub(super) fn write(&mut self, write: Write) {
        // The file of a server that did not get a snapshot yet has nothing but its first record.
        if self.snapshot.is_none() {
            return;
        }
        self.writes += 1;
        let number = self.writes;
        self.outputs.push_back(Output::Write { number, write });
    }

    pub(super) fn write_record(&mut self, body: RecordBody) {
        self.write(Write::Append(body.into()));
    }

    /// Writes the term and, if there is one, the vote.
    pub(super) fn write_vote(&mut self) {
        if self.broken(Mutation::ForgetVotes) {
            return;
        }
        let body = self.vote_record();
        self.write_record(body);
    }

    fn vote_record(&self) -> RecordBody {
        let term = self.term;
        match self.vote {
            Some(vote) => RecordBody::Vote { term, vote },
            None => RecordBody::Term(term),
        }
    }

    /// Adds an entry to the end of the log, in memory and on disk.
    pub(super) fn push_entry(&mut self, entry: Entry) -> u64 {
        self.entries.push_back(entry.clone());
        let index = self.last_index();
        if let Some(servers) = &entry.servers {
            (self.servers, self.servers_index) = (servers.clone(), index);
        }
        self.write_record(RecordBody::Entry { index, entry });
        self.unsynced.push_back((self.writes, index));
        index
    }

    /// Removes the entries from `index` on. The records that follow say so to a reader of the file.
    pub(super) fn truncate(&mut self, index: u64) {
        let Some(keep) = self.position(index).filter(|n| *n < self.entries.len()) else {
            return;
        };
        let n = self.entries.len() - keep;
        self.entries.truncate(keep);
        self.log_synced = self.log_synced.min(index - 1);
        self.unsynced.retain(|(_, entry)| *entry < index);
        self.refresh_servers();
        self.info(format!(
            "{} truncating {n} entries from end of log",
            crate::types::short(self.server)
        ));
    }

    pub(super) fn defer(&mut self, what: Deferred) {
        self.deferred.push_back((self.writes, what));
        self.release(None);
    }

    pub(super) fn synced(&mut self, now: u64, number: u64) {
        self.synced = self.synced.max(number);
        while let Some((write, index)) = self.unsynced.front().copied()
            && write <= self.synced
        {
            self.log_synced = index;
            self.unsynced.pop_front();
        }
        self.release(Some(now));
        if self.role == Role::Leader {
            self.try_commit(now);
        }
    }

    /// Lets go what no longer has to wait. Without a time nothing is that begins something new.
    fn release(&mut self, now: Option<u64>) {
        while let Some((write, what)) = self.deferred.front()
            && *write <= self.synced
            && (now.is_some() || matches!(what, Deferred::Send(..)))
        {
            match (self.deferred.pop_front(), now) {
                (Some((_, Deferred::Send(to, message))), _) => self.release_send(to, message),
                (Some((_, Deferred::OwnVote(term))), Some(now)) => self.own_vote(now, term),
                _ => {}
            }
        }
    }

    fn release_send(&mut self, to: Destination, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }

    fn header(&self, snapshot: Snapshot) -> Header {
        Header {
            server: self.server,
            local_address: self.local_address.clone(),
            name: self.name.clone(),
            state: HeaderState::Member {
                cluster: self.cluster.unwrap_or_default(),
                snapshot,
            },
        }
    }

    /// Makes a new file of the snapshot and what the log has after it.
    pub(super) fn rewrite(&mut self, snapshot: Snapshot) {
        let first = snapshot.index + 1;
        let mut records: Vec<Record> = Vec::new();
        if self.term > 0 {
            records.push(self.vote_record().into());
        }
        let entries = self.entries.iter().cloned().zip(first..);
        records.extend(entries.map(|(entry, index)| RecordBody::Entry { index, entry }.into()));
        if self.commit > snapshot.index {
            records.push(RecordBody::CommitIndex(self.commit).into());
        }
        self.snapshot = Some(snapshot.clone());
        let header = self.header(snapshot);
        self.write(Write::Replace { header, records });
        // The new file has all entries, those too that the old one still waited for.
        let last = self.last_index();
        if !self.unsynced.is_empty() {
            self.unsynced.clear();
            self.unsynced.push_back((self.writes, last));
        }
    }

    /// Takes the database as it is after `index` in place of the entries up to there.
    pub(super) fn compact(&mut self, index: u64, data: Data) {
        let highest = match self.broken(Mutation::CompactUncommitted) {
            true => self.last_index(),
            false => self.commit,
        };
        let index = if self.broken(Mutation::CompactUncommitted) {
            highest
        } else {
            index
        };
        let (Some(term), Some(old)) = (self.term_at(index), self.snapshot.clone()) else {
            return;
        };
        if index <= old.index || index > highest {
            return;
        }
        let n = self.position(index).map_or(0, |i| i + 1);
        let dropped: Vec<Entry> = self.entries.iter().take(n).cloned().collect();
        let servers = dropped.iter().rev().find_map(|e| e.servers.clone());
        let timer = dropped.iter().rev().find_map(|e| e.election_timer);
        let snapshot = Snapshot {
            index,
            term,
            eid: self.eid_at(index),
            data,
            servers: servers.unwrap_or_else(|| Arc::clone(&old.servers)),
            election_timer: timer.unwrap_or(old.election_timer),
        };
        self.entries.drain(..n);
        self.commit = self.commit.max(index);
        self.rewrite(snapshot);
    }

    pub(super) fn refuse_conflict(&mut self, index: u64, from: Uuid) {
        let text = format!(
            "server {} asks to change entry {index}, which is committed",
            crate::types::short(from)
        );
        self.log(Level::Error, &text);
    }
}
