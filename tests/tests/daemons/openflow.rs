//! What the switch does about OpenFlow, request by request, as Open vSwitch does it.

use ferrovs_testkit::Switch;
use ferrovs_testkit::oracle::{Line, compare};

const OPTIONS: &[&str] = &[
    "--enable-dummy=override",
    "--disable-system",
    "--disable-system-route",
];

/// Bridge br0 with ports p1 to p3, numbered so.
const BRIDGE: &str = "
ovs-vsctl add-br br0 -- set Bridge br0 fail_mode=secure
ovs-vsctl add-port br0 p1 -- set Interface p1 ofport_request=1
ovs-vsctl add-port br0 p2 -- set Interface p2 ofport_request=2
ovs-vsctl add-port br0 p3 -- set Interface p3 ofport_request=3
";

/// Runs command lines, whose words stand between blanks, on Open vSwitch and on ours.
#[track_caller]
fn same(script: &str) {
    let lines = BRIDGE.lines().chain(script.lines());
    let words: Vec<Vec<&str>> = lines.map(|l| l.split_whitespace().collect()).collect();
    let lines: Vec<Line<'_>> = words.iter().map(|w| &w[..]).collect();
    let lines: Vec<_> = lines.into_iter().filter(|l| !l.is_empty()).collect();
    compare(OPTIONS, &lines);
}

#[test]
fn queues_are_told_as_each_version_tells_them() {
    for version in 10..=15 {
        let ask = |what: &str| format!("ovs-ofctl -O OpenFlow{version} {what}\n");
        let script: String = [
            "queue-stats br0",
            "queue-stats br0 1",
            "queue-stats br0 1 0",
            "queue-stats br0 1 5",
            "queue-stats br0 9",
            "queue-stats br0 ALL 5",
            "queue-get-config br0",
            "queue-get-config br0 1",
            "queue-get-config br0 1 0",
            "queue-get-config br0 9",
        ]
        .map(ask)
        .concat();
        same(&script);
    }
}

#[test]
fn what_lies_under_a_last_label_is_looked_at_when_the_packet_comes_back() {
    same(
        "
ovs-ofctl -O OpenFlow13 add-flow br0 in_port=1,mpls,actions=pop_mpls:0x0800,resubmit(,1)
ovs-ofctl -O OpenFlow13 add-flow br0 table=1,ip,nw_dst=10.0.0.1,actions=dec_ttl,2
ovs-ofctl -O OpenFlow13 add-flow br0 in_port=2,mpls,actions=pop_mpls:0x0800,dec_ttl,3
ovs-ofctl -O OpenFlow13 add-group br0 group_id=1,type=all,bucket=actions=set_field:1.2.3.4->nw_dst,1
ovs-ofctl -O OpenFlow13 add-flow br0 in_port=3,mpls,actions=pop_mpls:0x0800,group:1
ovs-appctl ofproto/trace br0 in_port=1,mpls,mpls_label=4,mpls_bos=1
ovs-appctl ofproto/trace br0 in_port=2,mpls,mpls_label=4,mpls_bos=1
ovs-appctl ofproto/trace br0 in_port=3,mpls,mpls_label=4,mpls_bos=1
ovs-appctl netdev-dummy/receive p1 50540000000750540000000588470000414045000014000100004000642e0a0000020a000001
ovs-appctl netdev-dummy/receive p2 50540000000750540000000588470000414045000014000100004000642e0a0000020a000001
ovs-appctl netdev-dummy/receive p3 50540000000750540000000588470000414045000014000100004000642e0a0000020a000001
ovs-appctl revalidator/wait
ovs-ofctl dump-ports br0
",
    );
}

#[test]
fn modifications_without_a_cookie_add_flows_where_the_version_adds_them() {
    let each: String = ["-F nxm", "-F openflow10", "-O OpenFlow11", "-O OpenFlow13"]
        .iter()
        .zip(1..)
        .map(|(version, n)| {
            format!(
                "ovs-ofctl {version} mod-flows br0 in_port=1{n},actions=2\n\
                 ovs-ofctl {version} mod-flows br0 cookie=4,in_port=2{n},actions=2\n\
                 ovs-ofctl {version} mod-flows br0 cookie=4/-1,in_port=3{n},actions=2\n"
            )
        })
        .collect();
    let dump = "ovs-ofctl -O OpenFlow13 dump-flows br0 --sort=in_port\n";
    same(&format!("{each}{dump}"));
}

#[test]
fn a_dummy_counts_what_it_receives_in_its_own_counters_too() {
    same(
        "
ovs-ofctl add-flow br0 in_port=1,actions=2
ovs-appctl netdev-dummy/receive p1 505400000007505400000005123400
ovs-appctl netdev-dummy/receive p1 505400000007505400000005123400
ovs-appctl revalidator/wait
ovs-ofctl -O OpenFlow14 dump-ports br0 1
ovs-ofctl -O OpenFlow14 dump-ports br0 2
",
    );
}

#[test]
fn a_learned_flow_that_went_is_learned_again_from_the_very_next_packet() {
    same(
        "
ovs-ofctl add-flow br0 in_port=1,actions=learn(table=1,cookie=7,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),2
ovs-appctl netdev-dummy/receive p1 505400000007505400000005123400
ovs-appctl revalidator/wait
ovs-ofctl -O OpenFlow13 dump-flows br0 table=1
ovs-ofctl del-flows br0 table=1
ovs-appctl revalidator/wait
ovs-appctl dpctl/dump-flows
ovs-appctl netdev-dummy/receive p1 505400000007505400000005123400
ovs-appctl revalidator/wait
ovs-ofctl -O OpenFlow13 dump-flows br0 table=1
",
    );
}

#[test]
fn flows_go_with_the_last_flow_that_learns_them() {
    same(
        "
ovs-ofctl add-flow br0 table=0,in_port=1,actions=learn(table=1,cookie=5,delete_learned,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])
ovs-ofctl add-flow br0 table=0,in_port=2,actions=learn(table=1,cookie=5,delete_learned,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])
ovs-ofctl add-flow br0 table=1,cookie=5,in_port=1,actions=learn(table=3,cookie=6,delete_learned,NXM_OF_IN_PORT[])
ovs-ofctl add-flow br0 table=3,cookie=6,in_port=1,actions=drop
ovs-ofctl del-flows br0 in_port=1,table=0
ovs-ofctl -O OpenFlow13 dump-flows br0 table=1
ovs-ofctl -O OpenFlow13 dump-flows br0 table=3
ovs-ofctl mod-flows br0 table=0,in_port=2,actions=drop
ovs-ofctl -O OpenFlow13 dump-flows br0
",
    );
}

#[test]
fn a_monitor_tells_all_flows_that_are_there_however_many_messages_it_takes() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 fail_mode=secure");
    let flows: String = (1..=3000)
        .map(|i| format!("priority={i},in_port={i},actions=1\n"))
        .collect();
    let file = sw.file("flows");
    std::fs::write(&file, flows).unwrap();
    sw.ofctl(&format!("--bundle -O OpenFlow14 add-flows br0 {file}"));
    let told = sw.client("ovs-ofctl", &["--timeout=2", "monitor", "br0", "watch:"]);
    let lines = |what: &str| told.stdout.lines().filter(|l| l.contains(what)).count();
    assert_eq!(lines("event=ADDED"), 3000);
    // 40 bytes each, in messages of 64 kB.
    assert_eq!(lines("NXST_FLOW_MONITOR reply"), 2);
    let shown = sw.ofctl("dump-flows br0");
    assert_eq!(shown.lines().filter(|l| l.contains("reply")).count(), 3);
}
