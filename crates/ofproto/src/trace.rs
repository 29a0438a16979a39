//! `ofproto/trace`: what would happen to a packet, told step by step.
//!
//! A trace translates a flow like a miss does, with a record of each step
//! ([`xlate::trace`](crate::xlate::trace)). Without a packet it changes nothing; with one (given as bytes, or made
//! by `-generate`) the switch learns and sends as it does for a packet that comes in.

mod subject;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::action::{DropReason, SlowPath};
use ferrovs_datapath::text::{PortNames, format_actions};
use ferrovs_openflow::action::Action;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_action;
use ferrovs_openflow::text::key::format_flow;
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::text::parse_action::parse_actions;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::field::{CT_STATE_FLAGS, PortMap, format_flags};
use ferrovs_packet::flow::{CS_NEW, CS_TRACKED, Flow, FlowWildcards, Match};
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::clock;
use ferrovs_runtime::unixctl::{Output, Reply, Request};

use crate::handlers::check::Check;
use crate::ofprotos::Ofprotos;
use crate::rule::Rule;
use crate::udpif::Udpif;
use crate::xlate::ct::CtResume;
use crate::xlate::recirc::Recirc;
use crate::xlate::snapshot::XBridge;
use crate::xlate::trace::{NodeKind, Trace};
use crate::xlate::{Start, XlateIn, XlateOut, translate};
use subject::{Options, Subject};

/// Runs `run` with the names of the ports of `bridge`, or with numbers only. Tables have numbers in any case.
pub fn with_names<R>(bridge: Option<&XBridge>, run: impl FnOnce(&Names<'_>) -> R) -> R {
    let tun = Tun::auto();
    let numbers = Names::none(&tun);
    match bridge {
        Some(bridge) => run(&Names {
            ports: &BridgePorts(bridge),
            ..numbers
        }),
        None => run(&numbers),
    }
}

/// A rule as a trace names it: match, priority, cookie if it has one.
pub fn describe_rule(rule: &Rule, names: &Names<'_>) -> String {
    let mut text = String::new();
    // The priority is told behind the match, also when it is the default.
    format_match(&rule.match_.expand(), None, names, &mut text);
    if !text.is_empty() {
        text.push_str(", ");
    }
    let _ = write!(text, "priority {}", rule.priority);
    if rule.cookie != 0 {
        let _ = write!(text, ", cookie {:#x}", rule.cookie);
    }
    text
}

/// A rule that matched together with others.
pub fn describe_conj_rule(rule: &Rule, names: &Names<'_>) -> String {
    let mut text = String::from("conj. ");
    format_match(
        &rule.match_.expand(),
        u16::try_from(rule.priority).ok(),
        names,
        &mut text,
    );
    text
}

pub fn describe_action(action: &Action, names: &Names<'_>) -> String {
    let mut out = String::new();
    format_action(action, names, &mut out);
    out
}

/// The same for a list.
pub fn describe_actions(actions: &[Action], names: &Names<'_>) -> String {
    let texts: Vec<_> = actions.iter().map(|a| describe_action(a, names)).collect();
    texts.join(",")
}

/// The names of a bridge's ports.
struct BridgePorts<'a>(&'a XBridge);

impl PortMap for BridgePorts<'_> {
    fn port_by_name(&self, name: &str) -> Option<OfPort> {
        let ports = &self.0.ports;
        ports.values().find(|p| p.name == name).map(|p| p.ofport)
    }

    fn name_of(&self, port: OfPort) -> Option<Cow<'_, str>> {
        let port = self.0.ports.get(&port)?;
        Some(Cow::Borrowed(port.name.as_str()))
    }
}

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
    let ofproto = ofprotos.bridge(&subject.bridge.name);
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
    let recircs = &subject.backer.udpif.recircs;
    let start = match (actions, &subject.recirc) {
        (Some(actions), _) => Start::Actions(actions),
        (None, Some(recirc)) => Start::Frozen(recirc),
        (None, None) => Start::Tables,
    };
    let scene = Scene {
        udpif: &subject.backer.udpif,
        bridge: &subject.bridge,
        packet: subject.packet.as_ref(),
        names: subject.names,
    };
    let (mut out, first) = run_one(&scene, &subject.flow, start);
    let mut waiting: VecDeque<CtResume> = first.ct_resumes.into();
    let mut held = first.recircs;
    let mut ct_next = subject.ct_next.iter().copied();
    for _ in 0..MAX_RESUMES {
        let Some(resume) = waiting.pop_front() else {
            break;
        };
        let Some(recirc) = recircs.find(resume.recirc_id) else {
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
            "\n\n{line}\nrecirc({:#x}) - resume conntrack with {default}ct_state={names}{how}\n{line}\n\n",
            resume.recirc_id
        );
        let mut flow = resume.flow;
        flow.recirc_id = resume.recirc_id;
        flow.ct_state = state;
        flow.ct_zone = resume.zone;
        let (text, result) = run_one(&scene, &flow, Start::Frozen(&recirc));
        out += &text;
        waiting.extend(result.ct_resumes);
        held.extend(result.recircs);
    }
    out
}

