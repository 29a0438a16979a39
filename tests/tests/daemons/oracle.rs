//! The same command lines on Debian's Open vSwitch and on ours.

use ferrovs_testkit::oracle::{Line, compare, oracle};
use ferrovs_testkit::switch::Cast;
use ferrovs_testkit::{Programs, Switch};

const DUMMY: &[&str] = &[
    "--enable-dummy=override",
    "--disable-system",
    "--disable-system-route",
];

/// Two bridges joined by a patch port, made in steps so that port numbers do not depend on the order of rows.
const BRIDGES: &[Line<'static>] = &[
    &[
        "ovs-vsctl",
        "add-br",
        "br0",
        "--",
        "set",
        "Bridge",
        "br0",
        "datapath_type=dummy",
        "fail-mode=secure",
        "other-config:datapath-id=00000000000000aa",
        "other-config:hwaddr=aa:bb:cc:00:00:01",
    ],
    &[
        "ovs-vsctl",
        "add-port",
        "br0",
        "p1",
        "--",
        "set",
        "Interface",
        "p1",
        "type=dummy",
        "ofport_request=1",
    ],
    &[
        "ovs-vsctl",
        "add-port",
        "br0",
        "p2",
        "--",
        "set",
        "Interface",
        "p2",
        "type=dummy",
        "ofport_request=2",
    ],
];

fn with_bridges<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    BRIDGES
        .iter()
        .copied()
        .chain(lines.iter().copied())
        .collect()
}

#[test]
fn ovs_vsctl_says_the_same() {
    compare(
        DUMMY,
        &with_bridges(&[
            &["ovs-vsctl", "--may-exist", "add-br", "br0"],
            &["ovs-vsctl", "add-br", "br0"],
            &["ovs-vsctl", "list-br"],
            &["ovs-vsctl", "list-ports", "br0"],
            &["ovs-vsctl", "port-to-br", "p1"],
            &["ovs-vsctl", "iface-to-br", "nope"],
            &["ovs-vsctl", "br-exists", "nope"],
            &[
                "ovs-vsctl",
                "get",
                "Interface",
                "p1",
                "ofport",
                "type",
                "options",
            ],
            &["ovs-vsctl", "set-controller", "br0", "tcp:127.0.0.1:1"],
            &["ovs-vsctl", "get-controller", "br0"],
            &["ovs-vsctl", "del-controller", "br0"],
            &["ovs-vsctl", "set", "Port", "p1", "tag=5000"],
            &["ovs-vsctl", "set", "Port", "p1", "nosuch=1"],
            &["ovs-vsctl", "bogus"],
            &[
                "ovs-vsctl",
                "--columns=name,tag,vlan_mode",
                "list",
                "Port",
                "p1",
            ],
            &[
                "ovs-vsctl",
                "--format=json",
                "--columns=name,type",
                "list",
                "Interface",
                "p1",
            ],
            &[
                "ovs-vsctl",
                "-f",
                "csv",
                "--no-heading",
                "--columns=name,ofport",
                "find",
                "Interface",
                "name=p2",
            ],
            &["ovs-vsctl", "set", "bridge", "br0", "external-ids:k=v"],
            &["ovs-vsctl", "br-get-external-id", "br0", "k"],
            &["ovs-vsctl", "--if-exists", "del-port", "nope"],
            &["ovs-vsctl", "del-port", "nope"],
            &["ovs-vsctl", "get-fail-mode", "br0"],
            &[
                "ovs-vsctl",
                "wait-until",
                "bridge",
                "br0",
                "fail_mode=secure",
            ],
            &["ovs-vsctl", "del-br", "br0"],
            &["ovs-vsctl", "list-br"],
        ]),
    );
}

