//! The contents as they follow from what the replica reports as changed.

use ferrovs_idl::{Condition, Database, Datum, Idl, Uuid};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::server::Raw;

pub type Contents = BTreeMap<(usize, Uuid), Vec<Datum>>;

/// What the replica holds.
pub fn contents(idl: &Idl) -> Contents {
    (0..idl.database().tables.len())
        .flat_map(|t| {
            idl.table_rows(t)
                .map(move |row| ((t, row.uuid), row.columns.iter().cloned().collect()))
        })
        .collect()
}

/// Takes the reported changes into `model`, which must then be what the replica holds.
pub fn follow(model: &mut Contents, idl: &mut Idl, references: bool) {
    for table in 0..idl.database().tables.len() {
        for (id, change) in idl.table_changes(table) {
            let now = idl
                .table_row(table, id)
                .map(|row| row.columns.iter().cloned().collect::<Vec<_>>());
            let key = (table, id);
            if change.inserted {
                assert!(change.deleted.is_none());
                let row = now.expect("an inserted row is there");
                assert!(
                    model.insert(key, row).is_none(),
                    "an inserted row was there"
                );
            } else if change.deleted.is_some() {
                assert!(now.is_none(), "a deleted row is there");
                assert!(model.remove(&key).is_some(), "a deleted row was not there");
            } else {
                assert!(change.modified() || (references && change.referenced));
                let row = model.get_mut(&key).expect("a modified row was there");
                for (i, datum) in now.expect("a modified row is there").iter().enumerate() {
                    if change.touches_column(i) {
                        row[i] = datum.clone();
                    }
                }
            }
        }
    }
    assert_eq!(*model, contents(idl));
    if references {
        check_references(idl);
    }
    idl.clear_changes();
}

/// Every row that refers to a changed row must be reported too.
fn check_references(idl: &Idl) {
    let tables = 0..idl.database().tables.len();
    let changed: BTreeSet<Uuid> = tables
        .clone()
        .flat_map(|t| idl.table_changes(t).map(|(id, _)| id))
        .collect();
    for table in tables {
        let reported: BTreeSet<Uuid> = idl.table_changes(table).map(|(id, _)| id).collect();
        for row in idl.table_rows(table) {
            let refers = row
                .columns
                .iter()
                .flat_map(Datum::all_atoms)
                .any(|atom| atom.as_uuid().is_some_and(|id| changed.contains(&id)));
            assert!(!refers || reported.contains(&row.uuid));
        }
    }
}

/// What the server holds of the rows for which the conditions hold.
pub fn expected(raw: &mut Raw, db: &'static Database, conditions: &[Condition]) -> Contents {
    let mut contents = Contents::new();
    for (t, def) in db.tables.iter().enumerate() {
        let op = json!({"op": "select", "table": def.name, "where": []});
        let reply = raw.transact(vec![op]);
        for row in reply[0]["rows"].as_array().unwrap() {
            let id = ferrovs_ovsdb::uuid::parse(row["_uuid"][1].as_str().unwrap()).unwrap();
            let columns: Vec<Datum> = def
                .columns
                .iter()
                .map(|c| {
                    let json: &Value = &row[c.name];
                    Datum::from_json(&c.def.column_type(), json, None).unwrap()
                })
                .collect();
            if matches(&conditions[t], id, &columns) {
                contents.insert((t, id), columns);
            }
        }
    }
    contents
}

fn matches(condition: &Condition, id: Uuid, columns: &[Datum]) -> bool {
    let id = Datum::from(ferrovs_idl::Atom::Uuid(id));
    condition
        .clauses()
        .iter()
        .any(|c| c.matches(c.column.map_or(&id, |i| &columns[i])))
}
