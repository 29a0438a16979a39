//! Actions on fields: setting and loading them, moving them, pushing them on a stack.

use std::fmt::Write;

use ferrovs_packet::field::{Field, FieldId, FieldValue, NoPorts, SubField, parse_int_prefix};
use ferrovs_packet::flow::{IP_DSCP_MASK, VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK};
use ferrovs_packet::types::Be16;

use super::Action;
use super::check::Checker;
use super::decode::{Decoder, check_bits, must, ofs_nbits, zeros};
use super::encode::{Encoder, nx, std};
use super::row::{MAX, Row, nicira, of, onf, word};
use super::verify::{Place, Refusal, refuse};
use crate::error::{ONF_VENDOR, OfpErr};
use crate::oxm;
use crate::text::Names;
use crate::text::color::{Colors, Paint};
use crate::text::cursor::u16 as num16;
use crate::text::flow::field_protocols;
use crate::text::format::hex;
use crate::text::parse_action::{Parser, arrow, check_fits, reg_move};
use crate::tun::Tun;
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

/// How a field write was written, where that decides how it is shown and sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SetFieldForm {
    #[default]
    SetField,
    /// `load:V->F[..]` on the wire (NXAST_REG_LOAD).
    RegLoad,
    /// NXAST_REG_LOAD2.
    RegLoad2,
}

/// Writes the bits of `value` that `mask` has into `field`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetField {
    pub field: FieldId,
    pub value: FieldValue,
    pub mask: FieldValue,
    pub form: SetFieldForm,
    /// Whether a VLAN header is known to be there when the action runs.
    pub flow_has_vlan: bool,
}

/// The number of setting a field from OpenFlow 1.2 on.
pub(super) const OFPAT_SET_FIELD: u16 = 25;
const NXAST_REG_LOAD2: u16 = 33;

pub(super) static SET_FIELD: Row = Row {
    name: "set_field",
    paint: Paint::named(Colors::field_target),
    words: &[word("set_field", parse_set_field), word("load", parse_load)],
    wires: &[
        of(
            OFPAT_SET_FIELD,
            2..=4,
            "OFPAT_SET_FIELD",
            8..=MAX,
            |d, r| read_set_field(d, r, false, SetFieldForm::SetField),
        ),
        of(
            OFPAT_SET_FIELD,
            5..=5,
            "OFPAT_SET_FIELD",
            8..=MAX,
            |d, r| read_set_field(d, r, true, SetFieldForm::SetField),
        ),
        nicira(7, 0..=4, "NXAST_REG_LOAD", 24..=24, read_load),
        nicira(
            NXAST_REG_LOAD2,
            0..=4,
            "NXAST_REG_LOAD2",
            16..=MAX,
            |d, r| read_set_field(d, r, true, SetFieldForm::RegLoad2),
        ),
    ],
    encode: |a, e, out| {
        let Action::SetField(sf) = a else { return };
        let whole = mask_is_whole(sf.field.field(), &sf.mask, e.tun);
        match e.version {
            Version::V15 => set_oxm(sf, whole, e, out),
            _ if sf.form != SetFieldForm::SetField => set_nicira(sf, whole, e, out),
            Version::V10 | Version::V11 => set_legacy(sf, whole, e, out),
            _ if whole => set_oxm(sf, true, e, out),
            _ => set_nicira(sf, whole, e, out),
        }
    },
    format: |a, names, out| {
        if let Action::SetField(sf) = a {
            format_set_field(sf, names, out);
        }
    },
    check: |a, c| match a {
        Action::SetField(sf) => check_set_field(sf, c),
        _ => Ok(()),
    },
    place: |a, place| match a {
        Action::SetField(sf) => writes_field(sf.field, place),
        _ => Ok(()),
    },
    ..Row::ACTION
};

/// Fields of the connection are written inside `ct`, and no others.
fn writes_field(field: FieldId, place: Place) -> Result<(), Refusal> {
    let of_connection = matches!(field, FieldId::CtMark | FieldId::CtLabel);
    match place {
        Place::Ct if !of_connection => refuse(
            OfpErr::OFPBAC_BAD_ARGUMENT,
            format!("ct action doesn't support nested modification of {field}"),
        ),
        place if of_connection && place != Place::Ct => refuse(
            OfpErr::OFPBAC_BAD_SET_ARGUMENT,
            "cannot set CT fields outside of ct action".to_owned(),
        ),
        _ => Ok(()),
    }
}

