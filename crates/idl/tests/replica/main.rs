//! The replica against real servers, Open vSwitch's and ours.
//!
//! The first tests let a proxy cut connections anywhere while the database and the conditions
//! change at random: what the replica reports as changed must add up to what it holds, always, and
//! in the end it must hold what the server holds. The others show single properties that need a
//! real server: clusters, conversions, locks, verification.
#![forbid(unsafe_code)]

mod model;
mod proxy;
mod server;

use ferrovs_idl::kind::{Int, Map, Opt, Real, Ref, Set, Str};
use ferrovs_idl::schema::{
    INTEGER, REAL, STRING, map, one, optional, schema_json_text, set, strong, weak,
};
use ferrovs_idl::{Condition, Function, Idl, Options, Status, Table, Txn, Uuid, database};
use ferrovs_runtime::{Poller, clock};
use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;
use model::{Contents, contents, expected, follow};
use proxy::Proxy;
use serde_json::{Value, json};
use server::{Model, Raw, Server};
use std::time::Duration;

database! {
    extern
    /// A database with every kind of column.
    TEST = "test" "1.0.0" "0 0";

    /// Rows that stay.
    table Node = "Node" (is_root: true) {
        /// Rows that stay as long as this one refers to them.
        EDGES edges: Set<Ref> = set(strong("Leaf"));
        /// Something optional.
        KIND kind: Opt<Str> = optional(STRING);
        /// A name, not unique.
        NAME name: Str = one(STRING);
        /// Pairs.
        PAIRS pairs: Map<Str, Str> = map(STRING, STRING);
        /// Another node.
        PEER peer: Opt<Ref> = optional(weak("Node"));
        /// Numbers.
        TAGS tags: Set<Int> = set(INTEGER);
        /// A number.
        VALUE value: Int = one(INTEGER);
        /// Another number.
        WEIGHT weight: Real = one(REAL);
    }

    /// Rows that hang from nodes.
    table Leaf = "Leaf" (is_root: false) {
        /// A name.
        NAME name: Str = one(STRING);
        /// A number.
        VALUE value: Int = one(INTEGER);
    }
}

/// A generator that is the same for ever (xorshift64*).
pub struct Random(u64);

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

    fn number(&mut self) -> i64 {
        self.below(6) as i64
    }

    fn name(&mut self) -> String {
        format!("n{}", self.below(5))
    }
}

/// A client that changes the database behind the replica's back.
struct Writer {
    raw: Raw,
    nodes: Vec<String>,
}

impl Writer {
    fn columns(&mut self, random: &mut Random) -> Value {
        let mut row = json!({});
        if random.chance(50) {
            row["name"] = random.name().into();
        }
        if random.chance(50) {
            row["value"] = random.number().into();
        }
        if random.chance(30) {
            row["weight"] = json!(random.number() as f64 / 4.0);
        }
        if random.chance(30) {
            row["kind"] = match random.chance(50) {
                true => json!(["set", []]),
                false => random.name().into(),
            };
        }
        if random.chance(30) {
            let tags: std::collections::BTreeSet<i64> =
                (0..random.below(4)).map(|_| random.number()).collect();
            row["tags"] = json!(["set", tags]);
        }
        if random.chance(30) {
            row["pairs"] = json!(["map", [[random.name(), random.name()]]]);
        }
        if random.chance(20) && !self.nodes.is_empty() {
            let peer = &self.nodes[random.below(self.nodes.len())];
            row["peer"] = json!(["uuid", peer]);
        }
        row
    }

