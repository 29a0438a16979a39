//! GRE (RFC 2784, 2890), over IPv4 and over IPv6.
//!
//! ```text
//!   | flags 2 | protocol 2 | checksum 2, 0 | key 4 | sequence number 4 |     the last three where flags say so
//! ```

use std::fmt::Write;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::checksum::checksum;
use ferrovs_packet::flow::{FLOW_TNL_F_CSUM, FLOW_TNL_F_KEY, FlowTnl, PT_ETH, packet_type};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::eth_type;

use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::pieces::{be16, be32};
use crate::push;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, Outer, PopError, PortState, Received, Transport,
    TunnelType,
};

/// IP's protocol.
pub(super) const TRANSPORT: Transport = Transport {
    protocol: 47,
    port: None,
    listens: &[47],
};

const CSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
pub(super) const SEQ: u16 = 0x1000;

pub static GRE: HeaderType = HeaderType {
    number: 3,
    format,
    parse,
    finish,
    large: |_| false,
    timed: false,
    cuts: false,
};

pub static IP6GRE: HeaderType = HeaderType { number: 109, ..GRE };

pub static PORT: TunnelType = TunnelType {
    kind: "gre",
    dpif_port: "gre_sys",
    transport: TRANSPORT,
    options: Options {
        csum: true,
        seq: true,
        ..Options::NONE
    },
    ttl: DEFAULT_TTL,
    carries: |_| Carries::both("gre"),
    clash: |_, _| None,
    header: &GRE,
    header6: &IP6GRE,
    build,
    pop,
    gather: None,
};

pub static IP6_PORT: TunnelType = TunnelType {
    kind: "ip6gre",
    dpif_port: "ip6gre_sys",
    carries: |_| Carries::both("ip6gre"),
    ..PORT
};

/// GRE whose identifiers have 64 bits: the lower half in the key, the upper one where the sequence number would be.
pub static GRE64: HeaderType = HeaderType {
    number: 104,
    finish: |p, outer| finish_checksum(p, outer.l4),
    ..GRE
};

pub static PORT64: TunnelType = TunnelType {
    kind: "gre64",
    dpif_port: "gre64_sys",
    options: Options {
        csum: true,
        ..Options::NONE
    },
    carries: |_| Carries::l2("gre64"),
    header: &GRE64,
    header6: &GRE64,
    build: build64,
    pop: pop64,
    gather: None,
    ..PORT
};

fn build64(bytes: &mut Vec<u8>, _: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let csum = inside.tnl.flags & FLOW_TNL_F_CSUM != 0;
    let flags = KEY | SEQ | if csum { CSUM } else { 0 };
    bytes.extend(flags.to_be_bytes());
    bytes.extend(eth_type::TEB.to_be_bytes());
    if csum {
        bytes.extend([0; 4]);
    }
    let id = inside.tnl.tun_id.get();
    bytes.extend((id as u32).to_be_bytes());
    bytes.extend(((id >> 32) as u32).to_be_bytes());
    Some(())
}

fn pop64(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let mut head = Head::read(received)?;
    if head.flags & CSUM != 0 {
        tnl.flags |= FLOW_TNL_F_CSUM;
    }
    let (key, upper) = (head.take(bytes, KEY)?, head.take(bytes, SEQ)?);
    let (Some(key), Some(upper), eth_type::TEB) = (key, upper, head.protocol) else {
        return Err(PopError::Header);
    };
    tnl.tun_id = (u64::from(upper) << 32 | u64::from(key)).into();
    tnl.flags |= FLOW_TNL_F_KEY;
    Ok(Inner {
        at: Some(head.at),
        packet_type: PT_ETH,
        left: None,
    })
}

fn build(bytes: &mut Vec<u8>, config: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let protocol = match inside.packet_type {
        PT_ETH => eth_type::TEB,
        // A packet type's name space of EtherTypes.
        ty if ty >> 16 == 1 => ty as u16,
        _ => return None,
    };
    let mut flags = 0;
    if inside.tnl.flags & FLOW_TNL_F_CSUM != 0 {
        flags |= CSUM;
    }
    if config.out_key_present {
        flags |= KEY;
    }
    if config.seq {
        flags |= SEQ;
    }
    bytes.extend(flags.to_be_bytes());
    bytes.extend(protocol.to_be_bytes());
    if flags & CSUM != 0 {
        bytes.extend([0; 4]);
    }
    if flags & KEY != 0 {
        bytes.extend((inside.tnl.tun_id.get() as u32).to_be_bytes());
    }
    if flags & SEQ != 0 {
        bytes.extend([0; 4]);
    }
    Some(())
}

