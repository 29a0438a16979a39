//! Ports of a bridge: their numbers, their place in the datapath, what is told of them.
//!
//! Numbers: a port gets the number that it asks for if that is free; otherwise the next one after the number
//! that was given last, so that a number is not used again soon after its port went. The port named as the
//! bridge is always `LOCAL`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ferrovs_datapath::dpif::{Detach, Errno, PortChanges};
use ferrovs_netdev::{Flags, Netdev};
use ferrovs_openflow::OfpErr;
use ferrovs_openflow::port::{
    CustomStat, PortConfig, PortDesc, PortFeatures, PortMod, PortReason, PortState, PortStats,
    PortStatus,
};
use ferrovs_packet::types::{DpPort, OfPort};
use ferrovs_runtime::{clock, coverage};

use super::{MAX_PORTS, Ofproto, PortEvent};
use crate::monitor::PortMachines;
use crate::time::sec_nsec;
use crate::xlate::snapshot::{BundleId, PortCounters};

/// A number is free for others when its port has been gone for so long, unless there is no other.
const NUMBER_REST: Duration = Duration::from_secs(3600);

/// Why a port could not be added or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("{0}")]
    Os(Errno),
    /// Every number is taken.
    #[error("Too many open files")]
    NoNumber,
    #[error("File exists")]
    Exists,
    #[error("No such device")]
    NoSuchPort,
}

impl From<Errno> for PortError {
    fn from(e: Errno) -> PortError {
        PortError::Os(e)
    }
}

pub struct Port {
    pub ofport: OfPort,
    pub netdev: Arc<dyn Netdev>,
    /// [`DpPort::NONE`] for a patch port.
    pub dp_port: DpPort,
    /// The name of the shared datapath port, for a tunnel.
    pub tunnel_port: Option<String>,
    pub config: PortConfig,
    pub desc: PortDesc,
    pub bundle: Option<BundleId>,
    pub counters: Arc<PortCounters>,
    /// Protocols that the switch itself speaks on the port.
    pub machines: Option<Arc<PortMachines>>,
    pub created: Instant,
    /// Whether the user chose the MTU, so that the bridge leaves it alone.
    pub mtu_is_set: bool,
    change_seq: u64,
}

impl Port {
    pub fn name(&self) -> &str {
        self.netdev.name()
    }

    /// Whether packets may go out: it has carrier and is not down.
    pub fn may_enable(&self) -> bool {
        !self.desc.state.contains(PortState::LINK_DOWN) && !self.config.contains(PortConfig::DOWN)
    }

    pub fn is_internal(&self) -> bool {
        matches!(self.netdev.kind(), "internal" | "tap" | "dummy-internal")
    }

    /// Whether internal ports may carry no more than this one can.
    fn limits_mtu(&self) -> bool {
        !self.is_internal() && self.dp_port != DpPort::NONE && self.tunnel_port.is_none()
    }

    /// Hands what translation counted to the device that has no counters of its own.
    pub fn sync_counters(&self) {
        let c = &self.counters;
        let rx = (c.rx_packets.swap(0, Relaxed), c.rx_bytes.swap(0, Relaxed));
        let tx = (c.tx_packets.swap(0, Relaxed), c.tx_bytes.swap(0, Relaxed));
        if rx != (0, 0) || tx != (0, 0) {
            self.netdev.class().account(rx, tx);
        }
    }

    pub fn stats(&self, now: Instant) -> PortStats {
        self.sync_counters();
        coverage::NETDEV_GET_STATS.inc();
        let s = self.netdev.stats().unwrap_or_default();
        let n = |value: Option<u64>| value.unwrap_or(u64::MAX);
        let age = now.saturating_duration_since(self.created).as_millis() as i64;
        let (duration_sec, duration_nsec) = sec_nsec(age);
        PortStats {
            port_no: self.ofport,
            duration_sec,
            duration_nsec,
            rx_packets: n(s.rx_packets),
            tx_packets: n(s.tx_packets),
            rx_bytes: n(s.rx_bytes),
            tx_bytes: n(s.tx_bytes),
            rx_dropped: n(s.rx_dropped),
            tx_dropped: n(s.tx_dropped),
            rx_errors: n(s.rx_errors),
            tx_errors: n(s.tx_errors),
            rx_frame_err: n(s.rx_frame_errors),
            rx_over_err: n(s.rx_over_errors),
            rx_crc_err: n(s.rx_crc_errors),
            collisions: n(s.collisions),
            rfc2819: Vec::new(),
            custom: s
                .custom
                .into_iter()
                .map(|(name, value)| CustomStat { name, value })
                .collect(),
        }
    }
}

