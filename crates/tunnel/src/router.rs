//! The routing table: through which device, by which gateway and from which address a tunnel
//! remote is reached.
//!
//! Routes are of two kinds: "Cached" ones mirror the kernel (unless [`disable_system`]), "User"
//! ones are added by `ovs/route/add` and go before cached ones of the same length. Addresses of
//! both families live in one 128-bit space, IPv4 as ::ffff:a.b.c.d.
//!
//! Lookups read, under a short lock, one hash table for each priority, from masked destination to
//! route. The main thread changes those entries for which the routes changed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::{Interest, Poller, is_quiet};
use ferrovs_sys::rtnetlink::{Groups, Monitor};

mod commands;
mod kernel;

use kernel::{Kernel, Unclear};

pub use commands::register;

/// Where a packet to some destination goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Name of the device: usually a bridge's local port.
    pub dev: String,
    /// Next hop, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address to use.
    pub src: IpAddr,
}

/// A network: its address, masked, and the length of the prefix.
type Network = (u128, u8);

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Destination network, masked.
    dst: u128,
    plen: u8,
    mark: u32,
    table: u32,
    user: bool,
    local: bool,
    metric: u32,
    hop: Hop,
}

/// Whether lookups use the routes of a table.
fn is_used(table: u32) -> bool {
    matches!(table, RT_TABLE_MAIN | RT_TABLE_LOCAL | RT_TABLE_DEFAULT)
}

/// Tables of the kernel.
const RT_TABLE_DEFAULT: u32 = 253;
const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;

fn to_bits(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn from_bits(bits: u128) -> IpAddr {
    let a = Ipv6Addr::from_bits(bits);
    a.to_ipv4_mapped().map_or(IpAddr::V6(a), IpAddr::V4)
}

/// A prefix length in the common space.
fn common_len(a: IpAddr, plen: u8) -> u8 {
    if a.is_ipv4() {
        plen.min(32) + 96
    } else {
        plen.min(128)
    }
}

fn mask(bits: u128, plen: u8) -> u128 {
    if plen == 0 {
        0
    } else {
        bits & (u128::MAX << (128 - u32::from(plen)))
    }
}

impl Route {
    /// Longer prefixes go first; the host's own addresses and the user's routes have a head start.
    fn priority(&self) -> u16 {
        let bonus = if self.local {
            64
        } else if self.user {
            32
        } else {
            0
        };
        u16::from(self.plen) + bonus
    }
}

/// The routing table.
#[derive(Debug, Default, PartialEq)]
struct Table {
    /// By falling priority; within one, a network and a mark lead to one route.
    groups: Vec<Group>,
    /// How many routes lead through each device.
    devices: BTreeMap<String, usize>,
}

#[derive(Debug, PartialEq)]
struct Group {
    priority: u16,
    plen: u8,
    routes: HashMap<(u128, u32), Route>,
}

impl Table {
    const fn new() -> Table {
        Table {
            groups: Vec::new(),
            devices: BTreeMap::new(),
        }
    }

    /// Adds routes. Of several for one entry that with the smallest metric counts, of equal ones the latest.
    fn extend(&mut self, routes: impl Iterator<Item = Route>) {
        for r in routes.filter(|r| is_used(r.table)) {
            let of = (r.priority(), r.plen);
            let place = self
                .groups
                .binary_search_by(|g| of.cmp(&(g.priority, g.plen)));
            let place = place.unwrap_or_else(|place| {
                let group = Group {
                    priority: of.0,
                    plen: of.1,
                    routes: HashMap::new(),
                };
                self.groups.insert(place, group);
                place
            });
            let routes = &mut self.groups[place].routes;
            let entry = (r.dst, r.mark);
            if routes.get(&entry).is_none_or(|old| r.metric <= old.metric) {
                *self.devices.entry(r.hop.dev.clone()).or_default() += 1;
                if let Some(old) = routes.insert(entry, r) {
                    self.leave(&old.hop.dev);
                }
            }
        }
    }

    /// What there is for a network and a mark: at most one for each priority.
    fn at(&self, (dst, plen): Network, mark: u32) -> Vec<Route> {
        let groups = self.groups.iter().filter(|g| g.plen == plen);
        let routes = groups.filter_map(|g| g.routes.get(&(dst, mark)));
        routes.cloned().collect()
    }

    /// Replaces that by the best of `routes`. True if it is another now.
    fn replace(
        &mut self,
        network: Network,
        mark: u32,
        routes: impl Iterator<Item = Route>,
    ) -> bool {
        let old = self.at(network, mark);
        for g in self.groups.iter_mut().filter(|g| g.plen == network.1) {
            g.routes.remove(&(network.0, mark));
        }
        old.iter().for_each(|r| self.leave(&r.hop.dev));
        self.extend(routes);
        self.groups.retain(|g| !g.routes.is_empty());
        old != self.at(network, mark)
    }

    /// One route less leads through a device.
    fn leave(&mut self, dev: &str) {
        if let Some(n) = self.devices.get_mut(dev) {
            *n -= 1;
            if *n == 0 {
                self.devices.remove(dev);
            }
        }
    }

    fn find(&self, mark: u32, dst: u128) -> Option<&Route> {
        self.groups
            .iter()
            .find_map(|g| g.routes.get(&(mask(dst, g.plen), mark)))
    }

    fn lookup(&self, mark: u32, dst: IpAddr, src: Option<IpAddr>) -> Option<Hop> {
        if let Some(src) = src {
            // A source address must be one of ours.
            self.find(mark, to_bits(src)).filter(|r| r.local)?;
        }
        let mut hop = self.find(mark, to_bits(dst))?.hop.clone();
        if let Some(src) = src {
            hop.src = src;
        }
        Some(hop)
    }
}

/// Everything that only the main thread touches.
#[derive(Debug, Default)]
struct State {
    user: Vec<Route>,
    /// The networks of dummy devices.
    connected: Vec<Route>,
    kernel: Kernel,
    monitor: Option<Monitor>,
    started: bool,
}

static TABLE: RwLock<Table> = RwLock::new(Table::new());
static STATE: Mutex<Option<State>> = Mutex::new(None);
static SYSTEM: AtomicBool = AtomicBool::new(true);

fn state<T>(f: impl FnOnce(&mut State) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<State>> =
        STATE.lock().unwrap_or_else(PoisonError::into_inner);
    f(guard.get_or_insert_with(State::default))
}

fn table() -> RwLockReadGuard<'static, Table> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// All routes: those that were given, then those of the kernel.
    fn routes(&self) -> impl Iterator<Item = Route> {
        let given = self.user.iter().chain(&self.connected).cloned();
        given.chain(self.kernel.routes())
    }

    /// Brings the table up to date with all routes.
    fn publish(&self) {
        let mut new = Table::new();
        new.extend(self.routes());
        change_table(|table| std::mem::replace(table, new) != *table);
    }

    /// Brings the table up to date with the routes to some networks with some marks.
    fn publish_some(&self, changed: impl IntoIterator<Item = (Network, u32)>) {
        change_table(|table| {
            let mut differs = false;
            for (network, mark) in changed {
                let given = self.user.iter().chain(&self.connected).cloned();
                let kernel = self.kernel.to(network);
                let all = given.chain(kernel);
                let routes = all.filter(|r| ((r.dst, r.plen), r.mark) == (network, mark));
                differs |= table.replace(network, mark, routes);
            }
            differs
        });
    }
}

