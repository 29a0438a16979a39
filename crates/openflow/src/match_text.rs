//! A match as text: `ip,nw_src=10.0.0.0/8`, and a whole flow key as `ofproto/trace` shows it.
//!
//! The order of fields and the short names of protocols are those of `ovs-ofctl dump-flows`; a field that the
//! match does not look at is not written.

use std::fmt::Write;

use ferrovs_packet::field::{
    CT_STATE_FLAGS, FieldId, PortMap, TCP_FLAGS, TUN_METADATA_FIELDS, TunTable,
    format_flags_masked, format_ipv4_masked, format_ipv6_masked, format_port,
};
use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, FLOW_N_REGS, FLOW_TNL_F_CSUM, FLOW_TNL_F_DONT_FRAGMENT, FLOW_TNL_F_KEY,
    FLOW_TNL_F_OAM, Flow, FlowWildcards, IP_DSCP_MASK, IP_ECN_MASK, Match, NW_FRAG_ANY,
    NW_FRAG_LATER, NW_FRAG_MASK, VLAN_CFI, VLAN_PCP_MASK, VLAN_PCP_SHIFT, VLAN_VID_MASK,
};
use ferrovs_packet::types::{Be16, Be32, MacAddr, OfPort, eth_type, ip_proto};

use crate::flow::DEFAULT_PRIORITY;

/// What the numbers of a match mean in one bridge.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub ports: &'a dyn PortMap,
    pub tunnel: &'a TunTable,
}

/// Appends the match, after `priority=N,` if that is not the default. Nothing is written for a catch-all.
pub fn format_match(m: &Match, priority: i32, names: Names<'_>, out: &mut String) {
    let start = out.len();
    if priority != i32::from(DEFAULT_PRIORITY) {
        let _ = write!(out, "priority={priority},");
    }
    let mut w = Writer {
        f: &m.flow,
        m: &m.wc.masks,
        names,
        out,
    };
    w.all();
    if out.len() > start && out.ends_with(',') {
        out.pop();
    }
}

/// The key of a packet, all of it that its protocols define; metadata that is zero is left out.
pub fn format_flow(flow: &Flow, names: Names<'_>) -> String {
    let mut wc = FlowWildcards::for_packet(flow);
    clear_zero_metadata(flow, &mut wc);
    let mut out = String::new();
    format_match(
        &Match::new(flow, &wc),
        i32::from(DEFAULT_PRIORITY),
        names,
        &mut out,
    );
    out
}

fn clear_zero_metadata(flow: &Flow, wc: &mut FlowWildcards) {
    let zero = [
        FieldId::SkbPriority,
        FieldId::PktMark,
        FieldId::RecircId,
        FieldId::DpHash,
        FieldId::CtState,
        FieldId::CtZone,
        FieldId::CtMark,
        FieldId::CtLabel,
        FieldId::CtNwProto,
        FieldId::CtNwSrc,
        FieldId::CtNwDst,
        FieldId::CtIpv6Src,
        FieldId::CtIpv6Dst,
        FieldId::CtTpSrc,
        FieldId::CtTpDst,
        FieldId::Metadata,
        FieldId::ConjId,
        FieldId::TunId,
        FieldId::TunSrc,
        FieldId::TunDst,
        FieldId::TunIpv6Src,
        FieldId::TunIpv6Dst,
        FieldId::TunTos,
        FieldId::TunTtl,
        FieldId::TunGbpId,
        FieldId::TunGbpFlags,
    ];
    let regs = (0..FLOW_N_REGS).filter_map(FieldId::reg);
    for id in zero.into_iter().chain(regs) {
        let field = id.field();
        if field.is_zero(flow) {
            field.set_value(&ferrovs_packet::field::FieldValue::ZERO, &mut wc.masks);
        }
    }
    if flow.tunnel.flags == 0 {
        wc.masks.tunnel.flags = 0;
    }
    wc.masks.actset_output = 0;
    wc.masks.packet_type = Be32::ZERO;
    if flow.packet_type.get() != 0 {
        wc.masks.packet_type = u32::MAX.into();
    }
    if flow.in_port == u32::from(OfPort::NONE.0) {
        wc.masks.in_port = 0;
    }
}

struct Writer<'a> {
    f: &'a Flow,
    m: &'a Flow,
    names: Names<'a>,
    out: &'a mut String,
}