/// What OpenFlow is told of a device.
fn describe(ofport: OfPort, netdev: &dyn Netdev, config: PortConfig) -> PortDesc {
    let features = netdev.features().unwrap_or_default();
    let kbps = |mbps: u32| mbps.saturating_mul(1000);
    let mut state = PortState::empty();
    if !netdev.carrier() || config.contains(PortConfig::DOWN) {
        state |= PortState::LINK_DOWN;
    } else {
        state |= PortState::LIVE;
    }
    PortDesc {
        port_no: ofport,
        hw_addr: netdev.etheraddr().unwrap_or_default(),
        hw_addr64: [0; 8],
        name: netdev.name().to_string(),
        config,
        state,
        curr: PortFeatures::from_bits_truncate(features.current),
        advertised: PortFeatures::from_bits_truncate(features.advertised),
        supported: PortFeatures::from_bits_truncate(features.supported),
        peer: PortFeatures::from_bits_truncate(features.peer),
        curr_speed: kbps(features.speed_current),
        max_speed: kbps(features.speed_max),
    }
}

/// The description of a port that was just added: nobody has seen it live.
fn fresh(mut desc: PortDesc) -> PortDesc {
    desc.state.remove(PortState::LIVE);
    desc
}

/// The administrative state of the device, as OpenFlow tells it.
fn down_bit(netdev: &dyn Netdev) -> PortConfig {
    match netdev.flags() {
        Ok(flags) if !flags.contains(Flags::UP) => PortConfig::DOWN,
        _ => PortConfig::empty(),
    }
}

impl Ofproto {
    /// Adds a device as a port. `wanted` is the number that it asks for.
    pub fn add_port(
        &mut self,
        netdev: Arc<dyn Netdev>,
        wanted: Option<OfPort>,
    ) -> Result<OfPort, PortError> {
        if self.port_names.contains_key(netdev.name()) {
            return Err(PortError::Exists);
        }
        let now = clock::now();
        let last_port = self.last_port;
        let ofport = if netdev.name() == self.name {
            OfPort::LOCAL
        } else {
            self.choose_number(wanted, now).ok_or(PortError::NoNumber)?
        };
        let (dp_port, tunnel_port) = self.backer.attach(&netdev).inspect_err(|_| {
            // The number was not used.
            self.last_port = last_port;
        })?;
        let config = down_bit(&*netdev);
        let port = Port {
            ofport,
            dp_port,
            tunnel_port,
            config,
            desc: fresh(describe(ofport, &*netdev, config)),
            bundle: None,
            counters: Arc::default(),
            machines: None,
            created: now,
            mtu_is_set: false,
            // Looked at in the next run, which finds the port live.
            change_seq: netdev.change_seq().wrapping_sub(1),
            netdev,
        };
        self.new_ports.push(ofport);
        self.port_freed.remove(&ofport);
        self.port_names.insert(port.name().to_string(), ofport);
        self.ports.insert(ofport, port);
        self.notice_port(PortReason::Add, ofport, None);
        self.mtus.changed(ofport);
        self.port_changed(ofport);
        coverage::OFPROTO_UPDATE_PORT.inc();
        Ok(ofport)
    }

    fn choose_number(&mut self, wanted: Option<OfPort>, now: Instant) -> Option<OfPort> {
        if let Some(wanted) = wanted.filter(|w| w.0 > 0 && w.0 < MAX_PORTS)
            && !self.ports.contains_key(&wanted)
        {
            return Some(wanted);
        }
        let mut longest_free: Option<(Instant, OfPort)> = None;
        let mut n = self.last_port;
        for _ in 1..MAX_PORTS {
            n = if n + 1 >= MAX_PORTS { 1 } else { n + 1 };
            let port = OfPort(n);
            if self.ports.contains_key(&port) {
                continue;
            }
            match self.port_freed.get(&port) {
                Some(&at) if now.saturating_duration_since(at) < NUMBER_REST => {
                    if longest_free.is_none_or(|(best, _)| at < best) {
                        longest_free = Some((at, port));
                    }
                }
                _ => {
                    self.last_port = n;
                    return Some(port);
                }
            }
        }
        let (_, port) = longest_free?;
        self.last_port = port.0;
        Some(port)
    }

    /// Removes a port, also from the datapath.
    pub fn remove_port(&mut self, ofport: OfPort) -> Result<(), PortError> {
        self.let_go(ofport, Detach::Delete)
    }

