//! GTP-U (3GPP TS 29.281).
//!
//! ```text
//!   | flags | message type | length 2 | tunnel endpoint 4 |
//! ```

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FlowTnl, PT_ETH, packet_type};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{eth_type, ip_proto};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::header::UDP_LEN;
use crate::pieces::{be32, format_udp, parse_udp};
use crate::pop::RL;
use crate::push;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, Outer, PopError, Received, Transport, TunnelType,
};

/// That other messages arrive is told once.
static TOLD: AtomicBool = AtomicBool::new(false);

const LEN: usize = 8;
/// Sequence number, N-PDU number and type of the next extension header, there if any of three flags is set.
const OPTIONAL_LEN: usize = 4;
const OPTIONAL: u8 = 0x07;
const EXTENSION: u8 = 0x04;
/// Version 1, of GTP and not of its predecessor.
const FLAGS: u8 = 0x30;
const VERSION_MASK: u8 = 0xe0;
const VERSION: u8 = 0x20;
/// The message that carries a user's packet.
const G_PDU: u8 = 255;

pub static HEADER: HeaderType = HeaderType {
    number: 110,
    format,
    parse,
    finish,
    large: |_| false,
    timed: false,
    cuts: false,
};

pub static PORT: TunnelType = TunnelType {
    kind: "gtpu",
    dpif_port: "gtpu_sys",
    transport: Transport {
        protocol: ip_proto::UDP,
        port: Some(2152),
        listens: &[ip_proto::UDP],
    },
    options: Options::NONE,
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l3("gtpu"),
    clash: |_, _| None,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
    gather: None,
};

fn build(bytes: &mut Vec<u8>, _: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let tnl = inside.tnl;
    // Unlike other types, no checksum over IPv6 either.
    let csum = bytes.len().checked_sub(2)?;
    bytes[csum..].fill(0);
    let or = |value: u8, default: u8| if value == 0 { default } else { value };
    bytes.push(or(tnl.gtpu_flags, FLAGS));
    bytes.push(or(tnl.gtpu_msgtype, G_PDU));
    bytes.extend([0, 0]);
    bytes.extend((tnl.tun_id.get() as u32).to_be_bytes());
    Some(())
}

fn finish(p: &mut Packet, outer: &Outer<'_>) {
    push::finish_udp(p, outer);
    let at = outer.l4 + UDP_LEN;
    let len = p.size().saturating_sub(at + LEN) as u16;
    if let Some(field) = p.data_mut().get_mut(at + 2..at + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// User data loses its header. Other messages, which are for whoever manages the tunnels, stay as they came.
fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let (Some(first), Some(endpoint)) = (be32(bytes, 0), be32(bytes, 4)) else {
        return Err(PopError::Truncated);
    };
    let [flags, message, ..] = first.to_be_bytes();
    if flags & VERSION_MASK != VERSION {
        return Err(PopError::Header);
    }
    tnl.gtpu_flags = flags;
    tnl.gtpu_msgtype = message;
    tnl.tun_id = u64::from(endpoint).into();
    tnl.flags |= FLOW_TNL_F_KEY;
    if message != G_PDU {
        if !TOLD.swap(true, Ordering::Relaxed) {
            vlog::warn!(NATIVE_TNL, "Receive non-GPDU msgtype: {message}");
        }
        return Ok(Inner {
            at: None,
            packet_type: PT_ETH,
            left: None,
        });
    }
    let at = user_data(bytes, flags)?;
    let version = bytes.get(at).ok_or(PopError::Truncated)? >> 4;
    let packet_type = match version {
        4 => packet_type(1, eth_type::IP),
        6 => packet_type(1, eth_type::IPV6),
        _ => {
            vlog::warn_rl!(RL, NATIVE_TNL, "GTP-U: Receive non-IP packet.");
            return Err(PopError::Header);
        }
    };
    Ok(Inner {
        at: Some(at),
        packet_type,
        left: None,
    })
}

/// Where the user's packet begins: behind the optional words and the chain of extension headers.
fn user_data(bytes: &[u8], flags: u8) -> Result<usize, PopError> {
    if flags & OPTIONAL == 0 {
        return Ok(LEN);
    }
    let mut at = LEN + OPTIONAL_LEN;
    if flags & EXTENSION == 0 {
        return Ok(at);
    }
    let byte = |at: usize| bytes.get(at).copied().ok_or(PopError::Truncated);
    // Each header begins with its length in words and ends with the type of the next.
    while byte(at - 1)? != 0 {
        let len = usize::from(byte(at)?) * 4;
        if len == 0 {
            return Err(PopError::Header);
        }
        at += len;
    }
    Ok(at)
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let gtpu = format_udp(out, l4)?;
    _ = write!(
        out,
        ",gtpu(flags=0x{:x},msgtype={},teid=0x{:x})",
        gtpu.first()?,
        gtpu.get(1)?,
        be32(gtpu, 4)?
    );
    Some(())
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    parse_udp(c, b)?;
    c.expect(",gtpu(flags=")?;
    b.push(c.number(0xff)? as u8);
    c.expect(",msgtype=")?;
    b.push(c.number(0xff)? as u8);
    c.expect(",teid=")?;
    b.extend([0, 0]);
    b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
    c.expect(")")
}
