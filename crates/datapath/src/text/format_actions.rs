//! Prints datapath actions.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::flow::{VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK};
use ferrovs_packet::text::{hex, write_long_hex};
use ferrovs_packet::types::eth_type;

use super::members as text;
use super::{FieldWriter, PortNames, format_port};
use crate::action::{
    Action, Cookie, Ct, HashAlg, Nat, NatKind, SampleDirection, Set, SlowPath, Userspace,
};

/// A list of actions; an empty one prints `drop`.
pub fn format_actions(out: &mut String, actions: &[Action], names: Option<&PortNames>) {
    if actions.is_empty() {
        out.push_str("drop");
    }
    for (i, action) in actions.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        format_action(out, action, names);
    }
}

fn nested(out: &mut String, name: &str, actions: &[Action], names: Option<&PortNames>) {
    out.push_str(name);
    out.push('(');
    format_actions(out, actions, names);
    out.push(')');
}

fn mpls(out: &mut String, name: &str, lse: u32, ethertype: u16) {
    _ = write!(out, "{name}(");
    text::write_mpls(out, lse, u32::MAX);
    _ = write!(out, ",eth_type=0x{ethertype:x})");
}

pub fn format_action(out: &mut String, action: &Action, names: Option<&PortNames>) {
    match action {
        Action::Output(port) => format_port(out, *port, names),
        Action::Userspace(userspace) => format_userspace(out, userspace, names),
        Action::Set(set) => {
            out.push_str("set(");
            format_set(out, set);
            out.push(')');
        }
        Action::PushVlan { tpid, tci } => {
            out.push_str("push_vlan(");
            if *tpid != eth_type::VLAN_8021Q {
                _ = write!(out, "tpid=0x{tpid:04x},");
            }
            _ = write!(
                out,
                "vid={},pcp={}",
                tci & VLAN_VID_MASK,
                tci >> VLAN_PCP_SHIFT
            );
            if tci & VLAN_CFI == 0 {
                out.push_str(",cfi=0");
            }
            out.push(')');
        }
        Action::PopVlan => out.push_str("pop_vlan"),
        Action::Sample {
            probability,
            actions,
        } => {
            let percent = 100.0 * f64::from(*probability) / f64::from(u32::MAX);
            _ = write!(out, "sample(sample={percent:.1}%,actions(");
            format_actions(out, actions, names);
            out.push_str("))");
        }
        Action::Recirc(id) => {
            out.push_str("recirc(");
            hex(out, (*id).into());
            out.push(')');
        }
        Action::Hash { alg, basis } => {
            let alg = match alg {
                HashAlg::L4 => "l4",
                HashAlg::SymL4 => "sym_l4",
            };
            _ = write!(out, "hash({alg}({basis}))");
        }
        Action::PushMpls { lse, eth_type } => mpls(out, "push_mpls", lse.get(), *eth_type),
        Action::AddMpls { lse, eth_type, .. } => mpls(out, "add_mpls", lse.get(), *eth_type),
        Action::PopMpls { eth_type } => _ = write!(out, "pop_mpls(eth_type=0x{eth_type:x})"),
        Action::Ct(ct) => format_ct(out, ct),
        Action::CtClear => out.push_str("ct_clear"),
        Action::Trunc(len) => _ = write!(out, "trunc({len})"),
        Action::PushEth { src, dst } => _ = write!(out, "push_eth(src={src},dst={dst})"),
        Action::PopEth => out.push_str("pop_eth"),
        Action::PushNsh(push) => {
            let k = &push.key;
            let path = k.path_hdr.get();
            _ = write!(
                out,
                "push_nsh(flags={},ttl={},mdtype={},np={},spi=0x{:x},si={}",
                k.flags,
                k.ttl,
                k.mdtype,
                k.np,
                path >> 8,
                path & 0xff
            );
            match k.mdtype {
                1 => {
                    for (i, c) in k.context.iter().enumerate() {
                        _ = write!(out, ",c{}=0x{:x}", i + 1, c.get());
                    }
                }
                2 => {
                    out.push_str(",md2=");
                    write_long_hex(out, &push.md2);
                }
                _ => {}
            }
            out.push(')');
        }
        Action::PopNsh => out.push_str("pop_nsh()"),
        Action::Meter(id) => _ = write!(out, "meter({id})"),
        Action::Clone(actions) => nested(out, "clone", actions, names),
        Action::CheckPktLen {
            size,
            greater,
            less_equal,
        } => {
            _ = write!(out, "check_pkt_len(size={size},");
            nested(out, "gt", greater, names);
            out.push(',');
            nested(out, "le", less_equal, names);
            out.push(')');
        }
        Action::DecTtl { exceeded } => {
            out.push_str("dec_ttl(");
            nested(out, "le_1", exceeded, names);
            out.push(')');
        }
        Action::Drop(_) => out.push_str("drop"),
        Action::Psample { group, cookie } => {
            _ = write!(out, "psample(group={group}");
            if !cookie.is_empty() {
                out.push_str(",cookie=0x");
                for byte in cookie {
                    _ = write!(out, "{byte:02x}");
                }
            }
            out.push(')');
        }
        Action::TunnelPush(push) => {
            out.push_str("tnl_push(tnl_port(");
            format_port(out, push.tnl_port, names);
            out.push_str("),header(");
            ferrovs_encap::text::format(out, &push.header);
            out.push_str("),out_port(");
            format_port(out, push.out_port, names);
            out.push_str("))");
        }
        Action::TunnelPop(port) => {
            out.push_str("tnl_pop(");
            format_port(out, *port, names);
            out.push(')');
        }
        Action::LbOutput(bond) => _ = write!(out, "lb_output({bond})"),
    }
}

