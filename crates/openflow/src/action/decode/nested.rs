//! Actions with parts of their own: learning, sampling, encapsulation and address translation.

use super::*;

impl Decoder<'_, '_> {
    pub(super) fn learn(&self, mut r: Reader<'_>, second: bool) -> Result<Action, OfpErr> {
        let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
        let cookie = r.u64()?;
        let flags = r.u16()?;
        let table_id = r.u8()?;
        must(r.u8()? == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        let (fin_idle_timeout, fin_hard_timeout) = (r.u16()?, r.u16()?);
        let known = if second { 7 } else { 3 };
        must(
            flags & !known == 0 && table_id != 0xff,
            OfpErr::OFPBAC_BAD_ARGUMENT,
        )?;
        let mut learn = Learn {
            idle_timeout,
            hard_timeout,
            fin_idle_timeout,
            fin_hard_timeout,
            priority,
            table_id,
            cookie,
            send_flow_rem: flags & 1 != 0,
            delete_learned: flags & 2 != 0,
            limit: 0,
            result_dst: None,
            second,
            specs: Vec::new(),
        };
        if second {
            learn.limit = r.u32()?;
            let ofs = r.u16()?;
            must(r.u16()? == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
            if flags & 4 != 0 {
                let dst = self.subfield(&mut r, ofs, 1)?;
                self.check_dst(&dst)?;
                learn.result_dst = Some(dst);
            }
        }
        while r.len() >= 2 {
            let header = r.u16()?;
            if header == 0 {
                break;
            }
            let n_bits = header & 0x7ff;
            let immediate = header & 1 << 13 != 0;
            let kind = header >> 11 & 3;
            must(
                header & 0xc000 == 0 && n_bits != 0,
                OfpErr::OFPBAC_BAD_ARGUMENT,
            )?;
            let src = if immediate {
                let n = usize::from(n_bits).div_ceil(16) * 2;
                LearnSrc::Immediate(FieldValue::from_be_bytes(r.take(n)?))
            } else {
                let field = self.header(&mut r)?;
                let sf = SubField {
                    field,
                    ofs: r.u16()?,
                    n_bits,
                };
                check_bits(&sf)?;
                LearnSrc::Field(sf)
            };
            let dst = match kind {
                0 | 1 => {
                    let field = self.header(&mut r)?;
                    let sf = SubField {
                        field,
                        ofs: r.u16()?,
                        n_bits,
                    };
                    check_bits(&sf)?;
                    if kind == 0 {
                        LearnDst::Match(sf)
                    } else {
                        self.check_dst(&sf)?;
                        LearnDst::Load(sf)
                    }
                }
                2 if !immediate => LearnDst::Output,
                _ => return Err(OfpErr::OFPBAC_BAD_ARGUMENT),
            };
            learn.specs.push(LearnSpec { n_bits, src, dst });
        }
        let rest = r.len();
        must(r.zeros(rest)?, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        Ok(Action::Learn(Box::new(learn)))
    }

    pub(super) fn sample(&self, subtype: u16, mut r: Reader<'_>) -> Result<Action, OfpErr> {
        let probability = r.u16()?;
        must(probability != 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        let collector_set_id = r.u32()?;
        let form = match subtype {
            29 => 1,
            38 => 2,
            41 => 3,
            _ => 4,
        };
        let mut s = Sample {
            probability,
            collector_set_id,
            obs_domain_id: SampleId::Immediate(0),
            obs_point_id: SampleId::Immediate(0),
            sampling_port: OfPort::NONE,
            direction: SampleDirection::Default,
            form,
        };
        if form == 4 {
            for which in 0..2 {
                let mut src = r.sub(4)?;
                let mut imm = r.sub(4)?;
                let id = if src.rest() == [0; 4] {
                    SampleId::Immediate(imm.u32()?)
                } else {
                    let (ofs, n_bits) = ofs_nbits(imm.u16()?);
                    let sf = self.subfield(&mut src, ofs, n_bits)?;
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
}

pub(super) fn encap(mut r: Reader<'_>) -> Result<Action, OfpErr> {
    let header_size = r.u16()?;
    let new_packet_type = r.u32()?;
    let mut out = Encap {
        new_packet_type,
        header_size,
        props: Vec::new(),
    };
    // Ethernet, NSH and the two MPLS types.
    must(
        [0, 0x1894f, 0x18847, 0x18848].contains(&new_packet_type),
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

pub(super) fn nat(mut r: Reader<'_>) -> Result<Action, OfpErr> {
    r.skip(2)?;
    let flags = r.u16()?;
    let present = r.u16()?;
    must(flags & !0x1f == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let mut n = Nat {
        snat: flags & 1 != 0,
        dnat: flags & 2 != 0,
        persistent: flags & 4 != 0,
        proto_hash: flags & 8 != 0,
        proto_random: flags & 16 != 0,
        ..Nat::default()
    };
    must(
        !(n.snat && n.dnat || n.proto_hash && n.proto_random),
        OfpErr::OFPBAC_BAD_ARGUMENT,
    )?;
    let (min_v4, max_v4, min_v6, max_v6) = (1, 2, 4, 8);
    let (min_port, max_port) = (16, 32);
    let has = |bits: u16| present & bits != 0;
    // An end needs its beginning, ports need addresses, and those are of one kind.
    let sound = !(has(max_v4) && !has(min_v4)
        || has(max_v6) && !has(min_v6)
        || has(max_port) && !has(min_port)
        || has(min_port) && !has(min_v4 | min_v6)
        || has(min_v4) && has(min_v6));
    must(sound, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let mut backwards = false;
    if has(min_v4) {
        let min = Ipv4Addr::from(r.u32()?);
        let max = has(max_v4).then(|| r.u32()).transpose()?;
        let max = max.map(Ipv4Addr::from);
        backwards |= max.is_some_and(|max| max < min);
        n.range = NatRange::V4 { min, max };
    } else if has(min_v6) {
        let min = Ipv6Addr::from(r.array::<16>()?);
        let max = has(max_v6).then(|| r.array::<16>()).transpose()?;
        let max = max.map(Ipv6Addr::from);
        backwards |= max.is_some_and(|max| max < min);
        n.range = NatRange::V6 { min, max };
    }
    if has(min_port) {
        n.proto_min = r.u16()?;
    }
    if has(max_port) {
        n.proto_max = r.u16()?;
    }
    must(!backwards, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::Nat(Box::new(n)))
}
