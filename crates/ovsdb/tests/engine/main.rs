//! The engine from outside: transactions, the log, the server with its monitors.

mod crash_images;
mod junk;
mod log;
mod monitors;
mod peers;
mod rbac;
mod server;
mod transactions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrovs_ovsdb::exec::{self, Outcome};
use ferrovs_ovsdb::server::Now;
use ferrovs_ovsdb::txn::Committed;
use ferrovs_ovsdb::{Database, DatabaseSchema, json};
use serde_json::Value;

/// A schema with something of everything.
pub fn schema() -> DatabaseSchema {
    let text = r#"{"name":"t","version":"1.2.3","tables":{
      "A":{"isRoot":true,"indexes":[["i","s"]],"columns":{
        "i":{"type":"integer"},"r":{"type":"real"},"s":{"type":"string"},
        "imm":{"type":"integer","mutable":false},"eph":{"type":"string","ephemeral":true},
        "rng":{"type":{"key":{"type":"integer","minInteger":-5,"maxInteger":10},"min":0}},
        "e":{"type":{"key":{"type":"string","enum":["set",["x","y","z"]]},"min":0}},
        "is":{"type":{"key":"integer","min":0,"max":"unlimited"}},
        "two":{"type":{"key":"integer","min":1,"max":2}},
        "m":{"type":{"key":"string","value":"integer","min":0,"max":"unlimited"}},
        "st":{"type":{"key":{"type":"uuid","refTable":"B"},"min":0,"max":"unlimited"}},
        "wk":{"type":{"key":{"type":"uuid","refTable":"B","refType":"weak"},"min":0,"max":"unlimited"}}}},
      "B":{"columns":{"n":{"type":"string"},
        "next":{"type":{"key":{"type":"uuid","refTable":"B"},"min":0}}}},
      "C":{"isRoot":true,"maxRows":2,"columns":{"n":{"type":"string"}}},
      "W":{"isRoot":true,"columns":{"n":{"type":"string"},
        "w":{"type":{"key":{"type":"uuid","refTable":"C","refType":"weak"},"min":1,"max":2}}}}}}"#;
    DatabaseSchema::from_json(&json::parse(text).unwrap()).unwrap()
}

pub fn database() -> Database {
    Database::new(Arc::new(schema()))
}

/// Runs operations, given as the text between `["t",` and `]`.
pub fn run(db: &mut Database, ops: &str) -> (Value, Committed) {
    let params = json::parse(&format!("[\"t\",{ops}]")).unwrap();
    let outcome = exec::execute(
        db,
        &params,
        &mut exec::Context {
            read_only: false,
            who: Default::default(),
            owns_lock: &|_| false,
            elapsed: Duration::ZERO,
            can_wait: false,
            forward: false,
            persist: &mut |_, _| Ok(()),
        },
    );
    let Outcome::Done(reply, committed) = outcome else {
        panic!("it waits")
    };
    (json::parse_bytes(&reply).unwrap(), committed)
}

/// The same, with the reply as text and only that.
pub fn reply(db: &mut Database, ops: &str) -> String {
    json::to_string(&run(db, ops).0)
}

/// UUIDs that are easy to see.
pub fn uuid(n: u32) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

/// Everything in the database, in a form to compare. `_version` is left out.
pub fn contents(db: &Database) -> Vec<String> {
    let mut out = Vec::new();
    for t in db.tables() {
        for r in t.iter() {
            let columns = t.schema.own_columns().iter();
            let values: Vec<_> = columns
                .map(|c| format!("{}={}", c.name, r.field(c.index).to_text(&c.ty)))
                .collect();
            out.push(format!("{} {} {}", t.schema.name, r.uuid, values.join(" ")));
        }
    }
    out.sort();
    out
}

#[allow(clippy::disallowed_methods)] // A test is a program: it brings its own clock.
pub fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall_ms: 1_700_000_000_000,
    }
}
