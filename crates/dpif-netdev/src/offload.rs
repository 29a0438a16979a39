//! Which port's flows are offloaded to whom.
//!
//! As long as nothing is offloaded this costs a look at a flag, for each batch and for each flow that comes or goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Once, PoisonError, RwLock, RwLockReadGuard};

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{Errno, Ufid};
use ferrovs_datapath::offload::{
    self, FlowRef, Offload, Offloaded, PortRef, Provider, Provides, is_enabled,
};
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::Match;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_OFFLOAD;

use crate::flow::DpFlow;
use crate::port::Port;

mod dummy;

/// Set in the configuration of a port: who is asked first.
const PRIORITY: &str = "hw-offload-priority";

/// The providers of a datapath, and whose ports are.
pub struct Offloads {
    providers: Vec<Arc<dyn Provider>>,
    ports: RwLock<BTreeMap<DpPort, Place>>,
}

/// A port, and who takes it.
#[derive(Clone)]
struct Place {
    name: String,
    kind: String,
    provider: Option<Arc<dyn Provider>>,
}

impl Place {
    fn port(&self, number: DpPort) -> PortRef<'_> {
        PortRef {
            number,
            name: &self.name,
            kind: &self.kind,
        }
    }
}

impl Offloads {
    /// Of a datapath for tests, or of one that has nobody yet who offloads.
    pub fn new(dummy: bool) -> Offloads {
        let all = match dummy {
            true => dummy::providers(),
            false => Vec::new(),
        };
        let kinds: Vec<&str> = all.iter().map(|p| p.kind()).collect();
        let list = offload::priority();
        // What ends the list of a port means nothing here.
        let known = |name: &&str| dummy::KINDS.contains(name);
        let (known, unknown): (Vec<_>, Vec<_>) = offload::names(&list).partition(known);
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            for name in unknown {
                vlog::warn!(
                    DPIF_OFFLOAD,
                    "hw-offload-priority configuration has an unknown type; {name}"
                );
            }
        });
        // Those that are named come first.
        let mut order = offload::named(&known.join(","), &kinds);
        let rest = (0..all.len()).filter(|place| !order.contains(place));
        let rest: Vec<usize> = rest.collect();
        order.extend(rest);
        Offloads {
            providers: order.into_iter().map(|place| all[place].clone()).collect(),
            ports: RwLock::default(),
        }
    }

    fn ports(&self) -> RwLockReadGuard<'_, BTreeMap<DpPort, Place>> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a port, whose configuration may say to whom.
    pub fn port_added(&self, port: &Port, config: &BTreeMap<String, String>) {
        if self.providers.is_empty() {
            return;
        }
        let kinds: Vec<&str> = self.providers.iter().map(|p| p.kind()).collect();
        let mut place = Place {
            name: port.name.clone(),
            kind: port.kind.clone(),
            provider: None,
        };
        // Those that are named, if any are, and nobody else.
        let asked = match config.get(PRIORITY) {
            Some(list) => offload::named(list, &kinds),
            None => (0..kinds.len()).collect(),
        };
        let mut asked = asked.into_iter().map(|n| &self.providers[n]);
        place.provider = asked.find(|p| p.takes(place.port(port.number))).cloned();
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports.insert(port.number, place);
    }

    /// The first configuration of a port: it was offered without.
    pub fn port_configured(&self, port: &Port, config: &BTreeMap<String, String>) {
        if config.contains_key(PRIORITY) {
            self.port_gone(port.number);
            self.port_added(port, config);
        }
    }

    pub fn port_gone(&self, number: DpPort) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = ports.remove(&number)
            && let Some(provider) = &place.provider
        {
            provider.port_gone(place.port(number));
        }
    }

    /// Runs with the provider of a port, if flows are offloaded and it has one.
    fn with<T>(
        &self,
        number: DpPort,
        run: impl FnOnce(&dyn Provider, PortRef<'_>) -> T,
    ) -> Option<T> {
        if !self.are_used() {
            return None;
        }
        let place = self.ports().get(&number).cloned()?;
        let provider = place.provider.as_deref()?;
        Some(run(provider, place.port(number)))
    }

    /// Whether flows are offloaded, and there is somebody who could take them.
    #[inline]
    pub fn are_used(&self) -> bool {
        is_enabled() && !self.providers.is_empty()
    }

    /// The flow that a packet which a port received was recognised to be of.
    pub fn recognise(&self, port: DpPort, packet: &mut Packet) -> Option<Ufid> {
        let known = self.with(port, |provider, port| provider.recognise(port, packet));
        known.flatten()
    }

    /// A flow came.
    pub fn put(&self, flow: &DpFlow, actions: &[Action]) {
        self.tell(flow, actions, |provider, port, flow| {
            provider.put(port, flow)
        });
    }

    /// A flow has other actions.
    pub fn changed(&self, flow: &DpFlow, actions: &[Action]) {
        if flow.offloaded() != Offloaded::No {
            self.tell(flow, actions, |provider, port, flow| {
                provider.changed(port, flow)
            });
        }
    }

    fn tell(
        &self,
        flow: &DpFlow,
        actions: &[Action],
        what: impl FnOnce(&dyn Provider, PortRef<'_>, FlowRef<'_>) -> Result<Offloaded, Errno>,
    ) {
        let put = |provider: &dyn Provider, port: PortRef<'_>| {
            let match_: Match = flow.match_();
            let put = FlowRef {
                ufid: flow.ufid,
                match_: &match_,
                actions,
            };
            what(provider, port, put).unwrap_or_default()
        };
        if let Some(done) = self.with(DpPort(flow.in_port()), put) {
            flow.set_offloaded(done);
        }
    }

    /// A flow goes.
    pub fn del(&self, flow: &DpFlow) {
        if flow.offloaded() != Offloaded::No {
            flow.set_offloaded(Offloaded::No);
            self.with(DpPort(flow.in_port()), |provider, port| {
                provider.del(port, flow.ufid);
            });
        }
    }
}

impl Offload for Offloads {
    fn providers(&self) -> Vec<Provides> {
        let ports = self.ports();
        let is = |place: &Place, kind| place.provider.as_ref().is_some_and(|p| p.kind() == kind);
        let of = |kind: &'static str| {
            let ports = ports.iter().filter(|(_, place)| is(place, kind));
            Provides {
                kind,
                ports: ports.map(|(n, place)| (*n, place.name.clone())).collect(),
            }
        };
        self.providers.iter().map(|p| of(p.kind())).collect()
    }
}
