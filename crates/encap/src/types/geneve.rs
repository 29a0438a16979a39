//! Geneve (RFC 8926).
//!
//! ```text
//!   | version, length of options | flags | 0x6558 | identifier 3 | 0 | options ... |
//! ```

use std::fmt::Write;

use ferrovs_packet::text::{Cursor, read_long_hex, write_long_hex};
use ferrovs_packet::types::eth_type;

use crate::pieces::{be32, format_udp, parse_udp};
use crate::push;
use crate::row::HeaderType;

const OAM: u8 = 0x80;
const CRITICAL: u8 = 0x40;
/// Longest options, in bytes.
const MAX_OPTIONS: usize = 252;
const MAX_OPTION: u64 = 124;

pub static HEADER: HeaderType = HeaderType {
    number: 5,
    format,
    parse,
    finish: push::finish_nothing,
};

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let gnv = format_udp(out, l4)?;
    let vni = be32(gnv, 4)? >> 8;
    out.push_str(",geneve(");
    if gnv[1] & OAM != 0 {
        out.push_str("oam,");
    }
    if gnv[1] & CRITICAL != 0 {
        out.push_str("crit,");
    }
    _ = write!(out, "vni=0x{vni:x}");
    let len = usize::from(gnv[0] & 0x3f) * 4;
    let opts = gnv.get(8..8 + len).unwrap_or_default();
    if !opts.is_empty() {
        out.push_str(",options(");
        format_options(out, opts);
        out.push(')');
    }
    out.push(')');
    Some(())
}

fn format_options(out: &mut String, opts: &[u8]) {
    let mut at = 0;
    while at + 4 <= opts.len() {
        let size = usize::from(opts[at + 3] & 0x1f) * 4;
        let end = (at + 4 + size).min(opts.len());
        _ = write!(
            out,
            "{{class={:#x},type={:#x},len={size}",
            u16::from_be_bytes([opts[at], opts[at + 1]]),
            opts[at + 2]
        );
        if size != 0 {
            out.push(',');
            write_long_hex(out, &opts[at + 4..end]);
        }
        out.push('}');
        at = end;
    }
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    parse_udp(c, b)?;
    c.expect(",geneve(")?;
    let mut flags = 0;
    if c.eat("oam,") {
        flags |= OAM;
    }
    if c.eat("crit,") {
        flags |= CRITICAL;
    }
    c.expect("vni=")?;
    let vni = c.number(0xff_ffff)? as u32;
    let mut options = Vec::new();
    if c.eat(",options(") {
        while c.eat("{") {
            parse_option(c, &mut options)?;
        }
        c.expect(")")?;
    }
    b.extend([(options.len() / 4) as u8, flags]);
    b.extend(eth_type::TEB.to_be_bytes());
    b.extend((vni << 8).to_be_bytes());
    b.extend(options);
    c.expect(")")
}

fn parse_option(c: &mut Cursor<'_>, options: &mut Vec<u8>) -> Option<()> {
    c.expect("class=")?;
    let class = c.number(0xffff)? as u16;
    c.expect(",type=")?;
    let option = c.number(0xff)? as u8;
    c.expect(",len=")?;
    let len = c.number(MAX_OPTION)? as usize;
    let mut data = vec![0; len];
    if !len.is_multiple_of(4) || options.len() + 4 + len > MAX_OPTIONS {
        return None;
    }
    if len > 0 {
        c.expect(",")?;
        read_long_hex(c, &mut data)?;
    }
    c.expect("}")?;
    options.extend(class.to_be_bytes());
    options.extend([option, (len / 4) as u8]);
    options.extend(data);
    Some(())
}
