//! Runs actions among which are some that the datapath need not know.
//!
//! What changes the packet is done here; what needs the datapath (sending, asking, looking up once more) is given
//! to it one action at a time, with the packet as it is then.

use std::sync::Arc;

use ferrovs_packet::buffer::{CtOrigTuple, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::miniflow::MiniflowBuf;

use crate::action::Action;
use crate::dpif::{Errno, Execute};
use crate::edit::{self, Outcome};

/// Ethernet header: what a truncated packet keeps at least.
pub const MIN_TRUNCATED: u32 = 14;
/// How deep actions may nest in actions.
const MAX_NESTING: u32 = 32;

/// Hands `execute` to `run` in pieces; an error of one does not stop the others, and the last is returned.
pub fn execute(
    execute: Execute,
    run: &mut dyn FnMut(Execute) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mtu = execute.mtu;
    let actions = execute.actions.clone();
    let mut helper = Helper {
        run,
        mtu,
        result: Ok(()),
    };
    helper.actions(execute.into_packet(), &actions, 0);
    helper.result
}

impl Execute {
    /// The packet with the metadata of the flow, and with the offsets of its layers, which actions rely on.
    pub fn into_packet(self) -> Packet {
        let Execute {
            mut packet, flow, ..
        } = self;
        let md = &mut packet.md;
        md.in_port = ferrovs_packet::types::DpPort(flow.in_port);
        md.recirc_id = flow.recirc_id;
        md.dp_hash = flow.dp_hash;
        md.skb_priority = flow.skb_priority;
        md.pkt_mark = flow.pkt_mark;
        md.ct_state = flow.ct_state;
        md.ct_zone = flow.ct_zone;
        md.ct_mark = flow.ct_mark;
        md.ct_label = flow.ct_label;
        md.ct_orig = CtOrigTuple::of_flow(&flow);
        md.packet_type = flow.packet_type.get();
        if flow.tunnel.dst_is_set() {
            md.tunnel.set(&flow.tunnel);
        } else {
            md.tunnel.clear();
        }
        MiniflowBuf::new().extract(&mut packet);
        packet
    }
}

struct Helper<'a> {
    run: &'a mut dyn FnMut(Execute) -> Result<(), Errno>,
    mtu: u16,
    result: Result<(), Errno>,
}

impl Helper<'_> {
    fn actions(&mut self, mut packet: Packet, actions: &[Action], nesting: u32) {
        if nesting > MAX_NESTING {
            return;
        }
        for (i, action) in actions.iter().enumerate() {
            match action {
                Action::Trunc(max) => {
                    let max = (*max).max(MIN_TRUNCATED);
                    packet.cutlen = (packet.size() as u32).saturating_sub(max);
                }
                Action::Clone(inner) => {
                    self.actions(packet.duplicate(), inner, nesting + 1);
                    packet.cutlen = 0;
                }
                Action::CheckPktLen {
                    size,
                    greater,
                    less_equal,
                } => {
                    let inner = match gso::size_on_wire(&packet) > usize::from(*size) {
                        true => greater,
                        false => less_equal,
                    };
                    self.actions(packet.duplicate(), inner, nesting + 1);
                }
                Action::Output(_) | Action::Userspace(_) | Action::Recirc(_) => {
                    self.piece(packet.duplicate(), std::slice::from_ref(action));
                    // A truncation holds for one output, or for what a clone does.
                    packet.cutlen = 0;
                }
                edit => match edit::apply(edit, &mut packet) {
                    Outcome::Done => {}
                    Outcome::Drop => return,
                    // It has an effect on what follows: that goes along.
                    Outcome::NotAnEdit => return self.piece(packet, &actions[i..]),
                },
            }
        }
    }

    fn piece(&mut self, mut packet: Packet, actions: &[Action]) {
        if packet.cutlen > 0 {
            gso::cut(&mut packet);
        }
        let flow = Box::new(Flow::from_packet(&mut packet));
        let piece = Execute {
            packet,
            flow,
            actions: Arc::from(actions),
            mtu: self.mtu,
            needs_help: false,
        };
        if let Err(e) = (self.run)(piece) {
            self.result = Err(e);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{format_actions, packet_from_text, parse_actions, parse_key};

    /// The pieces of `actions` on an ICMP packet, each with the packet's size and ICMP type.
    fn pieces(actions: &str) -> Vec<String> {
        let text = "in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
                    ipv4(src=1.2.3.4,dst=5.6.7.8,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)";
        let flow = Flow {
            in_port: 1,
            ..Flow::default()
        };
        let all = Execute {
            packet: packet_from_text(text, Some(100)).unwrap(),
            flow: Box::new(flow),
            actions: parse_actions(actions, None).unwrap().into(),
            mtu: 0,
            needs_help: true,
        };
        let mut out = Vec::new();
        execute(all, &mut |mut e| {
            let mut text = String::new();
            format_actions(&mut text, &e.actions, None);
            let icmp_type = Flow::from_packet(&mut e.packet).tp_src.get();
            assert_eq!(e.flow.in_port, 1);
            out.push(format!("{text} {} {icmp_type}", e.packet.size()));
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn a_packet_has_the_connection_of_its_flow() {
        for (ip, tuple) in [
            (
                "eth_type(0x0800),ipv4(proto=6,frag=no)",
                "ct_tuple4(src=1.1.1.1,dst=2.2.2.2,proto=6,tp_src=1,tp_dst=2)",
            ),
            (
                "eth_type(0x86dd),ipv6(proto=6,frag=no)",
                "ct_tuple6(src=::1,dst=::2,proto=6,src_port=1,dst_port=2)",
            ),
        ] {
            let text = format!("in_port(1),eth(),{ip},tcp(src=3)");
            let packet = packet_from_text(&text, None).unwrap();
            let key = parse_key(&format!("ct_state(0x21),ct_zone(5),{tuple},{text}"), None);
            let flow = Box::new(key.unwrap().into_flow().unwrap());
            let mut packet = Execute {
                packet,
                flow: flow.clone(),
                actions: Arc::default(),
                mtu: 0,
                needs_help: false,
            }
            .into_packet();
            assert_eq!(*flow, Flow::from_packet(&mut packet), "{tuple}");
        }
    }

    #[test]
    fn each_piece_has_the_packet_as_it_is_then() {
        let set = "set(icmp(type=3,code=0))";
        for (actions, want) in [
            (
                format!("2,{set},2,recirc(7)"),
                "2 100 8;2 100 3;recirc(0x7) 100 3",
            ),
            (format!("clone({set},1),2"), "1 100 3;2 100 8"),
            (
                "check_pkt_len(size=99,gt(1),le(2)),3".to_string(),
                "1 100 8;3 100 8",
            ),
            ("trunc(60),2,2".to_string(), "2 60 0;2 100 8"),
            ("trunc(60),clone(1),2".to_string(), "1 60 0;2 100 8"),
            (format!("{set},meter(4),2,3"), "meter(4),2,3 100 3"),
            (
                "push_vlan(vid=5,pcp=0),2,pop_vlan,2".to_string(),
                "2 104 8;2 100 8",
            ),
        ] {
            assert_eq!(pieces(&actions).join(";"), want, "{actions}");
        }
        assert!(pieces("drop").is_empty());
    }
}
