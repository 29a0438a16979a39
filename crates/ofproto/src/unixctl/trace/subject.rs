//! What a trace is to tell of: the arguments of `ofproto/trace`, and where the packet is.

use std::sync::Arc;

use ferrovs_datapath::text::{PortNames, parse_key};
use ferrovs_openflow::text::key::parse_flow_key;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::field::{CT_STATE_FLAGS, format_flags};
use ferrovs_packet::flow::{
    CS_ESTABLISHED, CS_INVALID, CS_NEW, CS_REPLY_DIR, CS_TRACKED, Flow, VLAN_CFI,
};
use ferrovs_packet::types::{DpPort, eth_type};

use crate::backer::Backer;
use crate::ofprotos::Ofprotos;
use crate::xlate::describe::with_names;
use crate::xlate::recirc::Recirc;
use crate::xlate::snapshot::{XBridge, XlateSnapshot};

/// The arguments as they were given.
#[derive(Default)]
pub struct Options {
    generate: bool,
    names: bool,
    /// Whether the actions of a packet-out must fit the packet.
    pub consistent: bool,
    ct_next: Vec<u8>,
    /// What a packet that is made carries.
    payload: Option<Vec<u8>>,
    words: Vec<String>,
}

/// Bytes that a made packet may carry.
const MAX_PAYLOAD: usize = 64000;

impl Options {
    pub fn read(args: &[String], packet_out: bool) -> Result<Options, String> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                let missing = || format!("Missing argument for option {arg}");
                args.next().ok_or_else(missing)
            };
            match arg.as_str() {
                "-generate" | "--generate" => options.generate = true,
                "-consistent" | "--consistent" if packet_out => options.consistent = true,
                "--names" => options.names = true,
                "--ct-next" => options.ct_next.push(parse_ct_state(value()?)?),
                "--l7" => options.payload = Some(bytes_of(value()?).ok_or(TRAILING_GARBAGE)?),
                "--l7-len" => {
                    let text = value()?;
                    let len = usize::try_from(leading_number(text)).unwrap_or(usize::MAX);
                    if len > MAX_PAYLOAD {
                        return Err(format!("{text}: too much L7 data"));
                    }
                    options.payload = Some((0..len).map(|i| i as u8).collect());
                }
                option if option.starts_with('-') => {
                    return Err(format!("{option}: unknown option"));
                }
                word if options.words.len() < 3 => options.words.push(word.to_owned()),
                _ => return Err("too many arguments".into()),
            }
        }
        Ok(options)
    }

    /// Takes the packet from the end of the words, if it is there.
    fn take_packet(&mut self) -> Result<Option<Packet>, String> {
        let all = self.words.len() == 3;
        if self.words.is_empty() || all && self.generate {
            return Err("Syntax error".into());
        }
        if self.generate {
            return Ok(None);
        }
        let packet = self
            .words
            .last()
            .map_or(Ok(None), |hex| packet_of(hex).map(Some));
        match packet {
            Ok(packet) => {
                self.words.pop();
                Ok(packet)
            }
            Err(error) if all => Err(error.into()),
            // It is part of what says where the packet is.
            Err(_) => Ok(None),
        }
    }
}

/// The number that a text begins with, as atoi(3) reads it.
fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let number = digits.fold(0i64, |n, d| {
        n.saturating_mul(10).saturating_add(i64::from(d - b'0'))
    });
    sign * number
}

const TRAILING_GARBAGE: &str = "Trailing garbage in packet data";

/// Bytes that a packet has at least.
const ETH_HEADER: usize = 14;

/// Hexadecimal digits, with white space where one likes.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [a, b] => Some((a.to_digit(16)? << 4 | b.to_digit(16)?) as u8),
        _ => None,
    });
    pairs.collect()
}

fn packet_of(hex: &str) -> Result<Packet, &'static str> {
    match bytes_of(hex) {
        Some(bytes) if bytes.len() >= ETH_HEADER => Ok(Packet::from_slice(&bytes)),
        Some(_) => Err("Packet data too short for Ethernet"),
        None => Err(TRAILING_GARBAGE),
    }
}

/// Reads what `--ct-next` says: names of state bits, which must make sense together.
fn parse_ct_state(text: &str) -> Result<u8, String> {
    let mut state = 0;
    for name in text.split([',', ' ']).filter(|n| !n.is_empty()) {
        let bit = CT_STATE_FLAGS.iter().find(|(_, n)| *n == name);
        let Some((bit, _)) = bit else {
            return Err(format!("{name}: unknown connection tracking state flag"));
        };
        state |= *bit as u8;
    }
    let has = |bits: u8| state & bits == bits;
    let wrong = if state != 0 && !has(CS_TRACKED) {
        "If \"trk\" is unset, no other flags are set"
    } else if has(CS_INVALID) && state & !(CS_TRACKED | CS_INVALID) != 0 {
        "when \"inv\" is set, only \"trk\" may also be set"
    } else if has(CS_NEW | CS_ESTABLISHED) {
        "\"new\" and \"est\" are mutually exclusive"
    } else if has(CS_NEW | CS_REPLY_DIR) {
        "\"new\" and \"rpy\" are mutually exclusive"
    } else {
        return Ok(state);
    };
    let mut out = String::new();
    format_flags(&CT_STATE_FLAGS, state.into(), '|', &mut out);
    Err(format!("{out}: invalid connection state: {wrong}"))
}

