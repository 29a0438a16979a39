//! `kill -9` at random points under load: what the server acknowledged is there after the restart.
//!
//! Clients count: each transaction increments the client's counter, adds an event with the new
//! number and removes an old one, some of them durable, several under way at once. Compactions
//! are asked for at random. A kill leaves the page cache alone, so not only durable transactions
//! have to survive, but all that were acknowledged. What was sent and not acknowledged may be
//! there or not, but as a beginning of what was sent, each transaction whole.
//!
//! Now and then Open vSwitch's server opens what the kill left, and finds the same.
//!
//! `FERROVS_CRASH_ROUNDS` sets how often the server is killed, `FERROVS_CRASH_SEED` the random
//! numbers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferrovs_ovsdb::json;
use ferrovs_runtime::clock;
use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;
use serde_json::{Value, json as tree};

const CLIENTS: usize = 5;
/// Events that a client keeps.
const KEPT: i64 = 40;
/// Transactions that a client has under way at most.
const WINDOW: i64 = 8;

const SCHEMA: &str = r#"{"name":"crash","version":"1.0.0","tables":{
  "Counter":{"isRoot":true,"indexes":[["client"]],"columns":{
    "client":{"type":"integer"},"n":{"type":"integer"},
    "numbers":{"type":{"key":"integer","min":0,"max":"unlimited"}}}},
  "Event":{"isRoot":true,"indexes":[["client","n"]],"columns":{
    "client":{"type":"integer"},"n":{"type":"integer"},"text":{"type":"string"}}}}}"#;

/// A generator that is the same for ever (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

struct Server {
    child: Child,
    socket: PathBuf,
    control: PathBuf,
}

impl Server {
    fn start(programs: &Programs, dir: &Path) -> Self {
        let socket = dir.join("db.sock");
        let control = dir.join("ctl");
        let _ = std::fs::remove_file(&socket);
        let child = Command::new(programs.path("ovsdb-server"))
            .arg(dir.join("crash.db"))
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--unixctl={}", control.display()))
            .arg("-vconsole:off")
            .arg(format!("--log-file={}", dir.join("log").display()))
            .env("OVS_RUNDIR", dir)
            .env("OVS_LOGDIR", dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            socket,
            control,
        }
    }

    fn connect(&self) -> Connection {
        let end = clock::now() + Duration::from_secs(30);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(Duration::from_secs(30)))
                        .unwrap();
                    return Connection {
                        stream,
                        buffer: Vec::new(),
                        scanned: 0,
                        depth: 0,
                    };
                }
                Err(e) => assert!(clock::now() < end, "the server does not listen: {e}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to the server; what goes wrong with it means that the server was killed.
struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    scanned: usize,
    depth: usize,
}

impl Connection {
    fn send(&mut self, method: &str, params: &Value, id: i64) -> Option<()> {
        let text = json::to_string(&tree!({"method": method, "params": params, "id": id}));
        self.stream.write_all(text.as_bytes()).ok()
    }

