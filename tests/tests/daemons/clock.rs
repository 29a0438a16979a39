//! Time under `time/stop` and `time/warp`.

use ferrovs_testkit::Switch;

#[test]
fn flows_expire_by_the_virtual_clock() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy fail-mode=secure");
    sw.appctl("time/stop");
    sw.ofctl("add-flow br0 hard_timeout=10,actions=drop");
    sw.ofctl("add-flow br0 priority=1,actions=drop");
    sw.appctl("time/warp 9000");
    assert_eq!(
        sw.ofctl("dump-flows br0").matches("actions=drop").count(),
        2
    );
    sw.appctl("time/warp 1000");
    let flows = sw.ofctl("dump-flows br0");
    assert_eq!(flows.matches("actions=drop").count(), 1, "{flows}");
}

#[test]
fn idle_megaflows_go_after_ten_seconds() {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1",
    );
    sw.appctl("time/stop");
    sw.appctl(
        "netdev-dummy/receive p1 in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x1234)",
    );
    assert!(sw.appctl("dpctl/dump-flows").contains("eth_type(0x1234)"));
    sw.appctl("time/warp 9000 500");
    assert!(sw.appctl("dpctl/dump-flows").contains("eth_type(0x1234)"));
    sw.appctl("time/warp 3000 500");
    sw.appctl("revalidator/wait");
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(!flows.contains("eth_type(0x1234)"), "{flows}");
}
