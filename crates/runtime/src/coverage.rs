//! Event counters: how often each of the interesting things happened.
//!
//! All counters are rows of one table; a component writes `coverage::XLATE_ACTIONS.inc()`. Rates
//! over the last five seconds, minute and hour come from samples that [`run`] takes every five
//! seconds on the main thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrovs_sync::Counter;

use crate::clock;
use crate::vlog;
use crate::vlog::modules::COVERAGE;

/// One event's counter.
pub struct Event {
    name: &'static str,
    count: Counter,
}

impl Event {
    const fn new(name: &'static str) -> Event {
        Event {
            name,
            count: Counter::new(),
        }
    }

    /// What `coverage/show` calls it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The event happened.
    #[inline]
    pub fn inc(&self) {
        self.count.add(1);
    }

    /// The event happened `n` times.
    #[inline]
    pub fn add(&self, n: u64) {
        self.count.add(n);
    }

    /// How often it has happened.
    pub fn total(&self) -> u64 {
        self.count.sum()
    }
}

macro_rules! events {
    ($($id:ident $name:literal;)*) => {
        $(
            #[doc = concat!("Event `", $name, "`.")]
            pub static $id: Event = Event::new($name);
        )*
        static ALL: &[&Event] = &[$(&$id),*];
    };
}

