//! Servers that join and leave.
//!
//! A list of servers counts from the moment that it is in the log, and there is at most one that is
//! not committed; a leader makes one only after an entry of its own term is committed. A server that
//! joins gets the log first and is let in when it has all that is committed.

use std::sync::Arc;

use ferrovs_ovsdb::Uuid;

use super::{Destination, Joining, Leaving, Mutation, Output, Peer, Raft, Role};
use crate::message::Body;
use crate::record::{NOTE_LEFT, Record, RecordBody};
use crate::types::{ELECTION_TIMER_MAX, ELECTION_TIMER_MIN, Entry, Servers, Status, short};

/// How often who joins asks to be let in.
const JOIN_RETRY: u64 = 1000;

#[derive(Debug)]
pub(super) struct Adding {
    pub address: String,
    /// The entry that lists it.
    index: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Removing {
    /// None if an operator asked here.
    requester: Option<Uuid>,
    index: Option<u64>,
}

impl Raft {
    fn cluster_name(&self) -> String {
        short(self.cluster.unwrap_or_default())
    }

    pub(super) fn add_server(&mut self, now: u64, from: Uuid, address: String) {
        if self.cluster.is_none() {
            // Who does not know of a cluster has no answer that could be read.
            return;
        }
        let verdict = if self.role != Role::Leader {
            Some((false, "not leader"))
        } else if self.servers.contains_key(&from) {
            Some((true, "already in cluster"))
        } else if self.adding.contains_key(&from) || self.removing.contains_key(&from) {
            Some((false, "in progress"))
        } else {
            None
        };
        if let Some((success, why)) = verdict {
            return self.reply_add(from, &address, success, why);
        }
        let (name, cluster) = (short(from), self.cluster_name());
        self.info(format!(
            "starting to add server {name} ({name} at {address}) to cluster {cluster}"
        ));
        self.adding.insert(
            from,
            Adding {
                address,
                index: None,
            },
        );
        let peer = Peer {
            next: self.last_index() + 1,
            ..Peer::default()
        };
        self.peers.insert(from, peer);
        self.send_entries(now, from, Some("initialize new server".into()));
    }

    fn reply_add(&mut self, to: Uuid, address: &str, success: bool, why: &'static str) {
        let (name, cluster) = (short(to), self.cluster_name());
        let how = if success { "succeeded" } else { "failed" };
        self.info(format!(
            "adding {name} ({name} at {address}) to cluster {cluster} {how} ({why})"
        ));
        let others = self.servers.iter().filter(|(id, _)| **id != self.server);
        let remotes = others.map(|(_, address)| address.clone()).collect();
        let body = Body::AddServerReply { success, remotes };
        self.send(to, Some(why.into()), body);
    }

    /// The answer to this server's wish to be let in. That it is in is known from the log.
    pub(super) fn added(&mut self, _success: bool, remotes: Vec<String>) {
        let own = self.local_address.clone();
        if let Some(joining) = &mut self.joining {
            joining
                .remotes
                .extend(remotes.into_iter().filter(|a| *a != own));
        }
    }

    pub(super) fn remove_server(&mut self, now: u64, requester: Option<Uuid>, target: Uuid) {
        let waits = self.adding.get(&target).is_some_and(|a| a.index.is_none());
        if waits && self.role == Role::Leader {
            self.adding.remove(&target);
            self.refresh_peers();
        }
        let verdict = if self.role != Role::Leader {
            Some((false, "not leader"))
        } else if !self.servers.contains_key(&target) && self.servers_index <= self.commit {
            Some((true, "already not in cluster"))
        } else if self.removing.contains_key(&target) || !self.servers.contains_key(&target) {
            Some((false, "in progress"))
        } else if self.servers.len() == 1 {
            Some((false, "empty"))
        } else {
            None
        };
        if let Some((success, why)) = verdict {
            return self.reply_remove(requester, target, success, why);
        }
        let index = None;
        self.removing.insert(target, Removing { requester, index });
        self.change_servers(now);
    }

