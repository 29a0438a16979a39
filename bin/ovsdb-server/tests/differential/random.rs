//! Random schemas, transactions and conversions to Open vSwitch's ovsdb-server and to ours: replies, updates of
//! all kinds of monitors, contents, and what each reads from the other's file must be equal.
//!
//! `FERROVS_DIFFERENTIAL=120` sets how many schemas there are, `FERROVS_DIFFERENTIAL_FIRST` the first seed.

use std::path::Path;

use ferrovs_ovsdb::json;
use ferrovs_testkit::Programs;
use ferrovs_testkit::database::{self, Choose, Generator, NAME, Random};
use ferrovs_testkit::oracle::oracle;
use serde_json::{Map, Value, json as tree};

use crate::compare::{Count, comparable, notifications};
use crate::peer::{Answer, Peer};

const TRANSACTIONS: usize = 100;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

/// Both servers with one database each.
struct Pair {
    theirs: Peer,
    ours: Peer,
    count: Count,
    /// They differ or died: no more of this schema.
    over: bool,
    seed: u64,
    schema: Value,
    /// What was asked to be monitored.
    monitors: Vec<Value>,
}

impl Pair {
    /// Calls both and compares everything but the reply of a transaction.
    fn call(&mut self, method: &str, params: &Value) -> Option<(Answer, Answer)> {
        let a = self.theirs.call(method, params);
        let b = self.ours.call(method, params);
        let Some(a) = a else {
            // Some sequences crash Open vSwitch's server; ours must have survived them, too.
            assert!(b.is_some(), "seed {}: both died of {params}", self.seed);
            let why = self.theirs.last_words();
            eprintln!(
                "seed {}: theirs died of {method} {params}: {why}",
                self.seed
            );
            self.over = true;
            return None;
        };
        let b = b.unwrap_or_else(|| panic!("seed {}: ours died of {params}", self.seed));
        Some((a, b))
    }

    fn same(&mut self, method: &str, params: &Value) -> Option<Value> {
        let (a, mut b) = self.call(method, params)?;
        if method.starts_with("monitor") {
            self.monitors.push(params.clone());
        }
        if method.starts_with("monitor_cond") && a.reply["error"].is_object() {
            self.ask_by_table(method, params, &a, &mut b);
        }
        if method == "convert" && a.reply["error"].is_object() && b.reply["error"].is_object() {
            // Which of several values that do not fit is named follows a hash order.
            return Some(a.reply);
        }
        let what = format!("seed {}: {method} {}", self.seed, json::to_string(params));
        assert_eq!(
            json::to_string(&comparable(&a.reply)),
            json::to_string(&comparable(&b.reply)),
            "{what}"
        );
        assert_eq!(
            notifications(&a.notifications),
            notifications(&b.notifications),
            "{what}"
        );
        Some(a.reply)
    }

    /// Which of several wrong tables Open vSwitch names follows a hash order: ours is asked about each alone.
    fn ask_by_table(&mut self, method: &str, params: &Value, theirs: &Answer, ours: &mut Answer) {
        if ours.reply["error"].is_null() || ours.reply == theirs.reply {
            return;
        }
        for (table, request) in params[2].as_object().into_iter().flatten() {
            let mut params = params.clone();
            params[2] = tree!({table: request});
            let Some(one) = self.ours.call(method, &params) else {
                return;
            };
            if one.reply == theirs.reply {
                ours.reply = one.reply;
                return;
            }
            if one.reply["error"].is_null() && method != "monitor_cond_change" {
                self.ours.call("monitor_cancel", &tree!([params[1]]));
            }
        }
    }

    fn transact(&mut self, params: &Value) {
        let Some((a, b)) = self.call("transact", params) else {
            return;
        };
        if let Some(difference) = self.count.difference(params, &a, &b, &mut self.ours) {
            if self.dangles(true) && !self.dangles(false) {
                self.count.dangling += 1;
                self.over = true;
                return;
            }
            let text = json::to_string(params);
            let monitors = json::to_string(&tree!(self.monitors));
            panic!(
                "seed {}: {text}\n{difference}\nmonitors {monitors}",
                self.seed
            );
        }
    }

    /// True if a server shows a weak reference to a row that is not there. Open vSwitch 3.1 leaves them in a row
    /// that changes in the transaction that deletes what it refers to; then there is nothing more to compare.
    fn dangles(&mut self, theirs: bool) -> bool {
        let tables = self.schema["tables"].as_object().unwrap().clone();
        let peer = if theirs {
            &mut self.theirs
        } else {
            &mut self.ours
        };
        let mut rows = Map::new();
        for t in tables.keys() {
            let all = tree!([NAME, {"op": "select", "table": t, "where": []}]);
            let Some(answer) = peer.call("transact", &all) else {
                return false;
            };
            rows.insert(t.clone(), answer.reply["result"][0]["rows"].clone());
        }
        let there = |table: &str, id: &Value| {
            let all = rows[table].as_array().unwrap();
            all.iter().any(|r| r["_uuid"] == *id)
        };
        tables.iter().any(|(t, table)| {
            let columns = table["columns"].as_object().unwrap();
            columns.iter().any(|(c, column)| {
                let mut values = rows[t].as_array().unwrap().iter().map(|r| &r[c]);
                let ty = &column["type"];
                values.any(|v| {
                    let members = match v[0].as_str() {
                        Some("set" | "map") => v[1].as_array().unwrap().clone(),
                        _ => vec![v.clone()],
                    };
                    let dangling = |base: &Value, id: &Value| {
                        base["refType"] == "weak" && !there(base["refTable"].as_str().unwrap(), id)
                    };
                    members.iter().any(|m| match ty.get("value") {
                        Some(value) => dangling(&ty["key"], &m[0]) || dangling(value, &m[1]),
                        None => dangling(&ty["key"], m),
                    })
                })
            })
        })
    }

