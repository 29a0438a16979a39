//! What messages and records share: entries of the log, server lists, the outcome of a command.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrovs_json::Value;
use ferrovs_ovsdb::parser::{Kind, Parser};
use ferrovs_ovsdb::{Error, Uuid, uuid};

use crate::wire::Object;

/// The servers of a cluster: who, and at which address.
pub type Servers = BTreeMap<Uuid, String>;

pub(crate) fn write_servers(o: &mut Object<'_>, name: &str, servers: &Servers) {
    o.object(name, |o| {
        for (id, address) in servers {
            o.string(&id.to_string(), address);
        }
    });
}

/// JSON text of a `<cluster-txn>`. Text and not a tree, because all that happens to it on its way is
/// that it is copied into messages and records, and because the engine reads transactions as text.
pub type Data = Arc<str>;

/// The election timer of a cluster that never set one, in milliseconds.
pub const ELECTION_TIMER: u64 = 1000;
pub const ELECTION_TIMER_MIN: u64 = 100;
pub const ELECTION_TIMER_MAX: u64 = 600_000;

/// A change of the database, and the id that names the state of the database after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub eid: Uuid,
    pub data: Data,
}

/// An entry of the log. Its index is its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub term: u64,
    pub payload: Option<Payload>,
    pub servers: Option<Arc<Servers>>,
    pub election_timer: Option<u64>,
}

impl Entry {
    /// An entry of the log in an `append_request`.
    pub(crate) fn from_json(json: &Value) -> Result<Self, Error> {
        let mut p = Parser::new(json, "raft log entry");
        let term = integer(p.required("term", Kind::INTEGER));
        let entry = Self::members(&mut p, term);
        p.finish()?;
        Ok(entry)
    }

    /// The members that an entry has in a message and in a record alike.
    pub(crate) fn members(p: &mut Parser<'_>, term: u64) -> Self {
        let payload = p.optional("data", Kind::ANY).and_then(|data| {
            let eid = uuid_member(p, "eid")?;
            let data = ferrovs_json::to_string(data).into();
            Some(Payload { eid, data })
        });
        let servers =
            p.optional("servers", Kind::OBJECT).and_then(|servers| {
                match servers_from_json(servers) {
                    Ok(servers) => Some(Arc::new(servers)),
                    Err(e) => {
                        p.raise_error(e);
                        None
                    }
                }
            });
        let timer = p.optional("election_timer", Kind::INTEGER);
        Self {
            term,
            payload,
            servers,
            election_timer: timer.map(|v| integer(Some(v))),
        }
    }

    /// Writes the members; `index` only in a record.
    pub(crate) fn write(&self, o: &mut Object<'_>, index: Option<u64>) {
        if let Some(p) = &self.payload {
            o.raw("data", &p.data);
            o.uuid("eid", p.eid);
        }
        if let Some(ms) = self.election_timer {
            o.integer("election_timer", ms);
        }
        if let Some(index) = index {
            o.integer("index", index);
        }
        if let Some(servers) = &self.servers {
            write_servers(o, "servers", servers);
        }
        o.integer("term", self.term);
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    /// The database was not in the state that the command was made for.
    PrerequisiteFailed,
    NotLeader,
    /// May have happened or not.
    LostLeadership,
    /// May have happened or not.
    Timeout,
    IoError,
}

impl Status {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Success, "success"),
        (Self::PrerequisiteFailed, "prerequisite check failed"),
        (Self::NotLeader, "not leader"),
        (Self::LostLeadership, "lost leadership"),
        (Self::Timeout, "timeout"),
        (Self::IoError, "I/O error"),
    ];

    pub fn text(self) -> &'static str {
        let row = Self::ALL.iter().find(|(status, _)| *status == self);
        row.map_or("", |(_, text)| text)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let row = Self::ALL.iter().find(|(_, t)| *t == text);
        row.map(|(status, _)| *status)
    }
}

/// The four digits by which the log of a server names servers and clusters.
pub fn short(id: Uuid) -> String {
    let mut text = id.to_string();
    text.truncate(4);
    text
}

/// Refuses what is no address of a server.
pub fn check_address(address: &str) -> Result<(), Error> {
    let target = ["tcp:", "ssl:"]
        .iter()
        .find_map(|p| address.strip_prefix(p));
    let Some(target) = target else {
        return Err(Error::ovsdb(format!(
            "{address}: expected \"tcp\" or \"ssl\" address"
        )));
    };
    check_target(target).map_err(|_| Error::ovsdb(format!("{address}: syntax error in address")))
}

/// Refuses a host and port without a port that can be one. The error is what the log says of it.
pub fn check_target(target: &str) -> Result<(), String> {
    let port = match target.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .and_then(|(_, port)| port.strip_prefix(':')),
        None => target.rsplit_once(':').map(|(_, port)| port),
    };
    match port.unwrap_or_default() {
        "" => Err(format!("{target}: port must be specified")),
        port if port.parse::<u16>().is_err() => {
            Err(format!("{target}: bad port number \"{port}\""))
        }
        _ => Ok(()),
    }
}

fn address(json: &Value) -> Result<String, Error> {
    let Some(text) = json.as_str() else {
        return Err(Error::syntax(json, "server address is not string"));
    };
    check_address(text)?;
    Ok(text.to_owned())
}

pub(crate) fn servers_from_json(json: &Value) -> Result<Servers, Error> {
    let map = json.as_object().filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| Error::syntax(json, "must have at least one server"))?;
    let server = |(id, at): (&String, &Value)| {
        let id =
            uuid::parse(id).ok_or_else(|| Error::syntax(json, format!("{id} is not a UUID")))?;
        Ok((id, address(at)?))
    };
    map.iter().map(server).collect()
}

/// The addresses of a `remote_addresses` member; `least` says whether there must be one.
pub(crate) fn addresses_from_json(json: &Value, least: bool) -> Result<Vec<String>, Error> {
    let list = json.as_array().map(Vec::as_slice).unwrap_or_default();
    if least && list.is_empty() {
        return Err(Error::syntax(
            json,
            "at least one remote address is required",
        ));
    }
    list.iter().map(address).collect()
}

/// An integer member, of 64 bits without sign: from 2^63 on JSON's form of it is negative.
pub(crate) fn integer(value: Option<&Value>) -> u64 {
    value
        .and_then(Value::as_i64)
        .unwrap_or_default()
        .cast_unsigned()
}

pub(crate) fn uuid_member(p: &mut Parser<'_>, name: &'static str) -> Option<Uuid> {
    let text = p.required(name, Kind::STRING)?.as_str();
    parse_uuid(p, name, text)
}

pub(crate) fn optional_uuid(p: &mut Parser<'_>, name: &'static str) -> Option<Uuid> {
    let text = p.optional(name, Kind::STRING)?.as_str();
    parse_uuid(p, name, text)
}

fn parse_uuid(p: &mut Parser<'_>, name: &str, text: Option<&str>) -> Option<Uuid> {
    let id = text.and_then(uuid::parse);
    if id.is_none() {
        p.raise(format!("{name} is not a valid UUID"));
    }
    id
}