#[test]
fn traces_and_megaflows_are_the_same() {
    let packet = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),\
                  ipv4(src=10.1.0.1,dst=192.168.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
    compare(
        DUMMY,
        &with_bridges(&[
            &[
                "ovs-ofctl",
                "add-flow",
                "br0",
                "in_port=1,actions=resubmit(,1),mod_dl_dst:00:00:00:00:00:03,output:2",
            ],
            &[
                "ovs-ofctl",
                "add-flow",
                "br0",
                "table=1,priority=5,ip,nw_src=10.0.0.0/8,actions=dec_ttl,output:2",
            ],
            &[
                "ovs-ofctl",
                "add-flow",
                "br0",
                "table=1,priority=0,actions=mod_vlan_vid:5,output:2",
            ],
            &[
                "ovs-ofctl",
                "add-flow",
                "br0",
                "in_port=2,cookie=0x5,actions=load:5->NXM_NX_REG0[],resubmit(,2)",
            ],
            &[
                "ovs-appctl",
                "ofproto/trace",
                "br0",
                "in_port=1,icmp,nw_src=10.1.1.1,nw_ttl=64",
            ],
            &[
                "ovs-appctl",
                "ofproto/trace",
                "br0",
                "in_port=1,icmp,nw_src=10.1.1.1,nw_ttl=1",
            ],
            &[
                "ovs-appctl",
                "ofproto/trace",
                "br0",
                "in_port=1,dl_type=0x1234",
            ],
            &[
                "ovs-appctl",
                "ofproto/trace",
                "br0",
                "in_port=2,tcp,tcp_dst=80",
            ],
            &["ovs-appctl", "ofproto/trace", "br0", "bogus"],
            &["ovs-appctl", "netdev-dummy/receive", "p1", packet],
            &["ovs-appctl", "dpctl/dump-flows"],
            &["ovs-appctl", "dpif/show"],
            &["ovs-appctl", "fdb/show", "br0"],
        ]),
    );
}

#[test]
fn flow_tables_read_the_same() {
    compare(
        DUMMY,
        &with_bridges(&[
            &[
                "ovs-ofctl",
                "add-flow",
                "br0",
                "priority=10,tcp,tp_dst=80,actions=set_field:1.2.3.4->ip_src,output:2",
            ],
            &[
                "ovs-ofctl",
                "-O",
                "OpenFlow13",
                "add-flow",
                "br0",
                "table=3,ip,actions=write_actions(output:1),goto_table:4",
            ],
            &[
                "ovs-ofctl",
                "add-flow",
                "br0",
                "cookie=7,idle_timeout=60,dl_vlan=9,actions=strip_vlan,NORMAL",
            ],
            &["ovs-ofctl", "dump-flows", "--no-stats", "br0"],
            &[
                "ovs-ofctl",
                "-O",
                "OpenFlow13",
                "dump-flows",
                "--no-stats",
                "br0",
            ],
            &[
                "ovs-ofctl",
                "-O",
                "OpenFlow15",
                "dump-flows",
                "--no-stats",
                "br0",
                "table=3",
            ],
            &["ovs-ofctl", "dump-aggregate", "br0"],
            &[
                "ovs-ofctl",
                "--strict",
                "del-flows",
                "br0",
                "priority=10,tcp,tp_dst=80",
            ],
            &["ovs-ofctl", "mod-flows", "br0", "cookie=7/-1,actions=drop"],
            &["ovs-ofctl", "dump-flows", "--no-stats", "br0"],
            &["ovs-ofctl", "add-flow", "br0", "actions=bogus"],
            &["ovs-ofctl", "add-flow", "br0", "tcp,tp_dst=70000,actions=1"],
            &["ovs-ofctl", "dump-flows", "nosuch"],
        ]),
    );
}

#[test]
fn their_clients_drive_our_daemons_and_ours_drive_theirs() {
    let (ours, theirs) = (Programs::ours(), oracle());
    let casts = [
        Cast {
            vswitchd: ours.clone(),
            ovsdb: ours.clone(),
            clients: theirs.clone(),
        },
        Cast {
            vswitchd: theirs.clone(),
            ovsdb: theirs.clone(),
            clients: ours.clone(),
        },
        Cast {
            vswitchd: ours.clone(),
            ovsdb: theirs.clone(),
            clients: ours.clone(),
        },
        Cast {
            vswitchd: theirs,
            ovsdb: ours.clone(),
            clients: ours,
        },
    ];
    for cast in casts {
        let sw = Switch::start(cast, DUMMY);
        sw.vsctl(
            "add-br br0 -- set Bridge br0 datapath_type=dummy -- add-port br0 p1 \
             -- set Interface p1 type=dummy ofport_request=1",
        );
        sw.ofctl("add-flow br0 in_port=1,actions=drop");
        let flows = sw.ofctl("dump-flows --no-stats br0");
        assert!(
            flows.contains("in_port=1 actions=drop") || flows.contains("in_port=p1 actions=drop"),
            "{flows}"
        );
        assert!(sw.appctl("dpif/show").contains("p1 1/1: (dummy)"));
    }
}
