//! One server of a cluster, without I/O and clock.
//!
//! Everything goes in by [`Raft::input`] with the time in milliseconds; what the server says, writes
//! and applies comes out of [`Raft::output`] in order; [`Raft::timeout`] says when to come back
//! with [`Input::Tick`] if nothing else happens.
//!
//! ```text
//! election     timers, pre-vote, votes, leadership given away
//! replication  entries to followers and from the leader, heartbeats, the commit index, snapshots
//! membership   servers that join and leave, one at a time
//! commands     changes of the database: prerequisites, the way to the leader and back
//! log          the log in memory, what is on its way to the disk, answers that wait for it
//! ```
//!
//! **Durability.** Each change of what Raft must remember is an [`Output::Write`] with a number; the
//! caller performs them in order and says [`Input::Synced`] when they are durable. Whatever promises
//! something to another server waits inside the machine until the writes that were made before it
//! are durable. A leader sends entries while its own copy is still on its way to the disk, but does
//! not count that copy.
//!
//! **Time.** The random part of the election timer comes from a seed.

mod commands;
mod election;
mod log;
mod membership;
mod replication;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ferrovs_ovsdb::{Error, Uuid};

use crate::message::{Body, Comment, Message, Snapshot};
use crate::record::{Header, HeaderState, Record};
use crate::stored::Stored;
use crate::types::{self, Data, Entry, Payload, Servers, Status, short};

/// Entries that one message carries at most, unless the caller says otherwise.
const ENTRIES_MAX: usize = 1000;

/// What can happen to a server.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time went on.
    Tick,
    Message(Message),
    /// All writes up to this one are durable.
    Synced(u64),
    /// No connection to this server is left.
    Disconnected(Uuid),
    /// A change of the database that was made for the state `prereq`.
    Command {
        eid: Uuid,
        prereq: Uuid,
        data: Data,
    },
    /// The database as it is after the entry `index`: entries up to there may be forgotten.
    Compact {
        index: u64,
        data: Data,
    },
    ChangeElectionTimer(u64),
    /// Gives leadership to another server, because of this.
    Transfer(&'static str),
    Leave,
    /// Removes another server, on an operator's behalf.
    Kick(Uuid),
}

/// What a server wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Send {
        to: Destination,
        message: Message,
    },
    /// To be performed in order. Numbers start at 1 and have no holes.
    Write {
        number: u64,
        write: Write,
    },
    /// The database is in this state now, whatever it was before.
    Install(Snapshot),
    /// An entry that is committed changes the database.
    Apply {
        index: u64,
        payload: Payload,
    },
    /// How a command of this server ended; committed at `index` if it did.
    Done {
        eid: Uuid,
        status: Status,
        index: Option<u64>,
    },
    /// The reply to an operator's input.
    Answer(Result<&'static str, &'static str>),
    /// The server is no part of the cluster any more.
    Left,
    Log(Level, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Server(Uuid),
    /// A server whose id is not known yet.
    Address(String),
}

/// A change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Append(Record),
    /// A new file in place of the old one, as a whole or not at all.
    Replace {
        header: Header,
        records: Vec<Record>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

/// What a leader knows of a server, and any server of when it heard of another.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// The index of the next entry to send.
    next: u64,
    /// Up to here its log is known to be the leader's, and durable.
    matched: u64,
    heard: bool,
    last_heard: Option<u64>,
    /// When a snapshot was sent that was not answered yet.
    snapshot_sent: Option<u64>,
}

/// What waits for writes to be durable.
#[derive(Debug)]
enum Deferred {
    Send(Destination, Message),
    /// The vote for ourselves in this term.
    OwnVote(u64),
}

/// Ways to break the machine that the simulation has to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    AnswerBeforeDurable,
    CountOwnCopyEarly,
    ForgetVotes,
    VoteTwice,
    VoteForOldLog,
    CommitByMinority,
    SkipPreviousCheck,
    KeepConflicts,
    ChangeServersAtOnce,
    IgnorePrerequisites,
    SucceedBeforeCommit,
    CompactUncommitted,
}

pub struct Raft {
    server: Uuid,
    cluster: Option<Uuid>,
    name: String,
    local_address: String,
    /// Whom to ask to be let in. None once a committed entry lists this server.
    joining: Option<Joining>,
    leaving: Option<Leaving>,
    left: bool,

    term: u64,
    vote: Option<Uuid>,
    snapshot: Option<Snapshot>,
    entries: VecDeque<Entry>,
    commit: u64,

    role: Role,
    leader: Option<Uuid>,
    /// The servers as of the end of the log, and the entry that lists them.
    servers: Arc<Servers>,
    servers_index: u64,
    election_timer: u64,
    /// When the election timer was set.
    election_base: u64,
    /// When a leader was heard of, or the server started.
    leader_heard: u64,
    election_deadline: u64,
    prevote: bool,
    votes: BTreeSet<Uuid>,
    heartbeat_deadline: u64,
    quorum_deadline: u64,
    peers: BTreeMap<Uuid, Peer>,

