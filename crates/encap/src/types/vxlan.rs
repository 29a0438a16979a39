//! VXLAN (RFC 7348), with group based policy (draft-smith-vxlan-group-policy) and the generic protocol extension
//! (draft-ietf-nvo3-vxlan-gpe) for Ethernet.
//!
//! ```text
//!   | flags 4, the lower half a group | identifier 3 | 0 |
//! ```

use std::fmt::Write;

use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FlowTnl, PT_ETH};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::ip_proto;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use crate::config::{DEFAULT_TTL, PacketTypeMode, TunnelConfig};
use crate::header::ETH_LEN;
use crate::pieces::{be32, format_udp, parse_udp};
use crate::pop::RL;
use crate::push;
use crate::row::{HeaderType, Inner, Options, PopError, Transport, TunnelType};

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
/// The next protocol is given, and it is Ethernet.
const FLAG_P_ETHERNET: u32 = 0x0400_0003;

pub static HEADER: HeaderType = HeaderType {
    number: 4,
    format,
    parse,
    finish: push::finish_udp,
};

pub static PORT: TunnelType = TunnelType {
    kind: "vxlan",
    dpif_port: "vxlan_sys",
    transport: Transport {
        protocol: ip_proto::UDP,
        port: Some(4789),
    },
    options: Options {
        csum: true,
        seq: false,
        exts: &[("gbp", EXT_GBP), ("gpe", EXT_GPE)],
    },
    ttl: DEFAULT_TTL,
    check,
    clash,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
};

fn check(c: &TunnelConfig) -> Result<(), &'static str> {
    if c.packet_type == PacketTypeMode::LegacyL3 && c.exts & EXT_GPE == 0 {
        return Err(
            "legacy_l3 configured on VXLAN (without GPE) tunnel that cannot carry L3 traffic",
        );
    }
    Ok(())
}

/// What arrives with a group could not be told from what arrives without.
fn clash(a: &TunnelConfig, b: &TunnelConfig) -> Option<&'static str> {
    ((a.exts ^ b.exts) & EXT_GBP != 0)
        .then_some("VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port")
}

fn build(bytes: &mut Vec<u8>, config: &TunnelConfig, tnl: &FlowTnl) -> Option<()> {
    let mut flags = FLAG_I;
    if config.exts & EXT_GPE != 0 {
        flags |= FLAG_P_ETHERNET;
    } else if config.exts & EXT_GBP != 0 {
        flags |= FLAG_G | u32::from(tnl.gbp_id.get());
        let gbp = u32::from(tnl.gbp_flags);
        flags |= gbp << 16 & (GBP_DONT_LEARN | GBP_APPLIED);
    }
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&((tnl.tun_id.get() as u32) << 8).to_be_bytes());
    Some(())
}

fn pop(bytes: &[u8], tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    if bytes.len() < LEN + ETH_LEN {
        return Err(PopError::Truncated);
    }
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
    let (flags, vni) = (word(0), word(4));
    if flags & FLAG_G != 0 && flags & FLAG_I != 0 {
        tnl.gbp_id = (flags as u16).into();
        tnl.gbp_flags = (flags >> 16) as u8;
    } else if flags != FLAG_I && flags != FLAG_I | FLAG_P_ETHERNET || vni & 0xff != 0 {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "invalid vxlan flags={flags:#x} vni={vni:#x}"
        );
        return Err(PopError::Header);
    }
    tnl.tun_id = u64::from(vni >> 8).into();
    tnl.flags |= FLOW_TNL_F_KEY;
    Ok(Inner {
        at: LEN,
        packet_type: PT_ETH,
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
