//! Bytes to messages and back, with the tunnel options that the bridge knows.

use ferrovs_openflow::{Msg, OfpErr};

pub fn decode(_bytes: &[u8]) -> Result<Msg, OfpErr> {
    Err(OfpErr::OFPBRC_BAD_TYPE)
}

pub fn encode(_msg: &Msg) -> Vec<u8> {
    Vec::new()
}

/// The name of a message's type.
pub fn name(_bytes: &[u8]) -> &'static str {
    "invalid"
}

/// A match as text, with its priority unless that is the default.
pub fn format_match(_out: &mut String, _m: &ferrovs_packet::flow::Match, _priority: Option<i32>) {}

pub fn format_actions(_out: &mut String, _actions: &[ferrovs_openflow::Action]) {}
