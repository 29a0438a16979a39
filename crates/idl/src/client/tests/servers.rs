//! Servers that will not do, and servers that say what cannot be.

use super::*;
use crate::condition::{Condition, Function};
use ferrovs_stream::reconnect::MIN_BACKOFF;

const LATER: &str = "55555555-5555-5555-5555-555555555555";

/// `_Server`'s schema.
fn server_schema() -> Value {
    let columns: Map<String, Value> = server::COLUMNS
        .iter()
        .map(|c| (c.to_string(), json!({ "type": "string" })))
        .collect();
    json!({ "tables": { "Database": { "columns": columns } } })
}

type Map<K, V> = ferrovs_stream::json::Map<K, V>;

/// A row of `_Server`'s table.
fn row(model: &str, connected: bool, leader: bool, schema: Option<&str>, index: u64) -> Value {
    let schema = schema.map_or(json!(["set", []]), |text| json!(text));
    json!({ "name": "Open_vSwitch", "model": model, "connected": connected, "leader": leader,
        "schema": schema, "cid": ["set", []], "index": index })
}

fn judge(server: &mut Server, idl: &mut Idl, now: Instant, rows: Value) {
    let (params, id) = server.expect(idl, now, "get_schema");
    assert_eq!(params, ["_Server"]);
    server.reply(idl, now, server_schema(), id);
    let (_, id) = server.expect(idl, now, "monitor_cond");
    server.reply(idl, now, json!({ "Database": rows }), id);
}

fn fresh() -> (Server, Idl, Instant) {
    let (server, remote) = Server::new();
    let now = clock::now();
    let mut idl = Idl::new(&remote, &OPEN_VSWITCH, Options::default(), now);
    idl.monitor(Bridge::NAME);
    (server, idl, now)
}

fn initial(row: Value) -> Value {
    json!({ ROOT: { "initial": row } })
}

#[test]
fn servers_that_will_not_do_are_left() {
    let schema = schema_json_text();
    let schema = Some(schema.as_str());
    for rows in [
        json!({}),
        initial(row("clustered", true, true, None, 1)),
        initial(row("clustered", false, true, schema, 1)),
        initial(row("clustered", true, false, schema, 1)),
        initial(row("relay", true, true, None, 1)),
        initial(row("relay", false, true, schema, 1)),
    ] {
        let (mut server, mut idl, now) = fresh();
        judge(&mut server, &mut idl, now, rows);
        idl.run(now);
        assert!(!idl.session.is_connected() && idl.is_alive());
    }
}

#[test]
fn a_server_that_does_is_asked_with_the_schema_that_it_told() {
    let schema = schema_json_text();
    let schema = Some(schema.as_str());
    for (leader_only, good) in [
        (true, row("clustered", true, true, schema, 1)),
        (false, row("clustered", true, false, schema, 1)),
        (true, row("standalone", false, false, schema, 0)),
        (true, row("relay", true, false, schema, 0)),
    ] {
        let (mut server, mut idl, now) = fresh();
        idl.set_leader_only(leader_only, now);
        judge(&mut server, &mut idl, now, initial(good));
        server.expect(&mut idl, now, "monitor_cond_since");
    }
}

#[test]
fn a_leader_that_is_no_more_is_left_and_an_older_log_is_not_believed() {
    let text = schema_json_text();
    let schema = Some(text.as_str());
    let (mut server, mut idl, now) = fresh();
    let leader = row("clustered", true, true, schema, 5);
    judge(&mut server, &mut idl, now, initial(leader.clone()));
    let (_, id) = server.expect(&mut idl, now, "monitor_cond_since");
    server.reply(&mut idl, now, json!([false, TXN, {}]), id);
    assert!(idl.is_connected());
    let params = vec![
        json!(["monid", "_Server"]),
        json!({ "Database": { ROOT: { "modify": { "index": 9, "leader": false } } } }),
    ];
    let update = Msg::notify("update2", params);
    server.connection.as_mut().unwrap().send(&update);
    idl.run(now);
    idl.run(now);
    assert!(!idl.is_connected());
    // The next one was behind before: index 5 was seen last, a leader's.
    let mut now = now + MIN_BACKOFF;
    let stale = row("clustered", true, true, schema, 4);
    judge(&mut server, &mut idl, now, initial(stale.clone()));
    idl.run(now);
    assert!(!idl.session.is_connected());
    now += MIN_BACKOFF * 2;
    idl.reset_min_index();
    judge(&mut server, &mut idl, now, initial(stale));
    server.expect(&mut idl, now, "monitor_cond_since");
}

