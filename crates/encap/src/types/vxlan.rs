//! VXLAN (RFC 7348), with group based policy (draft-smith-vxlan-group-policy) or the generic protocol extension
//! (draft-ietf-nvo3-vxlan-gpe).
//!
//! ```text
//!   | flags 4, the lower half a group | identifier 3 | 0 |
//! ```

use std::fmt::Write;

use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FlowTnl, PT_ETH, packet_type};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{eth_type, ip_proto};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::pieces::{be32, format_udp, hex, parse_udp};
use crate::pop::RL;
use crate::push;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, PopError, Received, Transport, TunnelType,
};

/// `exts`: group based policy, and the generic protocol extension.
const EXT_GBP: u32 = 1 << 0;
const EXT_GPE: u32 = 1 << 1;

const LEN: usize = 8;
/// The identifier is valid.
const FLAG_I: u32 = 0x0800_0000;
/// There is a group.
const FLAG_G: u32 = 0x8000_0000;
const GBP_DONT_LEARN: u32 = 0x0040_0000;
const GBP_APPLIED: u32 = 0x0008_0000;
/// The next protocol is given, in the last eight bits.
const FLAG_P: u32 = 0x0400_0000;
const NEXT_MASK: u32 = 0xff;

/// The next protocol, and the type of the inner packet.
const NEXT: [(u8, u32); 4] = [
    (1, packet_type(1, eth_type::IP)),
    (2, packet_type(1, eth_type::IPV6)),
    (3, PT_ETH),
    (4, packet_type(1, eth_type::NSH)),
];

pub static HEADER: HeaderType = HeaderType {
    number: 4,
    format,
    parse,
    finish: push::finish_udp,
    large: |_| true,
    timed: false,
    cuts: false,
};

pub static PORT: TunnelType = TunnelType {
    kind: "vxlan",
    dpif_port: "vxlan_sys",
    transport: Transport {
        protocol: ip_proto::UDP,
        port: Some(4789),
        listens: &[ip_proto::UDP],
    },
    options: Options {
        csum: true,
        exts: &[("gbp", EXT_GBP), ("gpe", EXT_GPE)],
        ..Options::NONE
    },
    ttl: DEFAULT_TTL,
    carries,
    clash,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
    gather: None,
};

fn carries(c: &TunnelConfig) -> Carries {
    match c.exts & EXT_GPE {
        0 => Carries::l2("VXLAN (without GPE)"),
        _ => Carries::both("VXLAN-GPE"),
    }
}

/// What arrives with a group could not be told from what arrives without.
fn clash(a: &TunnelConfig, b: &TunnelConfig) -> Option<&'static str> {
    ((a.exts ^ b.exts) & EXT_GBP != 0)
        .then_some("VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port")
}

fn build(bytes: &mut Vec<u8>, config: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let tnl = inside.tnl;
    let mut flags = FLAG_I;
    if config.exts & EXT_GPE != 0 {
        let next = NEXT.iter().find(|(_, ty)| *ty == inside.packet_type)?.0;
        flags |= FLAG_P | u32::from(next);
    } else if config.exts & EXT_GBP != 0 {
        flags |= FLAG_G | u32::from(tnl.gbp_id.get());
        let gbp = u32::from(tnl.gbp_flags);
        flags |= gbp << 16 & (GBP_DONT_LEARN | GBP_APPLIED);
    }
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&((tnl.tun_id.get() as u32) << 8).to_be_bytes());
    Some(())
}

fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let Some(&[f0, f1, f2, f3, v0, v1, v2, v3]) = received.bytes.first_chunk::<LEN>() else {
        return Err(PopError::Truncated);
    };
    let flags = u32::from_be_bytes([f0, f1, f2, f3]);
    let vni = u32::from_be_bytes([v0, v1, v2, v3]);
    let mut packet_type = Some(PT_ETH);
    let with_group = flags & FLAG_G != 0 && flags & FLAG_I != 0;
    if with_group {
        tnl.gbp_id = (flags as u16).into();
        tnl.gbp_flags = (flags >> 16) as u8;
    } else if flags & !NEXT_MASK == FLAG_I | FLAG_P {
        let next = NEXT.iter().find(|(n, _)| *n == flags as u8);
        packet_type = Some(next.ok_or(PopError::Header)?.1);
    } else if flags != FLAG_I {
        packet_type = None;
    }
    let Some(packet_type) = packet_type.filter(|_| with_group || vni & 0xff == 0) else {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "invalid vxlan flags={} vni={}",
            hex(flags),
            hex(vni)
        );
        return Err(PopError::Header);
    };
    tnl.tun_id = u64::from(vni >> 8).into();
    tnl.flags |= FLOW_TNL_F_KEY;
    Ok(Inner {
        at: Some(LEN),
        packet_type,
        left: None,
    })
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let vxlan = format_udp(out, l4)?;
    _ = write!(
        out,
        ",vxlan(flags=0x{:x},vni=0x{:x})",
        be32(vxlan, 0)?,
        be32(vxlan, 4)? >> 8
    );
    Some(())
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    parse_udp(c, b)?;
    c.expect(",vxlan(flags=")?;
    let flags = c.number(u32::MAX.into())? as u32;
    c.expect(",vni=")?;
    let vni = c.number(0xff_ffff)? as u32;
    b.extend(flags.to_be_bytes());
    b.extend((vni << 8).to_be_bytes());
    c.expect(")")
}
