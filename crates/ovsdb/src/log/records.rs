//! Transactions as records and back.
//!
//! ```text
//! {"_comment":"...","_date":<ms>,"_is_diff":true,
//!  "<table>":{"<uuid>":{"<column>":<value>,...}, "<uuid>":null}}
//! ```
//!
//! A new row carries the columns that differ from their defaults, a changed row those that changed
//! (as differences if `_is_diff`, unless they had their defaults), a deleted one is null. Ephemeral columns never appear.

use std::io::Read;
use std::sync::Arc;

use serde_json::Value;

use super::stream::{self, Part, Unusual};
use crate::db::{Database, Snapshot};
use crate::error::tag;
use crate::exec::member;
use crate::json::{self, Stop, WalkError};
use crate::row::Row;
use crate::schema::TableSchema;
use crate::txn::{Change, Committed, Txn};
use crate::{Datum, Error, uuid};

/// The body of the record for a transaction, or none if it changed nothing that is kept: a comment
/// alone is not.
///
/// `diff`: write changed columns as differences, which Open vSwitch reads since 2.16. A difference
/// with more members than the column may have (two old, two new, at most two allowed) is not
/// readable to Open vSwitch 3.1, although it writes such ones: then all columns come as they are.
pub fn encode_txn(db: &Database, c: &Committed, date_ms: i64, diff: bool) -> Option<Vec<u8>> {
    let mut changes: Vec<&Change> = c.changes.iter().collect();
    if changes.windows(2).any(|w| w[0].table > w[1].table) {
        changes.sort_by_key(|c| c.table);
    }
    let mut tables = Vec::new();
    let mut last = usize::MAX;
    for change in changes {
        let schema = &db.tables()[change.table].schema;
        let row = match encode_row(schema, change, diff) {
            Encoded::Row(row) => row,
            Encoded::Nothing => continue,
            Encoded::TooLong => return encode_txn(db, c, date_ms, false),
        };
        if last == change.table {
            tables.push(b',');
        } else {
            if last != usize::MAX {
                tables.extend_from_slice(b"},");
            }
            last = change.table;
            tables.extend_from_slice(&member(&schema.name));
            tables.push(b'{');
        }
        tables.push(b'"');
        uuid::write(&mut tables, &change.uuid);
        tables.extend_from_slice(b"\":");
        tables.extend_from_slice(&row);
    }
    if tables.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(tables.len() + 64);
    out.push(b'{');
    out.append(&mut tables);
    out.extend_from_slice(b"},");
    trailer(&mut out, &c.comment, date_ms, diff);
    Some(out)
}

fn trailer(out: &mut Vec<u8>, comment: &str, date_ms: i64, diff: bool) {
    out.extend_from_slice(b"\"_date\":");
    json::write_integer(out, date_ms);
    if diff {
        out.extend_from_slice(b",\"_is_diff\":true");
    }
    if !comment.is_empty() {
        out.extend_from_slice(b",\"_comment\":");
        json::write_str(out, comment);
    }
    out.extend_from_slice(b"}\n");
}

enum Encoded {
    Row(Vec<u8>),
    /// No column that is kept changed.
    Nothing,
    /// The difference has more members than the column may have.
    TooLong,
}

fn encode_row(schema: &TableSchema, c: &Change, diff: bool) -> Encoded {
    let Some(new) = &c.new else {
        return Encoded::Row(b"null".to_vec());
    };
    let mut out = vec![b'{'];
    for column in schema.own_columns().iter().filter(|c| c.persistent) {
        let value = new.field(column.index);
        let difference;
        let value = match &c.old {
            None if *value == column.default => continue,
            None => value,
            Some(old) if old.field(column.index) == value => continue,
            // What replaces the default stands for itself, although columns that must have a
            // member are not empty by default.
            Some(old) if diff && *old.field(column.index) != column.default => {
                difference = old.field(column.index).diff(value, &column.ty);
                if difference.len() > column.ty.max as usize {
                    return Encoded::TooLong;
                }
                &difference
            }
            Some(_) => value,
        };
        if out.len() > 1 {
            out.push(b',');
        }
        json::write_str(&mut out, &column.name);
        out.push(b':');
        value.write_json(&column.ty, &mut out);
    }
    if c.old.is_some() && out.len() == 1 {
        return Encoded::Nothing;
    }
    out.push(b'}');
    Encoded::Row(out)
}

/// The schema as the first record's body.
pub fn encode_schema(schema: &crate::DatabaseSchema) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(&mut out, &schema.to_json());
    out.push(b'\n');
    out
}

/// Takes a record piece by piece.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Bytes that a piece has at least, the last one aside.
const PIECE: usize = 1 << 16;

