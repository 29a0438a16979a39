//! Headers are rewritten in place, without memory for it.

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::edit;
use ferrovs_packet::flow::Flow;
use ferrovs_packet::types::{MacAddr, eth_type, ip_proto};
use ferrovs_sys::allocations;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

#[test]
fn neighbour_discovery_is_rewritten_without_memory() {
    let flow = Flow {
        dl_type: eth_type::IPV6.into(),
        nw_proto: ip_proto::ICMPV6,
        tp_src: 135.into(),
        arp_sha: MacAddr([2, 0, 0, 0, 0, 1]),
        ..Flow::default()
    };
    let mut packet = compose(&flow, Payload::Default).unwrap();
    Flow::from_packet(&mut packet);
    // A buffer for the copy that changes, used again later.
    drop(Packet::from_slice(packet.data()));
    drop(packet.duplicate());
    let before = allocations::of_thread();
    let mut copy = packet.duplicate();
    let (target, mac) = ([7; 16], MacAddr::BROADCAST);
    edit::set_nd(&mut copy, &target, mac, mac);
    edit::set_nd_ext(&mut copy, 5, 1);
    let fields = edit::nd(&copy).unwrap();
    assert_eq!(allocations::of_thread(), before);
    assert_eq!(
        (fields.target, fields.sll, fields.reserved),
        (target, mac, 5)
    );
}
