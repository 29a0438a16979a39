//! What `vlog/set dpif_netdev:dbg` shows of flows and questions.

use ferrovs_datapath::action::Action;
use ferrovs_datapath::text::{format_actions, format_match, format_openflow_match, format_packet};
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, Match};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;

use crate::flow::DpFlow;

/// A packet goes up, because no flow matches or an action says so.
#[inline]
pub fn upcall(dp: &str, why: &str, packet: &Packet, flow: &Flow) {
    vlog::dbg!(
        DPIF_NETDEV,
        "{dp}: {why} upcall:\n{}\n{}",
        exact(flow),
        format_packet(packet)
    );
}

pub fn flow_added(flow: &DpFlow, actions: &[Action]) {
    vlog::dbg!(
        DPIF_NETDEV,
        "flow_add: ufid:{0} mega_ufid:{0} {1}, actions:{2}",
        flow.ufid,
        terse(&flow.match_()),
        list(actions)
    );
    openflow(|| flow.match_());
}

pub fn flow_changed(flow: &DpFlow, old: &[Action], new: &[Action]) {
    vlog::dbg!(
        DPIF_NETDEV,
        "flow_mod: ufid:{0} mega_ufid:{0} {1}, old_actions:{2}, actions:{3}",
        flow.ufid,
        terse(&flow.match_()),
        list(old),
        list(new)
    );
    openflow(|| flow.match_());
}

/// The match in OpenFlow's language; the port is not part of it, as each has its own tables.
fn openflow(m: impl Fn() -> Match) {
    let text = || {
        let mut m = m();
        m.wc.masks.in_port = 0;
        m.flow.in_port = 0;
        format_openflow_match(&m)
    };
    vlog::dbg!(DPIF_NETDEV, "flow match: {}", text());
}

fn exact(flow: &Flow) -> String {
    let mut out = String::new();
    format_match(&mut out, flow, None, None, true);
    out
}

fn terse(m: &Match) -> String {
    let mut out = String::new();
    format_match(&mut out, &m.flow, Some(&m.wc), None, false);
    out
}

fn list(actions: &[Action]) -> String {
    let mut out = String::new();
    format_actions(&mut out, actions, None);
    out
}
