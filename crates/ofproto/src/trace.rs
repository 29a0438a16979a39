//! `ofproto/trace`: what would happen to a packet, told step by step.
//!
//! A trace translates a flow like a miss does, with a record of each step
//! ([`xlate::trace`](crate::xlate::trace)). Without a packet it changes nothing; with one (given as bytes, or made
//! by `-generate`) the switch learns and sends as it does for a packet that comes in.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::action::{DropReason, SlowPath};
use ferrovs_datapath::text::{PortNames, format_actions, parse_key};
use ferrovs_openflow::action::Action;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_action;
use ferrovs_openflow::text::key::{format_flow, parse_flow_key};
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::text::parse_action::parse_actions;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Protocol;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::field::{CT_STATE_FLAGS, PortMap, format_flags};
use ferrovs_packet::flow::{CS_NEW, CS_TRACKED, Flow, Match, VLAN_CFI};
use ferrovs_packet::types::{DpPort, OfPort, eth_type};
use ferrovs_runtime::clock;
use ferrovs_runtime::unixctl::{Output, Reply, Request};

use crate::backer::Backer;
use crate::ofprotos::Ofprotos;
use crate::rule::Rule;
use crate::xlate::ct::CtResume;
use crate::xlate::recirc::Recirc;
use crate::xlate::snapshot::{XBridge, XlateSnapshot};
use crate::xlate::trace::{NodeKind, Trace};
use crate::xlate::{Start, XlateIn, XlateOut, translate};

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

/// What is to be traced.
struct Subject {
    backer: Arc<Backer>,
    bridge: Arc<XBridge>,
    /// With an OpenFlow port.
    flow: Flow,
    packet: Option<Packet>,
    /// Whether ports are told by name.
    names: bool,
    /// What the connection tracker is to say, one by one.
    ct_next: Vec<u8>,
    /// Where the packet stopped before.
    recirc: Option<Arc<Recirc>>,
}

/// `ofproto/trace {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate | packet]`
pub fn trace(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let subject = subject(ofprotos, &request.argv[1..])?;
    Ok(Output::Text(run(&subject, None)))
}

/// `ofproto/trace-packet-out [-consistent] {[dp_name] odp_flow | bridge br_flow} [...] actions`
pub fn trace_packet_out(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let args = &request.argv[1..];
    let Some((actions, rest)) = args.split_last() else {
        return Err("Too few arguments".into());
    };
    let rest: Vec<String> = rest
        .iter()
        .filter(|a| *a != "-consistent" && *a != "--consistent")
        .cloned()
        .collect();
    let mut usable = Protocol::all();
    let parsed = with_names(None, |names| {
        parse_actions(actions, names, &mut usable, true)
    });
    let actions = parsed?;
    let subject = subject(ofprotos, &rest)?;
    Ok(Output::Text(run(&subject, Some(&actions))))
}

fn subject(ofprotos: &Ofprotos, args: &[String]) -> Result<Subject, String> {
    let mut generate = false;
    let mut names = false;
    let mut ct_next = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-ct-next" | "--ct-next" => {
                let state = args.next().ok_or("Missing argument for option --ct-next")?;
                ct_next.push(parse_ct_state(state)?);
            }
            "-generate" | "--generate" => generate = true,
            "-names" | "--names" => names = true,
            "-consistent" | "--consistent" => {
                return Err("Option -consistent is for trace-packet-out".into());
            }
            option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
            word => words.push(word),
        }
    }
    let packet = match words[..] {
        [_, _, hex] => {
            words.pop();
            Some(packet_of(hex)?)
        }
        [_, _] | [_] => None,
        [] => return Err("Must specify bridge and flow".into()),
        _ => return Err("too many arguments".into()),
    };
    if generate && packet.is_some() {
        return Err("Syntax error".into());
    }
    let mut subject = match words[..] {
        [bridge, flow] if ofprotos.bridge(bridge).is_some() => {
            bridge_subject(ofprotos, bridge, flow)?
        }
        [dp, flow] => dp_subject(ofprotos, Some(dp), flow)?,
        [flow] => dp_subject(ofprotos, None, flow)?,
        _ => return Err("too many arguments".into()),
    };
    subject.ct_next = ct_next;
    subject.names = names;
    if let Some(mut packet) = packet {
        let in_port = subject.flow.in_port;
        subject.flow = Flow::from_packet(&mut packet);
        subject.flow.in_port = in_port;
        subject.packet = Some(packet);
    } else if generate {
        subject.packet = compose(&subject.flow, Payload::default());
    }
    Ok(subject)
}

/// Bytes that a packet has at least.
const ETH_HEADER: usize = 14;

fn packet_of(hex: &str) -> Result<Packet, String> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => Some((a.to_digit(16)? << 4 | b.to_digit(16)?) as u8),
            _ => None,
        })
        .collect();
    match bytes {
        Some(bytes) if bytes.len() >= ETH_HEADER => Ok(Packet::from_slice(&bytes)),
        Some(_) => Err("Packet data too short for Ethernet".into()),
        None => Err("Trailing garbage in packet data".into()),
    }
}

