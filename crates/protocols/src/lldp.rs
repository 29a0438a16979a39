//! LLDP on one port, with Auto Attach: the machine tells its neighbours who it is and which I-SIDs it wants to be
//! mapped to which VLANs, and remembers what they say.
//!
//! A frame goes out every five seconds while LLDP is on. A neighbour is a pair of chassis and port; what it said
//! last counts, and it is kept as long as the machine, for Open vSwitch does not age neighbours. A server of
//! Auto Attach answers a mapping by telling its status.

pub mod wire;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ferrovs_packet::types::MacAddr;

pub use wire::{Element, Malformed, Remark};

/// How often a frame is sent.
pub const TX_INTERVAL: Duration = Duration::from_secs(5);
/// How long neighbours shall remember this switch.
const TTL_S: u16 = 120;
/// Neighbours beyond so many are not remembered: anyone can make them up.
const MAX_NEIGHBOURS: usize = 1024;
/// Nor more mappings of all neighbours: each frame that comes looks at every one of them.
const MAX_HEARD: usize = 1024;

/// What the machine says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub system_name: Option<String>,
    pub system_description: String,
}

/// An I-SID that shall be mapped to a VLAN, and what has become of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub isid: u32,
    pub vlan: u16,
    /// As a server told it, if one did; see [`status_name`].
    pub status: Option<u8>,
}

/// What a neighbour says about a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingStatus {
    pub isid: u32,
    pub vlan: u16,
    pub status: u8,
}

/// Who else is at the other end.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Subtype and identifier.
    pub chassis: Vec<u8>,
    pub port: Vec<u8>,
    pub element: Option<Element>,
    mappings: Vec<MappingStatus>,
    /// What the chassis says about itself through any of its ports.
    pub system_description: Option<Vec<u8>>,
}

/// Counters for `autoattach/statistics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub tx: u64,
    pub rx: u64,
    pub rx_discarded: u64,
    pub rx_unrecognized: u64,
    pub insert: u64,
}

/// Something to be told in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Discarded(Malformed),
    Remark(Remark),
    /// A neighbour told the status of a mapping.
    Heard(MappingStatus),
    /// And the mapping is one of ours.
    Set(MappingStatus),
}

/// See the module's text.
#[derive(Debug)]
pub struct Lldp {
    name: String,
    mac: MacAddr,
    identity: Identity,
    mappings: Vec<Mapping>,
    neighbours: Vec<Neighbour>,
    counters: Counters,
    /// When the next frame goes out; None while LLDP is off.
    next_tx: Option<Instant>,
    events: VecDeque<Event>,
    remarks: Vec<Remark>,
}

impl Lldp {
    /// A machine that is off, for the port `name`.
    pub fn new(name: &str) -> Lldp {
        Lldp {
            name: name.to_string(),
            mac: MacAddr::ZERO,
            identity: Identity::default(),
            mappings: Vec::new(),
            neighbours: Vec::new(),
            counters: Counters::default(),
            next_tx: None,
            events: VecDeque::new(),
            remarks: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set_mac(&mut self, mac: MacAddr) {
        self.mac = mac;
    }

    pub fn set_identity(&mut self, identity: &Identity) {
        self.identity.clone_from(identity);
    }

    pub fn is_on(&self) -> bool {
        self.next_tx.is_some()
    }

    /// Turns LLDP on or off. The first frame goes out after an interval.
    pub fn set_on(&mut self, on: bool, now: Instant) {
        if on != self.is_on() {
            self.next_tx = on.then(|| now + TX_INTERVAL);
        }
    }

    /// Wants an I-SID mapped to a VLAN; false if it does already, to whichever.
    pub fn add_mapping(&mut self, isid: u32, vlan: u16) -> bool {
        let is_new = self.mappings.iter().all(|m| m.isid != isid);
        if is_new {
            let status = None;
            self.mappings.push(Mapping { isid, vlan, status });
        }
        is_new
    }

    /// Wants it no more.
    pub fn remove_mapping(&mut self, isid: u32) -> Option<Mapping> {
        let at = self.mappings.iter().position(|m| m.isid == isid)?;
        Some(self.mappings.remove(at))
    }

    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    pub fn neighbours(&self) -> &[Neighbour] {
        &self.neighbours
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes a frame that came, from its Ethernet header on.
    pub fn input(&mut self, _now: Instant, frame: &[u8]) {
        if !self.is_on() {
            return;
        }
        self.counters.rx += 1;
        let decoded = wire::decode(frame, &mut self.remarks);
        for remark in self.remarks.drain(..) {
            let is_known = matches!(remark, Remark::Element(_));
            self.counters.rx_unrecognized += u64::from(!is_known);
            self.events.push_back(Event::Remark(remark));
        }
        match decoded {
            Ok(incoming) => self.note(incoming),
            Err(why) => {
                self.counters.rx_discarded += 1;
                self.events.push_back(Event::Discarded(why));
            }
        }
        self.learn_status();
    }

    /// Remembers what a neighbour says, in place of what it said before.
    fn note(&mut self, incoming: wire::Incoming) {
        for other in &mut self.neighbours {
            if other.chassis == incoming.chassis {
                other
                    .system_description
                    .clone_from(&incoming.system_description);
            }
        }
        let mut neighbour = Neighbour {
            chassis: incoming.chassis,
            port: incoming.port,
            element: incoming.element,
            mappings: incoming.mappings,
            system_description: incoming.system_description,
        };
        let is_same =
            |n: &Neighbour| (&n.chassis, &n.port) == (&neighbour.chassis, &neighbour.port);
        match self.neighbours.iter().position(is_same) {
            // Who spoke last is told last.
            Some(at) => drop(self.neighbours.remove(at)),
            None if self.neighbours.len() < MAX_NEIGHBOURS => self.counters.insert += 1,
            None => return,
        }
        let heard: usize = self.neighbours.iter().map(|n| n.mappings.len()).sum();
        neighbour.mappings.truncate(MAX_HEARD - heard);
        self.neighbours.push(neighbour);
    }

    /// What neighbours say about mappings that are ours.
    fn learn_status(&mut self) {
        if self.mappings.is_empty() {
            return;
        }
        for &heard in self.neighbours.iter().flat_map(|n| &n.mappings) {
            self.events.push_back(Event::Heard(heard));
            if let Some(ours) = self.mappings.iter_mut().find(|m| m.isid == heard.isid) {
                ours.status = Some(heard.status);
                self.events.push_back(Event::Set(heard));
            }
        }
    }

    /// The frame to send now, if it is time.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = self.next_tx.filter(|at| now >= *at)?;
        // A driver that was late does not make up for it.
        let next = due + TX_INTERVAL;
        self.next_tx = Some(if next > now { next } else { now + TX_INTERVAL });
        self.counters.tx += 1;
        let outgoing = wire::Outgoing {
            mac: self.mac,
            port: &self.name,
            ttl_s: TTL_S,
            system_name: self.identity.system_name.as_deref(),
            system_description: &self.identity.system_description,
            mappings: &self.mappings,
        };
        Some(outgoing.encode())
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_tx
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// What `autoattach/show-isid` calls the status of a mapping.
pub fn status_name(status: Option<u8>) -> &'static str {
    match status {
        None => "Pending",
        Some(2) => "Active",
        Some(3) => "Reject (Generic)",
        Some(4) => "Reject (AA resources unavailable)",
        Some(6) => "Reject (Invalid)",
        Some(8) => "Reject (VLAN resources unavailable)",
        Some(9) => "Reject (Application interaction issue)",
        Some(_) => "Undefined",
    }
}

#[cfg(test)]
mod tests;
