//! What the server says of itself: its `_Server` database, and whether it is fit for us.
//!
//! A server is fit if it has our database, is connected to its cluster or relay source, is the
//! cluster's leader if only a leader will do, and has not less of the cluster's log than we have
//! seen already. If not, the next remote is tried; `judge_server` looks again at every change.

use super::Idl;
use ferrovs_runtime::vlog::{self, Level, RateLimit, modules};
use ferrovs_stream::json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

static RL: RateLimit = RateLimit::new(5, 20);

/// The columns of `_Server`'s table `Database` that matter; a server whose schema lacks one is not
/// asked.
pub(super) const COLUMNS: [&str; 7] = [
    "name",
    "model",
    "connected",
    "leader",
    "schema",
    "cid",
    "index",
];

/// A row of table `Database`.
#[derive(Clone, Debug, Default)]
struct ServerRow {
    name: String,
    model: String,
    connected: bool,
    leader: bool,
    schema: Option<String>,
    index: Option<u64>,
}

/// The contents of `_Server`.
#[derive(Default)]
pub(super) struct Server {
    rows: BTreeMap<String, ServerRow>,
}

impl Server {
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    fn row(&self, db: &str) -> Option<&ServerRow> {
        self.rows.values().find(|row| row.name == db)
    }

    /// The schema of a database, as text.
    pub fn schema(&self, db: &str) -> Option<&str> {
        self.row(db)?.schema.as_deref()
    }

    /// Applies an update2.
    pub fn apply(&mut self, updates: &Value) {
        let rows = updates.get("Database").and_then(Value::as_object);
        for (uuid, update) in rows.into_iter().flatten() {
            if update.get("delete").is_some() {
                self.rows.remove(uuid);
                continue;
            }
            let fresh = update.get("initial").or_else(|| update.get("insert"));
            if fresh.is_some() {
                self.rows.insert(uuid.clone(), ServerRow::default());
            }
            if let Some(columns) = fresh.or_else(|| update.get("modify"))
                && let Some(row) = self.rows.get_mut(uuid)
            {
                row.apply(columns);
            }
        }
    }
}

impl ServerRow {
    fn apply(&mut self, columns: &Value) {
        for (name, value) in columns.as_object().into_iter().flatten() {
            match name.as_str() {
                "name" => self.name = value.as_str().unwrap_or_default().to_string(),
                "model" => self.model = value.as_str().unwrap_or_default().to_string(),
                "connected" => self.connected = value.as_bool().unwrap_or(false),
                "leader" => self.leader = value.as_bool().unwrap_or(false),
                // An optional value that is not there is an empty set.
                "schema" => self.schema = value.as_str().map(str::to_string),
                "index" => self.index = value.as_u64(),
                _ => {}
            }
        }
    }

    /// Why the server will not do.
    fn fault(&self, leader_only: bool, min_index: u64) -> Option<&'static str> {
        match self.model.as_str() {
            "clustered" if self.schema.is_none() => {
                Some("clustered database server has not yet joined cluster; trying another server")
            }
            "clustered" if !self.connected => Some(
                "clustered database server is disconnected from cluster; trying another server",
            ),
            "clustered" if leader_only && !self.leader => {
                Some("clustered database server is not cluster leader; trying another server")
            }
            "clustered" if self.index.is_some_and(|index| index < min_index) => Some(STALE),
            "relay" if self.schema.is_none() => Some(
                "relay database server has not yet connected to the relay source; \
                 trying another server",
            ),
            "relay" if !self.connected => Some(
                "relay database server is disconnected from the relay source; \
                 trying another server",
            ),
            _ => None,
        }
    }
}

const STALE: &str = "clustered database server has stale data; trying another server";

impl Idl {
    /// Whether the server will do; if not, the next one is tried.
    pub(super) fn judge_server(&mut self, now: Instant) -> bool {
        let missing;
        let (level, fault) = match self.server.row(self.db.name) {
            None => {
                missing = format!("server does not have {} database", self.db.name);
                (Level::Info, missing.as_str())
            }
            Some(row) => match row.fault(self.leader_only, self.min_index) {
                Some(fault) if fault == STALE => (Level::Warn, fault),
                Some(fault) => (Level::Info, fault),
                None => {
                    if row.model == "clustered" {
                        self.min_index = row.index.unwrap_or(self.min_index);
                    }
                    return true;
                }
            },
        };
        let name = self.session.name();
        match level {
            Level::Warn => vlog::warn_rl!(RL, modules::OVSDB_CS, "{name}: {fault}"),
            _ => vlog::info_rl!(RL, modules::OVSDB_CS, "{name}: {fault}"),
        }
        self.give_up(now);
        false
    }

    /// Looks again after the demands changed; servers without `_Server` meet them all.
    pub(super) fn judge_server_again(&mut self, now: Instant) {
        if self.server.row(self.db.name).is_some() {
            self.judge_server(now);
        }
    }

    /// Accepts servers with less of the cluster's log than was seen before: for a cluster that was
    /// restored from a backup.
    pub fn reset_min_index(&mut self) {
        self.min_index = 0;
    }
}
