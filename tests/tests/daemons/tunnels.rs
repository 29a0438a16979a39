//! Tunnel ports of every type: how they are shown, what header their packets get, what they take.

use std::time::Duration;

use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Programs, Switch};

/// A bridge `br-int` with port 1 and a bridge `br-phy` that owns the way to two remotes.
fn underlay() -> Switch {
    let programs = Cast::all(Programs::ours());
    let sw = Switch::start(programs, &["--enable-dummy", "--disable-system"]);
    sw.vsctl(
        "add-br br-phy -- set Bridge br-phy datapath_type=dummy fail-mode=secure \
         other-config:hwaddr=aa:55:aa:55:00:01 \
         -- add-port br-phy p0 -- set Interface p0 type=dummy ofport_request=1 \
         -- add-br br-int -- set Bridge br-int datapath_type=dummy fail-mode=secure \
         other-config:hwaddr=aa:55:aa:55:00:02 \
         -- add-port br-int q0 -- set Interface q0 type=dummy ofport_request=1",
    );
    for command in [
        "netdev-dummy/ip4addr br-phy 10.9.0.1/24",
        "netdev-dummy/ip6addr br-phy 2001:db8:9::1/64",
        "ovs/route/add 10.9.0.0/24 br-phy",
        "ovs/route/add 2001:db8:9::/64 br-phy",
        "tnl/neigh/set br-phy 10.9.0.2 aa:bb:cc:00:00:02",
        "tnl/neigh/set br-phy 2001:db8:9::2 aa:bb:cc:00:00:06",
    ] {
        sw.appctl(command);
    }
    sw.ofctl("add-flow br-phy actions=normal");
    sw.ofctl("add-flow br-int in_port=1,actions=10");
    sw
}

const REMOTE: &str = "options:remote_ip=10.9.0.2";
const REMOTE6: &str = "options:remote_ip=2001:db8:9::2";

struct Case {
    port: &'static str,
    /// In `dpif/show`, `ofproto/list-tunnels` and `dpctl/show`.
    shown: &'static str,
    listed: &'static str,
    shared: &'static str,
    /// The header of `tnl_push` behind IP, and what comes before the push.
    header: &'static str,
    before: &'static str,
}

