//! The kernel's links, addresses, routes and rules, followed by what it says of their changes.
//!
//! All is read once; then each message changes what it speaks of, so that a table of a million
//! routes costs what changes in it. Some changes the kernel keeps to itself: it drops the routes of
//! a device that goes down and those from an address that goes away, and those that share a next
//! hop. When such a route may be among ours, or a message does not fit what is here, the routes
//! are read anew ([`Unclear`]). IPv4 has one route for each network, table and metric as a rule, and
//! tells it whole; IPv6 tells ways to one network one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ferrovs_packet::types::MacAddr;
use ferrovs_sys::ifreq::IFF_UP;
use ferrovs_sys::rtnetlink::{self, Event, Rtnl};

use super::rules::Rule;
use super::table::{Network, Route};
use super::{Hop, common_len, mask, source_for, to_bits};

const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

/// What is here cannot be told from what was said: read it anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclear;

/// What changed: the networks to which the way may be another now, and whether rules did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub networks: BTreeSet<Network>,
    pub rules: bool,
}

#[derive(Debug, Default)]
struct Link {
    name: Arc<str>,
    mac: MacAddr,
    up: bool,
    addresses: Vec<(IpAddr, u8)>,
    /// The routes that lead through it.
    routes: BTreeSet<Key>,
}

/// What tells routes of the kernel apart, as a rule: the network, IPv6, table, metric.
type Key = (Network, bool, u32, u32);

#[derive(Debug, Default)]
pub(super) struct Kernel {
    links: HashMap<u32, Link>,
    by_name: HashMap<Arc<str>, u32>,
    routes: BTreeMap<Key, Vec<rtnetlink::Route>>,
    /// How many routes prefer a source address.
    sources: HashMap<IpAddr, usize>,
    /// How many have a next hop that they share, by its number.
    shared_hops: HashMap<u32, usize>,
    /// How many share a group of next hops.
    shared_groups: usize,
    /// In the order in which the kernel asks them.
    rules: Vec<rtnetlink::Rule>,
    /// Changes with the Ethernet address or the addresses of a link that has any.
    pub version: u64,
}

fn network(r: &rtnetlink::Route) -> Network {
    let plen = common_len(r.dst, r.dst_len);
    (mask(to_bits(r.dst), plen), plen)
}

fn key(r: &rtnetlink::Route) -> Key {
    (network(r), r.dst.is_ipv6(), r.table, r.priority)
}

fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, of: K) {
    if let Some(n) = counts.get_mut(&of) {
        *n -= 1;
        if *n == 0 {
            counts.remove(&of);
        }
    }
}

/// Where the kernel lists a new address of a link: IPv4 comes first, each behind the others; of IPv6
/// the latest comes first, but what holds on the link alone last.
fn place(addresses: &[(IpAddr, u8)], new: &IpAddr) -> usize {
    let rank = |a: &IpAddr| match a {
        IpAddr::V4(_) => 0,
        IpAddr::V6(a) if a.is_unicast_link_local() || a.is_loopback() => 2,
        IpAddr::V6(_) => 1,
    };
    let before = if new.is_ipv4() { 1 } else { rank(new) };
    addresses.partition_point(|own| rank(&own.0) < before)
}

impl Kernel {
    /// Reads everything, routes only if they are wanted.
    pub fn read(routes: bool) -> io::Result<Kernel> {
        let mut rtnl = Rtnl::open()?;
        let mut kernel = Kernel::default();
        for link in rtnl.links()? {
            kernel.link_is(&link, &mut BTreeSet::new());
        }
        for a in rtnl.addrs()? {
            let link = kernel.links.entry(a.index).or_default();
            link.addresses.push((a.addr, a.prefix_len));
        }
        if routes {
            rtnl.routes()?.into_iter().for_each(|r| kernel.add(r));
            rtnl.rules()?.into_iter().for_each(|r| kernel.rule_came(r));
        }
        Ok(kernel)
    }