    fn reply_remove(
        &mut self,
        requester: Option<Uuid>,
        target: Uuid,
        success: bool,
        why: &'static str,
    ) {
        let who = match requester {
            Some(id) => format!("request by {}", short(id)),
            None => "request via unixctl".to_owned(),
        };
        let whom = match () {
            () if requester == Some(target) => "itself".to_owned(),
            () if target == self.server => format!("{} (ourselves)", short(target)),
            () => short(target),
        };
        let how = if success { "succeeded" } else { "failed" };
        let cluster = self.cluster_name();
        self.info(format!(
            "{who} to remove {whom} from cluster {cluster} {how} ({why})"
        ));
        let mut receivers = vec![requester.unwrap_or(target)];
        if success && requester != Some(target) {
            receivers = vec![target];
            receivers.extend(requester);
        }
        for to in receivers {
            let body = Body::RemoveServerReply {
                success,
                target: (to != target).then_some(target),
            };
            // What the cluster decided is not taken back, but must not be said before it is.
            self.send_durable(to, Some(why.into()), body);
        }
    }

    /// A server that was listed, but not for good, when it stopped goes on asking.
    pub(super) fn resume_joining(&mut self, now: u64) {
        if self.snapshot.is_some() && self.servers_index > self.commit && self.is_member() {
            let committed = (self.first_index()..=self.commit).rev();
            let committed = committed
                .filter_map(|i| self.entry(i))
                .find_map(|e| e.servers.clone());
            let snapshot = self.snapshot.as_ref().map(|s| s.servers.clone());
            let committed = committed.or(snapshot).unwrap_or_default();
            if !committed.contains_key(&self.server) {
                let remotes = self.servers.values().cloned().collect();
                self.joining = Some(Joining {
                    remotes,
                    retry: now,
                });
            }
        }
    }

    /// The answer to a wish to remove a server.
    pub(super) fn removed(&mut self, success: bool, target: Option<Uuid>) {
        if success && target.is_none_or(|id| id == self.server) && self.snapshot.is_some() {
            self.finish_leaving();
        }
    }

    fn finish_leaving(&mut self) {
        let (name, cluster) = (short(self.server), self.cluster_name());
        self.info(format!("{name}: finished leaving cluster {cluster}"));
        self.write(super::Write::Append(Record {
            comment: Some("this server left the cluster".to_owned()),
            body: RecordBody::Note(NOTE_LEFT.to_owned()),
        }));
        self.role = Role::Follower;
        self.leader = None;
        self.left = true;
        self.outputs.push_back(Output::Left);
    }

    /// Makes the next list of servers if there is one to make and the last is committed.
    pub(super) fn change_servers(&mut self, now: u64) {
        if self.role != Role::Leader {
            return;
        }
        let pending = self.servers_index > self.commit;
        if pending && !self.broken(Mutation::ChangeServersAtOnce) {
            return;
        }
        let own_term = self.term_at(self.commit) == Some(self.term);
        if !own_term {
            return;
        }
        let Some((id, servers)) = self.next_servers() else {
            return;
        };
        let entry = Entry {
            term: self.term,
            servers: Some(Arc::new(servers)),
            ..Entry::default()
        };
        let index = Some(self.last_index() + 1);
        if let Some(adding) = self.adding.get_mut(&id) {
            adding.index = index;
        }
        if let Some(removing) = self.removing.get_mut(&id) {
            removing.index = index;
        }
        self.append(now, entry);
    }

    fn next_servers(&self) -> Option<(Uuid, Servers)> {
        let ready = |id: &Uuid| self.peers.get(id).is_some_and(|p| p.matched >= self.commit);
        let mut adding = self.adding.iter().filter(|(_, a)| a.index.is_none());
        let mut removing = self.removing.iter().filter(|(_, r)| r.index.is_none());
        let mut servers = Servers::clone(&self.servers);
        if let Some((id, adding)) = adding.find(|(id, _)| ready(id)) {
            servers.insert(*id, adding.address.clone());
            return Some((*id, servers));
        }
        let (id, _) = removing.next()?;
        servers.remove(id);
        (!servers.is_empty()).then_some((*id, servers))
    }

