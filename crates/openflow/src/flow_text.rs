//! Flows as `ovs-ofctl` takes them: `priority=5,ip,nw_src=10.0.0.0/8 actions=output:2` (ovs-ofctl(8), "Flow Syntax").

use ferrovs_packet::field::{Field, FieldId, FieldValue, PortMap, parse_port};
use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_packet::types::{MacAddr, OfPort, eth_type, ip_proto};

use crate::action::TABLE_ALL;
use crate::action::parse::parse_actions;
use crate::flow::{FlowMod, FlowModCommand, FlowModFlags, FlowStatsRequest};
use crate::token;

/// Words that stand for an EtherType and perhaps an IP protocol.
const PROTOCOLS: &[(&str, u16, u8)] = &[
    ("ip", eth_type::IP, 0),
    ("ipv4", eth_type::IP, 0),
    ("ip4", eth_type::IP, 0),
    ("arp", eth_type::ARP, 0),
    ("icmp", eth_type::IP, ip_proto::ICMP),
    ("tcp", eth_type::IP, ip_proto::TCP),
    ("udp", eth_type::IP, ip_proto::UDP),
    ("sctp", eth_type::IP, ip_proto::SCTP),
    ("ipv6", eth_type::IPV6, 0),
    ("ip6", eth_type::IPV6, 0),
    ("icmp6", eth_type::IPV6, ip_proto::ICMPV6),
    ("tcp6", eth_type::IPV6, ip_proto::TCP),
    ("udp6", eth_type::IPV6, ip_proto::UDP),
    ("sctp6", eth_type::IPV6, ip_proto::SCTP),
    ("rarp", eth_type::RARP, 0),
    ("mpls", eth_type::MPLS, 0),
    ("mplsm", eth_type::MPLS_MCAST, 0),
];

/// Parts of the syntax that depend on what the flow is for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Accepts {
    out_port: bool,
    actions: bool,
    timeouts: bool,
    priority: bool,
    flags: bool,
    importance: bool,
}

fn accepts(command: Option<FlowModCommand>) -> Accepts {
    let none = Accepts {
        out_port: false,
        actions: false,
        timeouts: false,
        priority: false,
        flags: false,
        importance: false,
    };
    match command {
        None | Some(FlowModCommand::Delete) => Accepts {
            out_port: true,
            ..none
        },
        Some(FlowModCommand::DeleteStrict) => Accepts {
            out_port: true,
            priority: true,
            ..none
        },
        Some(FlowModCommand::Add) => Accepts {
            actions: true,
            timeouts: true,
            priority: true,
            flags: true,
            importance: true,
            ..none
        },
        Some(FlowModCommand::Modify | FlowModCommand::ModifyStrict) => Accepts {
            actions: true,
            timeouts: true,
            priority: true,
            flags: true,
            ..none
        },
    }
}

/// Reads a flow mod.
pub fn parse_flow_mod(
    text: &str,
    command: FlowModCommand,
    ports: &dyn PortMap,
) -> Result<FlowMod, String> {
    parse(text, Some(command), ports)
}

/// Reads the match of a request for statistics.
pub fn parse_flow_stats_request(
    text: &str,
    aggregate: bool,
    ports: &dyn PortMap,
) -> Result<FlowStatsRequest, String> {
    let fm = parse(text, None, ports)?;
    Ok(FlowStatsRequest {
        aggregate,
        match_: fm.match_,
        cookie: fm.cookie,
        cookie_mask: fm.cookie_mask,
        out_port: fm.out_port,
        out_group: fm.out_group,
        table_id: fm.table_id,
    })
}

