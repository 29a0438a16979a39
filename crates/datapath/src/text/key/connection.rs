//! What connection tracking knows of a packet.

use std::fmt::Write;

use ferrovs_packet::flow::Flow;
use ferrovs_packet::text::{Cursor, hex};
use ferrovs_packet::types::eth_type;

use super::{Attribute, ParsedKey, Presence, U16, U32, Written, attr, masked, masked32};
use crate::text::{CT_STATES, FieldWriter, format_flags_masked, members};

pub(super) static STATE: Attribute = Attribute {
    name: "ct_state",
    bit: attr::CT_STATE,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| {
        let (value, mask) = (u32::from(p.k.ct_state), u32::from(p.m.ct_state));
        let exact = p.exact;
        if p.verbose {
            p.inside(a.name, |out| {
                hex(out, value.into());
                if !exact {
                    out.push('/');
                    hex(out, mask.into());
                }
            });
        } else if mask != 0 {
            p.inside(a.name, |out| {
                format_flags_masked(out, &CT_STATES, value, mask)
            });
        }
    },
    read: |key, c, _| {
        let (v, m) = c.flags(&CT_STATES, 0xff)?;
        (key.flow.ct_state, key.wc.masks.ct_state) = (v as u8, m as u8);
        c.expect(")")
    },
    written: Written::AsRead,
};

pub(super) static ZONE: Attribute = Attribute {
    name: "ct_zone",
    bit: attr::CT_ZONE,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| p.number(a.name, p.k.ct_zone.into(), p.m.ct_zone.into(), U16),
    read: |key, c, _| {
        let (v, m) = masked(c, U16)?;
        (key.flow.ct_zone, key.wc.masks.ct_zone) = (v as u16, m as u16);
        Some(())
    },
    written: Written::AsRead,
};

pub(super) static MARK: Attribute = Attribute {
    name: "ct_mark",
    bit: attr::CT_MARK,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| p.number(a.name, p.k.ct_mark.into(), p.m.ct_mark.into(), U32),
    read: |key, c, _| {
        (key.flow.ct_mark, key.wc.masks.ct_mark) = masked32(c)?;
        Some(())
    },
    written: Written::Inside(|out, key| _ = write!(out, "{:#x}", key.flow.ct_mark)),
};

pub(super) static LABEL: Attribute = Attribute {
    name: "ct_label",
    bit: attr::CT_LABEL,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| {
        let (value, mask) = (p.k.ct_label, p.m.ct_label);
        if mask != [0; 16] || p.verbose {
            let (value, mask) = (u128::from_be_bytes(value), u128::from_be_bytes(mask));
            p.inside(a.name, |out| members::write_masked128(out, value, mask));
        }
    },
    read: |key, c, _| {
        let (v, m) = c.masked128()?;
        (key.flow.ct_label, key.wc.masks.ct_label) = (v.to_be_bytes(), m.to_be_bytes());
        c.expect(")")
    },
    written: Written::AsRead,
};

pub(super) static TUPLE4: Attribute = Attribute {
    name: "ct_tuple4",
    bit: attr::CT_TUPLE,
    presence: Presence::Free,
    of: |k| k.ct_nw_proto != 0 && k.dl_type.get() == eth_type::IP,
    print: |p, a| {
        let (k, m) = (p.k, p.m);
        let wild = no_ports(m) && m.ct_nw_src.get() | m.ct_nw_dst.get() == 0;
        p.members(a.name, wild, |w| {
            w.ipv4("src", k.ct_nw_src.get(), m.ct_nw_src.get());
            w.ipv4("dst", k.ct_nw_dst.get(), m.ct_nw_dst.get());
            write_ports(w, k, m, ["tp_src", "tp_dst"]);
        });
    },
    read: |key, c, _| {
        read_tuple(key, c, |f, m, name, c| {
            let (address, mask) = match name {
                "src" => (&mut f.ct_nw_src, &mut m.ct_nw_src),
                _ => (&mut f.ct_nw_dst, &mut m.ct_nw_dst),
            };
            let (v, bits) = c.masked_ipv4()?;
            (*address, *mask) = (v.into(), bits.into());
            Some(())
        })
    },
    written: Written::AsRead,
};

pub(super) static TUPLE6: Attribute = Attribute {
    name: "ct_tuple6",
    bit: attr::CT_TUPLE,
    presence: Presence::Free,
    of: |k| k.ct_nw_proto != 0 && k.dl_type.get() == eth_type::IPV6,
    print: |p, a| {
        let (k, m) = (p.k, p.m);
        let wild = no_ports(m) && m.ct_ipv6_src == [0; 16] && m.ct_ipv6_dst == [0; 16];
        p.members(a.name, wild, |w| {
            w.ipv6("src", k.ct_ipv6_src, m.ct_ipv6_src);
            w.ipv6("dst", k.ct_ipv6_dst, m.ct_ipv6_dst);
            write_ports(w, k, m, ["src_port", "dst_port"]);
        });
    },
    read: |key, c, _| {
        read_tuple(key, c, |f, m, name, c| {
            let (address, mask) = match name {
                "src" => (&mut f.ct_ipv6_src, &mut m.ct_ipv6_src),
                _ => (&mut f.ct_ipv6_dst, &mut m.ct_ipv6_dst),
            };
            (*address, *mask) = c.masked_ipv6()?;
            Some(())
        })
    },
    written: Written::AsRead,
};

fn no_ports(m: &Flow) -> bool {
    m.ct_nw_proto == 0 && m.ct_tp_src.get() | m.ct_tp_dst.get() == 0
}

/// The protocol, and the ports under their names.
fn write_ports(w: &mut FieldWriter<'_>, k: &Flow, m: &Flow, [src, dst]: [&str; 2]) {
    w.dec("proto", k.ct_nw_proto.into(), m.ct_nw_proto.into(), 0xff);
    w.dec(src, k.ct_tp_src.get().into(), m.ct_tp_src.get().into(), U16);
    w.dec(dst, k.ct_tp_dst.get().into(), m.ct_tp_dst.get().into(), U16);
}

/// The members of a tuple; `address` reads the one with the name that it is given.
fn read_tuple(
    key: &mut ParsedKey,
    c: &mut Cursor<'_>,
    address: fn(&mut Flow, &mut Flow, &str, &mut Cursor<'_>) -> Option<()>,
) -> Option<()> {
    let (f, m) = (&mut key.flow, &mut key.wc.masks);
    c.members(|name, c| {
        match name {
            "src" | "dst" => address(f, m, name, c)?,
            "proto" => {
                let (v, mask) = c.masked(0xff)?;
                (f.ct_nw_proto, m.ct_nw_proto) = (v as u8, mask as u8);
            }
            "tp_src" | "src_port" => {
                let (v, mask) = c.masked(U16)?;
                (f.ct_tp_src, m.ct_tp_src) = ((v as u16).into(), (mask as u16).into());
            }
            "tp_dst" | "dst_port" => {
                let (v, mask) = c.masked(U16)?;
                (f.ct_tp_dst, m.ct_tp_dst) = ((v as u16).into(), (mask as u16).into());
            }
            _ => return None,
        }
        Some(())
    })
}
