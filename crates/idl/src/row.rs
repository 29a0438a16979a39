//! Rows, as the replica holds them.

use crate::kind::Kind;
use crate::schema::{Column, Table};
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
