//! Offload of flows: somebody beside the datapath does part of their work, or all of it, for the packets of a port.
//!
//! A [`Provider`] is one way to offload (a card's own language, the kernel's classifier, or a dummy for tests). A
//! datapath that has some asks them in the order of `hw-offload-priority` who takes a port, and tells whoever took it
//! of the flows of that port as they come, change and go. A provider that does a part only knows the flow of a packet
//! that comes ([`Provider::recognise`]), so that the datapath need not look it up; one that does all of it keeps the
//! packet, and counts it ([`Provider::stats`]).
//!
//! What the datapath shows of it is [`Offload`].

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::Match;
use ferrovs_packet::types::DpPort;

use crate::action::Action;
use crate::errno::Errno;
use crate::flow::FlowStats;
use crate::id::Ufid;

pub use crate::flow::Offloaded;

/// A port that is offered to providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRef<'a> {
    pub number: DpPort,
    pub name: &'a str,
    /// Kind of its device.
    pub kind: &'a str,
}

/// A flow as it is now.
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<'a> {
    pub ufid: Ufid,
    pub match_: &'a Match,
    pub actions: &'a [Action],
}

/// See the module's text. Several threads of a datapath may have the same flow: then it comes, and goes, once for each.
pub trait Provider: Send + Sync {
    /// As `hw-offload-priority` calls it.
    fn kind(&self) -> &'static str;
    /// Whether the port is one that it can offload flows of; it is told of them then.
    fn takes(&self, port: PortRef<'_>) -> bool;
    /// The port is gone, with all its flows.
    fn port_gone(&self, port: PortRef<'_>);
    /// A flow came. An error leaves all its work to the datapath.
    fn put(&self, port: PortRef<'_>, flow: FlowRef<'_>) -> Result<Offloaded, Errno>;
    /// A flow that was taken has other actions.
    fn changed(&self, port: PortRef<'_>, flow: FlowRef<'_>) -> Result<Offloaded, Errno>;
    /// A flow that was taken goes.
    fn del(&self, port: PortRef<'_>, ufid: Ufid);
    /// What a flow that is offloaded in full has counted.
    fn stats(&self, ufid: Ufid) -> Option<FlowStats>;
    /// The flow that a packet which the port received was recognised to be of.
    fn recognise(&self, port: PortRef<'_>, packet: &mut Packet) -> Option<Ufid>;
}

/// A provider of a datapath, with the ports that it took, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provides {
    pub kind: &'static str,
    pub ports: Vec<(DpPort, String)>,
}

/// What a datapath shows of offload.
pub trait Offload {
    /// In the order in which they are asked.
    fn providers(&self) -> Vec<Provides>;
}

/// What has been configured, for all datapaths of the program.
static ENABLED: AtomicBool = AtomicBool::new(false);
static PRIORITY: Mutex<Option<Arc<str>>> = Mutex::new(None);

/// `hw-offload`: flows are offloaded from now on, until the program ends. False if they were already.
pub fn enable() -> bool {
    !ENABLED.swap(true, Relaxed)
}

#[inline]
pub fn is_enabled() -> bool {
    ENABLED.load(Relaxed)
}

/// `hw-offload-priority`, of which the first word that is said holds; false if it differs from that.
pub fn set_priority(list: &str) -> bool {
    let mut priority = PRIORITY.lock().unwrap_or_else(PoisonError::into_inner);
    **priority.get_or_insert_with(|| list.into()) == *list
}

/// The list that holds.
pub fn priority() -> Arc<str> {
    let priority = PRIORITY.lock().unwrap_or_else(PoisonError::into_inner);
    priority.clone().unwrap_or_default()
}

/// Names of a list of priorities, in order.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).filter(|name| !name.is_empty())
}

/// The places in `kinds` that a list names, in its order; "none" ends it.
pub fn named(list: &str, kinds: &[&str]) -> Vec<usize> {
    let mut places = Vec::new();
    for name in names(list).take_while(|name| *name != "none") {
        let place = kinds.iter().position(|kind| *kind == name);
        places.extend(place.filter(|place| !places.contains(place)));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_providers_until_it_ends() {
        let kinds = ["a", "b", "c"];
        for (list, want) in [
            ("", &[][..]),
            ("c,a", &[2, 0]),
            ("zz, b,b", &[1]),
            ("none", &[]),
            ("c,none,a", &[2]),
        ] {
            assert_eq!(named(list, &kinds), want, "{list}");
        }
    }

    #[test]
    fn the_first_priority_holds() {
        assert!(set_priority("x,y") && set_priority("x,y"));
        assert!(!set_priority("y"));
        assert_eq!(*priority(), *"x,y");
    }
}
