//! GTP-U (3GPP TS 29.281).
//!
//! ```text
//!   | flags | message type | length 2 | tunnel endpoint 4 |
//! ```

use std::fmt::Write;

use ferrovs_packet::text::Cursor;

use crate::pieces::{be32, format_udp, parse_udp};
use crate::push;
use crate::row::HeaderType;

pub static HEADER: HeaderType = HeaderType {
    number: 110,
    format,
    parse,
    finish: push::finish_nothing,
};

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
