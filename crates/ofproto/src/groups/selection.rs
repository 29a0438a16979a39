//! How a select group chooses among its buckets.
//!
//! By default the datapath computes the hash of each packet, and the packet comes back with it: the low bits of the
//! hash number a place in a table, and the place names a bucket. So one flow of the datapath sends the packets of all
//! connections there, and one for each place sends them on, however many connections there are. Where such a table
//! would be too large, or where the group names fields to hash, the switch computes a hash itself, which takes a flow
//! of the datapath for each connection.

use ferrovs_datapath::action::HashAlg;
use ferrovs_openflow::group::{Bucket, GroupProps};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::group::format_hash_fields;
use ferrovs_openflow::tun::Tun;
use ferrovs_runtime::vlog::{self, modules::OFPROTO_DPIF};

/// Places of a table, at least and at most.
const MIN_PLACES: usize = 16;
const MAX_PLACES: usize = 256;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// By the hash of addresses and ports.
    #[default]
    Default,
    /// By the hash of the fields that the group names.
    Fields,
    /// By the hash that the datapath computes.
    DpHash(DpHash),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpHash {
    pub alg: HashAlg,
    pub basis: u32,
    /// Which bucket has each place. Their number is a power of two.
    places: Box<[u16]>,
}

impl DpHash {
    /// The bits of a hash that number a place.
    pub fn mask(&self) -> u32 {
        self.places.len() as u32 - 1
    }

    /// The buckets for a packet of that hash, the first choice first. Each bucket comes in proportion to its weight,
    /// so that the packets of one that is not live are spread over the others.
    pub fn choices(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let mask = self.mask();
        (0..=mask).map(move |i| usize::from(self.places[(hash.wrapping_add(i) & mask) as usize]))
    }
}

impl Selection {
    /// How a group with these buckets chooses; `symmetric`: the datapath has the hash that is the same both ways.
    pub fn new(buckets: &[Bucket], props: &GroupProps, symmetric: bool) -> Selection {
        let method = props.selection_method.as_str();
        match method {
            "" => vlog::dbg!(
                OFPROTO_DPIF,
                "No selection method specified. Trying dp_hash."
            ),
            method => vlog::dbg!(OFPROTO_DPIF, "Selection method specified: {method}."),
        }
        if method == "hash" {
            if props.fields.is_empty() {
                vlog::dbg!(
                    OFPROTO_DPIF,
                    "No hash fields. Falling back to default hash method."
                );
                return Selection::Default;
            }
            let mut fields = String::new();
            let tun = Tun::auto();
            format_hash_fields(&props.fields, &Names::none(&tun), &mut fields);
            vlog::dbg!(OFPROTO_DPIF, "Hash fields: {fields}");
            return Selection::Fields;
        }
        let (alg, basis) = match method {
            "dp_hash" => (HashAlg::L4, props.selection_method_param as u32),
            _ if symmetric => (HashAlg::SymL4, 0),
            _ => (HashAlg::L4, 0),
        };
        let Some(places) = places(buckets) else {
            vlog::dbg!(OFPROTO_DPIF, "Falling back to default hash method.");
            return Selection::Default;
        };
        vlog::dbg!(
            OFPROTO_DPIF,
            "Use dp_hash with {} hash values using algorithm {}.",
            places.len(),
            alg as u32
        );
        Selection::DpHash(DpHash { alg, basis, places })
    }
}

