//! Tunnel ports that listen: which packets to this host are to be decapsulated.
//!
//! A packet belongs to a tunnel if it is addressed, by Ethernet and IP, to a device of this host
//! that has an address, with a protocol and port number on which a tunnel listens. The map is
//! rebuilt on the main thread when tunnels, addresses or routes change; translation reads a
//! snapshot.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ferrovs_packet::flow::{Flow, FlowWildcards, NW_FRAG_MASK};
use ferrovs_packet::types::{Be32, DpPort, MacAddr, eth_type};
use ferrovs_runtime::Poller;
use ferrovs_runtime::unixctl::{Commands, Reply, Request};

/// A tunnel that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    name: String,
    dp_port: DpPort,
    nw_proto: u8,
    /// 0 for protocols without ports.
    tp_port: u16,
    refs: u32,
}

/// A device of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: String,
    mac: MacAddr,
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Map {
    listeners: Vec<Listener>,
    devices: Vec<Device>,
    /// Devices by name and by Ethernet address, as places in `devices`.
    by_name: HashMap<String, usize>,
    by_mac: HashMap<MacAddr, Vec<usize>>,
}

#[derive(Debug, Default)]
struct State {
    /// How far the changes of devices, of this crate's tables and of the kernel's links were followed.
    seen: Option<(u64, u64, u64)>,
}

static MAP: LazyLock<ArcSwap<Map>> = LazyLock::new(Default::default);
static STATE: Mutex<State> = Mutex::new(State { seen: None });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(f: impl FnOnce(&mut Map)) {
    let _serial = state();
    let mut map = Map::clone(&MAP.load());
    f(&mut map);
    MAP.store(Arc::new(map));
    crate::change_seq().change();
}

/// A tunnel listens: datapath port `dp_port`, called `name`. Counted, as bridges share it.
pub fn insert(dp_port: DpPort, nw_proto: u8, tp_port: u16, name: &str) {
    change(|m| {
        let same =
            |l: &&mut Listener| (l.dp_port, l.nw_proto, l.tp_port) == (dp_port, nw_proto, tp_port);
        match m.listeners.iter_mut().find(same) {
            Some(l) => l.refs += 1,
            None => m.listeners.push(Listener {
                name: name.to_owned(),
                dp_port,
                nw_proto,
                tp_port,
                refs: 1,
            }),
        }
    });
}

/// Undoes one [`insert`].
pub fn remove(dp_port: DpPort, nw_proto: u8, tp_port: u16) {
    change(|m| {
        for l in &mut m.listeners {
            if (l.dp_port, l.nw_proto, l.tp_port) == (dp_port, nw_proto, tp_port) {
                l.refs -= 1;
            }
        }
        m.listeners.retain(|l| l.refs > 0);
    });
}

impl Map {
    fn set_devices(&mut self, devices: Vec<Device>) {
        self.by_name = devices
            .iter()
            .enumerate()
            .map(|(i, d)| (d.name.clone(), i))
            .collect();
        self.by_mac.clear();
        for (i, d) in devices.iter().enumerate() {
            self.by_mac.entry(d.mac).or_default().push(i);
        }
        self.devices = devices;
    }

    fn lookup(&self, flow: &Flow, wc: &mut FlowWildcards) -> Option<DpPort> {
        if self.listeners.is_empty() {
            return None;
        }
        let dst: IpAddr = match flow.dl_type.get() {
            eth_type::IP => flow.nw_dst.get().to_be_bytes().into(),
            eth_type::IPV6 => flow.ipv6_dst.into(),
            _ => return None,
        };
        // Only what was needed to decide becomes significant.
        let m = &mut wc.masks;
        m.dl_dst = MacAddr::BROADCAST;
        let ours = self.by_mac.get(&flow.dl_dst)?;
        if dst.is_ipv4() {
            m.nw_dst = Be32::new(!0);
        } else {
            m.ipv6_dst = [0xff; 16];
        }
        if !ours
            .iter()
            .any(|i| self.devices[*i].addresses.contains(&dst))
        {
            return None;
        }
        m.nw_proto = 0xff;
        m.nw_frag = NW_FRAG_MASK;
        let mut listening = self
            .listeners
            .iter()
            .filter(|l| l.nw_proto == flow.nw_proto)
            .peekable();
        if flow.nw_frag != 0 {
            return None;
        }
        listening.peek()?;
        if listening.peek().is_some_and(|l| l.tp_port != 0) {
            m.tp_dst = (!0u16).into();
        }
        listening
            .find(|l| l.tp_port == 0 || l.tp_port == flow.tp_dst.get())
            .map(|l| l.dp_port)
    }

    fn summary(&self) -> String {
        let mut out = String::from("Listening ports:\n");
        for l in &self.listeners {
            let _ = writeln!(out, "{} ({}) ref_cnt={}", l.name, l.dp_port.0, l.refs);
        }
        out
    }

    fn matches(&self) -> String {
        let mut lines = Vec::new();
        for (i, l) in self.listeners.iter().enumerate() {
            // Of two that listen to the same, the first gets it.
            let same = |o: &Listener| (o.nw_proto, o.tp_port) == (l.nw_proto, l.tp_port);
            if self.listeners[..i].iter().any(same) {
                continue;
            }
            let addresses = |d: &Device| d.addresses.clone().into_iter();
            for (d, a) in self
                .devices
                .iter()
                .flat_map(|d| addresses(d).map(move |a| (d, a)))
            {
                let (ty, ip) = if a.is_ipv4() {
                    (0x0800, "ipv4")
                } else {
                    (0x86dd, "ipv6")
                };
                let mut line = format!(
                    "{} ({}) : eth(dst={}),eth_type(0x{ty:04x}),{ip}(dst={a},proto={},frag=no)",
                    l.name, l.dp_port.0, d.mac, l.nw_proto
                );
                if l.tp_port != 0 {
                    let proto = if l.nw_proto == 6 { "tcp" } else { "udp" };
                    let _ = write!(line, ",{proto}(dst={})", l.tp_port);
                }
                lines.push(line + "\n");
            }
        }
        lines.sort();
        format!("Listening ports:\n{}", lines.concat())
    }
}