    fn step(&mut self, random: &mut Random) {
        let mut ops = Vec::new();
        for _ in 0..1 + random.below(3) {
            let node = (!self.nodes.is_empty()).then(|| random.below(self.nodes.len()));
            let mut row = self.columns(random);
            match (random.below(10), node) {
                (0..4, _) | (_, None) => {
                    if random.chance(40) {
                        let leaf = format!("leaf{}", ops.len());
                        let value = random.number();
                        ops.push(json!({"op": "insert", "table": "Leaf", "uuid-name": leaf,
                            "row": {"name": random.name(), "value": value}}));
                        row["edges"] = json!(["named-uuid", leaf]);
                    }
                    ops.push(json!({"op": "insert", "table": "Node", "row": row}));
                }
                (4..6, Some(i)) => {
                    let pair = json!(["map", [[random.name(), random.name()]]]);
                    ops.push(
                        json!({"op": "mutate", "table": "Node", "where": by_id(&self.nodes[i]),
                        "mutations": [["tags", "insert", random.number()],
                            ["pairs", "insert", pair], ["value", "+=", 1]]}),
                    );
                }
                (6..8, Some(i)) => ops.push(
                    json!({"op": "update", "table": "Node", "where": by_id(&self.nodes[i]),
                        "row": row}),
                ),
                (8, Some(_)) => ops.push(
                    json!({"op": "update", "table": "Leaf", "where": [["value", "==", random.number()]],
                        "row": {"value": random.number()}}),
                ),
                (_, Some(i)) => {
                    let id = self.nodes.swap_remove(i);
                    ops.push(json!({"op": "delete", "table": "Node", "where": by_id(&id)}));
                }
            }
        }
        let reply = self.raw.transact(ops.clone());
        for (op, result) in ops.iter().zip(reply.as_array().unwrap()) {
            if let (true, Some(id)) = (op["table"] == "Node", result["uuid"][1].as_str()) {
                self.nodes.push(id.to_string());
            }
        }
    }
}

fn by_id(id: &str) -> Value {
    json!([["_uuid", "==", ["uuid", id]]])
}

fn random_condition(random: &mut Random, table: usize, writer: &Writer) -> Condition {
    let mut condition = match random.below(6) {
        0 => return Condition::none(),
        1 | 2 => return Condition::all(),
        _ => Condition::none(),
    };
    for _ in 0..1 + random.below(3) {
        let n = random.number();
        condition = if table == Leaf::INDEX {
            match random.below(2) {
                0 => condition.or(Leaf::VALUE, Function::Lt, n),
                _ => condition.or(Leaf::NAME, Function::Eq, random.name()),
            }
        } else {
            match random.below(8) {
                0 => condition.or(Node::NAME, Function::Eq, random.name()),
                1 => condition.or(Node::NAME, Function::Ne, random.name()),
                2 => condition.or(Node::VALUE, Function::Gt, n),
                3 => condition.or(Node::VALUE, Function::Le, n),
                4 => condition.or(Node::TAGS, Function::Includes, [n]),
                5 => condition.or(
                    Node::PAIRS,
                    Function::Excludes,
                    [(random.name(), random.name())],
                ),
                6 => condition.or(Node::KIND, Function::Eq, Some(random.name())),
                _ => match writer.nodes.first() {
                    Some(id) => condition.or_row(id.parse().unwrap()),
                    None => condition,
                },
            }
        };
    }
    condition
}

/// A transaction of the replica's owner that is on its way.
fn own_transaction(random: &mut Random, idl: &mut Idl) -> Txn {
    let mut txn = Txn::new();
    let row = idl.first::<Node>().map(|row| row.uuid());
    match row {
        Some(id) if random.chance(10) => txn.delete::<Node>(id),
        Some(id) if random.chance(20) => {
            let n = ferrovs_idl::Datum::from(ferrovs_idl::Atom::Integer(random.number()));
            txn.add(idl, Node::INDEX, id, Node::TAGS.index(), &n);
            let n = ferrovs_idl::Datum::from(ferrovs_idl::Atom::Integer(random.number()));
            txn.remove(idl, Node::INDEX, id, Node::TAGS.index(), &n);
            let key = ferrovs_idl::Datum::string(&random.name());
            txn.remove(idl, Node::INDEX, id, Node::PAIRS.index(), &key);
        }
        Some(id) if random.chance(50) => {
            txn.verify(idl, id, Node::NAME);
            txn.set(id, Node::WEIGHT, random.number() as f64);
            let pair = ferrovs_idl::Datum::from_pairs(vec![(
                random.name().as_str().into(),
                random.name().as_str().into(),
            )]);
            txn.put(idl, Node::INDEX, id, Node::PAIRS.index(), &pair);
        }
        _ => {
            let leaf = txn.insert::<Leaf>();
            txn.set(leaf, Leaf::NAME, random.name());
            let node = txn.insert::<Node>();
            txn.set(node, Node::NAME, random.name());
            txn.set(node, Node::EDGES, [leaf]);
        }
    }
    txn
}

