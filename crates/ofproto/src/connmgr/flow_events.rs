//! What connections are told when flows change: flow-removed messages and flow monitor updates.

use std::time::Instant;

use ferrovs_openflow::flow::{FlowModFlags, FlowRemoved, FlowRemovedReason};
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::AsyncType;
use ferrovs_openflow::version::Version;

use super::OfConn;
use crate::rule::Rule;
use crate::tables::TableEvent;
use crate::time::{sec_nsec, to_ms};

/// Tells the events of one change to every connection that wants to know.
pub fn deliver(conns: &mut [OfConn], events: &[TableEvent], now: Instant) {
    for conn in conns.iter_mut().filter(|c| !c.monitors.is_empty()) {
        super::monitor::deliver(conn, events, now);
    }
    for event in events {
        if let TableEvent::Removed { rule, reason, .. } = event
            && rule.flags.contains(FlowModFlags::SEND_FLOW_REM)
            && !rule.is_hidden()
        {
            flow_removed(conns, rule, *reason, now);
        }
    }
}

fn flow_removed(conns: &mut [OfConn], rule: &Rule, reason: FlowRemovedReason, now: Instant) {
    let stats = rule.stats();
    let (duration_sec, duration_nsec) = sec_nsec(to_ms(now) - rule.created_ms);
    let removed = FlowRemoved {
        match_: rule.match_.expand(),
        cookie: rule.cookie,
        priority: rule.priority as u16,
        reason,
        table_id: rule.table_id,
        duration_sec,
        duration_nsec,
        idle_timeout: rule.idle_timeout(),
        hard_timeout: rule.hard_timeout(),
        packet_count: stats.n_packets,
        byte_count: stats.n_bytes,
    };
    for conn in conns {
        if conn.wants(AsyncType::FlowRemoved, reason as u32) {
            let nxm = conn.nxm && conn.version() == Version::ALL[0];
            conn.send(
                Message::FlowRemoved {
                    removed: Box::new(removed.clone()),
                    nxm,
                },
                now,
            );
        }
    }
}
