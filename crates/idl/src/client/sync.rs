//! The conversation with the server: from a fresh connection to a replica that is kept up.
//!
//! ```text
//! connect -> get_schema _Server -> monitor_cond _Server -.   (old servers: get_schema DB instead)
//!                                                        v
//!                              monitor_cond_since -> MONITORING <-> monitor_cond_change
//!                              `-> monitor_cond -> monitor   (what the server knows)
//! ```
//!
//! `_Server` tells whether the server is fit (see `server`) and the schema of the database. After a
//! reconnection `monitor_cond_since` with the last transaction's id brings only what was missed;
//! meanwhile the contents stay as they were. The id is worth nothing once a change of conditions
//! may have been done in part: then, and when the database was converted, everything is fetched
//! anew and compared with what is there.

use super::server::COLUMNS;
use super::update::{Inconsistent, Updates};
use super::{Idl, Outcome, TableState};
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use ferrovs_stream::json::{Map, RawValue, Stop, Value, Walker, parse, to_string};
use ferrovs_stream::jsonrpc::Msg;
use std::time::Instant;

static RL: RateLimit = RateLimit::new(5, 20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Disconnected,
    ServerSchema,
    ServerMonitor,
    DataSchema,
    DataMonitor,
    Monitoring,
    /// The server does not serve this database, or not as it should.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Since,
    Cond,
    Plain,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Since => "monitor_cond_since",
            Method::Cond => "monitor_cond",
            Method::Plain => "monitor",
        }
    }
}

pub(super) struct Sync {
    state: State,
    session_seqno: Option<u64>,
    pub(super) request: Option<String>,
    /// A request to change conditions that is on its way.
    change: Option<String>,
    /// The schema is what `_Server` says. Open vSwitch's server, after a conversion, goes on to
    /// tell the old one there, so it is not believed when it seems to be outdated.
    hearsay: bool,
    method: Method,
    last_id: Option<String>,
}

const ZERO_ID: &str = "00000000-0000-0000-0000-000000000000";

impl Sync {
    pub(super) fn new() -> Sync {
        Sync {
            state: State::Disconnected,
            session_seqno: None,
            request: None,
            change: None,
            hearsay: false,
            method: Method::Since,
            last_id: None,
        }
    }

    pub(super) fn is_monitoring(&self) -> bool {
        self.state == State::Monitoring
    }

    pub(super) fn is_talking(&self) -> bool {
        self.state != State::Disconnected
    }

    /// The session is another one.
    pub(super) fn forget_session(&mut self) {
        self.session_seqno = None;
    }

    fn note_id(&mut self, id: &Value) {
        self.last_id = id.as_str().filter(|id| *id != ZERO_ID).map(str::to_string);
    }
}

impl Idl {
    /// Notices that the connection is another one.
    pub(super) fn follow_session(&mut self, _now: Instant) {
        if self.sync.session_seqno == Some(self.session.seqno()) {
            return;
        }
        self.sync.session_seqno = Some(self.session.seqno());
        // Whoever asks for one that is not known learns that it is lost.
        self.outstanding.retain(|_, outcome| outcome.is_some());
        self.lose_lock();
        self.server.clear();
        self.sync.request = None;
        if self.sync.change.take().is_some() {
            // Nobody knows how much of it the server had done when it sent its last update.
            self.sync.last_id = None;
        }
        self.sync.state = State::Disconnected;
        if self.session.is_connected() {
            self.sync.method = Method::Since;
            self.request(State::ServerSchema, "get_schema", vec!["_Server".into()]);
            self.request_lock();
        }
    }

    fn request(&mut self, state: State, method: &str, params: Vec<Value>) {
        let (msg, id) = Msg::request(method, params);
        self.session.send(&msg);
        self.sync.request = Some(to_string(&id));
        self.sync.state = state;
    }

