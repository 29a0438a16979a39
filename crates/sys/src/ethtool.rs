//! ethtool: driver, link mode and offload switches of a network device.
//!
//! All requests go through `SIOCETHTOOL`, which takes an `ifreq` whose data pointer leads to a
//! request-specific struct that starts with the command number.

use std::io;
use std::os::fd::AsRawFd;

use crate::ifreq::{c_name, control_socket, ifreq};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
const ETH_FLAG_LRO: u32 = 1 << 15;
/// Room for three link mode bitmaps of at most 127 words each.
const LINK_MODE_WORDS: usize = 3 * 127;

/// What driver runs a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverInfo {
    /// Driver name.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// The device's firmware version.
    pub fw_version: String,
    /// Bus address.
    pub bus_info: String,
}

/// Duplex of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplex {
    /// One direction at a time.
    Half,
    /// Both directions.
    Full,
}

/// What kind of connector a port has (`PORT_*`).
pub const PORT_FIBRE: u8 = 3;

/// Speed and modes of a link.
#[derive(Clone, Debug, Default)]
pub struct LinkSettings {
    /// Megabits per second, if known.
    pub speed_mbps: Option<u32>,
    /// Duplex, if known.
    pub duplex: Option<Duplex>,
    /// Connector (`PORT_*`).
    pub port: u8,
    /// True if speed and duplex are negotiated.
    pub autoneg: bool,
    /// Bits `ETHTOOL_LINK_MODE_*` that the device can do.
    pub supported: Vec<u32>,
    /// Bits that it advertises.
    pub advertising: Vec<u32>,
    /// Bits that the other side advertises.
    pub peer: Vec<u32>,
}

impl LinkSettings {
    /// Tests bit `bit` of a link mode bitmap.
    pub fn mode(map: &[u32], bit: usize) -> bool {
        map.get(bit / 32)
            .is_some_and(|w| w & (1 << (bit % 32)) != 0)
    }
}

#[repr(C)]
struct DrvInfo {
    cmd: u32,
    driver: [libc::c_char; 32],
    version: [libc::c_char; 32],
    fw_version: [libc::c_char; 32],
    bus_info: [libc::c_char; 32],
    reserved: [libc::c_char; 32],
    reserved2: [libc::c_char; 12],
    n: [u32; 5],
}

#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

#[repr(C)]
struct LinkReq {
    cmd: u32,
    speed: u32,
    duplex: u8,
    port: u8,
    phy_address: u8,
    autoneg: u8,
    mdio: u8,
    eth_tp_mdix: u8,
    eth_tp_mdix_ctrl: u8,
    nwords: i8,
    transceiver: u8,
    rest: [u8; 3],
    reserved: [u32; 7],
    modes: [u32; LINK_MODE_WORDS],
}

/// Runs the request in `data`, a `repr(C)` struct that starts with the command number.
fn request<T>(name: &str, data: &mut T) -> io::Result<()> {
    let fd = control_socket()?;
    let mut ifr = ifreq(name)?;
    ifr.ifr_ifru.ifru_data = std::ptr::from_mut(data).cast();
    // SAFETY: `data` is a live, exclusively borrowed struct laid out as the kernel's struct of
    // the command it names, so the kernel stays within it.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &mut ifr) };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Driver name, versions and bus address of the device.
pub fn driver_info(name: &str) -> io::Result<DriverInfo> {
    let mut d = DrvInfo {
        cmd: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        fw_version: [0; 32],
        bus_info: [0; 32],
        reserved: [0; 32],
        reserved2: [0; 12],
        n: [0; 5],
    };
    request(name, &mut d)?;
    Ok(DriverInfo {
        driver: c_name(&d.driver),
        version: c_name(&d.version),
        fw_version: c_name(&d.fw_version),
        bus_info: c_name(&d.bus_info),
    })
}

/// Speed, duplex and link modes of the device.
pub fn link_settings(name: &str) -> io::Result<LinkSettings> {
    let new = |nwords| LinkReq {
        cmd: ETHTOOL_GLINKSETTINGS,
        speed: 0,
        duplex: 0,
        port: 0,
        phy_address: 0,
        autoneg: 0,
        mdio: 0,
        eth_tp_mdix: 0,
        eth_tp_mdix_ctrl: 0,
        nwords,
        transceiver: 0,
        rest: [0; 3],
        reserved: [0; 7],
        modes: [0; LINK_MODE_WORDS],
    };
    // The first call asks how many words the kernel's bitmaps have; it answers with the negative.
    let mut r = new(0);
    request(name, &mut r)?;
    if r.nwords >= 0 {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let n = -(r.nwords as i32) as usize;
    let mut r = new(n as i8);
    request(name, &mut r)?;
    let words = |i: usize| r.modes[i * n..(i + 1) * n].to_vec();
    Ok(LinkSettings {
        speed_mbps: (r.speed != 0 && r.speed <= i32::MAX as u32).then_some(r.speed),
        duplex: match r.duplex {
            0 => Some(Duplex::Half),
            1 => Some(Duplex::Full),
            _ => None,
        },
        port: r.port,
        autoneg: r.autoneg != 0,
        supported: words(0),
        advertising: words(1),
        peer: words(2),
    })
}

/// Turns off large receive offload, which merges frames in a way that cannot be undone. True if
/// it was on.
pub fn disable_lro(name: &str) -> io::Result<bool> {
    let mut v = Value {
        cmd: ETHTOOL_GFLAGS,
        data: 0,
    };
    request(name, &mut v)?;
    if v.data & ETH_FLAG_LRO == 0 {
        return Ok(false);
    }
    v.cmd = ETHTOOL_SFLAGS;
    v.data &= !ETH_FLAG_LRO;
    request(name, &mut v)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::{Tap, TapOptions};

    #[test]
    fn a_tap_names_its_driver_and_link() {
        crate::netns::unshare().unwrap();
        let _tap = Tap::open("t0", TapOptions::default()).unwrap();
        let d = driver_info("t0").unwrap();
        assert_eq!(
            (d.driver.as_str(), d.version.as_str(), d.bus_info.as_str()),
            ("tun", "1.6", "tap")
        );
        let l = link_settings("t0").unwrap();
        assert!(l.speed_mbps.is_some());
        assert_eq!(l.duplex, Some(Duplex::Full));
        assert!(!disable_lro("t0").unwrap());
    }
}
