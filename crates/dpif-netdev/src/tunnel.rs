//! Outer headers of tunnels, put on and taken off as the types of tunnels say.

use std::time::UNIX_EPOCH;

use ferrovs_datapath::action::TunnelPush;
use ferrovs_encap::{pop, push};
use ferrovs_netdev::PortClass;
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::{clock, coverage};

/// Puts the header in front of the packets, which go through `port`; those for which that cannot be done are dropped.
/// Packets that have to be cut may become more than there is room for: these go to `more`.
pub fn push_batch(
    batch: &mut Batch,
    action: &TunnelPush,
    port: &PortClass,
    more: &mut Vec<Packet>,
) {
    let dropped = |n: usize| coverage::DATAPATH_DROP_TUNNEL_PUSH_ERROR.add(n as u64);
    let header = &action.header;
    let state = match port {
        PortClass::Tunnel(tunnel) => Some(tunnel.state()),
        _ => None,
    };
    if header.ty.timed
        && let Some(state) = state
        && let Ok(since_epoch) = clock::wall().duration_since(UNIX_EPOCH)
    {
        state.set_clock(since_epoch);
    }
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
    for packet in std::mem::take(batch) {
        let mut parts = 0;
        push::push(packet, header, state, |mut p| {
            p.md.in_port = action.out_port;
            parts += 1;
            if let Err(full) = batch.try_push(p) {
                more.push(full.element());
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
