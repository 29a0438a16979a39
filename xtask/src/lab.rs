//! The main job on one page: a switch, two hosts on veth ports, an internal port and a VXLAN tunnel to another
//! machine, all in network namespaces of the lab's own, pinging each other.
//!
//! ```text
//!   h1 10.0.0.1 --veth-- p1 \                              / br-phy 172.31.1.1 == u1 --veth-- remote 172.31.1.2
//!   h2 10.0.0.2 --veth-- p2 -- br-int -- vx0 (vxlan 42) --/                                    vxlan 42: 10.0.0.4
//!                       int0 10.0.0.3 (internal)
//! ```

use ferrovs_testkit::netns::{Host, Netns};
use ferrovs_testkit::switch::{Cast, Switch};
use ferrovs_testkit::{Programs, apt};

use crate::bin;

pub fn run(args: &[String]) -> Result<(), String> {
    let keep = match args {
        [] => false,
        [arg] if arg == "--keep" => true,
        _ => return Err("usage: cargo xtask lab [--keep]".into()),
    };
    apt::ensure(apt::TOOLS)?;
    println!("building (release)...");
    let dir = bin::release()?;
    let programs = Programs {
        schema: dir.join("vswitch.ovsschema"),
        dir,
    };
    let switch = Switch::start(Cast::all(programs.clone()), &[]);
    println!(
        "ovsdb-server and ovs-vswitchd run in {} (namespace {})",
        switch.path().display(),
        switch.netns.name
    );

    let h1 = Host::new(&switch.netns, "p1", "10.0.0.1/24");
    let h2 = Host::new(&switch.netns, "p2", "10.0.0.2/24");
    let remote = Netns::new("fr");
    switch.netns.sh(&format!(
        "ip link add u1 type veth peer name u2 netns {} && ip link set u1 up",
        remote.name
    ));
    remote.sh("ip link set u2 up && ip addr add 172.31.1.2/24 dev u2 &&
         ip link add vx0 mtu 1450 type vxlan id 42 remote 172.31.1.1 dstport 4789 dev u2 &&
         ip addr add 10.0.0.4/24 dev vx0 && ip link set vx0 up");
    switch.vsctl(
        "add-br br-int -- add-port br-int p1 -- add-port br-int p2 \
         -- add-port br-int int0 -- set Interface int0 type=internal \
         -- add-br br-phy -- add-port br-phy u1 \
         -- add-port br-int vx0 -- set Interface vx0 type=vxlan options:remote_ip=172.31.1.2 options:key=42",
    );
    switch.netns.sh(
        "ip addr add 172.31.1.1/24 dev br-phy && ip link set br-phy up &&
         ip addr add 10.0.0.3/24 dev int0 && ip link set int0 mtu 1450 up",
    );
    let hosts = [("h1", &h1), ("h2", &h2)];
    let targets = [
        ("h1", "10.0.0.1"),
        ("h2", "10.0.0.2"),
        ("int0", "10.0.0.3"),
        ("remote over vxlan", "10.0.0.4"),
    ];
    let mut failed = Vec::new();
    for (name, host) in hosts {
        for (to, ip) in targets.iter().filter(|(_, ip)| *ip != host.ip) {
            let good = host.pings(ip, 10);
            println!(
                "{name} -> {to} ({ip}): {}",
                if good { "10 of 10 answered" } else { "FAILED" }
            );
            if !good {
                failed.push(format!("{name} -> {to}"));
            }
        }
    }
    for (title, program, args) in [
        ("ovs-vsctl show", "ovs-vsctl", &["show"][..]),
        (
            "megaflows (ovs-appctl dpctl/dump-flows)",
            "ovs-appctl",
            &["dpctl/dump-flows", "--names"],
        ),
        (
            "lookups (ovs-appctl dpctl/show)",
            "ovs-appctl",
            &["dpctl/show"],
        ),
    ] {
        println!(
            "\n== {title}\n{}",
            switch.client(program, args).ok().trim_end()
        );
    }
    if !failed.is_empty() {
        return Err(format!(
            "no answer: {}\nlog:\n{}",
            failed.join(", "),
            switch.log("ovs-vswitchd")
        ));
    }
    println!("\nEverything answered.");
    if keep {
        hold(&switch, &programs, &h1, &h2);
    }
    Ok(())
}

fn hold(switch: &Switch, programs: &Programs, h1: &Host, h2: &Host) {
    println!("\nThe lab stays up until you press Enter. In another shell, as root:\n");
    println!(
        "  export OVS_RUNDIR={} PATH={}:$PATH",
        switch.path().display(),
        programs.dir.display()
    );
    println!("  ovs-vsctl show");
    println!("  ovs-ofctl dump-flows br-int");
    println!("  ovs-appctl fdb/show br-int");
    println!("  ip netns exec {} ping {}", h1.netns.name, h2.ip);
    let mut line = String::new();
    // End of input ends the lab as well.
    let _ = std::io::stdin().read_line(&mut line);
}
