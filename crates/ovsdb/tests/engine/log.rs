//! The log: round trips, crash images, damage, the lock.

use std::cell::RefCell;
use std::path::Path;

use ferrovs_ovsdb::log::file::{LogFile, Mode};
use ferrovs_ovsdb::log::load::load;
use ferrovs_ovsdb::log::{Storage, frame, records};

use crate::{contents, database, run, schema, uuid};

fn quiet(_: &'static str, _: &str) {}

/// Makes a database file with some transactions; returns the size of the file and the contents
/// after each record.
fn write(path: &Path) -> Vec<(u64, Vec<String>)> {
    let mut log = LogFile::open(path.to_str().unwrap(), Mode::Create, &quiet).unwrap();
    log.append(&frame(&records::encode_schema(&schema())))
        .unwrap();
    let mut db = database();
    let mut states = vec![(log.size(), contents(&db))];
    let (a, b) = (uuid(1), uuid(2));
    for ops in [
        format!(r#"{{"op":"insert","table":"A","uuid":"{a}","row":{{"i":1,"s":"é\"","r":0.1}}}}"#),
        format!(
            r#"{{"op":"insert","table":"B","uuid":"{b}","row":{{}}}},{{"op":"update","table":"A","where":[],"row":{{"st":["uuid","{b}"],"is":["set",[1,2]],"m":["map",[["k",1],["l",2]]]}}}}"#
        ),
        r#"{"op":"update","table":"A","where":[],"row":{"is":["set",[2,3]],"m":["map",[["k",5],["n",2]]],"two":5,"rng":5}},{"op":"comment","comment":"why"}"#.to_owned(),
        r#"{"op":"update","table":"A","where":[],"row":{"rng":["set",[]],"eph":"gone after a restart"}}"#.to_owned(),
        r#"{"op":"update","table":"A","where":[],"row":{"eph":"x"}}"#.to_owned(),
        r#"{"op":"delete","table":"A","where":[]}"#.to_owned(),
    ] {
        let (_, done) = run(&mut db, &ops);
        if let Some(body) = records::encode_txn(&db, &done, 1, true) {
            log.append(&frame(&body)).unwrap();
            let plain = contents(&db).iter().map(|r| r.replace("eph=\"gone after a restart\"", "eph=\"\"")).collect();
            states.push((log.size(), plain));
        }
    }
    assert_eq!(
        states.len(),
        6,
        "a change of an ephemeral column alone is not written"
    );
    states
}

#[test]
fn a_file_cut_at_any_byte_gives_what_was_complete_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let states = write(&path);
    let whole = std::fs::read(&path).unwrap();
    for cut in states[0].0..=whole.len() as u64 {
        let image = dir.path().join("cut.db");
        std::fs::write(&image, &whole[..cut as usize]).unwrap();
        let mut loaded = load(image.to_str().unwrap(), Mode::ReadWrite, None, &quiet).unwrap();
        let (end, want) = states.iter().rev().find(|s| s.0 <= cut).unwrap();
        assert_eq!(&contents(&loaded.db), want, "cut at {cut}");
        assert_eq!(loaded.damage.is_some(), cut != *end, "cut at {cut}");
        // What is written next replaces the torn record.
        let (_, done) = run(
            &mut loaded.db,
            r#"{"op":"insert","table":"C","row":{"n":"new"}}"#,
        );
        let body = records::encode_txn(&loaded.db, &done, 2, true).unwrap();
        loaded.log.append(&frame(&body)).unwrap();
        drop(loaded.log);
        let again = load(image.to_str().unwrap(), Mode::ReadWrite, None, &quiet).unwrap();
        assert!(again.damage.is_none(), "cut at {cut}");
        assert_eq!(contents(&again.db), contents(&loaded.db), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_ends_the_log_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let states = write(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n - 10] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let loaded = load(path.to_str().unwrap(), Mode::ReadOnly, None, &quiet).unwrap();
    let text = loaded.damage.unwrap().to_string();
    assert!(
        text.contains("have SHA-1 hash") && text.contains("but should have hash"),
        "{text}"
    );
    assert_eq!(contents(&loaded.db), states[states.len() - 2].1);
}

#[test]
fn records_that_do_not_apply_say_why() {
    let dir = tempfile::tempdir().unwrap();
    for (body, want) in [
        (
            r#"{"Z":{}}"#,
            r#"syntax "{"Z":{}}": unknown table: No table named Z."#,
        ),
        (
            r#"{"C":{"x":{}}}"#,
            r#"syntax "{"x":{}}": syntax error: "x" is not a valid UUID"#,
        ),
        (
            r#"{"C":{"00000000-0000-0000-0000-000000000001":null}}"#,
            "syntax error: transaction deletes row 00000000-0000-0000-0000-000000000001 that does \
             not exist",
        ),
        (
            r#"{"C":{"00000000-0000-0000-0000-000000000001":{"n":5}}}"#,
            r#"syntax "5": syntax error: expected string"#,
        ),
    ] {
        let path = dir.path().join("b.db");
        let _ = std::fs::remove_file(&path);
        write(&path);
        let before = std::fs::metadata(&path).unwrap().len();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(frame(format!("{body}\n").as_bytes()));
        std::fs::write(&path, bytes).unwrap();
        let loaded = load(path.to_str().unwrap(), Mode::ReadOnly, None, &quiet).unwrap();
        assert_eq!(loaded.damage.unwrap().to_string(), want);
        assert_eq!(loaded.log.position(), before);
    }
}

#[test]
fn differences_are_written_where_open_vswitch_reads_them_as_such() {
    let mut db = database();
    let mut record = |ops: &str| {
        let (_, done) = run(&mut db, ops);
        String::from_utf8(records::encode_txn(&db, &done, 1, true).unwrap()).unwrap()
    };
    record(r#"{"op":"insert","table":"A","row":{"two":["set",[1,2]]}}"#);
    let short = record(r#"{"op":"update","table":"A","where":[],"row":{"two":["set",[2,3]]}}"#);
    assert!(short.contains(r#"{"two":["set",[1,3]]}"#) && short.contains("_is_diff"));
    let first = r#"{"op":"insert","table":"A","row":{"i":5}},{"op":"mutate","table":"A","where":[["i","==",5]],"mutations":[["two","insert",7]]}"#;
    assert!(record(first).contains(r#""two":["set",[0,7]]"#));
    record(r#"{"op":"update","table":"A","where":[["i","==",5]],"row":{"two":0}}"#);
    let from_default =
        record(r#"{"op":"update","table":"A","where":[["i","==",5]],"row":{"two":["set",[8,9]]}}"#);
    assert!(from_default.contains(r#"{"two":["set",[8,9]]}"#) && from_default.contains("_is_diff"));
    record(r#"{"op":"delete","table":"A","where":[["i","==",5]]}"#);
    let long = record(r#"{"op":"update","table":"A","where":[],"row":{"two":["set",[4,5]]}}"#);
    assert!(long.contains(r#"{"two":["set",[4,5]]}"#) && !long.contains("_is_diff"));
}

#[test]
fn long_records_are_read_like_short_ones() {
    let dir = tempfile::tempdir().unwrap();
    let text = "}\\\"é{".repeat(100_000);
    let row = |n: u32, s: &str| format!(r#""{}":{{"i":{n},"s":"{s}","r":0.5}}"#, uuid(n));
    let rows: Vec<String> = (1..10).map(|n| row(n, &text)).collect();
    let rows = rows.join(",");
    let first = format!(r#"{{"_date":1,"A":{{{rows}}},"_comment":"c","B":{{}},"C":{{}}}}"#);
    let is = format!(r#""{}":{{"is":["set",[1,2]]}}"#, uuid(1));
    let change = format!(
        r#"{{"A":{{{is},{}}},"_is_diff":true}}"#,
        row(20, &"y".repeat(5 << 20))
    );
    let unchanged = change.replace(",2]", "]").replace("\"i\":20", "\"i\":21");
    let wrong = format!(r#"{{"A":{{{}}},"_x":1}}"#, row(30, &"y".repeat(5 << 20)));
    let broken = format!(r#"{{"A":{{{}}}"#, row(30, &"y".repeat(5 << 20)));
    for last in [&change, &unchanged, &wrong, &broken] {
        let path = dir.path().join("l.db");
        let mut file = frame(&records::encode_schema(&schema()));
        let mut whole = database();
        let mut problem = None;
        for record in [&first, &change, last] {
            let body = format!("{record}\n");
            assert!(body.len() > 4 << 20);
            file.extend(frame(body.as_bytes()));
            let applied = records::apply(&mut whole, body.as_bytes(), Default::default());
            problem = problem.or(applied.err());
        }
        std::fs::write(&path, &file).unwrap();
        let loaded = load(path.to_str().unwrap(), Mode::ReadOnly, None, &quiet).unwrap();
        assert_eq!(contents(&loaded.db), contents(&whole));
        assert_eq!(loaded.db.n_rows(), 10);
        let stopped = loaded.damage.or(loaded.refused);
        assert_eq!(stopped.is_some(), problem.is_some());
    }
}

#[test]
fn a_snapshot_has_the_same_contents() {
    let mut db = database();
    let (a, b) = (uuid(1), uuid(2));
    run(
        &mut db,
        &format!(
            r#"{{"op":"insert","table":"B","uuid":"{b}","row":{{"n":"b"}}}},{{"op":"insert","table":"A","uuid":"{a}","row":{{"i":-1,"st":["uuid","{b}"],"m":["map",[["",0]]],"e":"x","r":1e300}}}}"#
        ),
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let mut log = LogFile::open(path.to_str().unwrap(), Mode::Create, &quiet).unwrap();
    log.append(&frame(&records::encode_schema(&schema())))
        .unwrap();
    log.append(&frame(&records::encode_snapshot(&db.snapshot(), "c", 1)))
        .unwrap();
    drop(log);
    let loaded = load(path.to_str().unwrap(), Mode::ReadWrite, None, &quiet).unwrap();
    assert!(loaded.damage.is_none());
    assert_eq!(contents(&loaded.db), contents(&db));
}

#[test]
fn one_process_locks_a_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.db");
    write(&path);
    let name = path.to_str().unwrap();
    let held = LogFile::open(name, Mode::ReadWrite, &quiet).unwrap();
    let warnings = RefCell::new(Vec::new());
    let warn = |_: &'static str, text: &str| warnings.borrow_mut().push(text.to_owned());
    let refused = LogFile::open(name, Mode::ReadWrite, &warn)
        .err()
        .unwrap()
        .to_string();
    assert!(refused.starts_with(&format!("I/O error: {name}: failed to lock lockfile")));
    assert!(warnings.borrow()[0].contains("this process has already locked it"));
    drop(held);
    LogFile::open(name, Mode::ReadWrite, &quiet).unwrap();
}
