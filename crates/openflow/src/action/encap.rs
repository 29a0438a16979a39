//! Actions on MPLS labels and service headers, and those that put on or take off whole headers.

use std::fmt::Write;

use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::PT_ETH;
use ferrovs_packet::types::{Be16, Be32, eth_type};

use super::Action;
use super::check::Checker;
use super::decode::must;
use super::encode::{nx, std};
use super::row::{MAX, Row, nicira, of, word};
use crate::error::OfpErr;
use crate::text::action::list_of;
use crate::text::color::{Colors, Paint, Part};
use crate::text::cursor::{next_pair, u8 as num8, u16 as num16, u32 as num32};
use crate::text::format::hex;
use crate::text::parse_action::{OF13_UP, hex_bytes};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// A packet type of which nothing is known.
const PT_UNKNOWN: u32 = 0xffff_ffff;
const PT_NSH: u32 = 1 << 16 | eth_type::NSH as u32;
const PT_MPLS: u32 = 1 << 16 | eth_type::MPLS as u32;
const PT_MPLS_MCAST: u32 = 1 << 16 | eth_type::MPLS_MCAST as u32;
/// Packet type of `decap` that takes off whatever comes first.
const NEXT_PROTOCOL: u32 = 0xfffe;

/// The headers that can be put on.
const HEADERS: [(&str, u32); 4] = [
    ("ethernet", PT_ETH),
    ("nsh", PT_NSH),
    ("mpls", PT_MPLS),
    ("mpls_mc", PT_MPLS_MCAST),
];

/// Puts a header before the packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encap {
    /// The new packet type (name space and type).
    pub new_packet_type: u32,
    pub header_size: u16,
    pub props: Vec<EncapProp>,
}

/// A property of [`Encap`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EncapProp {
    NshMdType(u8),
    NshTlv {
        class: u16,
        type_: u8,
        data: Vec<u8>,
    },
}

fn check_mpls(_: &mut Action, c: &mut Checker<'_>) -> Result<(), OfpErr> {
    c.legacy(c.is_mpls());
    Ok(())
}

/// The argument of an action on a label, which has to be there.
fn given<'a>(v: &'a str, what: &str) -> Result<&'a str, String> {
    match v {
        "" => Err(format!("set_mpls_{what}: expected {what}.")),
        v => Ok(v),
    }
}

pub(super) static SET_MPLS_LABEL: Row = Row {
    name: "set_mpls_label",
    words: &[word("set_mpls_label", |_, v| {
        match num32(given(v, "label")?)? {
            n if n > 0xfffff => Err(format!("{v}: not a valid MPLS label")),
            n => Ok(Action::SetMplsLabel(n)),
        }
    })],
    wires: &[
        of(13, 1..=5, "OFPAT_SET_MPLS_LABEL", 8..=8, |_, mut r| {
            Ok(Action::SetMplsLabel(r.u32()?))
        })
        .deprecated(),
        nicira(30, 0..=0, "OFPAT_SET_MPLS_LABEL", 16..=16, |_, mut r| {
            r.skip(2)?;
            Ok(Action::SetMplsLabel(r.u32()?))
        }),
    ],
    encode: |a, e, out| {
        let &Action::SetMplsLabel(label) = a else {
            return;
        };
        match e.version {
            Version::V10 => nx(out, 30, |o| {
                o.put_u16(0);
                o.put_u32(label);
            }),
            Version::V11 => std(out, 13, |o| o.put_u32(label)),
            _ => e.set_exact(FieldId::MplsLabel, label.into(), out),
        }
    },
    format: |a, _, out| {
        if let Action::SetMplsLabel(n) = a {
            let _ = write!(out, "set_mpls_label({n})");
        }
    },
    check: check_mpls,
    ..Row::ACTION
};

pub(super) static SET_MPLS_TC: Row = Row {
    name: "set_mpls_tc",
    words: &[word("set_mpls_tc", |_, v| {
        match num8(given(v, "tc")?, "MPLS TC")? {
            n if n > 7 => Err(format!("{v}: not a valid MPLS TC")),
            n => Ok(Action::SetMplsTc(n)),
        }
    })],
    wires: &[
        of(14, 1..=5, "OFPAT_SET_MPLS_TC", 8..=8, |_, mut r| {
            Ok(Action::SetMplsTc(r.u8()?))
        })
        .deprecated(),
        nicira(31, 0..=0, "OFPAT_SET_MPLS_TC", 16..=16, |_, mut r| {
            Ok(Action::SetMplsTc(r.u8()?))
        }),
    ],
    encode: |a, e, out| {
        let &Action::SetMplsTc(tc) = a else { return };
        match e.version {
            Version::V10 => nx(out, 31, |o| o.put_u8(tc)),
            Version::V11 => std(out, 14, |o| o.put_u8(tc)),
            _ => e.set_exact(FieldId::MplsTc, tc.into(), out),
        }
    },
    format: |a, _, out| {
        if let Action::SetMplsTc(n) = a {
            let _ = write!(out, "set_mpls_tc({n})");
        }
    },
    check: check_mpls,
    ..Row::ACTION
};

