//! What is written back to the rows beside the outcome of a configuration: status as it changes,
//! statistics at intervals.

use std::time::Instant;

use ferrovs_datapath::features::{DpFeatures, FEATURES};
use ferrovs_idl::open_vswitch as db;
use ferrovs_idl::{Idl, Txn};
use ferrovs_netdev::LinkStats;
use ferrovs_ofproto::ofprotos::Ofprotos;

use crate::apply::Outcome;
use crate::bridges::{Bridges, Iface};
use crate::config::{Config, get_bool};
use crate::scope::Scope;
use crate::write::{put, put_map};
use crate::{controllers, iface_status, system_stats};

/// Writes how a configuration came out.
pub(crate) fn outcome(txn: &mut Txn, idl: &Idl, outcome: &Outcome) {
    for (uuid, ofport, lacks) in &outcome.works {
        iface_status::works(txn, idl, *uuid, *ofport, lacks.as_deref());
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
pub(crate) fn bridges(txn: &mut Txn, idl: &Idl, all: &Bridges, config: &Config, scope: &Scope) {
    for name in scope.names(config.bridges.keys()) {
        let Some(wanted) = config.bridges.get(name) else {
            continue;
        };
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

/// Writes what the datapaths can do, for those that have a row.
pub(crate) fn datapaths(
    txn: &mut Txn,
    idl: &Idl,
    ofprotos: &Ofprotos,
    config: &Config,
    kind_of: impl Fn(&str) -> String,
) {
    for (kind, uuid) in &config.datapaths {
        if let Some(backer) = ofprotos.backer(&kind_of(kind)) {
            let pairs = capabilities(&backer.snapshot.load().features);
            put(txn, idl, *uuid, db::Datapath::CAPABILITIES, pairs);
        }
    }
}

/// The features by key; who tracks connections can also flush them.
fn capabilities(f: &DpFeatures) -> Vec<(&'static str, String)> {
    let flush = ("ct_flush", f.ct_state.to_string());
    let all = FEATURES.iter().map(|x| (x.key, (x.get)(f).to_string()));
    all.chain([flush]).collect()
}

/// Writes the state of the interfaces whose devices changed, and names them to `changed`.
pub(crate) fn status(
    txn: &mut Txn,
    idl: &Idl,
    all: &mut Bridges,
    mut changed: impl FnMut(&str, &str),
) {
    let untold = all.take_untold();
    let iface = |(bridge, name): &(String, String)| all.get(bridge)?.iface(name);
    let new = untold
        .iter()
        .filter_map(iface)
        .filter(|i| i.change_seq == 0);
    let links = link_stats(new);
    for (bridge, name) in &untold {
        let iface = all.get_mut(bridge).and_then(|b| b.iface_mut(name));
        let Some(i) = iface else { continue };
        let seq = i.netdev.change_seq();
        let Some(uuid) = i.uuid.filter(|_| seq != i.change_seq) else {
            continue;
        };
        if i.change_seq == 0 {
            // A new interface shows its counters at once.
            iface_status::statistics(txn, idl, uuid, &*i.netdev, &links);
        } else {
            changed(bridge, name);
        }
        i.change_seq = seq;
        iface_status::status(txn, idl, uuid, &*i.netdev);
    }
}

/// To be asked for the counters of these.
fn link_stats<'a>(ifaces: impl Iterator<Item = &'a Iface>) -> LinkStats {
    let of_host = ifaces.filter(|i| i.netdev.ifindex().is_some());
    LinkStats::new(of_host.count())
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
    let links = link_stats(all.iter().flat_map(|(_, b)| b.ifaces()).map(|(_, i)| i));
    for (name, wanted) in &config.bridges {
        let (Some(bridge), Some(ofproto)) = (all.get(name), ofprotos.ofproto(name)) else {
            continue;
        };
        for (_, there) in bridge.ifaces() {
            if let Some(port) = ofproto.ports.get(&there.ofport) {
                port.sync_counters();
            }
            if let Some(uuid) = there.uuid {
                iface_status::statistics(txn, idl, uuid, &*there.netdev, &links);
            }
        }
        for m in &wanted.mirrors {
            // Nothing is mirrored, so nothing is counted: zeros would look like a mirror that idles.
            put(txn, idl, m.uuid, db::Mirror::STATISTICS, [("", 0u64); 0]);
        }
    }
    controllers(txn, idl, ofprotos, config, now);
    system(txn, idl, config);
}

/// Writes the state of the controllers.
pub(crate) fn controllers(
    txn: &mut Txn,
    idl: &Idl,
    ofprotos: &Ofprotos,
    config: &Config,
    now: Instant,
) {
    for (name, wanted) in &config.bridges {
        if let Some(bridge) = ofprotos.bridge(name) {
            controllers::refresh(txn, idl, &bridge.connmgr, wanted, now);
        }
    }
}

fn system(txn: &mut Txn, idl: &Idl, config: &Config) {
    let Some(root) = idl.first::<db::OpenVSwitch>() else {
        return;
    };
    let other = &config.other_config;
    let wanted =
        get_bool(other, "enable-statistics", false) || get_bool(other, "statistics-enable", false);
    let pairs = if wanted {
        system_stats::collect()
    } else {
        Default::default()
    };
    put_map(txn, idl, root.uuid(), db::OpenVSwitch::STATISTICS, &pairs);
}
