//! Rows, as the replica holds them and as a transaction in the making would leave them.

use crate::kind::Kind;
use crate::schema::{Column, Table};
use crate::{Idl, Txn};
use ferrovs_ovsdb::{Datum, Uuid};
use std::marker::PhantomData;
use std::sync::Arc;

/// The data of one row: a datum for each declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct RowData {
    pub uuid: Uuid,
    pub columns: Columns,
}

/// The columns of a row. Most of them hold what a column of a new row holds, as a rule; only the
/// others take room, so a row costs 32 bytes for each of them and not for each that is declared.
#[derive(Clone)]
pub struct Columns {
    defaults: Arc<[Datum]>,
    /// By position, ascending; none is the default.
    set: Vec<(u8, Datum)>,
}

impl Columns {
    /// A new row's; `defaults` has a datum for each column, at most 256.
    pub(crate) fn new(defaults: &Arc<[Datum]>) -> Columns {
        Columns {
            defaults: defaults.clone(),
            set: Vec::new(),
        }
    }

    fn find(&self, column: usize) -> Result<usize, usize> {
        self.set.binary_search_by_key(&column, |c| usize::from(c.0))
    }

    pub(crate) fn put(&mut self, column: usize, datum: Datum) {
        let plain = datum == self.defaults[column];
        match self.find(column) {
            Ok(at) if plain => drop(self.set.remove(at)),
            Ok(at) => self.set[at].1 = datum,
            Err(_) if plain => {}
            Err(at) => self.set.insert(at, (column as u8, datum)),
        }
    }

    /// Gives back the room that growing took in advance.
    pub(crate) fn shrink(&mut self) {
        self.set.shrink_to_fit();
    }

    /// The columns that are not what those of a new row are, with their positions.
    pub fn set(&self) -> impl Iterator<Item = (usize, &Datum)> {
        self.set.iter().map(|(i, datum)| (usize::from(*i), datum))
    }

    /// All columns.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Datum> {
        (0..self.len()).map(|i| &self[i])
    }

    pub fn len(&self) -> usize {
        self.defaults.len()
    }

    pub fn is_empty(&self) -> bool {
        self.defaults.is_empty()
    }
}

impl std::ops::Index<usize> for Columns {
    type Output = Datum;

    fn index(&self, column: usize) -> &Datum {
        match self.find(column) {
            Ok(at) => &self.set[at].1,
            Err(_) => &self.defaults[column],
        }
    }
}

/// Of one table.
impl PartialEq for Columns {
    fn eq(&self, other: &Columns) -> bool {
        self.set == other.set
    }
}

impl std::fmt::Debug for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A row of table `T`.
pub struct Row<'a, T> {
    data: &'a RowData,
    table: PhantomData<fn() -> T>,
}

impl<T> Clone for Row<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Row<'_, T> {}

impl<'a, T: Table> Row<'a, T> {
    pub fn new(data: &'a RowData) -> Row<'a, T> {
        Row {
            data,
            table: PhantomData,
        }
    }

    pub fn uuid(&self) -> Uuid {
        self.data.uuid
    }

    /// A column's value, typed.
    pub fn get<K: Kind>(&self, column: Column<T, K>) -> K::View<'a> {
        K::view(&self.data.columns[column.index()])
    }

    /// A column's value as it is stored.
    pub fn datum<K>(&self, column: Column<T, K>) -> &'a Datum {
        &self.data.columns[column.index()]
    }

    pub fn data(&self) -> &'a RowData {
        self.data
    }
}

impl<T> std::fmt::Debug for Row<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.data.fmt(f)
    }
}

/// The replica with the edits of a transaction on top.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub idl: &'a Idl,
    pub txn: &'a Txn,
}

impl<'a> View<'a> {
    /// The rows of a table (by position), inserted ones included, deleted ones not.
    pub fn uuids(self, table: usize) -> Vec<Uuid> {
        let mut uuids: Vec<Uuid> = self
            .idl
            .table_rows(table)
            .map(|row| row.uuid)
            .filter(|&uuid| !self.txn.is_deleted(table, uuid))
            .collect();
        uuids.extend(self.txn.inserted_rows(table));
        uuids
    }

    pub fn exists(self, table: usize, uuid: Uuid) -> bool {
        !self.txn.is_deleted(table, uuid)
            && (self.txn.is_inserted(table, uuid) || self.idl.table_row(table, uuid).is_some())
    }

    /// Whether there is such a row, be it one that the transaction deletes.
    pub fn is_known(self, table: usize, uuid: Uuid) -> bool {
        self.txn.is_inserted(table, uuid) || self.idl.table_row(table, uuid).is_some()
    }

    /// A column's value; the default if there is no such row.
    pub fn get(self, table: usize, uuid: Uuid, column: usize) -> &'a Datum {
        self.txn
            .written(table, uuid, column)
            .or_else(|| {
                self.idl
                    .table_row(table, uuid)
                    .map(|row| &row.columns[column])
            })
            .unwrap_or_else(|| self.idl.default_datum(table, column))
    }

    /// A typed column's value.
    pub fn read<T: Table, K: Kind>(self, uuid: Uuid, column: Column<T, K>) -> K::View<'a> {
        K::view(self.get(T::INDEX, uuid, column.index()))
    }

    /// The rows of a typed table.
    pub fn rows<T: Table>(self) -> Vec<Uuid> {
        self.uuids(T::INDEX)
    }
}
