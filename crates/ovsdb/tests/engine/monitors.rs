//! A client that applies its updates sees what is in the database, whether it reads fast or slowly.

use std::collections::BTreeMap;

use ferrovs_ovsdb::monitor::{Monitors, Spec, Version, id_text};
use ferrovs_ovsdb::{ColumnType, Database, Datum, json};
use proptest::prelude::*;
use serde_json::Value;

use crate::{database, run, uuid};

/// Rows of table A as a client keeps them: columns i, is, m.
type View = BTreeMap<String, BTreeMap<String, Datum>>;

const COLUMNS: [&str; 3] = ["i", "is", "m"];

fn column_type(db: &Database, name: &str) -> ColumnType {
    db.table("A")
        .unwrap()
        .schema
        .column(name)
        .unwrap()
        .ty
        .clone()
}

fn apply(db: &Database, view: &mut View, updates: &Value) {
    for (id, u) in updates
        .get("A")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let (kind, columns) = u.as_object().unwrap().iter().next().unwrap();
        if kind == "delete" {
            view.remove(id)
                .expect("only rows that are there are deleted");
            continue;
        }
        let modify = kind == "modify";
        assert_eq!(modify, view.contains_key(id), "{kind}");
        let row = view.entry(id.clone()).or_insert_with(|| {
            COLUMNS
                .iter()
                .map(|c| (c.to_string(), column_type(db, c).default_datum()))
                .collect()
        });
        for (name, value) in columns.as_object().unwrap() {
            let ty = column_type(db, name);
            let value = Datum::from_json_any_number(&ty, value, None).unwrap();
            let value = if modify {
                row[name].apply_diff(&value, &ty)
            } else {
                value
            };
            row.insert(name.clone(), value);
        }
    }
}

fn expected(db: &Database, limit: Option<i64>) -> View {
    let t = db.table("A").unwrap();
    let shown = |r: &&std::sync::Arc<ferrovs_ovsdb::row::Row>| {
        let i = r
            .field(t.schema.column("i").unwrap().index)
            .as_integer()
            .unwrap();
        limit.is_none_or(|l| i < l)
    };
    t.iter()
        .filter(shown)
        .map(|r| {
            let columns = COLUMNS
                .iter()
                .map(|c| {
                    (
                        c.to_string(),
                        r.field(t.schema.column(c).unwrap().index).clone(),
                    )
                })
                .collect();
            (r.uuid.to_string(), columns)
        })
        .collect()
}

