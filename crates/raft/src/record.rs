//! The file of a clustered database: records as those of a standalone one, with another magic.
//!
//! ```text
//! OVSDB CLUSTER <length> <SHA-1 of the body, 40 hex digits>\n
//! <body: one line of JSON, its newline included in length and hash>
//! ```
//!
//! The first record is the [`Header`]: who the server is, and a snapshot (or, before the server
//! joined, whom to ask). Each later one is a [`Record`], a change of what Raft has to remember.

use std::sync::Arc;

use ferrovs_json::{self as json, Value};
use ferrovs_ovsdb::log::{MAGIC_CLUSTER, sha1_hex};
use ferrovs_ovsdb::parser::{Kind, Parser};
use ferrovs_ovsdb::{Error, Uuid};

use crate::message::Snapshot;
use crate::types::{
    self, Entry, addresses_from_json, check_address, integer, optional_uuid, servers_from_json,
    uuid_member, write_servers,
};
use crate::wire::Object;

/// The first record of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub server: Uuid,
    pub local_address: String,
    /// The name of the database's schema.
    pub name: String,
    pub state: HeaderState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderState {
    Member {
        cluster: Uuid,
        snapshot: Snapshot,
    },
    /// Made by `ovsdb-tool join-cluster`.
    Joining {
        cluster: Option<Uuid>,
        remotes: Vec<String>,
    },
}

/// A record after the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub comment: Option<String>,
    pub body: RecordBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    Entry { index: u64, entry: Entry },
    Term(u64),
    Vote { term: u64, vote: Uuid },
    Leader { term: u64, leader: Uuid },
    CommitIndex(u64),
    Note(String),
}

/// The note of a server that left its cluster.
pub const NOTE_LEFT: &str = "left";
/// The note of a leader that gave its leadership to another.
pub const NOTE_TRANSFER: &str = "transfer leadership";

/// A record of the file from its body, which must end in a newline.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = format!("OVSDB {MAGIC_CLUSTER} {} {}\n", body.len(), sha1_hex(body)).into_bytes();
    out.extend_from_slice(body);
    out
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut o = Object::new(&mut out);
        let cluster = match &self.state {
            HeaderState::Member { cluster, .. } => Some(*cluster),
            HeaderState::Joining { cluster, .. } => *cluster,
        };
        if let Some(id) = cluster {
            o.uuid("cluster_id", id);
        }
        o.string("local_address", &self.local_address);
        o.string("name", &self.name);
        match &self.state {
            HeaderState::Member { snapshot: s, .. } => {
                o.raw("prev_data", &s.data);
                o.uuid("prev_eid", s.eid);
                o.integer("prev_election_timer", s.election_timer);
                o.integer("prev_index", s.index);
                write_servers(&mut o, "prev_servers", &s.servers);
                o.integer("prev_term", s.term);
            }
            HeaderState::Joining { remotes, .. } => {
                o.array("remote_addresses", remotes, |out, a| {
                    json::write_str(out, a)
                });
            }
        }
        o.uuid("server_id", self.server);
        o.end();
        out.push(b'\n');
        frame(&out)
    }

    pub fn decode(record: &Value) -> Result<Self, Error> {
        let mut parser = Parser::new(record, "raft header");
        let p = &mut parser;
        let server = uuid_member(p, "server_id").unwrap_or_default();
        let name = p.required("name", Kind::STRING).and_then(Value::as_str);
        let name = name.unwrap_or_default().to_owned();
        let local = p.required("local_address", Kind::STRING);
        let local = local.and_then(Value::as_str).unwrap_or_default().to_owned();
        let remotes = p.optional("remote_addresses", Kind::ARRAY);
        let state = match remotes.map(|list| addresses_from_json(list, true)) {
            Some(Err(e)) => {
                p.raise_error(e);
                None
            }
            Some(Ok(mut remotes)) => {
                remotes.retain(|address| *address != local);
                if remotes.is_empty() {
                    p.raise(
                        "at least one remote address (other than the local address) is required",
                    );
                }
                let cluster = optional_uuid(p, "cluster_id");
                Some(HeaderState::Joining { cluster, remotes })
            }
            None => member(p),
        };
        parser.finish()?;
        let state = state.ok_or_else(|| Error::ovsdb("incomplete raft header"))?;
        Ok(Self {
            server,
            local_address: local,
            name,
            state,
        })
    }
}

