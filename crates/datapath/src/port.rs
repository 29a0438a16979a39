//! Ports of a datapath, as it tells of them.

use std::collections::BTreeMap;

use ferrovs_packet::types::DpPort;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpPortInfo {
    pub name: String,
    pub kind: String,
    pub port: DpPort,
    /// Options that matter to a reader of `dpctl/show`.
    pub config: BTreeMap<String, String>,
}

/// Counters of a port's device; None where it cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    pub rx_packets: Option<u64>,
    pub tx_packets: Option<u64>,
    pub rx_bytes: Option<u64>,
    pub tx_bytes: Option<u64>,
    pub rx_errors: Option<u64>,
    pub tx_errors: Option<u64>,
    pub rx_dropped: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub collisions: Option<u64>,
    pub rx_over_errors: Option<u64>,
    pub rx_frame_errors: Option<u64>,
    pub tx_aborted_errors: Option<u64>,
    pub tx_carrier_errors: Option<u64>,
}

/// Numbers below this can be given to ports.
const MAX_PORTS: u32 = 65535;

/// A number for a new port called `name`, of those that are free: where ports are numbered `by_name` the first number in
/// the name (100 more for a name that begins with "br"), else and otherwise the lowest that is not less than `lowest`.
pub fn port_number(
    name: &str,
    by_name: bool,
    lowest: u32,
    is_free: impl Fn(u32) -> bool,
) -> Option<DpPort> {
    let is_free = |n: u32| n < MAX_PORTS && is_free(n);
    let named = || {
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit());
        let number: u32 = digits[..end.unwrap_or(digits.len())].parse().ok()?;
        let base = if name.starts_with("br") { 100 } else { 0 };
        number.checked_add(base).filter(|&n| n > 0 && is_free(n))
    };
    let number = by_name.then(named).flatten();
    let number = number.or_else(|| (lowest.max(1)..MAX_PORTS).find(|&n| is_free(n)));
    number.map(DpPort)
}
