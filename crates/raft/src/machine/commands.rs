//! Changes of the database on their way into the log, and the answers on their way back.
//!
//! A command says for which state of the database it was made. The leader takes it only if its log
//! ends in that state; a server that is not leader sends it on. Whoever made it hears of the end
//! when this server has applied it, so that a client sees what it wrote.

use ferrovs_ovsdb::Uuid;

use super::{Mutation, Output, Raft, Role};
use crate::message::Body;
use crate::types::{Data, Entry, Payload, Status, short};

#[derive(Debug)]
pub(super) struct Command {
    /// None if it was made here.
    requester: Option<Uuid>,
    /// Until then it is committed, or nobody waits any more.
    pub deadline: u64,
}

impl Raft {
    pub(super) fn command(&mut self, now: u64, eid: Uuid, prereq: Uuid, data: Data) {
        match (self.role, self.leader) {
            (Role::Leader, _) => self.execute(now, None, eid, prereq, data),
            (_, Some(leader)) => {
                self.wait_for(now, eid, None);
                let body = Body::ExecuteRequest { data, prereq, eid };
                self.send(leader, None, body);
            }
            _ => self.end_command(None, eid, Status::NotLeader, None),
        }
    }

    pub(super) fn execute_request(
        &mut self,
        now: u64,
        from: Uuid,
        eid: Uuid,
        prereq: Uuid,
        data: Data,
    ) {
        if self.role != Role::Leader {
            return self.end_command(Some(from), eid, Status::NotLeader, None);
        }
        self.execute(now, Some(from), eid, prereq, data);
    }

    fn execute(&mut self, now: u64, requester: Option<Uuid>, eid: Uuid, prereq: Uuid, data: Data) {
        let current = self.last_eid();
        if current != prereq && !self.broken(Mutation::IgnorePrerequisites) {
            self.info(format!(
                "current entry eid {current} does not match prerequisite {prereq} in \
                 execute_command_request"
            ));
            return self.end_command(requester, eid, Status::PrerequisiteFailed, None);
        }
        if self.broken(Mutation::SucceedBeforeCommit) {
            let index = Some(self.last_index() + 1);
            self.end_command(requester, eid, Status::Success, index);
        } else {
            self.wait_for(now, eid, requester);
        }
        let entry = Entry {
            term: self.term,
            payload: Some(Payload { eid, data }),
            ..Entry::default()
        };
        self.append(now, entry);
    }

    fn wait_for(&mut self, now: u64, eid: Uuid, requester: Option<Uuid>) {
        let deadline = now + 2 * self.election_timer;
        let command = Command {
            requester,
            deadline,
        };
        self.commands.insert(eid, command);
    }

    fn end_command(
        &mut self,
        requester: Option<Uuid>,
        eid: Uuid,
        status: Status,
        index: Option<u64>,
    ) {
        match requester {
            None => self.outputs.push_back(Output::Done { eid, status, index }),
            Some(to) => {
                let commit = index;
                let body = Body::ExecuteReply {
                    eid,
                    status,
                    commit,
                };
                self.send(to, None, body);
            }
        }
    }

    /// The entry with this id is committed and applied here.
    pub(super) fn command_committed(&mut self, eid: Uuid, index: u64) {
        if let Some(command) = self.commands.remove(&eid) {
            self.end_command(command.requester, eid, Status::Success, Some(index));
        }
    }

    pub(super) fn execute_reply(
        &mut self,
        from: Uuid,
        eid: Uuid,
        status: Status,
        commit: Option<u64>,
    ) {
        let own = self
            .commands
            .get(&eid)
            .is_some_and(|c| c.requester.is_none());
        if !own {
            // Success is mostly known from the log before it is said.
            if status != Status::Success || commit.is_none_or(|index| index > self.commit) {
                let (us, text, from) = (short(self.server), status.text(), short(from));
                self.info(format!(
                    "{us} received \"{text}\" reply from {from} for unknown command"
                ));
            }
            return;
        }
        // A success is one here when the entry is.
        let applied = commit.is_some_and(|index| index <= self.commit);
        if status != Status::Success || applied {
            self.commands.remove(&eid);
            self.end_command(None, eid, status, commit);
        }
    }

    /// A snapshot took the place of entries: what became of the commands in them is not known.
    pub(super) fn command_superseded(&mut self) {
        self.fail_commands(Status::Timeout);
    }

    pub(super) fn fail_commands(&mut self, status: Status) {
        for (eid, command) in std::mem::take(&mut self.commands) {
            self.end_command(command.requester, eid, status, None);
        }
    }

    pub(super) fn expire_commands(&mut self, now: u64) {
        while let Some(eid) = self.expired(now) {
            if let Some(command) = self.commands.remove(&eid) {
                self.end_command(command.requester, eid, Status::Timeout, None);
            }
        }
    }

    fn expired(&self, now: u64) -> Option<Uuid> {
        let mut commands = self.commands.iter();
        commands
            .find(|(_, c)| now >= c.deadline)
            .map(|(eid, _)| *eid)
    }
}
