//! The bridges and interfaces that exist, as they are made and configured.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ferrovs_idl::Uuid;
use ferrovs_netdev::Netdev;
use ferrovs_packet::types::OfPort;

use crate::config::Pairs;
use crate::identity::Addresses;
use crate::plan::Present;

/// All bridges that exist.
#[derive(Default)]
pub(crate) struct Bridges {
    by_name: BTreeMap<String, Bridge>,
    /// Bridge and name of the patch ports that name a peer, by that.
    patches: HashMap<String, BTreeSet<(String, String)>>,
    /// Bridge and name of the interfaces whose rows do not tell what there is to tell.
    untold: BTreeSet<(String, String)>,
}

/// A bridge that exists.
pub(crate) struct Bridge {
    pub kind: String,
    ifaces: BTreeMap<String, Iface>,
    holders: HashMap<OfPort, String>,
    pub datapath_id: u64,
    /// Of ports with several interfaces, the interface that carries the traffic.
    pub members: BTreeMap<String, String>,
    /// The addresses of ports that may become the bridge's own.
    pub addresses: Addresses,
    /// Interfaces that ask for what they cannot have, which is told each time.
    unmet: BTreeSet<String>,
}

/// An interface that exists.
pub(crate) struct Iface {
    /// Its row.
    pub uuid: Option<Uuid>,
    pub kind: String,
    pub ofport: OfPort,
    pub netdev: Arc<dyn Netdev>,
    /// The options and settings that it has.
    pub options: Pairs,
    pub other_config: Pairs,
    /// State of the device when its row was last written.
    pub change_seq: u64,
    /// The peer that it is known to name.
    peer: Option<Arc<String>>,
}

impl Iface {
    pub fn new(kind: &str, ofport: OfPort, netdev: Arc<dyn Netdev>, options: &Pairs) -> Iface {
        Iface {
            uuid: None,
            kind: kind.to_string(),
            ofport,
            netdev,
            options: options.clone(),
            other_config: Pairs::new(),
            change_seq: 0,
            peer: None,
        }
    }
}

impl Bridge {
    pub fn iface(&self, name: &str) -> Option<&Iface> {
        self.ifaces.get(name)
    }

    /// Notes whether an interface asks for what it cannot have: for a number that is not its own, or what makes no
    /// sense.
    pub fn note_unmet(&mut self, name: &str, is_unmet: bool) {
        match is_unmet {
            true => self.unmet.insert(name.to_string()),
            false => self.unmet.remove(name),
        };
    }

    pub fn iface_mut(&mut self, name: &str) -> Option<&mut Iface> {
        self.ifaces.get_mut(name)
    }

    /// All interfaces, by name.
    pub fn ifaces(&self) -> impl ExactSizeIterator<Item = (&String, &Iface)> {
        self.ifaces.iter()
    }
}

