//! How tunnels find their way: the routes and policy rules of the user and of the kernel.

use std::fmt::Write;
use std::time::Duration;

use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Programs, Switch};

const LIMIT: Duration = Duration::from_secs(20);

/// A switch with a pair of devices of the kernel, of which one has an address.
fn with_kernel_routes() -> Switch {
    let sw = Switch::start(Cast::all(Programs::ours()), &["--enable-dummy"]);
    sw.netns.sh("ip link add a0 type veth peer name b0
         ip link set a0 addrgenmode none up; ip link set b0 addrgenmode none up
         ip addr add 172.31.1.1/24 dev a0");
    sw
}

#[track_caller]
fn follows(sw: &Switch, command: &str, want: &str) {
    let shows = || sw.client("ovs-appctl", &command.split(' ').collect::<Vec<_>>());
    let there = wait_for(LIMIT, || shows().stdout.contains(want));
    assert!(there, "{command}: {:?}", shows());
}

#[test]
fn rules_of_the_kernel_say_which_table_a_tunnel_asks() {
    let sw = with_kernel_routes();
    sw.netns.sh("ip route add 10.0.0.0/8 via 172.31.1.7
         ip route add 10.1.0.0/16 via 172.31.1.8 table 77");
    let here = "ovs/route/lookup 10.1.0.1";
    let from = "ovs/route/lookup 10.1.0.1 src=172.31.1.1";
    follows(&sw, here, "gateway 172.31.1.7\n");
    follows(
        &sw,
        "ovs/route/show table=77",
        "10.1.0.0/16 dev a0 GW 172.31.1.8",
    );
    sw.netns.sh("ip rule add from 172.31.1.0/24 table 77; ip rule add fwmark 5 table 78
         ip rule add not from 172.31.0.0/16 priority 3 table 79; ip -6 rule add from fd00::/16 table 80");
    follows(&sw, from, "gateway 172.31.1.8\n");
    follows(&sw, here, "gateway 172.31.1.7\n");
    follows(&sw, "ovs/route/rule/show -6", "from fd00::/16  lookup 80\n");
    assert_eq!(
        sw.appctl("ovs/route/rule/show"),
        "Cached: 0: from all lookup local\nCached: 0: from all lookup local\n\
         Cached: 3: not from 172.31.0.0/16  lookup 79\n\
         Cached: 32765: from 172.31.1.0/24  lookup 77\n\
         Cached: 32766: from all lookup main\nCached: 32766: from all lookup main\n\
         Cached: 32767: from all lookup default\nCached: 32767: from all lookup default\n"
    );
    // The user's go before those of the kernel that have no number.
    sw.appctl("ovs/route/rule/add from=172.31.1.1 table=main");
    follows(
        &sw,
        "ovs/route/rule/show",
        "User: 32764: from 172.31.1.1 lookup main\n",
    );
    follows(&sw, from, "gateway 172.31.1.7\n");
    sw.appctl("ovs/route/rule/del from=172.31.1.1 table=main");
    follows(&sw, from, "gateway 172.31.1.8\n");
    sw.netns.sh("ip rule del from 172.31.1.0/24 table 77");
    follows(&sw, from, "gateway 172.31.1.7\n");
}

#[test]
fn a_tunnel_leaves_by_the_table_that_the_rule_for_its_source_names() {
    let sw = Switch::start(
        Cast::all(Programs::ours()),
        &["--enable-dummy", "--disable-system"],
    );
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy -- add-br br1 -- set Bridge br1 datapath_type=dummy \
         -- add-br int -- set Bridge int datapath_type=dummy fail-mode=secure \
         -- add-port int p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port int t2 -- set Interface t2 type=vxlan ofport_request=2 options:remote_ip=9.4.0.5",
    );
    for command in [
        "netdev-dummy/ip4addr br0 1.1.1.9/24",
        "netdev-dummy/ip4addr br1 2.2.2.9/24",
        "ovs/route/add 9.4.0.0/16 br1 2.2.2.1",
        "ovs/route/add 9.4.0.0/16 br0 1.1.1.1 table=8",
        "ovs/route/rule/add from=1.1.1.0/24 table=8",
    ] {
        sw.appctl(command);
    }
    sw.ofctl("add-flow int in_port=1,actions=2");
    let trace = || sw.appctl("ofproto/trace int in_port=1,ip");
    assert!(
        trace().contains("-> tunneling to 2.2.2.1 via br1"),
        "{}",
        trace()
    );
    sw.vsctl("set Interface t2 options:local_ip=1.1.1.9");
    assert!(
        trace().contains("-> tunneling to 1.1.1.1 via br0"),
        "{}",
        trace()
    );
}

#[test]
fn a_change_among_many_routes_is_heard_and_nothing_else_is_read() {
    const MANY: usize = 20_000;
    let sw = with_kernel_routes();
    let batch = |what: &str, n: usize, hop: usize| {
        let mut lines = String::new();
        for i in 0..n {
            let _ = writeln!(
                lines,
                "route {what} 20.{}.{}.0/24 via 172.31.1.{}",
                i >> 8,
                i & 255,
                hop + i % 200
            );
        }
        let file = sw.file("batch");
        std::fs::write(&file, lines).unwrap();
        sw.netns.sh(&format!("ip -batch {file}"));
    };
    batch("add", MANY, 2);
    follows(&sw, "ovs/route/lookup 20.78.31.1", "gateway 172.31.1.201\n");
    let dumps = || sw.appctl("coverage/read-counter route_table_dump");
    let before = dumps();
    batch("replace", 1000, 3);
    follows(&sw, "ovs/route/lookup 20.3.231.1", "gateway 172.31.1.202\n");
    sw.netns.sh(
        "ip route replace 20.0.9.0/24 nexthop via 172.31.1.7 nexthop via 172.31.1.8
         ip route del 20.0.8.0/24; ip rule add from 9.9.9.9 table 77",
    );
    follows(&sw, "ovs/route/rule/show", "from 9.9.9.9 lookup 77");
    follows(&sw, "ovs/route/lookup 20.0.9.1", "gateway 172.31.1.7\n");
    let gone = sw.client("ovs-appctl", &["ovs/route/lookup", "20.0.8.1"]);
    assert!(gone.stderr.starts_with("Not found"), "{gone:?}");
    assert_eq!(dumps(), before);
}
