//! Ports by AF_XDP on real devices: what goes through them, in which modes, and what is left when they go.

use std::time::Duration;

use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Host, Programs, Switch};

use crate::hosts::transfers;

/// Frames that are sent each way.
const N: u32 = 2000;

fn switch() -> Switch {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    // Nothing but what a test sends shall be on the wires.
    sw.netns.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=netdev fail_mode=secure");
    sw
}

#[track_caller]
fn becomes(what: &str, is: impl Fn() -> bool) {
    assert!(wait_for(Duration::from_secs(10), is), "{what}");
}

fn has_program(sw: &Switch, port: &str) -> bool {
    let link = sw.netns.sh(&format!("ip link show {port}"));
    link.contains("prog/xdp id")
}

fn mode(sw: &Switch, port: &str) -> String {
    let status = sw.vsctl(&format!("get Interface {port} status"));
    let (_, mode) = status.split_once("xdp-mode=").unwrap_or_default();
    mode.split([',', '}']).next().unwrap_or_default().to_owned()
}

/// How many frames a host has got.
fn received(host: &Host) -> u32 {
    let file = "/sys/class/net/eth0/statistics/rx_packets";
    host.netns
        .sh(&format!("cat {file}"))
        .trim()
        .parse()
        .unwrap()
}

/// Sends `N` frames of an experimental type, not all at once.
fn send(host: &Host) {
    host.netns.sh(&format!(
        "python3 -c '
import socket,time
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW); s.bind((\"eth0\",0))
for i in range({N}):
    s.send(b\"\\xff\"*6+b\"\\x02\"*6+b\"\\x88\\xb5\"+i.to_bytes(4,\"big\")+bytes(42))
    if i%64==63: time.sleep(0.002)'"
    ));
}

#[test]
fn every_frame_comes_out_once_in_every_mode_polled_or_not() {
    let sw = switch();
    let (h1, h2) = (
        Host::new(&sw.netns, "p1", "10.0.0.1/24"),
        Host::new(&sw.netns, "p2", "10.0.0.2/24"),
    );
    for (kind, mode_asked, mode_got) in [
        ("afxdp", "best-effort", "native"),
        ("afxdp", "generic", "generic"),
        ("afxdp-nonpmd", "native", "native"),
    ] {
        let options = format!("type={kind} options:xdp-mode={mode_asked}");
        sw.vsctl(&format!(
            "add-port br0 p1 -- set Interface p1 {options} -- add-port br0 p2 -- set Interface p2 {options}"
        ));
        for port in ["p1", "p2"] {
            becomes("the mode", || mode(&sw, port) == mode_got);
        }
        sw.ofctl("del-flows br0");
        sw.ofctl("add-flow br0 in_port=p1,dl_type=0x88b5,actions=output:p2");
        sw.ofctl("add-flow br0 in_port=p2,dl_type=0x88b5,actions=output:p1");
        let before = (received(&h1), received(&h2));
        send(&h1);
        send(&h2);
        becomes("all frames at both hosts", || {
            (received(&h1) - before.0, received(&h2) - before.1) == (N, N)
        });
        becomes("all frames counted", || {
            let flows = sw.ofctl("dump-flows br0");
            flows.matches(&format!("n_packets={N},")).count() == 2
        });
        let show = sw.appctl("dpif/show");
        let line = format!("({kind}: n_rxq=1, use-need-wakeup=true, xdp-mode={mode_asked})");
        assert!(show.contains(&line), "{show}");
        let polled = sw.appctl("dpif-netdev/pmd-rxq-show").contains("port: p1");
        assert_eq!(polled, kind == "afxdp");
        sw.vsctl("del-port p1 -- del-port p2");
        becomes("no program", || {
            !has_program(&sw, "p1") && !has_program(&sw, "p2")
        });
    }
    let drops = sw.appctl("dpif-netdev/drops");
    assert!(!drops.contains("malformed"), "{drops}");
}

#[test]
fn hosts_keep_their_offloads() {
    let sw = switch();
    let (h1, h2) = (
        Host::new(&sw.netns, "p1", "10.0.0.1/24"),
        Host::new(&sw.netns, "p2", "10.0.0.2/24"),
    );
    let offloads = h1.netns.sh("ethtool -k eth0");
    assert!(
        offloads.contains("tx-checksum-ip-generic: on"),
        "{offloads}"
    );
    sw.vsctl("add-port br0 p1 -- set Interface p1 type=afxdp");
    // Also to a port that leaves checksums to the kernel, and from one that has large frames.
    for kind in ["afxdp", "system"] {
        sw.vsctl(&format!(
            "--if-exists del-port p2 -- add-port br0 p2 -- set Interface p2 type={kind}"
        ));
        sw.ofctl("del-flows br0");
        sw.ofctl("add-flow br0 in_port=p1,actions=output:p2");
        sw.ofctl("add-flow br0 in_port=p2,actions=output:p1");
        assert!(h1.pings(&h2.ip, 2), "{kind}: {}", sw.log("ovs-vswitchd"));
        assert!(transfers(&h1, &h2), "{kind}");
    }
}

#[test]
fn what_a_port_cannot_be_is_told_as_open_vswitch_tells_it() {
    let sw = switch();
    let _host = Host::new(&sw.netns, "p1", "10.0.0.1/24");
    let out = sw.client(
        "ovs-vsctl",
        &[
            "add-port",
            "br0",
            "nosuch",
            "--",
            "set",
            "Interface",
            "nosuch",
            "type=afxdp",
        ],
    );
    let text = "could not open network device nosuch (No such device)";
    assert!(out.stderr.contains(text), "{}", out.stderr);
    sw.vsctl("del-port nosuch -- add-port br0 p1 -- set Interface p1 type=afxdp");
    let error = || sw.vsctl("get Interface p1 error").trim().to_owned();
    let not_added = "\"could not add network device p1 to ofproto (Invalid argument)\"";
    let not_set = "\"p1: could not set configuration (Invalid argument)\"";
    for (options, text) in [
        ("options:xdp-mode=native-with-zerocopy", not_added),
        ("options:xdp-mode=foo", not_set),
        ("options:xdp-mode=best-effort", "[]"),
        ("options:n_rxq=17", not_set),
        ("options:n_rxq=1", "[]"),
        ("options:use-need-wakeup=false", "[]"),
    ] {
        sw.vsctl(&format!("set Interface p1 {options}"));
        becomes(options, || error() == text);
        becomes(options, || has_program(&sw, "p1") == (text == "[]"));
    }
    let show = sw.appctl("dpif/show");
    let line = "(afxdp: n_rxq=1, use-need-wakeup=false, xdp-mode=best-effort)";
    assert!(show.contains(line), "{show}");
    let log = sw.log("ovs-vswitchd");
    for line in [
        "netdev_afxdp|INFO|p1: Removing xdp program.",
        "netdev_afxdp|INFO|No XDP program is loaded at ifindex ",
        "netdev_afxdp|INFO|p1: Setting XDP mode to best-effort.",
        "netdev_afxdp|INFO|p1: native XDP mode will be in use.",
        "netdev_afxdp|ERR|xsk_socket__create failed (Operation not supported) mode: native-with-zerocopy, \
         use-need-wakeup: true, qid: 0",
        "netdev_afxdp|ERR|p1: Failed to create AF_XDP socket on queue 0 in native-with-zerocopy mode.",
        "netdev_afxdp|ERR|p1: Failed to create AF_XDP socket on queue 0.",
        "netdev_afxdp|ERR|p1: AF_XDP device reconfiguration failed.",
        "dpif_netdev|ERR|Failed to set interface p1 new configuration",
        "dpif|WARN|netdev@ovs-netdev: failed to add p1 as port: Invalid argument",
        "netdev_afxdp|ERR|p1: Incorrect xdp-mode (foo).",
        "netdev_afxdp|ERR|p1: Too big 'n_rxq' (17 > 16).",
        "netdev|WARN|p1: could not set configuration (Invalid argument)",
        "bridge|INFO|bridge br0: deleted interface p1 on port 1",
    ] {
        assert!(log.contains(line), "{line}");
    }
}

#[test]
fn the_host_has_its_device_back_when_the_switch_ends_however_it_does() {
    let sw = switch();
    let (h1, h2) = (
        Host::new(&sw.netns, "p1", "10.0.0.1/24"),
        Host::new(&sw.netns, "p2", "10.0.0.2/24"),
    );
    sw.vsctl(
        "add-port br0 p1 -- set Interface p1 type=afxdp -- add-port br0 p2 -- set Interface p2 type=afxdp-nonpmd",
    );
    let forward = || {
        sw.ofctl("add-flow br0 in_port=p1,actions=output:p2");
        sw.ofctl("add-flow br0 in_port=p2,actions=output:p1");
        assert!(h1.pings(&h2.ip, 5), "{}", sw.log("ovs-vswitchd"));
    };
    forward();
    assert!(has_program(&sw, "p1") && has_program(&sw, "p2"));
    sw.kill("ovs-vswitchd", "KILL");
    becomes("no program", || {
        !has_program(&sw, "p1") && !has_program(&sw, "p2")
    });
    sw.start_vswitchd(&[]);
    becomes("a program", || {
        has_program(&sw, "p1") && has_program(&sw, "p2")
    });
    forward();
    sw.appctl("exit");
    becomes("no program", || {
        !has_program(&sw, "p1") && !has_program(&sw, "p2")
    });
}
