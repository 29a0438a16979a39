//! A packet's way allocates no memory, once it has been gone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{PmdId, Ufid};
use ferrovs_datapath::text::{packet_from_text, parse_actions};
use ferrovs_datapath::upcall::{Install, Upcall, UpcallHandler, UpcallReply, complete};
use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_netdev::{Class, Features, Flags, Layout, Netdev, Rxq, Stats, Txq};
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::flow::FlowWildcards;
use ferrovs_packet::types::MacAddr;
use ferrovs_sys::allocations;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Packets of one measurement, and of the time before it.
const PACKETS: u64 = 32 * 200;

/// A polled device that receives the same packets over and over, until it has seen the thread that polls it through
/// two measurements; what is sent to it is thrown away.
struct Source {
    name: String,
    kind: &'static str,
}

static RESULT: Mutex<Option<mpsc::Sender<u64>>> = Mutex::new(None);
static SENT: AtomicU64 = AtomicU64::new(0);

struct Queue {
    kind: &'static str,
    frames: Vec<Vec<u8>>,
    n: u64,
    before: u64,
}

impl Rxq for Queue {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        // Other ports receive nothing, and nothing is received before somebody waits for the result.
        if self.kind != "source" || self.n > 2 * PACKETS || RESULT.lock().unwrap().is_none() {
            return Ok(0);
        }
        if self.n == PACKETS {
            self.before = allocations::of_thread();
        }
        if self.n == 2 * PACKETS {
            let allocated = allocations::of_thread() - self.before;
            let result = RESULT.lock().unwrap().take().unwrap();
            result.send(allocated).unwrap();
        }
        while !batch.is_full() {
            let frame = &self.frames[self.n as usize % self.frames.len()];
            self.n += 1;
            batch.push(Packet::from_slice(frame));
        }
        Ok(32)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sink;

impl Txq for Sink {
    fn send(&mut self, batch: &mut Batch) -> io::Result<()> {
        SENT.fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.clear();
        Ok(())
    }
}

impl Netdev for Source {
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn is_pmd(&self) -> bool {
        self.kind != "dummy-internal"
    }
    fn set_config(&self, _: &BTreeMap<String, String>) -> Result<(), String> {
        Ok(())
    }
    fn config(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn layout(&self) -> Layout {
        Layout::SINGLE
    }
    fn rxq_open(&self, _: usize) -> io::Result<Box<dyn Rxq>> {
        let frame = |port: u16| {
            let text = format!(
                "eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
                 ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src={port},dst=9)"
            );
            packet_from_text(&text, None).unwrap().data().to_vec()
        };
        Ok(Box::new(Queue {
            kind: self.kind,
            frames: (1..50).map(frame).collect(),
            n: 0,
            before: 0,
        }))
    }
    fn txq_open(&self, _: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(Sink))
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

fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Source {
        name: name.to_owned(),
        kind,
    }))
}

/// Gives each UDP source port a flow of its own: so the caches are used.
struct Switch(Arc<[Action]>);

impl UpcallHandler for Switch {
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply> {
        let mut wc = FlowWildcards::default();
        complete(&mut wc);
        wc.masks.tp_src = u16::MAX.into();
        let id = u128::from(upcall.flow.tp_src.get()) | u128::from(upcall.flow.recirc_id) << 32;
        let actions = match upcall.flow.recirc_id {
            0 => self.0.clone(),
            _ => parse_actions("3", None).unwrap().into(),
        };
        Some(UpcallReply {
            actions,
            flow_actions: None,
            wc: Box::new(wc),
            install: Some(Install {
                ufid: Ufid(id),
                ticket: 0,
            }),
        })
    }

    fn installed(&self, _: Install, _: PmdId, _: bool) {}
}

#[test]
fn packets_that_are_flooded_changed_and_looked_up_again_allocate_nothing() {
    for kind in ["dummy-internal", "source", "sink"] {
        ferrovs_netdev::register(Class { kind, open });
    }
    let all = classes(Dummy::Normal);
    let class = all.into_iter().find(|c| c.kind() == "dummy").unwrap();
    let dp = class.open("dp-alloc", true).unwrap();
    for (port, kind) in [("a1", "source"), ("a2", "sink"), ("a3", "sink")] {
        dp.port_add(port, kind, None).unwrap();
    }
    // Every thread knows every port.
    dp.quiesce();
    let text = "2,3,push_vlan(vid=5,pcp=0),2,pop_vlan,\
                check_pkt_len(size=50,gt(3),le(2)),set(ipv4(ttl=9)),recirc(7)";
    let actions = parse_actions(text, None).unwrap();
    dp.set_upcall_handler(Some(Arc::new(Switch(actions.into()))));
    let (result, wait) = mpsc::channel();
    *RESULT.lock().unwrap() = Some(result);
    let allocated = wait.recv_timeout(Duration::from_secs(30)).unwrap();
    let sent = SENT.load(Ordering::Relaxed);
    dp.destroy();
    assert!(sent >= 2 * 5 * PACKETS, "{sent}");
    assert_eq!(allocated, 0, "allocations for {PACKETS} packets");
}
