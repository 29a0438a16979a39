//! Tunnels between hosts: with Debian's Open vSwitch, with the kernel's own devices, and with a switch of ours where
//! nobody else has the type. Each carries small packets, fragments and streams, both ways.

use std::time::Duration;

use ferrovs_testkit::oracle::oracle;
use ferrovs_testkit::switch::{Cast, wait_for};
use ferrovs_testkit::{Host, Netns, Programs, Switch};

const NEAR: &str = "10.0.0.1";
const FAR: &str = "10.0.0.2";

/// A type of tunnel, over IPv4 or IPv6, that carries Ethernet frames or what is in them.
struct Case {
    kind: &'static str,
    options: &'static str,
    v6: bool,
    l3: bool,
}

const fn l2(kind: &'static str, options: &'static str, v6: bool) -> Case {
    Case {
        kind,
        options,
        v6,
        l3: false,
    }
}

const fn l3(kind: &'static str, options: &'static str, v6: bool) -> Case {
    Case {
        kind,
        options,
        v6,
        l3: true,
    }
}

/// A switch with a host behind its bridge `int`, and a bridge `br0` that owns the way along the device `wire`.
struct Side {
    sw: Switch,
    host: Host,
    number: u8,
}

impl Side {
    fn new(programs: Programs, number: u8) -> Side {
        let sw = Switch::start(Cast::all(programs), &[]);
        let host = Host::new(&sw.netns, "p1", &format!("10.0.0.{number}/24"));
        // Packets of tunnels without Ethernet find nobody to ask.
        host.netns.sh(&format!(
            "ip link set eth0 mtu 1400 address 02:00:00:00:01:0{number}
             ip neigh add 10.0.0.{0} lladdr 02:00:00:00:01:0{0} dev eth0",
            3 - number
        ));
        Side { sw, host, number }
    }

    /// Sets up the bridges, once `wire` is there.
    fn bridges(&self) {
        self.sw.vsctl(&format!(
            "add-br br0 -- set Bridge br0 datapath_type=netdev other-config:hwaddr=02:00:00:00:02:0{} \
             -- add-port br0 wire -- add-br int -- set Bridge int datapath_type=netdev \
             -- add-port int p1 -- set Interface p1 ofport_request=1",
            self.number
        ));
        underlay(&self.sw.netns, "br0", self.number);
    }

    fn tunnel(&self, case: &Case) {
        let remote = match case.v6 {
            true => format!("fd00::{}", 3 - self.number),
            false => format!("172.31.1.{}", 3 - self.number),
        };
        self.sw.vsctl(&format!(
            "--if-exists del-port t -- add-port int t -- set Interface t ofport_request=10 type={} \
             options:remote_ip={remote} {}",
            case.kind, case.options
        ));
        self.sw.ofctl("del-flows int");
        match case.l3 {
            false => self.sw.ofctl("add-flow int actions=normal"),
            true => {
                self.sw.ofctl("add-flow int in_port=1,ip,actions=output:10");
                self.sw.ofctl(&format!(
                    "add-flow int in_port=10,actions=mod_dl_dst:02:00:00:00:01:0{},output:1",
                    self.number
                ))
            }
        };
    }
}

fn underlay(netns: &Netns, dev: &str, number: u8) {
    netns.sh(&format!(
        "ip link set {dev} up; ip addr add 172.31.1.{number}/24 dev {dev}
         ip addr add fd00::{number}/64 dev {dev} nodad"
    ));
}

/// Joins two namespaces by a device `wire` in each.
fn join(a: &Netns, b: &Netns) {
    a.sh(&format!(
        "ip link add wire type veth peer name wire netns {}",
        b.name
    ));
    for n in [a, b] {
        n.sh("ip link set wire addrgenmode none up");
    }
}

/// The devices leave nothing to whoever receives: Open vSwitch takes no large frames by itself.
fn no_offloads(netns: &Netns, device: &str) {
    netns.sh(&format!(
        "ethtool -K {device} tx off tso off gso off gro off >/dev/null"
    ));
}

const SERVER: &str = "python3 - >/dev/null 2>&1 <<'X' &
import socket,hashlib
l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); l.bind(('0.0.0.0',5000)); l.listen(1)
l.settimeout(30); c,_=l.accept(); c.settimeout(20); h=hashlib.md5()
while True:
    b=c.recv(65536)
    if not b: break
    h.update(b)
c.sendall(h.hexdigest().encode()); c.close()
X
for i in $(seq 100); do grep -q ':1388 .* 0A' /proc/net/tcp && break; sleep 0.05; done";

