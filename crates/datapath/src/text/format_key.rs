//! Prints flow keys and masks.

use std::fmt::Write;
use std::time::Instant;

use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, Flow, FlowWildcards, Match, NW_FRAG_LATER, VLAN_CFI, VLAN_PCP_SHIFT,
    VLAN_VID_MASK,
};
use ferrovs_packet::types::{DpPort, eth_type, ip_proto};

use super::members as text;
use super::{
    CT_STATES, FieldWriter, PortNames, TCP_FLAGS, format_actions, format_flags,
    format_flags_masked, format_flow_stats, format_port, hex,
};
use crate::action::{ArpKey, EthernetKey, IcmpKey, Ipv4Key, Ipv6Key, NdKey, NshKey, PortsKey};
use crate::dpif::FlowEntry;

/// One line of `dpctl/dump-flows`, without a newline.
pub fn format_flow(
    entry: &FlowEntry,
    names: Option<&PortNames>,
    verbose: bool,
    now: Instant,
) -> String {
    let mut out = String::with_capacity(512);
    if verbose {
        _ = write!(out, "ufid:{}, ", entry.ufid);
    }
    format_match(
        &mut out,
        &entry.match_.flow,
        Some(&entry.match_.wc),
        names,
        verbose,
    );
    out.push_str(", ");
    format_flow_stats(&mut out, &entry.stats, now);
    if entry.attrs.offloaded {
        out.push_str(", offloaded:yes");
    }
    if verbose {
        _ = write!(out, ", dp:{}", entry.attrs.dp_layer);
    }
    out.push_str(", actions:");
    format_actions(&mut out, &entry.actions, names);
    if verbose && let Some(info) = &entry.attrs.dp_extra_info {
        _ = write!(out, ", dp-extra-info:{info}");
    }
    out
}

/// How many words of a mask are in use, below and above the 64th: what the userspace datapath tells about the
/// lookup table that a flow is in. Each port has tables of its own, so that the port is in none of them, and Open
/// vSwitch keeps the addresses of a tunnel in two words.
pub fn miniflow_bits(m: &Match) -> (usize, usize) {
    const PORT: usize = std::mem::offset_of!(Flow, in_port) / 8;
    let masks = &m.wc.masks;
    let words = masks.words();
    let used = |range: std::ops::Range<usize>| {
        let counts = |i: usize| words[i] != 0 && (i != PORT || masks.dp_hash != 0);
        range.filter(|&i| counts(i)).count()
    };
    let both = masks.tunnel.ip_src.get() != 0 && masks.tunnel.ip_dst.get() != 0;
    (used(0..64) + usize::from(both), used(64..words.len()))
}

fn is_vlan(ty: u16) -> bool {
    matches!(ty, eth_type::VLAN_8021Q | eth_type::VLAN_8021AD)
}

struct Printer<'a, 'b> {
    out: &'a mut String,
    k: &'b Flow,
    m: &'b Flow,
    verbose: bool,
    /// Whether the key has no masks at all.
    exact: bool,
}

/// Prints a key; without `wc` it is exact in every member that it has.
pub fn format_match(
    out: &mut String,
    flow: &Flow,
    wc: Option<&FlowWildcards>,
    names: Option<&PortNames>,
    verbose: bool,
) {
    let exact;
    let masks = match wc {
        Some(wc) => &wc.masks,
        None => {
            let mut all = Flow::default();
            all.words_mut().fill(u64::MAX);
            exact = all;
            &exact
        }
    };
    let mut p = Printer {
        out,
        k: flow,
        m: masks,
        verbose,
        exact: wc.is_none(),
    };
    p.metadata(names);
    p.link();
}

