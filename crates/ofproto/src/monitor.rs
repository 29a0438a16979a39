//! The thread that drives the protocols which the switch itself speaks on its ports.
//!
//! The main thread may be busy for long, with a bundle or a database; a neighbour that hears nothing takes that for
//! the end of the link. So the machines of a port ([`PortMachines`], one mutex for each port) have a thread of their
//! own, which sleeps until the next of their deadlines ([`Deadlines`]). Packets for them are given to them by the
//! thread on which they come up, in the middle of a translation.
//!
//! ```text
//!   main thread     settings -----------> +--------------+
//!   any thread      packet, by xlate ---> | PortMachines | --- frames ---> Udpif::packet_out
//!   monitor thread  deadline -----------> +--------------+
//! ```
//!
//! Frames are sent when the mutex is free again: through a patch port one may reach the machines of another port at
//! once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use ferrovs_datapath::action::SlowPath;
use ferrovs_openflow::action::Action;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::Flow;
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::{MacAddr, OfPort, eth_type};
use ferrovs_protocols::lldp::{Event, Identity, Lldp, Remark};
use ferrovs_runtime::vlog::modules::{LLDP, OVS_LLDP};
use ferrovs_runtime::{Poller, clock, vlog};
use ferrovs_sync::Seq;

use crate::backer::Backer;
use crate::xlate::snapshot::{BridgeId, PacketTaker};

/// A VLAN that shall pass a port from now on, or no more, because of a mapping of Auto Attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanChange {
    pub port: String,
    pub vlan: u16,
    pub add: bool,
}

/// The monitor thread, which begins with the first port that has machines.
#[derive(Default)]
pub struct Monitor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// I-SIDs that shall be mapped to VLANs, on every port.
    mappings: BTreeMap<u32, u16>,
}

/// What ports and the thread have in common.
#[derive(Default)]
struct Shared {
    /// Ports whose deadlines changed.
    changed: Mutex<Vec<Weak<PortMachines>>>,
    wake: Seq,
    stopped: AtomicBool,
    vlan_changes: Mutex<Vec<VlanChange>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Monitor {
    /// Machines for a port, with all mappings; they are off.
    pub fn add_port(
        &mut self,
        name: &str,
        place: (BridgeId, OfPort),
        backer: &Arc<Backer>,
    ) -> Arc<PortMachines> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let port = Arc::new(PortMachines {
            id: NEXT.fetch_add(1, Relaxed),
            name: name.into(),
            place,
            backer: Arc::downgrade(backer),
            shared: self.shared.clone(),
            lldp_is_on: AtomicBool::new(false),
            lldp: Mutex::new(Lldp::new(name)),
        });
        for (isid, vlan) in &self.mappings {
            port.add_mapping(*isid, *vlan);
        }
        if self.thread.is_none() {
            self.thread = Some(spawn(self.shared.clone()));
        }
        port
    }

    /// Wants an I-SID mapped to a VLAN, on these ports and all that come.
    pub fn add_mapping<'a>(
        &mut self,
        isid: u32,
        vlan: u16,
        ports: impl Iterator<Item = &'a Arc<PortMachines>>,
    ) {
        vlog::info!(
            OVS_LLDP,
            "Adding mapping ISID={isid}, VLAN={vlan}, aux={isid:#x}"
        );
        self.mappings.insert(isid, vlan);
        for port in ports {
            vlog::info!(OVS_LLDP, "   lldp->name={}", port.name);
            port.add_mapping(isid, vlan);
        }
    }

    /// Wants it no more.
    pub fn remove_mapping<'a>(
        &mut self,
        isid: u32,
        ports: impl Iterator<Item = &'a Arc<PortMachines>>,
    ) {
        vlog::info!(OVS_LLDP, "Removing mapping aux={isid:#x}");
        self.mappings.remove(&isid);
        ports.for_each(|port| port.remove_mapping(isid));
    }

    pub fn has_vlan_changes(&self) -> bool {
        !lock(&self.shared.vlan_changes).is_empty()
    }

    /// VLANs that ports shall carry, or no more, in order.
    pub fn take_vlan_changes(&self) -> Vec<VlanChange> {
        std::mem::take(&mut *lock(&self.shared.vlan_changes))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        self.shared.wake.change();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// The machines of one port. Whoever holds their mutex writes no log and sends nothing.
pub struct PortMachines {
    id: u64,
    name: Box<str>,
    place: (BridgeId, OfPort),
    backer: Weak<Backer>,
    shared: Arc<Shared>,
    /// As the machine says; looked at for each packet that comes up.
    lldp_is_on: AtomicBool,
    lldp: Mutex<Lldp>,
}

impl fmt::Debug for PortMachines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machines of port {}", self.place.1.0)
    }
}