/// The whole contents as the body of one record.
pub fn encode_snapshot(s: &Snapshot, comment: &str, date_ms: i64) -> Vec<u8> {
    let mut body = Vec::new();
    // Keeping the pieces cannot fail.
    let _ = write_snapshot(s, comment, date_ms, false, &mut |piece| {
        body.extend_from_slice(piece);
        Ok(())
    });
    body
}

/// The same, without ever having it whole in memory. `diff` says that changes in later records are
/// differences, which means nothing for rows that are new.
pub fn write_snapshot(
    s: &Snapshot,
    comment: &str,
    date_ms: i64,
    diff: bool,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let mut out = vec![b'{'];
    for (schema, rows) in s.schema.tables.values().zip(&s.tables) {
        if rows.is_empty() {
            continue;
        }
        let names: Vec<Vec<u8>> = schema
            .own_columns()
            .iter()
            .map(|c| member(&c.name))
            .collect();
        out.extend_from_slice(&member(&schema.name));
        for (i, row) in rows.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"{\"" } else { b",\"" });
            uuid::write(&mut out, &row.uuid);
            out.extend_from_slice(b"\":{");
            let mut first = true;
            for (column, name) in schema.own_columns().iter().zip(&names) {
                let value = row.field(column.index);
                if !column.persistent || *value == column.default {
                    continue;
                }
                if !std::mem::replace(&mut first, false) {
                    out.push(b',');
                }
                out.extend_from_slice(name);
                value.write_json(&column.ty, &mut out);
            }
            out.push(b'}');
            if out.len() >= PIECE {
                sink(&out)?;
                out.clear();
            }
        }
        out.extend_from_slice(b"},");
    }
    trailer(&mut out, comment, date_ms, diff);
    sink(&out)
}

/// When and why a record was written.
#[derive(Clone, Debug, Default)]
pub struct Info {
    pub date_ms: Option<i64>,
    pub comment: Option<String>,
    pub is_diff: bool,
}

impl Info {
    pub fn from_json(record: &Value) -> Self {
        Self {
            date_ms: record.get("_date").and_then(Value::as_i64),
            comment: record
                .get("_comment")
                .and_then(Value::as_str)
                .map(str::to_owned),
            is_diff: record.get("_is_diff") == Some(&Value::Bool(true)),
        }
    }
}

/// How to read records.
#[derive(Clone, Copy, Default)]
pub struct ReadOptions {
    /// The records were written under another schema: tables and columns that are gone are
    /// skipped.
    pub converting: bool,
}

/// Applies a record, given as its text, to the database, all of it or nothing. The rows are taken
/// one by one: the record of a whole database is never a tree in memory.
pub fn apply(
    db: &mut Database,
    record: &[u8],
    options: ReadOptions,
) -> Result<Committed, ApplyError> {
    let mut txn = Txn::new();
    if record.trim_ascii_start().first() != Some(&b'{') {
        return Err(match json::parse_bytes(record) {
            Ok(_) => ApplyError::NotObject,
            Err(e) => ApplyError::NotJson(e),
        });
    }
    match apply_to(db, &mut txn, record, options) {
        Ok(()) => txn
            .commit(db, &mut |_, _| Ok(()))
            .map_err(ApplyError::Refused),
        Err(e) => {
            txn.rollback(db);
            Err(match e {
                WalkError::Json(e) => ApplyError::NotJson(e),
                WalkError::Found(e) => ApplyError::Invalid(e),
            })
        }
    }
}

/// Applies a long record from where it is read, if it is one that adds rows. None, and nothing
/// happened, if it is any other.
pub fn apply_streamed(
    db: &mut Database,
    record: &mut dyn Read,
    options: ReadOptions,
) -> Option<Result<Committed, ApplyError>> {
    let mut txn = Txn::new();
    let done = stream::parts(record, |part| match part {
        Part::Row(table, id, row) => {
            let table = db.table_index(table).ok_or(Unusual)?;
            let id = uuid::parse(id).ok_or(Unusual)?;
            let columns = json::parse_bytes(row).map_err(|_| Unusual)?;
            // What is there may have to be changed by a difference.
            if columns.is_null() || db.tables[table].get(&id).is_some() {
                return Err(Unusual);
            }
            let schema = Arc::clone(&db.tables()[table].schema);
            let added = apply_row(db, &mut txn, table, &schema, id, &columns, false, options);
            added.map_err(|_| Unusual)
        }
        Part::Member(name, value) => {
            // Scalars are parsed inside of something only.
            let array = [b"[", value, b"]"].concat();
            let mut array = json::parse_bytes(&array).map_err(|_| Unusual)?;
            match (name, array[0].take()) {
                ("_date", v) if integer(&v) => {}
                ("_is_diff", Value::Bool(_)) => {}
                ("_comment", v) => {
                    if let Value::String(c) = v {
                        txn.comment = c;
                    }
                }
                _ => return Err(Unusual),
            }
            Ok(())
        }
    });
    match done {
        Ok(()) => Some(
            txn.commit(db, &mut |_, _| Ok(()))
                .map_err(ApplyError::Refused),
        ),
        Err(Unusual) => {
            txn.rollback(db);
            None
        }
    }
}

