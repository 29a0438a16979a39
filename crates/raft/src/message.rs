//! The messages between the servers of a cluster. Each is a JSON-RPC notification with one
//! parameter, an object; `codec` has its members. What each means is in PROTOCOL.md.

mod codec;

use std::borrow::Cow;
use std::sync::Arc;

use ferrovs_ovsdb::Uuid;

use crate::types::{Data, Entry, Servers, Status};

pub use codec::Context;

pub type Comment = Option<Cow<'static, str>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: Uuid,
    /// Unknown at the first words to a server.
    pub to: Option<Uuid>,
    /// Unknown to a server that joins.
    pub cluster: Option<Uuid>,
    pub comment: Comment,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Hello {
        address: String,
    },
    AppendRequest(AppendRequest),
    AppendReply(AppendReply),
    VoteRequest(VoteRequest),
    VoteReply(VoteReply),
    AddServerRequest {
        address: String,
    },
    AddServerReply {
        success: bool,
        remotes: Vec<String>,
    },
    RemoveServerRequest {
        server: Uuid,
    },
    /// `target` is there if it is not the server that gets the reply.
    RemoveServerReply {
        success: bool,
        target: Option<Uuid>,
    },
    SnapshotRequest(SnapshotRequest),
    SnapshotReply(SnapshotReply),
    BecomeLeader {
        term: u64,
    },
    ExecuteRequest {
        data: Data,
        prereq: Uuid,
        eid: Uuid,
    },
    ExecuteReply {
        eid: Uuid,
        status: Status,
        commit: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRequest {
    pub term: u64,
    pub prev_index: u64,
    pub prev_term: u64,
    pub commit: u64,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReply {
    pub term: u64,
    /// The index after the last entry.
    pub log_end: u64,
    pub prev_index: u64,
    pub prev_term: u64,
    pub n_entries: u64,
    /// "OK" or "inconsistency".
    pub ok: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    pub term: u64,
    pub last_index: u64,
    pub last_term: u64,
    pub transfer: bool,
    pub prevote: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteReply {
    pub term: u64,
    /// For whom the sender voted: for the receiver if it is its vote.
    pub vote: Uuid,
    pub prevote: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    pub term: u64,
    pub snapshot: Snapshot,
}

/// The state of the database and the cluster after the entry `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub index: u64,
    pub term: u64,
    pub eid: Uuid,
    pub data: Data,
    pub servers: Arc<Servers>,
    pub election_timer: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReply {
    pub term: u64,
    pub last_index: u64,
    pub last_term: u64,
}

impl Body {
    /// The term that the message speaks of, if it is one of those that do.
    pub fn term(&self) -> Option<u64> {
        match self {
            Self::AppendRequest(m) => Some(m.term),
            Self::AppendReply(m) => Some(m.term),
            Self::VoteRequest(m) => Some(m.term),
            Self::VoteReply(m) => Some(m.term),
            Self::SnapshotRequest(m) => Some(m.term),
            Self::SnapshotReply(m) => Some(m.term),
            Self::BecomeLeader { term } => Some(*term),
            _ => None,
        }
    }

    /// The JSON-RPC method.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello_request",
            Self::AppendRequest(_) => "append_request",
            Self::AppendReply(_) => "append_reply",
            Self::VoteRequest(_) => "vote_request",
            Self::VoteReply(_) => "vote_reply",
            Self::AddServerRequest { .. } => "add_server_request",
            Self::AddServerReply { .. } => "add_server_reply",
            Self::RemoveServerRequest { .. } => "remove_server_request",
            Self::RemoveServerReply { .. } => "remove_server_reply",
            Self::SnapshotRequest(_) => "install_snapshot_request",
            Self::SnapshotReply(_) => "install_snapshot_reply",
            Self::BecomeLeader { .. } => "become_leader",
            Self::ExecuteRequest { .. } => "execute_command_request",
            Self::ExecuteReply { .. } => "execute_command_reply",
        }
    }
}
