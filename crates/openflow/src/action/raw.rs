//! The actions of each version by number: names and lengths.
//!
//! What is checked here is independent of what an action means: that the version has it, and that it is as long as it
//! can be. Open vSwitch's log says what is wrong, and names the standard action also where Nicira's number stands for
//! it in OpenFlow 1.0.

use std::ops::RangeInclusive;

use crate::error::{NX_VENDOR, ONF_VENDOR, OfpErr};
use crate::text::format::hex;
use crate::version::Version;
use crate::warn::{Topic, warn};

/// A number of an action in some versions.
struct Raw {
    vendor: u32,
    type_: u16,
    /// The versions, by their minor numbers.
    versions: RangeInclusive<u8>,
    name: &'static str,
    /// How long it is, header and all.
    len: RangeInclusive<usize>,
}

const fn raw(
    vendor: u32,
    type_: u16,
    versions: RangeInclusive<u8>,
    name: &'static str,
    len: RangeInclusive<usize>,
) -> Raw {
    Raw {
        vendor,
        type_,
        versions,
        name,
        len,
    }
}

/// The longest that an action can be.
const MAX: usize = 65528;

/// The standard actions that setting a field replaces from OpenFlow 1.2 on.
const DEPRECATED: [u16; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15];

#[rustfmt::skip]
static RAWS: [Raw; 86] = [
    raw(0, 0, 0..=0, "OFPAT_OUTPUT", 8..=8),
    raw(0, 0, 1..=5, "OFPAT_OUTPUT", 16..=16),
    raw(0, 1, 0..=5, "OFPAT_SET_VLAN_VID", 8..=8),
    raw(0, 2, 0..=5, "OFPAT_SET_VLAN_PCP", 8..=8),
    raw(0, 3, 0..=0, "OFPAT_STRIP_VLAN", 8..=8),
    raw(0, 3, 1..=5, "OFPAT_SET_DL_SRC", 16..=16),
    raw(0, 4, 0..=0, "OFPAT_SET_DL_SRC", 16..=16),
    raw(0, 4, 1..=5, "OFPAT_SET_DL_DST", 16..=16),
    raw(0, 5, 0..=0, "OFPAT_SET_DL_DST", 16..=16),
    raw(0, 5, 1..=5, "OFPAT_SET_NW_SRC", 8..=8),
    raw(0, 6, 0..=0, "OFPAT_SET_NW_SRC", 8..=8),
    raw(0, 6, 1..=5, "OFPAT_SET_NW_DST", 8..=8),
    raw(0, 7, 0..=0, "OFPAT_SET_NW_DST", 8..=8),
    raw(0, 7, 1..=5, "OFPAT_SET_NW_TOS", 8..=8),
    raw(0, 8, 0..=0, "OFPAT_SET_NW_TOS", 8..=8),
    raw(0, 8, 1..=5, "OFPAT_SET_NW_ECN", 8..=8),
    raw(0, 9, 0..=5, "OFPAT_SET_TP_SRC", 8..=8),
    raw(0, 10, 0..=5, "OFPAT_SET_TP_DST", 8..=8),
    raw(0, 11, 0..=0, "OFPAT_ENQUEUE", 16..=16),
    raw(0, 13, 1..=5, "OFPAT_SET_MPLS_LABEL", 8..=8),
    raw(0, 14, 1..=5, "OFPAT_SET_MPLS_TC", 8..=8),
    raw(0, 15, 1..=5, "OFPAT_SET_MPLS_TTL", 8..=8),
    raw(0, 16, 1..=5, "OFPAT_DEC_MPLS_TTL", 8..=8),
    raw(0, 17, 1..=5, "OFPAT_PUSH_VLAN", 8..=8),
    raw(0, 18, 1..=5, "OFPAT_POP_VLAN", 8..=8),
    raw(0, 19, 1..=5, "OFPAT_PUSH_MPLS", 8..=8),
    raw(0, 20, 1..=5, "OFPAT_POP_MPLS", 8..=8),
    raw(0, 21, 1..=5, "OFPAT_SET_QUEUE", 8..=8),
    raw(0, 22, 1..=5, "OFPAT_GROUP", 8..=8),
    raw(0, 23, 1..=5, "OFPAT_SET_NW_TTL", 8..=8),
    raw(0, 24, 1..=5, "OFPAT_DEC_NW_TTL", 8..=8),
    raw(0, 25, 2..=5, "OFPAT_SET_FIELD", 8..=MAX),
    raw(0, 28, 5..=5, "OFPAT_COPY_FIELD", 16..=MAX),
    raw(0, 29, 5..=5, "OFPAT_METER", 8..=8),
    raw(NX_VENDOR, 1, 0..=5, "NXAST_RESUBMIT", 16..=16),
    raw(NX_VENDOR, 2, 0..=5, "NXAST_SET_TUNNEL", 16..=16),
    raw(NX_VENDOR, 4, 0..=0, "OFPAT_SET_QUEUE", 16..=16),
    raw(NX_VENDOR, 5, 0..=5, "NXAST_POP_QUEUE", 16..=16),
    raw(NX_VENDOR, 6, 0..=4, "NXAST_REG_MOVE", 16..=MAX),
    raw(NX_VENDOR, 7, 0..=4, "NXAST_REG_LOAD", 24..=24),
    raw(NX_VENDOR, 8, 0..=5, "NXAST_NOTE", 16..=MAX),
    raw(NX_VENDOR, 9, 0..=5, "NXAST_SET_TUNNEL64", 24..=24),
    raw(NX_VENDOR, 10, 0..=5, "NXAST_MULTIPATH", 32..=32),
    raw(NX_VENDOR, 12, 0..=5, "NXAST_BUNDLE", 32..=MAX),
    raw(NX_VENDOR, 13, 0..=5, "NXAST_BUNDLE_LOAD", 32..=MAX),
    raw(NX_VENDOR, 14, 0..=5, "NXAST_RESUBMIT_TABLE", 16..=16),
    raw(NX_VENDOR, 15, 0..=5, "NXAST_OUTPUT_REG", 24..=24),
    raw(NX_VENDOR, 16, 0..=5, "NXAST_LEARN", 32..=MAX),
    raw(NX_VENDOR, 17, 0..=5, "NXAST_EXIT", 16..=16),
    raw(NX_VENDOR, 18, 0..=0, "OFPAT_DEC_NW_TTL", 16..=16),
    raw(NX_VENDOR, 19, 0..=5, "NXAST_FIN_TIMEOUT", 16..=16),
    raw(NX_VENDOR, 20, 0..=5, "NXAST_CONTROLLER", 16..=16),
    raw(NX_VENDOR, 21, 0..=5, "NXAST_DEC_TTL_CNT_IDS", 16..=MAX),
    raw(NX_VENDOR, 22, 0..=5, "NXAST_WRITE_METADATA", 32..=32),
    raw(NX_VENDOR, 23, 0..=0, "OFPAT_PUSH_MPLS", 16..=16),
    raw(NX_VENDOR, 24, 0..=0, "OFPAT_POP_MPLS", 16..=16),
    raw(NX_VENDOR, 25, 0..=0, "OFPAT_SET_MPLS_TTL", 16..=16),
    raw(NX_VENDOR, 26, 0..=0, "OFPAT_DEC_MPLS_TTL", 16..=16),
    raw(NX_VENDOR, 27, 0..=5, "NXAST_STACK_PUSH", 24..=24),
    raw(NX_VENDOR, 28, 0..=5, "NXAST_STACK_POP", 24..=24),
    raw(NX_VENDOR, 29, 0..=5, "NXAST_SAMPLE", 24..=24),
    raw(NX_VENDOR, 30, 0..=0, "OFPAT_SET_MPLS_LABEL", 16..=16),
    raw(NX_VENDOR, 31, 0..=0, "OFPAT_SET_MPLS_TC", 16..=16),
    raw(NX_VENDOR, 32, 0..=5, "NXAST_OUTPUT_REG2", 24..=24),
    raw(NX_VENDOR, 33, 0..=4, "NXAST_REG_LOAD2", 16..=MAX),
    raw(NX_VENDOR, 34, 0..=5, "NXAST_CONJUNCTION", 16..=16),
    raw(NX_VENDOR, 35, 0..=5, "NXAST_CT", 24..=MAX),
    raw(NX_VENDOR, 36, 0..=5, "NXAST_NAT", 16..=MAX),
    raw(NX_VENDOR, 37, 0..=5, "NXAST_CONTROLLER2", 16..=MAX),
    raw(NX_VENDOR, 38, 0..=5, "NXAST_SAMPLE2", 32..=32),
    raw(NX_VENDOR, 39, 0..=5, "NXAST_OUTPUT_TRUNC", 16..=16),
    raw(NX_VENDOR, 40, 0..=0, "OFPAT_GROUP", 16..=16),
    raw(NX_VENDOR, 41, 0..=5, "NXAST_SAMPLE3", 32..=32),
    raw(NX_VENDOR, 42, 0..=5, "NXAST_CLONE", 16..=MAX),
    raw(NX_VENDOR, 43, 0..=5, "NXAST_CT_CLEAR", 16..=16),
    raw(NX_VENDOR, 44, 0..=5, "NXAST_RESUBMIT_TABLE_CT", 16..=16),
    raw(NX_VENDOR, 45, 0..=5, "NXAST_LEARN2", 40..=MAX),
    raw(NX_VENDOR, 46, 3..=5, "NXAST_ENCAP", 16..=MAX),
    raw(NX_VENDOR, 47, 3..=5, "NXAST_DECAP", 16..=MAX),
    raw(NX_VENDOR, 48, 3..=5, "NXAST_DEC_NSH_TTL", 16..=16),
    raw(NX_VENDOR, 49, 0..=5, "NXAST_CHECK_PKT_LARGER", 24..=MAX),
    raw(NX_VENDOR, 50, 0..=5, "NXAST_DELETE_FIELD", 24..=24),
    raw(NX_VENDOR, 51, 0..=5, "NXAST_SAMPLE4", 40..=40),
    raw(NX_VENDOR, 254, 0..=5, "NXAST_DEBUG_SLOW", 16..=16),
    raw(NX_VENDOR, 255, 0..=5, "NXAST_DEBUG_RECIRC", 16..=16),
    raw(ONF_VENDOR, 3200, 3..=4, "ONFACT_COPY_FIELD", 24..=MAX),
];

