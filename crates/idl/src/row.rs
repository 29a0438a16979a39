//! Rows, as the replica holds them and as a transaction in the making would leave them.

use crate::kind::Kind;
use crate::schema::{Column, Table};
use crate::{Idl, Txn};
use ferrovs_ovsdb::{Datum, Uuid};
use std::marker::PhantomData;

/// The data of one row: a datum for each declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct RowData {
    pub uuid: Uuid,
    pub columns: Vec<Datum>,
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
