//! What is configured and not built is said, and never half done.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use ferrovs_testkit::Programs;
use ferrovs_testkit::command::run_within;
use ferrovs_testkit::oracle::oracle;
use ferrovs_testkit::switch::{Cast, Switch, wait_for};
use ferrovs_vswitch::features::{Feature, NOT_BUILT, Setting};

const LONG: Duration = Duration::from_secs(20);

/// A switch with bridge br0, bond b0 of m1 (1) and m2 (2), and p3 (3).
fn bond() -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- add-bond br0 b0 m1 m2 -- set Interface m1 ofport_request=1 \
         -- set Interface m2 ofport_request=2 -- add-port br0 p3 -- set Interface p3 ofport_request=3",
    );
    sw
}

/// Lines of the daemon's log about settings.
fn warnings(sw: &Switch) -> Vec<String> {
    let log = sw.log("ovs-vswitchd");
    log.lines()
        .filter(|l| l.contains("|bridge|WARN|"))
        .filter_map(|l| Some(l.split_once("|bridge|WARN|")?.1.to_string()))
        .collect()
}

/// Where a broadcast goes.
fn actions(sw: &Switch, port: &str) -> String {
    let flow = format!("in_port={port},dl_src=50:54:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff");
    let trace = sw
        .client("ovs-appctl", &["ofproto/trace", "br0", &flow])
        .ok();
    let line = trace
        .lines()
        .find_map(|l| l.strip_prefix("Datapath actions: "));
    // Floods go in the order of bundles, which says nothing.
    let mut outputs: Vec<&str> = line.unwrap_or(&trace).split(',').collect();
    outputs.sort_unstable();
    outputs.join(",")
}

#[test]
fn what_has_no_effect_is_said_once() {
    let sw = bond();
    sw.vsctl("set Port p3 external_ids:a=b -- set Interface p3 bfd:enable=false");
    let bond = "bridge br0: port b0 has 2 interfaces and there are no bonds yet: only m1 carries its traffic";
    assert_eq!(warnings(&sw), [bond]);

    sw.vsctl(
        "set Bridge br0 stp_enable=true mcast_snooping_enable=true -- set Port b0 bond_mode=balance-slb \
         lacp=off -- set Interface p3 cfm_mpid=1 ingress_policing_rate=100 \
         -- --id=@m create Mirror name=m select_all=true -- set Bridge br0 mirrors=@m \
         -- --id=@q create QoS type=linux-htb -- set Port p3 qos=@q",
    );
    sw.vsctl("set Bridge br0 other_config:mac-aging-time=100");
    sw.vsctl("set Port p3 tag=5");
    let mut said = warnings(&sw);
    said.sort();
    let count = said.len();
    said.dedup();
    assert_eq!(said.len(), count, "{said:?}");
    for (setting, why) in [
        (
            "bridge br0: stp_enable",
            "there is no spanning tree yet, loops stay loops",
        ),
        (
            "bridge br0: mcast_snooping_enable",
            "there is no multicast snooping yet, multicast is flooded",
        ),
        ("bridge br0: mirrors", "no packet is mirrored yet"),
        (
            "port b0: bond_mode",
            "there are no bonds yet, one member carries the traffic",
        ),
        ("port p3: qos", "there is no traffic shaping yet"),
        ("interface p3: cfm_mpid", "links are not monitored yet"),
        (
            "interface p3: ingress_policing_rate",
            "there is no traffic shaping yet",
        ),
    ] {
        let line = format!("{setting} has no effect: {why}");
        assert!(said.contains(&line), "no {line} in {said:?}");
    }
    assert_eq!(count, 8, "{said:?}");

    // Who takes a setting back and makes it again hears of it again.
    sw.vsctl("set Bridge br0 stp_enable=false");
    sw.vsctl("set Bridge br0 stp_enable=true");
    assert_eq!(warnings(&sw).len(), 9);
    assert_eq!(sw.vsctl("get Mirror m statistics").trim(), "{}");
}