    pub(super) fn process(&mut self, msg: Msg, now: Instant) {
        let Some(msg) = self.lock_reply(msg) else {
            return;
        };
        match msg {
            Msg::Notify { method, params } => self.notification(&method, params, now),
            Msg::Reply { result, id } => {
                let id = to_string(&id);
                if self.sync.request.as_deref() == Some(id.as_str()) {
                    self.sync.request = None;
                    self.reply(result, now);
                } else if self.sync.change.as_deref() == Some(id.as_str()) {
                    self.sync.change = None;
                    self.conditions_acked();
                } else if let Some(outcome) = self.outstanding.get_mut(&id) {
                    *outcome = Some(match result {
                        Value::Array(results) => Outcome::Results(results),
                        other => Outcome::Failed(to_string(&other)),
                    });
                }
            }
            Msg::Error { error, id } => {
                let id = to_string(&id);
                if self.sync.request.as_deref() == Some(id.as_str()) {
                    self.sync.request = None;
                    self.error_reply(&error, now);
                } else if self.sync.change.as_deref() == Some(id.as_str()) {
                    self.unexpected_error(&error, now);
                } else if let Some(outcome) = self.outstanding.get_mut(&id) {
                    *outcome = Some(Outcome::Failed(to_string(&error)));
                }
            }
            Msg::Request { id, .. } => {
                let error = Value::from("unknown method");
                self.session.send(&Msg::error(error, id));
            }
        }
    }

    fn notification(&mut self, method: &str, mut params: Vec<Value>, now: Instant) {
        if self.lock_notification(method, &params) {
            return;
        }
        let is = |db| params.first().is_some_and(|id| *id == monitor_id(db));
        let (ours, servers) = (is(self.db.name), is("_Server"));
        let monitoring = self.sync.is_monitoring();
        let applied = match (method, params.as_mut_slice()) {
            ("update2", [_, updates]) if servers => {
                self.server.apply(updates);
                // Before the contents are asked for, the reply is what counts.
                if !matches!(self.sync.state, State::ServerMonitor | State::Failed) {
                    self.judge_server(now);
                }
                return;
            }
            ("update3", [_, id, updates]) if ours && monitoring => {
                self.sync.note_id(id);
                self.apply(Updates::Tree(updates.take()), true)
            }
            ("update2", [_, updates]) if ours && monitoring => {
                self.apply(Updates::Tree(updates.take()), true)
            }
            ("update", [_, updates]) if ours && monitoring => {
                self.apply(Updates::Tree(updates.take()), false)
            }
            ("monitor_canceled", _) if ours => {
                // The database was converted or removed: start over with its new schema.
                self.sync.change = None;
                self.sync.last_id = None;
                if self.sync.state != State::DataSchema {
                    self.request_data_schema();
                }
                return;
            }
            ("monitor_canceled", _) if servers => {
                self.request(State::ServerSchema, "get_schema", vec!["_Server".into()]);
                return;
            }
            _ => return,
        };
        if applied.is_err() {
            self.resync(now);
        }
    }

    /// The contents are not what the server thinks: fetches all of them over a new connection.
    pub(crate) fn resync(&mut self, now: Instant) {
        self.sync.last_id = None;
        self.give_up(now);
    }

    fn reply(&mut self, mut result: Value, now: Instant) {
        match self.sync.state {
            State::ServerSchema => {
                let columns = result.pointer("/tables/Database/columns");
                if !COLUMNS
                    .iter()
                    .all(|c| columns.is_some_and(|have| have.get(c).is_some()))
                {
                    self.request_data_schema();
                    return;
                }
                let columns: Vec<Value> = COLUMNS.into_iter().map(Value::from).collect();
                let tables = object([("Database", vec![object([("columns", columns)])])]);
                let params = vec!["_Server".into(), monitor_id("_Server"), tables];
                self.request(State::ServerMonitor, "monitor_cond", params);
            }
            State::ServerMonitor => {
                self.server.apply(&result);
                if self.judge_server(now) {
                    // A standalone database that is just being converted may have none.
                    match self.server.schema(self.db.name).map(parse) {
                        Some(Ok(schema)) if self.schema_suffices(&schema) => {
                            self.sync.hearsay = true;
                            self.begin_monitor(&schema);
                        }
                        _ => self.request_data_schema(),
                    }
                }
            }
            State::DataSchema => {
                self.sync.hearsay = false;
                self.begin_monitor(&result);
            }
            State::DataMonitor => {
                let mut found = false;
                let updates = match (self.sync.method, result.as_array_mut()) {
                    (Method::Since, Some(parts)) if parts.len() == 3 => {
                        found = parts[0] == true;
                        self.sync.note_id(&parts[1]);
                        parts[2].take()
                    }
                    (Method::Since, _) => Value::Null,
                    _ => result,
                };
                let applied = self.take_contents(found, Updates::Tree(updates));
                self.monitoring(applied, now);
            }
            _ => {}
        }
    }

