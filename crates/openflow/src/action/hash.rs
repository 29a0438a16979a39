//! Actions that choose by a hash of the packet: a member port, or a link.

use std::fmt::Write;

use ferrovs_packet::field::{SubField, format_port};
use ferrovs_packet::hash::HashFields;
use ferrovs_packet::types::OfPort;

use super::Action;
use super::check::check_out_port;
use super::decode::{Decoder, must, ofs_nbits};
use super::encode::{Encoder, nx, pack};
use super::row::{MAX, Row, nicira, word};
use crate::error::OfpErr;
use crate::text::Names;
use crate::text::action::list_of;
use crate::text::color::{Colors, Paint};
use crate::text::cursor::{atoi, words};
use crate::text::parse_action::Parser;
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum BundleAlgorithm {
    ActiveBackup = 0,
    Hrw = 1,
}

/// Chooses one member port by liveness or hash; outputs to it or (`dst`) stores its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bundle {
    pub fields: HashFields,
    pub basis: u16,
    pub algorithm: BundleAlgorithm,
    pub dst: Option<SubField>,
    pub members: Vec<OfPort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MultipathAlgorithm {
    ModuloN = 0,
    HashThreshold = 1,
    Hrw = 2,
    IterHash = 3,
}

impl MultipathAlgorithm {
    pub const ALL: [(MultipathAlgorithm, &'static str); 4] = [
        (MultipathAlgorithm::ModuloN, "modulo_n"),
        (MultipathAlgorithm::HashThreshold, "hash_threshold"),
        (MultipathAlgorithm::Hrw, "hrw"),
        (MultipathAlgorithm::IterHash, "iter_hash"),
    ];
}

/// Hashes packet fields onto a link number and stores it in `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Multipath {
    pub fields: HashFields,
    pub basis: u16,
    pub algorithm: MultipathAlgorithm,
    /// The greatest link number (one less than the number of links).
    pub max_link: u16,
    pub arg: u32,
    pub dst: SubField,
}

const BUNDLE_ALGORITHMS: [(BundleAlgorithm, &str); 2] = [
    (BundleAlgorithm::ActiveBackup, "active_backup"),
    (BundleAlgorithm::Hrw, "hrw"),
];

/// Members are ports, named as NXM_OF_IN_PORT.
const MEMBER_TYPE: u32 = 0x0000_0002;

pub(super) static BUNDLE: Row = Row {
    name: "bundle",
    paint: Paint::call(Colors::arguments),
    words: &[
        word("bundle", |p, v| parse_bundle(p, v, false)),
        word("bundle_load", |p, v| parse_bundle(p, v, true)),
    ],
    wires: &[
        nicira(12, 0..=5, "NXAST_BUNDLE", 32..=MAX, |d, r| {
            read_bundle(d, r, false)
        }),
        nicira(13, 0..=5, "NXAST_BUNDLE_LOAD", 32..=MAX, |d, r| {
            read_bundle(d, r, true)
        }),
    ],
    encode: |a, e, out| {
        if let Action::Bundle(b) = a {
            encode_bundle(b, e, out);
        }
    },
    format: |a, names, out| {
        if let Action::Bundle(b) = a {
            format_bundle(b, names, out);
        }
    },
    check: |a, c| {
        let Action::Bundle(b) = a else { return Ok(()) };
        b.dst.as_ref().map_or(Ok(()), |d| c.dst(d))?;
        let mut ports = b.members.iter().filter(|p| **p != OfPort::NONE);
        ports.try_for_each(|p| check_out_port(*p, c.limits.max_ports))
    },
    in_set: false,
    ..Row::ACTION
};

