//! The datapath with devices in memory and a made-up switch above it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ferrovs_datapath::dpif::{
    Dpif, Errno, Execute, FlowPut, Meter, MeterBand, PackedMatch, PmdId, Put, Ufid,
};
use ferrovs_datapath::text::{packet_from_text, parse_actions, parse_key};
use ferrovs_datapath::upcall::{Install, Upcall, UpcallHandler, UpcallKind, UpcallReply, complete};
use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_netdev::{Class, Features, Flags, Layout, Netdev, Rxq, Stats, Txq};
use ferrovs_packet::buffer::{Batch, Checksum, Gso, GsoType, Offload, Packet};
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::types::{DpPort, MacAddr};
use ferrovs_sync::Waker;

/// A device whose received packets come from a test and whose sent ones go there.
struct Memory {
    name: String,
    kind: &'static str,
    inner: Arc<Inner>,
}

struct Inner {
    waiting: Mutex<VecDeque<Vec<u8>>>,
    sent: Mutex<Vec<Vec<u8>>>,
    waker: Waker,
    n_rxq: AtomicUsize,
    wanted_rxq: AtomicUsize,
    /// Queues that are open.
    open: AtomicUsize,
    /// How often a queue was opened to receive, and how often one was looked at.
    opened: AtomicU64,
    polled: AtomicU64,
}

/// A queue that is open.
struct Open(Arc<Inner>);

impl Open {
    fn new(inner: &Arc<Inner>) -> Open {
        inner.open.fetch_add(1, Ordering::SeqCst);
        Open(inner.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

static DEVICES: Mutex<Option<HashMap<String, Arc<Inner>>>> = Mutex::new(None);

fn device(name: &str) -> Arc<Inner> {
    let mut devices = DEVICES.lock().unwrap();
    let devices = devices.get_or_insert_default();
    let inner = devices.entry(name.to_owned()).or_insert_with(|| {
        Arc::new(Inner {
            waiting: Mutex::default(),
            sent: Mutex::default(),
            waker: Waker::new().unwrap(),
            n_rxq: AtomicUsize::new(1),
            wanted_rxq: AtomicUsize::new(1),
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            polled: AtomicU64::new(0),
        })
    });
    inner.clone()
}

fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Memory {
        name: name.to_owned(),
        kind,
        inner: device(name),
    }))
}

struct Queue {
    inner: Open,
    polled: bool,
}

impl Rxq for Queue {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        self.inner.0.polled.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.inner.0.waiting.lock().unwrap();
        let mut n = 0;
        while !batch.is_full()
            && let Some(data) = waiting.pop_front()
        {
            batch.push(Packet::from_slice(&data));
            n += 1;
        }
        if waiting.is_empty() {
            self.inner.0.waker.drain();
        }
        Ok(n)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.polled).then(|| self.inner.0.waker.as_fd())
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Out(Open);

impl Txq for Out {
    fn send(&mut self, batch: &mut Batch) -> io::Result<()> {
        let mut sent = self.0.0.sent.lock().unwrap();
        sent.extend(batch.drain(..).map(|p| p.data().to_vec()));
        Ok(())
    }
}

