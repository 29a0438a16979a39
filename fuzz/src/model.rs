//! What must hold of a database between transactions, whatever they were, and what a client that follows the
//! updates of a monitor must see.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ferrovs_ovsdb::condition::Condition;
use ferrovs_ovsdb::exec::{self, Outcome};
use ferrovs_ovsdb::monitor::{Monitors, SessionId, Spec, Version, id_text};
use ferrovs_ovsdb::row::Row;
use ferrovs_ovsdb::txn::Committed;
use ferrovs_ovsdb::types::UNLIMITED;
use ferrovs_ovsdb::{Atom, BaseType, Database, Datum, Error, Uuid, json};
use serde_json::Value;

/// Runs a transaction on behalf of a client that holds the lock "held".
pub fn execute(
    db: &mut Database,
    params: &Value,
    persist: &mut dyn FnMut(&Database, &Committed) -> Result<(), Error>,
) -> Option<(Value, Committed)> {
    let outcome = exec::execute(
        db,
        params,
        &mut exec::Context {
            read_only: false,
            who: Default::default(),
            owns_lock: &|l| l == "held",
            elapsed: Duration::ZERO,
            can_wait: true,
            forward: false,
            persist,
        },
    );
    match outcome {
        Outcome::Wait(_) | Outcome::Forward => None,
        Outcome::Done(reply, committed) => {
            let text = std::str::from_utf8(&reply).expect("replies are UTF-8");
            let tree = json::parse(text).expect("replies are JSON");
            Some((tree, committed))
        }
    }
}

/// True if the reply of a transaction says that it failed.
pub fn failed(reply: &Value) -> bool {
    reply.get("error").is_some()
        || reply
            .as_array()
            .is_some_and(|r| r.iter().any(|x| x.get("error").is_some()))
}

/// The value as it prints: reals have 15 digits there.
pub fn rounded(d: &Datum) -> Datum {
    let round = |a: &Atom| match a {
        Atom::Real(v) => Atom::Real(json::format_real(*v).parse().expect("a number")),
        other => other.clone(),
    };
    match d {
        Datum::Map(pairs) => {
            Datum::from_pairs(pairs.iter().map(|(k, v)| (round(k), round(v))).collect())
        }
        Datum::Set(atoms) => Datum::from_atoms(atoms.iter().map(round).collect()),
        Datum::Atom(a) => Datum::Atom(round(a)),
        Datum::Empty => Datum::Empty,
    }
}

/// True if some value, or key of a row, cannot be told from another as it prints: two reals that differ after the
/// 15th digit.
/// Then it cannot be read again.
pub fn ambiguous(db: &Database) -> bool {
    let one_key = |t: &ferrovs_ovsdb::table::Table| {
        t.schema.indexes.iter().any(|index| {
            let mut keys = BTreeSet::new();
            let key =
                |r: &Row| -> Vec<Datum> { index.iter().map(|&c| rounded(r.field(c))).collect() };
            t.iter().any(|r| !keys.insert(key(r)))
        })
    };
    let one_member = |r: &Row| r.fields().iter().any(|d| rounded(d).len() != d.len());
    db.tables()
        .iter()
        .any(|t| one_key(t) || t.iter().any(|r| one_member(r)))
}

/// The same of what a transaction changed: a difference of such values cannot be read.
pub fn ambiguous_changes(db: &Database, committed: &Committed) -> bool {
    committed.changes.iter().any(|c| {
        let (Some(old), Some(new)) = (&c.old, &c.new) else {
            return false;
        };
        let columns = db.tables()[c.table].schema.own_columns().iter();
        columns.into_iter().any(|c| {
            let d = old.field(c.index).diff(new.field(c.index), &c.ty);
            rounded(&d).len() != d.len()
        })
    })
}

/// True if some column holds several reals.
pub fn has_sets_of_reals(db: &Database) -> bool {
    let real = |b: &BaseType| b.atom == ferrovs_ovsdb::AtomType::Real;
    let columns = db.tables().iter().flat_map(|t| t.schema.own_columns());
    columns
        .into_iter()
        .any(|c| c.ty.max > 1 && c.ty.bases().any(real))
}

/// True if some map has strong references on one side and weak ones on the other. When such a pair goes away with
/// what it refers to weakly, Open vSwitch still counts its strong reference until the database is opened anew;
/// so do we.
pub fn miscounts(db: &Database) -> bool {
    let strong_and_weak = |c: &ferrovs_ovsdb::ColumnSchema| {
        c.ty.bases().any(BaseType::is_strong_ref) && c.ty.bases().any(BaseType::is_weak_ref)
    };
    let columns = db.tables().iter().flat_map(|t| t.schema.own_columns());
    columns.into_iter().any(|c| strong_and_weak(c))
}

type Contents = BTreeMap<(usize, Uuid), Vec<Datum>>;

