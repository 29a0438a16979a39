//! Matches as they are on the wire, for those who want to see them uninterpreted.

use std::fmt::Write;

use ferrovs_packet::field::{Field, NoPorts, OxmHeader, format_port};
use ferrovs_packet::types::{MacAddr, OfPort, eth_type, ip_proto};

use crate::legacy::{OFP10_MATCH_LEN, Wire10};
use crate::oxm::bad_wildcards;
use crate::raw::{Carrier, Kind, Raw};
use crate::version::Version;

/// NXT_FLOW_MOD's fixed part, and where the length of the match stands in it.
const NX_FIXED: usize = 32;
const NX_MATCH_LEN: usize = 24;

/// Whether a message has a match that is shown in this way: flow mods of 1.0 and Nicira's.
pub fn is_shown(raw: &Raw, version: Version) -> bool {
    raw.kind == Kind::FlowMod && (raw.carrier == Carrier::Nx || version == Version::V10)
}

/// The match of a flow mod's body (which has been decoded without an error).
pub fn format(body: &[u8], raw: &Raw) -> String {
    let mut out = String::new();
    if raw.carrier == Carrier::Nx {
        let len = body.get(NX_MATCH_LEN..NX_MATCH_LEN + 2);
        let len = len.map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        let entries = body.get(NX_FIXED..NX_FIXED + len).unwrap_or_default();
        format_entries(entries, &mut out);
    } else if let Some(wire) = body
        .get(..OFP10_MATCH_LEN)
        .and_then(|b| Wire10::read(b).ok())
    {
        ofp10(&wire, &mut out);
    }
    out
}

fn hex(bytes: &[u8], out: &mut String) {
    for b in bytes {
        let _ = write!(out, "{b:02x}");
    }
}

/// Appends NXM or OXM entries by the names of their headers: `NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC(0a010105)`.
///
/// It ends at an entry whose value has bits that its mask does not have, and what follows is counted.
pub fn format_entries(mut data: &[u8], out: &mut String) {
    if data.is_empty() {
        out.push_str("<any>");
        return;
    }
    let start = out.len();
    while let Some(h) = OxmHeader::read(data) {
        data = &data[h.size()..];
        let (body, rest) = data.split_at(usize::from(h.len).min(data.len()));
        data = rest;
        let (value, mask) = body.split_at(body.len() / 2);
        if h.has_mask && value.iter().zip(mask).any(|(v, m)| v & !m != 0) {
            bad_wildcards(h);
            break;
        }
        if out.len() != start {
            out.push_str(", ");
        }
        let cookie = h.class == 1 && h.number == 30 && body.len() >= 8;
        match Field::by_oxm(h) {
            _ if cookie => out.push_str("NXM_NX_COOKIE"),
            Some((_, o)) => out.push_str(o.name),
            None => {
                let _ = write!(out, "{}:{}", h.class, h.number);
            }
        }
        if h.has_mask {
            out.push_str("_W(");
            hex(value, out);
            out.push('/');
            hex(mask, out);
        } else {
            out.push('(');
            hex(body, out);
        }
        out.push(')');
    }
    if !data.is_empty() {
        let gap = if out.len() != start { ", " } else { "" };
        let _ = write!(out, "{gap}<{} invalid bytes>", data.len());
    }
}

/// The twelve fields of 1.0; what is wild is a star.
fn ofp10(w: &Wire10, out: &mut String) {
    let dl_type = w.dl_type();
    let proto = w.nw_proto();
    let name = match (dl_type, proto) {
        (Some(eth_type::IP), Some(ip_proto::ICMP)) => "icmp",
        (Some(eth_type::IP), Some(ip_proto::TCP)) => "tcp",
        (Some(eth_type::IP), Some(ip_proto::UDP)) => "udp",
        (Some(eth_type::IP), Some(ip_proto::SCTP)) => "sctp",
        (Some(eth_type::IP), _) => "ip",
        (Some(eth_type::ARP), _) => "arp",
        (Some(eth_type::RARP), _) => "rarp",
        (Some(eth_type::MPLS), _) => "mpls",
        (Some(eth_type::MPLS_MCAST), _) => "mplsm",
        _ => "",
    };
    if !name.is_empty() {
        let _ = write!(out, "{name},");
    }
    let mut field = |name: &str, value: Option<String>| {
        let _ = write!(out, "{name}={},", value.as_deref().unwrap_or("*"));
    };
    let number = |n: Option<u16>| n.map(|n| n.to_string());
    let mac = |m: Option<MacAddr>| m.map(|m| m.to_string());
    let ip = |addr: u32, wild: u32| match wild {
        32.. => None,
        0 => Some(std::net::Ipv4Addr::from(addr).to_string()),
        n => Some(format!("{}/{}", std::net::Ipv4Addr::from(addr), 32 - n)),
    };
    field(
        "in_port",
        w.in_port().map(|p| {
            let mut s = String::new();
            format_port(OfPort(p), &NoPorts, &mut s);
            s
        }),
    );
    field("dl_vlan", number(w.dl_vlan()));
    field("dl_vlan_pcp", number(w.dl_vlan_pcp().map(u16::from)));
    field("dl_src", mac(w.dl_src()));
    field("dl_dst", mac(w.dl_dst()));
    if name.is_empty() {
        field("dl_type", dl_type.map(|t| format!("{t:#06x}")));
    }
    field("nw_src", ip(w.nw_src, w.nw_src_wild_bits()));
    field("nw_dst", ip(w.nw_dst, w.nw_dst_wild_bits()));
    if !["icmp", "tcp", "udp", "sctp"].contains(&name) {
        // The name goes by the bytes, wild or not.
        let arp = w.dl_type == eth_type::ARP || w.dl_type == eth_type::RARP;
        let label = if arp { "arp_op" } else { "nw_proto" };
        field(label, number(proto.map(u16::from)));
    }
    field("nw_tos", number(w.nw_tos().map(u16::from)));
    let (src, dst) = if w.nw_proto == ip_proto::ICMP {
        ("icmp_type", "icmp_code")
    } else {
        ("tp_src", "tp_dst")
    };
    field(src, number(w.tp_src()));
    field(dst, number(w.tp_dst()));
    out.pop();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_by_name_and_value() {
        let show = |data: &[u8]| {
            let mut out = String::new();
            format_entries(data, &mut out);
            out
        };
        assert_eq!(show(&[]), "<any>");
        assert_eq!(
            show(&[0, 0, 6, 2, 8, 0, 0, 0, 15, 8, 10, 1, 1, 0, 255, 255, 255, 0]),
            "NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(0a010100/ffffff00)"
        );
    }
}
