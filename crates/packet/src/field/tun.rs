//! Places of the `tun_metadata` fields.
//!
//! A bridge's TLV table maps a Geneve option (class, type, length) to a `tun_metadata` field. The flow key holds
//! the values of the mapped options packed into one area; this table says where, and thereby how wide each field
//! is. A field without a mapping has no place: it reads as zero and writes are dropped.

use super::value::FieldValue;
use crate::flow::{TUN_METADATA_BYTES, TunMetadata};

/// Number of `tun_metadata` fields.
pub const TUN_METADATA_FIELDS: usize = 64;
/// The widest option in bytes.
pub const TUN_METADATA_MAX_LEN: usize = 124;

/// One mapped option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunSlot {
    /// Option class and type as in the option's header.
    pub class: u16,
    pub ty: u8,
    /// First byte in the area, and length in bytes.
    pub ofs: u8,
    pub len: u8,
}

/// A TLV table; the empty one maps nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunTable {
    pub slots: [Option<TunSlot>; TUN_METADATA_FIELDS],
}

/// The table that maps nothing.
pub static NO_TUN_TABLE: TunTable = TunTable {
    slots: [None; TUN_METADATA_FIELDS],
};

/// Length of the header of an option, and greatest length of all options together.
const OPTION_HEADER: usize = 4;
const OPTIONS_MAX: usize = 252;
/// In an option's type: whoever does not understand it drops the packet.
const CRITICAL: u8 = 0x80;

/// An option as it is in a header.
struct RawOption<'a> {
    class: u16,
    ty: u8,
    data: &'a [u8],
}

/// The raw options; ends with None where one is longer than what is left.
fn options(raw: &TunMetadata) -> impl Iterator<Item = Option<RawOption<'_>>> {
    let all = raw.opts.get(..usize::from(raw.len)).unwrap_or_default();
    let mut rest = Some(all);
    std::iter::from_fn(move || {
        let now = rest.filter(|r| !r.is_empty())?;
        let option = now
            .split_first_chunk::<OPTION_HEADER>()
            .and_then(|(h, behind)| {
                let (data, after) = behind.split_at_checked(usize::from(h[3] & 0x1f) * 4)?;
                let class = u16::from_be_bytes([h[0], h[1]]);
                Some((
                    RawOption {
                        class,
                        ty: h[2],
                        data,
                    },
                    after,
                ))
            });
        rest = option.as_ref().map(|(_, after)| *after);
        Some(option.map(|(option, _)| option))
    })
}

/// Why an option could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunTableError {
    #[error("field is already mapped")]
    AlreadyMapped,
    #[error("option is already mapped")]
    DupEntry,
    #[error("no field with this number")]
    BadIndex,
    #[error("bad length of option")]
    BadLength,
    #[error("no space left for options")]
    TableFull,
}

impl Default for TunTable {
    fn default() -> Self {
        NO_TUN_TABLE.clone()
    }
}

impl TunTable {
    /// Maps an option of `len` bytes to field `index`, taking the first gap in the area that holds it.
    pub fn add(&mut self, index: usize, class: u16, ty: u8, len: u8) -> Result<(), TunTableError> {
        if index >= TUN_METADATA_FIELDS {
            return Err(TunTableError::BadIndex);
        }
        if len == 0 || !len.is_multiple_of(4) || usize::from(len) > TUN_METADATA_MAX_LEN {
            return Err(TunTableError::BadLength);
        }
        if self.slots[index].is_some() {
            return Err(TunTableError::AlreadyMapped);
        }
        if self
            .slots
            .iter()
            .flatten()
            .any(|s| (s.class, s.ty) == (class, ty))
        {
            return Err(TunTableError::DupEntry);
        }
        let mut used: Vec<_> = self
            .slots
            .iter()
            .flatten()
            .map(|s| (usize::from(s.ofs), usize::from(s.ofs) + usize::from(s.len)))
            .collect();
        used.sort_unstable();
        let mut ofs = 0;
        for (start, end) in used {
            if start - ofs >= usize::from(len) {
                break;
            }
            ofs = end;
        }
        if ofs + usize::from(len) > TUN_METADATA_BYTES {
            return Err(TunTableError::TableFull);
        }
        self.slots[index] = Some(TunSlot {
            class,
            ty,
            ofs: ofs as u8,
            len,
        });
        Ok(())
    }