    adding: BTreeMap<Uuid, membership::Adding>,
    removing: BTreeMap<Uuid, membership::Removing>,
    commands: BTreeMap<Uuid, commands::Command>,

    writes: u64,
    synced: u64,
    log_synced: u64,
    /// Writes of entries that are on their way to the disk: the write, the entry.
    unsynced: VecDeque<(u64, u64)>,
    deferred: VecDeque<(u64, Deferred)>,
    outputs: VecDeque<Output>,
    random: u64,
    entries_max: usize,
    #[cfg(test)]
    pub(crate) mutation: Option<Mutation>,
}

struct Joining {
    remotes: BTreeSet<String>,
    retry: u64,
}

struct Leaving {
    retry: u64,
}

impl Raft {
    /// A server as its file has it. Outputs what the database holds at once.
    pub fn new(stored: Stored, now: u64, seed: u64) -> Result<Self, Error> {
        stored.check_member()?;
        let Stored {
            header,
            term,
            vote,
            entries,
            commit,
            ..
        } = stored;
        let (cluster, snapshot, joining) = match header.state {
            HeaderState::Member { cluster, snapshot } => (Some(cluster), Some(snapshot), None),
            HeaderState::Joining { cluster, remotes } => {
                let remotes = remotes.into_iter().collect();
                (
                    cluster,
                    None,
                    Some(Joining {
                        remotes,
                        retry: now,
                    }),
                )
            }
        };
        let timer = snapshot.as_ref().map(|s| s.election_timer);
        let mut raft = Self {
            server: header.server,
            cluster,
            name: header.name,
            local_address: header.local_address,
            joining,
            leaving: None,
            left: false,
            term,
            vote,
            snapshot,
            entries: entries.into(),
            commit: 0,
            role: Role::Follower,
            leader: None,
            servers: Arc::default(),
            servers_index: 0,
            election_timer: timer
                .unwrap_or(types::ELECTION_TIMER)
                .clamp(1, types::ELECTION_TIMER_MAX),
            election_base: now,
            leader_heard: now,
            election_deadline: now,
            prevote: false,
            votes: BTreeSet::new(),
            heartbeat_deadline: 0,
            quorum_deadline: 0,
            peers: BTreeMap::new(),
            adding: BTreeMap::new(),
            removing: BTreeMap::new(),
            commands: BTreeMap::new(),
            writes: 0,
            synced: 0,
            log_synced: 0,
            unsynced: VecDeque::new(),
            deferred: VecDeque::new(),
            outputs: VecDeque::new(),
            random: seed,
            entries_max: ENTRIES_MAX,
            #[cfg(test)]
            mutation: None,
        };
        raft.log_synced = raft.last_index();
        raft.refresh_servers();
        if let Some(snapshot) = raft.snapshot.clone() {
            raft.commit = snapshot.index;
            raft.outputs.push_back(Output::Install(snapshot));
            raft.advance_commit(now, commit.min(raft.last_index()), false);
        }
        raft.resume_joining(now);
        raft.reset_election(now);
        if raft.servers.len() == 1 {
            raft.election_deadline = now;
        }
        Ok(raft)
    }

    pub fn input(&mut self, now: u64, input: Input) {
        if self.left && !matches!(input, Input::Synced(_)) {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Message(message) => self.message(now, message),
            Input::Synced(number) => self.synced(now, number),
            Input::Disconnected(id) => self.disconnected(id),
            Input::Command { eid, prereq, data } => self.command(now, eid, prereq, data),
            Input::Compact { index, data } => self.compact(index, data),
            Input::ChangeElectionTimer(ms) => self.change_election_timer(now, ms),
            Input::Transfer(reason) => self.transfer(now, reason),
            Input::Leave => self.leave(now),
            Input::Kick(id) => self.kick(now, id),
        }
        self.tick(now);
    }

    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many entries one message carries at most. More follow when these are acknowledged.
    pub fn limit_entries(&mut self, n: usize) {
        self.entries_max = n.max(1);
    }

    /// When time alone makes something happen.
    pub fn timeout(&self) -> u64 {
        let mut next = match self.role {
            Role::Leader => self.heartbeat_deadline.min(self.quorum_deadline),
            _ if self.is_member() => self.election_deadline,
            _ => u64::MAX,
        };
        if let Some(joining) = &self.joining {
            next = next.min(joining.retry);
        }
        if let Some(leaving) = &self.leaving {
            next = next.min(leaving.retry);
        }
        let commands = self.commands.values().map(|c| c.deadline);
        commands.fold(next, u64::min)
    }

    /// The first words on a new connection to another server, or to nobody yet if it joins.
    pub fn greeting(&self, to: Option<Uuid>) -> Message {
        let address = self.local_address.clone();
        let body = match self.joining {
            Some(_) => Body::AddServerRequest { address },
            None => Body::Hello { address },
        };
        Message {
            to,
            ..self.compose(Uuid::nil(), body)
        }
    }