impl Bridges {
    pub fn get(&self, name: &str) -> Option<&Bridge> {
        self.by_name.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Bridge> {
        self.by_name.get_mut(name)
    }

    /// Bridge and name of the interfaces that ask for what they cannot have.
    pub fn unmet(&self) -> impl Iterator<Item = (&String, &String)> {
        let bridges = self.by_name.iter();
        bridges.flat_map(|(name, b)| b.unmet.iter().map(move |iface| (name, iface)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Bridge)> {
        self.by_name.iter()
    }

    /// A new bridge, without interfaces.
    pub fn insert(&mut self, name: &str, kind: &str) {
        let bridge = Bridge {
            kind: kind.to_string(),
            ifaces: BTreeMap::new(),
            holders: HashMap::new(),
            datapath_id: 0,
            members: BTreeMap::new(),
            addresses: Addresses::default(),
            unmet: BTreeSet::new(),
        };
        self.by_name.insert(name.to_string(), bridge);
    }

    pub fn remove(&mut self, name: &str) {
        let Some(bridge) = self.by_name.remove(name) else {
            return;
        };
        for (iface, i) in bridge.ifaces {
            if let Some(peer) = i.peer {
                self.unlist(name, &iface, &peer);
            }
        }
    }

    pub fn insert_iface(&mut self, bridge: &str, name: &str, iface: Iface) {
        if let Some(b) = self.by_name.get_mut(bridge) {
            b.holders.insert(iface.ofport, name.to_string());
            b.ifaces.insert(name.to_string(), iface);
            self.list(bridge, name);
            self.untell(bridge, name);
        }
    }

    pub fn remove_iface(&mut self, bridge: &str, name: &str) -> Option<Iface> {
        let b = self.by_name.get_mut(bridge)?;
        let iface = b.ifaces.remove(name)?;
        if b.holders
            .get(&iface.ofport)
            .is_some_and(|holder| holder == name)
        {
            b.holders.remove(&iface.ofport);
        }
        b.unmet.remove(name);
        if let Some(peer) = &iface.peer {
            self.unlist(bridge, name, peer);
        }
        Some(iface)
    }

    /// Notes that the row of an interface does not tell what there is to tell.
    pub fn untell(&mut self, bridge: &str, name: &str) {
        self.untold.insert((bridge.to_string(), name.to_string()));
    }

    /// The same of all.
    pub fn untell_all(&mut self) {
        let bridges = self.by_name.iter();
        let all =
            bridges.flat_map(|(b, bridge)| bridge.ifaces.keys().map(|i| (b.clone(), i.clone())));
        self.untold.extend(all);
    }

    pub fn take_untold(&mut self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut self.untold)
    }

    /// Looks which peer an interface names now.
    pub fn list(&mut self, bridge: &str, name: &str) {
        let iface = self
            .by_name
            .get_mut(bridge)
            .and_then(|b| b.ifaces.get_mut(name));
        let Some(iface) = iface else { return };
        let peer = iface.netdev.class().patch_peer();
        if peer == iface.peer {
            return;
        }
        if let Some(old) = std::mem::replace(&mut iface.peer, peer.clone()) {
            self.unlist(bridge, name, &old);
        }
        if let Some(peer) = peer {
            let place = (bridge.to_string(), name.to_string());
            let patches = self.patches.entry(peer.to_string());
            patches.or_default().insert(place);
        }
    }

    fn unlist(&mut self, bridge: &str, name: &str, peer: &str) {
        if let Some(places) = self.patches.get_mut(peer) {
            places.remove(&(bridge.to_string(), name.to_string()));
            if places.is_empty() {
                self.patches.remove(peer);
            }
        }
    }

    /// Bridge and name of the patch ports that name `peer`.
    pub fn patches_to(&self, peer: &str) -> impl Iterator<Item = &(String, String)> {
        self.patches.get(peer).into_iter().flatten()
    }

    /// What a patch port lacks whose peer is not there, or not a patch port that names it.
    pub fn lacking_peer(&self, bridge: &str, iface: &str) -> Option<String> {
        let kind = &self.get(bridge)?.kind;
        let peer = self.get(bridge)?.iface(iface)?.peer.as_ref()?;
        // Who names this one and is called so.
        let usable = |(b, name): &(String, String)| {
            name == &**peer && self.get(b).is_some_and(|b| b.kind == *kind)
        };
        (!self.patches_to(iface).any(usable))
            .then(|| format!("No usable peer '{peer}' exists in '{kind}' datapath."))
    }
}

impl Present for Bridges {
    fn bridges(&self) -> impl Iterator<Item = &String> {
        self.by_name.keys()
    }

    fn kind(&self, bridge: &str) -> Option<&str> {
        Some(&self.get(bridge)?.kind)
    }

    fn ifaces(&self, bridge: &str) -> impl Iterator<Item = &String> {
        self.get(bridge).into_iter().flat_map(|b| b.ifaces.keys())
    }

    fn iface(&self, bridge: &str, iface: &str) -> Option<(&str, OfPort)> {
        let i = self.get(bridge)?.iface(iface)?;
        Some((&i.kind, i.ofport))
    }

    fn holder(&self, bridge: &str, number: OfPort) -> Option<&str> {
        let holder = self.get(bridge)?.holders.get(&number)?;
        Some(holder)
    }
}
