//! From a packet to its flow key.
//!
//! The parser walks the headers once and pushes words of the packed key in the order of [`Flow`]'s members, so
//! that no full key is built. It never fails: what is valid is in the key, what is not is zero, and [`Parsed`]
//! names the first thing that was wrong. On the way it sets the packet's layer offsets.
//!
//! A transport header is read only from unfragmented packets and first fragments. An IP header whose lengths
//! contradict each other or the frame counts for nothing but its EtherType.

use std::mem::offset_of;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::buffer::{CtOrigTuple, Metadata, NO_OFFSET, Packet};
use crate::flow::{
    FLOW_MAX_MPLS_LABELS, FLOW_MAX_VLAN_HEADERS, Flow, FlowTnl, NW_FRAG_ANY, NW_FRAG_LATER, PT_ETH,
    VLAN_CFI,
};
use crate::miniflow::MiniflowBuf;
use crate::types::{eth_type, ip_proto};

mod brief;
mod fast;

pub use brief::Brief;

/// What the parser found, beyond the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parsed {
    /// Everything that the key has room for.
    Complete,
    /// Fewer than 14 bytes.
    TruncatedEthernet,
    /// The IP, ARP or NSH header is cut short.
    TruncatedNetwork,
    /// The IP header's lengths contradict each other or the frame.
    BadIpLength,
    /// An IPv6 extension header is malformed.
    BadIpv6Extension,
    /// The transport header is cut short.
    TruncatedTransport,
    /// Neighbour discovery options are malformed.
    BadNdOptions,
}

impl Parsed {
    /// Name for counters.
    pub fn name(self) -> &'static str {
        match self {
            Parsed::Complete => "complete",
            Parsed::TruncatedEthernet => "truncated_ethernet",
            Parsed::TruncatedNetwork => "truncated_network",
            Parsed::BadIpLength => "bad_ip_length",
            Parsed::BadIpv6Extension => "bad_ipv6_extension",
            Parsed::TruncatedTransport => "truncated_transport",
            Parsed::BadNdOptions => "bad_nd_options",
        }
    }
}

/// VLAN headers that the parser reads, `other_config:vlan-limit`.
static VLAN_LIMIT: AtomicUsize = AtomicUsize::new(1);

/// Sets how many VLAN headers keys hold: 0 means as many as they can.
pub fn set_vlan_limit(limit: usize) {
    let limit = match limit {
        0 => FLOW_MAX_VLAN_HEADERS,
        n => n.min(FLOW_MAX_VLAN_HEADERS),
    };
    VLAN_LIMIT.store(limit, Relaxed);
}

pub fn vlan_limit() -> usize {
    VLAN_LIMIT.load(Relaxed)
}

const fn word(ofs: usize) -> usize {
    assert!(ofs.is_multiple_of(8));
    ofs / 8
}

const W_MARK: usize = word(offset_of!(Flow, skb_priority));
const W_PORT: usize = word(offset_of!(Flow, dp_hash));
const W_RECIRC: usize = word(offset_of!(Flow, recirc_id));
const W_CT_MARK: usize = word(offset_of!(Flow, ct_mark));
const W_CT_LABEL: usize = word(offset_of!(Flow, ct_label));
const W_ETH: usize = word(offset_of!(Flow, dl_dst));
const W_VLAN: usize = word(offset_of!(Flow, vlans));
const W_MPLS: usize = word(offset_of!(Flow, mpls_lse));
const W_IPV4: usize = word(offset_of!(Flow, nw_src));
const W_CT_IPV4: usize = word(offset_of!(Flow, ct_nw_src));
const W_IPV6: usize = word(offset_of!(Flow, ipv6_src));
const W_CT_IPV6: usize = word(offset_of!(Flow, ct_ipv6_src));
const W_NW: usize = word(offset_of!(Flow, ipv6_label));
const W_NSH: usize = word(offset_of!(Flow, nsh));
const W_ND: usize = word(offset_of!(Flow, nd_target));
const W_ARP: usize = word(offset_of!(Flow, arp_sha));
const W_TP: usize = word(offset_of!(Flow, tp_src));
const W_IGMP: usize = word(offset_of!(Flow, igmp_group_ip4));