/// Whether packets, fragments and a stream get from one namespace to the other, where the address is.
fn carries(from: &Netns, to: &Netns, address: &str) -> Result<(), String> {
    let ping = |size: u32| {
        let line = format!("ping -n -q -c 3 -i 0.05 -W 1 -s {size} {address}");
        let out = from.run(&line);
        match out.stdout.contains("3 packets transmitted, 3 received") {
            true => Ok(()),
            false => Err(format!("{line}: {}", out.stdout)),
        }
    };
    // Whoever is not known is asked for first.
    for _ in 0..10 {
        if ping(56).is_ok() {
            break;
        }
    }
    ping(56)?;
    ping(3000)?;
    to.sh(SERVER);
    let client = format!(
        "timeout 30 python3 - <<'X'
import socket,hashlib
s=socket.create_connection(('{address}',5000),5); s.settimeout(20)
d=bytes(range(256))*8000
s.sendall(d); s.shutdown(1)
print(s.recv(64).decode()==hashlib.md5(d).hexdigest())
X"
    );
    let out = from.run(&client);
    match out.stdout.trim() {
        "True" => Ok(()),
        _ => Err(format!("a stream to {address}: {out:?}")),
    }
}

fn exchange(near: &Side, far: &Side, cases: &[Case]) {
    let mut failed = Vec::new();
    for case in cases {
        near.tunnel(case);
        far.tunnel(case);
        let (a, b) = (&near.host.netns, &far.host.netns);
        let both = carries(a, b, FAR).and_then(|()| carries(b, a, NEAR));
        if let Err(e) = both {
            failed.push(format!("{} {}: {e}", case.kind, case.options));
        }
    }
    assert!(
        failed.is_empty(),
        "{}\n{}",
        failed.join("\n"),
        near.sw.appctl("dpif-netdev/drops")
    );
}

#[test]
fn debians_open_vswitch_takes_what_our_tunnels_send_and_we_take_its() {
    let (near, far) = (Side::new(Programs::ours(), 1), Side::new(oracle(), 2));
    join(&near.sw.netns, &far.sw.netns);
    for side in [&near, &far] {
        no_offloads(&side.sw.netns, "wire");
        no_offloads(&side.sw.netns, "p1");
        no_offloads(&side.host.netns, "eth0");
        side.bridges();
    }
    exchange(
        &near,
        &far,
        &[
            l2("vxlan", "options:key=7", false),
            l2("vxlan", "options:key=7", true),
            l2(
                "vxlan",
                "options:key=7 options:csum=true options:df_default=false",
                false,
            ),
            l2("geneve", "options:key=7 options:csum=true", false),
            l2("gre", "options:key=7 options:csum=true", false),
            l2("ip6gre", "options:key=7", true),
            l2(
                "erspan",
                "options:key=7 options:erspan_ver=1 options:erspan_idx=3",
                false,
            ),
            l2(
                "ip6erspan",
                "options:key=7 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=4",
                true,
            ),
            l3("gtpu", "options:key=7", false),
            l3("srv6", "", true),
        ],
    );
}

#[test]
fn large_frames_cross_tunnels_of_ours_as_they_come() {
    let sides = [1, 2].map(|n| Side::new(Programs::ours(), n));
    let [near, far] = &sides;
    join(&near.sw.netns, &far.sw.netns);
    sides.iter().for_each(Side::bridges);
    exchange(
        near,
        far,
        &[
            l2("stt", "options:key=7", false),
            l2("stt", "options:key=7", true),
            l2("gre64", "options:key=0x700000007 options:csum=true", false),
            l3("lisp", "options:key=7", false),
            l2("vxlan", "options:key=7 options:csum=true", true),
            l2("geneve", "options:key=7", false),
            l2("erspan", "options:key=7 options:erspan_ver=2", false),
        ],
    );
    // Hosts behind a way that is narrower than they know: STT cuts to what it carries.
    for side in &sides {
        side.sw.netns.sh("ip link set wire mtu 1300");
        let mtu = || side.sw.vsctl("get Interface br0 mtu");
        let follows = || mtu().trim() == "1300";
        assert!(wait_for(Duration::from_secs(20), follows), "{}", mtu());
    }
    exchange(near, far, &[l2("stt", "options:key=7", false)]);
    let drops = far.sw.appctl("dpif-netdev/drops");
    assert!(!drops.contains("fragment-expired"), "{drops}");
}

