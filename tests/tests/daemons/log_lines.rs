//! What ovs-vswitchd says of itself: at the start, when it is configured anew, when it crashes. In Open vSwitch's words.

use std::time::Duration;

use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;
use ferrovs_testkit::switch::{Cast, Switch, wait_for};

const LONG: Duration = Duration::from_secs(20);
const OPTIONS: &[&str] = &["--enable-dummy=override", "--disable-system"];

/// Lines of the log without times and numbers.
fn lines(log: &str) -> Vec<String> {
    let plain = |l: &str| Some(l.splitn(3, '|').nth(2).unwrap_or(l).to_string());
    log.lines().filter_map(plain).collect()
}

/// Whether two versions of Open vSwitch say it, and of what both programs have.
fn is_compared(line: &str) -> bool {
    ![
        "Datapath ",
        "dpif_netdev_extract|",
        "dpif_netdev_impl|",
        "in_band|",
        "(Open vSwitch)",
        "vlog|",
        "memory|",
        "timeval|",
        // Once in a process there, here for each datapath, as in later versions.
        "Default PMD thread max sleep",
        // Of a port that the kernel chose.
        ": listening on port",
        "poll_loop|",
    ]
    .iter()
    .any(|w| line.contains(w))
}

fn reconfigured(cast: Cast) -> Vec<String> {
    let sw = Switch::start(cast, OPTIONS);
    for line in [
        "add-br br0 -- set Bridge br0 other_config:datapath-id=0000000000000001",
        "add-port br0 p1",
        "add-port br0 t1 -- set Interface t1 type=patch options:peer=t2",
        "del-port p1",
        "set-controller br0 ptcp:0:127.0.0.1",
        "set Controller br0 inactivity_probe=30000 max_backoff=3000",
        "del-controller br0",
        "set Bridge br0 protocols=OpenFlow13",
        "clear Bridge br0 protocols",
        "set Open_vSwitch . other_config:smc-enable=true other_config:emc-insert-inv-prob=1",
        "add-br br1 -- set Bridge br1 datapath_type=netdev other_config:datapath-id=0000000000000002",
        "del-br br1",
        "del-port t1",
        "del-br br0",
    ] {
        sw.vsctl(line);
    }
    let dir = sw.path().to_string_lossy().into_owned();
    let log = sw.log("ovs-vswitchd").replace(&dir, "DIR");
    let mut all = lines(&log);
    all.retain(|l| is_compared(l));
    all
}

#[test]
fn a_reconfiguration_is_told_in_the_same_words() {
    let theirs = reconfigured(Cast::all(oracle()));
    assert!(theirs.len() > 20, "{theirs:?}");
    assert_eq!(reconfigured(Cast::all(Programs::ours())), theirs);
}

/// What is said of packets from a controller, some of which need help.
fn executed(cast: Cast) -> Vec<String> {
    const ICMP: &str =
        "50540000000250540000000108004500001c000000004001000001020304050607080800f7ff00000000";
    const ARP: &str =
        "ffffffffffff50540000000108060001080006040001505400000001010203040000000000000102030a";
    let sw = Switch::start(cast, OPTIONS);
    sw.vsctl(
        "add-br br0 -- set Bridge br0 fail_mode=secure -- add-port br0 p1 -- set Interface p1 ofport_request=1 \
         -- add-port br0 p2 -- set Interface p2 ofport_request=2",
    );
    sw.appctl("vlog/set dpif:file:dbg");
    for (packet, actions) in [
        (ICMP, "2"),
        (ICMP, "set_field:3->icmp_type,2"),
        (ICMP, "2,set_field:3->icmp_type,mod_nw_dst:9.9.9.9,2"),
        (ICMP, "set_field:3->icmp_type,clone(mod_nw_dst:9.9.9.9,2),2"),
        (ICMP, "set_field:3->icmp_type,output(port=2,max_len=30),2"),
        (ARP, "load:2->NXM_OF_ARP_OP[],2"),
        (ARP, "debug_slow,2"),
        (ARP, "debug_slow"),
    ] {
        let out = format!("in_port=1,packet={packet},actions={actions}");
        sw.client("ovs-ofctl", &["packet-out", "br0", &out]).ok();
    }
    let mut all = lines(&sw.log("ovs-vswitchd"));
    all.retain(|l| l.contains("execute ") || l.contains(" with metadata "));
    all
}

#[test]
fn what_the_datapath_need_not_know_is_executed_in_pieces_and_told_so() {
    let theirs = executed(Cast::all(oracle()));
    assert!(
        theirs.iter().any(|l| l.contains("sub-execute")),
        "{theirs:?}"
    );
    assert_eq!(executed(Cast::all(Programs::ours())), theirs);
}

/// Whether a line names a place in the program.
fn is_frame(line: &str, program: &str) -> bool {
    line.contains(&format!("/{program}(+0x")) && line.ends_with(']')
}

#[test]
fn a_crash_is_told_with_its_place_in_the_program() {
    for daemon in ["ovs-vswitchd", "ovsdb-server"] {
        let sw = Switch::dummy();
        sw.kill(daemon, "SEGV");
        let log = sw.log(daemon);
        let (_, frames) = log
            .split_once("\nSIGSEGV detected, backtrace:\n")
            .unwrap_or_else(|| panic!("{log}"));
        assert!(frames.lines().any(|l| is_frame(l, daemon)), "{frames}");
    }
}

#[test]
fn a_monitor_tells_of_a_crash_and_starts_the_daemon_again() {
    let sw = Switch::dummy();
    sw.appctl("exit");
    assert!(wait_for(LONG, || sw.pid("ovs-vswitchd").is_none()));
    let options = [OPTIONS, &["--monitor"]].concat();
    sw.start_vswitchd(&options);
    let first = sw.pid("ovs-vswitchd").unwrap();
    sw.kill("ovs-vswitchd", "SEGV");
    let restarted = || sw.pid("ovs-vswitchd").is_some_and(|pid| pid != first);
    assert!(wait_for(LONG, restarted));
    sw.vsctl("add-br br0");
    let all = lines(&sw.log("ovs-vswitchd"));
    let title = "backtrace(monitor)|WARN|SIGSEGV detected, backtrace:";
    let at = all.iter().position(|l| l == title);
    let at = at.unwrap_or_else(|| panic!("{all:?}"));
    let frames = all[at + 1..].iter().take_while(|l| l.ends_with(']'));
    let n = frames.clone().count();
    assert!(
        frames.clone().any(|l| is_frame(l, "ovs-vswitchd")),
        "{all:?}"
    );
    let end = format!(
        "daemon_unix(monitor)|ERR|1 crashes: pid {first} died, killed (Segmentation fault)"
    );
    let told = &all[at + 1 + n];
    assert!(
        told.starts_with(&end) && told.ends_with(", restarting"),
        "{told}"
    );
    let log = sw.log("ovs-vswitchd");
    assert!(
        log.contains("|bridge(ovs-vswitchd)|INFO|bridge br0: added"),
        "{log}"
    );
}

#[test]
fn who_ends_takes_leave_of_the_database_without_a_noise() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0");
    let told = sw.log("ovsdb-server").lines().count();
    sw.appctl("exit");
    assert!(wait_for(LONG, || sw.pid("ovs-vswitchd").is_none()));
    // The server handles one message after the other.
    sw.client("ovs-vsctl", &["--no-wait", "list-br"]).ok();
    let log = sw.log("ovsdb-server");
    let new: Vec<&str> = log.lines().skip(told).collect();
    assert!(new.is_empty(), "{new:?}");
}
