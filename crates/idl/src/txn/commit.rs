//! From edits to operations, and from replies to a status.

use super::{Edit, Kind, Status, Txn};
use crate::client::{Idl, Outcome};
use ferrovs_ovsdb::{Atom, ColumnType, Datum, Uuid};
use ferrovs_runtime::Poller;
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use ferrovs_runtime::{clock, coverage};
use ferrovs_stream::json::{Map, Value, to_string};
use std::collections::HashSet;

static RL: RateLimit = RateLimit::new(5, 20);

impl Txn {
    /// Sends the transaction, or looks for its reply. Call again, after [`Idl::run`], until the
    /// status is final.
    pub fn commit(&mut self, idl: &mut Idl) -> Status {
        match self.status {
            Status::Uncommitted => self.status = self.send(idl),
            Status::Incomplete => {
                if let Some(outcome) = self.request.as_deref().and_then(|id| idl.outcome(id)) {
                    self.status = self.conclude(outcome, idl);
                }
            }
            _ => {}
        }
        match self.status {
            Status::Uncommitted => &coverage::TXN_UNCOMMITTED,
            Status::Unchanged => &coverage::TXN_UNCHANGED,
            Status::Incomplete => &coverage::TXN_INCOMPLETE,
            Status::Aborted => &coverage::TXN_ABORTED,
            Status::Success => &coverage::TXN_SUCCESS,
            Status::TryAgain => &coverage::TXN_TRY_AGAIN,
            Status::NotLocked => &coverage::TXN_NOT_LOCKED,
            Status::Error(_) => &coverage::TXN_ERROR,
        }
        .inc();
        self.status.clone()
    }

    /// Commits and waits for the outcome.
    pub fn commit_block(&mut self, idl: &mut Idl) -> Status {
        let mut poller = Poller::new();
        loop {
            let status = self.commit(idl);
            if status.is_final() {
                return status;
            }
            idl.run(clock::now());
            let status = self.commit(idl);
            if status.is_final() {
                return status;
            }
            idl.wait(&mut poller);
            poller.block();
        }
    }

    /// Wakes when [`Txn::commit`] has something new to say.
    pub fn wait(&self, poller: &mut Poller) {
        if self.status != Status::Uncommitted && self.status != Status::Incomplete {
            poller.wake_now();
        }
    }

    /// Gives the transaction up; what the server makes of it is not looked at.
    pub fn abort(&mut self, idl: &mut Idl) {
        if let Some(id) = self.request.take() {
            idl.forget(&id);
        }
        if !self.status.is_final() {
            self.status = Status::Aborted;
        }
    }

    fn send(&mut self, idl: &mut Idl) -> Status {
        let mut operations = Vec::new();
        if let Some(lock) = idl.lock_name() {
            if !idl.has_lock() {
                return Status::NotLocked;
            }
            operations.push(op("assert", [("lock", lock.into())]));
        }
        let inserted: HashSet<Uuid> = self
            .edits
            .iter()
            .filter(|(_, e)| e.kind == Kind::Insert && !e.persistent)
            .map(|((_, u), _)| *u)
            .collect();
        for (&(table, uuid), edit) in &self.edits {
            self.push_waits(&mut operations, idl, table, uuid, edit);
        }
        let fixed = operations.len();
        let mut inserts = Vec::new();
        for (&(table, uuid), edit) in &self.edits {
            if edit.kind == Kind::Insert {
                inserts.push((uuid, operations.len()));
            }
            push_edit(&mut operations, idl, table, uuid, edit, &inserted);
        }
        self.inserts = inserts;
        let changes = operations.len() > fixed;
        if let Some(inc) = &self.increment
            && (changes || inc.force)
        {
            let def = &idl.database().tables[inc.table];
            let name = def.columns[inc.column].name;
            let mutation = Value::Array(vec![name.into(), "+=".into(), 1.into()]);
            operations.push(op(
                "mutate",
                [
                    ("table", def.name.into()),
                    ("where", where_uuid(inc.uuid, &inserted)),
                    ("mutations", Value::Array(vec![mutation])),
                ],
            ));
            self.increment_at = Some(operations.len());
            operations.push(op(
                "select",
                [
                    ("table", def.name.into()),
                    ("where", where_uuid(inc.uuid, &inserted)),
                    ("columns", Value::Array(vec![name.into()])),
                ],
            ));
        } else if !changes {
            return Status::Unchanged;
        }
        if !self.comment.is_empty() {
            operations.push(op("comment", [("comment", self.comment.as_str().into())]));
        }
        if self.dry_run {
            operations.push(op("abort", []));
        }
        match idl.transact(operations) {
            Some(id) => {
                self.request = Some(id);
                Status::Incomplete
            }
            None => Status::TryAgain,
        }
    }

