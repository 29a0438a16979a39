use super::*;
use crate::open_vswitch::tests::normal;
use ferrovs_stream::json::parse;

/// Leaves out what the published text says although it is what silence means.
fn without_defaults(mut schema: serde_json::Value) -> serde_json::Value {
    for table in schema["tables"].as_object_mut().unwrap().values_mut() {
        let table = table.as_object_mut().unwrap();
        if table.get("isRoot") == Some(&false.into()) {
            table.remove("isRoot");
        }
    }
    normal(schema)
}

#[test]
fn the_schema_text_equals_the_published_one() {
    let published = parse(include_str!("published.ovsschema")).unwrap();
    assert_eq!(
        without_defaults(parse(&schema_json_text()).unwrap()),
        without_defaults(published)
    );
}

#[test]
fn columns_stand_in_order_of_name() {
    for table in HARDWARE_VTEP.tables {
        assert!(table.columns.is_sorted_by_key(|c| c.name), "{}", table.name);
    }
    let columns = HARDWARE_VTEP.tables.iter().map(|t| t.columns.len());
    assert_eq!(
        (HARDWARE_VTEP.tables.len(), columns.sum::<usize>()),
        (18, 93)
    );
}