/// The words of ovs-vsctl that ask for a setting, with a value that does not ask for what happens anyway.
fn asking_for(s: &Setting) -> String {
    let row = match s.table {
        "Open_vSwitch" => ".",
        "Bridge" | "Controller" => "br0",
        _ => "p1",
    };
    let value = match (s.table, s.column, s.harmless) {
        ("Bridge", "mirrors", _) => {
            return "--id=@m create Mirror name=m -- set Bridge br0 mirrors=@m".into();
        }
        ("Bridge", "netflow", _) => {
            return "--id=@n create NetFlow targets=\"127.0.0.1:1\" -- set Bridge br0 netflow=@n"
                .into();
        }
        ("Bridge", "sflow", _) => {
            return "--id=@s create sFlow targets=\"127.0.0.1:1\" -- set Bridge br0 sflow=@s"
                .into();
        }
        ("Bridge", "ipfix", _) => {
            return "--id=@i create IPFIX targets=\"127.0.0.1:1\" -- set Bridge br0 ipfix=@i"
                .into();
        }
        ("Port", "qos", _) => {
            return "--id=@q create QoS type=linux-htb -- set Port p1 qos=@q".into();
        }
        ("Flow_Sample_Collector_Set", ..) => {
            return "--id=@b get Bridge br0 -- create Flow_Sample_Collector_Set id=1 bridge=@b"
                .into();
        }
        ("Manager", ..) => {
            return "--id=@t create Manager target=\"ptcp:0:127.0.0.1\" connection_mode=in-band \
                    -- set Open_vSwitch . manager_options=@t"
                .into();
        }
        ("Controller", "connection_mode", _) => "in-band",
        ("Controller", ..) => "10.0.0.1",
        ("Port", "bond_mode", _) => "balance-slb",
        ("Port", "lacp", _) => "active",
        (_, "bond_fake_iface" | "stp_enable" | "rstp_enable" | "mcast_snooping_enable", _)
        | (_, _, Some("false")) => "true",
        (_, _, Some("true")) => "false",
        _ => "7",
    };
    match s.key {
        Some(key) => format!("set {} {row} {}:{key}={value}", s.table, s.column),
        None => format!("set {} {row} {}={value}", s.table, s.column),
    }
}

#[test]
fn each_setting_without_effect_is_told() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- add-port br0 p1 -- set-controller br0 ptcp:0:127.0.0.1");
    let settings = || {
        NOT_BUILT
            .iter()
            .flat_map(|f| f.settings.iter().map(move |s| (f, s)))
    };
    let words: Vec<String> = settings().map(|(_, s)| asking_for(s)).collect();
    sw.vsctl(&format!("-- {}", words.join(" -- ")));
    let said = warnings(&sw);
    let is_told = |f: &Feature, s: &Setting| {
        let (kind, what) = (
            s.table.to_ascii_lowercase(),
            format!(": {s} has no effect: {}", f.why),
        );
        (said.iter()).any(|l| l.to_ascii_lowercase().starts_with(&kind) && l.ends_with(&what))
    };
    let silent: Vec<String> = settings()
        .filter(|(f, s)| !is_told(f, s))
        .map(|(_, s)| format!("{}.{s}", s.table))
        .collect();
    assert!(silent.is_empty(), "{silent:?}\n{said:#?}");
}

#[test]
fn options_of_a_device_that_takes_none_are_told_once() {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    sw.netns.sh("ip link add e1 type veth peer name e2");
    sw.vsctl("add-br br0 -- add-port br0 e1");
    sw.vsctl("set Interface e1 options:n_rxq_desc=1024");
    sw.vsctl("set Bridge br0 other_config:mac-aging-time=100");
    let line = "|netdev|WARN|e1: arguments provided to device that is not configurable";
    let log = sw.log("ovs-vswitchd");
    let n = log.lines().filter(|l| l.ends_with(line)).count();
    assert_eq!(n, 1, "{log}");
}

#[test]
fn commands_of_what_is_not_built_are_unknown() {
    let sw = Switch::dummy();
    let known = sw.appctl("list-commands");
    let known: Vec<&str> = known
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    for command in NOT_BUILT.iter().flat_map(|f| f.commands) {
        assert!(!known.contains(command), "{command} is known");
    }
}

