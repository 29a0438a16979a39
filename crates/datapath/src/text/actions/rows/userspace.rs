//! Packets that go up, and the cookies that say why.

use std::fmt::Write;

use ferrovs_packet::flow::{VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK};
use ferrovs_packet::text::{Cursor, hex};
use ferrovs_packet::types::DpPort;

use super::{attribute, rows};
use crate::action::{Action, Cookie, SampleDirection, SlowPath, Userspace};
use crate::text::{ActionParser, PortNames, format_port};

/// Size of the cookie of an action without one, as Open vSwitch lays it out.
const COOKIE_SIZE: usize = 48;
/// Raw data is filled up to that many bytes.
const MIN_USERDATA: usize = 8;

const U32: u64 = u32::MAX as u64;

rows! {
    "userspace" Inside Action::Userspace(userspace) => {
        size: attribute(attribute(4) + attribute(40)),
        write(out, names): write_userspace(out, userspace, names),
        read(p, _inside): Some(Action::Userspace(read_userspace(p)?)),
    }
}

fn write_userspace(out: &mut String, u: &Userspace, names: Option<&PortNames>) {
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
            write_slow_path(out, *reason);
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
fn write_slow_path(out: &mut String, reason: SlowPath) {
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

fn read_userspace(p: &mut ActionParser<'_, '_>) -> Option<Userspace> {
    let c = &mut p.c;
    c.expect("pid=")?;
    let pid = c.number(u32::MAX.into())? as u32;
    let mut cookie = None;
    let (mut with_actions, mut tunnel_out_port) = (false, None);
    while !c.eat(")") {
        c.expect(",")?;
        let name = c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        match name {
            "actions" => with_actions = true,
            "tunnel_out_port" => {
                c.expect("=")?;
                tunnel_out_port = Some(DpPort(c.number(u32::MAX.into())? as u32));
            }
            _ => {
                c.expect("(")?;
                cookie = Some(read_cookie(c, name)?);
            }
        }
    }
    Some(Userspace {
        pid,
        cookie: cookie.unwrap_or_else(|| Cookie::Raw(vec![0; COOKIE_SIZE])),
        with_actions,
        tunnel_out_port,
    })
}

/// What texts do not say of a cookie.
const OFP_IN_PORT: u16 = u16::MAX;
const OFPROTO: u128 = 0;

/// The cookie called `name`, up to and including its closing parenthesis.
fn read_cookie(c: &mut Cursor<'_>, name: &str) -> Option<Cookie> {
    match name {
        "userdata" => {
            let mut bytes = c.hex_bytes()?;
            c.expect(")")?;
            bytes.resize(bytes.len().max(MIN_USERDATA), 0);
            Some(Cookie::Raw(bytes))
        }
        "sFlow" => read_sflow(c),
        "slow_path" => read_slow_path(c),
        "flow_sample" => read_flow_sample(c),
        "ipfix" => {
            c.expect("output_port=")?;
            let output_port = DpPort(c.number(U32)? as u32);
            c.expect(")")?;
            Some(Cookie::Ipfix {
                output_port,
                ofp_in_port: OFP_IN_PORT,
                ofproto: OFPROTO,
            })
        }
        "controller" => read_controller(c),
        _ => None,
    }
}

fn read_sflow(c: &mut Cursor<'_>) -> Option<Cookie> {
    let (mut tci, mut output) = (0u16, 0);
    c.members(|name, c| {
        match name {
            "vid" => tci |= c.number(0xfff)? as u16,
            "pcp" => tci |= (c.number(7)? as u16) << 13,
            "output" => output = c.number(U32)? as u32,
            _ => return None,
        }
        Some(())
    })?;
    Some(Cookie::Sflow {
        vlan_tci: (tci | VLAN_CFI).into(),
        output,
        ofp_in_port: OFP_IN_PORT,
        ofproto: OFPROTO,
    })
}

fn read_slow_path(c: &mut Cursor<'_>) -> Option<Cookie> {
    let reason = match c.peek()? {
        b')' => SlowPath::NONE,
        b'0'..=b'9' => SlowPath(c.number(SlowPath::ALL.into())? as u32),
        _ => {
            let mut reason = SlowPath::NONE;
            loop {
                let word = c.take_while(|b| b.is_ascii_alphanumeric());
                reason |= SlowPath::NAMES.iter().find(|(_, n)| *n == word)?.0;
                if !c.eat("|") {
                    break reason;
                }
            }
        }
    };
    c.expect(")")?;
    Some(Cookie::SlowPath {
        reason,
        ofp_in_port: OFP_IN_PORT,
        ofproto: OFPROTO,
    })
}

fn read_flow_sample(c: &mut Cursor<'_>) -> Option<Cookie> {
    let (mut probability, mut set, mut domain, mut point) = (0, 0, 0, 0);
    let mut output_port = DpPort::NONE;
    let mut direction = SampleDirection::None;
    c.members(|name, c| {
        match name {
            "probability" => probability = c.number(0xffff)? as u16,
            "collector_set_id" => set = c.number(U32)? as u32,
            "obs_domain_id" => domain = c.number(U32)? as u32,
            "obs_point_id" => point = c.number(U32)? as u32,
            "output_port" => output_port = DpPort(c.number(U32)? as u32),
            "ingress" => direction = SampleDirection::Ingress,
            "egress" => direction = SampleDirection::Egress,
            _ => return None,
        }
        Some(())
    })?;
    Some(Cookie::FlowSample {
        probability,
        collector_set_id: set,
        obs_domain_id: domain,
        obs_point_id: point,
        output_port,
        direction,
        ofp_in_port: OFP_IN_PORT,
        ofproto: OFPROTO,
    })
}

fn read_controller(c: &mut Cursor<'_>) -> Option<Cookie> {
    let (mut reason, mut dont_send, mut continuation) = (0, false, false);
    let (mut recirc_id, mut rule_cookie, mut controller_id, mut max_len) = (0, 0, 0, 0);
    c.members(|name, c| {
        match name {
            "reason" => reason = c.number(0xff)? as u8,
            "dont_send" => dont_send = c.number(1)? != 0,
            "continuation" => continuation = c.number(1)? != 0,
            "recirc_id" => recirc_id = c.number(U32)? as u32,
            "rule_cookie" => rule_cookie = c.number(u64::MAX)?,
            "controller_id" => controller_id = c.number(0xffff)? as u16,
            "max_len" => max_len = c.number(0xffff)? as u16,
            _ => return None,
        }
        Some(())
    })?;
    Some(Cookie::Controller {
        dont_send,
        continuation,
        reason,
        recirc_id,
        rule_cookie,
        controller_id,
        max_len,
        ofp_in_port: OFP_IN_PORT,
        ofproto: OFPROTO,
    })
}
