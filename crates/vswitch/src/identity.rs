//! The address and the datapath identifier of a bridge.
//!
//! A bridge takes the lowest universally administered address of its real ports, so that it keeps
//! its address as long as its hardware; one without such a port takes an address made from its row's
//! UUID, which is the same at every start. `hwaddr` and `datapath-id` in other_config overrule both.

use std::collections::{BTreeMap, HashMap};

use ferrovs_idl::Uuid;
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::BRIDGE;

use crate::config::BridgeConfig;

/// The address of a bridge without hardware.
pub fn default_mac(uuid: Uuid) -> MacAddr {
    // The UUID as four numbers, each stored with its low byte first.
    let b = uuid.as_bytes();
    MacAddr([(b[3] & !1) | 2, b[2], b[1], b[0], b[7], b[6]])
}

/// The addresses of a bridge's ports, as far as they can serve the whole bridge.
#[derive(Debug, Default)]
pub struct Addresses {
    of_port: HashMap<String, u64>,
    /// In order; how many ports have each.
    all: BTreeMap<u64, usize>,
}

impl Addresses {
    /// Notes the address of a port; none, or one that cannot serve, takes it out.
    pub fn set(&mut self, port: &str, mac: Option<MacAddr>) {
        let usable =
            |m: &MacAddr| !(m.is_multicast() || m.is_local() || m.is_reserved() || m.is_zero());
        let new = mac.filter(usable).map(|m| m.to_u64());
        let old = match new {
            Some(mac) => self.of_port.insert(port.to_string(), mac),
            None => self.of_port.remove(port),
        };
        if let Some(n) = old.and_then(|old| self.all.get_mut(&old)) {
            *n -= 1;
        }
        if let Some(old) = old.filter(|old| self.all.get(old) == Some(&0)) {
            self.all.remove(&old);
        }
        if let Some(new) = new {
            *self.all.entry(new).or_default() += 1;
        }
    }

    /// The ports that have one.
    pub fn ports(&self) -> impl Iterator<Item = &String> {
        self.of_port.keys()
    }

    fn lowest(&self) -> Option<MacAddr> {
        self.all.keys().next().map(|mac| MacAddr::from_u64(*mac))
    }
}

/// Chooses the address of a bridge.
pub fn bridge_mac(config: &BridgeConfig, ports: &Addresses) -> MacAddr {
    let hwaddr = config
        .other_config
        .get("hwaddr")
        .and_then(|t| t.parse::<MacAddr>().ok());
    match hwaddr {
        Some(mac) if mac.is_multicast() => vlog::err!(
            BRIDGE,
            "bridge {}: cannot set MAC address to multicast address {mac}",
            config.name
        ),
        Some(mac) if !mac.is_zero() => return mac,
        _ => {}
    }
    ports.lowest().unwrap_or_else(|| default_mac(config.uuid))
}

/// Chooses the datapath identifier of a bridge.
pub fn datapath_id(config: &BridgeConfig, mac: MacAddr) -> u64 {
    config
        .other_config
        .get("datapath-id")
        .and_then(|text| parse_datapath_id(text))
        .unwrap_or_else(|| mac.to_u64())
}

/// Exactly 16 hex digits, or `0x` and at most 16; zero is none.
fn parse_datapath_id(text: &str) -> Option<u64> {
    let digits = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(d) if (1..=16).contains(&d.len()) => d,
        None if text.len() == 16 => text,
        _ => return None,
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|&id| id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_address_is_that_of_open_vswitch() {
        // As C Open vSwitch derived it for a bridge with this UUID.
        let uuid = Uuid::parse_str("ede1abe1-e7a5-4c7d-93bd-d9b7fabe177f").unwrap();
        assert_eq!(default_mac(uuid).to_string(), "e2:ab:e1:ed:7d:4c");
    }

    #[test]
    fn the_lowest_real_address_is_that_of_the_bridge_as_ports_come_and_go() {
        let mut ports = Addresses::default();
        let mac = |last| Some(MacAddr([0, 0x1b, 0x21, 0, 0, last]));
        for (port, last) in [("a", 7), ("b", 3), ("c", 3), ("d", 9)] {
            ports.set(port, mac(last));
        }
        ports.set("local", Some(MacAddr([2, 0, 0, 0, 0, 1])));
        ports.set("group", Some(MacAddr([1, 0, 0, 0, 0, 1])));
        assert_eq!(ports.lowest(), mac(3));
        ports.set("b", None);
        assert_eq!(ports.lowest(), mac(3));
        ports.set("c", mac(8));
        ports.set("c", mac(8));
        assert_eq!(ports.lowest(), mac(7));
        for port in ["a", "c", "d"] {
            ports.set(port, Some(MacAddr::default()));
        }
        assert_eq!(ports.lowest(), None);
        assert!(ports.of_port.is_empty() && ports.all.is_empty());
    }

    #[test]
    fn datapath_ids_have_16_digits() {
        assert_eq!(parse_datapath_id("0000000000000001"), Some(1));
        assert_eq!(parse_datapath_id("0x1f"), Some(31));
        for bad in [
            "1",
            "0000000000000000",
            "0x",
            "000000000000000g",
            "+000000000000001",
        ] {
            assert_eq!(parse_datapath_id(bad), None, "{bad}");
        }
    }
}