const CASES: [Case; 11] = [
    Case {
        port: "type=geneve V4 options:key=77 options:csum=true",
        shown: "(geneve: csum=true, key=77, remote_ip=10.9.0.2)",
        listed: "(geneve: ::->10.9.0.2, key=0x4d, legacy_l2, dp port=6081, ttl=64, csum=true)",
        shared: "genev_sys_6081 (geneve: packet_type=ptap)",
        header: "udp(src=0,dst=6081,csum=0xffff),geneve(vni=0x4d)",
        before: "",
    },
    Case {
        port: "type=gre V4 options:key=78 options:seq=true options:packet_type=legacy_l3",
        shown: "(gre: key=78, packet_type=legacy_l3, remote_ip=10.9.0.2, seq=true)",
        listed: "(gre: ::->10.9.0.2, key=0x4e, legacy_l3, dp port=",
        shared: "gre_sys (gre: packet_type=ptap)",
        header: "gre((flags=0x3000,proto=0x800),key=0x4e,seq=0x0)",
        before: "pop_eth,",
    },
    Case {
        port: "type=ip6gre V6 options:csum=true options:key=5",
        shown: "(ip6gre: csum=true, key=5, remote_ip=2001:db8:9::2)",
        listed: "(ip6gre: ::->2001:db8:9::2, key=0x5, legacy_l2, dp port=",
        shared: "ip6gre_sys (ip6gre: packet_type=ptap)",
        header: "gre((flags=0xa000,proto=0x6558),csum=0x0,key=0x5)",
        before: "",
    },
    Case {
        port: "type=erspan V4 options:key=3 options:erspan_ver=1 options:erspan_idx=5",
        shown: "(erspan: erspan_idx=0x5, erspan_ver=1, key=3, remote_ip=10.9.0.2)",
        listed: "(erspan: ::->10.9.0.2, key=0x3, legacy_l2, dp port=",
        shared: "erspan_sys (erspan: erspan_ver=0, packet_type=ptap)",
        header: "erspan(ver=1,sid=0x3,idx=0x5)",
        before: "",
    },
    Case {
        port: "type=ip6erspan V6 options:key=4 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=9",
        shown: "(ip6erspan: erspan_dir=1, erspan_hwid=0x9, erspan_ver=2, key=4, remote_ip=2001:db8:9::2)",
        listed: "(ip6erspan: ::->2001:db8:9::2, key=0x4, legacy_l2, dp port=",
        shared: "ip6erspan_sys (ip6erspan: erspan_ver=0, packet_type=ptap)",
        header: "erspan(ver=2,sid=0x4,dir=1,hwid=0x9)",
        before: "",
    },
    Case {
        port: "type=gtpu V6 options:key=9",
        shown: "(gtpu: key=9, remote_ip=2001:db8:9::2)",
        listed: "(gtpu: ::->2001:db8:9::2, key=0x9, legacy_l3, dp port=2152, ttl=64)",
        shared: "gtpu_sys_2152 (gtpu: packet_type=ptap)",
        header: "udp(src=0,dst=2152,csum=0x0),gtpu(flags=0x30,msgtype=255,teid=0x9)",
        before: "pop_eth,",
    },
    Case {
        port: "type=srv6 V6 options:srv6_segs=\"2001:db8:9::2,2001:db8:9::3\" options:srv6_flowlabel=compute",
        shown: "(srv6: remote_ip=2001:db8:9::2)",
        listed: "(srv6: ::->2001:db8:9::2, key=0, legacy_l3, dp port=",
        shared: "srv6_sys (srv6: packet_type=ptap)",
        header: "srv6(segments_left=1,segs(2001:db8:9::2,2001:db8:9::3))",
        before: "pop_eth,",
    },
    Case {
        port: "type=vxlan V4 options:exts=gpe options:key=8 options:packet_type=ptap",
        shown: "(vxlan: key=8, packet_type=ptap, remote_ip=10.9.0.2)",
        listed: "(vxlan: ::->10.9.0.2, key=0x8, ptap, dp port=4789, ttl=64)",
        shared: "vxlan_sys_4789 (vxlan: packet_type=ptap)",
        header: "udp(src=0,dst=4789,csum=0x0),vxlan(flags=0xc000003,vni=0x8)",
        before: "",
    },
    Case {
        port: "type=gre64 V4 options:key=0x500000007",
        shown: "(gre64: key=21474836487, remote_ip=10.9.0.2)",
        listed: "(gre64: ::->10.9.0.2, key=0x500000007, legacy_l2, dp port=",
        shared: "gre64_sys (gre64: packet_type=ptap)",
        header: "gre((flags=0x3000,proto=0x6558),key=0x7,seq=0x5)",
        before: "",
    },
    Case {
        port: "type=lisp V4 options:key=7",
        shown: "(lisp: key=7, remote_ip=10.9.0.2)",
        listed: "(lisp: ::->10.9.0.2, key=0x7, legacy_l3, dp port=4341, ttl=64)",
        shared: "lisp_sys_4341 (lisp: packet_type=ptap)",
        header: "udp(src=0,dst=4341,csum=0x0),lisp(flags=0x48000000,instance_id=0x7,lsb=0x1)",
        before: "pop_eth,",
    },
    Case {
        port: "type=stt V4 options:key=0x500000007",
        shown: "(stt: key=21474836487, remote_ip=10.9.0.2)",
        listed: "(stt: ::->10.9.0.2, key=0x500000007, legacy_l2, dp port=7471, ttl=64)",
        shared: "stt_sys_7471 (stt: packet_type=ptap)",
        header: "tcp(src=0,dst=7471),stt(key=0x500000007)",
        before: "",
    },
];