    fn receive(&mut self) -> Option<Value> {
        loop {
            // No string in these messages has a brace.
            while let Some(c) = self.buffer.get(self.scanned) {
                self.scanned += 1;
                match c {
                    b'{' => self.depth += 1,
                    b'}' => self.depth -= 1,
                    _ => {}
                }
                if self.depth == 0 {
                    let text: Vec<u8> = self.buffer.drain(..self.scanned).collect();
                    self.scanned = 0;
                    return Some(json::parse_bytes(&text).unwrap());
                }
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk).ok()? {
                0 => return None,
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// What one client knows.
#[derive(Clone)]
struct Client {
    id: usize,
    /// The last number that the server acknowledged, and the last that was sent.
    acknowledged: i64,
    sent: i64,
}

impl Client {
    fn transaction(&self, n: i64, durable: bool, random: &mut Random) -> Value {
        let id = self.id;
        let text = "x".repeat(random.below(600) as usize);
        let mut ops = vec![
            tree!("crash"),
            tree!({"op": "mutate", "table": "Counter", "where": [["client", "==", id]],
                   "mutations": [["n", "+=", 1], ["numbers", "insert", n], ["numbers", "delete", n - KEPT]]}),
            tree!({"op": "insert", "table": "Event", "row": {"client": id, "n": n, "text": text}}),
            tree!({"op": "delete", "table": "Event", "where": [["client", "==", id], ["n", "==", n - KEPT]]}),
        ];
        if durable {
            ops.push(tree!({"op": "commit", "durable": true}));
        }
        Value::Array(ops)
    }

    /// Checks what the database has of this client and goes on from there.
    fn check(&mut self, c: &mut Connection) {
        let id = self.id;
        c.send(
            "transact",
            &tree!(["crash",
                {"op": "select", "table": "Counter", "where": [["client", "==", id]], "columns": ["n", "numbers"]},
                {"op": "select", "table": "Event", "where": [["client", "==", id]], "columns": ["n"]}]),
            0,
        )
        .unwrap();
        let reply = c.receive().unwrap();
        let counter = &reply["result"][0]["rows"][0];
        let n = counter["n"].as_i64().unwrap();
        assert!(
            (self.acknowledged..=self.sent).contains(&n),
            "client {id}: {n} in the database, {} acknowledged, {} sent",
            self.acknowledged,
            self.sent
        );
        let want: Vec<i64> = (1.max(n - KEPT + 1)..=n).collect();
        let mut events: Vec<i64> = reply["result"][1]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["n"].as_i64().unwrap())
            .collect();
        events.sort_unstable();
        assert_eq!(events, want, "client {id}: events at {n}");
        let numbers: Vec<i64> = match &counter["numbers"] {
            Value::Number(one) => vec![one.as_i64().unwrap()],
            set => set[1]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_i64().unwrap())
                .collect(),
        };
        assert_eq!(numbers, want, "client {id}: the set at {n}");
        (self.acknowledged, self.sent) = (n, n);
    }

    /// Sends transactions until the server dies.
    fn load(&mut self, c: &mut Connection, random: &mut Random) {
        let window = 1 + random.below(WINDOW as u64) as i64;
        loop {
            while self.sent - self.acknowledged < window {
                let n = self.sent + 1;
                let t = self.transaction(n, random.below(4) == 0, random);
                // A request that was cut in the middle cannot be carried out, but one that the
                // kernel took may be, although writing the rest of it failed.
                self.sent = n;
                if c.send("transact", &t, n).is_none() {
                    return;
                }
            }
            let Some(reply) = c.receive() else { return };
            assert!(
                reply["error"].is_null() && reply["result"][0]["count"] == 1,
                "client {}: {reply}",
                self.id
            );
            assert_eq!(reply["id"], self.acknowledged + 1);
            self.acknowledged += 1;
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

#[test]
fn what_was_acknowledged_survives_kill_9_under_load() {
    let rounds = number("FERROVS_CRASH_ROUNDS", 15);
    let mut random = Random::new(number("FERROVS_CRASH_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema");
    std::fs::write(&schema, SCHEMA).unwrap();
    let db = dir.path().join("crash.db");
    let created = Command::new(Programs::ours().path("ovsdb-tool"))
        .args([Path::new("create"), &db, &schema])
        .status();
    assert!(created.unwrap().success());

    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|id| Client {
            id,
            acknowledged: 0,
            sent: 0,
        })
        .collect();
    let mut server = Server::start(&Programs::ours(), dir.path());
    let mut c = server.connect();
    let mut ops = vec![tree!("crash")];
    ops.extend((0..CLIENTS).map(
        |id| tree!({"op": "insert", "table": "Counter", "row": {"client": id, "n": 0, "numbers": ["set", []]}}),
    ));
    c.send("transact", &Value::Array(ops), 0).unwrap();
    c.receive().unwrap();

    let mut replaced = 0;
    for round in 0..rounds {
        let end = clock::now() + Duration::from_micros(2_000 + random.below(150_000));
        let seeds: Vec<u64> = (0..=CLIENTS)
            .map(|_| random.below(u64::MAX >> 32))
            .collect();
        let over = AtomicBool::new(false);
        std::thread::scope(|s| {
            for (client, seed) in clients.iter_mut().zip(&seeds) {
                let mut c = server.connect();
                s.spawn(move || client.load(&mut c, &mut Random::new(*seed)));
            }
            let (control, over, mut random) = (&server.control, &over, Random::new(seeds[CLIENTS]));
            s.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(random.below(60_000)));
                    let Ok(mut ctl) = UnixStream::connect(control) else {
                        continue;
                    };
                    let request = br#"{"method":"ovsdb-server/compact","params":[],"id":0}"#;
                    // The reply does not matter, and the server may be gone.
                    let _ = ctl.write_all(request);
                    let _ = ctl.set_read_timeout(Some(Duration::from_millis(50)));
                    let _ = ctl.read(&mut [0; 100]);
                }
            });
            // This thread kills; the clients end when their connections do.
            std::thread::sleep(end.saturating_duration_since(clock::now()));
            rustix::process::kill_process(
                rustix::process::Pid::from_child(&server.child),
                rustix::process::Signal::KILL,
            )
            .unwrap();
            over.store(true, Ordering::Relaxed);
        });
        server.child.wait().unwrap();
        replaced += u64::from(dir.path().join("crash.db.tmp").exists());
        let before = std::fs::metadata(&db).unwrap().len();
        if round % 50 == 2 {
            // Theirs on a copy.
            let copy = tempfile::tempdir().unwrap();
            std::fs::copy(&db, copy.path().join("crash.db")).unwrap();
            let theirs = Server::start(&oracle(), copy.path());
            let mut c = theirs.connect();
            for client in &clients {
                client.clone().check(&mut c);
            }
        }
        server = Server::start(&Programs::ours(), dir.path());
        let mut c = server.connect();
        for client in &mut clients {
            client.check(&mut c);
        }
        if round % 100 == 99 {
            eprintln!("round {}: {before} bytes", round + 1);
        }
    }
    let total: i64 = clients.iter().map(|c| c.acknowledged).sum();
    assert!(total > 0, "nothing was acknowledged");
    eprintln!("{rounds} rounds: {total} transactions, {replaced} kills while a compaction wrote");
}