fn check_set_field(sf: &mut SetField, c: &mut Checker<'_>) -> Result<(), OfpErr> {
    let f = sf.field.field();
    sf.flow_has_vlan = c.has_vlan();
    if !f.match_prereqs_ok(&c.m) || sf.field == FieldId::VlanVid && !sf.flow_has_vlan {
        warn(Topic::Actions, || {
            format!("set_field {} lacks correct prerequisites", f.name)
        });
        return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
    }
    if sf.field == FieldId::VlanTci {
        // The tag itself may be set or cleared.
        c.m.flow.vlans[0].tci = Be16::new(sf.value.to_u64() as u16);
    }
    Ok(())
}

fn read_load(d: &Decoder<'_, '_>, mut r: Reader<'_>) -> Result<Action, OfpErr> {
    let (ofs, n_bits) = ofs_nbits(r.u16()?);
    let dst = d.subfield(&mut r, ofs, n_bits)?;
    d.check_dst(&dst)?;
    let value = r.u64()?;
    // Values that do not fit the bits cannot be meant.
    let fits = n_bits >= 64 || value >> n_bits == 0;
    must(fits, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    Ok(load(dst, &value.into()))
}

fn load(dst: SubField, value: &FieldValue) -> Action {
    let mut full = FieldValue::ZERO;
    full.insert(dst.ofs.into(), dst.n_bits.into(), value);
    Action::SetField(Box::new(SetField {
        field: dst.field,
        value: full,
        mask: dst.mask(),
        form: SetFieldForm::RegLoad,
        flow_has_vlan: false,
    }))
}

fn read_set_field(
    d: &Decoder<'_, '_>,
    mut r: Reader<'_>,
    may_mask: bool,
    form: SetFieldForm,
) -> Result<Action, OfpErr> {
    let header = oxm::peek_header(r.rest())?;
    let field = Field::by_oxm(header).map(|(f, _)| f);
    // A header without a value means no field at all; the vendor's number counts as a part of the value. Of a
    // field that nobody knows, too, Open vSwitch says as a rule that its length is bad.
    let width = header.len >> u8::from(header.has_mask);
    let empty = width == 0 && header.size() == 4;
    must(!empty, OfpErr::OFPBAC_BAD_SET_TYPE)?;
    let field = field.ok_or(OfpErr::OFPBAC_BAD_SET_LEN)?;
    let any_width = field.id.tun_metadata_index().is_some();
    let fits = any_width || width == field.n_bytes;
    must(fits, OfpErr::OFPBAC_BAD_SET_LEN)?;
    let e = oxm::pull_entry(&mut r, d.tun).map_err(|e| match e {
        OfpErr::OFPBMC_BAD_MASK => OfpErr::OFPBAC_BAD_SET_MASK,
        e => e,
    })?;
    must(may_mask || !header.has_mask, OfpErr::OFPBAC_BAD_SET_MASK)?;
    // What follows is padding only.
    let rest = r.len();
    must(r.zeros(rest)?, OfpErr::OFPBAC_BAD_SET_ARGUMENT)?;
    // The port that a packet came in by cannot be set in this way.
    must(
        field.id != FieldId::InPortOxm,
        OfpErr::OFPBAC_BAD_SET_ARGUMENT,
    )?;
    if !field.writable {
        warn(Topic::Actions, || {
            format!("destination field {} is not writable", field.name)
        });
        return Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT);
    }
    // A VLAN ID is set in a tag that is there.
    let no_tag =
        field.id == FieldId::VlanVid && (e.value.to_u64() & e.mask.to_u64()) as u16 & VLAN_CFI == 0;
    if no_tag || !field.is_value_valid(&e.value) {
        warn(Topic::Actions, || {
            let mut value = String::new();
            field.format(&e.value, None, &NoPorts, &mut value);
            format!("Invalid value for set field {}: {value}", field.name)
        });
        return Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT);
    }
    Ok(Action::SetField(Box::new(SetField {
        field: field.id,
        value: e.value,
        mask: e.mask,
        form,
        flow_has_vlan: false,
    })))
}