/// Changes, cuts and conditions at random; then calm, and everything must be there.
/// How many connections were cut, and how many transactions of the replica's owner succeeded.
fn converge(programs: Programs, kind: Model, seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let mut server = Server::start(programs, kind, &schema_json_text(&TEST));
    let proxy = Proxy::new(&server.socket, seed);
    let mut writer = Writer {
        raw: Raw::connect(&server),
        nodes: Vec::new(),
    };
    for _ in 0..40 {
        writer.step(&mut random);
    }
    let mut now = clock::now();
    let remote = format!("unix:{}", proxy.socket.display());
    let mut idl = Idl::new(&remote, &TEST, Options::default(), now);
    idl.monitor_all();
    let references = seed.is_multiple_of(2);
    match references {
        true => idl.track_references(),
        false => idl.track_changes(),
    }
    let mut model = Contents::new();
    let mut txn: Option<Txn> = None;
    let mut outcomes = std::collections::BTreeMap::new();
    for step in 0..800 {
        if random.chance(50) {
            writer.step(&mut random);
        }
        if random.chance(4) {
            let table = random.below(2);
            let condition = random_condition(&mut random, table, &writer);
            idl.set_table_condition(table, condition);
        }
        if random.chance(1) {
            idl.force_reconnect(now);
        }
        if step == 400 {
            server.kill();
            server.run();
            writer.raw = Raw::connect(&server);
        }
        idl.run(now);
        match &mut txn {
            Some(sent) => {
                let status = sent.commit(&mut idl);
                if status.is_final() {
                    *outcomes.entry(status.name()).or_insert(0) += 1;
                    assert!(!matches!(status, Status::Error(_)), "{status:?}");
                    txn = None;
                }
            }
            None if random.chance(10) => txn = Some(own_transaction(&mut random, &mut idl)),
            None => {}
        }
        if random.chance(30) {
            follow(&mut model, &mut idl, references);
        }
        // Connections are tried a second apart.
        now += Duration::from_millis(if idl.is_connected() { 1 } else { 300 });
        std::thread::sleep(Duration::from_micros(300));
    }
    proxy.calm();
    let conditions = [
        idl.condition::<Node>().clone(),
        idl.condition::<Leaf>().clone(),
    ];
    let end = clock::now() + Duration::from_secs(20);
    let want = expected(&mut writer.raw, &TEST, &conditions);
    loop {
        idl.run(now);
        follow(&mut model, &mut idl, references);
        if contents(&idl) == want && idl.is_connected() {
            break;
        }
        assert!(
            clock::now() < end,
            "seed {seed}: the replica does not converge"
        );
        now += Duration::from_millis(100);
        std::thread::sleep(Duration::from_millis(1));
    }
    (proxy.cuts(), outcomes.get("success").copied().unwrap_or(0))
}

fn converge_often(programs: &Programs, kind: Model, seed: u64) {
    let (mut cuts, mut commits) = (0, 0);
    for seed in seed + 1..=seed + 6 {
        let (n, m) = converge(programs.clone(), kind, seed);
        cuts += n;
        commits += m;
    }
    assert!(cuts > 20 && commits > 20, "{cuts} cuts, {commits} commits");
}

#[test]
fn through_cut_connections_the_replica_converges_to_open_vswitchs_server() {
    converge_often(&oracle(), Model::Standalone, 0x51ed_0000);
}

