//! Actions to bytes, with the choices that Open vSwitch makes for each version.
//!
//! What a version lacks is said with what it has: `set_field` becomes loads before 1.2, the old `mod_*` actions
//! become set-field from 1.2 on, `enqueue` becomes set-queue, output and pop-queue, and so on.

use ferrovs_packet::field::{FieldId, SubField};

use super::Action;
use super::set_field::OFPAT_SET_FIELD;
use crate::error::NX_VENDOR;
use crate::oxm;
use crate::tun::Tun;
use crate::version::Version;
use crate::wire::Put;

/// Appends a list of actions; instructions in it that the version has as actions become those, others are skipped.
pub fn actions(list: &[Action], version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    let e = Encoder { version, tun };
    for a in list {
        e.action(a, out);
    }
}

/// What writing an action depends on.
pub(crate) struct Encoder<'a, 'b> {
    pub version: Version,
    pub tun: &'a Tun<'b>,
}

/// Writes one of OpenFlow's own actions: begins it and fixes its length (padded to 8) when done.
pub(super) fn std(out: &mut Vec<u8>, type_: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(type_);
    out.put_u16(0);
    body(out);
    out.pad8(start);
    let len = out.len() - start;
    out.set_u16(start + 2, len as u16);
}

/// The same of Nicira's.
pub(super) fn nx(out: &mut Vec<u8>, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    std(out, 0xffff, |o| {
        o.put_u32(NX_VENDOR);
        o.put_u16(subtype);
        body(o);
    });
}

/// Offset and number of bits in Nicira's form.
pub(super) fn pack(sf: &SubField) -> u16 {
    sf.ofs << 6 | (sf.n_bits - 1) & 0x3f
}

impl Encoder<'_, '_> {
    /// Names a field as Nicira's actions do: the NXM code point if it has one.
    pub(super) fn nxm(&self, field: FieldId, out: &mut Vec<u8>) {
        let f = field.field();
        if let Some(o) = f.oxm(0) {
            let n = self.tun.bytes(f) as u8;
            let n = if f.id.tun_metadata_index().is_some() && self.tun.is_auto() {
                f.n_bytes
            } else {
                n
            };
            o.header(n, false).write(out);
        }
    }

    /// Sets a whole field, as OpenFlow 1.2 and later do.
    pub(super) fn set_exact(&self, field: FieldId, value: u64, out: &mut Vec<u8>) {
        let f = field.field();
        let flavor = Some(self.version);
        std(out, OFPAT_SET_FIELD, |o| {
            oxm::put_entry(f, &value.into(), &f.exact_mask(), flavor, self.tun, o);
        });
    }

    pub(super) fn action(&self, a: &Action, out: &mut Vec<u8>) {
        (a.row().encode)(a, self, out);
    }

    /// An action that 1.0 has as an extension and later versions as standard.
    pub(super) fn either(
        &self,
        subtype: u16,
        type_: u16,
        body: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        if self.version == Version::V10 {
            nx(out, subtype, body)
        } else {
            std(out, type_, body)
        }
    }

    /// NXAST_REG_LOAD of up to 64 bits.
    pub(super) fn load(&self, dst: &SubField, value: u64, out: &mut Vec<u8>) {
        nx(out, 7, |o| {
            o.put_u16(pack(dst));
            self.nxm(dst.field, o);
            o.put_u64(value);
        });
    }
}

/// Appends a property: type, length, value, padding to 8.
pub(crate) fn prop(out: &mut Vec<u8>, type_: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(type_);
    out.put_u16(0);
    body(out);
    let len = out.len() - start;
    out.set_u16(start + 2, len as u16);
    out.pad8(start);
}