impl Netdev for Memory {
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn is_pmd(&self) -> bool {
        self.kind == "memory-pmd"
    }
    fn set_config(&self, _: &BTreeMap<String, String>) -> Result<(), String> {
        Ok(())
    }
    fn config(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn layout(&self) -> Layout {
        Layout {
            n_rxq: self.inner.n_rxq.load(Ordering::SeqCst),
            ..Layout::SINGLE
        }
    }
    fn requested(&self) -> Layout {
        Layout {
            n_rxq: self.inner.wanted_rxq.load(Ordering::SeqCst),
            ..Layout::SINGLE
        }
    }
    fn reconfigure(&self) -> io::Result<()> {
        if self.inner.open.load(Ordering::SeqCst) > 0 {
            return Err(io::Error::from_raw_os_error(16)); // EBUSY
        }
        let n = self.requested().n_rxq;
        self.inner.n_rxq.store(n, Ordering::SeqCst);
        Ok(())
    }
    fn rxq_open(&self, _: usize) -> io::Result<Box<dyn Rxq>> {
        self.inner.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Queue {
            inner: Open::new(&self.inner),
            polled: self.is_pmd(),
        }))
    }
    fn txq_open(&self, _: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(Out(Open::new(&self.inner))))
    }
    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(MacAddr::ZERO)
    }
    fn set_etheraddr(&self, _: MacAddr) -> io::Result<()> {
        Ok(())
    }
    fn mtu(&self) -> io::Result<u32> {
        Ok(1500)
    }
    fn set_mtu(&self, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn flags(&self) -> io::Result<Flags> {
        Ok(Flags::UP)
    }
    fn update_flags(&self, _: Flags, _: Flags) -> io::Result<()> {
        Ok(())
    }
    fn stats(&self) -> io::Result<Stats> {
        Ok(Stats::default())
    }
    fn features(&self) -> io::Result<Features> {
        Ok(Features::default())
    }
    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        Ok(Vec::new())
    }
    fn status(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn change_seq(&self) -> u64 {
        1
    }
}

/// A datapath whose local port is in memory too, with ports 1 and up.
fn datapath(name: &str, ports: &[(&str, &str)]) -> Arc<dyn Dpif> {
    for kind in ["dummy-internal", "memory", "memory-pmd"] {
        ferrovs_netdev::register(Class { kind, open });
    }
    let class = classes(Dummy::Normal)
        .into_iter()
        .find(|c| c.kind() == "dummy")
        .unwrap();
    let dp = class.open(name, true).unwrap();
    for (port, kind) in ports {
        dp.port_add(port, kind, None).unwrap();
    }
    // Every thread knows every port.
    dp.quiesce();
    dp
}

