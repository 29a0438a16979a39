//! Transactions of the OVSDB engine, from the tree of a request to its reply.

use std::sync::Arc;
use std::time::Duration;

use ferrovs_ovsdb::exec::{self, Outcome};
use ferrovs_ovsdb::{Database, DatabaseSchema, json};
use json::Value;

use crate::{Bench, counted};

const SCHEMA: &str = r#"{"name":"t","version":"1.0.0","tables":{
  "Bridge":{"isRoot":true,"indexes":[["name"]],"columns":{
    "name":{"type":"string"},
    "ports":{"type":{"key":{"type":"uuid","refTable":"Port"},"min":0,"max":"unlimited"}}}},
  "Port":{"indexes":[["name"]],"columns":{
    "name":{"type":"string"},
    "tag":{"type":{"key":{"type":"integer","minInteger":0,"maxInteger":4095},"min":0}},
    "external_ids":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}}}}}}"#;
/// Ports of the bridge at the beginning.
const PORTS: u32 = 200;

pub const BENCHES: &[Bench] = &[
    ("ovsdb/insert", || {
        let mut db = database();
        let requests = requests(200, |n| insert(PORTS + n));
        counted(&requests, |request| run(&mut db, request))
    }),
    ("ovsdb/update", || {
        let mut db = database();
        let requests = requests(200, |n| {
            format!(
                r#"{{"op":"update","table":"Port","where":[["_uuid","==",["uuid","{}"]]],"row":{{"tag":{n}}}}}"#,
                uuid(n)
            )
        });
        counted(&requests, |request| run(&mut db, request))
    }),
    // Rows that an index finds.
    ("ovsdb/select", || {
        let mut db = database();
        let requests = requests(200, |n| {
            format!(r#"{{"op":"select","table":"Port","where":[["name","==","port{n}"]]}}"#)
        });
        counted(&requests, |request| run(&mut db, request))
    }),
    ("ovsdb/delete", || {
        let mut db = database();
        let requests = requests(200, |n| {
            format!(
                r#"{{"op":"mutate","table":"Bridge","where":[],"mutations":[["ports","delete",["uuid","{}"]]]}}"#,
                uuid(n)
            )
        });
        counted(&requests, |request| run(&mut db, request))
    }),
];

fn uuid(n: u32) -> String {
    format!(
        "{:08x}-0000-4000-8000-000000000000",
        n.wrapping_mul(0x9e37_79b9)
    )
}

/// Adds a port to the bridge.
fn insert(n: u32) -> String {
    let uuid = uuid(n);
    format!(
        r#"{{"op":"insert","table":"Port","uuid":"{uuid}","row":{{"name":"port{n}",
            "external_ids":["map",[["iface-id","{n}"]]]}}}},
           {{"op":"mutate","table":"Bridge","where":[["name","==","br0"]],
            "mutations":[["ports","insert",["uuid","{uuid}"]]]}}"#
    )
}

fn requests(n: u32, operations: impl Fn(u32) -> String) -> Vec<Value> {
    let request = |n| json::parse(&format!("[\"t\",{}]", operations(n))).expect("JSON");
    (0..n).map(request).collect()
}

fn database() -> Database {
    let schema = json::parse(SCHEMA).expect("JSON");
    let schema = DatabaseSchema::from_json(&schema).expect("a schema");
    let mut db = Database::new(Arc::new(schema));
    let bridge = r#"["t",{"op":"insert","table":"Bridge","row":{"name":"br0"}}]"#;
    run(&mut db, &json::parse(bridge).expect("JSON"));
    for request in requests(PORTS, insert) {
        run(&mut db, &request);
    }
    db
}

fn run(db: &mut Database, request: &Value) -> Vec<u8> {
    let outcome = exec::execute(
        db,
        request,
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
    let Outcome::Done(reply, _) = outcome else {
        unreachable!("nothing waits")
    };
    assert!(
        !reply.windows(8).any(|w| w == b"\"error\":"),
        "{}",
        String::from_utf8_lossy(&reply)
    );
    reply
}
