//! Bytes to messages and back, with the tunnel options that the bridge knows; flows as text.

use ferrovs_openflow::flow::DEFAULT_PRIORITY;
use ferrovs_openflow::message::{ErrorMsg, Message};
use ferrovs_openflow::text::{self, Names};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::{Action, Msg, OfpErr, Version, raw};
use ferrovs_packet::field::{NO_TUN_TABLE, TunTable};
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
    raw::identify(bytes).map_or("invalid", |parsed| parsed.raw.name)
}

/// The beginning of a message as text: type, version (unless 1.0) and transaction id.
pub fn title(bytes: &[u8]) -> String {
    let version = match bytes.first().and_then(|wire| Version::from_wire(*wire)) {
        Some(Version::V10) | None => String::new(),
        Some(version) => format!(" (OF1.{})", version.minor()),
    };
    let xid = bytes
        .get(4..8)
        .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    format!("{}{version} (xid=0x{xid:x}):", name(bytes))
}

/// The error that answers a message of a version that was not agreed on.
pub fn bad_version(bytes: &[u8]) -> Vec<u8> {
    let wire = bytes.first().copied().unwrap_or(0);
    let version = Version::from_wire(wire).unwrap_or(Version::V10);
    let xid = bytes
        .get(4..8)
        .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let error = OfpErr::OFPBRC_BAD_VERSION;
    let Some(code) = error.code(version) else {
        return Vec::new();
    };
    let data = bytes[..bytes.len().min(64)].to_vec();
    let body = Message::Error(ErrorMsg {
        error: Some(error),
        code,
        data,
    });
    encode(&Msg { version, xid, body }, &NO_TUN_TABLE)
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
