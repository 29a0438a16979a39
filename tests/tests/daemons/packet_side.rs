//! What operators see of ports, flows and threads of the datapath, line by line.

use std::time::Duration;

use ferrovs_testkit::Switch;
use ferrovs_testkit::switch::wait_for;

fn two_ports() -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "add-br br0 -- set Bridge br0 datapath_type=dummy \
         -- add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 type=dummy ofport_request=2",
    );
    sw
}

#[test]
fn flows_whose_keys_are_none_are_told_in_the_log() {
    let sw = two_ports();
    sw.appctl("revalidator/pause");
    for key in [
        "eth(),eth_type(0x1234)",
        "in_port(1),in_port(1),eth_type(0x1234)",
    ] {
        let done = sw.client("ovs-appctl", &["dpctl/add-flow", key, "1"]);
        let error = "updating flow table (Invalid argument)";
        assert!(done.stderr.contains(error), "{done:?}");
    }
    let log = sw.log("ovs-vswitchd");
    for line in [
        "|dpif_netdev|ERR|failed to put[create] flow: in_port is not an exact match\n",
        "|dpif_netdev|ERR|internal error parsing flow key in_port(1),in_port(1),eth_type(0x1234)\n",
        " in_port(1),in_port(1),eth_type(0x1234), actions:1\n",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    assert!(!log.contains("failed to flow_get"), "{log}");
}

#[test]
fn what_happens_to_ports_behind_the_switch_is_seen() {
    let sw = two_ports();
    let shows = |want: &str| {
        let shown = || sw.appctl("dpif/show").contains(want);
        wait_for(Duration::from_secs(20), shown)
    };
    sw.appctl("dpctl/del-if dummy@ovs-dummy p2");
    let gone = || !sw.appctl("dpif/show").contains("p2 ");
    assert!(wait_for(Duration::from_secs(20), gone));
    sw.vsctl("set Open_vSwitch . external_ids:a=b");
    assert!(shows("p2 2/"));
    sw.appctl("dpif-dummy/change-port-number ovs-dummy p1 77");
    assert!(shows("p1 1/77: (dummy)"));
    let status = sw.vsctl("get Interface p1 status");
    assert!(
        status.contains("tx_vxlan_tso_offload=\"false\""),
        "{status}"
    );
}

#[test]
fn more_actions_than_a_message_holds_are_for_the_slow_path() {
    let sw = two_ports();
    for table in 10..13 {
        let outputs: String = (0..900)
            .map(|i| {
                format!(
                    "mod_dl_src:02:00:00:{table:02}:{:02}:{:02},output:2,",
                    i / 90,
                    i % 90
                )
            })
            .collect();
        sw.ofctl(&format!(
            "add-flow br0 table={table},actions={outputs}resubmit(,{})",
            table + 1
        ));
    }
    sw.ofctl("add-flow br0 in_port=1,actions=resubmit(,10)");
    let trace = sw.appctl("ofproto/trace br0 in_port=1");
    for line in [
        ">>>> resubmits yielded over 64 kB of actions <<<<",
        "This flow is handled by the userspace slow path because it:\n  \
         - Uses action(s) not supported by datapath.",
    ] {
        assert!(trace.contains(line), "{}", &trace[trace.len() - 600..]);
    }
    // Two tables of 40 bytes a pair fill it.
    assert!(
        trace.contains("dl_src=02:00:00:11:09:89"),
        "the second table ran"
    );
    assert!(!trace.contains("dl_src=02:00:00:12"), "the third did not");
}

#[test]
fn polling_threads_that_are_not_there_are_not_shown() {
    let sw = two_ports();
    let heading = "Displaying last 60 seconds pmd usage %\n";
    assert_eq!(sw.appctl("dpif-netdev/pmd-rxq-show"), heading);
    assert_eq!(sw.appctl("dpif-netdev/pmd-rxq-show -pmd 9"), "");
}
