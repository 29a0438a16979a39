//! Whole flow keys in text, as `ofproto/trace` reads and shows them.

use ferrovs_packet::field::{Field, FieldId, fix_vlan_tpid};
use ferrovs_packet::flow::{FLOW_N_REGS, Flow, FlowWildcards, Match, NW_FRAG_MASK};
use ferrovs_packet::types::{Be16, Be32, MacAddr, OfPort, eth_type};

use super::Names;
use super::cursor::next_pair;
use super::flow::set_protocol;
use super::match_::format_match;

/// The key of a packet, all of it that its protocols define; metadata that is zero is left out.
pub fn format_flow(flow: &Flow, names: &Names<'_>) -> String {
    let mut out = String::new();
    format_match(&Match::new(flow, &told(flow)), None, names, &mut out);
    out
}

/// The same without the port, for a packet whose way in is told elsewhere.
pub fn format_flow_without_port(flow: &Flow, names: &Names<'_>) -> String {
    let mut wc = told(flow);
    wc.masks.in_port = 0;
    let mut out = String::new();
    format_match(&Match::new(flow, &wc), None, names, &mut out);
    out
}

/// The part of a key that is told.
fn told(flow: &Flow) -> FlowWildcards {
    let typed = with_ethertype(flow);
    let mut wc = FlowWildcards::for_packet(&typed);
    clear_zero_metadata(flow, &mut wc);
    if flow.dl_type.get() == eth_type::NSH {
        tell_nsh(flow, &mut wc);
    }
    if typed.dl_type != flow.dl_type && typed.dl_type.get() == eth_type::IP {
        // Nothing of the key says that there is no connection.
        wc.masks.ct_nw_src = Be32::MAX_VALUE;
        wc.masks.ct_nw_dst = Be32::MAX_VALUE;
    }
    wc
}

/// The key of a packet without Ethernet header has the fields that the type of the packet implies, but for those of
/// a service header.
fn with_ethertype(flow: &Flow) -> Flow {
    let mut typed = *flow;
    let ty = flow.packet_type.get();
    if ty >> 16 == 1 && flow.dl_type.get() == 0 && ty as u16 != eth_type::NSH {
        typed.dl_type = (ty as u16).into();
    }
    typed
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
        wc.masks.dl_src = MacAddr::ZERO;
        wc.masks.dl_dst = MacAddr::ZERO;
        wc.masks.vlans = Default::default();
    }
}

/// Reads a flow key: fields with values, all others zero.
pub fn parse_flow_key(text: &str, names: &Names<'_>) -> Result<Flow, String> {
    let mut m = parse_exact_match(text, names)?;
    if m.wc.masks.in_port == 0 {
        m.flow.in_port = u32::from(OfPort::NONE.0);
    }
    fix_vlan_tpid(&mut m.flow);
    Ok(m.flow)
}

/// Reads fields with values; the match is on those that are given, whole.
pub fn parse_exact_match(text: &str, names: &Names<'_>) -> Result<Match, String> {
    let mut m = Match::default();
    let mut rest = text;
    while let Some((key, value)) = next_pair(&mut rest) {
        let typed = m.wc.masks.dl_type.get() != 0;
        if value.is_empty() && set_protocol(key, &mut m) {
            if typed {
                return Err(format!("{text}: Ethernet type set multiple times"));
            }
            continue;
        }
        let field = Field::by_name(key).ok_or_else(|| format!("{text}: unknown field {key}"))?;
        if !field.is_zero(&m.wc.masks) {
            return Err(format!("{text}: field {key} set multiple times"));
        }
        // A key has no mask that could say that the connection is not invalid.
        let (flow, wc) = (m.flow, FlowWildcards::catchall());
        let unmasked = Match { flow, wc };
        if !field.match_prereqs_ok(&unmasked) {
            return Err(format!("{text}: prerequisites not met for setting {key}"));
        }
        let value = field
            .parse_value(value, names.ports)
            .map_err(|e| format!("{text}: bad value for {key} ({e})"))?;
        field.set_match_exact(&value, &mut m);
    }
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tun::Tun;

    fn told(text: &str) -> String {
        let tun = Tun::auto();
        let names = Names::none(&tun);
        parse_flow_key(text, &names).map_or_else(|e| e, |flow| format_flow(&flow, &names))
    }

    #[test]
    fn a_packet_without_ethernet_has_the_fields_of_its_type() {
        let ip = "nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no";
        for (text, want) in [
            (
                "in_port=1,packet_type=(1,0x806),arp_spa=1.2.3.4",
                "packet_type=(1,0x806),in_port=1,arp_spa=1.2.3.4,arp_tpa=0.0.0.0,arp_op=0,\
                 arp_sha=00:00:00:00:00:00,arp_tha=00:00:00:00:00:00"
                    .to_owned(),
            ),
            (
                "packet_type=(1,0x800),nw_src=1.2.3.4",
                format!(
                    "ct_nw_src=0.0.0.0,ct_nw_dst=0.0.0.0,packet_type=(1,0x800),in_port=ANY,\
                     nw_src=1.2.3.4,nw_dst=0.0.0.0,{ip}"
                ),
            ),
            (
                "packet_type=(1,0x800),ip",
                format!("packet_type=(1,0x800),in_port=ANY,nw_src=0.0.0.0,nw_dst=0.0.0.0,{ip}"),
            ),
            (
                "in_port=1,packet_type=(1,0x8847),mpls_label=5,mpls_bos=1",
                "packet_type=(1,0x8847),in_port=1,mpls_label=5,mpls_tc=0,mpls_ttl=0,mpls_bos=1"
                    .to_owned(),
            ),
            (
                "packet_type=(1,0x894f),nsh_spi=5",
                "packet_type=(1,0x894f),in_port=ANY".to_owned(),
            ),
        ] {
            assert_eq!(told(text), want, "{text}");
        }
    }

    #[test]
    fn a_key_says_each_thing_once() {
        for (text, what) in [
            ("ip,udp", "Ethernet type"),
            ("dl_type=0x800,tcp", "Ethernet type"),
            ("tcp,dl_type=0x800", "field dl_type"),
            ("tcp,nw_proto=6", "field nw_proto"),
            ("in_port=5,in_port=5", "field in_port"),
        ] {
            assert_eq!(told(text), format!("{text}: {what} set multiple times"));
        }
    }

    #[test]
    fn a_tracked_key_is_of_a_connection_only_when_its_state_says_so() {
        let text = "ct_state=trk,ip,ct_nw_proto=6";
        let error = format!("{text}: prerequisites not met for setting ct_nw_proto");
        assert_eq!(told(text), error);
        assert!(told("ct_state=trk|est,ip,ct_nw_proto=6").starts_with("ct_state=est|trk,"));
    }

    #[test]
    fn a_service_header_is_told_with_its_zeros_and_the_ip_fields() {
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