fn format_userspace(out: &mut String, u: &Userspace, names: Option<&PortNames>) {
    _ = write!(out, "userspace(pid={}", u.pid);
    match &u.cookie {
        Cookie::Sflow {
            vlan_tci, output, ..
        } => {
            let tci = vlan_tci.get();
            _ = write!(
                out,
                ",sFlow(vid={},pcp={},output={output})",
                tci & VLAN_VID_MASK,
                tci >> VLAN_PCP_SHIFT
            );
        }
        Cookie::SlowPath { reason, .. } => {
            out.push_str(",slow_path(");
            format_slow_path(out, *reason);
            out.push(')');
        }
        Cookie::FlowSample {
            probability,
            collector_set_id,
            obs_domain_id,
            obs_point_id,
            output_port,
            direction,
            ..
        } => {
            _ = write!(
                out,
                ",flow_sample(probability={probability},collector_set_id={collector_set_id},\
                 obs_domain_id={obs_domain_id},obs_point_id={obs_point_id},output_port="
            );
            format_port(out, *output_port, names);
            match direction {
                SampleDirection::None => {}
                SampleDirection::Ingress => out.push_str(",ingress"),
                SampleDirection::Egress => out.push_str(",egress"),
            }
            out.push(')');
        }
        Cookie::Ipfix { output_port, .. } => {
            out.push_str(",ipfix(output_port=");
            format_port(out, *output_port, names);
            out.push(')');
        }
        Cookie::Controller {
            dont_send,
            continuation,
            reason,
            recirc_id,
            rule_cookie,
            controller_id,
            max_len,
            ..
        } => {
            _ = write!(
                out,
                ",controller(reason={reason},dont_send={},continuation={},recirc_id={recirc_id},\
                 rule_cookie=",
                u8::from(*dont_send),
                u8::from(*continuation)
            );
            hex(out, *rule_cookie);
            _ = write!(out, ",controller_id={controller_id},max_len={max_len})");
        }
        Cookie::Raw(bytes) if bytes.is_empty() => {}
        Cookie::Raw(bytes) => {
            out.push_str(",userdata(");
            for byte in bytes {
                _ = write!(out, "{byte:02x}");
            }
            out.push(')');
        }
    }
    if u.with_actions {
        out.push_str(",actions");
    }
    if let Some(port) = u.tunnel_out_port {
        out.push_str(",tunnel_out_port=");
        format_port(out, port, names);
    }
    out.push(')');
}

/// Reasons joined by commas, "0" for none.
pub(super) fn format_slow_path(out: &mut String, reason: SlowPath) {
    let mut first = true;
    for (bit, name) in SlowPath::NAMES {
        if reason.0 & bit.0 != 0 {
            if !first {
                out.push(',');
            }
            first = false;
            out.push_str(name);
        }
    }
    if first {
        out.push('0');
    }
}

