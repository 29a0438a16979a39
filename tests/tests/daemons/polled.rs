//! Settings of polled devices and what a bridge says of itself: each key with what it brings about.

use std::time::Duration;

use ferrovs_testkit::Switch;
use ferrovs_testkit::switch::wait_for;

/// A bridge with three polled ports of two queues each, served by two threads.
fn polled() -> Switch {
    let sw = Switch::dummy();
    sw.vsctl(
        "set Open_vSwitch . other_config:pmd-cpu-mask=3 -- add-br br0 -- set Bridge br0 datapath_type=dummy",
    );
    for port in ["p1", "p2", "p3"] {
        sw.vsctl(&format!(
            "add-port br0 {port} -- set Interface {port} type=dummy-pmd options:n_rxq=2"
        ));
    }
    sw
}

/// Which queues each thread polls, as `[i]port/queue ...` a thread; `i` is one that is isolated.
fn queues(sw: &Switch) -> Vec<String> {
    let mut threads = Vec::new();
    for line in sw.appctl("dpif-netdev/pmd-rxq-show").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["pmd", "thread", ..] => threads.push(String::new()),
            ["isolated", ":", isolated] => {
                let thread = threads.last_mut().expect("a thread");
                thread.push_str(if *isolated == "true" { "i" } else { "" });
            }
            ["port:", port, "queue-id:", queue, ..] => {
                let thread = threads.last_mut().expect("a thread");
                thread.push_str(&format!(" {port}/{queue}"));
            }
            _ => {}
        }
    }
    threads
}

#[track_caller]
fn logs(sw: &Switch, text: &str) {
    let told = || sw.log("ovs-vswitchd").contains(text);
    assert!(wait_for(Duration::from_secs(5), told), "{text}");
}

#[test]
fn queues_are_assigned_by_the_algorithm_that_is_named() {
    let sw = polled();
    // By load, which goes there and back again; nothing has any yet.
    assert_eq!(queues(&sw), [" p1/0 p2/1 p3/0", " p1/1 p2/0 p3/1"]);
    sw.vsctl("set Open_vSwitch . other_config:pmd-rxq-assign=roundrobin");
    assert_eq!(queues(&sw), [" p1/0 p2/0 p3/0", " p1/1 p2/1 p3/1"]);
    logs(&sw, "Rxq to PMD assignment mode changed to: 'roundrobin'.");
    sw.vsctl("set Open_vSwitch . other_config:pmd-rxq-assign=cycles");
    assert_eq!(queues(&sw), [" p1/0 p2/1 p3/0", " p1/1 p2/0 p3/1"]);
    sw.vsctl("set Open_vSwitch . other_config:pmd-rxq-assign=bogus");
    logs(
        &sw,
        "Unsupported rx queue to PMD assignment mode in pmd-rxq-assign. Defaulting to 'cycles'.",
    );
}

#[test]
fn pinned_queues_isolate_their_thread_unless_groups_are_to_share_it() {
    let sw = polled();
    sw.vsctl("set Interface p1 other_config:pmd-rxq-affinity=0:1,1:1");
    assert_eq!(queues(&sw), [" p2/0 p2/1 p3/0 p3/1", "i p1/0 p1/1"]);
    sw.vsctl("set Open_vSwitch . other_config:pmd-rxq-isolate=false");
    assert_eq!(queues(&sw), [" p2/0 p2/1 p3/0 p3/1", "i p1/0 p1/1"]);
    let refused = "pmd-rxq-isolate can only be set false when using pmd-rxq-assign=group";
    logs(&sw, refused);
    // What is wrong is told at each change of the configuration, not only of this one.
    let told = || sw.log("ovs-vswitchd").matches(refused).count();
    let before = told();
    sw.vsctl("set Bridge br0 external_ids:a=b");
    assert!(wait_for(Duration::from_secs(5), || told() > before));
    sw.vsctl("set Open_vSwitch . other_config:pmd-rxq-assign=group");
    assert_eq!(queues(&sw), [" p2/0 p2/1 p3/0", " p1/0 p1/1 p3/1"]);
    logs(&sw, "pmd-rxq-affinity does not isolate PMD core");
    sw.vsctl("set Interface p1 other_config:pmd-rxq-affinity=0:7");
    logs(
        &sw,
        "Core  7 cannot be pinned with port 'p1' rx queue 0. Use pmd-cpu-mask to enable a pmd on core 7.",
    );
}

