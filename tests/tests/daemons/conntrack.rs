//! Connection tracking as operators see it: states in flows, dumps, limits, policies, fragments.

use std::time::Duration;

use ferrovs_testkit::Switch;
use ferrovs_testkit::switch::wait_for;

/// A switch that tracks what comes by port 1, commits it in zone 5, and what comes by port 2.
fn tracking(commit: &str) -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy fail_mode=secure \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 type=dummy ofport_request=2",
    );
    sw.appctl("time/stop");
    sw.ofctl("add-flow br0 table=0,ip,ct_state=-trk,actions=ct(table=1,zone=5,nat)");
    sw.ofctl(&format!(
        "add-flow br0 table=1,in_port=1,ip,ct_state=+trk+new,actions={commit},2"
    ));
    sw.ofctl("add-flow br0 table=1,in_port=1,ip,ct_state=+trk+est,actions=2");
    sw.ofctl("add-flow br0 table=1,in_port=2,ip,ct_state=+trk+est,actions=1");
    sw
}

fn udp(sw: &Switch, port: &str, src: (&str, u16), dst: (&str, u16)) {
    let key = format!(
        "in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
         ipv4(src={},dst={},proto=17,tos=0,ttl=64,frag=no),udp(src={},dst={})",
        src.0, dst.0, src.1, dst.1
    );
    sw.appctl(&format!("netdev-dummy/receive {port} {key}"));
    sw.appctl("dpctl/dump-flows");
}

/// Whether so many packets left by a port.
fn sent(sw: &Switch, port: u16, n: u32) -> bool {
    let shown = sw.ofctl(&format!("dump-ports br0 {port}"));
    shown.contains(&format!("tx pkts={n},"))
}

#[test]
fn a_translated_connection_is_shown_and_its_replies_find_back() {
    let sw = tracking("ct(commit,zone=5,nat(src=10.1.1.1:5000),exec(load:7->NXM_NX_CT_MARK[]))");
    let (a, b) = (("10.0.0.1", 1000), ("10.0.0.2", 53));
    udp(&sw, "p1", a, b);
    let entry = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=53),\
                 reply=(src=10.0.0.2,dst=10.1.1.1,sport=53,dport=5000),zone=5";
    assert_eq!(
        sw.appctl("dpctl/dump-conntrack"),
        format!("{entry},mark=7\n")
    );
    let shown = sw.appctl("dpctl/dump-conntrack -s zone=5");
    assert_eq!(shown, format!("{entry},timeout=60,mark=7\n"));
    udp(&sw, "p2", b, ("10.1.1.1", 5000));
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(
        flows.contains("ct_state(+est+trk)") || flows.contains("+est"),
        "{flows}"
    );
    let arrived = || sent(&sw, 1, 1) && sent(&sw, 2, 1);
    assert!(wait_for(Duration::from_secs(20), arrived));
    assert_eq!(sw.appctl("dpctl/dump-conntrack zone=6"), "");
    let stats = "Connections Stats:\n    Total: 1\n  UDP: 1\n";
    assert_eq!(sw.appctl("dpctl/ct-stats-show"), stats);
    assert_eq!(sw.appctl("dpctl/ct-get-nconns"), "1\n");
    sw.ofctl("ct-flush br0 zone=5 ct_nw_src=10.0.0.9");
    assert_eq!(sw.appctl("dpctl/ct-get-nconns"), "1\n");
    sw.ofctl("ct-flush br0 zone=5 mark=7/1 ct_nw_src=10.0.0.1");
    assert_eq!(sw.appctl("dpctl/ct-get-nconns"), "0\n");
    let gone = sw.client(
        "ovs-appctl",
        &[
            "dpctl/flush-conntrack",
            "ct_nw_src=1.1.1.1,ct_nw_dst=2.2.2.2,ct_nw_proto=17,ct_tp_src=8,ct_tp_dst=9",
        ],
    );
    let text = "ovs-vswitchd: failed to flush conntrack (No such file or directory)\n";
    assert!(gone.stderr.starts_with(text), "{}", gone.stderr);
}

#[test]
fn zones_have_limits_and_timeouts_from_the_database() {
    let sw = tracking("ct(commit,zone=5)");
    sw.appctl("dpctl/ct-set-limits zone=7,limit=3");
    assert_eq!(
        sw.appctl("dpctl/ct-get-limits"),
        "default limit=0\nzone=7,limit=3,count=0\n"
    );
    sw.appctl("dpctl/ct-del-limits zone=7");
    sw.vsctl(
        "-- --id=@d create Datapath datapath_version=x -- set Open_vSwitch . datapaths:dummy=@d",
    );
    sw.vsctl("add-zone-tp dummy zone=5 udp_first=9 udp_single=7");
    sw.vsctl("set-zone-limit dummy 5 1");
    let (a, b) = (("10.0.0.1", 1000), ("10.0.0.2", 53));
    udp(&sw, "p1", a, b);
    udp(&sw, "p1", ("10.0.0.1", 1001), b);
    let shown = sw.appctl("dpctl/dump-conntrack -s");
    assert_eq!(
        shown,
        "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=53),\
         reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=1000),zone=5,timeout=9\n"
    );
    assert_eq!(
        sw.appctl("dpctl/ct-get-limits zone=5"),
        "default limit=0\nzone=5,limit=1,count=1\n"
    );
    let refused = sw.client("ovs-appctl", &["dpctl/ct-set-limits", "zone=6,limit=8"]);
    let text = "ovs-vswitchd: the zone limits are set via database, use 'ovs-vsctl set-zone-limit <...>' instead. \
                (Operation not permitted)\n";
    assert!(refused.stderr.starts_with(text), "{}", refused.stderr);
    sw.vsctl("del-zone-limit dummy 5 -- del-zone-tp dummy zone=5");
    udp(&sw, "p1", ("10.0.0.1", 1001), b);
    let shown = sw.appctl("dpctl/dump-conntrack -s");
    assert!(
        shown.contains("sport=1001") && shown.contains("timeout=60"),
        "{shown}"
    );
}

#[test]
fn a_packet_in_fragments_is_tracked_as_a_whole() {
    let sw = tracking("ct(commit,zone=5)");
    let whole: Vec<u8> = [&[0x03, 0xe8, 0, 53, 0x07, 0xd8, 0, 0][..], &[7; 2000]].concat();
    for (ofs, len, more) in [(0, 1480, 0x2000u16), (1480, 528, 0)] {
        let mut ip = vec![0x45, 0];
        ip.extend((20 + len as u16).to_be_bytes());
        ip.extend([0, 9]);
        ip.extend((more | (ofs / 8) as u16).to_be_bytes());
        ip.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum: u32 = ip
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let frame = [
            &[0x50, 0x54, 0, 0, 0, 2, 0x50, 0x54, 0, 0, 0, 1, 8, 0][..],
            &ip,
            &whole[ofs..ofs + len],
        ]
        .concat();
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        sw.appctl(&format!("netdev-dummy/receive p1 {hex}"));
        sw.appctl("dpctl/dump-flows");
    }
    assert_eq!(
        sw.appctl("dpctl/dump-conntrack"),
        "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=53),\
         reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=1000),zone=5\n"
    );
    // They were put together for each of the two actions.
    let status = sw.appctl("dpctl/ipf-get-status");
    assert!(
        status.contains("        v4 frags completed: 4\n"),
        "{status}"
    );
    assert!(wait_for(Duration::from_secs(20), || sent(&sw, 2, 2)));
}
