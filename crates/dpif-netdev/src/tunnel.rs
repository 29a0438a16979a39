//! Outer headers of tunnels, put on and taken off by the tunnel crate.

use ferrovs_datapath::action::TunnelPush;
use ferrovs_netdev::Netdev;
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_runtime::coverage;
use ferrovs_tunnel::{pop, push};

/// Puts the header in front of the packets; those for which that cannot be done are dropped.
pub fn push_batch(batch: &mut Batch, action: &TunnelPush) {
    let dropped = |n: usize| coverage::DATAPATH_DROP_TUNNEL_PUSH_ERROR.add(n as u64);
    if batch.iter().all(|p| push::fits(p, action)) {
        let before = batch.len();
        batch.retain(|p| push::push_in_place(p, action));
        if batch.len() != before {
            dropped(before - batch.len());
        }
        return;
    }
    // Large packets that become too long are split; there may be no room for all parts.
    for packet in std::mem::take(batch) {
        let mut parts = 0;
        push::push(packet, action, |p| match batch.try_push(p) {
            Ok(()) => parts += 1,
            Err(_) => dropped(1),
        });
        if parts == 0 {
            dropped(1);
        }
    }
}

/// Takes the header of a tunnel port off; false when the packet is none of the tunnel's.
pub fn pop(packet: &mut Packet, netdev: &dyn Netdev) -> bool {
    let done = pop::pop(netdev.kind(), packet).is_ok();
    if !done {
        coverage::DATAPATH_DROP_TUNNEL_POP_ERROR.inc();
    }
    done
}
