//! The JSON text of a declared schema, as `*.ovsschema` files hold it.

use super::{BaseDef, ColumnDef, Database, TableDef, TypeDef};
use ferrovs_ovsdb::types::UNLIMITED;

/// The text of the schema file: one line per column, tables in the declared order.
pub fn schema_json_text(db: &Database) -> String {
    let tables: Vec<String> = db.tables.iter().map(table).collect();
    let cksum = match db.cksum {
        "" => String::new(),
        cksum => format!(" \"cksum\": \"{cksum}\",\n"),
    };
    format!(
        "{{\"name\": \"{}\",\n \"version\": \"{}\",\n{cksum} \"tables\": {{\n{}}}}}\n",
        db.name,
        db.version,
        tables.join(",\n")
    )
}

fn table(table: &TableDef) -> String {
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let mut text = format!(
        "   \"{}\": {{\n     \"columns\": {{\n{}}}",
        table.name,
        columns.join(",\n")
    );
    if table.is_root {
        text.push_str(",\n     \"isRoot\": true");
    }
    if let Some(rows) = table.max_rows {
        text.push_str(&format!(",\n     \"maxRows\": {rows}"));
    }
    if !table.indexes.is_empty() {
        let indexes: Vec<String> = table
            .indexes
            .iter()
            .map(|names| format!("[{}]", quoted(names)))
            .collect();
        text.push_str(&format!(",\n     \"indexes\": [{}]", indexes.join(", ")));
    }
    text + "}"
}

fn column(column: &ColumnDef) -> String {
    let mut text = format!(
        "       \"{}\": {{\"type\": {}",
        column.name,
        column_type(&column.def)
    );
    if column.def.ephemeral {
        text.push_str(", \"ephemeral\": true");
    }
    if !column.def.mutable {
        text.push_str(", \"mutable\": false");
    }
    text + "}"
}

fn column_type(def: &TypeDef) -> String {
    let key = base(def.key);
    // Only a plain type may stand alone; one with constraints is the key of a set.
    if def.value.is_none() && (def.min, def.max) == (1, 1) && !key.starts_with('{') {
        return key;
    }
    let mut text = format!("{{\"key\": {key}");
    if let Some(value) = def.value {
        text.push_str(&format!(", \"value\": {}", base(value)));
    }
    let max = match def.max {
        UNLIMITED => "\"unlimited\"".to_string(),
        n => n.to_string(),
    };
    format!("{text}, \"min\": {}, \"max\": {max}}}", def.min)
}

fn base(base: BaseDef) -> String {
    match base {
        BaseDef::Str => "\"string\"".into(),
        BaseDef::Real => "\"real\"".into(),
        BaseDef::Bool => "\"boolean\"".into(),
        BaseDef::Uuid => "\"uuid\"".into(),
        BaseDef::Enum(names) => {
            format!(
                "{{\"type\": \"string\", \"enum\": [\"set\", [{}]]}}",
                quoted(names)
            )
        }
        BaseDef::Int {
            min: i64::MIN,
            max: i64::MAX,
        } => "\"integer\"".into(),
        BaseDef::Int { min, max } => {
            let mut text = "{\"type\": \"integer\"".to_string();
            if min != i64::MIN {
                text.push_str(&format!(", \"minInteger\": {min}"));
            }
            if max != i64::MAX {
                text.push_str(&format!(", \"maxInteger\": {max}"));
            }
            text + "}"
        }
        BaseDef::Strong(table) => format!("{{\"type\": \"uuid\", \"refTable\": \"{table}\"}}"),
        BaseDef::Weak(table) => {
            format!("{{\"type\": \"uuid\", \"refTable\": \"{table}\", \"refType\": \"weak\"}}")
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|n| format!("\"{n}\""))
        .collect::<Vec<_>>()
        .join(", ")
}
