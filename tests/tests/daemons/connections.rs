//! Connections to controllers and clients: what the log and the counters tell of them, and life without them.

use std::path::Path;

use ferrovs_testkit::command::run;
use ferrovs_testkit::switch::Cast;
use ferrovs_testkit::{Programs, Switch};

/// The lines of ovs-vswitchd's log about one module, without time, number and level.
fn told(sw: &Switch, module: &str) -> Vec<String> {
    let log = sw.log("ovs-vswitchd");
    let lines = log.lines().filter_map(|line| {
        let mut parts = line.splitn(5, '|').skip(2);
        (parts.next()? == module).then(|| parts.nth(1).unwrap_or("").to_string())
    });
    lines.collect()
}

#[test]
fn a_bridge_whose_controller_is_never_there_fails_open_and_lives() {
    let sw = Switch::dummy();
    sw.appctl("time/stop");
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy other-config:disable-in-band=true \
         -- set-controller br0 unix:nobody-is-here",
    );
    sw.ofctl("-O OpenFlow13 add-group br0 group_id=1,type=all,bucket=actions=2");
    sw.ofctl("-O OpenFlow13 add-meter br0 meter=1,kbps,band=type=drop,rate=9");
    sw.ofctl("-O OpenFlow13 add-flow br0 in_port=1,actions=meter:1,group:1");
    sw.appctl("time/warp 14000 500");
    assert!(sw.ofctl("dump-flows br0").contains("in_port=1"));
    sw.appctl("time/warp 2000 500");
    for (dump, shown) in [("dump-groups", "group_id"), ("dump-meters", "rate")] {
        let left = sw.ofctl(&format!("-O OpenFlow13 {dump} br0"));
        assert!(!left.contains(shown), "{left}");
    }
    let flows = sw.appctl("bridge/dump-flows br0");
    assert!(
        flows.contains("priority=15790320,actions=NORMAL"),
        "{flows}"
    );
    assert!(!flows.contains("in_port=1"), "{flows}");
    sw.appctl("time/warp 130000 1000");
    assert_eq!(
        told(&sw, "fail_open"),
        [
            "Could not connect to controller (or switch failed controller's post-connection admission control policy) for 15 seconds, failing open",
            "Still in fail-open mode after 76 seconds disconnected from controller",
            "Still in fail-open mode after 137 seconds disconnected from controller",
        ]
    );
    sw.vsctl("del-controller br0");
    let flows = sw.appctl("bridge/dump-flows br0");
    assert!(flows.contains("priority=0,actions=NORMAL"), "{flows}");
    assert!(!flows.contains("priority=15790320"), "{flows}");
    assert_eq!(
        told(&sw, "fail_open").last().unwrap(),
        "No longer in fail-open mode"
    );
}

#[test]
fn bridges_listen_anywhere_when_nobody_confines_them() {
    let dummy = ["--enable-dummy=override", "--disable-system"];
    for (more, confined) in [(None, true), (Some("--no-self-confinement"), false)] {
        let options: Vec<&str> = dummy.into_iter().chain(more).collect();
        let sw = Switch::start(Cast::all(Programs::ours()), &options);
        let elsewhere = sw.file("elsewhere.sock");
        sw.vsctl(&format!(
            "add-br br0 -- set Bridge br0 datapath_type=dummy -- set-controller br0 punix:{elsewhere}"
        ));
        assert_eq!(!Path::new(&elsewhere).exists(), confined);
    }
}

#[test]
fn every_message_is_logged_in_both_directions_when_asked_for() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail-mode=secure");
    sw.appctl("vlog/set vconn:file:dbg");
    let args = ["-O", "OpenFlow14", "-vvconn:console:dbg"];
    let flow = ["add-flow", "br0", "table=3,in_port=1,actions=2"];
    let client = sw.client("ovs-ofctl", &[&args[..], &flow[..]].concat());
    assert_eq!(client.code, 0, "{}", client.text());
    let target = format!("unix:{}", sw.file("br0.mgmt"));
    let sent = format!("|vconn|DBG|{target}: sent (Success): OFPT_FLOW_MOD (OF1.4) (xid=0x");
    assert!(client.stderr.contains(&sent), "{}", client.stderr);
    let answer = format!("|vconn|DBG|{target}: received: OFPT_BARRIER_REPLY (OF1.4) (xid=0x");
    assert!(client.stderr.contains(&answer), "{}", client.stderr);

    // What is sent is told afterwards: once the switch answers others, it has been.
    sw.appctl("version");
    let log = told(&sw, "vconn").join("\n");
    for line in [
        ": received: OFPT_HELLO (OF1.4) (xid=0x",
        ": negotiated OpenFlow version 0x05 (we support version 0x06 and earlier, peer supports version 0x05)",
        ": received: OFPT_FLOW_MOD (OF1.4) (xid=0x",
        "): ADD table:3 in_port=1 actions=output:2",
        ": received: OFPT_BARRIER_REQUEST (OF1.4) (xid=0x",
        ": sent (Success): OFPT_BARRIER_REPLY (OF1.4) (xid=0x",
    ] {
        assert!(log.contains(line), "no {line} in\n{log}");
    }
}

