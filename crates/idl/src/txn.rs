//! Transactions: edits collected against the replica, then sent as one.
//!
//! A [`Txn`] is a plain value beside the [`Idl`]. Edits name rows by UUID; a row that the
//! transaction itself inserts has a made-up UUID until the server answers with the real one
//! ([`Txn::insert_uuid`]). [`Txn::commit`] is called again and again until its status is final.
//! `TryAgain` means that the database changed under the transaction: throw it away, let the replica
//! catch up, and build a new one.

mod commit;
mod view;

use crate::client::Idl;
use crate::kind::IntoDatum;
use crate::schema::{Column, Table};
use ferrovs_ovsdb::{Datum, Uuid};
use std::collections::{BTreeMap, HashMap};

pub use view::View;

/// Where a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not sent yet.
    Uncommitted,
    /// There was nothing to change.
    Unchanged,
    /// Sent; the server has not answered.
    Incomplete,
    /// Given up by its owner.
    Aborted,
    Success,
    /// The database changed meanwhile: build it anew.
    TryAgain,
    /// The replica's lock is not ours.
    NotLocked,
    /// The server refused it for good; the text is its error.
    Error(String),
}

impl Status {
    /// As Open vSwitch names it.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Uncommitted => "uncommitted",
            Status::Unchanged => "unchanged",
            Status::Incomplete => "incomplete",
            Status::Aborted => "aborted",
            Status::Success => "success",
            Status::TryAgain => "try again",
            Status::NotLocked => "not locked",
            Status::Error(_) => "error",
        }
    }

    pub fn is_final(&self) -> bool {
        !matches!(self, Status::Uncommitted | Status::Incomplete)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Insert,
    Update,
    Delete,
}

/// What a transaction does to one row.
#[derive(Debug)]
struct Edit {
    kind: Kind,
    /// An inserted row keeps the UUID that it has here.
    persistent: bool,
    columns: BTreeMap<usize, Written>,
    /// Columns that must still hold this when the transaction is applied.
    verify: BTreeMap<usize, Datum>,
}

#[derive(Debug)]
struct Written {
    datum: Datum,
    /// Sent as mutations: members (or pairs) to insert, members (or keys) to delete.
    partial: Option<(Datum, Datum)>,
}

#[derive(Debug)]
struct Increment {
    table: usize,
    uuid: Uuid,
    column: usize,
    force: bool,
}

/// A transaction in the making.
#[derive(Debug)]
pub struct Txn {
    edits: BTreeMap<(usize, Uuid), Edit>,
    comment: String,
    increment: Option<Increment>,
    increment_at: Option<usize>,
    increment_result: i64,
    dry_run: bool,
    status: Status,
    request: Option<String>,
    /// Positions of insert operations, to find the real UUIDs.
    inserts: Vec<(Uuid, usize)>,
    real: HashMap<Uuid, Uuid>,
}

impl Default for Txn {
    fn default() -> Txn {
        Txn::new()
    }
}

impl Txn {
    pub fn new() -> Txn {
        Txn {
            edits: BTreeMap::new(),
            comment: String::new(),
            increment: None,
            increment_at: None,
            increment_result: 0,
            dry_run: false,
            status: Status::Uncommitted,
            request: None,
            inserts: Vec::new(),
            real: HashMap::new(),
        }
    }

    /// Adds a line to the comment that goes into the database's log.
    pub fn comment(&mut self, text: &str) {
        if !self.comment.is_empty() {
            self.comment.push('\n');
        }
        self.comment.push_str(text);
    }

    /// The server checks everything, and changes nothing.
    pub fn set_dry_run(&mut self) {
        self.dry_run = true;
    }

    /// Adds one to an integer column at commit, if anything else changes or `force` is set.
    pub fn increment(&mut self, table: usize, uuid: Uuid, column: usize, force: bool) {
        self.increment = Some(Increment {
            table,
            uuid,
            column,
            force,
        });
    }

    /// What the incremented column came to; valid after success.
    pub fn increment_result(&self) -> i64 {
        self.increment_result
    }

    fn edit(&mut self, table: usize, uuid: Uuid) -> &mut Edit {
        self.edits.entry((table, uuid)).or_insert_with(|| Edit {
            kind: Kind::Update,
            persistent: false,
            columns: BTreeMap::new(),
            verify: BTreeMap::new(),
        })
    }

    /// Inserts a row, under `uuid` or a fresh one for the time being.
    pub fn insert_row(&mut self, table: usize, uuid: Option<Uuid>) -> Uuid {
        let uuid = uuid.unwrap_or_else(Uuid::new_v4);
        self.edit(table, uuid).kind = Kind::Insert;
        uuid
    }

    /// Inserts a row that will have this very UUID in the database too.
    pub fn insert_persistent(&mut self, table: usize, uuid: Uuid) -> Uuid {
        let edit = self.edit(table, uuid);
        edit.kind = Kind::Insert;
        edit.persistent = true;
        uuid
    }

    /// Inserts a row.
    pub fn insert<T: Table>(&mut self) -> Uuid {
        self.insert_row(T::INDEX, None)
    }

