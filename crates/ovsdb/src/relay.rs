//! A relay's conversation with its source (ovsdb(7), "Relay Service Model"): it learns the schema
//! from the source's `_Server` database, follows the contents, and passes transactions on.
//!
//! ```text
//! connected -> get_schema _Server -> monitor_cond _Server -> monitor_cond_since DB -> MONITORING
//!                  | error: an old server                      | unknown method
//!                  v                                           v
//!              get_schema DB ----------------------------> monitor_cond DB -> monitor DB
//! ```
//!
//! The row of the database in `_Server` tells whether this source is any good: if it is not, the
//! owner is asked to try another (`wants_reconnect`). With the id of the last transaction the
//! source can resume where it left off; otherwise the contents are replaced in one transaction. A
//! source that is lost stays "connected" for a while, so that clients do not run from a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde_json::{Map, Value, json};

use crate::db::Database;
use crate::error::tag;
use crate::peer::{Call, Level, Out, Said, Speaker};
use crate::schema::DatabaseSchema;
use crate::server::{Now, SERVER_DB, Server};
use crate::table_updates::{self, Form};
use crate::txn::Txn;
use crate::{Error, uuid};

/// How long a source may be away before clients are told.
pub const GRACE: Duration = Duration::from_secs(30);

/// Columns of `_Server` that say something about the source.
const SERVER_COLUMNS: [&str; 7] = [
    "name",
    "model",
    "connected",
    "leader",
    "schema",
    "cid",
    "index",
];

/// The id of no transaction.
const NO_TXN: &str = crate::monitor::NO_TXN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Disconnected,
    ServerSchema,
    ServerMonitor,
    /// The source has no `_Server`, or that may be behind: the schema is asked for.
    DataSchema(How),
    DataMonitor(How),
    Monitoring(How),
    /// This source is no good.
    Retry,
}

/// Ways to follow a database, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Since,
    Conditional,
    Plain,
}

impl How {
    fn method(self) -> &'static str {
        match self {
            How::Since => "monitor_cond_since",
            How::Conditional => "monitor_cond",
            How::Plain => "monitor",
        }
    }
}

pub struct Relay {
    db: String,
    state: State,
    awaited: u64,
    out: Out,
    /// Who the source is, for the log.
    source: String,
    /// The source's `_Server`, as far as it is monitored.
    server_db: Option<Database>,
    /// The schema that the source has.
    schema: Option<Arc<DatabaseSchema>>,
    /// The schema differs from that of the contents here.
    new_schema: bool,
    /// What `_Server` says of the schema may be behind: Open vSwitch 3.1 does not bring it up to
    /// date when a database is converted.
    distrusted: bool,
    last_txn: String,
    /// Requests passed on: number on the wire and here.
    forwarded: HashMap<u64, u64>,
    /// When the source was lost, if clients do not know it yet.
    lost: Option<Instant>,
    /// The source is there, or was a moment ago.
    was_connected: bool,
}

impl Relay {
    pub fn new(db: &str) -> Self {
        Self {
            db: db.to_owned(),
            state: State::Disconnected,
            awaited: 0,
            out: Out::default(),
            source: String::new(),
            server_db: None,
            schema: None,
            new_schema: false,
            distrusted: false,
            last_txn: NO_TXN.to_owned(),
            forwarded: HashMap::new(),
            lost: None,
            was_connected: false,
        }
    }

    /// A connection to the source of that name stands.
    pub fn connected(&mut self, source: &str) {
        source.clone_into(&mut self.source);
        self.out.calls.clear();
        self.distrusted = false;
        self.restart();
    }

    fn restart(&mut self) {
        self.server_db = None;
        self.ask(State::ServerSchema, "get_schema", json!([SERVER_DB]));
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, server: &mut Server, now: Instant) {
        if self.was_connected {
            self.lost.get_or_insert(now);
        }
        self.state = State::Disconnected;
        self.out.calls.clear();
        self.forwarded.clear();
        server.cancel_forwards(&self.db);
    }

    /// True if the connection is of no use and another should be tried.
    pub fn wants_reconnect(&self) -> bool {
        self.state == State::Retry
    }

