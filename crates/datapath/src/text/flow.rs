//! One line for each flow.

use std::fmt::Write;
use std::time::Instant;

use ferrovs_packet::flow::{Flow, FlowTnl, Match};

use super::{PortNames, format_actions, format_flow_stats, format_match};
use crate::flow::FlowEntry;
use crate::offload::Offloaded;

/// One line of `dpctl/dump-flows`, without a newline.
pub fn format_flow(
    entry: &FlowEntry,
    names: Option<&PortNames>,
    verbose: bool,
    now: Instant,
) -> String {
    let mut out = String::with_capacity(512);
    if verbose {
        _ = write!(out, "ufid:{}, ", entry.ufid);
    }
    format_match(
        &mut out,
        &entry.match_.flow,
        Some(&entry.match_.wc),
        names,
        verbose,
    );
    out.push_str(", ");
    format_flow_stats(&mut out, &entry.stats, now);
    if verbose {
        match entry.attrs.offloaded {
            Offloaded::No => {}
            Offloaded::Partial => out.push_str(", offloaded:partial"),
            Offloaded::Full => out.push_str(", offloaded:yes"),
        }
        _ = write!(out, ", dp:{}", entry.attrs.dp_layer);
    }
    out.push_str(", actions:");
    format_actions(&mut out, &entry.actions, names);
    if verbose && let Some(info) = &entry.attrs.dp_extra_info {
        _ = write!(out, ", dp-extra-info:{info}");
    }
    out
}

/// How many words of a mask are in use, below and above the 64th: what the userspace datapath tells about the
/// lookup table that a flow is in. Each port has tables of its own, so that the port is in none of them.
pub fn miniflow_bits(m: &Match) -> (usize, usize) {
    const PORT: usize = std::mem::offset_of!(Flow, in_port) / 8;
    const ADDRESSES: usize = std::mem::offset_of!(FlowTnl, tun_id) / 8;
    const _: () = assert!(std::mem::offset_of!(Flow, tunnel) == 0);
    let masks = &m.wc.masks;
    let words = masks.words();
    let used = |range: std::ops::Range<usize>| {
        let counts = |i: usize| words[i] != 0 && (i != PORT || masks.dp_hash != 0);
        range.filter(|&i| counts(i)).count()
    };
    let low = address_words(&masks.tunnel) + used(ADDRESSES..64);
    (low, used(64..words.len()))
}

/// The same of a tunnel's addresses, which Open vSwitch keeps in another order, across words.
fn address_words(t: &FlowTnl) -> usize {
    let v4 = [t.ip_dst, t.ip_src].map(|ip| ip.to_bytes());
    let bytes = [&v4[0][..], &t.ipv6_dst, &v4[1], &t.ipv6_src].concat();
    let words = bytes.chunks(8);
    words.filter(|word| word.iter().any(|&b| b != 0)).count()
}