/// The kernel's device for the other end of a tunnel; "L" and "R" stand for its own address and the other.
const DEVICES: [(Case, &str); 7] = [
    (
        l2("vxlan", "options:key=7", false),
        "type vxlan id 7 local L remote R dstport 4789",
    ),
    (
        l2("vxlan", "options:key=7 options:csum=true", true),
        "type vxlan id 7 local L remote R dstport 4789",
    ),
    (
        l2("geneve", "options:key=7", false),
        "type geneve id 7 remote R dstport 6081",
    ),
    (
        l2("gre", "options:key=7", false),
        "type gretap local L remote R key 7",
    ),
    (
        l2("ip6gre", "options:key=7", true),
        "type ip6gretap local L remote R key 7",
    ),
    (
        l2(
            "erspan",
            "options:key=7 options:erspan_ver=1 options:erspan_idx=3",
            false,
        ),
        "type erspan local L remote R seq key 7 erspan_ver 1 erspan 3",
    ),
    (
        l2(
            "ip6erspan",
            "options:key=7 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=4",
            true,
        ),
        "type ip6erspan local L remote R seq key 7 erspan_ver 2 erspan_dir egress erspan_hwid 4",
    ),
];

#[test]
fn the_kernels_devices_take_what_our_tunnels_send_and_we_take_theirs() {
    let near = Side::new(Programs::ours(), 1);
    let far = Netns::new("fk");
    join(&near.sw.netns, &far);
    near.bridges();
    underlay(&far, "wire", 2);
    // SRv6 and GTP-U of the kernel are no devices that one command makes; bareudp has no header in userspace.
    let mut exchanged = Vec::new();
    let mut failed = Vec::new();
    for (case, device) in &DEVICES {
        let (own, other) = match case.v6 {
            true => ("fd00::2", "fd00::1"),
            false => ("172.31.1.2", "172.31.1.1"),
        };
        let device = device.replace('L', own).replace('R', other);
        let added = far.run(&format!(
            "ip link add d0 address 02:00:00:00:01:02 {device}"
        ));
        if added.stderr.contains("Unknown device type") || added.stderr.contains("not supported") {
            eprintln!("this kernel has no {}: not exchanged with it", case.kind);
            continue;
        }
        added.ok();
        far.sh("ip link set d0 mtu 1400 up; ip addr add 10.0.0.2/24 dev d0");
        near.tunnel(case);
        let host = &near.host.netns;
        let both = carries(host, &far, FAR).and_then(|()| carries(&far, host, NEAR));
        match both {
            Ok(()) => exchanged.push(case.kind),
            Err(e) => failed.push(format!("{} {}: {e}", case.kind, case.options)),
        }
        far.sh("ip link del d0");
    }
    eprintln!("exchanged with the kernel: {exchanged:?}");
    assert!(
        failed.is_empty(),
        "{}\n{}",
        failed.join("\n"),
        near.sw.appctl("dpif-netdev/drops")
    );
    assert!(exchanged.contains(&"vxlan"), "the kernel has no vxlan");
}

#[test]
fn what_is_too_long_with_its_outer_header_is_dropped_and_counted() {
    let near = Side::new(Programs::ours(), 1);
    let far = Netns::new("fk");
    join(&near.sw.netns, &far);
    near.bridges();
    underlay(&far, "wire", 2);
    far.sh(
        "ip link add d0 address 02:00:00:00:01:02 type vxlan id 7 local 172.31.1.2 remote 172.31.1.1 dstport 4789
         ip link set d0 mtu 1500 up; ip addr add 10.0.0.2/24 dev d0",
    );
    near.host.netns.sh("ip link set eth0 mtu 1500");
    near.tunnel(&l2("vxlan", "options:key=7", false));
    // 14 of Ethernet inside, 8 of VXLAN, 8 of UDP, 20 of IP; 28 of the ping itself.
    let longest = 1500 - 50 - 28;
    assert!(near.host.pings(FAR, 1));
    let answered = |size: u32| {
        let line = format!("ping -n -q -c 2 -i 0.1 -W 1 -M do -s {size} {FAR}");
        near.host.netns.run(&line).stdout.contains("2 received")
    };
    assert!(answered(longest));
    assert!(!answered(longest + 1));
    let drops = near.sw.appctl("dpif-netdev/drops");
    let line = drops.lines().find(|l| l.starts_with("tx-over-mtu"));
    assert!(line.is_some_and(|l| l.contains(" 2  ")), "{drops}");
    // The outer header may be cut on the way, but not here.
    near.tunnel(&l2(
        "vxlan",
        "options:key=7 options:df_default=false",
        false,
    ));
    assert!(near.host.pings(FAR, 1));
    assert!(answered(longest));
    assert!(!answered(longest + 1));
}
