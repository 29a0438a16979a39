//! Matches as text.

use std::fmt::Write;

use ferrovs_packet::field::{FieldId, format_dec, format_flags_masked};
use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, FLOW_MAX_VLAN_HEADERS, FLOW_TNL_F_CSUM, FLOW_TNL_F_DONT_FRAGMENT,
    FLOW_TNL_F_KEY, FLOW_TNL_F_MASK, FLOW_TNL_F_OAM, Match, VLAN_CFI, VLAN_PCP_MASK,
    VLAN_PCP_SHIFT, VLAN_VID_MASK,
};
use ferrovs_packet::miniflow::FlowMap;
use ferrovs_packet::types::{eth_type, ip_proto};

use super::Names;
use super::color::{self, Colors};
use super::format::hex;
use crate::flow::DEFAULT_PRIORITY;

const TUN_FLAGS: [(u32, &str); 4] = [
    (FLOW_TNL_F_DONT_FRAGMENT as u32, "df"),
    (FLOW_TNL_F_CSUM as u32, "csum"),
    (FLOW_TNL_F_KEY as u32, "key"),
    (FLOW_TNL_F_OAM as u32, "oam"),
];

struct Printer<'a> {
    m: &'a Match,
    /// The words that the match says anything of: most fields are known to be wild by it.
    map: FlowMap,
    names: &'a Names<'a>,
    out: &'a mut String,
}

