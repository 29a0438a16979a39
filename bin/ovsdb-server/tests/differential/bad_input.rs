//! Bad input over a socket: what is no JSON, no JSON-RPC, no method, has wrong parameters, or answers nothing that was
//! asked; each from a client that closes its half at once. Replies, the end of the connection and the lines in the log
//! must be those of Open vSwitch's server.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;

use ferrovs_ovsdb::json;
use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;
use serde_json::{Value, json as tree};

use crate::peer::{Peer, message_len};

const SCHEMA: &str = r#"{"name":"d","tables":{"A":{"columns":{"a":{"type":"integer"}}}}}"#;

/// What a client sends.
const CASES: &[&[u8]] = &[
    br#"{"method": "list_dbs", "params": ["x"], "id": 1}"#,
    br#"{"method": "list_dbs", "params": [1, 2], "id": 1}"#,
    br#"{"method": "get_schema", "params": [], "id": 1}"#,
    br#"{"method": "get_schema", "params": ["x"], "id": 1}"#,
    br#"{"method": "get_schema", "params": [5], "id": 1}"#,
    br#"{"method": "get_schema", "params": ["d", 1], "id": 1}"#,
    br#"{"method": "get_schema", "params": ["_Server", "d"], "id": 1}"#,
    br#"{"method": "transact", "params": [], "id": 1}"#,
    br#"{"method": "transact", "params": ["x"], "id": 1}"#,
    br#"{"method": "transact", "params": [5], "id": 1}"#,
    br#"{"method": "transact", "params": ["d", 5], "id": 1}"#,
    br#"{"method": "transact", "params": ["d", []], "id": 1}"#,
    br#"{"method": "transact", "params": ["d", {}], "id": 1}"#,
    br#"{"method": "transact", "params": ["d"], "id": 1}"#,
    br#"{"method": "transact", "params": ["_Server", {"op": "insert", "table": "Database", "row": {}}], "id": 1}"#,
    br#"{"method": "transact", "params": ["_Server", {"op": "delete", "table": "Database", "where": []}], "id": 1}"#,
    br#"{"method": "monitor", "params": [], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, 5], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, []], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {}], "id": 1}{"method": "monitor", "params": ["d", 1, {}], "id": 2}"#,
    br#"{"method": "monitor", "params": ["x", 1, {}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"X": {}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": 5}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": [5]}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"columns": 5}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"columns": ["x"]}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"columns": ["a", "a"]}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": [{"columns": ["a"]}, {"columns": ["a"]}]}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"select": 5}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"select": {"x": true}}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"select": {"insert": 5}}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"where": []}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"x": 1}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {}, 5], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", null, {"A": {}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", [1, {"a": 2}], {"A": {}}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": []}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {"columns": ["_uuid", "_version"]}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": 5}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": [5]}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": [["a"]]}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": [["x", "==", 1]]}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": [["a", "=", 1]]}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": [["a", "==", "x"]]}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": true}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {"where": false}}], "id": 1}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": [{"where": [["a", "<", ["set", []]]]}]}], "id": 1}"#,
    br#"{"method": "monitor_cond_since", "params": ["d", 1, {}], "id": 1}"#,
    br#"{"method": "monitor_cond_since", "params": ["d", 1, {}, "x"], "id": 1}"#,
    br#"{"method": "monitor_cond_since", "params": ["d", 1, {}, 5], "id": 1}"#,
    br#"{"method": "monitor_cond_since", "params": ["d", 1, {}, "00000000-0000-0000-0000-000000000000"], "id": 1}"#,
    br#"{"method": "monitor_cond_since", "params": ["d", 1, {}, "00000000-0000-0000-0000-000000000000", 1], "id": 1}"#,
    br#"{"method": "monitor_cond_since", "params": ["d", 1, {"A": {}}, null], "id": 1}"#,
    br#"{"method": "monitor_cond_change", "params": [], "id": 1}"#,
    br#"{"method": "monitor_cond_change", "params": [1], "id": 1}"#,
    br#"{"method": "monitor_cond_change", "params": [1, 1, {}], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": [{"where": []}]}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 2, {"A": [{"where": [true]}]}], "id": 2}{"method": "monitor_cancel", "params": [1], "id": 3}{"method": "monitor_cancel", "params": [2], "id": 4}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"B": []}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": [{"where": []}]}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": {}}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": [{"columns": ["a"]}]}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": [5]}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, 5], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond", "params": ["d", 2, {"A": {}}], "id": 5}{"method": "monitor_cond_change", "params": [1, 2, {}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": [{"where": 5}]}], "id": 2}"#,
    br#"{"method": "monitor_cond", "params": ["d", 1, {"A": {}}], "id": 1}{"method": "monitor_cond_change", "params": [1, 1, {"A": [{"x": 5}]}], "id": 2}"#,
    br#"{"method": "monitor_cancel", "params": [], "id": 1}"#,
    br#"{"method": "monitor_cancel", "params": [1], "id": 1}"#,
    br#"{"method": "monitor_cancel", "params": [1, 2], "id": 1}"#,
    br#"{"method": "cancel", "params": [1], "id": 1}"#,
    br#"{"method": "lock", "params": [], "id": 1}"#,
    br#"{"method": "lock", "params": [5], "id": 1}"#,
    br#"{"method": "lock", "params": ["a b"], "id": 1}"#,
    br#"{"method": "lock", "params": ["x", "y"], "id": 1}"#,
    br#"{"method": "lock", "params": ["x"], "id": 1}{"method": "lock", "params": ["x"], "id": 2}{"method": "steal", "params": ["x"], "id": 3}{"method": "unlock", "params": ["x"], "id": 4}{"method": "unlock", "params": ["x"], "id": 5}"#,
    br#"{"method": "steal", "params": [], "id": 1}"#,
    br#"{"method": "steal", "params": [""], "id": 1}"#,
    br#"{"method": "unlock", "params": [], "id": 1}"#,
    br#"{"method": "unlock", "params": ["x"], "id": 1}"#,
    br#"{"method": "steal", "params": ["x"], "id": 1}{"method": "steal", "params": ["x"], "id": 2}"#,
    br#"{"method": "convert", "params": [], "id": 1}"#,
    br#"{"method": "convert", "params": ["d"], "id": 1}"#,
    br#"{"method": "convert", "params": ["d", 5], "id": 1}"#,
    br#"{"method": "convert", "params": ["d", {}], "id": 1}"#,
    br#"{"method": "convert", "params": ["x", {}], "id": 1}"#,
    br#"{"method": "convert", "params": ["d", {"name": "e", "tables": {}}], "id": 1}"#,
    br#"{"method": "convert", "params": ["d", {"name": "d", "tables": {}}, 1], "id": 1}"#,
    br#"{"method": "convert", "params": ["d", {"name": "d", "tables": {"A": {"columns": {}}}}], "id": 1}"#,
    br#"{"method": "convert", "params": ["d", {"name": "d", "tables": 5}], "id": 1}"#,
    br#"{"method": "set_db_change_aware", "params": [], "id": 1}"#,
    br#"{"method": "set_db_change_aware", "params": [5], "id": 1}"#,
    br#"{"method": "set_db_change_aware", "params": [true, 1], "id": 1}"#,
    br#"{"method": "echo", "params": [], "id": 1}"#,
    br#"{"method": "echo", "params": [{"x": [null]}], "id": 1}"#,
    br#"{"method": "nothing", "params": [], "id": 1}"#,
    br#"{"method": "", "params": [], "id": 1}"#,
    br#"{"method": "Echo", "params": [1], "id": 1}"#,
    br#"{"method": "echo", "params": [], "id": null}"#,
    br#"{"method": "nothing", "params": []}"#,
    br#"{"method": "cancel", "params": []}"#,
    br#"{"method": "cancel", "params": [5]}"#,
    br#"{"method": "update", "params": [1, {}]}"#,
    br#"{"method": "echo", "id": 1}"#,
    br#"{"params": [], "id": 1}"#,
    br#"{"id": 1}"#,
    b"{}",
    br#"{"method": 5, "params": [], "id": 1}"#,
    br#"{"method": "echo", "params": {}, "id": 1}"#,
    br#"{"method": "echo", "params": 5, "id": 1}"#,
    br#"{"method": "echo", "params": [], "id": 1, "x": 1}"#,
    br#"{"method": "echo", "params": [], "id": 1, "result": 1}"#,
    br#"{"method": "echo", "params": [], "id": 1, "error": 1}"#,
    br#"{"id": 77, "result": [], "error": null}"#,
    br#"{"id": 77, "result": null, "error": "x"}"#,
    br#"{"result": 5}"#,
    br#"{"error": 5}"#,
    br#"{"id": 1, "result": 1, "error": 1}"#,
    b"[]",
    b"[1]",
    b"5",
    br#""x""#,
    b"nul",
    b"}",
    br#"{"a" 1}"#,
    br#"{"a":1,}"#,
    b"[1,2",
    br#"{"method":"echo","params":["\q"],"id":1}"#,
    br#"{"method":"echo","params":["\ud800"],"id":1}"#,
    br#"{"method":"echo","params":[01],"id":1}"#,
    br#"{"method":"echo","params":[1e999],"id":1}"#,
    b"{\"method\":\"echo\",\"params\":[\"\x00\"],\"id\":1}",
    b"{\"method\":\"echo\",\"params\":[\"\xff\xfe\"],\"id\":1}",
    b"\x00",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b" \n\t\r{\"method\": \"echo\", \"params\": [\"space\"], \"id\": 1} \n",
    br#"{"method": "echo", "params": [1], "id": 1}]{"method": "echo", "params": [2], "id": 2}"#,
    b"{\"method\":\"echo\",\"params\":[\"a\x01b\"],\"id\":1}",
    br#"{"id":1,"id":2,"method":"echo","params":[]}"#,
    br#"{"method": "echo", "params": [1], "id": {"a": [1.5, null, true]}}"#,
    br#"{"method": "echo", "params": [1], "id": -0.0}"#,
    br#"{"method": "echo", "params": ["\u00e9\ud834\udd1e\u007f\\"], "id": 1}"#,
];