fn read_bundle(d: &Decoder<'_, '_>, mut r: Reader<'_>, load: bool) -> Result<Action, OfpErr> {
    let algorithm = BUNDLE_ALGORITHMS.get(usize::from(r.u16()?));
    let fields = HashFields::from_number(r.u16()?);
    let basis = r.u16()?;
    let member_type = r.u32()?;
    let n = usize::from(r.u16()?);
    let (ofs, n_bits) = ofs_nbits(r.u16()?);
    let mut dst_reader = r.sub(4)?;
    must(r.zeros(4)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
    must(n <= 2048, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let fields = fields.ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let algorithm = algorithm.ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)?.0;
    must(member_type == MEMBER_TYPE, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let dst = if load {
        let dst = d.subfield(&mut dst_reader, ofs, n_bits)?;
        d.check_dst(&dst)?;
        if n_bits < 16 {
            warn(Topic::Actions, || {
                "bundle_load action requires at least 16 bit destination.".to_owned()
            });
            return Err(OfpErr::OFPBAC_BAD_ARGUMENT);
        }
        Some(dst)
    } else {
        must(
            dst_reader.zeros(4)? && (ofs, n_bits) == (0, 1),
            OfpErr::OFPBAC_BAD_ARGUMENT,
        )?;
        None
    };
    must(r.len() >= n * 2, OfpErr::OFPBAC_BAD_LEN)?;
    let members = (0..n)
        .map(|_| Ok(OfPort(r.u16()?)))
        .collect::<Result<Vec<_>, OfpErr>>()?;
    Ok(Action::Bundle(Box::new(Bundle {
        fields,
        basis,
        algorithm,
        dst,
        members,
    })))
}

fn encode_bundle(b: &Bundle, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    nx(out, if b.dst.is_some() { 13 } else { 12 }, |o| {
        o.put_u16(b.algorithm as u16);
        o.put_u16(b.fields.number());
        o.put_u16(b.basis);
        o.put_u32(MEMBER_TYPE);
        o.put_u16(b.members.len() as u16);
        match &b.dst {
            Some(dst) => {
                o.put_u16(pack(dst));
                e.nxm(dst.field, o);
            }
            None => o.put_zeros(6),
        }
        o.put_zeros(4);
        b.members.iter().for_each(|m| o.put_u16(m.0));
    });
}

fn format_bundle(b: &Bundle, names: &Names<'_>, out: &mut String) {
    let name = match b.dst {
        Some(_) => "bundle_load",
        None => "bundle",
    };
    let alg = BUNDLE_ALGORITHMS[b.algorithm as usize].1;
    let _ = write!(out, "{name}({},{},{alg},ofport,", b.fields.name(), b.basis);
    if let Some(dst) = &b.dst {
        dst.format(out);
        out.push(',');
    }
    out.push_str("members:");
    list_of(&b.members, out, |p, o| format_port(*p, names.ports, o));
    out.push(')');
}

fn parse_bundle(p: &mut Parser<'_, '_>, v: &str, load: bool) -> Result<Action, String> {
    let mut w = words(v);
    let mut next = || w.next();
    let few = || format!("{v}: not enough arguments to bundle action");
    let (Some(fields), Some(basis), Some(alg), Some(ty)) = (next(), next(), next(), next()) else {
        return Err(few());
    };
    let dst = if load {
        Some(next().ok_or_else(few)?)
    } else {
        None
    };
    let delimiter = next().ok_or_else(few)?;
    // The delimiter is joined to the first member: "members:1".
    let (word, first) = delimiter.split_once(':').unwrap_or((delimiter, ""));
    if !["members", "slaves"].contains(&word) {
        return Err(format!(
            "{v}: missing member delimiter, expected `members', got `{word}'"
        ));
    }
    let mut members = Vec::new();
    // The list may be in brackets.
    let parts = std::iter::once(first).chain(w);
    for m in parts.flat_map(|m| m.split(['[', ']'])) {
        if m.is_empty() {
            continue;
        }
        members.push(p.port(m).ok_or_else(|| format!("{m}: bad port number"))?);
    }
    let hash =
        HashFields::from_name(fields).ok_or_else(|| format!("{v}: unknown fields `{fields}'"))?;
    let algorithm = BUNDLE_ALGORITHMS
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(alg))
        .ok_or_else(|| format!("{v}: unknown algorithm `{alg}'"))?
        .0;
    if !ty.eq_ignore_ascii_case("ofport") {
        return Err(format!("{v}: unknown member_type `{ty}'"));
    }
    Ok(Action::Bundle(Box::new(Bundle {
        fields: hash,
        basis: atoi(basis) as u16,
        algorithm,
        dst: dst.map(SubField::parse).transpose()?,
        members,
    })))
}

pub(super) static MULTIPATH: Row = Row {
    name: "multipath",
    words: &[word("multipath", |_, v| parse_multipath(v))],
    wires: &[nicira(10, 0..=5, "NXAST_MULTIPATH", 32..=32, |d, r| {
        read_multipath(d, r)
    })],
    encode: |a, e, out| {
        let Action::Multipath(m) = a else { return };
        nx(out, 10, |o| {
            o.put_u16(m.fields.number());
            o.put_u16(m.basis);
            o.put_u16(0);
            o.put_u16(m.algorithm as u16);
            o.put_u16(m.max_link);
            o.put_u32(m.arg);
            o.put_u16(0);
            o.put_u16(pack(&m.dst));
            e.nxm(m.dst.field, o);
        });
    },
    format: |a, _, out| {
        let Action::Multipath(m) = a else { return };
        let alg = MultipathAlgorithm::ALL[m.algorithm as usize].1;
        let (fields, links) = (m.fields.name(), u32::from(m.max_link) + 1);
        let _ = write!(
            out,
            "multipath({fields},{},{alg},{links},{},",
            m.basis, m.arg
        );
        m.dst.format(out);
        out.push(')');
    },
    check: |a, c| match a {
        Action::Multipath(m) => c.dst(&m.dst),
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};

fn read_multipath(d: &Decoder<'_, '_>, mut r: Reader<'_>) -> Result<Action, OfpErr> {
    let fields = HashFields::from_number(r.u16()?);
    let basis = r.u16()?;
    r.skip(2)?;
    let algorithm = MultipathAlgorithm::ALL.get(usize::from(r.u16()?));
    let max_link = r.u16()?;
    let arg = r.u32()?;
    r.skip(2)?;
    let (ofs, n_bits) = ofs_nbits(r.u16()?);
    let dst = d.subfield(&mut r, ofs, n_bits)?;
    let fields = fields.ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let algorithm = algorithm.ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)?.0;
    must(
        n_bits >= 16 || u32::from(max_link) < 1 << n_bits,
        OfpErr::OFPBAC_BAD_ARGUMENT,
    )?;
    d.check_dst(&dst)?;
    Ok(Action::Multipath(Box::new(Multipath {
        fields,
        basis,
        algorithm,
        max_link,
        arg,
        dst,
    })))
}

fn parse_multipath(v: &str) -> Result<Action, String> {
    let w: Vec<&str> = words(v).collect();
    let [fields, basis, alg, n_links, arg, dst, ..] = w[..] else {
        return Err(format!("{v}: not enough arguments to multipath action"));
    };
    let hash =
        HashFields::from_name(fields).ok_or_else(|| format!("{v}: unknown fields `{fields}'"))?;
    let algorithm = MultipathAlgorithm::ALL
        .iter()
        .find(|f| f.1.eq_ignore_ascii_case(alg))
        .ok_or_else(|| format!("{v}: unknown algorithm `{alg}'"))?
        .0;
    let links = atoi(n_links);
    if !(1..=65536).contains(&links) {
        return Err(format!(
            "{v}: n_links {links} is not in valid range 1 to 65536"
        ));
    }
    let sf = SubField::parse(dst)?;
    if sf.n_bits < 16 && links > 1 << sf.n_bits {
        return Err(format!(
            "{v}: {}-bit destination field has {} possible values, less than specified n_links {links}",
            sf.n_bits,
            1u32 << sf.n_bits
        ));
    }
    Ok(Action::Multipath(Box::new(Multipath {
        fields: hash,
        basis: atoi(basis) as u16,
        algorithm,
        max_link: (links - 1) as u16,
        arg: atoi(arg) as u32,
        dst: sf,
    })))
}