    fn push_waits(
        &self,
        operations: &mut Vec<Value>,
        idl: &Idl,
        table: usize,
        uuid: Uuid,
        edit: &Edit,
    ) {
        if edit.verify.is_empty() {
            return;
        }
        let def = &idl.database().tables[table];
        let mut row = Map::new();
        let mut columns = Vec::new();
        for (&i, datum) in &edit.verify {
            let name = def.columns[i].name;
            columns.push(Value::from(name));
            row.insert(name.into(), datum.to_json(idl.column_type(table, i)));
        }
        operations.push(op(
            "wait",
            [
                ("table", def.name.into()),
                ("where", where_uuid(uuid, &HashSet::new())),
                ("timeout", 0.into()),
                ("until", "==".into()),
                ("columns", Value::Array(columns)),
                ("rows", Value::Array(vec![Value::Object(row)])),
            ],
        ));
    }

    fn conclude(&mut self, outcome: Outcome, idl: &mut Idl) -> Status {
        let results = match outcome {
            Outcome::Lost => return Status::TryAgain,
            Outcome::Failed(text) => return Status::Error(text),
            Outcome::Results(results) => results,
        };
        let (mut again, mut not_locked) = (false, false);
        for result in &results {
            match result.get("error").and_then(Value::as_str) {
                None | Some("aborted") => {}
                Some("timed out") => again = true,
                Some("unknown database") => {
                    // The server gave the database up without a word: look for it anew.
                    idl.resync(clock::now());
                    again = true;
                }
                Some("not owner") => not_locked = true,
                Some(_) => {
                    let text = to_string(result);
                    vlog::warn_rl!(RL, modules::OVSDB_IDL, "transaction error: {text}");
                    return Status::Error(text);
                }
            }
        }
        if again {
            return Status::TryAgain;
        }
        if not_locked {
            return Status::NotLocked;
        }
        for (uuid, at) in &self.inserts {
            let real = results
                .get(*at)
                .and_then(|r| r.pointer("/uuid/1"))
                .and_then(Value::as_str);
            if let Some(real) = real.and_then(ferrovs_ovsdb::uuid::parse) {
                self.real.insert(*uuid, real);
            }
        }
        if let Some(at) = self.increment_at
            && let Some(row) = results.get(at).and_then(|r| r.pointer("/rows/0"))
        {
            let value = row
                .as_object()
                .and_then(|r| r.values().next())
                .and_then(Value::as_i64);
            self.increment_result = value.unwrap_or(0);
        }
        Status::Success
    }
}

fn push_edit(
    operations: &mut Vec<Value>,
    idl: &Idl,
    table: usize,
    uuid: Uuid,
    edit: &Edit,
    inserted: &HashSet<Uuid>,
) {
    let def = &idl.database().tables[table];
    match edit.kind {
        // Of other tables the server collects what nothing refers to any more.
        Kind::Delete if !def.is_root => {}
        Kind::Delete => operations.push(op(
            "delete",
            [
                ("table", def.name.into()),
                ("where", where_uuid(uuid, inserted)),
            ],
        )),
        Kind::Insert => {
            let mut row = Map::new();
            for (&i, written) in &edit.columns {
                if written.datum != *idl.default_datum(table, i) {
                    let json = to_json(&written.datum, idl.column_type(table, i), inserted);
                    row.insert(def.columns[i].name.into(), json);
                }
            }
            let id = match edit.persistent {
                true => ("uuid", uuid.to_string()),
                false => ("uuid-name", named(uuid)),
            };
            operations.push(op(
                "insert",
                [
                    ("table", def.name.into()),
                    (id.0, id.1.into()),
                    ("row", Value::Object(row)),
                ],
            ));
        }
        Kind::Update => {
            let old = idl.table_row(table, uuid);
            let mut row = Map::new();
            let mut mutations = Vec::new();
            for (&i, written) in &edit.columns {
                let unchanged = idl.is_monitored(table, i)
                    && old.is_some_and(|old| old.columns[i] == written.datum);
                let ty = idl.column_type(table, i);
                // Adding members to a set is asked of the server even if they seem to be there.
                let adds = matches!(&written.partial, Some((insert, _)) if !insert.is_empty());
                if unchanged && (ty.is_map() || !adds) {
                    continue;
                }
                let name = def.columns[i].name;
                match &written.partial {
                    None => {
                        row.insert(name.into(), to_json(&written.datum, ty, inserted));
                    }
                    Some((insert, delete)) => {
                        // What the column holds, as far as that is known.
                        let known = old
                            .filter(|_| idl.is_monitored(table, i))
                            .map(|row| &row.columns[i]);
                        push_mutations(
                            &mut mutations,
                            (name, ty),
                            known,
                            (insert, delete),
                            inserted,
                        );
                    }
                }
            }
            if !row.is_empty() {
                operations.push(op(
                    "update",
                    [
                        ("table", def.name.into()),
                        ("where", where_uuid(uuid, inserted)),
                        ("row", Value::Object(row)),
                    ],
                ));
            }
            if !mutations.is_empty() {
                operations.push(op(
                    "mutate",
                    [
                        ("table", def.name.into()),
                        ("where", where_uuid(uuid, inserted)),
                        ("mutations", Value::Array(mutations)),
                    ],
                ));
            }
        }
    }
}

