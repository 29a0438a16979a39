//! Columns and keys of the database, with their effects on packets and on what is told, as Open vSwitch has them.

use ferrovs_testkit::oracle::{Line, compare};

const OPTIONS: &[&str] = &["--enable-dummy=override", "--disable-system"];

/// Bridge br0 with ports p1 to p4, numbered so, that switches by addresses.
const BRIDGE: &[Line<'static>] = &[
    &[
        "ovs-vsctl",
        "add-br",
        "br0",
        "--",
        "set",
        "Bridge",
        "br0",
        "fail_mode=secure",
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
        "ofport_request=2",
    ],
    &[
        "ovs-vsctl",
        "add-port",
        "br0",
        "p3",
        "--",
        "set",
        "Interface",
        "p3",
        "ofport_request=3",
    ],
    &[
        "ovs-vsctl",
        "add-port",
        "br0",
        "p4",
        "--",
        "set",
        "Interface",
        "p4",
        "ofport_request=4",
    ],
    &["ovs-ofctl", "add-flow", "br0", "actions=NORMAL"],
];

macro_rules! trace {
    ($flow:literal) => {
        &["ovs-appctl", "ofproto/trace", "br0", $flow]
    };
}

#[test]
fn settings_of_bridges_and_ports_steer_packets() {
    let lines: &[Line<'_>] = &[
        &["ovs-vsctl", "set", "Bridge", "br0", "flood_vlans=5"],
        &[
            "ovs-appctl",
            "fdb/add",
            "br0",
            "p2",
            "5",
            "50:54:00:00:00:02",
        ],
        trace!("in_port=1,dl_vlan=5,dl_src=50:54:00:00:00:01,dl_dst=50:54:00:00:00:02"),
        &["ovs-vsctl", "clear", "Bridge", "br0", "flood_vlans"],
        trace!("in_port=1,dl_vlan=5,dl_src=50:54:00:00:00:01,dl_dst=50:54:00:00:00:02"),
        trace!("in_port=1,dl_src=50:54:00:00:00:01,dl_dst=01:80:c2:00:00:00"),
        &[
            "ovs-vsctl",
            "set",
            "Bridge",
            "br0",
            "other_config:forward-bpdu=true",
        ],
        trace!("in_port=1,dl_src=50:54:00:00:00:01,dl_dst=01:80:c2:00:00:00"),
        &[
            "ovs-vsctl",
            "set",
            "Port",
            "p1",
            "protected=true",
            "--",
            "set",
            "Port",
            "p2",
            "protected=true",
        ],
        trace!("in_port=1,dl_src=50:54:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff"),
        &[
            "ovs-vsctl",
            "set",
            "Port",
            "p3",
            "vlan_mode=dot1q-tunnel",
            "tag=100",
            "cvlans=5,6",
            "other_config:qinq-ethtype=802.1q",
        ],
        trace!("in_port=3,dl_vlan=5,dl_src=50:54:00:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff"),
        trace!("in_port=3,dl_vlan=7,dl_src=50:54:00:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff"),
        &[
            "ovs-vsctl",
            "remove",
            "Port",
            "p3",
            "other_config",
            "qinq-ethtype",
        ],
        trace!("in_port=3,dl_vlan=6,dl_src=50:54:00:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff"),
        &[
            "ovs-vsctl",
            "set",
            "Port",
            "p4",
            "tag=9",
            "other_config:priority-tags=always",
            "--",
            "set",
            "Port",
            "p2",
            "tag=9",
        ],
        trace!("in_port=2,dl_src=50:54:00:00:00:04,dl_dst=ff:ff:ff:ff:ff:ff"),
        &[
            "ovs-vsctl",
            "set",
            "Port",
            "p4",
            "other_config:priority-tags=if-nonzero",
        ],
        trace!("in_port=2,dl_src=50:54:00:00:00:04,dl_dst=ff:ff:ff:ff:ff:ff"),
        &["ovs-vsctl", "add-br", "fb", "br0", "77"],
        &["ovs-vsctl", "get", "Port", "fb", "fake_bridge", "tag"],
        &["ovs-vsctl", "br-to-vlan", "fb"],
        trace!("in_port=local,dl_src=50:54:00:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff"),
    ];
    compare(OPTIONS, &[BRIDGE, lines].concat());
}

#[test]
fn settings_of_threads_and_tables_are_taken() {
    let lines: &[Line<'_>] = &[
        &[
            "ovs-vsctl",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:max-idle=700",
            "other_config:max-revalidator=300",
        ],
        &[
            "ovs-vsctl",
            "add-port",
            "br0",
            "q1",
            "--",
            "set",
            "Interface",
            "q1",
            "type=dummy-pmd",
            "options:n_rxq=2",
        ],
        &[
            "ovs-vsctl",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:pmd-cpu-mask=1",
        ],
        &[
            "ovs-vsctl",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:pmd-sleep-max=50",
        ],
        &["ovs-appctl", "dpif-netdev/pmd-sleep-show"],
        &[
            "ovs-vsctl",
            "--",
            "--id=@t",
            "create",
            "Flow_Table",
            "name=t0",
            "flow_limit=2",
            "overflow_policy=refuse",
            "groups=\"NXM_OF_IN_PORT[]\"",
            "prefixes=ip_dst",
            "--",
            "set",
            "Bridge",
            "br0",
            "flow_tables:0=@t",
        ],
        &["ovs-ofctl", "del-flows", "br0"],
        &["ovs-ofctl", "add-flow", "br0", "in_port=1,actions=drop"],
        &["ovs-ofctl", "add-flow", "br0", "in_port=2,actions=drop"],
        &["ovs-ofctl", "add-flow", "br0", "in_port=3,actions=drop"],
        &["ovs-ofctl", "dump-flows", "--no-stats", "br0"],
    ];
    compare(OPTIONS, &[BRIDGE, lines].concat());
}

#[test]
fn settings_of_controllers_are_taken() {
    let lines: &[Line<'_>] = &[
        &["ovs-vsctl", "set-controller", "br0", "ptcp:0:127.0.0.1"],
        &[
            "ovs-vsctl",
            "set",
            "Controller",
            "br0",
            "enable_async_messages=false",
            "controller_rate_limit=100",
            "controller_burst_limit=50",
            "controller_queue_size=7",
            "other_config:dscp=9",
        ],
        &[
            "ovs-vsctl",
            "get",
            "Controller",
            "br0",
            "controller_rate_limit",
            "controller_burst_limit",
            "controller_queue_size",
        ],
        &[
            "ovs-vsctl",
            "set",
            "Bridge",
            "br0",
            "other_config:controller-queue-size=50",
        ],
        // A backslash protects a character.
        &[
            "ovs-vsctl",
            "set",
            "Bridge",
            "br0",
            "external_ids={a=b\\}c}",
        ],
        &["ovs-vsctl", "set", "Bridge", "br0", "external_ids:d\\:e=f"],
        &["ovs-vsctl", "get", "Bridge", "br0", "external_ids"],
        &[
            "ovs-vsctl",
            "--columns=name",
            "find",
            "Bridge",
            "name=br\\0",
        ],
        &["ovs-vsctl", "set", "Bridge", "br0", "external_ids=a=b\\"],
        &["ovs-vsctl", "set", "Bridge", "br0", "external_ids=a=b\"c"],
    ];
    compare(OPTIONS, &[BRIDGE, lines].concat());
}
