//! What is written back to the rows beside the outcome of a configuration: status as it changes,
//! statistics at intervals.

use std::time::Instant;

use ferrovs_idl::open_vswitch as db;
use ferrovs_idl::{Idl, Txn};
use ferrovs_ofproto::ofprotos::Ofprotos;

use crate::apply::{Bridges, Outcome};
use crate::config::Config;
use crate::write::{put, put_map};
use crate::{controllers, iface_status, system_stats};

/// Writes how a configuration came out.
pub(crate) fn outcome(txn: &mut Txn, idl: &Idl, outcome: &Outcome) {
    for (uuid, ofport) in &outcome.works {
        iface_status::works(txn, idl, *uuid, *ofport);
    }
    for (uuid, error) in &outcome.errors {
        iface_status::failed(txn, idl, *uuid, error);
    }
}

/// Writes what the program can do.
pub(crate) fn abilities(txn: &mut Txn, idl: &Idl, ofprotos: &Ofprotos) {
    let Some(root) = idl.first::<db::OpenVSwitch>() else {
        return;
    };
    let uuid = root.uuid();
    put(
        txn,
        idl,
        uuid,
        db::OpenVSwitch::DATAPATH_TYPES,
        ofprotos.kinds(),
    );
    put(
        txn,
        idl,
        uuid,
        db::OpenVSwitch::IFACE_TYPES,
        ferrovs_netdev::kinds(),
    );
    put(txn, idl, uuid, db::OpenVSwitch::DPDK_INITIALIZED, false);
    put(txn, idl, uuid, db::OpenVSwitch::DPDK_VERSION, Some("none"));
}

/// Writes the identity of each bridge and the abilities of the datapaths.
pub(crate) fn bridges(txn: &mut Txn, idl: &Idl, all: &Bridges, config: &Config) {
    for (name, wanted) in &config.bridges {
        let Some(bridge) = all.get(name) else {
            put(txn, idl, wanted.uuid, db::Bridge::DATAPATH_ID, None::<&str>);
            continue;
        };
        let id = format!("{:016x}", bridge.datapath_id);
        put(txn, idl, wanted.uuid, db::Bridge::DATAPATH_ID, Some(id));
        put(
            txn,
            idl,
            wanted.uuid,
            db::Bridge::DATAPATH_VERSION,
            "<built-in>",
        );
    }
}

/// Writes the state of the interfaces whose devices changed, or of all.
pub(crate) fn status(txn: &mut Txn, idl: &Idl, all: &mut Bridges, config: &Config, every: bool) {
    for (name, wanted) in &config.bridges {
        let Some(bridge) = all.get_mut(name) else {
            continue;
        };
        for i in wanted.ports.iter().flat_map(|p| &p.interfaces) {
            let (Some(uuid), Some(there)) = (i.uuid, bridge.ifaces.get_mut(&i.name)) else {
                continue;
            };
            let seq = there.netdev.change_seq();
            if every || seq != there.change_seq {
                if there.change_seq == 0 {
                    // A new interface shows its counters at once.
                    iface_status::statistics(txn, idl, uuid, &*there.netdev);
                }
                there.change_seq = seq;
                iface_status::status(txn, idl, uuid, &*there.netdev);
            }
        }
    }
}

/// Whether some interface's device changed since its row was written.
pub(crate) fn status_is_stale(all: &Bridges) -> bool {
    let mut ifaces = all.values().flat_map(|b| b.ifaces.values());
    ifaces.any(|i| i.netdev.change_seq() != i.change_seq)
}

/// Writes the counters.
pub(crate) fn statistics(
    txn: &mut Txn,
    idl: &Idl,
    ofprotos: &Ofprotos,
    all: &Bridges,
    config: &Config,
    now: Instant,
) {
    for (name, wanted) in &config.bridges {
        let (Some(bridge), Some(ofproto)) = (all.get(name), ofprotos.bridge(name)) else {
            continue;
        };
        for i in wanted.ports.iter().flat_map(|p| &p.interfaces) {
            if let (Some(uuid), Some(there)) = (i.uuid, bridge.ifaces.get(&i.name)) {
                if let Some(port) = ofproto.ports.get(&there.ofport) {
                    port.sync_counters();
                }
                iface_status::statistics(txn, idl, uuid, &*there.netdev);
            }
        }
        for m in &wanted.mirrors {
            if let Some((packets, bytes)) = ofproto.mirror_stats(&m.name) {
                let pairs = [("tx_bytes", bytes), ("tx_packets", packets)];
                put(txn, idl, m.uuid, db::Mirror::STATISTICS, pairs);
            }
        }
        controllers::refresh(txn, idl, ofproto, wanted, now);
    }
    system(txn, idl, config);
}

fn system(txn: &mut Txn, idl: &Idl, config: &Config) {
    let Some(root) = idl.first::<db::OpenVSwitch>() else {
        return;
    };
    let other = &config.other_config;
    let wanted = crate::settings::get_bool(other, "enable-statistics", false)
        || crate::settings::get_bool(other, "statistics-enable", false);
    let pairs = if wanted {
        system_stats::collect()
    } else {
        Default::default()
    };
    put_map(txn, idl, root.uuid(), db::OpenVSwitch::STATISTICS, &pairs);
}
