//! Elections: pre-vote, votes, leadership given away and lost.

use ferrovs_ovsdb::Uuid;

use super::{Deferred, Level, Mutation, Raft, Role};
use crate::message::{Body, VoteReply, VoteRequest};
use crate::record::{NOTE_TRANSFER, Record, RecordBody};
use crate::types::{Entry, Status, short};

/// What is added to the election timer, by chance, so that not all servers start at once.
const ELECTION_RANDOM: u64 = 1000;

impl Raft {
    pub(super) fn reset_election(&mut self, now: u64) {
        self.election_base = now;
        let random = self.random(ELECTION_RANDOM);
        self.election_deadline = now + self.election_timer + random;
    }

    /// A server that hears of a leader does not help others to replace it.
    pub(super) fn ignores_votes(&mut self, now: u64) -> bool {
        if self.role == Role::Leader {
            self.log(Level::Warn, "ignoring vote request received as leader");
            return true;
        }
        let (waited, minimum) = (now.saturating_sub(self.leader_heard), self.election_timer);
        if waited >= minimum {
            return false;
        }
        let text = format!(
            "ignoring vote request received after only {waited} ms (minimum election time is \
             {minimum} ms)"
        );
        self.log(Level::Warn, &text);
        true
    }

    /// Follows whoever leads `term`, if anyone does.
    pub(super) fn become_follower(&mut self, now: u64, term: u64) {
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.write_vote();
        }
        let led = self.role == Role::Leader;
        self.role = Role::Follower;
        self.leader = None;
        self.votes.clear();
        if led {
            self.fail_commands(Status::LostLeadership);
            self.abandon_membership();
            self.reset_election(now);
        }
    }

    /// Starts an election: first a question who would vote, except if the leader gave leadership
    /// away.
    pub(super) fn start_election(&mut self, now: u64, transfer: bool) {
        let waited = now.saturating_sub(self.election_base);
        self.reset_election(now);
        if !self.is_member() {
            return;
        }
        self.role = Role::Candidate;
        self.leader = None;
        self.prevote = !transfer && self.servers.len() > 1;
        let term = self.term;
        if self.prevote {
            self.info(format!(
                "term {term}: {waited} ms timeout expired, starting election (pre-vote)"
            ));
            self.votes = [self.server].into();
            self.request_votes(false);
        } else {
            let how = match transfer {
                true => String::new(),
                false => format!("{waited} ms timeout expired, "),
            };
            let term = term.saturating_add(1);
            self.info(format!("term {term}: {how}starting election (vote)"));
            self.real_election(now, transfer);
        }
    }

    fn real_election(&mut self, now: u64, transfer: bool) {
        // Terms do not begin anew, even if somebody claimed the last one.
        let Some(term) = self.term.checked_add(1) else {
            return;
        };
        self.term = term;
        self.vote = Some(self.server);
        self.write_vote();
        self.prevote = false;
        self.votes.clear();
        self.request_votes(transfer);
        self.defer(Deferred::OwnVote(self.term));
        // Alone in the cluster, and nothing to wait for.
        self.synced(now, self.synced);
    }

    fn request_votes(&mut self, transfer: bool) {
        let body = Body::VoteRequest(VoteRequest {
            term: self.term,
            last_index: self.last_index(),
            last_term: self.last_term(),
            transfer,
            prevote: self.prevote,
        });
        let others: Vec<Uuid> = self.others();
        for to in others {
            self.send_durable(to, None, body.clone());
        }
    }

    /// The servers but this one.
    pub(super) fn others(&self) -> Vec<Uuid> {
        let ids = self.servers.keys().copied();
        ids.filter(|id| *id != self.server).collect()
    }

    /// More than half of the servers.
    pub(super) fn majority(&self) -> usize {
        match self.broken(Mutation::CommitByMinority) {
            true => self.servers.len().div_ceil(2),
            false => self.servers.len() / 2 + 1,
        }
    }

    pub(super) fn own_vote(&mut self, now: u64, term: u64) {
        if self.role == Role::Candidate && !self.prevote && self.term == term {
            self.count_vote(now, self.server);
        }
    }

    fn count_vote(&mut self, now: u64, voter: Uuid) {
        if !self.servers.contains_key(&voter) {
            return;
        }
        self.votes.insert(voter);
        if self.votes.len() < self.majority() {
            return;
        }
        if self.prevote {
            let term = self.term.saturating_add(1);
            self.info(format!("term {term}: starting election (vote)"));
            self.reset_election(now);
            self.real_election(now, false);
        } else {
            self.become_leader(now);
        }
    }

    pub(super) fn vote_reply(&mut self, now: u64, from: Uuid, m: VoteReply) {
        if self.role == Role::Candidate && self.prevote == m.prevote && m.vote == self.server {
            self.count_vote(now, from);
        }
    }

    pub(super) fn vote_request(&mut self, now: u64, from: Uuid, m: VoteRequest) {
        // Who has no log has no say. A leader only hears of this in its own term.
        if self.snapshot.is_none() || self.role == Role::Leader {
            return;
        }
        let up_to_date = (m.last_term, m.last_index) >= (self.last_term(), self.last_index())
            || self.broken(Mutation::VoteForOldLog);
        let mut vote = self.vote.unwrap_or_default();
        if m.prevote {
            vote = if up_to_date { from } else { Uuid::nil() };
        } else if up_to_date && (self.vote.is_none() || self.broken(Mutation::VoteTwice)) {
            self.vote = Some(from);
            self.write_vote();
            self.reset_election(now);
            vote = from;
        }
        let body = Body::VoteReply(VoteReply {
            term: self.term,
            vote,
            prevote: m.prevote,
        });
        self.send_durable(from, None, body);
    }

    fn become_leader(&mut self, now: u64) {
        let (term, votes, n) = (self.term, self.votes.len(), self.servers.len());
        self.info(format!(
            "term {term}: elected leader by {votes}+ of {n} servers"
        ));
        self.fail_commands(Status::LostLeadership);
        self.role = Role::Leader;
        self.leader = Some(self.server);
        self.votes.clear();
        let leader = self.server;
        self.write_record(RecordBody::Leader { term, leader });
        self.peers.clear();
        self.refresh_peers();
        self.heartbeat_deadline = now + self.election_timer / 3;
        self.quorum_deadline = now + self.election_timer;
        // Entries of earlier terms are committed by one of this term.
        self.append(
            now,
            Entry {
                term,
                ..Entry::default()
            },
        );
        // The servers of an earlier leader may still have to be committed.
        self.change_servers(now);
    }

    /// Steps down if too few servers answered of late: another leader may be about.
    pub(super) fn check_quorum(&mut self, now: u64) {
        self.quorum_deadline = now + self.election_timer;
        let others = self.others();
        let own = usize::from(self.is_member());
        let heard = |id: &Uuid| self.peers.get(id).is_some_and(|p| p.heard);
        let n = others.iter().filter(|id| heard(id)).count() + own;
        for peer in self.peers.values_mut() {
            peer.heard = false;
        }
        if n < self.servers.len() / 2 + 1 {
            self.become_follower(now, self.term);
        }
    }

    /// Gives leadership to the server that is furthest on.
    pub(super) fn transfer(&mut self, now: u64, reason: &'static str) {
        if self.role != Role::Leader {
            return;
        }
        let furthest = |id: &Uuid| self.peers.get(id).map_or(0, |p| p.matched);
        let Some(heir) = self.others().into_iter().max_by_key(furthest) else {
            return;
        };
        self.write(super::Write::Append(Record {
            comment: Some(format!(
                "transferring leadership to {} because {reason}",
                short(heir)
            )),
            body: RecordBody::Note(NOTE_TRANSFER.to_owned()),
        }));
        let body = Body::BecomeLeader { term: self.term };
        self.send(heir, Some(reason.into()), body);
        self.become_follower(now, self.term);
    }

    pub(super) fn become_leader_request(&mut self, now: u64, from: Uuid) {
        if self.role == Role::Leader || !self.is_member() || self.leaving.is_some() {
            return;
        }
        self.info(format!(
            "received leadership transfer from {} in term {}",
            short(from),
            self.term
        ));
        self.start_election(now, true);
    }
}
