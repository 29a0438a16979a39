//! Starting, ending, crashing: nothing stays behind that stops the next start.

use ferrovs_testkit::switch::Cast;
use ferrovs_testkit::{Programs, Switch};

fn devices(sw: &Switch) -> Vec<String> {
    let text = sw.netns.sh("ls /sys/class/net");
    let skip = [
        "lo", "sit0", "ip6tnl0", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0",
        "ip6gre0",
    ];
    text.split_whitespace()
        .filter(|d| !skip.contains(d))
        .map(String::from)
        .collect()
}

#[test]
fn deleted_bridges_and_ports_leave_no_device() {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    sw.vsctl("add-br br0 -- add-port br0 i1 -- set Interface i1 type=internal");
    let there = devices(&sw);
    assert!(
        there.contains(&"br0".into()) && there.contains(&"i1".into()),
        "{there:?}"
    );
    sw.vsctl("del-port i1");
    assert!(!devices(&sw).contains(&"i1".into()));
    sw.vsctl("del-br br0");
    assert!(!devices(&sw).contains(&"br0".into()));
    sw.vsctl("add-br br1");
    sw.appctl("exit --cleanup");
    assert!(devices(&sw).is_empty(), "{:?}", devices(&sw));
}

#[test]
fn a_killed_switch_starts_again_and_keeps_its_configuration() {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    sw.vsctl("add-br br0 -- add-port br0 i1 -- set Interface i1 type=internal");
    sw.kill("ovs-vswitchd", "9");
    sw.start_vswitchd(&[]);
    sw.vsctl("add-port br0 i2 -- set Interface i2 type=internal");
    sw.kill("ovsdb-server", "9");
    sw.start_ovsdb();
    sw.vsctl("add-port br0 i3 -- set Interface i3 type=internal");
    let ports = sw.vsctl("list-ports br0");
    assert_eq!(
        ports.split_whitespace().collect::<Vec<_>>(),
        ["i1", "i2", "i3"]
    );
}

#[test]
fn a_second_server_on_the_same_database_is_refused() {
    let sw = Switch::dummy();
    let second = sw.client("ovsdb-server", &[&sw.file("conf.db"), "--no-chdir"]);
    assert_ne!(second.code, 0, "{}", second.text());
    assert!(
        second.stderr.contains("failed to lock lockfile"),
        "{}",
        second.text()
    );
}

#[test]
fn a_torn_tail_of_the_database_is_cut_off_and_told() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    sw.kill("ovs-vswitchd", "9");
    sw.kill("ovsdb-server", "9");
    let path = sw.path().join("conf.db");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"OVSDB JSON 100 0123456789012345678901234567890123456789\n{\"half\":");
    std::fs::write(&path, &text).unwrap();
    sw.start_ovsdb();
    assert_eq!(
        sw.client("ovs-vsctl", &["--no-wait", "list-br"]).ok(),
        "br0\n"
    );
    let log = sw.log("ovsdb-server");
    assert!(log.contains("|WARN|") || log.contains("|ERR|"), "{log}");
}

#[test]
fn nothing_is_logged_at_warn_in_normal_operation() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy -- add-port br0 p1 -- set Interface p1 type=dummy");
    sw.vsctl("del-br br0");
    for daemon in ["ovs-vswitchd", "ovsdb-server"] {
        let log = sw.log(daemon);
        let loud: Vec<_> = log
            .lines()
            .filter(|l| {
                ["|WARN|", "|ERR|", "|EMER|"]
                    .iter()
                    .any(|level| l.contains(level))
            })
            // A loaded machine is slow, which both Open vSwitch and Ferrovs tell.
            .filter(|l| !l.contains("timeval|") && !l.contains("poll_loop|"))
            .collect();
        assert!(loud.is_empty(), "{daemon}: {loud:?}");
    }
}

#[test]
fn priorities_in_patterns_are_local0_until_a_facility_is_chosen() {
    let sw = Switch::dummy();
    sw.appctl("vlog/set PATTERN:file:%B|%m");
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=dummy");
    sw.appctl("vlog/set FACILITY:daemon");
    sw.vsctl("add-br br1 -- set Bridge br1 datapath_type=dummy");
    let log = sw.log("ovs-vswitchd");
    for line in ["133|bridge br0: added", "29|bridge br1: added"] {
        assert!(log.lines().any(|l| l.starts_with(line)), "{line} in {log}");
    }
}

#[test]
fn replies_in_json_have_the_newlines_that_the_commands_gave_them() {
    let sw = Switch::dummy();
    let version = sw.appctl("--format json version");
    assert!(
        version.starts_with("{\"reply\":\"ovs-vswitchd (Open vSwitch) 3.")
            && version.ends_with("\",\"reply-format\":\"plain\"}\n")
            && !version.contains("\\n"),
        "{version}"
    );
    let list = sw.appctl("--format json vlog/list-pattern");
    assert!(list.contains("%m\\n\",\"reply-format\""), "{list}");
}
