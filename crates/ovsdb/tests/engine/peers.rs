//! A source with a backup and a relay, connected in memory: whatever is done to the source or
//! through the relay, and wherever the connections are cut, all three end with the same contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrovs_ovsdb::monitor::SessionId;
use ferrovs_ovsdb::peer::Call;
use ferrovs_ovsdb::relay::Relay;
use ferrovs_ovsdb::replication::{Replication, Status};
use ferrovs_ovsdb::server::{Access, Backing, Db, Server};
use ferrovs_ovsdb::{Database, DatabaseSchema, json};
use ferrovs_testkit::database::{Choose, Generator, NAME, Random, schema};
use serde_json::{Value, json as tree};

use crate::{contents, now};

/// A server, and what its sessions have got and not looked at.
struct Node {
    server: Server,
    mail: BTreeMap<SessionId, Vec<Value>>,
}

impl Node {
    fn new(db: Db) -> Self {
        let mut server = Server::new(now());
        assert!(server.add_db(db));
        server.run(now());
        Self {
            server,
            mail: BTreeMap::new(),
        }
    }

    /// A request of a session.
    fn request(&mut self, session: SessionId, method: &str, params: Value, id: Value) {
        let Value::Array(params) = params else {
            panic!("an array")
        };
        self.server.request(session, method, params, id, now());
    }

    /// What a session has got.
    fn output(&mut self, session: SessionId) -> Vec<Value> {
        self.server.run(now());
        self.server.flush(|_| true);
        self.server.output(|s, texts| {
            let parsed = texts.iter().map(|t| json::parse_bytes(t.as_bytes()));
            let mail = self.mail.entry(s).or_default();
            mail.extend(parsed.map(Result::unwrap));
        });
        self.mail.remove(&session).unwrap_or_default()
    }

    /// Sends calls over a connection and returns what came back.
    fn exchange(&mut self, session: SessionId, calls: Vec<Call>) -> Vec<Value> {
        for call in calls {
            let message = json::parse_bytes(&call.into_text()).unwrap();
            let method = message["method"].as_str().unwrap().to_owned();
            let (params, id) = (message["params"].clone(), message["id"].clone());
            self.request(session, &method, params, id);
        }
        self.output(session)
    }

    fn disconnect(&mut self, session: SessionId) {
        self.output(session);
        self.server.reset_session(session);
    }

    fn contents(&self) -> Vec<String> {
        contents(self.server.db(NAME).unwrap().database())
    }
}

/// A reply's result or error.
fn result(message: &Value) -> Result<&Value, &Value> {
    match message.get("error").filter(|e| !e.is_null()) {
        Some(e) => Err(e),
        None => Ok(&message["result"]),
    }
}

struct World {
    source: Node,
    /// Sessions of the follower's connections and of a client.
    backup_link: SessionId,
    relay_link: SessionId,
    client: SessionId,
    backup: Node,
    replication: Replication,
    relaying: Node,
    relay: Relay,
    relay_client: SessionId,
}

impl World {
    fn new(schema: &Value) -> Self {
        let parsed = Arc::new(DatabaseSchema::from_json(schema).unwrap());
        let memory = || Db::new(Database::new(Arc::clone(&parsed)), Backing::Memory);
        let mut source = Node::new(memory());
        let mut relaying = Node::new(Db::relay(NAME));
        let mut backup = Node::new(memory());
        backup.server.db_mut(NAME).unwrap().read_only = true;
        let mut session = || source.server.add_session(Access::default());
        let (backup_link, relay_link, client) = (session(), session(), session());
        let relay_client = relaying.server.add_session(Access::default());
        let mut world = Self {
            source,
            backup_link,
            relay_link,
            client,
            backup,
            replication: Replication::new(NAME, BTreeSet::new()),
            relaying,
            relay: Relay::new(NAME),
            relay_client,
        };
        world.replication.connected();
        world.relay.connected("source");
        world.settle();
        world
    }

    /// Lets everybody talk until there is nothing more to say.
    fn settle(&mut self) {
        loop {
            self.relay.run(&mut self.relaying.server, now().instant);
            let calls = self.replication.take_calls();
            let to_backup = self.source.exchange(self.backup_link, calls);
            let calls = self.relay.take_calls();
            let to_relay = self.source.exchange(self.relay_link, calls);
            if to_backup.is_empty() && to_relay.is_empty() {
                break;
            }
            for m in to_backup {
                let params = m["params"].as_array().map_or(&[][..], Vec::as_slice);
                match m["method"].as_str() {
                    Some(method) => {
                        let backup = &mut self.backup.server;
                        self.replication.notification(method, params, backup, now());
                    }
                    None => {
                        let backup = &mut self.backup.server;
                        self.replication.reply(&m["id"], result(&m), backup, now());
                    }
                }
            }
            for m in to_relay {
                let params = m["params"].as_array().map_or(&[][..], Vec::as_slice);
                let relaying = &mut self.relaying.server;
                match m["method"].as_str() {
                    Some(method) => self.relay.notification(method, params, relaying, now()),
                    None => self.relay.reply(&m["id"], result(&m), relaying, now()),
                }
            }
        }
        assert_eq!(self.replication.status(), Status::Replicating);
    }

    /// Cuts a connection and makes a new one.
    fn reconnect(&mut self, relay: bool) {
        if relay {
            self.source.disconnect(self.relay_link);
            self.relay
                .disconnected(&mut self.relaying.server, now().instant);
            self.relay.connected("source");
        } else {
            self.source.disconnect(self.backup_link);
            self.replication.connected();
        }
    }

