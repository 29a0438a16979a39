//! When idle connections are forgotten.
//!
//! A connection is in a class that its state says; a class has a time, and policies of the user have others. The
//! defaults are those of Open vSwitch's userspace datapath, which follow RFC 5382 (REQ-5) and RFC 7857 for TCP and
//! are shorter than RFC 4787 (REQ-5) wants for UDP.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ferrovs_datapath::conntrack::CtTimeouts;

/// What a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// TCP, one side has spoken.
    TcpFirst,
    /// TCP, not both sides have agreed.
    TcpOpening,
    TcpEstablished,
    /// TCP, one side is done.
    TcpClosing,
    /// TCP, both sides are done.
    TcpFinWait,
    /// TCP, both sides know that they are.
    TcpClosed,
    /// One packet.
    OtherFirst,
    /// Packets of one side.
    OtherSingle,
    /// Packets of both sides.
    OtherMultiple,
    IcmpFirst,
    IcmpReply,
}

/// For each class in their order: seconds without a policy, and which member of a policy replaces them.
const ROWS: [(u32, usize); 11] = [
    (30, 0),
    (30, 1),
    (24 * 60 * 60, 2),
    (15 * 60, 3),
    (45, 6),
    (30, 7),
    (60, 11),
    (60, 12),
    (30, 13),
    (60, 14),
    (30, 15),
];

/// The policy that connections have which were given none.
pub const DEFAULT_POLICY: u32 = 0;

/// Policies by their numbers.
#[derive(Default)]
pub struct Policies(ArcSwap<BTreeMap<u32, CtTimeouts>>);

impl Policies {
    pub fn set(&self, id: u32, timeouts: Option<&CtTimeouts>) {
        self.0.rcu(|old| {
            let mut new = BTreeMap::clone(old);
            match timeouts {
                Some(timeouts) => new.insert(id, *timeouts),
                None => new.remove(&id),
            };
            Arc::new(new)
        });
    }

    #[cold]
    fn own(&self, policy: u32, member: usize) -> Option<u32> {
        self.0.load().get(&policy).and_then(|t| t.0[member])
    }

    /// Milliseconds that a connection of the class lives without packets.
    #[inline]
    pub fn time_ms(&self, policy: u32, class: Class) -> u64 {
        let (default, member) = ROWS[class as usize];
        let own = match policy {
            DEFAULT_POLICY => None,
            id => self.own(id, member),
        };
        u64::from(own.unwrap_or(default)) * 1000
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_datapath::conntrack::CT_TIMEOUTS;

    use super::*;

    #[test]
    fn a_policy_replaces_what_it_names_and_no_more() {
        let policies = Policies::default();
        let mut timeouts = CtTimeouts::default();
        let at = CT_TIMEOUTS.iter().position(|n| *n == "udp_multiple");
        timeouts.0[at.unwrap()] = Some(7);
        policies.set(3, Some(&timeouts));
        let time = |id, class| policies.time_ms(id, class);
        assert_eq!(time(3, Class::OtherMultiple), 7_000);
        assert_eq!(time(3, Class::OtherSingle), 60_000);
        assert_eq!(time(DEFAULT_POLICY, Class::OtherMultiple), 30_000);
        policies.set(3, None);
        assert_eq!(time(3, Class::OtherMultiple), 30_000);
    }
}
