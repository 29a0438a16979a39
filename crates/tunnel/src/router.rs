//! The routing tables: through which device, by which gateway and from which address a tunnel
//! remote is reached.
//!
//! Routes are of two kinds: "Cached" ones mirror the kernel (unless [`disable_system`]), "User"
//! ones are added by `ovs/route/add` and go before cached ones of the same length. Policy rules
//! ([`rules`]) say which tables are asked. Addresses of both families live in one 128-bit space,
//! IPv4 as ::ffff:a.b.c.d.
//!
//! Lookups read, under a short lock, what [`table`] describes. The main thread changes those entries
//! for which the routes changed, and tells the others if anybody asked for an address there ([`asked`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::{Interest, Poller, clock, is_quiet};
use ferrovs_sys::rtnetlink::{Groups, Monitor};

mod asked;
mod commands;
mod kernel;
mod rules;
mod table;

use asked::Asked;
use kernel::{Kernel, Unclear};
use rules::{Rule, Rules};
use table::{Network, RT_TABLE_LOCAL, RT_TABLE_MAIN, Route, Tables};

pub use commands::register;

/// Where a packet to some destination goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Name of the device: usually a bridge's local port.
    pub dev: Arc<str>,
    /// Next hop, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address to use.
    pub src: IpAddr,
}

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

/// What tells routes apart that were given: the network, the mark, the table, whether the user gave it.
type Key = (Network, u32, u32, bool);

/// Everything that only the main thread touches.
#[derive(Debug, Default)]
struct State {
    /// The user's routes and the networks of dummy devices, each with the place in which it came.
    given: BTreeMap<Key, (u64, Route)>,
    came: u64,
    kernel: Kernel,
    monitor: Option<Monitor>,
    started: bool,
    /// The kernel could not be read: when to try again.
    again: Option<Instant>,
}

/// How long the kernel is left alone when it could not be read.
const RETRY: Duration = Duration::from_secs(1);

static TABLES: RwLock<Tables> = RwLock::new(Tables::new(Rules::none()));
static ASKED: RwLock<Asked> = RwLock::new(Asked::new());
static STATE: Mutex<Option<State>> = Mutex::new(None);
static SYSTEM: AtomicBool = AtomicBool::new(true);

fn state<T>(f: impl FnOnce(&mut State) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<State>> =
        STATE.lock().unwrap_or_else(PoisonError::into_inner);
    f(guard.get_or_insert_with(|| {
        change_tables(|tables| {
            tables.rules.follow(std::iter::empty());
            None
        });
        State::default()
    }))
}

fn tables() -> RwLockReadGuard<'static, Tables> {
    TABLES.read().unwrap_or_else(PoisonError::into_inner)
}

/// What a change of the tables may have made another.
enum Changed {
    All,
    To(Vec<Network>),
}

impl State {
    /// All routes: those of the kernel, then those that were given, in their order.
    fn routes(&self) -> impl Iterator<Item = Route> {
        let mut given: Vec<&(u64, Route)> = self.given.values().collect();
        given.sort_by_key(|(came, _)| *came);
        let given = given.into_iter().map(|(_, r)| r.clone());
        self.kernel.routes().chain(given)
    }

    /// Brings the tables up to date with all routes and rules.
    fn publish(&self) {
        change_tables(|tables| {
            let mut new = Tables::new(tables.rules.clone());
            new.rules.follow(self.kernel.rules());
            new.extend(self.routes());
            let old = std::mem::replace(tables, new);
            (old != *tables).then_some(Changed::All)
        });
    }

    /// Brings the tables up to date with the routes to some networks with some marks.
    fn publish_some(&self, changed: impl IntoIterator<Item = (Network, u32)>) {
        change_tables(|tables| {
            let devices = tables.n_devices();
            let mut differ = Vec::new();
            for (network, mark) in changed {
                let at = (network, mark, 0, false)..=(network, mark, u32::MAX, true);
                let given = self.given.range(at).map(|(_, (_, r))| r.clone());
                let kernel = self.kernel.to(network).filter(|_| mark == 0);
                if tables.replace(network, mark, kernel.chain(given)) {
                    differ.push(network);
                }
            }
            match tables.n_devices() == devices {
                true => Some(Changed::To(differ)),
                false => Some(Changed::All),
            }
        });
    }
}

/// Changes the tables; `f` says what may be different now.
fn change_tables(f: impl FnOnce(&mut Tables) -> Option<Changed>) {
    let mut tables = TABLES.write().unwrap_or_else(PoisonError::into_inner);
    let changed = f(&mut tables);
    drop(tables);
    let asked = || ASKED.read().unwrap_or_else(PoisonError::into_inner);
    let concerns = match changed {
        None => false,
        Some(Changed::All) => true,
        Some(Changed::To(networks)) => {
            let asked = asked();
            networks.into_iter().any(|n| asked.any_in(n))
        }
    };
    if concerns {
        let mut asked = ASKED.write().unwrap_or_else(PoisonError::into_inner);
        asked.forget_too_many();
        drop(asked);
        crate::change_seq().change();
        // The device that a tunnel leaves by may be another now.
        ferrovs_netdev::tunnels_changed();
    }
}

/// Leaves the kernel's routes and rules alone (`--disable-system-route`).
pub fn disable_system() {
    SYSTEM.store(false, Ordering::Relaxed);
}