#[test]
fn ports_of_every_type_are_shown_and_push_their_header() {
    let sw = underlay();
    for case in &CASES {
        let port = case.port.replace("V4", REMOTE).replace("V6", REMOTE6);
        sw.vsctl(&format!(
            "--if-exists del-port t -- add-port br-int t -- set Interface t ofport_request=10 {port}"
        ));
        let shows = |command: &str, want: &str| {
            let text = sw.appctl(command);
            assert!(text.contains(want), "{want}: {text}");
        };
        shows("dpif/show", &format!(": {}", case.shown));
        shows("ofproto/list-tunnels", &format!(": t {}", case.listed));
        shows("dpctl/show", &format!(": {}", case.shared));
        let packet = "in_port=1,tcp,nw_src=1.1.1.1,nw_dst=2.2.2.2,nw_ttl=9";
        let trace = sw.appctl(&format!("ofproto/trace br-int {packet}"));
        let actions = trace.lines().last().unwrap_or_default();
        let pushes = format!("Datapath actions: {}tnl_push(", case.before);
        assert!(actions.starts_with(&pushes), "{}: {trace}", case.port);
        assert!(
            actions.contains(&format!("),{}),out_port(", case.header)),
            "{trace}"
        );
    }
}

#[test]
fn bareudp_has_no_header_in_userspace() {
    let sw = underlay();
    sw.vsctl(&format!(
        "add-port br-int t -- set Interface t ofport_request=10 type=bareudp {REMOTE}"
    ));
    let trace = sw.appctl("ofproto/trace br-int in_port=1,tcp");
    assert!(
        trace.contains("native tunnel header build failed"),
        "{trace}"
    );
    assert!(!sw.appctl("tnl/ports/show").contains("udp_sys"));
}

#[test]
fn who_listens_first_gets_what_two_types_listen_for() {
    let sw = underlay();
    for (name, kind) in [("e", "erspan"), ("g", "gre"), ("s", "srv6")] {
        sw.vsctl(&format!(
            "add-port br-int {name} -- set Interface {name} type={kind} {REMOTE6}"
        ));
    }
    let shown = |_: ()| sw.appctl("tnl/ports/show -v");
    let listen = |text: &str, proto: u8| {
        let end = format!("proto={proto},frag=no)");
        let ends: Vec<&str> = text.lines().filter(|l| l.ends_with(&end)).collect();
        ends.iter()
            .filter_map(|l| l.split(' ').next())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(listen(&shown(()), 47), ["erspan_sys"; 2]);
    assert_eq!(listen(&shown(()), 4), ["srv6_sys"; 2]);
    assert_eq!(listen(&shown(()), 41), ["srv6_sys"; 2]);
    sw.vsctl("del-port e");
    assert_eq!(listen(&shown(()), 47), ["gre_sys"; 2]);
}

/// An outer frame from 10.9.0.2 with UDP to port 6081, then `rest`.
fn geneve(rest: &str) -> String {
    let len = rest.len() / 2;
    let (ip, udp) = (len + 28, len + 8);
    let fixed = format!("4500{ip:04x}0000400040110000");
    let addresses = "0a0900020a090001";
    let words: Vec<u32> = (0..)
        .map(|i| i * 4)
        .take_while(|i| i + 4 <= 40)
        .map(|i| u32::from_str_radix(&format!("{fixed}{addresses}")[i..i + 4], 16).unwrap())
        .collect();
    let sum: u32 = words.iter().sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) & 0xffff;
    let fixed = format!("4500{ip:04x}000040004011{sum:04x}");
    format!("aa55aa550001aabbcc0000020800{fixed}{addresses}15b317c1{udp:04x}0000{rest}")
}

const INNER: &str = "50540000000250540000000188b50102030405060708";