/// What kills Open vSwitch 3.1's server.
const DEADLY: &[&[u8]] = &[
    br#"{"method": "monitor", "params": ["d"], "id": 1}"#,
    br#"{"method": "monitor", "params": ["d", 1], "id": 1}"#,
    br#"{"method": "convert", "params": ["_Server", {"name": "_Server", "tables": {}}], "id": 1}"#,
];

/// What came of a case: messages, the rest if it is none, and the log.
#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Value>,
    rest: Vec<u8>,
    log: Vec<String>,
}

fn start(programs: &Programs, dir: &Path, name: &str) -> Peer {
    let (file, schema) = (dir.join(format!("{name}.db")), dir.join("schema"));
    std::fs::write(&schema, SCHEMA).unwrap();
    Peer::create(programs, &file, &schema);
    Peer::start(programs, &file, name)
}

fn outcome(peer: &Peer, logged: &mut usize, input: &[u8]) -> Outcome {
    let mut stream = peer.connect().stream;
    // The server may have seen enough before the end.
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let mut messages = Vec::new();
    while let Some(n) = message_len(&bytes) {
        let text: Vec<u8> = bytes.drain(..n).collect();
        messages.push(comparable(
            json::parse_bytes(&text).expect("replies are JSON"),
        ));
    }
    // The log may come after the end of the connection, but before the server turns to another.
    for _ in 0..2 {
        peer.connect().call("echo", &tree!([])).expect("it lives");
    }
    let text = peer.log();
    let log = text[*logged..].lines().filter_map(log_line).collect();
    *logged = text.len();
    Outcome {
        messages,
        rest: bytes,
        log,
    }
}