fn parse(
    text: &str,
    command: Option<FlowModCommand>,
    ports: &dyn PortMap,
) -> Result<FlowMod, String> {
    let accepts = accepts(command);
    let mut fm = FlowMod {
        command: command.unwrap_or(FlowModCommand::Delete),
        ..FlowMod::default()
    };
    let (fields, actions) = split_actions(text, accepts.actions)?;
    let mut new_cookie = None;
    let mut rest = fields;
    while let Some(t) = token::next(&mut rest) {
        if let Some((_, dl_type, proto)) = PROTOCOLS
            .iter()
            .find(|p| p.0 == t.key)
            .filter(|_| t.delimiter.is_none())
        {
            set_protocol(&mut fm.match_, *dl_type, *proto);
            continue;
        }
        if t.key == "eth" && t.delimiter.is_none() {
            set_exact(&mut fm.match_, FieldId::PacketType, 0);
            continue;
        }
        if let Some(flag) = flag(t.key).filter(|_| accepts.flags && t.delimiter.is_none()) {
            fm.flags |= flag;
            continue;
        }
        if matches!(t.key, "no_readonly_table" | "allow_hidden_fields") && t.delimiter.is_none() {
            continue;
        }
        if t.delimiter.is_none() {
            return Err(format!("field {} missing value", t.key));
        }
        match t.key {
            "table" => {
                fm.table_id = token::number(t.value)
                    .and_then(|n| u8::try_from(n).ok())
                    .ok_or_else(|| format!("unknown table \"{}\"", t.value))?;
            }
            "out_port" if accepts.out_port => {
                fm.out_port = parse_port(t.value, ports)
                    .ok_or_else(|| format!("{} is not a valid OpenFlow port", t.value))?;
            }
            "out_group" if accepts.out_port => {
                fm.out_group = bounded(t.value, "out_group", u32::MAX)?
            }
            "priority" if accepts.priority => {
                fm.priority = bounded(t.value, "priority", u32::from(u16::MAX))? as u16
            }
            "importance" if accepts.importance => {
                fm.importance = bounded(t.value, "importance", u32::from(u16::MAX))? as u16;
            }
            "idle_timeout" if accepts.timeouts => {
                fm.idle_timeout = bounded(t.value, t.key, 0xffff)? as u16
            }
            "hard_timeout" if accepts.timeouts => {
                fm.hard_timeout = bounded(t.value, t.key, 0xffff)? as u16
            }
            "cookie" => match t.value.split_once('/') {
                Some((value, mask)) => {
                    if command == Some(FlowModCommand::Add) {
                        return Err("flow additions cannot use a cookie mask".into());
                    }
                    fm.cookie = token::bounded(value, "cookie", u64::MAX)?;
                    fm.cookie_mask = token::bounded(mask, "cookie mask", u64::MAX)?;
                }
                None => new_cookie = Some(token::bounded(t.value, "cookie", u64::MAX)?),
            },
            // What dump-flows prints can be given back.
            "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {}
            key => match_field(&mut fm.match_, key, t.value, ports)?,
        }
    }
    match (command, new_cookie) {
        (Some(FlowModCommand::Add), cookie) => fm.new_cookie = cookie.unwrap_or(0),
        (Some(FlowModCommand::Modify | FlowModCommand::ModifyStrict), Some(cookie)) => {
            fm.new_cookie = cookie;
            fm.modify_cookie = true;
        }
        (_, Some(cookie)) => {
            fm.cookie = cookie;
            fm.cookie_mask = u64::MAX;
        }
        (_, None) => {}
    }
    if command == Some(FlowModCommand::Add)
        && fm.table_id == TABLE_ALL
        && fields.contains("table=255")
    {
        return Err("unknown table \"255\"".into());
    }
    if let Some(actions) = actions {
        fm.actions = parse_actions(actions, ports)?;
    }
    Ok(fm)
}

/// The part before `actions=` and the part behind.
fn split_actions(text: &str, wanted: bool) -> Result<(&str, Option<&str>), String> {
    if !wanted {
        return Ok((text, None));
    }
    let at = text.find("action").ok_or("must specify an action")?;
    let tail = &text[at..];
    let body = tail.split_once('=').ok_or("must specify an action")?.1;
    Ok((&text[..at], Some(body)))
}

fn bounded(text: &str, what: &str, max: u32) -> Result<u32, String> {
    token::bounded(text, what, u64::from(max)).map(|n| n as u32)
}

fn flag(key: &str) -> Option<FlowModFlags> {
    Some(match key {
        "send_flow_rem" => FlowModFlags::SEND_FLOW_REM,
        "check_overlap" => FlowModFlags::CHECK_OVERLAP,
        "reset_counts" => FlowModFlags::RESET_COUNTS,
        "no_packet_counts" => FlowModFlags::NO_PKT_COUNTS,
        "no_byte_counts" => FlowModFlags::NO_BYT_COUNTS,
        _ => return None,
    })
}