    fn assert_same(&self, what: &str) {
        let source = self.source.contents();
        assert_eq!(source, self.backup.contents(), "backup after {what}");
        assert_eq!(source, self.relaying.contents(), "relay after {what}");
    }
}

#[test]
fn backups_and_relays_end_with_what_the_source_has() {
    let mut done = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let schema = schema(&mut random);
        let mut world = World::new(&schema);
        let mut generator = Generator::new(Random::new(seed + 1000), &schema);
        for step in 0..40 {
            let transaction = generator.transaction();
            let what = format!("step {step} of seed {seed}: {transaction}");
            let through_relay = random.chance(40);
            let (server, client) = if through_relay {
                (&mut world.relaying, world.relay_client)
            } else {
                (&mut world.source, world.client)
            };
            server.request(client, "transact", transaction, tree!(step));
            if random.chance(10) {
                world.reconnect(random.chance(50));
            }
            world.settle();
            let (server, client) = if through_relay {
                (&mut world.relaying, world.relay_client)
            } else {
                (&mut world.source, world.client)
            };
            // It has an answer, or it waits for a change.
            let answers = server.output(client);
            let waiting = server.server.db(NAME).unwrap().n_triggers();
            assert!(!answers.is_empty() || waiting > 0, "{what}");
            done += usize::from(!answers.is_empty());
            world.assert_same(&what);
        }
    }
    assert!(done > 1500, "only {done} answers");
}

#[test]
fn a_transaction_under_way_is_canceled_with_the_connection() {
    let schema = tree!({"name": NAME, "tables": {"A": {"columns": {"x": {"type": "integer"}}}}});
    let mut world = World::new(&schema);
    let insert = tree!([NAME, {"op": "insert", "table": "A", "row": {"x": 1}}]);
    let (client, other) = (
        world.relay_client,
        world.relaying.server.add_session(Access::default()),
    );
    world
        .relaying
        .request(client, "transact", insert.clone(), tree!(1));
    world.relay.run(&mut world.relaying.server, now().instant);
    // It is on its way. The next one is not.
    assert_eq!(world.relay.take_calls().len(), 1);
    world.relaying.request(other, "transact", insert, tree!(2));
    world.reconnect(true);
    let answer = world.relaying.output(client);
    assert_eq!(answer, [tree!({"id": 1, "error": "canceled"})]);
    world.settle();
    let answer = world.relaying.output(other);
    assert!(answer[0]["result"][0].get("uuid").is_some(), "{answer:?}");
    world.assert_same("the second transaction");
}

#[test]
fn clients_are_told_half_a_minute_after_the_source_is_gone() {
    let schema = tree!({"name": NAME, "tables": {"A": {"columns": {"x": {"type": "integer"}}}}});
    let mut world = World::new(&schema);
    let connected = |world: &mut World| {
        let select = tree!(["_Server", {"op": "select", "table": "Database",
            "where": [["name", "==", NAME]], "columns": ["connected"]}]);
        let client = world.relay_client;
        world.relaying.server.run(now());
        world.relaying.request(client, "transact", select, tree!(0));
        world.relaying.output(client)[0]["result"][0]["rows"][0]["connected"].clone()
    };
    assert_eq!(connected(&mut world), true);
    let lost = now().instant;
    world.relay.disconnected(&mut world.relaying.server, lost);
    let deadline = world.relay.deadline().unwrap();
    assert_eq!(deadline - lost, ferrovs_ovsdb::relay::GRACE);
    world.relay.run(&mut world.relaying.server, lost);
    assert_eq!(connected(&mut world), true);
    world.relay.run(&mut world.relaying.server, deadline);
    assert_eq!(connected(&mut world), false);
    assert_eq!(world.relay.deadline(), None);
    world.reconnect(true);
    world.settle();
    assert_eq!(connected(&mut world), true);
}

#[test]
fn nonsense_from_the_other_side_changes_nothing() {
    let schema = tree!({"name": NAME, "tables": {"A": {"columns": {"x": {"type": "integer"}}}}});
    let id = "00000000-0000-0000-0000-000000000001";
    for updates in [
        tree!([]),
        tree!({"A": 5}),
        tree!({"A": {"x": {}}}),
        tree!({"A": {id: {"modify": {"x": 1}}}}),
        tree!({"A": {id: {"delete": null}}}),
        tree!({"A": {id: {"insert": {"x": "y"}}}}),
        tree!({"A": {id: {"insert": {"z": 1}}}}),
        tree!({"A": {id: {"insert": {}, "delete": null}}}),
        tree!({"A": {id: {"old": {}}}}),
        tree!({"A": {id: {"new": 5}}}),
        tree!({"A": {id: {"insert": {"x": 1}}}, "Z": {}}),
    ] {
        let mut world = World::new(&schema);
        let before = world.source.contents();
        let params = [tree!(["monid", NAME]), updates.clone()];
        let relaying = &mut world.relaying.server;
        world
            .relay
            .notification("update2", &params, relaying, now());
        assert!(world.relay.wants_reconnect(), "{updates}");
        let after = world.relaying.contents();
        assert_eq!(after, before, "{updates}");
        let params = [tree!(NAME), updates.clone()];
        let backup = &mut world.backup.server;
        world
            .replication
            .notification("update", &params, backup, now());
        assert_eq!(world.replication.status(), Status::Failed, "{updates}");
        let after = world.backup.contents();
        assert_eq!(after, before, "{updates}");
    }
}