/// The rows with their own columns; `_version` as the first if asked for.
pub fn contents(db: &Database, versions: bool) -> Contents {
    let mut out = Contents::new();
    for (t, table) in db.tables().iter().enumerate() {
        for row in table.iter() {
            let all = table.schema.columns.iter();
            let skip = if versions { 1 } else { 2 };
            let values = all.skip(skip).map(|c| row.get(c.index).into_owned());
            let values = values.map(|d| rounded(&d));
            out.insert((t, row.uuid), values.collect());
        }
    }
    out
}

/// The same without what is not written to disk.
pub fn lasting(db: &Database) -> Contents {
    let mut out = contents(db, false);
    for ((t, _), values) in &mut out {
        let columns = db.tables()[*t].schema.own_columns();
        let mut i = 0;
        values.retain(|_| {
            i += 1;
            columns[i - 1].persistent
        });
    }
    out
}

/// Panics if something that every database promises does not hold.
pub fn check(db: &Database) {
    if ambiguous(db) {
        return;
    }
    let miscounts = miscounts(db);
    let mut referred: HashMap<(usize, Uuid), u32> = HashMap::new();
    for table in db.tables() {
        let schema = &table.schema;
        assert!(table.len() <= schema.max_rows as usize, "maxRows");
        assert_eq!(table.len(), table.iter().count());
        for row in table.iter() {
            assert_eq!(table.get(&row.uuid).map(|r| r.uuid), Some(row.uuid));
            for c in schema.own_columns() {
                let d = row.field(c.index);
                let ty = &c.ty;
                let n = d.len();
                assert!(n >= ty.min as usize, "{} of {}", c.name, schema.name);
                assert!(ty.max == UNLIMITED || n <= ty.max as usize);
                if *d != c.default {
                    // What nobody ever stored may break the constraints: a column that is not written to
                    // disk after a restart, a column that came with a new schema.
                    d.check(ty).expect("constraints hold");
                }
                assert!(
                    d.keys().is_sorted_by(|a, b| a < b),
                    "ascending and distinct"
                );
                let printed = json::parse(&format!("[{}]", text(d, c)));
                let again = printed.expect("values print as JSON")[0].clone();
                let read = Datum::from_json(ty, &again, None);
                assert!(*d == c.default || read == Ok(rounded(d)), "{again}");
                let mut refer = |base: &BaseType, atom: &Atom| {
                    let Some((target, kind)) = base.reference() else {
                        return;
                    };
                    let t = db.table_index(target).expect("the table exists");
                    let uuid = atom.as_uuid().expect("references are UUIDs");
                    if uuid == row.uuid && base.is_strong_ref() {
                        // As in Open vSwitch, a row's own UUID refers to nothing.
                        return;
                    }
                    assert!(
                        db.tables()[t].contains(&uuid),
                        "{}.{} refers to {uuid} ({kind:?})",
                        schema.name,
                        c.name
                    );
                    if base.is_strong_ref() {
                        *referred.entry((t, uuid)).or_default() += 1;
                    }
                };
                d.keys().for_each(|k| refer(&ty.key, k));
                if let Some(value) = &ty.value {
                    d.pairs().iter().for_each(|(_, v)| refer(value, v));
                }
            }
        }
        for index in &schema.indexes {
            let mut keys = BTreeSet::new();
            for row in table.iter() {
                let key: Vec<Datum> = index.iter().map(|&c| row.field(c).clone()).collect();
                let clauses = index.iter().zip(&key).map(|(&c, d)| {
                    let column = &schema.columns[c];
                    serde_json::json!([column.name, "==", d.to_json(&column.ty)])
                });
                let wher = Value::Array(clauses.collect());
                let condition = Condition::from_json(schema, &wher, None).unwrap();
                let found = condition.select(table);
                assert!(found.len() == 1 && found[0].uuid == row.uuid, "index");
                assert!(keys.insert(key), "two rows with one key");
            }
        }
    }
    for (t, table) in db.tables().iter().enumerate() {
        for row in table.iter() {
            let n = referred.remove(&(t, row.uuid)).unwrap_or(0);
            let counted = table.strong_refs(&row.uuid);
            assert!(counted == n || miscounts && counted > n, "{n} references");
            assert!(table.schema.is_root || counted > 0, "garbage");
        }
    }
}

fn text(d: &Datum, c: &ferrovs_ovsdb::ColumnSchema) -> String {
    let mut out = Vec::new();
    d.write_json(&c.ty, &mut out);
    let text = String::from_utf8(out).expect("values are UTF-8");
    assert_eq!(text, json::to_string(&d.to_json(&c.ty)));
    text
}

/// A client that follows the updates of one monitor.
pub struct Client {
    session: SessionId,
    spec: Spec,
    /// Columns of the rows that it sees.
    view: BTreeMap<(usize, Uuid), BTreeMap<usize, Datum>>,
}

