//! Ports on veth pairs, in namespaces of the tests' own.

use std::time::Duration;

use ferrovs_packet::buffer::{Batch, Checksum, Packet};
use ferrovs_runtime::clock;

use super::*;

fn sh(script: &str) {
    let status = ferrovs_sys::children::sh(script).unwrap();
    assert!(status.success(), "{script}");
}

fn veth() {
    ferrovs_sys::netns::unshare().unwrap();
    sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1
        ip link add xa0 numrxqueues 2 numtxqueues 2 type veth peer name xb0 numrxqueues 2 numtxqueues 2
        ip link set xa0 up; ip link set xb0 up");
}

fn port(name: &str, options: &[(&str, &str)]) -> Arc<dyn Netdev> {
    let port = open(name, POLLED).unwrap();
    configure(&*port, options).unwrap();
    port
}

fn configure(port: &dyn Netdev, options: &[(&str, &str)]) -> io::Result<()> {
    let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    let options = options.iter().map(own).collect();
    port.set_config(&options).unwrap();
    port.reconfigure()
}

fn frame(mark: u8) -> Packet {
    let mut f = [mark; 60];
    f[..6].fill(0xff);
    f[12..14].copy_from_slice(&[0x88, 0xb5]);
    Packet::from_slice(&f)
}

/// What comes out of queues until there are `n` packets, or for a while.
fn receive(queues: &mut [Box<dyn Rxq>], n: usize) -> Vec<Packet> {
    let began = clock::now();
    let mut got = Vec::new();
    while got.len() < n && clock::now() < began + Duration::from_secs(5) {
        for q in &mut *queues {
            let mut batch = Batch::new();
            q.recv(&mut batch).unwrap();
            got.extend(batch);
        }
    }
    got
}

fn loaded(name: &str) -> bool {
    let link = ferrovs_sys::rtnetlink::Rtnl::open().unwrap().link(name);
    link.unwrap().xdp_program != 0
}

#[test]
fn packets_cross_in_every_mode_that_the_device_has_and_the_program_goes_with_the_port() {
    veth();
    let a = port("xa0", &[]);
    assert_eq!(a.status()["xdp-mode"], "native");
    let b = port("xb0", &[("n_rxq", "2")]);
    assert_eq!((b.layout().n_rxq, b.layout().n_txq), (2, 2));
    for (mode, wakeup) in [
        ("native", "true"),
        ("generic", "false"),
        ("best-effort", "true"),
    ] {
        let options = [
            ("xdp-mode", mode),
            ("use-need-wakeup", wakeup),
            ("n_rxq", "2"),
        ];
        configure(&*b, &options).unwrap();
        assert_eq!(b.requested(), b.layout());
        let mut rx: Vec<_> = (0..2).map(|q| b.rxq_open(q).unwrap()).collect();
        let mut tx = a.txq_open(0).unwrap();
        for round in 0..200u8 {
            let mut batch: Batch = (0..32).map(|_| frame(round)).collect();
            assert!(tx.send(&mut batch).is_empty());
            let got = receive(&mut rx, 32);
            assert_eq!(got.len(), 32, "{mode} {round}");
            assert!(got.iter().all(|p| p.data() == frame(round).data()));
        }
        assert_eq!(b.rx_losses().total(), 0);
    }
    let stats = b.stats().unwrap();
    assert_eq!(stats.rx_packets, Some(3 * 200 * 32));
    assert_eq!((stats.rx_dropped, stats.collisions), (None, None));
    let custom = |name: &str| {
        stats
            .custom
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, n)| *n)
    };
    assert_eq!(custom("xsk_queue_1_rx_dropped"), Some(0));
    assert!(loaded("xb0"));
    let _guard = ferrovs_sys::children::none_starting();
    drop(b);
    assert!(!loaded("xb0") && loaded("xa0"));
}

#[test]
fn what_the_device_cannot_do_is_refused_and_the_host_has_it_back() {
    veth();
    let b = port("xb0", &[]);
    for options in [
        [("xdp-mode", "native-with-zerocopy"), ("n_rxq", "1")],
        [("xdp-mode", "best-effort"), ("n_rxq", "3")],
    ] {
        let refused = configure(&*b, &options).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(22));
        assert!(!b.status().contains_key("xdp-mode"));
        // It is not tried again and again.
        assert_eq!(b.requested(), b.layout());
        let _guard = ferrovs_sys::children::none_starting();
        assert!(!loaded("xb0"));
        assert!(b.rxq_open(0).is_err());
    }
    let refused = b.set_config(&[("xdp-mode".to_owned(), "foo".to_owned())].into());
    assert_eq!(
        refused.unwrap_err(),
        "xb0: could not set configuration (Invalid argument)"
    );
    configure(&*b, &[]).unwrap();
    assert!(loaded("xb0"));
}

