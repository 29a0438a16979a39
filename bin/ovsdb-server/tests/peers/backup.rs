//! Active-backup replication.

use serde_json::json;

use crate::host::Host;
use crate::{CHANGE, DELETE, FILL, SCHEMA, casts};
use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;

/// An active server with some rows, and a backup's place with an empty database.
fn pair(source: &Programs, follower: &Programs) -> (Host, Host) {
    let (active, backup) = (Host::new(source), Host::new(follower));
    active.create("t.db", SCHEMA);
    backup.create("t.db", SCHEMA);
    active.start(&[&active.file("t.db")]);
    active.transact(FILL);
    (active, backup)
}

#[test]
fn a_backup_follows_the_active_server_and_takes_over() {
    for (cast, source, follower) in casts() {
        println!("{cast}");
        let (active, backup) = pair(&source, &follower);
        let sync = format!("--sync-from={}", active.target());
        backup.start(&[&backup.file("t.db"), &sync]);
        backup.until_same(&active, "T");
        active.transact(CHANGE);
        backup.until_same(&active, "T");
        active.transact(DELETE);
        backup.until_same(&active, "T");

        let status = backup.appctl(&["ovsdb-server/sync-status"]).ok();
        let target = active.target();
        assert_eq!(
            status,
            format!("database: T\nstate: backup\nreplicating: {target}\n\n")
        );
        let refused = json!([{
            "error": "not allowed",
            "details": "insert operation not allowed when database server is in read only mode"
        }]);
        let insert = r#"["T",{"op":"insert","table":"a","row":{"s":"three"}}]"#;
        assert_eq!(backup.transact(insert), refused);
        // Locks are no contents.
        assert_eq!(backup.rpc("lock", &json!(["l"]))["result"]["locked"], true);

        backup
            .appctl(&["ovsdb-server/disconnect-active-ovsdb-server"])
            .ok();
        assert!(backup.transact(insert)[0].get("uuid").is_some());
        assert_eq!(
            backup.appctl(&["ovsdb-server/sync-status"]).ok(),
            "database: T\nstate: active\n\n"
        );
        // What was written meanwhile goes when it becomes a backup again.
        backup
            .appctl(&["ovsdb-server/connect-active-ovsdb-server"])
            .ok();
        backup.until_same(&active, "T");

        // A backup outlives the active server, and finds it again.
        active.stop();
        active.start(&[&active.file("t.db")]);
        active.transact(CHANGE);
        backup.until_same(&active, "T");
        // What it has is on its disk.
        let before = backup.dump("T");
        backup.stop();
        backup.start(&[&backup.file("t.db")]);
        assert_eq!(backup.dump("T"), before);
    }
}

#[test]
fn excluded_tables_stay_as_they_are() {
    for (cast, source, follower) in casts() {
        println!("{cast}");
        let (active, backup) = pair(&source, &follower);
        backup.start(&[&backup.file("t.db")]);
        backup.transact(r#"["T",{"op":"insert","table":"c","row":{"s":"mine"}}]"#);
        let target = active.target();
        for command in [
            ["ovsdb-server/set-sync-exclude-tables", "T:c"],
            ["ovsdb-server/set-active-ovsdb-server", &target],
        ] {
            assert_eq!(backup.appctl(&command).ok(), "");
        }
        backup
            .appctl(&["ovsdb-server/connect-active-ovsdb-server"])
            .ok();
        backup.until_status("exclude: T:c");
        let select = r#"["T",{"op":"select","table":"c","where":[],"columns":["s"]},
            {"op":"select","table":"a","where":[],"columns":["s"]}]"#;
        assert_eq!(
            backup.transact(select),
            json!([{"rows": [{"s": "mine"}]}, {"rows": [{"s": "one"}]}])
        );
        backup
            .appctl(&["ovsdb-server/set-sync-exclude-tables", ""])
            .ok();
        backup.until_same(&active, "T");
    }
}

