//! What becomes of packets, as traces and logs tell it.

use ferrovs_testkit::Switch;

/// A switch with bridge br0, dummy ports p1 to p3, and patch port 10 to br1.
fn switch() -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 type=dummy ofport_request=2 \
         -- add-port br0 p3 -- set Interface p3 type=dummy ofport_request=3 \
         -- add-br br1 -- set Bridge br1 datapath_type=dummy fail_mode=secure \
         -- add-port br0 pa -- set Interface pa type=patch options:peer=pb ofport_request=10 \
         -- add-port br1 pb -- set Interface pb type=patch options:peer=pa ofport_request=1",
    );
    sw
}

const FRAME: &str = "0200000000020200000000011234";
const KEY: &str =
    "in_port=1,vlan_tci=0x0000,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x1234";

/// What the modules `xlate` and `upcall` have logged, from the module on; continued lines as they are.
fn told(sw: &Switch) -> String {
    let log = sw.log("ovs-vswitchd");
    let mut out = String::new();
    let mut ours = false;
    for line in log.lines() {
        let text = match line.splitn(3, '|').nth(2) {
            Some(text) => {
                ours = text.starts_with("ofproto_dpif_xlate|WARN")
                    || text.starts_with("ofproto_dpif_upcall|WARN");
                text
            }
            None => line,
        };
        if ours {
            out += text;
            out.push('\n');
        }
    }
    out
}

#[test]
fn the_way_of_a_packet_that_goes_in_circles_is_logged_once() {
    let sw = switch();
    sw.ofctl("add-flow br0 actions=mod_dl_dst:02:00:00:00:00:09,2,mod_dl_src:02:00:00:00:00:08,resubmit(,0)");
    sw.appctl(&format!("netdev-dummy/receive p1 {FRAME}"));
    sw.appctl("dpctl/del-flows");
    sw.appctl(&format!("netdev-dummy/receive p1 {FRAME}"));
    let way = " 0. priority 32768\n    mod_dl_dst:02:00:00:00:00:09\n    output:2\n    \
               mod_dl_src:02:00:00:00:00:08\n    resubmit(,0)\n";
    // The first line tells the packet as it was sent last.
    let deep = format!(
        "ofproto_dpif_xlate|WARN|over max translation depth 64 on bridge br0 while processing {}\n",
        KEY.replace("02:00:00:00:00:01", "02:00:00:00:00:08")
            .replace("02:00:00:00:00:02", "02:00:00:00:00:09")
    );
    let want = format!(
        "{deep}ofproto_dpif_upcall|WARN|Flow: {KEY}\n\nbridge(\"br0\")\n-------------\n{}\
         \x20    >>>> over max translation depth 64 <<<<\n\n\
         Final flow: {}\n\
         Megaflow: recirc_id=0,eth,in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x1234\n\
         Datapath actions: drop\n\
         Translation failed (Recursion too deep), packet is dropped.\n{deep}",
        way.repeat(65),
        KEY.replace("02:00:00:00:00:01", "02:00:00:00:00:08")
            .replace("02:00:00:00:00:02", "02:00:00:00:00:09")
    );
    assert_eq!(told(&sw), want);
}

#[test]
fn what_is_wrong_with_a_packet_is_logged_and_a_flow_that_fails_later_goes() {
    let sw = switch();
    sw.ofctl("add-flow br0 actions=output(port=10,max_len=64),2");
    sw.appctl(&format!("netdev-dummy/receive p1 {FRAME}"));
    let want = format!(
        "ofproto_dpif_xlate|WARN|output_trunc does not support patch port 10 on bridge br0 while processing {KEY}\n"
    );
    assert_eq!(told(&sw), want);
    assert!(sw.appctl("dpctl/dump-flows").ends_with("actions:2\n"));
    // The flow that is there is looked at again: nobody is told, and the next packet asks.
    sw.ofctl("add-flow br0 actions=resubmit(,0)");
    sw.appctl("revalidator/wait");
    assert_eq!(sw.appctl("dpctl/dump-flows"), "");
    assert_eq!(told(&sw), want);
}

