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
