//! The address and the datapath identifier of a bridge.
//!
//! A bridge takes the lowest universally administered address of its real ports, so that it keeps
//! its address as long as its hardware; one without such a port takes an address made from its row's
//! UUID, which is the same at every start. `hwaddr` and `datapath-id` in other_config overrule both.

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

/// A port's address, as far as it can serve the whole bridge.
pub struct Candidate {
    pub mac: MacAddr,
    /// The device is made by this switch, so its address means nothing.
    pub virtual_device: bool,
}

/// Chooses the address of a bridge.
pub fn bridge_mac(config: &BridgeConfig, ports: impl Iterator<Item = Candidate>) -> MacAddr {
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
    let usable = |c: &Candidate| {
        let m = c.mac;
        !c.virtual_device && !m.is_multicast() && !m.is_local() && !m.is_reserved() && !m.is_zero()
    };
    let lowest = ports.filter(usable).map(|c| c.mac.to_u64()).min();
    lowest.map_or_else(|| default_mac(config.uuid), MacAddr::from_u64)
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
