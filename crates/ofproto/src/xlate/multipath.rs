//! Actions that choose a link or a port by a hash of the packet: `multipath`, `bundle` and `bundle_load`.

use ferrovs_openflow::action::{Bundle, BundleAlgorithm, Multipath, MultipathAlgorithm};
use ferrovs_packet::field::{FieldId, FieldValue, SubField};
use ferrovs_packet::hash::known;
use ferrovs_packet::types::OfPort;

use super::ctx::Ctx;

/// With more links than this `hrw` would cost too much; they are chosen as by `iter_hash`.
const MAX_HRW_LINKS: u32 = 64;

impl Ctx<'_> {
    /// Hashes the packet onto a link.
    pub fn multipath(&mut self, mp: &Multipath) {
        mp.fields.mask(&self.flow, &mut self.wc);
        let hash = mp.fields.hash(&self.flow, mp.basis.into());
        let n_links = u32::from(mp.max_link) + 1;
        let link = link(mp.algorithm, hash, n_links, mp.arg);
        self.mask_and_set(&mp.dst, u64::from(link));
    }

    /// Chooses a live member port.
    pub fn bundle(&mut self, bundle: &Bundle, last: bool) {
        let live = |port: OfPort| {
            matches!(port, OfPort::IN_PORT | OfPort::LOCAL | OfPort::NONE)
                || self.bridge.ports.get(&port).is_some_and(|p| p.may_enable)
        };
        let chosen = match bundle.algorithm {
            BundleAlgorithm::ActiveBackup => bundle.members.iter().copied().find(|&p| live(p)),
            BundleAlgorithm::Hrw => {
                let hash = bundle.fields.hash(&self.flow, bundle.basis.into());
                let members = (0..).zip(bundle.members.iter().copied());
                let alive = members.filter(|&(_, port)| live(port));
                highest_random_weight(alive, |i| known::int(i, hash))
            }
        };
        if bundle.algorithm == BundleAlgorithm::Hrw {
            bundle.fields.mask(&self.flow, &mut self.wc);
        }
        let port = chosen.unwrap_or(OfPort::NONE);
        match &bundle.dst {
            Some(dst) => self.mask_and_set(dst, u64::from(port.0)),
            None => self.output_action(port, 0, false, last),
        }
    }

    fn mask_and_set(&mut self, dst: &SubField, value: u64) {
        if !dst.field.is_register() && dst.field != FieldId::Metadata {
            self.mask_subfield(dst);
        }
        self.write(dst, &FieldValue::from(value));
        self.report_subfield(dst);
    }
}

/// The link of 0 to `n_links - 1` for a packet with this hash.
fn link(algorithm: MultipathAlgorithm, hash: u32, n_links: u32, arg: u32) -> u32 {
    match algorithm {
        MultipathAlgorithm::ModuloN => hash % n_links,
        // Parts of the whole range, all but the last of the same size.
        MultipathAlgorithm::HashThreshold => match n_links {
            1 => 0,
            n => hash / (u32::MAX / n + 1),
        },
        MultipathAlgorithm::Hrw if n_links <= MAX_HRW_LINKS => {
            let links = (0..n_links).map(|i| (i, i));
            highest_random_weight(links, |i| known::int(hash, i)).unwrap_or(0)
        }
        MultipathAlgorithm::Hrw => iter_hash(hash, n_links, n_links.next_power_of_two()),
        MultipathAlgorithm::IterHash => {
            let modulo = match arg {
                arg if arg < n_links || arg / 2 > n_links => n_links.next_power_of_two(),
                arg => arg,
            };
            iter_hash(hash, n_links, modulo)
        }
    }
}

/// The first of a row of hashes that hits a link. `modulo` is at most twice as many as there are links and one
/// more, so that half of the hashes hit; that none of a thousand does is not to be feared.
fn iter_hash(hash: u32, n_links: u32, modulo: u32) -> u32 {
    let mut tries = (0..1000).map(|i| known::int(hash, i) % modulo);
    tries.find(|&link| link < n_links).unwrap_or(0)
}

/// The choice whose number together with the packet's hash has the greatest `weight`, so that one that comes or goes
/// moves no more flows than it must.
fn highest_random_weight<T>(
    choices: impl Iterator<Item = (u32, T)>,
    weight: impl Fn(u32) -> u32,
) -> Option<T> {
    let mut best = None;
    for (i, choice) in choices {
        let weight = weight(i);
        if best.as_ref().is_none_or(|&(most, _)| weight > most) {
            best = Some((weight, choice));
        }
    }
    best.map(|(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_goes_moves_its_own_flows_only() {
        for hash in 0..200 {
            let links = (0..5).map(|i| (i, i));
            let weight = |i| known::int(i, hash);
            let all = highest_random_weight(links.clone(), weight).unwrap();
            let without = highest_random_weight(links.filter(|&(i, _)| i != 2), weight).unwrap();
            assert!(all == 2 || all == without);
        }
    }

    #[test]
    fn links_are_those_of_open_vswitch() {
        use MultipathAlgorithm::{HashThreshold, Hrw, IterHash, ModuloN};
        // (algorithm, number of links, argument): the links for the hashes of two Ethernet addresses.
        let all = [
            (Hrw, 5, 0, [4, 3]),
            (Hrw, 7, 0, [6, 3]),
            (Hrw, 100, 0, [93, 21]),
            (Hrw, 65535, 0, [13668, 38549]),
            (IterHash, 3, 4, [0, 1]),
            (IterHash, 5, 7, [0, 3]),
            (IterHash, 5, 8, [4, 3]),
            (IterHash, 5, 255, [4, 3]),
            (IterHash, 7, 40, [4, 5]),
            (HashThreshold, 5, 0, [2, 2]),
            (HashThreshold, 1000, 0, [492, 532]),
            (HashThreshold, 1, 0, [0, 0]),
            (ModuloN, 7, 0, [5, 6]),
            (ModuloN, 65535, 0, [12900, 44432]),
        ];
        for (algorithm, n_links, arg, want) in all {
            let got = [0x7e28_b43b, 0x8836_255a].map(|hash| link(algorithm, hash, n_links, arg));
            assert_eq!(got, want, "{algorithm:?} {n_links} {arg}");
        }
    }
}