events! {
    BRIDGE_RECONFIGURE "bridge_reconfigure";
    BUNDLE_HASH "bundle_hash";
    CCMAP_EXPAND "ccmap_expand";
    CMAP_EXPAND "cmap_expand";
    CMAP_SHRINK "cmap_shrink";
    CONNTRACK_FULL "conntrack_full";
    CONNTRACK_L3CSUM_CHECKED "conntrack_l3csum_checked";
    CONNTRACK_L3CSUM_ERR "conntrack_l3csum_err";
    CONNTRACK_L4CSUM_CHECKED "conntrack_l4csum_checked";
    CONNTRACK_L4CSUM_ERR "conntrack_l4csum_err";
    CONNTRACK_LONG_CLEANUP "conntrack_long_cleanup";
    CONNTRACK_ZONE_FULL "conntrack_zone_full";
    DATAPATH_DROP_LOCK_ERROR "datapath_drop_lock_error";
    DATAPATH_DROP_METER "datapath_drop_meter";
    DATAPATH_DROP_NSH_DECAP_ERROR "datapath_drop_nsh_decap_error";
    DATAPATH_DROP_RECIRC_ERROR "datapath_drop_recirc_error";
    DATAPATH_DROP_RX_INVALID_PACKET "datapath_drop_rx_invalid_packet";
    DATAPATH_DROP_INVALID_BOND "datapath_drop_invalid_bond";
    DATAPATH_DROP_INVALID_PORT "datapath_drop_invalid_port";
    DATAPATH_DROP_INVALID_TNL_PORT "datapath_drop_invalid_tnl_port";
    DATAPATH_DROP_SAMPLE_ERROR "datapath_drop_sample_error";
    DATAPATH_DROP_TUNNEL_POP_ERROR "datapath_drop_tunnel_pop_error";
    DATAPATH_DROP_TUNNEL_PUSH_ERROR "datapath_drop_tunnel_push_error";
    DATAPATH_DROP_TUNNEL_TSO_RECIRC "datapath_drop_tunnel_tso_recirc";
    DATAPATH_DROP_UPCALL_ERROR "datapath_drop_upcall_error";
    DATAPATH_DROP_USERSPACE_ACTION_ERROR "datapath_drop_userspace_action_error";
    DPIF_DESTROY "dpif_destroy";
    DPIF_EXECUTE "dpif_execute";
    DPIF_EXECUTE_ERROR "dpif_execute_error";
    DPIF_EXECUTE_WITH_HELP "dpif_execute_with_help";
    DPIF_FLOW_DEL "dpif_flow_del";
    DPIF_FLOW_FLUSH "dpif_flow_flush";
    DPIF_FLOW_GET "dpif_flow_get";
    DPIF_FLOW_PUT "dpif_flow_put";
    DPIF_FLOW_PUT_ERROR "dpif_flow_put_error";
    DPIF_METER_DEL "dpif_meter_del";
    DPIF_METER_GET "dpif_meter_get";
    DPIF_METER_SET "dpif_meter_set";
    DPIF_PORT_ADD "dpif_port_add";
    DPIF_PORT_DEL "dpif_port_del";
    DPIF_PURGE "dpif_purge";
    DROP_ACTION_BRIDGE_NOT_FOUND "drop_action_bridge_not_found";
    DROP_ACTION_CONGESTION "drop_action_congestion";
    DROP_ACTION_FORWARDING_DISABLED "drop_action_forwarding_disabled";
    DROP_ACTION_INVALID_TUNNEL_METADATA "drop_action_invalid_tunnel_metadata";
    DROP_ACTION_NO_RECIRCULATION_CONTEXT "drop_action_no_recirculation_context";
    DROP_ACTION_OF_PIPELINE "drop_action_of_pipeline";
    DROP_ACTION_RECIRCULATION_CONFLICT "drop_action_recirculation_conflict";
    DROP_ACTION_RECURSION_TOO_DEEP "drop_action_recursion_too_deep";
    DROP_ACTION_STACK_TOO_DEEP "drop_action_stack_too_deep";
    DROP_ACTION_TOO_MANY_MPLS_LABELS "drop_action_too_many_mpls_labels";
    DROP_ACTION_TOO_MANY_RESUBMIT "drop_action_too_many_resubmit";
    DROP_ACTION_TUNNEL_HEADER_BUILD_FAILED "drop_action_tunnel_header_build_failed";
    DROP_ACTION_TUNNEL_NEIGH_CACHE_MISS "drop_action_tunnel_neigh_cache_miss";
    DROP_ACTION_TUNNEL_OUTPUT_NO_ETHERNET "drop_action_tunnel_output_no_ethernet";
    DROP_ACTION_TUNNEL_ROUTING_FAILED "drop_action_tunnel_routing_failed";
    DROP_ACTION_UNSUPPORTED_PACKET_TYPE "drop_action_unsupported_packet_type";
    DUMPED_DUPLICATE_FLOW "dumped_duplicate_flow";
    DUMPED_INCONSISTENT_FLOW "dumped_inconsistent_flow";
    DUMPED_NEW_FLOW "dumped_new_flow";
    FLOW_EXTRACT "flow_extract";
    HANDLER_DUPLICATE_UPCALL "handler_duplicate_upcall";
    HINDEX_EXPAND "hindex_expand";
    HMAP_EXPAND "hmap_expand";
    HMAP_PATHOLOGICAL "hmap_pathological";
    HMAP_RESERVE "hmap_reserve";
    HMAP_SHRINK "hmap_shrink";
    IPF_L3CSUM_ERR "ipf_l3csum_err";
    IPF_STUCK_FRAG_LIST_EXPIRED "ipf_stuck_frag_list_expired";
    IPF_STUCK_FRAG_LIST_PURGED "ipf_stuck_frag_list_purged";
    LOCKFILE_LOCK "lockfile_lock";
    LOCKFILE_UNLOCK "lockfile_unlock";
    MAC_LEARNING_EVICTED "mac_learning_evicted";
    MAC_LEARNING_EXPIRED "mac_learning_expired";
    MAC_LEARNING_LEARNED "mac_learning_learned";
    MAC_LEARNING_MOVED "mac_learning_moved";
    MAC_LEARNING_STATIC_NONE_MOVE "mac_learning_static_none_move";
    MCAST_SNOOPING_EVICTED "mcast_snooping_evicted";
    MCAST_SNOOPING_EXPIRED "mcast_snooping_expired";
    MCAST_SNOOPING_LEARNED "mcast_snooping_learned";
    MINIFLOW_EXTRACT_IPV4_PKT_LEN_ERROR "miniflow_extract_ipv4_pkt_len_error";
    MINIFLOW_EXTRACT_IPV4_PKT_TOO_SHORT "miniflow_extract_ipv4_pkt_too_short";
    MINIFLOW_EXTRACT_IPV6_PKT_LEN_ERROR "miniflow_extract_ipv6_pkt_len_error";
    MINIFLOW_EXTRACT_IPV6_PKT_TOO_SHORT "miniflow_extract_ipv6_pkt_too_short";
    MINIFLOW_MALLOC "miniflow_malloc";
    MTU_SYNCHRONIZED "mtu_synchronized";
    NATIVE_TNL_L3CSUM_CHECKED "native_tnl_l3csum_checked";
    NATIVE_TNL_L3CSUM_ERR "native_tnl_l3csum_err";
    NATIVE_TNL_L4CSUM_CHECKED "native_tnl_l4csum_checked";
    NATIVE_TNL_L4CSUM_ERR "native_tnl_l4csum_err";
    NETDEV_ADD_ROUTER "netdev_add_router";
    NETDEV_ARP_LOOKUP "netdev_arp_lookup";
    NETDEV_GET_ETHTOOL "netdev_get_ethtool";
    NETDEV_GET_HWADDR "netdev_get_hwaddr";
    NETDEV_GET_IFINDEX "netdev_get_ifindex";
    NETDEV_GET_STATS "netdev_get_stats";
    NETDEV_PUSH_HEADER_DROPS "netdev_push_header_drops";
    NETDEV_RECEIVED "netdev_received";
    NETDEV_SENT "netdev_sent";
    NETDEV_SET_ETHTOOL "netdev_set_ethtool";
    NETDEV_SET_HWADDR "netdev_set_hwaddr";
    NETDEV_SET_POLICING "netdev_set_policing";
    NETLINK_OVERFLOW "netlink_overflow";
    NETLINK_RECEIVED "netlink_received";
    NETLINK_RECV_JUMBO "netlink_recv_jumbo";
    NETLINK_SENT "netlink_sent";
    NLN_CHANGED "nln_changed";
    OFMONITOR_PAUSE "ofmonitor_pause";
    OFMONITOR_RESUME "ofmonitor_resume";
    OFPROTO_DPIF_EXPIRED "ofproto_dpif_expired";
    OFPROTO_FLUSH "ofproto_flush";
    OFPROTO_PACKET_OUT "ofproto_packet_out";
    OFPROTO_QUEUE_REQ "ofproto_queue_req";
    OFPROTO_RECV_OPENFLOW "ofproto_recv_openflow";
    OFPROTO_REINIT_PORTS "ofproto_reinit_ports";
    OFPROTO_UPDATE_PORT "ofproto_update_port";
    PACKET_IN "packet_in";
    PACKET_IN_OVERFLOW "packet_in_overflow";
    PKTBUF_BUFFER_UNKNOWN "pktbuf_buffer_unknown";
    PKTBUF_NULL_COOKIE "pktbuf_null_cookie";
    PKTBUF_RETRIEVED "pktbuf_retrieved";
    PKTBUF_REUSE_ERROR "pktbuf_reuse_error";
    POLL_CREATE_NODE "poll_create_node";
    POLL_ZERO_TIMEOUT "poll_zero_timeout";
    PSTREAM_OPEN "pstream_open";
    RCONN_DISCARDED "rconn_discarded";
    RCONN_OVERFLOW "rconn_overflow";
    RCONN_QUEUED "rconn_queued";
    RCONN_SENT "rconn_sent";
    REV_BOND "rev_bond";
    REV_FLOW_TABLE "rev_flow_table";
    REV_FORWARDING_STATE "rev_forwarding_state";
    REV_MAC_LEARNING "rev_mac_learning";
    REV_MCAST_SNOOPING "rev_mcast_snooping";
    REV_PORT_TOGGLED "rev_port_toggled";
    REV_RECONFIGURE "rev_reconfigure";
    REV_RSTP "rev_rstp";
    REV_STP "rev_stp";
    REVALIDATE_MISSED_DP_FLOW "revalidate_missed_dp_flow";
    REVALIDATE_MISSING_DP_FLOW "revalidate_missing_dp_flow";
    ROUTE_TABLE_DUMP "route_table_dump";
    SEQ_CHANGE "seq_change";
    STREAM_OPEN "stream_open";
    TUNNEL_ARP_CACHE_HIT "tunnel_arp_cache_hit";
    TXN_ABORTED "txn_aborted";
    TXN_ERROR "txn_error";
    TXN_INCOMPLETE "txn_incomplete";
    TXN_NOT_LOCKED "txn_not_locked";
    TXN_SUCCESS "txn_success";
    TXN_TRY_AGAIN "txn_try_again";
    TXN_UNCHANGED "txn_unchanged";
    TXN_UNCOMMITTED "txn_uncommitted";
    UKEY_DP_CHANGE "ukey_dp_change";
    UKEY_INVALID_STAT_RESET "ukey_invalid_stat_reset";
    UNIXCTL_RECEIVED "unixctl_received";
    UNIXCTL_REPLIED "unixctl_replied";
    UPCALL_FLOW_LIMIT_HIT "upcall_flow_limit_hit";
    UPCALL_FLOW_LIMIT_REDUCED "upcall_flow_limit_reduced";
    UPCALL_FLOW_LIMIT_SCALED "upcall_flow_limit_scaled";
    UPCALL_UKEY_CONTENTION "upcall_ukey_contention";
    UPCALL_UKEY_REPLACE "upcall_ukey_replace";
    UTIL_XALLOC "util_xalloc";
    VCONN_OPEN "vconn_open";
    VCONN_RECEIVED "vconn_received";
    VCONN_SENT "vconn_sent";
    XLATE_ACTIONS "xlate_actions";
    XLATE_ACTIONS_OVERSIZE "xlate_actions_oversize";
    XLATE_ACTIONS_TOO_MANY_OUTPUT "xlate_actions_too_many_output";
}