    /// All kinds of monitors, on everything or a part. No two of the same columns: Open vSwitch 3.1 makes one of
    /// them, whose clients then share their conditions in part (changes are lost, or the server dies).
    fn monitor(&mut self, g: &mut Generator<Random>) {
        let all: Map<String, Value> = g.tables().map(|t| (t.clone(), tree!({}))).collect();
        let mut seen = vec![g.monitored(&tree!(all))];
        self.same("monitor", &tree!([NAME, "all", all]));
        for (method, id) in [
            ("monitor", tree!(["v1"])),
            ("monitor_cond", tree!({"v": 2})),
            ("monitor_cond_since", tree!("v3")),
        ] {
            let request = g.monitor(method != "monitor");
            let columns = g.monitored(&request);
            if seen.contains(&columns) {
                continue;
            }
            seen.push(columns);
            let mut params = tree!([NAME, id, request]);
            if method == "monitor_cond_since" {
                let last = "00000000-0000-0000-0000-000000000000";
                params.as_array_mut().unwrap().push(last.into());
            }
            self.same(method, &params);
        }
    }

    fn change_condition(&mut self, g: &mut Generator<Random>) {
        let table = g.table();
        let wher = g.monitor_condition(&table);
        let request = tree!({"where": wher});
        let request = if g.choose.chance(50) {
            request
        } else {
            tree!([request])
        };
        let id = g.choose.pick(&[tree!({"v": 2}), tree!("v3")]).clone();
        self.same("monitor_cond_change", &tree!([id, id, {table: request}]));
    }

    fn contents(&mut self, g: &Generator<Random>) {
        for t in g.tables().cloned().collect::<Vec<_>>() {
            self.same(
                "transact",
                &tree!([NAME, {"op": "select", "table": t, "where": []}]),
            );
        }
    }
}

#[test]
fn random_databases_live_as_in_open_vswitch() {
    let dir = tempfile::tempdir().unwrap();
    let first = number("FERROVS_DIFFERENTIAL_FIRST", 1);
    let (mut total, mut died, mut differ) = (Count::default(), 0, Vec::new());
    for seed in first..first + number("FERROVS_DIFFERENTIAL", 20) {
        let dir = dir.path().join(seed.to_string());
        std::fs::create_dir(&dir).unwrap();
        // One database that differs does not hide the others.
        let Ok((count, over)) = std::panic::catch_unwind(|| one_database(&dir, seed)) else {
            differ.push(seed);
            continue;
        };
        died += usize::from(over);
        total.add(&count);
    }
    eprintln!("{total:?}, Open vSwitch's server died {died} times");
    assert!(differ.is_empty(), "differences with seeds {differ:?}");
    assert!(
        total.committed * 4 > total.compared,
        "most transactions should do something"
    );
}

fn one_database(dir: &Path, seed: u64) -> (Count, bool) {
    let mut random = Random::new(seed);
    let schema = database::schema(&mut random);
    let mut g = Generator::new(random, &schema);
    let schema_file = dir.join("schema");
    std::fs::write(&schema_file, json::to_string(&schema)).unwrap();
    let (theirs, ours) = (dir.join("theirs.db"), dir.join("ours.db"));
    Peer::create(&oracle(), &theirs, &schema_file);
    Peer::create(&Programs::ours(), &ours, &schema_file);
    let mut pair = Pair {
        theirs: Peer::start(&oracle(), &theirs, "theirs"),
        ours: Peer::start(&Programs::ours(), &ours, "ours"),
        count: Count::default(),
        over: false,
        seed,
        schema,
        monitors: Vec::new(),
    };
    let start = |pair: &mut Pair, g: &mut Generator<Random>| {
        pair.same("get_schema", &tree!([NAME]));
        pair.same("set_db_change_aware", &tree!([true]));
        pair.same("lock", &tree!(["held"]));
        pair.contents(g);
        pair.monitor(g);
    };
    start(&mut pair, &mut g);
    for round in 0..TRANSACTIONS {
        if pair.over {
            break;
        }
        match g.choose.below(20) {
            0 => pair.change_condition(&mut g),
            1 if round > 20 && g.choose.chance(50) => {
                let next = database::descendant(&mut g.choose, &pair.schema);
                let (Some(reply), false) = (pair.same("convert", &tree!([NAME, next])), pair.over)
                else {
                    continue;
                };
                if reply["error"].is_null() {
                    g.set_schema(&next);
                    pair.schema = next;
                    pair.monitor(&mut g);
                }
            }
            _ => {}
        }
        let mut params = g.transaction();
        for op in params.as_array_mut().into_iter().flatten() {
            // Nothing here would end a wait.
            if op["op"] == "wait" && op["timeout"].as_f64().is_none_or(|t| t > 10.0) {
                op["timeout"] = 0.into();
            }
        }
        pair.transact(&params);
        if round == TRANSACTIONS / 2 && !pair.over {
            pair.contents(&g);
            let Pair {
                theirs: t,
                ours: o,
                count,
                schema,
                ..
            } = pair;
            drop((t, o));
            if database::is_misread(&schema) {
                std::fs::copy(&ours, &theirs).unwrap();
            }
            // Each goes on with the file that the other wrote.
            pair = Pair {
                theirs: Peer::start(&oracle(), &ours, "theirs"),
                ours: Peer::start(&Programs::ours(), &theirs, "ours"),
                count,
                over: false,
                seed,
                schema,
                monitors: Vec::new(),
            };
            start(&mut pair, &mut g);
        }
    }
    if !pair.over {
        pair.contents(&g);
    }
    (pair.count, pair.over)
}
