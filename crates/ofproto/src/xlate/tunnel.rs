//! Tunnels in userspace: a packet to a tunnel port gets its outer header here and goes on in the bridge that
//! owns the way to the remote; a packet to the host that is addressed to a tunnel endpoint is decapsulated.
//!
//! The way is looked up in the routes, the next hop in the neighbours that were seen passing by. An unknown
//! neighbour is asked for, and the packet dropped, as are those behind it until the answer makes all flows be
//! translated anew.

use std::net::IpAddr;

use ferrovs_datapath::action::{Action as DpAction, DropReason, Set, TunnelPush};
use ferrovs_encap::row::Inside;
use ferrovs_encap::{PacketTypeMode, TunnelConfig, TunnelHeader, header};
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::flow::{
    self, FLOW_TNL_F_CSUM, FLOW_TNL_F_DONT_FRAGMENT, FLOW_TNL_F_KEY, FLOW_TNL_F_MASK,
    FLOW_TNL_PUB_F_MASK, Flow, FlowTnl, IP_DSCP_MASK, IP_ECN_MASK,
};
use ferrovs_packet::types::{DpPort, MacAddr, OfPort, eth_type, ip_proto};
use ferrovs_tunnel::{neigh, ports, router};

use super::ctx::{Ctx, Walk, is_ip_any};
use super::snapshot::{BridgeId, XBridge, XPort, XTunnel};

/// "Congestion experienced" in the ECN bits, and ECN-capable transport 0 (RFC 3168).
const ECN_CE: u8 = 3;
const ECN_ECT_0: u8 = 2;

/// A packet that a translation wants sent: it goes through the tables of a bridge as if it had come from there.
pub struct Request {
    pub bridge: BridgeId,
    pub in_port: OfPort,
    pub packet: Packet,
}

fn set_address(v4: &mut ferrovs_packet::types::Be32, v6: &mut [u8; 16], ip: Option<IpAddr>) {
    (*v4, *v6) = match ip {
        Some(IpAddr::V4(ip)) => (u32::from(ip).into(), [0; 16]),
        Some(IpAddr::V6(ip)) => (0.into(), ip.octets()),
        None => (0.into(), [0; 16]),
    };
}

fn destination(tnl: &FlowTnl) -> Option<IpAddr> {
    match (tnl.ip_dst.get(), tnl.ipv6_dst) {
        (0, v6) if v6 == [0; 16] => None,
        (0, v6) => Some(IpAddr::from(v6)),
        (v4, _) => Some(IpAddr::from(v4.to_be_bytes())),
    }
}

fn source(tnl: &FlowTnl) -> Option<IpAddr> {
    match (tnl.ip_src.get(), tnl.ipv6_src) {
        (0, v6) if v6 == [0; 16] => None,
        (0, v6) => Some(IpAddr::from(v6)),
        (v4, _) => Some(IpAddr::from(v4.to_be_bytes())),
    }
}

