//! Traces for connection tracking: conversations of many hosts, mixed in time, with what networks and attackers do to
//! them. The same seed gives the same frames for ever.
//!
//! All frames come by one port, so that nothing but their order counts. What a switch is to do with a frame is told by
//! its Ethernet addresses: the last byte of the destination is the number of the [`Kind`], with [`FROM_SERVER`] where
//! the server sends; the last byte of the source is one of [`Mark`].

mod frames;
mod ftp;
mod others;
mod tcp;

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::database::Choose;
pub use crate::database::Random;

/// Set in the last byte of a destination address where the frame is the server's.
pub const FROM_SERVER: u8 = 0x80;

/// What is done with a conversation. Its number plus one is its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// The client's address is translated.
    Snat,
    /// The server's address and port are translated.
    Dnat,
    /// FTP, without, with the client's and with the server's address translated.
    Ftp,
    FtpSnat,
    FtpDnat,
    Tftp,
    /// Source translation that names no address.
    ZeroSnat,
    /// Marks and labels change on the way; connections are committed by force.
    Marks,
    /// Tracked in two zones one after the other.
    TwoZones,
    /// Nobody commits it.
    Loose,
    /// The client's address and port are translated: of a range that is one port, since chance chooses among more.
    SnatPort,
}

impl Kind {
    /// Whether payload is rewritten and may grow.
    fn is_rewritten(self) -> bool {
        matches!(self, Kind::FtpSnat | Kind::FtpDnat)
    }

    /// Whether a port is translated.
    fn moves_ports(self) -> bool {
        matches!(self, Kind::Dnat | Kind::SnatPort)
    }
}

/// Bytes behind packets that may grow.
const PADDING: usize = 24;

pub const KINDS: [Kind; 12] = [
    Kind::Plain,
    Kind::Snat,
    Kind::Dnat,
    Kind::Ftp,
    Kind::FtpSnat,
    Kind::FtpDnat,
    Kind::Tftp,
    Kind::ZeroSnat,
    Kind::Marks,
    Kind::TwoZones,
    Kind::Loose,
    Kind::SnatPort,
];

/// The last byte of a source address: what else is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    None = 1,
    /// Another mark and label.
    Change = 2,
    /// To commit by force.
    Force = 3,
}

/// Addresses that clients and servers get by translation.
pub const SNAT: [&str; 2] = ["192.168.7.1", "fd07::1"];
pub const DNAT: [&str; 2] = ["192.168.8.1", "fd08::1"];
pub const SNAT_PORT: u16 = 5000;
pub const DNAT_PORT: u16 = 8080;

/// Frames of as many conversations that are received at once, [`AT_ONCE`] at most, and how long nothing happens before.
///
/// What a switch handles at once it may group as it likes. So no two frames of one conversation are in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub wait_ms: u64,
    pub frames: Vec<Vec<u8>>,
}

/// What a device's queue holds.
pub const AT_ONCE: usize = 32;

/// A frame of a conversation.
struct Event {
    conversation: u32,
    at_ms: u64,
    is_fragment: bool,
    frame: Vec<u8>,
}

/// Who talks to whom: the client sends to `target`, the server sees the client as `seen`.
#[derive(Clone, Copy, Debug)]
struct Ends {
    kind: Kind,
    client: SocketAddr,
    target: SocketAddr,
    seen: SocketAddr,
    server: SocketAddr,
}

/// Writes a conversation.
struct Script<'a> {
    random: &'a mut Random,
    conversation: u32,
    ends: Ends,
    now_ms: u64,
    events: Vec<Event>,
    mark: Mark,
    /// Of the next IP packet.
    id: u16,
    rough: bool,
}

/// Milliseconds of a step.
const STEP_MS: u64 = 1000;

