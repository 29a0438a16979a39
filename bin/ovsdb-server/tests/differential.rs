//! Random transactions to Open vSwitch's ovsdb-server and to ours: replies, contents, what monitors
//! show, and what each reads from the other's file must be equal.
//!
//! Not compared: which of several errors in one row is found first (that follows a hash order
//! there), and details that name such a choice.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrovs_ovsdb::json;
use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;
use serde_json::{Map, Value, json as tree};

const SCHEMA: &str = include_str!("differential.ovsschema");

/// A generator that is the same for ever (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn uuid(&mut self) -> Value {
        tree!(format!("00000000-0000-4000-8000-{:012}", self.below(24)))
    }

    fn atom(&mut self, base: &Value) -> Value {
        if let Some(values) = base["enum"][1].as_array()
            && self.chance(95)
        {
            return self.pick(values).clone();
        }
        match base["type"].as_str().or(base.as_str()).unwrap() {
            "integer" => tree!(self.below(9) as i64 - 2),
            "real" => self
                .pick(&[tree!(0), tree!(2.5), tree!(-1.25), tree!(1e10), tree!(0.1)])
                .clone(),
            "boolean" => tree!(self.chance(50)),
            "string" => self
                .pick(&["", "a", "b", "ab", "é", "long \" \\", "true"])
                .to_owned()
                .into(),
            _ if self.chance(20) => tree!(["named-uuid", format!("n{}", self.below(3))]),
            _ => tree!(["uuid", self.uuid()]),
        }
    }

    /// A value for a column; a few do not fit.
    fn value(&mut self, ty: &Value) -> Value {
        if self.chance(2) {
            let wrong = [
                tree!(5),
                tree!("x"),
                tree!(1.5),
                tree!(null),
                tree!(["set", [1, 2]]),
                tree!(["map", []]),
                tree!(["uuid", "x"]),
                tree!(["set", ["a", "a"]]),
            ];
            return self.pick(&wrong).clone();
        }
        let key = if ty.is_string() { ty } else { &ty["key"] };
        let min = ty["min"].as_u64().unwrap_or(1) as usize;
        let max = ty["max"]
            .as_u64()
            .unwrap_or(if ty["max"].is_string() { 4 } else { 1 })
            .min(4);
        let n = min + self.below(max as usize - min + 1);
        let mut keys: Vec<Value> = Vec::new();
        for _ in 0..n {
            let k = self.atom(key);
            if !keys.contains(&k) {
                keys.push(k);
            }
        }
        if let Some(value) = ty.get("value") {
            let pairs: Vec<Value> = keys
                .into_iter()
                .map(|k| Value::Array(vec![k, self.atom(value)]))
                .collect();
            return tree!(["map", pairs]);
        }
        match keys.len() {
            1 if self.chance(80) => keys.remove(0),
            _ => tree!(["set", keys]),
        }
    }
}

struct Generator {
    random: Random,
    tables: Map<String, Value>,
}

impl Generator {
    fn table(&mut self) -> String {
        let names: Vec<String> = self.tables.keys().cloned().collect();
        self.random.pick(&names).clone()
    }

    fn columns(&self, table: &str) -> Vec<(String, Value)> {
        let columns = self.tables[table]["columns"].as_object().unwrap();
        columns
            .iter()
            .map(|(n, c)| (n.clone(), c["type"].clone()))
            .collect()
    }

    fn row(&mut self, table: &str, percent: usize) -> Value {
        let mut row = Map::new();
        for (name, ty) in self.columns(table) {
            if self.random.chance(percent) {
                row.insert(name, self.random.value(&ty));
            }
        }
        Value::Object(row)
    }

    fn condition(&mut self, table: &str) -> Value {
        let mut clauses = Vec::new();
        for _ in 0..self.random.below(3) {
            if self.random.chance(30) {
                clauses.push(tree!(["_uuid", "==", ["uuid", self.random.uuid()]]));
                continue;
            }
            let columns = self.columns(table);
            let (name, ty) = self.random.pick(&columns).clone();
            let functions = ["==", "!=", "includes", "excludes", "<", ">="];
            let function = *self.random.pick(&functions);
            clauses.push(tree!([name, function, self.random.value(&ty)]));
        }
        Value::Array(clauses)
    }

