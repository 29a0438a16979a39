//! Real hosts in network namespaces, with their offloads as they come.

use std::time::Duration;

use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Host, Netns, Programs, Switch};

fn switch() -> Switch {
    Switch::start(Cast::all(Programs::ours()), &[])
}

/// Whether ten megabytes get from one host to another, 10.0.0.2, as they are.
pub fn transfers(from: &Host, to: &Host) -> bool {
    let sum = "python3 - <<'X'
import socket,hashlib
s=socket.create_connection(('10.0.0.2',5000))
d=bytes(range(256))*40000
s.sendall(d); s.shutdown(1)
print(s.recv(64).decode()==hashlib.md5(d).hexdigest())
X";
    let server = "python3 - >/dev/null 2>&1 <<'X' &
import socket,hashlib
l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); l.bind(('10.0.0.2',5000)); l.listen(1)
c,_=l.accept(); h=hashlib.md5()
while True:
    b=c.recv(65536)
    if not b: break
    h.update(b)
c.sendall(h.hexdigest().encode()); c.close()
X
for i in $(seq 50); do grep -q ':1388 .* 0A' /proc/net/tcp && break; sleep 0.1; done";
    to.netns.sh(server);
    from.netns.sh(sum).trim() == "True"
}

#[test]
fn hosts_reach_each_other_and_the_internal_port() {
    let sw = switch();
    let (h1, h2) = (
        Host::new(&sw.netns, "p1", "10.0.0.1/24"),
        Host::new(&sw.netns, "p2", "10.0.0.2/24"),
    );
    sw.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 p2");
    sw.netns
        .sh("ip addr add 10.0.0.3/24 dev br0 && ip link set br0 up");
    assert!(h1.pings(&h2.ip, 5), "{}", sw.log("ovs-vswitchd"));
    assert!(h2.pings("10.0.0.3", 5), "{}", sw.log("ovs-vswitchd"));
    // A bulk transfer goes through with partial checksums and large frames.
    assert!(transfers(&h1, &h2));
}

#[test]
fn a_device_that_vanishes_and_returns_is_picked_up() {
    let sw = switch();
    let h1 = Host::new(&sw.netns, "p1", "10.0.0.1/24");
    sw.vsctl("add-br br0 -- add-port br0 p1");
    sw.netns
        .sh("ip addr add 10.0.0.3/24 dev br0 && ip link set br0 up");
    assert!(h1.pings("10.0.0.3", 2));
    drop(h1);
    let link = || sw.vsctl("get Interface p1 link_state").trim().to_string();
    assert!(
        wait_for(Duration::from_secs(5), || link() == "down"),
        "link {}",
        link()
    );
    let h1 = Host::new(&sw.netns, "p1", "10.0.0.1/24");
    assert!(wait_for(Duration::from_secs(5), || link() == "up"));
    assert!(h1.pings("10.0.0.3", 2), "{}", sw.log("ovs-vswitchd"));
}

#[test]
fn devices_that_cannot_be_ports_are_refused() {
    let sw = switch();
    let out = sw.client(
        "ovs-vsctl",
        &[
            "--timeout=10",
            "add-br",
            "br0",
            "--",
            "add-port",
            "br0",
            "lo",
        ],
    );
    assert!(
        out.stderr.contains("Error detected while setting up 'lo'"),
        "{}",
        out.text()
    );
    assert_eq!(sw.vsctl("get Interface lo ofport").trim(), "-1");
}

#[test]
fn vxlan_reaches_a_kernel_device() {
    let sw = switch();
    let h1 = Host::new(&sw.netns, "p1", "10.0.0.1/24");
    let far = Netns::new("fr");
    sw.netns.sh(&format!(
        "ip link add u1 type veth peer name u2 netns {} && ip link set u1 up",
        far.name
    ));
    far.sh("ip link set u2 up && ip addr add 172.31.1.2/24 dev u2 &&
         ip link add vx0 mtu 1450 type vxlan id 42 remote 172.31.1.1 dstport 4789 dev u2 &&
         ip addr add 10.0.0.4/24 dev vx0 && ip link set vx0 up");
    sw.vsctl(
        "add-br br-int -- add-port br-int p1 -- add-br br-phy -- add-port br-phy u1 \
         -- add-port br-int vx0 -- set Interface vx0 type=vxlan options:remote_ip=172.31.1.2 options:key=42",
    );
    sw.netns
        .sh("ip addr add 172.31.1.1/24 dev br-phy && ip link set br-phy up");
    assert!(h1.pings("10.0.0.4", 5), "{}", sw.log("ovs-vswitchd"));
    let flows = sw.appctl("dpctl/dump-flows");
    assert!(
        flows.contains("tnl_push(") && flows.contains("tnl_pop("),
        "{flows}"
    );
}
