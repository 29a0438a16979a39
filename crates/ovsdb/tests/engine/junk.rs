//! Whatever comes in, an answer comes out: nothing panics, nothing is half done.

use ferrovs_ovsdb::monitor::{Spec, Version};
use ferrovs_ovsdb::{DatabaseSchema, json};
use proptest::prelude::*;
use serde_json::Value;

use crate::{contents, database, run, uuid};

/// Words that mean something, so that junk gets past the first check.
fn word() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        "A",
        "B",
        "C",
        "W",
        "i",
        "s",
        "is",
        "m",
        "st",
        "wk",
        "_uuid",
        "set",
        "map",
        "uuid",
        "named-uuid",
        "==",
        "!=",
        "<",
        "includes",
        "excludes",
        "+=",
        "insert",
        "delete",
        "op",
        "t",
        "",
        "x",
        "integer",
        "unlimited",
    ])
    .prop_map(Value::from)
}

fn junk() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => word(),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => (-3i64..4).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (-1000.0f64..1000.0).prop_map(|f| Value::from(f + 0.0)),
        1 => Just(Value::from(uuid(1))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(vec![
            "op",
            "table",
            "where",
            "row",
            "rows",
            "columns",
            "mutations",
            "until",
            "timeout",
            "uuid-name",
            "uuid",
            "name",
            "type",
            "key",
            "value",
            "min",
            "max",
            "enum",
            "tables",
            "indexes",
            "maxRows",
            "i",
            "s",
            "is",
            "m",
            "st",
            "A",
            "B",
            "select",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "insert", "select", "update", "mutate", "delete", "wait", "commit", "comment", "assert",
    ]);
    let table = prop::sample::select(vec!["A", "B", "C", "W"]);
    (name, table, junk(), junk(), junk(), junk()).prop_map(|(op, table, w, r, m, c)| {
        let mut o = serde_json::json!({"op": op, "table": table});
        let wants: &[(&str, &Value)] = match op {
            "insert" => &[("row", &r)],
            "select" => &[("where", &w), ("columns", &c)],
            "update" => &[("where", &w), ("row", &r)],
            "mutate" => &[("where", &w), ("mutations", &m)],
            "delete" => &[("where", &w)],
            "wait" => &[
                ("where", &w),
                ("columns", &c),
                ("rows", &r),
                ("timeout", &Value::Null),
            ],
            _ => &[],
        };
        for (k, v) in wants {
            o[*k] = (*v).clone();
        }
        o
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_operations_get_an_answer(ops in prop::collection::vec(operation(), 1..4)) {
        let mut db = database();
        run(&mut db, &format!(
            r#"{{"op":"insert","table":"A","uuid":"{}","row":{{"i":1,"is":["set",[1,2]]}}}}"#,
            uuid(1)
        ));
        let before = contents(&db);
        let text: Vec<String> = ops.iter().map(json::to_string).collect();
        let (reply, _) = run(&mut db, &text.join(","));
        let reply = reply.as_array().unwrap();
        prop_assert!(reply.len() >= ops.len());
        if reply.iter().any(|r| r.get("error").is_some()) {
            prop_assert_eq!(before, contents(&db));
        }
    }

    #[test]
    fn any_schema_or_monitor_request_is_accepted_or_refused(v in junk()) {
        if let Ok(s) = DatabaseSchema::from_json(&v) {
            prop_assert!(DatabaseSchema::from_json(&s.to_json()).is_ok());
        }
        let db = database();
        for version in [Version::V1, Version::V2, Version::V3] {
            let _ = Spec::from_json(&db, &v, version);
        }
    }

    #[test]
    fn any_text_is_json_or_not_as_serde_says(text in r#"[\[\]{},:"\\ a-fn-u0-9.eE+\-]{0,24}"#) {
        let theirs: Result<Value, _> = serde_json::from_str(&text);
        let ours = json::parse(&text);
        match (&theirs, &ours) {
            // Scalars at the top, and NUL, are refused on purpose.
            (Ok(t), Err(_)) => prop_assert!(!t.is_array() && !t.is_object() || text.contains("\\u0000")),
            (Err(_), Ok(o)) => prop_assert!(false, "accepted {text} as {o}"),
            _ => {}
        }
    }

    #[test]
    fn printed_json_reads_back(v in junk()) {
        let v = Value::Array(vec![v]);
        let text = json::to_string(&v);
        let again = json::parse(&text).unwrap();
        prop_assert_eq!(json::to_string(&again), text);
    }
}
