//! Active-backup replication of one database: the protocol that a backup speaks with the active
//! server (ovsdb(7), "Active-Backup Database Service Model").
//!
//! ```text
//! connected -> get_server_id -> list_dbs -> get_schema -> monitor -> update, update, ...
//!                  |               |            |
//!                myself?        not there?    unlike ours?
//! ```
//!
//! The reply to `monitor` replaces the contents, in one transaction, so that what is equal stays as
//! it is and nobody sees the database empty. A machine that has failed stays so: the owner makes
//! the database active again. Errors of the active server's side are waited out; it drops the
//! connection when something changes there, and each connection starts from the beginning.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::peer::{Call, Level, Out, Said, Speaker};
use crate::schema::DatabaseSchema;
use crate::server::{Now, Server};
use crate::table_updates::Form;
use crate::{Error, Uuid};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    ServerId,
    Databases,
    Schema,
    Monitor,
    Replicating,
    Failed,
}

/// What there is to say of a replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Connecting,
    Replicating,
    Failed,
}

pub struct Replication {
    db: String,
    excluded: BTreeSet<String>,
    state: State,
    /// The request whose reply is next.
    awaited: u64,
    out: Out,
}

impl Replication {
    /// A backup of the named database, all tables but the excluded ones.
    pub fn new(db: &str, excluded: BTreeSet<String>) -> Self {
        Self {
            db: db.to_owned(),
            excluded,
            state: State::Connecting,
            awaited: 0,
            out: Out::default(),
        }
    }

    pub fn status(&self) -> Status {
        match self.state {
            State::Replicating => Status::Replicating,
            State::Failed => Status::Failed,
            _ => Status::Connecting,
        }
    }

    /// A connection to the active server stands.
    pub fn connected(&mut self) {
        if self.state != State::Failed {
            self.out.calls.clear();
            self.debug("send server ID request.");
            self.ask(State::ServerId, "get_server_id", json!([]));
        }
    }

    /// Requests to be sent.
    pub fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.out.calls)
    }

    /// Lines for the log.
    pub fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.out.said)
    }

    fn ask(&mut self, state: State, method: &'static str, params: Value) {
        self.state = state;
        self.awaited = self.out.call(method, &params);
    }

    fn debug(&mut self, text: &str) {
        self.out.say(Speaker::Replication, Level::Debug, text);
    }

    fn info(&mut self, text: impl Into<String>) {
        self.out.say(Speaker::Replication, Level::Info, text);
    }

    fn fail(&mut self, error: &Error) {
        self.state = State::Failed;
        let text = format!("unexpected ovsdb error: {error}");
        self.out.say(Speaker::Error, Level::Error, text);
    }

    /// A reply of the active server.
    pub fn reply(
        &mut self,
        id: &Value,
        result: Result<&Value, &Value>,
        server: &mut Server,
        now: Now,
    ) {
        if id.as_u64() != Some(self.awaited) {
            return;
        }
        let Ok(result) = result else { return };
        match self.state {
            State::ServerId => self.check_server_id(result, server.id()),
            State::Databases => {
                self.debug("Send schema requests");
                let name = self.db.as_str();
                if result
                    .as_array()
                    .is_some_and(|a| a.iter().any(|n| n == name))
                {
                    let params = json!([name]);
                    self.ask(State::Schema, "get_schema", params);
                }
            }
            State::Schema => self.check_schema(result, server),
            State::Monitor => {
                self.info(format!(
                    "{}: Monitor reply received. Resetting the database.",
                    self.db
                ));
                self.state = State::Replicating;
                self.apply(result, true, server, now);
                if self.state == State::Replicating {
                    self.debug("Listening to monitor updates");
                }
            }
            State::Connecting | State::Replicating | State::Failed => {}
        }
    }

    /// A notification of the active server.
    pub fn notification(&mut self, method: &str, params: &[Value], server: &mut Server, now: Now) {
        if self.state != State::Replicating || method != "update" {
            return;
        }
        match params {
            [id, updates] if id.as_str() == Some(&self.db) => {
                self.apply(updates, false, server, now);
            }
            [_, _] => {}
            _ => {
                let e = Error::syntax(&Value::Array(params.to_vec()), "invalid update");
                self.fail(&e);
            }
        }
    }

    fn apply(&mut self, updates: &Value, anew: bool, server: &mut Server, now: Now) {
        let skip = |table: &str| self.excluded.contains(table);
        if let Err(e) = server.apply_updates(&self.db, updates, Form::Whole, anew, &skip, now) {
            self.fail(&e);
        }
    }

    fn check_server_id(&mut self, result: &Value, own: Uuid) {
        match result.as_str().and_then(crate::uuid::parse) {
            Some(id) if id != own => self.ask(State::Databases, "list_dbs", json!([])),
            Some(_) => self.fail(&Error::bare(
                "Server ID check failed: Self replicating is not allowed",
            )),
            None => self.fail(&Error::bare(
                "Server ID check failed: Server ID is not a UUID",
            )),
        }
    }

    fn check_schema(&mut self, result: &Value, server: &Server) {
        let schema = match DatabaseSchema::from_json(result) {
            Ok(s) => s,
            Err(e) => return self.fail(&e),
        };
        let Some(db) = server.db(&self.db) else {
            return self.fail(&Error::bare(crate::error::tag::UNKNOWN_DATABASE));
        };
        let own = &db.database().schema;
        if own.to_json() != schema.to_json() {
            let name = self.db.clone();
            self.info(format!(
                "{name}: Schema version mismatch, checking if {name} can still be replicated or \
                 not."
            ));
            if let Err(why) = fits(&schema, own) {
                self.info(why);
                self.info(format!("{name} cannot be replicated."));
                self.state = State::Failed;
                return;
            }
            self.info(format!("{name} can be replicated."));
        }
        self.debug("Send monitor requests");
        let tables: Map<String, Value> = schema
            .tables
            .keys()
            .filter(|t| !self.excluded.contains(*t))
            .map(|t| (t.clone(), json!([{}])))
            .collect();
        let params = json!([self.db, self.db, tables]);
        self.ask(State::Monitor, "monitor", params);
    }
}

/// Whether everything that the active schema describes has its place in ours.
fn fits(active: &DatabaseSchema, own: &DatabaseSchema) -> Result<(), String> {
    for (name, table) in &active.tables {
        let Some(here) = own.table(name) else {
            return Err(format!("Table {name} not present in the local db schema"));
        };
        for c in table.own_columns() {
            match here.column(&c.name) {
                None => {
                    return Err(format!(
                        "Column {} not present in the local db schema table {name}.",
                        c.name
                    ));
                }
                Some(h) if !c.same_as(h) => {
                    return Err(format!(
                        "Column {} mismatch in local db schema table {name}.",
                        c.name
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}
