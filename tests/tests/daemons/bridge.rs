//! A bridge forwards between ports, and says what it does.

use ferrovs_testkit::Switch;

/// A switch with bridge br0 and dummy ports p1 to p3.
fn three_ports() -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 type=dummy ofport_request=2 \
         -- add-port br0 p3 -- set Interface p3 type=dummy ofport_request=3",
    );
    sw
}

fn icmp(port: u8, src: u8, dst: u8) -> String {
    format!(
        "in_port({port}),eth(src=50:54:00:00:00:0{src},dst=50:54:00:00:00:0{dst}),eth_type(0x0800),\
         ipv4(src=10.0.0.{src},dst=10.0.0.{dst},proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)"
    )
}

#[test]
fn normal_floods_then_forwards_to_the_learned_port() {
    let sw = three_ports();
    sw.appctl(&format!("netdev-dummy/receive p1 {}", icmp(1, 1, 2)));
    sw.appctl(&format!("netdev-dummy/receive p2 {}", icmp(2, 2, 1)));
    // What the second packet taught holds for the flow of the first too.
    sw.appctl("revalidator/wait");
    let flows = sw.appctl("dpctl/dump-flows");
    for (port, action) in [("in_port(2)", "actions:1"), ("in_port(1)", "actions:2")] {
        let flow = flows.lines().find(|l| l.contains(port)).unwrap_or_default();
        assert!(flow.ends_with(action), "{flows}");
    }
    let fdb = sw.appctl("fdb/show br0");
    assert!(
        fdb.contains("50:54:00:00:00:01") && fdb.contains("50:54:00:00:00:02"),
        "{fdb}"
    );
}

#[test]
fn a_vlan_is_kept_apart() {
    let sw = three_ports();
    sw.vsctl("set Port p1 tag=10 -- set Port p2 tag=20 -- set Port p3 trunks=10");
    sw.appctl(&format!("netdev-dummy/receive p1 {}", icmp(1, 1, 2)));
    let flows = sw.appctl("dpctl/dump-flows");
    let flood = flows.lines().find(|l| l.contains("in_port(1)"));
    assert!(
        flood.is_some_and(|l| l.ends_with("actions:push_vlan(vid=10,pcp=0),100,3")),
        "{flows}"
    );
}

#[test]
fn packets_with_and_without_a_vlan_have_flows_of_their_own() {
    let sw = three_ports();
    sw.ofctl("add-flow br0 in_port=1,actions=output:2");
    let plain = "in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x1234)";
    let tagged = plain.replace(
        "eth_type(0x1234)",
        "eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x1234))",
    );
    for packet in [plain, &tagged, plain, &tagged] {
        sw.appctl(&format!("netdev-dummy/receive p1 {packet}"));
    }
    let show = sw.appctl("dpctl/show");
    assert!(
        show.contains("lookups: hit:2 missed:2 lost:0") && show.contains("flows: 2"),
        "{show}"
    );
}

#[test]
fn a_megaflow_hits_for_packets_that_differ_where_nobody_looked() {
    let sw = three_ports();
    sw.client("ovs-vsctl", &["set-fail-mode", "br0", "secure"])
        .ok();
    sw.ofctl("del-flows br0");
    sw.ofctl("add-flow br0 in_port=1,ip,actions=output:2");
    for n in 1..=5 {
        sw.appctl(&format!("netdev-dummy/receive p1 {}", icmp(1, n, 9)));
    }
    let show = sw.appctl("dpctl/show");
    assert!(
        show.contains("lookups: hit:4 missed:1 lost:0") && show.contains("flows: 1"),
        "{show}"
    );
    sw.appctl("revalidator/wait");
    let flows = sw.ofctl("dump-flows br0");
    assert!(flows.contains("n_packets=5"), "{flows}");
}

