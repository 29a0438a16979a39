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
}
