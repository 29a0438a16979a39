use super::*;

fn options(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

fn send(device: &dyn Netdev, packets: &mut Batch) -> Losses {
    device.txq_open(0).unwrap().send(packets)
}

fn frame(fill: u8) -> Packet {
    let mut f = [fill; 60];
    f[12..14].copy_from_slice(&[0x88, 0xb5]);
    Packet::from_slice(&f)
}

#[test]
fn injected_frames_reach_the_queue_they_name_and_no_more_than_fit() {
    let d = open("q0", "dummy-pmd").unwrap();
    d.set_config(&options(&[("n_rxq", "2")])).unwrap();
    // Queues that are open are not taken away by an option.
    assert_eq!((d.layout().n_rxq, d.requested().n_rxq), (1, 2));
    d.reconfigure().unwrap();
    assert_eq!((d.layout(), d.is_pmd()), (d.requested(), true));
    let mut rxqs: Vec<_> = (0..2).map(|i| d.rxq_open(i).unwrap()).collect();
    let inside = device("q0").unwrap();
    for _ in 0..150 {
        inside.receive(1, frame(1));
    }
    let mut batch = Batch::new();
    assert_eq!(rxqs[0].recv(&mut batch).unwrap(), 0);
    let mut n = 0;
    while rxqs[1].recv(&mut batch).unwrap() > 0 {
        n += batch.drain(..).count();
    }
    assert_eq!(n, MAX_QUEUE);
    let s = d.stats().unwrap();
    assert_eq!((s.rx_packets, s.rx_bytes), (Some(100), Some(6000)));
    assert!(s.custom.contains(&("rx_q1_packets".into(), 100)));
    assert_eq!(d.rx_losses().of(Loss::QueueFull), 50);
}

#[test]
fn transmitted_frames_are_captured_and_oversized_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tx.pcap");
    let d = open("c0", "dummy").unwrap();
    d.set_config(&options(&[("tx_pcap", path.to_str().unwrap())]))
        .unwrap();
    send(&*d, &mut [frame(5), frame(6)].into_iter().collect());
    let big = Packet::from_slice(&[0; 1515]);
    let short = Packet::from_slice(&[0; 13]);
    let mut losses = Losses::all(Loss::OverMtu, 1);
    losses.add(Loss::Malformed);
    assert_eq!(send(&*d, &mut [big, short].into_iter().collect()), losses);
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len(), 24 + 2 * (16 + 60));
    assert_eq!(file[..4], 0xa1b2_c3d4u32.to_ne_bytes());
    assert_eq!(file[24 + 16..24 + 16 + 60], *frame(5).data());
    assert_eq!(d.stats().unwrap().tx_packets, Some(2));
}

#[test]
fn a_request_for_its_address_is_answered() {
    let d = open("arp0", "dummy").unwrap();
    let mac = d.etheraddr().unwrap();
    device("arp0")
        .unwrap()
        .state()
        .addresses
        .push(("192.0.2.9".parse().unwrap(), 24));
    let mut q = d.rxq_open(0).unwrap();
    let mut f = vec![0xff; 6];
    f.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    f.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1]);
    f.extend_from_slice(&[0, 0, 0, 0, 0, 0, 192, 0, 2, 9]);
    send(&*d, &mut [Packet::from_slice(&f)].into_iter().collect());
    let mut batch = Batch::new();
    assert_eq!(q.recv(&mut batch).unwrap(), 1);
    let mut want = vec![2, 0, 0, 0, 0, 1];
    want.extend_from_slice(&mac.0);
    want.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    want.extend_from_slice(&mac.0);
    want.extend_from_slice(&[192, 0, 2, 9, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1]);
    assert_eq!(batch[0].data(), want);
}

#[test]
fn two_ports_joined_by_a_stream_exchange_frames() {
    let dir = tempfile::tempdir().unwrap();
    let sock = dir.path().join("s").to_str().unwrap().to_owned();
    let (a, b) = (open("sa", "dummy").unwrap(), open("sb", "dummy").unwrap());
    a.set_config(&options(&[("pstream", &format!("punix:{sock}"))]))
        .unwrap();
    b.set_config(&options(&[("stream", &format!("unix:{sock}"))]))
        .unwrap();
    assert_eq!(b.config()["stream"], format!("unix:{sock}"));
    let (mut qa, mut qb) = (a.rxq_open(0).unwrap(), b.rxq_open(0).unwrap());
    let settle = || {
        for _ in 0..5 {
            device("sa").unwrap().run();
            device("sb").unwrap().run();
        }
    };
    settle();
    assert_eq!(device("sb").unwrap().state().conn.connected(), Some(true));
    send(&*a, &mut [frame(1), frame(2)].into_iter().collect());
    send(&*b, &mut [frame(3)].into_iter().collect());
    settle();
    let mut batch = Batch::new();
    assert_eq!(qb.recv(&mut batch).unwrap(), 2);
    assert_eq!(batch[1].data()[59], 2);
    assert_eq!(qa.recv(&mut batch).unwrap(), 1);
    assert_eq!(batch[2].data()[59], 3);
    // The listener goes away and the other side notices.
    let _guard = ferrovs_sys::children::none_starting();
    a.set_config(&options(&[])).unwrap();
    settle();
    assert_eq!(device("sb").unwrap().state().conn.connected(), Some(false));
}

/// A UDP packet from 10.0.0.SRC with these checksums of IP and UDP.
fn udp(src: u8, ip: u16, udp: u16) -> Packet {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    f.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 0x40, 17]);
    f.extend_from_slice(&ip.to_be_bytes());
    f.extend_from_slice(&[10, 0, 0, src, 10, 0, 0, 2, 0, 7, 0, 9, 0, 20]);
    f.extend_from_slice(&udp.to_be_bytes());
    f.extend_from_slice(b"hello world!");
    Packet::from_slice(&f)
}