#[test]
fn options_of_geneve_are_matched_by_the_bridges_table() {
    let sw = underlay();
    sw.vsctl(&format!(
        "add-port br-int t -- set Interface t ofport_request=10 type=geneve {REMOTE} options:key=flow"
    ));
    sw.ofctl("add-tlv-map br-int {class=0x102,type=0x80,len=4}->tun_metadata0");
    sw.ofctl("add-flow br-int in_port=10,tun_metadata0=0xcafebabe,actions=1");
    let sent = || {
        sw.vsctl("get Interface q0 statistics:tx_packets")
            .trim()
            .to_owned()
    };
    let dump = || sw.appctl("dpctl/dump-flows");
    sw.appctl(&format!(
        "netdev-dummy/receive p0 {}",
        geneve(&format!("0200655800004d0001028001cafebabe{INNER}"))
    ));
    let matched = "geneve({class=0x102,type=0x80,len=4,0xcafebabe}),";
    assert!(
        wait_for(Duration::from_secs(20), || dump().contains(matched)),
        "{}",
        dump()
    );
    // Another value, an option that must be understood and is not, and one that does not end.
    for options in [
        "0200655800004d0001028001cafebabf",
        "0200655800004d0000078101cafebabe",
        "0200655800004d0001028005cafebabe",
    ] {
        sw.appctl("dpctl/del-flows");
        sw.appctl(&format!(
            "netdev-dummy/receive p0 {}",
            geneve(&format!("{options}{INNER}"))
        ));
        let dropped = || {
            dump()
                .lines()
                .any(|l| l.contains("tunnel(") && l.ends_with("actions:drop"))
        };
        assert!(
            wait_for(Duration::from_secs(20), dropped),
            "{options}: {}",
            dump()
        );
    }
    assert!(
        wait_for(Duration::from_secs(20), || sent() == "1"),
        "{}",
        sent()
    );
    let flows = sw.ofctl("dump-flows br-int in_port=10");
    assert!(flows.contains("n_packets=1"), "{flows}");
}

#[test]
fn congestion_that_no_host_understands_drops_the_packet() {
    let sw = underlay();
    sw.vsctl(&format!(
        "add-port br-int t -- set Interface t ofport_request=10 type=gre {REMOTE}"
    ));
    sw.ofctl("add-flow br-int in_port=10,actions=1");
    let tunnel = "tunnel(src=10.9.0.2,dst=10.9.0.1,tos=0x3,ttl=64,flags())";
    let trace = |tos: &str| {
        let port = sw.appctl("dpif/show");
        let number = port
            .split("t 10/")
            .nth(1)
            .and_then(|t| t.split(':').next())
            .unwrap_or("0");
        sw.appctl(&format!(
            "ofproto/trace ovs-dummy {tunnel},in_port({number}),eth(),eth_type(0x0800),ipv4(proto=17,tos={tos},frag=no)"
        ))
    };
    assert!(
        trace("0").contains("Datapath actions: drop\n"),
        "{}",
        trace("0")
    );
    let marked = trace("0x2");
    assert!(marked.contains("set(ipv4(tos=0x3/0x3)),"), "{marked}");
}

