//! Outer headers of tunnels, put on and taken off as the types of tunnels say.

use ferrovs_datapath::action::TunnelPush;
use ferrovs_encap::{pop, push};
use ferrovs_netdev::PortClass;
use ferrovs_packet::buffer::Batch;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::coverage;

/// Puts the header in front of the packets, which go through `port`; those for which that cannot be done are dropped.
pub fn push_batch(batch: &mut Batch, action: &TunnelPush, port: &PortClass) {
    let dropped = |n: usize| coverage::DATAPATH_DROP_TUNNEL_PUSH_ERROR.add(n as u64);
    let header = &action.header;
    let state = match port {
        PortClass::Tunnel(tunnel) => Some(tunnel.state()),
        _ => None,
    };
    if batch.iter().all(|p| push::fits(p, header)) {
        let before = batch.len();
        batch.retain(|p| {
            p.md.in_port = action.out_port;
            push::push_in_place(p, header, state)
        });
        if batch.len() != before {
            dropped(before - batch.len());
        }
        return;
    }
    // Large packets that become too long are split; there may be no room for all parts.
    for packet in std::mem::take(batch) {
        let mut parts = 0;
        push::push(packet, header, state, |mut p| {
            p.md.in_port = action.out_port;
            match batch.try_push(p) {
                Ok(()) => parts += 1,
                Err(_) => dropped(1),
            }
        });
        if parts == 0 {
            dropped(1);
        }
    }
}

/// Takes the headers of a tunnel port off: what is left came from `number`. Drops what is none of the tunnel's, and
/// everything if the port is no tunnel.
pub fn pop_batch(batch: &mut Batch, number: DpPort, port: &PortClass) {
    let before = batch.len();
    match port {
        PortClass::Tunnel(tunnel) => batch.retain(|packet| {
            packet.md.in_port = number;
            pop::pop(tunnel.ty(), packet).is_ok()
        }),
        _ => batch.clear(),
    }
    coverage::DATAPATH_DROP_TUNNEL_POP_ERROR.add((before - batch.len()) as u64);
}
