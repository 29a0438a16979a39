//! `ofproto/trace`: what would happen to a packet that is given by its key, as bytes, or made by `-generate`.

mod subject;

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_datapath::action::{Nat, NatKind};
use ferrovs_openflow::action::Action;
use ferrovs_openflow::text::parse_action::parse_actions;
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_packet::field::{CT_STATE_FLAGS, format_flags};
use ferrovs_packet::flow::{CS_NEW, CS_TRACKED, Flow, FlowWildcards, Match};
use ferrovs_packet::types::Be32;
use ferrovs_runtime::unixctl::{Output, Reply, Request};

use crate::handlers::check::Check;
use crate::ofprotos::Ofprotos;
use crate::trace::tell;
use crate::xlate::ct::CtResume;
use crate::xlate::describe::with_names;
use crate::xlate::{Start, XlateOut};
use subject::{Options, Subject};

/// `ofproto/trace {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate | packet]`
pub fn trace(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let options = Options::read(&request.argv[1..], false)?;
    let subject = Subject::find(ofprotos, options)?;
    Ok(Output::Text(run(&subject, None)))
}

/// `ofproto/trace-packet-out [-consistent] {[dp_name] odp_flow | bridge br_flow} [...] actions`
pub fn trace_packet_out(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let args = &request.argv[1..];
    let Some((actions, rest)) = args.split_last() else {
        return Err("Too few arguments".into());
    };
    let mut usable = Protocol::all();
    let parsed = with_names(None, |names| {
        parse_actions(actions, names, &mut usable, false)
    });
    let mut actions = parsed?;
    let options = Options::read(rest, true)?;
    let consistent = options.consistent;
    let subject = Subject::find(ofprotos, options)?;
    let ofproto = ofprotos.ofproto(&subject.bridge.name);
    let check = Check {
        ofproto: ofproto.ok_or("Unknown bridge")?,
        version: Version::V13,
        table_id: 0,
        references: true,
    };
    let known = Match::new(&subject.flow, &FlowWildcards::for_packet(&subject.flow));
    match consistent {
        true => check.actions(&mut actions, &known),
        false => check.buckets(&actions),
    }
    .map_err(|e| format!("Bad actions: {e}"))?;
    // Without actions the packet goes through the tables.
    let actions = Some(&actions[..]).filter(|list| !list.is_empty());
    Ok(Output::Text(run(&subject, actions)))
}

/// Packets that come back from the connection tracker, at most.
const MAX_RESUMES: usize = 4096;

/// Traces the subject, and then each packet that comes back from the connection tracker.
fn run(subject: &Subject, actions: Option<&[Action]>) -> String {
    let start = match (actions, &subject.recirc) {
        (Some(actions), _) => Start::Actions(actions),
        (None, Some(recirc)) => Start::Frozen(recirc),
        (None, None) => Start::Tables,
    };
    let udpif = &subject.backer.udpif;
    let scene = udpif.scene(&subject.bridge, subject.packet.as_ref(), subject.names);
    let tell_one = |flow: &Flow, start: Start<'_>| -> (String, XlateOut) {
        let mut told = tell(&scene, flow, start);
        udpif.ask(&mut told.1.requests);
        if told.1.learned {
            udpif.changed();
        }
        told
    };
    let (mut out, first) = tell_one(&subject.flow, start);
    let mut waiting: VecDeque<CtResume> = first.ct_resumes.into();
    let mut held = first.recircs;
    let mut ct_next = subject.ct_next.iter().copied();
    for _ in 0..MAX_RESUMES {
        let Some(resume) = waiting.pop_front() else {
            break;
        };
        let Some(recirc) = udpif.recircs.find(resume.recirc_id) else {
            continue;
        };
        let (state, how) = match ct_next.next() {
            Some(state) => (state, ""),
            None => (CS_TRACKED | CS_NEW, " (use --ct-next to customize)"),
        };
        let default = if how.is_empty() { "" } else { "default " };
        let mut names = String::new();
        format_flags(&CT_STATE_FLAGS, state.into(), '|', &mut names);
        // The flags are told in another order here.
        let names = if how.is_empty() {
            names
        } else {
            "trk|new".to_string()
        };
        let line = "=".repeat(79);
        let _ = write!(
            out,
            "\n\n{line}\nrecirc({:#x}) - resume conntrack with {default}ct_state={names}{how}\n",
            resume.recirc_id
        );
        let mut flow = resume.flow;
        if let Some(nat) = &resume.nat {
            translate(&mut flow, nat, &mut out);
        }
        let _ = write!(out, "{line}\n\n");
        flow.recirc_id = resume.recirc_id;
        flow.ct_state = state;
        flow.ct_zone = resume.zone;
        let (text, result) = tell_one(&flow, Start::Frozen(&recirc));
        out += &text;
        waiting.extend(result.ct_resumes);
        held.extend(result.recircs);
    }
    out
}
/// Gives a packet the first address and port of a range, where the tracker would choose one, and tells so.
fn translate(flow: &mut Flow, nat: &Nat, out: &mut String) {
    let describe = |flow: &Flow| {
        let (sp, dp) = (flow.tp_src.get(), flow.tp_dst.get());
        if nat.ip_min == [0; 16] {
            return String::new();
        }
        match nat.ipv6 {
            true => {
                let (src, dst) = (Ipv6Addr::from(flow.ipv6_src), Ipv6Addr::from(flow.ipv6_dst));
                format!("ipv6_src=[{src}],tp_src={sp},ipv6_dst=[{dst}],tp_dst={dp}")
            }
            false => {
                let ip = |a: Be32| Ipv4Addr::from(a.get());
                let (src, dst) = (ip(flow.nw_src), ip(flow.nw_dst));
                format!("nw_src={src},tp_src={sp},nw_dst={dst},tp_dst={dp}")
            }
        }
    };
    let before = describe(flow);
    let source = nat.kind == NatKind::Src;
    if nat.ip_min != [0; 16] {
        let [.., a, b, c, d] = nat.ip_min;
        match (nat.ipv6, source) {
            (true, true) => flow.ipv6_src = nat.ip_min,
            (true, false) => flow.ipv6_dst = nat.ip_min,
            (false, true) => flow.nw_src = Be32::from_bytes([a, b, c, d]),
            (false, false) => flow.nw_dst = Be32::from_bytes([a, b, c, d]),
        }
    }
    if nat.port_min != 0 {
        let port = if source {
            &mut flow.tp_src
        } else {
            &mut flow.tp_dst
        };
        port.set(nat.port_min);
    }
    let after = describe(flow);
    let _ = write!(
        out,
        "Replacing src/dst IP/ports to simulate NAT:\n Initial flow: {before}\n Modified flow: {after}\n"
    );
}
