//! Actions with parts of their own: encapsulation and address translation.

use super::*;

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
    at_least(&r, 6)?;
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
    if present & 1 != 0 {
        let min = Ipv4Addr::from(r.u32()?);
        let max = if present & 2 != 0 {
            Some(Ipv4Addr::from(r.u32()?))
        } else {
            None
        };
        n.range = NatRange::V4 { min, max };
    } else if present & 4 != 0 {
        let min = Ipv6Addr::from(r.array::<16>()?);
        let max = if present & 8 != 0 {
            Some(Ipv6Addr::from(r.array::<16>()?))
        } else {
            None
        };
        n.range = NatRange::V6 { min, max };
    }
    if present & 16 != 0 {
        n.proto_min = r.u16()?;
        if present & 32 != 0 {
            n.proto_max = r.u16()?;
        }
    }
    // Ranges without a direction, and ports without addresses' direction, mean nothing.
    must(
        present == 0 || n.snat || n.dnat,
        OfpErr::OFPBAC_BAD_ARGUMENT,
    )?;
    Ok(Action::Nat(Box::new(n)))
}