impl Ctx<'_> {
    /// Sends the packet through a tunnel port.
    pub fn tunnel_output(&mut self, port: &XPort, max_len: u32) {
        let Some(tunnel) = port.tunnel.clone() else {
            return;
        };
        if !self.flow.is_ethernet() && tunnel.config.packet_type == PacketTypeMode::LegacyL2 {
            return self.warn_no_ethernet();
        }
        let before = self.flow.tunnel;
        let (mark, tos) = (self.flow.pkt_mark, self.flow.nw_tos);
        let (packet_type, tos_mask) = (self.flow.packet_type, self.wc.masks.nw_tos);
        if self.flow.is_ethernet() && tunnel.config.packet_type == PacketTypeMode::LegacyL3 {
            // The name space of EtherTypes.
            self.flow.packet_type = flow::packet_type(1, self.flow.dl_type.get()).into();
        }
        self.fill_tunnel(&tunnel.config);
        if destination(&self.orig_tunnel) == destination(&self.flow.tunnel) {
            self.warn("Not tunneling to our own address");
        } else {
            self.credit_tx(port);
            if self.snapshot.features.tnl_push_pop {
                self.report("output to native tunnel");
                self.commit();
                self.push_tunnel(port, &tunnel, max_len);
            } else {
                self.report("output to kernel tunnel");
                // What is set of the packet itself does not depend on what its tunnel inherits.
                let looked_at = std::mem::replace(&mut self.wc.masks.nw_tos, tos_mask);
                self.set_tunnel(port, max_len);
                self.wc.masks.nw_tos |= looked_at;
            }
        }
        self.flow.tunnel = before;
        self.flow.pkt_mark = mark;
        self.flow.nw_tos = tos;
        self.flow.packet_type = packet_type;
    }

    /// The datapath itself puts the header on, as it is told to: whoever comes to the port gets it.
    fn set_tunnel(&mut self, port: &XPort, max_len: u32) {
        self.trunc(max_len);
        if self.flow.tunnel != self.base.tunnel {
            let tunnel = Box::new(self.flow.tunnel);
            self.actions.push(DpAction::Set(Set::Tunnel(tunnel)));
            self.base.tunnel = self.flow.tunnel;
        }
        self.commit();
        self.actions.push(DpAction::Output(port.dp_port));
    }

    /// What the configuration says about the outer header; what it leaves to the flow stays.
    fn fill_tunnel(&mut self, config: &TunnelConfig) {
        let ip = is_ip_any(&self.flow);
        let (f, m) = (&mut self.flow, &mut self.wc.masks);
        let t = &mut f.tunnel;
        if !config.ip_src_flow {
            set_address(&mut t.ip_src, &mut t.ipv6_src, config.src);
        }
        if !config.ip_dst_flow {
            set_address(&mut t.ip_dst, &mut t.ipv6_dst, config.dst);
        }
        t.tp_dst = config.dst_port.into();
        if !config.out_key_flow {
            t.tun_id = config.out_key.into();
        }
        t.ip_ttl = config.ttl;
        t.ip_tos = config.tos;
        if config.ttl_inherit && ip {
            m.nw_ttl = 0xff;
            t.ip_ttl = f.nw_ttl;
        }
        if config.tos_inherit && ip {
            m.nw_tos |= IP_DSCP_MASK;
            t.ip_tos = f.nw_tos & IP_DSCP_MASK;
        }
        if ip {
            // ECN is always inherited (RFC 6040, compatibility mode for CE).
            m.nw_tos |= IP_ECN_MASK;
            t.ip_tos |= if f.nw_tos & IP_ECN_MASK == ECN_CE {
                ECN_ECT_0
            } else {
                f.nw_tos & IP_ECN_MASK
            };
        }
        t.flags &= !(FLOW_TNL_F_MASK & !FLOW_TNL_PUB_F_MASK);
        if config.dont_fragment {
            t.flags |= FLOW_TNL_F_DONT_FRAGMENT;
        }
        if config.csum == Some(true) {
            t.flags |= FLOW_TNL_F_CSUM;
        }
        if config.out_key_present {
            t.flags |= FLOW_TNL_F_KEY;
        }
        if let Some(mark) = config.egress_pkt_mark {
            f.pkt_mark = mark;
            m.pkt_mark = u32::MAX;
        }
    }

    /// This output comes to nothing; others are not concerned.
    fn cannot(&mut self, reason: DropReason, text: &str) {
        self.warn(text);
        self.put_drop(reason);
    }

    fn put_drop(&mut self, reason: DropReason) {
        if self.snapshot.features.explicit_drop_action {
            // A copy is dropped: what comes behind gets the packet all the same.
            let drop = vec![DpAction::Drop(reason)];
            self.actions.push(DpAction::Clone(drop));
        }
    }

    fn push_tunnel(&mut self, port: &XPort, tunnel: &XTunnel, max_len: u32) {
        let tnl = self.flow.tunnel;
        let routed = destination(&tnl).and_then(|dst| {
            let hop = router::lookup(self.flow.pkt_mark, dst, source(&tnl))?;
            Some((hop.gateway.unwrap_or(dst), hop))
        });
        let Some((next, hop)) = routed else {
            return self.cannot(
                DropReason::TunnelRoutingFailed,
                "native tunnel routing failed",
            );
        };
        let snapshot = self.snapshot;
        let local = snapshot
            .bridge_of_local_device(&hop.dev)
            .and_then(|b| Some((b, b.ports.get(&OfPort::LOCAL)?, b.local_mac?)));
        let Some((bridge, out, eth_src)) = local else {
            return self.cannot(
                DropReason::TunnelRoutingFailed,
                "native tunnel routing failed",
            );
        };
        self.report(&format!("tunneling to {next} via {}", hop.dev));
        let Some(eth_dst) = neigh::lookup(bridge.neighbours, next) else {
            self.ask_for_neighbour(bridge, eth_src, hop.src, next);
            return;
        };
        self.credit(super::xcache::Credit::Neighbour {
            bridge: bridge.neighbours,
            address: next,
        });
        self.report(&format!(
            "tunneling from {eth_src} {} to {eth_dst} {next}",
            hop.src
        ));
        let link = header::Link {
            eth_src,
            eth_dst,
            src: hop.src,
        };
        let Some(header) = self.outer_header(tunnel, &tnl, &link) else {
            return self.cannot(
                DropReason::TunnelHeaderBuildFailed,
                "native tunnel header build failed",
            );
        };
        let push = TunnelPush {
            tnl_port: port.dp_port,
            out_port: out.dp_port,
            header,
        };
        let outer = outer_flow(&self.flow, &tnl, &link, tunnel);
        self.send_outer(bridge, push, outer, max_len);
    }

    fn outer_header(
        &self,
        tunnel: &XTunnel,
        tnl: &FlowTnl,
        link: &header::Link,
    ) -> Option<TunnelHeader> {
        let mut tnl = *tnl;
        if tunnel.ty.options.tlv {
            tnl.metadata = self.bridge.tun_table.options_of(&tnl.metadata)?;
        }
        let inside = Inside {
            tnl: &tnl,
            packet_type: self.flow.packet_type.get(),
        };
        header::build(tunnel.ty, &tunnel.config, &inside, link)
    }

    /// The encapsulated packet goes through the tables of the bridge that owns the way. What those look at is the
    /// outer header, which is the same for all packets of the flow: it leaves no mark in the wildcards.
    fn send_outer(
        &mut self,
        bridge: &std::sync::Arc<XBridge>,
        push: TunnelPush,
        outer: Flow,
        max_len: u32,
    ) {
        let (flow, base, wc) = (self.flow, self.base, self.wc);
        let before = std::mem::take(&mut self.actions);
        self.trunc(max_len);
        self.actions.push(DpAction::TunnelPush(Box::new(push)));
        self.flow = outer;
        self.base = outer;
        self.in_bridge(bridge, |ctx| {
            ctx.table_action(OfPort::LOCAL, 0, &Walk::FIRST);
            ctx.end_pipeline();
        });
        (self.flow, self.base, self.wc) = (flow, base, wc);
        let inner = std::mem::replace(&mut self.actions, before);
        // Nothing behind the header: the underlay dropped the packet.
        if !matches!(inner.last(), Some(DpAction::TunnelPush(_))) {
            self.actions.push(DpAction::Clone(inner));
        }
    }

    fn ask_for_neighbour(
        &mut self,
        bridge: &std::sync::Arc<XBridge>,
        eth_src: MacAddr,
        src: IpAddr,
        target: IpAddr,
    ) {
        let kind = if target.is_ipv4() { "ARP" } else { "ND" };
        let ask = neigh::ask(bridge.neighbours, target);
        let doing = if ask { "sending" } else { "waiting on" };
        let text = format!(
            "neighbor cache miss for {target} on bridge {}, {doing} {kind} request",
            bridge.name
        );
        self.report(&text);
        // Every translation asks, so that the flow which drops packets meanwhile asks again when it is looked at.
        if ask {
            let packet = compose(&question(eth_src, src, target), Payload::Default);
            if let Some(packet) = packet {
                self.requests.push(Request {
                    bridge: bridge.id,
                    in_port: OfPort::LOCAL,
                    packet,
                });
            }
        }
        self.put_drop(DropReason::TunnelNeighCacheMiss);
    }

    /// The tunnel port that a packet about to leave through `port` is for. A packet that tells of a neighbour is
    /// remembered.
    pub fn terminates_tunnel(&mut self, port: &XPort) -> Option<DpPort> {
        // Only a device with an address takes packets for the host.
        if !ports::is_local_device(&port.name) {
            return None;
        }
        let found = ports::lookup(&self.flow, &mut self.wc);
        if found.is_none() {
            neigh::snoop(
                &self.flow,
                &mut self.wc,
                self.bridge.neighbours,
                self.side_effects,
            );
        }
        if found.is_some() && self.side_effects {
            // Whose packets come through a tunnel is a neighbour, or behind the one that the frame names.
            let f = &self.flow;
            let src = match f.dl_type.get() {
                eth_type::IP => IpAddr::from(f.nw_src.get().to_be_bytes()),
                _ => IpAddr::from(f.ipv6_src),
            };
            if neigh::confirm(self.bridge.neighbours, src) != Some(f.dl_src) {
                neigh::set(self.bridge.neighbours, src, f.dl_src, Some(f.in_port));
            }
        }
        found
    }
}

