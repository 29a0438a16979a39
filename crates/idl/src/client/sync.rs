//! The conversation with the server: from a fresh connection to a replica that is kept up.
//!
//! ```text
//! connect -> get_schema _Server -> monitor_cond _Server -.   (servers without _Server skip these)
//!                                                        v
//!            get_schema DB -> monitor_cond_since -> MONITORING
//!                             `-> monitor_cond -> monitor   (what the server knows)
//! ```
//!
//! `_Server` tells whether the server is fit: connected to its cluster, and its leader if only a
//! leader will do. If not, the next remote is tried. After a reconnection `monitor_cond_since`
//! with the last transaction's id brings only what was missed.

use super::{Idl, Outcome};
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use ferrovs_stream::json::{Map, Value, to_string};
use ferrovs_stream::jsonrpc::Msg;
use std::time::Instant;

static RL: RateLimit = RateLimit::new(5, 20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Disconnected,
    ServerSchema,
    ServerMonitor,
    /// Waits for the server's `_Server` row to become good.
    ServerWait,
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

/// What is known of our database's row in `_Server.Database`.
#[derive(Clone, Debug, Default)]
struct ServerRow {
    uuid: String,
    name: String,
    model: String,
    connected: bool,
    leader: bool,
    has_schema: bool,
}

pub(super) struct Sync {
    state: State,
    session_seqno: u64,
    request: Option<String>,
    method: Method,
    leader_only: bool,
    last_id: String,
    server_rows: Vec<ServerRow>,
}

const ZERO_ID: &str = "00000000-0000-0000-0000-000000000000";

impl Sync {
    pub(super) fn new(leader_only: bool) -> Sync {
        Sync {
            state: State::Disconnected,
            session_seqno: 0,
            request: None,
            method: Method::Since,
            leader_only,
            last_id: ZERO_ID.into(),
            server_rows: Vec::new(),
        }
    }

    pub(super) fn is_monitoring(&self) -> bool {
        self.state == State::Monitoring
    }

    pub(super) fn is_talking(&self) -> bool {
        self.state != State::Disconnected
    }
}

impl Idl {
    /// Notices that the connection is another one.
    pub(super) fn follow_session(&mut self, _now: Instant) {
        if self.session.seqno() == self.sync.session_seqno {
            return;
        }
        self.sync.session_seqno = self.session.seqno();
        for outcome in self.outstanding.values_mut() {
            outcome.get_or_insert(Outcome::Lost);
        }
        self.lose_lock();
        self.sync.server_rows.clear();
        self.sync.request = None;
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
        let ours = params
            .first()
            .is_some_and(|id| *id == monitor_id(self.db.name));
        let servers = params
            .first()
            .is_some_and(|id| *id == monitor_id("_Server"));
        match (method, params.as_mut_slice()) {
            ("update2", [_, updates]) if servers => {
                let updates = updates.take();
                self.server_update(&updates, now);
            }
            ("update3", [_, id, updates]) if ours => {
                if let Some(id) = id.as_str() {
                    self.sync.last_id = id.to_string();
                }
                let updates = updates.take();
                self.apply(&updates, true);
            }
            ("update2", [_, updates]) if ours => {
                let updates = updates.take();
                self.apply(&updates, true);
            }
            ("update", [_, updates]) if ours => {
                let updates = updates.take();
                self.apply(&updates, false);
            }
            ("monitor_canceled", _) if ours => {
                // The database was converted or removed: start over with its new schema.
                self.sync.last_id = ZERO_ID.into();
                self.request_data_schema();
            }
            ("monitor_canceled", _) if servers => {
                self.request(State::ServerSchema, "get_schema", vec!["_Server".into()]);
            }
            _ => {}
        }
    }

    fn reply(&mut self, result: Value, now: Instant) {
        match self.sync.state {
            State::ServerSchema => {
                let wanted = ["name", "model", "connected", "leader", "schema"];
                let has = |c: &str| {
                    result
                        .pointer(&format!("/tables/Database/columns/{c}"))
                        .is_some()
                };
                let columns: Vec<Value> = wanted
                    .into_iter()
                    .filter(|c| has(c))
                    .map(Value::from)
                    .collect();
                if columns.len() < wanted.len() {
                    self.request_data_schema();
                    return;
                }
                let tables = object([("Database", vec![object([("columns", columns)])])]);
                let params = vec!["_Server".into(), monitor_id("_Server"), tables];
                self.request(State::ServerMonitor, "monitor_cond", params);
                let (aware, _) = Msg::request("set_db_change_aware", vec![true.into()]);
                self.session.send(&aware);
            }
            State::ServerMonitor => {
                self.sync.state = State::ServerWait;
                self.server_update(&result, now);
            }
            State::DataSchema => {
                self.learn_schema(&result);
                self.request_monitor();
            }
            State::DataMonitor => {
                let found = self.sync.method == Method::Since
                    && result.get(0).and_then(Value::as_bool).unwrap_or(false);
                let updates = match self.sync.method {
                    Method::Since => {
                        if let Some(id) = result.get(1).and_then(Value::as_str) {
                            self.sync.last_id = id.to_string();
                        }
                        result.get(2).cloned().unwrap_or_default()
                    }
                    _ => result,
                };
                self.sync.state = State::Monitoring;
                if found {
                    self.apply(&updates, true);
                } else {
                    self.replace(&updates, self.sync.method != Method::Plain);
                }
                self.seqno += 1;
            }
            _ => {}
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
            _ => {
                vlog::warn_rl!(
                    RL,
                    modules::OVSDB_IDL,
                    "{}: received unexpected error response: {}",
                    self.session.name(),
                    to_string(error)
                );
                self.give_up(now);
            }
        }
    }

    /// This server will not do: the next remote, or the end if there is no retrying.
    fn give_up(&mut self, now: Instant) {
        self.sync.state = State::Failed;
        self.session.force_reconnect(now);
    }

    fn request_data_schema(&mut self) {
        self.request(State::DataSchema, "get_schema", vec![self.db.name.into()]);
    }

    fn request_monitor(&mut self) {
        let mut tables = Map::new();
        for table in self.tables.iter().filter(|t| t.wanted && t.on_server) {
            let columns: Vec<Value> = (0..table.types.len())
                .filter(|&i| table.monitored[i] && table.present[i])
                .map(|i| Value::from(table.def.columns[i].name))
                .collect();
            let request = object([("columns", columns)]);
            tables.insert(table.def.name.into(), Value::Array(vec![request]));
        }
        let mut params = vec![
            self.db.name.into(),
            monitor_id(self.db.name),
            Value::Object(tables),
        ];
        if self.sync.method == Method::Since {
            params.push(self.sync.last_id.as_str().into());
        }
        self.request(State::DataMonitor, self.sync.method.name(), params);
    }

    /// Notes which tables and columns the server's schema has.
    fn learn_schema(&mut self, schema: &Value) {
        for table in &mut self.tables {
            let columns = schema.pointer(&format!("/tables/{}/columns", table.def.name));
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

    /// Applies an update2 of `_Server` and judges the server by it.
    fn server_update(&mut self, updates: &Value, now: Instant) {
        let rows = updates.get("Database").and_then(Value::as_object);
        for (uuid, update) in rows.into_iter().flatten() {
            let known = self.sync.server_rows.iter().position(|r| r.uuid == *uuid);
            if update.get("delete").is_some() {
                if let Some(at) = known {
                    self.sync.server_rows.remove(at);
                }
                continue;
            }
            let fresh = update.get("initial").or_else(|| update.get("insert"));
            let Some(columns) = fresh.or_else(|| update.get("modify")) else {
                continue;
            };
            let mut row = match known {
                Some(at) if fresh.is_none() => self.sync.server_rows.remove(at),
                Some(at) => {
                    self.sync.server_rows.remove(at);
                    ServerRow {
                        uuid: uuid.clone(),
                        ..ServerRow::default()
                    }
                }
                None => ServerRow {
                    uuid: uuid.clone(),
                    ..ServerRow::default()
                },
            };
            let text = |c: &str| columns.get(c).and_then(Value::as_str).map(str::to_string);
            let flag = |c: &str| columns.get(c).and_then(Value::as_bool);
            row.name = text("name").unwrap_or(row.name);
            row.model = text("model").unwrap_or(row.model);
            row.connected = flag("connected").unwrap_or(row.connected);
            row.leader = flag("leader").unwrap_or(row.leader);
            row.has_schema = columns
                .get("schema")
                .map_or(row.has_schema, Value::is_string);
            self.sync.server_rows.push(row);
        }
        self.judge_server(now);
    }

    fn judge_server(&mut self, now: Instant) {
        let name = self.session.name().to_string();
        let Some(row) = self
            .sync
            .server_rows
            .iter()
            .find(|r| r.name == self.db.name)
        else {
            vlog::info_rl!(
                RL,
                modules::OVSDB_IDL,
                "{name}: server does not have {} database",
                self.db.name
            );
            self.give_up(now);
            return;
        };
        if row.model == "clustered" {
            let fault = if !row.has_schema {
                Some("clustered database server has not yet joined cluster; trying another server")
            } else if !row.connected {
                Some(
                    "clustered database server is disconnected from cluster; trying another server",
                )
            } else if self.sync.leader_only && !row.leader {
                Some("clustered database server is not cluster leader; trying another server")
            } else {
                None
            };
            if let Some(fault) = fault {
                vlog::info_rl!(RL, modules::OVSDB_IDL, "{name}: {fault}");
                self.give_up(now);
                return;
            }
        } else if !row.has_schema {
            // A relay that has not heard from its source yet.
            return;
        }
        if self.sync.state == State::ServerWait {
            self.request_data_schema();
        }
    }
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
