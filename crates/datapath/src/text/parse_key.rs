//! Reads flow keys and masks, and checks that their attributes fit together.

use std::cell::Cell;
use std::fmt::Write;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, FLOW_TNL_F_MASK, Flow, FlowWildcards, Match, NW_FRAG_LATER, NW_FRAG_MASK,
    VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK, VlanHdr, packet_type,
};
use ferrovs_packet::parse::vlan_limit;
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{Be16, eth_type, ip_proto};

use super::members as text;
use super::{CT_STATES, FieldWriter, PortNames, TCP_FLAGS};
use crate::action::{Ipv4Key, Ipv6Key};
use crate::dpif::{Errno, Ufid};

/// A key as it was written.
#[derive(Clone, Debug, Default)]
pub struct ParsedKey {
    pub ufid: Option<Ufid>,
    pub flow: Flow,
    pub wc: FlowWildcards,
    seen: u64,
    /// An ARP operation that does not fit the key.
    unknown_arp: Option<u16>,
    /// The attributes that were read, each as the datapath writes it, without masks.
    written: String,
    /// What `seen` has of the attributes between the innermost parentheses of `encap`.
    level: u64,
    /// An attribute that was there twice.
    repeated: Option<String>,
    encaps: usize,
}

/// Why a key is not that of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It says something that no packet can have.
    Wrong(String),
    /// It lacks an attribute.
    TooLittle,
    /// It has an attribute that does not belong to the packet.
    TooMuch,
}

/// Attributes by bit of `seen`.
mod attr {
    pub const IN_PORT: u64 = 1 << 0;
    pub const ETHERNET: u64 = 1 << 1;
    pub const ETHERTYPE: u64 = 1 << 2;
    pub const IPV4: u64 = 1 << 3;
    pub const IPV6: u64 = 1 << 4;
    pub const TCP: u64 = 1 << 5;
    pub const UDP: u64 = 1 << 6;
    pub const ICMP: u64 = 1 << 7;
    pub const ICMPV6: u64 = 1 << 8;
    pub const ARP: u64 = 1 << 9;
    pub const ND: u64 = 1 << 10;
    pub const SCTP: u64 = 1 << 11;
    pub const TCP_FLAGS: u64 = 1 << 12;
    pub const MPLS: u64 = 1 << 13;
    pub const NSH: u64 = 1 << 14;
    pub const PACKET_TYPE: u64 = 1 << 15;
    pub const ND_EXT: u64 = 1 << 16;
    pub const SKB_PRIORITY: u64 = 1 << 17;
    pub const SKB_MARK: u64 = 1 << 18;
    pub const RECIRC_ID: u64 = 1 << 19;
    pub const DP_HASH: u64 = 1 << 20;
    pub const CT_ZONE: u64 = 1 << 21;
    pub const CT_MARK: u64 = 1 << 22;
    pub const CT_STATE: u64 = 1 << 23;
    pub const CT_LABEL: u64 = 1 << 24;
    pub const CT_TUPLE: u64 = 1 << 25;
    pub const TUNNEL: u64 = 1 << 26;
    /// One that may stand in a key again, deeper in it.
    pub const VLAN: u64 = 1 << 27;
}

/// Why a key could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("syntax error at {0}")]
    Syntax(String),
    #[error("parsing flow ufid")]
    Ufid,
}

/// Separators between attributes.
const DELIMITERS: [char; 5] = [',', ' ', '\t', '\r', '\n'];
/// How deep `encap(..)` may nest.
const MAX_ENCAPS: usize = 3;

/// Reads a key with optional masks: attributes that are absent are wholly wildcarded, members of an attribute
/// that are absent too.
pub fn parse_key(input: &str, names: Option<&PortNames>) -> Result<ParsedKey, KeyError> {
    parse(input, names, true)
}