/// Checks that `version` has an action, and that it may be `len` bytes long where `room` bytes are left.
pub(super) fn check(
    vendor: u32,
    type_: u16,
    version: Version,
    len: usize,
    room: usize,
) -> Result<(), OfpErr> {
    let raw = find(vendor, type_, version).ok_or_else(|| {
        warn(Topic::Actions, || {
            let (version, vendor) = (version.name(), hex(vendor.into()));
            format!("unknown {version} action for vendor {vendor} and type {type_}")
        });
        match vendor {
            0 => OfpErr::OFPBAC_BAD_TYPE,
            _ => OfpErr::OFPBAC_BAD_VENDOR_TYPE,
        }
    })?;
    let name = raw.name;
    if vendor == 0 && version >= Version::V12 && DEPRECATED.contains(&type_) {
        warn(Topic::ActionsInfo, || {
            format!("{name} is deprecated in {} (use Set-Field)", version.name())
        });
    }
    match raw.objection(len, room) {
        Some(what) => {
            warn(Topic::Actions, || {
                format!("OpenFlow action {name} length {len} {what}")
            });
            Err(OfpErr::OFPBAC_BAD_LEN)
        }
        None => Ok(()),
    }
}

fn find(vendor: u32, type_: u16, version: Version) -> Option<&'static Raw> {
    RAWS.iter().find(|raw| {
        (raw.vendor, raw.type_) == (vendor, type_) && raw.versions.contains(&version.minor())
    })
}