#[test]
fn a_port_with_two_members_makes_no_loop_and_survives_one() {
    let sw = bond();
    assert_eq!(actions(&sw, "3"), "1,100");
    // The same frame comes back by the other cable.
    assert_eq!(actions(&sw, "2"), "drop");
    assert_eq!(actions(&sw, "1"), "100,3");
    sw.appctl("netdev-dummy/set-admin-state m1 down");
    assert!(
        wait_for(LONG, || actions(&sw, "3") == "100,2"),
        "{}",
        actions(&sw, "3")
    );
    assert_eq!(actions(&sw, "1"), "drop");
    // It stays where it is when the first comes back.
    sw.appctl("netdev-dummy/set-admin-state m1 up");
    sw.vsctl("set Bridge br0 other_config:mac-aging-time=100");
    assert_eq!(actions(&sw, "3"), "100,2");
}

#[test]
fn a_type_that_changes_takes_the_old_device_away_and_keeps_the_number() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- add-port br0 x1 -- add-port br0 x2");
    let number = sw.vsctl("get Interface x1 ofport");
    for kind in ["internal", "vxlan options:remote_ip=1.2.3.4", "dummy"] {
        sw.vsctl(&format!("set Interface x1 type={kind}"));
        let row = sw.vsctl("get Interface x1 ofport error");
        assert_eq!(row, format!("{number}[]\n"), "{kind}");
    }
    let log = sw.log("ovs-vswitchd");
    let number = number.trim();
    let count = |what: &str| log.lines().filter(|l| l.contains(what)).count();
    let added = format!("|bridge|INFO|bridge br0: added interface x1 on port {number}");
    let deleted = format!("|bridge|INFO|bridge br0: deleted interface x1 on port {number}");
    assert_eq!((count(&added), count(&deleted)), (4, 3), "{log}");
}

#[test]
fn a_controllers_row_tells_at_once_that_it_is_connected() {
    let sw = Switch::dummy();
    let listener = UnixListener::bind(sw.file("ctl")).unwrap();
    // Statistics are far away.
    sw.vsctl("set Open_vSwitch . other_config:stats-update-interval=3600000");
    sw.vsctl("add-br br0 -- set-controller br0 unix:ctl");
    let (mut conn, _) = listener.accept().unwrap();
    conn.write_all(&[1, 0, 0, 8, 0, 0, 0, 0]).unwrap();
    conn.read_exact(&mut [0; 8]).unwrap();
    let row = || sw.vsctl("get Controller br0 is_connected status");
    let is_told = || row().starts_with("true\n") && row().contains("state=ACTIVE");
    assert!(wait_for(LONG, is_told), "{}", row());
    drop((conn, listener));
    assert!(wait_for(LONG, || row().starts_with("false\n")), "{}", row());
}

#[test]
fn an_interval_of_statistics_that_changes_holds_at_once() {
    let sw = Switch::dummy();
    sw.vsctl("set Open_vSwitch . other_config:stats-update-interval=3600000");
    sw.vsctl("add-br br0 -- add-port br0 p1");
    let packets = || sw.vsctl("get Interface p1 statistics:rx_packets");
    assert!(wait_for(LONG, || packets() == "0\n"), "{}", packets());
    // Over what was due when the interval became long.
    sw.appctl("netdev-dummy/receive p1 in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x1234)");
    sw.vsctl("set Open_vSwitch . other_config:stats-update-interval=1800000");
    assert!(wait_for(LONG, || packets() == "1\n"), "{}", packets());
}

#[test]
fn the_kernels_datapath_is_replaced_by_the_one_in_userspace() {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=system -- add-br br1");
    assert_eq!(sw.vsctl("get Bridge br0 datapath_type"), "system\n");
    let shown = sw.appctl("dpif/show");
    let datapaths: Vec<&str> = shown.lines().filter(|l| !l.starts_with(' ')).collect();
    assert!(
        datapaths.len() == 1 && shown.starts_with("netdev@ovs-netdev:"),
        "{shown}"
    );
    for bridge in ["br0", "br1"] {
        let line = format!(
            "|bridge|INFO|bridge {bridge}: there is no datapath of type system, using netdev"
        );
        let log = sw.log("ovs-vswitchd");
        assert_eq!(
            log.lines().filter(|l| l.ends_with(&line)).count(),
            1,
            "{log}"
        );
    }
}

/// The lines of a section of the README that a user types.
fn typed(section: &str) -> String {
    let readme = include_str!("../../../README.md");
    let section = readme
        .split("## ")
        .find_map(|s| s.strip_prefix(section))
        .unwrap();
    let lines = section.lines().filter_map(|l| l.strip_prefix("    "));
    lines
        .filter(|l| !l.starts_with("cargo "))
        .fold(String::new(), |all, l| all + l + "\n")
}