    /// The addresses to keep connections to.
    pub fn remotes(&self) -> BTreeSet<String> {
        let servers = self
            .servers
            .values()
            .chain(self.joining.iter().flat_map(|j| &j.remotes));
        let adding = self.adding.values().map(|a| &a.address);
        let others = servers.chain(adding).filter(|a| **a != self.local_address);
        others.cloned().collect()
    }

    pub fn server(&self) -> Uuid {
        self.server
    }

    pub fn cluster(&self) -> Option<Uuid> {
        self.cluster
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn leader(&self) -> Option<Uuid> {
        self.leader
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn commit(&self) -> u64 {
        self.commit
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    pub fn election_timer(&self) -> u64 {
        self.election_timer
    }

    pub fn has_left(&self) -> bool {
        self.left
    }

    /// True if the cluster has let the server in.
    pub fn has_joined(&self) -> bool {
        self.joining.is_none()
    }

    /// True if the list of servers, committed or not, has this one.
    pub fn is_member(&self) -> bool {
        self.servers.contains_key(&self.server)
    }

    fn tick(&mut self, now: u64) {
        if self.left {
            return;
        }
        self.tick_role(now);
        self.tick_membership(now);
        self.expire_commands(now);
    }

    fn tick_role(&mut self, now: u64) {
        match self.role {
            Role::Leader => {
                if now >= self.quorum_deadline {
                    self.check_quorum(now);
                }
                if self.role == Role::Leader && now >= self.heartbeat_deadline {
                    self.send_heartbeats(now);
                }
            }
            _ if now >= self.election_deadline => self.start_election(now, false),
            _ => {}
        }
    }

    fn message(&mut self, now: u64, message: Message) {
        let Message {
            from,
            cluster,
            comment,
            body,
            ..
        } = message;
        // The reader of messages holds them to the cluster. Who joins learns it.
        self.cluster = self.cluster.or(cluster);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard = true;
            peer.last_heard = Some(now);
        }
        if !self.accept_term(now, from, &body) {
            return;
        }
        match body {
            Body::Hello { .. } => {}
            Body::AppendRequest(m) => self.append_request(now, from, m, comment),
            Body::AppendReply(m) => self.append_reply(now, from, m),
            Body::VoteRequest(m) => self.vote_request(now, from, m),
            Body::VoteReply(m) => self.vote_reply(now, from, m),
            Body::AddServerRequest { address } => self.add_server(now, from, address),
            Body::AddServerReply { success, remotes } => self.added(success, remotes),
            Body::RemoveServerRequest { server } => self.remove_server(now, Some(from), server),
            Body::RemoveServerReply { success, target } => self.removed(success, target),
            Body::SnapshotRequest(m) => self.snapshot_request(now, from, m),
            Body::SnapshotReply(m) => self.snapshot_reply(now, from, m),
            Body::BecomeLeader { term: _ } => self.become_leader_request(now, from),
            Body::ExecuteRequest { data, prereq, eid } => {
                self.execute_request(now, from, eid, prereq, data);
            }
            Body::ExecuteReply {
                eid,
                status,
                commit,
            } => self.execute_reply(from, eid, status, commit),
        }
    }

    /// Follows a newer term and turns away what speaks of an older one.
    fn accept_term(&mut self, now: u64, from: Uuid, body: &Body) -> bool {
        let Some(term) = body.term() else {
            return true;
        };
        if let Body::VoteRequest(m) = body
            && !m.transfer
            && self.ignores_votes(now)
        {
            return false;
        }
        if term > self.term {
            self.become_follower(now, term);
        }
        if term == self.term {
            return true;
        }
        let (method, current) = (body.method(), self.term);
        if let Body::AppendRequest(m) = body {
            self.reply_append(from, m, false, "stale term".into());
        }
        self.info(format!(
            "rejecting term {term} < current term {current} received in {method} message from \
             server {}",
            short(from)
        ));
        false
    }

    fn compose(&self, to: Uuid, body: Body) -> Message {
        Message {
            from: self.server,
            to: (!to.is_nil()).then_some(to),
            cluster: self.cluster,
            comment: None,
            body,
        }
    }

    fn send(&mut self, to: Uuid, comment: Comment, body: Body) {
        if to == self.server {
            return;
        }
        let message = Message {
            comment,
            ..self.compose(to, body)
        };
        let to = Destination::Server(to);
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Sends when all that was written so far is durable.
    fn send_durable(&mut self, to: Uuid, comment: Comment, body: Body) {
        if self.broken(Mutation::AnswerBeforeDurable) {
            return self.send(to, comment, body);
        }
        let message = Message {
            comment,
            ..self.compose(to, body)
        };
        self.defer(Deferred::Send(Destination::Server(to), message));
    }

    fn info(&mut self, text: String) {
        self.outputs.push_back(Output::Log(Level::Info, text));
    }

    fn log(&mut self, level: Level, text: &str) {
        self.outputs.push_back(Output::Log(level, text.to_owned()));
    }

    /// A number below `n`.
    fn random(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    #[cfg(test)]
    fn broken(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    #[cfg(not(test))]
    #[inline]
    fn broken(&self, _: Mutation) -> bool {
        false
    }
}
