//! Geneve (RFC 8926).
//!
//! ```text
//!   | version, length of options | flags | 0x6558 | identifier 3 | 0 | options ... |
//! ```

use std::fmt::Write;

use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FLOW_TNL_F_OAM, FlowTnl, PT_ETH};
use ferrovs_packet::text::{Cursor, read_long_hex, write_long_hex};
use ferrovs_packet::types::{eth_type, ip_proto};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::header::UDP_LEN;
use crate::pieces::{be32, format_udp, parse_udp};
use crate::pop::RL;
use crate::push;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, PopError, Received, Transport, TunnelType,
};

const LEN: usize = 8;
const OPTION_LEN: usize = 4;
const OAM: u8 = 0x80;
const CRITICAL: u8 = 0x40;
/// In an option's type.
const CRITICAL_OPTION: u8 = 0x80;
/// Longest options, in bytes.
const MAX_OPTIONS: usize = 252;
const MAX_OPTION: u64 = 124;

pub static HEADER: HeaderType = HeaderType {
    number: 5,
    format,
    parse,
    finish: push::finish_udp,
    large: |_| true,
    timed: false,
    cuts: false,
};

pub static PORT: TunnelType = TunnelType {
    kind: "geneve",
    dpif_port: "genev_sys",
    transport: Transport {
        protocol: ip_proto::UDP,
        port: Some(6081),
        listens: &[ip_proto::UDP],
    },
    options: Options {
        csum: true,
        tlv: true,
        ..Options::NONE
    },
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l2("geneve"),
    clash: |_, _| None,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
    gather: None,
};

/// The options are those of the tunnel's metadata, as they go on the wire.
fn build(bytes: &mut Vec<u8>, _: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let tnl = inside.tnl;
    let options = tnl.metadata.opts.get(..usize::from(tnl.metadata.len))?;
    let mut flags = 0;
    if tnl.flags & FLOW_TNL_F_OAM != 0 {
        flags |= OAM;
    }
    if critical(options) {
        flags |= CRITICAL;
    }
    bytes.extend([(options.len() / 4) as u8, flags]);
    bytes.extend(eth_type::TEB.to_be_bytes());
    bytes.extend(((tnl.tun_id.get() as u32) << 8).to_be_bytes());
    bytes.extend(options);
    Some(())
}

/// Whether one of the options must be understood by whoever receives them.
fn critical(options: &[u8]) -> bool {
    let mut rest = options;
    while let [_, _, kind, len, ..] = *rest {
        if kind & CRITICAL_OPTION != 0 {
            return true;
        }
        rest = rest
            .get(OPTION_LEN + usize::from(len & 0x1f) * 4..)
            .unwrap_or_default();
    }
    false
}

fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let (Some(first), Some(vni)) = (be32(bytes, 0), be32(bytes, 4)) else {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "geneve packet too small: min header={} packet size={}",
            UDP_LEN + LEN,
            UDP_LEN + bytes.len()
        );
        return Err(PopError::Truncated);
    };
    let version = first >> 30;
    let len = (first >> 24 & 0x3f) as usize * 4;
    let Some(options) = bytes.get(LEN..LEN + len) else {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "geneve packet too small: header len={} packet size={}",
            received.behind + LEN + len,
            received.behind + bytes.len()
        );
        return Err(PopError::Truncated);
    };
    if version != 0 {
        vlog::warn_rl!(RL, NATIVE_TNL, "unknown geneve version: {version}");
        return Err(PopError::Header);
    }
    if first as u16 != eth_type::TEB {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "unknown geneve encapsulated protocol: {:#x}",
            first as u16
        );
        return Err(PopError::Header);
    }
    if first & u32::from(OAM) << 16 != 0 {
        tnl.flags |= FLOW_TNL_F_OAM;
    }
    tnl.tun_id = u64::from(vni >> 8).into();
    tnl.flags |= FLOW_TNL_F_KEY;
    tnl.metadata.opts[..len].copy_from_slice(options);
    tnl.metadata.len = len as u8;
    Ok(Inner {
        at: Some(LEN + len),
        packet_type: PT_ETH,
        left: None,
    })
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let gnv = format_udp(out, l4)?;
    let vni = be32(gnv, 4)? >> 8;
    out.push_str(",geneve(");
    if gnv[1] & OAM != 0 {
        out.push_str("oam,");
    }
    if gnv[1] & CRITICAL != 0 {
        out.push_str("crit,");
    }
    _ = write!(out, "vni=0x{vni:x}");
    let len = usize::from(gnv[0] & 0x3f) * 4;
    let opts = gnv.get(8..8 + len).unwrap_or_default();
    if !opts.is_empty() {
        out.push_str(",options(");
        format_options(out, opts);
        out.push(')');
    }
    out.push(')');
    Some(())
}

fn format_options(out: &mut String, opts: &[u8]) {
    let mut at = 0;
    while at + 4 <= opts.len() {
        let size = usize::from(opts[at + 3] & 0x1f) * 4;
        let end = (at + 4 + size).min(opts.len());
        _ = write!(
            out,
            "{{class={:#x},type={:#x},len={size}",
            u16::from_be_bytes([opts[at], opts[at + 1]]),
            opts[at + 2]
        );
        if size != 0 {
            out.push(',');
            write_long_hex(out, &opts[at + 4..end]);
        }
        out.push('}');
        at = end;
    }
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    parse_udp(c, b)?;
    c.expect(",geneve(")?;
    let mut flags = 0;
    if c.eat("oam,") {
        flags |= OAM;
    }
    if c.eat("crit,") {
        flags |= CRITICAL;
    }
    c.expect("vni=")?;
    let vni = c.number(0xff_ffff)? as u32;
    let mut options = Vec::new();
    if c.eat(",options(") {
        while c.eat("{") {
            parse_option(c, &mut options)?;
        }
        c.expect(")")?;
    }
    b.extend([(options.len() / 4) as u8, flags]);
    b.extend(eth_type::TEB.to_be_bytes());
    b.extend((vni << 8).to_be_bytes());
    b.extend(options);
    c.expect(")")
}

fn parse_option(c: &mut Cursor<'_>, options: &mut Vec<u8>) -> Option<()> {
    c.expect("class=")?;
    let class = c.number(0xffff)? as u16;
    c.expect(",type=")?;
    let option = c.number(0xff)? as u8;
    c.expect(",len=")?;
    let len = c.number(MAX_OPTION)? as usize;
    let mut data = vec![0; len];
    if !len.is_multiple_of(4) || options.len() + 4 + len > MAX_OPTIONS {
        return None;
    }
    if len > 0 {
        c.expect(",")?;
        read_long_hex(c, &mut data)?;
    }
    c.expect("}")?;
    options.extend(class.to_be_bytes());
    options.extend([option, (len / 4) as u8]);
    options.extend(data);
    Some(())
}
