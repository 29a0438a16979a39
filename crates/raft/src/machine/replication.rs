//! Entries from the leader to its followers, heartbeats, the commit index, snapshots.

use std::borrow::Cow;

use ferrovs_ovsdb::Uuid;

use super::{Level, Mutation, Output, Peer, Raft, Role};
use crate::message::{AppendReply, AppendRequest, Body, Comment, SnapshotReply, SnapshotRequest};
use crate::record::RecordBody;
use crate::types::{ELECTION_TIMER_MAX, Entry, short};

pub(super) const EXECUTE: &str = "execute command";
pub(super) const HEARTBEAT: &str = "heartbeat";

/// No log is so long. There is room above it, so that nothing that counts on from it overflows.
const INDEX_MAX: u64 = u64::MAX / 2;

impl Raft {
    /// Has a `Peer` for each other server and each that joins, and for no one else.
    pub(super) fn refresh_peers(&mut self) {
        let next = self.last_index() + 1;
        for id in self.others() {
            let new = || Peer {
                next,
                ..Peer::default()
            };
            self.peers.entry(id).or_insert_with(new);
        }
        let (servers, adding) = (&self.servers, &self.adding);
        self.peers
            .retain(|id, _| servers.contains_key(id) || adding.contains_key(id));
    }

    /// Appends an entry as leader and sends it on.
    pub(super) fn append(&mut self, now: u64, entry: Entry) -> u64 {
        let index = self.push_entry(entry);
        self.refresh_peers();
        let last = index - 1;
        let ids: Vec<Uuid> = self.peers.keys().copied().collect();
        for id in ids {
            // Who joins catches up at its own pace, and who is behind hears of it by heartbeats.
            let up_to_date = self.peers.get(&id).is_some_and(|p| p.next > last);
            if up_to_date && self.servers.contains_key(&id) {
                self.send_entries(now, id, Some(EXECUTE.into()));
            }
        }
        self.try_commit(now);
        index
    }