fn bridge_subject(ofprotos: &Ofprotos, name: &str, text: &str) -> Result<Subject, String> {
    let unknown = || format!("{name}: unknown bridge");
    let (backer, bridge) = find_bridge(ofprotos, name).ok_or_else(unknown)?;
    let mut flow = with_names(Some(&bridge), |names| parse_flow_key(text, names))
        .map_err(|e| format!("Bad openflow flow syntax: {e}"))?;
    for vlan in &mut flow.vlans {
        // Text does not say of which protocol a tag is.
        if vlan.tci.get() & VLAN_CFI != 0 && vlan.tpid.get() == 0 {
            vlan.tpid = eth_type::VLAN_8021Q.into();
        }
    }
    Ok(Subject {
        backer,
        bridge,
        flow,
        packet: None,
        names: false,
        ct_next: Vec::new(),
        recirc: None,
    })
}

fn find_bridge(ofprotos: &Ofprotos, name: &str) -> Option<(Arc<Backer>, Arc<XBridge>)> {
    ofprotos.backers().find_map(|backer| {
        let snapshot = backer.snapshot.load();
        Some((backer.clone(), snapshot.bridge_by_name(name)?.clone()))
    })
}

fn dp_subject(ofprotos: &Ofprotos, dp: Option<&str>, text: &str) -> Result<Subject, String> {
    let mut backers = ofprotos
        .backers()
        .filter(|b| dp.is_none_or(|name| b.dpif.name() == name));
    let found = backers.next().cloned();
    let more = dp.is_none() && backers.next().is_some();
    // Ports have names where it is clear whose they are.
    let names = found
        .as_ref()
        .filter(|_| !more)
        .map(|b| PortNames::new(&b.dpif.ports()));
    let key = parse_key(text, names.as_ref()).map_err(|e| match dp {
        Some(name) => format!("{name}: unknown bridge"),
        None => format!("{e} (or the bridge name was omitted)"),
    })?;
    let mut flow = key
        .into_flow()
        .map_err(|_| "Failed to parse datapath flow key".to_string())?;
    let backer = found.ok_or("Cannot find the datapath")?;
    if more {
        return Err("More than one datapath exists, must specify datapath name.".into());
    }
    let snapshot = backer.snapshot.load_full();
    if flow.recirc_id != 0 {
        return recirculated_subject(backer, &snapshot, flow);
    }
    let Some((bridge, port)) = snapshot.receive(&flow) else {
        return Err(format!(
            "no OpenFlow port for datapath port {}",
            DpPort(flow.in_port).0
        ));
    };
    flow.in_port = u32::from(port.0);
    Ok(Subject {
        bridge: bridge.clone(),
        backer: backer.clone(),
        flow,
        packet: None,
        names: false,
        ct_next: Vec::new(),
        recirc: None,
    })
}

/// A packet that comes back from the datapath goes on where it stopped.
fn recirculated_subject(
    backer: Arc<Backer>,
    snapshot: &XlateSnapshot,
    mut flow: Flow,
) -> Result<Subject, String> {
    let id = flow.recirc_id;
    let recirc = backer.udpif.recircs.find(id);
    let state = recirc.as_ref().map(|r| &r.state);
    let bridge = state.and_then(|s| snapshot.bridges.get(&s.bridge).cloned());
    let (Some(state), Some(bridge)) = (state, bridge) else {
        return Err(format!("no recirculation data for recirc_id {id:#x}"));
    };
    flow.in_port = state.metadata.in_port;
    Ok(Subject {
        backer,
        bridge,
        flow,
        packet: None,
        names: false,
        ct_next: Vec::new(),
        recirc,
    })
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
    let (mut out, first) = run_one(subject, &subject.flow, start);
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
        let (text, result) = run_one(subject, &flow, Start::Frozen(&recirc));
        out += &text;
        waiting.extend(result.ct_resumes);
        held.extend(result.recircs);
    }
    out
}

fn run_one(subject: &Subject, flow: &Flow, start: Start<'_>) -> (String, XlateOut) {
    let named = subject.names.then_some(&*subject.bridge);
    let mut out = format!("Flow: {}\n", with_names(named, |n| format_flow(flow, n)));
    let snapshot = subject.backer.snapshot.load_full();
    let mut trace = Trace::new(subject.names);
    trace.open(
        NodeKind::Bridge,
        &format!("bridge(\"{}\")", subject.bridge.name),
    );
    let result = translate(XlateIn {
        snapshot: &snapshot,
        recircs: &subject.backer.udpif.recircs,
        bridge: &subject.bridge,
        flow: *flow,
        packet: subject.packet.as_ref(),
        start,
        side_effects: subject.packet.is_some(),
        count: None,
        xcache: None,
        trace: Some(&mut trace),
        now: clock::now(),
    });
    if result.learned {
        subject.backer.udpif.changed();
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
    let dp_ports = named.map(|_| PortNames::new(&subject.backer.dpif.ports()));
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

/// Reads what `--ct-next` says: names of state bits, joined by commas or bars.
fn parse_ct_state(text: &str) -> Result<u8, String> {
    let mut state = 0;
    for name in text.split([',', '|']).filter(|n| !n.is_empty()) {
        let bit = CT_STATE_FLAGS.iter().find(|(_, n)| *n == name);
        let Some((bit, _)) = bit else {
            return Err(format!("{name}: unknown connection tracking state flag"));
        };
        state |= *bit as u8;
    }
    Ok(state | CS_TRACKED)
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