#[test]
fn the_counters_of_connections_move() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail-mode=secure");
    let read = |name: &str| -> u64 {
        let text = sw.appctl(&format!("coverage/read-counter {name}"));
        text.trim().parse().unwrap()
    };
    // The database; the control socket, br0.mgmt and br0.snoop.
    assert_eq!((read("stream_open"), read("pstream_open")), (1, 3));
    let names = [
        "vconn_received",
        "vconn_sent",
        "ofproto_recv_openflow",
        "rconn_queued",
        "rconn_sent",
    ];
    let before = names.map(read);
    sw.ofctl("probe br0");
    let after = names.map(read);
    let moved: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(moved, [2, 2, 1, 1, 1], "hellos and one request");
    assert_eq!(read("vconn_open"), 0);
    sw.vsctl("set-controller br0 unix:nobody-is-here");
    assert!(read("vconn_open") > 0);
}

/// An `ovs-ofctl monitor` in the background, driven through its control socket.
struct Monitor<'a> {
    sw: &'a Switch,
    name: String,
}

impl<'a> Monitor<'a> {
    fn start(sw: &'a Switch, name: &str, version: &str, more: &str) -> Monitor<'a> {
        let monitor = Monitor {
            sw,
            name: name.to_string(),
        };
        // It goes on writing to standard error, which must not be a pipe that the test reads to its end.
        let ofctl = sw.cast.clients.path("ovs-ofctl");
        let line = format!(
            "exec {ofctl} -O {version} monitor br0 65534 {more} --detach --no-chdir --unixctl={} 2>{}",
            monitor.socket(),
            sw.file(&format!("{name}.err"))
        );
        let netns = &sw.netns.name;
        let outcome = run(
            "ip",
            &["netns", "exec", netns, "sh", "-c", &line],
            &sw.env(),
        );
        assert_eq!(outcome.code, 0, "{}", outcome.text());
        let output = sw.file(&format!("{name}.out"));
        monitor.call(&format!("ofctl/set-output-file {output}"));
        monitor
    }

    fn socket(&self) -> String {
        self.sw.file(&format!("{}.ctl", self.name))
    }

    fn call(&self, line: &str) {
        self.sw.appctl(&format!("-t {} {line}", self.socket()));
    }

    /// All that it has printed, up to now.
    fn output(&self) -> String {
        self.call("ofctl/barrier");
        std::fs::read_to_string(self.sw.file(&format!("{}.out", self.name))).unwrap()
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        let socket = self.socket();
        self.sw.client("ovs-appctl", &["-t", &socket, "exit"]);
    }
}

#[test]
fn a_port_that_goes_down_is_told_of_twice_without_a_number() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    sw.vsctl("add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1");
    // This needs a switch that keeps the flag, too.
    let monitor = Monitor::start(&sw, "m", "OpenFlow10", "invalid_ttl");
    sw.ofctl("mod-port br0 p1 down");
    let text = monitor.output();
    let told = text.matches("OFPT_PORT_STATUS (xid=0x0): MOD: 1(p1)");
    assert_eq!(told.count(), 2, "{text}");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let states = |l: &&&str| l.starts_with("config:") || l.starts_with("state:");
    let states: Vec<&str> = lines.iter().filter(states).copied().collect();
    assert_eq!(
        states,
        [
            "config:     PORT_DOWN",
            "state:      0",
            "config:     PORT_DOWN",
            "state:      LINK_DOWN"
        ]
    );
}

#[test]
fn who_loses_the_primary_role_is_told() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    let cases = [
        ("OpenFlow13", "04", "ONFT_ROLE_STATUS (OF1.3)"),
        ("OpenFlow14", "05", "OFPT_ROLE_STATUS (OF1.4)"),
    ];
    let names = [["a", "b"], ["c", "d"]];
    for ((version, wire, name), [first, second]) in cases.into_iter().zip(names) {
        let old = Monitor::start(&sw, first, version, "");
        let new = Monitor::start(&sw, second, version, "");
        for monitor in [&old, &new] {
            let be_primary = "18001800000009000000020000000000000000000000ff";
            monitor.call(&format!("ofctl/send {wire}{be_primary}"));
            monitor.call("ofctl/barrier");
        }
        let told =
            format!("{name} (xid=0x0): role=secondary generation_id=255 reason=primary_request");
        assert!(old.output().contains(&told), "{}", old.output());
        assert!(!new.output().contains("ROLE_STATUS"), "{}", new.output());
    }
}