    /// Takes a reply with so much to say that it is not made a tree: the contents.
    pub(super) fn process_large(&mut self, result: RawValue, id: Value, now: Instant) {
        let is_contents = self.sync.state == State::DataMonitor
            && self.sync.request.as_deref() == Some(to_string(&id).as_str());
        if !is_contents {
            if let Ok(result) = result.to_value() {
                self.process(Msg::reply(result, id), now);
            }
            return;
        }
        self.sync.request = None;
        let mut w = result.walker();
        let applied = if self.sync.method == Method::Since {
            self.take_parts(&mut w)
        } else {
            self.take_contents(false, Updates::Text(&mut w))
        };
        self.monitoring(applied, now);
    }

    /// Takes `[found, id, updates]`.
    fn take_parts(&mut self, w: &mut Walker<'_>) -> Result<(), Inconsistent> {
        let (mut i, mut found, mut applied) = (0, false, Ok(()));
        let walked = w.elements::<()>(|w| {
            i += 1;
            match i {
                1 => found = w.value()? == true,
                2 => {
                    let id = w.value()?;
                    self.sync.note_id(&id);
                }
                3 => applied = self.take_contents(found, Updates::Text(w)),
                _ => w.skip()?,
            }
            match applied {
                Ok(()) => Ok(()),
                Err(Inconsistent) => Err(Stop::Found(())),
            }
        });
        match walked {
            Ok(()) if i == 3 => Ok(()),
            _ => Err(Inconsistent),
        }
    }

    fn take_contents(&mut self, found: bool, updates: Updates<'_, '_>) -> Result<(), Inconsistent> {
        match found {
            true => self.apply(updates, true),
            false => self.replace(updates, self.sync.method != Method::Plain),
        }
    }

    /// The contents are there, or do not fit.
    fn monitoring(&mut self, applied: Result<(), Inconsistent>, now: Instant) {
        self.sync.state = State::Monitoring;
        self.seqno += 1;
        self.conditions_folded();
        if applied.is_err() {
            self.resync(now);
        }
    }

    fn error_reply(&mut self, error: &Value, now: Instant) {
        let unknown = error.as_str() == Some("unknown method")
            || error.get("error").and_then(Value::as_str) == Some("unknown method");
        match (self.sync.state, self.sync.method) {
            // No `_Server`: an old server, which is never clustered.
            (State::ServerSchema | State::ServerMonitor, _) => self.request_data_schema(),
            (State::DataMonitor, Method::Since) if unknown => {
                self.sync.method = Method::Cond;
                self.request_monitor();
            }
            (State::DataMonitor, Method::Cond) if unknown => {
                self.sync.method = Method::Plain;
                self.request_monitor();
            }
            (State::DataMonitor, _) if self.sync.hearsay => self.request_data_schema(),
            _ => self.unexpected_error(error, now),
        }
    }

    fn unexpected_error(&mut self, error: &Value, now: Instant) {
        vlog::warn_rl!(
            RL,
            modules::OVSDB_CS,
            "{}: received unexpected error response: {}",
            self.session.name(),
            to_string(error)
        );
        self.give_up(now);
    }

