//! Pieces of the texts of outer headers that several types have.

use std::fmt::Write;

use ferrovs_packet::text::Cursor;

pub(crate) fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn be32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// A number as printf's `%#x` writes it: 0 has no prefix.
pub(crate) fn hex(n: u32) -> String {
    match n {
        0 => "0".to_owned(),
        n => format!("{n:#x}"),
    }
}

/// Writes a UDP header and returns what is behind it.
pub(crate) fn format_udp<'a>(out: &mut String, l4: &'a [u8]) -> Option<&'a [u8]> {
    let rest = l4.get(8..)?;
    _ = write!(
        out,
        ",udp(src={},dst={},csum=0x{:x})",
        be16(l4, 0)?,
        be16(l4, 2)?,
        be16(l4, 6)?
    );
    Some(rest)
}

/// Reads what [`format_udp`] writes.
pub(crate) fn parse_udp(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    c.expect(",udp(src=")?;
    b.extend((c.number(0xffff)? as u16).to_be_bytes());
    c.expect(",dst=")?;
    b.extend((c.number(0xffff)? as u16).to_be_bytes());
    c.expect(",csum=")?;
    b.extend([0, 0]);
    b.extend((c.number(0xffff)? as u16).to_be_bytes());
    c.expect(")")
}
