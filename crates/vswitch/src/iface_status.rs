//! What an `Interface` row tells of its device: state, address, status and counters.

use ferrovs_idl::open_vswitch::Interface;
use ferrovs_idl::{Idl, Txn, Uuid};
use ferrovs_netdev::{Flags, LinkStats, Netdev, Stats};
use ferrovs_packet::types::OfPort;

use crate::write::{put, put_map};

fn up_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// Writes state and status.
pub(crate) fn status(txn: &mut Txn, idl: &Idl, uuid: Uuid, netdev: &dyn Netdev) {
    put_map(txn, idl, uuid, Interface::STATUS, &netdev.status());
    let admin = netdev.flags().ok().map(|f| up_down(f.contains(Flags::UP)));
    put(txn, idl, uuid, Interface::ADMIN_STATE, admin);
    put(
        txn,
        idl,
        uuid,
        Interface::LINK_STATE,
        Some(up_down(netdev.carrier())),
    );
    put(
        txn,
        idl,
        uuid,
        Interface::LINK_RESETS,
        Some(netdev.carrier_resets()),
    );
    let features = netdev.features().ok().filter(|f| f.full_duplex.is_some());
    let duplex = features.and_then(|f| f.full_duplex);
    put(
        txn,
        idl,
        uuid,
        Interface::DUPLEX,
        duplex.map(|full| if full { "full" } else { "half" }),
    );
    let speed = features.map(|f| u64::from(f.speed_current) * 1_000_000);
    put(txn, idl, uuid, Interface::LINK_SPEED, speed);
    put(txn, idl, uuid, Interface::MTU, netdev.mtu().ok());
    put(
        txn,
        idl,
        uuid,
        Interface::MAC_IN_USE,
        netdev.etheraddr().ok().map(|m| m.to_string()),
    );
    put(
        txn,
        idl,
        uuid,
        Interface::IFINDEX,
        Some(netdev.ifindex().unwrap_or(0)),
    );
}

/// Writes the counters of one device among those of `links`.
pub(crate) fn statistics(
    txn: &mut Txn,
    idl: &Idl,
    uuid: Uuid,
    netdev: &dyn Netdev,
    links: &LinkStats,
) {
    ferrovs_runtime::coverage::NETDEV_GET_STATS.inc();
    let Ok(stats) = netdev.stats_among(links) else {
        return;
    };
    let pairs = counters(&stats);
    put(
        txn,
        idl,
        uuid,
        Interface::STATISTICS,
        pairs.iter().map(|(n, v)| (n.as_str(), *v)),
    );
}

/// The counters that the device has, by their names in the database.
fn counters(s: &Stats) -> Vec<(String, i64)> {
    let named = [
        ("rx_packets", s.rx_packets),
        ("tx_packets", s.tx_packets),
        ("rx_bytes", s.rx_bytes),
        ("tx_bytes", s.tx_bytes),
        ("rx_dropped", s.rx_dropped),
        ("tx_dropped", s.tx_dropped),
        ("rx_errors", s.rx_errors),
        ("tx_errors", s.tx_errors),
        ("rx_frame_err", s.rx_frame_errors),
        ("rx_over_err", s.rx_over_errors),
        ("rx_crc_err", s.rx_crc_errors),
        ("rx_missed_errors", s.rx_missed_errors),
        ("rx_multicast_packets", s.multicast),
        ("collisions", s.collisions),
    ];
    let named = named
        .into_iter()
        .filter_map(|(n, v)| Some((n.to_string(), v?)));
    let all = named.chain(s.custom.iter().cloned());
    all.map(|(n, v)| (n, i64::try_from(v).unwrap_or(i64::MAX)))
        .collect()
}

/// Writes the number of a port that works, and what it lacks all the same.
pub(crate) fn works(txn: &mut Txn, idl: &Idl, uuid: Uuid, ofport: OfPort, lacks: Option<&str>) {
    put(txn, idl, uuid, Interface::OFPORT, Some(i64::from(ofport.0)));
    put(txn, idl, uuid, Interface::ERROR, lacks);
}

/// Writes why an interface does not work, and empties what it told before.
pub(crate) fn failed(txn: &mut Txn, idl: &Idl, uuid: Uuid, error: &str) {
    put(txn, idl, uuid, Interface::OFPORT, Some(-1));
    put(txn, idl, uuid, Interface::ERROR, Some(error));
    macro_rules! clear {
        ($($column:ident)*) => {$(
            let empty = ferrovs_idl::Datum::Empty;
            if let Some(row) = idl.row::<Interface>(uuid)
                && *row.datum(Interface::$column) != empty
            {
                use ferrovs_idl::Table;
                txn.write(Interface::INDEX, uuid, Interface::$column.index(), empty);
            }
        )*};
    }
    clear! {
        STATUS ADMIN_STATE DUPLEX LINK_SPEED LINK_STATE MAC_IN_USE MTU IFINDEX
        CFM_FAULT CFM_FAULT_STATUS CFM_REMOTE_MPIDS LACP_CURRENT STATISTICS
    }
}
