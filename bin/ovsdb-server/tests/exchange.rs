//! A database file that goes back and forth between Open vSwitch's ovsdb-server and ours: each goes on with
//! what the other wrote, differences and snapshots included, and both read the same from it.
//!
//! `FERROVS_EXCHANGE_SEEDS` sets how many databases there are.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrovs_testkit::Programs;
use ferrovs_testkit::database::{self, Choose, Generator, Random};
use ferrovs_testkit::oracle::oracle;
use serde_json::{Value, json as tree};

/// Changes of hands of each file, and transactions in between.
const HOPS: usize = 8;
const TRANSACTIONS: usize = 25;

struct Server {
    child: Child,
    socket: PathBuf,
    control: PathBuf,
}

impl Server {
    fn start(programs: &Programs, db: &Path) -> Self {
        let (socket, control) = (db.with_extension("sock"), db.with_extension("ctl"));
        let _ = std::fs::remove_file(&socket);
        let child = Command::new(programs.path("ovsdb-server"))
            .arg(db)
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--unixctl={}", control.display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .env("OVS_RUNDIR", db.parent().unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            socket,
            control,
        }
    }

    /// The reply to a request; none if the server died of it.
    fn call(&self, socket: &Path, method: &str, params: &Value) -> Option<Value> {
        let stream = (0..1000).find_map(|i| {
            std::thread::sleep(Duration::from_millis(if i > 0 { 10 } else { 0 }));
            UnixStream::connect(socket).ok()
        });
        let mut stream = stream?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let request = tree!({"method": method, "params": params, "id": 0});
        stream.write_all(request.to_string().as_bytes()).ok()?;
        let mut replies = serde_json::Deserializer::from_reader(stream).into_iter::<Value>();
        replies.next()?.ok()
    }

    fn transact(&self, params: &Value) -> Option<Value> {
        self.call(&self.socket, "transact", params)
    }

    fn control(&self, command: &str) -> Option<Value> {
        self.call(&self.control, command, &tree!([]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A transaction that selects everything that is kept in the file.
fn select_all(schema: &Value) -> Value {
    let mut params = vec![tree!(database::NAME)];
    for (name, table) in schema["tables"].as_object().unwrap() {
        let columns = table["columns"].as_object().unwrap();
        let kept = columns.iter().filter(|(_, c)| c["ephemeral"] != true);
        let mut columns: Vec<&str> = kept.map(|(n, _)| n.as_str()).collect();
        columns.push("_uuid");
        params.push(tree!({"op": "select", "table": name, "where": [], "columns": columns}));
    }
    Value::Array(params)
}

/// Results with their rows in one order.
fn in_order(mut results: Value) -> Value {
    for r in results.as_array_mut().into_iter().flatten() {
        if let Some(rows) = r["rows"].as_array_mut() {
            rows.sort_by_key(Value::to_string);
        }
    }
    results
}

/// What Open vSwitch 3.1 writes and cannot read: a difference with more members than its column may
/// have, and a number near zero that came from a division.
fn unreadable(stderr: &str) -> bool {
    stderr.contains(" members but ") || stderr.contains("number outside valid range")
}

/// What a program's ovsdb-tool reads from the file; none if it has something `unreadable`.
fn read(programs: &Programs, db: &Path, query: &Value) -> Option<Value> {
    let o = Command::new(programs.path("ovsdb-tool"))
        .args(["query", db.to_str().unwrap(), &query.to_string()])
        .output()
        .unwrap();
    if o.stdout.is_empty() && unreadable(&String::from_utf8_lossy(&o.stderr)) {
        return None;
    }
    assert!(o.status.success(), "{} {o:?}", programs.dir.display());
    Some(in_order(serde_json::from_slice(&o.stdout).unwrap()))
}

fn tool(programs: &Programs, args: &[&str]) -> bool {
    let o = Command::new(programs.path("ovsdb-tool"))
        .args(args)
        .output();
    o.unwrap().status.success()
}

#[test]
fn a_file_changes_hands_without_change() {
    let seeds = std::env::var("FERROVS_EXCHANGE_SEEDS").map_or(4, |n| n.parse().unwrap());
    let programs = [oracle(), Programs::ours()];
    let dir = tempfile::tempdir().unwrap();
    let (mut rows, mut transactions, mut abandoned) = (0, 0, 0);
    for seed in 1..=seeds {
        let mut random = Random::new(1000 + seed);
        let file = dir.path().join(format!("{seed}.schema"));
        let db = dir.path().join(format!("{seed}.db"));
        let name = db.to_str().unwrap();
        let schema = loop {
            let schema = database::schema(&mut random);
            if database::is_misread(&schema) {
                continue;
            }
            std::fs::write(&file, schema.to_string()).unwrap();
            // Not every schema that is drawn is a right one.
            if tool(&programs[0], &["create", name, file.to_str().unwrap()]) {
                break schema;
            }
        };
        let query = select_all(&schema);
        let mut generator = Generator::new(random, &schema);
        let mut before = read(&programs[0], &db, &query).unwrap();
        for hop in 0..HOPS {
            let who = (hop + seed as usize) % 2;
            let what = format!("seed {seed}, hop {hop}, {}", ["theirs", "ours"][who]);
            let server = Server::start(&programs[who], &db);
            let start = server.transact(&query).expect("the server lives");
            assert_eq!(in_order(start["result"].clone()), before, "{what}: start");
            let mut last = Some(before);
            for _ in 0..TRANSACTIONS {
                // Some transactions kill Open vSwitch's server.
                let lives = server.transact(&generator.transaction()).is_some();
                assert!(lives || who == 0, "{what}: our server died");
                if !lives {
                    last = None;
                    break;
                }
                transactions += 1;
                if generator.choose.chance(4) {
                    server.control("ovsdb-server/compact");
                }
            }
            if last.is_some() {
                let end = server.transact(&query).expect("the server lives");
                last = Some(in_order(end["result"].clone()));
            }
            drop(server);
            if generator.choose.chance(20) {
                let which = generator.choose.below(2);
                let done = tool(&programs[which], &["compact", name]);
                assert!(done || which == 0, "{what}: our ovsdb-tool cannot compact");
            }
            let ours = read(&programs[1], &db, &query).unwrap();
            let Some(theirs) = read(&programs[0], &db, &query) else {
                abandoned += 1;
                break;
            };
            assert_eq!(theirs, ours, "{what}: the file as both read it");
            // Open vSwitch's server sometimes has other contents than its own file.
            if let Some(last) = last.filter(|_| who == 1) {
                assert_eq!(ours, last, "{what}: the file and the server");
            }
            rows += ours
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["rows"].as_array().map_or(0, Vec::len))
                .sum::<usize>();
            before = ours;
        }
    }
    assert!(rows > 0 && transactions > 100, "{rows} {transactions}");
    assert!(abandoned * 5 <= seeds, "{abandoned} of {seeds} files");
}
