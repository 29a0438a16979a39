//! Rows as a transaction in the making would leave them.

use std::marker::PhantomData;

use ferrovs_ovsdb::{Datum, Uuid};

use super::Txn;
use crate::client::Idl;
use crate::kind::Kind;
use crate::row::RowData;
use crate::schema::{Column, Table};

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

    /// A row, to read several columns of.
    pub fn row<T: Table>(self, uuid: Uuid) -> ViewRow<'a, T> {
        ViewRow {
            view: self,
            uuid,
            data: self.idl.table_row(T::INDEX, uuid),
            table: PhantomData,
        }
    }

    /// The rows of a typed table.
    pub fn rows<T: Table>(self) -> Vec<Uuid> {
        self.uuids(T::INDEX)
    }
}

/// A row of a [`View`].
pub struct ViewRow<'a, T> {
    view: View<'a>,
    uuid: Uuid,
    data: Option<&'a RowData>,
    table: PhantomData<fn() -> T>,
}

impl<'a, T: Table> ViewRow<'a, T> {
    /// A column's value; the default if there is no such row.
    pub fn read<K: Kind>(&self, column: Column<T, K>) -> K::View<'a> {
        let View { idl, txn } = self.view;
        let datum = txn
            .written(T::INDEX, self.uuid, column.index())
            .or_else(|| self.data.map(|row| &row.columns[column.index()]))
            .unwrap_or_else(|| idl.default_datum(T::INDEX, column.index()));
        K::view(datum)
    }
}
