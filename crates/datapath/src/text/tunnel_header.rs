//! The outer header of `tnl_push`, as text and back.
//!
//! The bytes are a whole header (Ethernet, IPv4 or IPv6, then UDP or GRE and what is in them); text shows what
//! the bytes say. A header that does not parse as its kind shows the layers that do.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::types::{MacAddr, eth_type};

use super::members::{read_long_hex, write_long_hex};
use super::{Cursor, hex};
use crate::action::TunnelHeader;

/// `OVS_VPORT_TYPE_*` numbers of the kinds.
mod kind {
    pub const GRE: u32 = 3;
    pub const VXLAN: u32 = 4;
    pub const GENEVE: u32 = 5;
    pub const ERSPAN: u32 = 107;
    pub const IP6ERSPAN: u32 = 108;
    pub const IP6GRE: u32 = 109;
    pub const GTPU: u32 = 110;
    pub const SRV6: u32 = 112;
}

/// Largest header that a push may carry.
pub const MAX_HEADER: usize = 512;

const GRE_CSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQ: u16 = 0x1000;

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn be32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

pub fn format(out: &mut String, header: &TunnelHeader) {
    _ = write!(out, "size={},type={}", header.bytes.len(), header.kind);
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
    match header.kind {
        kind::VXLAN => {
            let vxlan = udp(out, l4)?;
            _ = write!(
                out,
                ",vxlan(flags=0x{:x},vni=0x{:x})",
                be32(vxlan, 0)?,
                be32(vxlan, 4)? >> 8
            );
        }
        kind::GENEVE => {
            let gnv = udp(out, l4)?;
            let vni = be32(gnv, 4)? >> 8;
            out.push_str(",geneve(");
            if gnv[1] & 0x80 != 0 {
                out.push_str("oam,");
            }
            if gnv[1] & 0x40 != 0 {
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
        }
        kind::GTPU => {
            let gtpu = udp(out, l4)?;
            _ = write!(
                out,
                ",gtpu(flags=0x{:x},msgtype={},teid=0x{:x})",
                gtpu.first()?,
                gtpu.get(1)?,
                be32(gtpu, 4)?
            );
        }
        kind::GRE | kind::IP6GRE => gre(out, l4)?,
        kind::ERSPAN | kind::IP6ERSPAN => erspan(out, l4)?,
        kind::SRV6 => {
            let segments = usize::from(*l4.get(1)?) * 8 / 16;
            _ = write!(out, ",srv6(segments_left={},segs(", l4.get(3)?);
            for i in 0..segments {
                if i > 0 {
                    out.push(',');
                }
                let at = 8 + 16 * (segments - 1 - i);
                let segment: [u8; 16] = l4.get(at..at + 16)?.try_into().ok()?;
                _ = write!(out, "{}", Ipv6Addr::from(segment));
            }
            out.push_str("))");
        }
        _ => {}
    }
    Some(())
}

fn udp<'a>(out: &mut String, l4: &'a [u8]) -> Option<&'a [u8]> {
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

fn gre(out: &mut String, l4: &[u8]) -> Option<()> {
    let (flags, proto) = (be16(l4, 0)?, be16(l4, 2)?);
    _ = write!(out, ",gre((flags=0x{flags:x},proto=0x{proto:x})");
    let mut at = 4;
    if flags & GRE_CSUM != 0 {
        _ = write!(out, ",csum=0x{:x}", be16(l4, at)?);
        at += 4;
    }
    if flags & GRE_KEY != 0 {
        _ = write!(out, ",key=0x{:x}", be32(l4, at)?);
        at += 4;
    }
    if flags & GRE_SEQ != 0 {
        _ = write!(out, ",seq=0x{:x}", be32(l4, at)?);
    }
    out.push(')');
    Some(())
}

