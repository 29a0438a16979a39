//! Printing updates: a table per database table that changed.

use super::Client;
use crate::table::{Cell, Table};
use ferrovs_ovsdb::{Datum, TableSchema};
use ferrovs_runtime::fatal;
use ferrovs_stream::json::Value;
use std::sync::Arc;

/// A table that is watched, and its columns in the order they are printed.
pub(super) struct Watched {
    pub table: Arc<TableSchema>,
    pub columns: Vec<usize>,
}

/// The first contents, in whichever form the request brings them.
pub(super) fn print_initial(client: &mut Client, watched: &[Watched], updates: &Value) {
    let rows = updates
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, rows)| rows.as_object());
    let second_form = rows.flatten().any(|(_, row)| row.get("initial").is_some());
    match second_form {
        true => print2(client, watched, updates, true),
        false => print1(client, watched, updates, true),
    }
}

/// `<table-updates>`: whole rows, old and new.
pub(super) fn print1(client: &mut Client, watched: &[Watched], updates: &Value, initial: bool) {
    each_table(client, watched, updates, |w, id, update, rows| {
        let (old, new) = (update.get("old"), update.get("new"));
        match (old, new) {
            (Some(old), Some(new)) => {
                rows.push(w.row(id, "old", Some(old)));
                rows.push(w.row("", "new", Some(new)));
            }
            (Some(old), None) => rows.push(w.row(id, "delete", Some(old))),
            (None, Some(new)) => {
                rows.push(w.row(id, if initial { "initial" } else { "insert" }, Some(new)));
            }
            (None, None) => {}
        }
    });
}

/// `<table-updates2>`: what changed, and how.
pub(super) fn print2(client: &mut Client, watched: &[Watched], updates: &Value, _initial: bool) {
    each_table(client, watched, updates, |w, id, update, rows| {
        for (action, row) in update.as_object().into_iter().flatten() {
            if ["initial", "insert", "modify", "delete"].contains(&action.as_str()) {
                rows.push(w.row(id, action, Some(row)));
            }
        }
    });
}

fn each_table(
    client: &mut Client,
    watched: &[Watched],
    updates: &Value,
    mut print: impl FnMut(&Watched, &str, &Value, &mut Vec<Vec<Cell>>),
) {
    for w in watched {
        let Some(changes) = updates.get(&w.table.name).and_then(Value::as_object) else {
            continue;
        };
        let mut columns = vec!["row".to_string(), "action".to_string()];
        columns.extend(w.columns.iter().map(|&c| w.table.columns[c].name.clone()));
        let mut out = Table::new(columns);
        if watched.len() > 1 {
            out.caption = Some(w.table.name.clone());
        }
        out.timestamp = client.now_text();
        for (id, update) in changes {
            print(w, id, update, &mut out.rows);
        }
        if !out.rows.is_empty() {
            client.print_table(&out);
        }
    }
}

impl Watched {
    fn row(&self, id: &str, action: &str, row: Option<&Value>) -> Vec<Cell> {
        let mut cells = vec![Cell::Text(id.into()), Cell::Text(action.into())];
        for &c in &self.columns {
            let column = &self.table.columns[c];
            cells.push(match row.and_then(|row| row.get(&column.name)) {
                Some(json) => {
                    // Differences may have any number of members.
                    let datum = Datum::from_json_any_number(&column.ty, json, None)
                        .unwrap_or_else(|e| fatal(e));
                    Cell::Datum(datum, column.ty.clone())
                }
                None => Cell::Empty,
            });
        }
        cells
    }
}
