//! Transactions and dumps.

use super::Client;
use crate::table::{Cell, Table};
use ferrovs_ovsdb::{Datum, TableSchema};
use ferrovs_runtime::fatal;
use ferrovs_stream::json::{Value, parse, to_string};
use std::sync::Arc;

/// Reads a transaction: an array that begins with a database's name.
fn parse_transaction(text: &str) -> Vec<Value> {
    let json = parse(text).unwrap_or_else(|e| fatal(format_args!("\"{text}\": {e}")));
    match json {
        Value::Array(items) if items.first().is_some_and(Value::is_string) => items,
        _ => fatal("not a valid OVSDB query"),
    }
}

pub(super) fn transact(client: &mut Client, args: Vec<String>) {
    let transaction = parse_transaction(&args[0]);
    let result = client.rpc().call("transact", transaction);
    client.print_json(&result);
}

pub(super) fn query(client: &mut Client, args: Vec<String>) {
    let mut transaction = parse_transaction(&args[0]);
    // The transaction is taken back at its end, whatever it did.
    transaction.push(serde_json::json!({ "op": "abort" }));
    let operations = transaction.len() - 1;
    let mut result = client.rpc().call("transact", transaction);
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

/// Fails unless every operation of a reply succeeded.
pub(super) fn check_results(result: &Value, operations: usize) -> &[Value] {
    let Some(results) = result.as_array() else {
        fatal(format_args!(
            "transaction returned error: {}",
            to_string(result)
        ));
    };
    for (i, result) in results.iter().enumerate() {
        if result.get("error").is_some() {
            fatal(format_args!(
                "transaction returned error: {}",
                to_string(result)
            ));
        }
        if i >= operations {
            fatal("transaction returned more results than operations");
        }
    }
    if results.len() < operations {
        fatal(format_args!(
            "transaction returned {} results for {operations} operations",
            results.len()
        ));
    }
    results
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
        columns.dedup();
        let names: Vec<Value> = columns
            .iter()
            .map(|&c| Value::from(table.columns[c].name.as_str()))
            .collect();
        transaction.push(serde_json::json!({
            "op": "select", "table": table.name, "where": [], "columns": names
        }));
        sorted.push((table, columns));
    }
    let result = client.rpc().call("transact", transaction);
    let results = check_results(&result, sorted.len());
    for ((table, columns), result) in sorted.iter().zip(results) {
        dump_table(client, table, columns, result);
    }
}

fn all_columns(table: &TableSchema) -> Vec<usize> {
    let version = ferrovs_ovsdb::schema::COL_VERSION;
    (0..table.columns.len()).filter(|&c| c != version).collect()
}

fn dump_table(client: &mut Client, table: &TableSchema, columns: &[usize], result: &Value) {
    let rows = result
        .get("rows")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
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
    data.sort();
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