// The words are put together by hand below; these are the layouts that it relies on.
const _: () = {
    assert!(offset_of!(Flow, tunnel) == 0);
    assert!(offset_of!(Flow, pkt_mark) == W_MARK * 8 + 4);
    assert!(offset_of!(Flow, in_port) == W_PORT * 8 + 4);
    assert!(offset_of!(Flow, ct_state) == W_RECIRC * 8 + 4);
    assert!(offset_of!(Flow, ct_nw_proto) == W_RECIRC * 8 + 5);
    assert!(offset_of!(Flow, ct_zone) == W_RECIRC * 8 + 6);
    assert!(offset_of!(Flow, packet_type) == W_CT_MARK * 8 + 4);
    assert!(offset_of!(Flow, dl_src) == W_ETH * 8 + 6);
    assert!(offset_of!(Flow, dl_type) == W_ETH * 8 + 12);
    assert!(offset_of!(Flow, nw_dst) == W_IPV4 * 8 + 4);
    assert!(offset_of!(Flow, ipv6_dst) == W_IPV6 * 8 + 16);
    assert!(offset_of!(Flow, nw_frag) == W_NW * 8 + 4);
    assert!(offset_of!(Flow, nw_tos) == W_NW * 8 + 5);
    assert!(offset_of!(Flow, nw_ttl) == W_NW * 8 + 6);
    assert!(offset_of!(Flow, nw_proto) == W_NW * 8 + 7);
    assert!(offset_of!(Flow, arp_tha) == W_ARP * 8 + 6);
    assert!(offset_of!(Flow, tcp_flags) == W_ARP * 8 + 12);
    assert!(offset_of!(Flow, tp_dst) == W_TP * 8 + 2);
    assert!(offset_of!(Flow, ct_tp_src) == W_TP * 8 + 4);
};

#[inline]
fn u16_at(data: &[u8], ofs: usize) -> u16 {
    u16::from_be_bytes([data[ofs], data[ofs + 1]])
}

/// Eight bytes as a word of the key.
#[inline]
fn word_at(data: &[u8], ofs: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&data[ofs..ofs + 8]);
    u64::from_ne_bytes(bytes)
}

