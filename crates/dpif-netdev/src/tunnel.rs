//! Outer headers of tunnels, put on and taken off by the tunnel crate.

use ferrovs_datapath::action::TunnelHeader;
use ferrovs_netdev::Netdev;
use ferrovs_packet::buffer::Packet;
use ferrovs_runtime::coverage;

/// Puts the header in front of a packet; false when that cannot be done.
pub fn push(_packet: &mut Packet, _header: &TunnelHeader) -> bool {
    coverage::DATAPATH_DROP_TUNNEL_PUSH_ERROR.inc();
    false
}

/// Takes the header of a tunnel port off; false when the packet is none of the tunnel's.
pub fn pop(_packet: &mut Packet, _netdev: &dyn Netdev) -> bool {
    coverage::DATAPATH_DROP_TUNNEL_POP_ERROR.inc();
    false
}