impl Client {
    /// Starts to monitor; none if the request is refused.
    pub fn new(
        db: &Database,
        monitors: &mut Monitors,
        session: SessionId,
        request: &Value,
        version: Version,
    ) -> Option<Self> {
        let spec = Spec::from_json(db, request, version).ok()?;
        // Who does not want all kinds of changes cannot know the contents.
        let wants_all = spec.tables.iter().all(|t| {
            let all =
                |s: &ferrovs_ovsdb::monitor::Select| s.initial && s.insert && s.delete && s.modify;
            t.columns.iter().all(|c| all(&c.select))
        });
        if !wants_all {
            return None;
        }
        let mut client = Self {
            session,
            spec: spec.clone(),
            view: BTreeMap::new(),
        };
        let initial = monitors.add(db, session, id_text(&session.into()), spec);
        client.apply(db, &json::parse(&initial).expect("updates are JSON"));
        client.check(db);
        Some(client)
    }

    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Changes the conditions, if they are right; the client must have all updates.
    pub fn change(&mut self, db: &Database, monitors: &mut Monitors, request: &Value) {
        if self.spec.version == Version::V1 {
            return;
        }
        let Ok(spec) = self.spec.with_conditions(db, request) else {
            return;
        };
        let id = id_text(&self.session.into());
        let text = monitors.change(db, self.session, &id, id.clone(), spec.clone());
        if let Some(text) = text {
            self.notified(db, &text);
        }
        self.spec = spec;
        self.check(db);
    }

    /// Takes a notification.
    pub fn notified(&mut self, db: &Database, text: &str) {
        let msg = json::parse(text).expect("notifications are JSON");
        assert_eq!(msg["params"][0], self.session);
        let last = msg["params"].as_array().unwrap().len() - 1;
        self.apply(db, &msg["params"][last]);
    }

    fn apply(&mut self, db: &Database, updates: &Value) {
        for (name, rows) in updates.as_object().expect("updates are an object") {
            let t = db.table_index(name).expect("the table exists");
            let rows = rows.as_object().expect("rows are an object");
            assert!(!rows.is_empty(), "tables without news are left out");
            for (id, update) in rows {
                let id = ferrovs_ovsdb::uuid::parse(id).expect("rows go by UUID");
                if self.spec.version == Version::V1 {
                    self.apply_row(db, (t, id), update);
                } else {
                    self.apply_row2(db, (t, id), update);
                }
            }
        }
    }

    fn apply_row(&mut self, db: &Database, key: (usize, Uuid), update: &Value) {
        let old = self.view.remove(&key);
        assert_eq!(old.is_some(), update.get("old").is_some());
        if let Some(old) = &old {
            for (c, value) in columns(db, key.0, &update["old"], false) {
                assert_eq!(old.get(&c), Some(&value), "old value");
            }
        }
        if let Some(new) = update.get("new") {
            let new: BTreeMap<usize, Datum> = columns(db, key.0, new, false).collect();
            self.view.insert(key, new);
        }
    }

    fn apply_row2(&mut self, db: &Database, key: (usize, Uuid), update: &Value) {
        let (kind, values) = update.as_object().unwrap().iter().next().unwrap();
        let old = self.view.remove(&key);
        let modify = kind == "modify";
        assert_eq!(old.is_some(), modify || kind == "delete", "{kind}");
        if kind == "delete" {
            return;
        }
        let schema = &db.tables()[key.0].schema;
        let mut row = old.unwrap_or_else(|| {
            let spec = self.spec.tables.iter().find(|t| t.table == key.0);
            let all = spec.into_iter().flat_map(|t| &t.columns);
            all.map(|c| (c.column, schema.columns[c.column].default.clone()))
                .collect()
        });
        for (c, value) in columns(db, key.0, values, true) {
            let ty = &schema.columns[c].ty;
            let value = if modify {
                let new = rounded(&row[&c].apply_diff(&value, ty));
                // Reals may differ after what is printed.
                let real = ty.bases().any(|b| b.atom == ferrovs_ovsdb::AtomType::Real);
                assert!(new != row[&c] || c == 1 || real, "no difference");
                new
            } else {
                value
            };
            row.insert(c, value);
        }
        self.view.insert(key, row);
    }

    /// Panics unless the client sees what it would see if it began now.
    pub fn check(&self, db: &Database) {
        if ambiguous(db) {
            return;
        }
        let mut expected = BTreeMap::new();
        for spec in &self.spec.tables {
            for row in db.tables()[spec.table].iter() {
                if spec.condition.as_ref().is_some_and(|c| !c.any(row)) {
                    continue;
                }
                let columns = spec.columns.iter().filter(|c| c.select.initial);
                let row2: BTreeMap<usize, Datum> = columns
                    .map(|c| (c.column, rounded(&row.get(c.column))))
                    .collect();
                expected.insert((spec.table, row.uuid), row2);
            }
        }
        assert_eq!(self.view, expected, "{:?}", self.spec.version);
    }
}

fn columns<'a>(
    db: &'a Database,
    table: usize,
    json: &'a Value,
    any_number: bool,
) -> impl Iterator<Item = (usize, Datum)> + 'a {
    let schema = &db.tables()[table].schema;
    json.as_object()
        .expect("a row")
        .iter()
        .map(move |(name, value)| {
            let c = schema.column(name).expect("the column exists");
            let value = if any_number {
                Datum::from_json_any_number(&c.ty, value, None)
            } else {
                Datum::from_json(&c.ty, value, None)
            };
            (c.index, value.expect("values fit"))
        })
}