/// Where a packet is, and how it is told.
struct Scene<'a> {
    udpif: &'a Udpif,
    bridge: &'a Arc<XBridge>,
    /// The switch learns from it and sends it.
    packet: Option<&'a Packet>,
    /// Whether ports are told by name.
    names: bool,
}

/// What becomes of a packet whose translation failed, for the log.
pub fn of_failure(
    udpif: &Udpif,
    bridge: &Arc<XBridge>,
    flow: &Flow,
    recirc: Option<&Recirc>,
) -> String {
    let scene = Scene {
        udpif,
        bridge,
        packet: None,
        names: false,
    };
    run_one(&scene, flow, recirc.map_or(Start::Tables, Start::Frozen)).0
}

fn run_one(scene: &Scene<'_>, flow: &Flow, start: Start<'_>) -> (String, XlateOut) {
    let named = scene.names.then_some(&**scene.bridge);
    let mut out = format!("Flow: {}\n", with_names(named, |n| format_flow(flow, n)));
    let snapshot = scene.udpif.snapshot.load_full();
    let mut trace = Trace::new(scene.names);
    trace.open(
        NodeKind::Bridge,
        &format!("bridge(\"{}\")", scene.bridge.name),
    );
    let result = translate(XlateIn {
        snapshot: &snapshot,
        recircs: &scene.udpif.recircs,
        bridge: scene.bridge,
        flow: *flow,
        packet: scene.packet,
        start,
        version: None,
        side_effects: scene.packet.is_some(),
        count: None,
        xcache: None,
        trace: Some(&mut trace),
        now: clock::now(),
    });
    if result.learned {
        scene.udpif.changed();
    }
    out += &trace.text();
    out += "\nFinal flow: ";
    let mut last = result.final_flow;
    if last.actset_output == u32::from(OfPort::UNSET.0) {
        last.actset_output = flow.actset_output;
    }
    if last == *flow {
        out += "unchanged";
    } else {
        out += &with_names(named, |n| format_flow(&last, n));
    }
    out += "\nMegaflow: ";
    with_names(named, |n| {
        format_match(&Match::new(flow, &result.wc), None, n, &mut out)
    });
    out += "\nDatapath actions: ";
    let dp_ports = named.map(|_| PortNames::new(&scene.udpif.dpif.ports()));
    format_actions(&mut out, &result.actions, dp_ports.as_ref());
    if result.error != DropReason::Ok {
        let _ = write!(
            out,
            "\nTranslation failed ({}), packet is dropped.",
            strerror(result.error)
        );
    }
    explain_slow_path(&mut out, result.slow);
    (out, result)
}

/// What went wrong, in words.
fn strerror(error: DropReason) -> &'static str {
    match error {
        DropReason::Ok => "OK",
        DropReason::BridgeNotFound => "Bridge not found",
        DropReason::RecursionTooDeep => "Recursion too deep",
        DropReason::TooManyResubmits => "Too many resubmits",
        DropReason::StackTooDeep => "Stack too deep",
        DropReason::NoRecirculationContext => "No recirculation context",
        DropReason::RecirculationConflict => "Recirculation conflict",
        DropReason::TooManyMplsLabels => "Too many MPLS labels",
        DropReason::InvalidTunnelMetadata => "Invalid tunnel metadata",
        DropReason::UnsupportedPacketType => "Unsupported packet type",
        DropReason::CongestionDrop => "Congestion Drop",
        DropReason::ForwardingDisabled => "Forwarding is disabled",
        DropReason::TunnelRoutingFailed => "Native tunnel routing failed",
        DropReason::TunnelOutputNoEthernet => "Tunnel output device lacks Ethernet address",
        DropReason::TunnelNeighCacheMiss => "Native tunnel neighbor cache miss",
        DropReason::TunnelHeaderBuildFailed => "Native tunnel header build failed",
    }
}

fn explain_slow_path(out: &mut String, slow: SlowPath) {
    if slow.is_none() {
        return;
    }
    *out += "\nThis flow is handled by the userspace slow path because it:";
    let reasons = [
        (SlowPath::CFM, "Consists of CFM packets."),
        (SlowPath::BFD, "Consists of BFD packets."),
        (SlowPath::LACP, "Consists of LACP packets."),
        (SlowPath::STP, "Consists of STP packets."),
        (SlowPath::LLDP, "Consists of LLDP packets."),
        (
            SlowPath::ACTION,
            "Uses action(s) not supported by datapath.",
        ),
        (
            SlowPath::MATCH,
            "Needs more specific match than supported by datapath.",
        ),
    ];
    for (_, text) in reasons.iter().filter(|(bit, _)| slow.0 & bit.0 != 0) {
        let _ = write!(out, "\n  - {text}");
    }
}