#[test]
fn a_port_can_do_without_the_exact_match_cache() {
    let sw = polled();
    sw.vsctl("set Open_vSwitch . other_config:emc-insert-inv-prob=1");
    // Flows that look at less need no cache.
    sw.ofctl("add-flow br0 in_port=p1,dl_dst=50:54:00:00:00:02,actions=drop");
    let number = sw.vsctl("get Interface p1 ofport");
    let packets = |n: usize| {
        for _ in 0..n {
            sw.appctl(&format!(
                "netdev-dummy/receive p1 in_port({}),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x1234)",
                number.trim()
            ));
        }
    };
    let stat = |name: &str| -> u64 {
        let text = sw.appctl("dpif-netdev/pmd-stats-show");
        let lines = text.lines().filter_map(|l| l.trim().strip_prefix(name));
        let numbers = lines.filter_map(|l| l.trim_start_matches(':').trim().parse::<u64>().ok());
        numbers.sum()
    };
    let seen = |packets: u64| {
        wait_for(Duration::from_secs(5), || {
            stat("packets received") >= packets
        })
    };
    packets(4);
    assert!(seen(4));
    let hits = stat("emc hits");
    assert!(hits > 0, "{}", sw.appctl("dpif-netdev/pmd-stats-show"));
    sw.vsctl("set Interface p1 other_config:emc-enable=false");
    logs(&sw, "p1: EMC has been disabled.");
    packets(4);
    assert!(seen(8));
    assert_eq!(stat("emc hits"), hits);
    sw.vsctl("set Interface p1 other_config:emc-enable=true");
    logs(
        &sw,
        "p1: EMC has been enabled. Current insertion probability is 1/1 (~100.00%).",
    );
    packets(4);
    assert!(seen(12));
    assert!(stat("emc hits") > hits);
}

#[test]
fn a_bridge_tells_the_description_and_number_that_it_was_given() {
    let sw = Switch::dummy();
    sw.vsctl("add-br br0 -- set Bridge br0 other_config:dp-desc=mine other_config:dp-sn=77");
    let told = sw.ofctl("dump-desc br0");
    assert!(
        told.contains("Serial Num: 77\nDP Description: mine\n"),
        "{told}"
    );
    // Each is cut to what a message has room for.
    let (long, short) = ("x".repeat(300), "y".repeat(40));
    sw.vsctl(&format!(
        "set Bridge br0 other_config:dp-desc={long} other_config:dp-sn={short}"
    ));
    let told = sw.ofctl("dump-desc br0");
    let (long, short) = (&long[..255], &short[..31]);
    assert!(
        told.contains(&format!("Serial Num: {short}\nDP Description: {long}\n")),
        "{told}"
    );
    sw.vsctl("clear Bridge br0 other_config");
    let told = sw.ofctl("dump-desc br0");
    assert!(
        told.contains("Serial Num: None\nDP Description: None\n"),
        "{told}"
    );
}

#[test]
fn a_configuration_is_told_to_be_applied_by_its_number() {
    let sw = Switch::dummy();
    let numbers = || {
        let text = sw.vsctl("get Open_vSwitch . next_cfg cur_cfg");
        let numbers = text.lines().filter_map(|l| l.parse::<i64>().ok());
        numbers.collect::<Vec<_>>()
    };
    sw.vsctl("add-br br0");
    let [next, cur] = numbers()[..] else { panic!() };
    assert_eq!(next, cur, "the tool has waited for it");
    // A number that somebody else writes is answered too.
    sw.vsctl("--no-wait set Open_vSwitch . next_cfg=500");
    assert!(wait_for(Duration::from_secs(5), || numbers() == [500, 500]));
    // Without a switch nobody answers.
    sw.kill("ovs-vswitchd", "9");
    sw.vsctl("--no-wait set Open_vSwitch . next_cfg=501");
    assert_eq!(numbers(), [501, 500]);
}

#[test]
fn what_polling_costs_is_shown_for_each_thread_and_of_upcalls_where_that_is_asked_for() {
    let sw = polled();
    // The thread that serves the queue that receives.
    let perf = || sw.appctl("dpif-netdev/pmd-perf-show -nh -pmd 0");
    let receive = |ty: u16| {
        let eth = "eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02)";
        sw.appctl(&format!("netdev-dummy/receive p1 {eth},eth_type({ty})"));
    };
    // Tells the number behind a label and what is said of it.
    let told = |label: &str| -> (u64, String) {
        let all = perf();
        let line = all.lines().find_map(|l| l.trim().strip_prefix(label));
        let line = line.unwrap_or_else(|| panic!("{label} {all}")).trim();
        let (n, rest) = line.split_once(' ').unwrap_or((line, ""));
        (n.parse().unwrap(), rest.to_owned())
    };
    receive(0x1234);
    receive(0x1235);
    assert_eq!(told("- busy iterations:").0, 2);
    let (upcalls, of_upcalls) = told("- Upcalls:");
    assert_eq!(upcalls, 2);
    assert!(of_upcalls.ends_with(", 0.0 us/upcall)"), "{of_upcalls}");
    sw.vsctl("set Open_vSwitch . other_config:pmd-perf-metrics=true");
    receive(0x1236);
    let (_, of_upcalls) = told("- Upcalls:");
    assert!(!of_upcalls.ends_with(", 0.0 us/upcall)"), "{of_upcalls}");
    // Nothing follows the last line.
    assert!(perf().ends_with(" pkts/batch)\n"));
}

