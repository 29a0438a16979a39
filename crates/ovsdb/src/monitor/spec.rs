//! What a monitor request asks for.

use serde_json::Value;

use crate::Error;
use crate::condition::Condition;
use crate::db::Database;
use crate::exec::member;
use crate::parser::{Kind, Parser};
use crate::schema::{COL_VERSION, TableSchema};
use crate::txn::Change;

/// The form of the updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `update`: old and new columns.
    V1,
    /// `update2`: differences, conditions.
    V2,
    /// `update3`: the same with a transaction id.
    V3,
}

/// Which events of a column are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select {
    pub initial: bool,
    pub insert: bool,
    pub delete: bool,
    pub modify: bool,
}

#[derive(Clone, Debug)]
pub struct MonitoredColumn {
    pub column: usize,
    /// `"name":`
    pub prefix: Vec<u8>,
    pub select: Select,
}

#[derive(Clone, Debug)]
pub struct TableSpec {
    pub table: usize,
    /// `"name":`
    pub prefix: Vec<u8>,
    /// Sorted by name.
    pub columns: Vec<MonitoredColumn>,
    /// What some column selects.
    pub select: Select,
    /// None is everything.
    pub condition: Option<Condition>,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub version: Version,
    /// Sorted by table.
    pub tables: Vec<TableSpec>,
}

impl Spec {
    /// Parses `<monitor-requests>` or `<monitor-cond-requests>`.
    pub fn from_json(db: &Database, json: &Value, version: Version) -> Result<Self, Error> {
        let Some(map) = json.as_object() else {
            return Err(Error::syntax(json, "monitor-requests must be object"));
        };
        let mut tables = Vec::with_capacity(map.len());
        for (name, requests) in map {
            let Some(table) = db.table_index(name) else {
                return Err(Error::plain_syntax(format!("no table named {name}")));
            };
            let schema = &db.tables()[table].schema;
            let mut t = TableSpec {
                table,
                prefix: member(name),
                columns: Vec::new(),
                select: Select {
                    initial: false,
                    insert: false,
                    delete: false,
                    modify: false,
                },
                condition: None,
            };
            match requests.as_array() {
                Some(all) => {
                    for r in all {
                        t.add(schema, r, version)?;
                    }
                }
                None => t.add(schema, requests, version)?,
            }
            let name = |c: &MonitoredColumn| &schema.columns[c.column].name;
            t.columns.sort_by(|a, b| name(a).cmp(name(b)));
            for pair in t.columns.windows(2) {
                if pair[0].column == pair[1].column {
                    return Err(Error::plain_syntax(format!(
                        "column {} mentioned more than once",
                        name(&pair[0])
                    )));
                }
            }
            tables.push(t);
        }
        Ok(Self { version, tables })
    }

    /// Parses `<monitor-cond-update-requests>` and returns the spec with those conditions.
    pub fn with_conditions(&self, db: &Database, json: &Value) -> Result<Self, Error> {
        let Some(map) = json.as_object() else {
            return Err(Error::plain_syntax(
                "monitor-cond-change-requests must be object",
            ));
        };
        let mut spec = self.clone();
        for (name, requests) in map {
            let Some(table) = db.table_index(name) else {
                return Err(Error::plain_syntax(format!("no table named {name}")));
            };
            let Some(t) = spec.tables.iter_mut().find(|t| t.table == table) else {
                return Err(Error::plain_syntax(format!(
                    "no table named {name} in monitor session"
                )));
            };
            let schema = &db.tables()[table].schema;
            let Some(all) = requests.as_array() else {
                return Err(Error::plain_syntax(format!(
                    "table {name} no monitor-cond-change JSON array"
                )));
            };
            let mut condition = None;
            for r in all {
                let mut p = Parser::new(r, format!("table {name}"));
                let columns = p.optional("columns", Kind::ARRAY);
                let wher = p.optional("where", Kind::ARRAY);
                p.finish()?;
                if columns.is_some() {
                    return Err(Error::syntax(r, "changing columns is unsupported"));
                }
                merge_condition(&mut condition, schema, wher)?;
            }
            t.condition = normalize(condition);
        }
        Ok(spec)
    }

    /// Whether every row of its tables is of interest.
    pub fn is_unconditional(&self) -> bool {
        self.tables.iter().all(|t| t.condition.is_none())
    }