/// Why a record cannot be applied.
#[derive(Debug)]
pub enum ApplyError {
    NotJson(json::ParseError),
    /// Another kind of JSON.
    NotObject,
    /// It says nothing that can be done.
    Invalid(Error),
    /// What it says breaks a rule about the whole contents.
    Refused(Error),
}

fn apply_to(
    db: &mut Database,
    txn: &mut Txn,
    record: &[u8],
    options: ReadOptions,
) -> Result<(), WalkError<Error>> {
    // Whether changed columns are differences is said after the first rows.
    let mut is_diff = false;
    json::walk(record, |name, w| {
        match name.as_str() {
            "_is_diff" => is_diff = w.value()? == Value::Bool(true),
            "_comment" => {
                if let Value::String(c) = w.value()? {
                    txn.comment = c;
                }
            }
            _ => w.skip()?,
        }
        Ok(())
    })?;
    json::walk(record, |name, w| {
        let Some(table) = db.table_index(&name) else {
            let known = match name.as_str() {
                "_date" => integer(&w.value()?),
                "_is_diff" => w.value()?.is_boolean(),
                _ => {
                    w.skip()?;
                    name == "_comment"
                }
            };
            if known || options.converting {
                return Ok(());
            }
            let syntax = String::from_utf8_lossy(record).trim_end().to_owned();
            return Err(Stop::Found(Error {
                syntax: Some(syntax),
                ..Error::new("unknown table", format!("No table named {name}."))
            }));
        };
        if !w.at_object() {
            let v = w.value()?;
            return Err(Stop::Found(Error::syntax(&v, "object expected")));
        }
        let schema = Arc::clone(&db.tables()[table].schema);
        let start = w.position();
        w.members(|id, w| {
            let Some(id) = uuid::parse(&id) else {
                // The whole table is quoted, as far as it is one.
                let rest = &record[start..];
                let mut table = json::Walker::at(rest);
                let end = table
                    .skip::<Error>()
                    .map_or(rest.len(), |()| table.position());
                return Err(Stop::Found(Error {
                    syntax: Some(String::from_utf8_lossy(&rest[..end]).into_owned()),
                    ..Error::plain_syntax(format!("\"{id}\" is not a valid UUID"))
                }));
            };
            let columns = w.value()?;
            apply_row(db, txn, table, &schema, id, &columns, is_diff, options).map_err(Stop::Found)
        })
    })
}

/// True for a number without a fraction.
fn integer(v: &Value) -> bool {
    v.is_i64() || v.is_u64() || v.as_f64().is_some_and(|f| f.fract() == 0.0)
}

#[allow(clippy::too_many_arguments)]
fn apply_row(
    db: &mut Database,
    txn: &mut Txn,
    table: usize,
    schema: &TableSchema,
    id: crate::Uuid,
    columns: &Value,
    is_diff: bool,
    options: ReadOptions,
) -> Result<(), Error> {
    let old = db.tables[table].get(&id).cloned();
    if columns.is_null() {
        if old.is_none() {
            return Err(Error::plain_syntax(format!(
                "transaction deletes row {id} that does not exist"
            )));
        }
        txn.delete(db, table, id);
        return Ok(());
    }
    let fresh = old.is_none();
    let mut row = old.map_or_else(|| Row::new(schema, id), |o| o.next());
    set_columns(schema, &mut row, columns, is_diff && !fresh, options)?;
    txn.modify(db, table, row);
    Ok(())
}

fn set_columns(
    schema: &TableSchema,
    row: &mut Row,
    json: &Value,
    diff: bool,
    options: ReadOptions,
) -> Result<(), Error> {
    let Some(columns) = json.as_object() else {
        return Err(Error::syntax(json, "row must be JSON object"));
    };
    for (name, value) in columns {
        let Some(column) = schema.column(name) else {
            if options.converting {
                continue;
            }
            return Err(Error::about(
                json,
                tag::UNKNOWN_COLUMN,
                format!("No column {name} in table {}.", schema.name),
            ));
        };
        if column.index < crate::schema::STANDARD_COLUMNS {
            continue;
        }
        let value = if diff && *row.field(column.index) != column.default {
            let d = Datum::from_json_any_number(&column.ty, value, None)?;
            row.field(column.index).apply_diff(&d, &column.ty)
        } else {
            Datum::from_json(&column.ty, value, None)?
        };
        row.set(column.index, value);
    }
    Ok(())
}
