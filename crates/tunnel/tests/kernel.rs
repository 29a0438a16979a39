//! The kernel's vxlan device as the other end: what we push it takes, what it sends we pop, large
//! frames included. Each test makes its own network namespace (so it needs root).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use ferrovs_encap::header::{self, Link};
use ferrovs_encap::row::Inside;
use ferrovs_encap::types::vxlan;
use ferrovs_encap::{TunnelConfig, pop, push};
use ferrovs_netdev::{Netdev, Rxq, Txq};
use ferrovs_packet::buffer::{Batch, MAX_DATA};
use ferrovs_packet::flow::{FlowTnl, PT_ETH};
use ferrovs_sys::netns::NetNs;

fn sh(script: &str) {
    let st = std::process::Command::new("sh")
        .args(["-ec", script])
        .status()
        .unwrap();
    assert!(st.success(), "{script}");
}

/// Namespaces that go when the test is over, however it ends.
struct Names([String; 2]);

impl Drop for Names {
    fn drop(&mut self) {
        for n in &self.0 {
            let _ = std::process::Command::new("ip")
                .args(["netns", "del", n])
                .status();
        }
    }
}

/// Ends the switch when the test's own thread is done, also by a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn device(name: &str) -> (Arc<dyn Netdev>, Box<dyn Rxq>, Box<dyn Txq>) {
    let d = ferrovs_netdev::open(name, "system").unwrap();
    let (rx, tx) = (d.rxq_open(0).unwrap(), d.txq_open(0).unwrap());
    (d, rx, tx)
}

/// What the switch does between an inner device and the wire; counts large frames each way.
fn switch(ready: &mpsc::Sender<()>, stop: &AtomicBool) -> (usize, usize) {
    let (_inner, mut from_inner, mut to_inner) = device("in0");
    let (wire, mut from_wire, mut to_wire) = device("wire0");
    let tnl = FlowTnl {
        ip_dst: 0xac1f_0102.into(),
        tun_id: 42.into(),
        ip_ttl: 64,
        ..FlowTnl::default()
    };
    let link = Link {
        eth_src: wire.etheraddr().unwrap(),
        eth_dst: "02:00:00:00:00:02".parse().unwrap(),
        src: "172.31.1.1".parse().unwrap(),
    };
    let config = TunnelConfig::new(&vxlan::PORT);
    let header = header::build(
        &vxlan::PORT,
        &config,
        &Inside {
            tnl: &tnl,
            packet_type: PT_ETH,
        },
        &link,
    )
    .unwrap();
    ready.send(()).unwrap();
    let (mut pushed, mut popped) = (0, 0);
    let mut batch = Batch::new();
    while !stop.load(Ordering::Relaxed) {
        from_inner.recv(&mut batch).unwrap();
        for p in batch.drain(..) {
            pushed += usize::from(p.offload.gso.is_some());
            push::push(p, &header, None, |p| {
                let _ = to_wire.send(&mut [p].into_iter().collect());
            });
        }
        from_wire.recv(&mut batch).unwrap();
        for mut p in batch.drain(..) {
            let d = p.data();
            // ARP for the remote is answered by a permanent entry; the rest is not for us.
            if d.len() > 42 && d[23] == 17 && d[36..38] == [0x12, 0xb5] {
                popped += usize::from(p.offload.gso.is_some());
                pop::pop(&vxlan::PORT, &mut p).unwrap();
                let _ = to_inner.send(&mut [p].into_iter().collect());
            }
        }
        std::thread::yield_now();
    }
    (pushed, popped)
}

#[test]
fn tcp_crosses_a_tunnel_to_the_kernel_in_large_frames() {
    ferrovs_sys::netns::unshare().unwrap();
    // The switch is here, the hosts in two namespaces more.
    let pid = std::process::id();
    let names = Names([format!("fvta{pid}"), format!("fvtb{pid}")]);
    let [a, b] = &names.0;
    sh(&format!(
        "ip netns add {a}; ip netns add {b}
         ip link add in0 type veth peer name host0 netns {a}
         ip link add wire0 type veth peer name wire1 netns {b}
         ip link set in0 up; ip link set wire0 address 02:00:00:00:00:01 up
         sysctl -qw net.ipv6.conf.all.disable_ipv6=1
         ip -n {a} link set host0 address 02:00:00:00:00:0a mtu 1450 up
         ip -n {a} addr add 10.9.0.1/24 dev host0
         ip -n {a} neigh add 10.9.0.2 lladdr 02:00:00:00:00:0b dev host0
         ip -n {b} link set wire1 address 02:00:00:00:00:02 up
         ip -n {b} addr add 172.31.1.2/24 dev wire1
         ip -n {b} neigh add 172.31.1.1 lladdr 02:00:00:00:00:01 dev wire1
         ip -n {b} link add vx0 address 02:00:00:00:00:0b type vxlan id 42 remote 172.31.1.1 dstport 4789 dev wire1
         ip -n {b} link set vx0 mtu 1450 up
         ip -n {b} addr add 10.9.0.2/24 dev vx0
         ip -n {b} neigh add 10.9.0.1 lladdr 02:00:00:00:00:0a dev vx0"
    ));
    let (ns_a, ns_b) = (NetNs::named(a).unwrap(), NetNs::named(b).unwrap());
    let stop = AtomicBool::new(false);
    const SIZE: usize = 8 << 20;
    let data: Vec<u8> = (0..SIZE).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect();
    let result = std::panic::catch_unwind(|| {
        std::thread::scope(|s| {
            let (ready, is_ready) = mpsc::channel();
            let stop = &stop;
            let switch = s.spawn(move || switch(&ready, stop));
            is_ready.recv().unwrap();
            let _end = End(stop);
            let listener = ns_b
                .run(|| TcpListener::bind("10.9.0.2:7000").unwrap())
                .unwrap();
            let patience = std::time::Duration::from_secs(10);
            let far = "10.9.0.2:7000".parse().unwrap();
            let connect = || TcpStream::connect_timeout(&far, patience).unwrap();
            let stream = ns_a.run(connect).unwrap();
            stream.set_read_timeout(Some(patience)).unwrap();
            stream.set_write_timeout(Some(patience)).unwrap();
            // The far end sends back what it gets.
            let echo = s.spawn(move || {
                let (mut c, _) = listener.accept().unwrap();
                c.set_read_timeout(Some(patience)).unwrap();
                c.set_write_timeout(Some(patience)).unwrap();
                let mut buf = vec![0; MAX_DATA];
                let mut n = 0;
                while n < SIZE {
                    let got = c.read(&mut buf).unwrap();
                    c.write_all(&buf[..got]).unwrap();
                    n += got;
                }
            });
            let data = &data;
            let mut writer = stream.try_clone().unwrap();
            s.spawn(move || writer.write_all(data).unwrap());
            let mut back = vec![0; SIZE];
            let outcome = (&stream).read_exact(&mut back);
            stop.store(true, Ordering::Relaxed);
            outcome.expect("the data comes back");
            echo.join().unwrap();
            assert!(back == *data);
            switch.join().unwrap()
        })
    });
    let (pushed, popped) = result.unwrap();
    assert!(
        pushed > 20 && popped > 20,
        "large frames: {pushed} out, {popped} in"
    );
}
