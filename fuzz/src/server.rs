//! A server with two clients that send what they like: bytes that are JSON or not, messages that are JSON-RPC
//! or not, methods with parameters that are right or not. Every request gets one answer or waits, everything
//! sent is JSON, and when the clients are gone nothing of them is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrovs_ovsdb::server::{Access, Backing, Db, Now, SERVER_DB, Server};
use ferrovs_ovsdb::{Database, DatabaseSchema};
use ferrovs_stream::json::{self, Prefix, RawArray, Scan, Scanner, Walker};
use ferrovs_stream::jsonrpc::Msg;
use ferrovs_testkit::database::{self, Choose, Generator};
use serde_json::{Value, json as tree};

use crate::input::Input;
use crate::model;

struct World {
    server: Server,
    now: Now,
    sessions: [u64; 2],
    /// Requests less answers, by session.
    open: HashMap<u64, i64>,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let drawn = database::schema(&mut input);
    let mut world = World::new(&drawn);
    if input.chance(25) {
        world.stream(input.rest());
    } else {
        let mut drawn = drawn;
        let mut generator = Generator::new(input, &drawn);
        for _ in 0..200 {
            if generator.choose.is_empty() {
                break;
            }
            let session = generator.choose.below(2);
            let message = message(&mut generator, &mut drawn);
            world.message(session, json::to_string(&message).as_bytes());
            if generator.choose.chance(10) {
                world.pass(Duration::from_millis(generator.choose.below(200) as u64));
            }
            if generator.choose.chance(60) {
                let slow = generator.choose.chance(20);
                world.flush(slow);
            }
        }
    }
    world.end();
}

/// A message that a client might send.
fn message(g: &mut Generator<Input<'_>>, drawn: &mut Value) -> Value {
    let id = g.choose.below(4);
    let monitor_id = tree!(g.choose.below(3));
    let lock = *g.choose.pick(&["held", "other", "not an id", ""]);
    let (method, params) = match g.choose.below(32) {
        0..12 => {
            let mut params = g.transaction();
            // Some wait for what others do.
            for op in params.as_array_mut().into_iter().flatten() {
                if op.get("timeout").is_some() && g.choose.chance(70) {
                    op["timeout"] = (g.choose.below(300)).into();
                }
            }
            ("transact", params)
        }
        12 => (
            "monitor",
            tree!([database::NAME, monitor_id, g.monitor(false)]),
        ),
        13 => (
            "monitor_cond",
            tree!([database::NAME, monitor_id, g.monitor(true)]),
        ),
        14 => (
            "monitor_cond_since",
            tree!([
                database::NAME,
                monitor_id,
                g.monitor(true),
                "00000000-0000-0000-0000-000000000000"
            ]),
        ),
        15 | 16 => {
            let t = g.table();
            let change = tree!({&t: [{"where": g.monitor_condition(&t)}]});
            let new = tree!(g.choose.below(3));
            ("monitor_cond_change", tree!([monitor_id, new, change]))
        }
        17 => ("monitor_cancel", tree!([monitor_id])),
        18 => ("lock", tree!([lock])),
        19 => ("steal", tree!([lock])),
        20 => ("unlock", tree!([lock])),
        21 => (
            "get_schema",
            tree!([g.choose.pick(&[database::NAME, SERVER_DB, "x"])]),
        ),
        22 => ("list_dbs", tree!([])),
        23 => ("echo", tree!([1, {"a": null}])),
        24 => ("set_db_change_aware", tree!([g.choose.chance(60)])),
        25 => ("get_server_id", tree!([])),
        26 => ("monitor", tree!([SERVER_DB, monitor_id, {"Database": {}}])),
        27 => {
            let next = database::descendant(&mut g.choose, drawn);
            g.set_schema(&next);
            *drawn = next.clone();
            ("convert", tree!([database::NAME, next]))
        }
        28 => return tree!({"method": "cancel", "params": [id]}),
        29 => (
            "transact",
            tree!([SERVER_DB, {"op": "select", "table": "Database", "where": []}]),
        ),
        30 => ("echo", tree!({"not": "an array"})),
        _ => return tree!({"method": "transact", "id": id, "result": [], "params": []}),
    };
    if g.choose.chance(4) {
        return tree!({"method": method, "params": [], "id": id});
    }
    tree!({"method": method, "params": params, "id": id})
}