/// A reply, with the names of databases in one order.
fn comparable(mut reply: Value) -> Value {
    if let Some(names) = reply["result"].as_array_mut()
        && names.len() == 2
        && names.contains(&tree!("_Server"))
    {
        names.sort_by_key(ToString::to_string);
    }
    // Bytes that are not UTF-8 come back from us as replacement characters.
    let reply = json::parse(&json::to_string(&reply)).expect("what is printed can be parsed");
    crate::compare::comparable(&reply)
}

/// Module, level and text; connections without their numbers.
fn log_line(line: &str) -> Option<String> {
    let text = line.splitn(3, '|').nth(2)?;
    let (head, rest) = text.split_once("unix#")?;
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    // Open vSwitch 3.7 says TLS as well.
    Some(format!("{head}unix{}", rest.replace("SSL/TLS", "SSL")))
}

#[test]
fn bad_input_gets_open_vswitchs_answer() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = start(&oracle(), dir.path(), "theirs");
    let ours = start(&Programs::ours(), dir.path(), "ours");
    for peer in [&theirs, &ours] {
        peer.unixctl(&["vlog/disable-rate-limit"]);
    }
    let mut cases: Vec<Vec<u8>> = CASES.iter().map(|c| c.to_vec()).collect();
    cases.push(b"[".repeat(1001));
    cases.push([b"[".repeat(999), b"]".repeat(999)].concat());
    let (mut a, mut b) = (theirs.log().len(), ours.log().len());
    let mut differ = BTreeSet::new();
    for case in cases {
        let (x, y) = (
            outcome(&theirs, &mut a, &case),
            outcome(&ours, &mut b, &case),
        );
        if x != y {
            let case = String::from_utf8_lossy(&case[..case.len().min(300)]).into_owned();
            differ.insert(format!("{case}\n theirs {x:?}\n ours   {y:?}"));
        }
    }
    let all: Vec<String> = differ.into_iter().collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn what_kills_open_vswitch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = start(&Programs::ours(), dir.path(), "ours");
    let mut logged = 0;
    for case in DEADLY {
        let o = outcome(&ours, &mut logged, case);
        assert_eq!(o.messages.len(), 1, "{o:?}");
        assert!(o.messages[0]["error"].is_object(), "{o:?}");
    }
    let still = ours.connect().call("echo", &tree!(["there"]));
    assert_eq!(still.expect("it lives").reply["result"], tree!(["there"]));
}