    /// Text that is equal for specs with the same tables, columns and events, whatever their
    /// conditions and the form of their updates.
    pub fn view(&self) -> String {
        let of_table = |t: &TableSpec| {
            let columns = t.columns.iter().map(|c| (c.column, c.select));
            format!("{}{:?}", t.table, columns.collect::<Vec<_>>())
        };
        self.tables.iter().map(of_table).collect()
    }

    /// Whether a change is of something that its clients see, conditions aside.
    pub fn sees(&self, change: &Change) -> bool {
        let tables = self.tables.iter().filter(|t| t.table == change.table);
        tables
            .into_iter()
            .any(|t| match (&change.old, &change.new) {
                (Some(old), Some(new)) => {
                    let mut columns = t.columns.iter().filter(|c| c.select.modify);
                    columns.any(|c| old.get(c.column) != new.get(c.column))
                }
                (None, _) => t.select.insert,
                (_, None) => t.select.delete,
            })
    }

    /// Text that is equal for specs that produce the same updates.
    pub fn key(&self) -> String {
        let mut out = format!("{:?}", self.version);
        for t in &self.tables {
            out.push_str(&format!("|{}", t.table));
            for c in &t.columns {
                let s = c.select;
                let bits = u8::from(s.insert) | u8::from(s.delete) << 1 | u8::from(s.modify) << 2;
                out.push_str(&format!(",{}:{bits}", c.column));
            }
            if let Some(c) = &t.condition {
                out.push_str(&format!("?{:?}", c.clauses));
            }
        }
        out
    }
}

fn merge_condition(
    into: &mut Option<Condition>,
    schema: &TableSchema,
    json: Option<&Value>,
) -> Result<(), Error> {
    let Some(json) = json else { return Ok(()) };
    let one;
    let json = if json.is_boolean() {
        one = Value::Array(vec![json.clone()]);
        &one
    } else {
        json
    };
    let c = Condition::from_json(schema, json, None)?;
    into.get_or_insert_default().clauses.extend(c.clauses);
    Ok(())
}

/// A condition without clauses admits everything.
fn normalize(c: Option<Condition>) -> Option<Condition> {
    c.filter(|c| !c.clauses.is_empty())
}

impl TableSpec {
    fn add(&mut self, schema: &TableSchema, json: &Value, version: Version) -> Result<(), Error> {
        let mut p = Parser::new(json, format!("table {}", schema.name));
        let columns = p.optional("columns", Kind::ARRAY);
        let select = p.optional("select", Kind::OBJECT);
        let wher = if version == Version::V1 {
            None
        } else {
            p.optional("where", Kind::ARRAY)
        };
        p.finish()?;
        let mut condition = self.condition.take();
        merge_condition(&mut condition, schema, wher)?;
        self.condition = normalize(condition);
        let mut s = Select {
            initial: true,
            insert: true,
            delete: true,
            modify: true,
        };
        if let Some(select) = select {
            let mut p = Parser::new(select, format!("table {} select", schema.name));
            let mut get = |name| {
                p.optional(name, Kind::BOOLEAN)
                    .and_then(Value::as_bool)
                    .unwrap_or(true)
            };
            s.initial = get("initial");
            s.insert = get("insert");
            s.delete = get("delete");
            s.modify = get("modify");
            p.finish()?;
        }
        let chosen = match columns {
            Some(json) => {
                let expected = || Error::syntax(json, "array of column names expected");
                let mut chosen = Vec::new();
                for name in json.as_array().into_iter().flatten() {
                    let name = name.as_str().ok_or_else(expected)?;
                    let c = schema.column(name).ok_or_else(|| {
                        Error::syntax(json, format!("{name} is not a valid column name"))
                    })?;
                    let again = chosen.contains(&c.index)
                        || self.columns.iter().any(|m| m.column == c.index);
                    if again {
                        return Err(Error::syntax(
                            json,
                            format!("column {name} mentioned more than once"),
                        ));
                    }
                    chosen.push(c.index);
                }
                chosen
            }
            None => (COL_VERSION..schema.columns.len()).collect(),
        };
        for column in chosen {
            self.columns.push(MonitoredColumn {
                column,
                prefix: member(&schema.columns[column].name),
                select: s,
            });
        }
        self.select.initial |= s.initial;
        self.select.insert |= s.insert;
        self.select.delete |= s.delete;
        self.select.modify |= s.modify;
        Ok(())
    }
}