/// A trace of so many conversations; a `rough` one also has what releases before 4.0 do otherwise, or not always at the
/// same time: fragments whose others never come, and damage in IP headers.
pub fn trace(conversations: usize, seed: u64, rough: bool) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    // Not much more than a hundred begin in a second.
    let span_ms = 60_000 + conversations * 10;
    for i in 0..conversations {
        let start = random.below(span_ms) as u64;
        events.extend(conversation(&mut random, i as u32, start, rough));
    }
    events.sort_by_key(|e| e.at_ms / STEP_MS);
    let mut last = 0;
    let mut steps = Vec::new();
    for second in events.chunk_by(|a, b| a.at_ms / STEP_MS == b.at_ms / STEP_MS) {
        let now = second[0].at_ms / STEP_MS;
        let rounds = rounds(second).into_iter().enumerate();
        steps.extend(rounds.map(|(i, frames)| Step {
            wait_ms: if i == 0 { (now - last) * STEP_MS } else { 0 },
            frames,
        }));
        last = now;
    }
    steps
}

/// Parts the frames of a second: the first of each conversation, then the second of each, and so on.
fn rounds(events: &[Event]) -> Vec<Vec<Vec<u8>>> {
    let mut seen: HashMap<u32, usize> = HashMap::new();
    let mut rounds: Vec<Vec<Vec<u8>>> = Vec::new();
    for e in events {
        let n = seen.entry(e.conversation).or_default();
        if *n == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*n].push(e.frame.clone());
        *n += 1;
    }
    let parts = rounds.iter().flat_map(|r| r.chunks(AT_ONCE));
    parts.map(<[_]>::to_vec).collect()
}

/// A conversation of the `i`th pair of hosts.
fn conversation(random: &mut Random, i: u32, start_ms: u64, rough: bool) -> Vec<Event> {
    let kind = *random.pick(&KINDS);
    let ipv6 = random.chance(25);
    let mut script = Script {
        conversation: i,
        ends: ends(random, kind, i, ipv6),
        random,
        now_ms: start_ms,
        events: Vec::new(),
        mark: Mark::None,
        id: i as u16,
        rough,
    };
    match kind {
        Kind::Ftp | Kind::FtpSnat | Kind::FtpDnat => script.ftp(),
        Kind::Tftp => script.tftp(),
        _ => match script.random.below(10) {
            0..6 => script.tcp(),
            6 | 7 => script.udp(),
            // Open vSwitch makes the server's port the identifier, and does not know the answer.
            8 if !kind.moves_ports() => script.icmp(),
            _ => script.sctp(),
        },
    }
    impair(script.random, kind, rough, script.events)
}

/// The ends of a conversation: hosts of its own but for those behind a translation that all share.
fn ends(random: &mut Random, kind: Kind, i: u32, ipv6: bool) -> Ends {
    let host = |net: u8, port: u16| -> SocketAddr {
        let [_, a, b, c] = i.to_be_bytes();
        match ipv6 {
            false => ([10, net + a, b, c], port).into(),
            true => {
                let [high, low] = [i >> 16, i & 0xffff].map(|n| n as u16);
                ([0xfd00 + u16::from(net), 0, 0, 0, 0, 0, high, low], port).into()
            }
        }
    };
    let shared = |names: [&str; 2], port| match names[usize::from(ipv6)].parse() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => host(99, port),
    };
    let port = match kind {
        Kind::Ftp | Kind::FtpSnat | Kind::FtpDnat => 21,
        Kind::Tftp => 69,
        _ => *random.pick(&[80, 443, 22, 53, 5060]),
    };
    let client = host(
        10,
        *random.pick(&[1024, 2000, 40_000, 65_535, 900, 500, 550, 0]),
    );
    let target = host(40, port);
    Ends {
        kind,
        client,
        target,
        seen: match kind {
            Kind::Snat | Kind::FtpSnat => shared(SNAT, client.port()),
            Kind::SnatPort => shared(SNAT, SNAT_PORT),
            _ => client,
        },
        server: match kind {
            Kind::Dnat => shared(DNAT, DNAT_PORT),
            Kind::FtpDnat => shared(DNAT, port),
            _ => target,
        },
    }
}

