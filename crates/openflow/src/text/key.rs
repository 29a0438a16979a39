//! Whole flow keys in text, as `ofproto/trace` reads and shows them.

use ferrovs_packet::field::{Field, FieldId, fix_vlan_tpid};
use ferrovs_packet::flow::{FLOW_N_REGS, Flow, FlowWildcards, Match, NW_FRAG_MASK};
use ferrovs_packet::types::{Be16, Be32, OfPort, eth_type};

use super::Names;
use super::cursor::next_pair;
use super::flow::set_protocol;
use super::match_::format_match;

/// The key of a packet, all of it that its protocols define; metadata that is zero is left out.
pub fn format_flow(flow: &Flow, names: &Names<'_>) -> String {
    let mut wc = FlowWildcards::for_packet(flow);
    clear_zero_metadata(flow, &mut wc);
    if flow.dl_type.get() == eth_type::NSH {
        tell_nsh(flow, &mut wc);
    }
    let mut out = String::new();
    format_match(&Match::new(flow, &wc), None, names, &mut out);
    out
}

/// The type of service header that has four words of context.
const NSH_MDTYPE_1: u8 = 1;

/// A service header is told with the fields of an IP header behind it, and with the context that its type has.
fn tell_nsh(flow: &Flow, wc: &mut FlowWildcards) {
    wc.masks.nw_proto = u8::MAX;
    wc.masks.nw_tos = u8::MAX;
    wc.masks.nw_ttl = u8::MAX;
    wc.masks.nw_frag = NW_FRAG_MASK;
    if flow.nsh.mdtype != NSH_MDTYPE_1 {
        wc.masks.nsh.context = Default::default();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tun::Tun;

    #[test]
    fn a_service_header_is_told_with_its_zeros_and_the_ip_fields() {
        let tun = Tun::auto();
        let names = Names::none(&tun);
        let told = |text: &str| format_flow(&parse_flow_key(text, &names).expect(text), &names);
        let start = "in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,\
                     dl_type=0x894f,nsh_flags=0,nsh_ttl=0,";
        let end = "nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no";
        assert_eq!(
            told("in_port=1,dl_type=0x894f,nsh_mdtype=1,nsh_c1=5"),
            format!(
                "{start}nsh_mdtype=1,nsh_np=0,nsh_spi=0x0,nsh_si=0,nsh_c1=0x5,nsh_c2=0x0,\
                 nsh_c3=0x0,nsh_c4=0x0,{end}"
            )
        );
        // Other types have no words of context.
        assert_eq!(
            told("in_port=1,dl_type=0x894f,nsh_mdtype=2,nsh_spi=0x123"),
            format!("{start}nsh_mdtype=2,nsh_np=0,nsh_spi=0x123,nsh_si=0,{end}")
        );
    }
}
