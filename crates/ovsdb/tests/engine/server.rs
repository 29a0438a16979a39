//! Sessions: requests in, texts out.

use std::time::Duration;

use ferrovs_ovsdb::json;
use ferrovs_ovsdb::monitor::SessionId;
use ferrovs_ovsdb::server::{Access, Backing, Db, Server};
use serde_json::{Value, json as tree};

use crate::{database, now, schema};

struct Client {
    server: Server,
    sessions: Vec<SessionId>,
    /// Of the next request.
    id: Value,
}

impl Client {
    fn new(n: usize) -> Self {
        let mut server = Server::new(now());
        assert!(server.add_db(Db::new(database(), Backing::Memory)));
        server.run(now());
        let sessions = (0..n)
            .map(|_| server.add_session(Access::default()))
            .collect();
        let id = tree!("id");
        Self {
            server,
            sessions,
            id,
        }
    }

    /// What session `i` gets after a request, as JSON.
    fn call(&mut self, i: usize, method: &str, params: Value) -> Vec<Value> {
        let Value::Array(params) = params else {
            panic!("an array")
        };
        self.server
            .request(self.sessions[i], method, params, self.id.clone(), now());
        self.server.flush(|_| true);
        self.output(i)
    }

    fn output(&mut self, i: usize) -> Vec<Value> {
        let mut out = Vec::new();
        let mut others = Vec::new();
        self.server.output(|s, texts| {
            if s == self.sessions[i] {
                out.extend(
                    texts
                        .iter()
                        .map(|t| json::parse_bytes(t.as_bytes()).unwrap()),
                );
            } else {
                others.push((s, texts));
            }
        });
        out.extend(others.into_iter().flat_map(|(_, t)| t).map(|t| {
            let mut v = json::parse_bytes(t.as_bytes()).unwrap();
            v["other"] = true.into();
            v
        }));
        out
    }
}

#[test]
fn locks_pass_from_one_to_the_next() {
    let mut c = Client::new(2);
    assert_eq!(
        c.call(0, "lock", tree!(["L"]))[0]["result"],
        tree!({"locked": true})
    );
    assert_eq!(
        c.call(1, "lock", tree!(["L"]))[0]["result"],
        tree!({"locked": false})
    );
    let out = c.call(0, "unlock", tree!(["L"]));
    assert_eq!(out[0]["result"], tree!({}));
    assert_eq!(
        (&out[1]["method"], &out[1]["params"]),
        (&tree!("locked"), &tree!(["L"]))
    );
    let out = c.call(0, "steal", tree!(["L"]));
    assert_eq!(out[0]["result"], tree!({"locked": true}));
    assert_eq!(out[1]["method"], "stolen");
    let mine = c.sessions[0];
    c.server.remove_session(mine);
    assert_eq!(
        c.output(1)[0]["method"],
        "locked",
        "a lock outlives no session"
    );
}

#[test]
fn a_waiting_transaction_goes_on_when_the_database_changes_or_time_is_up() {
    let mut c = Client::new(1);
    let wait = |timeout: Value| {
        let mut op = tree!({"op": "wait", "table": "C", "where": [], "columns": ["n"],
                            "until": "==", "rows": [{"n": "w"}]});
        if !timeout.is_null() {
            op["timeout"] = timeout;
        }
        tree!(["t", op])
    };
    assert!(c.call(0, "transact", wait(Value::Null)).is_empty());
    c.id = tree!("timed");
    assert!(c.call(0, "transact", wait(tree!(100))).is_empty());
    let deadline = c.server.deadline().unwrap();
    let mut later = now();
    later.instant = deadline.max(later.instant + Duration::from_millis(100));
    c.server.run(later);
    let out = c.output(0);
    assert_eq!(out[0]["result"][0]["error"], "timed out");
    c.id = tree!("insert");
    let out = c.call(
        0,
        "transact",
        tree!(["t", {"op": "insert", "table": "C", "row": {"n": "w"}}]),
    );
    c.id = tree!("id");
    assert_eq!(
        out[1]["result"],
        tree!([{}]),
        "the waiting one follows the one that changed"
    );
    assert!(c.call(0, "transact", wait(Value::Null))[0]["result"] == tree!([{}]));
    let mut other = wait(Value::Null);
    other[1]["rows"] = tree!([{"n": "never"}]);
    assert!(c.call(0, "transact", other.clone()).is_empty());
    let again = c.call(0, "transact", other);
    let details = "transact: duplicate request ID";
    assert_eq!(
        again[0]["error"]["details"], details,
        "one with that id waits"
    );
    let session = c.sessions[0];
    let waiting = |c: &Client| c.server.db("t").unwrap().n_triggers();
    c.server
        .notification(session, "cancel", &[tree!("id"), tree!(1)]);
    assert_eq!(waiting(&c), 1, "there is one parameter");
    c.server.notification(session, "cancel", &[tree!("id")]);
    assert_eq!(waiting(&c), 0);
    assert!(c.output(0).is_empty(), "it goes silently");
}

