//! Link modes of the kernel as OpenFlow features.

use ferrovs_sys::ethtool::{Duplex, LinkSettings, PORT_FIBRE};

use crate::Features;

/// `OFPPF_*` bits of OpenFlow 1.1.
pub mod ofppf {
    #![allow(missing_docs)]
    pub const F10MB_HD: u32 = 1 << 0;
    pub const F10MB_FD: u32 = 1 << 1;
    pub const F100MB_HD: u32 = 1 << 2;
    pub const F100MB_FD: u32 = 1 << 3;
    pub const F1GB_HD: u32 = 1 << 4;
    pub const F1GB_FD: u32 = 1 << 5;
    pub const F10GB_FD: u32 = 1 << 6;
    pub const F40GB_FD: u32 = 1 << 7;
    pub const F100GB_FD: u32 = 1 << 8;
    pub const F1TB_FD: u32 = 1 << 9;
    pub const OTHER: u32 = 1 << 10;
    pub const COPPER: u32 = 1 << 11;
    pub const FIBER: u32 = 1 << 12;
    pub const AUTONEG: u32 = 1 << 13;
    pub const PAUSE: u32 = 1 << 14;
    pub const PAUSE_ASYM: u32 = 1 << 15;
}
use ofppf::*;

/// Link mode bits (`ETHTOOL_LINK_MODE_*`) and the feature that each means.
const MODES: &[(&[usize], u32)] = &[
    (&[0], F10MB_HD),
    (&[1], F10MB_FD),
    (&[2], F100MB_HD),
    (&[3], F100MB_FD),
    (&[4], F1GB_HD),
    (&[5, 17, 41], F1GB_FD),
    (&[12, 18, 19, 20, 42, 43, 44, 45, 46], F10GB_FD),
    (&[23, 24, 25, 26], F40GB_FD),
    (&[36, 37, 38, 39, 57, 58, 59, 60, 61], F100GB_FD),
    (&[7], COPPER),
    (&[10], FIBER),
    (&[6], AUTONEG),
    (&[13], PAUSE),
    (&[14], PAUSE_ASYM),
];

fn modes(map: &[u32]) -> u32 {
    MODES
        .iter()
        .filter(|(bits, _)| bits.iter().any(|b| LinkSettings::mode(map, *b)))
        .fold(0, |all, (_, f)| all | f)
}

/// The fastest speed among features, in Mb/s.
fn max_speed(features: u32) -> u32 {
    [
        (F1TB_FD, 1_000_000),
        (F100GB_FD, 100_000),
        (F40GB_FD, 40_000),
        (F10GB_FD, 10_000),
        (F1GB_HD | F1GB_FD, 1000),
        (F100MB_HD | F100MB_FD, 100),
        (F10MB_HD | F10MB_FD, 10),
    ]
    .into_iter()
    .find(|(bits, _)| features & bits != 0)
    .map_or(0, |(_, speed)| speed)
}

/// What a device says about its link.
pub fn from_link(l: &LinkSettings) -> Features {
    let full = l.duplex == Some(Duplex::Full);
    let mut current = match l.speed_mbps {
        Some(10) => {
            if full {
                F10MB_FD
            } else {
                F10MB_HD
            }
        }
        Some(100) => {
            if full {
                F100MB_FD
            } else {
                F100MB_HD
            }
        }
        Some(1000) => {
            if full {
                F1GB_FD
            } else {
                F1GB_HD
            }
        }
        Some(10_000) => F10GB_FD,
        Some(40_000) => F40GB_FD,
        Some(100_000) => F100GB_FD,
        Some(1_000_000) => F1TB_FD,
        Some(_) => OTHER,
        None => 0,
    };
    match l.port {
        0 => current |= COPPER,
        PORT_FIBRE => current |= FIBER,
        _ => {}
    }
    if l.autoneg {
        current |= AUTONEG;
    }
    let supported = modes(&l.supported);
    Features {
        current,
        advertised: modes(&l.advertising),
        supported,
        peer: modes(&l.peer),
        speed_current: l.speed_mbps.unwrap_or(0),
        speed_max: max_speed(supported),
        full_duplex: l.duplex.map(|d| d == Duplex::Full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copper_gigabit_port_shows_its_modes() {
        let l = LinkSettings {
            speed_mbps: Some(1000),
            duplex: Some(Duplex::Full),
            port: 0,
            autoneg: true,
            supported: vec![0b1110_1111, 0],
            advertising: vec![1 << 5, 0],
            peer: vec![],
        };
        let f = from_link(&l);
        assert_eq!(f.current, F1GB_FD | COPPER | AUTONEG);
        assert_eq!(
            f.supported,
            F10MB_HD | F10MB_FD | F100MB_HD | F100MB_FD | F1GB_FD | AUTONEG | COPPER
        );
        assert_eq!((f.advertised, f.peer, f.speed_max), (F1GB_FD, 0, 1000));
    }
}