fn format_set(out: &mut String, set: &Set) {
    let open = |out: &mut String, name: &str| {
        out.push_str(name);
        out.push('(');
    };
    let full = u64::from(u32::MAX);
    macro_rules! number {
        ($name:literal, $m:expr) => {{
            open(out, $name);
            text::write_masked(out, $m.value.into(), $m.mask.into(), full);
        }};
    }
    macro_rules! members {
        ($name:literal, $m:expr, $write:path) => {{
            open(out, $name);
            $write(&mut FieldWriter::new(out, false), &$m.value, &$m.mask);
        }};
    }
    match set {
        Set::SkbPriority(m) => number!("skb_priority", m),
        Set::SkbMark(m) => number!("skb_mark", m),
        Set::CtMark(m) => number!("ct_mark", m),
        Set::CtLabels(m) => {
            open(out, "ct_label");
            text::write_masked128(
                out,
                u128::from_be_bytes(m.value),
                u128::from_be_bytes(m.mask),
            );
        }
        Set::Ethernet(m) => members!("eth", m, text::write_ethernet),
        Set::Mpls(m) => {
            // A label is told whole, whichever of its bits are set.
            open(out, "mpls");
            text::write_mpls(out, m.value, u32::MAX);
        }
        Set::Ipv4(m) => members!("ipv4", m, text::write_ipv4),
        Set::Ipv6(m) => members!("ipv6", m, text::write_ipv6),
        Set::Tcp(m) => members!("tcp", m, text::write_ports),
        Set::Udp(m) => members!("udp", m, text::write_ports),
        Set::Sctp(m) => members!("sctp", m, text::write_ports),
        Set::Icmp(m) => members!("icmp", m, text::write_icmp),
        Set::Icmpv6(m) => members!("icmpv6", m, text::write_icmp),
        Set::Arp(m) => members!("arp", m, text::write_arp),
        Set::Nd(m) => members!("nd", m, text::write_nd),
        Set::NdExtensions(m) => members!("nd_ext", m, text::write_nd_ext),
        Set::Nsh(m) => members!("nsh", m, text::write_nsh_set),
        Set::Tunnel(tunnel) => {
            open(out, "tunnel");
            text::write_tunnel(out, tunnel, None, false);
        }
    }
    out.push(')');
}

fn format_ct(out: &mut String, ct: &Ct) {
    out.push_str("ct");
    let start = out.len();
    let sep = |out: &mut String| out.push(if out.len() == start { '(' } else { ',' });
    if ct.force {
        sep(out);
        out.push_str("force_commit");
    } else if ct.commit {
        sep(out);
        out.push_str("commit");
    }
    if ct.zone != 0 {
        sep(out);
        _ = write!(out, "zone={}", ct.zone);
    }
    if let Some(mark) = ct.mark {
        sep(out);
        _ = write!(out, "mark={:#x}/{:#x}", mark.value, mark.mask);
    }
    if let Some(label) = ct.labels {
        sep(out);
        out.push_str("label=");
        text::write_masked128(
            out,
            u128::from_be_bytes(label.value),
            u128::from_be_bytes(label.mask),
        );
    }
    if let Some(helper) = &ct.helper {
        sep(out);
        _ = write!(out, "helper={helper}");
    }
    if let Some(timeout) = &ct.timeout {
        sep(out);
        _ = write!(out, "timeout={timeout}");
    }
    if let Some(nat) = &ct.nat {
        sep(out);
        format_nat(out, nat);
    }
    if out.len() != start {
        out.push(')');
    }
}

fn format_nat(out: &mut String, nat: &Nat) {
    out.push_str("nat");
    let kind = match nat.kind {
        NatKind::Existing => return,
        NatKind::Src => "src",
        NatKind::Dst => "dst",
    };
    _ = write!(out, "({kind}");
    let zero = [0; 16];
    let ip = |out: &mut String, ip: [u8; 16], brackets: bool| {
        if nat.ipv6 {
            let ip = Ipv6Addr::from(ip);
            _ = if brackets {
                write!(out, "[{ip}]")
            } else {
                write!(out, "{ip}")
            };
        } else {
            _ = write!(out, "{}", Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]));
        }
    };
    if nat.ip_min != zero || nat.ip_max != zero || nat.port_min != 0 {
        out.push('=');
        let brackets = nat.port_min != 0;
        if nat.ip_min != zero || nat.ip_max != zero {
            ip(out, nat.ip_min, brackets);
            if nat.ip_max != zero && nat.ip_max != nat.ip_min {
                out.push('-');
                ip(out, nat.ip_max, brackets);
            }
        }
        if nat.port_min != 0 {
            _ = write!(out, ":{}", nat.port_min);
            if nat.port_max != 0 && nat.port_max != nat.port_min {
                _ = write!(out, "-{}", nat.port_max);
            }
        }
    }
    for (on, name) in [
        (nat.persistent, ",persistent"),
        (nat.hash, ",hash"),
        (nat.random, ",random"),
    ] {
        if on {
            out.push_str(name);
        }
    }
    out.push(')');
}
