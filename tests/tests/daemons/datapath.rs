//! The datapath as operators see it: ports, flows, logs, and what is refused.

use std::time::Duration;

use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Programs, Switch};

/// A switch with bridge br0 and dummy ports p1 and p2.
fn two_ports() -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 type=dummy ofport_request=2",
    );
    sw
}

const ADDRESSES: &str = "020000000002020000000001";

#[test]
fn a_frame_that_ends_in_its_vlan_header_is_dropped() {
    let sw = two_ports();
    for (tag, actions) in [
        ("8100", "actions:drop"),
        ("81000005", "actions:drop"),
        ("810000051234", "actions:push_vlan"),
    ] {
        let frame = format!("{ADDRESSES}{tag}");
        let trace = sw.appctl(&format!("ofproto/trace br0 in_port=1 {frame}"));
        let dropped = trace.contains("partial VLAN tag, dropping");
        assert_eq!(dropped, actions == "actions:drop", "{tag}: {trace}");
    }
}

#[test]
fn queues_that_a_live_port_gets_are_polled_at_once() {
    let sw = two_ports();
    sw.vsctl("add-port br0 q -- set Interface q type=dummy-pmd options:n_rxq=1");
    sw.vsctl("set Interface q options:n_rxq=4");
    let shown = sw.appctl("dpif-netdev/pmd-rxq-show");
    assert!(shown.contains("queue-id:  3"), "{shown}");
    let frame = format!("{ADDRESSES}1234");
    sw.appctl(&format!("netdev-dummy/receive q --qid 3 {frame}"));
    let arrived = || sw.vsctl("get Interface q statistics:rx_packets").trim() == "1";
    let seen = || sw.appctl("dpctl/dump-flows").contains("eth_type(0x1234)");
    assert!(wait_for(Duration::from_secs(20), || seen() || arrived()));
}

#[test]
fn an_internal_port_has_its_mtu_back_when_the_port_that_set_it_goes() {
    let sw = two_ports();
    let mtu = |want: &str| {
        let now = || sw.vsctl("get Interface br0 mtu").trim().to_owned();
        assert!(
            wait_for(Duration::from_secs(20), || now() == want),
            "{}",
            now()
        );
    };
    sw.vsctl("set Interface p1 mtu_request=9000 -- set Interface p2 mtu_request=9000");
    mtu("9000");
    sw.vsctl("del-port p1 -- del-port p2");
    mtu("1500");
}

#[test]
fn the_log_shows_questions_and_flows() {
    let sw = two_ports();
    sw.ofctl("del-flows br0");
    sw.ofctl("add-flow br0 in_port=1,actions=2");
    sw.appctl("vlog/set dpif:file:dbg dpif_netdev:file:dbg");
    sw.appctl(&format!("netdev-dummy/receive p1 {ADDRESSES}1234"));
    sw.appctl("dpctl/dump-flows");
    sw.appctl("revalidator/purge");
    let log = sw.log("ovs-vswitchd");
    for line in [
        "|DBG|ovs-dummy: miss upcall:\n\
         recirc_id(0),dp_hash(0),skb_priority(0),in_port(1),skb_mark(0),ct_state(0),ct_zone(0),ct_mark(0),\
         ct_label(0),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x1234)\n\
         vlan_tci=0x0000,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x1234\n",
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x1234), actions:2\n",
        "|DBG|flow match: recirc_id=0,eth,vlan_tci=0x0000/0x1fff,dl_type=0x1234\n",
        "|DBG|dummy@ovs-dummy: dumped all flows\n",
        "|DBG|dummy@ovs-dummy: flow_dump ufid:",
        "|DBG|dummy@ovs-dummy: flow_del ufid:",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
}

#[test]
fn flows_made_by_hand_stay_while_revalidators_pause() {
    let sw = two_ports();
    sw.appctl("revalidator/pause");
    sw.appctl("dpctl/add-flow in_port(7),eth(),eth_type(0x1234) 2");
    sw.appctl("dpctl/mod-flow in_port(7),eth(),eth_type(0x1234) 1");
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(
        flows.contains("recirc_id(0),in_port(7),eth(),eth_type(0x1234), packets:0, bytes:0, used:never, actions:1"),
        "{flows}"
    );
    let dump = sw.appctl("dpctl/dump-flows -m");
    let ufid = dump.split("ufid:").nth(1).unwrap_or_default();
    assert_eq!(ufid.as_bytes()[14], b'4', "{dump}");
    sw.appctl("dpctl/del-flows");
    sw.appctl("revalidator/resume");
    assert_eq!(sw.appctl("dpctl/dump-flows"), "");
    let commands = sw.appctl("list-commands");
    assert!(!commands.contains("revalidator/pause"), "{commands}");
}

