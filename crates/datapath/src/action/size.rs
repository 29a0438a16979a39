//! How many bytes actions take in a message to a datapath: no flow may have more than fit into one.

use super::{Action, Set};

/// What each attribute begins with.
const HEADER: usize = 4;

/// An attribute with so many bytes inside.
const fn attribute(inside: usize) -> usize {
    HEADER + inside.next_multiple_of(4)
}

/// The bytes that `actions` take.
pub fn message_size(actions: &[Action]) -> usize {
    actions.iter().map(one).sum()
}

fn one(action: &Action) -> usize {
    let nested = |actions: &[Action]| attribute(message_size(actions));
    match action {
        Action::PopVlan | Action::CtClear | Action::PopEth | Action::PopNsh => attribute(0),
        Action::Set(set) => attribute(set_size(set)),
        Action::Sample { actions, .. } => attribute(attribute(4) + nested(actions)),
        Action::Hash { .. } | Action::PushMpls { .. } => attribute(8),
        Action::PushEth { .. } | Action::AddMpls { .. } => attribute(12),
        Action::Clone(actions) => nested(actions),
        Action::CheckPktLen {
            greater,
            less_equal,
            ..
        } => attribute(attribute(2) + nested(greater) + nested(less_equal)),
        Action::DecTtl { exceeded } => attribute(nested(exceeded)),
        Action::Psample { cookie, .. } => attribute(attribute(4) + attribute(cookie.len())),
        Action::Userspace(_) => attribute(attribute(4) + attribute(40)),
        Action::Ct(_) => attribute(attribute(2) + attribute(8)),
        Action::PushNsh(_) => attribute(attribute(8) + attribute(16)),
        Action::TunnelPush(_) => attribute(536),
        Action::Output(_)
        | Action::PushVlan { .. }
        | Action::Recirc(_)
        | Action::PopMpls { .. }
        | Action::Trunc(_)
        | Action::Meter(_)
        | Action::Drop(_)
        | Action::TunnelPop(_)
        | Action::LbOutput(_) => attribute(4),
    }
}

/// A key and the mask that follows it; tunnels have none, as they are set wholly.
fn set_size(set: &Set) -> usize {
    let key = match set {
        Set::SkbPriority(_) | Set::SkbMark(_) | Set::CtMark(_) | Set::Mpls(_) => 4,
        Set::Tcp(_) | Set::Udp(_) | Set::Sctp(_) => 4,
        Set::Icmp(_) | Set::Icmpv6(_) => 2,
        Set::CtLabels(_) => 16,
        Set::Ethernet(_) | Set::Ipv4(_) => 12,
        Set::Ipv6(_) => 40,
        Set::Arp(_) => 24,
        Set::Nd(_) => 28,
        Set::NdExtensions(_) => 8,
        Set::Nsh(_) => return attribute(attribute(16) + attribute(32)),
        Set::Tunnel(_) => return attribute(64),
    };
    attribute(2 * key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse_actions;

    #[test]
    fn sizes_are_those_of_messages() {
        for (text, size) in [
            ("1", 8),
            ("set(eth(src=00:00:00:00:00:01)),1", 40),
            ("pop_vlan,push_vlan(vid=1,pcp=0)", 12),
            ("clone(1,2),3", 28),
            ("set(tcp(src=1))", 16),
        ] {
            let actions = parse_actions(text, None).unwrap();
            assert_eq!(message_size(&actions), size, "{text}");
        }
    }
}
