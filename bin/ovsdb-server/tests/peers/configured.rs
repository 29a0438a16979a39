//! What says what is served: the configuration file, and the memory of a monitored server.

use serde_json::json;

use crate::host::Host;
use crate::{FILL, SCHEMA};
use ferrovs_testkit::Programs;

#[test]
fn a_configuration_file_is_applied_and_what_is_wrong_is_named() {
    let source = Host::new(&Programs::ours());
    source.create("t.db", SCHEMA);
    source.start(&[&source.file("t.db")]);
    source.transact(FILL);
    let host = Host::new(&Programs::ours());
    host.create("t.db", SCHEMA);
    host.create("u.db", &SCHEMA.replace(r#""T""#, r#""U""#));
    let write = |config: serde_json::Value| {
        std::fs::write(host.path("conf"), config.to_string()).unwrap();
    };
    let remote = format!("punix:{}", host.file("db.sock"));
    let (t, u) = (host.file("t.db"), host.file("u.db"));
    let sync = json!({"service-model": "active-backup", "backup": true,
        "source": {source.target(): {"inactivity-probe": 5000}}, "exclude-tables": ["c"]});
    write(json!({"remotes": {&remote: null}, "databases": {&t: sync, &u: null}}));
    host.start_bare(&[&format!("--config-file={}", host.file("conf"))]);
    host.until_status("replicating");
    let status = host.appctl(&["ovsdb-server/sync-status"]).ok();
    assert!(
        status.starts_with("database: T\nstate: backup\nreplicating: "),
        "{status}"
    );
    assert!(status.trim_end().ends_with("\nexclude: T:c"), "{status}");
    let dbs = || host.appctl(&["ovsdb-server/list-dbs"]).ok();
    assert_eq!(dbs(), "T\nU\n_Server\n");
    // One database is a backup, the other is not.
    let insert = |db: &str| {
        let request = format!(r#"["{db}",{{"op":"insert","table":"a","row":{{}}}}]"#);
        host.transact(&request)
    };
    assert_eq!(insert("T")[0]["error"], "not allowed");
    assert!(insert("U")[0].get("uuid").is_some());

    for command in [
        "add-db x",
        "remove-db U",
        "add-remote punix:x",
        "remove-remote punix:x",
        "set-active-ovsdb-server unix:x",
        "connect-active-ovsdb-server",
        "disconnect-active-ovsdb-server",
        "set-active-ovsdb-server-probe-interval 1",
        "set-relay-source-probe-interval 1",
        "set-sync-exclude-tables x",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let name = format!("ovsdb-server/{}", words[0]);
        let out = host.appctl(&[&[&*name], &words[1..]].concat());
        let text = format!(
            "Update the {} and use ovsdb-server/reload instead\n",
            host.file("conf")
        );
        assert!(out.code == 2 && out.stderr.starts_with(&text), "{out:?}");
    }

    // What cannot be read changes nothing; what cannot be opened is left out.
    let reload = || host.appctl(&["ovsdb-server/reload"]);
    let fails = |line: &str| {
        let text = "Configuration failed.  See the log file for details.\n";
        assert!(reload().stderr.starts_with(text));
        assert!(host.log().contains(line), "{}", host.log());
    };
    write(json!({"remotes": {}, "databases": {&u: {"service-model": "shared"}}}));
    fails("'shared' is not a valid service model");
    assert_eq!(dbs(), "T\nU\n_Server\n");
    write(
        json!({"remotes": {&remote: null, "db:nodb,a,b": null}, "databases": {&t: sync, &u: null}}),
    );
    fails("failed to configure remotes: \"db:nodb,a,b\": no database named nodb");
    write(json!({"remotes": {&remote: null}, "databases": {&t: sync, host.file("no.db"): null}}));
    fails("open failed (No such file or directory)");
    assert_eq!(dbs(), "T\n_Server\n");
    host.until_status("state: backup");

    // A backup becomes active, a file makes way for a relay of the same name.
    write(json!({"remotes": {&remote: null}, "databases": {&t: null}}));
    reload().ok();
    assert_eq!(dbs(), "T\n_Server\n");
    assert!(insert("T")[0].get("uuid").is_some());
    write(
        json!({"remotes": {&remote: {"read-only": true}}, "databases": {"T": {
        "service-model": "relay", "source": {source.target(): null}}}}),
    );
    reload().ok();
    host.wait("T", "connected");
    assert_eq!(host.dump("T"), source.dump("T"));
    assert_eq!(insert("T")[0]["error"], "not allowed");
}

#[test]
fn a_configuration_file_stands_alone() {
    let host = Host::new(&Programs::ours());
    let conf = host.file("conf");
    std::fs::write(
        &conf,
        json!({"databases": {host.file("nope.db"): null}}).to_string(),
    )
    .unwrap();
    let file = format!("--config-file={conf}");
    let fatal = |args: &[&str]| host.tool("ovsdb-server", args).stderr;
    for (args, what) in [
        (&["--remote=punix:x"][..], "--remote"),
        (&["--sync-from=unix:x"], "--sync-from"),
        (&["--sync-exclude-tables=a:b"], "--sync-exclude-tables"),
        (&["--active"], "--active"),
        (&["t.db"], "databases"),
    ] {
        assert_eq!(
            fatal(&[&[&*file], args].concat()),
            format!(
                "ovsdb-server: {what} on the command line cannot be combined with --config-file\n"
            )
        );
    }
    let text = fatal(&[&file, "-vconsole:off"]);
    assert_eq!(text, "ovsdb-server: server configuration failed\n");
    // And without one there is nothing to reload.
    host.create("t.db", SCHEMA);
    host.start(&[&host.file("t.db")]);
    let out = host.appctl(&["ovsdb-server/reload"]);
    let text = "Configuration file was not specified on command line\n";
    assert!(out.code == 2 && out.stderr.starts_with(text), "{out:?}");
}

#[test]
fn columns_that_are_not_there_are_told_in_one_message() {
    let host = Host::new(&Programs::ours());
    host.create("t.db", SCHEMA);
    let db = host.file("t.db");
    let warns = |args: &[&str]| {
        let out = host.tool("ovsdb-server", &[&[&*db, "-vconsole:warn"], args].concat());
        assert_eq!(out.code, 1, "{out:?}");
        let text = out.stderr.split_once("ovsdb_server|WARN|").unwrap().1;
        let end = "ovsdb-server: server configuration failed\n";
        text.strip_suffix(end).unwrap().to_owned()
    };
    let tls = [
        "--ssl-protocols=db:N,x,y",
        "--ssl-ciphers=db:T,x,y",
        "--ssl-ciphersuites=db:T,a,x",
    ];
    assert_eq!(
        warns(&tls),
        "failed to configure SSL/TLS: \"db:N,x,y\": no database named N\n\
         \"db:T,x,y\": no table named x\n\
         \"db:T,a,x\": table \"a\" has no column \"x\"\n"
    );
    // Where remotes are wrong, nothing else is looked at.
    let remotes = ["--remote=db:N,x,y", "--remote=db:T,x,y"];
    assert_eq!(
        warns(&[&remotes[..], &tls].concat()),
        "failed to configure remotes: \"db:N,x,y\": no database named N\n\
         \"db:T,x,y\": no table named x\n"
    );
}

#[test]
fn protocols_and_ciphers_follow_their_columns() {
    let schema = r#"{"name":"T","version":"1.0.0","tables":{"SSL":{"isRoot":true,"columns":{
        "p":{"type":"string"},"c":{"type":"string"},"s":{"type":"string"}}}}}"#;
    let host = Host::new(&Programs::ours());
    host.create("t.db", schema);
    host.start(&[
        &host.file("t.db"),
        "--ssl-protocols=db:T,SSL,p",
        "--ssl-ciphers=db:T,SSL,c",
        "--ssl-ciphersuites=db:T,SSL,s",
    ]);
    host.transact(r#"["T",{"op":"insert","table":"SSL","row":{"p":"TLSv1.3"}}]"#);
    let set = |row: &str| {
        let update = format!(r#"["T",{{"op":"update","table":"SSL","where":[],"row":{{{row}}}}}]"#);
        assert_eq!(host.transact(&update)[0]["count"], 1);
    };
    for (row, line) in [
        (r#""p":"TLSv9""#, "TLSv9: SSL/TLS protocol not recognized"),
        (r#""c":"bogus""#, "SSL_CTX_set_cipher_list: error"),
        (r#""s":"bogus""#, "SSL_CTX_set_ciphersuites: error"),
    ] {
        assert!(!host.log().contains(line), "{}", host.log());
        set(row);
        host.until(line, || host.log().contains(line));
    }
}

#[test]
fn a_database_of_its_own_holds_the_remotes_of_one_server() {
    let host = Host::new(&Programs::ours());
    host.create("t.db", SCHEMA);
    host.create("l.db", &ferrovs_idl::local_config::schema_json_text());
    host.start(&[
        &host.file("t.db"),
        &host.file("l.db"),
        "--remote=db:Local_Config,Config,connections",
    ]);
    let second = host.file("second");
    host.transact(&format!(
        r#"["Local_Config",{{"op":"insert","table":"Config","row":{{"connections":["named-uuid","c"]}}}},
          {{"op":"insert","table":"Connection","uuid-name":"c","row":{{"target":"punix:{second}","read_only":true}}}}]"#
    ));
    let list = || {
        host.tool("ovsdb-client", &["list-dbs", &format!("unix:{second}")])
            .stdout
    };
    host.until("the remote is there", || {
        list() == "Local_Config\nT\n_Server\n"
    });
    host.transact(r#"["Local_Config",{"op":"delete","table":"Config","where":[]}]"#);
    host.until("the remote is gone", || list().is_empty());
}

#[test]
fn what_commands_changed_survives_a_crash() {
    let source = Host::new(&Programs::ours());
    source.create("t.db", SCHEMA);
    source.start(&[&source.file("t.db")]);
    let host = Host::new(&Programs::ours());
    host.create("t.db", SCHEMA);
    host.create("u.db", &SCHEMA.replace(r#""T""#, r#""U""#));
    host.start(&["--monitor", &host.file("u.db")]);
    let second = host.file("second.sock");
    for command in [
        &["add-db", &*host.file("t.db")][..],
        &["remove-db", "U"],
        &["add-db", "relay:R:unix:nowhere"],
        &["add-remote", &format!("punix:{second}")],
        &["set-active-ovsdb-server", &source.target()],
        &["set-sync-exclude-tables", "T:c"],
        &["connect-active-ovsdb-server"],
    ] {
        let name = format!("ovsdb-server/{}", command[0]);
        host.appctl(&[&[&*name], &command[1..]].concat()).ok();
    }
    let look = || -> String {
        ["list-dbs", "list-remotes", "get-sync-exclude-tables"]
            .iter()
            .map(|c| host.appctl(&[&format!("ovsdb-server/{c}")]).stdout)
            .collect()
    };
    host.until_status("replicating");
    let before = look();
    assert!(before.starts_with("R\nT\n_Server\n"), "{before}");
    let pid = || std::fs::read_to_string(host.path("pid")).unwrap_or_default();
    let old = pid();
    host.kill("SEGV");
    host.until("another process", || {
        let new = pid();
        !new.is_empty() && new != old && look() == before
    });
    host.until_status("exclude: T:c");
}
