//! The relay service model.

use serde_json::{Value, json};

use crate::host::Host;
use crate::{CHANGE, DELETE, FILL, SCHEMA, casts};
use ferrovs_testkit::Programs;

/// A server with some rows, and a relay of it.
fn pair(source: &Programs, follower: &Programs) -> (Host, Host) {
    let (source, relay) = (Host::new(source), Host::new(follower));
    source.create("t.db", SCHEMA);
    source.start(&[&source.file("t.db")]);
    source.transact(FILL);
    relay.start(&[&format!("relay:T:{}", source.target())]);
    relay.wait("T", "connected");
    (source, relay)
}

fn described(relay: &Host) -> Value {
    let select = r#"["_Server",{"op":"select","table":"Database","where":[["name","==","T"]],
        "columns":["model","connected","leader"]}]"#;
    relay.transact(select)[0]["rows"][0].clone()
}

#[test]
fn a_relay_serves_what_its_source_has_and_passes_changes_on() {
    for (cast, source, follower) in casts() {
        println!("{cast}");
        let (source, relay) = pair(&source, &follower);
        assert_eq!(relay.dump("T"), source.dump("T"));
        let good = json!({"model": "relay", "connected": true, "leader": false});
        assert_eq!(described(&relay), good);
        for change in [CHANGE, DELETE] {
            let reply = relay.transact(change);
            assert!(reply[0].get("error").is_none(), "{reply}");
            // The reply comes after the change.
            assert_eq!(relay.dump("T"), source.dump("T"));
        }
        source.transact(CHANGE);
        relay.until_same(&source, "T");
        // What is wrong already here is not sent on; what fails there fails here.
        let unknown = r#"["T",{"op":"insert","table":"a","row":{"nope":1}}]"#;
        assert_eq!(relay.transact(unknown), source.transact(unknown));
        let lock = r#"["T",{"op":"assert","lock":"l"},{"op":"insert","table":"a","row":{}}]"#;
        assert_eq!(relay.transact(lock), source.transact(lock));
        let waits = r#"["T",{"op":"wait","table":"a","where":[],"columns":["s"],"until":"==",
            "rows":[],"timeout":0},{"op":"delete","table":"a","where":[]}]"#;
        assert_eq!(relay.transact(waits), source.transact(waits));
    }
}

#[test]
fn a_relay_waits_for_its_source() {
    for (cast, source, follower) in casts() {
        println!("{cast}");
        let (source, relay) = pair(&source, &follower);
        source.stop();
        // Reading goes on; nobody has been told yet that the source is gone.
        assert_eq!(described(&relay)["connected"], true);
        assert!(relay.dump("T").contains("one"));
        std::thread::scope(|scope| {
            let insert = r#"["T",{"op":"insert","table":"a","row":{"s":"patience"}}]"#;
            let client = scope.spawn(|| relay.transact(insert));
            relay.until("the transaction waits", || {
                relay.appctl(&["memory/show"]).stdout.contains("triggers:1")
            });
            source.start(&[&source.file("t.db")]);
            assert!(client.join().unwrap()[0].get("uuid").is_some());
        });
        relay.until_same(&source, "T");
        assert!(relay.dump("T").contains("patience"));
    }
}

#[test]
fn a_transaction_under_way_when_the_source_dies_is_canceled() {
    let (source, relay) = pair(&Programs::ours(), &Programs::ours());
    source.kill("STOP");
    std::thread::scope(|scope| {
        let insert = r#"["T",{"op":"insert","table":"a","row":{"s":"lost"}}]"#;
        let client =
            scope.spawn(|| relay.tool("ovsdb-client", &["transact", &relay.target(), insert]));
        relay.until("the transaction waits", || {
            relay.appctl(&["memory/show"]).stdout.contains("triggers:1")
        });
        source.kill("KILL");
        let out = client.join().unwrap();
        assert!(
            out.stderr
                .contains("transaction returned error: \"canceled\""),
            "{out:?}"
        );
    });
}