    /// Deletes a row. One that this transaction inserted was never there.
    pub fn delete_row(&mut self, table: usize, uuid: Uuid) {
        if self.is_inserted(table, uuid) {
            self.edits.remove(&(table, uuid));
        } else {
            let edit = self.edit(table, uuid);
            edit.kind = Kind::Delete;
            edit.columns.clear();
        }
    }

    /// Deletes a row.
    pub fn delete<T: Table>(&mut self, uuid: Uuid) {
        self.delete_row(T::INDEX, uuid);
    }

    /// Writes a column, by position.
    pub fn write(&mut self, table: usize, uuid: Uuid, column: usize, datum: Datum) {
        let edit = self.edit(table, uuid);
        if edit.kind != Kind::Delete {
            edit.columns.insert(
                column,
                Written {
                    datum,
                    partial: None,
                },
            );
        }
    }

    /// Writes a column.
    pub fn set<T: Table, K>(&mut self, uuid: Uuid, column: Column<T, K>, value: impl IntoDatum<K>) {
        self.write(T::INDEX, uuid, column.index(), value.into_datum());
    }

    /// Adds members without touching the others; a map's pairs take the place of those with their
    /// keys.
    pub fn add(&mut self, idl: &Idl, table: usize, uuid: Uuid, column: usize, members: &Datum) {
        if !members.is_empty() {
            self.mutate(idl, table, uuid, column, members, &Datum::Empty);
        }
    }

    /// Puts pairs into a map, in place of those with their keys, without touching the others.
    pub fn put(&mut self, idl: &Idl, table: usize, uuid: Uuid, column: usize, pairs: &Datum) {
        self.mutate(idl, table, uuid, column, pairs, &Datum::Empty);
    }

    /// Removes members (or, of a map, keys or pairs) without touching the others.
    pub fn remove(&mut self, idl: &Idl, table: usize, uuid: Uuid, column: usize, members: &Datum) {
        let current = View { idl, txn: self }.get(table, uuid, column);
        let members = match members {
            // Pairs go by key, those that are there with that value.
            Datum::Map(pairs) => Datum::from_atoms(
                pairs
                    .iter()
                    .filter(|(k, v)| current.get(k) == Some(v))
                    .map(|p| p.0.clone())
                    .collect(),
            ),
            keys => keys.clone(),
        };
        if !members.is_empty() {
            self.mutate(idl, table, uuid, column, &Datum::Empty, &members);
        }
    }

    fn mutate(
        &mut self,
        idl: &Idl,
        table: usize,
        uuid: Uuid,
        column: usize,
        insert: &Datum,
        delete: &Datum,
    ) {
        let current = View { idl, txn: self }.get(table, uuid, column).clone();
        let datum = insert.union(&current.subtract(delete));
        let inserted = self.is_inserted(table, uuid);
        let edit = self.edit(table, uuid);
        if edit.kind == Kind::Delete {
            return;
        }
        let partial = match edit.columns.remove(&column) {
            // A column that is written whole stays so.
            Some(Written { partial: None, .. }) => None,
            _ if inserted => None,
            Some(Written {
                partial: Some((had_insert, had_delete)),
                ..
            }) => Some((
                insert.union(&had_insert.subtract(delete)),
                delete.union(&had_delete.subtract(insert)),
            )),
            None => Some((insert.clone(), delete.clone())),
        };
        edit.columns.insert(column, Written { datum, partial });
    }

    /// The transaction is applied only if the column still holds what the replica holds now.
    pub fn verify_column(&mut self, idl: &Idl, table: usize, uuid: Uuid, column: usize) {
        if self.is_inserted(table, uuid) || !idl.is_monitored(table, column) {
            return;
        }
        let Some(row) = idl.table_row(table, uuid) else {
            return;
        };
        let datum = row.columns[column].clone();
        self.edit(table, uuid).verify.entry(column).or_insert(datum);
    }

    /// The transaction is applied only if the column still holds what the replica holds now.
    pub fn verify<T: Table, K>(&mut self, idl: &Idl, uuid: Uuid, column: Column<T, K>) {
        self.verify_column(idl, T::INDEX, uuid, column.index());
    }

    /// The real UUID of a row that this transaction inserted; valid after success.
    pub fn insert_uuid(&self, uuid: Uuid) -> Option<Uuid> {
        self.real.get(&uuid).copied()
    }

    pub fn is_inserted(&self, table: usize, uuid: Uuid) -> bool {
        self.edits
            .get(&(table, uuid))
            .is_some_and(|e| e.kind == Kind::Insert)
    }

    pub fn is_deleted(&self, table: usize, uuid: Uuid) -> bool {
        self.edits
            .get(&(table, uuid))
            .is_some_and(|e| e.kind == Kind::Delete)
    }

    pub(crate) fn inserted_rows(&self, table: usize) -> impl Iterator<Item = Uuid> {
        self.edits
            .range((table, Uuid::nil())..=(table, Uuid::max()))
            .filter(|(_, e)| e.kind == Kind::Insert)
            .map(|(&(_, uuid), _)| uuid)
    }

    pub(crate) fn written(&self, table: usize, uuid: Uuid, column: usize) -> Option<&Datum> {
        self.edits
            .get(&(table, uuid))?
            .columns
            .get(&column)
            .map(|w| &w.datum)
    }

    pub fn status(&self) -> &Status {
        &self.status
    }
}