impl Raw {
    /// What is wrong with a length.
    fn objection(&self, len: usize, room: usize) -> Option<String> {
        let (least, most) = (self.len.start(), self.len.end());
        if len > room {
            Some(format!("exceeds action buffer length {room}"))
        } else if !self.len.contains(&len) {
            Some(format!("not in valid range [{least},{most}]"))
        } else if !len.is_multiple_of(8) {
            Some("is not a multiple of 8".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_their_version_says() {
        let name = |vendor, type_, version| find(vendor, type_, version).map(|raw| raw.name);
        assert_eq!(name(0, 3, Version::V10), Some("OFPAT_STRIP_VLAN"));
        assert_eq!(name(0, 3, Version::V11), Some("OFPAT_SET_DL_SRC"));
        assert_eq!(name(0, 28, Version::V14), None);
        assert_eq!(name(NX_VENDOR, 40, Version::V10), Some("OFPAT_GROUP"));
        assert_eq!(name(NX_VENDOR, 40, Version::V13), None);
        assert_eq!(
            name(ONF_VENDOR, 3200, Version::V14),
            Some("ONFACT_COPY_FIELD")
        );
    }

    #[test]
    fn lengths_are_told_why_they_cannot_be() {
        let say = |type_, len, room| {
            find(0, type_, Version::V13).and_then(|raw| raw.objection(len, room))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(say(0, 16, 16), None);
        assert_eq!(say(0, 16, 8), text("exceeds action buffer length 8"));
        assert_eq!(say(0, 4, 8), text("not in valid range [16,16]"));
        assert_eq!(say(25, 4, 8), text("not in valid range [8,65528]"));
        assert_eq!(say(25, 12, 16), text("is not a multiple of 8"));
    }
}