#[test]
fn errors_of_a_bundle_are_told_with_the_messages_that_they_are_about() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail-mode=secure");
    let target = format!("unix:{}", sw.file("br0.mgmt"));
    let end = format!("ovs-ofctl: talking to {target} (Protocol error)\n");
    let file = sw.file("bundle");
    let run = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        let outcome = sw.client("ovs-ofctl", &["-O", "OpenFlow14", "bundle", "br0", &file]);
        (outcome.code, outcome.stderr)
    };
    // What the commit finds.
    let (code, told) = run("flow add in_port=1,actions=2\nflow a in_port=2,actions=group:9\n");
    let first = "Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD (OF1.4) (xid=0x7): ADD in_port=2 actions=group:9\n";
    let commit = "Error OFPBFC_MSG_FAILED for: OFPT_BUNDLE_CONTROL (OF1.4) (xid=0xa):\n bundle_id=0 type=COMMIT_REQUEST flags=atomic ordered\n";
    assert_eq!((code, told), (1, format!("{first}{commit}{end}")));
    // What is refused as it is added: all of it is told, and nothing is committed.
    let (code, told) = run(
        "flow add in_port=1,actions=2\nflow add table=254,actions=2\nflow mod table=254,in_port=1,actions=3\n",
    );
    let refused = "Error OFPBRC_EPERM for: OFPT_FLOW_MOD (OF1.4) (xid=0x7): ADD table:254 actions=output:2\nError OFPBRC_EPERM for: OFPT_FLOW_MOD (OF1.4) (xid=0x8): MOD table:254 in_port=1 actions=output:3\n";
    assert_eq!((code, told), (1, format!("{refused}{end}")));
    assert_eq!(sw.ofctl("dump-flows br0").lines().count(), 1);
    // Commands may be cut short.
    let (code, told) =
        run("flow add,in_port=1,actions=2\ngroup a group_id=1,type=all\nflow d in_port=1\n");
    assert_eq!((code, told.as_str()), (0, ""));
}

#[test]
fn packets_whose_ttl_is_invalid_come_to_those_who_ask_for_them() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    let all = [
        ("OpenFlow10", "01"),
        ("OpenFlow11", "02"),
        ("OpenFlow12", "03"),
    ];
    for (version, wire) in all {
        for (more, name) in [("", "plain"), ("invalid_ttl", "asking")] {
            let monitor = Monitor::start(&sw, &format!("{name}{wire}"), version, more);
            monitor.call(&format!("ofctl/send {wire}07000800000009"));
            let text = monitor.output();
            let config = text.lines().find(|l| l.contains("GET_CONFIG_REPLY"));
            let asked = config.unwrap_or("").contains("invalid_ttl_to_controller");
            assert_eq!(asked, !more.is_empty(), "{version}: {text}");
        }
    }
    // Later versions have a mask, which does not contain it at first.
    let masks = [
        ("OpenFlow13", "04", ""),
        ("OpenFlow14", "05", " action_set group packet_out"),
    ];
    for (version, wire, more) in masks {
        let monitor = Monitor::start(&sw, &format!("masked{wire}"), version, "");
        monitor.call(&format!("ofctl/send {wire}1a000800000009"));
        let text = monitor.output();
        let mask = text
            .lines()
            .find(|l| l.contains("PACKET_IN:"))
            .unwrap_or("");
        assert_eq!(mask.trim(), format!("PACKET_IN: no_match action{more}"));
    }
}

#[test]
fn a_packet_for_the_controller_has_no_number_and_tells_a_cookie_of_zero() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    sw.vsctl("add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1");
    let monitor = Monitor::start(&sw, "m", "OpenFlow13", "");
    sw.ofctl("add-flow br0 priority=40000,actions=controller");
    sw.appctl("netdev-dummy/receive p1 505400000007505400000005123400");
    let told = "(OF1.3) (xid=0x0): cookie=0x0 total_len=15 in_port=1 (via action)";
    let came = ferrovs_testkit::switch::wait_for(std::time::Duration::from_secs(20), || {
        monitor.output().contains(told)
    });
    assert!(came, "{}", monitor.output());
}
