//! Databases and their schemas.

use super::Client;
use crate::table::{Cell, Table};
use ferrovs_ovsdb::DatabaseSchema;
use ferrovs_runtime::fatal;
use ferrovs_stream::json::{Value, to_string};

pub(super) fn list_dbs(client: &mut Client, _: Vec<String>) {
    for name in client.rpc().list_dbs() {
        println!("{name}");
    }
}

pub(super) fn get_schema(client: &mut Client, _: Vec<String>) {
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    client.print_json(&schema.to_json());
}

pub(super) fn get_schema_version(client: &mut Client, _: Vec<String>) {
    let database = client.database.clone();
    println!("{}", client.rpc().schema(&database).version);
}

pub(super) fn get_schema_cksum(client: &mut Client, _: Vec<String>) {
    let database = client.database.clone();
    println!("{}", client.rpc().schema(&database).cksum);
}

pub(super) fn list_tables(client: &mut Client, _: Vec<String>) {
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    let mut table = Table::new(vec!["Table".into()]);
    table.rows = schema
        .tables
        .keys()
        .map(|name| vec![Cell::Text(name.clone())])
        .collect();
    client.print_table(&table);
}

pub(super) fn list_columns(client: &mut Client, args: Vec<String>) {
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    let only = args.first();
    let mut headings = vec!["Column".to_string(), "Type".to_string()];
    if only.is_none() {
        headings.insert(0, "Table".into());
    }
    let mut table = Table::new(headings);
    for t in schema
        .tables
        .values()
        .filter(|t| only.is_none_or(|name| *name == t.name))
    {
        for column in &t.columns {
            let json = column.ty.to_json();
            let mut row = vec![Cell::Text(column.name.clone()), Cell::Json(json)];
            if only.is_none() {
                row.insert(0, Cell::Text(t.name.clone()));
            }
            table.rows.push(row);
        }
    }
    client.print_table(&table);
}

fn schema_from_file(name: &str) -> DatabaseSchema {
    ferrovs_ovsdb::log::load::schema_from_file(name).unwrap_or_else(|e| fatal(e))
}

pub(super) fn convert(client: &mut Client, args: Vec<String>) {
    let schema = schema_from_file(&args[0]);
    client.open(&schema.name);
    if client.change_aware != Some(false) {
        client.rpc().be_change_aware();
    }
    client.rpc().call(
        "convert",
        vec![schema.name.as_str().into(), schema.to_json()],
    );
}

pub(super) fn needs_conversion(client: &mut Client, args: Vec<String>) {
    let wanted = schema_from_file(&args[0]);
    client.open(&wanted.name);
    let have = client.rpc().schema_json(&wanted.name);
    let have = DatabaseSchema::from_json(&have).unwrap_or_else(|e| fatal(e));
    // What a schema means is its canonical form; the checksum is only about its file.
    let meaning = |schema: &DatabaseSchema| {
        let mut json = schema.to_json();
        if let Value::Object(members) = &mut json {
            members.remove("cksum");
        }
        to_string(&json)
    };
    println!(
        "{}",
        if meaning(&wanted) == meaning(&have) {
            "no"
        } else {
            "yes"
        }
    );
}