fn parse(input: &str, names: Option<&PortNames>, masks: bool) -> Result<ParsedKey, KeyError> {
    let mut out = ParsedKey::default();
    let mut c = Cursor::new(input);
    c.skip_any(&DELIMITERS);
    if c.eat("ufid:") {
        let id = c.take_while(|b| b.is_ascii_hexdigit() || b == b'-');
        out.ufid = Some(Ufid::parse(id).ok_or(KeyError::Ufid)?);
    }
    out.flow.in_port = u32::MAX;
    loop {
        c.skip_any(&DELIMITERS);
        if c.is_empty() {
            break;
        }
        let at = c.rest();
        let read = out.attribute(&mut c, names);
        let text = &at[..at.len() - c.rest().len()];
        if read.is_none() || !masks && text.contains('/') {
            return Err(KeyError::Syntax(at.to_owned()));
        }
    }
    if out.seen & attr::ETHERTYPE == 0 && out.flow.packet_type.get() == 0 {
        out.flow.dl_type = eth_type::NOT_ETH.into();
    }
    Ok(out)
}

impl ParsedKey {
    fn attribute(&mut self, c: &mut Cursor<'_>, names: Option<&PortNames>) -> Option<()> {
        let full32 = u64::from(u32::MAX);
        let (flow, wc) = (&mut self.flow, &mut self.wc.masks);
        let name = c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name == "encap" {
            return self.encap(c, names);
        }
        let members = c.rest();
        c.expect("(")?;
        let number = Cell::new(false);
        let masked = |c: &mut Cursor<'_>, full: u64| {
            number.set(true);
            c.masked(full)
        };
        let seen = match name {
            "skb_priority" => {
                let (v, m) = masked(c, full32)?;
                (flow.skb_priority, wc.skb_priority) = (v as u32, m as u32);
                attr::SKB_PRIORITY
            }
            "skb_mark" => {
                let (v, m) = masked(c, full32)?;
                (flow.pkt_mark, wc.pkt_mark) = (v as u32, m as u32);
                attr::SKB_MARK
            }
            "recirc_id" => {
                number.set(true);
                (flow.recirc_id, wc.recirc_id) = (c.number(full32)? as u32, u32::MAX);
                attr::RECIRC_ID
            }
            "dp_hash" => {
                let (v, m) = masked(c, full32)?;
                (flow.dp_hash, wc.dp_hash) = (v as u32, m as u32);
                attr::DP_HASH
            }
            "ct_zone" => {
                let (v, m) = masked(c, 0xffff)?;
                (flow.ct_zone, wc.ct_zone) = (v as u16, m as u16);
                attr::CT_ZONE
            }
            "ct_mark" => {
                let (v, m) = masked(c, full32)?;
                (flow.ct_mark, wc.ct_mark) = (v as u32, m as u32);
                attr::CT_MARK
            }
            "ct_state" => {
                number.set(true);
                let (v, m) = c.flags(&CT_STATES, 0xff)?;
                (flow.ct_state, wc.ct_state) = (v as u8, m as u8);
                attr::CT_STATE
            }
            "ct_label" => {
                number.set(true);
                let (v, m) = c.masked128()?;
                (flow.ct_label, wc.ct_label) = (v.to_be_bytes(), m.to_be_bytes());
                attr::CT_LABEL
            }
            "ct_tuple4" | "ct_tuple6" => {
                self.ct_tuple(c, name == "ct_tuple4")?;
                attr::CT_TUPLE
            }
            "tunnel" => {
                let tunnel = text::read_tunnel(c)?;
                (flow.tunnel, wc.tunnel) = (tunnel.value, tunnel.mask);
                attr::TUNNEL
            }
            "in_port" => {
                number.set(true);
                let text = c.take_while(|b| b != b')');
                let mut n = Cursor::new(text);
                (flow.in_port, wc.in_port) = match n.masked(full32) {
                    Some((v, m)) if n.is_empty() => (v as u32, m as u32),
                    _ => (names?.number(text)?.0, u32::MAX),
                };
                attr::IN_PORT
            }
            "packet_type" => {
                let (mut pt, mut mask) = (0, 0);
                c.members(|name, c| {
                    let (v, m) = c.masked(0xffff)?;
                    let shift = match name {
                        "ns" => 16,
                        "id" => 0,
                        _ => return None,
                    };
                    pt |= (v as u32) << shift;
                    mask |= (m as u32) << shift;
                    Some(())
                })?;
                (flow.packet_type, wc.packet_type) = (pt.into(), mask.into());
                attr::PACKET_TYPE
            }
            "eth" => {
                let eth = text::read_ethernet(c)?;
                (flow.dl_src, flow.dl_dst) = (eth.value.src, eth.value.dst);
                (wc.dl_src, wc.dl_dst) = (eth.mask.src, eth.mask.dst);
                attr::ETHERNET
            }
            "eth_type" => {
                let (v, m) = masked(c, 0xffff)?;
                (flow.dl_type, wc.dl_type) = ((v as u16).into(), (m as u16).into());
                attr::ETHERTYPE
            }
            "vlan" => {
                let (mut tci, mut mask) = (VLAN_CFI, VLAN_CFI);
                c.members(|name, c| {
                    let (bits, shift) = match name {
                        "vid" => (VLAN_VID_MASK, 0),
                        "pcp" => (7, VLAN_PCP_SHIFT),
                        "cfi" => (1, 12),
                        _ => return None,
                    };
                    let (v, m) = c.masked(bits.into())?;
                    tci = tci & !(bits << shift) | (v as u16) << shift;
                    mask = mask & !(bits << shift) | (m as u16) << shift;
                    Some(())
                })?;
                // The type that was read is that of the VLAN header.
                let at = self.encaps;
                let (vlan, vlan_mask) = (flow.vlans.get_mut(at)?, wc.vlans.get_mut(at)?);
                (vlan.tpid, vlan_mask.tpid) = (flow.dl_type, wc.dl_type);
                (vlan.tci, vlan_mask.tci) = (tci.into(), mask.into());
                (flow.dl_type, wc.dl_type) = (0.into(), u16::MAX.into());
                self.seen &= !attr::ETHERTYPE;
                attr::VLAN
            }
            "ipv4" => {
                let ip = text::read_ipv4(c)?;
                for (f, k) in [(flow, &ip.value), (wc, &ip.mask)] {
                    (f.nw_src, f.nw_dst, f.nw_proto) = (k.src, k.dst, k.proto);
                    (f.nw_tos, f.nw_ttl, f.nw_frag) = (k.tos, k.ttl, k.frag);
                }
                attr::IPV4
            }
            "ipv6" => {
                let ip = text::read_ipv6(c)?;
                for (f, k) in [(flow, &ip.value), (wc, &ip.mask)] {
                    (f.ipv6_src, f.ipv6_dst, f.ipv6_label) = (k.src, k.dst, k.label);
                    (f.nw_proto, f.nw_tos) = (k.proto, k.tclass);
                    (f.nw_ttl, f.nw_frag) = (k.hlimit, k.frag);
                }
                attr::IPV6
            }
            "tcp" | "udp" | "sctp" => {
                let ports = text::read_ports(c)?;
                (flow.tp_src, flow.tp_dst) = (ports.value.src, ports.value.dst);
                (wc.tp_src, wc.tp_dst) = (ports.mask.src, ports.mask.dst);
                match name {
                    "tcp" => attr::TCP,
                    "udp" => attr::UDP,
                    _ => attr::SCTP,
                }
            }
            "tcp_flags" => {
                number.set(true);
                let (v, m) = c.flags(&TCP_FLAGS, 0xfff)?;
                (flow.tcp_flags, wc.tcp_flags) = ((v as u16).into(), (m as u16).into());
                attr::TCP_FLAGS
            }
            "icmp" | "icmpv6" => {
                let icmp = text::read_icmp(c)?;
                let wide = |v: u8| Be16::new(v.into());
                (flow.tp_src, flow.tp_dst) = (wide(icmp.value.icmp_type), wide(icmp.value.code));
                // The high bytes are zero in every packet.
                let exact = |m: u8| Be16::new(if m == 0xff { 0xffff } else { m.into() });
                (wc.tp_src, wc.tp_dst) = (exact(icmp.mask.icmp_type), exact(icmp.mask.code));
                if name == "icmp" {
                    attr::ICMP
                } else {
                    attr::ICMPV6
                }
            }
            "arp" => {
                let arp = text::read_arp(c)?;
                for (f, k) in [(flow, &arp.value), (wc, &arp.mask)] {
                    (f.nw_src, f.nw_dst) = (k.sip, k.tip);
                    (f.arp_sha, f.arp_tha) = (k.sha, k.tha);
                    f.nw_proto = k.op.get().min(0xff) as u8;
                }
                self.unknown_arp = Some(arp.value.op.get()).filter(|&op| op > 0xff);
                attr::ARP
            }
            "nd" => {
                let nd = text::read_nd(c)?;
                for (f, k) in [(flow, &nd.value), (wc, &nd.mask)] {
                    (f.nd_target, f.arp_sha, f.arp_tha) = (k.target, k.sll, k.tll);
                }
                attr::ND
            }
            "nd_ext" => {
                let ext = text::read_nd_ext(c)?;
                for (f, k) in [(flow, &ext.value), (wc, &ext.mask)] {
                    f.igmp_group_ip4 = k.reserved;
                    f.tcp_flags = u16::from(k.options_type).into();
                }
                attr::ND_EXT
            }
            "mpls" => {
                let stack = text::read_mpls(c, FLOW_MAX_MPLS_LABELS)?;
                for (i, lse) in stack.iter().enumerate() {
                    flow.mpls_lse[i] = lse.value.into();
                    wc.mpls_lse[i] = lse.mask.into();
                }
                attr::MPLS
            }
            "nsh" => {
                let nsh = text::read_nsh(c)?;
                for (f, k) in [(flow, &nsh.value), (wc, &nsh.mask)] {
                    (f.nsh.flags, f.nsh.ttl, f.nsh.mdtype, f.nsh.np) =
                        (k.flags, k.ttl, k.mdtype, k.np);
                    (f.nsh.path_hdr, f.nsh.context) = (k.path_hdr, k.context);
                }
                attr::NSH
            }
            _ => return None,
        };
        if number.get() {
            c.expect(")")?;
        }
        if self.level & seen != 0 {
            self.repeated.get_or_insert_with(|| name.to_owned());
        }
        self.level |= seen;
        self.seen |= seen;
        self.write_attribute(name, &members[..members.len() - c.rest().len()]);
        Some(())
    }

    /// Adds the attribute that was just read to what was written.
    fn write_attribute(&mut self, name: &str, members: &str) {
        if !matches!(self.written.as_bytes().last(), None | Some(b'(')) {
            self.written.push(',');
        }
        let (out, f) = (&mut self.written, &self.flow);
        let inside = |out: &mut String, write: &dyn Fn(&mut FieldWriter<'_>)| {
            _ = write!(out, "{name}(");
            write(&mut FieldWriter::new(out, false));
            out.write_char(')')
        };
        // Writing to a string cannot fail.
        _ = match name {
            "skb_priority" => write!(out, "{name}({:#x})", f.skb_priority),
            "skb_mark" => write!(out, "{name}({:#x})", f.pkt_mark),
            "recirc_id" => write!(out, "{name}({:#x})", f.recirc_id),
            "dp_hash" => write!(out, "{name}({:#x})", f.dp_hash),
            "ct_mark" => write!(out, "{name}({:#x})", f.ct_mark),
            "in_port" => write!(out, "{name}({})", f.in_port),
            "eth_type" => write!(out, "{name}({:#06x})", f.dl_type.get()),
            "eth" => write!(out, "{name}(src={},dst={})", f.dl_src, f.dl_dst),
            "tunnel" => {
                let mut mask = self.wc.masks.tunnel;
                mask.flags = FLOW_TNL_F_MASK;
                out.push_str("tunnel(");
                text::write_tunnel(out, &f.tunnel, Some(&mask), false);
                out.write_char(')')
            }
            "ipv4" => inside(out, &|w| {
                let key = Ipv4Key {
                    src: f.nw_src,
                    dst: f.nw_dst,
                    proto: f.nw_proto,
                    tos: f.nw_tos,
                    ttl: f.nw_ttl,
                    frag: f.nw_frag,
                };
                let full = Ipv4Key {
                    src: u32::MAX.into(),
                    dst: u32::MAX.into(),
                    proto: u8::MAX,
                    tos: u8::MAX,
                    ttl: u8::MAX,
                    frag: NW_FRAG_MASK,
                };
                text::write_ipv4(w, &key, &full);
            }),
            "ipv6" => inside(out, &|w| {
                let key = Ipv6Key {
                    src: f.ipv6_src,
                    dst: f.ipv6_dst,
                    label: f.ipv6_label,
                    proto: f.nw_proto,
                    tclass: f.nw_tos,
                    hlimit: f.nw_ttl,
                    frag: f.nw_frag,
                };
                let full = Ipv6Key {
                    src: [u8::MAX; 16],
                    dst: [u8::MAX; 16],
                    label: 0xf_ffff.into(),
                    proto: u8::MAX,
                    tclass: u8::MAX,
                    hlimit: u8::MAX,
                    frag: NW_FRAG_MASK,
                };
                text::write_ipv6(w, &key, &full);
            }),
            "vlan" => {
                let tci = f.vlans[self.encaps].tci.get();
                let (vid, pcp) = (tci & VLAN_VID_MASK, tci >> VLAN_PCP_SHIFT);
                let cfi = if tci & VLAN_CFI == 0 { ",cfi=0" } else { "" };
                write!(out, "{name}(vid={vid},pcp={pcp}{cfi})")
            }
            "tcp" | "udp" | "sctp" => {
                let (src, dst) = (f.tp_src.get(), f.tp_dst.get());
                write!(out, "{name}(src={src},dst={dst})")
            }
            "icmp" | "icmpv6" => {
                let (ty, code) = (f.tp_src.get(), f.tp_dst.get());
                write!(out, "{name}(type={ty},code={code})")
            }
            _ => {
                out.push_str(name);
                let mut in_mask = false;
                let without_masks = members.chars().filter(|&c| {
                    in_mask = c == '/' || in_mask && !matches!(c, ',' | ')');
                    !in_mask
                });
                out.extend(without_masks);
                Ok(())
            }
        };
    }

    fn encap(&mut self, c: &mut Cursor<'_>, names: Option<&PortNames>) -> Option<()> {
        c.expect("(")?;
        self.encaps += 1;
        if self.encaps > MAX_ENCAPS {
            return None;
        }
        self.written.push_str(",encap(");
        let around = std::mem::take(&mut self.level);
        loop {
            c.skip_any(&DELIMITERS);
            if c.eat(")") {
                self.written.push(')');
                self.level = around;
                return Some(());
            }
            self.attribute(c, names)?;
        }
    }

    fn ct_tuple(&mut self, c: &mut Cursor<'_>, v4: bool) -> Option<()> {
        let (f, m) = (&mut self.flow, &mut self.wc.masks);
        c.members(|name, c| {
            match name {
                "src" if v4 => {
                    let (v, mask) = c.masked_ipv4()?;
                    (f.ct_nw_src, m.ct_nw_src) = (v.into(), mask.into());
                }
                "dst" if v4 => {
                    let (v, mask) = c.masked_ipv4()?;
                    (f.ct_nw_dst, m.ct_nw_dst) = (v.into(), mask.into());
                }
                "src" => (f.ct_ipv6_src, m.ct_ipv6_src) = c.masked_ipv6()?,
                "dst" => (f.ct_ipv6_dst, m.ct_ipv6_dst) = c.masked_ipv6()?,
                "proto" => {
                    let (v, mask) = c.masked(0xff)?;
                    (f.ct_nw_proto, m.ct_nw_proto) = (v as u8, mask as u8);
                }
                "tp_src" | "src_port" => {
                    let (v, mask) = c.masked(0xffff)?;
                    (f.ct_tp_src, m.ct_tp_src) = ((v as u16).into(), (mask as u16).into());
                }
                "tp_dst" | "dst_port" => {
                    let (v, mask) = c.masked(0xffff)?;
                    (f.ct_tp_dst, m.ct_tp_dst) = ((v as u16).into(), (mask as u16).into());
                }
                _ => return None,
            }
            Some(())
        })
    }

    /// The key as it was written, without masks.
    pub fn written(&self) -> &str {
        match &*self.written {
            "" => "<empty>",
            text => text,
        }
    }

    /// Whether it names its port, wholly.
    pub fn has_exact_port(&self) -> bool {
        self.seen & attr::IN_PORT != 0 && self.wc.masks.in_port == u32::MAX
    }

    /// What no packet can have.
    fn wrong(&self) -> Option<String> {
        let f = &self.flow;
        let has = |attr| self.seen & attr != 0;
        let no_cfi = || {
            let mut tags = f.vlans.iter().take(self.encaps).map(|v| v.tci.get());
            tags.find(|&tci| tci != 0 && tci & VLAN_CFI == 0)
        };
        let reason = if let Some(name) = &self.repeated {
            format!("duplicate {name} attribute in flow key")
        } else if has(attr::TUNNEL) && self.wc.masks.tunnel.ip_ttl == 0 {
            // The outer header of a packet from a tunnel has one.
            "tunnel options missing TTL".to_owned()
        } else if let Some(tci) = no_cfi() {
            format!("OVS_KEY_ATTR_VLAN {tci:#06x} is nonzero but CFI bit is not set")
        } else if has(attr::ETHERTYPE) && f.dl_type.get() < eth_type::MIN {
            format!("invalid Ethertype {} in flow key", f.dl_type.get())
        } else if let Some(op) = self.unknown_arp {
            format!("unsupported ARP opcode {op} in flow key")
        } else {
            return None;
        };
        let key = &self.written;
        Some(format!("{reason}; the flow key in error is: {key}"))
    }

    /// Whether the key has the attributes of a packet.
    pub fn fit(&self) -> Result<(), Misfit> {
        if let Some(wrong) = self.wrong() {
            return Err(Misfit::Wrong(wrong));
        }
        let mut key = self.clone();
        key.without_ethernet();
        key.check()
    }

    /// Which attributes must be there for the packet that the key describes, and which may be.
    fn check(&self) -> Result<(), Misfit> {
        let f = &self.flow;
        if let Some(wrong) = self.wrong() {
            return Err(Misfit::Wrong(wrong));
        }
        let tags = f.vlans.iter().take(self.encaps);
        let tagged = self.seen & attr::VLAN != 0;
        if tagged && f.vlans[0].tpid.get() == 0 {
            return Err(Misfit::TooMuch);
        }
        if tagged != (self.encaps > 0)
            || self.encaps == 0 && is_vlan(f.dl_type.get())
            || tags.clone().any(|v| v.tci.get() & VLAN_CFI == 0)
        {
            return Err(Misfit::TooLittle);
        }
        let (mut must, mut may) = (0, 0);
        let mut ip = false;
        match f.dl_type.get() {
            eth_type::IP => (must, ip) = (attr::IPV4, true),
            eth_type::IPV6 => (must, ip) = (attr::IPV6, true),
            eth_type::ARP | eth_type::RARP => must = attr::ARP,
            eth_type::MPLS | eth_type::MPLS_MCAST => must = attr::MPLS,
            eth_type::NSH => must = attr::NSH,
            _ => {}
        }
        if ip && f.nw_frag & NW_FRAG_LATER == 0 {
            let v6 = f.dl_type.get() == eth_type::IPV6;
            match f.nw_proto {
                ip_proto::TCP => (must, may) = (must | attr::TCP, attr::TCP_FLAGS),
                ip_proto::UDP => must |= attr::UDP,
                ip_proto::SCTP => must |= attr::SCTP,
                ip_proto::ICMP if !v6 => must |= attr::ICMP,
                ip_proto::ICMPV6 if v6 => {
                    must |= attr::ICMPV6;
                    if matches!(f.tp_src.get(), 135 | 136) && f.tp_dst.get() == 0 {
                        may = attr::ND | attr::ND_EXT;
                    }
                }
                _ => {}
            }
        }
        // A label stack that the key does not end.
        if must & attr::MPLS != 0 {
            let n = f.mpls_lse.iter().take_while(|l| l.get() != 0).count();
            if n < FLOW_MAX_MPLS_LABELS && !f.mpls_lse.iter().any(|l| l.get() & 0x100 != 0) {
                return Err(Misfit::TooLittle);
            }
        }
        let protocols = attr::IPV4
            | attr::IPV6
            | attr::TCP
            | attr::UDP
            | attr::ICMP
            | attr::ICMPV6
            | attr::ARP
            | attr::ND
            | attr::SCTP
            | attr::TCP_FLAGS
            | attr::MPLS
            | attr::NSH
            | attr::ND_EXT;
        let have = self.seen & protocols;
        if have & must != must {
            return Err(Misfit::TooLittle);
        }
        if have & !(must | may) != 0 {
            return Err(Misfit::TooMuch);
        }
        Ok(())
    }

    /// The key of one packet, as `ofproto/trace` takes it: masks do not count, and what its protocol needs may be
    /// missing.
    pub fn into_flow(mut self) -> Result<Flow, String> {
        if let Some(wrong) = self.wrong() {
            return Err(wrong);
        }
        self.drop_misplaced_tags();
        if self.encaps > 0 && self.flow.vlans[0].tci.get() == 0 {
            // A tag that is not there encloses nothing.
            self.flow.vlans = Default::default();
            self.flow.dl_type = 0.into();
        }
        if self.seen & attr::ETHERNET != 0 {
            self.flow.packet_type = 0.into();
        }
        let given = self.seen & attr::ETHERTYPE != 0 || self.encaps > 0;
        self.imply_type(&[(attr::IPV4, eth_type::IP), (attr::IPV6, eth_type::IPV6)]);
        if given || self.flow.packet_type.get() != 0 {
            self.without_ethernet();
        }
        let flow = &mut self.flow;
        // Tags beyond those that packets' keys hold are payload.
        let limit = vlan_limit();
        if let Some(first) = flow.vlans.get(limit).filter(|v| v.tpid.get() != 0) {
            flow.dl_type = first.tpid;
            flow.vlans[limit..].fill(VlanHdr::default());
        } else if self.encaps == 0 && (is_vlan(flow.dl_type.get()) || flow.n_vlans() > 0) {
            flow.dl_type = 0.into();
        }
        self.drop_other_headers();
        self.drop_other_ports();
        Ok(self.flow)
    }

    /// A key and its mask for a datapath flow. No attributes at all mean the empty key, matched exactly.
    pub fn into_match(mut self) -> Result<Match, Errno> {
        let m = &mut self.wc.masks;
        if self.seen == 0 {
            (m.skb_priority, m.pkt_mark, m.dp_hash) = (u32::MAX, u32::MAX, u32::MAX);
            (m.ct_state, m.ct_zone, m.ct_mark) = (0xff, u16::MAX, u32::MAX);
            m.ct_label = [0xff; 16];
            m.packet_type = u32::MAX.into();
            m.dl_src = ferrovs_packet::types::MacAddr::BROADCAST;
            m.dl_dst = m.dl_src;
            m.dl_type = u16::MAX.into();
        } else {
            self.without_ethernet();
            let has = |attr| self.seen & attr != 0;
            if !has(attr::ETHERTYPE) || !self.has_exact_port() || self.encaps > vlan_limit() {
                return Err(Errno::EINVAL);
            }
        }
        self.check().map_err(|_| Errno::EINVAL)?;
        let m = &mut self.wc.masks;
        // What every flow of the datapath matches.
        m.recirc_id = u32::MAX;
        m.in_port = u32::MAX;
        if self.encaps == 0 {
            m.vlans[0].tci = u16::MAX.into();
        }
        m.nw_frag &= NW_FRAG_MASK;
        Ok(Match {
            flow: self.flow,
            wc: self.wc,
        })
    }

    /// A key without `eth()` is that of a packet that begins with the header of its type.
    fn without_ethernet(&mut self) {
        if self.seen & attr::ETHERNET != 0 {
            return;
        }
        let (f, m) = (&mut self.flow, &mut self.wc.masks);
        if self.seen & attr::ETHERTYPE == 0 && f.packet_type.get() >> 16 == 1 {
            f.dl_type = (f.packet_type.get() as u16).into();
            m.dl_type = u16::MAX.into();
            self.seen |= attr::ETHERTYPE;
        }
        let ty = match self.encaps {
            0 => f.dl_type.get(),
            _ => f.vlans[0].tpid.get(),
        };
        f.packet_type = packet_type(1, ty).into();
        (f.vlans, m.vlans) = Default::default();
        self.seen &= !attr::VLAN;
        self.encaps = 0;
    }

    /// A tag that its EtherType does not announce is not there, nor is what it encloses.
    fn drop_misplaced_tags(&mut self) {
        let first = self.flow.vlans[0];
        if self.seen & attr::VLAN == 0 || is_vlan(first.tpid.get()) {
            return;
        }
        self.flow.vlans = Default::default();
        self.encaps = 0;
        self.seen &= !attr::ETHERTYPE;
        self.flow.dl_type = eth_type::NOT_ETH.into();
        if first.tpid.get() != 0 {
            self.flow.dl_type = first.tpid;
            self.seen |= attr::ETHERTYPE;
        }
    }

    /// The EtherType of a key that has none follows from the attribute of its network header.
    fn imply_type(&mut self, implied: &[(u64, u16)]) {
        if self.seen & attr::ETHERTYPE == 0
            && let Some((_, ty)) = implied.iter().find(|(attr, _)| self.seen & attr != 0)
        {
            self.flow.dl_type = (*ty).into();
            self.seen |= attr::ETHERTYPE;
        }
    }

    /// Headers of another type than the packet's are none.
    fn drop_other_headers(&mut self) {
        let f = &mut self.flow;
        let network = match f.dl_type.get() {
            eth_type::IP => attr::IPV4,
            eth_type::IPV6 => attr::IPV6,
            eth_type::ARP => attr::ARP,
            _ => 0,
        };
        if self.seen & network == 0 {
            (f.nw_src, f.nw_dst, f.nw_proto) = Default::default();
            (f.nw_tos, f.nw_ttl, f.nw_frag) = Default::default();
            (f.ipv6_src, f.ipv6_dst, f.ipv6_label) = Default::default();
        }
    }

    /// Ports of another protocol than the packet's are none.
    fn drop_other_ports(&mut self) {
        let ports = match self.flow.nw_proto {
            ip_proto::TCP => attr::TCP,
            ip_proto::UDP => attr::UDP,
            ip_proto::SCTP => attr::SCTP,
            _ => attr::ICMP | attr::ICMPV6,
        };
        if self.seen & ports == 0 {
            (self.flow.tp_src, self.flow.tp_dst) = Default::default();
        }
    }
}

fn is_vlan(ty: u16) -> bool {
    matches!(ty, eth_type::VLAN_8021Q | eth_type::VLAN_8021AD)
}

/// A packet that has the key written in `input`, as `netdev-dummy/receive` takes it, filled with zeros up to
/// `size`. The error is the text that the user sees.
pub fn packet_from_text(input: &str, size: Option<usize>) -> Result<Packet, String> {
    let mut parsed = parse(input, None, false).map_err(|e| e.to_string())?;
    if let Some(wrong) = parsed.wrong() {
        return Err(wrong);
    }
    parsed.imply_type(&[
        (attr::IPV4, eth_type::IP),
        (attr::IPV6, eth_type::IPV6),
        (attr::ARP, eth_type::ARP),
    ]);
    parsed.drop_other_ports();
    let payload = size.map_or(Payload::Default, Payload::TotalLen);
    compose(&parsed.flow, payload).ok_or_else(|| "too small packet len".to_owned())
}