/// Changes the table; `f` says whether anything is different now.
fn change_table(f: impl FnOnce(&mut Table) -> bool) {
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let differs = f(&mut table);
    drop(table);
    if differs {
        crate::change_seq().change();
        // The device that a tunnel leaves by may be another now.
        ferrovs_netdev::tunnels_changed();
    }
}

/// Leaves the kernel's routes alone (`--disable-system-route`).
pub fn disable_system() {
    SYSTEM.store(false, Ordering::Relaxed);
}

/// The way to `dst` for packets with mark `mark` (routes of other marks do not count), from `src`
/// if that is given and ours.
pub fn lookup(mark: u32, dst: IpAddr, src: Option<IpAddr>) -> Option<Hop> {
    table().lookup(mark, dst, src)
}

/// Names of the devices that routes lead through.
pub fn devices() -> Vec<String> {
    table().devices.keys().cloned().collect()
}

/// The Ethernet address and the IP addresses of a device of the kernel.
pub(crate) fn link(name: &str) -> Option<(MacAddr, Vec<IpAddr>)> {
    state(|s| {
        let (mac, addresses) = s.kernel.link(name)?;
        Some((mac, addresses.iter().map(|a| a.0).collect()))
    })
}

/// Changes whenever [`link`] may say something else.
pub(crate) fn links_version() -> u64 {
    state(|s| s.kernel.version)
}

