//! Schemas from JSON and to JSON, with the checks that Open vSwitch makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    ColumnSchema, DatabaseSchema, STANDARD_COLUMNS, TableSchema, check_name, is_valid_version,
    undefined_table,
};
use crate::Error;
use crate::error::tag;
use crate::parser::{Kind, Parser};
use crate::types::{BaseType, ColumnType, RefType, UNLIMITED};

impl DatabaseSchema {
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        let mut p = Parser::new(json, "database schema");
        let name = p.required("name", Kind::ID);
        let version = p
            .optional("version", Kind::STRING)
            .and_then(Value::as_str)
            .unwrap_or("");
        let cksum = p
            .optional("cksum", Kind::STRING)
            .and_then(Value::as_str)
            .unwrap_or("");
        let tables = p.required("tables", Kind::OBJECT);
        p.finish()?;
        let (Some(name), Some(tables)) = (
            name.and_then(Value::as_str),
            tables.and_then(Value::as_object),
        ) else {
            return Err(Error::bare(tag::SYNTAX));
        };
        if !version.is_empty() && !is_valid_version(version) {
            return Err(Error::syntax(
                json,
                format!("schema version \"{version}\" not in format x.y.z"),
            ));
        }
        let mut all = BTreeMap::new();
        for (table_name, table) in tables {
            check_name(table_name, json)?;
            all.insert(
                table_name.clone(),
                Arc::new(TableSchema::from_json(table, table_name)?),
            );
        }
        if Self::all_root_by_default(&all) {
            for t in all.values_mut() {
                Arc::make_mut(t).is_root = true;
            }
        }
        for t in all.values() {
            for c in t.own_columns() {
                let value = c.ty.value.as_ref().map(|v| (v, "value"));
                for (base, role) in std::iter::once((&c.ty.key, "key")).chain(value) {
                    if let Some(missing) = undefined_table(base, &all) {
                        return Err(Error::plain_syntax(format!(
                            "column {} {role} refers to undefined table {missing}",
                            c.name
                        )));
                    }
                }
            }
        }
        keep_what_keeps_rows(&mut all);
        Ok(Self {
            name: name.into(),
            version: version.into(),
            cksum: cksum.into(),
            tables: all,
        })
    }

    pub fn to_json(&self) -> Value {
        let mut m = Map::new();
        m.insert("name".into(), self.name.as_str().into());
        if !self.version.is_empty() {
            m.insert("version".into(), self.version.as_str().into());
        }
        if !self.cksum.is_empty() {
            m.insert("cksum".into(), self.cksum.as_str().into());
        }
        let all_root = self.tables.values().all(|t| t.is_root);
        let tables = self
            .tables
            .iter()
            .map(|(n, t)| (n.clone(), t.to_json(all_root)))
            .collect();
        m.insert("tables".into(), Value::Object(tables));
        Value::Object(m)
    }
}

/// A column that keeps rows of a table without root alive is written to disk, ephemeral or not: those
/// rows would be garbage after a restart.
fn keep_what_keeps_rows(tables: &mut BTreeMap<String, Arc<TableSchema>>) {
    let roots: BTreeMap<String, bool> =
        tables.iter().map(|(n, t)| (n.clone(), t.is_root)).collect();
    let keeps = |b: &BaseType| match b.reference() {
        Some((table, RefType::Strong)) => roots.get(table) == Some(&false),
        _ => false,
    };
    for table in tables.values_mut() {
        let forgets = |c: &ColumnSchema| !c.persistent && c.ty.bases().any(keeps);
        if table.own_columns().iter().any(|c| forgets(c)) {
            for c in &mut Arc::make_mut(table).columns {
                if forgets(c) {
                    Arc::make_mut(c).persistent = true;
                }
            }
        }
    }
}

impl TableSchema {
    fn from_json(json: &Value, name: &str) -> Result<Self, Error> {
        let mut p = Parser::new(json, format!("table schema for table {name}"));
        let columns = p
            .required("columns", Kind::OBJECT)
            .and_then(Value::as_object);
        let max_rows = p.optional("maxRows", Kind::INTEGER).and_then(Value::as_i64);
        let is_root = p.optional("isRoot", Kind::BOOLEAN).and_then(Value::as_bool);
        let indexes = p.optional("indexes", Kind::ARRAY).and_then(Value::as_array);
        p.finish()?;
        let Some(columns) = columns else {
            return Err(Error::bare(tag::SYNTAX));
        };
        let max_rows = match max_rows {
            None => UNLIMITED,
            Some(n) if n <= 0 => return Err(Error::syntax(json, "maxRows must be at least 1")),
            Some(n) => u32::try_from(n).unwrap_or(UNLIMITED),
        };
        if columns.is_empty() {
            return Err(Error::syntax(json, "table must have at least one column"));
        }
        let mut all = Vec::with_capacity(columns.len());
        for (column_name, column) in columns {
            check_name(column_name, json)?;
            all.push(ColumnSchema::from_json(column, column_name)?);
        }
        let mut table = Self::new(name, all, max_rows, is_root.unwrap_or(false));
        for index in indexes.into_iter().flatten() {
            let columns = table.column_set(index)?;
            if columns.is_empty() {
                return Err(Error::syntax(json, "index must have at least one column"));
            }
            if let Some(&c) = columns.iter().find(|&&c| !table.columns[c].persistent) {
                return Err(Error::syntax(
                    json,
                    format!(
                        "ephemeral columns (such as {}) may not be indexed",
                        table.columns[c].name
                    ),
                ));
            }
            table.indexes.push(columns);
        }
        Ok(table)
    }