impl Printer<'_> {
    /// `name=value[/mask],` if the field matters.
    fn field_as(&mut self, id: FieldId, name: &str) {
        let f = id.field();
        let (m, tun) = (self.m, self.names.tun);
        if !f.words.intersects(self.map) || f.is_all_wild(&m.wc) {
            return;
        }
        let (value, mask) = tun.with(|t| (f.value_in(&m.flow, t), f.mask_of_in(&m.wc, t)));
        self.out.push_str(name);
        self.out.push('=');
        f.format(&value, Some(&mask), self.names.ports, self.out);
        self.out.push(',');
    }

    fn field(&mut self, id: FieldId) {
        self.field_as(id, id.field().name);
    }

    fn fields(&mut self, ids: &[FieldId]) {
        for &id in ids {
            self.field(id);
        }
    }

    /// The flags of the service header: decimal when all of them matter.
    fn nsh_flags(&mut self) {
        let (value, mask) = (self.m.flow.nsh.flags, self.m.wc.masks.nsh.flags);
        let _ = match mask {
            0 => Ok(()),
            u8::MAX => write!(self.out, "nsh_flags={value},"),
            _ => write!(self.out, "nsh_flags={value:#04x}/{mask:#04x},"),
        };
    }

    /// A part of the service header that is hexadecimal also when it is zero.
    fn nsh_hex(&mut self, id: FieldId) {
        let field = id.field();
        if !field.words.intersects(self.map) {
            return;
        }
        let mask = field.value(&self.m.wc.masks).to_u64();
        let value = field.value(&self.m.flow).to_u64();
        let name = field.name;
        let _ = if mask == 0 {
            Ok(())
        } else if mask == (1u64 << field.n_bits) - 1 {
            write!(self.out, "{name}={value:#x},")
        } else {
            write!(self.out, "{name}={value:#x}/{mask:#x},")
        };
    }

    /// A transport port, ICMP type or group policy: 16 bits in the key, hexadecimal under a partial mask.
    fn port(&mut self, id: FieldId, name: &str) {
        let field = id.field();
        if !field.words.intersects(self.map) {
            return;
        }
        let mask = field.value(&self.m.wc.masks).to_u64();
        let value = field.value(&self.m.flow).to_u64();
        let _ = match mask {
            0 => return,
            0xffff => write!(self.out, "{name}={value},"),
            _ => write!(self.out, "{name}={value:#x}/{mask:#x},"),
        };
    }

    fn hex(&mut self, name: &str, value: u64, mask: u64, full: u64) {
        if mask == 0 {
            return;
        }
        let v = hex(value);
        if mask == full {
            let _ = write!(self.out, "{name}={v},");
        } else {
            let _ = write!(self.out, "{name}={v}/{mask:#x},");
        }
    }

    fn tunnel(&mut self) {
        use FieldId::*;
        self.fields(&[TunId, TunSrc, TunDst, TunIpv6Src, TunIpv6Dst]);
        let (t, w) = (&self.m.flow.tunnel, &self.m.wc.masks.tunnel);
        self.port(TunGbpId, "tun_gbp_id");
        if w.gbp_flags != 0 {
            let _ = write!(self.out, "tun_gbp_flags={},", hex(t.gbp_flags.into()));
        }
        self.hex("tun_tos", t.ip_tos.into(), w.ip_tos.into(), 0xff);
        if w.ip_ttl != 0 {
            let _ = write!(self.out, "tun_ttl={},", t.ip_ttl);
        }
        self.erspan();
        // These two have other names in matches that are shown.
        if w.gtpu_flags != 0 && t.gtpu_flags != 0 {
            let _ = write!(self.out, "gtpu_flags={:#x},", t.gtpu_flags);
        }
        if w.gtpu_msgtype != 0 && t.gtpu_msgtype != 0 {
            let _ = write!(self.out, "gtpu_msgtype={},", t.gtpu_msgtype);
        }
        let mask = w.flags & FLOW_TNL_F_MASK;
        if mask != 0 {
            self.out.push_str("tun_flags=");
            format_flags_masked(
                &TUN_FLAGS,
                (t.flags & FLOW_TNL_F_MASK).into(),
                mask.into(),
                FLOW_TNL_F_MASK.into(),
                self.out,
            );
            self.out.push(',');
        }
        let present = w.metadata.present;
        for i in (0..64).filter(|i| present & 1 << i != 0) {
            let Some(id) = FieldId::tun_metadata(i) else {
                continue;
            };
            let f = id.field();
            let tun = self.names.tun;
            let (value, mask) =
                tun.with(|t| (f.value_in(&self.m.flow, t), f.mask_of_in(&self.m.wc, t)));
            self.out.push_str(f.name);
            // Only the presence of the option is matched.
            if !mask.is_zero() {
                self.out.push('=');
                let full = mask.is_ones(tun.bits(f))
                    || tun.is_auto() && crate::oxm::option_len(&mask).is_some();
                f.format(
                    &value,
                    if full { None } else { Some(&mask) },
                    self.names.ports,
                    self.out,
                );
            }
            self.out.push(',');
        }
    }

    /// The version of an ERSPAN header, and what this version has; masks are not shown.
    fn erspan(&mut self) {
        let (t, w) = (&self.m.flow.tunnel, &self.m.wc.masks.tunnel);
        if w.erspan_ver == 0 || t.erspan_ver == 0 {
            return;
        }
        let _ = write!(self.out, "tun_erspan_ver={},", t.erspan_ver);
        if t.erspan_ver == 1 && w.erspan_idx != 0 {
            let _ = write!(self.out, "tun_erspan_idx={},", hex(t.erspan_idx.into()));
        }
        if t.erspan_ver == 2 && t.erspan_dir != 0 {
            let _ = write!(self.out, "tun_erspan_dir={},", t.erspan_dir);
        }
        if t.erspan_ver == 2 && t.erspan_hwid != 0 {
            let _ = write!(self.out, "tun_erspan_hwid={:#x},", t.erspan_hwid);
        }
    }

    fn vlans(&mut self) {
        for i in 0..FLOW_MAX_VLAN_HEADERS {
            let tci = self.m.flow.vlans[i].tci.get();
            let mask = self.m.wc.masks.vlans[i].tci.get();
            if mask == 0 {
                continue;
            }
            let suffix = if i == 0 { String::new() } else { i.to_string() };
            let (vid, pcp) = (mask & VLAN_VID_MASK, mask & VLAN_PCP_MASK);
            let cfi = mask & VLAN_CFI != 0;
            let whole = (vid == 0 || vid == VLAN_VID_MASK) && (pcp == 0 || pcp == VLAN_PCP_MASK);
            if cfi && tci & VLAN_CFI != 0 && whole && (vid != 0 || pcp != 0) {
                if vid != 0 {
                    let _ = write!(self.out, "dl_vlan{suffix}={},", tci & VLAN_VID_MASK);
                }
                if pcp != 0 {
                    let _ = write!(self.out, "dl_vlan_pcp{suffix}={},", tci >> VLAN_PCP_SHIFT);
                }
            } else if mask == 0xffff {
                let _ = write!(self.out, "vlan_tci{suffix}={tci:#06x},");
            } else {
                let _ = write!(self.out, "vlan_tci{suffix}={tci:#06x}/{mask:#06x},");
            }
        }
    }

    fn all(&mut self) {
        use FieldId::*;
        self.metadata();
        let protocol = self.protocol();
        for i in 0..32 {
            self.fields(FieldId::reg(i).as_slice());
        }
        self.tunnel();
        self.fields(&[Metadata, InPort]);
        self.vlans();
        self.field_as(EthSrc, "dl_src");
        self.field_as(EthDst, "dl_dst");
        if !protocol.type_told && self.m.wc.masks.dl_type.get() != 0 {
            let _ = write!(self.out, "dl_type={:#06x},", protocol.dl_type);
        }
        self.network(&protocol);
        self.transport(protocol.dl_type);
    }

    /// What goes along with a packet.
    fn metadata(&mut self) {
        use FieldId::*;
        let (flow, w) = (&self.m.flow, &self.m.wc.masks);
        self.fields(&[PktMark]);
        self.hex(
            "recirc_id",
            flow.recirc_id.into(),
            w.recirc_id.into(),
            u32::MAX.into(),
        );
        self.fields(&[DpHash, ConjId]);
        self.hex(
            "skb_priority",
            flow.skb_priority.into(),
            w.skb_priority.into(),
            u32::MAX.into(),
        );
        self.fields(&[ActsetOutput]);
        if w.ct_state != 0 {
            self.out.push_str("ct_state=");
            let names = &ferrovs_packet::field::CT_STATE_FLAGS;
            let (state, mask) = (flow.ct_state.into(), w.ct_state.into());
            if w.ct_state == 0xff {
                ferrovs_packet::field::format_flags(names, state, '|', self.out);
            } else {
                format_flags_masked(names, state, mask, u32::MAX, self.out);
            }
            self.out.push(',');
        }
        if w.ct_zone != 0 {
            let _ = write!(self.out, "ct_zone={},", flow.ct_zone);
        }
        self.fields(&[
            CtMark, CtLabel, CtNwSrc, CtIpv6Src, CtNwDst, CtIpv6Dst, CtNwProto,
        ]);
        self.port(CtTpSrc, "ct_tp_src");
        self.port(CtTpDst, "ct_tp_dst");
    }

    /// The protocol by its name, if it has one.
    fn protocol(&mut self) -> Protocol {
        let (flow, w) = (&self.m.flow, &self.m.wc.masks);
        let mut dl_type = flow.dl_type.get();
        let has_type = w.dl_type.get() != 0;
        if w.packet_type.get() != 0 {
            let pt = flow.packet_type.get();
            if pt == 0 {
                // A megaflow always tells it; elsewhere it goes without saying.
                if w.recirc_id != 0 {
                    self.out.push_str("eth,");
                }
            } else {
                self.field(FieldId::PacketType);
                if pt >> 16 == 1 {
                    dl_type = pt as u16;
                }
            }
        }
        let untold = Protocol {
            dl_type,
            type_told: false,
            proto_told: false,
        };
        if !has_type {
            return untold;
        }
        let proto = (w.nw_proto != 0).then_some(flow.nw_proto);
        let (name, proto_told) = match (dl_type, proto) {
            (eth_type::IP, Some(ip_proto::ICMP)) => ("icmp", true),
            (eth_type::IP, Some(ip_proto::TCP)) => ("tcp", true),
            (eth_type::IP, Some(ip_proto::UDP)) => ("udp", true),
            (eth_type::IP, Some(ip_proto::SCTP)) => ("sctp", true),
            (eth_type::IPV6, Some(ip_proto::ICMPV6)) => ("icmp6", true),
            (eth_type::IPV6, Some(ip_proto::TCP)) => ("tcp6", true),
            (eth_type::IPV6, Some(ip_proto::UDP)) => ("udp6", true),
            (eth_type::IPV6, Some(ip_proto::SCTP)) => ("sctp6", true),
            (eth_type::IP, _) => ("ip", false),
            (eth_type::IPV6, _) => ("ipv6", false),
            (eth_type::ARP, _) => ("arp", false),
            (eth_type::RARP, _) => ("rarp", false),
            (eth_type::MPLS, _) => ("mpls", false),
            (eth_type::MPLS_MCAST, _) => ("mplsm", false),
            _ => return untold,
        };
        self.out.push_str(name);
        self.out.push(',');
        Protocol {
            dl_type,
            type_told: true,
            proto_told,
        }
    }

    fn network(&mut self, protocol: &Protocol) {
        use FieldId::*;
        let (flow, w) = (&self.m.flow, &self.m.wc.masks);
        let dl_type = protocol.dl_type;
        let is_arp = dl_type == eth_type::ARP || dl_type == eth_type::RARP;
        if dl_type == eth_type::IPV6 {
            self.fields(&[Ipv6Src, Ipv6Dst]);
            let (label, mask) = (flow.ipv6_label.get(), w.ipv6_label.get());
            if mask != 0 {
                if mask == 0xfffff || mask == u32::MAX {
                    let _ = write!(self.out, "ipv6_label={label:#07x},");
                } else {
                    let _ = write!(self.out, "ipv6_label={label:#07x}/{mask:#07x},");
                }
            }
        } else if is_arp {
            self.fields(&[ArpSpa, ArpTpa]);
        } else {
            self.field_as(IpSrc, "nw_src");
            self.field_as(IpDst, "nw_dst");
        }
        let has_proto = !protocol.proto_told && w.nw_proto != 0;
        if is_arp {
            if has_proto {
                let _ = write!(self.out, "arp_op={},", flow.nw_proto);
            }
            self.fields(&[ArpSha, ArpTha]);
        }
        if dl_type == eth_type::NSH {
            self.nsh();
        }
        if has_proto && !is_arp {
            let _ = write!(self.out, "nw_proto={},", flow.nw_proto);
        }
        if w.nw_tos & 0xfc != 0 {
            let _ = write!(self.out, "nw_tos={},", flow.nw_tos & 0xfc);
        }
        if w.nw_tos & 3 != 0 {
            let _ = write!(self.out, "nw_ecn={},", flow.nw_tos & 3);
        }
        if w.nw_ttl != 0 {
            let _ = write!(self.out, "nw_ttl={},", flow.nw_ttl);
        }
        self.fields(&[MplsLabel, MplsTc, MplsTtl, MplsBos]);
        for i in 1..FLOW_MAX_MPLS_LABELS {
            let (lse, mask) = (flow.mpls_lse[i].get(), w.mpls_lse[i].get());
            let _ = match mask {
                0 => Ok(()),
                u32::MAX => write!(self.out, "mpls_lse{i}={lse},"),
                _ => write!(self.out, "mpls_lse{i}={:#010x}/{mask:#010x},", lse & mask),
            };
        }
        self.field_as(IpFrag, "nw_frag");
    }

    /// The service header.
    fn nsh(&mut self) {
        use FieldId::*;
        self.nsh_flags();
        self.fields(&[NshTtl, NshMdtype, NshNp]);
        self.nsh_hex(NshSpi);
        self.field(NshSi);
        for id in [NshC1, NshC2, NshC3, NshC4] {
            self.nsh_hex(id);
        }
    }

    fn transport(&mut self, dl_type: u16) {
        use FieldId::*;
        let (flow, w) = (&self.m.flow, &self.m.wc.masks);
        let icmp = dl_type == eth_type::IP && flow.nw_proto == ip_proto::ICMP;
        let icmp6 = dl_type == eth_type::IPV6 && flow.nw_proto == ip_proto::ICMPV6;
        if icmp {
            self.port(TcpSrc, "icmp_type");
            self.port(TcpDst, "icmp_code");
        } else if icmp6 {
            self.port(TcpSrc, "icmp_type");
            self.port(TcpDst, "icmp_code");
            self.fields(&[NdTarget, NdSll, NdTll]);
            if w.igmp_group_ip4.get() != 0 {
                self.field(NdReserved);
            }
            if w.tcp_flags.get() != 0 {
                self.field(NdOptionsType);
            }
        } else {
            self.port(TcpSrc, "tp_src");
            self.port(TcpDst, "tp_dst");
        }
        if flow.nw_proto == ip_proto::TCP && w.tcp_flags.get() != 0 {
            self.field(TcpFlags);
        }
    }
}

/// What the name of a protocol in front tells of a match.
struct Protocol {
    dl_type: u16,
    type_told: bool,
    proto_told: bool,
}

/// Appends a match. `priority` is shown unless it is the default.
pub fn format_match(m: &Match, priority: Option<u16>, names: &Names<'_>, out: &mut String) {
    let start = out.len();
    if let Some(p) = priority.filter(|p| *p != DEFAULT_PRIORITY) {
        out.push_str("priority=");
        format_dec(p.into(), out);
        out.push(',');
    }
    let map = FlowMap::of(&m.wc.masks);
    Printer { m, map, names, out }.all();
    if out.len() > start && out.ends_with(',') {
        out.pop();
    }
    color::repaint(start, out, Colors::match_);
}