/// The address of the device, among `addresses`, whose network `target` is in.
fn source_for(target: IpAddr, addresses: &[(IpAddr, u8)]) -> Option<IpAddr> {
    addresses
        .iter()
        .filter(|(a, _)| a.is_ipv4() == target.is_ipv4())
        .filter(|(a, len)| {
            let len = common_len(*a, *len);
            mask(to_bits(*a), len) == mask(to_bits(target), len)
        })
        .max_by_key(|(_, len)| *len)
        .map(|(a, _)| *a)
}

/// Adds a route of the user. False if the device has no address for it.
pub(crate) fn add(
    (dst, plen): (IpAddr, u8),
    dev: &str,
    gateway: Option<IpAddr>,
    mark: u32,
    src: Option<IpAddr>,
    table: u32,
) -> bool {
    let netdev = ferrovs_netdev::lookup(dev).map_or_else(|| ferrovs_netdev::open(dev, ""), Ok);
    let Ok(addresses) = netdev.and_then(|n| n.addresses()) else {
        return false;
    };
    let target = gateway.unwrap_or(dst);
    let found = match src {
        // An address of the device, from whose network the next hop is.
        Some(src) => addresses
            .iter()
            .find(|own| own.0 == src && source_for(target, std::slice::from_ref(own)).is_some())
            .map(|(a, _)| *a),
        None => source_for(target, &addresses),
    };
    let Some(src) = found else { return false };
    let plen = common_len(dst, plen);
    let route = Route {
        dst: mask(to_bits(dst), plen),
        plen,
        mark,
        table,
        user: true,
        local: false,
        metric: 0,
        hop: Hop {
            dev: dev.to_owned(),
            gateway,
            src,
        },
    };
    state(|s| {
        let at = (route.network(), route.mark);
        s.user.retain(|r| !r.same_key(&route));
        s.user.push(route);
        s.publish_some([at]);
    });
    true
}

impl Route {
    fn network(&self) -> Network {
        (self.dst, self.plen)
    }

    fn same_key(&self, other: &Route) -> bool {
        (self.dst, self.plen, self.mark, self.table)
            == (other.dst, other.plen, other.mark, other.table)
    }
}

/// Removes a route of the user. False if there is none.
pub(crate) fn del((dst, plen): (IpAddr, u8), mark: u32, table: u32) -> bool {
    let plen = common_len(dst, plen);
    let key = (mask(to_bits(dst), plen), plen, mark, table);
    state(|s| {
        let before = s.user.len();
        s.user.retain(|r| (r.dst, r.plen, r.mark, r.table) != key);
        let removed = s.user.len() != before;
        if removed {
            s.publish_some([((key.0, key.1), mark)]);
        }
        removed
    })
}

/// An address was given to a dummy device: its network is directly reachable.
pub(crate) fn add_connected(dev: &str, addr: IpAddr, plen: u8) {
    let plen = common_len(addr, plen);
    let route = Route {
        dst: mask(to_bits(addr), plen),
        plen,
        mark: 0,
        table: RT_TABLE_LOCAL,
        user: false,
        local: true,
        metric: 0,
        hop: Hop {
            dev: dev.to_owned(),
            gateway: None,
            src: addr,
        },
    };
    state(|s| {
        let at = (route.network(), route.mark);
        s.connected.retain(|r| !r.same_key(&route));
        s.connected.push(route);
        s.publish_some([at]);
    });
}

/// Follows the kernel's links, addresses and routes.
pub(crate) fn run() {
    state(|s| {
        if !s.started {
            s.started = true;
            let groups = Groups {
                routes: SYSTEM.load(Ordering::Relaxed),
                addrs: true,
                links: true,
                ..Groups::default()
            };
            s.monitor = Monitor::open(groups).ok();
            s.read_kernel();
        }
        if let Some(m) = s.monitor.as_mut().filter(|m| !is_quiet(m.as_fd())) {
            let events = m.recv().unwrap_or_default();
            match s.kernel.apply(events) {
                Ok(touched) => s.publish_some(touched.into_iter().map(|network| (network, 0))),
                Err(Unclear) => s.read_kernel(),
            }
        }
    });
}

impl State {
    fn read_kernel(&mut self) {
        if let Ok(mut kernel) = Kernel::read(SYSTEM.load(Ordering::Relaxed)) {
            kernel.version = self.kernel.version + 1;
            self.kernel = kernel;
            self.publish();
        }
    }
}