#[test]
fn a_schema_that_seems_outdated_is_asked_for() {
    let (mut server, mut idl, now) = fresh();
    let old = json!({ "tables": { "Bridge": { "columns": {} } } }).to_string();
    let rows = initial(row("standalone", true, true, Some(&old), 0));
    judge(&mut server, &mut idl, now, rows);
    let (params, id) = server.expect(&mut idl, now, "get_schema");
    assert_eq!(params, ["Open_vSwitch"]);
    server.reply(&mut idl, now, parse(&schema_json_text()).unwrap(), id);
    let (params, _) = server.expect(&mut idl, now, "monitor_cond_since");
    assert_eq!(params[2], json!({ "Bridge": [{ "columns": ["name"] }] }));
}

#[test]
fn methods_that_the_server_lacks_are_followed_by_older_ones() {
    let (mut server, mut idl, now) = fresh();
    let seqno = idl.set_condition::<Bridge>(Condition::none());
    let (params, id) = server.greet(&mut idl, now);
    assert_eq!(params[2]["Bridge"][0]["where"], json!([false]));
    let unknown = |id| Msg::error("unknown method".into(), id);
    server.connection.as_mut().unwrap().send(&unknown(id));
    let (params, id) = server.expect(&mut idl, now, "monitor_cond");
    assert_eq!(params.len(), 3);
    assert_eq!(params[2]["Bridge"][0]["where"], json!([false]));
    server.connection.as_mut().unwrap().send(&unknown(id));
    let (params, id) = server.expect(&mut idl, now, "monitor");
    assert_eq!(params[2], json!({ "Bridge": [{ "columns": ["name"] }] }));
    let rows = json!({ "Bridge": { BR: { "new": { "name": "br0" } } } });
    server.reply(&mut idl, now, rows, id);
    assert_eq!(idl.first::<Bridge>().unwrap().name(), "br0");
    assert_eq!(idl.condition_seqno(), seqno);
}

#[test]
fn an_update_that_does_not_fit_makes_everything_be_fetched_anew() {
    for update in [
        json!({ "Bridge": { PORT: { "delete": null } } }),
        json!({ "Bridge": { PORT: { "modify": { "name": "x" } } } }),
        json!({ "Bridge": { BR: { "insert": { "name": "x" } } } }),
    ] {
        let (mut server, mut idl, now) = start();
        server.update(&mut idl, now, TXN, update);
        idl.run(now);
        assert!(!idl.is_connected());
        assert_eq!(idl.first::<Bridge>().unwrap().name(), "br0");
        let (params, _) = server.greet(&mut idl, now + MIN_BACKOFF);
        assert_eq!(params[3], json!(Uuid::nil().to_string()));
    }
}

#[test]
fn contents_that_are_fetched_anew_count_as_changed_only_where_they_differ() {
    let (mut server, mut idl, now) = start();
    idl.clear_changes();
    server.connection = None;
    idl.run(now);
    idl.run(now);
    let later = now + MIN_BACKOFF;
    let (_, id) = server.greet(&mut idl, later);
    let rows = json!({
        "Open_vSwitch": { ROOT: { "initial": { "bridges": ["uuid", PORT] } } },
        "Bridge": { PORT: { "initial": { "name": "br0" } } },
    });
    server.reply(&mut idl, later, json!([false, LATER, rows]), id);
    let changes: Vec<_> = idl.changes::<Bridge>().collect();
    assert_eq!(changes.len(), 2);
    assert!(changes[0].1.deleted.is_some() && changes[1].1.inserted);
    let (_, change) = idl.changes::<OpenVSwitch>().next().unwrap();
    assert!(change.modified() && change.touches(OpenVSwitch::BRIDGES));
    assert!(!change.touches(OpenVSwitch::NEXT_CFG));
}

