//! ERSPAN (draft-foschiano-erspan), over IPv4 and over IPv6: GRE with a sequence number, and a header of version 1 or 2.
//!
//! ```text
//!   | flags 2 | protocol 2 | sequence number 4 | version, session 4 | index 4, or for version 2: 4, direction and hardware 4 |
//! ```

use std::fmt::Write;

use ferrovs_packet::text::Cursor;

use super::gre::SEQ;
use crate::pieces::be32;
use crate::push;
use crate::row::HeaderType;

/// GRE's protocol for version 1 and 2.
const PROTO_V1: u16 = 0x88be;
const PROTO_V2: u16 = 0x22eb;

pub static ERSPAN: HeaderType = HeaderType {
    number: 107,
    format,
    parse,
    finish: push::finish_nothing,
};

pub static IP6ERSPAN: HeaderType = HeaderType {
    number: 108,
    ..ERSPAN
};

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