fn push_mutations(
    mutations: &mut Vec<Value>,
    (name, ty): (&str, &ColumnType),
    known: Option<&Datum>,
    (insert, delete): (&Datum, &Datum),
    inserted: &HashSet<Uuid>,
) {
    let any = ty.any_number();
    let mut push = |how: &str, json: Value| {
        // Always as a set or map, never as the bare member.
        let json = match json.get(0).and_then(Value::as_str) {
            Some("set" | "map") => json,
            _ => Value::Array(vec!["set".into(), Value::Array(vec![json])]),
        };
        mutations.push(Value::Array(vec![name.into(), how.into(), json]));
    };
    if !delete.is_empty() {
        // Of a map, keys alone may be named.
        let keys = ColumnType {
            value: None,
            ..any.clone()
        };
        let by_key = matches!(delete, Datum::Atom(_) | Datum::Set(_)) && any.is_map();
        push(
            "delete",
            to_json(delete, if by_key { &keys } else { &any }, inserted),
        );
    }
    if !insert.is_empty() {
        if any.is_map() {
            // Inserting leaves a key that is there alone, so its old pair goes first.
            let keys = ColumnType {
                value: None,
                ..any.clone()
            };
            let there = |key: &&Atom| known.is_none_or(|datum| datum.contains(key));
            let datum = Datum::from_atoms(insert.keys().filter(there).cloned().collect());
            if !datum.is_empty() {
                push("delete", to_json(&datum, &keys, inserted));
            }
        }
        push("insert", to_json(insert, &any, inserted));
    }
}

fn op<const N: usize>(name: &str, members: [(&str, Value); N]) -> Value {
    let mut op: Map<String, Value> = members
        .into_iter()
        .map(|(k, v)| (k.to_string(), v))
        .collect();
    op.insert("op".into(), name.into());
    Value::Object(op)
}

fn named(uuid: Uuid) -> String {
    format!("row{}", uuid.to_string().replace('-', "_"))
}

fn where_uuid(uuid: Uuid, inserted: &HashSet<Uuid>) -> Value {
    let id = if inserted.contains(&uuid) {
        Value::Array(vec!["named-uuid".into(), named(uuid).into()])
    } else {
        Value::Array(vec!["uuid".into(), uuid.to_string().into()])
    };
    Value::Array(vec![Value::Array(vec!["_uuid".into(), "==".into(), id])])
}

/// The JSON of a datum, with references to rows of this very transaction by name.
fn to_json(datum: &Datum, ty: &ColumnType, inserted: &HashSet<Uuid>) -> Value {
    let mut json = datum.to_json(ty);
    let refers = datum
        .all_atoms()
        .any(|a| a.as_uuid().is_some_and(|u| inserted.contains(&u)));
    if refers {
        substitute(&mut json, inserted);
    }
    json
}

fn substitute(json: &mut Value, inserted: &HashSet<Uuid>) {
    let Value::Array(items) = json else { return };
    if let [Value::String(tag), Value::String(id)] = items.as_mut_slice()
        && tag == "uuid"
        && let Some(uuid) = ferrovs_ovsdb::uuid::parse(id)
        && inserted.contains(&uuid)
    {
        *tag = "named-uuid".into();
        *id = named(uuid);
        return;
    }
    for item in items {
        substitute(item, inserted);
    }
}