impl World {
    #[allow(clippy::disallowed_methods)] // A fuzz target is a program: it brings its own clock.
    fn new(drawn: &Value) -> Self {
        let now = Now {
            instant: Instant::now(),
            wall_ms: 1_700_000_000_000,
        };
        let schema = DatabaseSchema::from_json(drawn).expect("drawn schemas are right");
        let mut server = Server::new(now);
        assert!(server.add_db(Db::new(Database::new(Arc::new(schema)), Backing::Memory)));
        let sessions = [0; 2].map(|_| server.add_session(Access::default()));
        Self {
            server,
            now,
            sessions,
            open: HashMap::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall_ms += time.as_millis() as i64;
        self.server.run(self.now);
        self.collect();
    }

    /// Both clients' bytes, a piece of each in turn.
    fn stream(&mut self, bytes: &[u8]) {
        let mut scanners = [Scanner::new(1 << 20), Scanner::new(1 << 20)];
        for (i, piece) in bytes.chunks(64).enumerate() {
            let client = i % 2;
            let mut piece = piece;
            while !piece.is_empty() {
                let (used, scan) = scanners[client].feed(piece);
                piece = &piece[used..];
                match scan {
                    Scan::More => {}
                    Scan::Failed(_) => {
                        // The connection is closed; the client comes again.
                        self.reset(client);
                        scanners[client] = Scanner::new(1 << 20);
                        break;
                    }
                    Scan::Done => {
                        let text = scanners[client].take();
                        self.message(client, &text);
                    }
                }
            }
        }
    }

    fn reset(&mut self, client: usize) {
        let session = self.sessions[client];
        self.server.remove_session(session);
        self.server
            .output(|s, _| assert_ne!(s, session, "it is gone"));
        self.sessions[client] = self.server.add_session(Access::default());
    }

    fn message(&mut self, client: usize, text: &[u8]) {
        let Ok(tree) = json::parse_bytes(text) else {
            return self.reset(client);
        };
        let session = self.sessions[client];
        match Msg::from_json(tree) {
            Err(_) => self.reset(client),
            Ok(Msg::Request { method, params, id }) => {
                *self.open.entry(session).or_default() += 1;
                self.request(session, &method, params, id);
            }
            Ok(Msg::Notify { method, params }) => {
                let waiting = |w: &Self| w.server.dbs().map(Db::n_triggers).sum::<usize>() as i64;
                let before = waiting(self);
                self.server.notification(session, &method, &params);
                // Canceled ones get no answer.
                *self.open.entry(session).or_default() -= before - waiting(self);
            }
            Ok(Msg::Reply { .. } | Msg::Error { .. }) => {}
        }
        self.collect();
        for (doomed, _) in self.server.take_doomed() {
            if let Some(i) = self.sessions.iter().position(|s| *s == doomed) {
                self.reset(i);
            }
        }
        if let Some(db) = self.server.db(database::NAME) {
            model::check(db.database());
        }
    }

    /// Some transactions come as text, as large ones do.
    fn request(&mut self, session: u64, method: &str, params: Vec<Value>, id: Value) {
        if method != "transact" || params.len() % 2 == 0 {
            return self.server.request(session, method, params, id, self.now);
        }
        let text = json::to_string(&Value::Array(params)).into_bytes();
        let mut w = Walker::at(&text);
        assert!(w.skip::<()>().is_ok());
        let all = 0..w.position();
        let raw = RawArray::new(text, all, usize::MAX).expect("it was an array");
        self.server.transact_text(session, raw, id, self.now);
    }

    fn flush(&mut self, slow: bool) {
        let first = self.sessions[0];
        self.server.flush(|s| !slow || s != first);
        self.collect();
    }

    /// Takes what is sent and counts the answers.
    fn collect(&mut self) {
        let open = &mut self.open;
        self.server.output(|session, texts| {
            let bytes: Vec<u8> = texts.iter().flat_map(|t| t.as_bytes()).copied().collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Prefix::Value(msg, n) = json::parse_prefix(rest) else {
                    panic!(
                        "what is sent is not JSON: {}",
                        String::from_utf8_lossy(rest)
                    );
                };
                rest = &rest[n..];
                if msg.get("method").is_none() {
                    let n = open.entry(session).or_default();
                    *n -= 1;
                    assert!(*n >= 0, "an answer to nothing: {msg}");
                }
            }
        });
    }

    fn end(mut self) {
        // Whoever waits with a limit gets an answer.
        self.pass(Duration::from_secs(3600));
        let waiting: usize = self.server.dbs().map(Db::n_triggers).sum();
        let open: i64 = self
            .sessions
            .iter()
            .map(|s| self.open.get(s).copied().unwrap_or(0))
            .sum();
        assert_eq!(waiting as i64, open, "each request is answered or waits");
        for session in self.sessions {
            self.server.remove_session(session);
        }
        for db in self.server.dbs() {
            assert_eq!((db.n_monitors(), db.n_triggers()), (0, 0));
        }
        assert!(!self.server.has_news());
        for session in self.sessions {
            let (owned, waiting) = self.server.locks_of(session);
            assert!(owned.is_empty() && waiting.is_empty());
        }
    }
}