    pub fn remove(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = None;
        }
    }

    /// Width of field `index` in bytes, 0 when it is not mapped.
    pub fn len(&self, index: usize) -> usize {
        self.slots
            .get(index)
            .copied()
            .flatten()
            .map_or(0, |s| usize::from(s.len))
    }

    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// The field that an option is mapped to.
    pub fn find(&self, class: u16, ty: u8) -> Option<(usize, TunSlot)> {
        let mut slots = self.slots.iter().enumerate();
        slots.find_map(|(i, s)| s.filter(|s| (s.class, s.ty) == (class, ty)).map(|s| (i, s)))
    }

    /// The fields that the raw options of a packet stand for. Options without a field are left out, but None if one of
    /// those must be understood, an option is longer or shorter than its field, or one does not end where all do.
    pub fn fields_of(&self, raw: &TunMetadata) -> Option<TunMetadata> {
        let mut fields = TunMetadata::NONE;
        for option in options(raw) {
            let option = option?;
            let found = self.find(option.class, option.ty);
            if let Some((i, slot)) = found {
                if usize::from(slot.len) != option.data.len() {
                    return None;
                }
                let at = usize::from(slot.ofs);
                fields.opts[at..][..option.data.len()].copy_from_slice(option.data);
                fields.present |= 1 << i;
            } else if option.ty & CRITICAL != 0 {
                return None;
            }
        }
        Some(fields)
    }

    /// The same the other way: the raw options that make these fields. None if they are too many for a header.
    pub fn options_of(&self, fields: &TunMetadata) -> Option<TunMetadata> {
        let mut raw = TunMetadata::NONE;
        let mut len = 0;
        for (i, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot.filter(|_| fields.present & 1 << i != 0) else {
                continue;
            };
            let (ofs, size) = (usize::from(slot.ofs), usize::from(slot.len));
            if len + OPTION_HEADER + size > OPTIONS_MAX {
                return None;
            }
            let [class0, class1] = slot.class.to_be_bytes();
            raw.opts[len..len + OPTION_HEADER].copy_from_slice(&[
                class0,
                class1,
                slot.ty,
                slot.len / 4,
            ]);
            len += OPTION_HEADER;
            raw.opts[len..len + size].copy_from_slice(&fields.opts[ofs..ofs + size]);
            len += size;
        }
        raw.len = len as u8;
        Some(raw)
    }

    /// What matters of the raw options of a packet when `mask` says what matters of their fields: which options there are
    /// does in any case.
    pub fn options_mask(&self, raw: &TunMetadata, mask: &TunMetadata) -> TunMetadata {
        let mut out = TunMetadata::NONE;
        out.len = u8::MAX;
        let mut at = 0;
        for option in options(raw) {
            let Some(option) = option else {
                // Nothing is known of what follows.
                out.opts[at..usize::from(raw.len)].fill(0xff);
                break;
            };
            out.opts[at..at + OPTION_HEADER].fill(0xff);
            at += OPTION_HEADER;
            let size = option.data.len();
            if let Some((_, slot)) = self.find(option.class, option.ty)
                && usize::from(slot.len) == size
            {
                let from = usize::from(slot.ofs);
                out.opts[at..at + size].copy_from_slice(&mask.opts[from..from + size]);
            }
            at += size;
        }
        out
    }

    fn slot(&self, i: u8) -> Option<(usize, usize)> {
        let slot = self.slots[usize::from(i)]?;
        Some((usize::from(slot.ofs), usize::from(slot.len)))
    }

    pub(super) fn read(&self, i: u8, md: &TunMetadata) -> FieldValue {
        match self.slot(i) {
            Some((ofs, len)) => FieldValue::from_be_bytes(&md.opts[ofs..ofs + len]),
            None => FieldValue::ZERO,
        }
    }

    pub(super) fn write(&self, i: u8, md: &mut TunMetadata, value: &FieldValue) {
        if let Some((ofs, len)) = self.slot(i) {
            md.opts[ofs..ofs + len].copy_from_slice(value.low_bytes(len));
            md.present |= 1 << i;
        }
    }

    pub(super) fn write_mask(&self, i: u8, md: &mut TunMetadata, mask: &FieldValue) {
        if let Some((ofs, len)) = self.slot(i) {
            md.opts[ofs..ofs + len].copy_from_slice(mask.low_bytes(len));
            md.present = if mask.is_zero() {
                md.present & !(1 << i)
            } else {
                md.present | 1 << i
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_packed_and_gaps_are_used_again() {
        let mut table = TunTable::default();
        for i in 0..64 {
            table.add(i, 0xffff, i as u8, 4).unwrap();
        }
        assert_eq!(table.add(0, 1, 1, 4), Err(TunTableError::AlreadyMapped));
        table.remove(5);
        table.remove(6);
        assert_eq!(table.add(5, 0xffff, 7, 8), Err(TunTableError::DupEntry));
        assert_eq!(table.add(5, 0xffff, 5, 12), Err(TunTableError::TableFull));
        table.add(5, 0xffff, 5, 8).unwrap();
        assert_eq!(
            table.find(0xffff, 5).map(|(i, s)| (i, s.ofs, s.len)),
            Some((5, 20, 8))
        );
    }

    fn raw(bytes: &[u8]) -> TunMetadata {
        let mut raw = TunMetadata::NONE;
        raw.len = bytes.len() as u8;
        raw.opts[..bytes.len()].copy_from_slice(bytes);
        raw
    }

    #[test]
    fn options_become_fields_and_fields_options() {
        let mut table = TunTable::default();
        table.add(3, 0x102, 0x80, 4).unwrap();
        table.add(1, 0xffff, 0, 8).unwrap();
        let bytes = [
            0xff, 0xff, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0x80, 1, 9, 10, 11, 12,
        ];
        let fields = table.fields_of(&raw(&bytes)).unwrap();
        assert_eq!((fields.present, fields.len), (0b1010, 0));
        let value = |i: u8| table.read(i, &fields).to_u64();
        assert_eq!((value(3), value(1)), (0x090a_0b0c, 0x0102_0304_0506_0708));
        assert_eq!(table.options_of(&fields), Some(raw(&bytes)));
        // One that nobody knows is passed over, unless it is critical.
        let unknown = [0, 9, 1, 1, 0, 0, 0, 0, 1, 2, 0x80, 1, 9, 10, 11, 12];
        let fields = table.fields_of(&raw(&unknown)).unwrap();
        assert_eq!(fields.present, 0b1000);
        let mut critical = unknown;
        critical[2] = 0x81;
        assert_eq!(table.fields_of(&raw(&critical)), None);
        // One of another length than its field, and such as are cut off.
        assert_eq!(table.fields_of(&raw(&[1, 2, 0x80, 0])), None);
        for len in 1..bytes.len() {
            let whole = len == 12;
            assert_eq!(
                table.fields_of(&raw(&bytes[..len])).is_some(),
                whole,
                "{len}"
            );
        }
    }

    #[test]
    fn the_mask_of_options_names_all_and_holds_what_matters() {
        let mut table = TunTable::default();
        table.add(0, 0x102, 0x80, 4).unwrap();
        let bytes = [0, 9, 1, 1, 7, 7, 7, 7, 1, 2, 0x80, 1, 9, 10, 11, 12];
        let mut mask = TunMetadata::NONE;
        mask.present = 1;
        mask.opts[..4].copy_from_slice(&[0xff, 0, 0, 0xff]);
        let out = table.options_mask(&raw(&bytes), &mask);
        assert_eq!((out.present, out.len), (0, 0xff));
        let want = [
            255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 255, 0, 0, 255,
        ];
        assert_eq!(out.opts[..16], want);
        assert!(out.opts[16..].iter().all(|b| *b == 0));
    }
}