fn erspan(out: &mut String, l4: &[u8]) -> Option<()> {
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

/// Reads what [`format`] prints.
pub fn parse(c: &mut Cursor<'_>) -> Option<TunnelHeader> {
    c.expect("size=")?;
    let size = c.number(MAX_HEADER as u64)? as usize;
    c.expect(",type=")?;
    let kind = c.number(u32::MAX.into())? as u32;
    let mut b = Vec::with_capacity(size);
    c.expect(",eth(dst=")?;
    b.extend(c.mac()?.0);
    c.expect(",src=")?;
    b.extend(c.mac()?.0);
    c.expect(",dl_type=")?;
    let ty = c.number(0xffff)? as u16;
    b.extend(ty.to_be_bytes());
    c.expect(")")?;
    if ty == eth_type::IP {
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
        let sum = ip_checksum(&b[start..]);
        b[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    } else if ty == eth_type::IPV6 {
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
    match kind {
        kind::VXLAN => {
            parse_udp(c, &mut b)?;
            c.expect(",vxlan(flags=")?;
            let flags = c.number(u32::MAX.into())? as u32;
            c.expect(",vni=")?;
            let vni = c.number(0xff_ffff)? as u32;
            b.extend(flags.to_be_bytes());
            b.extend((vni << 8).to_be_bytes());
            c.expect(")")?;
        }
        kind::GENEVE => {
            parse_udp(c, &mut b)?;
            c.expect(",geneve(")?;
            let mut flags = 0;
            if c.eat("oam,") {
                flags |= 0x80;
            }
            if c.eat("crit,") {
                flags |= 0x40;
            }
            c.expect("vni=")?;
            let vni = c.number(0xff_ffff)? as u32;
            let mut options = Vec::new();
            if c.eat(",options(") {
                while c.eat("{") {
                    c.expect("class=")?;
                    let class = c.number(0xffff)? as u16;
                    c.expect(",type=")?;
                    let option = c.number(0xff)? as u8;
                    c.expect(",len=")?;
                    let len = c.number(124)? as usize;
                    let mut data = vec![0; len];
                    if !len.is_multiple_of(4) || options.len() + 4 + len > 252 {
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
                }
                c.expect(")")?;
            }
            b.extend([(options.len() / 4) as u8, flags]);
            b.extend(eth_type::TEB.to_be_bytes());
            b.extend((vni << 8).to_be_bytes());
            b.extend(options);
            c.expect(")")?;
        }
        kind::GTPU => {
            parse_udp(c, &mut b)?;
            c.expect(",gtpu(flags=")?;
            b.push(c.number(0xff)? as u8);
            c.expect(",msgtype=")?;
            b.push(c.number(0xff)? as u8);
            c.expect(",teid=")?;
            b.extend([0, 0]);
            b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
            c.expect(")")?;
        }
        kind::GRE | kind::IP6GRE => {
            c.expect(",gre((flags=")?;
            let flags = c.number(0xffff)? as u16;
            c.expect(",proto=")?;
            let proto = c.number(0xffff)? as u16;
            c.expect(")")?;
            b.extend(flags.to_be_bytes());
            b.extend(proto.to_be_bytes());
            if flags & GRE_CSUM != 0 {
                c.expect(",csum=")?;
                b.extend((c.number(0xffff)? as u16).to_be_bytes());
                b.extend([0, 0]);
            }
            if flags & GRE_KEY != 0 {
                c.expect(",key=")?;
                b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
            }
            if flags & GRE_SEQ != 0 {
                c.expect(",seq=")?;
                b.extend((c.number(u32::MAX.into())? as u32).to_be_bytes());
            }
            c.expect(")")?;
        }
        kind::ERSPAN | kind::IP6ERSPAN => parse_erspan(c, &mut b)?,
        _ => return None,
    }
    c.expect(")")?;
    // The size is the header's as written, which must be what its parts make.
    (size == b.len()).then_some(TunnelHeader { kind, bytes: b })
}

fn parse_erspan(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    c.expect(",erspan(ver=")?;
    let ver = c.number(2)? as u32;
    c.expect(",sid=")?;
    let sid = c.number(0x3ff)? as u32;
    b.extend(GRE_SEQ.to_be_bytes());
    b.extend(if ver == 1 { 0x88beu16 } else { 0x22eb }.to_be_bytes());
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

fn parse_udp(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    c.expect(",udp(src=")?;
    b.extend((c.number(0xffff)? as u16).to_be_bytes());
    c.expect(",dst=")?;
    b.extend((c.number(0xffff)? as u16).to_be_bytes());
    c.expect(",csum=")?;
    b.extend([0, 0]);
    b.extend((c.number(0xffff)? as u16).to_be_bytes());
    c.expect(")")
}

fn ip_checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