const SAMPLE: Duration = Duration::from_secs(5);
/// Samples in a minute, and minutes in an hour.
const PER_MINUTE: usize = 12;
const MINUTES: usize = 60;

struct History {
    /// Total at the last sample.
    last: u64,
    samples: [u64; PER_MINUTE],
    minutes: [u64; MINUTES],
}

struct Averages {
    next: Option<Instant>,
    taken: usize,
    events: Vec<History>,
    logged: Vec<u32>,
}

static AVERAGES: Mutex<Averages> = Mutex::new(Averages {
    next: None,
    taken: 0,
    events: Vec::new(),
    logged: Vec::new(),
});
static LAST_LOG_MS: AtomicU64 = AtomicU64::new(0);

/// Takes the samples that are due. The main thread's poll loop calls this.
pub(crate) fn run() {
    let now = clock::now();
    let mut a = AVERAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if a.events.is_empty() {
        a.events.extend(ALL.iter().map(|_| History {
            last: 0,
            samples: [0; PER_MINUTE],
            minutes: [0; MINUTES],
        }));
    }
    let mut due = match a.next {
        None => {
            a.next = Some(now + SAMPLE);
            return;
        }
        Some(t) => t,
    };
    // After a long pause the missed samples are zero but for the last; an hour of them is enough.
    let mut rounds = 0;
    while due <= now && rounds <= PER_MINUTE * MINUTES {
        let taken = a.taken;
        for (h, e) in a.events.iter_mut().zip(ALL) {
            let total = e.total();
            let delta = total.wrapping_sub(h.last);
            h.last = total;
            h.samples[taken % PER_MINUTE] = delta;
            let minute = &mut h.minutes[taken / PER_MINUTE % MINUTES];
            if taken.is_multiple_of(PER_MINUTE) {
                *minute = 0;
            }
            *minute += delta;
        }
        a.taken += 1;
        due += SAMPLE;
        rounds += 1;
    }
    a.next = Some(due.max(now));
}