impl PortMachines {
    pub fn lldp(&self) -> MutexGuard<'_, Lldp> {
        lock(&self.lldp)
    }

    pub fn lldp_is_on(&self) -> bool {
        self.lldp_is_on.load(Relaxed)
    }

    /// Turns LLDP on or off.
    pub fn set_lldp(self: &Arc<Self>, on: bool, now: Instant) {
        self.lldp().set_on(on, now);
        self.lldp_is_on.store(on, Relaxed);
        lock(&self.shared.changed).push(Arc::downgrade(self));
        self.shared.wake.change();
    }

    pub fn set_mac(&self, mac: MacAddr) {
        self.lldp().set_mac(mac);
    }

    pub fn set_identity(&self, identity: &Identity) {
        self.lldp().set_identity(identity);
    }

    fn add_mapping(&self, isid: u32, vlan: u16) {
        if self.lldp().add_mapping(isid, vlan) {
            vlog::info!(OVS_LLDP, "     hardware->h_ifname={}", self.name);
            self.change_vlan(vlan, true);
        }
    }

    fn remove_mapping(&self, isid: u32) {
        let gone = self.lldp().remove_mapping(isid);
        if let Some(gone) = gone {
            let (name, vlan) = (&self.name, gone.vlan);
            vlog::info!(
                OVS_LLDP,
                "   Removing mapping ISID={isid}, VLAN={vlan} (lldp->name={name})"
            );
            vlog::info!(OVS_LLDP, "     hardware->h_ifname={name}");
            vlog::info!(OVS_LLDP, "     Removing lport, isid={isid}, vlan={vlan}");
            self.change_vlan(vlan, false);
        }
    }

    fn change_vlan(&self, vlan: u16, add: bool) {
        let port = self.name.to_string();
        lock(&self.shared.vlan_changes).push(VlanChange { port, vlan, add });
    }

    /// Sends what is due, and returns when the next is.
    fn run(&self, now: Instant) -> Option<Instant> {
        let mut lldp = self.lldp();
        let frames: Vec<_> = std::iter::from_fn(|| lldp.poll_transmit(now)).collect();
        let (events, next) = (events(&mut lldp), lldp.poll_timeout());
        drop(lldp);
        log_events(&self.name, events);
        frames.iter().for_each(|frame| self.send(frame));
        next
    }

    /// A port that is not known to translations any more, or not yet, sends nothing.
    fn send(&self, frame: &[u8]) {
        let Some(backer) = self.backer.upgrade() else {
            return;
        };
        let (bridge, port) = self.place;
        let Some(bridge) = backer.snapshot.load().bridges.get(&bridge).cloned() else {
            return;
        };
        let mut packet = Packet::from_slice(frame);
        let mut key = MiniflowBuf::new();
        key.extract(&mut packet);
        let mut flow = key.expand();
        flow.in_port = u32::from(OfPort::NONE.0);
        // A frame that does not get out is lost, as on a wire.
        let _ = backer
            .udpif
            .packet_out(&bridge, packet, &flow, &[Action::output(port)]);
    }
}

impl PacketTaker for PortMachines {
    fn claims(&self, flow: &Flow) -> Option<SlowPath> {
        (flow.dl_type.get() == eth_type::LLDP && self.lldp_is_on()).then_some(SlowPath::LLDP)
    }

    fn input(&self, now: Instant, packet: &Packet) {
        let mut lldp = self.lldp();
        lldp.input(now, packet.data());
        let events = events(&mut lldp);
        drop(lldp);
        log_events(&self.name, events);
    }
}

/// What a machine has to tell.
fn events(lldp: &mut Lldp) -> Vec<Event> {
    std::iter::from_fn(|| lldp.poll_event()).collect()
}