#[test]
fn a_condition_in_flight_when_the_connection_breaks_resets_the_last_id() {
    for answered in [false, true] {
        let (mut server, mut idl, now) = start();
        let wanted = Condition::none().or(Bridge::NAME, Function::Eq, "br1");
        let seqno = idl.set_condition::<Bridge>(wanted);
        let (params, id) = server.expect(&mut idl, now, "monitor_cond_change");
        assert_eq!(
            params[2],
            json!({ "Bridge": [{ "where": [["name", "==", "br1"]] }] })
        );
        if answered {
            server.reply(&mut idl, now, json!({}), id);
        }
        assert_eq!(idl.condition_seqno() == seqno, answered);
        server.connection = None;
        idl.run(now);
        idl.run(now);
        let later = now + MIN_BACKOFF;
        let (params, id) = server.greet(&mut idl, later);
        let last_id = if answered {
            TXN.to_string()
        } else {
            Uuid::nil().to_string()
        };
        assert_eq!(params[3], json!(last_id));
        assert_eq!(
            params[2]["Bridge"][0]["where"],
            json!([["name", "==", "br1"]])
        );
        server.reply(&mut idl, later, json!([answered, LATER, {}]), id);
        assert_eq!(idl.condition_seqno(), seqno);
    }
}

#[test]
fn a_condition_that_was_not_sent_yet_does_not_spoil_resuming() {
    let (mut server, mut idl, now) = start();
    server.connection = None;
    idl.run(now);
    idl.run(now);
    let seqno = idl.set_condition::<Bridge>(Condition::none());
    let later = now + MIN_BACKOFF;
    let (params, id) = server.greet(&mut idl, later);
    assert_eq!(params[3], TXN);
    assert_eq!(params[2]["Bridge"][0].get("where"), None);
    server.reply(&mut idl, later, json!([true, TXN, {}]), id);
    assert!(idl.condition_seqno() < seqno);
    let (_, id) = server.expect(&mut idl, later, "monitor_cond_change");
    server.reply(&mut idl, later, json!({}), id);
    assert_eq!(idl.condition_seqno(), seqno);
}

#[test]
fn other_remotes_keep_a_connection_to_one_of_them() {
    let (_server, mut idl, now) = start();
    let here = idl.remote().to_string();
    idl.set_remote(&format!("unix:/nowhere,{here}"), now);
    assert!(idl.is_connected());
    idl.set_remote("unix:/nowhere", now);
    idl.run(now);
    assert!(!idl.is_connected() && idl.remote() == "unix:/nowhere");
    assert_eq!(idl.first::<Bridge>().unwrap().name(), "br0");
    // Back again, only what was missed is asked for.
    idl.set_remote(&here, now);
    let mut server = _server;
    server.connection = None;
    let (params, _) = server.greet(&mut idl, now);
    assert_eq!(params[3], TXN);
}

#[test]
fn a_transaction_in_a_database_that_went_away_is_tried_again() {
    let (mut server, mut idl, now) = start();
    let mut txn = Txn::new();
    txn.set(BR.parse().unwrap(), Bridge::EXTERNAL_IDS, [("k", "v")]);
    txn.commit(&mut idl);
    let (_, id) = server.expect(&mut idl, now, "transact");
    server.reply(
        &mut idl,
        now,
        json!([{ "error": "unknown database", "details": "x" }]),
        id,
    );
    assert_eq!(txn.commit(&mut idl), Status::TryAgain);
    idl.run(now);
    assert!(!idl.is_connected());
}

#[test]
fn rows_above_a_changed_row_are_reported() {
    let (mut server, mut idl, now) = start();
    idl.track_references();
    idl.clear_changes();
    let rename =
        json!({ "Bridge": { BR: { "modify": { "external_ids": ["map", [["b", "1"]]] } } } });
    server.update(&mut idl, now, TXN, rename);
    let (id, change) = idl.changes::<OpenVSwitch>().next().unwrap();
    assert_eq!(id.to_string(), ROOT);
    assert!(change.referenced && !change.modified());
    assert_eq!(idl.referrers(BR.parse().unwrap()).count(), 1);
}

