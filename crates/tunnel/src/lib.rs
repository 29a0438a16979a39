//! The network of the host, as native tunnels need it: what userspace must know when no kernel encapsulates for it.
//!
//! To send, a packet needs a way to the remote ([`router`]), the next hop's Ethernet address
//! ([`neigh`]) and an outer header, which `ferrovs_encap` builds. To receive, translation asks [`ports`] whether a
//! packet is addressed to a tunnel of this host.
//!
//! The three tables are process-wide, as the network of the host is: readers take immutable
//! snapshots or short read locks, writers run on the main thread (and, for neighbours, wherever
//! an ARP or ND packet is translated). [`change_seq`] changes when a translation that looked at one
//! of them may have become wrong.

#![forbid(unsafe_code)]

mod egress;
pub mod neigh;
pub mod ports;
pub mod router;
mod scan;

use ferrovs_runtime::Poller;
use ferrovs_runtime::unixctl::Commands;
use ferrovs_sync::Seq;

static CHANGES: Seq = Seq::new();

/// Changes with every change of a route, a neighbour, a tunnel port or an address of the host.
pub fn change_seq() -> &'static Seq {
    &CHANGES
}

/// Adds `ovs/route/*`, `tnl/neigh/*`, `tnl/ports/*` and `tnl/egress_port_range`.
pub fn register_commands<S: 'static>(commands: &mut Commands<S>) {
    router::register(commands);
    neigh::register(commands);
    ports::register(commands);
    egress::register(commands);
}

/// Follows the host's routes and addresses, and lets neighbours age. For the main loop.
pub fn run() {
    router::run();
    ports::run();
    neigh::run();
}

/// Says what would make [`run`] worth calling.
pub fn wait(poller: &mut Poller) {
    router::wait(poller);
    ports::wait(poller);
    neigh::wait(poller);
}
