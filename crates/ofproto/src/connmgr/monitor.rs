//! Flow monitors: a connection is told of the flows that are there, and of every change to them.
//!
//! A peer that reads its updates too slowly is told that they pause; when it has caught up it gets the flows
//! anew and is told that they go on.

use std::time::Instant;

use ferrovs_openflow::action::TABLE_ALL;
use ferrovs_openflow::flow::{
    FlowMonitorFlags, FlowMonitorRequest, FlowRemovedReason, FlowUpdate, FlowUpdateEvent,
    FullFlowUpdate, GROUP_ANY,
};
use ferrovs_openflow::message::Message;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::coverage;

use super::OfConn;
use super::parts::Packer;
use crate::rule::{Rule, RuleMatch};
use crate::tables::{Criteria, TableEvent, Tables};

/// Updates pause when so many bytes wait.
const PAUSE_AT: usize = 128 * 1024;

/// What one monitor watches.
#[derive(Clone, Debug)]
pub struct Monitor {
    flags: FlowMonitorFlags,
    out_port: OfPort,
    out_group: u32,
    table_id: u8,
    match_: RuleMatch,
}

impl Monitor {
    pub fn new(request: &FlowMonitorRequest) -> Monitor {
        Monitor {
            flags: request.flags,
            out_port: request.out_port,
            out_group: request.out_group,
            table_id: request.table_id,
            match_: RuleMatch::new(&request.match_),
        }
    }

    /// Whether the connection is to be told at once of the flows that are there.
    pub fn tells_initial(&self) -> bool {
        self.flags.contains(FlowMonitorFlags::INITIAL)
    }

    fn watches(&self, rule: &Rule) -> bool {
        (self.table_id == TABLE_ALL || self.table_id == rule.table_id)
            && !rule.is_hidden()
            && (self.out_port == OfPort::NONE || rule.actions.outputs_to_port(self.out_port))
            && (self.out_group == GROUP_ANY || rule.actions.outputs_to_group(self.out_group))
            && rule.match_.is_within(&self.match_)
    }
}

fn full(
    rule: &Rule,
    event: FlowUpdateEvent,
    reason: FlowRemovedReason,
    with_actions: bool,
) -> FlowUpdate {
    let actions = if with_actions {
        rule.actions.actions.clone()
    } else {
        Vec::new()
    };
    FlowUpdate::Full(Box::new(FullFlowUpdate {
        event,
        reason,
        idle_timeout: rule.idle_timeout(),
        hard_timeout: rule.hard_timeout(),
        table_id: rule.table_id,
        priority: rule.priority as u16,
        cookie: rule.cookie,
        match_: rule.match_.expand(),
        actions,
    }))
}

/// Tells a connection with monitors of the events of one change.
pub fn deliver(conn: &mut OfConn, events: &[TableEvent], now: Instant) {
    let tun = conn.tun_table.clone();
    let mut packer = Packer::new(conn.version(), 0, reply);
    let mut abbreviated = Vec::new();
    for event in events {
        if conn.monitor_paused {
            return;
        }
        let Some(update) = update(conn, event) else {
            continue;
        };
        if conn.rconn.tx_backlog() > PAUSE_AT {
            // Whatever waits is in what the connection gets when it has caught up.
            conn.monitor_paused = true;
            coverage::OFMONITOR_PAUSE.inc();
            packer = Packer::new(conn.version(), 0, reply);
            packer.add(FlowUpdate::Paused, &tun);
            break;
        }
        // A change of the connection's own is told once, however many flows it concerns.
        if is_abbrev(&update) {
            if abbreviated.contains(&update) {
                continue;
            }
            abbreviated.push(update.clone());
        }
        if let Some(full) = packer.add(update, &tun) {
            conn.rconn.send(full, now);
        }
    }
    if !packer.is_empty() {
        conn.rconn.send(packer.finish(), now);
    }
}

fn is_abbrev(update: &FlowUpdate) -> bool {
    matches!(update, FlowUpdate::Abbrev { .. })
}

/// What a connection is told of one event.
fn update(conn: &OfConn, event: &TableEvent) -> Option<FlowUpdate> {
    let (rule, wanted, kind, reason, requester) = match event {
        TableEvent::Added { rule, requester } => (
            rule,
            FlowMonitorFlags::ADD,
            FlowUpdateEvent::Added,
            FlowRemovedReason::Delete,
            requester,
        ),
        TableEvent::Modified {
            rule, requester, ..
        } => (
            rule,
            FlowMonitorFlags::MODIFY,
            FlowUpdateEvent::Modified,
            FlowRemovedReason::Delete,
            requester,
        ),
        TableEvent::Removed {
            rule,
            reason,
            requester,
        } => (
            rule,
            FlowMonitorFlags::REMOVED,
            FlowUpdateEvent::Removed,
            *reason,
            requester,
        ),
    };
    let mut flags = FlowMonitorFlags::empty();
    for monitor in conn.monitors.values() {
        if monitor.flags.contains(wanted) && monitor.watches(rule) {
            flags |= monitor.flags;
        }
    }
    if flags.is_empty() {
        return None;
    }
    let own = requester.0.filter(|(id, _)| *id == conn.id);
    Some(match own {
        // "Own" asks for the connection's own changes in full; Open vSwitch takes 1.4's "only own" so, too.
        Some((_, xid))
            if !flags.intersects(FlowMonitorFlags::NO_ABBREV | FlowMonitorFlags::ONLY_OWN) =>
        {
            FlowUpdate::Abbrev { xid }
        }
        _ => full(
            rule,
            kind,
            reason,
            flags.contains(FlowMonitorFlags::INSTRUCTIONS),
        ),
    })
}

/// The message that tells of updates.
pub fn reply(updates: Vec<FlowUpdate>) -> Message {
    let more = false;
    Message::FlowMonitorReply { updates, more }
}

/// The flows that the connection's monitors watch, as updates.
pub fn current(tables: &Tables, monitors: &[Monitor], event: FlowUpdateEvent) -> Vec<FlowUpdate> {
    let mut updates = Vec::new();
    for rule in tables.collect_rules(&Criteria::all()) {
        let flags = monitors
            .iter()
            .filter(|m| m.watches(&rule))
            .fold(FlowMonitorFlags::empty(), |all, m| all | m.flags);
        if !flags.is_empty() {
            let with_actions = flags.contains(FlowMonitorFlags::INSTRUCTIONS);
            updates.push(full(&rule, event, FlowRemovedReason::Delete, with_actions));
        }
    }
    updates
}

/// Goes on with updates that were paused, once the peer has caught up.
pub fn resume(conn: &mut OfConn, tables: &Tables, now: Instant) {
    if !conn.monitor_paused || conn.rconn.tx_backlog() > 0 {
        return;
    }
    conn.monitor_paused = false;
    coverage::OFMONITOR_RESUME.inc();
    let monitors: Vec<Monitor> = conn.monitors.values().cloned().collect();
    let mut updates = current(tables, &monitors, FlowUpdateEvent::Added);
    updates.push(FlowUpdate::Resumed);
    conn.send(reply(updates), now);
}