/// What happens on the way: loss, repetition, disorder, damage.
fn impair(random: &mut Random, kind: Kind, rough: bool, events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::with_capacity(events.len());
    // Open vSwitch shifts the numbers of what is repeated behind a line that grew as if it were new.
    let shifted = kind.is_rewritten();
    for mut e in events {
        if e.is_fragment && !rough {
            out.push(e);
            continue;
        }
        match random.below(100) {
            0..3 => continue,
            _ if shifted => {}
            3..6 => out.push(Event {
                frame: e.frame.clone(),
                ..e
            }),
            6 => {
                let header = match e.frame[12] {
                    8 => 20,
                    _ => 40,
                };
                // Not the version, which Open vSwitch takes from the frame's type.
                let first = if rough { 15 } else { 14 + header };
                let at = first + random.below(e.frame.len() - first);
                e.frame[at] ^= 1 << random.below(8);
            }
            7 => {
                let cut = 1 + random.below(40);
                let len = e.frame.len().saturating_sub(cut).max(15);
                e.frame.truncate(len);
            }
            8 => e.frame.extend([0; 7]),
            _ => {}
        }
        out.push(e);
        if out.len() > 1 && !shifted && random.chance(4) {
            let last = out.len() - 1;
            let (a, b) = (out[last - 1].at_ms, out[last].at_ms);
            out.swap(last - 1, last);
            (out[last - 1].at_ms, out[last].at_ms) = (a, b);
        }
    }
    out
}

impl Script<'_> {
    /// Nothing happens for a while: mostly a moment, now and then long enough for a connection to expire.
    fn pause(&mut self) {
        // What is announced lives until its parent has been swept, which is at any time after it expired.
        let long = self.ends.kind != Kind::Tftp;
        self.now_ms += match self.random.below(100) {
            0..2 if long => 25_000 + self.random.below(40_000) as u64,
            2..20 => self.random.below(5_000) as u64,
            _ => self.random.below(300) as u64,
        };
    }

    fn emit(&mut self, from_client: bool, ipv6: bool, is_fragment: bool, packet: &[u8]) {
        let kind = self.ends.kind as u8 | if from_client { 0 } else { FROM_SERVER };
        let ethertype = if ipv6 { 0x86dd } else { 0x0800 };
        let mac = |last| [2, 0, 0, 0, 0, last];
        let mut frame =
            crate::packets::ethernet(mac(kind), mac(self.mark as u8), ethertype, packet);
        if self.ends.kind.is_rewritten() {
            // Open vSwitch writes over the end of a buffer without room for lines that grow.
            frame.extend([0; PADDING]);
        }
        self.events.push(Event {
            conversation: self.conversation,
            at_ms: self.now_ms,
            is_fragment,
            frame,
        });
    }

    /// Sends a transport message, in fragments where it is said so.
    fn send(
        &mut self,
        from_client: bool,
        (src, dst): (SocketAddr, SocketAddr),
        proto: u8,
        l4: &[u8],
    ) {
        self.id = self.id.wrapping_add(1);
        let packet = frames::ip(src.ip(), dst.ip(), proto, self.id, l4);
        self.emit(from_client, src.is_ipv6(), false, &packet);
    }

    /// Sends a transport message in fragments; as many of them as chance will have it come in disorder or overlap.
    fn send_fragments(
        &mut self,
        from_client: bool,
        (src, dst): (SocketAddr, SocketAddr),
        proto: u8,
        l4: &[u8],
    ) {
        self.id = self.id.wrapping_add(1);
        let size = 1280 + 8 * self.random.below(20);
        let overlaps = self.random.chance(10) && self.rough;
        let overlap = if overlaps { 8 } else { 0 };
        let mut parts = frames::fragments(src.ip(), dst.ip(), proto, self.id, l4, size, overlap);
        if self.random.chance(30) {
            parts.reverse();
        }
        for part in parts {
            self.emit(from_client, src.is_ipv6(), true, &part);
        }
    }

    /// Addresses of what one side sends.
    fn way(&self, from_client: bool) -> (SocketAddr, SocketAddr) {
        match from_client {
            true => (self.ends.client, self.ends.target),
            false => (self.ends.server, self.ends.seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_the_same_for_ever_and_has_frames_of_both_sides() {
        let a = trace(50, 1, true);
        assert_eq!(a, trace(50, 1, true));
        assert_ne!(a, trace(50, 2, true));
        let frames: Vec<_> = a.iter().flat_map(|s| &s.frames).collect();
        let from_server = frames.iter().filter(|f| f[5] & FROM_SERVER != 0).count();
        assert!(frames.len() > 300 && from_server > 100 && from_server < frames.len());
        assert!(frames.iter().all(|f| f.len() <= 1514));
    }
}
