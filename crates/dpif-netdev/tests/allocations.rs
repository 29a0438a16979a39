//! A packet's way allocates no memory, once it has been gone.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use ferrovs_datapath::text::packet_from_text;
use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_packet::buffer::BATCH;
use ferrovs_packet::flow::FlowWildcards;
use ferrovs_sys::allocations;
use ferrovs_testkit::memory::{Answers, Look, datapath, device};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Batches of one measurement, and of the time before it.
const BATCHES: usize = 200;
/// Streams, each with a flow of its own: so the caches are used.
const STREAMS: u16 = 49;

/// Batches of packets of all streams in turn.
fn batches(n: usize) -> Vec<Vec<Vec<u8>>> {
    let frame = |port: u16| {
        let text = format!(
            "eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
             ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src={port},dst=9)"
        );
        packet_from_text(&text, None).unwrap().data().to_vec()
    };
    let frames: Vec<_> = (0..STREAMS).map(|n| frame(n + 1)).collect();
    let packets: Vec<_> = frames.iter().cycle().take(n * BATCH).cloned().collect();
    packets.chunks(BATCH).map(<[_]>::to_vec).collect()
}

#[test]
fn packets_that_are_flooded_changed_and_looked_up_again_allocate_nothing() {
    let ports = ["a1", "a2", "a3"].map(|port| (port, "memory-pmd"));
    let dp = datapath(&classes(Dummy::Normal), "dp-alloc", &ports);
    for (port, _) in ports {
        device(port).become_sink();
    }
    let text = "2,3,push_vlan(vid=5,pcp=0),2,pop_vlan,\
                check_pkt_len(size=50,gt(3),le(2)),set(ipv4(ttl=9)),recirc(7)";
    let mut wc = FlowWildcards::default();
    wc.masks.tp_src = u16::MAX.into();
    let switch = Answers::new(&[(0, text), (7, "3")]).looking_at(wc);
    dp.set_upcall_handler(Some(Arc::new(switch)));
    let (result, wait) = mpsc::channel();
    let (mut done, mut before) = (0, 0);
    device("a1").watch(move |look| match look {
        // The thread that polls is through with what it got before.
        Look::Begins if done == BATCHES => before = allocations::of_thread(),
        Look::Begins if done == 2 * BATCHES => {
            let allocated = allocations::of_thread() - before;
            // It looks once more before the test is over, and nobody listens then.
            _ = result.send(allocated);
        }
        Look::Begins => {}
        Look::Ends(n) => done += usize::from(n > 0),
    });
    device("a1").receive(batches(2 * BATCHES));
    let allocated = wait.recv_timeout(Duration::from_secs(30)).unwrap();
    let sent = device("a2").n_sent() + device("a3").n_sent();
    dp.destroy();
    let packets = (2 * BATCHES * BATCH) as u64;
    assert!(sent >= 5 * packets, "{sent}");
    assert_eq!(allocated, 0, "allocations for {} packets", packets / 2);
}