fn member(p: &mut Parser<'_>) -> Option<HeaderState> {
    let servers = p.required("prev_servers", Kind::OBJECT);
    let servers = match servers.map(servers_from_json) {
        Some(Err(e)) => {
            p.raise_error(e);
            None
        }
        Some(Ok(servers)) => Some(Arc::new(servers)),
        None => None,
    };
    let term = integer(p.required("prev_term", Kind::INTEGER));
    let index = integer(p.required("prev_index", Kind::INTEGER));
    let data = p.required("prev_data", Kind::ANY).map(json::to_string);
    let eid = uuid_member(p, "prev_eid");
    let timer = p.optional("prev_election_timer", Kind::INTEGER);
    let cluster = uuid_member(p, "cluster_id");
    Some(HeaderState::Member {
        cluster: cluster?,
        snapshot: Snapshot {
            index,
            term,
            eid: eid?,
            data: data?.into(),
            servers: servers?,
            election_timer: timer.map_or(types::ELECTION_TIMER, |v| integer(Some(v))),
        },
    })
}

impl From<RecordBody> for Record {
    fn from(body: RecordBody) -> Self {
        Self {
            comment: None,
            body,
        }
    }
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut o = Object::new(&mut out);
        if let Some(text) = &self.comment {
            o.string("comment", text);
        }
        match &self.body {
            RecordBody::Entry { index, entry } => entry.write(&mut o, Some(*index)),
            RecordBody::Term(term) => o.integer("term", *term),
            RecordBody::Vote { term, vote } => {
                o.integer("term", *term);
                o.uuid("vote", *vote);
            }
            RecordBody::Leader { term, leader } => {
                o.uuid("leader", *leader);
                o.integer("term", *term);
            }
            RecordBody::CommitIndex(index) => o.integer("commit_index", *index),
            RecordBody::Note(note) => o.string("note", note),
        }
        o.end();
        out.push(b'\n');
        frame(&out)
    }

    pub fn decode(record: &Value) -> Result<Self, Error> {
        let mut parser = Parser::new(record, "raft log record");
        let p = &mut parser;
        let comment = p.optional("comment", Kind::STRING).and_then(Value::as_str);
        let comment = comment.map(str::to_owned);
        let body = record_body(p);
        parser.finish()?;
        Ok(Self { comment, body })
    }
}

fn record_body(p: &mut Parser<'_>) -> RecordBody {
    if let Some(note) = p.optional("note", Kind::STRING) {
        return RecordBody::Note(note.as_str().unwrap_or_default().to_owned());
    }
    if let Some(index) = p.optional("commit_index", Kind::INTEGER) {
        return RecordBody::CommitIndex(integer(Some(index)));
    }
    let term = integer(p.required("term", Kind::INTEGER));
    if let Some(leader) = optional_uuid(p, "leader") {
        if leader.is_nil() {
            p.raise("record says leader is all-zeros SID");
        }
        return RecordBody::Leader { term, leader };
    }
    if let Some(vote) = optional_uuid(p, "vote") {
        return RecordBody::Vote { term, vote };
    }
    match p.optional("index", Kind::INTEGER) {
        Some(index) => RecordBody::Entry {
            index: integer(Some(index)),
            entry: Entry::members(p, term),
        },
        None => RecordBody::Term(term),
    }
}

/// A header for `ovsdb-tool join-cluster`, its addresses checked.
pub fn joining(
    server: Uuid,
    name: &str,
    local: &str,
    cluster: Option<Uuid>,
    remotes: &[String],
) -> Result<Header, Error> {
    for address in std::iter::once(local).chain(remotes.iter().map(String::as_str)) {
        check_address(address)?;
    }
    Ok(Header {
        server,
        local_address: local.to_owned(),
        name: name.to_owned(),
        state: HeaderState::Joining {
            cluster,
            remotes: remotes.to_vec(),
        },
    })
}