#[test]
fn a_trace_takes_the_arguments_that_open_vswitch_takes() {
    let sw = switch();
    sw.ofctl("add-flow br0 in_port=1,actions=2");
    let packet = "020000000002020000000001123400000000";
    let key = "in_port(1),eth(),eth_type(0x1234)";
    let trace = |args: &[&str]| {
        let got = sw.client("ovs-appctl", &[&["ofproto/trace"], args].concat());
        let text = if got.code == 0 {
            got.stdout
        } else {
            got.stderr
        };
        text.lines().next().unwrap_or_default().to_owned()
    };
    let flow = |eth: &str| format!("Flow: in_port=1,vlan_tci=0x0000,{eth}");
    let zero = flow("dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x1234");
    let sent = flow("dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x1234");
    let of_flow = "in_port=1,dl_type=0x1234";
    let good: &[(&[&str], &str)] = &[
        (&["br0", of_flow], &zero),
        (&["br0", of_flow, "-generate"], &zero),
        (&["--generate", "br0", of_flow, "--l7", "0a 0b"], &zero),
        (&["br0", of_flow, "--l7-len", "64000"], &zero),
        (
            &["br0", of_flow, "--ct-next", "trk,est", "--ct-next", ""],
            &zero,
        ),
        (&["br0", "in_port=1", packet], &sent),
        (&[key], &zero),
        (&["in_port(p1),eth(),eth_type(0x1234)"], &zero),
        (&["ovs-dummy", key], &zero),
        // The last word is the packet if it is one.
        (&[key, packet], &sent),
        (&["ovs-dummy", key, packet], &sent),
    ];
    for (args, want) in good {
        assert_eq!(trace(args), *want, "{args:?}");
    }
    let bad: &[(&[&str], &str)] = &[
        (
            &["br0", of_flow, "-ct-next", "trk"],
            "-ct-next: unknown option",
        ),
        (
            &["br0", of_flow, "--l7"],
            "Missing argument for option --l7",
        ),
        (
            &["br0", of_flow, "--l7", "zz"],
            "Trailing garbage in packet data",
        ),
        (&["br0", of_flow, "--l7-len", "-1"], "-1: too much L7 data"),
        (
            &["br0", of_flow, "--ct-next", "est"],
            "est: invalid connection state: If \"trk\" is unset, no other flags are set",
        ),
        (
            &["br0", of_flow, "-consistent"],
            "-consistent: unknown option",
        ),
        (&["br0", of_flow, packet, "-generate"], "Syntax error"),
        (&["-generate"], "Syntax error"),
        (
            &["br0", of_flow, "12"],
            "Packet data too short for Ethernet",
        ),
        (&["br0", of_flow, "zz"], "Trailing garbage in packet data"),
        (&["br0", of_flow, packet, "x"], "too many arguments"),
        (
            &["br0", packet],
            "syntax error at br0 (or the bridge name was omitted)",
        ),
        (&["br0", key], "Cannot find the datapath"),
        (&["br0", "", packet], "Cannot find the datapath"),
        (&["br9", of_flow], "br9: unknown bridge"),
        (
            &["eth(),eth_type(0x1234)"],
            "no OpenFlow port for datapath port 4294967295",
        ),
        (
            &["tunnel(src=1.1.1.1,dst=2.2.2.2,ttl=64),in_port(1),eth(),eth_type(0x1234)"],
            "no OpenFlow tunnel port for this packet",
        ),
    ];
    for (args, want) in bad {
        assert_eq!(trace(args), *want, "{args:?}");
    }
}

#[test]
fn the_trace_of_a_packet_out_checks_its_actions() {
    let sw = switch();
    sw.ofctl("add-flow br0 in_port=1,actions=3");
    let last = |args: &[&str]| {
        let got = sw.client(
            "ovs-appctl",
            &[&["ofproto/trace-packet-out"], args].concat(),
        );
        match got.code {
            0 => got.stdout.lines().last().map(str::to_owned),
            _ => got.stderr.lines().next().map(str::to_owned),
        }
        .unwrap_or_default()
    };
    let cases: &[(&[&str], &str)] = &[
        (&["br0", "in_port=1", "output:2"], "Datapath actions: 2"),
        (
            &["br0", "in_port=1", "mod_nw_src:1.2.3.4,2"],
            "Datapath actions: 2",
        ),
        (
            &["-consistent", "br0", "in_port=1", "mod_nw_src:1.2.3.4,2"],
            "Bad actions: OFPBAC_MATCH_INCONSISTENT",
        ),
        (
            &["br0", "in_port=1", "group:7"],
            "Bad actions: OFPBAC_BAD_OUT_GROUP",
        ),
        (
            &["br0", "in_port=1", "meter:7"],
            "Bad actions: OFPMMFC_INVALID_METER",
        ),
        (
            &["br0", "in_port=1", "goto_table:2"],
            "goto_table instruction not allowed here",
        ),
        // Nothing to do means the tables.
        (&["br0", "in_port=1", "drop"], "Datapath actions: 3"),
        (
            &["br0", "in_port=1", "controller"],
            "Datapath actions: userspace(pid=0,controller(reason=1,dont_send=1,continuation=0,recirc_id=1,\
             rule_cookie=0xffffffffffffffff,controller_id=0,max_len=65535))",
        ),
    ];
    for (args, want) in cases {
        assert_eq!(last(args), *want, "{args:?}");
    }
}

#[test]
fn a_match_that_loses_fields_is_told_by_client_and_switch() {
    let sw = switch();
    let changed = |line: &str, pre: &str, post: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let got = sw.client("ovs-ofctl", &args);
        let want = [
            "ofp_match|INFO|normalization changed ofp_match, details:".to_owned(),
            format!("ofp_match|INFO| pre: {pre}"),
            format!("ofp_match|INFO|post: {post}"),
        ];
        assert_eq!(got.code, 0, "{line}");
        for text in want {
            assert!(got.stderr.contains(&text), "{line}: {}", got.stderr);
        }
    };
    changed(
        "add-flow br0 nw_src=10.0.0.1,actions=drop",
        "nw_src=10.0.0.1",
        "",
    );
    changed("del-flows br0 nw_src=10.0.0.1", "nw_src=10.0.0.1", "");
    let got = sw.client(
        "ovs-ofctl",
        &["add-flow", "br0", "ip,nw_src=10.0.0.1,actions=drop"],
    );
    assert_eq!(got.stderr, "");
}
