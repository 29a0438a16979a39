//! The action that sends a share of the packets to collectors.

use std::fmt::Write;

use ferrovs_packet::field::{SubField, format_port};
use ferrovs_packet::types::OfPort;

use super::Action;
use super::decode::{BAD_LEN, Decoder, check_bits, must, ofs_nbits, zeros};
use super::encode::{Encoder, nx, pack};
use super::row::{Row, nicira, word};
use crate::error::OfpErr;
use crate::text::Names;
use crate::text::color::{Colors, Paint};
use crate::text::cursor::{next_pair, u16 as num16, u32 as num32};
use crate::text::parse_action::Parser;
use crate::wire::{Put, Reader};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleDirection {
    Default,
    Ingress,
    Egress,
}

/// An observation id of `sample`: fixed, or taken from a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SampleId {
    Immediate(u32),
    Field(SubField),
}

/// Sends a share of the packets to a sample collector set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    pub probability: u16,
    pub collector_set_id: u32,
    pub obs_domain_id: SampleId,
    pub obs_point_id: SampleId,
    pub sampling_port: OfPort,
    pub direction: SampleDirection,
    /// Which NXAST_SAMPLE it came as: 1 to 4.
    pub form: u8,
}

impl Sample {
    fn of(probability: u16, collector_set_id: u32, form: u8) -> Sample {
        Sample {
            probability,
            collector_set_id,
            obs_domain_id: SampleId::Immediate(0),
            obs_point_id: SampleId::Immediate(0),
            sampling_port: OfPort::NONE,
            direction: SampleDirection::Default,
            form,
        }
    }
}

/// Nicira's numbers of the forms 1 to 4.
const NUMBERS: [u16; 4] = [29, 38, 41, 51];

pub(super) static SAMPLE: Row = Row {
    name: "sample",
    paint: Paint::call(Colors::arguments),
    words: &[word("sample", parse)],
    wires: &[
        nicira(NUMBERS[0], 0..=5, "NXAST_SAMPLE", 24..=24, |d, r| {
            read(d, r, 1)
        }),
        nicira(NUMBERS[1], 0..=5, "NXAST_SAMPLE2", 32..=32, |d, r| {
            read(d, r, 2)
        }),
        nicira(NUMBERS[2], 0..=5, "NXAST_SAMPLE3", 32..=32, |d, r| {
            read(d, r, 3)
        }),
        nicira(NUMBERS[3], 0..=5, "NXAST_SAMPLE4", 40..=40, |d, r| {
            read(d, r, 4)
        }),
    ],
    encode: |a, e, out| {
        if let Action::Sample(s) = a {
            encode(s, e, out);
        }
    },
    format: |a, names, out| {
        if let Action::Sample(s) = a {
            format(s, names, out);
        }
    },
    in_set: false,
    ..Row::ACTION
};

