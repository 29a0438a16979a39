//! The MTUs of the ports that limit what internal ports carry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ferrovs_packet::types::OfPort;

/// The MTU of internal ports that no other port limits: what every Ethernet has.
const DEFAULT: u32 = 1500;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Mtus {
    of_port: HashMap<OfPort, u32>,
    /// In order; how many ports have each.
    all: BTreeMap<u32, usize>,
    changed: BTreeSet<OfPort>,
}

impl Mtus {
    /// Notes that a port came, went or changed.
    pub fn changed(&mut self, port: OfPort) {
        self.changed.insert(port);
    }

    pub fn take_changed(&mut self) -> BTreeSet<OfPort> {
        std::mem::take(&mut self.changed)
    }

    /// Sets the MTU of a port; none if it limits nothing.
    pub fn set(&mut self, port: OfPort, mtu: Option<u32>) {
        let old = match mtu {
            Some(mtu) => {
                *self.all.entry(mtu).or_default() += 1;
                self.of_port.insert(port, mtu)
            }
            None => self.of_port.remove(&port),
        };
        if let Some(old) = old
            && let Some(n) = self.all.get_mut(&old)
        {
            *n -= 1;
            if *n == 0 {
                self.all.remove(&old);
            }
        }
    }

    /// What internal ports carry.
    pub fn least(&self) -> u32 {
        self.all.keys().next().copied().unwrap_or(DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_mtu_holds_until_the_last_port_with_it_goes() {
        let mut mtus = Mtus::default();
        assert_eq!(mtus.least(), 1500);
        for (port, mtu) in [(1, 9000), (2, 1400), (3, 1400)] {
            mtus.set(OfPort(port), Some(mtu));
        }
        assert_eq!(mtus.least(), 1400);
        mtus.set(OfPort(2), Some(2000));
        mtus.set(OfPort(3), Some(1400));
        assert_eq!(mtus.least(), 1400);
        mtus.set(OfPort(3), None);
        assert_eq!(mtus.least(), 2000);
        mtus.set(OfPort(2), None);
        mtus.set(OfPort(1), None);
        assert_eq!((mtus.least(), mtus.all.len()), (1500, 0));
    }
}
