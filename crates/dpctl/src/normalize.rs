//! `dpctl/parse-actions` and `dpctl/normalize-actions`, which tests use.

use std::fmt::Write;

use ferrovs_packet::flow::{Flow, VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK, VlanHdr};

use super::Context;
use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::Errno;
use ferrovs_datapath::text::{
    Misfit, ParsedKey, format_action, format_actions, parse_actions, parse_key,
};

pub fn parse(cx: &mut Context<'_>, args: &[&str]) {
    for arg in args {
        match parse_actions(arg, None) {
            Ok(actions) => {
                format_actions(&mut cx.out, &actions, None);
                cx.out.push('\n');
            }
            Err(error) => cx.error(&error.to_string(), Some(Errno::EINVAL)),
        }
    }
}

/// Actions that packets with the same tag and labels meet.
struct Part {
    tci: u16,
    lses: [u32; 4],
    actions: Vec<Action>,
}

pub fn normalize(cx: &mut Context<'_>, args: &[&str]) {
    let key = match parse_key(args[0], None) {
        Ok(key) => key,
        Err(error) => {
            let message = format!("odp_flow_key_from_string ({error})");
            return cx.error(&message, Some(Errno::EINVAL));
        }
    };
    let mut flow = key.flow;
    _ = writeln!(cx.out, "input flow: {}", key.written());
    if let Some((reason, errno)) = misfit(&key) {
        let message = format!("odp_flow_key_to_flow failed ({reason})");
        return cx.error(&message, Some(errno));
    }
    let Ok(actions) = parse_actions(args[1], None) else {
        return cx.error("odp_actions_from_string", Some(Errno::EINVAL));
    };
    let mut parts: Vec<Part> = Vec::new();
    if actions.is_empty() {
        part(&mut parts, &flow);
    }
    for action in actions {
        match action {
            Action::PushVlan { tpid, tci } => {
                flow.vlans[1] = flow.vlans[0];
                flow.vlans[0] = VlanHdr {
                    tpid: tpid.into(),
                    tci: (tci | VLAN_CFI).into(),
                };
            }
            Action::PopVlan => {
                flow.vlans[0] = flow.vlans[1];
                flow.vlans[1] = VlanHdr::default();
            }
            Action::PushMpls { lse, .. } => {
                flow.mpls_lse.rotate_right(1);
                flow.mpls_lse[0] = lse;
            }
            Action::PopMpls { .. } => {
                flow.mpls_lse.rotate_left(1);
                flow.mpls_lse[3] = 0.into();
            }
            other => part(&mut parts, &flow).push(other),
        }
    }
    parts.sort_by_key(|p| (p.tci, p.lses));
    for p in &mut parts {
        sort_outputs(&mut p.actions);
        let out = &mut cx.out;
        if p.tci & VLAN_CFI != 0 {
            _ = write!(
                out,
                "vlan(vid={},pcp={}): ",
                p.tci & VLAN_VID_MASK,
                p.tci >> VLAN_PCP_SHIFT
            );
        } else {
            out.push_str("no vlan: ");
        }
        if p.lses[0] == 0 {
            out.push_str("no ");
        }
        out.push_str("mpls");
        for lse in p.lses.iter().take_while(|l| **l != 0) {
            _ = write!(
                out,
                "(label={},tc={},ttl={})",
                lse >> 12,
                lse >> 9 & 7,
                lse & 0xff
            );
        }
        out.push_str(": ");
        format_actions(out, &p.actions, None);
    }
}

/// Why the key is not that of a packet. The kind of misfit is told as if it were a system error.
fn misfit(key: &ParsedKey) -> Option<(String, Errno)> {
    let unknown = || "reason unknown".to_owned();
    match key.fit().err()? {
        Misfit::Wrong(reason) => Some((reason, Errno::ESRCH)),
        Misfit::TooLittle => Some((unknown(), Errno::ENOENT)),
        Misfit::TooMuch => Some((unknown(), Errno::EPERM)),
    }
}

fn part<'a>(parts: &'a mut Vec<Part>, flow: &Flow) -> &'a mut Vec<Action> {
    let tci = flow.vlans[0].tci.get();
    let lses = flow.mpls_lse.map(|l| l.get());
    let at = parts.iter().position(|p| p.tci == tci && p.lses == lses);
    let at = at.unwrap_or_else(|| {
        parts.push(Part {
            tci,
            lses,
            actions: Vec::new(),
        });
        parts.len() - 1
    });
    &mut parts[at].actions
}

/// Sorts each run of outputs by their texts.
fn sort_outputs(actions: &mut [Action]) {
    let output = |a: &Action| matches!(a, Action::Output(_));
    for run in actions.chunk_by_mut(|a, b| output(a) && output(b)) {
        run.sort_by_cached_key(|a| match a {
            Action::Output(port) => (port.0, String::new()),
            other => {
                let mut text = String::new();
                format_action(&mut text, other, None);
                (0, text)
            }
        });
    }
}