/// A switch that answers misses by a table of texts: recirculation id, actions; and that looks only at the port,
/// the recirculation id and the destination address.
struct Switch {
    actions: Vec<(u32, &'static str)>,
    misses: AtomicU64,
    sent_up: Mutex<Vec<usize>>,
    install: bool,
}

impl Switch {
    fn new(actions: &[(u32, &'static str)], install: bool) -> Arc<Switch> {
        Arc::new(Switch {
            actions: actions.to_vec(),
            misses: AtomicU64::new(0),
            sent_up: Mutex::default(),
            install,
        })
    }
}

impl UpcallHandler for Switch {
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply> {
        let mut wc = FlowWildcards::default();
        wc.masks.dl_dst = MacAddr::BROADCAST;
        wc.masks.dl_type = u16::MAX.into();
        let mut key = *upcall.flow;
        if let UpcallKind::Action { .. } = upcall.kind {
            self.sent_up.lock().unwrap().push(upcall.packet.size());
            return Some(UpcallReply {
                actions: Arc::default(),
                flow_actions: None,
                wc: Box::new(wc),
                install: None,
            });
        }
        self.misses.fetch_add(1, Ordering::SeqCst);
        let (_, text) = self.actions.iter().find(|(id, _)| *id == key.recirc_id)?;
        complete(&mut wc);
        key.mask(&wc);
        let words = key.words().iter();
        let ufid = words.fold(7u128, |h, &w| {
            (h ^ u128::from(w)).wrapping_mul(0x1_0000_01b3_0000_0193)
        });
        Some(UpcallReply {
            actions: parse_actions(text, None).unwrap().into(),
            flow_actions: None,
            wc: Box::new(wc),
            install: self.install.then_some(Install {
                ufid: Ufid(ufid),
                ticket: 7,
            }),
        })
    }

    fn installed(&self, install: Install, _: PmdId, installed: bool) {
        assert!(installed && install.ticket == 7);
    }
}

const UDP: &str = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,ttl=64,frag=no),udp(src=1,dst=2)";

fn packed(text: &str) -> PackedMatch {
    PackedMatch::new(&parse_key(text, None).unwrap().into_match().unwrap())
}

fn receive(port: &str, text: &str) {
    let packet = packet_from_text(text, None).unwrap();
    let inner = device(port);
    inner
        .waiting
        .lock()
        .unwrap()
        .push_back(packet.data().to_vec());
    inner.waker.wake();
}

fn sent(port: &str) -> Vec<Vec<u8>> {
    std::mem::take(&mut device(port).sent.lock().unwrap())
}

#[test]
fn the_first_packet_asks_and_the_others_hit_the_flow_that_was_installed() {
    let dp = datapath(
        "dp-a",
        &[("a1", "memory"), ("a2", "memory"), ("a3", "memory")],
    );
    let switch = Switch::new(&[(0, "push_vlan(vid=5,pcp=0),2,pop_vlan,3")], true);
    dp.set_upcall_handler(Some(switch.clone()));
    for _ in 0..100 {
        receive("a1", UDP);
    }
    dp.quiesce();
    assert_eq!(switch.misses.load(Ordering::SeqCst), 1);
    let stats = dp.stats();
    assert_eq!(
        (stats.n_hit, stats.n_missed, stats.n_lost, stats.n_flows),
        (99, 1, 0, 1)
    );
    let (tagged, plain) = (sent("a2"), sent("a3"));
    assert_eq!((tagged.len(), plain.len()), (100, 100));
    assert_eq!(tagged[0][12..18], [0x81, 0, 0, 5, 8, 0]);
    assert_eq!(plain[99][12..14], [8, 0]);
    let mut flows = Vec::new();
    dp.flow_dump(&mut |f| flows.push(f));
    let size = plain[0].len() as u64;
    assert_eq!(
        (flows[0].stats.n_packets, flows[0].stats.n_bytes),
        (99, 99 * size)
    );
    // Actions that are replaced count at once, and a flow that is deleted is asked for again.
    let told_as = &PackedMatch::new(&flows[0].match_);
    dp.flow_put(FlowPut {
        ufid: flows[0].ufid,
        pmd: None,
        put: Put::Modify { told_as },
        actions: parse_actions("3", None).unwrap().into(),
        zero_stats: false,
    })
    .unwrap();
    receive("a1", UDP);
    dp.quiesce();
    assert_eq!((sent("a2").len(), sent("a3").len()), (0, 1));
    assert_eq!(dp.flow_del(flows[0].ufid, None).unwrap().n_packets, 100);
    assert_eq!(dp.flow_del(flows[0].ufid, None), Err(Errno::ENOENT));
    receive("a1", UDP);
    dp.quiesce();
    assert_eq!(switch.misses.load(Ordering::SeqCst), 2);
    dp.destroy();
}

#[test]
fn recirculated_packets_are_looked_up_again_and_stop_at_a_bound() {
    let dp = datapath("dp-b", &[("b1", "memory"), ("b2", "memory")]);
    let switch = Switch::new(&[(0, "hash(l4(0)),recirc(7)"), (7, "2,recirc(7)")], true);
    dp.set_upcall_handler(Some(switch.clone()));
    receive("b1", UDP);
    dp.quiesce();
    // Recirculated at most eight times, and a copy sent each time.
    assert_eq!(sent("b2").len(), 8);
    assert_eq!(switch.misses.load(Ordering::SeqCst), 2);
    dp.destroy();
}

#[test]
fn packets_without_an_answer_are_lost_and_counted() {
    let dp = datapath("dp-c", &[("c1", "memory")]);
    let switch = Switch::new(&[], true);
    dp.set_upcall_handler(Some(switch));
    receive("c1", UDP);
    receive("c1", UDP);
    dp.quiesce();
    let stats = dp.stats();
    assert_eq!((stats.n_hit, stats.n_missed, stats.n_lost), (0, 0, 2));
    dp.destroy();
}

#[test]
fn many_masks_find_the_right_flow() {
    let dp = datapath(
        "dp-d",
        &[("d1", "memory"), ("d2", "memory"), ("d3", "memory")],
    );
    let switch = Switch::new(&[(0, "drop")], false);
    dp.set_upcall_handler(Some(switch.clone()));
    let put = |text: &str, actions: &str, n: u128| {
        dp.flow_put(FlowPut {
            ufid: Ufid(n),
            pmd: None,
            put: Put::Create(&packed(text)),
            actions: parse_actions(actions, None).unwrap().into(),
            zero_stats: false,
        })
        .unwrap();
    };
    // One mask for each length of a prefix; flow n is the one whose bit n is set first.
    for bits in 1..=32u32 {
        let mask = u32::MAX << (32 - bits);
        let ip = |v: u32| std::net::Ipv4Addr::from(v);
        let text = format!(
            "in_port(1),eth(),eth_type(0x0800),ipv4(src={}/{},frag=no)",
            ip(1 << (32 - bits)),
            ip(mask)
        );
        let out = 2 + bits % 2;
        put(&text, &format!("set(ipv4(ttl={bits})),{out}"), bits.into());
    }
    for round in 0..3 {
        for bits in 1..=32u32 {
            let low = if bits == 32 {
                0
            } else {
                round % (1 << (32 - bits))
            };
            let ip = std::net::Ipv4Addr::from(1u32 << (32 - bits) | low);
            let packet = UDP.replace("src=10.0.0.1", &format!("src={ip}"));
            receive("d1", &packet);
            dp.quiesce();
            let out = sent(if bits % 2 == 0 { "d2" } else { "d3" });
            assert_eq!(out.len(), 1, "{ip}");
            assert_eq!(u32::from(out[0][22]), bits, "{ip}");
        }
    }
    receive("d1", &UDP.replace("src=10.0.0.1", "src=0.0.0.0"));
    dp.quiesce();
    assert_eq!(switch.misses.load(Ordering::SeqCst), 1);
    dp.destroy();
}

#[test]
fn truncation_holds_for_one_output_and_packets_can_be_sent_up_or_out() {
    let dp = datapath("dp-e", &[("e1", "memory"), ("e2", "memory")]);
    let switch = Switch::new(&[], true);
    dp.set_upcall_handler(Some(switch.clone()));
    let packet = packet_from_text(UDP, None).unwrap();
    let size = packet.size();
    let text = "trunc(20),2,2,clone(pop_eth,1),check_pkt_len(size=20,gt(2),le(drop)),\
                sample(sample=100.0%,actions(2)),userspace(pid=0,slow_path(action))";
    dp.execute(Execute {
        packet,
        flow: Box::new(Flow {
            in_port: 1,
            ..Flow::default()
        }),
        actions: parse_actions(text, None).unwrap().into(),
        mtu: 0,
        needs_help: false,
    })
    .unwrap();
    dp.quiesce();
    let sizes: Vec<_> = sent("e2").iter().map(Vec::len).collect();
    assert_eq!(sizes, [20, size, size, size]);
    assert_eq!(sent("e1")[0].len(), size - 14);
    assert_eq!(*switch.sent_up.lock().unwrap(), [size]);
    dp.destroy();
}

#[test]
fn large_frames_are_sent_up_as_ordinary_ones_with_their_checksums() {
    let dp = datapath("dp-j", &[("j1", "memory"), ("j2", "memory")]);
    let switch = Switch::new(&[], true);
    dp.set_upcall_handler(Some(switch.clone()));
    let text = UDP
        .replace("proto=17", "proto=6")
        .replace("udp(src=1,dst=2)", "tcp(src=1,dst=2)");
    let mut packet = packet_from_text(&text, Some(54 + 2500)).unwrap();
    packet.offload = Offload {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: Some(Gso {
            kind: GsoType::Tcp4,
            size: 1000,
            hdr_len: 54,
            ecn: false,
        }),
    };
    dp.execute(Execute {
        packet,
        flow: Box::new(Flow {
            in_port: 1,
            ..Flow::default()
        }),
        actions: parse_actions("2,userspace(pid=0,slow_path(action))", None)
            .unwrap()
            .into(),
        mtu: 0,
        needs_help: false,
    })
    .unwrap();
    dp.quiesce();
    assert_eq!(*switch.sent_up.lock().unwrap(), [1054, 1054, 554]);
    assert_eq!(sent("j2")[0].len(), 2554);
    dp.destroy();
}

#[test]
fn meters_drop_what_exceeds_them() {
    let dp = datapath("dp-f", &[("f1", "memory"), ("f2", "memory")]);
    let switch = Switch::new(&[(0, "meter(3),2")], true);
    dp.set_upcall_handler(Some(switch));
    let meter = Meter {
        flags: 2 | 4,
        bands: vec![MeterBand {
            rate: 1,
            burst_size: 5,
            ..MeterBand::default()
        }],
        ..Meter::default()
    };
    let meters = dp.meters().unwrap();
    meters
        .set(3, &meter, ferrovs_runtime::clock::now())
        .unwrap();
    for _ in 0..20 {
        receive("f1", UDP);
    }
    dp.quiesce();
    assert_eq!(sent("f2").len(), 5);
    let stats = meters.delete(3).unwrap();
    assert_eq!((stats.n_packets, stats.bands[0].n_packets), (20, 15));
    assert_eq!(meters.delete(3), Err(Errno::ENOENT));
    dp.destroy();
}

#[test]
fn polled_devices_have_a_thread_that_ends_with_them() {
    let dp = datapath("dp-g", &[("g1", "memory-pmd"), ("g2", "memory")]);
    let switch = Switch::new(&[(0, "2")], true);
    dp.set_upcall_handler(Some(switch));
    receive("g1", UDP);
    dp.quiesce();
    assert_eq!(sent("g2").len(), 1);
    let mut pmds = Vec::new();
    dp.flow_dump(&mut |f| pmds.push(f.pmd));
    assert_ne!(pmds, [PmdId::NON_PMD]);
    dp.port_del(DpPort(1)).unwrap();
    assert_eq!(dp.stats().n_missed, 1);
    pmds.clear();
    dp.flow_dump(&mut |f| pmds.push(f.pmd));
    assert!(pmds.is_empty());
    assert_eq!(dp.port_by_name("g1").unwrap_err(), Errno::ENODEV);
    dp.destroy();
}

#[test]
fn a_few_flows_are_dumped_in_the_order_in_which_they_were_made() {
    let dp = datapath("dp-o", &[("o1", "memory")]);
    let made: Vec<Ufid> = (0..20).map(|n| Ufid(n * 0x9e37_79b9_7f4a_7c15)).collect();
    for (n, ufid) in made.iter().enumerate() {
        let text = format!("in_port(1),eth(),eth_type(0x{:04x})", 0x2000 + n);
        dp.flow_put(FlowPut {
            ufid: *ufid,
            pmd: None,
            put: Put::Create(&packed(&text)),
            actions: Arc::new([]),
            zero_stats: false,
        })
        .unwrap();
    }
    let mut seen = Vec::new();
    dp.flow_dump(&mut |f| seen.push(f.ufid));
    assert_eq!(seen, made);
    dp.destroy();
}

#[test]
fn a_port_that_comes_or_goes_costs_the_others_nothing() {
    let names: Vec<String> = (0..20).map(|n| format!("q{n}")).collect();
    let ports: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "memory")).collect();
    let dp = datapath("dp-q", &ports);
    dp.port_del(dp.port_by_name("q7").unwrap().port).unwrap();
    dp.port_add("q20", "memory", None).unwrap();
    dp.quiesce();
    // The thread has let go of the device.
    assert_eq!(device("q7").open.load(Ordering::SeqCst), 0);
    let counts = |name: &str| {
        let d = device(name);
        [&d.opened, &d.polled].map(|n| n.load(Ordering::Relaxed))
    };
    for name in names.iter().map(String::as_str).chain(["q20"]) {
        assert_eq!(counts(name), [1, 0], "{name}");
    }
    // Each is served all the same.
    let switch = Switch::new(&[], false);
    dp.set_upcall_handler(Some(switch.clone()));
    receive("q20", UDP);
    receive("q3", UDP);
    dp.quiesce();
    assert!(counts("q3")[1] > 0 && counts("q20")[1] > 0 && counts("q4")[1] == 0);
}

