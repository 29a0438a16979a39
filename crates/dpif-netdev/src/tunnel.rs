//! Outer headers of tunnels, put on and taken off as the types of tunnels say.

use std::time::{Instant, UNIX_EPOCH};

use ferrovs_datapath::action::TunnelPush;
use ferrovs_encap::row::{Gathered, PopError};
use ferrovs_encap::{pop, push};
use ferrovs_netdev::TunnelPort;
use ferrovs_packet::buffer::{Batch, IpChecksum, Packet};
use ferrovs_packet::gso;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::clock;

/// Puts the header in front of the packets, which go through `port` to a device that sends what `mtu` says; those for which that cannot be done are dropped.
/// Packets that have to be cut may become more than there is room for: these go to `more`. Returns how many were
/// dropped.
pub fn push_batch(
    batch: &mut Batch,
    action: &TunnelPush,
    tunnel: &TunnelPort,
    mtu: impl FnOnce() -> Option<u32>,
    more: &mut Vec<Packet>,
) -> usize {
    let header = &action.header;
    let state = tunnel.state();
    if header.ty.timed
        && let Ok(since_epoch) = clock::wall().duration_since(UNIX_EPOCH)
    {
        state.set_clock(since_epoch);
    }
    if header.ty.cuts
        && let Some(mtu) = mtu()
    {
        state.set_mtu(mtu);
    }
    for packet in batch.iter_mut() {
        // It is an inner header from now on.
        if packet.md.ip_checksum != IpChecksum::AsIs {
            gso::complete_ip_checksum(packet);
        }
    }
    if batch.iter().all(|p| push::fits(p, header)) {
        let before = batch.len();
        batch.retain(|p| {
            p.md.in_port = action.out_port;
            push::push_in_place(p, header, Some(state))
        });
        return before - batch.len();
    }
    let mut dropped = 0;
    for packet in std::mem::take(batch) {
        let mut parts = 0;
        push::push(packet, header, Some(state), |mut p| {
            p.md.in_port = action.out_port;
            parts += 1;
            if let Err(full) = batch.try_push(p) {
                more.push(full.element());
            }
        });
        dropped += usize::from(parts == 0);
    }
    dropped
}

/// How many packets a port took no header off, but for those that it refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Popped {
    /// Became part of packets that are not whole yet.
    pub waiting: usize,
    /// Waited before, and were dropped.
    pub given_up: usize,
}

/// Takes the headers of a tunnel port off: what is left came from `number`. What is none of the tunnel's goes, with a
/// word to `refuse`.
pub fn pop_batch(
    batch: &mut Batch,
    number: DpPort,
    tunnel: &TunnelPort,
    now: Instant,
    mut refuse: impl FnMut(PopError),
) -> Popped {
    let mut popped = Popped::default();
    let ty = tunnel.ty();
    batch.retain(|packet| {
        packet.md.in_port = number;
        packet.md.ip_checksum = IpChecksum::AsIs;
        if let Some(gather) = ty.gather {
            match gather(packet, tunnel.state(), now) {
                Ok(Gathered { whole, given_up }) => {
                    popped.given_up += given_up;
                    popped.waiting += usize::from(!whole);
                    if !whole {
                        return false;
                    }
                }
                Err(e) => {
                    refuse(e);
                    return false;
                }
            }
        }
        pop::pop(ty, packet).map_err(&mut refuse).is_ok()
    });
    popped
}
