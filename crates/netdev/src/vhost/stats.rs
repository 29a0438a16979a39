//! Counters of a port, by the names that `Interface.statistics` has for them.

use super::guest::Guest;
use super::tally::{SIZES, Tally};
use crate::Stats;

/// Sums over all rings of one direction: names, and which classes of sizes each counts.
const COARSE: [(&str, std::ops::Range<usize>); 7] = [
    ("1_to_64_packets", 0..2),
    ("65_to_127_packets", 2..3),
    ("128_to_255_packets", 3..4),
    ("256_to_511_packets", 4..5),
    ("512_to_1023_packets", 5..6),
    ("1024_to_1522_packets", 6..7),
    ("1523_to_max_packets", 7..8),
];

/// Frames that a guest sent and that were none.
pub fn malformed(guest: &Guest) -> u64 {
    let now: u64 = guest.slots().map(|(_, s)| s.sums.read().malformed).sum();
    guest.malformed.sum() + now
}

/// What is known without a guest.
pub fn without_guest(guest: &Guest) -> Stats {
    let custom = [
        ("ovs_tx_failure_drops", guest.tx_failed.sum()),
        ("ovs_tx_invalid_hwol_drops", 0),
        ("ovs_tx_mtu_exceeded_drops", guest.over_mtu.sum()),
        ("ovs_tx_retries", guest.retries.sum()),
    ];
    Stats {
        custom: custom.map(|(name, n)| (name.to_owned(), n)).into(),
        ..Stats::default()
    }
}

/// Of a guest that is there.
pub fn of(guest: &Guest) -> Stats {
    let mut stats = without_guest(guest);
    let (mut rx, mut tx) = (Tally::default(), Tally::default());
    for (index, slot) in guest.slots() {
        let of_ring = slot.sums.read();
        let (direction, sums) = match index.is_multiple_of(2) {
            true => ("tx", &mut tx),
            false => ("rx", &mut rx),
        };
        let queue = format!("{direction}_q{}_", index / 2);
        let named = [
            ("good_packets", of_ring.packets),
            ("good_bytes", of_ring.bytes),
            ("multicast_packets", of_ring.multicast),
            ("broadcast_packets", of_ring.broadcast),
            ("guest_notifications", of_ring.told),
        ];
        let sizes = SIZES.into_iter().zip(of_ring.sizes);
        for (name, n) in named.into_iter().chain(sizes) {
            stats.custom.push((format!("{queue}{name}"), n));
        }
        sums.packets += of_ring.packets;
        sums.bytes += of_ring.bytes;
        sums.multicast += of_ring.multicast;
        sums.broadcast += of_ring.broadcast;
        for (sum, n) in sums.sizes.iter_mut().zip(of_ring.sizes) {
            *sum += n;
        }
    }
    for (direction, sums) in [("rx", &rx), ("tx", &tx)] {
        for (name, classes) in COARSE {
            let n = sums.sizes[classes].iter().sum();
            stats.custom.push((format!("{direction}_{name}"), n));
        }
        let broadcast = (format!("{direction}_broadcast_packets"), sums.broadcast);
        stats.custom.push(broadcast);
    }
    stats
        .custom
        .push(("tx_multicast_packets".to_owned(), tx.multicast));
    Stats {
        rx_packets: Some(rx.packets),
        rx_bytes: Some(rx.bytes),
        rx_dropped: Some(malformed(guest)),
        multicast: Some(rx.multicast),
        tx_packets: Some(tx.packets),
        tx_bytes: Some(tx.bytes),
        tx_dropped: Some(guest.tx_dropped.sum()),
        ..stats
    }
}