/// Whether `mask` has every bit of the field, so that no mask need be said.
fn mask_is_whole(f: &Field, mask: &FieldValue, tun: &Tun<'_>) -> bool {
    if f.id.tun_metadata_index().is_some() {
        return mask.is_ones(tun.bits(f)) || tun.is_auto() && oxm::option_len(mask).is_some();
    }
    // The presence bit belongs to the VLAN ID on the wire.
    let bits = if f.id == FieldId::VlanVid {
        12
    } else {
        usize::from(f.n_bits)
    };
    mask.is_ones(bits)
}

/// A field write as runs of at most 64 bits, from the low end.
fn load_segments(sf: &SetField) -> impl Iterator<Item = (SubField, u64)> {
    let bits = usize::from(sf.field.field().n_bits);
    let mut end = 0;
    std::iter::from_fn(move || {
        let start = (end..bits).find(|&i| sf.mask.bit(i))?;
        let limit = bits.min(start + 64);
        end = (start..limit).find(|&i| !sf.mask.bit(i)).unwrap_or(limit);
        let n = end - start;
        let dst = SubField {
            field: sf.field,
            ofs: start as u16,
            n_bits: n as u16,
        };
        Some((dst, sf.value.extract(start, n).to_u64()))
    })
}

fn put_entry(
    sf: &SetField,
    whole: bool,
    flavor: oxm::Flavor,
    e: &Encoder<'_, '_>,
    out: &mut Vec<u8>,
) {
    let f = sf.field.field();
    let mut n = e.tun.bytes(f);
    if whole && e.tun.is_auto() && f.id.tun_metadata_index().is_some() {
        n = oxm::option_len(&sf.mask).unwrap_or(n);
    }
    let mask = if whole {
        FieldValue::ones(n * 8)
    } else {
        sf.mask
    };
    oxm::put_entry_of(f, &sf.value, &mask, n, flavor, out);
}

fn set_oxm(sf: &SetField, whole: bool, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    std(out, OFPAT_SET_FIELD, |o| {
        put_entry(sf, whole, Some(e.version), e, o);
    });
}

fn set_nicira(sf: &SetField, whole: bool, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    let f = sf.field.field();
    let experimenter = f.oxm(0).is_some_and(|o| o.class == 0xffff);
    if sf.form == SetFieldForm::RegLoad2 || experimenter || f.id.tun_metadata_index().is_some() {
        nx(out, NXAST_REG_LOAD2, |o| put_entry(sf, whole, None, e, o));
    } else {
        // The set bits of the mask, as one load each run.
        load_segments(sf).for_each(|(dst, value)| e.load(&dst, value, out));
    }
}

/// The oldest versions say with an action of its own what they have one for.
fn set_legacy(sf: &SetField, whole: bool, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    if whole && sf.field == FieldId::VlanTci {
        return set_legacy_tci(sf, e, out);
    }
    match legacy_action(sf, e.version == Version::V10) {
        Some(a) if whole => e.action(&a, out),
        _ => set_nicira(sf, whole, e, out),
    }
}

fn set_legacy_tci(sf: &SetField, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    let tci = sf.value.to_u64() as u16;
    let (vid, pcp) = (tci & VLAN_VID_MASK, (tci >> VLAN_PCP_SHIFT) as u8);
    let (push_if_needed, flow_has_vlan) = (true, sf.flow_has_vlan);
    if tci & VLAN_CFI != 0 {
        let set_vid = Action::SetVlanVid {
            vid,
            push_if_needed,
            flow_has_vlan,
        };
        let set_pcp = Action::SetVlanPcp {
            pcp,
            push_if_needed,
            flow_has_vlan: true,
        };
        e.action(&set_vid, out);
        e.action(&set_pcp, out);
    } else if e.version == Version::V10 || flow_has_vlan {
        // Popping where there is no tag would be wrong before 1.1's checks.
        e.action(&Action::StripVlan { pop: false }, out);
    }
}

