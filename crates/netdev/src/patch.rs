//! Patch ports: two ports of two bridges that are one wire.
//!
//! A patch port has no device and no traffic of its own; translation of a packet that goes out of
//! one goes on at its peer. The class keeps the configuration, a made-up address and the traffic
//! counters that whoever translates adds to ([`Netdev::account`](crate::Netdev::account)).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_packet::buffer::Batch;
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::{NETDEV, NETDEV_VPORT};

use crate::virt::{VirtualStats, fresh_mac};
use crate::{Features, Flags, Netdev, Rxq, Stats};

#[derive(Debug)]
struct Patch {
    name: String,
    state: Mutex<State>,
    stats: VirtualStats,
    seq: AtomicU64,
}

#[derive(Debug)]
struct State {
    peer: String,
    mac: MacAddr,
}

pub fn open(name: &str, _kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Patch {
        name: name.to_owned(),
        state: Mutex::new(State {
            peer: String::new(),
            mac: fresh_mac(),
        }),
        stats: VirtualStats::default(),
        seq: AtomicU64::new(1),
    }))
}

impl Patch {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        crate::change_seq().change();
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(95)) // EOPNOTSUPP
}

impl Netdev for Patch {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "patch"
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        let name = &self.name;
        let wrong = match options.get("peer") {
            None => Some(format!("{name}: patch type requires valid 'peer' argument")),
            Some(_) if options.len() > 1 => {
                Some(format!("{name}: patch type takes only a 'peer' argument"))
            }
            Some(peer) if peer == name => Some(format!("{name}: patch peer must not be self")),
            Some(_) => None,
        };
        if let Some(text) = wrong {
            vlog::err!(NETDEV_VPORT, "{text}");
            vlog::warn!(
                NETDEV,
                "{name}: could not set configuration (Invalid argument)"
            );
            return Err(text);
        }
        let peer = options.get("peer").cloned().unwrap_or_default();
        let mut st = self.state();
        if st.peer != peer {
            st.peer = peer;
            drop(st);
            self.changed();
        }
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        let peer = self.state().peer.clone();
        let peer = (!peer.is_empty()).then(|| ("peer".to_owned(), peer));
        peer.into_iter().collect()
    }

    fn n_rxq(&self) -> usize {
        0
    }

    fn n_txq(&self) -> usize {
        0
    }

    fn rxq_open(&self, _queue: usize) -> io::Result<Box<dyn Rxq>> {
        unsupported()
    }

    fn send(&self, _queue: usize, batch: &mut Batch) -> io::Result<()> {
        batch.clear();
        unsupported()
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(self.state().mac)
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        self.state().mac = mac;
        self.changed();
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        unsupported()
    }

    fn set_mtu(&self, _mtu: u32) -> io::Result<()> {
        unsupported()
    }

    fn flags(&self) -> io::Result<Flags> {
        Ok(Flags::UP | Flags::PROMISC)
    }

    fn update_flags(&self, off: Flags, _on: Flags) -> io::Result<()> {
        if off.intersects(Flags::UP | Flags::PROMISC) {
            unsupported()
        } else {
            Ok(())
        }
    }

    fn carrier(&self) -> bool {
        true
    }

    fn carrier_resets(&self) -> u64 {
        0
    }

    fn ifindex(&self) -> Option<u32> {
        None
    }

    fn stats(&self) -> io::Result<Stats> {
        Ok(self.stats.stats())
    }

    fn account(&self, rx: (u64, u64), tx: (u64, u64)) {
        self.stats.account(rx, tx);
    }

    fn features(&self) -> io::Result<Features> {
        unsupported()
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        unsupported()
    }

    fn status(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    fn patch_peer(&self) -> Option<String> {
        let peer = self.state().peer.clone();
        (!peer.is_empty()).then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn a_patch_port_wants_exactly_a_peer_that_is_not_itself() {
        let p = open("p0", "patch").unwrap();
        let err = |o: &[(&str, &str)]| p.set_config(&options(o)).unwrap_err();
        assert_eq!(err(&[]), "p0: patch type requires valid 'peer' argument");
        assert_eq!(
            err(&[("peer", "a"), ("x", "y")]),
            "p0: patch type takes only a 'peer' argument"
        );
        assert_eq!(err(&[("peer", "p0")]), "p0: patch peer must not be self");
        assert_eq!(p.patch_peer(), None);
        let o = options(&[("peer", "p1")]);
        p.set_config(&o).unwrap();
        assert_eq!((p.patch_peer().as_deref(), p.config()), (Some("p1"), o));
    }
}