    /// Requests to be sent.
    pub fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.out.calls)
    }

    /// Lines for the log.
    pub fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.out.said)
    }

    /// Passes on what waits, and tells the clients whether the source is there.
    pub fn run(&mut self, server: &mut Server, now: Instant) {
        if matches!(self.state, State::Monitoring(_)) {
            let Self { out, forwarded, .. } = self;
            server.take_forwards(&self.db, &mut |(number, method, params)| {
                let id = out.call_text(method, params);
                forwarded.insert(id, number);
            });
        }
        if self.lost.is_some_and(|at| at + GRACE <= now) {
            self.lost = None;
            self.was_connected = false;
        }
        server.set_relay_connected(&self.db, self.was_connected);
    }

    /// When `run` has something to do that no message causes.
    pub fn deadline(&self) -> Option<Instant> {
        self.lost.map(|at| at + GRACE)
    }

    fn ask(&mut self, state: State, method: &'static str, params: Value) {
        self.state = state;
        self.awaited = self.out.call(method, &params);
    }

    fn info(&mut self, text: &str) {
        let text = format!("{}: {text}", self.source);
        self.out.say(Speaker::Client, Level::Info, text);
    }

    /// The source has sent something that makes no sense: start over.
    fn broken(&mut self, what: &str, error: &Error) {
        let text = format!("{}: {what}: {error}", self.source);
        self.out.say(Speaker::Client, Level::Warning, text);
        NO_TXN.clone_into(&mut self.last_txn);
        self.state = State::Retry;
    }

    /// A reply of the source.
    pub fn reply(
        &mut self,
        id: &Value,
        result: Result<&Value, &Value>,
        server: &mut Server,
        now: Now,
    ) {
        let Some(id) = id.as_u64() else { return };
        if let Some(number) = self.forwarded.remove(&id) {
            let result = result.cloned().map_err(Value::clone);
            return server.forward_reply(&self.db, number, result);
        }
        if id != self.awaited {
            return;
        }
        match (self.state, result) {
            (State::ServerSchema, Ok(schema)) => self.monitor_server(schema),
            (State::ServerSchema | State::ServerMonitor, Err(_)) => {
                self.ask_schema(How::Conditional);
            }
            (State::ServerMonitor, Ok(contents)) => self.server_changed(contents, true),
            (State::DataSchema(how), Ok(schema)) => match DatabaseSchema::from_json(schema) {
                Ok(s) => {
                    self.take_schema(s);
                    self.monitor_data(how);
                }
                Err(e) => self.broken("bad schema", &e),
            },
            (State::DataMonitor(how), Ok(result)) => self.contents(how, result, server, now),
            (State::DataMonitor(How::Since), Err(_)) => self.monitor_data(How::Conditional),
            (State::DataMonitor(How::Conditional), Err(_)) => self.monitor_data(How::Plain),
            (State::DataSchema(_) | State::DataMonitor(How::Plain), Err(e)) => {
                let text = crate::json::to_string(e);
                self.info(&format!("request failed: {text}"));
                self.state = State::Retry;
            }
            (State::Disconnected | State::Monitoring(_) | State::Retry, _) => {}
        }
    }

    /// A notification of the source.
    pub fn notification(&mut self, method: &str, params: &[Value], server: &mut Server, now: Now) {
        let is_data = |id: &Value| *id == json!(["monid", self.db]);
        let is_server = |id: &Value| *id == json!(["monid", SERVER_DB]);
        match (method, params) {
            ("update3", [id, Value::String(last), updates]) if is_data(id) => {
                last.clone_into(&mut self.last_txn);
                self.apply(updates, Form::Differences, false, server, now);
            }
            ("update2", [id, updates]) if is_data(id) => {
                self.apply(updates, Form::Differences, false, server, now);
            }
            ("update", [id, updates]) if is_data(id) => {
                self.apply(updates, Form::Whole, false, server, now);
            }
            ("update2", [id, updates]) if is_server(id) && self.server_db.is_some() => {
                self.server_changed(updates, false);
            }
            ("monitor_canceled", [id]) if is_data(id) || is_server(id) => {
                // The schema changes, or the database goes: look again.
                let other = if is_data(id) { SERVER_DB } else { &self.db };
                let params = json!([["monid", other]]);
                self.out.call("monitor_cancel", &params);
                self.distrusted = true;
                self.restart();
            }
            _ => {}
        }
    }

    fn apply(
        &mut self,
        updates: &Value,
        form: Form,
        anew: bool,
        server: &mut Server,
        now: Now,
    ) -> bool {
        match server.apply_updates(&self.db, updates, form, anew, &|_| false, now) {
            Ok(()) => true,
            Err(e) => {
                self.broken("cannot apply updates", &e);
                false
            }
        }
    }

    fn ask_schema(&mut self, how: How) {
        let params = json!([self.db]);
        self.ask(State::DataSchema(how), "get_schema", params);
    }

    fn monitor_server(&mut self, schema: &Value) {
        let schema = match DatabaseSchema::from_json(schema) {
            Ok(s) => s,
            Err(e) => return self.broken("bad schema of _Server", &e),
        };
        let Some(table) = schema.table("Database") else {
            return self.ask_schema(How::Conditional);
        };
        let columns: Vec<&str> = SERVER_COLUMNS
            .into_iter()
            .filter(|c| table.column(c).is_some())
            .collect();
        let params = json!([
            SERVER_DB,
            ["monid", SERVER_DB],
            {"Database": [{"columns": columns}]}
        ]);
        self.server_db = Some(Database::new(Arc::new(schema)));
        self.ask(State::ServerMonitor, "monitor_cond", params);
    }

    /// Takes contents or changes of `_Server` and looks what they say of the database.
    fn server_changed(&mut self, updates: &Value, anew: bool) {
        let Some(db) = &mut self.server_db else {
            return;
        };
        let mut txn = Txn::new();
        let mut applied =
            table_updates::apply(db, &mut txn, updates, Form::Differences, &|_| false);
        match &applied {
            Ok(()) => applied = txn.commit(db, &mut |_, _| Ok(())).map(drop),
            Err(_) => txn.rollback(db),
        }
        if let Err(e) = applied {
            return self.broken("bad update of _Server", &e);
        }
        match self.judge() {
            Ok(_) if anew && std::mem::take(&mut self.distrusted) => self.ask_schema(How::Since),
            Ok(schema) => {
                let changed = self.take_schema(schema);
                // Monitoring goes on unless the schema is another: then the source cancels it.
                if anew || (changed && matches!(self.state, State::Monitoring(_))) {
                    self.monitor_data(How::Since);
                }
            }
            Err(why) => {
                self.info(&why);
                self.state = State::Retry;
            }
        }
    }

    /// The schema that a good source has, or why this one is of no use.
    fn judge(&self) -> Result<DatabaseSchema, String> {
        let table = self.server_db.as_ref().and_then(|db| db.table("Database"));
        let no_database = || format!("server does not have {} database", self.db);
        let table = table.ok_or_else(no_database)?;
        let column = |name: &str| table.schema.column(name).map(|c| c.index);
        let name = column("name").ok_or_else(no_database)?;
        let row = table
            .iter()
            .find(|r| r.field(name).as_str() == Some(&self.db))
            .ok_or_else(no_database)?;
        let text = |name| column(name).and_then(|c| row.field(c).as_str());
        let flag = |name| column(name).and_then(|c| row.field(c).as_bool());
        let model = text("model").unwrap_or_default();
        let (never, lost) = if model == "relay" {
            (
                "has not yet connected to the relay source",
                "is disconnected from the relay source",
            )
        } else {
            ("has not yet joined cluster", "is disconnected from cluster")
        };
        let another = |what: &str| format!("{model} database server {what}; trying another server");
        let schema = text("schema").ok_or_else(|| another(never))?;
        if model != "standalone" && flag("connected") == Some(false) {
            return Err(another(lost));
        }
        let schema = crate::json::parse(schema).map_err(|e| e.to_string())?;
        DatabaseSchema::from_json(&schema).map_err(|e| e.to_string())
    }

    /// Notes the source's schema; true if it is another one than before.
    fn take_schema(&mut self, schema: DatabaseSchema) -> bool {
        let same = |old: &Arc<DatabaseSchema>| old.to_json() == schema.to_json();
        if self.schema.as_ref().is_some_and(same) {
            return false;
        }
        let text = format!("database {} schema changed.", self.db);
        self.out.say(Speaker::Relay, Level::Debug, text);
        self.schema = Some(Arc::new(schema));
        self.new_schema = true;
        NO_TXN.clone_into(&mut self.last_txn);
        true
    }

    fn monitor_data(&mut self, how: How) {
        let Some(schema) = &self.schema else { return };
        let tables: Map<String, Value> = schema
            .tables
            .keys()
            .map(|t| (t.clone(), json!([{}])))
            .collect();
        let mut params = vec![json!(self.db), json!(["monid", self.db]), tables.into()];
        if how == How::Since {
            params.push(self.last_txn.as_str().into());
        }
        self.ask(State::DataMonitor(how), how.method(), params.into());
        if how == How::Since {
            self.out.call("set_db_change_aware", &json!([true]));
        }
    }

    /// The reply to the monitor of the database.
    fn contents(&mut self, how: How, result: &Value, server: &mut Server, now: Now) {
        let (found, last, updates) = match (how, result.as_array().map(Vec::as_slice)) {
            (How::Since, Some([Value::Bool(found), Value::String(last), updates])) => {
                (*found, last.as_str(), updates)
            }
            (How::Since, _) => {
                let e = Error::new(tag::SYNTAX, "bad reply to monitor_cond_since");
                return self.broken("cannot monitor", &e);
            }
            (How::Conditional | How::Plain, _) => (false, NO_TXN, result),
        };
        if std::mem::take(&mut self.new_schema)
            && let Some(schema) = &self.schema
        {
            server.set_relay_schema(&self.db, DatabaseSchema::clone(schema));
        }
        let form = if how == How::Plain {
            Form::Whole
        } else {
            Form::Differences
        };
        self.state = State::Monitoring(how);
        if self.apply(updates, form, !found, server, now) {
            uuid::parse(last)
                .map_or(NO_TXN, |_| last)
                .clone_into(&mut self.last_txn);
            self.lost = None;
            self.was_connected = true;
        }
    }
}
