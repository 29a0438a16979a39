//! OpenFlow messages. Whatever the bytes are, they are shown; what can be read can be written, is then read as the
//! same kind of message, and written once more as the same bytes.
//!
//! ```text
//! byte 0   even: the rest is a message as it is; odd: its version, type and length are made to fit
//! byte 1   which encoding of the table of messages, if they are made to fit
//! byte 2   its version
//! ```

use ferrovs_openflow::message::Msg;
use ferrovs_openflow::raw::{self, Carrier, RAWS};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::print::{Print, format_message};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Version;

use crate::input::Input;

const MAX: usize = 65535;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let fit = input.byte() % 2 == 1;
    let message = if fit {
        let (row, version) = (input.byte(), input.byte());
        fitted(row, version, input.rest())
    } else {
        input.rest().to_vec()
    };
    shown(&message);
    read_and_written(&message);
}

/// A message with the headers of one encoding, and a body of a length that it accepts.
fn fitted(row: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let raw = &RAWS[usize::from(row) % RAWS.len()];
    let minor = raw.first + version % (raw.last - raw.first + 1);
    let version = Version::from_wire(minor + 1).expect("the table has versions that there are");
    let (request, reply) = raw::multipart_types(version);
    let multipart = match raw.carrier {
        Carrier::Mp { reply: r } | Carrier::NxMp { reply: r } | Carrier::OnfMp { reply: r } => {
            Some(if r { reply } else { request })
        }
        _ => None,
    };
    let type_ = match raw.carrier {
        Carrier::Std => raw.number as u8,
        Carrier::Nx | Carrier::Onf => raw::VENDOR_TYPE,
        _ => multipart.unwrap_or_default(),
    };
    let mut m = vec![version.wire(), type_, 0, 0, 0, 0, 0, 1];
    let pad = if version == Version::V10 { 0 } else { 4 };
    let onf = matches!(raw.carrier, Carrier::Onf | Carrier::OnfMp { .. });
    let vendor = if onf { 0x4f4e_4600_u32 } else { 0x2320 };
    let of_vendor = !matches!(raw.carrier, Carrier::Std | Carrier::Mp { .. });
    if multipart.is_some() {
        let number = if of_vendor { 0xffff } else { raw.number as u16 };
        m.extend(number.to_be_bytes());
        m.resize(m.len() + 2 + pad, 0);
    }
    if of_vendor {
        m.extend(vendor.to_be_bytes());
        m.extend(raw.number.to_be_bytes());
        if multipart.is_some() {
            m.resize(m.len() + 4 - pad, 0);
        }
    }
    let room = MAX - m.len();
    let extra = body.len().min(room).saturating_sub(raw.min_body);
    let fits = raw.min_body + extra.checked_div(raw.extra_unit).unwrap_or(0) * raw.extra_unit;
    let mut body = body.to_vec();
    body.resize(fits, 0);
    m.extend(body);
    let len = (m.len() as u16).to_be_bytes();
    m[2..4].copy_from_slice(&len);
    m
}

fn text(message: &[u8], verbosity: u8) -> String {
    let tun = Tun::auto();
    let names = Names::none(&tun);
    let mut out = String::new();
    format_message(message, Print { names, verbosity }, &mut out);
    assert!(out.ends_with('\n'));
    out
}

fn shown(message: &[u8]) {
    for verbosity in 0..6 {
        text(message, verbosity);
    }
    let whole = message.len() >= 8
        && usize::from(u16::from_be_bytes([message[2], message[3]])) == message.len();
    assert!(whole || message.is_empty() || text(message, 0).contains("\n00000000  "));
}

fn read_and_written(message: &[u8]) {
    let tun = Tun::auto();
    let Ok(m) = Msg::decode(message, &tun) else {
        return;
    };
    let written = m.to_bytes(&tun);
    // Not all that is understood is also spoken, and a long list is written as several messages.
    if written.is_empty() || written.len() > MAX {
        return;
    }
    let again = Msg::decode(&written, &tun).expect("what is written can be read");
    assert_eq!(again.to_bytes(&tun), written);
    let kind = |m: &[u8]| raw::parse(m).map(|p| p.raw.kind);
    assert_eq!(kind(message), kind(&written));
}