fn read(d: &Decoder<'_, '_>, mut r: Reader<'_>, form: u8) -> Result<Action, OfpErr> {
    let probability = r.u16()?;
    must(probability != 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let mut s = Sample::of(probability, r.u32()?, form);
    if form == 4 {
        for which in 0..2 {
            let mut src = r.sub(4)?;
            let mut imm = r.sub(4)?;
            let id = if src.rest() == [0; 4] {
                SampleId::Immediate(imm.u32()?)
            } else {
                let (ofs, n_bits) = ofs_nbits(imm.u16()?);
                let sf = d.subfield(&mut src, ofs, n_bits)?;
                check_bits(&sf)?;
                must(n_bits <= 32, OfpErr::OFPBAC_BAD_SET_LEN)?;
                SampleId::Field(sf)
            };
            if which == 0 {
                s.obs_domain_id = id;
            } else {
                s.obs_point_id = id;
            }
        }
    } else {
        s.obs_domain_id = SampleId::Immediate(r.u32()?);
        s.obs_point_id = SampleId::Immediate(r.u32()?);
    }
    if form >= 2 {
        s.sampling_port = OfPort(r.u16()?);
        s.direction = match (form, r.u8()?) {
            (_, 0) => SampleDirection::Default,
            (3 | 4, 1) => SampleDirection::Ingress,
            (3 | 4, 2) => SampleDirection::Egress,
            _ => return Err(OfpErr::OFPBAC_BAD_ARGUMENT),
        };
        zeros(&mut r)?;
    }
    must(r.is_empty(), BAD_LEN)?;
    Ok(Action::Sample(Box::new(s)))
}

fn encode(s: &Sample, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    let by_field = [&s.obs_domain_id, &s.obs_point_id]
        .iter()
        .any(|id| matches!(id, SampleId::Field(_)));
    let form = if by_field {
        4
    } else if s.form >= 3 || s.direction != SampleDirection::Default {
        3
    } else if s.form == 2 || s.sampling_port != OfPort::NONE {
        2
    } else {
        1
    };
    nx(out, NUMBERS[form - 1], |o| {
        o.put_u16(s.probability);
        o.put_u32(s.collector_set_id);
        for id in [&s.obs_domain_id, &s.obs_point_id] {
            match id {
                SampleId::Immediate(n) => {
                    if form == 4 {
                        o.put_u32(0);
                    }
                    o.put_u32(*n);
                }
                SampleId::Field(sf) => {
                    e.nxm(sf.field, o);
                    o.put_u16(pack(sf));
                    o.put_u16(0);
                }
            }
        }
        if form >= 2 {
            o.put_u16(s.sampling_port.0);
            o.put_u8(s.direction as u8);
            o.put_zeros(5);
        }
    });
}

fn format(s: &Sample, names: &Names<'_>, out: &mut String) {
    let _ = write!(
        out,
        "sample(probability={},collector_set_id={}",
        s.probability, s.collector_set_id
    );
    for (name, id) in [
        ("obs_domain_id", &s.obs_domain_id),
        ("obs_point_id", &s.obs_point_id),
    ] {
        let _ = write!(out, ",{name}=");
        match id {
            SampleId::Immediate(n) => {
                let _ = write!(out, "{n}");
            }
            SampleId::Field(sf) => sf.format(out),
        }
    }
    if s.sampling_port != OfPort::NONE {
        out.push_str(",sampling_port=");
        format_port(s.sampling_port, names.ports, out);
    }
    out.push_str(match s.direction {
        SampleDirection::Default => "",
        SampleDirection::Ingress => ",ingress",
        SampleDirection::Egress => ",egress",
    });
    out.push(')');
}

fn parse(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    let mut s = Sample::of(0, 0, 1);
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "probability" => {
                s.probability = num16(val, "probability")?;
                if s.probability == 0 {
                    return Err(format!("invalid probability value \"{val}\""));
                }
            }
            "collector_set_id" => s.collector_set_id = num32(val)?,
            "obs_domain_id" => s.obs_domain_id = parse_id(k, val)?,
            "obs_point_id" => s.obs_point_id = parse_id(k, val)?,
            "sampling_port" => {
                s.sampling_port = p.port(val).ok_or_else(|| format!("{val}: unknown port"))?;
            }
            "ingress" => s.direction = SampleDirection::Ingress,
            "egress" => s.direction = SampleDirection::Egress,
            _ => return Err(format!("invalid key \"{k}\" in \"sample\" argument")),
        }
    }
    if s.probability == 0 {
        return Err("non-zero \"probability\" must be specified on sample".to_owned());
    }
    Ok(Action::Sample(Box::new(s)))
}

fn parse_id(name: &str, value: &str) -> Result<SampleId, String> {
    if let Ok(n) = num32(value) {
        return Ok(SampleId::Immediate(n));
    }
    let sf = SubField::parse(value)?;
    if sf.n_bits > 32 {
        return Err(format!(
            "size of {name} field ({}) exceeds maximum (32)",
            sf.n_bits
        ));
    }
    Ok(SampleId::Field(sf))
}
