//! `<table-updates>` and `<table-updates2>` from another server, put into a database: what backups
//! and relays do with the contents and the changes that they are sent.
//!
//! Everything happens in the caller's transaction, so that an update takes effect as a whole. The
//! server at the other end is not trusted to be sane: what does not fit the schema is an error.
//! `_version` is skipped, each server has versions of its own.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::db::Database;
use crate::error::tag;
use crate::row::{Row, columns_from_json};
use crate::schema::{STANDARD_COLUMNS, TableSchema};
use crate::txn::Txn;
use crate::{Datum, Error, Uuid};

/// How changes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `update`: the whole new row.
    Whole,
    /// `update2` and `update3`: differences.
    Differences,
}

/// Deletes the rows of every table that `keep` does not name.
pub fn clear(db: &mut Database, txn: &mut Txn, keep: &dyn Fn(&str) -> bool) {
    for table in 0..db.tables().len() {
        if keep(&db.tables()[table].schema.name) {
            continue;
        }
        let rows: Vec<Uuid> = db.tables()[table].iter().map(|r| r.uuid).collect();
        for uuid in rows {
            txn.delete(db, table, uuid);
        }
    }
}

/// Applies updates to every table but those that `skip` names.
pub fn apply(
    db: &mut Database,
    txn: &mut Txn,
    updates: &Value,
    form: Form,
    skip: &dyn Fn(&str) -> bool,
) -> Result<(), Error> {
    let tables = object(updates, "table updates must be object")?;
    for (name, rows) in tables {
        let Some(table) = db.table_index(name) else {
            return Err(Error::about(
                updates,
                "unknown table",
                format!("No table named {name}."),
            ));
        };
        if skip(name) {
            continue;
        }
        let schema = Arc::clone(&db.tables()[table].schema);
        for (id, update) in object(rows, "table update must be object")? {
            let uuid = crate::uuid::parse(id).ok_or_else(|| {
                Error::syntax(rows, format!("table update has bad UUID as key: {id}"))
            })?;
            row(db, txn, table, &schema, uuid, update, form)?;
        }
    }
    Ok(())
}

fn object<'a>(json: &'a Value, why: &str) -> Result<&'a Map<String, Value>, Error> {
    json.as_object()
        .ok_or_else(|| Error::new(tag::INTERNAL, why))
}

fn row(
    db: &mut Database,
    txn: &mut Txn,
    table: usize,
    schema: &TableSchema,
    uuid: Uuid,
    update: &Value,
    form: Form,
) -> Result<(), Error> {
    let members = object(update, "row update must be object")?;
    let old = db.tables()[table].get(&uuid).cloned();
    let missing = || {
        Error::new(
            tag::INTERNAL,
            format!("row {uuid} of table {} is not here", schema.name),
        )
    };
    match form {
        Form::Whole => match (members.get("new"), members.contains_key("old")) {
            (Some(new), _) => {
                let base = old.map_or_else(|| Row::new(schema, uuid), |r| r.next());
                put(db, txn, table, schema, base, new)
            }
            (None, true) => {
                old.ok_or_else(missing)?;
                txn.delete(db, table, uuid);
                Ok(())
            }
            (None, false) => Err(Error::syntax(update, "row update has neither old nor new")),
        },
        Form::Differences => {
            let mut one = members.iter();
            match (one.next().map(|(k, v)| (k.as_str(), v)), one.next()) {
                (Some(("initial" | "insert", new)), None) => {
                    put(db, txn, table, schema, Row::new(schema, uuid), new)
                }
                (Some(("modify", changes)), None) => {
                    let mut new = old.ok_or_else(missing)?.next();
                    for (name, value) in object(changes, "row must be JSON object")? {
                        let column = schema.column(name).ok_or_else(|| {
                            Error::about(
                                changes,
                                tag::UNKNOWN_COLUMN,
                                format!("No column {name} in table {}.", schema.name),
                            )
                        })?;
                        if column.index >= STANDARD_COLUMNS {
                            let change = Datum::from_json_any_number(&column.ty, value, None)?;
                            let value = new.field(column.index).apply_diff(&change, &column.ty);
                            new.set(column.index, value);
                        }
                    }
                    txn.modify(db, table, new);
                    Ok(())
                }
                (Some(("delete", _)), None) => {
                    old.ok_or_else(missing)?;
                    txn.delete(db, table, uuid);
                    Ok(())
                }
                _ => Err(Error::syntax(
                    update,
                    "row update must be one of initial, insert, modify and delete",
                )),
            }
        }
    }
}

fn put(
    db: &mut Database,
    txn: &mut Txn,
    table: usize,
    schema: &TableSchema,
    mut row: Row,
    columns: &Value,
) -> Result<(), Error> {
    for (c, value) in columns_from_json(schema, columns, None)? {
        if c >= STANDARD_COLUMNS {
            row.set(c, value);
        }
    }
    txn.insert(db, table, row);
    Ok(())
}