pub(super) static SET_MPLS_TTL: Row = Row {
    name: "set_mpls_ttl",
    words: &[word("set_mpls_ttl", |_, v| {
        Ok(Action::SetMplsTtl(num8(given(v, "ttl")?, "MPLS TTL")?))
    })],
    wires: &[
        of(15, 1..=5, "OFPAT_SET_MPLS_TTL", 8..=8, |_, mut r| {
            Ok(Action::SetMplsTtl(r.u8()?))
        })
        .deprecated(),
        nicira(25, 0..=0, "OFPAT_SET_MPLS_TTL", 16..=16, |_, mut r| {
            Ok(Action::SetMplsTtl(r.u8()?))
        }),
    ],
    encode: |a, e, out| {
        if let &Action::SetMplsTtl(ttl) = a {
            e.either(25, 15, |o| o.put_u8(ttl), out);
        }
    },
    format: |a, _, out| {
        if let Action::SetMplsTtl(n) = a {
            let _ = write!(out, "set_mpls_ttl({n})");
        }
    },
    check: check_mpls,
    ..Row::ACTION
};

pub(super) static DEC_MPLS_TTL: Row = Row {
    name: "dec_mpls_ttl",
    paint: Paint::alone(Part::Value),
    words: &[word("dec_mpls_ttl", |_, _| Ok(Action::DecMplsTtl))],
    wires: &[
        of(16, 1..=5, "OFPAT_DEC_MPLS_TTL", 8..=8, |_, _| {
            Ok(Action::DecMplsTtl)
        }),
        nicira(26, 0..=0, "OFPAT_DEC_MPLS_TTL", 16..=16, |_, _| {
            Ok(Action::DecMplsTtl)
        }),
    ],
    encode: |_, e, out| e.either(26, 16, |_| {}, out),
    format: |_, _, out| out.push_str("dec_mpls_ttl"),
    check: check_mpls,
    ..Row::ACTION
};

fn read_push_mpls(mut r: Reader<'_>) -> Result<Action, OfpErr> {
    let ty = r.u16()?;
    let is_mpls = ty == eth_type::MPLS || ty == eth_type::MPLS_MCAST;
    must(is_mpls, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::PushMpls(ty.into()))
}

pub(super) static PUSH_MPLS: Row = Row {
    name: "push_mpls",
    words: &[word("push_mpls", |_, v| {
        Ok(Action::PushMpls(Be16::new(num16(v, "push_mpls")?)))
    })],
    wires: &[
        of(19, 1..=5, "OFPAT_PUSH_MPLS", 8..=8, |_, r| {
            read_push_mpls(r)
        }),
        nicira(23, 0..=0, "OFPAT_PUSH_MPLS", 16..=16, |_, r| {
            read_push_mpls(r)
        }),
    ],
    encode: |a, e, out| {
        if let Action::PushMpls(ty) = a {
            e.either(23, 19, |o| o.put_u16(ty.get()), out);
        }
    },
    format: |a, _, out| {
        if let Action::PushMpls(ty) = a {
            let _ = write!(out, "push_mpls:{:#06x}", ty.get());
        }
    },
    check: |a, c| {
        c.legacy(c.is_ethernet());
        // A pushed label hides what is below; a VLAN tag stays before it.
        if let Action::PushMpls(ty) = a {
            c.m.flow.dl_type = *ty;
        }
        c.m.flow.nw_proto = 0;
        Ok(())
    },
    ..Row::ACTION
};

pub(super) static POP_MPLS: Row = Row {
    name: "pop_mpls",
    words: &[word("pop_mpls", |_, v| {
        Ok(Action::PopMpls(Be16::new(num16(v, "pop_mpls")?)))
    })],
    wires: &[
        of(20, 1..=5, "OFPAT_POP_MPLS", 8..=8, |_, mut r| {
            Ok(Action::PopMpls(r.u16()?.into()))
        }),
        nicira(24, 0..=0, "OFPAT_POP_MPLS", 16..=16, |_, mut r| {
            Ok(Action::PopMpls(r.u16()?.into()))
        }),
    ],
    encode: |a, e, out| {
        if let Action::PopMpls(ty) = a {
            e.either(24, 20, |o| o.put_u16(ty.get()), out);
        }
    },
    format: |a, _, out| {
        if let Action::PopMpls(ty) = a {
            let _ = write!(out, "pop_mpls:{:#06x}", ty.get());
        }
    },
    check: |a, c| {
        c.legacy(c.is_ethernet() && c.is_mpls());
        if let Action::PopMpls(ty) = a {
            c.m.flow.dl_type = *ty;
        }
        Ok(())
    },
    ..Row::ACTION
};