#[test]
fn through_cut_connections_the_replica_converges_to_a_cluster() {
    converge_often(&oracle(), Model::Cluster, 0x51ed_1000);
}

#[test]
fn through_cut_connections_the_replica_converges_to_our_server() {
    converge_often(&Programs::ours(), Model::Standalone, 0x51ed_2000);
}

/// Runs the replica until `done`.
fn until(idl: &mut Idl, what: &str, mut done: impl FnMut(&mut Idl) -> bool) {
    let end = clock::now() + Duration::from_secs(20);
    loop {
        idl.run(clock::now());
        if done(idl) {
            return;
        }
        assert!(clock::now() < end, "{what}");
        // What is waited for may also be elsewhere.
        let mut poller = Poller::new();
        idl.wait(&mut poller);
        poller.wait_until(clock::now() + Duration::from_millis(10));
        poller.block();
    }
}

fn replica(remote: &str, options: Options) -> Idl {
    let mut idl = Idl::new(remote, &TEST, options, clock::now());
    idl.monitor_all();
    idl.track_changes();
    idl
}

fn insert(server: &Server, name: &str) {
    let op = json!({"op": "insert", "table": "Node", "row": {"name": name}});
    let reply = Raw::connect(server).transact(vec![op]);
    assert!(reply[0].get("uuid").is_some(), "{reply}");
}

fn both() -> [Programs; 2] {
    [oracle(), Programs::ours()]
}

#[test]
fn a_server_without_conditions_is_monitored_whole() {
    for programs in both() {
        let server = Server::start(programs, Model::Standalone, &schema_json_text(&TEST));
        server.appctl(&["ovsdb-server/disable-monitor-cond"]);
        insert(&server, "a");
        let mut idl = replica(&server.remote(), Options::default());
        let seqno = idl.set_condition::<Node>(Condition::none());
        until(&mut idl, "no contents", |idl| {
            idl.condition_seqno() >= seqno && idl.rows::<Node>().count() == 1
        });
        insert(&server, "b");
        until(&mut idl, "no update", |idl| idl.rows::<Node>().count() == 2);
        // Such a server cannot do more, so a change counts as done.
        let seqno = idl.set_condition::<Node>(Condition::all());
        until(&mut idl, "no progress", |idl| {
            idl.condition_seqno() >= seqno
        });
    }
}

#[test]
fn the_condition_seqno_says_when_rows_have_come_and_gone() {
    for programs in both() {
        let server = Server::start(programs, Model::Standalone, &schema_json_text(&TEST));
        insert(&server, "a");
        insert(&server, "b");
        let mut idl = replica(&server.remote(), Options::default());
        let a = Condition::none().or(Node::NAME, Function::Eq, "a");
        let first = idl.set_condition::<Node>(a.clone());
        until(&mut idl, "no contents", |idl| idl.has_ever_connected());
        assert_eq!(
            (idl.condition_seqno(), idl.rows::<Node>().count()),
            (first, 1)
        );
        // One that is on its way and one that waits for it.
        let second = idl.set_condition::<Node>(Condition::none());
        idl.run(clock::now());
        let third = idl.set_condition::<Node>(a.or(Node::NAME, Function::Eq, "b"));
        assert_eq!((second, third), (first + 1, first + 2));
        assert_eq!(idl.set_condition::<Leaf>(Condition::all()), third);
        let mut seen = Vec::new();
        until(&mut idl, "no change", |idl| {
            let state = (idl.condition_seqno(), idl.rows::<Node>().count());
            if seen.last() != Some(&state) {
                seen.push(state);
            }
            idl.condition_seqno() == third
        });
        assert_eq!(seen.last(), Some(&(third, 2)));
    }
}