/// The ARP request or neighbour solicitation that asks for `target`.
fn question(eth_src: MacAddr, src: IpAddr, target: IpAddr) -> Flow {
    let mut flow = Flow {
        dl_src: eth_src,
        arp_sha: eth_src,
        ..Flow::default()
    };
    match (src, target) {
        (IpAddr::V6(src), IpAddr::V6(target)) => {
            // The solicited-node multicast address (RFC 4291, 2.7.1) and its Ethernet address (RFC 2464, 7).
            let t = target.octets();
            let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
            group[13..].copy_from_slice(&t[13..]);
            flow.dl_type = eth_type::IPV6.into();
            flow.dl_dst = MacAddr([0x33, 0x33, group[12], group[13], group[14], group[15]]);
            flow.ipv6_src = src.octets();
            flow.ipv6_dst = group;
            flow.nw_proto = ip_proto::ICMPV6;
            flow.nw_ttl = 255;
            flow.tp_src = 135.into();
            flow.nd_target = t;
        }
        (src, target) => {
            let v4 = |ip| match ip {
                IpAddr::V4(ip) => u32::from(ip),
                IpAddr::V6(_) => 0,
            };
            flow.dl_type = eth_type::ARP.into();
            flow.dl_dst = MacAddr::BROADCAST;
            flow.nw_proto = 1;
            flow.nw_src = v4(src).into();
            flow.nw_dst = v4(target).into();
        }
    }
    flow
}

