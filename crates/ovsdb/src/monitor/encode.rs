//! Updates as text: `<table-updates>` (old and new) and `<table-updates2>` (differences).

use std::sync::Arc;

use super::spec::{MonitoredColumn, Select, Spec, TableSpec, Version};
use crate::db::Database;
use crate::row::Row;
use crate::schema::TableSchema;
use crate::txn::Change;
use crate::uuid;

/// Collects row updates under their tables.
struct Updates {
    out: Vec<u8>,
    /// Position of the table that is open.
    table: Option<usize>,
}

impl Updates {
    fn new() -> Self {
        Self {
            out: vec![b'{'],
            table: None,
        }
    }

    /// Starts a row; its update is appended by the caller.
    fn row(&mut self, t: &TableSpec, id: &crate::Uuid) -> &mut Vec<u8> {
        if self.table == Some(t.table) {
            self.out.push(b',');
        } else {
            if self.table.replace(t.table).is_some() {
                self.out.extend_from_slice(b"},");
            }
            self.out.extend_from_slice(&t.prefix);
            self.out.push(b'{');
        }
        self.out.push(b'"');
        uuid::write(&mut self.out, id);
        self.out.extend_from_slice(b"\":");
        &mut self.out
    }

    fn finish(mut self) -> Option<String> {
        self.table?;
        self.out.extend_from_slice(b"}}");
        String::from_utf8(self.out).ok()
    }
}

/// The contents when the monitor starts.
pub(super) fn initial(db: &Database, spec: &Spec) -> String {
    let mut updates = Updates::new();
    for t in spec.tables.iter().filter(|t| t.select.initial) {
        let table = &db.tables()[t.table];
        for row in table.iter() {
            if t.condition.as_ref().is_some_and(|c| !c.any(row)) {
                continue;
            }
            let out = updates.row(t, &row.uuid);
            if spec.version == Version::V1 {
                out.extend_from_slice(b"{\"new\":");
                all_columns(out, &table.schema, t, row, |s| s.initial);
            } else {
                out.extend_from_slice(b"{\"initial\":");
                set_columns(out, &table.schema, t, row, |s| s.initial);
            }
            out.push(b'}');
        }
    }
    updates.finish().unwrap_or_else(|| "{}".to_owned())
}

/// The changes, or none if nothing of them is to be seen.
pub(super) fn update(db: &Database, spec: &Spec, changes: &[Change]) -> Option<String> {
    let mut updates = Updates::new();
    for t in &spec.tables {
        let schema = &db.tables()[t.table].schema;
        for c in changes.iter().filter(|c| c.table == t.table) {
            let seen = |row: &Option<Arc<Row>>| -> Option<Arc<Row>> {
                let row = row.as_ref()?;
                let shown = t.condition.as_ref().is_none_or(|c| c.any(row));
                shown.then(|| Arc::clone(row))
            };
            let (old, new) = (seen(&c.old), seen(&c.new));
            if spec.version == Version::V1 {
                row_update(
                    &mut updates,
                    schema,
                    t,
                    &c.uuid,
                    old.as_deref(),
                    new.as_deref(),
                );
            } else {
                row_update2(
                    &mut updates,
                    schema,
                    t,
                    &c.uuid,
                    old.as_deref(),
                    new.as_deref(),
                );
            }
        }
    }
    updates.finish()
}

/// What a change of conditions shows and hides.
pub(super) fn condition_change(db: &Database, old: &Spec, new: &Spec) -> Option<String> {
    let mut updates = Updates::new();
    for (a, b) in old.tables.iter().zip(&new.tables) {
        if a.condition == b.condition {
            continue;
        }
        let table = &db.tables()[b.table];
        for row in table.iter() {
            let seen = |t: &TableSpec| {
                let shown = t.condition.as_ref().is_none_or(|c| c.any(row));
                shown.then_some(&**row)
            };
            let (x, y) = (seen(a), seen(b));
            if x.is_some() != y.is_some() {
                row_update2(&mut updates, &table.schema, b, &row.uuid, x, y);
            }
        }
    }
    updates.finish()
}