#[test]
fn an_update_comes_before_the_reply_to_the_transaction_that_caused_it() {
    let mut c = Client::new(1);
    c.call(0, "monitor", tree!(["t", "m", {"C": {"columns": ["n"]}}]));
    let out = c.call(
        0,
        "transact",
        tree!(["t", {"op": "insert", "table": "C", "row": {"n": "x"}}]),
    );
    assert_eq!(out[0]["method"], "update");
    assert!(out[1]["result"].is_array());
}

#[test]
fn a_conversion_keeps_what_fits_and_ends_the_monitors() {
    let mut c = Client::new(2);
    c.call(
        0,
        "transact",
        tree!(["t", {"op": "insert", "table": "C", "row": {"n": "kept"}}]),
    );
    c.call(0, "set_db_change_aware", tree!([true]));
    c.call(0, "monitor", tree!(["t", "m0", {"C": {}}]));
    c.call(1, "monitor", tree!(["t", "m1", {"C": {}}]));
    let mut new = schema().to_json();
    new["tables"]["C"]["columns"]["more"] = tree!({"type": "integer"});
    let out = c.call(0, "convert", tree!(["t", new]));
    assert_eq!(
        (&out[0]["method"], &out[0]["params"]),
        (&tree!("monitor_canceled"), &tree!(["m0"]))
    );
    assert_eq!(out[1]["result"], tree!({}));
    let doomed: Vec<SessionId> = c.server.take_doomed().into_iter().map(|d| d.0).collect();
    assert_eq!(
        doomed,
        [c.sessions[1]],
        "who cannot be told is disconnected"
    );
    let out = c.call(
        0,
        "transact",
        tree!(["t", {"op": "select", "table": "C", "where": [], "columns": ["n", "more"]}]),
    );
    assert_eq!(
        out[0]["result"],
        tree!([{"rows": [{"n": "kept", "more": 0}]}])
    );
}