pub(super) static DEC_NSH_TTL: Row = Row {
    name: "dec_nsh_ttl",
    paint: Paint::alone(Part::Paren),
    words: &[word("dec_nsh_ttl", |_, _| Ok(Action::DecNshTtl))],
    wires: &[nicira(48, 3..=5, "NXAST_DEC_NSH_TTL", 16..=16, |_, _| {
        Ok(Action::DecNshTtl)
    })],
    encode: |_, _, out| nx(out, 48, |_| {}),
    format: |_, _, out| out.push_str("dec_nsh_ttl"),
    check: |_, c| {
        let flow = &c.m.flow;
        c.legacy(flow.packet_type.get() == PT_NSH || flow.dl_type.get() == eth_type::NSH);
        Ok(())
    },
    ..Row::ACTION
};

pub(super) static ENCAP: Row = Row {
    name: "encap",
    paint: Paint::call(Colors::encap),
    words: &[word("encap", |_, v| parse_encap(v)).only(OF13_UP)],
    wires: &[nicira(46, 3..=5, "NXAST_ENCAP", 16..=MAX, |_, r| {
        read_encap(r)
    })],
    encode: |a, _, out| {
        if let Action::Encap(e) = a {
            encode_encap(e, out);
        }
    },
    format: |a, _, out| {
        if let Action::Encap(e) = a {
            format_encap(e, out);
        }
    },
    check: |a, c| {
        if let Action::Encap(e) = a {
            c.m.flow.packet_type = Be32::new(e.new_packet_type);
            if e.new_packet_type >> 16 == 1 {
                c.m.flow.dl_type = Be16::new(e.new_packet_type as u16);
            }
        }
        if !c.is_ip_any() {
            c.m.flow.nw_proto = 0;
        }
        Ok(())
    },
    ..Row::ACTION
};

fn read_encap(mut r: Reader<'_>) -> Result<Action, OfpErr> {
    let header_size = r.u16()?;
    let new_packet_type = r.u32()?;
    let mut out = Encap {
        new_packet_type,
        header_size,
        props: Vec::new(),
    };
    must(
        HEADERS.iter().any(|(_, pt)| *pt == new_packet_type),
        OfpErr::NXBAC_BAD_HEADER_TYPE,
    )?;
    while r.len() >= 4 {
        let (class, type_, len) = (r.u16()?, r.u8()?, usize::from(r.u8()?));
        if (class, type_, len) == (0, 0, 0) {
            break;
        }
        let padded = len.next_multiple_of(8);
        must(len >= 4 && r.len() + 4 >= padded, OfpErr::OFPBAC_BAD_LEN)?;
        let bytes = r.take(padded - 4)?;
        let mut p = Reader::with_error(&bytes[..len - 4], OfpErr::NXBAC_BAD_ED_PROP);
        out.props.push(match (class, type_) {
            (4, 1) => EncapProp::NshMdType(p.u8()?),
            (4, 2) => {
                let (class, type_, tlv_len) = (p.u16()?, p.u8()?, usize::from(p.u8()?));
                EncapProp::NshTlv {
                    class,
                    type_,
                    data: p.take(tlv_len)?.to_vec(),
                }
            }
            _ => return Err(OfpErr::NXBAC_UNKNOWN_ED_PROP),
        });
    }
    Ok(Action::Encap(out))
}

fn encode_encap(e: &Encap, out: &mut Vec<u8>) {
    nx(out, 46, |o| {
        o.put_u16(e.header_size);
        o.put_u32(e.new_packet_type);
        for p in &e.props {
            let start = o.len();
            o.put_u16(4);
            match p {
                EncapProp::NshMdType(t) => {
                    o.put_u8(1);
                    o.put_u8(5);
                    o.put_u8(*t);
                }
                EncapProp::NshTlv { class, type_, data } => {
                    o.put_u8(2);
                    o.put_u8((8 + data.len()) as u8);
                    o.put_u16(*class);
                    o.put_u8(*type_);
                    o.put_u8(data.len() as u8);
                    o.put(data);
                }
            }
            o.pad8(start);
        }
    });
}

fn format_encap(e: &Encap, out: &mut String) {
    out.push_str("encap(");
    match HEADERS.iter().find(|(_, pt)| *pt == e.new_packet_type) {
        Some((name, _)) => out.push_str(name),
        None => {
            out.push_str("packet_type=");
            format_packet_type(e.new_packet_type, out);
        }
    }
    if !e.props.is_empty() {
        out.push('(');
        list_of(&e.props, out, |p, o| match p {
            EncapProp::NshMdType(t) => {
                let _ = write!(o, "md_type={t}");
            }
            EncapProp::NshTlv { class, type_, data } => {
                let _ = write!(o, "tlv({class:#06x},{type_},0x");
                data.iter().for_each(|b| {
                    let _ = write!(o, "{b:02x}");
                });
                o.push(')');
            }
        });
        out.push(')');
    }
    out.push(')');
}