/// The old action that sets a whole field.
fn legacy_action(sf: &SetField, v10: bool) -> Option<Action> {
    let value = sf.value.to_u64();
    let flow_has_vlan = sf.flow_has_vlan;
    let (port, flow_ip_proto) = (value as u16, 0);
    Some(match sf.field {
        FieldId::DlVlan | FieldId::VlanVid => Action::SetVlanVid {
            vid: value as u16 & VLAN_VID_MASK,
            push_if_needed: sf.field == FieldId::DlVlan,
            flow_has_vlan,
        },
        FieldId::DlVlanPcp | FieldId::VlanPcp => Action::SetVlanPcp {
            pcp: value as u8,
            push_if_needed: sf.field == FieldId::DlVlanPcp,
            flow_has_vlan,
        },
        FieldId::EthSrc => Action::SetEthSrc(sf.value.to_mac()),
        FieldId::EthDst => Action::SetEthDst(sf.value.to_mac()),
        FieldId::IpSrc => Action::SetIpv4Src(sf.value.to_ipv4()),
        FieldId::IpDst => Action::SetIpv4Dst(sf.value.to_ipv4()),
        FieldId::NwTos => Action::SetIpDscp(value as u8 & IP_DSCP_MASK),
        FieldId::IpDscp => Action::SetIpDscp((value << 2) as u8),
        FieldId::NwEcn if !v10 => Action::SetIpEcn(value as u8),
        FieldId::NwTtl if !v10 => Action::SetIpTtl(value as u8),
        FieldId::SctpSrc | FieldId::SctpDst if v10 => return None,
        FieldId::TcpSrc | FieldId::UdpSrc | FieldId::SctpSrc => Action::SetL4SrcPort {
            port,
            flow_ip_proto,
        },
        FieldId::TcpDst | FieldId::UdpDst | FieldId::SctpDst => Action::SetL4DstPort {
            port,
            flow_ip_proto,
        },
        _ => return None,
    })
}

fn format_set_field(sf: &SetField, names: &Names<'_>, out: &mut String) {
    let f = sf.field.field();
    if sf.form == SetFieldForm::RegLoad {
        for (i, (dst, value)) in load_segments(sf).enumerate() {
            if i > 0 {
                out.push(',');
            }
            let _ = write!(out, "load:{}->", hex(value));
            dst.format(out);
        }
        return;
    }
    out.push_str("set_field:");
    let whole = mask_is_whole(f, &sf.mask, names.tun);
    let mask = if whole { None } else { Some(&sf.mask) };
    f.format(&sf.value, mask, names.ports, out);
    out.push_str("->");
    out.push_str(f.name);
}

fn parse_set_field(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    let (value, name) = arrow(v)?;
    let f = Field::by_name(name).ok_or_else(|| format!("{name} is not a valid OXM field name"))?;
    if !f.writable {
        return Err(format!("{name} is read-only"));
    }
    let (val, mask) = f.parse(value, p.names.ports)?;
    if !f.is_value_valid(&val) {
        return Err(format!("{value} is not a valid value for field {name}"));
    }
    let mask = if f.id.tun_metadata_index().is_some() {
        let len = value
            .split('/')
            .next()
            .and_then(|s| s.strip_prefix("0x"))
            .map_or(1, |h| h.len().div_ceil(2))
            .clamp(1, 124);
        let tun = p.names.tun;
        tun.ensure(f, len)
            .map_err(|_| format!("field {name} is not mapped"))?;
        mask.and(&FieldValue::ones(tun.bits(f)))
    } else {
        mask.and(&f.exact_mask())
    };
    *p.usable &= field_protocols(f, &f.exact_mask());
    Ok(Action::SetField(Box::new(SetField {
        field: f.id,
        value: val.and(&mask),
        mask,
        form: SetFieldForm::SetField,
        flow_has_vlan: false,
    })))
}

fn parse_load(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    let (value, dst) = arrow(v)?;
    let dst = SubField::parse(dst)?;
    // What follows the number does not matter, as in Open vSwitch.
    let (val, _) = parse_int_prefix(value, dst.field.field())
        .ok_or_else(|| format!("{v}: cannot parse integer value"))?;
    check_fits(&val, &dst, v, p.names)?;
    Ok(load(dst, &val))
}

