//! The outer header of `tnl_push`, as text and back.
//!
//! The bytes are a whole header (Ethernet, IPv4 or IPv6, then UDP or GRE and what is in them); text shows what
//! the bytes say. A header that does not parse as its kind shows the layers that do. What is behind IP is the row's
//! business.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::checksum::checksum;
use ferrovs_packet::text::{Cursor, hex};
use ferrovs_packet::types::{MacAddr, eth_type};

use crate::header::TunnelHeader;
use crate::pieces::{be16, be32};
use crate::types;

/// Largest header that a push may carry.
pub const MAX_HEADER: usize = 512;

pub fn format(out: &mut String, header: &TunnelHeader) {
    _ = write!(out, "size={},type={}", header.bytes.len(), header.ty.number);
    // Stops silently where the bytes end.
    _ = layers(out, header);
}

fn layers(out: &mut String, header: &TunnelHeader) -> Option<()> {
    let b = &header.bytes[..];
    let mac = |at: usize| Some(MacAddr(b.get(at..at + 6)?.try_into().ok()?));
    let ty = be16(b, 12)?;
    _ = write!(
        out,
        ",eth(dst={},src={},dl_type=0x{ty:04x})",
        mac(0)?,
        mac(6)?
    );
    let l3 = &b[14..];
    let l4 = if ty == eth_type::IP {
        let ihl = usize::from(l3.first()? & 0xf) * 4;
        let l4 = l3.get(ihl.max(20)..)?;
        _ = write!(
            out,
            ",ipv4(src={},dst={},proto={},tos=",
            Ipv4Addr::from(be32(l3, 12)?),
            Ipv4Addr::from(be32(l3, 16)?),
            l3[9]
        );
        hex(out, l3[1].into());
        _ = write!(out, ",ttl={},frag=0x{:x})", l3[8], be16(l3, 6)?);
        l4
    } else {
        let l4 = l3.get(40..)?;
        let first = be32(l3, 0)?;
        let ip = |at: usize| <[u8; 16]>::try_from(&l3[at..at + 16]).map(Ipv6Addr::from);
        _ = write!(
            out,
            ",ipv6(src={},dst={},label={},proto={},tclass=0x{:x},hlimit={})",
            ip(8).ok()?,
            ip(24).ok()?,
            first & 0xf_ffff,
            l3[6],
            first >> 20 & 0xff,
            l3[7]
        );
        l4
    };
    (header.ty.format)(out, l4)
}

/// Reads what [`format`] prints.
pub fn parse(c: &mut Cursor<'_>) -> Option<TunnelHeader> {
    c.expect("size=")?;
    let size = c.number(MAX_HEADER as u64)? as usize;
    c.expect(",type=")?;
    let ty = types::header(c.number(u32::MAX.into())? as u32)?;
    let mut b = Vec::with_capacity(size);
    c.expect(",eth(dst=")?;
    b.extend(c.mac()?.0);
    c.expect(",src=")?;
    b.extend(c.mac()?.0);
    c.expect(",dl_type=")?;
    let dl_type = c.number(0xffff)? as u16;
    b.extend(dl_type.to_be_bytes());
    c.expect(")")?;
    if dl_type == eth_type::IP {
        c.expect(",ipv4(src=")?;
        let src = c.ipv4()?;
        c.expect(",dst=")?;
        let dst = c.ipv4()?;
        c.expect(",proto=")?;
        let proto = c.number(0xff)? as u8;
        c.expect(",tos=")?;
        let tos = c.number(0xff)? as u8;
        c.expect(",ttl=")?;
        let ttl = c.number(0xff)? as u8;
        c.expect(",frag=")?;
        let frag = c.number(0xffff)? as u16;
        c.expect(")")?;
        let start = b.len();
        b.extend([0x45, tos, 0, 0, 0, 0]);
        b.extend(frag.to_be_bytes());
        b.extend([ttl, proto, 0, 0]);
        b.extend(src.to_be_bytes());
        b.extend(dst.to_be_bytes());
        let sum = checksum(&b[start..]);
        b[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    } else if dl_type == eth_type::IPV6 {
        c.expect(",ipv6(src=")?;
        let src = c.ipv6()?;
        c.expect(",dst=")?;
        let dst = c.ipv6()?;
        c.expect(",label=")?;
        let label = c.number(0xf_ffff)? as u32;
        c.expect(",proto=")?;
        let proto = c.number(0xff)? as u8;
        c.expect(",tclass=")?;
        let tclass = c.number(0xff)? as u32;
        c.expect(",hlimit=")?;
        let hlimit = c.number(0xff)? as u8;
        c.expect(")")?;
        b.extend((6 << 28 | tclass << 20 | label).to_be_bytes());
        b.extend([0, 0, proto, hlimit]);
        b.extend(src);
        b.extend(dst);
    } else {
        return None;
    }
    (ty.parse)(c, &mut b)?;
    c.expect(")")?;
    // The size is the header's as written, which must be what its parts make.
    (size == b.len()).then_some(TunnelHeader { ty, bytes: b })
}