    /// This server will not do: the next remote, or the end if there is no retrying.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.sync.state = State::Failed;
        self.session.force_reconnect(now);
    }

    fn request_data_schema(&mut self) {
        self.request(State::DataSchema, "get_schema", vec![self.db.name.into()]);
    }

    fn begin_monitor(&mut self, schema: &Value) {
        self.learn_schema(schema);
        self.request_monitor();
        if self.change_aware {
            let (aware, _) = Msg::request("set_db_change_aware", vec![true.into()]);
            self.session.send(&aware);
        }
    }

    fn request_monitor(&mut self) {
        if self.sync.method != Method::Since {
            self.sync.last_id = None;
        }
        if self.sync.last_id.is_none() {
            self.fold_conditions();
        }
        let mut tables = Map::new();
        for table in self.tables.iter().filter(|t| t.wanted && t.on_server) {
            let columns: Vec<Value> = (0..table.types.len())
                .filter(|&i| table.monitored[i] && table.present[i])
                .map(|i| Value::from(table.def.columns[i].name))
                .collect();
            let mut request = object([("columns", columns)]);
            if self.sync.method != Method::Plain && !table.condition.acked().is_all() {
                request["where"] = table.condition_json(table.condition.acked());
            }
            tables.insert(table.def.name.into(), Value::Array(vec![request]));
        }
        let mut params = vec![
            self.db.name.into(),
            monitor_id(self.db.name),
            Value::Object(tables),
        ];
        if self.sync.method == Method::Since {
            params.push(self.sync.last_id.as_deref().unwrap_or(ZERO_ID).into());
        }
        self.request(State::DataMonitor, self.sync.method.name(), params);
    }

    /// Whether there are new conditions that the server can be told now.
    pub(super) fn conditions_due(&self) -> bool {
        self.sync.is_monitoring()
            && self.sync.change.is_none()
            && self.tables.iter().any(|t| t.condition.is_fresh())
    }

    /// Tells the server of new conditions, if there are any and it can take them.
    pub(super) fn send_conditions(&mut self) {
        if !self.conditions_due() {
            return;
        }
        let mut tables = Map::new();
        for table in &mut self.tables {
            let Some(condition) = table.condition.send().cloned() else {
                continue;
            };
            if table.wanted && table.on_server {
                let request = Value::Object(Map::from_iter([(
                    "where".to_string(),
                    table.condition_json(&condition),
                )]));
                tables.insert(table.def.name.into(), Value::Array(vec![request]));
            }
        }
        if self.sync.method == Method::Plain || tables.is_empty() {
            // Such a server has told all rows already.
            self.conditions_acked();
            return;
        }
        let id = monitor_id(self.db.name);
        let params = vec![id.clone(), id, Value::Object(tables)];
        let (msg, id) = Msg::request("monitor_cond_change", params);
        self.session.send(&msg);
        self.sync.change = Some(to_string(&id));
    }

    /// Whether a schema has all that is to be monitored.
    fn schema_suffices(&self, schema: &Value) -> bool {
        self.tables.iter().filter(|t| t.wanted).all(|table| {
            let columns = columns(schema, table.def.name);
            let names = table.def.columns.iter().zip(&table.monitored);
            columns.is_some_and(|have| {
                names
                    .filter(|(_, monitored)| **monitored)
                    .all(|(column, _)| have.get(column.name).is_some())
            })
        })
    }

    /// Notes which tables and columns the server's schema has.
    fn learn_schema(&mut self, schema: &Value) {
        // In order of name, for those who read the log.
        let mut tables: Vec<&mut TableState> = self.tables.iter_mut().collect();
        tables.sort_by_key(|table| table.def.name);
        for table in tables {
            let columns = columns(schema, table.def.name);
            table.on_server = columns.is_some();
            if table.wanted && columns.is_none() {
                vlog::warn!(
                    modules::OVSDB_IDL,
                    "{} database lacks {} table (database needs upgrade?)",
                    self.db.name,
                    table.def.name
                );
            }
            for (i, column) in table.def.columns.iter().enumerate() {
                table.present[i] = columns.is_some_and(|c| c.get(column.name).is_some());
                if table.monitored[i] && !table.present[i] && columns.is_some() {
                    vlog::warn!(
                        modules::OVSDB_IDL,
                        "{} table in {} database lacks {} column (database needs upgrade?)",
                        table.def.name,
                        self.db.name,
                        column.name
                    );
                }
            }
        }
    }
}

/// The columns of a table in a schema.
fn columns<'a>(schema: &'a Value, table: &str) -> Option<&'a Value> {
    schema.get("tables")?.get(table)?.get("columns")
}

fn monitor_id(db: &str) -> Value {
    Value::Array(vec!["monid".into(), db.into()])
}

fn object<const N: usize>(members: [(&str, Vec<Value>); N]) -> Value {
    Value::Object(
        members
            .into_iter()
            .map(|(k, v)| (k.to_string(), Value::Array(v)))
            .collect(),
    )
}
