//! Messages to and from JSON.

use std::borrow::Cow;
use std::sync::Arc;

use ferrovs_json::{self as json, Value};
use ferrovs_ovsdb::parser::{Kind, Parser};
use ferrovs_ovsdb::{Error, Uuid};

use super::{
    AppendReply, AppendRequest, Body, Message, Snapshot, SnapshotReply, SnapshotRequest, VoteReply,
    VoteRequest,
};
use crate::types::{
    self, Entry, Status, addresses_from_json, integer, optional_uuid, servers_from_json, short,
    uuid_member, write_servers,
};
use crate::wire::Object;

/// Who reads: what is meant for others is refused.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub server: Uuid,
    /// Unknown while a server joins a cluster that it was not told the id of.
    pub cluster: Option<Uuid>,
}

impl Message {
    /// The whole JSON-RPC notification.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"id\":null,\"method\":\"");
        out.extend_from_slice(self.body.method().as_bytes());
        out.extend_from_slice(b"\",\"params\":[");
        self.encode_parameter(&mut out);
        out.extend_from_slice(b"]}");
        out
    }

    /// The one parameter.
    pub fn encode_parameter(&self, out: &mut Vec<u8>) {
        let mut o = Object::new(out);
        if let Some(id) = self.cluster {
            o.uuid("cluster", id);
        }
        if let Some(text) = &self.comment {
            o.string("comment", text);
        }
        o.uuid("from", self.from);
        if let Some(id) = self.to {
            o.uuid("to", id);
        }
        encode_body(&self.body, &mut o);
        o.end();
    }

    /// Reads a notification: its method, its parameters.
    pub fn decode(method: &str, params: &[Value], context: Context) -> Result<Self, Error> {
        let decode_body = DECODERS.iter().find(|(name, _)| *name == method);
        let Some((_, decode_body)) = decode_body else {
            return Err(Error::ovsdb(format!("unknown method {method}")));
        };
        let [json] = params else {
            let n = params.len();
            let text = format!("{method} RPC has {n} parameters (expected 1)");
            return Err(Error::ovsdb(text));
        };
        let mut parser = Parser::new(json, format!("raft {method} RPC"));
        let p = &mut parser;
        // Only who joins may not know the cluster.
        let cluster = if method == "add_server_request" {
            optional_uuid(p, "cluster")
        } else {
            uuid_member(p, "cluster")
        };
        if let (Some(theirs), Some(ours)) = (cluster, context.cluster)
            && theirs != ours
        {
            let (theirs, ours) = (short(theirs), short(ours));
            p.raise(format!("wrong cluster {theirs} (expected {ours})"));
        }
        let to = optional_uuid(p, "to");
        if let Some(to) = to.filter(|to| *to != context.server) {
            let (to, us) = (short(to), short(context.server));
            p.raise(format!(
                "misrouted message (addressed to {to} but we're {us})"
            ));
        }
        let from = uuid_member(p, "from").unwrap_or_default();
        let comment = p.optional("comment", Kind::STRING).and_then(Value::as_str);
        let comment = comment.map(|text| Cow::Owned(text.to_owned()));
        let body = decode_body(p);
        parser.finish()?;
        Ok(Self {
            from,
            to,
            cluster,
            comment,
            body,
        })
    }
}

