//! The order in which the ports of a bridge are added, listed and flooded to: that of hash tables of Open vSwitch,
//! which scripts see in port numbers, in `dump-ports` and in the actions of floods.
//!
//! A table is chained and doubles when it holds twice as many ports as it has buckets; a port goes to the front of
//! its chain. The hash is MurmurHash3 of the port's number, or of its name where it has no number yet. The bridge's
//! own port is the first to come.

use ferrovs_packet::hash::known;
use ferrovs_packet::types::{DpPort, OfPort};

fn hash(port: OfPort) -> u32 {
    known::int(port.0.into(), 0)
}

fn hash_name(name: &str) -> u32 {
    known::bytes(name.as_bytes(), 0)
}

/// Where a port called `name` comes among the `n` that a bridge is to have: of ports in the same place any may be
/// the first.
pub fn place(name: &str, n: usize) -> usize {
    hash_name(name) as usize & mask_for(n)
}

/// The mask of a table for `n` ports: all ones, never just one bit.
fn mask_for(n: usize) -> usize {
    match n / 2 {
        0 => 0,
        half => (half + 1).next_power_of_two().max(4) - 1,
    }
}

/// `ports` in the order in which they are listed. Which of two in one chain comes first depends on when they were
/// added; the datapath's numbers, which grow, tell it.
pub fn listed(ports: impl IntoIterator<Item = (OfPort, DpPort)>) -> Vec<OfPort> {
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_unstable_by_key(|&(p, dp)| (p != OfPort::LOCAL, dp, p));
    let ports: Vec<_> = ports.into_iter().map(|(port, _)| port).collect();
    in_table(&ports, |port| hash(*port))
}

/// Things with names, which were added in this order, as a table has them.
pub fn by_name<T: Copy>(things: &[T], name: impl Fn(&T) -> &str) -> Vec<T> {
    in_table(things, |thing| hash_name(name(thing)))
}

/// What a table has in its chains, one after the other, when all was added.
fn in_table<T: Copy>(things: &[T], hash: impl Fn(&T) -> u32) -> Vec<T> {
    let mut mask = 0;
    let mut buckets: Vec<Vec<T>> = vec![Vec::new()];
    for (n, &thing) in (1..).zip(things) {
        // The front of a chain is the end of its vector.
        buckets[hash(&thing) as usize & mask].push(thing);
        if n / 2 > mask {
            mask = mask_for(n);
            let old = std::mem::take(&mut buckets);
            buckets.resize_with(mask + 1, Vec::new);
            for thing in old.iter().flat_map(|chain| chain.iter().rev()) {
                buckets[hash(thing) as usize & mask].push(*thing);
            }
        }
    }
    let in_order = buckets.iter().flat_map(|chain| chain.iter().rev());
    in_order.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_added_as_open_vswitch_adds_them() {
        let mut names = [
            "bar", "baz", "br0", "eth0", "foo", "p2", "port10", "tap3", "veth1", "xp1", "xp2", "p1",
        ];
        names.sort_by_key(|name| place(name, 12));
        let want = [
            "port10", "xp2", "foo", "baz", "xp1", "p1", "p2", "eth0", "br0", "bar", "veth1", "tap3",
        ];
        let place = |list: [&str; 12]| list.map(|name| place(name, 12));
        assert_eq!(place(names), place(want));
    }

    #[test]
    fn ports_are_listed_as_open_vswitch_lists_them() {
        let order = |n: u16| {
            let ports = (1..=n).map(|p| (OfPort(p), DpPort(p.into())));
            listed(ports.chain([(OfPort::LOCAL, DpPort(100))]))
                .into_iter()
                .map(|p| p.0)
                .collect::<Vec<_>>()
        };
        const L: u16 = 65534;
        let late = [
            (OfPort::LOCAL, DpPort(1)),
            (OfPort(2), DpPort(2)),
            (OfPort(1), DpPort(3)),
        ];
        assert_eq!(listed(late), [OfPort(1), OfPort::LOCAL, OfPort(2)]);
        assert_eq!(order(2), [L, 1, 2]);
        assert_eq!(order(5), [4, L, 1, 5, 2, 3]);
        assert_eq!(order(7), [L, 5, 1, 4, 6, 7, 2, 3]);
        assert_eq!(order(12), [11, 10, 8, L, 9, 5, 12, 1, 4, 6, 7, 2, 3]);
    }
}