#[test]
fn two_tunnels_never_take_the_same_packets() {
    let sw = Switch::start(Cast::all(Programs::ours()), &["--enable-dummy"]);
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    let add = |name: &str, options: &str| {
        let line = format!(
            "--timeout=20 add-port br0 {name} -- set Interface {name} type=vxlan options:remote_ip=1.1.1.1 {options}"
        );
        let got = sw.client("ovs-vsctl", &line.split_whitespace().collect::<Vec<_>>());
        (got.code, got.stderr)
    };
    assert_eq!(add("v1", "options:ipsec_encapsulation=yes").0, 0);
    let (code, text) = add("v2", "");
    assert_eq!(code, 65);
    assert!(
        text.contains("could not add network device v2 to ofproto (File exists)"),
        "{text}"
    );
    assert_eq!(add("v3", "options:key=5").0, 0);
    let (code, text) = add("v4", "options:key=6 options:exts=gbp");
    assert_eq!(code, 65);
    assert!(
        text.contains(
            "v4: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port"
        ),
        "{text}"
    );
    let log = sw.log("ovs-vswitchd");
    assert!(
        log.contains(
            "tunnel|WARN|v2: attempting to add tunnel port with same config as port 'v1' \
             (::->1.1.1.1, key=0, legacy_l2, dp port=4789)"
        ),
        "{log}"
    );
    assert!(!log.contains("unknown vxlan argument"), "{log}");
}

#[test]
fn a_route_goes_to_the_table_that_it_names() {
    let sw = two_ports();
    sw.appctl("netdev-dummy/ip4addr br0 10.9.0.1/24");
    sw.appctl("ovs/route/add 10.7.1.0/24 br0 10.9.0.9 table=10");
    assert_eq!(
        sw.appctl("ovs/route/show table=10"),
        "Route Table #10:\nUser: 10.7.1.0/24 dev br0 GW 10.9.0.9 SRC 10.9.0.1\n"
    );
    assert!(!sw.appctl("ovs/route/show").contains("10.7.1.0"));
    let json = sw.appctl("-f json ovs/route/show table=10");
    assert!(
        json.starts_with(r#"[{"dst":"10.7.1.0","local":false"#),
        "{json}"
    );
    for (args, message) in [
        (
            "ovs/route/add 10.0.0.0/33 br0",
            "Invalid 'ip/plen' parameter",
        ),
        (
            "ovs/route/add 10.8.0.0/24 br0 table=x",
            "Invalid table format",
        ),
        (
            "ovs/route/add 10.2.0.0/24 br0 src=10.9.0.1",
            "Error while inserting route.",
        ),
        ("ovs/route/show table=99", "Table 'table=99' not found"),
        ("ovs/route/lookup foo", "Invalid 'ip/plen' parameter"),
    ] {
        let got = sw.client("ovs-appctl", &args.split(' ').collect::<Vec<_>>());
        assert!(got.stderr.starts_with(message), "{args}: {}", got.stderr);
    }
}

#[test]
fn packets_of_flows_that_are_offloaded_come_with_their_flow_known() {
    let sw = two_ports();
    sw.vsctl(
        "add-port br0 p3 -- set Interface p3 type=dummy other_config:hw-offload-priority=none",
    );
    sw.vsctl("set Interface p2 other_config:hw-offload-priority=dummy_x");
    let ports = sw.appctl("dpif/offload/show");
    assert_eq!(
        ports,
        "Globally enabled: false\nDatapaths:\ndummy@ovs-dummy:\n  dummy\n  - ovs-dummy: port_no: 0\n  \
         - p1: port_no: 1\n  - br0: port_no: 100\n  dummy_x\n  - p2: port_no: 2\n"
    );
    assert_eq!(sw.appctl("dpctl/offload-stats-show"), "HW Offload stats:\n");
    sw.vsctl("set Open_vSwitch . other_config:hw-offload=true");
    assert_eq!(
        sw.appctl("dpctl/offload-stats-show"),
        "HW Offload stats:\n  dummy[dummy@ovs-dummy]:\n    Offloaded port count:      3\n  \
         dummy_x[dummy@ovs-dummy]:\n    Offloaded port count:      1\n"
    );
    sw.appctl("vlog/set dpif_offload_dummy:file:dbg");
    let frame = format!("{ADDRESSES}1234");
    for port in ["p1", "p1", "p2", "p3", "p3"] {
        sw.appctl(&format!("netdev-dummy/receive {port} {frame}"));
    }
    let stats = sw.appctl("dpif-netdev/pmd-stats-show");
    assert!(stats.contains("  phwol hits: 1\n"), "{stats}");
    let flows = sw.appctl("dpctl/dump-flows -m");
    for port in ["p1", "p2", "p3"] {
        let flow = flows
            .lines()
            .find(|l| l.contains(&format!("in_port({port})")));
        let flow = flow.unwrap_or_else(|| panic!("{port}: {flows}"));
        let offloaded = flow.contains(", offloaded:partial, dp:ovs, ");
        assert_eq!(offloaded, port != "p3", "{flow}");
        let packets = if port == "p2" {
            ", packets:0,"
        } else {
            ", packets:1,"
        };
        assert!(flow.contains(packets), "{flow}");
    }
    let count = |kind: &str| {
        let flows = sw.appctl(&format!("dpctl/dump-flows type={kind}"));
        flows.matches("in_port(").count()
    };
    assert_eq!(
        ["partially-offloaded", "non-offloaded", "offloaded"].map(count),
        [2, 1, 0]
    );
    sw.appctl("dpctl/del-flows");
    let log = sw.log("ovs-vswitchd");
    for line in [
        "dpif_offload|INFO|Flow HW offload is enabled",
        "dpif_offload_dummy|DBG|p1: packet: vlan_tci=0x0000,",
        "dpif_offload_dummy|DBG|succeed to add netdev flow",
        "dpif_offload_dummy|DBG|p1: flow del: ufid:",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}
