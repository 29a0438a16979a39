//! What one client can do to the others: endless messages, replies that nobody reads, many
//! monitors, all the descriptors.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrovs_ovsdb::json::{self, Prefix};
use ferrovs_runtime::clock;
use ferrovs_testkit::Programs;
use serde_json::{Value, json as tree};

const SCHEMA: &str = r#"{"name":"c","version":"1.0.0","tables":{"T":{"isRoot":true,"columns":{
  "name":{"type":"string"},"n":{"type":"integer"}}}}}"#;

struct Server {
    child: Child,
    socket: PathBuf,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_with("exec \"$0\" \"$@\"")
    }

    /// Has a shell start the server, after what else `script` does.
    fn start_with(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (db, schema) = (dir.path().join("c.db"), dir.path().join("c.ovsschema"));
        std::fs::write(&schema, SCHEMA).unwrap();
        let created = Command::new(Programs::ours().path("ovsdb-tool"))
            .arg("create")
            .args([&db, &schema])
            .status();
        assert!(created.unwrap().success());
        let socket = dir.path().join("sock");
        let child = Command::new("sh")
            .args(["-c", script])
            .arg(Programs::ours().path("ovsdb-server"))
            .arg(&db)
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--unixctl={}", dir.path().join("ctl").display()))
            .arg(format!("--log-file={}", dir.path().join("log").display()))
            .arg("-vconsole:off")
            .env("OVS_RUNDIR", dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, socket, dir };
        let end = clock::now() + Duration::from_secs(30);
        while UnixStream::connect(&server.socket).is_err() {
            assert!(clock::now() < end, "the server does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }

    fn connect(&self) -> Client {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let timeout = Some(Duration::from_secs(30));
        stream.set_read_timeout(timeout).unwrap();
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The most memory that the server had, in MB.
    fn peak_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        let kb: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kb / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    fn send(&mut self, method: &str, params: &Value, id: i64) {
        let text = json::to_string(&tree!({"method": method, "params": params, "id": id}));
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn receive(&mut self) -> Value {
        loop {
            if let Prefix::Value(v, used) = json::parse_prefix(&self.buffer) {
                self.buffer.drain(..used);
                return v;
            }
            let mut piece = vec![0; 1 << 16];
            let n = self.stream.read(&mut piece).unwrap();
            assert!(n > 0, "the server hung up");
            self.buffer.extend_from_slice(&piece[..n]);
        }
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.send(method, params, 1);
        self.receive()["result"].take()
    }
}

#[test]
fn a_message_without_end_ends_the_connection_and_harms_nobody() {
    let server = Server::start();
    let mut other = server.connect();
    other.call("echo", &tree!([]));
    let idle = server.peak_mb();
    for (head, piece) in [
        ("[\"", "a"),
        ("[\"", "\\u0041"),
        ("[", "1,"),
        ("[", "[],"),
        ("{", "\"a\":[1],"),
    ] {
        let mut hostile = server.connect();
        hostile.stream.write_all(head.as_bytes()).unwrap();
        let piece = piece.repeat((1 << 20) / piece.len());
        let sent = (0..1024)
            .take_while(|_| hostile.stream.write_all(piece.as_bytes()).is_ok())
            .count();
        assert!(sent < 128, "{sent} MB of one message were taken");
        assert_eq!(other.call("echo", &tree!(["x"])), tree!(["x"]));
    }
    let peak = server.peak_mb();
    assert!(peak < idle + 200, "{idle} MB became {peak} MB");
}

#[test]
fn who_does_not_read_is_not_read_either_and_gets_all_replies_later() {
    let server = Server::start();
    let mut other = server.connect();
    other.call("echo", &tree!([]));
    let idle = server.peak_mb();
    let mut silent = server.connect();
    silent.stream.set_nonblocking(true).unwrap();
    let request = |i: i64| {
        let params = tree!(["c", {"op": "comment", "comment": "x".repeat(1000)}]);
        json::to_string(&tree!({"method": "transact", "params": params, "id": i})).into_bytes()
    };
    let (mut whole, mut rest, mut stalled) = (0, Vec::new(), 0);
    while stalled < 20 {
        if rest.is_empty() {
            rest = request(whole);
            whole += 1;
        }
        match silent.stream.write(&rest) {
            Ok(n) => {
                rest.drain(..n);
                stalled = 0;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                stalled += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => panic!("{e}"),
        }
        assert!(whole < 1_000_000, "requests were taken without end");
    }
    assert_eq!(other.call("echo", &tree!(["x"])), tree!(["x"]));
    assert!(server.peak_mb() < idle + 20);
    silent.stream.set_nonblocking(false).unwrap();
    let mut writer = silent.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&rest).unwrap());
    for i in 0..whole {
        assert_eq!(silent.receive()["id"], i);
    }
    writing.join().unwrap();
}

#[test]
fn a_transaction_of_many_rows_is_one_transaction() {
    const ROWS: usize = 20_000;
    let server = Server::start();
    let mut c = server.connect();
    let row =
        |i| tree!({"op": "insert", "table": "T", "row": {"name": format!("row {i}"), "n": i}});
    let mut params = vec![tree!("c")];
    params.extend((0..ROWS).map(row));
    let result = c.call("transact", &Value::Array(params.clone()));
    assert_eq!(result.as_array().unwrap().len(), ROWS);
    assert!(result[ROWS - 1]["uuid"].is_array());
    // A fault at the end undoes it all, and says which operation it was.
    params.push(tree!({"op": "nonsense"}));
    let result = c.call("transact", &Value::Array(params));
    assert_eq!(
        result[ROWS]["details"],
        format!(
            "Parsing ovsdb operation {0} of {0} failed: No operation \"nonsense\"",
            ROWS + 1
        )
    );
    let all = c.call(
        "transact",
        &tree!(["c", {"op": "select", "table": "T", "where": []}]),
    );
    assert_eq!(all[0]["rows"].as_array().unwrap().len(), ROWS);
}

#[test]
fn monitors_see_the_end_of_a_storm_and_who_changes_sees_it_before_the_reply() {
    const MONITORS: usize = 60;
    const UPDATES: i64 = 2000;
    let server = Server::start();
    let mut writer = server.connect();
    let insert = tree!(["c", {"op": "insert", "table": "T", "row": {"name": "x", "n": 0}}]);
    writer.call("transact", &insert);
    let request = tree!(["c", null, {"T": [{"columns": ["n"]}]}]);
    let mut monitors: Vec<Client> = (0..MONITORS).map(|_| server.connect()).collect();
    for m in &mut monitors {
        m.call("monitor", &request);
    }
    writer.call("monitor", &request);
    let add =
        tree!(["c", {"op": "mutate", "table": "T", "where": [], "mutations": [["n", "+=", 1]]}]);
    let seen = |update: &Value| {
        assert_eq!(update["method"], "update");
        let rows = update["params"][1]["T"].as_object().unwrap();
        rows.values().next().unwrap()["new"]["n"].as_i64().unwrap()
    };
    for i in 1..=UPDATES {
        writer.send("transact", &add, i);
        assert_eq!(seen(&writer.receive()), i);
        assert_eq!(writer.receive()["id"], i);
    }
    for m in &mut monitors {
        let (mut last, mut count) = (0, 0);
        while last < UPDATES {
            let n = seen(&m.receive());
            assert!(n > last);
            (last, count) = (n, count + 1);
        }
        assert!(count <= UPDATES);
    }
}

#[test]
fn clients_that_take_all_descriptors_leave_some_for_the_operator() {
    const LIMIT: usize = 40;
    let server = Server::start_with(&format!("ulimit -n {LIMIT}; exec \"$0\" \"$@\""));
    let mut clients: Vec<UnixStream> = (0..2 * LIMIT)
        .map(|_| UnixStream::connect(&server.socket).unwrap())
        .collect();
    let (mut served, mut refused) = (0, 0);
    for c in &mut clients {
        c.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let sent = c.write_all(b"{\"id\":1,\"method\":\"echo\",\"params\":[]}");
        match c.read(&mut [0; 100]) {
            Ok(n) if n > 0 && sent.is_ok() => served += 1,
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("a client hangs"),
            _ => refused += 1,
        }
    }
    assert!(served > 0 && refused > LIMIT, "{served} were served");
    // A file is opened for this.
    let status = Command::new(Programs::ours().path("ovs-appctl"))
        .arg("-t")
        .arg(server.dir.path().join("ctl"))
        .args(["-T", "30", "ovsdb-server/compact"])
        .status();
    assert!(status.unwrap().success());
    let log = std::fs::read_to_string(server.dir.path().join("log")).unwrap();
    let complaints = log.matches("accept failed: Too many open files").count();
    assert!((1..=10).contains(&complaints), "{complaints} lines");
    clients.clear();
    let echo = (0..1000).any(|_| {
        let Ok(mut c) = UnixStream::connect(&server.socket) else {
            return false;
        };
        let _ = c.write_all(b"{\"id\":1,\"method\":\"echo\",\"params\":[]}");
        c.read(&mut [0; 100]).is_ok_and(|n| n > 0)
    });
    assert!(echo, "nobody is served after the clients went");
}