    /// Parses an array of distinct names of columns of this table.
    pub fn column_set(&self, json: &Value) -> Result<Vec<usize>, Error> {
        const EXPECTED: &str = "array of distinct column names expected";
        let Some(names) = json.as_array() else {
            return Err(Error::syntax(json, EXPECTED));
        };
        let mut out = Vec::with_capacity(names.len());
        for n in names {
            let Some(s) = n.as_str() else {
                return Err(Error::syntax(json, EXPECTED));
            };
            let Some(c) = self.column(s) else {
                return Err(Error::syntax(
                    json,
                    format!("{s} is not a valid column name"),
                ));
            };
            if out.contains(&c.index) {
                return Err(Error::syntax(json, EXPECTED));
            }
            out.push(c.index);
        }
        Ok(out)
    }

    /// `all_root`: every table is a root table, so none needs to say it.
    fn to_json(&self, all_root: bool) -> Value {
        let mut m = Map::new();
        if self.is_root && !all_root {
            m.insert("isRoot".into(), true.into());
        }
        if self.has_max_rows() {
            m.insert("maxRows".into(), self.max_rows.into());
        }
        let columns = self.columns[STANDARD_COLUMNS..].iter();
        let columns = columns.map(|c| (c.name.clone(), c.to_json())).collect();
        m.insert("columns".into(), Value::Object(columns));
        if !self.indexes.is_empty() {
            let names = |ix: &Vec<usize>| -> Value {
                ix.iter()
                    .map(|&c| Value::from(self.columns[c].name.as_str()))
                    .collect()
            };
            m.insert("indexes".into(), self.indexes.iter().map(names).collect());
        }
        Value::Object(m)
    }
}

impl ColumnSchema {
    fn from_json(json: &Value, name: &str) -> Result<Self, Error> {
        let mut p = Parser::new(json, format!("schema for column {name}"));
        let mutable = p
            .optional("mutable", Kind::BOOLEAN)
            .and_then(Value::as_bool);
        let ephemeral = p
            .optional("ephemeral", Kind::BOOLEAN)
            .and_then(Value::as_bool);
        let ty = p.required("type", Kind::STRING.or(Kind::OBJECT));
        p.finish()?;
        let Some(ty) = ty else {
            return Err(Error::bare(tag::SYNTAX));
        };
        let ty = ColumnType::from_json(ty)?;
        // Deleting a row must be able to change the columns that refer to it weakly.
        let weak = ty.bases().any(|b| b.is_weak_ref());
        let mutable = mutable.unwrap_or(true) || weak;
        Ok(Self::new(name, mutable, !ephemeral.unwrap_or(false), ty))
    }

    fn to_json(&self) -> Value {
        let mut m = Map::new();
        m.insert("type".into(), self.ty.to_json());
        if !self.mutable {
            m.insert("mutable".into(), json!(false));
        }
        if !self.persistent {
            m.insert("ephemeral".into(), json!(true));
        }
        Value::Object(m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_rows_alive_is_not_ephemeral() {
        let json = crate::json::parse(
            r#"{"name":"d","tables":{
              "A":{"isRoot":true,"columns":{
                "root":{"ephemeral":true,"type":{"key":{"type":"uuid","refTable":"A"},"min":0}},
                "strong":{"ephemeral":true,"type":{"key":{"type":"uuid","refTable":"B"},"min":0}},
                "value":{"ephemeral":true,"type":{"key":"integer",
                  "value":{"type":"uuid","refTable":"B"},"min":0}},
                "weak":{"ephemeral":true,"mutable":false,
                  "type":{"key":{"type":"uuid","refTable":"B","refType":"weak"},"min":0}}}},
              "B":{"columns":{"y":{"type":"integer"}}}}}"#,
        );
        let schema = DatabaseSchema::from_json(&json.unwrap()).unwrap();
        let column = |name: &str| Arc::clone(schema.tables["A"].column(name).unwrap());
        assert!(!column("root").persistent);
        assert!(column("strong").persistent && column("value").persistent);
        assert!(!column("weak").persistent && column("weak").mutable);
    }
}
