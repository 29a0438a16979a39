//! OpenFlow port numbers in text: decimal numbers, reserved names in any case, and names of a bridge's ports.

use std::borrow::Cow;

use crate::types::OfPort;

/// What knows the names of ports.
pub trait PortMap {
    fn port_by_name(&self, _name: &str) -> Option<OfPort> {
        None
    }

    fn name_of(&self, _port: OfPort) -> Option<Cow<'_, str>> {
        None
    }

    /// Takes a warning about how a port was written, for the log of module `ofp_port`.
    fn warn(&self, _message: String) {}
}

/// No names.
pub struct NoPorts;

impl PortMap for NoPorts {}

const RESERVED: [(&str, OfPort); 10] = [
    ("IN_PORT", OfPort::IN_PORT),
    ("TABLE", OfPort::TABLE),
    ("NORMAL", OfPort::NORMAL),
    ("FLOOD", OfPort::FLOOD),
    ("ALL", OfPort::ALL),
    ("CONTROLLER", OfPort::CONTROLLER),
    ("LOCAL", OfPort::LOCAL),
    ("ANY", OfPort::NONE),
    ("UNSET", OfPort::UNSET),
    // Before OpenFlow 1.1 "any" had this name; it is only read.
    ("NONE", OfPort::NONE),
];

/// Name of a reserved port.
pub fn reserved_port_name(port: OfPort) -> Option<&'static str> {
    if port < OfPort::UNSET {
        return None;
    }
    RESERVED
        .iter()
        .find(|(_, p)| *p == port)
        .map(|(name, _)| *name)
}

/// Reads a port number, a reserved name or the name of a port of the bridge.
pub fn parse_port(s: &str, ports: &dyn PortMap) -> Option<OfPort> {
    if let Some(Ok(number)) = s.strip_prefix('-').map(str::parse::<u32>) {
        ports.warn(format!(
            "Negative value -{number} is not a valid port number."
        ));
        return None;
    }
    if let Ok(number) = s.strip_prefix('+').unwrap_or(s).parse::<u32>() {
        const FIRST_RESERVED: u32 = 0xfff7;
        return match number {
            0..0xff00 => Some(OfPort(number as u16)),
            0xff00..FIRST_RESERVED => {
                let high = number | 0xffff_0000;
                ports.warn(format!(
                    "port {number} is a reserved OF1.0 port number that will be translated to {high} \
                     when talking to an OF1.1 or later controller"
                ));
                Some(OfPort(number as u16))
            }
            FIRST_RESERVED..=0xffff => {
                let port = OfPort(number as u16);
                let name = reserved_port_name(port).unwrap_or_default();
                ports.warn(format!(
                    "referring to port {name} as {number} is deprecated for compatibility with \
                     OpenFlow 1.1 and later"
                ));
                Some(port)
            }
            0x1_0000..0xffff_ff00 => {
                ports.warn(format!(
                    "port {number} is outside the supported range 0 through ffff or 0xffffff00 \
                     through 0xffffffff"
                ));
                None
            }
            0xffff_ff00.. => Some(OfPort(number as u16)),
        };
    }
    let reserved = RESERVED
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(s));
    if let Some((_, port)) = reserved {
        return Some(*port);
    }
    if let Some(name) = s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
        return ports.port_by_name(&name.replace("\\\"", "\"").replace("\\\\", "\\"));
    }
    ports.port_by_name(s)
}

/// Writes a port: reserved name, name in `ports` (quoted unless it is a plain word), or number.
pub fn format_port(port: OfPort, ports: &dyn PortMap, out: &mut String) {
    if let Some(name) = reserved_port_name(port) {
        out.push_str(name);
        return;
    }
    let Some(name) = ports.name_of(port) else {
        return super::format_dec(port.0.into(), out);
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let word = |c: char| c.is_ascii_alphanumeric();
    if starts_well && name.chars().all(word) && reserved_or_number(&name).is_none() {
        out.push_str(&name);
        return;
    }
    out.push('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn reserved_or_number(name: &str) -> Option<OfPort> {
    parse_port(name, &NoPorts)
}