#[test]
fn ports_of_a_dummy_are_numbered_by_their_names() {
    let dp = datapath(
        "dp-h",
        &[
            ("br7", "memory"),
            ("p7", "memory"),
            ("q7", "memory"),
            ("x", "memory"),
        ],
    );
    let ports: Vec<_> = dp
        .ports()
        .iter()
        .map(|p| (p.name.clone(), p.port.0))
        .collect();
    let want = [("dp-h", 0), ("q7", 1), ("x", 2), ("p7", 7), ("br7", 107)];
    assert_eq!(ports, want.map(|(n, p)| (n.to_owned(), p)));
    assert_eq!(
        dp.port_add("y", "memory", Some(DpPort(7))),
        Err(Errno::EBUSY)
    );
    assert_eq!(dp.port_add("p7", "memory", None), Err(Errno::EEXIST));
    dp.destroy();
}

#[test]
fn packets_may_wait_to_be_sent_with_others_but_not_longer_than_told() {
    let dp = datapath("dp-i", &[("i1", "memory"), ("i2", "memory")]);
    let switch = Switch::new(&[(0, "2")], true);
    dp.set_upcall_handler(Some(switch));
    let config = [("tx-flush-interval", "20000"), ("emc-insert-inv-prob", "1")];
    dp.set_config(&config.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    dp.quiesce();
    receive("i1", UDP);
    // Longer than any machine is busy with others: that it arrives at all is what counts.
    let deadline = 6000;
    let arrived = (0..deadline).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        !sent("i2").is_empty()
    });
    assert!(arrived);
    // A barrier waits for no interval.
    for _ in 0..3 {
        receive("i1", UDP);
        dp.quiesce();
    }
    assert_eq!(sent("i2").len(), 3);
    dp.destroy();
}