    fn operation(&mut self) -> Value {
        let t = self.table();
        match self.random.below(100) {
            0..32 => {
                let mut op = tree!({"op": "insert", "table": t, "row": self.row(&t, 50),
                                    "uuid": self.random.uuid()});
                if self.random.chance(40) {
                    op["uuid-name"] = format!("n{}", self.random.below(3)).into();
                }
                op
            }
            32..52 => tree!({"op": "update", "table": t, "where": self.condition(&t),
                             "row": self.row(&t, 30)}),
            52..72 => {
                let columns = self.columns(&t);
                let (name, ty) = self.random.pick(&columns).clone();
                let mutators = ["+=", "-=", "/=", "%=", "insert", "delete"];
                let mutator = *self.random.pick(&mutators);
                let arg = match mutator {
                    "insert" | "delete" => self.random.value(&ty),
                    _ => self
                        .random
                        .pick(&[tree!(0), tree!(1), tree!(-1), tree!(1.5)])
                        .clone(),
                };
                tree!({"op": "mutate", "table": t, "where": self.condition(&t),
                       "mutations": [[name, mutator, arg]]})
            }
            72..82 => tree!({"op": "delete", "table": t, "where": self.condition(&t)}),
            82..94 => tree!({"op": "select", "table": t, "where": self.condition(&t)}),
            94..97 => tree!({"op": "wait", "timeout": 0, "table": t, "where": self.condition(&t),
                             "columns": [self.columns(&t)[0].0], "until": "==",
                             "rows": [self.row(&t, 20)]}),
            97 => tree!({"op": "abort"}),
            98 => tree!({"op": "comment", "comment": "c"}),
            _ => tree!({"op": "assert", "lock": "l"}),
        }
    }
}

/// A server with one client that monitors everything.
struct Server {
    socket: PathBuf,
    child: Child,
    stream: UnixStream,
    buffer: Vec<u8>,
    rows: Map<String, Value>,
}

