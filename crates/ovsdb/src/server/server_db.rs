//! `_Server`: a database about the databases, one row each, kept in memory.

use std::sync::Arc;

use serde_json::json;

use super::{Backing, Db, Now, Server};
use crate::db::Database;
use crate::row::Row;
use crate::schema::DatabaseSchema;
use crate::txn::Txn;
use crate::{Datum, json};

pub const SERVER_DB: &str = "_Server";

/// The schema of `_Server`, version 1.2.0.
fn schema() -> DatabaseSchema {
    let one = |ty: &str| json!({"type": {"key": ty, "min": 0}});
    let json = json!({
        "name": SERVER_DB,
        "version": "1.2.0",
        "cksum": "3009684573 744",
        "tables": {"Database": {"isRoot": true, "columns": {
            "name": {"type": "string"},
            "model": {"type": {"key": {
                "type": "string",
                "enum": ["set", ["standalone", "clustered", "relay"]]
            }}},
            "connected": {"type": "boolean"},
            "leader": {"type": "boolean"},
            "schema": one("string"),
            "cid": one("uuid"),
            "sid": one("uuid"),
            "index": one("integer"),
        }}}
    });
    DatabaseSchema::from_json(&json).unwrap_or_else(|e| unreachable!("the schema is valid: {e}"))
}

pub(super) fn database() -> Database {
    Database::new(Arc::new(schema()))
}

/// What a row says.
struct Described {
    name: String,
    model: &'static str,
    connected: bool,
    leader: bool,
    schema: Option<String>,
}

fn describe(name: &str, db: &Db) -> Described {
    let relayed = db.relay.is_some();
    Described {
        name: name.to_owned(),
        model: if relayed { "relay" } else { "standalone" },
        connected: db.is_connected(),
        leader: !relayed,
        schema: db
            .is_available()
            .then(|| json::to_string(&db.database.schema.to_json())),
    }
}

impl Server {
    /// Brings the rows in line with the databases.
    pub(super) fn refresh_server_db(&mut self, now: Now) {
        let wanted: Vec<Described> = self.dbs.iter().map(|(n, d)| describe(n, d)).collect();
        let Some(me) = self.dbs.get_mut(SERVER_DB) else {
            return;
        };
        debug_assert!(matches!(me.backing, Backing::Memory));
        let db = &mut me.database;
        let mut txn = Txn::new();
        let table = Arc::clone(&db.tables()[0].schema);
        let column = |name: &str| table.column(name).map_or(2, |c| c.index);
        let name_column = column("name");
        let old: Vec<Arc<Row>> = db.tables()[0].iter().cloned().collect();
        for row in &old {
            let name = row.field(name_column).as_str().unwrap_or_default();
            if !wanted.iter().any(|d| d.name == name) {
                txn.delete(db, 0, row.uuid);
            }
        }
        for d in wanted {
            let old = old
                .iter()
                .find(|r| r.field(name_column).as_str() == Some(&d.name));
            let mut row = match old {
                Some(r) => r.next(),
                None => Row::new(&table, crate::uuid::random()),
            };
            row.set(name_column, Datum::string(&d.name));
            row.set(column("model"), Datum::string(d.model));
            row.set(column("connected"), d.connected.into());
            row.set(column("leader"), d.leader.into());
            row.set(
                column("schema"),
                d.schema
                    .map_or_else(|| Datum::from_atoms(Vec::new()), |s| Datum::string(&s)),
            );
            txn.insert(db, 0, row);
        }
        if let Ok(done) = txn.commit(db, &mut |_, _| Ok(())) {
            me.committed(&done);
        }
        self.run_triggers(SERVER_DB, now);
    }
}
