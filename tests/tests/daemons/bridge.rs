//! A bridge forwards between ports, and says what it does.

use ferrovs_testkit::Switch;

#[test]
fn normal_floods_then_forwards_to_the_learned_port() {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 type=dummy ofport_request=2",
    );
    let flow = |port: u8, src: u8, dst: u8| {
        format!(
            "in_port({port}),eth(src=50:54:00:00:00:0{src},dst=50:54:00:00:00:0{dst}),eth_type(0x0800),\
             ipv4(src=10.0.0.{src},dst=10.0.0.{dst},proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)"
        )
    };
    sw.appctl(&format!("netdev-dummy/receive p1 {}", flow(1, 1, 2)));
    sw.appctl(&format!("netdev-dummy/receive p2 {}", flow(2, 2, 1)));
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(
        flows.contains("in_port(2)") && flows.contains("actions:1\n"),
        "{flows}"
    );
    let fdb = sw.appctl("fdb/show br0");
    assert!(
        fdb.contains("50:54:00:00:00:01") && fdb.contains("50:54:00:00:00:02"),
        "{fdb}"
    );
}