impl Server {
    fn start(programs: Programs, db: &Path, dir: &Path, name: &str) -> Self {
        let socket = dir.join(format!("{name}.sock"));
        let child = Command::new(programs.path("ovsdb-server"))
            .arg(db)
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!(
                "--unixctl={}",
                dir.join(format!("{name}.ctl")).display()
            ))
            .arg("-vconsole:off")
            .env("OVS_RUNDIR", dir)
            .env("OVS_LOGDIR", dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let stream = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            UnixStream::connect(&socket).ok()
        });
        let stream = stream.expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut s = Self {
            socket,
            child,
            stream,
            buffer: Vec::new(),
            rows: Map::new(),
        };
        let all: Map<String, Value> = ["A", "B", "C", "W"]
            .iter()
            .map(|t| (t.to_string(), tree!({})))
            .collect();
        let initial = s
            .call("monitor", tree!(["d", "m", all]))
            .expect("the server lives");
        s.apply(&initial["result"]);
        s
    }

    fn apply(&mut self, updates: &Value) {
        for (table, rows) in updates.as_object().unwrap() {
            for (id, u) in rows.as_object().unwrap() {
                let key = format!("{table} {id}");
                let there = self.rows.contains_key(&key);
                assert_eq!(there, u.get("old").is_some(), "{key}");
                match u.get("new") {
                    Some(new) => self.rows.insert(key, comparable(new)),
                    None => self.rows.remove(&key),
                };
            }
        }
    }

    /// The reply; none if the server died.
    fn call(&mut self, method: &str, params: Value) -> Option<Value> {
        let request = json::to_string(&tree!({"method": method, "params": params, "id": 1}));
        self.stream.write_all(request.as_bytes()).ok()?;
        loop {
            while let Some(n) = message_len(&self.buffer) {
                let text: Vec<u8> = self.buffer.drain(..n).collect();
                let msg = json::parse_bytes(&text).unwrap();
                if msg["id"] == 1 {
                    return Some(msg);
                }
                self.apply(&msg["params"][1]);
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk).ok()? {
                0 => return None,
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The length of the first object in the buffer, if it is complete.
fn message_len(b: &[u8]) -> Option<usize> {
    let (mut depth, mut string, mut escaped) = (0, false, false);
    for (i, c) in b.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'{' if !string => depth += 1,
            b'}' if !string => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Without versions, rows of a result in one order.
fn comparable(v: &Value) -> Value {
    match v {
        Value::Object(m) => Value::Object(
            m.iter()
                .filter(|(k, _)| *k != "_version")
                .map(|(k, x)| {
                    let mut x = comparable(x);
                    if k == "rows"
                        && let Value::Array(rows) = &mut x
                    {
                        rows.sort_by_key(json::to_string);
                    }
                    (k.clone(), x)
                })
                .collect(),
        ),
        Value::Array(a) => {
            // Random UUIDs of symbols that nobody created.
            if let [Value::String(kind), Value::String(id)] = a.as_slice()
                && kind == "uuid"
                && !id.starts_with("00000000-0000")
            {
                return tree!(["uuid", "?"]);
            }
            let mut a: Vec<Value> = a.iter().map(comparable).collect();
            if a.first() == Some(&tree!("set"))
                && let Some(Value::Array(set)) = a.get_mut(1)
            {
                set.sort_by_key(json::to_string);
            }
            Value::Array(a)
        }
        other => other.clone(),
    }
}

/// A reply without what depends on the order of a hash table there.
fn essence(reply: &Value) -> Value {
    let mut reply = comparable(reply);
    for r in reply["result"].as_array_mut().into_iter().flatten() {
        let Some(tag) = r.get("error").and_then(Value::as_str) else {
            continue;
        };
        let about_row = ["syntax error", "constraint violation", "ovsdb error"].contains(&tag);
        *r = if about_row {
            tree!("refused")
        } else {
            tree!(tag)
        };
    }
    reply["result"].take()
}

#[test]
fn random_transactions_have_the_same_effect_as_in_open_vswitch() {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("d.ovsschema");
    std::fs::write(&schema, SCHEMA).unwrap();
    let tables = json::parse(SCHEMA).unwrap()["tables"]
        .as_object()
        .unwrap()
        .clone();
    let mut compared = 0;
    for seed in 1..=3u64 {
        let random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut generator = Generator {
            random,
            tables: tables.clone(),
        };
        let mut files = Vec::new();
        for (name, programs) in [("theirs", oracle()), ("ours", Programs::ours())] {
            let file = dir.path().join(format!("{name}{seed}.db"));
            let created = Command::new(programs.path("ovsdb-tool"))
                .args([&"create".into(), &file, &schema])
                .status();
            assert!(created.unwrap().success());
            files.push((file, programs));
        }
        let start = |i: usize, files: &[(PathBuf, Programs)]| {
            Server::start(
                files[i].1.clone(),
                &files[i].0,
                dir.path(),
                &format!("s{i}"),
            )
        };
        let (mut theirs, mut ours) = (start(0, &files), start(1, &files));
        for round in 0..600 {
            let n = 1 + generator.random.below(5);
            let mut params = vec![tree!("d")];
            params.extend((0..n).map(|_| generator.operation()));
            let params = Value::Array(params);
            // Some sequences crash Open vSwitch's server; ours must have survived them, too.
            let Some(a) = theirs.call("transact", params.clone()) else {
                assert!(ours.call("transact", params).is_some());
                break;
            };
            let b = ours
                .call("transact", params.clone())
                .expect("our server lives");
            assert_eq!(
                essence(&a),
                essence(&b),
                "seed {seed}, round {round}: {params}"
            );
            assert_eq!(
                theirs.rows, ours.rows,
                "seed {seed}, round {round}: {params}"
            );
            compared += 1;
            if round == 300 {
                // Each goes on with the file that the other wrote.
                drop(theirs);
                drop(ours);
                let swapped = files[0].0.clone();
                files[0].0 = std::mem::replace(&mut files[1].0, swapped);
                (theirs, ours) = (start(0, &files), start(1, &files));
                assert_eq!(
                    theirs.rows, ours.rows,
                    "seed {seed}: after the exchange of files"
                );
            }
        }
        drop(theirs);
        drop(ours);
    }
    assert!(compared > 500, "only {compared} transactions were compared");
}
