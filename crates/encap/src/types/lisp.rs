//! LISP's data plane (RFC 9300): packets without an Ethernet header behind UDP.
//!
//! ```text
//!   | flags | nonce or version 3 | instance identifier 3 | locator status bits |
//! ```

use std::fmt::Write;

use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FlowTnl, packet_type};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{eth_type, ip_proto};

use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::pieces::{be32, format_udp, parse_udp};
use crate::push;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, PopError, Received, Transport, TunnelType,
};

const LEN: usize = 8;
/// There are locator status bits, and there is an instance identifier.
const FLAG_L: u32 = 0x4000_0000;
const FLAG_I: u32 = 0x0800_0000;
/// The first locator is up.
const STATUS: u32 = 1;

pub static HEADER: HeaderType = HeaderType {
    number: 105,
    format,
    parse,
    finish: push::finish_udp,
    large: |_| true,
    timed: false,
    cuts: false,
};

pub static PORT: TunnelType = TunnelType {
    kind: "lisp",
    dpif_port: "lisp_sys",
    transport: Transport {
        protocol: ip_proto::UDP,
        port: Some(4341),
        listens: &[ip_proto::UDP],
    },
    options: Options {
        csum: true,
        ..Options::NONE
    },
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l3("lisp"),
    clash: |_, _| None,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
    gather: None,
};

fn build(bytes: &mut Vec<u8>, _: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let ty = inside.packet_type;
    if ty != packet_type(1, eth_type::IP) && ty != packet_type(1, eth_type::IPV6) {
        return None;
    }
    bytes.extend((FLAG_L | FLAG_I).to_be_bytes());
    bytes.extend(((inside.tnl.tun_id.get() as u32) << 8 | STATUS).to_be_bytes());
    Some(())
}

fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let (Some(flags), Some(word)) = (be32(bytes, 0), be32(bytes, 4)) else {
        return Err(PopError::Truncated);
    };
    if flags & FLAG_I != 0 {
        tnl.tun_id = u64::from(word >> 8).into();
        tnl.flags |= FLOW_TNL_F_KEY;
    }
    let packet_type = match bytes.get(LEN).ok_or(PopError::Truncated)? >> 4 {
        4 => packet_type(1, eth_type::IP),
        6 => packet_type(1, eth_type::IPV6),
        _ => return Err(PopError::Header),
    };
    Ok(Inner {
        at: Some(LEN),
        packet_type,
        left: None,
    })
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let lisp = format_udp(out, l4)?;
    let (flags, word) = (be32(lisp, 0)?, be32(lisp, 4)?);
    _ = write!(
        out,
        ",lisp(flags=0x{flags:x},instance_id=0x{:x},lsb=0x{:x})",
        word >> 8,
        word & 0xff
    );
    Some(())
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    parse_udp(c, b)?;
    c.expect(",lisp(flags=")?;
    b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
    c.expect(",instance_id=")?;
    let id = c.number(0xff_ffff)? as u32;
    c.expect(",lsb=")?;
    let status = c.number(0xff)? as u32;
    b.extend((id << 8 | status).to_be_bytes());
    c.expect(")")
}
