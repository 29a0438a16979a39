//! What a role lets a client do: the answers of Open vSwitch's server, case by case.

use std::time::Duration;

use ferrovs_ovsdb::exec::{self, Outcome};
use ferrovs_ovsdb::rbac::Who;
use ferrovs_ovsdb::{Database, DatabaseSchema, json};

use crate::run;

/// A database whose role "r" has one permission for table T. Of its rows, number 1 says "me" in a
/// string, 2 "you", 3 "me" in a set, 4 "me" in an optional string, 5 and 6 "me" in a map.
fn database(authorization: &str, insert_delete: bool, update: &str) -> Database {
    let schema = r#"{"name":"t","tables":{
      "RBAC_Role":{"isRoot":true,"columns":{"name":{"type":"string"},"permissions":{"type":
        {"key":"string","value":{"type":"uuid","refTable":"RBAC_Permission","refType":"weak"},
         "min":0,"max":"unlimited"}}}},
      "RBAC_Permission":{"isRoot":true,"columns":{"table":{"type":"string"},
        "authorization":{"type":{"key":"string","min":0,"max":"unlimited"}},
        "insert_delete":{"type":"boolean"},
        "update":{"type":{"key":"string","min":0,"max":"unlimited"}}}},
      "T":{"isRoot":true,"columns":{"row":{"type":"integer"},"owner":{"type":"string"},
        "n":{"type":"integer"},
        "owners":{"type":{"key":"string","min":0,"max":"unlimited"}},
        "maybe":{"type":{"key":"string","min":0,"max":1}},
        "m":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}}}},
      "V":{"isRoot":true,"columns":{"n":{"type":"integer"}}}}}"#;
    let schema = DatabaseSchema::from_json(&json::parse(schema).unwrap()).unwrap();
    let mut db = Database::new(schema.into());
    let row =
        |n: u32, rest: &str| format!(r#"{{"op":"insert","table":"T","row":{{"row":{n}{rest}}}}}"#);
    let ops = [
        format!(
            r#"{{"op":"insert","table":"RBAC_Permission","uuid-name":"p","row":{{"table":"T",
             "authorization":["set",{authorization}],"insert_delete":{insert_delete},
             "update":["set",{update}]}}}}"#
        ),
        r#"{"op":"insert","table":"RBAC_Role","row":{"name":"r",
            "permissions":["map",[["T",["named-uuid","p"]]]]}}"#
            .to_owned(),
        row(1, r#","owner":"me""#),
        row(2, r#","owner":"you""#),
        row(3, r#","owners":"me""#),
        row(4, r#","maybe":"me""#),
        row(5, r#","m":["map",[["owner","me"]]]"#),
        row(6, r#","m":["map",[["me","owner"]]]"#),
    ];
    run(&mut db, &ops.join(","));
    db
}

fn allowed_to(db: &mut Database, role: &str, client: Option<&str>, op: &str) -> bool {
    let params = json::parse(&format!("[\"{}\",{op}]", db.schema.name)).unwrap();
    let mut cx = exec::Context {
        read_only: false,
        who: Who { role, client },
        owns_lock: &|_| false,
        elapsed: Duration::ZERO,
        can_wait: false,
        forward: false,
        persist: &mut |_, _| Ok(()),
    };
    let Outcome::Done(reply, _) = exec::execute(db, &params, &mut cx) else {
        panic!("it waits")
    };
    let reply = String::from_utf8(reply).unwrap();
    let denied = reply.contains("permission error");
    assert!(denied || !reply.contains("error"), "{op}: {reply}");
    !denied
}

fn allowed(db: &mut Database, op: &str) -> bool {
    allowed_to(db, "r", Some("me"), op)
}

fn update(n: u32, row: &str) -> String {
    format!(r#"{{"op":"update","table":"T","where":[["row","==",{n}]],"row":{row}}}"#)
}

fn mutate(n: u32, mutations: &str) -> String {
    format!(r#"{{"op":"mutate","table":"T","where":[["row","==",{n}]],"mutations":[{mutations}]}}"#)
}

fn delete(n: u32) -> String {
    format!(r#"{{"op":"delete","table":"T","where":[["row","==",{n}]]}}"#)
}

fn insert(row: &str) -> String {
    format!(r#"{{"op":"insert","table":"T","row":{row}}}"#)
}

#[test]
fn a_row_is_whose_name_one_string_or_one_key_of_a_map_holds() {
    for (authorization, mine) in [
        (r#"["owner"]"#, &[1][..]),
        (r#"["owners"]"#, &[]),
        (r#"["maybe"]"#, &[4]),
        (r#"["m"]"#, &[]),
        (r#"["m:owner"]"#, &[5]),
        (r#"["m:owner:more"]"#, &[5]),
        (r#"["m:"]"#, &[]),
        (r#"["owner:"]"#, &[]),
        (r#"["owner:me"]"#, &[]),
        (r#"["owners:me"]"#, &[]),
        (r#"["n"]"#, &[]),
        (r#"["none"]"#, &[]),
        (r#"[]"#, &[]),
        (r#"["none","owner"]"#, &[1]),
        (r#"["none",""]"#, &[1, 2, 3, 4, 5, 6]),
    ] {
        let mut db = database(authorization, true, r#"["n"]"#);
        let got: Vec<u32> = (1..=6)
            .filter(|&n| allowed(&mut db, &update(n, r#"{"n":2}"#)))
            .collect();
        assert_eq!(got, mine, "{authorization}");
        let got: Vec<u32> = (1..=6).filter(|&n| allowed(&mut db, &delete(n))).collect();
        assert_eq!(got, mine, "{authorization}");
    }
}

#[test]
fn a_row_is_inserted_only_for_the_client_itself() {
    let mut db = database(r#"["owner","m:owner"]"#, true, "[]");
    assert!(allowed(&mut db, &insert(r#"{"owner":"me"}"#)));
    assert!(allowed(
        &mut db,
        &insert(r#"{"m":["map",[["owner","me"]]]}"#)
    ));
    assert!(!allowed(&mut db, &insert(r#"{"owner":"you"}"#)));
    assert!(!allowed(&mut db, &insert("{}")));
    let mut db = database(r#"["owner"]"#, false, "[]");
    assert!(!allowed(&mut db, &insert(r#"{"owner":"me"}"#)));
    assert!(!allowed(&mut db, &delete(1)));
}

#[test]
fn columns_are_given_free_as_a_whole() {
    let keys = [
        r#"["m","insert",["map",[["k","v"]]]]"#,
        r#"["m","delete",["set",["k"]]]"#,
    ];
    let mut db = database(r#"["owner"]"#, true, r#"["n","m:k"]"#);
    assert!(allowed(&mut db, &mutate(1, r#"["n","+=",1]"#)));
    for m in keys {
        assert!(!allowed(&mut db, &mutate(1, m)), "{m}");
    }
    assert!(!allowed(
        &mut db,
        &mutate(1, &format!(r#"["n","+=",1],{}"#, keys[0]))
    ));
    assert!(!allowed(&mut db, &update(1, r#"{"n":1,"owner":"you"}"#)));
    let mut db = database(r#"["owner"]"#, true, r#"["m"]"#);
    for m in keys {
        assert!(allowed(&mut db, &mutate(1, m)), "{m}");
    }
}

#[test]
fn what_changes_no_row_asks_only_for_a_permission() {
    let mut db = database(r#"["owner"]"#, false, "[]");
    let none = 99;
    for op in [
        update(none, r#"{"n":1}"#),
        mutate(none, r#"["n","+=",1]"#),
        delete(none),
        mutate(2, ""),
        update(1, "{}"),
    ] {
        assert!(allowed(&mut db, &op), "{op}");
    }
    assert!(!allowed(&mut db, &update(2, "{}")));
    for op in [
        r#"{"op":"update","table":"V","where":[],"row":{}}"#,
        r#"{"op":"delete","table":"V","where":[]}"#,
        r#"{"op":"mutate","table":"V","where":[],"mutations":[["n","+=",1]]}"#,
    ] {
        assert!(!allowed(&mut db, op), "{op}");
    }
    assert!(allowed(
        &mut db,
        r#"{"op":"mutate","table":"V","where":[],"mutations":[]}"#
    ));
}

#[test]
fn roles_bind_where_the_database_knows_roles() {
    let mut db = database(r#"[""]"#, true, r#"["n"]"#);
    let op = update(1, r#"{"n":3}"#);
    assert!(allowed_to(&mut db, "", None, &op));
    assert!(!allowed_to(&mut db, "r", None, &op), "no identity");
    assert!(!allowed_to(&mut db, "other", Some("me"), &op));
    let mut db = crate::database();
    let op = r#"{"op":"insert","table":"B","row":{"n":"x"}}"#;
    assert!(allowed_to(&mut db, "r", Some("me"), op), "no RBAC_Role");
    assert!(allowed_to(&mut db, "r", None, op), "no RBAC_Role");
}
