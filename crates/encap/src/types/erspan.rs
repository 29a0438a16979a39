//! ERSPAN (draft-foschiano-erspan), over IPv4 and over IPv6: GRE with a sequence number, and a header of version 1 or 2.
//!
//! ```text
//!   | flags 2 | protocol 2 | sequence number 4 | version, session 4 | index 4, or for version 2: 4, direction and hardware 4 |
//! ```

use std::fmt::Write;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FlowTnl, PT_ETH};
use ferrovs_packet::text::Cursor;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use super::gre::{Head, SEQ, TRANSPORT, number};
use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::pieces::be32;
use crate::pop::RL;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, Outer, PopError, PortState, Received, TunnelType,
};

/// Members of the header's words.
const SESSION: u32 = 0x3ff;
const INDEX: u32 = 0xf_ffff;
const HARDWARE: u32 = 0x3f;

/// GRE's protocol for version 1 and 2.
const PROTO_V1: u16 = 0x88be;
const PROTO_V2: u16 = 0x22eb;

pub static ERSPAN: HeaderType = HeaderType {
    number: 107,
    format,
    parse,
    finish,
    large: |_| false,
    timed: true,
    cuts: false,
};

pub static IP6ERSPAN: HeaderType = HeaderType {
    number: 108,
    ..ERSPAN
};

pub static PORT: TunnelType = TunnelType {
    kind: "erspan",
    dpif_port: "erspan_sys",
    transport: TRANSPORT,
    options: Options {
        erspan: true,
        ..Options::NONE
    },
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l2("erspan"),
    clash: |_, _| None,
    header: &ERSPAN,
    header6: &IP6ERSPAN,
    build,
    pop,
    gather: None,
};

pub static IP6_PORT: TunnelType = TunnelType {
    kind: "ip6erspan",
    dpif_port: "ip6erspan_sys",
    carries: |_| Carries::l2("ip6erspan"),
    ..PORT
};

fn build(bytes: &mut Vec<u8>, config: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let (tnl, own) = (inside.tnl, &config.erspan);
    let ver = own.ver.or(tnl.erspan_ver.into());
    let protocol = match ver {
        1 => PROTO_V1,
        2 => PROTO_V2,
        _ => return None,
    };
    bytes.extend(SEQ.to_be_bytes());
    bytes.extend(protocol.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend((ver << 28 | tnl.tun_id.get() as u32 & SESSION).to_be_bytes());
    if ver == 1 {
        bytes.extend((own.idx.or(tnl.erspan_idx) & INDEX).to_be_bytes());
    } else {
        let dir = own.dir.or(tnl.erspan_dir.into()) & 1;
        let hwid = own.hwid.or(tnl.erspan_hwid.into()) & HARDWARE;
        bytes.extend([0; 4]);
        bytes.extend((hwid << 4 | dir << 3).to_be_bytes());
    }
    Some(())
}

fn finish(p: &mut Packet, outer: &Outer<'_>) {
    number(p, outer.l4 + 4, outer);
    if be32(p.data(), outer.l4 + 8).is_some_and(|base| base >> 28 == 2) {
        let stamp = outer.state.map_or(0, PortState::stamp);
        if let Some(field) = p.data_mut().get_mut(outer.l4 + 12..outer.l4 + 16) {
            field.copy_from_slice(&stamp.to_be_bytes());
        }
    }
}

fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let head = Head::read(received)?;
    if head.protocol != PROTO_V1 && head.protocol != PROTO_V2 || head.flags & !SEQ != 0 {
        return Err(PopError::Header);
    }
    // There is a sequence number; without one there would be no header of ERSPAN either.
    let at = 8;
    let word = |at: usize| be32(bytes, at).ok_or(PopError::Truncated);
    let base = word(at)?;
    let ver = match head.flags & SEQ {
        0 => 0,
        _ => base >> 28,
    };
    let len = match ver {
        1 => {
            tnl.erspan_idx = word(at + 4)? & INDEX;
            8
        }
        2 => {
            let own = word(at + 8)?;
            tnl.erspan_dir = (own >> 3 & 1) as u8;
            tnl.erspan_hwid = (own >> 4 & HARDWARE) as u8;
            12
        }
        _ => {
            vlog::warn_rl!(RL, NATIVE_TNL, "ERSPAN version error {ver}");
            return Err(PopError::Header);
        }
    };
    tnl.erspan_ver = ver as u8;
    tnl.tun_id = u64::from(base & SESSION).into();
    tnl.flags |= FLOW_TNL_F_KEY;
    Ok(Inner {
        at: Some(at + len),
        packet_type: PT_ETH,
        left: None,
    })
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let base = be32(l4, 8)?;
    let (ver, sid) = (base >> 28, base & 0x3ff);
    match ver {
        1 => {
            let idx = be32(l4, 12)? & 0xf_ffff;
            _ = write!(out, ",erspan(ver=1,sid=0x{sid:x},idx=0x{idx:x})");
        }
        2 => {
            let md2 = be32(l4, 16)?;
            _ = write!(
                out,
                ",erspan(ver=2,sid=0x{sid:x},dir={},hwid=0x{:x})",
                md2 >> 3 & 1,
                md2 >> 4 & 0x3f
            );
        }
        _ => {}
    }
    Some(())
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    c.expect(",erspan(ver=")?;
    let ver = c.number(2)? as u32;
    c.expect(",sid=")?;
    let sid = c.number(0x3ff)? as u32;
    b.extend(SEQ.to_be_bytes());
    b.extend(if ver == 1 { PROTO_V1 } else { PROTO_V2 }.to_be_bytes());
    b.extend([0; 4]);
    b.extend((ver << 28 | sid).to_be_bytes());
    match ver {
        1 => {
            c.expect(",idx=")?;
            b.extend((c.number(0xf_ffff)? as u32).to_be_bytes());
        }
        2 => {
            c.expect(",dir=")?;
            let dir = c.number(1)? as u32;
            c.expect(",hwid=")?;
            let hwid = c.number(0x3f)? as u32;
            b.extend([0; 4]);
            b.extend((hwid << 4 | dir << 3).to_be_bytes());
        }
        _ => return None,
    }
    c.expect(")")
}