pub(super) static REG_MOVE: Row = Row {
    name: "move",
    paint: Paint::named(Colors::field_target),
    words: &[word("move", |_, v| {
        let (src, dst) = reg_move(v)?;
        let onf = false;
        Ok(Action::RegMove { src, dst, onf })
    })],
    wires: &[
        of(28, 5..=5, "OFPAT_COPY_FIELD", 16..=MAX, |d, mut r| {
            let bits = [r.u16()?, r.u16()?, r.u16()?];
            r.skip(2)?;
            read_move(d, r, bits, false)
        }),
        nicira(6, 0..=4, "NXAST_REG_MOVE", 16..=MAX, |d, mut r| {
            let bits = [r.u16()?, r.u16()?, r.u16()?];
            read_move(d, r, bits, false)
        }),
        // The form of 1.5's action that ONF has for earlier versions.
        onf(3200, 3..=4, "ONFACT_COPY_FIELD", 24..=MAX, |d, mut r| {
            r.skip(2)?;
            let bits = [r.u16()?, r.u16()?, r.u16()?];
            r.skip(2)?;
            read_move(d, r, bits, true)
        }),
    ],
    encode: |a, e, out| {
        if let Action::RegMove { src, dst, onf } = a {
            encode_move(src, dst, *onf, e, out);
        }
    },
    format: |a, _, out| {
        if let Action::RegMove { src, dst, .. } = a {
            out.push_str("move:");
            src.format(out);
            out.push_str("->");
            dst.format(out);
        }
    },
    check: |a, c| match a {
        Action::RegMove { src, dst, .. } => {
            c.src(src)?;
            c.dst(dst)
        }
        _ => Ok(()),
    },
    place: |a, place| match a {
        Action::RegMove { dst, .. } => writes_field(dst.field, place),
        _ => Ok(()),
    },
    ..Row::ACTION
};

