//! Code points of fields on the wire: NXM (OpenFlow 1.0 extension) and OXM headers (OpenFlow 1.2 and later).
//!
//! ```text
//!  31            16 15         9  8 7        0
//! |     class      |   field    |M|  length   |   then, if class is 0xffff, 32 bits of experimenter id,
//! ```
//! which `length` counts. A field may have several code points: the one to send is chosen by OpenFlow version.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{FIELDS, Field, FieldId};
use crate::hash::NameHasher;

/// OpenFlow versions as on the wire.
pub const V10: u8 = 0x01;
pub const V11: u8 = 0x02;
pub const V12: u8 = 0x03;
pub const V13: u8 = 0x04;
pub const V14: u8 = 0x05;
pub const V15: u8 = 0x06;

/// Class of headers that carry an experimenter id.
pub const EXPERIMENTER_CLASS: u16 = 0xffff;

/// One code point of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Oxm {
    pub class: u16,
    /// Experimenter id, 0 unless `class` is [`EXPERIMENTER_CLASS`].
    pub experimenter: u32,
    /// Field number in the class (7 bits).
    pub number: u8,
    pub name: &'static str,
    /// First OpenFlow version that has the code point; extensions have [`V10`].
    pub min_version: u8,
    /// First Open vSwitch release that knows it.
    pub since: &'static str,
}

/// The class and experimenter that a code point's name stands for.
const CLASSES: [(&str, u16, u32); 8] = [
    ("OXM_OF_PKT_REG", 0x8001, 0),
    ("OXM_OF_", 0x8000, 0),
    ("NXM_OF_", 0x0000, 0),
    ("NXM_NX_", 0x0001, 0),
    ("ERICOXM_OF_", 0x1000, 0),
    ("NXOXM_NSH_", EXPERIMENTER_CLASS, 0x005a_d650),
    ("NXOXM_ET_", EXPERIMENTER_CLASS, 0x0000_2320),
    ("ONFOXM_ET_", EXPERIMENTER_CLASS, 0x4f4e_4600),
];

const fn starts_with(s: &str, prefix: &str) -> bool {
    let (s, prefix) = (s.as_bytes(), prefix.as_bytes());
    let mut i = 0;
    while i < prefix.len() {
        if i >= s.len() || s[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}

impl Oxm {
    pub(super) const fn new(
        name: &'static str,
        number: u8,
        min_version: u8,
        since: &'static str,
    ) -> Oxm {
        let mut i = 0;
        while i < CLASSES.len() {
            let (prefix, class, experimenter) = CLASSES[i];
            if starts_with(name, prefix) {
                return Oxm {
                    class,
                    experimenter,
                    number,
                    name,
                    min_version,
                    since,
                };
            }
            i += 1;
        }
        panic!("code point of unknown class")
    }

    /// The header that announces a value of `len` bytes, followed by as many of mask if `has_mask`.
    pub fn header(&self, len: u8, has_mask: bool) -> OxmHeader {
        OxmHeader {
            class: self.class,
            experimenter: self.experimenter,
            number: self.number,
            has_mask,
            len: if has_mask { len.wrapping_mul(2) } else { len },
        }
    }
}

/// A header as it is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OxmHeader {
    pub class: u16,
    pub experimenter: u32,
    pub number: u8,
    pub has_mask: bool,
    /// Bytes of value and mask that follow the header, without the experimenter id.
    pub len: u8,
}

impl OxmHeader {
    /// Size of the header itself in bytes.
    pub fn size(&self) -> usize {
        if self.class == EXPERIMENTER_CLASS {
            8
        } else {
            4
        }
    }

    /// Reads a header from the front of `bytes`; `None` when they are too few or the length leaves no room for
    /// the experimenter id.
    pub fn read(bytes: &[u8]) -> Option<OxmHeader> {
        let word = u32::from_be_bytes(bytes.first_chunk::<4>().copied()?);
        let mut header = OxmHeader {
            class: (word >> 16) as u16,
            experimenter: 0,
            number: (word >> 9) as u8 & 0x7f,
            has_mask: word & 0x100 != 0,
            len: word as u8,
        };
        if header.class == EXPERIMENTER_CLASS {
            header.experimenter = u32::from_be_bytes(bytes.get(4..8)?.first_chunk().copied()?);
            header.len = header.len.checked_sub(4)?;
        }
        Some(header)
    }

    /// Appends the header to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let extra = if self.class == EXPERIMENTER_CLASS {
            4
        } else {
            0
        };
        let word = u32::from(self.class) << 16
            | u32::from(self.number) << 9
            | u32::from(self.has_mask) << 8
            | u32::from(self.len.wrapping_add(extra));
        out.extend_from_slice(&word.to_be_bytes());
        if extra != 0 {
            out.extend_from_slice(&self.experimenter.to_be_bytes());
        }
    }
}

