//! Which rows refer to a row: kept only for owners that want to hear of changes below a row.

use super::{Idl, TableState};
use crate::row::RowData;
use ferrovs_ovsdb::types::Constraint;
use ferrovs_ovsdb::{ColumnType, Uuid};
use std::collections::BTreeMap;

/// From a target to the rows that refer to it, and how often each does.
#[derive(Default)]
pub(super) struct References {
    count: BTreeMap<(Uuid, usize, Uuid), u32>,
}

impl References {
    pub fn add(&mut self, table: usize, types: &[ColumnType], row: &RowData) {
        for target in targets(types, row) {
            *self.count.entry((target, table, row.uuid)).or_default() += 1;
        }
    }

    pub fn remove(&mut self, table: usize, types: &[ColumnType], row: &RowData) {
        for target in targets(types, row) {
            let key = (target, table, row.uuid);
            if let Some(n) = self.count.get_mut(&key) {
                *n -= 1;
                if *n == 0 {
                    self.count.remove(&key);
                }
            }
        }
    }

    /// The rows that refer to `target`, with their tables.
    pub fn to(&self, target: Uuid) -> impl Iterator<Item = (usize, Uuid)> {
        let all = (target, 0, Uuid::nil())..=(target, usize::MAX, Uuid::max());
        self.count
            .range(all)
            .map(|(&(_, table, source), _)| (table, source))
    }
}

fn targets<'a>(types: &'a [ColumnType], row: &'a RowData) -> impl Iterator<Item = Uuid> + 'a {
    let refers = |base: &ferrovs_ovsdb::BaseType| matches!(base.constraint, Constraint::Ref { .. });
    row.columns.set().flat_map(move |(i, datum)| {
        let ty = &types[i];
        let keys = refers(&ty.key).then(|| datum.keys());
        let values = ty.value.as_ref().is_some_and(refers);
        let values = values.then(|| datum.pairs().iter().map(|p| &p.1));
        keys.into_iter()
            .flatten()
            .chain(values.into_iter().flatten())
            .filter_map(ferrovs_ovsdb::Atom::as_uuid)
    })
}

impl Idl {
    /// Tracks changes, and marks those rows too that refer, directly or through others, to a row
    /// that changed. Costs memory for every reference.
    pub fn track_references(&mut self) {
        self.track_changes();
        let mut references = References::default();
        for (i, table) in self.tables.iter().enumerate() {
            for row in table.rows.values() {
                references.add(i, &table.types, row);
            }
        }
        self.references = Some(references);
    }

    /// The rows that refer to `target`, as (table, row); none without [`Idl::track_references`].
    pub fn referrers(&self, target: Uuid) -> impl Iterator<Item = (usize, Uuid)> {
        self.references.iter().flat_map(move |r| r.to(target))
    }

    /// Marks the rows above those that just changed.
    pub(super) fn mark_referrers(&mut self, changed: Vec<Uuid>) {
        let Some(references) = &self.references else {
            return;
        };
        let mut todo = changed;
        while let Some(target) = todo.pop() {
            for (table, source) in references.to(target) {
                let table: &mut TableState = &mut self.tables[table];
                if table.rows.contains_key(&source) && table.changes.refer(source) {
                    todo.push(source);
                }
            }
        }
    }
}