#[test]
fn without_megaflows_each_packet_has_its_own_flow() {
    let sw = three_ports();
    sw.ofctl("add-flow br0 priority=1,in_port=1,actions=output:2");
    assert_eq!(
        sw.appctl("upcall/disable-megaflows"),
        "megaflows disabled\n"
    );
    for n in 1..=3 {
        sw.appctl(&format!("netdev-dummy/receive p1 {}", icmp(1, n, 9)));
    }
    let show = sw.appctl("dpctl/show");
    assert!(
        show.contains("hit:0 missed:3") && show.contains("flows: 3"),
        "{show}"
    );
}

#[test]
fn a_flow_mod_changes_what_is_already_installed() {
    let sw = three_ports();
    sw.ofctl("add-flow br0 priority=1,in_port=1,actions=output:2");
    sw.appctl(&format!("netdev-dummy/receive p1 {}", icmp(1, 1, 2)));
    assert!(sw.appctl("dpctl/dump-flows").contains("actions:2"));
    sw.ofctl("add-flow br0 priority=1,in_port=1,actions=output:3");
    sw.appctl("revalidator/wait");
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(
        flows.contains("actions:3") && !flows.contains("actions:2"),
        "{flows}"
    );
}

#[test]
fn bad_input_is_answered_and_survived() {
    let sw = three_ports();
    let bad = sw.client("ovs-appctl", &["nosuch"]);
    assert_eq!(bad.code, 2, "{}", bad.text());
    assert!(
        bad.stderr.contains("\"nosuch\" is not a valid command"),
        "{}",
        bad.stderr
    );
    let bad = sw.client("ovs-ofctl", &["add-flow", "br0", "actions=bogus"]);
    assert_eq!(
        (bad.code, bad.stderr.as_str()),
        (1, "ovs-ofctl: unknown action bogus\n")
    );
    let port = sw.client(
        "ovs-vsctl",
        &[
            "add-port",
            "br0",
            "x",
            "--",
            "set",
            "Interface",
            "x",
            "type=foo",
        ],
    );
    assert!(
        port.stderr.contains("Error detected while setting up 'x'"),
        "{}",
        port.text()
    );
    sw.vsctl("del-port x");
    // Junk on every socket.
    let dir = sw.path().display().to_string();
    for socket in ["db.sock", "br0.mgmt"] {
        ferrovs_testkit::command::sh(&format!(
            "head -c 20000 /dev/urandom | timeout 5 python3 -c 'import socket,sys
s=socket.socket(socket.AF_UNIX)
s.connect(\"{dir}/{socket}\")
try:
    s.sendall(sys.stdin.buffer.read())
except OSError:
    pass'"
        ));
    }
    let short = sw.client("ovs-appctl", &["netdev-dummy/receive", "p1", "0102030405"]);
    assert_eq!(
        (short.code, short.stderr.lines().next()),
        (2, Some("syntax error at 0102030405"))
    );
    assert!(sw.vsctl("list-ports br0").contains("p3"));
    assert!(sw.ofctl("dump-ports br0").contains("port  1"));
}

#[test]
fn as_many_tags_are_looked_at_as_the_limit_says() {
    let sw = three_ports();
    let frame =
        "50540000000250540000000188a8006481000005080045000014000000000011000000000000000000000000";
    let flow = || {
        sw.appctl("revalidator/purge");
        sw.appctl(&format!("netdev-dummy/receive p1 {frame}"));
        sw.appctl("dpctl/dump-flows")
    };
    for (limit, tags) in [(None, 1), (Some("2"), 2), (Some("1"), 1), (Some("0"), 2)] {
        if let Some(limit) = limit {
            sw.vsctl(&format!(
                "set Open_vSwitch . other_config:vlan-limit={limit}"
            ));
        }
        let flows = flow();
        assert_eq!(flows.matches("vlan(").count(), tags, "{limit:?}: {flows}");
    }
}

#[test]
fn a_bundle_is_forgotten_when_it_was_idle_for_as_long_as_the_database_says() {
    use std::io::{Read, Write};
    let sw = three_ports();
    sw.appctl("time/stop");
    for (timeout, answer) in [("2", 1), ("60", 33)] {
        sw.vsctl(&format!(
            "set Open_vSwitch . other_config:bundle-idle-timeout={timeout}"
        ));
        let mut conn = std::os::unix::net::UnixStream::connect(sw.file("br0.mgmt")).unwrap();
        let control = |kind: u8| [5, 33, 0, 16, 0, 0, 0, 9, 0, 0, 0, 1, 0, kind, 0, 1];
        let mut answers = |request: &[u8]| {
            conn.write_all(request).unwrap();
            let mut head = [0; 8];
            conn.read_exact(&mut head).unwrap();
            let rest = usize::from(u16::from_be_bytes([head[2], head[3]])) - 8;
            conn.read_exact(&mut vec![0; rest]).unwrap();
            head[1]
        };
        assert_eq!(answers(&[5, 0, 0, 8, 0, 0, 0, 1]), 0);
        assert_eq!(answers(&control(0)), 33);
        sw.appctl("time/warp 3000 500");
        assert_eq!(answers(&control(4)), answer, "after {timeout} s");
    }
}

#[test]
fn a_patch_port_whose_peer_does_not_name_it_says_so() {
    let sw = three_ports();
    let errors = || sw.vsctl("get Interface pa error -- get Interface pb error");
    sw.vsctl(
        "add-port br0 pa -- set Interface pa type=patch options:peer=pb -- add-br br1 \
         -- set Bridge br1 datapath_type=dummy -- add-port br1 pb -- set Interface pb type=patch options:peer=p1",
    );
    let lacks = |peer: &str| format!("\"No usable peer '{peer}' exists in 'dummy' datapath.\"\n");
    assert_eq!(errors(), lacks("pb") + &lacks("p1"));
    sw.vsctl("set Interface pb options:peer=pa");
    assert_eq!(errors(), "[]\n[]\n");
    sw.vsctl("del-port pb");
    assert_eq!(sw.vsctl("get Interface pa error"), lacks("pb"));
}

#[test]
fn the_address_in_a_ports_row_counts_in_the_choice_of_the_bridges() {
    let sw = three_ports();
    let address = || {
        sw.vsctl("get Interface br0 mac_in_use")
            .trim_matches(['"', '\n'])
            .to_string()
    };
    let own = address();
    // A group's address, one of local meaning: none that a bridge takes.
    for (mac, taken) in [
        ("00:11:00:00:00:01", "00:11:00:00:00:01"),
        ("01:00:00:00:00:01", own.as_str()),
        ("02:00:00:00:00:01", own.as_str()),
    ] {
        sw.client(
            "ovs-vsctl",
            &["set", "Port", "p1", &format!("mac=\"{mac}\"")],
        )
        .ok();
        assert_eq!(address(), taken, "{mac}");
    }
}

#[test]
fn prefixes_none_makes_megaflows_carry_what_rules_match() {
    let sw = three_ports();
    sw.ofctl("del-flows br0");
    sw.ofctl("add-flow br0 ip,nw_dst=10.1.0.0/16,actions=output:2");
    let megaflow = || {
        let flow = "in_port=1,ip,nw_dst=192.168.1.1";
        let trace = sw
            .client("ovs-appctl", &["ofproto/trace", "br0", flow])
            .ok();
        let line = trace.lines().find(|l| l.starts_with("Megaflow: "));
        line.unwrap_or_default().to_string()
    };
    let by_prefix = "nw_dst=128.0.0.0/1";
    assert!(megaflow().contains(by_prefix), "{}", megaflow());
    sw.vsctl("-- --id=@t create Flow_Table prefixes=none -- set Bridge br0 flow_tables:0=@t");
    assert!(
        megaflow().contains("nw_dst=192.168.0.0/16"),
        "{}",
        megaflow()
    );
    sw.vsctl("clear Bridge br0 flow_tables");
    assert!(megaflow().contains(by_prefix), "{}", megaflow());
}