#[test]
fn a_server_does_not_replicate_itself() {
    let host = Host::new(&Programs::ours());
    host.create("t.db", SCHEMA);
    host.start(&[
        &host.file("t.db"),
        &format!("--sync-from={}", host.target()),
    ]);
    host.until_status("state: active");
    assert!(host.log().contains(
        "ovsdb_error|ERR|unexpected ovsdb error: Server ID check failed: Self replicating is not \
         allowed"
    ));
    assert!(host.transact(FILL)[0].get("uuid").is_some());
}

#[test]
fn a_schema_that_does_not_fit_is_refused_in_open_vswitchs_words() {
    let more = SCHEMA.replace(
        r#""s":{"type":"string"},"#,
        r#""s":{"type":"string"},"z":{"type":"integer"},"#,
    );
    let other = SCHEMA.replace(r#""s":{"type":"string"},"#, r#""s":{"type":"integer"},"#);
    let table = SCHEMA.replace(
        r#""tables":{"#,
        r#""tables":{"new":{"columns":{"q":{"type":"string"}}},"#,
    );
    let said = |programs: &Programs, active_schema: &str, backup_schema: &str| {
        let (active, backup) = (Host::new(&Programs::ours()), Host::new(programs));
        active.create("t.db", active_schema);
        backup.create("t.db", backup_schema);
        active.start(&[&active.file("t.db")]);
        let sync = format!("--sync-from={}", active.target());
        backup.start(&[&backup.file("t.db"), &sync]);
        let lines = || -> Vec<String> {
            let log = backup.log();
            let ours = log.lines().filter_map(|l| l.split_once("|replication|"));
            ours.map(|(_, text)| text.to_owned()).collect()
        };
        backup.until("a verdict", || {
            let end = ["cannot be replicated.", "Resetting the database."];
            lines().iter().any(|l| end.iter().any(|e| l.ends_with(e)))
        });
        lines()
    };
    for (active, backup, good) in [
        (SCHEMA, &*more, true),
        (&more, SCHEMA, false),
        (&other, SCHEMA, false),
        (&table, SCHEMA, false),
        (SCHEMA, &table, true),
    ] {
        let ours = said(&Programs::ours(), active, backup);
        assert_eq!(ours, said(&oracle(), active, backup));
        assert_eq!(ours.iter().any(|l| l.contains("can be replicated")), good);
    }
}

#[test]
fn commands_answer_as_open_vswitchs_do() {
    let transcript = |programs: &Programs| {
        let host = Host::new(programs);
        host.create("t.db", SCHEMA);
        host.start(&[&host.file("t.db")]);
        let mut out = String::new();
        for line in [
            "sync-status",
            "connect-active-ovsdb-server",
            "get-active-ovsdb-server",
            "set-active-ovsdb-server unix:nowhere",
            "get-active-ovsdb-server",
            "set-sync-exclude-tables T:c,U:x,,y",
            "get-sync-exclude-tables",
            "set-active-ovsdb-server-probe-interval 7000",
            "set-active-ovsdb-server-probe-interval x",
            "connect-active-ovsdb-server",
            "sync-status",
            "disconnect-active-ovsdb-server",
            "disconnect-active-ovsdb-server",
            "sync-status",
            "sync-status more",
            "add-db relay:T:unix:nowhere",
            "add-db relay:_T:unix:nowhere",
            "add-db relay:R:unix:nowhere",
            "add-db relay:R:unix:elsewhere",
            "list-dbs",
            "tlog-list",
            "tlog-set R:a on",
            "get-db-storage-status R",
            "sync-status",
            "remove-db Q",
            "remove-db _Server",
            "memory-trim-on-compaction on",
            "memory-trim-on-compaction maybe",
        ] {
            let mut words: Vec<&str> = line.split(' ').collect();
            let command = format!("ovsdb-server/{}", words[0]);
            words[0] = &command;
            out.push_str(&format!("$ {line}\n{}", host.appctl(&words).text()));
        }
        out.replace(&host.file("ctl"), "ctl")
    };
    assert_eq!(transcript(&Programs::ours()), transcript(&oracle()));
}
