//! LLDP and Auto Attach.

use ferrovs_testkit::{Switch, pcap};

/// Destination, source and type of a neighbour's frames, with its chassis, port and time to live.
const FROM: &str = "0180c200000e00112233445588cc02070400112233445504030570310602 0078";

fn switch() -> Switch {
    let sw = Switch::dummy();
    let pcap = sw.file("p1.pcap");
    sw.vsctl(&format!(
        "add-br br0 -- set Bridge br0 datapath_type=dummy \
         -- add-port br0 p1 -- set Interface p1 type=dummy options:pcap={pcap}"
    ));
    sw.appctl("time/stop");
    sw.vsctl("set Interface p1 lldp:enable=true");
    sw
}

fn receive(sw: &Switch, tlvs: &str) {
    let frame = format!("{FROM}{tlvs}").replace(' ', "");
    sw.appctl(&format!("netdev-dummy/receive p1 {frame}"));
    sw.appctl("time/warp 100");
}

/// A mapping's TLV: one word with status, VLAN and I-SID.
fn mapping(word: &str) -> String {
    format!("fe29 00040d0c {} {word} 0000", "00".repeat(32))
}

fn count(sw: &Switch, what: &str) -> u32 {
    let all = sw.appctl("autoattach/statistics");
    let line = all.lines().find_map(|l| l.trim().strip_prefix(what));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn frames_go_out_every_five_seconds_of_the_virtual_clock() {
    let sw = switch();
    sw.appctl("time/warp 4000");
    assert_eq!(count(&sw, "tx cnt:"), 0);
    sw.appctl("time/warp 1000");
    assert_eq!(count(&sw, "tx cnt:"), 1);
    sw.appctl("time/warp 60000 1000");
    assert_eq!(count(&sw, "tx cnt:"), 13);
    let sent = pcap::read(&sw.path().join("p1.pcap")).unwrap();
    assert_eq!(sent.len(), 13);
    // Addresses, chassis, port, time to live, description.
    assert_eq!(sent[0][..6], [0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    assert_eq!(sent[0][12..17], [0x88, 0xcc, 2, 7, 4]);
    assert_eq!(sent[0][6..12], sent[0][17..23]);
    assert_eq!(sent[0][23..28], [4, 3, 5, b'p', b'1']);
    let text = String::from_utf8_lossy(&sent[0]);
    assert!(text.contains("openvswitch 3."), "{text}");
    // Off, and on again: the interval begins anew.
    sw.vsctl("set Interface p1 lldp:enable=false");
    sw.appctl("time/warp 10000 1000");
    sw.vsctl("set Interface p1 lldp:enable=true");
    sw.appctl("time/warp 4000");
    assert_eq!(count(&sw, "tx cnt:"), 13);
    sw.appctl("time/warp 1000");
    assert_eq!(count(&sw, "tx cnt:"), 14);
    sw.vsctl("clear Interface p1 lldp");
    assert_eq!(sw.appctl("autoattach/statistics"), "");
    // One that has been told to be silent keeps what it knows.
    sw.vsctl("set Interface p1 lldp:enable=true");
    sw.vsctl("set Interface p1 lldp:enable=false");
    sw.vsctl("clear Interface p1 lldp");
    assert_eq!(count(&sw, "tx cnt:"), 0);
}

#[test]
fn a_server_is_known_and_decides_about_mappings() {
    let sw = switch();
    sw.vsctl(
        "-- --id=@a create AutoAttach system_name=sys mappings:1=10 mappings:2=20 \
         -- set Bridge br0 auto_attach=@a",
    );
    let element = "00".repeat(32) + "0c0fff77 001122334455 51234567";
    receive(&sw, &format!("0c03626172 fe32 00040d0b {element} 0000"));
    assert_eq!(
        sw.appctl("autoattach/status br0"),
        "LLDP: p1\n\
         \x20 Auto Attach Primary Server Id: 00:11:22:33:44:55\n\
         \x20 Auto Attach Primary Server Descr: bar\n\
         \x20 Auto Attach Primary Server System Id: 00:11:22:33:44:55:02:00:23:01:45:67\n"
    );
    // Descriptions end at the first NUL; an empty one is none.
    for (description, want) in [("0c036200 72", "b"), ("0c00", "<None>")] {
        receive(&sw, &format!("{description} fe32 00040d0b {element} 0000"));
        let status = sw.appctl("autoattach/status br0");
        assert!(
            status.contains(&format!("Server Descr: {want}\n")),
            "{status}"
        );
    }
    receive(&sw, &mapping("200a000001"));
    assert_eq!(
        sw.appctl("autoattach/show-isid"),
        "LLDP: p1\n\
         I-SID    VLAN Source      Status  \n\
         -------- ---- ----------- --------\n\
         1        10   Switch      Active     \n\
         2        20   Switch      Pending    \n"
    );
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(flows.contains("slow_path(lldp)"), "{flows}");
    // The mapped VLANs become the port's trunks.
    sw.appctl("time/warp 2000 500");
    sw.vsctl("--timeout=10 wait-until Port p1 trunks=[10,20] vlan_mode=trunk");
    sw.vsctl("remove AutoAttach br0 mappings 2");
    sw.appctl("time/warp 2000 500");
    sw.vsctl("--timeout=10 wait-until Port p1 trunks=10");
    // What is malformed is counted and told.
    receive(&sw, "fe0200040000");
    assert_eq!(
        (count(&sw, "rx cnt:"), count(&sw, "rx discarded cnt:")),
        (5, 1)
    );
}

#[test]
fn lldp_frames_reach_no_table_where_the_switch_speaks_it() {
    let sw = switch();
    sw.ofctl("add-flow br0 priority=9,dl_type=0x88cc,actions=LOCAL");
    let flow = "in_port=p1,dl_dst=01:80:c2:00:00:0e,dl_type=0x88cc";
    let trace = sw.appctl(&format!("ofproto/trace br0 {flow}"));
    assert!(
        trace.contains(" 0. priority 0\n\nFinal flow: unchanged"),
        "{trace}"
    );
    assert!(trace.contains(" - Consists of LLDP packets."), "{trace}");
    sw.vsctl("set Interface p1 lldp:enable=false");
    let trace = sw.appctl(&format!("ofproto/trace br0 {flow}"));
    assert!(
        trace.contains(" 0. dl_type=0x88cc, priority 9\n    LOCAL"),
        "{trace}"
    );
}