/// What is to be traced.
pub struct Subject {
    pub backer: Arc<Backer>,
    pub bridge: Arc<XBridge>,
    /// With an OpenFlow port.
    pub flow: Flow,
    pub packet: Option<Packet>,
    /// Whether ports are told by name.
    pub names: bool,
    /// What the connection tracker is to say, one by one.
    pub ct_next: Vec<u8>,
    /// Where the packet stopped before.
    pub recirc: Option<Arc<Recirc>>,
}

impl Subject {
    fn new(backer: Arc<Backer>, bridge: Arc<XBridge>, flow: Flow) -> Subject {
        Subject {
            backer,
            bridge,
            flow,
            packet: None,
            names: false,
            ct_next: Vec::new(),
            recirc: None,
        }
    }

    pub fn find(ofprotos: &Ofprotos, mut options: Options) -> Result<Subject, String> {
        let packet = options.take_packet()?;
        let mut subject = match &options.words[..] {
            [place, text] => match of_datapath(ofprotos, Some(place), text)? {
                Ok(subject) => subject,
                Err(_) => of_bridge(ofprotos, place, text)?,
            },
            [text] => of_datapath(ofprotos, None, text)?
                .map_err(|e| format!("{e} (or the bridge name was omitted)"))?,
            _ => return Err("Syntax error".into()),
        };
        subject.ct_next = options.ct_next;
        subject.names = options.names;
        if let Some(mut packet) = packet {
            let in_port = subject.flow.in_port;
            subject.flow = Flow::from_packet(&mut packet);
            subject.flow.in_port = in_port;
            subject.packet = Some(packet);
        } else if options.generate {
            let payload = options.payload.as_deref();
            let payload = payload.map_or(Payload::Default, Payload::Bytes);
            subject.packet = compose(&subject.flow, payload);
        }
        Ok(subject)
    }
}

fn of_bridge(ofprotos: &Ofprotos, name: &str, text: &str) -> Result<Subject, String> {
    let found = ofprotos.backers().find_map(|backer| {
        let snapshot = backer.snapshot.load();
        Some((backer.clone(), snapshot.bridge_by_name(name)?.clone()))
    });
    let (backer, bridge) = found.ok_or_else(|| format!("{name}: unknown bridge"))?;
    let mut flow = with_names(Some(&bridge), |names| parse_flow_key(text, names))
        .map_err(|e| format!("Bad openflow flow syntax: {e}"))?;
    for vlan in &mut flow.vlans {
        // Text does not say of which protocol a tag is.
        if vlan.tci.get() & VLAN_CFI != 0 && vlan.tpid.get() == 0 {
            vlan.tpid = eth_type::VLAN_8021Q.into();
        }
    }
    Ok(Subject::new(backer, bridge, flow))
}

/// Reads `text` as a key of the datapath called `dp`, or of the only one. The inner error says that it is no such key.
fn of_datapath(
    ofprotos: &Ofprotos,
    dp: Option<&str>,
    text: &str,
) -> Result<Result<Subject, String>, String> {
    let mut backers = ofprotos
        .backers()
        .filter(|b| dp.is_none_or(|name| b.dpif.name() == name));
    let found = backers.next().cloned();
    let more = dp.is_none() && backers.next().is_some();
    // Ports have names where it is clear whose they are.
    let names = found.as_ref().filter(|_| !more);
    let names = names.map(|b| PortNames::new(&b.dpif.ports()));
    let key = match parse_key(text, names.as_ref()) {
        Ok(key) => key,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut flow = key.into_flow()?;
    let backer = found.ok_or("Cannot find the datapath")?;
    if more {
        return Err("More than one datapath exists, must specify datapath name.".into());
    }
    let snapshot = backer.snapshot.load_full();
    if flow.recirc_id != 0 {
        return recirculated(backer, &snapshot, flow).map(Ok);
    }
    let Some((bridge, port)) = snapshot.receive(&flow) else {
        return Err(match flow.tunnel.dst_is_set() {
            true => "no OpenFlow tunnel port for this packet".into(),
            false => format!(
                "no OpenFlow port for datapath port {}",
                DpPort(flow.in_port).0
            ),
        });
    };
    flow.in_port = u32::from(port.0);
    Ok(Ok(Subject::new(backer.clone(), bridge.clone(), flow)))
}

/// A packet that comes back from the datapath goes on where it stopped.
fn recirculated(
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
    let mut subject = Subject::new(backer, bridge, flow);
    subject.recirc = recirc;
    Ok(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_connections_must_make_sense() {
        let wrong =
            |state: &str, why: &str| Err(format!("{state}: invalid connection state: {why}"));
        let cases = [
            ("", Ok(0)),
            ("trk", Ok(CS_TRACKED)),
            ("trk,,est", Ok(CS_TRACKED | CS_ESTABLISHED)),
            ("trk est", Ok(CS_TRACKED | CS_ESTABLISHED)),
            ("inv,trk", Ok(CS_TRACKED | CS_INVALID)),
            (
                "trk|est",
                Err("trk|est: unknown connection tracking state flag".into()),
            ),
            (
                "est",
                wrong("est", "If \"trk\" is unset, no other flags are set"),
            ),
            (
                "trk,inv,est",
                wrong(
                    "est|inv|trk",
                    "when \"inv\" is set, only \"trk\" may also be set",
                ),
            ),
            (
                "trk,new,est",
                wrong("new|est|trk", "\"new\" and \"est\" are mutually exclusive"),
            ),
            (
                "trk,new,rpl",
                wrong("new|rpl|trk", "\"new\" and \"rpy\" are mutually exclusive"),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(parse_ct_state(text), want, "{text}");
        }
    }
}
