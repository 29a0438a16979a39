//! Actions from bytes.
//!
//! ```text
//! standard: type2 len2 ...           Nicira: ffff len2 00002320 subtype2 ...          len: a multiple of 8
//! ```
//!
//! Numbers that versions give differently are told apart by version; deprecated encodings are still read where
//! Open vSwitch reads them. Whether actions suit the match and the switch is checked later, in `check`.

use ferrovs_packet::field::{FieldId, SubField, port_from_ofp11};
use ferrovs_packet::types::OfPort;

pub use super::meta::enable_debug_actions;
use super::row::Wire;
use super::verify::{Place, verify_decoded};
use super::{Action, check_writable};
use crate::error::{NX_VENDOR, ONF_VENDOR, OfpErr};
use crate::oxm;
use crate::text::format::hex;
use crate::text::print::hex_dump;
use crate::tun::Tun;
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::Reader;

/// Nesting of `clone`, `ct` and action sets that is read.
const MAX_DEPTH: usize = 64;

/// The type of actions that a vendor defines.
const VENDOR_ACTION: u16 = 0xffff;

pub(super) const BAD_LEN: OfpErr = OfpErr::OFPBAC_BAD_LEN;

/// Reads the actions of a flow in OpenFlow 1.0, where some stand for instructions of later versions.
pub fn actions(data: &[u8], version: Version, tun: &Tun<'_>) -> Result<Vec<Action>, OfpErr> {
    pull(data, version, tun, Place::Flow, 0)
}

/// Reads a list in which only actions may stand: a bucket's, a packet-out's.
pub fn action_list(data: &[u8], version: Version, tun: &Tun<'_>) -> Result<Vec<Action>, OfpErr> {
    pull(data, version, tun, Place::Actions, 0)
}

/// Reads the `len` bytes of such a list and leaves what follows them.
pub(crate) fn pull_action_list(
    r: &mut Reader<'_>,
    len: u16,
    version: Version,
    tun: &Tun<'_>,
) -> Result<Vec<Action>, OfpErr> {
    let (len, room) = (usize::from(len), r.len());
    check_multiple(len)?;
    let data = r.take(len).map_err(|_| {
        warn(Topic::Actions, || {
            format!(
                "OpenFlow message actions length {len} exceeds remaining message length ({room})"
            )
        });
        OfpErr::OFPBRC_BAD_LEN
    })?;
    action_list(data, version, tun)
}

fn check_multiple(n: usize) -> Result<(), OfpErr> {
    if !n.is_multiple_of(8) {
        warn(Topic::Actions, || {
            format!("OpenFlow message actions length {n} is not a multiple of 8")
        });
        return Err(OfpErr::OFPBRC_BAD_LEN);
    }
    Ok(())
}

fn pull(
    data: &[u8],
    version: Version,
    tun: &Tun<'_>,
    place: Place,
    depth: usize,
) -> Result<Vec<Action>, OfpErr> {
    check_multiple(data.len())?;
    let list = list(data, version, tun, depth)?;
    verify_decoded(&list, place, version)?;
    Ok(list)
}

/// Reads actions one by one, without a look at how they fit together.
pub(super) fn list(
    data: &[u8],
    version: Version,
    tun: &Tun<'_>,
    depth: usize,
) -> Result<Vec<Action>, OfpErr> {
    let mut out = Vec::new();
    append(data, version, tun, depth, &mut out)?;
    Ok(out)
}

/// The same, behind what is there.
pub(super) fn append(
    data: &[u8],
    version: Version,
    tun: &Tun<'_>,
    depth: usize,
    out: &mut Vec<Action>,
) -> Result<(), OfpErr> {
    if depth > MAX_DEPTH {
        return Err(OfpErr::OFPBAC_TOO_MANY);
    }
    let d = Decoder {
        version,
        tun,
        depth,
    };
    let mut r = Reader::with_error(data, OfpErr::OFPBAC_BAD_LEN);
    while !r.is_empty() {
        let at = data.len() - r.len();
        let action = d.next(&mut r).inspect_err(|e| {
            warn(Topic::Actions, || {
                let mut text = format!("bad action at offset {at} ({}):\n", e.name());
                hex_dump(data, false, &mut text);
                text.truncate(text.trim_end().len());
                // In the log a row of exactly eight keeps the hyphen that would join the next half.
                if data.len() % 16 == 8 {
                    text.push('-');
                }
                text
            });
        })?;
        out.push(action);
    }
    Ok(())
}

/// What reading an action depends on.
pub(crate) struct Decoder<'a, 'b> {
    pub version: Version,
    pub tun: &'a Tun<'b>,
    pub depth: usize,
}