    /// An entry that lists servers is committed.
    pub(super) fn servers_committed(&mut self, now: u64, index: u64) {
        if self.servers_index == index && self.is_member() {
            self.joining = None;
        }
        if self.role != Role::Leader {
            return;
        }
        let in_index = |adding: &Adding| adding.index == Some(index);
        let added: Vec<Uuid> = self
            .adding
            .iter()
            .filter(|(_, a)| in_index(a))
            .map(|(id, _)| *id)
            .collect();
        for id in added {
            if let Some(adding) = self.adding.remove(&id) {
                self.reply_add(id, &adding.address, true, "completed");
            }
        }
        let removed = self.removing.iter().find(|(_, r)| r.index == Some(index));
        let removed = removed.map(|(id, r)| (*id, r.requester));
        if let Some((id, requester)) = removed {
            self.removing.remove(&id);
            self.reply_remove(requester, id, true, "completed");
            if id == self.server {
                self.fail_commands(Status::LostLeadership);
                // The others have to know that it is committed.
                self.send_heartbeats(now);
                return self.finish_leaving();
            }
        }
        self.change_servers(now);
    }

    /// What a leader that is none any more had begun.
    pub(super) fn abandon_membership(&mut self) {
        self.adding.clear();
        self.removing.clear();
        self.peers.clear();
    }

    pub(super) fn disconnected(&mut self, id: Uuid) {
        let waits = self.adding.get(&id).is_some_and(|a| a.index.is_none());
        if let Some(adding) = self.adding.remove(&id).filter(|_| waits) {
            let (cluster, name) = (self.cluster_name(), short(id));
            self.info(format!(
                "cluster {cluster}: server {name} ({}) disconnected while joining",
                adding.address
            ));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.snapshot_sent = None;
        }
        if self.role == Role::Leader {
            self.refresh_peers();
        }
    }

    pub(super) fn leave(&mut self, now: u64) {
        if self.leaving.is_some() || self.joining.is_some() {
            return;
        }
        let (name, cluster) = (short(self.server), self.cluster_name());
        self.info(format!("{name}: starting to leave cluster {cluster}"));
        self.transfer(now, "this server is leaving the cluster");
        // The new leader needs a moment.
        let retry = now + self.election_timer / 10;
        self.leaving = Some(Leaving { retry });
    }

    pub(super) fn kick(&mut self, now: u64, id: Uuid) {
        if !self.servers.contains_key(&id) {
            return self
                .outputs
                .push_back(Output::Answer(Err("unknown server")));
        }
        self.outputs
            .push_back(Output::Answer(Ok("started removal")));
        if self.role == Role::Leader {
            return self.remove_server(now, None, id);
        }
        let receivers = match self.leader {
            Some(leader) => vec![leader],
            None => self.others(),
        };
        for to in receivers {
            let body = Body::RemoveServerRequest { server: id };
            self.send(to, Some("via unixctl".into()), body);
        }
    }

    pub(super) fn tick_membership(&mut self, now: u64) {
        self.tick_joining(now);
        if let Some(leaving) = &mut self.leaving
            && now >= leaving.retry
        {
            leaving.retry = now + self.election_timer;
            self.info("sending remove request (joining=false, leaving=true)".to_owned());
            if self.role == Role::Leader {
                self.transfer(now, "this server is leaving the cluster");
            }
            for to in self.others() {
                let body = Body::RemoveServerRequest {
                    server: self.server,
                };
                self.send(to, None, body);
            }
        }
    }

    fn tick_joining(&mut self, now: u64) {
        let Some(joining) = &mut self.joining else {
            return;
        };
        if now < joining.retry {
            return;
        }
        joining.retry = now + JOIN_RETRY;
        let remotes: Vec<String> = joining.remotes.iter().cloned().collect();
        for address in remotes {
            let message = self.greeting(None);
            let to = Destination::Address(address);
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    pub(super) fn change_election_timer(&mut self, now: u64, ms: u64) {
        let pending = self
            .entries
            .iter()
            .rev()
            .zip((self.commit..self.last_index()).rev());
        let pending = pending.into_iter().any(|(e, _)| e.election_timer.is_some());
        let answer = if self.role != Role::Leader {
            Err("election timer must be changed through leader.")
        } else if !(ELECTION_TIMER_MIN..=ELECTION_TIMER_MAX).contains(&ms) {
            Err("election timer must be between 100 and 600000, in msec.")
        } else if ms > self.election_timer * 2 {
            Err("election timer increase should not exceed the current value x 2.")
        } else if pending {
            Err("election timer change pending.")
        } else {
            Ok("change of election timer initiated.")
        };
        self.outputs.push_back(Output::Answer(answer));
        if answer.is_ok() {
            let entry = Entry {
                term: self.term,
                election_timer: Some(ms),
                ..Entry::default()
            };
            self.append(now, entry);
        }
    }
}
