//! The client against a scripted server: what it asks, and what it makes of the answers.

use super::*;
use crate::open_vswitch::{Bridge, OPEN_VSWITCH, OpenVSwitch, Port, schema_json_text};
use crate::{Status, Txn};
use ferrovs_runtime::clock;
use ferrovs_stream::PStream;
use ferrovs_stream::json::parse;
use ferrovs_stream::jsonrpc::Connection;
use serde_json::json;

struct Server {
    _dir: tempfile::TempDir,
    listener: PStream,
    connection: Option<Connection>,
}

impl Server {
    fn new() -> (Server, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sock").display().to_string();
        let listener = PStream::open(&format!("punix:{path}")).unwrap();
        (
            Server {
                _dir: dir,
                listener,
                connection: None,
            },
            format!("unix:{path}"),
        )
    }

    /// The next request; its method must be `method`.
    fn expect(&mut self, idl: &mut Idl, now: Instant, method: &str) -> (Vec<Value>, Value) {
        for _ in 0..1000 {
            idl.run(now);
            if let Some(stream) = self.listener.accept().unwrap() {
                self.connection = Some(Connection::new(stream));
            }
            let Some(connection) = &mut self.connection else {
                continue;
            };
            if let Ok(Some(Msg::Request {
                method: got,
                params,
                id,
            })) = connection.recv()
            {
                if got == "set_db_change_aware" && method != got {
                    continue;
                }
                assert_eq!(got, method);
                return (params, id);
            }
        }
        panic!("no {method} request came");
    }

    fn reply(&mut self, idl: &mut Idl, now: Instant, result: Value, id: Value) {
        self.connection
            .as_mut()
            .unwrap()
            .send(&Msg::reply(result, id));
        idl.run(now);
    }

    fn update(&mut self, idl: &mut Idl, now: Instant, txn: &str, updates: Value) {
        let params = vec![monid(), txn.into(), updates];
        self.connection
            .as_mut()
            .unwrap()
            .send(&Msg::notify("update3", params));
        idl.run(now);
    }

    /// Answers everything up to the monitor request with an old server's answers.
    fn greet(&mut self, idl: &mut Idl, now: Instant) -> (Vec<Value>, Value) {
        let (_, id) = self.expect(idl, now, "get_schema");
        let error = Msg::error("unknown database".into(), id);
        self.connection.as_mut().unwrap().send(&error);
        let (params, id) = self.expect(idl, now, "get_schema");
        assert_eq!(params, ["Open_vSwitch"]);
        self.reply(idl, now, parse(&schema_json_text()).unwrap(), id);
        self.expect(idl, now, "monitor_cond_since")
    }
}

fn monid() -> Value {
    json!(["monid", "Open_vSwitch"])
}

const BR: &str = "11111111-1111-1111-1111-111111111111";
const ROOT: &str = "22222222-2222-2222-2222-222222222222";
const PORT: &str = "33333333-3333-3333-3333-333333333333";
const TXN: &str = "44444444-4444-4444-4444-444444444444";

fn start() -> (Server, Idl, Instant) {
    let (mut server, remote) = Server::new();
    let now = clock::now();
    let mut idl = Idl::new(&remote, &OPEN_VSWITCH, Options::default(), now);
    idl.monitor(OpenVSwitch::BRIDGES);
    idl.monitor(OpenVSwitch::NEXT_CFG);
    idl.monitor(Bridge::NAME);
    idl.monitor(Bridge::PORTS);
    idl.monitor(Bridge::EXTERNAL_IDS);
    idl.monitor(Port::NAME);
    idl.track_changes();
    let (params, id) = server.greet(&mut idl, now);
    assert_eq!(
        params[2]["Bridge"],
        json!([{ "columns": ["external_ids", "name", "ports"] }])
    );
    let rows = json!({
        "Open_vSwitch": { ROOT: { "initial": { "bridges": ["uuid", BR] } } },
        "Bridge": { BR: { "initial": { "name": "br0", "external_ids": ["map", [["a", "1"]]] } } },
    });
    server.reply(&mut idl, now, json!([false, TXN, rows]), id);
    assert!(idl.is_connected() && idl.has_ever_connected());
    (server, idl, now)
}

