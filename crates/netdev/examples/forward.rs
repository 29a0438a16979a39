//! Forwards frames between two devices, with no switching at all: what device I/O alone can do.
//!
//! Usage: `forward IFACE IFACE`. Runs in the foreground, on one thread, until killed.

use ferrovs_netdev::{Flags, open};
use ferrovs_packet::buffer::Batch;
use ferrovs_runtime::{Interest, Poller};

fn main() -> std::io::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).take(2).collect();
    let devices: Vec<_> = names
        .iter()
        .map(|n| open(n, "system"))
        .collect::<Result<_, _>>()?;
    for d in &devices {
        d.update_flags(Flags::empty(), Flags::PROMISC)?;
    }
    let mut queues: Vec<_> = devices
        .iter()
        .map(|d| d.rxq_open(0))
        .collect::<Result<_, _>>()?;
    let mut out: Vec<_> = devices
        .iter()
        .map(|d| d.txq_open(0))
        .collect::<Result<_, _>>()?;
    let mut poller = Poller::new();
    let mut batch = Batch::new();
    loop {
        let mut got = 0;
        for (i, q) in queues.iter_mut().enumerate() {
            got += q.recv(&mut batch)?;
            if !batch.is_empty() {
                // A device that is down drops and counts.
                let other = out.len() - 1 - i;
                let _ = out[other].send(&mut batch);
            }
        }
        if got == 0 {
            for fd in queues.iter().filter_map(|q| q.fd()) {
                poller.wait_fd(fd, Interest::READ);
            }
            poller.block();
        }
    }
}