    /// The Ethernet address and the addresses of a link.
    pub fn link(&self, name: &str) -> Option<(MacAddr, &[(IpAddr, u8)])> {
        let link = self.links.get(self.by_name.get(name)?)?;
        Some((link.mac, &link.addresses))
    }

    /// All routes that lead somewhere, as the router sees them; those of IPv4 first.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        let of = |ipv6| self.routes.iter().filter(move |(key, _)| key.1 == ipv6);
        let all = of(false).chain(of(true)).flat_map(|(_, routes)| routes);
        all.filter_map(|r| self.convert(r))
    }

    /// The rules that tunnels can follow.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        let plain = self.rules.iter().filter(|r| r.plain);
        plain.map(|r| Rule {
            priority: r.priority,
            user: false,
            invert: r.invert,
            ipv4: r.ipv4,
            from: r.src,
            table: r.table,
        })
    }

    /// A rule goes behind those of its number.
    fn rule_came(&mut self, rule: rtnetlink::Rule) {
        // Said and read.
        if !self.rules.contains(&rule) {
            let at = self.rules.partition_point(|r| r.priority <= rule.priority);
            self.rules.insert(at, rule);
        }
    }

    /// Those to one network.
    pub fn to(&self, network: Network) -> impl Iterator<Item = Route> {
        let all = (network, false, 0, 0)..=(network, true, u32::MAX, u32::MAX);
        let routes = self.routes.range(all).flat_map(|(_, routes)| routes);
        routes.filter_map(|r| self.convert(r))
    }

    fn convert(&self, r: &rtnetlink::Route) -> Option<Route> {
        if !matches!(r.kind, RTN_UNICAST | RTN_LOCAL) {
            return None;
        }
        let link = self.links.get(&r.oif?)?;
        let src = match r.prefsrc {
            Some(src) => src,
            None => source_for(r.gateway.unwrap_or(r.dst), &link.addresses)?,
        };
        let (dst, plen) = network(r);
        Some(Route {
            dst,
            plen,
            mark: 0,
            table: r.table,
            user: false,
            local: r.kind == RTN_LOCAL,
            metric: r.priority,
            hop: Hop {
                dev: link.name.clone(),
                gateway: r.gateway,
                src,
            },
        })
    }

    /// Takes in what happened.
    pub fn apply(&mut self, events: Vec<Event>) -> Result<Touched, Unclear> {
        let mut all = Touched::default();
        let touched = &mut all.networks;
        let mut gone = Vec::new();
        for event in events {
            match event {
                Event::NewLink(link) => {
                    let was_up = self.links.get(&link.index).is_some_and(|l| l.up);
                    let l = self.link_is(&link, touched);
                    if was_up && !l.up && !l.routes.is_empty() {
                        return Err(Unclear);
                    }
                }
                Event::DelLink(link) => self.link_went(link.index, touched)?,
                Event::NewAddr(a) => {
                    let link = self.links.entry(a.index).or_default();
                    let address = (a.addr, a.prefix_len);
                    if !link.addresses.contains(&address) {
                        let at = place(&link.addresses, &a.addr);
                        link.addresses.insert(at, address);
                        self.version += 1;
                        touched.extend(link.routes.iter().map(|key| key.0));
                    }
                }
                Event::DelAddr(a) => {
                    if let Some(link) = self.links.get_mut(&a.index) {
                        link.addresses.retain(|own| *own != (a.addr, a.prefix_len));
                        self.version += 1;
                        touched.extend(link.routes.iter().map(|key| key.0));
                    }
                    gone.push(a.addr);
                }
                Event::NewRoute { route, replaces } => {
                    touched.insert(network(&route));
                    self.came(route, replaces)?;
                }
                Event::DelRoute(route) => {
                    touched.insert(network(&route));
                    self.went(&route)?;
                }
                Event::NewRule(rule) => {
                    all.rules |= rule.plain;
                    self.rule_came(rule);
                }
                Event::DelRule(rule) => {
                    all.rules |= rule.plain;
                    let at = self.rules.iter().position(|r| *r == rule);
                    at.map(|at| self.rules.remove(at));
                }
                Event::Hop { id, replaces } => {
                    // What is in a group that is shared is not known here.
                    let in_group = replaces && self.shared_groups > 0;
                    if in_group || self.shared_hops.contains_key(&id) {
                        return Err(Unclear);
                    }
                }
                Event::NewNeigh(_) | Event::DelNeigh(_) => {}
                Event::Lost => return Err(Unclear),
            }
        }
        // The kernel says which routes an address takes along to its own network, not which others.
        let from = |a: &IpAddr| self.sources.contains_key(a);
        let here = |a: &IpAddr| {
            self.links
                .values()
                .any(|l| l.addresses.iter().any(|o| o.0 == *a))
        };
        match gone.iter().any(|a| from(a) && !here(a)) {
            true => Err(Unclear),
            false => Ok(all),
        }
    }

    fn link_is(&mut self, link: &rtnetlink::Link, touched: &mut BTreeSet<Network>) -> &Link {
        let l = self.links.entry(link.index).or_default();
        let mac = MacAddr(link.mac.unwrap_or_default());
        let renamed = *l.name != *link.name;
        if !l.addresses.is_empty() && (renamed || l.mac != mac) {
            self.version += 1;
        }
        if renamed {
            if self.by_name.get(&l.name) == Some(&link.index) {
                self.by_name.remove(&l.name);
            }
            l.name = Arc::from(&*link.name);
            self.by_name.insert(l.name.clone(), link.index);
            touched.extend(l.routes.iter().map(|key| key.0));
        }
        l.mac = mac;
        l.up = link.flags & IFF_UP != 0;
        l
    }

    /// A link is gone, and its routes with it.
    fn link_went(&mut self, index: u32, touched: &mut BTreeSet<Network>) -> Result<(), Unclear> {
        let Some(link) = self.links.remove(&index) else {
            return Ok(());
        };
        self.version += 1;
        if self.by_name.get(&link.name) == Some(&index) {
            self.by_name.remove(&link.name);
        }
        for key in link.routes {
            touched.insert(key.0);
            let routes = self.routes.get(&key).into_iter().flatten();
            let of_link = routes.filter(|r| r.oif == Some(index));
            for route in of_link.cloned().collect::<Vec<_>>() {
                // Of several ways the others stay.
                if route.multipath {
                    return Err(Unclear);
                }
                self.remove(&route);
            }
        }
        Ok(())
    }

    fn came(&mut self, route: rtnetlink::Route, replaces: bool) -> Result<(), Unclear> {
        let there = self.routes.get(&key(&route));
        let there = there.map(Vec::as_slice).unwrap_or_default();
        match there {
            // Said and read.
            _ if there.contains(&route) => return Ok(()),
            [] => {}
            _ if route.dst.is_ipv6() && (route.multipath || there.iter().any(|r| r.multipath)) => {
                return Err(Unclear);
            }
            [old] if replaces => {
                let old = old.clone();
                self.remove(&old);
            }
            // Each device has a way to its link, one behind the other.
            _ if route.dst.is_ipv6() && !replaces => {}
            _ => return Err(Unclear),
        }
        self.add(route);
        Ok(())
    }

    fn went(&mut self, route: &rtnetlink::Route) -> Result<(), Unclear> {
        let there = self.routes.get(&key(route));
        let there = there.map(Vec::as_slice).unwrap_or_default();
        if there.contains(route) && (route.dst.is_ipv4() || !route.multipath) {
            self.remove(route);
            return Ok(());
        }
        // Otherwise it went before the routes were read.
        let same = |r: &rtnetlink::Route| r.oif == route.oif || r.multipath || route.multipath;
        match there.iter().any(same) {
            true => Err(Unclear),
            false => Ok(()),
        }
    }

    fn add(&mut self, route: rtnetlink::Route) {
        let key = key(&route);
        if let Some(oif) = route.oif {
            self.links.entry(oif).or_default().routes.insert(key);
        }
        if let Some(src) = route.prefsrc {
            *self.sources.entry(src).or_default() += 1;
        }
        if let Some(id) = route.shared_hop {
            *self.shared_hops.entry(id).or_default() += 1;
            self.shared_groups += usize::from(route.multipath);
        }
        // Another is rare.
        let routes = self.routes.entry(key);
        routes.or_insert_with(|| Vec::with_capacity(1)).push(route);
    }

    /// Takes out a route that is there.
    fn remove(&mut self, route: &rtnetlink::Route) {
        let key = key(route);
        let Some(routes) = self.routes.get_mut(&key) else {
            return;
        };
        let Some(at) = routes.iter().position(|r| r == route) else {
            return;
        };
        routes.remove(at);
        let still = routes.iter().any(|r| r.oif == route.oif);
        if routes.is_empty() {
            self.routes.remove(&key);
        }
        if let Some(link) = route.oif.and_then(|oif| self.links.get_mut(&oif))
            && !still
        {
            link.routes.remove(&key);
        }
        if let Some(src) = route.prefsrc {
            one_less(&mut self.sources, src);
        }
        if let Some(id) = route.shared_hop {
            one_less(&mut self.shared_hops, id);
            self.shared_groups -= usize::from(route.multipath);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_sys::rtnetlink::{Groups, Monitor};
    use std::time::Duration;

    fn follow() -> (Kernel, Monitor) {
        ferrovs_sys::netns::unshare().unwrap();
        let groups = Groups {
            routes: true,
            addrs: true,
            links: true,
            ..Groups::default()
        };
        let monitor = Monitor::open(groups).unwrap();
        (Kernel::read(true).unwrap(), monitor)
    }

    fn ip(args: &str) {
        let status = std::process::Command::new("ip")
            .args(args.split(' '))
            .status();
        assert!(status.unwrap().success(), "ip {args}");
    }

    /// What was followed is what there is, once all was heard: IPv6 takes its time.
    fn same(kernel: &mut Kernel, monitor: &mut Monitor, args: &str) {
        let all = |k: &Kernel| {
            let links = ["a0", "b0", "c0"].map(|l| k.link(l).map(|(mac, a)| (mac, a.to_vec())));
            let rules = k.rules().collect::<Vec<_>>();
            (k.routes().collect::<Vec<_>>(), rules, links)
        };
        for wait in 0.. {
            let read = Kernel::read(true).unwrap();
            if all(kernel) == all(&read) {
                return;
            }
            if wait == 100 {
                assert_eq!(all(kernel), all(&read), "ip {args}");
            }
            std::thread::sleep(Duration::from_millis(10 * wait));
            assert!(kernel.apply(monitor.recv().unwrap()).is_ok(), "ip {args}");
        }
    }

    #[test]
    fn what_the_kernel_says_is_enough_to_know_its_routes() {
        let (mut kernel, mut monitor) = follow();
        for args in [
            "link set lo up",
            "link add a0 type veth peer name b0",
            // No addresses that come by themselves.
            "link set a0 addrgenmode none",
            "link set b0 addrgenmode none",
            "link set a0 up",
            "link set b0 up",
            "addr add 172.31.1.1/24 dev a0",
            "addr add 172.31.1.2/24 dev a0",
            "addr add fd00::1/64 dev a0 nodad",
            "addr add fe80::1/64 dev a0 nodad",
            "addr add fd00::2/64 dev a0 nodad",
            "addr add 172.31.1.3/24 dev a0",
            "route add 192.0.2.0/24 via 172.31.1.77",
            "route add 192.0.2.0/24 via 172.31.1.78 metric 5",
            "route replace 192.0.2.0/24 via 172.31.1.79",
            "route add 192.0.3.0/24 dev b0 src 172.31.1.1 table 7",
            "route add fd01::/64 via fd00::9",
            "route add blackhole 192.0.4.0/24",
            "route replace 192.0.4.0/24 via 172.31.1.79",
            "route del 192.0.2.0/24 via 172.31.1.79",
            "route del fd01::/64",
            "route add 192.0.5.0/24 nexthop via 172.31.1.8 nexthop via 172.31.1.9",
            "route replace 192.0.5.0/24 nexthop via 172.31.1.7 nexthop via 172.31.1.9",
            "route replace 192.0.5.0/24 via 172.31.1.9",
            "route replace 192.0.5.0/24 nexthop via 172.31.1.7 nexthop via 172.31.1.9",
            "route del 192.0.5.0/24",
            "rule add from 172.31.1.0/24 table 77",
            "rule add not from 172.31.0.0/16 table 78 priority 5",
            "rule add from 172.31.1.0/24 fwmark 7 table 79",
            "rule add iif a0 table 80",
            "rule add to 172.31.1.0/24 table 80",
            "rule add from 172.31.3.0/24 blackhole",
            "-6 rule add from fd00::/64 table 77",
            "-6 rule add table 77 priority 5",
            "rule del from 172.31.1.0/24 table 77",
            "-6 rule del table 77 priority 5",
            "nexthop add id 9 via 172.31.1.9 dev a0",
            "nexthop replace id 9 via 172.31.1.8 dev a0",
            "nexthop del id 9",
            "link set b0 address 02:00:00:00:00:0b",
            "addr add 172.31.2.1/24 dev b0",
            "link set b0 address 02:00:00:00:00:0c",
            "link del a0",
        ] {
            ip(args);
            let events = monitor.recv().unwrap();
            if args.contains("link del") {
                // The addresses went first, and a route of another table with one of them.
                assert_eq!(kernel.apply(events), Err(Unclear));
                return;
            }
            assert!(kernel.apply(events).is_ok(), "ip {args}");
            same(&mut kernel, &mut monitor, args);
        }
    }

    #[test]
    fn what_the_kernel_keeps_to_itself_is_read() {
        let (mut kernel, mut monitor) = follow();
        for args in [
            "link add a0 type veth peer name b0",
            "link set a0 addrgenmode none",
            "link set b0 addrgenmode none",
            "link set a0 up",
            "link set b0 up",
            "addr add 172.31.1.1/24 dev a0",
            "addr add 172.31.2.1/24 dev b0",
            "route add 192.0.2.0/24 dev b0 src 172.31.1.1",
            "!addr del 172.31.1.1/24 dev a0",
            "route add 192.0.3.0/24 nexthop via 172.31.2.8 nexthop via 172.31.2.9",
            "!link set b0 down",
            "link set b0 up",
            "nexthop add id 9 via 172.31.2.9 dev b0",
            "nexthop add id 10 via 172.31.2.9 dev b0",
            "route add 192.0.4.0/24 nhid 9",
            "!nexthop replace id 9 via 172.31.2.8 dev b0",
            "nexthop del id 10",
            "!nexthop del id 9",
        ] {
            let silent = args.starts_with('!');
            let args = args.trim_start_matches('!');
            ip(args);
            let done = kernel.apply(monitor.recv().unwrap());
            if done.is_err() {
                kernel = Kernel::read(true).unwrap();
            }
            assert!(done.is_ok() || silent, "ip {args}");
            same(&mut kernel, &mut monitor, args);
        }
    }

    #[test]
    fn a_link_that_goes_takes_its_routes_along() {
        let (mut kernel, mut monitor) = follow();
        for args in [
            "link add a0 type veth peer name b0",
            "link set a0 addrgenmode none",
            "link set b0 addrgenmode none",
            "link set a0 up",
            "addr add fd00::1/64 dev a0 nodad",
            "route add 192.0.2.0/24 dev a0",
        ] {
            ip(args);
        }
        kernel.apply(monitor.recv().unwrap()).unwrap();
        ip("link del a0");
        match kernel.apply(monitor.recv().unwrap()) {
            Ok(touched) => assert!(!touched.networks.is_empty()),
            // It went down first.
            Err(Unclear) => kernel = Kernel::read(true).unwrap(),
        }
        same(&mut kernel, &mut monitor, "link del a0");
        assert_eq!(kernel.link("a0"), None);
    }
}