#[test]
fn only_the_leader_of_a_cluster_is_used_and_its_successor_resumes() {
    let first = Server::start(oracle(), Model::Cluster, &schema_json_text(&TEST));
    let mut members = vec![Server::join(&first), Server::join(&first)];
    members.insert(0, first);
    insert(&members[0], "a");
    let remotes: Vec<String> = members.iter().map(Server::remote).collect();
    let mut idl = replica(&remotes.join(","), Options::default());
    until(&mut idl, "no leader", |idl| idl.rows::<Node>().count() == 1);
    assert_eq!(idl.remote(), remotes[0]);
    let kept = idl.first::<Node>().unwrap().uuid();
    idl.clear_changes();
    members[0].kill();
    until(&mut idl, "still connected", |idl| !idl.is_connected());
    // What was there can be read all the time.
    until(&mut idl, "no new leader", |idl| {
        assert!(idl.row::<Node>(kept).is_some());
        idl.is_connected()
    });
    assert_ne!(idl.remote(), remotes[0]);
    assert!(!idl.has_changes());
    let mut txn = Txn::new();
    let row = txn.insert::<Node>();
    txn.set(row, Node::NAME, "b");
    until(&mut idl, "no commit", |idl| txn.commit(idl).is_final());
    assert_eq!(*txn.status(), Status::Success);
    until(&mut idl, "no row", |idl| idl.rows::<Node>().count() == 2);
    // Any member will do for who does not insist; other remotes can be told meanwhile.
    let follower = remotes[1..].iter().find(|r| *r != idl.remote()).unwrap();
    idl.set_leader_only(false, clock::now());
    idl.set_remote(follower, clock::now());
    until(&mut idl, "no follower", |idl| {
        idl.is_connected() && idl.remote() == follower
    });
    assert_eq!(idl.rows::<Node>().count(), 2);
}

#[test]
fn a_conversion_brings_the_columns_that_were_missing() {
    for programs in both() {
        let full = schema_json_text(&TEST);
        let mut old: Value = serde_json::from_str(&full).unwrap();
        old["tables"]["Node"]["columns"]
            .as_object_mut()
            .unwrap()
            .remove("value");
        let server = Server::start(programs, Model::Standalone, &old.to_string());
        insert(&server, "a");
        for aware in [true, false] {
            let mut idl = replica(&server.remote(), Options::default());
            idl.set_db_change_aware(aware);
            until(&mut idl, "no contents", |idl| idl.first::<Node>().is_some());
            assert_eq!(idl.first::<Node>().unwrap().get(Node::VALUE), 0);
            let column = Node::VALUE.index();
            assert!(!idl.server_has_column(Node::INDEX, column));
            idl.clear_changes();
            let new = server.dir.path().join("new");
            std::fs::write(&new, &full).unwrap();
            server.tool(
                "ovsdb-client",
                &["convert", &server.remote(), &new.display().to_string()],
            );
            until(&mut idl, "no new schema", |idl| {
                idl.is_connected() && idl.server_has_column(Node::INDEX, column)
            });
            assert!(!idl.has_changes());
            let update = json!({"op": "update", "table": "Node", "where": [], "row": {"value": 7}});
            Raw::connect(&server).transact(vec![update]);
            until(&mut idl, "no value", |idl| {
                idl.first::<Node>()
                    .is_some_and(|row| row.get(Node::VALUE) == 7)
            });
            std::fs::write(&new, old.to_string()).unwrap();
            server.tool(
                "ovsdb-client",
                &["convert", &server.remote(), &new.display().to_string()],
            );
        }
    }
}

#[test]
fn a_database_that_leaves_and_comes_back_is_followed() {
    for programs in both() {
        let server = Server::start(programs, Model::Standalone, &schema_json_text(&TEST));
        insert(&server, "a");
        for aware in [true, false] {
            let mut idl = replica(&server.remote(), Options::default());
            idl.set_db_change_aware(aware);
            until(&mut idl, "no contents", |idl| idl.first::<Node>().is_some());
            idl.clear_changes();
            server.appctl(&["ovsdb-server/remove-db", "test"]);
            until(&mut idl, "still there", |idl| !idl.is_connected());
            assert_ne!(idl.rows::<Node>().count(), 0);
            server.appctl(&["ovsdb-server/add-db", &server.database()]);
            insert(&server, "b");
            until(&mut idl, "not back", |idl| idl.is_connected());
            let changes: Vec<_> = idl.changes::<Node>().collect();
            assert!(
                matches!(changes[..], [(_, change)] if change.inserted),
                "{changes:?}"
            );
        }
    }
}