fn encode_body(body: &Body, o: &mut Object<'_>) {
    match body {
        Body::Hello { address } | Body::AddServerRequest { address } => {
            o.string("address", address);
        }
        Body::AppendRequest(m) => {
            o.integer("leader_commit", m.commit);
            o.array("log", &m.entries, |out, entry| {
                let mut o = Object::new(out);
                entry.write(&mut o, None);
                o.end();
            });
            o.integer("prev_log_index", m.prev_index);
            o.integer("prev_log_term", m.prev_term);
            o.integer("term", m.term);
        }
        Body::AppendReply(m) => {
            o.integer("log_end", m.log_end);
            o.integer("n_entries", m.n_entries);
            o.integer("prev_log_index", m.prev_index);
            o.integer("prev_log_term", m.prev_term);
            o.string("result", if m.ok { "OK" } else { "inconsistency" });
            o.integer("term", m.term);
        }
        Body::VoteRequest(m) => {
            // Open vSwitch before 3.3 refuses what it does not know, so false is not said.
            if m.prevote {
                o.boolean("is_prevote", true);
            }
            o.integer("last_log_index", m.last_index);
            o.integer("last_log_term", m.last_term);
            if m.transfer {
                o.boolean("leadership_transfer", true);
            }
            o.integer("term", m.term);
        }
        Body::VoteReply(m) => {
            if m.prevote {
                o.boolean("is_prevote", true);
            }
            o.integer("term", m.term);
            o.uuid("vote", m.vote);
        }
        Body::AddServerReply { success, remotes } => {
            if !remotes.is_empty() {
                o.array("remote_addresses", remotes, |out, a| {
                    json::write_str(out, a)
                });
            }
            o.boolean("success", *success);
        }
        Body::RemoveServerRequest { server } => o.uuid("server_id", *server),
        Body::RemoveServerReply { success, target } => {
            o.boolean("success", *success);
            if let Some(id) = target {
                o.uuid("target_server", *id);
            }
        }
        Body::SnapshotRequest(m) => {
            let s = &m.snapshot;
            o.raw("data", &s.data);
            o.integer("election_timer", s.election_timer);
            o.uuid("last_eid", s.eid);
            o.integer("last_index", s.index);
            write_servers(o, "last_servers", &s.servers);
            o.integer("last_term", s.term);
            o.integer("term", m.term);
        }
        Body::SnapshotReply(m) => {
            o.integer("last_index", m.last_index);
            o.integer("last_term", m.last_term);
            o.integer("term", m.term);
        }
        Body::BecomeLeader { term } => o.integer("term", *term),
        Body::ExecuteRequest { data, prereq, eid } => {
            o.raw("data", data);
            o.uuid("prereq", *prereq);
            o.uuid("result", *eid);
        }
        Body::ExecuteReply {
            eid,
            status,
            commit,
        } => {
            if let Some(index) = commit {
                o.integer("commit_index", *index);
            }
            o.uuid("result", *eid);
            o.string("status", status.text());
        }
    }
}