/// The key of the packet with its outer header.
fn outer_flow(inner: &Flow, tnl: &FlowTnl, link: &header::Link, tunnel: &XTunnel) -> Flow {
    let transport = tunnel.ty.transport;
    let mut flow = Flow {
        in_port: u32::from(OfPort::LOCAL.0),
        pkt_mark: inner.pkt_mark,
        skb_priority: inner.skb_priority,
        dl_src: link.eth_src,
        dl_dst: link.eth_dst,
        nw_proto: match transport.listens {
            // What is in the packet decides.
            [over_ip, ..] if inner.dl_type.get() == eth_type::IP => *over_ip,
            [.., other] => *other,
            [] => transport.protocol,
        },
        nw_tos: tnl.ip_tos,
        nw_ttl: tnl.ip_ttl,
        tp_dst: transport.listens_on(&tunnel.config).into(),
        actset_output: u32::from(OfPort::UNSET.0),
        ..Flow::default()
    };
    match link.src {
        IpAddr::V4(src) => {
            flow.dl_type = eth_type::IP.into();
            flow.nw_src = u32::from(src).into();
            flow.nw_dst = tnl.ip_dst;
        }
        IpAddr::V6(src) => {
            flow.dl_type = eth_type::IPV6.into();
            flow.ipv6_src = src.octets();
            flow.ipv6_dst = tnl.ipv6_dst;
        }
    }
    flow
}
