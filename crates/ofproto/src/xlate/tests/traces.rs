//! What traces tell.

use super::*;

/// The text of a trace of `flow` from its first table on, and the actions of the datapath.
fn traced(flows: &[&str], flow: &Flow) -> String {
    traced_with(flows, flow, Trace::default())
}

fn traced_with(flows: &[&str], flow: &Flow, mut trace: Trace) -> String {
    let (snapshot, bridge) = bridge(flows);
    let out = translate(XlateIn {
        snapshot: &snapshot,
        recircs: &RecircTable::default(),
        bridge: &bridge,
        flow,
        packet: None,
        start: Start::Tables,
        version: None,
        side_effects: false,
        count: None,
        xcache: None,
        trace: Some(&mut trace),
        now: origin(),
    });
    let mut text = trace.text();
    text += &format!("{} -> ", show_match(&Match::new(flow, &out.wc)));
    ferrovs_datapath::text::format_actions(&mut text, &out.actions, None);
    text
}

#[test]
fn what_a_packet_meets_is_told_as_open_vswitch_tells_it() {
    let mpls = Flow {
        in_port: 1,
        dl_type: eth_type::MPLS.into(),
        mpls_lse: [0x64340, 0, 0, 0].map(Be32::from),
        ..Flow::default()
    };
    let flows = [
        "mpls,actions=pop_mpls:0x800,resubmit(,1)",
        "table=1,ip,actions=2",
    ];
    let want = " 0. mpls, priority 32768
pop_mpls:0x0800
recirc_id=0,eth,mpls,in_port=1,mpls_bos=1 -> pop_mpls(eth_type=0x800),recirc(0x1)";
    assert_eq!(flat(&traced(&flows, &mpls)), flat(want));

    let other = Flow {
        in_port: 1,
        dl_type: 0x1234.into(),
        ..Flow::default()
    };
    let flows = [
        "actions=output(port=9,max_len=100),output:9,3,controller(pause),2",
        "br1:actions=meter:1,1",
    ];
    let want = " 0. priority 32768
output(port=9,max_len=100)
 >>>> output_trunc does not support patch port 9 <<<<
output:9
bridge(\"br1\")
-------------
0. priority 32768
meter:1
output:1
output:3
controller(pause)
recirc_id=0,eth,in_port=1,dl_type=0x1234 -> clone(meter(7),110),30";
    assert_eq!(flat(&traced(&flows, &other)), flat(want));

    let flows = [
        "group_id=1,type=select,selection_method=hash,bucket=weight:0,output:2,bucket=watch_port:77,output:3",
        "actions=group:1,sample(probability=65535,collector_set_id=1),2",
    ];
    let want = " 0. priority 32768
group:1
 -> bucket 0: not live due to
 -> bucket 1: not live due to port 77
 -> no live bucket
sample(probability=65535,collector_set_id=1,obs_domain_id=0,obs_point_id=0)
output:2
";
    let text = flat(&traced(&flows, &other));
    assert!(text.starts_with(&flat(want)), "{text}");
}

#[test]
fn a_port_is_set_where_the_type_of_a_message_stands() {
    let flow = |nw_proto, nw_frag| Flow {
        in_port: 1,
        dl_type: eth_type::IP.into(),
        nw_proto,
        nw_frag,
        tp_src: if nw_proto == ip_proto::ICMP { 8 } else { 0 }.into(),
        ..Flow::default()
    };
    for (nw_proto, nw_frag, want) in [
        (ip_proto::TCP, 0, "set(tcp(src=5)),20"),
        (ip_proto::ICMP, 0, "set(icmp(type=5,code=0)),20"),
        (99, 0, "20"),
        (ip_proto::TCP, NW_FRAG_ANY | NW_FRAG_LATER, "20"),
    ] {
        let text = traced(&["ip,actions=mod_tp_src:5,2"], &flow(nw_proto, nw_frag));
        let actions = text.rsplit(" -> ").next();
        assert_eq!(actions, Some(want), "{nw_proto}");
    }
}

#[test]
fn a_trace_tells_the_flows_that_matched_together() {
    let flow = Flow {
        in_port: 1,
        dl_type: 0x1234.into(),
        metadata: 5.into(),
        ..Flow::default()
    };
    let flows = [
        "priority=20,conj_id=1,actions=output:2",
        "priority=20,cookie=3,in_port=1,actions=conjunction(1,1/2)",
        "priority=20,in_port=2,actions=conjunction(1,1/2)",
        "priority=20,metadata=5,actions=conjunction(1,2/2)",
        "priority=20,dl_type=0x1234,actions=conjunction(2,1/2)",
    ];
    let text = traced(&flows, &flow);
    let mut parts: Vec<_> = text.lines().filter(|l| l.contains("conj. ")).collect();
    parts.sort_unstable();
    let want = [
        "     -> conj. priority=20,in_port=1",
        "     -> conj. priority=20,metadata=0x5",
    ];
    assert_eq!(parts, want);
    let first = text.lines().find(|l| l.contains("conj"));
    assert_eq!(first, Some(" 0. conj_id=1, priority 20"));
}

#[test]
fn a_trace_with_names_tells_the_ports_of_each_bridge() {
    let flow = Flow {
        in_port: 1,
        dl_type: 0x1234.into(),
        ..Flow::default()
    };
    let flows = [
        "in_port=1,actions=resubmit(3,1),output:9,write_actions(output:2)",
        "br1:in_port=9,actions=output:1",
    ];
    let want = " 0. in_port=\"xlate-test-1-1\", priority 32768
resubmit(\"xlate-test-1-3\",1)
1. No match.
drop
output:\"xlate-test-1-9\"
bridge(\"br1\")
-------------
0. in_port=\"xlate-test-2-9\", priority 32768
output:\"xlate-test-2-1\"
write_actions(output:\"xlate-test-1-2\")
-> action set is: output:\"xlate-test-1-2\"
--. Executing action set:
output:\"xlate-test-1-2\"
";
    let text = flat(&traced_with(&flows, &flow, Trace::new(true)));
    assert!(text.starts_with(&flat(want)), "{text}");
}

/// Lines without the white space around them.
fn flat(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|l| !l.is_empty()).collect();
    lines.join("\n").trim().to_string()
}