    /// Removes a port from the bridge, and from the datapath unless it shall stay there.
    pub(super) fn let_go(&mut self, ofport: OfPort, detach: Detach) -> Result<(), PortError> {
        let port = self.ports.remove(&ofport).ok_or(PortError::NoSuchPort)?;
        self.port_names.remove(port.name());
        self.port_freed.insert(ofport, clock::now());
        if let Some(id) = port.bundle {
            self.bundle_drop_port(id, ofport);
        }
        let status = PortStatus {
            reason: PortReason::Delete,
            desc: port.desc.clone(),
        };
        self.port_events.push(PortEvent { status, old: None });
        self.mtus.changed(ofport);
        self.port_changed(ofport);
        coverage::OFPROTO_UPDATE_PORT.inc();
        Ok(self
            .backer
            .detach(port.dp_port, port.tunnel_port.as_deref(), detach)?)
    }

    /// Forgets ports that the datapath has lost, and learns the numbers of those that got others.
    pub(crate) fn follow_datapath(&mut self, changes: &PortChanges) {
        let changed: Vec<OfPort> = match changes {
            PortChanges::Any => self.ports.keys().copied().collect(),
            PortChanges::Named(names) => {
                let own = names.iter().filter_map(|name| self.port_names.get(&**name));
                // Several tunnels may share a port of the datapath, which few names are.
                let shared = names.iter().filter(|name| self.backer.is_shared(name));
                let sharing = shared.flat_map(|name| {
                    let ports = self.ports.values();
                    ports.filter(|p| p.tunnel_port.as_deref() == Some(name))
                });
                own.copied().chain(sharing.map(|p| p.ofport)).collect()
            }
        };
        let (mut lost, mut moved) = (Vec::new(), Vec::new());
        for ofport in changed {
            let Some(port) = self.ports.get_mut(&ofport) else {
                continue;
            };
            if port.dp_port == DpPort::NONE {
                continue;
            }
            let name = port.tunnel_port.as_deref().unwrap_or(port.netdev.name());
            match self.backer.dpif.port_by_name(name) {
                Ok(info) if info.port == port.dp_port => {}
                Ok(info) => {
                    port.dp_port = info.port;
                    moved.push(ofport);
                }
                Err(_) => lost.push(port.ofport),
            }
        }
        moved.into_iter().for_each(|p| self.port_changed(p));
        for ofport in lost {
            // The datapath's part is done.
            let _ = self.remove_port(ofport);
        }
    }

    pub fn port_by_name(&self, name: &str) -> Option<&Port> {
        self.ports.get(self.port_names.get(name)?)
    }

    /// Notes what changed about devices.
    pub(super) fn run_ports(&mut self) {
        // Whatever changes from now on is noticed the next time.
        let seq = ferrovs_netdev::change_seq().read();
        let same = std::mem::replace(&mut self.devices_seq, seq) == seq;
        if same && self.new_ports.is_empty() {
            return;
        }
        let new = std::mem::take(&mut self.new_ports);
        let ports: BTreeSet<OfPort> = match self.devices.take() {
            Some(names) => {
                let known = names.iter().filter_map(|name| self.port_names.get(name));
                known.copied().chain(new).collect()
            }
            None => self.ports.keys().copied().collect(),
        };
        let (mut looked_at, mut changed) = (Vec::new(), Vec::new());
        let mut tunnels_moved = Vec::new();
        for ofport in ports {
            let Some(port) = self.ports.get_mut(&ofport) else {
                continue;
            };
            let seq = port.netdev.change_seq();
            if seq == port.change_seq {
                continue;
            }
            port.change_seq = seq;
            // A tunnel may now belong to another port of the datapath.
            let dp_name = ferrovs_netdev::dpif_port_name(&*port.netdev);
            if port.tunnel_port.as_ref().is_some_and(|t| *t != dp_name) {
                tunnels_moved.push(port.ofport);
            }
            port.config = (port.config - PortConfig::DOWN) | down_bit(&*port.netdev);
            let desc = describe(port.ofport, &*port.netdev, port.config);
            if let Some(machines) = &port.machines {
                machines.set_mac(desc.hw_addr);
            }
            if desc != port.desc {
                changed.push((port.ofport, std::mem::replace(&mut port.desc, desc)));
            }
            looked_at.push(port.ofport);
        }
        self.toggled |= !self.dirty && !looked_at.is_empty();
        for ofport in looked_at {
            // It may send longer or shorter packets now.
            self.mtus.changed(ofport);
            self.port_changed(ofport);
            coverage::OFPROTO_UPDATE_PORT.inc();
        }
        for ofport in tunnels_moved {
            let Some(port) = self.ports.get_mut(&ofport) else {
                continue;
            };
            let (dp_port, tunnel) = (port.dp_port, port.tunnel_port.as_deref());
            let _ = self.backer.detach(dp_port, tunnel, Detach::Delete);
            match self.backer.attach(&port.netdev) {
                Ok((dp_port, tunnel)) => (port.dp_port, port.tunnel_port) = (dp_port, tunnel),
                Err(_) => (port.dp_port, port.tunnel_port) = (DpPort::NONE, None),
            }
            self.port_changed(ofport);
        }
        for (ofport, old) in changed {
            // That a port is live no more is told before why.
            let mut dead = old.clone();
            if self
                .ports
                .get(&ofport)
                .is_some_and(|p| !p.desc.state.contains(PortState::LIVE))
            {
                dead.state.remove(PortState::LIVE);
            }
            self.notice_steps(ofport, old, dead);
        }
    }