#[test]
fn queues_are_closed_before_a_device_changes_how_many_it_has() {
    let dp = datapath("dp-rq", &[("rq1", "memory-pmd"), ("rq2", "memory-pmd")]);
    let port = dp.port_by_name("rq1").unwrap().port;
    let to = dp.port_by_name("rq2").unwrap().port;
    let switch = Switch::new(&[(0, "1,2")], true);
    dp.set_upcall_handler(Some(switch));
    assert_eq!((port, to), (DpPort(1), DpPort(2)));
    receive("rq1", UDP);
    dp.quiesce();
    let inner = device("rq1");
    // One queue to receive and one to send.
    assert_eq!(inner.open.load(Ordering::SeqCst), 2);
    inner.wanted_rxq.store(3, Ordering::SeqCst);
    dp.port_set_config(port, &BTreeMap::new()).unwrap();
    dp.quiesce();
    assert_eq!(inner.n_rxq.load(Ordering::SeqCst), 3);
    assert_eq!(inner.open.load(Ordering::SeqCst), 3);
    receive("rq1", UDP);
    dp.quiesce();
    assert_eq!((sent("rq1").len(), sent("rq2").len()), (2, 2));
    dp.destroy();
    assert_eq!(inner.open.load(Ordering::SeqCst), 0);
}