/// Deals places to buckets by their weights (Webster's method); none if no table will do.
fn places(buckets: &[Bucket]) -> Option<Box<[u16]>> {
    if buckets.is_empty() || buckets.len() > usize::from(u16::MAX) {
        vlog::dbg!(
            OFPROTO_DPIF,
            "  Don't apply dp_hash method without buckets."
        );
        return None;
    }
    let weights = || buckets.iter().map(|b| u64::from(b.weight));
    let total: u64 = weights().sum();
    let Some(least) = weights().filter(|&w| w > 0).min() else {
        vlog::dbg!(OFPROTO_DPIF, "  Total weight is zero. No active buckets.");
        return None;
    };
    vlog::dbg!(
        OFPROTO_DPIF,
        "  Minimum weight: {least}, total weight: {total}"
    );
    let fair = total.div_ceil(least) as usize;
    let wanted = fair.max((buckets.len() * 4).min(MAX_PLACES));
    let n = wanted.next_power_of_two().max(MIN_PLACES);
    if n > MAX_PLACES {
        vlog::dbg!(OFPROTO_DPIF, "  Too many hash values required: {n}");
        return None;
    }
    vlog::dbg!(OFPROTO_DPIF, "  Using {n} hash values:");
    let mut hits = vec![0_u64; buckets.len()];
    let mut places = vec![0_u16; n];
    for place in &mut places {
        // The quotients of weight and 2 * hits + 1, compared as fractions; of equal ones the first wins.
        let mut best = 0;
        for i in 1..buckets.len() {
            let share =
                |i: usize, other: usize| u64::from(buckets[i].weight) * (2 * hits[other] + 1);
            if share(i, best) > share(best, i) {
                best = i;
            }
        }
        hits[best] += 1;
        *place = best as u16;
    }
    for (bucket, hits) in buckets.iter().zip(&hits) {
        vlog::dbg!(
            OFPROTO_DPIF,
            "  Bucket {}: weight={}, target={:.2} hits={hits}",
            bucket.bucket_id,
            bucket.weight,
            f64::from(bucket.weight) / total as f64 * n as f64
        );
    }
    Some(places.into())
}

#[cfg(test)]
mod tests {
    use ferrovs_openflow::flow::GROUP_ANY;
    use ferrovs_packet::types::OfPort;

    use super::*;

    fn dp_hash(weights: &[u16], method: &str) -> Option<DpHash> {
        let buckets: Vec<_> = (0..)
            .zip(weights)
            .map(|(bucket_id, &weight)| Bucket {
                weight,
                watch_port: OfPort::NONE,
                watch_group: GROUP_ANY,
                bucket_id,
                actions: Vec::new(),
            })
            .collect();
        let props = GroupProps {
            selection_method: method.into(),
            selection_method_param: 7,
            ..GroupProps::default()
        };
        match Selection::new(&buckets, &props, true) {
            Selection::DpHash(dp_hash) => Some(dp_hash),
            _ => None,
        }
    }

    fn hits(weights: &[u16]) -> Vec<usize> {
        let table = dp_hash(weights, "").expect("a table");
        let n = |bucket: usize| {
            table
                .places
                .iter()
                .filter(|&&b| usize::from(b) == bucket)
                .count()
        };
        (0..weights.len()).map(n).collect()
    }

    #[test]
    fn places_are_dealt_by_weight_as_open_vswitch_deals_them() {
        assert_eq!(hits(&[10, 30]), [4, 12]);
        assert_eq!(hits(&[0, 30, 31, 31]), [0, 5, 6, 5]);
        assert_eq!(hits(&[3, 5, 7, 11, 13, 1]), [5, 8, 11, 17, 21, 2]);
        assert_eq!(hits(&[64, 1]), [126, 2]);
        assert_eq!(hits(&[255, 1]), [255, 1]);
        assert_eq!(hits(&[100]), [16]);
    }

    #[test]
    fn no_table_is_made_where_it_would_be_too_large_or_choose_nothing() {
        for weights in [&[256, 1][..], &[1, 65535], &[0, 0], &[]] {
            assert_eq!(dp_hash(weights, ""), None, "{weights:?}");
        }
        assert_eq!(dp_hash(&[1, 1], "hash"), None);
    }

    #[test]
    fn the_method_decides_algorithm_and_basis() {
        let of = |method| dp_hash(&[1, 1], method).map(|d| (d.alg, d.basis, d.mask()));
        assert_eq!(of(""), Some((HashAlg::SymL4, 0, 15)));
        assert_eq!(of("dp_hash"), Some((HashAlg::L4, 7, 15)));
    }

    #[test]
    fn every_bucket_with_weight_is_a_choice_of_every_packet() {
        let table = dp_hash(&[1, 2, 0], "").expect("a table");
        for hash in [0, 1, 77, u32::MAX] {
            let mut all: Vec<_> = table.choices(hash).collect();
            assert_eq!(all.len(), 16);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all, [0, 1]);
        }
    }
}