    /// Internal ports carry what the others can: their MTU is the smallest of the others', unless it was chosen.
    /// Looks at them once for all changes since the last time.
    pub(crate) fn update_mtus(&mut self) {
        let changed = self.mtus.take_changed();
        if changed.is_empty() {
            return;
        }
        let before = self.mtus.least();
        for &ofport in &changed {
            let port = self.ports.get(&ofport).filter(|p| p.limits_mtu());
            // A guest that is not there yet has none.
            let mtu = port
                .and_then(|p| p.netdev.mtu().ok())
                .filter(|mtu| *mtu > 0);
            self.mtus.set(ofport, mtu);
        }
        let least = self.mtus.least();
        // The device keeps what it had if it cannot do that.
        let set = |port: &Port| {
            let follows = port.is_internal() && !port.mtu_is_set;
            if follows && port.netdev.mtu().is_ok_and(|mtu| mtu != least) {
                let _ = port.netdev.set_mtu(least);
            }
        };
        match before == least {
            true => changed
                .iter()
                .filter_map(|p| self.ports.get(p))
                .for_each(set),
            false => self.ports.values().for_each(set),
        }
    }

    /// Tells whether the user chose the port's MTU.
    pub fn set_mtu_is_set(&mut self, ofport: OfPort, is_set: bool) {
        if let Some(port) = self.ports.get_mut(&ofport)
            && port.mtu_is_set != is_set
        {
            port.mtu_is_set = is_set;
            self.mtus.changed(ofport);
        }
    }

    /// Applies a port mod.
    pub fn port_mod(&mut self, m: &PortMod) -> Result<(), OfpErr> {
        let port = self
            .ports
            .get_mut(&m.port_no)
            .ok_or(OfpErr::OFPPMFC_BAD_PORT)?;
        if !m.hw_addr.is_zero() && m.hw_addr != port.desc.hw_addr {
            return Err(OfpErr::OFPPMFC_BAD_HW_ADDR);
        }
        let toggled = (port.config ^ m.config) & m.mask;
        if toggled.contains(PortConfig::DOWN) {
            let (off, on) = if m.config.contains(PortConfig::DOWN) {
                (Flags::UP, Flags::empty())
            } else {
                (Flags::empty(), Flags::UP)
            };
            // A device that cannot be turned up or down stays as it is, and is told of so.
            let _ = port.netdev.update_flags(off, on);
        }
        let settable = PortConfig::NO_STP
            | PortConfig::NO_RECV
            | PortConfig::NO_RECV_STP
            | PortConfig::NO_FLOOD
            | PortConfig::NO_FWD
            | PortConfig::NO_PACKET_IN;
        port.config ^= toggled & settable;
        port.config = (port.config - PortConfig::DOWN) | down_bit(&*port.netdev);
        let desc = describe(port.ofport, &*port.netdev, port.config);
        let changed = desc != port.desc;
        let old = std::mem::replace(&mut port.desc, desc);
        port.change_seq = port.netdev.change_seq();
        let ofport = port.ofport;
        if changed {
            // The configuration changes at once, the device follows.
            let mut asked = PortDesc {
                config: port.desc.config,
                ..old.clone()
            };
            if asked.config.contains(PortConfig::DOWN) {
                asked.state.remove(PortState::LIVE);
            }
            self.notice_steps(ofport, old, asked);
            self.toggled |= !self.dirty;
            self.port_changed(ofport);
            coverage::OFPROTO_UPDATE_PORT.inc();
        }
        Ok(())
    }

    /// Tells controllers that a port went from `old` over `middle` to what it is now.
    fn notice_steps(&mut self, ofport: OfPort, old: PortDesc, middle: PortDesc) {
        if middle != old {
            let status = PortStatus {
                reason: PortReason::Modify,
                desc: middle.clone(),
            };
            let old = Some(old);
            self.port_events.push(PortEvent { status, old });
        }
        if self.ports.get(&ofport).is_some_and(|p| p.desc != middle) {
            self.notice_port(PortReason::Modify, ofport, Some(middle));
        }
    }
}