/// Every selected column.
fn all_columns(
    out: &mut Vec<u8>,
    schema: &TableSchema,
    t: &TableSpec,
    row: &Row,
    selected: impl Fn(&Select) -> bool,
) {
    columns(out, schema, t, row, |c| selected(&c.select));
}

/// The selected columns that differ from their defaults.
fn set_columns(
    out: &mut Vec<u8>,
    schema: &TableSchema,
    t: &TableSpec,
    row: &Row,
    selected: impl Fn(&Select) -> bool,
) {
    columns(out, schema, t, row, |c| {
        selected(&c.select) && *row.get(c.column) != schema.columns[c.column].default
    });
}

fn columns(
    out: &mut Vec<u8>,
    schema: &TableSchema,
    t: &TableSpec,
    row: &Row,
    mut keep: impl FnMut(&MonitoredColumn) -> bool,
) {
    out.push(b'{');
    let start = out.len();
    for c in &t.columns {
        if keep(c) {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(&c.prefix);
            row.get(c.column)
                .write_json(&schema.columns[c.column].ty, out);
        }
    }
    out.push(b'}');
}

fn row_update(
    updates: &mut Updates,
    schema: &TableSchema,
    t: &TableSpec,
    id: &crate::Uuid,
    old: Option<&Row>,
    new: Option<&Row>,
) {
    match (old, new) {
        (None, Some(new)) if t.select.insert => {
            let out = updates.row(t, id);
            out.extend_from_slice(b"{\"new\":");
            all_columns(out, schema, t, new, |s| s.insert);
            out.push(b'}');
        }
        (Some(old), None) if t.select.delete => {
            let out = updates.row(t, id);
            out.extend_from_slice(b"{\"old\":");
            all_columns(out, schema, t, old, |s| s.delete);
            out.push(b'}');
        }
        (Some(old), Some(new)) if t.select.modify => {
            let differs =
                |c: &MonitoredColumn| c.select.modify && old.get(c.column) != new.get(c.column);
            if !t.columns.iter().any(differs) {
                return;
            }
            let out = updates.row(t, id);
            out.extend_from_slice(b"{\"new\":");
            all_columns(out, schema, t, new, |s| s.modify);
            out.extend_from_slice(b",\"old\":");
            columns(out, schema, t, old, differs);
            out.push(b'}');
        }
        _ => {}
    }
}

fn row_update2(
    updates: &mut Updates,
    schema: &TableSchema,
    t: &TableSpec,
    id: &crate::Uuid,
    old: Option<&Row>,
    new: Option<&Row>,
) {
    match (old, new) {
        (None, Some(new)) if t.select.insert => {
            let out = updates.row(t, id);
            out.extend_from_slice(b"{\"insert\":");
            set_columns(out, schema, t, new, |s| s.insert);
            out.push(b'}');
        }
        (Some(_), None) if t.select.delete => {
            updates.row(t, id).extend_from_slice(b"{\"delete\":null}");
        }
        (Some(old), Some(new)) if t.select.modify => {
            let differs =
                |c: &&MonitoredColumn| c.select.modify && old.get(c.column) != new.get(c.column);
            // Columns of the condition count as monitored, though they are not shown.
            let judged = t.condition.iter().flat_map(|c| c.columns());
            let mut judged = judged.filter(|&c| old.get(c) != new.get(c));
            if !t.columns.iter().any(|c| differs(&c)) && judged.next().is_none() {
                return;
            }
            let out = updates.row(t, id);
            out.extend_from_slice(b"{\"modify\":{");
            for (i, c) in t.columns.iter().filter(differs).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let ty = &schema.columns[c.column].ty;
                out.extend_from_slice(&c.prefix);
                old.get(c.column)
                    .diff(&new.get(c.column), ty)
                    .write_json(ty, out);
            }
            out.extend_from_slice(b"}}");
        }
        _ => {}
    }
}
