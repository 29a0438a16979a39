//! The order in which the ports of a bridge are listed and flooded to: that of a hash table of Open vSwitch, which
//! scripts see in `dump-ports` and in the actions of floods.
//!
//! The table is chained and doubles when it holds twice as many ports as it has buckets; a port goes to the front of
//! its chain. Its hash is MurmurHash3 of the port number. The bridge's own port is the first to come.

use ferrovs_packet::types::OfPort;

fn hash(port: OfPort) -> u32 {
    let mut h = u32::from(port.0);
    // Two words of data, both zero.
    for _ in 0..2 {
        h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    h ^= 8;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// The mask of a table for `n` ports: all ones, never just one bit.
fn mask_for(n: usize) -> usize {
    match n / 2 {
        0 => 0,
        half => (half + 1).next_power_of_two().max(4) - 1,
    }
}

/// `ports` in the order in which they are listed.
pub fn listed(ports: impl IntoIterator<Item = OfPort>) -> Vec<OfPort> {
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_unstable_by_key(|&p| (p != OfPort::LOCAL, p));
    let mut mask = 0;
    let mut buckets: Vec<Vec<OfPort>> = vec![Vec::new()];
    for (n, &port) in (1..).zip(&ports) {
        // The front of a chain is the end of its vector.
        buckets[hash(port) as usize & mask].push(port);
        if n / 2 > mask {
            mask = mask_for(n);
            let old = std::mem::take(&mut buckets);
            buckets.resize(mask + 1, Vec::new());
            for port in old.iter().flat_map(|chain| chain.iter().rev()) {
                buckets[hash(*port) as usize & mask].push(*port);
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
    fn ports_are_listed_as_open_vswitch_lists_them() {
        let order = |n: u16| {
            let ports = (1..=n).map(OfPort).chain([OfPort::LOCAL]);
            listed(ports).into_iter().map(|p| p.0).collect::<Vec<_>>()
        };
        const L: u16 = 65534;
        assert_eq!(order(2), [L, 1, 2]);
        assert_eq!(order(5), [4, L, 1, 5, 2, 3]);
        assert_eq!(order(7), [L, 5, 1, 4, 6, 7, 2, 3]);
        assert_eq!(order(12), [11, 10, 8, L, 9, 5, 12, 1, 4, 6, 7, 2, 3]);
    }
}
