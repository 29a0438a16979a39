//! The addresses that lookups asked for: a change of the routes to anything else changes no
//! translation. Thousands of routes can come and go where nobody tunnels to, and no flow is looked
//! at for it.
//!
//! Who asks notes it before it looks; who changes the tables checks it after the change. So one that
//! misses the change is always found here.

use std::collections::BTreeSet;

use super::table::Network;

/// So many are remembered; beyond it every change counts.
const MAX: usize = 65536;

#[derive(Debug, Default)]
pub(super) struct Asked {
    addresses: BTreeSet<u128>,
    too_many: bool,
}

impl Asked {
    pub const fn new() -> Asked {
        Asked {
            addresses: BTreeSet::new(),
            too_many: false,
        }
    }

    pub fn knows(&self, address: u128) -> bool {
        self.too_many || self.addresses.contains(&address)
    }

    pub fn note(&mut self, address: u128) {
        if self.addresses.len() < MAX {
            self.addresses.insert(address);
        } else if !self.too_many {
            self.too_many = true;
            self.addresses.clear();
        }
    }

    /// Whether an address in the network was asked for.
    pub fn any_in(&self, (dst, plen): Network) -> bool {
        let last = dst | u128::MAX.checked_shr(plen.into()).unwrap_or(0);
        self.too_many || self.addresses.range(dst..=last).next().is_some()
    }

    /// All that asked will ask anew.
    pub fn forget_too_many(&mut self) {
        self.too_many = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_found_in_its_networks_alone() {
        let mut a = Asked::new();
        a.note(0x1234);
        assert!(a.knows(0x1234) && !a.knows(0x1235));
        assert!(a.any_in((0x1234, 128)) && a.any_in((0x1200, 120)) && a.any_in((0, 0)));
        assert!(!a.any_in((0x1235, 128)) && !a.any_in((0x1300, 120)));
        for n in 0..MAX as u128 {
            a.note(n << 64);
        }
        assert!(a.any_in((0x1235, 128)) && a.knows(7));
        a.forget_too_many();
        assert!(!a.any_in((0x1235, 128)));
    }
}
