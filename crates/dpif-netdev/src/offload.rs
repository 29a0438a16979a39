//! Which port's flows are offloaded to whom, and the packets that come with their flow known.
//!
//! As long as nothing is offloaded this costs a look at a flag, for each batch and for each flow that comes or goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Once, PoisonError, RwLock, RwLockReadGuard};

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::Errno;
use ferrovs_datapath::offload::{
    self, FlowRef, Offload, Offloaded, PortRef, Provider, Provides, is_enabled,
};
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::flow::Match;
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::parse::Parsed;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_OFFLOAD;

use crate::counters::Count;
use crate::flow::DpFlow;
use crate::lookup::tcp_flags;
use crate::port::Port;
use crate::worker::Worker;

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
        if !is_enabled() || self.providers.is_empty() {
            return None;
        }
        let place = self.ports().get(&number).cloned()?;
        let provider = place.provider.as_deref()?;
        Some(run(provider, place.port(number)))
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

impl Worker {
    /// Handles packets that a port received: those first whose flows somebody else knows, each in its turn.
    pub fn received(&mut self, batch: &mut Batch, port: DpPort, emc: bool) {
        if is_enabled() && !self.shared.offloads.providers.is_empty() {
            self.received_marked(batch, port, emc);
        } else {
            self.process(batch, emc, 0);
        }
    }

    #[cold]
    fn received_marked(&mut self, batch: &mut Batch, port: DpPort, emc: bool) {
        let shared = self.shared.clone();
        let recognise = |packet: &mut Packet| {
            let known = shared
                .offloads
                .with(port, |provider, port| provider.recognise(port, packet));
            known.flatten()
        };
        let mut others = Batch::new();
        for mut packet in std::mem::take(batch) {
            let known = recognise(&mut packet).and_then(|ufid| self.me.flows.get(ufid));
            let Some(flow) = known else {
                others.push(packet);
                continue;
            };
            // Packets keep their order.
            if !others.is_empty() {
                self.process(&mut others, emc, 0);
            }
            self.run_marked(packet, &flow);
        }
        if !others.is_empty() {
            self.process(&mut others, emc, 0);
        }
    }

    /// Runs the actions of a flow on a packet of it.
    fn run_marked(&mut self, mut packet: Packet, flow: &Arc<DpFlow>) {
        // Actions need to know where headers are.
        let mut key = MiniflowBuf::new();
        let parsed = key.extract(&mut packet);
        let mut one = Batch::new();
        if parsed == Parsed::TruncatedEthernet {
            one.push(packet);
            return self.process(&mut one, false, 0);
        }
        self.me.counters.add(Count::MarkHit, 1);
        let flags = tcp_flags(key.view());
        flow.count(1, packet.size() as u64, flags, self.now);
        one.push(packet);
        let actions = flow.actions();
        self.execute(&mut one, &actions, 0);
    }
}
