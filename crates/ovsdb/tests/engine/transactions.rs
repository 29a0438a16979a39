//! What operations answer: texts as Open vSwitch's server gives them.

use proptest::prelude::*;

use crate::{contents, database, reply, run, uuid};

/// Checks each line of operations against its reply, in a database of its own.
fn check(cases: &[(&str, &str)]) {
    for (ops, want) in cases {
        let got = reply(&mut database(), ops);
        assert_eq!(got, *want, "{ops}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_with_the_reason() {
    check(&[
        (
            r#"{"op":"insert","table":"A","row":{"i":1.5}}"#,
            r#"[{"details":"expected integer","error":"syntax error","syntax":"1.5"}]"#,
        ),
        (
            r#"{"op":"insert","table":"A","row":{"two":["set",[]]}}"#,
            r#"[{"details":"set must have 1 to 2 members but 0 are present","error":"syntax error","syntax":"[\"set\",[]]"}]"#,
        ),
        (
            r#"{"op":"insert","table":"A","row":{"is":["set",[1,1]]}}"#,
            r#"[{"details":"set contains duplicate","error":"ovsdb error"}]"#,
        ),
        (
            r#"{"op":"insert","table":"A","row":{"e":"w"}}"#,
            r#"[{"details":"w is not one of the allowed values ([x, y, z])","error":"constraint violation"}]"#,
        ),
        (
            r#"{"op":"insert","table":"A","row":{"rng":11}}"#,
            r#"[{"details":"11 is not in the valid range -5 to 10 (inclusive)","error":"constraint violation"}]"#,
        ),
        (
            r#"{"op":"insert","table":"A","row":{"nosuch":1}}"#,
            r#"[{"details":"No column nosuch in table A.","error":"unknown column","syntax":"{\"nosuch\":1}"}]"#,
        ),
        (
            r#"{"op":"update","table":"A","where":[],"row":{"imm":5}}"#,
            r#"[{"details":"Cannot update immutable column imm in table A.","error":"constraint violation","syntax":"{\"op\":\"update\",\"row\":{\"imm\":5},\"table\":\"A\",\"where\":[]}"}]"#,
        ),
    ]);
}

#[test]
fn operations_that_are_malformed_are_refused_with_the_reason() {
    check(&[
        (
            r#"5"#,
            r#"[{"details":"Parsing ovsdb operation 1 of 1 failed: Object expected.","error":"syntax error"}]"#,
        ),
        (
            r#"{"op":"nop"}"#,
            r#"[{"details":"Parsing ovsdb operation 1 of 1 failed: No operation \"nop\"","error":"syntax error","syntax":"{\"op\":\"nop\"}"}]"#,
        ),
        (
            r#"{"op":"insert","table":"A","row":{},"foo":1}"#,
            r#"[{"details":"Parsing ovsdb operation 1 of 1 failed: Member 'foo' is present but not allowed here.","error":"syntax error","syntax":"{\"foo\":1,\"op\":\"insert\",\"row\":{},\"table\":\"A\"}"}]"#,
        ),
        (
            r#"{"op":"select","table":"A","where":[["i","foo",1]]}"#,
            r#"[{"details":"No function named foo.","error":"unknown function"}]"#,
        ),
        (
            r#"{"op":"select","table":"A","where":[["e","<","x"]]}"#,
            r#"[{"details":"Type mismatch: \"<\" operator may not be applied to column e of type set of up to 1 strings.","error":"syntax error","syntax":"[\"e\",\"<\",\"x\"]"}]"#,
        ),
        (
            r#"{"op":"wait","table":"A","where":[],"columns":["i"],"until":"==","rows":[{"i":1}],"timeout":0}"#,
            r#"[{"details":"\"where\" clause test failed","error":"timed out"}]"#,
        ),
        (
            r#"{"op":"comment","comment":"x"},{"op":"abort"},{"op":"delete","table":"A","where":[]}"#,
            r#"[{},{"details":"aborted by request","error":"aborted"},null]"#,
        ),
    ]);
}

#[test]
fn mutations_compute_or_say_why_not() {
    let after = |mutations: &str, columns: &str| {
        let ops = format!(
            r#"{{"op":"insert","table":"A","uuid":"{}","row":{{"i":-7,"is":["set",[1,2,3]],"m":["map",[["a",1]]]}}}},
               {{"op":"mutate","table":"A","where":[],"mutations":[{mutations}]}},
               {{"op":"select","table":"A","where":[],"columns":[{columns}]}}"#,
            uuid(1)
        );
        let all = run(&mut database(), &ops).0;
        let last = all
            .as_array()
            .unwrap()
            .iter()
            .skip(1)
            .find(|r| r.get("count").is_none());
        ferrovs_ovsdb::json::to_string(last.unwrap())
    };
    assert_eq!(after(r#"["i","/=",2]"#, r#""i""#), r#"{"rows":[{"i":-3}]}"#);
    assert_eq!(after(r#"["i","%=",2]"#, r#""i""#), r#"{"rows":[{"i":-1}]}"#);
    assert_eq!(
        after(r#"["is","*=",2],["is","-=",1]"#, r#""is""#),
        r#"{"rows":[{"is":["set",[1,3,5]]}]}"#
    );
    assert_eq!(
        after(r#"["m","insert",["map",[["a",9],["b",2]]]]"#, r#""m""#),
        r#"{"rows":[{"m":["map",[["a",1],["b",2]]]}]}"#
    );
    assert_eq!(
        after(r#"["i","/=",0]"#, r#""i""#),
        r#"{"details":"Division by zero.","error":"domain error"}"#
    );
    assert_eq!(
        after(r#"["is","*=",0]"#, r#""is""#),
        r#"{"details":"Result of \"*=\" operation contains duplicates.","error":"constraint violation"}"#
    );
    assert_eq!(
        after(r#"["two","insert",["set",[3,4]]]"#, r#""two""#),
        r#"{"details":"Attempted to store 3 elements in set of 1 to 2 integers.","error":"constraint violation"}"#
    );
}

#[test]
fn strong_references_keep_rows_and_must_have_targets() {
    let mut db = database();
    let (a, b) = (uuid(1), uuid(2));
    let insert = format!(
        r#"{{"op":"insert","table":"B","row":{{}},"uuid":"{b}"}},
           {{"op":"insert","table":"A","row":{{"st":["uuid","{b}"]}},"uuid":"{a}"}}"#
    );
    run(&mut db, &insert);
    assert_eq!(
        reply(&mut db, r#"{"op":"delete","table":"B","where":[]}"#),
        format!(
            r#"[{{"count":1}},{{"details":"cannot delete B row {b} because of 1 remaining reference(s)","error":"referential integrity violation"}}]"#
        )
    );
    let missing = uuid(9);
    assert_eq!(
        reply(
            &mut db,
            &format!(
                r#"{{"op":"update","table":"A","where":[],"row":{{"st":["uuid","{missing}"]}}}}"#
            )
        ),
        format!(
            r#"[{{"count":1}},{{"details":"Table A column st row {a} references nonexistent row {missing} in table B.","error":"referential integrity violation"}}]"#
        )
    );
    assert_eq!(contents(&db).len(), 2, "failed transactions leave no trace");
    run(&mut db, r#"{"op":"delete","table":"A","where":[]}"#);
    assert!(
        contents(&db).is_empty(),
        "what nobody refers to any more goes, too"
    );
}

#[test]
fn chains_of_garbage_go_at_once_and_a_self_reference_saves_nobody() {
    let mut db = database();
    let ids: Vec<String> = (1..=4).map(uuid).collect();
    let mut ops = vec![format!(
        r#"{{"op":"insert","table":"A","row":{{"st":["uuid","{}"]}}}}"#,
        ids[0]
    )];
    for i in 0..4 {
        // The last one refers to itself.
        let next = &ids[(i + 1).min(3)];
        ops.push(format!(
            r#"{{"op":"insert","table":"B","uuid":"{}","row":{{"next":["uuid","{next}"]}}}}"#,
            ids[i]
        ));
    }
    run(&mut db, &ops.join(","));
    assert_eq!(contents(&db).len(), 5);
    run(
        &mut db,
        r#"{"op":"update","table":"A","where":[],"row":{"st":["set",[]]}}"#,
    );
    assert_eq!(contents(&db).len(), 1);
}

#[test]
fn weak_references_go_with_their_target() {
    let mut db = database();
    let (b, c) = (uuid(2), uuid(3));
    run(
        &mut db,
        &format!(
            r#"{{"op":"insert","table":"B","row":{{}},"uuid":"{b}"}},
               {{"op":"insert","table":"A","row":{{"st":["uuid","{b}"],"wk":["uuid","{b}"]}}}},
               {{"op":"insert","table":"C","row":{{}},"uuid":"{c}"}},
               {{"op":"insert","table":"W","row":{{"w":["uuid","{c}"]}},"uuid":"{}"}}"#,
            uuid(4)
        ),
    );
    run(
        &mut db,
        r#"{"op":"update","table":"A","where":[],"row":{"st":["set",[]]}}"#,
    );
    assert!(
        contents(&db)
            .iter()
            .any(|r| r.starts_with("A ") && r.contains("wk=[]"))
    );
    assert_eq!(
        reply(&mut db, r#"{"op":"delete","table":"C","where":[]}"#),
        format!(
            r#"[{{"count":1}},{{"details":"Deletion of 1 weak reference(s) to deleted (or never-existing) rows from column \"w\" in \"W\" row {} caused this column to become empty, but constraints on this column disallow an empty column.","error":"constraint violation"}}]"#,
            uuid(4)
        )
    );
}

#[test]
fn indexes_and_row_limits_hold_at_commit() {
    let mut db = database();
    let (a, b) = (uuid(1), uuid(2));
    let insert = |id: &str, i: i64| {
        format!(r#"{{"op":"insert","table":"A","row":{{"i":{i},"s":"x"}},"uuid":"{id}"}}"#)
    };
    run(&mut db, &insert(&a, 1));
    run(&mut db, &insert(&b, 2));
    assert_eq!(
        reply(
            &mut db,
            r#"{"op":"update","table":"A","where":[["i","==",2]],"row":{"i":1}}"#
        ),
        format!(
            r#"[{{"count":1}},{{"details":"Transaction causes multiple rows in \"A\" table to have identical values (1 and x) for index on columns \"i\" and \"s\".  First row, with UUID {b}, had the following index values before the transaction: 2 and x.  Second row, with UUID {a}, existed in the database before this transaction and was not modified by the transaction.","error":"constraint violation"}}]"#
        )
    );
    // Two rows may swap their keys in one transaction.
    let swap = format!(
        r#"{{"op":"update","table":"A","where":[["_uuid","==",["uuid","{a}"]]],"row":{{"i":2}}}},
           {{"op":"update","table":"A","where":[["_uuid","==",["uuid","{b}"]]],"row":{{"i":1}}}}"#
    );
    assert_eq!(reply(&mut db, &swap), r#"[{"count":1},{"count":1}]"#);
    let three = [r#"{"op":"insert","table":"C","row":{}}"#; 3].join(",");
    let all = run(&mut db, &three).0;
    assert_eq!(
        all[3]["details"],
        "transaction causes \"C\" table to contain 3 rows, greater than the schema-defined limit \
         of 2 row(s)"
    );
}

fn operation() -> impl Strategy<Value = String> {
    let id = || (1u32..6).prop_map(uuid);
    prop_oneof![
        (id(), id(), 0i64..4).prop_map(|(a, b, i)| format!(
            r#"{{"op":"insert","table":"A","uuid":"{a}","row":{{"i":{i},"st":["uuid","{b}"],"wk":["uuid","{b}"]}}}}"#
        )),
        (id(), id()).prop_map(|(a, b)| format!(
            r#"{{"op":"insert","table":"B","uuid":"{a}","row":{{"next":["uuid","{b}"]}}}}"#
        )),
        id().prop_map(|a| format!(r#"{{"op":"insert","table":"B","uuid":"{a}","row":{{}}}}"#)),
        (id(), id()).prop_map(|(a, b)| format!(
            r#"{{"op":"mutate","table":"A","where":[["_uuid","==",["uuid","{a}"]]],"mutations":[["st","delete",["uuid","{b}"]],["i","+=",1]]}}"#
        )),
        (id(), prop_oneof![Just("A"), Just("B")]).prop_map(|(a, t)| format!(
            r#"{{"op":"delete","table":"{t}","where":[["_uuid","==",["uuid","{a}"]]]}}"#
        )),
        Just(r#"{"op":"abort"}"#.to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// After any transactions: every strong reference has a target, every row that is not a root is
    /// referred to by another, every weak reference has a target, and a failed transaction changed
    /// nothing.
    #[test]
    fn integrity_holds_after_any_transactions(
        txns in prop::collection::vec(prop::collection::vec(operation(), 1..6), 1..12)
    ) {
        let mut db = database();
        for ops in txns {
            let before = contents(&db);
            let (result, committed) = run(&mut db, &ops.join(","));
            let failed = result.as_array().unwrap().iter().any(|r| r.get("error").is_some());
            if failed {
                prop_assert_eq!(&before, &contents(&db));
                prop_assert!(committed.changes.is_empty());
            }
            let b = db.table("B").unwrap();
            let mut referred = std::collections::BTreeSet::new();
            for t in db.tables() {
                for row in t.iter() {
                    for c in t.schema.own_columns().iter().filter(|c| c.has_refs()) {
                        for target in row.field(c.index).keys().filter_map(|k| k.as_uuid()) {
                            if c.name == "st" || c.name == "next" {
                                prop_assert!(b.contains(&target) || target == row.uuid);
                                if target != row.uuid {
                                    referred.insert(target);
                                }
                            } else if c.name == "wk" {
                                prop_assert!(b.contains(&target));
                            }
                        }
                    }
                }
            }
            for row in b.iter() {
                prop_assert!(referred.contains(&row.uuid), "garbage in B");
                prop_assert!(b.strong_refs(&row.uuid) > 0);
            }
        }
    }
}

#[test]
fn operations_judge_their_members_in_open_vswitchs_order() {
    let parsing = |what: &str| format!("Parsing ovsdb operation 1 of 1 failed: {what}");
    for (op, what) in [
        (r#"{"op":""}"#, "Type mismatch for member 'op'."),
        (r#"{"op":"wait"}"#, "Required 'where' member is missing."),
        (
            r#"{"op":"wait","where":[],"until":"=="}"#,
            "Required 'rows' member is missing.",
        ),
        (
            r#"{"op":"wait","table":"None"}"#,
            "Required 'where' member is missing.",
        ),
        (
            r#"{"op":"wait","timeout":1.5}"#,
            "Type mismatch for member 'timeout'.",
        ),
        (r#"{"op":"delete"}"#, "Required 'where' member is missing."),
        (
            r#"{"op":"insert","table":"A","uuid":5,"uuid-name":5}"#,
            "Type mismatch for member 'uuid'.",
        ),
        (
            r#"{"op":"abort","x":1}"#,
            "Member 'x' is present but not allowed here.",
        ),
        (
            r#"{"op":"abort","x":1,"y":2}"#,
            "Member 'x' and 1 other member are present but not allowed here.",
        ),
        (
            r#"{"op":"abort","x":1,"y":2,"z":3}"#,
            "Member 'x' and 2 other members are present but not allowed here.",
        ),
    ] {
        let (reply, _) = run(&mut database(), op);
        assert_eq!(reply[0]["details"], parsing(what), "{op}");
    }
}

#[test]
fn what_is_no_map_to_delete_is_judged_as_keys() {
    let insert = r#"{"op":"insert","table":"A","row":{"m":["map",[["a",1],["b",2]]]}}"#;
    let delete = |arg: &str| {
        let mut db = database();
        let op = format!(
            r#"{insert},{{"op":"mutate","table":"A","where":[],"mutations":[["m","delete",{arg}]]}}"#
        );
        run(&mut db, &op).0[1].clone()
    };
    assert_eq!(delete(r#"["set",["a","x"]]"#)["count"], 1);
    let wrong = delete(r#"["map",[["a","x"]]]"#);
    assert_eq!(wrong["details"], "expected string");
    assert_eq!(wrong["syntax"], r#"["map",[["a","x"]]]"#);
}

#[test]
fn select_sorts_by_the_columns_that_it_is_told() {
    let mut db = database();
    let row = |i: i32| {
        let s = i % 2;
        format!(r#"{{"op":"insert","table":"A","row":{{"i":{i},"s":"{s}"}}}}"#)
    };
    let rows: Vec<String> = [3, 1, 4, 2, 0].map(row).to_vec();
    run(&mut db, &rows.join(","));
    let mut sorted = |by: &str| {
        let op = format!(r#"{{"op":"select","table":"A","where":[],"columns":["i"],"sort":{by}}}"#);
        let (reply, _) = run(&mut db, &op);
        let rows = reply[0]["rows"].as_array().cloned().unwrap_or_default();
        let values: Vec<i64> = rows.iter().filter_map(|r| r["i"].as_i64()).collect();
        (values, reply[0]["error"].clone())
    };
    assert_eq!(sorted(r#"["i"]"#).0, [0, 1, 2, 3, 4]);
    assert_eq!(sorted(r#"["s","i"]"#).0, [0, 2, 4, 1, 3]);
    assert!(sorted(r#"["none"]"#).1.is_string());
}