#[test]
fn with_metrics_iterations_are_shown_one_by_one_and_in_histograms() {
    let sw = polled();
    let perf = |args: &str| sw.appctl(&format!("dpif-netdev/pmd-perf-show {args}"));
    assert!(!perf("-it 3 -ms 2").contains("   iter "));
    sw.vsctl("set Open_vSwitch . other_config:pmd-perf-metrics=true");
    logs(
        &sw,
        "|dpif_netdev|INFO|PMD performance metrics collection enabled",
    );
    for _ in 0..3 {
        sw.appctl(
            "netdev-dummy/receive p1 eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x1234)",
        );
    }
    // The thread that serves the queue that receives.
    let all = perf("-pmd 0 -it 3 -ms 2");
    let after = |heading: &str| -> Vec<&str> {
        let mut lines = all.lines().skip_while(|l| !l.starts_with(heading));
        assert!(lines.next().is_some(), "{heading} in {all}");
        lines.take_while(|l| !l.is_empty()).collect()
    };
    let histograms = after("   cycles/it              packets/it             cycles/pkt");
    // 32 bins, a rule, and averages with their own heading.
    assert_eq!(histograms.len(), 32 + 1 + 2);
    // Three batches had a packet each.
    let cells: Vec<&str> = histograms[1].split_whitespace().collect();
    assert_eq!((cells[6], cells[7]), ("1", "3"), "{}", histograms[1]);
    assert_eq!(
        after("   iter                cycles       packets ").len(),
        3
    );
    assert_eq!(after("   ms             iterations   cycles/it ").len(), 2);
    // What was counted is forgotten on demand.
    sw.appctl("dpif-netdev/pmd-stats-clear");
    let cleared = perf("-pmd 0");
    let row = cleared.lines().find(|l| l.starts_with("   716 "));
    let cells: Vec<&str> = row.expect("a row").split_whitespace().collect();
    assert_eq!((cells[6], cells[7]), ("1", "0"));
    sw.appctl("dpif-netdev/pmd-perf-log-set on -b 2 -a 1 -us 0");
    logs(
        &sw,
        "|pmd_perf|INFO|pmd-perf-log-set: on, before=2, after=1, extend=false, us_thr=0, q_thr=128",
    );
    logs(
        &sw,
        "|WARN|Suspicious iteration (Excessive total cycles): iter=",
    );
    logs(&sw, "|WARN|Neighborhood of suspicious iteration:\n   iter ");
}

#[test]
fn packets_are_spread_over_the_queues_of_a_port_that_is_steered_by_hash() {
    let sw = polled();
    sw.vsctl("set Interface p2 options:n_txq=3");
    sw.vsctl("set Interface p2 other_config:tx-steering=hash");
    logs(&sw, "p2: Tx packet steering mode has been set to 'hash'.");
    sw.ofctl("add-flow br0 in_port=p1,actions=p2");
    for source in 1..=40 {
        sw.appctl(&format!(
            "netdev-dummy/receive p1 eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
             ipv4(src=10.0.0.{source},dst=10.0.0.99,proto=17,ttl=64,frag=no),udp(src=1,dst=2)"
        ));
    }
    // By thread all would go through one; so none is left out.
    let sent = || {
        let stats = sw.vsctl("get Interface p2 statistics");
        [0, 1, 2].map(|queue| {
            let key = format!("tx_q{queue}_packets=");
            let value = stats.split(&key).nth(1).unwrap_or_default();
            let value: String = value.chars().take_while(char::is_ascii_digit).collect();
            value.parse().unwrap_or(0)
        })
    };
    let all = || sent().iter().sum::<u32>() == 40;
    assert!(wait_for(Duration::from_secs(20), all), "{:?}", sent());
    assert!(sent().iter().all(|n| *n > 0), "{:?}", sent());
    sw.vsctl("set Interface p2 other_config:tx-steering=thread");
    logs(&sw, "p2: Tx packet steering mode has been set to 'thread'.");
}