fn format_packet_type(pt: u32, out: &mut String) {
    let type_ = hex((pt & 0xffff).into());
    let _ = write!(out, "(ns={},type={type_})", pt >> 16);
}

fn parse_encap(v: &str) -> Result<Action, String> {
    let mut list = v;
    let (name, args) = next_pair(&mut list).ok_or_else(|| format!("Missing encap hdr: {v}"))?;
    let new_packet_type = HEADERS
        .iter()
        .find(|(header, _)| *header == name)
        .ok_or_else(|| format!("Encap hdr not supported: {args}"))?
        .1;
    let mut e = Encap {
        new_packet_type,
        header_size: 0,
        props: Vec::new(),
    };
    let mut list = args;
    while let Some((k, val)) = next_pair(&mut list) {
        if val.is_empty() && matches!(k, "md_type" | "tlv") {
            return Err("Value missing for encap property".to_owned());
        }
        e.props.push(match k {
            "md_type" => {
                let t = num8(val, "md_type")?;
                if t != 1 && t != 2 {
                    return Err("invalid md_type".to_owned());
                }
                EncapProp::NshMdType(t)
            }
            "tlv" => nsh_tlv(val).ok_or_else(|| format!("Invalid NSH TLV header: {val}"))?,
            _ => return Err(format!("Invalid property: {k}")),
        });
    }
    Ok(Action::Encap(e))
}

/// `0xCLASS,TYPE,0xDATA`; half a byte and what else follows the data is left out.
fn nsh_tlv(s: &str) -> Option<EncapProp> {
    let mut parts = s.splitn(3, ',');
    let class = parts.next()?.strip_prefix("0x")?;
    let class = u16::from_str_radix(class, 16).ok()?;
    let type_ = parts.next()?;
    if !type_.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    // A larger number wraps.
    let type_ = type_.parse::<u64>().ok()? as u8;
    let hex = parts.next()?.strip_prefix("0x")?;
    let digits = hex
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(hex.len());
    let data = hex_bytes(&hex[..digits & !1])?;
    if digits == 0 {
        return None;
    }
    Some(EncapProp::NshTlv { class, type_, data })
}

pub(super) static DECAP: Row = Row {
    name: "decap",
    words: &[word("decap", |_, v| parse_decap(v))],
    wires: &[nicira(47, 3..=5, "NXAST_DECAP", 16..=MAX, |_, mut r| {
        r.skip(2)?;
        Ok(Action::Decap {
            new_packet_type: r.u32()?,
        })
    })],
    encode: |a, _, out| {
        let Action::Decap { new_packet_type } = a else {
            return;
        };
        nx(out, 47, |o| {
            o.put_u16(0);
            o.put_u32(*new_packet_type);
        });
    },
    format: |a, _, out| {
        out.push_str("decap(");
        match a {
            // "Next protocol" needs no saying.
            Action::Decap { new_packet_type } if *new_packet_type != NEXT_PROTOCOL => {
                out.push_str("packet_type");
                format_packet_type(*new_packet_type, out);
            }
            _ => {}
        }
        out.push(')');
    },
    check: |_, c| {
        if c.is_ethernet() {
            // Below Ethernet lies what its type says.
            c.m.flow.packet_type = Be32::new(1 << 16 | u32::from(c.m.flow.dl_type.get()));
        } else {
            c.m.flow.packet_type = Be32::new(PT_UNKNOWN);
            c.m.flow.dl_type = Be16::MAX_VALUE;
        }
        Ok(())
    },
    ..Row::ACTION
};

fn parse_decap(v: &str) -> Result<Action, String> {
    let mut new_packet_type = NEXT_PROTOCOL;
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        if k != "packet_type" {
            return Err(format!("Invalid decap argument: {k}"));
        }
        let (mut ns, mut ty) = (None, None);
        let mut inner = val;
        while let Some((k, val)) = next_pair(&mut inner) {
            match k {
                "ns" => {
                    let n = num16(val, "ns")?;
                    if n > 1 {
                        return Err(format!("Unsupported ns value: {n}"));
                    }
                    ns = Some(u32::from(n));
                }
                "type" => ty = Some(u32::from(num16(val, "type")?)),
                _ => {}
            }
        }
        let ns = ns.ok_or("Missing packet_type attribute ns")?;
        let ty = ty.ok_or("Missing packet_type attribute type")?;
        new_packet_type = ns << 16 | ty;
    }
    Ok(Action::Decap { new_packet_type })
}