#[test]
fn a_relay_follows_a_conversion_of_its_source() {
    let new = SCHEMA.replace("1.0.0", "1.1.0").replace(
        r#""s":{"type":"string"},"#,
        r#""s":{"type":"string"},"z":{"type":"integer"},"#,
    );
    for (cast, source, follower) in casts() {
        if cast.starts_with("theirs") {
            // Open vSwitch 3.1 converts its relay and leaves the source as it was.
            continue;
        }
        println!("{cast}");
        let (source, relay) = pair(&source, &follower);
        let schema = relay.file("new.schema");
        std::fs::write(&schema, &new).unwrap();
        relay
            .tool("ovsdb-client", &["convert", &relay.target(), &schema])
            .ok();
        let version = |host: &Host| {
            let args = ["get-schema-version", &*host.target(), "T"];
            host.tool("ovsdb-client", &args).stdout
        };
        assert_eq!(version(&source), "1.1.0\n");
        relay.until("the new schema", || version(&relay) == "1.1.0\n");
        relay.until_same(&source, "T");
    }
}

#[test]
fn a_relay_without_a_source_says_that_it_has_nothing() {
    let relay = Host::new(&Programs::ours());
    relay.start(&["relay:T:unix:nowhere"]);
    let out = relay.tool("ovsdb-client", &["get-schema", &relay.target(), "T"]);
    assert!(
        out.stderr.contains(
            "get_schema request specifies database T which is not yet available because it has \
             not completed joining its cluster"
        ),
        "{out:?}"
    );
    assert_eq!(described(&relay)["connected"], false);
    // A relay of it looks for a better one.
    let second = Host::new(&Programs::ours());
    second.start(&[&format!("relay:T:{}", relay.target())]);
    second.until("a look at the first relay", || {
        second.log().contains(
            "relay database server has not yet connected to the relay source; trying another \
             server",
        )
    });
}

#[test]
fn remotes_in_a_relayed_database_open_when_it_comes() {
    let (source, relay) = (Host::new(&Programs::ours()), Host::new(&Programs::ours()));
    source.create("t.db", SCHEMA);
    // The relay comes first, so it cannot know yet that the column exists.
    relay.start(&["--remote=db:T,a,s", &format!("relay:T:{}", source.target())]);
    source.start(&[&source.file("t.db")]);
    let second = relay.file("second.sock");
    source.transact(&format!(
        r#"["T",{{"op":"insert","table":"a","row":{{"s":"punix:{second}"}}}}]"#
    ));
    relay.until("the remote opens", || relay.path("second.sock").exists());
    // Its contents stay those of the source, whatever the relay might have to add.
    relay.until_same(&source, "T");
}

#[test]
fn relays_of_relays_pass_changes_all_the_way() {
    let (source, first) = pair(&Programs::ours(), &Programs::ours());
    let second = Host::new(&Programs::ours());
    // The first target is of no use: the next is tried.
    second.start(&[&format!("relay:T:unix:nowhere,{}", first.target())]);
    second.wait("T", "connected");
    assert!(second.transact(CHANGE)[0].get("error").is_none());
    assert_eq!(second.dump("T"), source.dump("T"));
}

#[test]
fn ovs_vsctl_works_through_a_relay() {
    let (source, relay) = (Host::new(&Programs::ours()), Host::new(&Programs::ours()));
    let schema = std::fs::read_to_string(Programs::ours().schema).unwrap();
    source.create("conf.db", &schema);
    source.start(&[&source.file("conf.db")]);
    relay.start(&[&format!("relay:Open_vSwitch:{}", source.target())]);
    relay.wait("Open_vSwitch", "connected");
    let vsctl = |host: &Host, line: &str| {
        let target = format!("--db={}", host.target());
        let mut args = vec![&*target, "--no-wait"];
        args.extend(line.split(' '));
        host.tool("ovs-vsctl", &args).ok()
    };
    for line in [
        "init",
        "add-br br0",
        "add-port br0 p1 -- set interface p1 type=internal external_ids:a=b",
        "set bridge br0 other_config:x=y",
        "del-br br0",
        "add-br br1",
    ] {
        vsctl(&relay, line);
    }
    assert_eq!(vsctl(&source, "list-br"), "br1\n");
    assert_eq!(vsctl(&relay, "list-br"), "br1\n");
    assert_eq!(vsctl(&relay, "show"), vsctl(&source, "show"));
}