#[test]
fn the_server_database_describes_the_others() {
    let mut c = Client::new(1);
    let select = tree!(["_Server", {"op": "select", "table": "Database", "where": [],
                                    "columns": ["name", "model"]}]);
    let mut out = c.call(0, "transact", select);
    let rows = out[0]["result"][0]["rows"].take();
    let mut names: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|r| r["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["_Server", "t"]);
}

#[test]
fn clients_cannot_change_the_database_about_databases() {
    let mut c = Client::new(1);
    for op in [
        tree!({"op": "insert", "table": "Database", "row": {"model": "standalone"}}),
        tree!({"op": "update", "table": "Database", "where": [], "row": {}}),
        tree!({"op": "delete", "table": "Database", "where": []}),
    ] {
        let kind = op["op"].as_str().unwrap().to_owned();
        let out = c.call(0, "transact", tree!(["_Server", op]));
        assert_eq!(
            out[0]["result"][0]["details"],
            format!("{kind} operation not allowed when database server is in read only mode")
        );
    }
    let schema = tree!({"name": "_Server", "tables": {}});
    let out = c.call(0, "convert", tree!(["_Server", schema]));
    assert_eq!(out[0]["error"]["error"], "not allowed");
    let all = tree!({"op": "select", "table": "Database", "where": []});
    let out = c.call(0, "transact", tree!(["_Server", all]));
    assert_eq!(out[0]["result"][0]["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn who_asked_to_be_told_of_changes_is_told_that_a_transaction_is_canceled() {
    let wait = tree!({"op": "wait", "table": "C", "where": [], "columns": ["n"], "until": "==",
        "rows": [{"n": "x"}]});
    let mut c = Client::new(3);
    let canceled = tree!([{"id": "id", "error": "canceled"}]);
    c.call(1, "set_db_change_aware", tree!([true]));
    for (i, answer) in [(0, tree!([])), (1, canceled.clone())] {
        assert!(c.call(i, "transact", tree!(["t", wait])).is_empty());
        c.server
            .notification(c.sessions[i], "cancel", &[tree!("other")]);
        assert!(c.output(i).is_empty());
        c.server
            .notification(c.sessions[i], "cancel", &[tree!("id")]);
        assert_eq!(Value::from(c.output(i)), answer);
    }
    // A new schema ends what waits; who does not know of such things has to connect anew.
    for i in 0..2 {
        assert!(c.call(i, "transact", tree!(["t", wait])).is_empty());
    }
    c.call(2, "set_db_change_aware", tree!([true]));
    let out = c.call(2, "convert", tree!(["t", schema().to_json()]));
    assert_eq!(out[0]["result"], tree!({}));
    let told: Vec<&Value> = out.iter().filter(|v| v["error"] == "canceled").collect();
    assert_eq!(told.len(), 1);
    let doomed: Vec<SessionId> = c.server.take_doomed().into_iter().map(|d| d.0).collect();
    assert_eq!(doomed, [c.sessions[0]]);
}

#[test]
fn what_may_only_be_read_is_not_converted() {
    let refused = "conversion is not allowed for read-only database t";
    let mut c = Client::new(2);
    let read_only = Access {
        read_only: true,
        ..Access::default()
    };
    c.server.set_access(c.sessions[0], read_only);
    let convert = tree!(["t", schema().to_json()]);
    let error = c.call(0, "convert", convert.clone())[0]["error"].take();
    assert_eq!(error, tree!({"error": "not allowed", "details": refused}));
    c.server.db_mut("t").unwrap().read_only = true;
    assert_eq!(c.call(1, "convert", convert)[0]["error"], error);
}

#[test]
fn a_client_that_makes_the_server_hold_too_much_is_disconnected() {
    const LONG: usize = 4 << 20;
    let reason = "its locks, monitors and waiting transactions take too much memory";
    let requests: [&dyn Fn(usize) -> (&'static str, Value); 3] = [
        &|i| ("lock", tree!([format!("a{}{i}", "x".repeat(LONG))])),
        &|i| {
            (
                "monitor",
                tree!(["t", format!("{}{i}", "x".repeat(LONG)), {}]),
            )
        },
        &|_| {
            let wait = tree!({"op": "wait", "table": "C", "where": [], "columns": ["n"],
                "until": "==", "rows": [{"n": "x".repeat(LONG)}]});
            ("transact", tree!(["t", wait]))
        },
    ];
    for request in requests {
        let mut c = Client::new(2);
        let n = (0..40)
            .take_while(|&i| {
                let (method, params) = request(i);
                c.id = tree!(i);
                c.call(0, method, params);
                c.server.held(c.sessions[0]) <= 100 << 20
            })
            .count();
        assert!((20..26).contains(&n), "{n}");
        let doomed = c.server.take_doomed();
        assert_eq!(doomed, [(c.sessions[0], reason.to_owned())]);
        c.server.reset_session(c.sessions[0]);
        assert_eq!(c.server.held(c.sessions[0]), 0);
    }
}

#[test]
fn locks_that_are_given_back_do_not_count() {
    let mut c = Client::new(1);
    let name = tree!(["x".repeat(1 << 20)]);
    for _ in 0..200 {
        c.call(0, "lock", name.clone());
        c.call(0, "unlock", name.clone());
    }
    assert_eq!(c.server.held(c.sessions[0]), 0);
    assert!(c.server.take_doomed().is_empty());
}