/// A port of OpenFlow 1.1 and later.
pub(super) fn port11(n: u32) -> Result<OfPort, OfpErr> {
    match port_from_ofp11(n) {
        Some(port) => Ok(OfPort(port)),
        None => {
            warn(Topic::Port, || {
                format!(
                    "port {n} is outside the supported range 0 through {} or {:#x} through {:#x}",
                    OfPort::MAX.0 - 1,
                    0xffff_ff00_u32,
                    u32::MAX
                )
            });
            Err(OfpErr::OFPBAC_BAD_OUT_PORT)
        }
    }
}

pub(super) fn must(ok: bool, e: OfpErr) -> Result<(), OfpErr> {
    if ok { Ok(()) } else { Err(e) }
}

/// What is left must be zeros.
pub(super) fn zeros(r: &mut Reader<'_>) -> Result<(), OfpErr> {
    let n = r.len();
    let ok = r.zeros(n)?;
    must(ok, OfpErr::NXBRC_MUST_BE_ZERO)
}

/// Offset and number of bits from Nicira's packed form.
pub(super) fn ofs_nbits(n: u16) -> (u16, u16) {
    (n >> 6, (n & 0x3f) + 1)
}

pub(super) fn check_bits(sf: &SubField) -> Result<(), OfpErr> {
    let bits = sf.field.field().n_bits;
    must(
        sf.n_bits != 0 && u32::from(sf.ofs) + u32::from(sf.n_bits) <= bits.into(),
        OfpErr::OFPBAC_BAD_SET_LEN,
    )
}

impl Decoder<'_, '_> {
    fn next(&self, r: &mut Reader<'_>) -> Result<Action, OfpErr> {
        let mut h = *r;
        let type_ = h.u16()?;
        let len = usize::from(h.u16()?);
        if type_ != VENDOR_ACTION {
            let wire = Wire::get(0, type_, self.version, len, r.len())?;
            let whole = r.take(len)?;
            return wire.read(self, Reader::with_error(&whole[4..], BAD_LEN));
        }
        let vendor = h.u32()?;
        if vendor != NX_VENDOR && vendor != ONF_VENDOR {
            warn(Topic::Actions, || {
                format!("OpenFlow action has unknown vendor {}", hex(vendor.into()))
            });
            return Err(OfpErr::OFPBAC_BAD_VENDOR);
        }
        let subtype = h.u16()?;
        let wire = Wire::get(vendor, subtype, self.version, len, r.len())?;
        let whole = r.take(len)?;
        wire.read(self, Reader::with_error(&whole[10..], BAD_LEN))
    }

    pub(super) fn nested(&self, data: &[u8], place: Place) -> Result<Vec<Action>, OfpErr> {
        pull(data, self.version, self.tun, place, self.depth + 1)
    }

    /// A header without value names a field.
    pub(super) fn header(&self, r: &mut Reader<'_>) -> Result<FieldId, OfpErr> {
        let (header, field) = oxm::pull_header(r).map_err(|_| OfpErr::OFPBAC_BAD_SET_LEN)?;
        let field = field.ok_or(OfpErr::OFPBAC_BAD_SET_TYPE)?;
        must(!header.has_mask, OfpErr::OFPBAC_BAD_SET_TYPE)?;
        if field.id.tun_metadata_index().is_some() {
            self.tun.ensure(field, header.len.into())?;
        } else {
            must(header.len == field.n_bytes, OfpErr::OFPBAC_BAD_SET_TYPE)?;
        }
        Ok(field.id)
    }

    pub(super) fn subfield(
        &self,
        r: &mut Reader<'_>,
        ofs: u16,
        n_bits: u16,
    ) -> Result<SubField, OfpErr> {
        Ok(SubField {
            field: self.header(r)?,
            ofs,
            n_bits,
        })
    }

    pub(super) fn check_dst(&self, sf: &SubField) -> Result<(), OfpErr> {
        check_bits(sf)?;
        check_writable(sf)
    }
}

/// The properties (type2 len2 value, padded to 8) to the end of `r`.
pub(crate) fn props(mut r: Reader<'_>) -> impl Iterator<Item = Result<(u16, Reader<'_>), OfpErr>> {
    std::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let mut one = || {
            let mut h = Reader::with_error(r.rest(), OfpErr::OFPBPC_BAD_LEN);
            let (type_, len) = (h.u16()?, usize::from(h.u16()?));
            let padded = len.next_multiple_of(8);
            // An experimenter's says who that is and what it means.
            let least = if type_ >= 0xfffe { 12 } else { 4 };
            if len < least || padded > r.len() {
                return Err(OfpErr::OFPBPC_BAD_LEN);
            }
            let bytes = r.take(padded)?;
            Ok((
                type_,
                Reader::with_error(&bytes[4..len], OfpErr::OFPBPC_BAD_LEN),
            ))
        };
        let item = one();
        if item.is_err() {
            r = Reader::new(&[]);
        }
        Some(item)
    })
}
