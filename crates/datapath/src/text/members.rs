//! The members of each attribute, printed and read in one place for keys and for `set` actions alike.

use std::fmt::Write;

use ferrovs_packet::flow::{
    FLOW_TNL_F_KEY, FLOW_TNL_F_MASK, FLOW_TNL_F_OAM, FlowTnl, NW_FRAG_ANY, NW_FRAG_LATER,
    NW_FRAG_MASK,
};
use ferrovs_packet::text::{Cursor, hex, hex128, read_long_hex, write_long_hex};
use ferrovs_packet::types::{Be16, Be32, Be64};

use super::{FieldWriter, TUNNEL_FLAGS, format_flags, format_flags_masked};
use crate::action::{
    ArpKey, EthernetKey, IcmpKey, Ipv4Key, Ipv6Key, Masked, NdExtensionsKey, NdKey, NshKey,
    PortsKey,
};

const U8: u64 = 0xff;
const U16: u64 = 0xffff;
const LABEL: u64 = 0xf_ffff;

pub fn write_ethernet(w: &mut FieldWriter<'_>, k: &EthernetKey, m: &EthernetKey) {
    w.mac("src", k.src, m.src);
    w.mac("dst", k.dst, m.dst);
}

pub fn read_ethernet(c: &mut Cursor<'_>) -> Option<Masked<EthernetKey>> {
    let mut out = Masked::<EthernetKey>::default();
    c.members(|name, c| {
        let (v, m) = c.masked_mac()?;
        match name {
            "src" => (out.value.src, out.mask.src) = (v, m),
            "dst" => (out.value.dst, out.mask.dst) = (v, m),
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_frag(w: &mut FieldWriter<'_>, frag: u8, mask: u8) {
    if mask == 0 {
        return;
    }
    w.begin("frag", false);
    w.raw().push_str(match frag & NW_FRAG_MASK {
        0 => "no",
        NW_FRAG_ANY => "first",
        _ => "later",
    });
}

fn read_frag(c: &mut Cursor<'_>) -> Option<u8> {
    [
        ("no", 0),
        ("first", NW_FRAG_ANY),
        ("later", NW_FRAG_ANY | NW_FRAG_LATER),
    ]
    .iter()
    .find(|(name, _)| c.eat(name))
    .map(|(_, frag)| *frag)
}

pub fn write_ipv4(w: &mut FieldWriter<'_>, k: &Ipv4Key, m: &Ipv4Key) {
    w.ipv4("src", k.src.get(), m.src.get());
    w.ipv4("dst", k.dst.get(), m.dst.get());
    w.dec("proto", k.proto.into(), m.proto.into(), U8);
    w.hex("tos", k.tos.into(), m.tos.into(), U8);
    w.dec("ttl", k.ttl.into(), m.ttl.into(), U8);
    write_frag(w, k.frag, m.frag);
}

fn be32((v, m): (u32, u32)) -> (Be32, Be32) {
    (v.into(), m.into())
}

fn byte(c: &mut Cursor<'_>) -> Option<(u8, u8)> {
    let (v, m) = c.masked(U8)?;
    Some((v as u8, m as u8))
}

fn be16(c: &mut Cursor<'_>) -> Option<(Be16, Be16)> {
    let (v, m) = c.masked(U16)?;
    Some(((v as u16).into(), (m as u16).into()))
}

pub fn read_ipv4(c: &mut Cursor<'_>) -> Option<Masked<Ipv4Key>> {
    let mut out = Masked::<Ipv4Key>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "src" => (value.src, mask.src) = be32(c.masked_ipv4()?),
            "dst" => (value.dst, mask.dst) = be32(c.masked_ipv4()?),
            "proto" => (value.proto, mask.proto) = byte(c)?,
            "tos" => (value.tos, mask.tos) = byte(c)?,
            "ttl" => (value.ttl, mask.ttl) = byte(c)?,
            "frag" => (value.frag, mask.frag) = (read_frag(c)?, NW_FRAG_MASK),
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_ipv6(w: &mut FieldWriter<'_>, k: &Ipv6Key, m: &Ipv6Key) {
    w.ipv6("src", k.src, m.src);
    w.ipv6("dst", k.dst, m.dst);
    let label = u64::from(m.label.get()) & LABEL;
    w.hex("label", k.label.get().into(), label, LABEL);
    w.dec("proto", k.proto.into(), m.proto.into(), U8);
    w.hex("tclass", k.tclass.into(), m.tclass.into(), U8);
    w.dec("hlimit", k.hlimit.into(), m.hlimit.into(), U8);
    write_frag(w, k.frag, m.frag);
}

pub fn read_ipv6(c: &mut Cursor<'_>) -> Option<Masked<Ipv6Key>> {
    let mut out = Masked::<Ipv6Key>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "src" => (value.src, mask.src) = c.masked_ipv6()?,
            "dst" => (value.dst, mask.dst) = c.masked_ipv6()?,
            "label" => {
                let (v, m) = c.masked(LABEL)?;
                (value.label, mask.label) = be32((v as u32, m as u32));
            }
            "proto" => (value.proto, mask.proto) = byte(c)?,
            "tclass" => (value.tclass, mask.tclass) = byte(c)?,
            "hlimit" => (value.hlimit, mask.hlimit) = byte(c)?,
            "frag" => (value.frag, mask.frag) = (read_frag(c)?, NW_FRAG_MASK),
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_ports(w: &mut FieldWriter<'_>, k: &PortsKey, m: &PortsKey) {
    w.dec("src", k.src.get().into(), m.src.get().into(), U16);
    w.dec("dst", k.dst.get().into(), m.dst.get().into(), U16);
}

pub fn read_ports(c: &mut Cursor<'_>) -> Option<Masked<PortsKey>> {
    let mut out = Masked::<PortsKey>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "src" => (value.src, mask.src) = be16(c)?,
            "dst" => (value.dst, mask.dst) = be16(c)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_icmp(w: &mut FieldWriter<'_>, k: &IcmpKey, m: &IcmpKey) {
    w.dec("type", k.icmp_type.into(), m.icmp_type.into(), U8);
    w.dec("code", k.code.into(), m.code.into(), U8);
}

pub fn read_icmp(c: &mut Cursor<'_>) -> Option<Masked<IcmpKey>> {
    let mut out = Masked::<IcmpKey>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "type" => (value.icmp_type, mask.icmp_type) = byte(c)?,
            "code" => (value.code, mask.code) = byte(c)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_arp(w: &mut FieldWriter<'_>, k: &ArpKey, m: &ArpKey) {
    w.ipv4("sip", k.sip.get(), m.sip.get());
    w.ipv4("tip", k.tip.get(), m.tip.get());
    w.dec("op", k.op.get().into(), m.op.get().into(), U16);
    w.mac("sha", k.sha, m.sha);
    w.mac("tha", k.tha, m.tha);
}

pub fn read_arp(c: &mut Cursor<'_>) -> Option<Masked<ArpKey>> {
    let mut out = Masked::<ArpKey>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "sip" => (value.sip, mask.sip) = be32(c.masked_ipv4()?),
            "tip" => (value.tip, mask.tip) = be32(c.masked_ipv4()?),
            "op" => (value.op, mask.op) = be16(c)?,
            "sha" => (value.sha, mask.sha) = c.masked_mac()?,
            "tha" => (value.tha, mask.tha) = c.masked_mac()?,
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_nd(w: &mut FieldWriter<'_>, k: &NdKey, m: &NdKey) {
    w.ipv6("target", k.target, m.target);
    w.mac("sll", k.sll, m.sll);
    w.mac("tll", k.tll, m.tll);
}

pub fn read_nd(c: &mut Cursor<'_>) -> Option<Masked<NdKey>> {
    let mut out = Masked::<NdKey>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "target" => (value.target, mask.target) = c.masked_ipv6()?,
            "sll" => (value.sll, mask.sll) = c.masked_mac()?,
            "tll" => (value.tll, mask.tll) = c.masked_mac()?,
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_nd_ext(w: &mut FieldWriter<'_>, k: &NdExtensionsKey, m: &NdExtensionsKey) {
    let full = u32::MAX.into();
    w.hex(
        "nd_reserved",
        k.reserved.get().into(),
        m.reserved.get().into(),
        full,
    );
    w.dec(
        "nd_options_type",
        k.options_type.into(),
        m.options_type.into(),
        U8,
    );
}

pub fn read_nd_ext(c: &mut Cursor<'_>) -> Option<Masked<NdExtensionsKey>> {
    let mut out = Masked::<NdExtensionsKey>::default();
    let Masked { value, mask } = &mut out;
    c.members(|name, c| {
        match name {
            "nd_reserved" => {
                let (v, m) = c.masked(u32::MAX.into())?;
                (value.reserved, mask.reserved) = be32((v as u32, m as u32));
            }
            "nd_options_type" => (value.options_type, mask.options_type) = byte(c)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(out)
}

pub fn write_nsh(w: &mut FieldWriter<'_>, k: &NshKey, m: &NshKey) {
    w.dec("flags", k.flags.into(), m.flags.into(), U8);
    w.dec("ttl", k.ttl.into(), m.ttl.into(), U8);
    w.dec("mdtype", k.mdtype.into(), m.mdtype.into(), U8);
    w.dec("np", k.np.into(), m.np.into(), U8);
    let (path, path_mask) = (k.path_hdr.get(), m.path_hdr.get());
    w.hex(
        "spi",
        (path >> 8).into(),
        (path_mask >> 8).into(),
        0xff_ffff,
    );
    w.dec("si", (path & 0xff).into(), (path_mask & 0xff).into(), U8);
    for (i, name) in ["c1", "c2", "c3", "c4"].into_iter().enumerate() {
        let mask = m.context[i].get().into();
        w.hex(name, k.context[i].get().into(), mask, u32::MAX.into());
    }
}

/// What a set action changes of a service header: no bits but those, and masks with all their digits.
pub fn write_nsh_set(w: &mut FieldWriter<'_>, k: &NshKey, m: &NshKey) {
    let mut byte = |name: &str, value: u8, mask: u8| {
        if w.begin(name, mask == 0) {
            let value = value & mask;
            let _ = match mask {
                u8::MAX => write!(w.raw(), "{value}"),
                _ => write!(w.raw(), "{value:#04x}/{mask:#04x}"),
            };
        }
    };
    byte("flags", k.flags, m.flags);
    byte("ttl", k.ttl, m.ttl);
    byte("mdtype", k.mdtype, m.mdtype);
    byte("np", k.np, m.np);
    const SPI: u32 = 0xff_ffff;
    let (path, path_mask) = (k.path_hdr.get(), m.path_hdr.get());
    nsh_word(w, "spi", path >> 8, path_mask >> 8, SPI);
    let (si, si_mask) = ((path & 0xff) as u8, (path_mask & 0xff) as u8);
    w.dec("si", (si & si_mask).into(), si_mask.into(), U8);
    for (i, name) in ["c1", "c2", "c3", "c4"].into_iter().enumerate() {
        nsh_word(w, name, k.context[i].get(), m.context[i].get(), u32::MAX);
    }
}

fn nsh_word(w: &mut FieldWriter<'_>, name: &str, value: u32, mask: u32, full: u32) {
    if w.begin(name, mask == 0) {
        let _ = write!(w.raw(), "{:#x}", value & mask);
        if mask != full {
            let _ = write!(w.raw(), "/{mask:#010x}");
        }
    }
}

pub fn read_nsh_member(out: &mut Masked<NshKey>, name: &str, c: &mut Cursor<'_>) -> Option<()> {
    let Masked { value, mask } = out;
    match name {
        "flags" => (value.flags, mask.flags) = byte(c)?,
        "ttl" => (value.ttl, mask.ttl) = byte(c)?,
        "mdtype" => (value.mdtype, mask.mdtype) = byte(c)?,
        "np" => (value.np, mask.np) = byte(c)?,
        "spi" => {
            let (v, m) = c.masked(0xff_ffff)?;
            value.path_hdr = ((v as u32) << 8 | value.path_hdr.get() & 0xff).into();
            mask.path_hdr = ((m as u32) << 8 | mask.path_hdr.get() & 0xff).into();
        }
        "si" => {
            let (v, m) = byte(c)?;
            value.path_hdr = (value.path_hdr.get() & !0xff | u32::from(v)).into();
            mask.path_hdr = (mask.path_hdr.get() & !0xff | u32::from(m)).into();
        }
        "c1" | "c2" | "c3" | "c4" => {
            let i = usize::from(name.as_bytes()[1] - b'1');
            let (v, m) = c.masked(u32::MAX.into())?;
            (value.context[i], mask.context[i]) = be32((v as u32, m as u32));
        }
        _ => return None,
    }
    Some(())
}

pub fn read_nsh(c: &mut Cursor<'_>) -> Option<Masked<NshKey>> {
    let mut out = Masked::<NshKey>::default();
    c.members(|name, c| read_nsh_member(&mut out, name, c))?;
    Some(out)
}

/// One label stack entry; without a mask all of it counts.
pub fn write_mpls(out: &mut String, lse: u32, mask: Option<u32>) {
    let (label, tc, bos, ttl) = (lse >> 12, lse >> 9 & 7, lse >> 8 & 1, lse & 0xff);
    let Some(mask) = mask else {
        _ = write!(out, "label={label},tc={tc},ttl={ttl},bos={bos}");
        return;
    };
    _ = write!(
        out,
        "label={label}/0x{:x},tc={tc}/{:x},ttl={ttl}/0x{:x},bos={bos}/{:x}",
        mask >> 12,
        mask >> 9 & 7,
        mask & 0xff,
        mask >> 8 & 1
    );
}

/// Label stack entries up to the closing parenthesis; each begins with its label.
pub fn read_mpls(c: &mut Cursor<'_>, max: usize) -> Option<Vec<Masked<u32>>> {
    let mut out: Vec<Masked<u32>> = Vec::new();
    c.members(|name, c| {
        let (full, shift) = match name {
            "label" => (LABEL, 12),
            "tc" => (7, 9),
            "ttl" => (U8, 0),
            "bos" => (1, 8),
            _ => return None,
        };
        let (v, m) = c.masked(full)?;
        if name == "label" || out.is_empty() {
            if out.len() == max {
                return None;
            }
            out.push(Masked::default());
        }
        let last = out.last_mut()?;
        last.value |= (v as u32) << shift;
        last.mask |= (m as u32) << shift;
        Some(())
    })?;
    (!out.is_empty()).then_some(out)
}

/// Prints the inside of `tunnel(..)`. Members are there when the key has them; `mask` none means exact.
pub fn write_tunnel(out: &mut String, k: &FlowTnl, mask: Option<&FlowTnl>, verbose: bool) {
    let exact;
    let m = match mask {
        Some(mask) => mask,
        None => {
            exact = exact_tunnel();
            &exact
        }
    };
    let mut w = FieldWriter::new(out, verbose);
    if k.tun_id.get() != 0 || k.flags & FLOW_TNL_F_KEY != 0 {
        let (id, mask) = (k.tun_id.get(), m.tun_id.get());
        if w.begin("tun_id", mask == 0) {
            _ = match mask {
                u64::MAX => write!(w.raw(), "{id:#x}"),
                mask => write!(w.raw(), "{id:#x}/{mask:#x}"),
            };
        }
    }
    if k.ip_src.get() != 0 {
        w.ipv4("src", k.ip_src.get(), m.ip_src.get());
    }
    if k.ip_dst.get() != 0 {
        w.ipv4("dst", k.ip_dst.get(), m.ip_dst.get());
    }
    if k.ipv6_src != [0; 16] {
        w.ipv6("ipv6_src", k.ipv6_src, m.ipv6_src);
    }
    if k.ipv6_dst != [0; 16] {
        w.ipv6("ipv6_dst", k.ipv6_dst, m.ipv6_dst);
    }
    if k.ip_tos != 0 {
        w.hex("tos", k.ip_tos.into(), m.ip_tos.into(), U8);
    }
    w.dec("ttl", k.ip_ttl.into(), m.ip_ttl.into(), U8);
    if k.tp_src.get() != 0 {
        w.dec("tp_src", k.tp_src.get().into(), m.tp_src.get().into(), U16);
    }
    if k.tp_dst.get() != 0 {
        w.dec("tp_dst", k.tp_dst.get().into(), m.tp_dst.get().into(), U16);
    }
    write_tunnel_kind(&mut w, k, m);
    write_tunnel_flags(&mut w, k, m);
}

/// A mask that leaves nothing open.
fn exact_tunnel() -> FlowTnl {
    let mut exact = FlowTnl::default();
    exact.tun_id = u64::MAX.into();
    exact.ip_src = u32::MAX.into();
    exact.ip_dst = u32::MAX.into();
    exact.ipv6_src = [0xff; 16];
    exact.ipv6_dst = [0xff; 16];
    (exact.ip_tos, exact.ip_ttl) = (0xff, 0xff);
    (exact.tp_src, exact.tp_dst, exact.gbp_id) =
        (u16::MAX.into(), u16::MAX.into(), u16::MAX.into());
    (exact.gbp_flags, exact.erspan_ver, exact.erspan_idx) = (0xff, 0xff, u32::MAX);
    (exact.erspan_dir, exact.erspan_hwid) = (0xff, 0xff);
    (exact.gtpu_flags, exact.gtpu_msgtype) = (0xff, 0xff);
    exact.flags = FLOW_TNL_F_MASK;
    exact.metadata.opts = [0xff; 256];
    exact
}

/// Begins a member that has members.
fn nested(w: &mut FieldWriter<'_>, name: &str) {
    if !w.first {
        w.out.push(',');
    }
    w.first = false;
    w.out.push_str(name);
    w.out.push('(');
}

/// What only one kind of tunnel has.
fn write_tunnel_kind(w: &mut FieldWriter<'_>, k: &FlowTnl, m: &FlowTnl) {
    let verbose = w.verbose;
    if k.erspan_ver != 0 {
        nested(w, "erspan");
        let mut n = FieldWriter::new(w.out, verbose);
        n.dec("ver", k.erspan_ver.into(), m.erspan_ver.into(), U8);
        if k.erspan_ver == 1 {
            // Shown even where it does not matter.
            n.begin("idx", false);
            write_masked(
                n.raw(),
                k.erspan_idx.into(),
                m.erspan_idx.into(),
                u32::MAX.into(),
            );
        } else {
            n.dec("dir", k.erspan_dir.into(), m.erspan_dir.into(), U8);
            n.hex("hwid", k.erspan_hwid.into(), m.erspan_hwid.into(), U8);
        }
        w.out.push(')');
    }
    let gbp_wild = m.gbp_id.get() == 0 && m.gbp_flags == 0;
    if (k.gbp_id.get() != 0 || k.gbp_flags != 0) && (verbose || !gbp_wild) {
        nested(w, "vxlan");
        w.out.push_str("gbp(");
        let mut n = FieldWriter::new(w.out, verbose);
        n.dec("id", k.gbp_id.get().into(), m.gbp_id.get().into(), U16);
        n.hex("flags", k.gbp_flags.into(), m.gbp_flags.into(), U8);
        w.out.push_str("))");
    }
    if k.metadata.len != 0 || m.metadata.len != 0 {
        nested(w, "geneve");
        write_geneve_options(w.out, k, m, verbose);
        w.out.push(')');
    }
    if k.gtpu_flags != 0 || k.gtpu_msgtype != 0 {
        nested(w, "gtpu");
        let mut n = FieldWriter::new(w.out, verbose);
        n.hex("flags", k.gtpu_flags.into(), m.gtpu_flags.into(), U8);
        n.dec("msgtype", k.gtpu_msgtype.into(), m.gtpu_msgtype.into(), U8);
        w.out.push(')');
    }
}

fn write_tunnel_flags(w: &mut FieldWriter<'_>, k: &FlowTnl, m: &FlowTnl) {
    // Whether the OAM bit counts does not make the flags partial: only Geneve has it.
    let flags_mask = m.flags & FLOW_TNL_F_MASK;
    if flags_mask == FLOW_TNL_F_MASK {
        nested(w, "flags");
        format_flags(w.out, &TUNNEL_FLAGS, k.flags.into(), '|');
        w.out.push(')');
    } else if flags_mask & !FLOW_TNL_F_OAM != 0 || flags_mask != 0 {
        nested(w, "flags");
        format_flags_masked(w.out, &TUNNEL_FLAGS, k.flags.into(), flags_mask.into());
        w.out.push(')');
    } else if w.verbose {
        nested(w, "flags");
        w.out.push_str("0/0)");
    }
}

/// Raw Geneve TLVs as `{class=..,type=..,len=..,data}`; as `{}` where none of their data matters.
fn write_geneve_options(out: &mut String, k: &FlowTnl, m: &FlowTnl, verbose: bool) {
    let len = usize::from(k.metadata.len);
    let (opts, masks) = (&k.metadata.opts[..len], &m.metadata.opts[..len]);
    let size_at = |at: usize| usize::from(opts[at + 3] & 0x1f) * 4;
    let data_matters = |at: usize| {
        let end = (at + 4 + size_at(at)).min(len);
        masks[at + 4..end].iter().any(|&b| b != 0)
    };
    let mut all = Vec::new();
    let mut at = 0;
    while at + 4 <= len {
        all.push(at);
        at += 4 + size_at(at);
    }
    let named = verbose || all.iter().any(|&at| data_matters(at));
    for at in all {
        let (size, left) = (size_at(at), len - at);
        if 4 + size > left {
            _ = write!(out, "opt len {} greater than remaining {left}", 4 + size);
            return;
        }
        if !named {
            out.push_str("{}");
            continue;
        }
        let class = u16::from_be_bytes([opts[at], opts[at + 1]]);
        out.push_str("{class=");
        hex(out, class.into());
        out.push_str(",type=");
        hex(out, opts[at + 2].into());
        _ = write!(out, ",len={size}");
        if size != 0 && (verbose || data_matters(at)) {
            let (data, mask) = (&opts[at + 4..][..size], &masks[at + 4..][..size]);
            out.push(',');
            write_long_hex(out, data);
            if mask.iter().any(|&b| b != 0xff) {
                out.push('/');
                write_long_hex(out, mask);
            }
        }
        out.push('}');
    }
}

fn read_geneve_options(c: &mut Cursor<'_>, k: &mut FlowTnl, m: &mut FlowTnl) -> Option<()> {
    let mut len = usize::from(k.metadata.len);
    while c.eat("{") {
        c.expect("class=")?;
        let class = c.number(U16)? as u16;
        c.expect(",type=")?;
        let kind = c.number(U8)? as u8;
        c.expect(",len=")?;
        let size = c.number(124)? as usize;
        if !size.is_multiple_of(4) || len + 4 + size > 252 {
            return None;
        }
        let at = len;
        k.metadata.opts[at..at + 2].copy_from_slice(&class.to_be_bytes());
        k.metadata.opts[at + 2] = kind;
        k.metadata.opts[at + 3] = (size / 4) as u8;
        m.metadata.opts[at..at + 4].fill(0xff);
        if size != 0 {
            c.expect(",")?;
            read_long_hex(c, &mut k.metadata.opts[at + 4..at + 4 + size])?;
            if c.eat("/") {
                read_long_hex(c, &mut m.metadata.opts[at + 4..at + 4 + size])?;
            } else {
                m.metadata.opts[at + 4..at + 4 + size].fill(0xff);
            }
        }
        c.expect("}")?;
        len = at + 4 + size;
    }
    k.metadata.len = len as u8;
    m.metadata.len = 0xff;
    c.expect(")")
}

/// The inside of `tunnel(..)` up to its closing parenthesis.
pub fn read_tunnel(c: &mut Cursor<'_>) -> Option<Masked<FlowTnl>> {
    let mut value = FlowTnl::default();
    let mut mask = FlowTnl::default();
    let (k, m) = (&mut value, &mut mask);
    let mut has_key = false;
    c.members(|name, c| {
        match name {
            "tun_id" | "src" | "dst" | "ipv6_src" | "ipv6_dst" | "tos" | "ttl" | "tp_src"
            | "tp_dst" => {}
            "erspan" => {
                c.expect("(")?;
                return c.members(|name, c| {
                    match name {
                        "ver" => (k.erspan_ver, m.erspan_ver) = byte(c)?,
                        "idx" => {
                            let (v, mask) = c.masked(LABEL)?;
                            (k.erspan_idx, m.erspan_idx) =
                                (v as u32, if mask == LABEL { u32::MAX } else { mask as u32 });
                        }
                        "dir" => (k.erspan_dir, m.erspan_dir) = byte(c)?,
                        "hwid" => (k.erspan_hwid, m.erspan_hwid) = byte(c)?,
                        _ => return None,
                    }
                    Some(())
                });
            }
            "vxlan" => {
                c.expect("(gbp(")?;
                c.members(|name, c| {
                    match name {
                        "id" => (k.gbp_id, m.gbp_id) = be16(c)?,
                        "flags" => (k.gbp_flags, m.gbp_flags) = byte(c)?,
                        _ => return None,
                    }
                    Some(())
                })?;
                return c.expect(")");
            }
            "geneve" => {
                c.expect("(")?;
                return read_geneve_options(c, k, m);
            }
            "gtpu" => {
                c.expect("(")?;
                return c.members(|name, c| {
                    match name {
                        "flags" => (k.gtpu_flags, m.gtpu_flags) = byte(c)?,
                        "msgtype" => (k.gtpu_msgtype, m.gtpu_msgtype) = byte(c)?,
                        _ => return None,
                    }
                    Some(())
                });
            }
            "flags" => {
                c.expect("(")?;
                let (v, mask) = if c.eat(")") {
                    (0, FLOW_TNL_F_MASK.into())
                } else {
                    let flags = c.flags(&TUNNEL_FLAGS, FLOW_TNL_F_MASK.into())?;
                    c.expect(")")?;
                    flags
                };
                (k.flags, m.flags) = (v as u16, mask as u16);
                return Some(());
            }
            _ => return None,
        }
        match name {
            "tun_id" => {
                let (v, mask) = c.masked(u64::MAX)?;
                (k.tun_id, m.tun_id) = (Be64::new(v), Be64::new(mask));
                has_key = true;
            }
            "src" => (k.ip_src, m.ip_src) = be32(c.masked_ipv4()?),
            "dst" => (k.ip_dst, m.ip_dst) = be32(c.masked_ipv4()?),
            "ipv6_src" => (k.ipv6_src, m.ipv6_src) = c.masked_ipv6()?,
            "ipv6_dst" => (k.ipv6_dst, m.ipv6_dst) = c.masked_ipv6()?,
            "tos" => (k.ip_tos, m.ip_tos) = byte(c)?,
            "ttl" => (k.ip_ttl, m.ip_ttl) = byte(c)?,
            "tp_src" => (k.tp_src, m.tp_src) = be16(c)?,
            _ => (k.tp_dst, m.tp_dst) = be16(c)?,
        }
        Some(())
    })?;
    if has_key {
        value.flags |= FLOW_TNL_F_KEY;
        mask.flags |= FLOW_TNL_F_KEY;
    }
    Some(Masked { value, mask })
}

/// A plain metadata value with an optional mask: `(0x5/0xff)`, without its parentheses.
pub fn write_masked(out: &mut String, value: u64, mask: u64, full: u64) {
    hex(out, value);
    if mask != full {
        out.push('/');
        hex(out, mask);
    }
}

pub fn write_masked128(out: &mut String, value: u128, mask: u128) {
    hex128(out, value);
    if mask != u128::MAX {
        out.push('/');
        hex128(out, mask);
    }
}