#[test]
fn checksums_are_what_the_options_of_both_devices_make_of_them() {
    use ferrovs_packet::edit::{ipv4, set_ipv4};
    use ferrovs_packet::miniflow::MiniflowBuf;
    const RIGHT: (u16, u16) = (0x26c3, 0x59c4);
    const WRONG: (u16, u16) = (0x34f7, 0x1ae5);
    // Of the packet from 10.0.0.9: computed anew, and followed from the wrong ones.
    const ANEW: (u16, u16) = (0x26bb, 0x59bc);
    const FOLLOWED: (u16, u16) = (0x34ef, 0x1add);
    let (a, b) = (open("ol0", "dummy").unwrap(), open("ol1", "dummy").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sent.pcap");
    let mut q = a.rxq_open(0).unwrap();
    let set = |d: &dyn Netdev, pcap: &str, names: &[&str]| {
        let mut list = vec![(pcap, path.to_str().unwrap())];
        list.extend(names.iter().map(|n| (*n, "true")));
        d.set_config(&options(&list)).unwrap();
    };
    // What goes out unchanged and with another source, if both checksums were wrong.
    let good = ["ol_ip_rx_csum_set_good", "ol_l4_rx_csum_set_good"];
    let bad = ["ol_ip_rx_csum_set_bad", "ol_l4_rx_csum_set_bad"];
    let partial = ["ol_ip_rx_csum_set_partial", "ol_l4_rx_csum_set_partial"];
    let does = ["ol_ip_tx_csum", "ol_l4_tx_csum"];
    let leaves = ["ol_ip_tx_csum", "ol_ip_tx_csum_disabled"];
    for (rx, tx, unchanged, changed) in [
        (&[][..], &[][..], WRONG, FOLLOWED),
        (&good, &[], WRONG, ANEW),
        (&bad, &does, WRONG, FOLLOWED),
        (&partial, &[], RIGHT, ANEW),
        (&good, &does, WRONG, ANEW),
        (&partial, &does, RIGHT, ANEW),
        (&partial[..1], &leaves, WRONG, (WRONG.0, FOLLOWED.1)),
        (
            &partial[..1],
            &leaves[1..],
            (RIGHT.0, WRONG.1),
            (ANEW.0, FOLLOWED.1),
        ),
    ] {
        set(&*a, "rxq_pcap", rx);
        set(&*b, "tx_pcap", tx);
        for (src, want) in [(1, unchanged), (9, changed)] {
            device("ol0").unwrap().receive(0, udp(1, WRONG.0, WRONG.1));
            let mut batch = Batch::new();
            assert_eq!(q.recv(&mut batch).unwrap(), 1);
            MiniflowBuf::new().extract(&mut batch[0]);
            let mut fields = ipv4(&batch[0]).unwrap();
            fields.src[3] = src;
            set_ipv4(&mut batch[0], &fields);
            assert!(send(&*b, &mut batch).is_empty());
            let file = std::fs::read(&path).unwrap();
            let sent = &file[file.len() - 54..];
            assert_eq!(sent, udp(src, want.0, want.1).data(), "{rx:?} {tx:?} {src}");
        }
    }
    assert_eq!(b.config(), BTreeMap::new());
    set(&*b, "tx_pcap", &leaves);
    assert_eq!(b.config().into_keys().collect::<Vec<_>>(), leaves);
    assert_eq!(b.status()["tx_ip_csum_offload"], "true");
}

#[test]
fn a_train_is_cut_for_a_device_that_takes_none() {
    use ferrovs_packet::gso::size_on_wire;
    crate::offload::enable_userspace_tso();
    let open = |name| open(name, "dummy").unwrap();
    let (from, whole, cut) = (open("tso0"), open("tso1"), open("tso2"));
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_str().unwrap().to_owned();
    let mut q = from.rxq_open(0).unwrap();
    let size = ("ol_tso_segsz", "300");
    from.set_config(&options(&[size])).unwrap();
    whole
        .set_config(&options(&[size, ("tx_pcap", &path("1"))]))
        .unwrap();
    cut.set_config(&options(&[("tx_pcap", &path("2"))]))
        .unwrap();
    assert_eq!(whole.config(), options(&[size]));
    assert_eq!(whole.status()["tx_tcp_seg_offload"], "true");
    assert_eq!(cut.status()["tx_tcp_seg_offload"], "false");
    // 300 bytes are no train, 700 are three segments.
    for (payload, on_wire) in [(300, 354), (700, 354)] {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        f.extend_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 0x40, 6, 0, 0]);
        f.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0]);
        f.extend_from_slice(&[0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        f.extend((0..payload).map(|n| n as u8));
        let total = f.len() as u16 - 14;
        f[16..18].copy_from_slice(&total.to_be_bytes());
        device("tso0").unwrap().receive(0, Packet::from_slice(&f));
        let mut batch = Batch::new();
        assert_eq!(q.recv(&mut batch).unwrap(), 1);
        assert_eq!(size_on_wire(&batch[0]), on_wire);
        let mut copy: Batch = [batch[0].duplicate()].into_iter().collect();
        assert!(send(&*whole, &mut batch).is_empty() && send(&*cut, &mut copy).is_empty());
    }
    let sent = |d: &dyn Netdev| {
        let stats = d.stats().unwrap();
        (stats.tx_packets.unwrap(), stats.tx_bytes.unwrap())
    };
    assert_eq!(sent(&*whole), (2, 354 + 754));
    assert_eq!(sent(&*cut), (4, 354 + 354 + 354 + 154));
}