#[inline]
fn word_of(low: [u8; 4], high: [u8; 4]) -> u64 {
    let [a, b, c, d] = low;
    let [e, f, g, h] = high;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Two halves of a word, the first in memory first.
#[inline]
fn word_from(low: u32, high: u32) -> u64 {
    let (low, high) = match cfg!(target_endian = "little") {
        true => (low, high),
        false => (high, low),
    };
    u64::from(low) | u64::from(high) << 32
}

/// Offsets of layers as the walk finds them.
#[derive(Clone, Copy)]
struct Layers {
    l2_5: u16,
    l3: u16,
    l4: u16,
    l2_pad: u16,
}

impl Layers {
    #[inline]
    fn say(&self, packet: &mut Packet) {
        packet.l2_5 = self.l2_5;
        packet.l3 = self.l3;
        packet.l4 = self.l4;
        packet.l2_pad = self.l2_pad;
    }
}

fn offset(ofs: usize) -> u16 {
    u16::try_from(ofs).unwrap_or(NO_OFFSET)
}

impl MiniflowBuf {
    /// Fills the buffer with the key of `packet` and sets the packet's layer offsets.
    #[inline]
    pub fn extract(&mut self, packet: &mut Packet) -> Parsed {
        if fast::is_plain(&packet.md) {
            let layers = match packet.md.tunnel.is_set() {
                false => fast::fill(self, packet.md.in_port, packet.md.dp_hash, packet.data()),
                true => fast::fill_inner(self, &packet.md, packet.data()),
            };
            if let Some(layers) = layers {
                layers.say(packet);
                return Parsed::Complete;
            }
        }
        self.extract_any(packet)
    }

    /// The same for packets that are not ordinary frames of which nothing else is known.
    #[inline(never)]
    fn extract_any(&mut self, packet: &mut Packet) -> Parsed {
        self.clear();
        let md = &packet.md;
        self.push_metadata(md);
        let ct = ct_orig(md);
        if !fast::is_bare(md)
            && md.packet_type == PT_ETH
            && ct.is_none_or(|ct| !ct.ipv6)
            && let Some(layers) = fast::push(self, packet.data(), ct)
        {
            layers.say(packet);
            return Parsed::Complete;
        }
        let mut layers = Layers {
            l2_5: NO_OFFSET,
            l3: NO_OFFSET,
            l4: NO_OFFSET,
            l2_pad: 0,
        };
        let parsed = self.push_headers(packet.data(), md, &mut layers);
        layers.say(packet);
        parsed
    }

    #[inline]
    fn push_metadata(&mut self, md: &Metadata) {
        if fast::is_bare(md) {
            let port = word_from(md.dp_hash, md.in_port.0);
            self.push(W_PORT, port);
            return;
        }
        if let Some(tunnel) = md.tunnel.get().filter(|t| t.dst_is_set()) {
            self.push_tunnel(tunnel);
        }
        if md.skb_priority != 0 || md.pkt_mark != 0 {
            self.push(W_MARK, word_from(md.skb_priority, md.pkt_mark));
        }
        self.push(W_PORT, word_from(md.dp_hash, md.in_port.0));
        if md.recirc_id != 0 || md.ct_state != 0 {
            let [zone0, zone1] = md.ct_zone.to_ne_bytes();
            let ct = [
                md.ct_state,
                ct_orig(md).map_or(0, |o| o.proto),
                zone0,
                zone1,
            ];
            self.push(W_RECIRC, word_of(md.recirc_id.to_ne_bytes(), ct));
        }
        let ct_mark = if md.ct_state != 0 { md.ct_mark } else { 0 };
        if ct_mark != 0 || md.packet_type != PT_ETH {
            self.push(
                W_CT_MARK,
                word_of(ct_mark.to_ne_bytes(), md.packet_type.to_be_bytes()),
            );
        }
        if md.ct_state != 0 && md.ct_label != [0; 16] {
            self.push(W_CT_LABEL, word_at(&md.ct_label, 0));
            self.push(W_CT_LABEL + 1, word_at(&md.ct_label, 8));
        }
    }

    fn push_tunnel(&mut self, tunnel: &FlowTnl) {
        if tunnel.has_options() {
            let words: &[u64; size_of::<FlowTnl>() / 8] = zerocopy::transmute_ref!(tunnel);
            self.push_some(words);
        } else {
            self.push_some(tunnel.fixed());
        }
    }

    /// Pushes those of the first words of the key that are not zero.
    fn push_some(&mut self, words: &[u64]) {
        for (i, &w) in words.iter().enumerate().filter(|(_, w)| **w != 0) {
            self.push(i, w);
        }
    }

    #[inline]
    fn push_headers(&mut self, data: &[u8], md: &Metadata, layers: &mut Layers) -> Parsed {
        let (dl_type, mut ofs) = if md.packet_type == PT_ETH {
            if data.len() < 14 {
                return Parsed::TruncatedEthernet;
            }
            let mut ofs = 12;
            let mut vlans = [0; 8];
            if is_vlan(u16_at(data, 12)) {
                for i in 0..vlan_limit() {
                    // The tag must leave room for the EtherType after it.
                    if data.len() < ofs + 6 || !is_vlan(u16_at(data, ofs)) {
                        break;
                    }
                    vlans[i * 4..i * 4 + 4].copy_from_slice(&data[ofs..ofs + 4]);
                    vlans[i * 4 + 2] |= (VLAN_CFI >> 8) as u8;
                    ofs += 4;
                }
            }
            let (dl_type, after) = ether_type(data, ofs);
            let mut tail = [0; 8];
            tail[..4].copy_from_slice(&data[8..12]);
            tail[4..6].copy_from_slice(&dl_type.to_be_bytes());
            self.push(W_ETH, word_at(data, 0));
            self.push(W_ETH + 1, u64::from_ne_bytes(tail));
            if ofs != 12 {
                self.push(W_VLAN, u64::from_ne_bytes(vlans));
            }
            (dl_type, after)
        } else {
            let dl_type = md.packet_type as u16;
            let [high, low] = dl_type.to_be_bytes();
            self.push(W_ETH + 1, word_of([0; 4], [high, low, 0, 0]));
            (dl_type, 0)
        };

        if dl_type == eth_type::MPLS || dl_type == eth_type::MPLS_MCAST {
            layers.l2_5 = offset(ofs);
            ofs = self.push_mpls(data, ofs);
        }
        layers.l3 = offset(ofs);
        let l3 = &data[ofs.min(data.len())..];
        match dl_type {
            eth_type::IP => self.push_ipv4(l3, ofs, md, layers),
            eth_type::IPV6 => self.push_ipv6(l3, ofs, md, layers),
            eth_type::ARP | eth_type::RARP => self.push_arp(l3),
            eth_type::NSH => self.push_nsh(l3),
            _ => Parsed::Complete,
        }
    }

    /// Pushes the labels that the key has room for; returns where the stack ends.
    fn push_mpls(&mut self, data: &[u8], mut ofs: usize) -> usize {
        let mut labels = [0; 16];
        let mut n = 0;
        while let Some(lse) = data.get(ofs..ofs + 4) {
            if n < FLOW_MAX_MPLS_LABELS {
                labels[n * 4..n * 4 + 4].copy_from_slice(lse);
                n += 1;
            }
            ofs += 4;
            if lse[2] & 1 != 0 {
                break;
            }
        }
        if n > 0 {
            self.push(W_MPLS, word_at(&labels, 0));
            if n > 2 {
                self.push(W_MPLS + 1, word_at(&labels, 8));
            }
        }
        ofs
    }

    #[inline]
    fn push_ipv4(&mut self, ip: &[u8], l3: usize, md: &Metadata, layers: &mut Layers) -> Parsed {
        if ip.len() < 20 {
            return Parsed::TruncatedNetwork;
        }
        let header = usize::from(ip[0] & 15) * 4;
        let total = usize::from(u16_at(ip, 2));
        if header < 20 || header > total || total > ip.len() {
            return Parsed::BadIpLength;
        }
        layers.l2_pad = offset(ip.len() - total);
        layers.l4 = offset(l3 + header);
        let frag_off = u16_at(ip, 6);
        let mut nw_frag = 0;
        if frag_off & 0x3fff != 0 {
            nw_frag = NW_FRAG_ANY;
            if frag_off & 0x1fff != 0 {
                nw_frag |= NW_FRAG_LATER;
            }
        }
        let ct = ct_orig(md);
        self.push(W_IPV4, word_at(ip, 12));
        self.push_ct_addresses(ct);
        let proto = ip[9];
        self.push(W_NW, word_of([0; 4], [nw_frag, ip[1], ip[8], proto]));
        if nw_frag & NW_FRAG_LATER != 0 {
            self.push_ports([0; 4], ct);
            return Parsed::Complete;
        }
        self.push_transport(&ip[header..total], proto, false, ct)
    }

    #[inline]
    fn push_ipv6(&mut self, ip: &[u8], l3: usize, md: &Metadata, layers: &mut Layers) -> Parsed {
        if ip.len() < 40 {
            return Parsed::TruncatedNetwork;
        }
        let end = 40 + usize::from(u16_at(ip, 4));
        if end > ip.len() {
            return Parsed::BadIpLength;
        }
        layers.l2_pad = offset(ip.len() - end);
        let ct = ct_orig(md);
        for i in 0..4 {
            self.push(W_IPV6 + i, word_at(ip, 8 + i * 8));
        }
        self.push_ct_addresses(ct);
        let Some((proto, l4, nw_frag)) = skip_ipv6_extensions(&ip[..end]) else {
            return Parsed::BadIpv6Extension;
        };
        layers.l4 = offset(l3 + l4);
        let label = [0, ip[1] & 0x0f, ip[2], ip[3]];
        let tos = ip[0] << 4 | ip[1] >> 4;
        self.push(W_NW, word_of(label, [nw_frag, tos, ip[7], proto]));
        if nw_frag & NW_FRAG_LATER != 0 {
            self.push_ports([0; 4], ct);
            return Parsed::Complete;
        }
        self.push_transport(&ip[l4..end], proto, true, ct)
    }

    fn push_ct_addresses(&mut self, ct: Option<&CtOrigTuple>) {
        let Some(ct) = ct else { return };
        if !ct.ipv6 {
            let first = |a: &[u8; 16]| [a[0], a[1], a[2], a[3]];
            self.push(W_CT_IPV4, word_of(first(&ct.src), first(&ct.dst)));
            return;
        }
        self.push(W_CT_IPV6, word_at(&ct.src, 0));
        self.push(W_CT_IPV6 + 1, word_at(&ct.src, 8));
        self.push(W_CT_IPV6 + 2, word_at(&ct.dst, 0));
        self.push(W_CT_IPV6 + 3, word_at(&ct.dst, 8));
    }

    /// Ports as in the packet, with those of the connection beside them.
    #[inline]
    fn push_ports(&mut self, ports: [u8; 4], ct: Option<&CtOrigTuple>) {
        let ct_ports = ct.map_or([0; 4], |ct| {
            let ([a, b], [c, d]) = (ct.tp_src.to_be_bytes(), ct.tp_dst.to_be_bytes());
            [a, b, c, d]
        });
        if ports != [0; 4] || ct_ports != [0; 4] {
            self.push(W_TP, word_of(ports, ct_ports));
        }
    }

    #[inline]
    fn push_transport(
        &mut self,
        l4: &[u8],
        proto: u8,
        ipv6: bool,
        ct: Option<&CtOrigTuple>,
    ) -> Parsed {
        // ICMP, IGMP and ICMPv6 are read in either version of IP, as Open vSwitch reads them.
        let Some(need) = need_of_transport(proto, l4) else {
            self.push_ports([0; 4], ct);
            return Parsed::Complete;
        };
        if l4.len() < need {
            self.push_ports([0; 4], ct);
            return Parsed::TruncatedTransport;
        }
        match proto {
            ip_proto::TCP => {
                self.push(W_ARP + 1, word_of([0; 4], [l4[12] & 0x0f, l4[13], 0, 0]));
                self.push_ports([l4[0], l4[1], l4[2], l4[3]], ct);
            }
            ip_proto::UDP | ip_proto::SCTP => {
                self.push_ports([l4[0], l4[1], l4[2], l4[3]], ct);
            }
            ip_proto::ICMPV6 if ipv6 => return self.push_icmpv6(l4, ct),
            ip_proto::IGMP => {
                self.push_ports([0, l4[0], 0, l4[1]], ct);
                self.push(W_IGMP, word_of([l4[4], l4[5], l4[6], l4[7]], [0; 4]));
            }
            _ => self.push_ports([0, l4[0], 0, l4[1]], ct),
        }
        Parsed::Complete
    }

    fn push_icmpv6(&mut self, l4: &[u8], ct: Option<&CtOrigTuple>) -> Parsed {
        let (ty, code) = (l4[0], l4[1]);
        let mut parsed = Parsed::Complete;
        let mut reserved = [0; 4];
        if matches!(ty, 135 | 136) && code == 0 {
            reserved = [l4[4], l4[5], l4[6], l4[7]];
            if l4.len() >= 24 {
                let options = nd_options(&l4[24..]);
                if options.whole.is_err() {
                    parsed = Parsed::BadNdOptions;
                }
                if options.whole != Err(NdFault::Twice) {
                    self.push(W_ND, word_at(l4, 8));
                    self.push(W_ND + 1, word_at(l4, 16));
                    let mut words = [0; 16];
                    words[..12].copy_from_slice(&options.addresses);
                    words[13] = options.last;
                    self.push(W_ARP, word_at(&words, 0));
                    self.push(W_ARP + 1, word_at(&words, 8));
                }
            } else {
                parsed = Parsed::TruncatedTransport;
            }
        }
        self.push_ports([0, ty, 0, code], ct);
        if reserved != [0; 4] {
            self.push(W_IGMP, word_of(reserved, [0; 4]));
        }
        parsed
    }

    fn push_arp(&mut self, arp: &[u8]) -> Parsed {
        if arp.len() < 28 {
            return Parsed::TruncatedNetwork;
        }
        // Only Ethernet addresses for IPv4 addresses are understood.
        if arp[..6] != [0, 1, 8, 0, 6, 4] {
            return Parsed::Complete;
        }
        let at = |ofs: usize| [arp[ofs], arp[ofs + 1], arp[ofs + 2], arp[ofs + 3]];
        self.push(W_IPV4, word_of(at(14), at(24)));
        // The key has 8 bits for the operation.
        let op = if arp[6] == 0 { arp[7] } else { 0 };
        self.push(W_NW, word_of([0; 4], [0, 0, 0, op]));
        let mut addresses = [0; 16];
        addresses[..6].copy_from_slice(&arp[8..14]);
        addresses[6..12].copy_from_slice(&arp[18..24]);
        self.push(W_ARP, word_at(&addresses, 0));
        self.push(W_ARP + 1, word_at(&addresses, 8));
        Parsed::Complete
    }

    fn push_nsh(&mut self, nsh: &[u8]) -> Parsed {
        if nsh.len() < 8 {
            return Parsed::TruncatedNetwork;
        }
        let ver_flags_ttl_len = u16_at(nsh, 0);
        let version = ver_flags_ttl_len >> 14;
        let length = usize::from(ver_flags_ttl_len & 0x3f) * 4;
        if version != 0 || length < 8 || length > nsh.len() {
            return Parsed::TruncatedNetwork;
        }
        let flags = (ver_flags_ttl_len >> 12 & 0x3) as u8;
        let ttl = (ver_flags_ttl_len >> 6 & 0x3f) as u8;
        // All eight bits: the upper four are unassigned, and a header that uses them is of no known type.
        let mdtype = nsh[2];
        let path = [nsh[4], nsh[5], nsh[6], nsh[7]];
        if mdtype == 1 && length != 24 {
            return Parsed::TruncatedNetwork;
        }
        self.push(W_NSH, word_of([flags, ttl, mdtype, nsh[3]], path));
        if mdtype == 1 {
            self.push(W_NSH + 1, word_at(nsh, 8));
            self.push(W_NSH + 2, word_at(nsh, 16));
        }
        Parsed::Complete
    }
}

impl Flow {
    /// The full key of `packet`, whose layer offsets it sets.
    pub fn from_packet(packet: &mut Packet) -> Flow {
        let mut buf = MiniflowBuf::new();
        buf.extract(packet);
        buf.expand()
    }
}

fn is_vlan(ty: u16) -> bool {
    ty == eth_type::VLAN_8021Q || ty == eth_type::VLAN_8021AD
}

/// The connection that the packet belongs to, if there is one.
#[inline]
fn ct_orig(md: &Metadata) -> Option<&CtOrigTuple> {
    (md.ct_state != 0 && md.ct_orig.proto != 0).then_some(&md.ct_orig)
}

/// The EtherType at `ofs`, looking into a SNAP header, and where the next header starts.
#[inline]
fn ether_type(data: &[u8], ofs: usize) -> (u16, usize) {
    let ty = u16_at(data, ofs);
    let after = ofs + 2;
    if ty >= eth_type::MIN {
        return (ty, after);
    }
    match data.get(after..after + 8) {
        Some([0xaa, 0xaa, 0x03, 0, 0, 0, high, low]) => {
            let ty = u16::from_be_bytes([*high, *low]);
            let known = ty >= eth_type::MIN;
            (if known { ty } else { eth_type::NOT_ETH }, after + 8)
        }
        _ => (eth_type::NOT_ETH, after),
    }
}

/// Walks the extension headers of a whole IPv6 packet: the upper protocol, the offset of its header, and what
/// kind of fragment it is. None if a header does not fit.
pub fn skip_ipv6_extensions(ip: &[u8]) -> Option<(u8, usize, u8)> {
    let (mut proto, mut ofs) = (ip[6], 40);
    let mut nw_frag = 0;
    loop {
        let len = match proto {
            0 | ip_proto::ROUTING | 60 => usize::from(*ip.get(ofs + 1)?) * 8 + 8,
            ip_proto::AH => usize::from(*ip.get(ofs + 1)?) * 4 + 8,
            ip_proto::FRAGMENT => {
                let header = ip.get(ofs..ofs + 8)?;
                let frag_off = u16_at(header, 2);
                // A packet that is a whole in one fragment is not fragmented.
                if frag_off != 0 {
                    nw_frag = NW_FRAG_ANY;
                    if frag_off & 0xfff8 != 0 {
                        // What follows is no header of the protocol that the fragment names.
                        nw_frag |= NW_FRAG_LATER;
                        return Some((ip_proto::FRAGMENT, ofs + 8, nw_frag));
                    }
                }
                8
            }
            _ => return Some((proto, ofs, nw_frag)),
        };
        proto = *ip.get(ofs)?;
        ofs += len;
        if ofs > ip.len() {
            return None;
        }
    }
}

/// Bytes of a transport header that must be there; None for protocols that are not looked into.
#[inline]
fn need_of_transport(proto: u8, l4: &[u8]) -> Option<usize> {
    match proto {
        ip_proto::TCP => Some(tcp_header(l4)),
        ip_proto::UDP | ip_proto::ICMP | ip_proto::IGMP | ip_proto::ICMPV6 => Some(8),
        ip_proto::SCTP => Some(12),
        _ => None,
    }
}

/// Bytes of a TCP header that must be there: more than any packet has if its data offset is impossible.
#[inline]
fn tcp_header(tcp: &[u8]) -> usize {
    match tcp.get(12).map(|b| usize::from(b >> 4) * 4) {
        Some(len) if len >= 20 => len,
        _ => usize::MAX,
    }
}

/// What is wrong with the options of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NdFault {
    /// A length of zero, or beyond the packet: what came before counts.
    Length,
    /// An address that was there already: nothing counts.
    Twice,
}

struct NdOptions {
    /// Source and target link-layer addresses.
    addresses: [u8; 12],
    /// Type of the last option that carried one.
    last: u8,
    whole: Result<(), NdFault>,
}

fn nd_options(mut options: &[u8]) -> NdOptions {
    let mut out = NdOptions {
        addresses: [0; 12],
        last: 0,
        whole: Ok(()),
    };
    while options.len() >= 8 {
        let len = usize::from(options[1]) * 8;
        if len == 0 || len > options.len() {
            out.whole = Err(NdFault::Length);
            break;
        }
        if len == 8 && matches!(options[0], 1 | 2) {
            out.last = options[0];
            let at = if out.last == 1 { 0..6 } else { 6..12 };
            let address = &mut out.addresses[at];
            if *address != [0; 6] {
                out.whole = Err(NdFault::Twice);
                break;
            }
            address.copy_from_slice(&options[2..8]);
        }
        options = &options[len..];
    }
    out
}

#[cfg(test)]
mod tests;