type Index = (
    HashMap<(u16, u32, u8), (FieldId, &'static Oxm), NameHasher>,
    HashMap<&'static str, (FieldId, &'static Oxm), NameHasher>,
);

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut by_number = HashMap::default();
    let mut by_name = HashMap::default();
    for field in &FIELDS {
        for oxm in field.oxms {
            by_number.insert((oxm.class, oxm.experimenter, oxm.number), (field.id, oxm));
            by_name.insert(oxm.name, (field.id, oxm));
        }
    }
    (by_number, by_name)
});

impl Field {
    /// The field and code point that a header names, whatever its length and mask bit.
    pub fn by_oxm(header: OxmHeader) -> Option<(&'static Field, &'static Oxm)> {
        INDEX
            .0
            .get(&(header.class, header.experimenter, header.number))
            .map(|&(id, oxm)| (id.field(), oxm))
    }

    /// The field and code point with a name such as `NXM_OF_ETH_SRC`.
    pub fn by_oxm_name(name: &str) -> Option<(&'static Field, &'static Oxm)> {
        INDEX.1.get(name).map(|&(id, oxm)| (id.field(), oxm))
    }

    /// The code point to use towards a peer of OpenFlow `version` (on-wire number; 0 or 1 prefer NXM): of those
    /// that the version has, the most recent. A field that the version lacks gives its first one all the same.
    pub fn oxm(&self, version: u8) -> Option<&'static Oxm> {
        let usable = self
            .oxms
            .iter()
            .filter(|o| o.min_version <= version.max(V10));
        usable
            .max_by_key(|o| o.min_version)
            .or_else(|| self.oxms.first())
    }

    /// The header to send for the field, with the field's full width.
    pub fn oxm_header(&self, version: u8, has_mask: bool) -> Option<OxmHeader> {
        Some(self.oxm(version)?.header(self.n_bytes, has_mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_points_are_those_of_the_feature_map() {
        let count = |prefix: &str| {
            let all = FIELDS.iter().flat_map(|f| f.oxms);
            all.filter(|o| o.name.starts_with(prefix)).count()
        };
        assert_eq!(FIELDS.iter().map(|f| f.oxms.len()).sum::<usize>(), 237);
        assert_eq!(INDEX.0.len(), 237);
        assert_eq!(
            (count("NXM_NX_"), count("NXM_OF_"), count("NXOXM_ET_")),
            (122, 18, 27)
        );
        assert_eq!(
            (
                count("NXOXM_NSH_"),
                count("ONFOXM_ET_"),
                count("ERICOXM_OF_")
            ),
            (10, 2, 2)
        );
        assert_eq!((count("OXM_OF_PKT_REG"), count("OXM_OF_")), (16, 56));
    }

    #[test]
    fn the_version_chooses_the_code_point() {
        let name = |id: FieldId, version| id.field().oxm(version).map(|o| o.name);
        assert_eq!(name(FieldId::EthSrc, V10), Some("NXM_OF_ETH_SRC"));
        assert_eq!(name(FieldId::EthSrc, V12), Some("OXM_OF_ETH_SRC"));
        assert_eq!(name(FieldId::TunId, V12), Some("NXM_NX_TUN_ID"));
        assert_eq!(name(FieldId::TunId, V13), Some("OXM_OF_TUNNEL_ID"));
        assert_eq!(name(FieldId::DpHash, V15), Some("NXM_NX_DP_HASH"));
        assert_eq!(name(FieldId::TcpFlags, V12), Some("NXM_NX_TCP_FLAGS"));
        assert_eq!(name(FieldId::TcpFlags, V14), Some("ONFOXM_ET_TCP_FLAGS"));
        assert_eq!(name(FieldId::TcpFlags, V15), Some("OXM_OF_TCP_FLAGS"));
        assert_eq!(
            name(FieldId::ActsetOutput, V12),
            Some("ONFOXM_ET_ACTSET_OUTPUT")
        );
        assert_eq!(name(FieldId::SkbPriority, V15), None);
    }

    #[test]
    fn headers_read_back_as_written() {
        for field in &FIELDS {
            for oxm in field.oxms {
                let header = oxm.header(field.n_bytes, false);
                let mut bytes = Vec::new();
                header.write(&mut bytes);
                assert_eq!(bytes.len(), header.size());
                assert_eq!(OxmHeader::read(&bytes), Some(header));
                assert_eq!(Field::by_oxm(header).map(|(f, _)| f.id), Some(field.id));
            }
        }
        assert_eq!(OxmHeader::read(&[0x80, 0, 0]), None);
        assert_eq!(OxmHeader::read(&[0xff, 0xff, 0, 3, 0, 0, 0, 0]), None);
    }
}