#[test]
fn the_replica_follows_initial_rows_differences_and_deletions() {
    let (mut server, mut idl, now) = start();
    let bridge = idl.first::<Bridge>().unwrap();
    assert_eq!(
        (bridge.name(), bridge.external_ids().get("a")),
        ("br0", Some("1"))
    );
    idl.clear_changes();
    let before = idl.seqno();
    let updates = json!({ "Bridge": { BR: { "modify": {
        "external_ids": ["map", [["a", "2"], ["b", "3"]]], "ports": ["uuid", PORT] } } } });
    server.update(&mut idl, now, TXN, updates);
    assert_ne!(idl.seqno(), before);
    let bridge = idl.first::<Bridge>().unwrap();
    assert_eq!(
        format!("{:?}", bridge.external_ids()),
        r#"{"a": "2", "b": "3"}"#
    );
    assert_eq!(bridge.ports().len(), 1);
    let changes: Vec<_> = idl.changes::<Bridge>().collect();
    assert!(changes[0].1.touches(Bridge::PORTS) && !changes[0].1.touches(Bridge::NAME));
    server.update(
        &mut idl,
        now,
        TXN,
        json!({ "Bridge": { BR: { "delete": null } } }),
    );
    assert!(idl.first::<Bridge>().is_none());
    let gone = idl
        .changes::<Bridge>()
        .next()
        .unwrap()
        .1
        .deleted
        .as_ref()
        .unwrap();
    assert_eq!(Row::<Bridge>::new(gone).name(), "br0");
}

#[test]
fn a_transaction_sends_only_what_changed_and_learns_real_uuids() {
    let (mut server, mut idl, now) = start();
    let (root, bridge) = (
        idl.first::<OpenVSwitch>().unwrap().uuid(),
        BR.parse().unwrap(),
    );
    let mut txn = Txn::new();
    txn.set(bridge, Bridge::NAME, "br0");
    assert_eq!(Txn::commit(&mut txn, &mut idl), Status::Unchanged);

    let mut txn = Txn::new();
    let port = txn.insert::<Port>();
    txn.set(port, Port::NAME, "p");
    let refs = crate::Datum::from(crate::Atom::Uuid(port));
    txn.add(&idl, Bridge::INDEX, bridge, Bridge::PORTS.index(), &refs);
    txn.increment(
        OpenVSwitch::INDEX,
        root,
        OpenVSwitch::NEXT_CFG.index(),
        false,
    );
    txn.verify(&idl, root, OpenVSwitch::BRIDGES);
    assert_eq!(txn.commit(&mut idl), Status::Incomplete);
    let (params, id) = server.expect(&mut idl, now, "transact");
    let ops: Vec<&str> = params[1..]
        .iter()
        .map(|op| op["op"].as_str().unwrap())
        .collect();
    assert_eq!(ops, ["wait", "mutate", "insert", "mutate", "select"]);
    let name = format!("row{}", port.to_string().replace('-', "_"));
    assert_eq!(
        params[2]["mutations"],
        json!([["ports", "insert", ["set", [["named-uuid", name]]]]])
    );
    assert_eq!(params[3]["uuid-name"], name);
    let results = json!([{}, { "count": 1 }, { "uuid": ["uuid", PORT] }, { "count": 1 },
        { "rows": [{ "next_cfg": 7 }] }]);
    server.reply(&mut idl, now, results, id);
    assert_eq!(txn.commit(&mut idl), Status::Success);
    assert_eq!(
        (txn.insert_uuid(port), txn.increment_result()),
        (PORT.parse().ok(), 7)
    );
}

#[test]
fn a_failed_wait_means_again_and_other_errors_are_final() {
    let (mut server, mut idl, now) = start();
    for (error, want) in [
        (json!({ "error": "timed out" }), Status::TryAgain),
        (
            json!({ "error": "constraint violation", "details": "x" }),
            Status::Error(r#"{"details":"x","error":"constraint violation"}"#.into()),
        ),
    ] {
        let mut txn = Txn::new();
        txn.set(BR.parse().unwrap(), Bridge::EXTERNAL_IDS, [("k", "v")]);
        txn.commit(&mut idl);
        let (_, id) = server.expect(&mut idl, now, "transact");
        server.reply(&mut idl, now, json!([error]), id);
        assert_eq!(txn.commit(&mut idl), want);
    }
    // A connection that goes away leaves the outcome open.
    let mut txn = Txn::new();
    txn.set(BR.parse().unwrap(), Bridge::EXTERNAL_IDS, [("k", "w")]);
    txn.commit(&mut idl);
    server.expect(&mut idl, now, "transact");
    server.connection = None;
    idl.run(now);
    idl.run(now);
    assert_eq!(txn.commit(&mut idl), Status::TryAgain);
}

#[test]
fn after_a_reconnection_only_what_was_missed_is_asked_for() {
    let (mut server, mut idl, now) = start();
    server.connection = None;
    idl.run(now);
    idl.run(now);
    assert!(!idl.is_connected());
    let later = now + ferrovs_stream::reconnect::MIN_BACKOFF;
    let (params, id) = server.greet(&mut idl, later);
    assert_eq!(params[3], TXN);
    let missed = json!({ "Bridge": { BR: { "modify": { "name": "br1" } } } });
    server.reply(&mut idl, later, json!([true, TXN, missed]), id);
    assert_eq!(idl.first::<Bridge>().unwrap().name(), "br1");
    assert_eq!(idl.rows::<OpenVSwitch>().count(), 1);
}

mod servers;