    /// Sends what a server does not have yet, or a snapshot if the log does not reach back so far.
    pub(super) fn send_entries(&mut self, now: u64, to: Uuid, comment: Comment) {
        let Some(peer) = self.peers.get(&to) else {
            return;
        };
        let prev_index = peer.next.saturating_sub(1);
        let Some(prev_term) = self.term_at(prev_index) else {
            return self.send_snapshot(now, to);
        };
        let skip = usize::try_from(prev_index - self.before_first()).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip).take(self.entries_max);
        let entries: Vec<Entry> = entries.cloned().collect();
        let next = prev_index + 1 + entries.len() as u64;
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.next = next;
            peer.snapshot_sent = None;
        }
        self.send_append(to, comment, prev_index, prev_term, entries);
    }

    fn send_append(
        &mut self,
        to: Uuid,
        comment: Comment,
        prev_index: u64,
        prev_term: u64,
        entries: Vec<Entry>,
    ) {
        let body = Body::AppendRequest(AppendRequest {
            term: self.term,
            prev_index,
            prev_term,
            commit: self.commit,
            entries,
        });
        self.send(to, comment, body);
    }

    /// Tells every server that the leader is there, how far the log is committed, and (by what it
    /// takes the server to have) whether something was lost on the way.
    pub(super) fn send_heartbeats(&mut self, now: u64) {
        self.heartbeat_deadline = now + self.election_timer / 3;
        let ids: Vec<Uuid> = self.peers.keys().copied().collect();
        for id in ids {
            self.send_heartbeat(now, id);
        }
    }

    fn send_heartbeat(&mut self, now: u64, to: Uuid) {
        let Some(peer) = self.peers.get(&to) else {
            return;
        };
        let prev_index = peer.next.saturating_sub(1);
        match self.term_at(prev_index) {
            Some(prev_term) => {
                self.send_append(to, Some(HEARTBEAT.into()), prev_index, prev_term, vec![]);
            }
            None => {
                self.send_snapshot(now, to);
                // A snapshot takes its time, and a leader who is silent is taken for lost.
                let (last, term) = (self.last_index(), self.last_term());
                self.send_append(to, Some(HEARTBEAT.into()), last, term, vec![]);
            }
        }
    }

    fn send_snapshot(&mut self, now: u64, to: Uuid) {
        let (Some(snapshot), Some(peer)) = (self.snapshot.clone(), self.peers.get_mut(&to)) else {
            return;
        };
        // It can be large: not again while it may be on its way.
        if let Some(sent) = peer.snapshot_sent
            && now.saturating_sub(sent) < 2 * self.election_timer
        {
            return;
        }
        peer.snapshot_sent = Some(now);
        let (term, index) = (snapshot.term, snapshot.index);
        let name = short(to);
        self.info(format!(
            "sending snapshot to server {name}, {term}:{index}."
        ));
        let body = Body::SnapshotRequest(SnapshotRequest {
            term: self.term,
            snapshot,
        });
        self.send(to, None, body);
    }

    pub(super) fn append_reply(&mut self, now: u64, from: Uuid, m: AppendReply) {
        if self.role != Role::Leader {
            return;
        }
        let last = self.last_index();
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if m.ok {
            let matched = m.prev_index.saturating_add(m.n_entries).min(last);
            peer.matched = peer.matched.max(matched);
            peer.next = peer.next.max(peer.matched + 1);
            let behind = peer.next <= self.last_index();
            self.try_commit(now);
            if behind && self.role == Role::Leader {
                self.send_entries(now, from, None);
            }
            self.change_servers(now);
        } else {
            // What was asked for is not there: go back, by as much as the server itself says.
            let next = m.prev_index.min(m.log_end);
            // An answer to a message of long ago says nothing that is not known better.
            if next > peer.matched || m.log_end <= peer.matched {
                peer.next = next.max(1);
                self.send_entries(now, from, None);
            }
        }
    }

    /// Commits what more than half of the servers have, if it is of this term.
    pub(super) fn try_commit(&mut self, now: u64) {
        if self.role != Role::Leader {
            return;
        }
        let own = match self.broken(Mutation::CountOwnCopyEarly) {
            true => self.last_index(),
            false => self.log_synced,
        };
        let matched = |id: &Uuid| match *id == self.server {
            true => own,
            false => self.peers.get(id).map_or(0, |p| p.matched),
        };
        let mut all: Vec<u64> = self.servers.keys().map(matched).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let index = all.get(self.majority() - 1).copied().unwrap_or(0);
        let ours = self.term_at(index) == Some(self.term);
        if index > self.commit && ours {
            self.advance_commit(now, index.min(self.last_index()), true);
            // So that the followers apply it at once.
            if self.role == Role::Leader {
                self.send_heartbeats(now);
            }
        }
    }

    pub(super) fn advance_commit(&mut self, now: u64, to: u64, note: bool) {
        if to <= self.commit {
            return;
        }
        while self.commit < to {
            let Some(entry) = self.entry(self.commit + 1).cloned() else {
                break;
            };
            self.commit += 1;
            let index = self.commit;
            if let Some(ms) = entry.election_timer {
                self.set_election_timer(now, ms);
            }
            if let Some(payload) = entry.payload {
                let eid = payload.eid;
                self.outputs.push_back(Output::Apply { index, payload });
                self.command_committed(eid, index);
            }
            if entry.servers.is_some() {
                self.servers_committed(now, index);
            }
            if self.left {
                return;
            }
        }
        if note {
            self.write_record(RecordBody::CommitIndex(self.commit));
        }
    }

    fn set_election_timer(&mut self, now: u64, ms: u64) {
        let ms = ms.clamp(1, ELECTION_TIMER_MAX);
        let old = std::mem::replace(&mut self.election_timer, ms);
        if old != ms {
            self.info(format!("Election timer changed from {old} to {ms}"));
            if self.role == Role::Leader {
                self.heartbeat_deadline = self.heartbeat_deadline.min(now + ms / 3);
            } else {
                self.reset_election(now);
            }
        }
    }

    /// Takes `from` for the leader of this term. False if this server is that itself.
    fn follow(&mut self, now: u64, from: Uuid) -> bool {
        if self.role == Role::Leader {
            let name = short(from);
            let text = format!("this server is leader but server {name} claims to be");
            self.log(Level::Error, &text);
            return false;
        }
        self.role = Role::Follower;
        self.reset_election(now);
        self.leader_heard = now;
        if self.leader != Some(from) {
            self.leader = Some(from);
            let term = self.term;
            self.info(format!("server {} is leader for term {term}", short(from)));
            self.write_record(RecordBody::Leader { term, leader: from });
        }
        true
    }

    pub(super) fn reply_append(
        &mut self,
        to: Uuid,
        m: &AppendRequest,
        ok: bool,
        comment: Cow<'static, str>,
    ) {
        let body = Body::AppendReply(AppendReply {
            term: self.term,
            log_end: self.last_index() + 1,
            prev_index: m.prev_index,
            prev_term: m.prev_term,
            n_entries: m.entries.len() as u64,
            ok,
        });
        self.send_durable(to, Some(comment), body);
    }

    pub(super) fn append_request(
        &mut self,
        now: u64,
        from: Uuid,
        m: AppendRequest,
        comment: Comment,
    ) {
        if !self.follow(now, from) {
            return self.reply_append(from, &m, false, "usurped leadership".into());
        }
        if let Err(why) = self.check_previous(&m) {
            self.info(format!(
                "rejecting append_request because previous entry {},{} not in local log ({why})",
                m.prev_term, m.prev_index
            ));
            return self.reply_append(from, &m, false, why.into());
        }
        let verified = m.prev_index + m.entries.len() as u64;
        let said = match m.entries.is_empty() {
            true => comment.unwrap_or("no change".into()),
            false => match self.take_entries(&m) {
                Ok(true) => "log updated".into(),
                Ok(false) => "no change".into(),
                Err(index) => {
                    self.refuse_conflict(index, from);
                    return self.reply_append(
                        from,
                        &m,
                        false,
                        "conflict with committed entry".into(),
                    );
                }
            },
        };
        self.advance_commit(now, m.commit.min(verified), true);
        if !self.left {
            self.reply_append(from, &m, true, said);
        }
    }

    fn check_previous(&self, m: &AppendRequest) -> Result<(), &'static str> {
        if self.snapshot.is_none() || m.prev_index > self.last_index() {
            return Err("mismatch past end of log");
        }
        // What the snapshot covers is committed, so a leader has the same.
        match self.term_at(m.prev_index) {
            Some(term) if term != m.prev_term && !self.broken(Mutation::SkipPreviousCheck) => {
                Err(match m.prev_index == self.before_first() {
                    true => "prev_term mismatch",
                    false => "term mismatch",
                })
            }
            _ => Ok(()),
        }
    }

    /// Adds the entries that are not there yet. True if there were any; an index as the error, of a
    /// committed entry that would be another.
    fn take_entries(&mut self, m: &AppendRequest) -> Result<bool, u64> {
        let mut changed = false;
        for (entry, index) in m.entries.iter().zip(m.prev_index + 1..) {
            if index <= self.before_first() {
                continue;
            }
            match self.term_at(index) {
                Some(term) if term == entry.term => continue,
                Some(_) if self.broken(Mutation::KeepConflicts) => continue,
                Some(_) if index <= self.commit => return Err(index),
                Some(_) => self.truncate(index),
                None => {}
            }
            self.push_entry(entry.clone());
            changed = true;
        }
        Ok(changed)
    }

    pub(super) fn snapshot_request(&mut self, now: u64, from: Uuid, m: SnapshotRequest) {
        if !self.follow(now, from) {
            return;
        }
        let snapshot = m.snapshot;
        let (index, term) = (snapshot.index, snapshot.term);
        if index > INDEX_MAX {
            return;
        }
        let body = |own: &Self| {
            Body::SnapshotReply(SnapshotReply {
                term: own.term,
                last_index: index,
                last_term: term,
            })
        };
        if self.snapshot.is_some() && index <= self.commit {
            let body = body(self);
            return self.send_durable(from, None, body);
        }
        let follows = self.snapshot.is_some() && self.term_at(index) == Some(term);
        if follows {
            let n = usize::try_from(index - self.before_first()).unwrap_or(usize::MAX);
            self.entries.drain(..n.min(self.entries.len()));
        } else {
            self.entries.clear();
        }
        self.commit = index;
        let timer = snapshot.election_timer;
        self.rewrite(snapshot.clone());
        let last = self.last_index();
        self.log_synced = self.log_synced.min(last);
        self.unsynced = [(self.writes, last)].into();
        self.set_election_timer(now, timer);
        self.refresh_servers();
        self.outputs.push_back(Output::Install(snapshot));
        self.command_superseded();
        self.servers_committed(now, self.servers_index.min(index));
        let body = body(self);
        self.send_durable(from, None, body);
    }

    pub(super) fn snapshot_reply(&mut self, now: u64, from: Uuid, m: SnapshotReply) {
        if self.role != Role::Leader {
            return;
        }
        let last = self.last_index();
        let Some(peer) = self.peers.get_mut(&from) else {
            let cluster = short(self.cluster.unwrap_or_default());
            let from = short(from);
            return self.info(format!(
                "cluster {cluster}: received install_snapshot_reply from unknown server {from}"
            ));
        };
        peer.snapshot_sent = None;
        peer.matched = peer.matched.max(m.last_index.min(last));
        peer.next = peer.matched + 1;
        let cluster = short(self.cluster.unwrap_or_default());
        let (name, term, index) = (short(from), m.last_term, m.last_index);
        self.info(format!(
            "cluster {cluster}: installed snapshot on server {name}  up to {term}:{index}"
        ));
        self.send_entries(now, from, Some("snapshot installed".into()));
        self.try_commit(now);
        self.change_servers(now);
    }
}