fn hash(totals: &[u64]) -> u32 {
    // Only has to tell apart sets of events: which were hit, and roughly how often.
    let mut order: Vec<usize> = (0..totals.len()).filter(|&i| totals[i] > 0).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(totals[i]));
    order.iter().fold(0x811c_9dc5u32, |h, &i| {
        (h ^ i as u32).wrapping_mul(0x0100_0193)
    })
}

/// The text of `coverage/show`, line by line, and its hash.
fn lines() -> (Vec<String>, u32) {
    let totals: Vec<u64> = ALL.iter().map(|e| e.total()).collect();
    let hash = hash(&totals);
    let a = AVERAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines = vec![format!(
        "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash={hash:08x}:"
    )];
    let mut never = 0;
    for (i, e) in ALL.iter().enumerate() {
        if totals[i] == 0 {
            never += 1;
            continue;
        }
        let (last, minute, hour) = match a.events.get(i) {
            None => (0, 0, 0),
            Some(h) => {
                let last = (a.taken + PER_MINUTE - 1) % PER_MINUTE;
                (
                    h.samples[last],
                    h.samples.iter().sum(),
                    h.minutes.iter().sum::<u64>(),
                )
            }
        };
        lines.push(format!(
            "{:<24} {:>5.1}/sec {:>9.3}/sec {:>13.4}/sec   total: {}",
            e.name,
            last as f64 / 5.0,
            minute as f64 / 60.0,
            hour as f64 / 3600.0,
            totals[i]
        ));
    }
    lines.push(format!("{never} events never hit"));
    (lines, hash)
}

/// Logs the counters, for a warning about slowness; the same picture only once.
pub fn log() {
    if !COVERAGE.enabled(vlog::Level::Info) {
        return;
    }
    let now = clock::ms_since_start().max(1) as u64;
    let last = LAST_LOG_MS.load(Relaxed);
    if last != 0 && now.saturating_sub(last) < 3000 {
        return;
    }
    LAST_LOG_MS.store(now, Relaxed);
    let (lines, hash) = lines();
    let seen = {
        let mut a = AVERAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = a.logged.contains(&hash);
        if !seen && a.logged.len() < 128 {
            a.logged.push(hash);
        }
        seen
    };
    if seen {
        vlog::info!(
            COVERAGE,
            "Skipping details of duplicate event coverage for hash={hash:08x}"
        );
        return;
    }
    for line in lines {
        vlog::info!(COVERAGE, "{line}");
    }
}

/// What `coverage/show` says.
pub(crate) fn show() -> String {
    let mut text = lines().0.join("\n");
    text.push('\n');
    text
}

/// The total of the counter of that name.
pub(crate) fn total(name: &str) -> Option<u64> {
    let event = ALL.iter().find(|e| e.name == name)?;
    Some(event.total())
}