/// The way to `dst` for packets with mark `mark` (routes of other marks do not count), from `src`
/// if that is given and ours.
pub fn lookup(mark: u32, dst: IpAddr, src: Option<IpAddr>) -> Option<Hop> {
    for address in [Some(dst), src].into_iter().flatten().map(to_bits) {
        let asked = ASKED.read().unwrap_or_else(PoisonError::into_inner);
        if !asked.knows(address) {
            drop(asked);
            let mut asked = ASKED.write().unwrap_or_else(PoisonError::into_inner);
            asked.note(address);
        }
    }
    tables().lookup(mark, dst, src)
}

/// Names of the devices that routes lead through.
pub(crate) fn devices() -> Vec<Arc<str>> {
    tables().devices()
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
            dev: dev.into(),
            gateway,
            src,
        },
    };
    give(route);
    true
}

/// Takes a route in, in the place of one to the same.
fn give(route: Route) {
    state(|s| {
        let network = route.network();
        let mark = route.mark;
        s.came += 1;
        let came = s.came;
        match s.given.entry((network, mark, route.table, route.user)) {
            Entry::Occupied(mut old) => old.get_mut().1 = route,
            Entry::Vacant(new) => _ = new.insert((came, route)),
        }
        s.publish_some([(network, mark)]);
    });
}

/// Removes a route of the user. False if there is none.
pub(crate) fn del((dst, plen): (IpAddr, u8), mark: u32, table: u32) -> bool {
    let plen = common_len(dst, plen);
    let network = (mask(to_bits(dst), plen), plen);
    state(|s| {
        let removed = s.given.remove(&(network, mark, table, true)).is_some();
        if removed {
            s.publish_some([(network, mark)]);
        }
        removed
    })
}

/// An address was given to a dummy device: the device has it, and its network is directly reachable.
pub(crate) fn add_connected(dev: &str, addr: IpAddr, plen: u8) {
    let whole = common_len(addr, 128);
    let reachable = (common_len(addr, plen), RT_TABLE_MAIN);
    for (plen, table) in [(whole, RT_TABLE_LOCAL), reachable] {
        give(Route {
            dst: mask(to_bits(addr), plen),
            plen,
            mark: 0,
            table,
            user: false,
            local: table == RT_TABLE_LOCAL,
            metric: 0,
            hop: Hop {
                dev: dev.into(),
                gateway: None,
                src: addr,
            },
        });
    }
}

/// Adds a rule of the user.
fn add_rule(rule: Rule) {
    state(|_| {
        change_tables(|tables| {
            tables.rules.add(rule);
            Some(Changed::All)
        });
    });
}

/// Removes a rule of the user. False if there is none.
fn del_rule(rule: &Rule) -> bool {
    state(|_| {
        let mut removed = false;
        change_tables(|tables| {
            removed = tables.rules.del(rule);
            removed.then_some(Changed::All)
        });
        removed
    })
}

/// Follows the kernel's links, addresses, routes and rules.
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
        if s.again.is_some_and(|at| at <= clock::now()) {
            s.read_kernel();
        }
        if let Some(m) = s.monitor.as_mut().filter(|m| !is_quiet(m.as_fd())) {
            let events = m.recv().map_err(|_| Unclear);
            match events.and_then(|events| s.kernel.apply(events)) {
                Ok(kernel::Touched { networks, rules }) => {
                    s.publish_some(networks.into_iter().map(|network| (network, 0)));
                    if rules {
                        change_tables(|tables| {
                            tables.rules.follow(s.kernel.rules());
                            Some(Changed::All)
                        });
                    }
                }
                Err(Unclear) => s.read_kernel(),
            }
        }
    });
}

impl State {
    fn read_kernel(&mut self) {
        ferrovs_runtime::coverage::ROUTE_TABLE_DUMP.inc();
        let Ok(mut kernel) = Kernel::read(SYSTEM.load(Ordering::Relaxed)) else {
            self.again = Some(clock::now() + RETRY);
            return;
        };
        self.again = None;
        kernel.version = self.kernel.version + 1;
        self.kernel = kernel;
        self.publish();
    }
}

pub(crate) fn wait(poller: &mut Poller) {
    state(|s| {
        if let Some(at) = s.again {
            poller.wait_until(at);
        }
        match &s.monitor {
            Some(m) => poller.wait_fd(m.as_fd(), Interest::READ),
            None if !s.started => poller.wake_now(),
            None => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
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
    fn the_kernels_routes_and_rules_are_mirrored() {
        ferrovs_sys::netns::unshare().unwrap();
        let st = std::process::Command::new("sh")
            .args([
                "-ec",
                "ip link add a0 type veth peer name b0; ip link set a0 up; ip link set b0 up
                ip addr add 172.31.1.1/24 dev a0; ip route add 192.0.2.0/24 via 172.31.1.77
                ip route add blackhole 192.0.4.0/24
                ip route add 192.0.2.0/24 via 172.31.1.78 table 77
                ip rule add from 172.31.1.0/24 table 77",
            ])
            .status()
            .unwrap();
        assert!(st.success());
        let kernel = Kernel::read(true).unwrap();
        let mut t = Tables::new(Rules::none());
        t.rules.follow(kernel.rules());
        t.extend(kernel.routes());
        let hop = t.lookup(0, ip("192.0.2.9"), None).unwrap();
        assert_eq!(
            hop,
            Hop {
                dev: "a0".into(),
                gateway: Some(ip("172.31.1.77")),
                src: ip("172.31.1.1")
            }
        );
        let by = |dst: &str| {
            t.lookup(0, ip(dst), Some(ip("172.31.1.1")))
                .unwrap()
                .gateway
        };
        assert_eq!(by("172.31.1.9"), None);
        assert_eq!(by("192.0.2.9"), Some(ip("172.31.1.78")));
        assert_eq!(t.lookup(0, ip("192.0.4.1"), None), None);
    }
}