#[test]
fn what_the_readme_tells_to_type_works_on_a_machine_that_never_saw_open_vswitch() {
    let bin = Programs::ours().dir.display().to_string();
    let lines = typed("Use it")
        .replace("$PWD/target/ovs/bin", &bin)
        .replace("target/ovs/bin", &bin);
    assert!(
        lines.contains("ovsdb-server") && lines.contains("ovs-vswitchd"),
        "{lines}"
    );
    let script = format!(
        "for d in /etc /var/run /var/log; do mount -t tmpfs none $d; done
         ip link set lo up; ip link add eth1 type veth peer name eth2; cd /
         {lines}
         ovs-vsctl set-manager ptcp:6640:127.0.0.1
         ovs-vsctl --db=tcp:127.0.0.1:6640 --timeout=10 get Interface eth1 ofport"
    );
    let unshare = [
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-ec",
        &script,
    ];
    let done = run_within(60, "unshare", &unshare, &[]);
    assert_eq!(done.ok().lines().last(), Some("1"));
}

/// What a switch made of `cast` logs about settings that make no sense.
fn complaints(cast: Cast) -> Vec<String> {
    let sw = Switch::start(cast, &["--enable-dummy=override", "--disable-system"]);
    sw.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 i1 -- set Interface i1 type=internal");
    let changes: &[&[&str]] = &[
        &["set-controller", "br0", "foo:1"],
        &["del-controller", "br0"],
        &["add-br", "a/b"],
        &["del-br", "a/b"],
        &["set", "Bridge", "br0", "other_config:mac-table-size=-1"],
        &[
            "set",
            "Bridge",
            "br0",
            "other_config:hwaddr=\"01:00:00:00:00:01\"",
        ],
        &["clear", "Bridge", "br0", "other_config"],
        &["set", "Port", "p1", "tag=5", "trunks=1,2"],
        &["clear", "Port", "p1", "tag", "trunks"],
        &["set", "Interface", "p1", "mtu_request=70000"],
        &["clear", "Interface", "p1", "mtu_request"],
        &["set", "Interface", "i1", "mac=\"01:00:00:00:00:07\""],
        &["set", "Interface", "i1", "mac=\"00:00:00:00:00:00\""],
        &["set", "Interface", "br0", "mac=\"00:00:00:00:00:07\""],
        &[
            "clear",
            "Interface",
            "i1",
            "mac",
            "--",
            "clear",
            "Interface",
            "br0",
            "mac",
        ],
        &[
            "--",
            "--id=@t",
            "create",
            "Flow_Table",
            "prefixes=eth_src,ip_dst,nope",
            "--",
            "set",
            "Bridge",
            "br0",
            "flow_tables:0=@t",
        ],
        &[
            "--",
            "--id=@t",
            "create",
            "Flow_Table",
            "groups=foo",
            "--",
            "set",
            "Bridge",
            "br0",
            "flow_tables:0=@t",
        ],
    ];
    for change in changes {
        // Some are refused: what counts is what is said of them.
        let _ = sw.client("ovs-vsctl", change);
    }
    // Open vSwitch writes its log from another thread: the last complaint may come after the answer.
    let last = "error parsing 'groups'";
    let said = || sw.log("ovs-vswitchd").contains(last);
    assert!(wait_for(Duration::from_secs(20), said), "no {last}");
    let log = sw.log("ovs-vswitchd");
    let lines = log.lines().filter_map(|l| {
        let what = l.splitn(3, '|').nth(2)?;
        let of_settings = ["bridge|", "netdev|", "connmgr|"]
            .iter()
            .any(|m| what.starts_with(m));
        (of_settings && (what.contains("|WARN|") || what.contains("|ERR|")))
            .then(|| what.to_string())
    });
    lines.collect()
}

#[test]
fn settings_that_make_no_sense_are_complained_of_in_the_same_words() {
    let theirs = complaints(Cast::all(oracle()));
    assert!(theirs.len() > 8, "{theirs:?}");
    assert_eq!(complaints(Cast::all(Programs::ours())), theirs);
}
