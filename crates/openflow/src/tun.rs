//! Widths of `tun_metadata` fields while messages are read and written.
//!
//! A switch has a TLV table ([`Tun::Table`]): a field without a mapping is an error. A tool that only shows what
//! it is told has none ([`Tun::Auto`]): it gives each field a place when it meets it first.

use std::cell::RefCell;

use ferrovs_packet::field::{Field, NO_TUN_TABLE, TunTable};

use crate::error::OfpErr;

/// Where `tun_metadata` fields live.
#[derive(Debug)]
pub enum Tun<'a> {
    Table(&'a TunTable),
    Auto(RefCell<TunTable>),
}

impl Tun<'static> {
    /// Places are given on demand.
    pub fn auto() -> Tun<'static> {
        Tun::Auto(RefCell::new(NO_TUN_TABLE.clone()))
    }

    /// No field has a place.
    pub fn none() -> Tun<'static> {
        Tun::Table(&NO_TUN_TABLE)
    }
}

impl Tun<'_> {
    pub fn with<R>(&self, f: impl FnOnce(&TunTable) -> R) -> R {
        match self {
            Tun::Table(t) => f(t),
            Tun::Auto(t) => f(&t.borrow()),
        }
    }

    pub fn is_auto(&self) -> bool {
        matches!(self, Tun::Auto(_))
    }

    /// Makes sure that `field` has a place of `len` bytes, if it is a `tun_metadata` field.
    pub fn ensure(&self, field: &Field, len: usize) -> Result<(), OfpErr> {
        let Some(i) = field.id.tun_metadata_index() else {
            return Ok(());
        };
        match self {
            Tun::Table(t) if t.len(i) == 0 => Err(OfpErr::NXFMFC_INVALID_TLV_FIELD),
            Tun::Table(_) => Ok(()),
            Tun::Auto(t) => {
                let mut t = t.borrow_mut();
                if t.len(i) >= len && t.len(i) != 0 {
                    return Ok(());
                }
                t.remove(i);
                let len = len.max(1).next_multiple_of(4) as u8;
                t.add(i, 0xffff, i as u8, len)
                    .map_err(|_| OfpErr::NXTTMFC_TABLE_FULL)
            }
        }
    }

    /// Bytes of a value of `field`.
    pub fn bytes(&self, field: &Field) -> usize {
        self.with(|t| field.bytes_in(t))
    }

    /// Bits of a value of `field`.
    pub fn bits(&self, field: &Field) -> usize {
        self.with(|t| field.bits_in(t))
    }
}
