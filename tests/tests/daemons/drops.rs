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

/// What a UDP packet from p1 is dropped for, if a flow with these actions is made by hand: our name and Open vSwitch's.
const DROPPED: &[(&str, &str, &str)] = &[
    ("drop", "of-pipeline", "drop_action_of_pipeline"),
    ("2,99", "invalid-port", "datapath_drop_invalid_port"),
    (
        "2,sample(sample=0.0%,actions(2))",
        "sample-error",
        "datapath_drop_sample_error",
    ),
    ("recirc(0)", "recirc-error", "datapath_drop_recirc_error"),
    ("recirc(7)", "upcall-error", "datapath_drop_upcall_error"),
    ("lb_output(7)", "invalid-bond", "datapath_drop_invalid_bond"),
    (
        "tnl_pop(2)",
        "invalid-tnl-port",
        "datapath_drop_invalid_tnl_port",
    ),
    (
        "tnl_pop(77)",
        "invalid-tnl-port",
        "datapath_drop_invalid_tnl_port",
    ),
    (
        "tnl_push(tnl_port(2),header(size=50,type=4,eth(dst=02:00:00:00:00:03,src=02:00:00:00:00:04,dl_type=0x0800),\
         ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),\
         vxlan(flags=0x8000000,vni=0x1c7)),out_port(1)),2",
        "tunnel-push-error",
        "datapath_drop_tunnel_push_error",
    ),
    (
        "userspace(pid=0,userdata(01))",
        "userspace-action-error",
        "datapath_drop_userspace_action_error",
    ),
];

#[test]
fn drops_have_the_names_that_open_vswitch_counts_them_under() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail-mode=secure");
    for port in 1..=2 {
        sw.vsctl(&format!(
            "add-port br0 p{port} -- set Interface p{port} type=dummy ofport_request={port}"
        ));
    }
    sw.appctl("revalidator/pause");
    let count = |reason: &str| {
        let drops = even(&sw);
        let row = drops.iter().find(|d| d.split(' ').next() == Some(reason));
        row.map_or(0, |d| d.rsplit_once(' ').expect(d).1.parse().expect(d))
    };
    let event = |name: &str| -> i64 {
        let text = sw.appctl(&format!("coverage/read-counter {name}"));
        text.trim().parse().expect(&text)
    };
    for (actions, reason, name) in DROPPED {
        sw.appctl("dpctl/del-flows");
        let key = "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
        let actions: String = actions.split_whitespace().collect();
        sw.appctl(&format!("dpctl/add-flow {key} {actions}"));
        let before: (i64, i64) = (count(reason), event(name));
        sw.appctl(
            "netdev-dummy/receive p1 eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
             ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,ttl=64,frag=no),udp(src=1,dst=2)",
        );
        let after = (count(reason), event(name));
        assert_eq!(
            after,
            (before.0 + 1, before.1 + 1),
            "{actions}: {:?}",
            even(&sw)
        );
    }
}
