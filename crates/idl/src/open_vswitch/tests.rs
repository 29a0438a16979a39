use super::*;
use crate::schema::{BaseDef, Table, TableDef, TypeDef};
use ferrovs_stream::json::{Value, parse};

/// The published schema's shape, counted once: what a change to the table would have to match.
#[test]
fn the_schema_has_the_published_tables_and_columns() {
    assert_eq!(OPEN_VSWITCH.tables.len(), 19);
    assert_eq!(
        OPEN_VSWITCH
            .tables
            .iter()
            .map(|t| t.columns.len())
            .sum::<usize>(),
        190
    );
    let ephemeral = OPEN_VSWITCH
        .tables
        .iter()
        .flat_map(|t| t.columns)
        .filter(|c| c.def.ephemeral);
    assert_eq!(ephemeral.count(), 31);
    for table in OPEN_VSWITCH.tables {
        assert!(table.columns.is_sorted_by_key(|c| c.name), "{}", table.name);
    }
}

/// Types are written in more than one way; what they mean is one.
pub(crate) fn normal(mut schema: Value) -> Value {
    fn base(json: &mut Value) {
        if json.is_string() {
            *json = serde_json::json!({ "type": json.take() });
        }
        if json.get("refTable").is_some() && json.get("refType").is_none() {
            json["refType"] = "strong".into();
        }
    }
    let tables = schema["tables"].as_object_mut().unwrap();
    for column in tables
        .values_mut()
        .flat_map(|t| t["columns"].as_object_mut().unwrap().values_mut())
    {
        let ty = &mut column["type"];
        if ty.get("key").is_none() {
            *ty = serde_json::json!({ "key": ty.take() });
        }
        base(&mut ty["key"]);
        if let Some(value) = ty.get_mut("value") {
            base(value);
        }
        for bound in ["min", "max"] {
            if ty.get(bound).is_none() {
                ty[bound] = 1.into();
            }
        }
    }
    schema
}

#[test]
fn the_schema_text_equals_the_published_one() {
    let published = parse(include_str!("published.ovsschema")).unwrap();
    assert_eq!(
        normal(parse(&schema_json_text()).unwrap()),
        normal(published)
    );
    assert_eq!(OPEN_VSWITCH.cksum, "2823623553 27869");
}

#[test]
fn names_constants_and_positions_agree() {
    let bridge: &TableDef = Bridge::def();
    assert_eq!(bridge.name, "Bridge");
    assert_eq!(bridge.columns[Bridge::NAME.index()].name, "name");
    assert_eq!(Interface::TYPE.name(), "type");
    let ofport: TypeDef = Interface::def().columns[Interface::OFPORT.index()].def;
    assert_eq!(
        (ofport.min, ofport.max, ofport.key),
        (
            0,
            1,
            BaseDef::Int {
                min: i64::MIN,
                max: i64::MAX
            }
        )
    );
}
