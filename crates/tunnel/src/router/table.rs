//! Routes, and the tables that lookups read.
//!
//! A table holds one hash table for each priority, from masked destination and mark to where that
//! leads: a lookup masks the destination once for each length that there is. A table of a million
//! routes is as quick as one of ten, and a change touches the entries of one network.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::rules::Rules;
use super::{Hop, mask, to_bits};

/// Tables of the kernel.
pub(super) const RT_TABLE_DEFAULT: u32 = 253;
pub(super) const RT_TABLE_MAIN: u32 = 254;
pub(super) const RT_TABLE_LOCAL: u32 = 255;

/// A network: its address, masked, and the length of the prefix.
pub(super) type Network = (u128, u8);

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Destination network, masked.
    pub dst: u128,
    pub plen: u8,
    pub mark: u32,
    pub table: u32,
    pub user: bool,
    pub local: bool,
    pub metric: u32,
    pub hop: Hop,
}

impl Route {
    /// Longer prefixes go first; the user's routes have a head start.
    pub fn priority(&self) -> u16 {
        u16::from(self.plen) + if self.user { 32 } else { 0 }
    }

    pub fn network(&self) -> Network {
        (self.dst, self.plen)
    }
}

/// What a network, a mark and a priority lead to.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    local: bool,
    metric: u32,
    hop: Hop,
}

#[derive(Debug, PartialEq)]
struct Group {
    priority: u16,
    plen: u8,
    entries: HashMap<(u128, u32), Entry>,
}

/// One routing table: by falling priority; within one, a network and a mark lead to one entry.
#[derive(Debug, Default, PartialEq)]
struct Table(Vec<Group>);

impl Table {
    fn find(&self, mark: u32, dst: u128) -> Option<&Entry> {
        self.0
            .iter()
            .find_map(|g| g.entries.get(&(mask(dst, g.plen), mark)))
    }

    /// The entries of a route's priority.
    fn group(&mut self, of: (u16, u8)) -> &mut Group {
        let place = self
            .0
            .binary_search_by(|g| of.cmp(&(g.priority, g.plen)))
            .unwrap_or_else(|place| {
                let group = Group {
                    priority: of.0,
                    plen: of.1,
                    entries: HashMap::new(),
                };
                self.0.insert(place, group);
                place
            });
        &mut self.0[place]
    }
}

/// Everything that a lookup reads: the tables, and the rules that say which to ask.
#[derive(Debug, PartialEq)]
pub(super) struct Tables {
    tables: BTreeMap<u32, Table>,
    pub rules: Rules,
    /// How many entries lead through each device.
    devices: BTreeMap<Arc<str>, usize>,
}

impl Tables {
    pub const fn new(rules: Rules) -> Tables {
        Tables {
            tables: BTreeMap::new(),
            rules,
            devices: BTreeMap::new(),
        }
    }

    /// Adds routes. Of several for one entry that with the smallest metric counts, of equal ones the latest.
    pub fn extend(&mut self, routes: impl Iterator<Item = Route>) {
        for r in routes {
            let table = self.tables.entry(r.table).or_default();
            let entries = &mut table.group((r.priority(), r.plen)).entries;
            let at = (r.dst, r.mark);
            if entries.get(&at).is_none_or(|old| r.metric <= old.metric) {
                let dev = r.hop.dev.clone();
                let entry = Entry {
                    local: r.local,
                    metric: r.metric,
                    hop: r.hop,
                };
                let old = entries.insert(at, entry);
                *self.devices.entry(dev).or_default() += 1;
                if let Some(old) = old {
                    self.leave(&old.hop.dev);
                }
            }
        }
    }

    /// Puts `routes` in place of all that lead to a network with a mark, in every table. True if the way is another now.
    pub fn replace(
        &mut self,
        (dst, plen): Network,
        mark: u32,
        routes: impl Iterator<Item = Route>,
    ) -> bool {
        let take = |tables: &mut Tables| {
            let mut out = Vec::new();
            for (id, table) in &mut tables.tables {
                for g in table.0.iter_mut().filter(|g| g.plen == plen) {
                    let entry = g.entries.remove(&(dst, mark));
                    out.extend(entry.map(|e| (*id, g.priority, e)));
                }
            }
            out
        };
        let old = take(self);
        old.iter().for_each(|(_, _, e)| self.leave(&e.hop.dev));
        self.extend(routes);
        let new = self.at((dst, plen), mark);
        let differs = !old.iter().map(|(t, p, e)| (*t, *p, e)).eq(new);
        for table in self.tables.values_mut() {
            table.0.retain(|g| !g.entries.is_empty());
        }
        differs
    }

    fn at(&self, (dst, plen): Network, mark: u32) -> impl Iterator<Item = (u32, u16, &Entry)> {
        self.tables.iter().flat_map(move |(id, table)| {
            let groups = table.0.iter().filter(move |g| g.plen == plen);
            groups.filter_map(move |g| Some((*id, g.priority, g.entries.get(&(dst, mark))?)))
        })
    }

