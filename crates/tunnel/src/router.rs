//! The routing table: through which device, by which gateway and from which address a tunnel
//! remote is reached.
//!
//! Routes are of two kinds: "Cached" ones mirror the kernel (unless [`disable_system`]), "User"
//! ones are added by `ovs/route/add` and go before cached ones of the same length. Addresses of
//! both families live in one 128-bit space, IPv4 as ::ffff:a.b.c.d.
//!
//! Lookups read an immutable snapshot: per priority, a hash table from masked destination to
//! route. The main thread replaces the snapshot.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ferrovs_runtime::{Interest, Poller, is_quiet};
use ferrovs_sys::rtnetlink::{self, Event, Groups, Monitor, Rtnl};

mod commands;

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

/// An immutable routing table.
#[derive(Debug, Default)]
struct Table {
    /// By falling priority; within one, a network and a mark lead to one route.
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    priority: u16,
    plen: u8,
    routes: HashMap<(u128, u32), Route>,
}

impl Table {
    fn new(routes: &[Route]) -> Table {
        let mut t = Table::default();
        for r in routes {
            let of = (r.priority(), r.plen);
            let at = t.groups.iter().position(|g| (g.priority, g.plen) == of);
            let at = at.unwrap_or_else(|| {
                t.groups.push(Group {
                    priority: of.0,
                    plen: of.1,
                    routes: HashMap::new(),
                });
                t.groups.len() - 1
            });
            let slot = t.groups[at].routes.entry((r.dst, r.mark));
            slot.and_modify(|old| {
                // Of equal ones the latest counts.
                if r.metric <= old.metric {
                    *old = r.clone();
                }
            })
            .or_insert_with(|| r.clone());
        }
        t.groups
            .sort_by(|a, b| b.priority.cmp(&a.priority).then(b.plen.cmp(&a.plen)));
        t
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
    cached: Vec<Route>,
    monitor: Option<Monitor>,
    started: bool,
}

static TABLE: LazyLock<ArcSwap<Table>> = LazyLock::new(Default::default);
static STATE: Mutex<Option<State>> = Mutex::new(None);
static SYSTEM: AtomicBool = AtomicBool::new(true);

fn state<T>(f: impl FnOnce(&mut State) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<State>> =
        STATE.lock().unwrap_or_else(PoisonError::into_inner);
    f(guard.get_or_insert_with(State::default))
}

/// Leaves the kernel's routes alone (`--disable-system-route`).
pub fn disable_system() {
    SYSTEM.store(false, Ordering::Relaxed);
}

/// The way to `dst` for packets with mark `mark` (routes of other marks do not count), from `src`
/// if that is given and ours.
pub fn lookup(mark: u32, dst: IpAddr, src: Option<IpAddr>) -> Option<Hop> {
    TABLE.load().lookup(mark, dst, src)
}

/// Names of the devices that routes lead through.
pub fn devices() -> Vec<String> {
    let table = TABLE.load();
    let routes = table.groups.iter().flat_map(|g| g.routes.values());
    let mut names: Vec<String> = routes.map(|r| r.hop.dev.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
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

fn publish(s: &State) {
    let mut all = s.user.clone();
    all.extend(s.cached.iter().cloned());
    all.retain(|r| matches!(r.table, RT_TABLE_MAIN | RT_TABLE_LOCAL | RT_TABLE_DEFAULT));
    TABLE.store(Arc::new(Table::new(&all)));
    crate::change_seq().change();
    // The device that a tunnel leaves by may be another now.
    ferrovs_netdev::tunnels_changed();
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
        s.user.retain(|r| !r.same_key(&route));
        s.user.push(route);
        publish(s);
    });
    true
}

impl Route {
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
            publish(s);
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
        s.cached.retain(|r| !r.same_key(&route));
        s.cached.push(route);
        publish(s);
    });
}

/// The kernel's routes.
fn kernel_routes() -> std::io::Result<Vec<Route>> {
    const RTN_UNICAST: u8 = 1;
    const RTN_LOCAL: u8 = 2;
    let mut rtnl = Rtnl::open()?;
    let links: HashMap<u32, String> = rtnl
        .links()?
        .into_iter()
        .map(|l| (l.index, l.name))
        .collect();
    let mut addresses: HashMap<u32, Vec<(IpAddr, u8)>> = HashMap::new();
    for a in rtnl.addrs()? {
        addresses
            .entry(a.index)
            .or_default()
            .push((a.addr, a.prefix_len));
    }
    let convert = |r: rtnetlink::Route| {
        if !matches!(r.kind, RTN_UNICAST | RTN_LOCAL) {
            return None;
        }
        let oif = r.oif?;
        let own = addresses.get(&oif).map(Vec::as_slice).unwrap_or_default();
        let src = match r.prefsrc {
            Some(src) => src,
            None => source_for(r.gateway.unwrap_or(r.dst), own)?,
        };
        let plen = common_len(r.dst, r.dst_len);
        Some(Route {
            dst: mask(to_bits(r.dst), plen),
            plen,
            mark: 0,
            table: r.table,
            user: false,
            local: r.kind == RTN_LOCAL,
            metric: r.priority,
            hop: Hop {
                dev: links.get(&oif)?.clone(),
                gateway: r.gateway,
                src,
            },
        })
    };
    Ok(rtnl.routes()?.into_iter().filter_map(convert).collect())
}

/// Follows the kernel's routes.
pub(crate) fn run() {
    if !SYSTEM.load(Ordering::Relaxed) {
        return;
    }
    state(|s| {
        let mut stale = false;
        if !s.started {
            s.started = true;
            stale = true;
            let groups = Groups {
                routes: true,
                addrs: true,
                links: true,
                ..Groups::default()
            };
            s.monitor = Monitor::open(groups).ok();
        }
        if let Some(m) = s.monitor.as_mut().filter(|m| !is_quiet(m.as_fd())) {
            let events = m.recv().unwrap_or_default();
            // A link only matters when it goes: its routes go without notice of their own.
            stale |= events.iter().any(|e| !matches!(e, Event::NewLink(_)));
        }
        if stale
            && let Ok(routes) = kernel_routes()
            && routes != s.cached
        {
            s.cached = routes;
            publish(s);
        }
    });
}

pub(crate) fn wait(poller: &mut Poller) {
    if !SYSTEM.load(Ordering::Relaxed) {
        return;
    }
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

    #[test]
    fn the_user_goes_before_the_kernel_then_length_and_metric_count() {
        let mut user = route("172.0.0.0", 8, "user", None, "10.0.0.1");
        user.user = true;
        let mut slow = route("10.1.0.0", 16, "slow", None, "10.1.0.1");
        slow.metric = 9;
        let mut marked = route("10.0.0.0", 8, "marked", None, "10.0.0.1");
        marked.mark = 5;
        let t = Table::new(&[
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
        let t = Table::new(&[own, route("10.0.0.0", 24, "br0", None, "10.0.0.1")]);
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
        let t = Table::new(&kernel_routes().unwrap());
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
