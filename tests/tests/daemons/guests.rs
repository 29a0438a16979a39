//! Guests behind vhost-user ports: frames from one to the other, and what the database and the log tell of them.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use ferrovs_testkit::guest::{GUEST, MQ, MRG_RXBUF, Machine, PROTOCOL_FEATURES, VERSION_1, frame};
use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Programs, Switch};

const FEATURES: u64 = VERSION_1 | MRG_RXBUF | PROTOCOL_FEATURES | MQ;
/// Where frames lie in the guests' memory.
const BUFFERS: u64 = 0x10_0000;

#[track_caller]
fn becomes(what: &str, is: impl Fn() -> bool) {
    assert!(wait_for(Duration::from_secs(10), is), "{what}");
}

#[test]
fn guests_speak_through_a_bridge_and_the_database_tells_of_them() {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    let path = sw.file("client.sock");
    let listener = UnixListener::bind(&path).unwrap();
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=netdev fail_mode=secure");
    sw.vsctl(&format!(
        "add-port br0 c0 -- set Interface c0 type=dpdkvhostuserclient options:vhost-server-path={path}"
    ));
    sw.vsctl("add-port br0 s0 -- set Interface s0 type=dpdkvhostuser");
    let get = |name: &str, column: &str| sw.vsctl(&format!("get Interface {name} {column}"));
    assert_eq!(get("s0", "link_state").trim(), "down");
    sw.ofctl("add-flow br0 in_port=c0,actions=output:s0");
    sw.ofctl("add-flow br0 in_port=s0,actions=output:c0");
    let mut client = Machine::new(listener.accept().unwrap().0, false, 1);
    let mut server = Machine::new(UnixStream::connect(sw.file("s0")).unwrap(), true, 1);
    client.boot(FEATURES);
    server.boot(FEATURES);
    for port in ["c0", "s0"] {
        becomes("a link that is up", || {
            get(port, "link_state").trim() == "up"
        });
    }
    becomes("the number of queues", || {
        get("c0", "status:n_rxq").trim() == "\"1\""
    });
    assert_eq!(get("c0", "status:socket").trim(), format!("\"{path}\""));
    assert_eq!(get("s0", "status:mode").trim(), "server");
    assert_eq!(get("s0", "mtu").trim(), "1500");
    // Frames each way.
    for (n, from, to) in [(2, 0, 1), (4, 1, 0)] {
        let machines = [&mut client, &mut server];
        machines[to].rings[0].offer(&[(GUEST + BUFFERS, 2048, true)], None);
        let sender = &mut machines[from].rings[1];
        sender.put(BUFFERS + 4096 + 12, &frame(n, 100));
        sender.offer(&[(GUEST + BUFFERS + 4096, 112, false)], None);
        let mut used = Vec::new();
        let receiver = &mut machines[to].rings[0];
        for _ in 0..1000 {
            used = receiver.used();
            if !used.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(used.len(), 1, "frame {n}");
        assert_eq!(
            (used[0].1, receiver.get(BUFFERS + 12, 100)),
            (112, frame(n, 100))
        );
    }
    let ports = sw.ofctl("dump-ports br0 c0");
    assert!(
        ports.contains("rx pkts=1, bytes=100, drop=0, errs=?"),
        "{ports}"
    );
    // The guest goes, and another comes to the same place.
    drop(client);
    becomes("a link that is down", || {
        get("c0", "link_state").trim() == "down"
    });
    let mut again = Machine::new(listener.accept().unwrap().0, true, 1);
    again.boot(FEATURES);
    becomes("a link that is up", || {
        get("c0", "link_state").trim() == "up"
    });
    let log = sw.log("ovs-vswitchd");
    for line in [
        "netdev_dpdk|INFO|vHost User device 'c0' created in 'client' mode, using client socket",
        "has been added on numa node 0",
        "changed to 'enabled'",
        "connection has been destroyed",
        "netdev_dpdk|WARN|dpdkvhostuser ports are considered deprecated;  please migrate to dpdkvhostuserclient ports.",
    ] {
        assert!(log.contains(line), "{line}");
    }
    // The socket goes with its port.
    sw.vsctl("del-port s0");
    becomes("no socket", || {
        !std::path::Path::new(&sw.file("s0")).exists()
    });
    drop(server);
}

#[test]
fn what_cannot_be_a_port_says_why() {
    let sw = Switch::start(Cast::all(Programs::ours()), &[]);
    sw.vsctl("add-br br0 -- set Bridge br0 datapath_type=netdev");
    for (port, error) in [
        (
            "v0 type=dpdkvhostuserclient options:vhost-server-path=/dev/vduse/v0",
            "'v0': there is no VDUSE, options:vhost-server-path must be a socket",
        ),
        (
            "a/b type=dpdkvhostuser",
            "could not open network device a/b (Invalid argument)",
        ),
        (
            "d0 type=dpdk",
            "could not open network device d0 (there is no DPDK in this switch: use the type system for a device of \
             the host, dpdkvhostuserclient for a guest)",
        ),
    ] {
        let (name, settings) = port.split_once(' ').unwrap();
        let mut args = vec!["add-port", "br0", name, "--", "set", "Interface", name];
        args.extend(settings.split(' '));
        let out = sw.client("ovs-vsctl", &args);
        assert!(out.stderr.contains(error), "{}", out.stderr);
    }
    let log = sw.log("ovs-vswitchd");
    assert!(log.contains(
        "netdev_dpdk|ERR|\"a/b\" is not a valid name for a vhost-user port. A valid name must not include '/' or '\\'"
    ));
}