type Decode = fn(&mut Parser<'_>) -> Body;

const DECODERS: [(&str, Decode); 14] = [
    ("hello_request", |p| Body::Hello {
        address: string(p, "address"),
    }),
    ("append_request", append_request),
    ("append_reply", append_reply),
    ("vote_request", |p| {
        Body::VoteRequest(VoteRequest {
            term: number(p, "term"),
            last_index: number(p, "last_log_index"),
            last_term: number(p, "last_log_term"),
            transfer: flag(p, "leadership_transfer"),
            prevote: flag(p, "is_prevote"),
        })
    }),
    ("vote_reply", |p| {
        Body::VoteReply(VoteReply {
            term: number(p, "term"),
            vote: id(p, "vote"),
            prevote: flag(p, "is_prevote"),
        })
    }),
    ("add_server_request", |p| Body::AddServerRequest {
        address: string(p, "address"),
    }),
    ("add_server_reply", |p| {
        let success = p.required("success", Kind::BOOLEAN) == Some(&Value::Bool(true));
        let remotes = p.optional("remote_addresses", Kind::ARRAY);
        let remotes = remotes.map(|list| addresses_from_json(list, true));
        Body::AddServerReply {
            success,
            remotes: complete(p, remotes).unwrap_or_default(),
        }
    }),
    ("remove_server_request", |p| Body::RemoveServerRequest {
        server: id(p, "server_id"),
    }),
    ("remove_server_reply", |p| Body::RemoveServerReply {
        success: p.required("success", Kind::BOOLEAN) == Some(&Value::Bool(true)),
        target: optional_uuid(p, "target_server"),
    }),
    ("install_snapshot_request", snapshot_request),
    ("install_snapshot_reply", |p| {
        Body::SnapshotReply(SnapshotReply {
            term: number(p, "term"),
            last_index: number(p, "last_index"),
            last_term: number(p, "last_term"),
        })
    }),
    ("become_leader", |p| Body::BecomeLeader {
        term: number(p, "term"),
    }),
    ("execute_command_request", |p| Body::ExecuteRequest {
        data: data(p, "data"),
        prereq: id(p, "prereq"),
        eid: id(p, "result"),
    }),
    ("execute_command_reply", execute_reply),
];

fn append_request(p: &mut Parser<'_>) -> Body {
    let term = number(p, "term");
    let prev_index = number(p, "prev_log_index");
    let prev_term = number(p, "prev_log_term");
    let commit = number(p, "leader_commit");
    let log = p.required("log", Kind::ARRAY).and_then(Value::as_array);
    let entries = log.map(|log| log.iter().map(Entry::from_json).collect());
    Body::AppendRequest(AppendRequest {
        term,
        prev_index,
        prev_term,
        commit,
        entries: complete(p, entries).unwrap_or_default(),
    })
}

fn append_reply(p: &mut Parser<'_>) -> Body {
    let reply = AppendReply {
        term: number(p, "term"),
        log_end: number(p, "log_end"),
        prev_index: number(p, "prev_log_index"),
        prev_term: number(p, "prev_log_term"),
        n_entries: number(p, "n_entries"),
        ok: false,
    };
    let result = p.required("result", Kind::STRING).and_then(Value::as_str);
    if let Some(text) = result.filter(|text| !["OK", "inconsistency"].contains(text)) {
        p.raise(format!("unknown result \"{text}\""));
    }
    let ok = result == Some("OK");
    Body::AppendReply(AppendReply { ok, ..reply })
}

fn snapshot_request(p: &mut Parser<'_>) -> Body {
    let servers = p.required("last_servers", Kind::OBJECT);
    let servers = servers.map(servers_from_json);
    let servers = Arc::new(complete(p, servers).unwrap_or_default());
    let term = number(p, "term");
    let snapshot = Snapshot {
        index: number(p, "last_index"),
        term: number(p, "last_term"),
        eid: id(p, "last_eid"),
        data: data(p, "data"),
        servers,
        election_timer: match p.optional("election_timer", Kind::INTEGER) {
            Some(ms) => integer(Some(ms)),
            None => types::ELECTION_TIMER,
        },
    };
    Body::SnapshotRequest(SnapshotRequest { term, snapshot })
}

fn execute_reply(p: &mut Parser<'_>) -> Body {
    let eid = id(p, "result");
    let text = p.required("status", Kind::STRING).and_then(Value::as_str);
    let status = text.and_then(Status::parse);
    if let (Some(text), None) = (text, status) {
        p.raise(format!("unknown status \"{text}\""));
    }
    let commit = p.optional("commit_index", Kind::INTEGER);
    Body::ExecuteReply {
        eid,
        status: status.unwrap_or(Status::Timeout),
        commit: commit.map(|v| integer(Some(v))),
    }
}

/// A value, or its error left with the parser, which then fails.
fn complete<T>(p: &mut Parser<'_>, value: Option<Result<T, Error>>) -> Option<T> {
    match value? {
        Ok(value) => Some(value),
        Err(e) => {
            p.raise_error(e);
            None
        }
    }
}

fn number(p: &mut Parser<'_>, name: &'static str) -> u64 {
    integer(p.required(name, Kind::INTEGER))
}

fn flag(p: &mut Parser<'_>, name: &'static str) -> bool {
    p.optional(name, Kind::BOOLEAN) == Some(&Value::Bool(true))
}

fn id(p: &mut Parser<'_>, name: &'static str) -> Uuid {
    uuid_member(p, name).unwrap_or_default()
}

fn data(p: &mut Parser<'_>, name: &'static str) -> types::Data {
    let value = p.required(name, Kind::ANY);
    value.map_or_else(|| "null".into(), |v| json::to_string(v).into())
}

/// An address. Open vSwitch's servers take any text here; whoever connects to it looks closer.
fn string(p: &mut Parser<'_>, name: &'static str) -> String {
    let text = p.required(name, Kind::STRING).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