#[test]
fn a_lock_passes_on_and_only_its_owner_may_write() {
    for programs in both() {
        let server = Server::start(programs, Model::Standalone, &schema_json_text(&TEST));
        let mut one = replica(&server.remote(), Options::default());
        one.set_lock(Some("l"));
        until(&mut one, "no lock", |idl| {
            idl.has_lock() && idl.is_connected()
        });
        let mut two = replica(&server.remote(), Options::default());
        two.set_lock(Some("l"));
        until(&mut two, "no contention", |idl| {
            idl.is_lock_contended() && idl.is_connected()
        });
        let mut txn = Txn::new();
        txn.insert::<Node>();
        assert_eq!(txn.commit(&mut two), Status::NotLocked);
        let mut txn = Txn::new();
        txn.insert::<Node>();
        txn.commit(&mut one);
        until(&mut one, "no commit", |idl| txn.commit(idl).is_final());
        assert_eq!(*txn.status(), Status::Success);
        let seqno = two.seqno();
        one.set_lock(None);
        until(&mut one, "not sent", |_| {
            two.run(clock::now());
            two.has_lock()
        });
        assert_ne!(two.seqno(), seqno);
    }
}

#[test]
fn verification_increments_and_rows_of_given_uuid_work_with_real_servers() {
    for programs in both() {
        let server = Server::start(programs, Model::Standalone, &schema_json_text(&TEST));
        insert(&server, "a");
        let mut idl = replica(&server.remote(), Options::default());
        until(&mut idl, "no contents", |idl| idl.first::<Node>().is_some());
        let id = idl.first::<Node>().unwrap().uuid();
        // The database changes under a transaction that looks at what changed.
        let mut txn = Txn::new();
        txn.verify(&idl, id, Node::VALUE);
        txn.set(id, Node::KIND, Some("x"));
        let update = json!({"op": "update", "table": "Node", "where": [], "row": {"value": 7}});
        Raw::connect(&server).transact(vec![update]);
        let status = loop {
            let status = txn.commit(&mut idl);
            if status.is_final() {
                break status;
            }
            idl.run(clock::now());
        };
        assert_eq!(status, Status::TryAgain);
        until(&mut idl, "no update", |idl| {
            idl.row::<Node>(id).unwrap().get(Node::VALUE) == 7
        });
        let mut txn = Txn::new();
        let given = Uuid::new_v4();
        txn.insert_persistent(Node::INDEX, given);
        txn.set(id, Node::PEER, Some(given));
        txn.increment(Node::INDEX, id, Node::VALUE.index(), false);
        assert_eq!(txn.commit(&mut idl), Status::Incomplete);
        // Until the server has said so, nothing is different.
        assert_eq!(idl.row::<Node>(id).unwrap().get(Node::PEER), None);
        until(&mut idl, "no commit", |idl| txn.commit(idl).is_final());
        assert_eq!(*txn.status(), Status::Success);
        assert_eq!(
            (txn.increment_result(), txn.insert_uuid(given)),
            (8, Some(given))
        );
        until(&mut idl, "no update", |idl| {
            idl.row::<Node>(given).is_some()
                && idl.row::<Node>(id).unwrap().get(Node::PEER) == Some(given)
        });
        // A dry run is checked and leaves nothing.
        let mut txn = Txn::new();
        txn.set_dry_run();
        txn.delete::<Node>(given);
        until(&mut idl, "no commit", |idl| txn.commit(idl).is_final());
        assert_eq!(*txn.status(), Status::Success);
        let conditions = [Condition::all(), Condition::all()];
        let want = expected(&mut Raw::connect(&server), &TEST, &conditions);
        assert_eq!(contents(&idl), want);
    }
}
