//! Transactions and dumps.

use super::Client;
use crate::table::{Cell, Table};
use ferrovs_ovsdb::{Datum, TableSchema};
use ferrovs_runtime::daemon::Access;
use ferrovs_runtime::fatal;
use ferrovs_stream::json::{Value, parse, to_string};
use std::cmp::Ordering;
use std::sync::Arc;

/// Reads a transaction: an array that begins with a database's name.
fn parse_transaction(text: &str) -> Vec<Value> {
    let json = parse(text).unwrap_or_else(|e| fatal(format_args!("\"{text}\": {e}")));
    match json {
        Value::Array(items) if items.first().is_some_and(Value::is_string) => items,
        _ => fatal("not a valid OVSDB query"),
    }
}

/// Sends a transaction, goes into the background if asked to, and waits for the results.
fn run(client: &mut Client, transaction: Vec<Value>) -> Value {
    client.open(transaction[0].as_str().unwrap_or_default());
    if client.change_aware == Some(true) {
        client.rpc().be_change_aware();
    }
    let id = client.rpc().send("transact", transaction);
    client.daemon.keep_stdout();
    client.daemon.keep_stderr();
    client.daemon.daemonize_start(Access::default());
    client.daemon.daemonize_complete();
    client.rpc().reply(&id)
}

pub(super) fn transact(client: &mut Client, args: Vec<String>) {
    let transaction = parse_transaction(&args[0]);
    let result = run(client, transaction);
    client.print_json(&result);
}

pub(super) fn query(client: &mut Client, args: Vec<String>) {
    let mut transaction = parse_transaction(&args[0]);
    // The transaction is taken back at its end, whatever it did.
    transaction.push(serde_json::json!({ "op": "abort" }));
    let operations = transaction.len() - 1;
    let mut result = run(client, transaction);
    let Value::Array(results) = &mut result else {
        fatal(format_args!(
            "unexpected reply to \"transact\": {}",
            to_string(&result)
        ));
    };
    if results.len() == operations
        && results
            .last()
            .and_then(|r| r.get("error"))
            .and_then(Value::as_str)
            == Some("aborted")
    {
        results.pop();
    }
    client.print_json(&result);
}

/// The rows that the `i`th operation of a transaction, a select from `table`, found.
pub(super) fn select_rows(result: &mut Value, i: usize, table: &str) -> Vec<Value> {
    let Some(results) = result.as_array_mut() else {
        fatal(format_args!(
            "unexpected reply to \"transact\": {}",
            to_string(result)
        ));
    };
    let reply = results.get_mut(i).map(Value::take).unwrap_or_default();
    match reply {
        Value::Object(mut members) if members.get("rows").is_some_and(Value::is_array) => {
            match members.remove("rows") {
                Some(Value::Array(rows)) => rows,
                _ => Vec::new(),
            }
        }
        other => fatal(format_args!(
            "{table} table reply is not an object with a \"rows\" member array: {}",
            to_string(&other)
        )),
    }
}

pub(super) fn dump(client: &mut Client, args: Vec<String>) {
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    // The first argument names a table, all others columns of it.
    let tables: Vec<(Arc<TableSchema>, Vec<usize>)> = match args.first() {
        Some(name) => {
            let Some(table) = schema.table(name) else {
                fatal(format_args!("No table \"{name}\" found."));
            };
            let mut columns: Vec<usize> = Vec::new();
            for column in &args[1..] {
                match table.column(column) {
                    Some(c) => columns.push(c.index),
                    None => fatal(format_args!("Table \"{name}\" has no column {column}.")),
                }
            }
            let columns = if columns.is_empty() {
                all_columns(table)
            } else {
                columns
            };
            vec![(Arc::clone(table), columns)]
        }
        None => schema
            .tables
            .values()
            .map(|t| (Arc::clone(t), all_columns(t)))
            .collect(),
    };
    let mut transaction = vec![Value::from(database)];
    let mut sorted = Vec::new();
    for (table, mut columns) in tables {
        columns.sort_by(|&a, &b| table.columns[a].name.cmp(&table.columns[b].name));
        let names: Vec<Value> = columns
            .iter()
            .map(|&c| Value::from(table.columns[c].name.as_str()))
            .collect();
        transaction.push(serde_json::json!({
            "op": "select", "table": table.name, "where": [], "columns": names
        }));
        sorted.push((table, columns));
    }
    let mut result = client.rpc().call("transact", transaction);
    for (i, (table, columns)) in sorted.iter().enumerate() {
        let rows = select_rows(&mut result, i, &table.name);
        dump_table(client, table, columns, &rows);
    }
}

fn all_columns(table: &TableSchema) -> Vec<usize> {
    let version = ferrovs_ovsdb::schema::COL_VERSION;
    (0..table.columns.len()).filter(|&c| c != version).collect()
}

fn dump_table(client: &mut Client, table: &TableSchema, columns: &[usize], rows: &[Value]) {
    let mut data: Vec<Vec<Datum>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|&c| {
                    let column = &table.columns[c];
                    let json = row.get(&column.name).unwrap_or(&Value::Null);
                    Datum::from_json(&column.ty, json, None).unwrap_or_else(|e| fatal(e))
                })
                .collect()
        })
        .collect();
    // What rows say orders them; who they are only tells equal ones apart.
    let (ids, values): (Vec<usize>, Vec<usize>) =
        (0..columns.len()).partition(|&i| columns[i] < ferrovs_ovsdb::schema::STANDARD_COLUMNS);
    let order = [values, ids].concat();
    data.sort_by(|a, b| {
        let mut columns = order.iter().map(|&i| a[i].cmp(&b[i]));
        columns.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    });
    let headings = columns
        .iter()
        .map(|&c| table.columns[c].name.clone())
        .collect();
    let mut out = Table::new(headings);
    out.caption = Some(format!("{} table", table.name));
    out.rows = data
        .into_iter()
        .map(|row| {
            let types = columns.iter().map(|&c| table.columns[c].ty.clone());
            row.into_iter()
                .zip(types)
                .map(|(d, ty)| Cell::Datum(d, ty))
                .collect()
        })
        .collect();
    client.print_table(&out);
}
