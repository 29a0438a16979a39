//! GRE (RFC 2784, 2890), over IPv4 and over IPv6.
//!
//! ```text
//!   | flags 2 | protocol 2 | checksum 2, 0 | key 4 | sequence number 4 |     the last three where flags say so
//! ```

use std::fmt::Write;

use ferrovs_packet::text::Cursor;

use crate::pieces::{be16, be32};
use crate::push;
use crate::row::HeaderType;

const CSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
pub(super) const SEQ: u16 = 0x1000;

pub static GRE: HeaderType = HeaderType {
    number: 3,
    format,
    parse,
    finish: push::finish_nothing,
};

pub static IP6GRE: HeaderType = HeaderType { number: 109, ..GRE };

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
