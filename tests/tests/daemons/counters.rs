//! Event counters: what Open vSwitch counts while it works is counted, and told by `coverage/read-counter`.

use std::time::Duration;

use ferrovs_testkit::Switch;
use ferrovs_testkit::switch::wait_for;

/// A counter's value now.
fn count(sw: &Switch, event: &str) -> u64 {
    let text = sw.appctl(&format!("coverage/read-counter {event}"));
    text.trim().parse().expect(&text)
}

/// Does something and looks which of these counters grow because of it.
#[track_caller]
fn moves(sw: &Switch, events: &[&str], act: impl FnOnce()) {
    let before: Vec<u64> = events.iter().map(|e| count(sw, e)).collect();
    act();
    for (event, before) in events.iter().zip(before) {
        assert!(
            wait_for(Duration::from_secs(5), || count(sw, event) > before),
            "{event} stays {before}"
        );
    }
}

#[test]
fn what_a_switch_does_moves_its_counters() {
    let sw = Switch::dummy();
    moves(
        &sw,
        &["ofproto_update_port", "rev_reconfigure", "txn_success"],
        || {
            sw.vsctl("add-br br0 -- set Bridge br0 other_config:mac-aging-time=15");
            for port in ["p1", "p2"] {
                sw.vsctl(&format!("add-port br0 {port}"));
            }
        },
    );
    moves(&sw, &["rev_flow_table", "ofproto_recv_openflow"], || {
        sw.ofctl("add-flow br0 actions=NORMAL");
    });
    let packet = |port: u8, source: u8| {
        sw.appctl(&format!(
            "netdev-dummy/receive p{port} in_port({port}),eth(src=50:54:00:00:00:0{source},dst=50:54:00:00:00:0f),eth_type(0x1234)"
        ));
    };
    moves(
        &sw,
        &["xlate_actions", "mac_learning_learned", "rev_mac_learning"],
        || packet(1, 1),
    );
    moves(&sw, &["mac_learning_moved", "rev_mac_learning"], || {
        packet(2, 1);
    });
    moves(&sw, &["xlate_actions"], || {
        sw.appctl("ofproto/trace br0 in_port=1");
    });
    moves(&sw, &["rev_port_toggled", "ofproto_update_port"], || {
        sw.ofctl("mod-port br0 p1 down");
    });
    moves(&sw, &["rev_mac_learning"], || {
        sw.appctl("fdb/flush br0");
    });
    moves(&sw, &["rev_flow_table"], || {
        sw.ofctl("-O OpenFlow13 add-group br0 group_id=1,type=all,bucket=output:1");
    });
    moves(&sw, &["rev_reconfigure"], || {
        sw.vsctl("set Port p1 tag=3");
    });
    moves(&sw, &["ofproto_packet_out", "xlate_actions"], || {
        sw.ofctl("packet-out br0 in_port=p1,packet=00000000000200000000000112340000,actions=drop");
    });
    moves(&sw, &["ofproto_flush"], || {
        sw.vsctl("set-fail-mode br0 secure");
    });
    moves(&sw, &["netdev_get_stats"], || {
        sw.ofctl("dump-ports br0");
    });
}