/// Puts something else in place of one part of `value`.
fn distort(value: &mut Value, random: &mut impl FnMut(usize) -> usize) {
    let deeper = random(4) > 0;
    match value {
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random(items.len());
            distort(&mut items[at], random);
        }
        Value::Object(members) if deeper && !members.is_empty() => {
            let at = random(members.len());
            distort(members.values_mut().nth(at).unwrap(), random);
        }
        _ => {
            let others = [
                json!(null),
                json!(-1),
                json!("x"),
                json!([]),
                json!({}),
                json!(["uuid", "x"]),
                json!(["set", [["uuid", BR], ["uuid", BR]]]),
                json!(["map", [["a"]]]),
                json!({ "insert": { "name": ["set", []] } }),
                json!({ "modify": { "ports": ["set", [["uuid", PORT], ["uuid", ROOT]]] } }),
                json!({ "delete": null }),
                json!({ "Bridge": { BR: { "delete": null } } }),
            ];
            *value = others[random(others.len())].clone();
        }
    }
}

#[test]
fn nothing_that_a_server_says_makes_the_client_panic() {
    let mut state = 1u64;
    let mut random = move |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % n
    };
    let schema = schema_json_text();
    let server_row = row("clustered", true, true, Some("{}"), 1);
    let rows = json!({ "Bridge": { BR: { "initial": { "name": "br0", "ports": ["uuid", PORT],
        "external_ids": ["map", [["a", "1"]]] } } } });
    let change = json!({ "Bridge": { BR: { "modify": { "ports": ["uuid", PORT],
        "external_ids": ["map", [["a", "1"]]] } } } });
    let results = json!([{ "uuid": ["uuid", PORT] }, { "error": "timed out" }, { "rows": [{}] }]);
    let replies = [
        server_schema(),
        json!({ "Database": initial(server_row) }),
        parse(&schema).unwrap(),
        json!([true, TXN, rows]),
        json!([false, TXN, rows]),
        results,
        json!({ "locked": true }),
    ];
    let notifications = [
        ("update3", json!([["monid", "Open_vSwitch"], TXN, change])),
        ("update3", json!([["monid", "Open_vSwitch"], TXN, rows])),
        ("update2", json!([["monid", "Open_vSwitch"], change])),
        (
            "update",
            json!([["monid", "Open_vSwitch"], { "Bridge": { BR: { "old": {}, "new": {} } } }]),
        ),
        (
            "update2",
            json!([["monid", "_Server"], { "Database": { ROOT: { "delete": null } } }]),
        ),
        ("monitor_canceled", json!([["monid", "Open_vSwitch"]])),
        ("locked", json!(["l"])),
        ("stolen", json!(["l"])),
    ];
    for _ in 0..40 {
        let (_server, mut idl, now) = start();
        idl.track_references();
        idl.set_lock(Some("l"));
        for _ in 0..60 {
            let mut txn = Txn::new();
            let port = txn.insert::<Port>();
            txn.set(port, Port::NAME, "p");
            txn.increment(
                OpenVSwitch::INDEX,
                port,
                OpenVSwitch::NEXT_CFG.index(),
                true,
            );
            txn.commit(&mut idl);
            let msg = if random(2) == 0 {
                let (method, mut params) = notifications[random(notifications.len())].clone();
                distort(&mut params, &mut random);
                let Value::Array(params) = params else {
                    continue;
                };
                Msg::notify(method, params)
            } else {
                let ids: Vec<String> = idl
                    .sync
                    .request
                    .iter()
                    .chain(idl.outstanding.keys())
                    .cloned()
                    .collect();
                if ids.is_empty() {
                    continue;
                }
                let id = parse(&ids[random(ids.len())]).unwrap();
                let mut result = replies[random(replies.len())].clone();
                distort(&mut result, &mut random);
                match random(5) {
                    0 => Msg::error(result, id),
                    _ => Msg::reply(result, id),
                }
            };
            idl.process(msg, now);
            idl.send_conditions();
            txn.commit(&mut idl);
            for bridge in idl.rows::<Bridge>() {
                let _ = (
                    bridge.name(),
                    bridge.ports().len(),
                    bridge.external_ids().get("a"),
                );
            }
        }
    }
}