impl Printer<'_, '_> {
    fn comma(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b' ' | b'(' | b'\n')) {
            self.out.push(',');
        }
    }

    /// `name(value/mask)` for a number.
    fn number(&mut self, name: &str, value: u64, mask: u64, full: u64) {
        if mask == 0 && !self.verbose {
            return;
        }
        self.comma();
        self.out.push_str(name);
        self.out.push('(');
        text::write_masked(self.out, value, mask, full);
        self.out.push(')');
    }

    /// `name(members)`, unless all are wild.
    fn members(&mut self, name: &str, wild: bool, write: impl FnOnce(&mut FieldWriter<'_>)) {
        if wild && !self.verbose {
            return;
        }
        self.comma();
        self.out.push_str(name);
        self.out.push('(');
        write(&mut FieldWriter::new(self.out, self.verbose));
        self.out.push(')');
    }

    /// What is known of the packet beyond its headers.
    fn metadata(&mut self, names: Option<&PortNames>) {
        let (k, m) = (self.k, self.m);
        let full = u64::from(u32::MAX);
        self.number("recirc_id", k.recirc_id.into(), m.recirc_id.into(), full);
        self.number("dp_hash", k.dp_hash.into(), m.dp_hash.into(), full);
        self.number(
            "skb_priority",
            k.skb_priority.into(),
            m.skb_priority.into(),
            full,
        );
        let tunnel_words = size_of_val(&m.tunnel) / 8;
        let tunnel_wild = m.words()[..tunnel_words].iter().all(|&w| w == 0);
        if k.tunnel.dst_is_set() && (!tunnel_wild || self.verbose) {
            self.comma();
            self.out.push_str("tunnel(");
            text::write_tunnel(self.out, &k.tunnel, Some(&m.tunnel), self.verbose);
            self.out.push(')');
        }
        if k.in_port != DpPort::NONE.0 && (m.in_port != 0 || self.verbose) {
            self.comma();
            self.out.push_str("in_port(");
            format_port(self.out, DpPort(k.in_port), names);
            if m.in_port != u32::MAX {
                self.out.push('/');
                hex(self.out, m.in_port.into());
            }
            self.out.push(')');
        }
        self.number("skb_mark", k.pkt_mark.into(), m.pkt_mark.into(), full);
        self.connection();
        let (pt, pt_mask) = (k.packet_type.get(), m.packet_type.get());
        if pt_mask != 0 || self.verbose {
            self.comma();
            self.out.push_str("packet_type(");
            let mut w = FieldWriter::new(self.out, true);
            w.dec("ns", (pt >> 16).into(), (pt_mask >> 16).into(), 0xffff);
            w.hex(
                "id",
                (pt & 0xffff).into(),
                (pt_mask & 0xffff).into(),
                0xffff,
            );
            self.out.push(')');
        }
    }

    /// What connection tracking knows of the packet.
    fn connection(&mut self) {
        let (k, m) = (self.k, self.m);
        if self.verbose {
            self.comma();
            self.out.push_str("ct_state(");
            hex(self.out, k.ct_state.into());
            if !self.exact {
                self.out.push('/');
                hex(self.out, m.ct_state.into());
            }
            self.out.push(')');
        } else if m.ct_state != 0 {
            self.comma();
            self.out.push_str("ct_state(");
            format_flags_masked(self.out, &CT_STATES, k.ct_state.into(), m.ct_state.into());
            self.out.push(')');
        }
        let full = u64::from(u32::MAX);
        self.number(
            "ct_zone",
            k.ct_zone.into(),
            m.ct_zone.into(),
            u16::MAX.into(),
        );
        self.number("ct_mark", k.ct_mark.into(), m.ct_mark.into(), full);
        if m.ct_label != [0; 16] || self.verbose {
            self.comma();
            self.out.push_str("ct_label(");
            let (value, mask) = (
                u128::from_be_bytes(k.ct_label),
                u128::from_be_bytes(m.ct_label),
            );
            text::write_masked128(self.out, value, mask);
            self.out.push(')');
        }
        if k.ct_nw_proto != 0 {
            self.ct_tuple();
        }
    }

    fn ct_tuple(&mut self) {
        let (k, m) = (self.k, self.m);
        let proto = (u64::from(k.ct_nw_proto), u64::from(m.ct_nw_proto));
        let src = (u64::from(k.ct_tp_src.get()), u64::from(m.ct_tp_src.get()));
        let dst = (u64::from(k.ct_tp_dst.get()), u64::from(m.ct_tp_dst.get()));
        let common_wild = proto.1 | src.1 | dst.1 == 0;
        if k.dl_type.get() == eth_type::IP {
            let wild = common_wild && m.ct_nw_src.get() | m.ct_nw_dst.get() == 0;
            self.members("ct_tuple4", wild, |w| {
                w.ipv4("src", k.ct_nw_src.get(), m.ct_nw_src.get());
                w.ipv4("dst", k.ct_nw_dst.get(), m.ct_nw_dst.get());
                w.dec("proto", proto.0, proto.1, 0xff);
                w.dec("tp_src", src.0, src.1, 0xffff);
                w.dec("tp_dst", dst.0, dst.1, 0xffff);
            });
        } else if k.dl_type.get() == eth_type::IPV6 {
            let wild = common_wild && m.ct_ipv6_src == [0; 16] && m.ct_ipv6_dst == [0; 16];
            self.members("ct_tuple6", wild, |w| {
                w.ipv6("src", k.ct_ipv6_src, m.ct_ipv6_src);
                w.ipv6("dst", k.ct_ipv6_dst, m.ct_ipv6_dst);
                w.dec("proto", proto.0, proto.1, 0xff);
                w.dec("src_port", src.0, src.1, 0xffff);
                w.dec("dst_port", dst.0, dst.1, 0xffff);
            });
        }
    }

    fn link(&mut self) {
        let (k, m) = (self.k, self.m);
        if k.packet_type.get() == 0 {
            let wild = m.dl_src.is_zero() && m.dl_dst.is_zero();
            if !wild || self.verbose {
                let key = EthernetKey {
                    src: k.dl_src,
                    dst: k.dl_dst,
                };
                let mask = EthernetKey {
                    src: m.dl_src,
                    dst: m.dl_dst,
                };
                self.members("eth", wild, |w| text::write_ethernet(w, &key, &mask));
            } else if m.packet_type.get() == 0 {
                self.comma();
                self.out.push_str("eth()");
            }
        }
        let mut encaps = 0;
        for (i, (vlan, mask)) in k.vlans.iter().zip(&m.vlans).enumerate() {
            let tci = vlan.tci.get();
            let mut tpid = vlan.tpid.get();
            // A packet that ends in its VLAN header has one without a tag.
            if i == 0 && tpid == 0 && is_vlan(k.dl_type.get()) && k.packet_type.get() == 0 {
                tpid = k.dl_type.get();
            }
            if tpid == 0 && tci & VLAN_CFI == 0 {
                break;
            }
            self.comma();
            _ = write!(self.out, "eth_type(0x{tpid:04x}),vlan(");
            let mut w = FieldWriter::new(self.out, true);
            let tci_mask = mask.tci.get();
            let vid_mask = tci_mask & VLAN_VID_MASK;
            let vid = tci & VLAN_VID_MASK;
            if vid_mask != 0 || vid != 0 || self.verbose {
                w.dec("vid", vid.into(), 0xfff, 0xfff);
                if vid_mask != 0xfff {
                    _ = write!(w.raw(), "/0x{vid_mask:x}");
                }
            }
            let pcp_mask = tci_mask >> VLAN_PCP_SHIFT;
            let pcp = tci >> VLAN_PCP_SHIFT;
            if pcp_mask != 0 || pcp != 0 || self.verbose {
                w.dec("pcp", pcp.into(), 7, 7);
                if pcp_mask != 7 {
                    _ = write!(w.raw(), "/0x{pcp_mask:x}");
                }
            }
            if tci & VLAN_CFI == 0 {
                w.raw().push_str(",cfi=0");
            }
            self.out.push_str("),encap(");
            encaps += 1;
            if tci & VLAN_CFI == 0 {
                self.out.extend(std::iter::repeat_n(')', encaps));
                return;
            }
        }
        let (ty, ty_mask) = (k.dl_type.get(), m.dl_type.get());
        if ty == eth_type::NOT_ETH || ty == 0 && k.packet_type.get() == 0 {
            if ty_mask != 0 {
                self.comma();
                _ = write!(self.out, "eth_type(0/0x{ty_mask:04x})");
            }
        } else {
            if ty_mask != 0 || self.verbose {
                self.comma();
                _ = write!(self.out, "eth_type(0x{ty:04x}");
                if ty_mask != u16::MAX {
                    _ = write!(self.out, "/0x{ty_mask:04x}");
                }
                self.out.push(')');
            }
            self.network(ty);
        }
        self.out.extend(std::iter::repeat_n(')', encaps));
    }

    fn network(&mut self, ty: u16) {
        let (k, m) = (self.k, self.m);
        match ty {
            eth_type::IP => {
                let key = |f: &Flow| Ipv4Key {
                    src: f.nw_src,
                    dst: f.nw_dst,
                    proto: f.nw_proto,
                    tos: f.nw_tos,
                    ttl: f.nw_ttl,
                    frag: f.nw_frag,
                };
                let (key, mask) = (key(k), key(m));
                self.members("ipv4", mask == Ipv4Key::default(), |w| {
                    text::write_ipv4(w, &key, &mask)
                });
                self.transport();
            }
            eth_type::IPV6 => {
                let key = |f: &Flow| Ipv6Key {
                    src: f.ipv6_src,
                    dst: f.ipv6_dst,
                    label: f.ipv6_label,
                    proto: f.nw_proto,
                    tclass: f.nw_tos,
                    hlimit: f.nw_ttl,
                    frag: f.nw_frag,
                };
                let (key, mask) = (key(k), key(m));
                self.members("ipv6", mask == Ipv6Key::default(), |w| {
                    text::write_ipv6(w, &key, &mask)
                });
                self.transport();
            }
            eth_type::ARP | eth_type::RARP => {
                let key = |f: &Flow| ArpKey {
                    sip: f.nw_src,
                    tip: f.nw_dst,
                    op: u16::from(f.nw_proto).into(),
                    sha: f.arp_sha,
                    tha: f.arp_tha,
                };
                let (key, mask) = (key(k), key(m));
                self.members("arp", mask == ArpKey::default(), |w| {
                    text::write_arp(w, &key, &mask)
                });
            }
            eth_type::MPLS | eth_type::MPLS_MCAST => self.mpls(),
            eth_type::NSH => {
                let key = |f: &Flow| NshKey {
                    flags: f.nsh.flags,
                    ttl: f.nsh.ttl,
                    mdtype: f.nsh.mdtype,
                    np: f.nsh.np,
                    path_hdr: f.nsh.path_hdr,
                    context: f.nsh.context,
                };
                let (key, mask) = (key(k), key(m));
                self.members("nsh", mask == NshKey::default(), |w| {
                    text::write_nsh(w, &key, &mask)
                });
            }
            _ => {}
        }
    }

    fn mpls(&mut self) {
        let (k, m) = (self.k, self.m);
        if !self.verbose && m.mpls_lse.iter().all(|l| l.get() == 0) {
            return;
        }
        self.comma();
        self.out.push_str("mpls(");
        for i in 0..FLOW_MAX_MPLS_LABELS {
            if i > 0 {
                self.out.push(',');
            }
            text::write_mpls(self.out, k.mpls_lse[i].get(), m.mpls_lse[i].get());
            if k.mpls_lse[i].get() & 0x100 != 0 || k.mpls_lse[i + 1].get() == 0 {
                break;
            }
        }
        self.out.push(')');
    }

    fn transport(&mut self) {
        let (k, m) = (self.k, self.m);
        if k.nw_frag & NW_FRAG_LATER != 0 {
            return;
        }
        let v6 = k.dl_type.get() == eth_type::IPV6;
        let ports = |f: &Flow| PortsKey {
            src: f.tp_src,
            dst: f.tp_dst,
        };
        let (key, mask) = (ports(k), ports(m));
        let wild = mask == PortsKey::default();
        match k.nw_proto {
            ip_proto::TCP => {
                self.members("tcp", wild, |w| text::write_ports(w, &key, &mask));
                self.tcp_flags();
            }
            ip_proto::UDP => self.members("udp", wild, |w| text::write_ports(w, &key, &mask)),
            ip_proto::SCTP => self.members("sctp", wild, |w| text::write_ports(w, &key, &mask)),
            ip_proto::ICMP if !v6 => self.icmp("icmp"),
            ip_proto::ICMPV6 if v6 => {
                self.icmp("icmpv6");
                let kind = k.tp_src.get();
                if matches!(kind, 135 | 136) && k.tp_dst.get() == 0 {
                    let nd = |f: &Flow| NdKey {
                        target: f.nd_target,
                        sll: f.arp_sha,
                        tll: f.arp_tha,
                    };
                    let (key, mask) = (nd(k), nd(m));
                    self.members("nd", mask == NdKey::default(), |w| {
                        text::write_nd(w, &key, &mask)
                    });
                }
            }
            _ => {}
        }
    }

    fn icmp(&mut self, name: &str) {
        let icmp = |f: &Flow| IcmpKey {
            icmp_type: f.tp_src.get() as u8,
            code: f.tp_dst.get() as u8,
        };
        let (key, mask) = (icmp(self.k), icmp(self.m));
        self.members(name, mask == IcmpKey::default(), |w| {
            text::write_icmp(w, &key, &mask)
        });
    }

    fn tcp_flags(&mut self) {
        let (flags, mask) = (
            self.k.tcp_flags.get() & 0xfff,
            self.m.tcp_flags.get() & 0xfff,
        );
        // A key without flags has no such attribute, unless the flow matches on that.
        if mask == 0 && (!self.verbose || flags == 0) {
            return;
        }
        self.comma();
        self.out.push_str("tcp_flags(");
        match mask {
            0 => self.out.push_str("0/0"),
            0xfff => format_flags(self.out, &TCP_FLAGS, flags.into(), '|'),
            _ => format_flags_masked(self.out, &TCP_FLAGS, flags.into(), mask.into()),
        }
        self.out.push(')');
    }
}
