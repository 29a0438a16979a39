//! Transactions on the engine. After each: it took effect as a whole or left no trace, what every database
//! promises holds, clients of all kinds of monitors see the contents, and the records replay to the same.

use std::sync::Arc;

use ferrovs_ovsdb::log::records::{self, ReadOptions};
use ferrovs_ovsdb::monitor::{Monitors, Version};
use ferrovs_ovsdb::txn::Committed;
use ferrovs_ovsdb::{Database, DatabaseSchema, json};
use ferrovs_testkit::database::{self, Choose, Generator};
use serde_json::{Value, json as tree};

use crate::input::Input;
use crate::model::{self, Client};

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let drawn = database::schema(&mut input);
    if input.chance(15) {
        raw(&drawn, input.rest());
        return;
    }
    let mut world = World::new(&drawn);
    let mut generator = Generator::new(input, &drawn);
    for session in 0..3 {
        world.monitor(&mut generator, session);
    }
    for _ in 0..200 {
        if generator.choose.is_empty() {
            break;
        }
        match generator.choose.below(16) {
            0 => world.change(&mut generator),
            1 if world.clients.len() < 8 => {
                let session = world.clients.len() as u64 + 10;
                world.monitor(&mut generator, session);
            }
            _ => {
                let params = generator.transaction();
                let read = generator.choose.chance(70);
                world.transact(&params, read);
            }
        }
    }
    world.transact(&tree!([database::NAME]), true);
}

/// Operations as the text that a client sends.
fn raw(schema: &Value, text: &[u8]) {
    let Ok(params) = json::parse_bytes(text) else {
        return;
    };
    let mut world = World::new(schema);
    let all = schema["tables"].as_object().unwrap();
    let all: Value = all
        .keys()
        .map(|t| (t.clone(), tree!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let client = Client::new(&world.db, &mut world.monitors, 0, &all, Version::V1);
    world.clients.extend(client);
    world.transact(&params, true);
}

/// A database with its log and its clients.
struct World {
    db: Database,
    replayed: Database,
    monitors: Monitors,
    clients: Vec<Client>,
    date: i64,
    /// The records do not replay any more.
    lost: bool,
}

impl World {
    fn new(drawn: &Value) -> Self {
        let schema = DatabaseSchema::from_json(drawn).expect("drawn schemas are right");
        let schema = Arc::new(schema);
        Self {
            db: Database::new(Arc::clone(&schema)),
            replayed: Database::new(schema),
            monitors: Monitors::default(),
            clients: Vec::new(),
            date: 1_700_000_000_000,
            lost: false,
        }
    }

    fn monitor(&mut self, generator: &mut Generator<Input<'_>>, session: u64) {
        let version = [Version::V1, Version::V2, Version::V3][generator.choose.below(3)];
        let request = generator.monitor(version != Version::V1);
        let client = Client::new(&self.db, &mut self.monitors, session, &request, version);
        self.clients.extend(client);
    }

    fn change(&mut self, generator: &mut Generator<Input<'_>>) {
        self.flush();
        if self.clients.is_empty() {
            return;
        }
        let i = generator.choose.below(self.clients.len());
        let table = generator.table();
        let request = tree!({&table: [{"where": generator.monitor_condition(&table)}]});
        self.clients[i].change(&self.db, &mut self.monitors, &request);
    }

    fn transact(&mut self, params: &Value, read: bool) {
        let before = model::contents(&self.db, true);
        let mut record = None;
        self.date += 1;
        let (date, diff) = (self.date, self.date % 3 != 0);
        let done = model::execute(&mut self.db, params, &mut |db, c| {
            record = records::encode_txn(db, c, date, diff);
            Ok(())
        });
        let Some((reply, committed)) = done else {
            assert!(
                model::contents(&self.db, true) == before,
                "waiting leaves no trace"
            );
            return;
        };
        if model::failed(&reply) {
            assert!(committed.changes.is_empty());
            assert!(
                model::contents(&self.db, true) == before,
                "failing leaves no trace"
            );
            return;
        }
        model::check(&self.db);
        if model::ambiguous(&self.db) || model::ambiguous_changes(&self.db, &committed) {
            // From here on nobody can follow.
            self.lost = true;
            self.clients.clear();
        }
        if model::miscounts(&self.db) || self.lost {
            return self.publish(&committed, read);
        }
        if let Some(record) = record {
            records::apply(&mut self.replayed, &record, ReadOptions::default())
                .unwrap_or_else(|e| panic!("{e:?}: {}", String::from_utf8_lossy(&record)));
            model::check(&self.replayed);
        }
        assert!(
            model::lasting(&self.replayed) == model::lasting(&self.db),
            "records replay to the same"
        );
        self.publish(&committed, read);
    }

    fn publish(&mut self, committed: &Committed, read: bool) {
        if !committed.changes.is_empty() {
            self.monitors.committed(&committed.changes);
        }
        // Differences over several transactions could be ambiguous, too.
        if read || model::has_sets_of_reals(&self.db) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut texts = Vec::new();
        self.monitors
            .flush(&self.db, &mut |_| true, &mut |s, t| texts.push((s, t)));
        for (session, text) in texts {
            let clients = self.clients.iter_mut();
            for c in clients.filter(|c| c.session() == session) {
                c.notified(&self.db, &text);
            }
        }
        self.clients.iter().for_each(|c| c.check(&self.db));
    }
}
