//! What would happen to a packet, told step by step: for `ofproto/trace`, and for the log when tables send packets in
//! circles.
//!
//! A trace translates a flow like a miss does, with a record of each step
//! ([`xlate::trace`](crate::xlate::trace)). Without a packet it changes nothing; with one the switch learns and
//! sends as it does for a packet that comes in.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::action::{DropReason, SlowPath};
use ferrovs_datapath::dpif::Dpif;
use ferrovs_datapath::text::{PortNames, format_actions};
use ferrovs_openflow::text::key::format_flow;
use ferrovs_openflow::text::match_::format_match;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, Match};
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::clock;
use ferrovs_sync::Snapshot;

use crate::xlate::describe::with_names;
use crate::xlate::recirc::RecircTable;
use crate::xlate::snapshot::{XBridge, XlateSnapshot};
use crate::xlate::trace::{NodeKind, Trace};
use crate::xlate::{Start, XlateIn, XlateOut, translate};

/// Where a packet is, and how it is told.
pub struct Scene<'a> {
    pub snapshot: &'a Snapshot<XlateSnapshot>,
    pub recircs: &'a RecircTable,
    pub dpif: &'a dyn Dpif,
    pub bridge: &'a Arc<XBridge>,
    /// The switch learns from it and sends it.
    pub packet: Option<&'a Packet>,
    /// Whether ports are told by name.
    pub names: bool,
}

/// Translates `flow` from `start` on: what happens on the way, and what comes of it.
pub fn tell(scene: &Scene<'_>, flow: &Flow, start: Start<'_>) -> (String, XlateOut) {
    let named = scene.names.then_some(&**scene.bridge);
    let mut out = format!("Flow: {}\n", with_names(named, |n| format_flow(flow, n)));
    let snapshot = scene.snapshot.load_full();
    let mut trace = Trace::new(scene.names);
    trace.open(
        NodeKind::Bridge,
        &format!("bridge(\"{}\")", scene.bridge.name),
    );
    let result = translate(XlateIn {
        snapshot: &snapshot,
        recircs: scene.recircs,
        bridge: scene.bridge,
        flow,
        packet: scene.packet,
        start,
        version: None,
        side_effects: scene.packet.is_some(),
        count: None,
        xcache: None,
        trace: Some(&mut trace),
        now: clock::now(),
    });
    out += &trace.text();
    out += "\nFinal flow: ";
    let mut last = result.final_flow.as_deref().copied().unwrap_or(*flow);
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
    let dp_ports = named.map(|_| PortNames::new(&scene.dpif.ports()));
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