/// Fills in the number and the checksum of headers that have them. The number first: the checksum covers it.
fn finish(p: &mut Packet, outer: &Outer<'_>) {
    let at = outer.l4;
    let Some(flags) = be16(p.data(), at) else {
        return;
    };
    if flags & SEQ != 0 {
        let skip = |flag: u16| if flags & flag != 0 { 4 } else { 0 };
        number(p, at + 4 + skip(CSUM) + skip(KEY), outer);
    }
    finish_checksum(p, at);
}

fn finish_checksum(p: &mut Packet, at: usize) {
    if be16(p.data(), at).is_some_and(|flags| flags & CSUM != 0) {
        let sum = push::sum_to_the_end(p, at);
        p.data_mut()[at + 4..at + 6].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Writes the next sequence number of the port.
pub(super) fn number(p: &mut Packet, at: usize, outer: &Outer<'_>) {
    let next = outer.state.map_or(0, PortState::next);
    if let Some(field) = p.data_mut().get_mut(at..at + 4) {
        field.copy_from_slice(&next.to_be_bytes());
    }
}

fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let mut head = Head::read(received)?;
    if head.flags & CSUM != 0 {
        tnl.flags |= FLOW_TNL_F_CSUM;
    }
    if let Some(key) = head.take(bytes, KEY)? {
        tnl.tun_id = u64::from(key).into();
        tnl.flags |= FLOW_TNL_F_KEY;
    }
    head.take(bytes, SEQ)?;
    let packet_type = match head.protocol {
        eth_type::TEB => PT_ETH,
        ty if ty >= eth_type::MIN => packet_type(1, ty),
        _ => return Err(PopError::Header),
    };
    Ok(Inner {
        at: Some(head.at),
        packet_type,
        left: None,
    })
}

/// The beginning of a GRE header that was received.
pub(super) struct Head {
    pub flags: u16,
    pub protocol: u16,
    /// Where what was not yet taken begins.
    pub at: usize,
}

impl Head {
    /// Reads flags, protocol and, if there is one, the checksum, which must be right.
    pub fn read(received: &Received<'_>) -> Result<Head, PopError> {
        let bytes = received.bytes;
        let (Some(flags), Some(protocol)) = (be16(bytes, 0), be16(bytes, 2)) else {
            return Err(PopError::Truncated);
        };
        if flags & !(CSUM | KEY | SEQ) != 0 {
            return Err(PopError::Header);
        }
        let mut head = Head {
            flags,
            protocol,
            at: 4,
        };
        if head.take(bytes, CSUM)?.is_some() && !received.trusted && checksum(bytes) != 0 {
            return Err(PopError::Checksum);
        }
        Ok(head)
    }

    /// The next word, if the flag says that there is one.
    pub fn take(&mut self, bytes: &[u8], flag: u16) -> Result<Option<u32>, PopError> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        let word = be32(bytes, self.at).ok_or(PopError::Truncated)?;
        self.at += 4;
        Ok(Some(word))
    }
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let (flags, proto) = (be16(l4, 0)?, be16(l4, 2)?);
    _ = write!(out, ",gre((flags=0x{flags:x},proto=0x{proto:x})");
    let mut at = 4;
    if flags & CSUM != 0 {
        _ = write!(out, ",csum=0x{:x}", be16(l4, at)?);
        at += 4;
    }
    if flags & KEY != 0 {
        _ = write!(out, ",key=0x{:x}", be32(l4, at)?);
        at += 4;
    }
    if flags & SEQ != 0 {
        _ = write!(out, ",seq=0x{:x}", be32(l4, at)?);
    }
    out.push(')');
    Some(())
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    c.expect(",gre((flags=")?;
    let flags = c.number(0xffff)? as u16;
    c.expect(",proto=")?;
    let proto = c.number(0xffff)? as u16;
    c.expect(")")?;
    b.extend(flags.to_be_bytes());
    b.extend(proto.to_be_bytes());
    if flags & CSUM != 0 {
        c.expect(",csum=")?;
        b.extend((c.number(0xffff)? as u16).to_be_bytes());
        b.extend([0, 0]);
    }
    if flags & KEY != 0 {
        c.expect(",key=")?;
        b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
    }
    if flags & SEQ != 0 {
        c.expect(",seq=")?;
        b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
    }
    c.expect(")")
}