#[test]
fn a_neighbour_that_is_missing_is_asked_for_once_a_second_and_holds_no_other_output_up() {
    let sw = underlay();
    sw.vsctl(&format!(
        "add-port br-int q2 -- set Interface q2 type=dummy ofport_request=2 \
         -- add-port br-int t -- set Interface t ofport_request=10 type=vxlan {REMOTE}"
    ));
    sw.ofctl("add-flow br-int in_port=1,actions=10,2");
    sw.appctl("time/stop");
    sw.appctl("tnl/neigh/flush");
    let sent = |bridge: &str, port: &str| {
        let text = sw.ofctl(&format!("dump-ports {bridge} {port}"));
        let sent = text
            .split("tx pkts=")
            .nth(1)
            .and_then(|t| t.split(',').next());
        sent.unwrap_or_default().parse::<u32>().unwrap()
    };
    let becomes = |what: &str, condition: &dyn Fn() -> bool| {
        assert!(wait_for(Duration::from_secs(20), condition), "{what}");
    };
    let show = || sw.appctl("tnl/neigh/show");
    let trace = || sw.appctl("ofproto/trace br-int in_port=1,ip");
    let udp = "eth_type(0x0800),ipv4(src=1.1.1.1,dst=2.2.2.2,proto=17,frag=no),udp(src=1,dst=2)";
    let receive = || {
        let packet = format!("in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),{udp}");
        sw.client("ovs-appctl", &["netdev-dummy/receive", "q0", &packet])
            .ok();
    };
    let asked = sent("br-phy", "p0");
    receive();
    becomes("the packet goes on", &|| sent("br-int", "q2") == 1);
    becomes("one question", &|| sent("br-phy", "p0") == asked + 1);
    let waits =
        "10.9.0.2                                                          br-phy INCOMPLETE\n";
    assert!(show().contains(waits), "{}", show());
    let text = trace();
    assert!(
        text.contains("neighbor cache miss for 10.9.0.2 on bridge br-phy, waiting on ARP request"),
        "{text}"
    );
    assert!(text.contains("Datapath actions: clone(drop),"), "{text}");
    // The flow that drops the packets asks again by itself.
    for n in 2..4 {
        sw.appctl("time/warp 1001");
        becomes("another question", &|| sent("br-phy", "p0") == asked + n);
    }
    let reply = "in_port(1),eth(src=aa:bb:cc:00:00:02,dst=aa:55:aa:55:00:01),eth_type(0x0806),\
                 arp(sip=10.9.0.2,tip=10.9.0.1,op=2,sha=aa:bb:cc:00:00:02,tha=aa:55:aa:55:00:01)";
    sw.client("ovs-appctl", &["netdev-dummy/receive", "p0", reply])
        .ok();
    becomes("the answer is known", &|| {
        show().contains("aa:bb:cc:00:00:02   br-phy\n")
    });
    let before = sent("br-phy", "p0");
    let pushes = || sw.appctl("dpctl/dump-flows").contains("tnl_push");
    becomes("the flow is changed", &pushes);
    receive();
    becomes("through the tunnel", &|| sent("br-phy", "p0") == before + 1);
    assert_eq!(sent("br-int", "q2"), 2);
    // No answer is waited for longer than an entry lives.
    for (command, error) in [
        (
            "tnl/neigh/retrans_time 900001",
            "retrans_time value cannot be greater than aging",
        ),
        ("tnl/neigh/retrans_time x", "bad retrans_time value"),
        ("tnl/neigh/aging 3601", "bad aging value"),
    ] {
        let got = sw.client("ovs-appctl", &command.split(' ').collect::<Vec<_>>());
        assert!(got.stderr.starts_with(error), "{command}: {}", got.stderr);
    }
}

#[test]
fn a_malformed_outer_frame_is_dropped_for_a_reason_that_has_a_name() {
    let sw = underlay();
    sw.vsctl(&format!(
        "add-port br-int t -- set Interface t ofport_request=10 type=geneve {REMOTE} options:key=77"
    ));
    sw.ofctl("add-flow br-int in_port=10,actions=1");
    let good = geneve(&format!("0000655800004d00{INNER}"));
    let byte = |at: usize, value: &str| {
        let mut frame = good.clone();
        frame.replace_range(2 * at..2 * at + 2, value);
        frame
    };
    let drops = || sw.appctl("dpif-netdev/drops");
    let of = |name: &str| {
        let text = drops();
        let line = text.lines().find(|l| l.starts_with(&format!("{name} ")));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u32>().ok())
            .unwrap_or(0)
    };
    // The TTL, a UDP checksum that is wrong, a version that is none, and options that go on behind the end.
    for (name, frame, n) in [
        ("tunnel-pop-checksum", byte(22, "3f"), 1),
        ("tunnel-pop-checksum", byte(40, "12"), 2),
        ("tunnel-pop-error", byte(42, "c0"), 1),
        ("tunnel-pop-truncated", byte(42, "3f"), 1),
    ] {
        sw.appctl(&format!("netdev-dummy/receive p0 {frame}"));
        assert!(
            wait_for(Duration::from_secs(20), || of(name) == n),
            "{name}: {}",
            drops()
        );
    }
    let before = of("of-pipeline");
    sw.appctl(&format!("netdev-dummy/receive p0 {good}"));
    let sent = || sw.ofctl("dump-ports br-int q0");
    assert!(
        wait_for(Duration::from_secs(20), || sent().contains("tx pkts=1,")),
        "{}",
        sent()
    );
    assert_eq!(of("of-pipeline"), before);
    let errors = |name: &str| sw.appctl(&format!("coverage/read-counter {name}"));
    assert_eq!(errors("datapath_drop_tunnel_pop_error").trim(), "4");
    assert_eq!(errors("native_tnl_l3csum_err").trim(), "1");
    assert_eq!(errors("native_tnl_l4csum_err").trim(), "1");
}