    /// One entry less leads through a device.
    fn leave(&mut self, dev: &Arc<str>) {
        if let Some(n) = self.devices.get_mut(dev) {
            *n -= 1;
            if *n == 0 {
                self.devices.remove(dev);
            }
        }
    }

    /// Whether a table was ever there.
    pub fn has(&self, table: u32) -> bool {
        self.tables.contains_key(&table)
    }

    pub fn devices(&self) -> Vec<Arc<str>> {
        self.devices.keys().cloned().collect()
    }

    pub fn n_devices(&self) -> usize {
        self.devices.len()
    }

    pub fn lookup(&self, mark: u32, dst: IpAddr, src: Option<IpAddr>) -> Option<Hop> {
        if let Some(src) = src {
            // A source address must be one of ours.
            let local = self.tables.get(&RT_TABLE_LOCAL)?;
            local.find(mark, to_bits(src)).filter(|e| e.local)?;
        }
        let mut tables = self.rules.tables(dst.is_ipv4(), src);
        let found = tables.find_map(|t| self.tables.get(&t)?.find(mark, to_bits(dst)));
        let mut hop = found?.hop.clone();
        if let Some(src) = src {
            hop.src = src;
        }
        Some(hop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::common_len;
    use super::super::rules::Rule;
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

    fn tables_of(routes: Vec<Route>) -> Tables {
        let mut rules = Rules::none();
        rules.follow(std::iter::empty());
        let mut tables = Tables::new(rules);
        tables.extend(routes.into_iter());
        tables
    }

    #[test]
    fn the_user_goes_before_the_kernel_then_length_and_metric_count() {
        let mut user = route("172.0.0.0", 8, "user", None, "10.0.0.1");
        user.user = true;
        let mut slow = route("10.1.0.0", 16, "slow", None, "10.1.0.1");
        slow.metric = 9;
        let mut marked = route("10.0.0.0", 8, "marked", None, "10.0.0.1");
        marked.mark = 5;
        let t = tables_of(vec![
            route("0.0.0.0", 0, "default", Some("10.0.0.9"), "10.0.0.1"),
            route("10.0.0.0", 8, "eight", None, "10.0.0.1"),
            slow,
            route("10.1.0.0", 16, "sixteen", None, "10.1.0.1"),
            route("fc00::", 64, "six", None, "fc00::1"),
            user,
            route("172.16.0.0", 16, "kernel", None, "10.0.0.1"),
            marked,
        ]);
        let dev = |mark, dst: &str| t.lookup(mark, ip(dst), None).map(|h| h.dev.to_string());
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
        (own.local, own.table) = (true, RT_TABLE_LOCAL);
        let t = tables_of(vec![own, route("10.0.0.0", 24, "br0", None, "10.0.0.1")]);
        assert!(t.lookup(0, ip("10.0.0.2"), Some(ip("10.0.0.1"))).is_some());
        assert!(t.lookup(0, ip("10.0.0.2"), Some(ip("10.0.0.3"))).is_none());
    }

    #[test]
    fn a_table_is_asked_when_its_rule_is_there_and_before_a_longer_prefix_of_a_later_one() {
        let mut other = route("10.0.0.0", 8, "other", None, "10.0.0.1");
        other.table = 77;
        let main = route("10.1.0.0", 16, "main", None, "10.0.0.1");
        let mut t = tables_of(vec![other, main]);
        let dev = |t: &Tables| t.lookup(0, ip("10.1.0.9"), None).unwrap().dev;
        assert_eq!(&*dev(&t), "main");
        let rule = Rule {
            priority: 0,
            user: true,
            invert: false,
            ipv4: true,
            from: None,
            table: 77,
        };
        t.rules.add(rule.clone());
        assert_eq!(&*dev(&t), "other");
        assert!(t.rules.del(&rule));
        assert_eq!(&*dev(&t), "main");
    }

    #[test]
    fn what_leads_to_a_network_is_replaced_in_every_table() {
        let mut other = route("10.0.0.0", 8, "other", None, "10.0.0.1");
        other.table = 77;
        let main = route("10.0.0.0", 8, "main", None, "10.0.0.1");
        let mut t = tables_of(vec![other.clone(), main.clone()]);
        let at = main.network();
        assert!(!t.replace(at, 0, [main.clone(), other.clone()].into_iter()));
        assert!(t.replace(at, 0, [other.clone()].into_iter()));
        assert_eq!(t, {
            let mut same = tables_of(vec![other, main]);
            same.tables.get_mut(&RT_TABLE_MAIN).unwrap().0.clear();
            same.devices.remove("main");
            same
        });
        assert_eq!(t.devices().len(), 1);
    }
}
