//! Ports with several interfaces, as long as there are no bonds.
//!
//! Exactly one member carries the traffic: what the others receive is dropped, and nothing is sent to
//! them, so that two cables to one switch make no loop. When the link of that member goes, another
//! with a link takes its place. There is no balancing, no LACP and no delay.

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::BRIDGE;

use crate::config::PortConfig;

/// Chooses among members, each with its carrier: the current one as long as its link is up, else the
/// first with a link, else the current one, else the first.
pub(crate) fn choose<'a>(
    current: Option<&str>,
    members: impl Iterator<Item = (&'a str, bool)>,
) -> Option<&'a str> {
    // By what speaks for it; of equals the first.
    let mut best: Option<((bool, bool), &str)> = None;
    for (name, carrier) in members {
        let rank = (carrier, current == Some(name));
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Says which member carries the traffic: at first as a warning, later as news.
pub(crate) fn tell(bridge: &str, port: &PortConfig, old: Option<&String>, new: Option<&str>) {
    let Some(new) = new else { return };
    let name = &port.name;
    match old {
        None => vlog::warn!(
            BRIDGE,
            "bridge {bridge}: port {name} has {} interfaces and there are no bonds yet: only {new} carries its traffic",
            port.interfaces.len()
        ),
        Some(old) if old != new => vlog::info!(
            BRIDGE,
            "bridge {bridge}: {new} carries the traffic of port {name} instead of {old}"
        ),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_with_a_link_is_chosen_and_stays() {
        let all = |links: [bool; 3]| ["a", "b", "c"].into_iter().zip(links);
        assert_eq!(choose(None, all([true, true, true])), Some("a"));
        assert_eq!(choose(None, all([false, true, true])), Some("b"));
        assert_eq!(choose(Some("b"), all([true, true, true])), Some("b"));
        assert_eq!(choose(Some("b"), all([true, false, true])), Some("a"));
        assert_eq!(choose(Some("b"), all([false, false, false])), Some("b"));
        assert_eq!(choose(Some("gone"), all([false, false, false])), Some("a"));
        assert_eq!(choose(None, [].into_iter()), None);
    }
}