/// Tells it, of a port.
fn log_events(port: &str, events: Vec<Event>) {
    for event in events {
        match event {
            Event::Discarded(why) => match why.text(port) {
                Some((true, text)) => vlog::warn!(LLDP, "{text}"),
                Some((false, text)) => vlog::info!(LLDP, "{text}"),
                None => {}
            },
            Event::Remark(Remark::UnknownTlv(kind)) => {
                vlog::warn!(LLDP, "unknown tlv ({kind}) received on {port}");
            }
            Event::Remark(Remark::UnknownSubtype) => {
                vlog::info!(LLDP, "Unrecogised tlv subtype received");
            }
            Event::Remark(Remark::UnknownOrganisation) => {}
            Event::Remark(Remark::Element(e)) => {
                let (tagging, mode) = (u8::from(e.vlan_tagging), e.auto_provision);
                vlog::info!(
                    LLDP,
                    "Element type: {}, vlan tagging {tagging}, auto prov mode {mode}, Mgmt vlan: {:X}",
                    e.kind,
                    e.management_vlan
                );
                vlog::info!(LLDP, "System mac: {}", e.mac);
            }
            Event::Heard(m) => vlog::info!(
                OVS_LLDP,
                "h_rport: isid={}, vlan={}, status={}",
                m.isid,
                m.vlan,
                m.status
            ),
            Event::Set(m) => {
                vlog::info!(
                    OVS_LLDP,
                    "Setting status for ISID={} to {}",
                    m.isid,
                    m.status
                );
            }
        }
    }
}

fn spawn(shared: Arc<Shared>) -> JoinHandle<()> {
    let thread = std::thread::Builder::new()
        .name("monitor".into())
        .stack_size(ferrovs_datapath::upcall::STACK_SIZE)
        .spawn(move || run(&shared));
    match thread {
        Ok(thread) => thread,
        Err(e) => ferrovs_runtime::fatal_io(&e, "pthread_create failed"),
    }
}

fn run(shared: &Shared) {
    vlog::set_thread_name("monitor");
    let mut poller = Poller::new();
    let mut deadlines = Deadlines::default();
    loop {
        let seen = shared.wake.read();
        if shared.stopped.load(Relaxed) {
            return;
        }
        for port in std::mem::take(&mut *lock(&shared.changed)) {
            if let Some(machines) = port.upgrade() {
                let at = machines.lldp().poll_timeout();
                deadlines.set(machines.id, at, port);
            }
        }
        let now = clock::now();
        while let Some((id, port)) = deadlines.take_due(now) {
            if let Some(machines) = port.upgrade() {
                deadlines.set(id, machines.run(now), port);
            }
        }
        if let Some(at) = deadlines.next() {
            poller.wait_until(at);
        }
        poller.wait_seq(&shared.wake, seen);
        poller.block();
    }
}

/// What is to be done when, by number: one deadline for each, the nearest first.
struct Deadlines<T> {
    /// May hold deadlines that are not in force any more.
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    entries: HashMap<u64, (Instant, T)>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Deadlines {
            heap: BinaryHeap::new(),
            entries: HashMap::new(),
        }
    }
}

impl<T> Deadlines<T> {
    /// Puts the deadline of number `id` in place of the one that it has; None takes it away.
    fn set(&mut self, id: u64, at: Option<Instant>, what: T) {
        match at {
            None => drop(self.entries.remove(&id)),
            Some(at) => {
                let old = self.entries.insert(id, (at, what));
                if old.is_none_or(|(old, _)| old != at) {
                    self.heap.push(Reverse((at, id)));
                }
            }
        }
    }

    /// The nearest deadline.
    fn next(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, id))) = self.heap.peek() {
            if self.entries.get(&id).is_some_and(|e| e.0 == at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out what is due, one after another.
    fn take_due(&mut self, now: Instant) -> Option<(u64, T)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, id)) = self.heap.pop()?;
        self.entries.remove(&id).map(|(_, what)| (id, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_come_in_order_and_only_those_in_force() {
        let start = clock::now();
        let at = |s| start + Duration::from_secs(s);
        let mut d = Deadlines::default();
        for (id, s) in [(1, 5), (2, 3), (3, 9), (2, 7), (1, 5), (3, 4)] {
            d.set(id, Some(at(s)), id);
        }
        assert_eq!(d.next(), Some(at(4)));
        assert_eq!(d.take_due(at(3)), None);
        let due: Vec<_> = std::iter::from_fn(|| d.take_due(at(6))).collect();
        assert_eq!(due, [(3, 3), (1, 1)]);
        d.set(2, None, 2);
        assert_eq!((d.next(), d.take_due(at(100))), (None, None));
        d.set(2, Some(at(1)), 2);
        assert_eq!(d.take_due(at(1)), Some((2, 2)));
    }
}