impl Writer<'_> {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
    }

    fn hex(&mut self, name: &str, value: u64, mask: u64, all: u64) {
        if mask == all {
            self.put(format_args!("{name}={},", Hex(value)));
        } else if mask != 0 {
            self.put(format_args!("{name}={}/{},", Hex(value), Hex(mask)));
        }
    }

    fn hex32(&mut self, name: &str, value: u32, mask: u32) {
        self.hex(name, value.into(), mask.into(), u32::MAX.into());
    }

    fn number16(&mut self, name: &str, value: Be16, mask: Be16) {
        if mask.get() == 0xffff {
            self.put(format_args!("{name}={},", value.get()));
        } else if mask.get() != 0 {
            self.put(format_args!("{name}={:#x}/{:#x},", value.get(), mask.get()));
        }
    }

    fn number8(&mut self, name: &str, value: u8, mask: u8) {
        if mask != 0 {
            self.put(format_args!("{name}={value},"));
        }
    }

    fn ip(&mut self, name: &str, value: Be32, mask: Be32) {
        if mask.get() != 0 {
            self.put(format_args!("{name}="));
            format_ipv4_masked(value.get(), mask.get(), self.out);
            self.out.push(',');
        }
    }

    fn ipv6(&mut self, name: &str, value: [u8; 16], mask: [u8; 16]) {
        if mask != [0; 16] {
            self.put(format_args!("{name}="));
            format_ipv6_masked(
                u128::from_be_bytes(value),
                u128::from_be_bytes(mask),
                self.out,
            );
            self.out.push(',');
        }
    }

    fn mac(&mut self, name: &str, value: MacAddr, mask: MacAddr) {
        if mask.is_broadcast() {
            self.put(format_args!("{name}={value},"));
        } else if !mask.is_zero() {
            self.put(format_args!("{name}={value}/{mask},"));
        }
    }

    fn port(&mut self, name: &str, port: u32) {
        self.put(format_args!("{name}="));
        format_port(OfPort(port as u16), self.names.ports, self.out);
        self.out.push(',');
    }

    fn all(&mut self) {
        let (f, m) = (self.f, self.m);
        self.hex32("pkt_mark", f.pkt_mark, m.pkt_mark);
        let megaflow = m.recirc_id != 0;
        self.hex32("recirc_id", f.recirc_id, m.recirc_id);
        self.hex32("dp_hash", f.dp_hash, m.dp_hash);
        if m.conj_id != 0 {
            self.put(format_args!("conj_id={},", f.conj_id));
        }
        self.hex32("skb_priority", f.skb_priority, m.skb_priority);
        if m.actset_output != 0 {
            self.port("actset_output", f.actset_output);
        }
        self.conntrack();
        if m.packet_type.get() != 0 && (megaflow || f.packet_type.get() != 0) {
            match f.packet_type.get() {
                0 => self.put(format_args!("eth,")),
                pt => self.put(format_args!(
                    "packet_type=({},{:#x}),",
                    pt >> 16,
                    pt & 0xffff
                )),
            }
        }
        let (skip_type, skip_proto) = self.protocol();
        for i in 0..FLOW_N_REGS {
            if m.regs[i] != 0 {
                self.hex32(&format!("reg{i}"), f.regs[i], m.regs[i]);
            }
        }
        self.tunnel();
        self.hex("metadata", f.metadata.get(), m.metadata.get(), u64::MAX);
        if m.in_port != 0 {
            self.port("in_port", f.in_port);
        }
        self.vlans();
        self.mac("dl_src", f.dl_src, m.dl_src);
        self.mac("dl_dst", f.dl_dst, m.dl_dst);
        if !skip_type && m.dl_type.get() != 0 {
            self.put(format_args!("dl_type=0x{:04x},", f.dl_type.get()));
        }
        self.network(skip_proto);
        self.transport();
    }

    fn conntrack(&mut self) {
        let (f, m) = (self.f, self.m);
        if m.ct_state != 0 {
            self.out.push_str("ct_state=");
            let (bits, mask) = (u32::from(f.ct_state), u32::from(m.ct_state));
            format_flags_masked(&CT_STATE_FLAGS, bits, mask, 0xff, self.out);
            self.out.push(',');
        }
        if m.ct_zone == 0xffff {
            self.put(format_args!("ct_zone={},", f.ct_zone));
        } else if m.ct_zone != 0 {
            self.put(format_args!("ct_zone={:#x}/{:#x},", f.ct_zone, m.ct_zone));
        }
        self.hex32("ct_mark", f.ct_mark, m.ct_mark);
        let (label, mask) = (
            u128::from_be_bytes(f.ct_label),
            u128::from_be_bytes(m.ct_label),
        );
        if mask == u128::MAX {
            self.put(format_args!("ct_label={label:#x},"));
        } else if mask != 0 {
            self.put(format_args!("ct_label={label:#x}/{mask:#x},"));
        }
        self.ip("ct_nw_src", f.ct_nw_src, m.ct_nw_src);
        self.ipv6("ct_ipv6_src", f.ct_ipv6_src, m.ct_ipv6_src);
        self.ip("ct_nw_dst", f.ct_nw_dst, m.ct_nw_dst);
        self.ipv6("ct_ipv6_dst", f.ct_ipv6_dst, m.ct_ipv6_dst);
        self.number8("ct_nw_proto", f.ct_nw_proto, m.ct_nw_proto);
        self.number16("ct_tp_src", f.ct_tp_src, m.ct_tp_src);
        self.number16("ct_tp_dst", f.ct_tp_dst, m.ct_tp_dst);
    }

    /// Writes the short name of the protocol; whether EtherType and IP protocol are told by it.
    fn protocol(&mut self) -> (bool, bool) {
        let (f, m) = (self.f, self.m);
        if m.dl_type.get() == 0 {
            return (false, false);
        }
        let proto = (m.nw_proto != 0).then_some(f.nw_proto);
        let (name, proto_told) = match (f.dl_type.get(), proto) {
            (eth_type::IP, Some(ip_proto::ICMP)) => ("icmp", true),
            (eth_type::IP, Some(ip_proto::IGMP)) => ("igmp", true),
            (eth_type::IP, Some(ip_proto::TCP)) => ("tcp", true),
            (eth_type::IP, Some(ip_proto::UDP)) => ("udp", true),
            (eth_type::IP, Some(ip_proto::SCTP)) => ("sctp", true),
            (eth_type::IP, _) => ("ip", false),
            (eth_type::IPV6, Some(ip_proto::ICMPV6)) => ("icmp6", true),
            (eth_type::IPV6, Some(ip_proto::TCP)) => ("tcp6", true),
            (eth_type::IPV6, Some(ip_proto::UDP)) => ("udp6", true),
            (eth_type::IPV6, Some(ip_proto::SCTP)) => ("sctp6", true),
            (eth_type::IPV6, _) => ("ipv6", false),
            (eth_type::ARP, _) => ("arp", false),
            (eth_type::RARP, _) => ("rarp", false),
            (eth_type::MPLS, _) => ("mpls", false),
            (eth_type::MPLS_MCAST, _) => ("mplsm", false),
            _ => return (false, false),
        };
        self.put(format_args!("{name},"));
        (true, proto_told)
    }

    fn tunnel(&mut self) {
        let (f, m) = (&self.f.tunnel, &self.m.tunnel);
        self.hex("tun_id", f.tun_id.get(), m.tun_id.get(), u64::MAX);
        self.ip("tun_src", f.ip_src, m.ip_src);
        self.ip("tun_dst", f.ip_dst, m.ip_dst);
        self.ipv6("tun_ipv6_src", f.ipv6_src, m.ipv6_src);
        self.ipv6("tun_ipv6_dst", f.ipv6_dst, m.ipv6_dst);
        self.number16("tun_gbp_id", f.gbp_id, m.gbp_id);
        if m.gbp_flags != 0 {
            self.put(format_args!("tun_gbp_flags={:#x},", f.gbp_flags));
        }
        if m.ip_tos != 0 {
            self.put(format_args!("tun_tos={:x},", f.ip_tos));
        }
        self.number8("tun_ttl", f.ip_ttl, m.ip_ttl);
        self.hex(
            "tun_erspan_idx",
            f.erspan_idx.into(),
            m.erspan_idx.into(),
            0xf_ffff,
        );
        self.number8("tun_erspan_ver", f.erspan_ver, m.erspan_ver);
        self.number8("tun_erspan_dir", f.erspan_dir, m.erspan_dir);
        if m.erspan_hwid != 0 {
            self.put(format_args!("tun_erspan_hwid={:#x},", f.erspan_hwid));
        }
        if m.gtpu_flags != 0 {
            self.put(format_args!("gtpu_flags={:#x},", f.gtpu_flags));
        }
        self.number8("gtpu_msgtype", f.gtpu_msgtype, m.gtpu_msgtype);
        if m.flags != 0 {
            let names = [
                (u32::from(FLOW_TNL_F_DONT_FRAGMENT), "df"),
                (u32::from(FLOW_TNL_F_CSUM), "csum"),
                (u32::from(FLOW_TNL_F_KEY), "key"),
                (u32::from(FLOW_TNL_F_OAM), "oam"),
            ];
            self.out.push_str("tun_flags=");
            format_flags_masked(&names, f.flags.into(), m.flags.into(), 0xf, self.out);
            self.out.push(',');
        }
        for i in 0..TUN_METADATA_FIELDS {
            let Some(field) = FieldId::tun_metadata(i).map(FieldId::field) else {
                continue;
            };
            let mask = field.mask_of_in(&FlowWildcards { masks: *self.m }, self.names.tunnel);
            if mask.is_zero() && self.m.tunnel.metadata.present & 1 << i == 0 {
                continue;
            }
            let n_bits = field.bits_in(self.names.tunnel);
            self.put(format_args!("tun_metadata{i}"));
            if !mask.is_zero() {
                self.out.push('=');
                let value = field.value_in(self.f, self.names.tunnel);
                let mask = (!mask.is_ones(n_bits)).then_some(&mask);
                field.format(&value, mask, self.names.ports, self.out);
            }
            self.out.push(',');
        }
    }

    fn vlans(&mut self) {
        for (i, (value, mask)) in self.f.vlans.iter().zip(&self.m.vlans).enumerate() {
            let (tci, mask) = (value.tci.get(), mask.tci.get());
            if mask == 0 {
                break;
            }
            let n = if i == 0 { String::new() } else { i.to_string() };
            let (vid, pcp) = (mask & VLAN_VID_MASK, mask & VLAN_PCP_MASK);
            let whole = (vid == 0 || vid == VLAN_VID_MASK) && (pcp == 0 || pcp == VLAN_PCP_MASK);
            if mask & tci & VLAN_CFI != 0 && whole && (vid != 0 || pcp != 0) {
                if vid != 0 {
                    self.put(format_args!("dl_vlan{n}={},", tci & VLAN_VID_MASK));
                }
                if pcp != 0 {
                    self.put(format_args!("dl_vlan_pcp{n}={},", tci >> VLAN_PCP_SHIFT));
                }
            } else if mask == 0xffff {
                self.put(format_args!("vlan_tci{n}=0x{tci:04x},"));
            } else {
                self.put(format_args!("vlan_tci{n}=0x{tci:04x}/0x{mask:04x},"));
            }
        }
    }

    fn network(&mut self, skip_proto: bool) {
        let (f, m) = (self.f, self.m);
        let arp = matches!(f.dl_type.get(), eth_type::ARP | eth_type::RARP);
        match f.dl_type.get() {
            eth_type::IPV6 => {
                self.ipv6("ipv6_src", f.ipv6_src, m.ipv6_src);
                self.ipv6("ipv6_dst", f.ipv6_dst, m.ipv6_dst);
                match m.ipv6_label.get() {
                    0 => {}
                    0xf_ffff | u32::MAX => {
                        self.put(format_args!("ipv6_label=0x{:05x},", f.ipv6_label.get()))
                    }
                    mask => self.put(format_args!(
                        "ipv6_label=0x{:05x}/0x{mask:05x},",
                        f.ipv6_label.get()
                    )),
                }
            }
            eth_type::NSH => self.nsh(),
            _ if arp => {
                self.ip("arp_spa", f.nw_src, m.nw_src);
                self.ip("arp_tpa", f.nw_dst, m.nw_dst);
            }
            _ => {
                self.ip("nw_src", f.nw_src, m.nw_src);
                self.ip("nw_dst", f.nw_dst, m.nw_dst);
            }
        }
        if !skip_proto {
            self.number8(
                if arp { "arp_op" } else { "nw_proto" },
                f.nw_proto,
                m.nw_proto,
            );
        }
        if arp {
            self.mac("arp_sha", f.arp_sha, m.arp_sha);
            self.mac("arp_tha", f.arp_tha, m.arp_tha);
        }
        self.number8("nw_tos", f.nw_tos & IP_DSCP_MASK, m.nw_tos & IP_DSCP_MASK);
        self.number8("nw_ecn", f.nw_tos & IP_ECN_MASK, m.nw_tos & IP_ECN_MASK);
        self.number8("nw_ttl", f.nw_ttl, m.nw_ttl);
        self.mpls();
        let frag = match (m.nw_frag & NW_FRAG_MASK, f.nw_frag) {
            (0, _) => return,
            (NW_FRAG_MASK, v) if v & NW_FRAG_ANY == 0 => "no",
            (NW_FRAG_MASK, v) if v & NW_FRAG_LATER != 0 => "later",
            (NW_FRAG_MASK, _) => "first",
            (NW_FRAG_ANY, v) => {
                if v & NW_FRAG_ANY != 0 {
                    "yes"
                } else {
                    "no"
                }
            }
            (_, v) if v & NW_FRAG_LATER != 0 => "later",
            _ => "not_later",
        };
        self.put(format_args!("nw_frag={frag},"));
    }

    fn mpls(&mut self) {
        for i in 0..FLOW_MAX_MPLS_LABELS {
            let (lse, mask) = (self.f.mpls_lse[i].get(), self.m.mpls_lse[i].get());
            if mask == 0 {
                continue;
            }
            let n = if i == 0 { String::new() } else { i.to_string() };
            for (name, shift, bits) in [
                ("mpls_label", 12, 0xf_ffff),
                ("mpls_tc", 9, 7),
                ("mpls_ttl", 0, 0xff),
                ("mpls_bos", 8, 1),
            ] {
                if mask >> shift & bits != 0 {
                    self.put(format_args!("{name}{n}={},", lse >> shift & bits));
                }
            }
        }
    }

    fn nsh(&mut self) {
        let (f, m) = (&self.f.nsh, &self.m.nsh);
        self.number8("nsh_flags", f.flags, m.flags);
        self.number8("nsh_ttl", f.ttl, m.ttl);
        self.number8("nsh_mdtype", f.mdtype, m.mdtype);
        self.number8("nsh_np", f.np, m.np);
        let (path, mask) = (f.path_hdr.get(), m.path_hdr.get());
        self.hex("nsh_spi", (path >> 8).into(), (mask >> 8).into(), 0xff_ffff);
        self.number8("nsh_si", path as u8, mask as u8);
        for i in 0..4 {
            self.hex32(
                &format!("nsh_c{}", i + 1),
                f.context[i].get(),
                m.context[i].get(),
            );
        }
    }

    fn transport(&mut self) {
        let (f, m) = (self.f, self.m);
        match (f.dl_type.get(), f.nw_proto) {
            (eth_type::IP, ip_proto::ICMP) => {
                self.number16("icmp_type", f.tp_src, m.tp_src);
                self.number16("icmp_code", f.tp_dst, m.tp_dst);
            }
            (eth_type::IP, ip_proto::IGMP) => {
                self.number16("igmp_type", f.tp_src, m.tp_src);
                self.number16("igmp_code", f.tp_dst, m.tp_dst);
            }
            (eth_type::IPV6, ip_proto::ICMPV6) => {
                self.number16("icmp_type", f.tp_src, m.tp_src);
                self.number16("icmp_code", f.tp_dst, m.tp_dst);
                self.ipv6("nd_target", f.nd_target, m.nd_target);
                self.mac("nd_sll", f.arp_sha, m.arp_sha);
                self.mac("nd_tll", f.arp_tha, m.arp_tha);
                if m.igmp_group_ip4.get() != 0 {
                    self.put(format_args!("nd_reserved={},", f.igmp_group_ip4.get()));
                }
                if m.tcp_flags.get() != 0 {
                    self.put(format_args!("nd_options_type={},", f.tcp_flags.get()));
                }
            }
            _ => {
                self.number16("tp_src", f.tp_src, m.tp_src);
                self.number16("tp_dst", f.tp_dst, m.tp_dst);
            }
        }
        let ip = matches!(f.dl_type.get(), eth_type::IP | eth_type::IPV6);
        if ip && f.nw_proto == ip_proto::TCP && m.tcp_flags.get() != 0 {
            self.out.push_str("tcp_flags=");
            format_flags_masked(
                &TCP_FLAGS,
                f.tcp_flags.get().into(),
                m.tcp_flags.get().into(),
                0xfff,
                self.out,
            );
            self.out.push(',');
        }
    }
}

/// Hexadecimal with 0x, and plain 0 for zero, as `printf("%#x")` writes it.
struct Hex(u64);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 {
            f.write_str("0")
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}
