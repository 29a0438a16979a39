//! Which part of the configuration changed, and so is to be read, planned and applied.
//!
//! A change of a port concerns that port, a change of a bridge's row the bridge; what holds for all concerns
//! everything. Whatever did not come out as it should stays in the scope until it does.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Everything.
    pub all: bool,
    /// What the rows of all bridges say, their ports aside.
    pub settings: bool,
    pub bridges: BTreeMap<String, BridgeScope>,
}

/// The part of one bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeScope {
    /// Everything: it is new, gone, or has another datapath.
    pub whole: bool,
    /// What its row says, its ports aside.
    pub settings: bool,
    /// Ports that changed, came or went.
    pub ports: BTreeSet<String>,
    /// The interfaces that these ports had and have.
    pub ifaces: BTreeSet<String>,
}

impl Scope {
    pub fn all() -> Scope {
        Scope {
            all: true,
            ..Scope::default()
        }
    }

    /// The part of a bridge, to be added to.
    pub fn bridge(&mut self, name: &str) -> &mut BridgeScope {
        self.bridges.entry(name.to_string()).or_default()
    }

    /// Adds a port.
    pub fn port(&mut self, bridge: &str, port: &str) {
        self.bridge(bridge).ports.insert(port.to_string());
    }

    /// Adds an interface, with its port.
    pub fn iface(&mut self, bridge: &str, port: &str, iface: &str) {
        let bridge = self.bridge(bridge);
        bridge.ports.insert(port.to_string());
        bridge.ifaces.insert(iface.to_string());
    }

    /// Adds an interface that a bridge has, with the port that it shall belong to, if any.
    pub fn look_at(&mut self, config: &Config, bridge: &str, iface: &str) {
        match config.places.get(iface) {
            Some(place) if place.bridge == bridge => self.iface(bridge, &place.port, iface),
            _ => {
                self.bridge(bridge).ifaces.insert(iface.to_string());
            }
        }
    }

    /// Whether everything of a bridge belongs to it.
    pub fn is_whole(&self, bridge: &str) -> bool {
        self.all || self.bridges.get(bridge).is_some_and(|b| b.whole)
    }

    /// Whether what a bridge's row says, its ports aside, belongs to it.
    pub fn has_settings(&self, bridge: &str) -> bool {
        let settings = |b: &BridgeScope| b.whole || b.settings;
        self.all || self.settings || self.bridges.get(bridge).is_some_and(settings)
    }

    /// Of the bridges that there are or shall be, those that belong to it at least in part.
    pub fn names<'a>(&'a self, every: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
        match self.all || self.settings {
            true => every
                .chain(self.bridges.keys())
                .map(String::as_str)
                .collect(),
            false => self.bridges.keys().map(String::as_str).collect(),
        }
    }
}