fn read_move(
    d: &Decoder<'_, '_>,
    mut r: Reader<'_>,
    [n_bits, src_ofs, dst_ofs]: [u16; 3],
    onf: bool,
) -> Result<Action, OfpErr> {
    let src = d.subfield(&mut r, src_ofs, n_bits)?;
    let dst = d.subfield(&mut r, dst_ofs, n_bits)?;
    let rest = r.len();
    must(rest < 8 && r.zeros(rest)?, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    check_bits(&src)?;
    d.check_dst(&dst)?;
    Ok(Action::RegMove { src, dst, onf })
}

fn encode_move(src: &SubField, dst: &SubField, onf: bool, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    let bits = |o: &mut Vec<u8>| {
        o.put_u16(src.n_bits);
        o.put_u16(src.ofs);
        o.put_u16(dst.ofs);
    };
    let headers = |o: &mut Vec<u8>| {
        o.put_u16(0);
        oxm::put_header(src.field, Some(e.version), o);
        oxm::put_header(dst.field, Some(e.version), o);
    };
    if e.version >= Version::V15 {
        std(out, 28, |o| {
            bits(o);
            headers(o);
        });
    } else if onf && e.version == Version::V13 {
        std(out, 0xffff, |o| {
            o.put_u32(ONF_VENDOR);
            o.put_u16(3200);
            o.put_u16(0);
            bits(o);
            headers(o);
        });
    } else {
        nx(out, 6, |o| {
            bits(o);
            e.nxm(src.field, o);
            e.nxm(dst.field, o);
        });
    }
}

fn read_stack(d: &Decoder<'_, '_>, mut r: Reader<'_>) -> Result<SubField, OfpErr> {
    let ofs = r.u16()?;
    let field = d.header(&mut r)?;
    let n_bits = r.u16()?;
    zeros(&mut r)?;
    let sf = SubField { field, ofs, n_bits };
    check_bits(&sf)?;
    Ok(sf)
}

fn encode_stack(subtype: u16, sf: &SubField, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    nx(out, subtype, |o| {
        o.put_u16(sf.ofs);
        e.nxm(sf.field, o);
        o.put_u16(sf.n_bits);
        fill(o);
    });
}

/// Zeros to the end of the last row of eight bytes, of which long headers leave fewer.
fn fill(o: &mut Vec<u8>) {
    o.put_zeros(6);
    o.truncate(o.len() - o.len() % 8);
}

fn parse_stack(v: &str) -> Result<SubField, String> {
    match SubField::parse_prefix(v)? {
        (sf, "") => Ok(sf),
        (_, tail) => Err(format!("{tail}: trailing garbage following push or pop")),
    }
}

pub(super) static STACK_PUSH: Row = Row {
    name: "push",
    words: &[word("push", |_, v| Ok(Action::StackPush(parse_stack(v)?)))],
    wires: &[nicira(27, 0..=5, "NXAST_STACK_PUSH", 24..=24, |d, r| {
        Ok(Action::StackPush(read_stack(d, r)?))
    })],
    encode: |a, e, out| {
        if let Action::StackPush(sf) = a {
            encode_stack(27, sf, e, out);
        }
    },
    format: |a, _, out| {
        if let Action::StackPush(sf) = a {
            out.push_str("push:");
            sf.format(out);
        }
    },
    check: |a, c| match a {
        Action::StackPush(sf) => c.src(sf),
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};

pub(super) static STACK_POP: Row = Row {
    name: "pop",
    words: &[word("pop", |_, v| Ok(Action::StackPop(parse_stack(v)?)))],
    wires: &[nicira(28, 0..=5, "NXAST_STACK_POP", 24..=24, |d, r| {
        let sf = read_stack(d, r)?;
        d.check_dst(&sf)?;
        Ok(Action::StackPop(sf))
    })],
    encode: |a, e, out| {
        if let Action::StackPop(sf) = a {
            encode_stack(28, sf, e, out);
        }
    },
    format: |a, _, out| {
        if let Action::StackPop(sf) = a {
            out.push_str("pop:");
            sf.format(out);
        }
    },
    check: |a, c| match a {
        Action::StackPop(sf) => c.dst(sf),
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};

pub(super) static CHECK_PKT_LARGER: Row = Row {
    name: "check_pkt_larger",
    paint: Paint::call(Colors::check_pkt_larger),
    words: &[word("check_pkt_larger", |_, v| {
        let (len, dst) = v
            .split_once("->")
            .ok_or_else(|| format!("{v}: missing `->'"))?;
        let dst = SubField::parse(dst)?;
        if dst.n_bits != 1 {
            return Err("Only 1-bit destination field is allowed".to_owned());
        }
        Ok(Action::CheckPktLarger {
            pkt_len: num16(len.strip_suffix(')').unwrap_or(len), "(null)")?,
            dst,
        })
    })],
    wires: &[nicira(
        49,
        0..=5,
        "NXAST_CHECK_PKT_LARGER",
        24..=MAX,
        |d, mut r| {
            let (pkt_len, ofs) = (r.u16()?, r.u16()?);
            let dst = d.subfield(&mut r, ofs, 1)?;
            zeros(&mut r)?;
            d.check_dst(&dst)?;
            Ok(Action::CheckPktLarger { pkt_len, dst })
        },
    )],
    encode: |a, e, out| {
        let Action::CheckPktLarger { pkt_len, dst } = a else {
            return;
        };
        nx(out, 49, |o| {
            o.put_u16(*pkt_len);
            o.put_u16(dst.ofs);
            e.nxm(dst.field, o);
            fill(o);
        });
    },
    format: |a, _, out| {
        if let Action::CheckPktLarger { pkt_len, dst } = a {
            let _ = write!(out, "check_pkt_larger({pkt_len})->");
            dst.format(out);
        }
    },
    in_set: false,
    ..Row::ACTION
};

pub(super) static DELETE_FIELD: Row = Row {
    name: "delete_field",
    words: &[word("delete_field", |_, v| {
        let f = Field::by_name(v).ok_or_else(|| format!("unknown field `{v}'"))?;
        Ok(Action::DeleteField(f.id))
    })],
    wires: &[nicira(
        50,
        0..=5,
        "NXAST_DELETE_FIELD",
        24..=24,
        |d, mut r| {
            let field = d.header(&mut r)?;
            zeros(&mut r)?;
            Ok(Action::DeleteField(field))
        },
    )],
    encode: |a, e, out| {
        let Action::DeleteField(field) = a else {
            return;
        };
        nx(out, 50, |o| {
            e.nxm(*field, o);
            o.put_zeros(14 - (o.len() % 8 + 6) % 8 % 4);
            // The struct is 24 bytes long whatever the header.
            o.truncate(o.len() - o.len() % 8);
        });
    },
    format: |a, _, out| {
        if let Action::DeleteField(f) = a {
            let _ = write!(out, "delete_field:{}", f.field().name);
        }
    },
    // What is no option is always there.
    check: |a, _| match a {
        Action::DeleteField(f) if f.tun_metadata_index().is_none() => {
            Err(OfpErr::OFPBAC_BAD_ARGUMENT)
        }
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};
