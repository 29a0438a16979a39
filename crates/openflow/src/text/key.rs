//! Whole flow keys in text, as `ofproto/trace` reads and shows them.

use ferrovs_packet::field::{Field, FieldId, fix_vlan_tpid};
use ferrovs_packet::flow::{FLOW_N_REGS, Flow, FlowWildcards, Match};
use ferrovs_packet::types::{Be16, Be32, OfPort};

use super::Names;
use super::cursor::next_pair;
use super::flow::set_protocol;
use super::match_::format_match;

/// The key of a packet, all of it that its protocols define; metadata that is zero is left out.
pub fn format_flow(flow: &Flow, names: &Names<'_>) -> String {
    let mut wc = FlowWildcards::for_packet(flow);
    clear_zero_metadata(flow, &mut wc);
    let mut out = String::new();
    format_match(&Match::new(flow, &wc), None, names, &mut out);
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
    if flow.packet_type.get() != 0 || flow.recirc_id != 0 {
        wc.masks.packet_type = u32::MAX.into();
    }
    if flow.packet_type.get() != 0 {
        // The packet has no Ethernet header; its type says what is inside.
        wc.masks.dl_type = Be16::ZERO;
        wc.masks.vlans = Default::default();
    }
    if flow.in_port == u32::from(OfPort::NONE.0) {
        wc.masks.in_port = 0;
    }
}

/// Reads a flow key: fields with values, all others zero.
pub fn parse_flow_key(text: &str, names: &Names<'_>) -> Result<Flow, String> {
    let mut m = Match::default();
    let mut rest = text;
    while let Some((key, value)) = next_pair(&mut rest) {
        if value.is_empty() && set_protocol(key, &mut m) {
            continue;
        }
        let field = Field::by_name(key).ok_or_else(|| format!("{text}: unknown field {key}"))?;
        if !field.is_zero(&m.wc.masks) {
            return Err(format!("{text}: field {key} set multiple times"));
        }
        if !field.match_prereqs_ok(&m) {
            return Err(format!("{text}: prerequisites not met for setting {key}"));
        }
        let value = field
            .parse_value(value, names.ports)
            .map_err(|e| format!("{text}: bad value for {key} ({e})"))?;
        field.set_match_exact(&value, &mut m);
    }
    if m.wc.masks.in_port == 0 {
        m.flow.in_port = u32::from(OfPort::NONE.0);
    }
    fix_vlan_tpid(&mut m.flow);
    Ok(m.flow)
}
