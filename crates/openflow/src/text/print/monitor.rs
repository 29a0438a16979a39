//! Flow monitor requests and updates.

use std::fmt::Write;

use super::{Print, port::port_name};
use crate::flow::*;
use crate::text::action::format_actions;
use crate::text::format::hex;
use crate::text::format_table;
use crate::text::match_::format_match;
use ferrovs_packet::types::OfPort;

/// Flags by name, in the order in which they are shown.
const MONITOR_FLAGS: [(FlowMonitorFlags, &str); 7] = [
    (FlowMonitorFlags::INITIAL, "initial"),
    (FlowMonitorFlags::ADD, "add"),
    (FlowMonitorFlags::REMOVED, "delete"),
    (FlowMonitorFlags::MODIFY, "modify"),
    (FlowMonitorFlags::INSTRUCTIONS, "actions"),
    (FlowMonitorFlags::NO_ABBREV, "no_abbrev"),
    (FlowMonitorFlags::ONLY_OWN, "own"),
];

pub fn request(r: &FlowMonitorRequest, p: Print<'_>, out: &mut String) {
    let _ = write!(out, "\n id={}", r.id);
    if r.command == FlowMonitorCommand::Delete {
        out.push_str(" command=delete");
        return;
    }
    out.push_str(" flags=");
    let mut first = true;
    for (f, name) in MONITOR_FLAGS {
        if r.flags.contains(f) {
            if !first {
                out.push(',');
            }
            first = false;
            out.push_str(name);
        }
    }
    if first {
        out.push('0');
    }
    if r.out_port != OfPort::NONE {
        out.push_str(" out_port=");
        port_name(r.out_port, p, out);
    }
    if r.out_group != GROUP_ANY {
        // Open vSwitch shows it as a signed number.
        let _ = write!(out, " out_group={}", r.out_group as i32);
    }
    if r.table_id != 0xff {
        out.push_str(" table=");
        format_table(r.table_id, p.names.tables, out);
    }
    out.push(' ');
    format_match(&r.match_, None, &p.names, out);
    while out.ends_with(' ') {
        out.pop();
    }
}

pub fn update(u: &FlowUpdate, p: Print<'_>, out: &mut String) {
    out.push_str("\n event=");
    let u = match u {
        FlowUpdate::Abbrev { xid } => {
            let _ = write!(out, "ABBREV xid={xid:#x}");
            return;
        }
        FlowUpdate::Paused => return out.push_str("PAUSED"),
        FlowUpdate::Resumed => return out.push_str("RESUMED"),
        FlowUpdate::Full(u) => u,
    };
    match u.event {
        FlowUpdateEvent::Initial => out.push_str("INITIAL"),
        FlowUpdateEvent::Added => out.push_str("ADDED"),
        FlowUpdateEvent::Removed => {
            let _ = write!(out, "DELETED reason={}", u.reason.name());
        }
        FlowUpdateEvent::Modified => out.push_str("MODIFIED"),
    }
    out.push_str(" table=");
    format_table(u.table_id, p.names.tables, out);
    if u.idle_timeout != 0 {
        let _ = write!(out, " idle_timeout={}", u.idle_timeout);
    }
    if u.hard_timeout != 0 {
        let _ = write!(out, " hard_timeout={}", u.hard_timeout);
    }
    let _ = write!(out, " cookie={} ", hex(u.cookie));
    let start = out.len();
    format_match(&u.match_, None, &p.names, out);
    if !u.actions.is_empty() {
        if out.len() != start {
            out.push(' ');
        }
        out.push_str("actions=");
        format_actions(&u.actions, &p.names, out);
    }
}
