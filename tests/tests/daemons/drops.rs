//! Dropped packets: each for a reason that `dpif-netdev/drops` tells, and none that it does not.

use ferrovs_testkit::Switch;

/// What `dpif-netdev/drops` says: its numbers, and the drops as `reason port packets`.
fn account(sw: &Switch) -> (Vec<(String, i64)>, Vec<String>) {
    let text = sw.appctl("dpif-netdev/drops");
    let (parts, table) = text.split_once("\n\n").unwrap_or((&text, ""));
    let part = |line: &str| {
        let (name, n) = line.split_once(':').expect(line);
        (name.to_owned(), n.trim().parse().expect(line))
    };
    let mut drops = Vec::new();
    let mut reason = "";
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match line.starts_with(' ') {
            true => drops.push(format!("{reason} {} {}", words[0], words[1])),
            false => reason = words[0],
        }
    }
    (parts.lines().map(part).collect(), drops)
}

/// Checks that every packet is somewhere; gives the drops.
#[track_caller]
fn even(sw: &Switch) -> Vec<String> {
    let (parts, drops) = account(sw);
    let n = |name: &str| parts.iter().find(|p| p.0 == name).expect(name).1;
    assert_eq!(
        n("received") + n("executed") + n("copied"),
        n("sent") + n("taken up") + n("held") + n("dropped"),
        "{parts:?} {drops:?}"
    );
    let packets = |d: &String| -> i64 { d.rsplit_once(' ').expect(d).1.parse().expect(d) };
    assert_eq!(drops.iter().map(packets).sum::<i64>(), n("dropped"));
    drops
}

const ADDRESSES: &str = "020000000002020000000001";

#[test]
fn what_becomes_of_packets_is_told_to_the_last_one() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail-mode=secure");
    for port in 1..=3 {
        sw.vsctl(&format!(
            "add-port br0 p{port} -- set Interface p{port} type=dummy ofport_request={port}"
        ));
    }
    let receive = |port: u8, packet: &str| {
        sw.appctl(&format!("netdev-dummy/receive p{port} {packet}"));
    };
    let frame = format!("{ADDRESSES}1234");
    let udp = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
               ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,ttl=64,frag=no),udp(src=1,dst=2)";
    assert_eq!(even(&sw), [""; 0]);
    // No flow: the pipeline drops.
    receive(1, &frame);
    receive(1, &frame);
    assert_eq!(even(&sw), ["of-pipeline p1 2"]);
    sw.ofctl("-O OpenFlow13 add-meter br0 meter=1,pktps,band=type=drop,rate=1");
    for flow in [
        "in_port=1,udp,actions=ct(commit,table=1)",
        "in_port=1,actions=2,3",
        "in_port=2,actions=controller",
        "in_port=3,actions=meter:1,1,resubmit(,7)",
        "table=1,actions=output(port=2,max_len=60),p3,in_port",
        "table=7,actions=push_vlan:0x8100,set_field:4101->vlan_vid,2",
    ] {
        sw.ofctl(&format!("-O OpenFlow13 add-flow br0 {flow}"));
    }
    sw.appctl("revalidator/wait");
    for _ in 0..3 {
        receive(1, &frame);
        receive(1, udp);
        receive(2, &frame);
        receive(3, &frame);
    }
    // Too long for the ports that it goes to.
    receive(1, &format!("{frame}{}", "00".repeat(1600)));
    sw.ofctl("packet-out br0 in_port=none,packet=0200000000020200000000011234,actions=1,2,3");
    let drops = even(&sw);
    for drop in ["of-pipeline p1 2", "tx-over-mtu p2 1", "tx-over-mtu p3 1"] {
        assert!(drops.contains(&drop.to_owned()), "{drops:?}");
    }
    let meter = drops.iter().filter(|d| d.starts_with("meter p3"));
    assert_eq!(meter.count(), 1, "{drops:?}");
    // What a port has lost is still told when it is gone.
    sw.vsctl("del-port p2");
    receive(1, &frame);
    let drops = even(&sw);
    assert!(drops.contains(&"tx-over-mtu - 1".to_owned()), "{drops:?}");
    // The same for programs, and in Open vSwitch's counters.
    let json = sw.appctl("-f json dpif-netdev/drops");
    assert!(
        json.contains(
            r#""of-pipeline":{"coverage":"drop_action_of_pipeline","packets":2,"ports":{"p1":2}"#
        ),
        "{json}"
    );
    let count = sw.appctl("coverage/read-counter drop_action_of_pipeline");
    assert_eq!(count.trim(), "2");
}
