//! `backup` and `restore`: a database's contents in the form of a database file.

use super::Client;
use super::data::check_results;
use ferrovs_ovsdb::log::file::{LogFile, Mode};
use ferrovs_ovsdb::log::frame;
use ferrovs_ovsdb::{ColumnType, DatabaseSchema, Datum, TableSchema, uuid};
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_runtime::{clock, fatal, fatal_io};
use ferrovs_stream::json::{Map, Value, to_string};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

pub(super) fn backup(client: &mut Client, _: Vec<String>) {
    if std::io::stdout().is_terminal() {
        fatal("not writing backup to a terminal; please redirect stdout to a file");
    }
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    let mut transaction = vec![Value::from(database)];
    for table in schema.tables.values() {
        let mut columns: Vec<Value> = table
            .own_columns()
            .iter()
            .filter(|c| c.persistent)
            .map(|c| Value::from(c.name.as_str()))
            .collect();
        columns.push("_uuid".into());
        transaction.push(serde_json::json!({
            "op": "select", "table": table.name, "where": [], "columns": columns
        }));
    }
    let result = client.rpc().call("transact", transaction);
    let results = check_results(&result, schema.tables.len());
    let mut record = Map::new();
    for (table, result) in schema.tables.values().zip(results) {
        let mut rows = Map::new();
        for row in result
            .get("rows")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let mut row = row.clone();
            let id = row
                .pointer("/_uuid/1")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string();
            if let Value::Object(members) = &mut row {
                members.remove("_uuid");
            }
            rows.insert(id, row);
        }
        if !rows.is_empty() {
            record.insert(table.name.clone(), Value::Object(rows));
        }
    }
    record.insert("_date".into(), clock::wall_ms().into());
    let mut out = std::io::stdout().lock();
    let schema = frame(to_string(&schema.to_json()).as_bytes());
    let rows = frame(to_string(&Value::Object(record)).as_bytes());
    let written = out.write_all(&schema).and_then(|()| out.write_all(&rows));
    if let Err(e) = written.and_then(|()| out.flush()) {
        fatal_io(&e, "write to stdout failed");
    }
}

pub(super) fn restore(client: &mut Client, _: Vec<String>) {
    if std::io::stdin().is_terminal() {
        fatal("not reading backup from a terminal; please redirect stdin from a file");
    }
    let warn = |_: &'static str, _: &str| {};
    let mut log = LogFile::open("/dev/stdin", Mode::ReadOnly, &warn).unwrap_or_else(|e| fatal(e));
    let mut read = || log.read().unwrap_or_else(|e| fatal(e));
    let Some(schema) = read() else {
        fatal("unexpected end of file reading schema")
    };
    let schema = DatabaseSchema::from_json(&schema).unwrap_or_else(|e| fatal(e));
    let Some(rows) = read() else {
        fatal("unexpected end of file reading data")
    };
    if read().is_some() {
        fatal("trailing data in backup (this is not a backup but a whole database file)");
    }
    let database = client.database.clone();
    let target = client.rpc().schema(&database);
    check_schemas(&schema, &target, client.force);
    let mut transaction = vec![Value::from(database)];
    for name in target.tables.keys() {
        transaction.push(serde_json::json!({ "op": "delete", "table": name, "where": [] }));
    }
    let ids: BTreeSet<&str> = rows
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !name.starts_with('_'))
        .flat_map(|(_, rows)| rows.as_object().into_iter().flatten())
        .map(|(id, _)| id.as_str())
        .collect();
    for (name, rows) in rows.as_object().into_iter().flatten() {
        let Some(table) = target.table(name) else {
            continue;
        };
        for (id, row) in rows.as_object().into_iter().flatten() {
            transaction.push(serde_json::json!({
                "op": "insert", "table": name, "uuid-name": named(id),
                "row": restored_row(table, row, &ids, client.force),
            }));
        }
    }
    let operations = transaction.len() - 1;
    let result = client.rpc().call("transact", transaction);
    check_results(&result, operations);
}

fn named(id: &str) -> String {
    format!("row{}", id.replace('-', "_"))
}

/// A row with references to other restored rows by name, as all get new UUIDs.
fn restored_row(table: &TableSchema, row: &Value, ids: &BTreeSet<&str>, force: bool) -> Value {
    let mut out = Map::new();
    for (name, value) in row.as_object().into_iter().flatten() {
        let Some(column) = table.column(name) else {
            if force {
                continue;
            }
            fatal(format_args!("table {} has no column {name}", table.name));
        };
        if force && !fits(&column.ty, value) {
            continue;
        }
        let mut value = value.clone();
        substitute(&mut value, ids);
        out.insert(name.clone(), value);
    }
    Value::Object(out)
}

fn fits(ty: &ColumnType, value: &Value) -> bool {
    Datum::from_json(ty, value, None).is_ok()
}

fn substitute(json: &mut Value, ids: &BTreeSet<&str>) {
    let Value::Array(items) = json else { return };
    if let [Value::String(tag), Value::String(id)] = items.as_mut_slice()
        && tag == "uuid"
        && uuid::parse(id).is_some()
        && ids.contains(id.as_str())
    {
        *tag = "named-uuid".into();
        *id = named(id);
        return;
    }
    items.iter_mut().for_each(|item| substitute(item, ids));
}

fn check_schemas(backup: &DatabaseSchema, target: &DatabaseSchema, force: bool) {
    let difference = if backup.name != target.name {
        format!(
            "backup schema has name \"{}\" but database schema has name \"{}\"",
            backup.name, target.name
        )
    } else if backup.version != target.version {
        format!(
            "backup schema has version \"{}\" but database schema has version \"{}\"",
            backup.version, target.version
        )
    } else if backup.cksum != target.cksum {
        format!(
            "backup schema has checksum \"{}\" but database schema has checksum \"{}\"",
            backup.cksum, target.cksum
        )
    } else {
        return;
    };
    if !force {
        fatal(format_args!(
            "{difference} (use --force to override differences, or \"ovsdb-client convert\" to change the schema)"
        ));
    }
    vlog::info!(modules::OVSDB_CLIENT, "{difference}");
}
