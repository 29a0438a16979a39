//! Bytes to messages and back, with the tunnel options that the bridge knows; flows as text.

use ferrovs_openflow::flow::DEFAULT_PRIORITY;
use ferrovs_openflow::text::{self, Names};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::{Action, Msg, OfpErr, raw};
use ferrovs_packet::field::TunTable;
use ferrovs_packet::flow::Match;

/// Reads one whole message.
pub fn decode(bytes: &[u8], tun: &TunTable) -> Result<Msg, OfpErr> {
    Msg::decode(bytes, &Tun::Table(tun))
}

/// A message's bytes; several messages for a list that does not fit one. Empty if the version lacks the message.
pub fn encode(msg: &Msg, tun: &TunTable) -> Vec<u8> {
    msg.to_bytes(&Tun::Table(tun))
}

/// The name of a message's type.
pub fn name(bytes: &[u8]) -> &'static str {
    raw::parse(bytes).map_or("invalid", |parsed| parsed.raw.name)
}

/// A match as text, with its priority (which for the switch's own rules exceeds OpenFlow's) unless that is the
/// default.
pub fn format_match(out: &mut String, m: &Match, priority: i32, tun: &TunTable) {
    let start = out.len();
    if priority != i32::from(DEFAULT_PRIORITY) {
        out.push_str(&format!("priority={priority},"));
    }
    text::match_::format_match(m, None, &Names::none(&Tun::Table(tun)), out);
    if out.len() > start && out.ends_with(',') {
        out.pop();
    }
}

pub fn format_actions(out: &mut String, actions: &[Action], tun: &TunTable) {
    text::action::format_actions(actions, &Names::none(&Tun::Table(tun)), out);
}