/// The tunnel that a packet which is about to reach the host belongs to. Makes the bits that
/// decided matter in `wc`.
pub fn lookup(flow: &Flow, wc: &mut FlowWildcards) -> Option<DpPort> {
    MAP.load().lookup(flow, wc)
}

/// Follows the addresses of the devices that routes lead through.
pub(crate) fn run() {
    let links = crate::router::links_version();
    let now = (
        ferrovs_netdev::change_seq().read(),
        crate::change_seq().read(),
        links,
    );
    if state().seen == Some(now) {
        return;
    }
    let devices = find_devices();
    if devices != MAP.load().devices {
        change(|m| m.set_devices(devices));
    }
    state().seen = Some((now.0, crate::change_seq().read(), links));
}

fn find_devices() -> Vec<Device> {
    let mut by_name: BTreeMap<String, Device> = BTreeMap::new();
    let mut add = |name: &str, mac: MacAddr, addresses: Vec<IpAddr>| {
        if !mac.is_zero() && !addresses.is_empty() {
            by_name.insert(
                name.to_owned(),
                Device {
                    name: name.to_owned(),
                    mac,
                    addresses,
                },
            );
        }
    };
    for name in crate::router::devices() {
        // Devices without a link in the kernel (the dummy ones) answer for themselves.
        let own = |d: &Arc<dyn ferrovs_netdev::Netdev>| {
            d.ifindex().is_none() || d.kind().starts_with("dummy")
        };
        if let Some(d) = ferrovs_netdev::lookup(&name).filter(own) {
            let addresses = d.addresses().unwrap_or_default();
            let addresses = addresses.into_iter().map(|(a, _)| a).collect();
            add(&name, d.etheraddr().unwrap_or_default(), addresses);
        } else if let Some((mac, addresses)) = crate::router::link(&name) {
            add(&name, mac, addresses);
        }
    }
    by_name.into_values().collect()
}

/// Whether the device of that name has an address: only what leaves by such a one can be for us.
pub fn is_local_device(name: &str) -> bool {
    MAP.load().by_name.contains_key(name)
}

/// Whether the address is one of this host's.
pub fn is_local_address(addr: IpAddr) -> bool {
    MAP.load()
        .devices
        .iter()
        .any(|d| d.addresses.contains(&addr))
}

pub(crate) fn wait(poller: &mut Poller) {
    let seen = state().seen;
    match seen {
        Some((netdev, own, _)) => {
            poller.wait_seq(ferrovs_netdev::change_seq(), netdev);
            poller.wait_seq(crate::change_seq(), own);
        }
        None => poller.wake_now(),
    }
}

pub(crate) fn register<S: 'static>(c: &mut Commands<S>) {
    c.register("tnl/ports/show", "-v", 0, 1, |_, r: &Request| -> Reply {
        run();
        let map = MAP.load();
        Ok(if r.arg(1).is_some() {
            map.matches()
        } else {
            map.summary()
        }
        .into())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map {
        let mut map = Map {
            listeners: vec![Listener {
                name: "vxlan_sys_4789".into(),
                dp_port: DpPort(5),
                nw_proto: 17,
                tp_port: 4789,
                refs: 2,
            }],
            ..Map::default()
        };
        map.set_devices(vec![Device {
            name: "br0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            addresses: vec!["172.31.1.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        }]);
        map
    }

    #[test]
    fn what_does_not_decide_stays_wildcarded() {
        let m = map();
        let mut f = Flow {
            dl_type: eth_type::IP.into(),
            nw_proto: 17,
            ..Flow::default()
        };
        f.dl_dst = MacAddr([2, 0, 0, 0, 0, 9]);
        f.nw_dst = 0xac1f_0101.into();
        f.tp_dst = 4789.into();
        let mut wc = FlowWildcards::default();
        assert_eq!(m.lookup(&f, &mut wc), None);
        assert_eq!(wc.masks.nw_dst.get(), 0);
        f.dl_dst = MacAddr([2, 0, 0, 0, 0, 1]);
        f.nw_proto = 6;
        assert_eq!(m.lookup(&f, &mut wc), None);
        assert_eq!(
            (
                wc.masks.nw_dst.get(),
                wc.masks.nw_proto,
                wc.masks.tp_dst.get()
            ),
            (!0, 0xff, 0)
        );
        f.nw_proto = 17;
        assert_eq!(m.lookup(&f, &mut wc), Some(DpPort(5)));
        assert_eq!(wc.masks.tp_dst.get(), 0xffff);
        f.nw_frag = 1;
        assert_eq!(m.lookup(&f, &mut wc), None);
    }

    #[test]
    fn listeners_are_shown_as_open_vswitch_shows_them() {
        let m = map();
        assert_eq!(
            m.summary(),
            "Listening ports:\nvxlan_sys_4789 (5) ref_cnt=2\n"
        );
        assert_eq!(
            m.matches(),
            "Listening ports:\n\
             vxlan_sys_4789 (5) : eth(dst=02:00:00:00:00:01),eth_type(0x0800),ipv4(dst=172.31.1.1,proto=17,frag=no),udp(dst=4789)\n\
             vxlan_sys_4789 (5) : eth(dst=02:00:00:00:00:01),eth_type(0x86dd),ipv6(dst=fd00::1,proto=17,frag=no),udp(dst=4789)\n"
        );
    }
}