fn operation() -> impl Strategy<Value = String> {
    let id = || (1u32..7).prop_map(uuid);
    prop_oneof![
        3 => (id(), 0i64..6, prop::collection::btree_set(0i64..5, 0..4)).prop_map(|(a, i, s)| {
            let s: Vec<String> = s.iter().map(i64::to_string).collect();
            format!(
                r#"{{"op":"insert","table":"A","uuid":"{a}","row":{{"i":{i},"s":"{a}","is":["set",[{}]]}}}}"#,
                s.join(",")
            )
        }),
        3 => (id(), -2i64..3, 0i64..5).prop_map(|(a, by, k)| format!(
            r#"{{"op":"mutate","table":"A","where":[["_uuid","==",["uuid","{a}"]]],"mutations":[["i","+=",{by}],["is","insert",{k}],["m","insert",["map",[["k{k}",{by}]]]]]}}"#
        )),
        1 => (id(), 0i64..5).prop_map(|(a, k)| format!(
            r#"{{"op":"mutate","table":"A","where":[["_uuid","==",["uuid","{a}"]]],"mutations":[["is","delete",{k}],["m","delete","k{k}"]]}}"#
        )),
        1 => id().prop_map(|a| format!(
            r#"{{"op":"delete","table":"A","where":[["_uuid","==",["uuid","{a}"]]]}}"#
        )),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn views_follow_the_database(
        txns in prop::collection::vec((operation(), any::<bool>()), 1..400)
    ) {
        let mut db = database();
        let mut monitors = Monitors::default();
        let mut views = [View::new(), View::new(), View::new()];
        let request = |limit: Option<i64>| {
            let wher = limit.map_or("true".to_owned(), |l| format!(r#"["i","<",{l}]"#));
            json::parse(&format!(
                r#"{{"A":[{{"columns":["i","is","m"],"where":[{wher}]}}]}}"#
            ))
            .unwrap()
        };
        // The third client has the first one's wishes but never reads until the end.
        for (session, limit) in [(0u64, None), (1, Some(3)), (2, None)] {
            let spec = Spec::from_json(&db, &request(limit), Version::V2).unwrap();
            let id = id_text(&Value::from(session));
            prop_assert_eq!(monitors.add(&db, session, id, spec), "{}");
        }
        prop_assert_eq!(monitors.n_views(), 1);
        for (op, read) in txns {
            let (_, done) = run(&mut db, &op);
            if !done.changes.is_empty() {
                monitors.committed(&done.changes);
            }
            let mut texts = Vec::new();
            monitors.flush(&db, &mut |s| s < 2 && read, &mut |s, t| texts.push((s, t)));
            for (s, text) in texts {
                let msg = json::parse(&text).unwrap();
                prop_assert_eq!(&msg["params"][0], &Value::from(s));
                apply(&db, &mut views[s as usize], &msg["params"][1]);
            }
            if read {
                prop_assert_eq!(&views[0], &expected(&db, None));
                prop_assert_eq!(&views[1], &expected(&db, Some(3)));
            }
        }
        let mut texts = Vec::new();
        monitors.flush(&db, &mut |s| s == 2, &mut |_, t| texts.push(t));
        prop_assert!(texts.len() <= 1, "however much was missed, it is one update");
        for t in texts {
            apply(&db, &mut views[2], &json::parse(&t).unwrap()["params"][1]);
        }
        prop_assert_eq!(&views[2], &expected(&db, None));
    }
}

#[test]
fn contents_are_fresh_until_what_is_seen_of_them_changes() {
    let mut db = database();
    let mut monitors = Monitors::default();
    let mut session = 0;
    let mut add = |monitors: &mut Monitors, db: &Database, request: &str, version| {
        let spec = Spec::from_json(db, &json::parse(request).unwrap(), version).unwrap();
        session += 1;
        monitors.add(db, session, id_text(&Value::Null), spec);
        (monitors.n_views(), monitors.n_fresh())
    };
    let (all, some) = (
        r#"{"A":{"columns":["i"]}}"#,
        r#"{"A":[{"columns":["i"],"where":[["i","==",7]]}]}"#,
    );
    // Conditions and the form of the updates make no other view. Contents by condition are of one
    // client only, and those of the oldest form are not kept.
    assert_eq!(add(&mut monitors, &db, some, Version::V2), (1, 0));
    assert_eq!(add(&mut monitors, &db, all, Version::V1), (1, 0));
    assert_eq!(add(&mut monitors, &db, all, Version::V2), (1, 1));
    assert_eq!(add(&mut monitors, &db, all, Version::V2), (1, 1));
    assert_eq!(add(&mut monitors, &db, all, Version::V3), (1, 2));
    let other = r#"{"A":{"columns":["i","is"]}}"#;
    assert_eq!(add(&mut monitors, &db, other, Version::V2), (2, 3));
    let mut commit = |monitors: &mut Monitors, op: &str| {
        let (_, done) = run(&mut db, op);
        monitors.committed(&done.changes);
        monitors.n_fresh()
    };
    let row = uuid(1);
    let insert = format!(r#"{{"op":"insert","table":"A","uuid":"{row}","row":{{"i":4}}}}"#);
    assert_eq!(commit(&mut monitors, &insert), 0);
    let db = &database();
    assert_eq!(add(&mut monitors, db, all, Version::V2), (2, 1));
    assert_eq!(add(&mut monitors, db, other, Version::V2), (2, 2));
    let update = |row: &str| format!(r#"{{"op":"update","table":"A","where":[],"row":{{{row}}}}}"#);
    assert_eq!(
        commit(&mut monitors, &update(r#""m":["map",[["k",1]]]"#)),
        2
    );
    assert_eq!(commit(&mut monitors, &update(r#""is":["set",[5]]"#)), 1);
}

#[test]
fn clients_with_the_same_wishes_get_the_same_text() {
    let mut db = database();
    let mut monitors = Monitors::default();
    let request = json::parse(r#"{"A":{"columns":["i"]}}"#).unwrap();
    for session in 0..3 {
        let spec = Spec::from_json(&db, &request, Version::V1).unwrap();
        monitors.add(&db, session, id_text(&Value::Null), spec);
    }
    let op = format!(
        r#"{{"op":"insert","table":"A","uuid":"{}","row":{{"i":4}}}}"#,
        uuid(1)
    );
    let (_, done) = run(&mut db, &op);
    monitors.committed(&done.changes);
    let mut texts = Vec::new();
    monitors.flush(&db, &mut |_| true, &mut |_, t| texts.push(t));
    assert_eq!(texts.len(), 3);
    assert!(std::sync::Arc::ptr_eq(&texts[0], &texts[1]));
    assert!(std::sync::Arc::ptr_eq(&texts[0], &texts[2]));
    assert_eq!(
        &*texts[0],
        format!(
            r#"{{"id":null,"method":"update","params":[null,{{"A":{{"{}":{{"new":{{"i":4}}}}}}}}]}}"#,
            uuid(1)
        )
    );
}