#[test]
fn a_device_that_returns_gets_other_sockets() {
    ferrovs_sys::netns::unshare().unwrap();
    // News of links come by name, and other tests have devices too.
    let pair = "ip link add xskt-a type veth peer name xskt-b; ip link set xskt-a up; ip link set xskt-b up";
    sh(pair);
    let b = port("xskt-b", &[]);
    sh("ip link del xskt-b");
    let news = |name: &str| {
        use ferrovs_sys::rtnetlink::{Event, Link, Rtnl};
        let gone = Link {
            name: name.to_owned(),
            index: b.ifindex().unwrap_or(0),
            ..Link::default()
        };
        let link = Rtnl::open().unwrap().link(name);
        crate::registry::deliver(vec![link.map_or(Event::DelLink(gone), Event::NewLink)]);
    };
    news("xskt-b");
    assert_eq!((b.ifindex(), b.requested()), (None, b.layout()));
    assert!(b.status().is_empty());
    sh(pair);
    news("xskt-b");
    assert_ne!(b.requested(), b.layout());
    b.reconfigure().unwrap();
    assert_eq!(b.requested(), b.layout());
    let a = port("xskt-a", &[]);
    let mut batch: Batch = [frame(1)].into_iter().collect();
    assert!(a.txq_open(0).unwrap().send(&mut batch).is_empty());
    let mut rx = [b.rxq_open(0).unwrap()];
    let got = || receive(&mut rx, 1).pop();
    let marked = std::iter::from_fn(got).any(|p| p.data() == frame(1).data());
    assert!(marked);
}

#[test]
fn the_longest_frames_that_the_mtu_allows_get_through() {
    veth();
    let (a, b) = (port("xa0", &[]), port("xb0", &[("xdp-mode", "generic")]));
    assert_eq!(a.set_mtu(MAX_MTU + 1).unwrap_err().raw_os_error(), Some(22));
    // With a program of the driver's at the other end this one could not have it.
    drop(a);
    let a = port("xa0", &[("xdp-mode", "generic")]);
    for port in [&a, &b] {
        port.set_mtu(MAX_MTU).unwrap();
        assert_eq!(port.mtu().unwrap(), MAX_MTU);
    }
    let mut data = vec![7; MAX_MTU as usize + 14];
    data[..6].fill(0xff);
    let mut batch: Batch = [Packet::from_slice(&data)].into_iter().collect();
    assert!(a.txq_open(0).unwrap().send(&mut batch).is_empty());
    let got = receive(&mut [b.rxq_open(0).unwrap()], 1);
    assert_eq!(got[0].data(), data);
}

#[test]
fn a_device_that_is_down_loses_what_it_is_to_send() {
    veth();
    let a = port("xa0", &[]);
    a.update_flags(Flags::UP, Flags::empty()).unwrap();
    let mut tx = a.txq_open(0).unwrap();
    let mut send = || {
        let mut batch: Batch = (0..3).map(frame).collect();
        tx.send(&mut batch)
    };
    // That it is down shows when it is to send for the first time.
    assert!(send().is_empty());
    assert_eq!(send(), crate::Losses::all(Loss::Down, 3));
    assert_eq!(a.stats().unwrap().tx_dropped, Some(3));
    a.update_flags(Flags::empty(), Flags::UP).unwrap();
    assert!(send().is_empty());
}

#[test]
fn checksums_that_were_left_undone_are_done_before_a_frame_leaves() {
    veth();
    let (a, b) = (port("xa0", &[]), port("xb0", &[]));
    let mut p = frame(0);
    p.offload.checksum = Checksum::Partial {
        start: 34,
        offset: 6,
    };
    let mut batch: Batch = [p].into_iter().collect();
    assert!(a.txq_open(0).unwrap().send(&mut batch).is_empty());
    let got = receive(&mut [b.rxq_open(0).unwrap()], 1);
    // The sum of zeros.
    assert_eq!(got[0].data()[40..42], [0xff, 0xff]);
}
