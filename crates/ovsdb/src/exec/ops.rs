//! The ten operations of RFC 7047 section 5.2. Each takes its members from the parser, does its
//! work and appends its result object.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use serde_json::Value;

use super::{Context, Run, Step};
use crate::condition::Condition;
use crate::error::tag;
use crate::json;
use crate::parser::{Kind, Parser};
use crate::row::{Row, columns_from_json};
use crate::schema::{COL_UUID, STANDARD_COLUMNS, TableSchema};
use crate::{Datum, Error};

type Result<T> = std::result::Result<T, Error>;

impl Run<'_> {
    fn table(&self, p: &mut Parser<'_>) -> Option<usize> {
        let name = p.required("table", Kind::ID)?.as_str()?;
        let table = self.db.table_index(name);
        if table.is_none() {
            p.raise(format!("No table named {name}."));
        }
        table
    }

    fn schema(&self, table: usize) -> Arc<TableSchema> {
        Arc::clone(&self.db.tables[table].schema)
    }

    fn condition(&mut self, schema: &TableSchema, json: &Value) -> Result<Condition> {
        Condition::from_json(schema, json, Some(&mut self.symtab))
    }

    fn count(&mut self, n: usize) -> Result<Step> {
        self.out.extend_from_slice(b"{\"count\":");
        json::write_integer(&mut self.out, n as i64);
        self.out.push(b'}');
        Ok(Step::Next)
    }

    fn nothing(&mut self) -> Result<Step> {
        self.out.extend_from_slice(b"{}");
        Ok(Step::Next)
    }

    pub(super) fn insert(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step> {
        let table = self.table(p);
        let uuid_json = p.optional("uuid", Kind::STRING);
        let uuid_name = p.optional("uuid-name", Kind::ID);
        let row_json = p.required("row", Kind::OBJECT);
        let (Some(table), Some(row_json), false) = (table, row_json, p.failed()) else {
            return Ok(Step::Next);
        };
        let schema = self.schema(table);
        let mut uuid = None;
        if let Some(j) = uuid_json {
            let parsed = j.as_str().and_then(crate::uuid::parse);
            let Some(u) = parsed else {
                return Err(Error::syntax(j, "bad uuid"));
            };
            if self.db.tables[table].contains(&u) || self.txn.deleted(table, &u) {
                return Err(Error::about(
                    j,
                    tag::DUPLICATE_UUID,
                    "This UUID would duplicate a UUID already present within the table or \
                     deleted within the same transaction.",
                ));
            }
            uuid = Some(u);
        }
        let uuid = match uuid_name {
            Some(j) => {
                let fresh = uuid.unwrap_or_else(crate::uuid::random);
                let symbol = self
                    .symtab
                    .insert_with(j.as_str().unwrap_or_default(), || fresh);
                if symbol.created {
                    return Err(Error::about(
                        j,
                        tag::DUPLICATE_UUID_NAME,
                        "This \"uuid-name\" appeared on an earlier \"insert\" operation.",
                    ));
                }
                if let Some(u) = uuid {
                    symbol.uuid = u;
                }
                symbol.created = true;
                symbol.uuid
            }
            None => uuid.unwrap_or_else(crate::uuid::random),
        };
        let columns = columns_from_json(&schema, row_json, Some(&mut self.symtab))?;
        let mut row = Row::new(&schema, uuid);
        for (c, value) in columns {
            if c >= STANDARD_COLUMNS {
                row.set(c, value);
            }
        }
        // Defaults are not exempt from the constraints.
        for c in schema.own_columns().iter().filter(|c| !c.default_ok) {
            row.field(c.index).check(&c.ty)?;
        }
        cx.who.may_insert(self.db, table, &row)?;
        self.txn.insert(self.db, table, row);
        self.out.extend_from_slice(b"{\"uuid\":[\"uuid\",\"");
        crate::uuid::write(&mut self.out, &uuid);
        self.out.extend_from_slice(b"\"]}");
        Ok(Step::Next)
    }

    pub(super) fn select(&mut self, p: &mut Parser<'_>) -> Result<Step> {
        let table = self.table(p);
        let wher = p.required("where", Kind::ARRAY);
        let columns = p.optional("columns", Kind::ARRAY);
        let sort = p.optional("sort", Kind::ARRAY);
        let (Some(table), Some(wher), false) = (table, wher, p.failed()) else {
            return Ok(Step::Next);
        };
        let schema = self.schema(table);
        let condition = self.condition(&schema, wher)?;
        let columns = selected_columns(&schema, columns)?;
        let sort = sort.map(|j| schema.column_set(j)).transpose()?;
        let mut rows = distinct(condition.select(&self.db.tables[table]), &columns);
        if let Some(by) = sort {
            let key = |row: &Row| by.iter().map(|&c| row.get(c).into_owned()).collect();
            rows.sort_by_cached_key(|row| -> Vec<Datum> { key(row) });
        }
        let mut named: Vec<(usize, Vec<u8>)> = columns
            .iter()
            .map(|&c| (c, member(&schema.columns[c].name)))
            .collect();
        named.sort_by(|a, b| schema.columns[a.0].name.cmp(&schema.columns[b.0].name));
        self.out.extend_from_slice(b"{\"rows\":[");
        for (i, row) in rows.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            write_row(&mut self.out, &schema, row, &named);
        }
        self.out.extend_from_slice(b"]}");
        Ok(Step::Next)
    }

    pub(super) fn update(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step> {
        let table = self.table(p);
        let wher = p.required("where", Kind::ARRAY);
        let row_json = p.required("row", Kind::OBJECT);
        let (Some(table), Some(wher), Some(row_json), false) = (table, wher, row_json, p.failed())
        else {
            return Ok(Step::Next);
        };
        let schema = self.schema(table);
        let columns = columns_from_json(&schema, row_json, Some(&mut self.symtab))?;
        if let Some((c, _)) = columns.iter().find(|(c, _)| !schema.columns[*c].mutable) {
            return Err(Error::about(
                p.json(),
                tag::CONSTRAINT,
                format!(
                    "Cannot update immutable column {} in table {}.",
                    schema.columns[*c].name, schema.name
                ),
            ));
        }
        let condition = self.condition(&schema, wher)?;
        let rows = condition.select(&self.db.tables[table]);
        let named: Vec<usize> = columns.iter().map(|(c, _)| *c).collect();
        cx.who
            .may_update(self.db, table, rows.iter().map(|r| &**r), &named)?;
        for row in &rows {
            if columns.iter().any(|(c, d)| row.field(*c) != d) {
                let mut new = row.next();
                columns.iter().for_each(|(c, d)| new.set(*c, d.clone()));
                self.txn.modify(self.db, table, new);
            }
        }
        self.count(rows.len())
    }

    pub(super) fn mutate(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step> {
        let table = self.table(p);
        let wher = p.required("where", Kind::ARRAY);
        let mutations = p.required("mutations", Kind::ARRAY);
        let (Some(table), Some(wher), Some(mutations), false) =
            (table, wher, mutations, p.failed())
        else {
            return Ok(Step::Next);
        };
        let schema = self.schema(table);
        let mutations = crate::mutation::from_json(&schema, mutations, Some(&mut self.symtab))?;
        let condition = self.condition(&schema, wher)?;
        let rows = condition.select(&self.db.tables[table]);
        cx.who
            .may_mutate(self.db, table, rows.iter().map(|r| &**r), &mutations)?;
        for row in &rows {
            let mut new = row.next();
            for m in &mutations {
                m.apply(&schema, &mut new)?;
            }
            if !new.same_fields(row) {
                self.txn.modify(self.db, table, new);
            }
        }
        self.count(rows.len())
    }

    pub(super) fn delete(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step> {
        let wher = p.required("where", Kind::ARRAY);
        let table = self.table(p);
        let (Some(table), Some(wher), false) = (table, wher, p.failed()) else {
            return Ok(Step::Next);
        };
        let schema = self.schema(table);
        let condition = self.condition(&schema, wher)?;
        let rows = condition.select(&self.db.tables[table]);
        cx.who
            .may_delete(self.db, table, rows.iter().map(|r| &**r))?;
        for row in &rows {
            self.txn.delete(self.db, table, row.uuid);
        }
        self.count(rows.len())
    }

    pub(super) fn wait(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step> {
        let timeout = p.optional("timeout", Kind::INTEGER);
        let wher = p.required("where", Kind::ARRAY);
        let columns = p.optional("columns", Kind::ARRAY);
        let until = p.required("until", Kind::STRING);
        let rows = p.required("rows", Kind::ARRAY);
        let table = self.table(p);
        let (Some(table), Some(wher), Some(until), Some(rows), false) =
            (table, wher, until, rows, p.failed())
        else {
            return Ok(Step::Next);
        };
        let schema = self.schema(table);
        let condition = self.condition(&schema, wher)?;
        let columns = selected_columns(&schema, columns)?;
        let equal = match until.as_str() {
            Some("==") => true,
            Some("!=") => false,
            _ => return Err(Error::syntax(until, "\"until\" must be \"==\" or \"!=\"")),
        };
        let mut wanted = HashSet::new();
        for r in rows.as_array().into_iter().flatten() {
            let given = columns_from_json(&schema, r, Some(&mut self.symtab))?;
            let projection: Vec<Datum> = columns
                .iter()
                .map(|&c| {
                    let value = given.iter().find(|(g, _)| *g == c);
                    value.map_or_else(|| schema.columns[c].default.clone(), |(_, d)| d.clone())
                })
                .collect();
            wanted.insert(projection);
        }
        let found: HashSet<Vec<Datum>> = condition
            .select(&self.db.tables[table])
            .iter()
            .map(|r| columns.iter().map(|&c| r.get(c).into_owned()).collect())
            .collect();
        if (found == wanted) == equal {
            return self.nothing();
        }
        let timeout = timeout
            .and_then(Value::as_f64)
            .map(|ms| Duration::from_millis(ms.clamp(0.0, 1e15) as u64));
        match timeout {
            Some(t) if cx.elapsed >= t => Err(Error::new(
                tag::TIMED_OUT,
                if cx.elapsed.is_zero() || t.is_zero() {
                    "\"where\" clause test failed".to_owned()
                } else {
                    format!("\"wait\" timed out after {} ms", cx.elapsed.as_millis())
                },
            )),
            other => Ok(Step::Wait(other)),
        }
    }

    pub(super) fn commit(&mut self, p: &mut Parser<'_>) -> Result<Step> {
        if let Some(durable) = p.required("durable", Kind::BOOLEAN) {
            self.txn.durable |= durable == true;
        }
        self.nothing()
    }

    pub(super) fn abort(&mut self, _: &mut Parser<'_>) -> Result<Step> {
        Err(Error::new(tag::ABORTED, "aborted by request"))
    }

    pub(super) fn comment(&mut self, p: &mut Parser<'_>) -> Result<Step> {
        if let Some(s) = p.required("comment", Kind::STRING).and_then(Value::as_str) {
            self.txn.append_comment(s);
        }
        self.nothing()
    }

    pub(super) fn assert(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step> {
        let Some(lock) = p.required("lock", Kind::ID).and_then(Value::as_str) else {
            return Ok(Step::Next);
        };
        if !(cx.owns_lock)(lock) {
            return Err(Error::new(
                tag::NOT_OWNER,
                format!("Asserted lock {lock} not held."),
            ));
        }
        self.nothing()
    }
}

/// The columns that `columns` names, or all of them.
fn selected_columns(schema: &TableSchema, json: Option<&Value>) -> Result<Vec<usize>> {
    match json {
        Some(j) => schema.column_set(j),
        None => Ok((0..schema.columns.len()).collect()),
    }
}

/// Without `_uuid` among the columns, rows that look the same count once.
fn distinct(rows: Vec<Arc<Row>>, columns: &[usize]) -> Vec<Arc<Row>> {
    if columns.contains(&COL_UUID) || rows.len() < 2 {
        return rows;
    }
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for row in rows {
        let projection: Vec<Datum> = columns.iter().map(|&c| row.get(c).into_owned()).collect();
        if seen.insert(projection) {
            out.push(row);
        }
    }
    out
}

/// `"name":`
pub(crate) fn member(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    json::write_str(&mut out, name);
    out.push(b':');
    out
}

/// Appends a row as an object; `columns` are positions with their member prefixes, sorted by name.
pub(crate) fn write_row(
    out: &mut Vec<u8>,
    schema: &TableSchema,
    row: &Row,
    columns: &[(usize, Vec<u8>)],
) {
    out.push(b'{');
    for (i, (c, prefix)) in columns.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(prefix);
        row.get(*c).write_json(&schema.columns[*c].ty, out);
    }
    out.push(b'}');
}