pub(crate) fn wait(poller: &mut Poller) {
    state(|s| match &s.monitor {
        Some(m) => poller.wait_fd(m.as_fd(), Interest::READ),
        None if !s.started => poller.wake_now(),
        None => {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn route(dst: &str, plen: u8, dev: &str, gw: Option<&str>, src: &str) -> Route {
        let plen = common_len(ip(dst), plen);
        Route {
            dst: mask(to_bits(ip(dst)), plen),
            plen,
            mark: 0,
            table: RT_TABLE_MAIN,
            user: false,
            local: false,
            metric: 0,
            hop: Hop {
                dev: dev.into(),
                gateway: gw.map(ip),
                src: ip(src),
            },
        }
    }

    fn table_of(routes: Vec<Route>) -> Table {
        let mut table = Table::new();
        table.extend(routes.into_iter());
        table
    }

    #[test]
    fn the_user_goes_before_the_kernel_then_length_and_metric_count() {
        let mut user = route("172.0.0.0", 8, "user", None, "10.0.0.1");
        user.user = true;
        let mut slow = route("10.1.0.0", 16, "slow", None, "10.1.0.1");
        slow.metric = 9;
        let mut marked = route("10.0.0.0", 8, "marked", None, "10.0.0.1");
        marked.mark = 5;
        let t = table_of(vec![
            route("0.0.0.0", 0, "default", Some("10.0.0.9"), "10.0.0.1"),
            route("10.0.0.0", 8, "eight", None, "10.0.0.1"),
            slow,
            route("10.1.0.0", 16, "sixteen", None, "10.1.0.1"),
            route("fc00::", 64, "six", None, "fc00::1"),
            user,
            route("172.16.0.0", 16, "kernel", None, "10.0.0.1"),
            marked,
        ]);
        let dev = |mark, dst: &str| t.lookup(mark, ip(dst), None).map(|h| h.dev);
        assert_eq!(dev(0, "10.1.2.3").as_deref(), Some("sixteen"));
        assert_eq!(dev(0, "172.16.2.3").as_deref(), Some("user"));
        assert_eq!(dev(5, "10.2.2.3").as_deref(), Some("marked"));
        assert_eq!(dev(0, "9.9.9.9").as_deref(), Some("default"));
        assert_eq!(dev(0, "fc00::5").as_deref(), Some("six"));
        assert_eq!(dev(0, "fc01::5"), None);
    }

    #[test]
    fn a_source_must_be_an_address_of_the_host() {
        let mut own = route("10.0.0.1", 32, "br0", None, "10.0.0.1");
        own.local = true;
        let t = table_of(vec![own, route("10.0.0.0", 24, "br0", None, "10.0.0.1")]);
        assert!(t.lookup(0, ip("10.0.0.2"), Some(ip("10.0.0.1"))).is_some());
        assert!(t.lookup(0, ip("10.0.0.2"), Some(ip("10.0.0.3"))).is_none());
    }

    #[test]
    fn the_source_is_in_the_network_of_the_next_hop() {
        let a = [
            (ip("10.0.0.1"), 24),
            (ip("10.0.0.129"), 25),
            (ip("fc00::1"), 64),
        ];
        assert_eq!(source_for(ip("10.0.0.200"), &a), Some(ip("10.0.0.129")));
        assert_eq!(source_for(ip("10.0.0.20"), &a), Some(ip("10.0.0.1")));
        assert_eq!(source_for(ip("fc00::9"), &a), Some(ip("fc00::1")));
        assert_eq!(source_for(ip("10.0.1.1"), &a), None);
    }

    #[test]
    fn the_kernels_routes_are_mirrored() {
        ferrovs_sys::netns::unshare().unwrap();
        let st = std::process::Command::new("sh")
            .args([
                "-ec",
                "ip link add a0 type veth peer name b0; ip link set a0 up; ip link set b0 up
                ip addr add 172.31.1.1/24 dev a0; ip route add 192.0.2.0/24 via 172.31.1.77
                ip route add blackhole 192.0.4.0/24",
            ])
            .status()
            .unwrap();
        assert!(st.success());
        let t = table_of(Kernel::read(true).unwrap().routes().collect());
        let hop = t.lookup(0, ip("192.0.2.9"), None).unwrap();
        assert_eq!(
            hop,
            Hop {
                dev: "a0".into(),
                gateway: Some(ip("172.31.1.77")),
                src: ip("172.31.1.1")
            }
        );
        assert_eq!(
            t.lookup(0, ip("172.31.1.9"), Some(ip("172.31.1.1")))
                .unwrap()
                .gateway,
            None
        );
        assert_eq!(t.lookup(0, ip("192.0.4.1"), None), None);
        assert!(t.find(0, to_bits(ip("172.31.1.1"))).unwrap().local);
    }
}