fn set_exact(m: &mut Match, id: FieldId, value: u64) {
    id.field()
        .set_match_exact(&FieldValue::from(u128::from(value)), m);
}

fn set_protocol(m: &mut Match, dl_type: u16, proto: u8) {
    set_exact(m, FieldId::EthType, dl_type.into());
    if proto != 0 {
        set_exact(m, FieldId::NwProto, proto.into());
    }
}

fn match_field(m: &mut Match, key: &str, value: &str, ports: &dyn PortMap) -> Result<(), String> {
    let Some(field) = Field::by_name(key) else {
        return Err(format!("unknown keyword {key}"));
    };
    // `tp_src` and the like mean the field of whichever protocol the match has.
    let (value, mask) = field.parse(value, ports)?;
    field.set_match(&value, &mask, m);
    Ok(())
}

/// Clears members that mean nothing for the match's protocol. True if there were any.
///
/// Members are judged by their storage, which several fields of different protocols share.
pub fn normalize(m: &mut Match) -> bool {
    let before = *m;
    let exact_type = m.wc.masks.dl_type.get() == 0xffff;
    let dl_type = if exact_type { m.flow.dl_type.get() } else { 0 };
    let (ip, ipv6) = (dl_type == eth_type::IP, dl_type == eth_type::IPV6);
    let arp = matches!(dl_type, eth_type::ARP | eth_type::RARP);
    let masks = &mut m.wc.masks;
    if !ip && !arp {
        masks.nw_src = 0.into();
        masks.nw_dst = 0.into();
    }
    if !ipv6 {
        masks.ipv6_src = [0; 16];
        masks.ipv6_dst = [0; 16];
        masks.ipv6_label = 0.into();
    }
    if !ip && !ipv6 {
        (masks.nw_tos, masks.nw_ttl, masks.nw_frag) = (0, 0, 0);
        if !arp {
            masks.nw_proto = 0;
        }
    }
    let proto = if (ip || ipv6) && masks.nw_proto == 0xff {
        m.flow.nw_proto
    } else {
        0
    };
    let icmp = ip && matches!(proto, ip_proto::ICMP | ip_proto::IGMP);
    let icmp6 = ipv6 && proto == ip_proto::ICMPV6;
    let ports = matches!(proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
    if !ports && !icmp && !icmp6 {
        masks.tp_src = 0.into();
        masks.tp_dst = 0.into();
    }
    let nd = icmp6 && masks.tp_src.get() == 0xffff && matches!(m.flow.tp_src.get(), 135 | 136);
    if !nd {
        masks.nd_target = [0; 16];
        masks.igmp_group_ip4 = 0.into();
        if !arp {
            masks.arp_sha = MacAddr::ZERO;
            masks.arp_tha = MacAddr::ZERO;
        }
        if proto != ip_proto::TCP {
            masks.tcp_flags = 0.into();
        }
    }
    if !matches!(dl_type, eth_type::MPLS | eth_type::MPLS_MCAST) {
        masks.mpls_lse = Default::default();
    }
    if dl_type != eth_type::NSH {
        masks.nsh = Default::default();
    }
    let wc = m.wc;
    m.flow.mask(&wc);
    *m != before
}

/// Reads a flow key as `ofproto/trace` takes it: fields with values, all others zero. The second part has a bit
/// for each one that was given.
pub fn parse_flow_key(text: &str, ports: &dyn PortMap) -> Result<(Flow, FlowWildcards), String> {
    let mut m = Match::default();
    let mut rest = text;
    while let Some(t) = token::next(&mut rest) {
        if let Some((_, dl_type, proto)) = PROTOCOLS
            .iter()
            .find(|p| p.0 == t.key)
            .filter(|_| t.delimiter.is_none())
        {
            set_protocol(&mut m, *dl_type, *proto);
            continue;
        }
        let field =
            Field::by_name(t.key).ok_or_else(|| format!("{text}: unknown field {}", t.key))?;
        if !field.is_zero(&m.wc.masks) {
            return Err(format!("{text}: field {} set multiple times", t.key));
        }
        if !field.match_prereqs_ok(&m) {
            return Err(format!(
                "{text}: prerequisites not met for setting {}",
                t.key
            ));
        }
        let value = field
            .parse_value(t.value, ports)
            .map_err(|e| format!("{text}: bad value for {} ({e})", t.key))?;
        field.set_match_exact(&value, &mut m);
    }
    if m.wc.masks.in_port == 0 {
        m.flow.in_port = u32::from(OfPort::NONE.0);
    }
    Ok((m.flow, m.wc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::match_text::{Names, format_match};
    use ferrovs_packet::field::{NO_TUN_TABLE, NoPorts};

    fn add(text: &str) -> Result<String, String> {
        let mut fm = parse_flow_mod(text, FlowModCommand::Add, &NoPorts)?;
        normalize(&mut fm.match_);
        let mut out = String::new();
        let names = Names {
            ports: &NoPorts,
            tunnel: &NO_TUN_TABLE,
        };
        format_match(&fm.match_, i32::from(fm.priority), names, &mut out);
        out.push_str(" actions=");
        crate::action::text::format_actions(&fm.actions, &NoPorts, &mut out);
        Ok(out)
    }

    #[test]
    fn flows_read_back_as_open_vswitch_prints_them() {
        // Left: what a user types; right: what `ovs-ofctl parse-flow` of Open vSwitch 3.1 prints.
        let pairs = [
            ("actions=", " actions=drop"),
            (
                "tcp,tp_dst=80,actions=output:2",
                "tcp,tp_dst=80 actions=output:2",
            ),
            ("nw_src=10.0.0.1,actions=1", " actions=output:1"),
            (
                "dl_vlan=5,dl_vlan_pcp=3,actions=normal",
                "dl_vlan=5,dl_vlan_pcp=3 actions=NORMAL",
            ),
            (
                "vlan_tci=0x1000/0x1000,actions=flood,all,local,in_port,controller",
                "vlan_tci=0x1000/0x1000 actions=FLOOD,ALL,LOCAL,IN_PORT,CONTROLLER:65535",
            ),
            (
                "vlan_vid=0x1005/0x1005,actions=table",
                "vlan_tci=0x1005/0x1005 actions=TABLE",
            ),
            (
                "arp,arp_spa=1.2.3.4,arp_op=1,arp_sha=00:01:02:03:04:05,actions=drop",
                "arp,arp_spa=1.2.3.4,arp_op=1,arp_sha=00:01:02:03:04:05 actions=drop",
            ),
            (
                "ipv6,ipv6_src=fe80::1/64,actions=drop",
                "ipv6,ipv6_src=fe80::/64 actions=drop",
            ),
            (
                "icmp6,icmpv6_type=135,nd_target=fe80::2,actions=drop",
                "icmp6,icmp_type=135,nd_target=fe80::2 actions=drop",
            ),
            (
                "ct_state=+trk-new,ip,actions=drop",
                "ct_state=-new+trk,ip actions=drop",
            ),
            (
                "tcp,tcp_flags=0x2/0x7,actions=drop",
                "tcp,tcp_flags=-fin+syn-rst actions=drop",
            ),
            (
                "reg0=5,reg1=1/0xf,xreg1=7,metadata=0x10/0xf0,tun_id=5,tun_src=1.2.3.4,actions=drop",
                "reg0=0x5,reg1=0x1/0xf,reg2=0,reg3=0x7,tun_id=0x5,tun_src=1.2.3.4,metadata=0x10/0xf0 actions=drop",
            ),
            (
                "ip,nw_tos=32,nw_ecn=1,nw_ttl=5,ip_frag=later,actions=drop",
                "ip,nw_tos=32,nw_ecn=1,nw_ttl=5,nw_frag=later actions=drop",
            ),
            ("ip,ip_dscp=8,actions=drop", "ip,nw_tos=32 actions=drop"),
            (
                "mpls,mpls_label=5,mpls_tc=3,mpls_bos=1,actions=drop",
                "mpls,mpls_label=5,mpls_tc=3,mpls_bos=1 actions=drop",
            ),
            (
                "in_port=LOCAL,pkt_mark=3,actions=drop",
                "pkt_mark=0x3,in_port=LOCAL actions=drop",
            ),
            (
                "eth_type=0x0800,ip_proto=6,tcp_src=0x10/0xf0,actions=drop",
                "tcp,tp_src=0x10/0xf0 actions=drop",
            ),
            (
                "ct_mark=1/3,ct_label=0x5,ct_zone=7,actions=drop",
                "ct_zone=7,ct_mark=0x1/0x3,ct_label=0x5 actions=drop",
            ),
            (
                "packet_type=(1,0x800),actions=drop",
                "packet_type=(1,0x800) actions=drop",
            ),
            (
                "ip,nw_src=10.0.0.1/255.0.255.0,actions=drop",
                "ip,nw_src=10.0.0.0/255.0.255.0 actions=drop",
            ),
            (
                "tcp,actions=ct(commit,zone=5,nat(src=1.2.3.4-1.2.3.9:100-200),exec(set_field:1->ct_mark))",
                "tcp actions=ct(commit,zone=5,nat(src=1.2.3.4-1.2.3.9:100-200),exec(set_field:0x1->ct_mark))",
            ),
            (
                "tcp,actions=load:5->NXM_NX_REG0[0..3],move:reg0[0..7]->reg1[8..15],push:reg0,resubmit(1,)",
                "tcp actions=load:0x5->NXM_NX_REG0[0..3],move:NXM_NX_REG0[0..7]->NXM_NX_REG1[8..15],\
                 push:NXM_NX_REG0[],resubmit:1",
            ),
            (
                "tcp,actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),bundle(eth_src,0,hrw,ofport,members:1,2)",
                "tcp actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),bundle(eth_src,0,hrw,ofport,members:1,2)",
            ),
            (
                "actions=learn(table=2,idle_timeout=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
                " actions=learn(table=2,idle_timeout=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
            ),
        ];
        for (text, want) in pairs {
            assert_eq!(add(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn errors_have_open_vswitchs_words() {
        let pairs = [
            ("bogus=1,actions=1", "unknown keyword bogus"),
            ("ip,bogus,actions=1", "field bogus missing value"),
            (
                "tcp,tp_dst=70000,actions=1",
                "70000: value too large for 2-byte field tcp_dst",
            ),
            ("actions=bogus", "unknown action bogus"),
            ("in_port=1", "must specify an action"),
            ("priority=70000,actions=1", "invalid priority \"70000\""),
            ("table=300,actions=1", "unknown table \"300\""),
            (
                "cookie=0x5/0x7,actions=drop",
                "flow additions cannot use a cookie mask",
            ),
            ("out_port=3,actions=drop", "unknown keyword out_port"),
            ("ip,nw_src=1.2.3,actions=drop", "1.2.3: invalid IP address"),
            ("dl_src=zz,actions=drop", "zz: invalid Ethernet address"),
            (
                "actions=controller(bogus=1)",
                "unknown key \"bogus\" parsing controller action",
            ),
            ("actions=mod_vlan_vid:5000", "5000: not a valid VLAN VID"),
            (
                "actions=push_vlan:0x1234",
                "0x1234: not a valid VLAN ethertype",
            ),
            ("actions=mod_dl_dst:zz", "invalid mac address zz"),
            (
                "actions=load:5->reg0[3]",
                "5->reg0[3]: value 0x5 does not fit into 1 bits",
            ),
            (
                "actions=drop,output:1",
                "\"drop\" must not be accompanied by any other action or instruction",
            ),
            (
                "actions=apply_actions(output:1)",
                "apply_actions is the default instruction",
            ),
            (
                "actions=set_field:5->bogus",
                "bogus is not a valid OXM field name",
            ),
            ("actions=set_field:5", "5: missing `->'"),
            ("actions=move:x->y", "x->y: unknown field `x'"),
            ("actions=output:", ": output to unknown port"),
            ("actions=resubmit(,300)", "300: resubmit to unknown table"),
            ("actions=mod_nw_tos:33", "33: not a valid TOS"),
            (
                "actions=output:1,meter:1",
                "invalid instruction ordering: meter must appear before apply_actions, for OpenFlow 1.1+ compatibility",
            ),
        ];
        for (text, want) in pairs {
            assert_eq!(add(text).err().as_deref(), Some(want), "{text}");
        }
    }
}
