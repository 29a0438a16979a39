//! UDP, SCTP, ICMP, and errors about all of them.

use std::net::SocketAddr;

use super::frames::{self, ICMP, ICMPV6, SCTP, UDP};
use super::{Kind, Script};
use crate::database::Choose;

impl Script<'_> {
    fn datagram(&mut self, from_client: bool) {
        let way = self.way(from_client);
        let len = *self.random.pick(&[0, 1, 30, 512, 3000]);
        let checked = self.random.chance(80);
        let l4 = frames::udp(way, &vec![b'u'; len], checked);
        match l4.len() > 1400 {
            true => self.send_fragments(from_client, way, UDP, &l4),
            false => self.send(from_client, way, UDP, &l4),
        }
        self.pause();
    }

    pub fn udp(&mut self) {
        self.datagram(true);
        for _ in 0..self.random.below(6) {
            let from_client = self.random.chance(50);
            self.datagram(from_client);
            if self.random.chance(15) {
                self.error(UDP);
            }
        }
    }

    pub fn sctp(&mut self) {
        for i in 0..1 + self.random.below(6) {
            let from_client = i == 0 || self.random.chance(50);
            let way = self.way(from_client);
            let len = 4 * self.random.below(30);
            let l4 = frames::sctp(way, self.random.below(15) as u8, &vec![0; len]);
            self.send(from_client, way, SCTP, &l4);
            self.pause();
        }
    }

    /// Echoes, and what else ICMP has.
    pub fn icmp(&mut self) {
        let ipv6 = self.ends.client.is_ipv6();
        let proto = if ipv6 { ICMPV6 } else { ICMP };
        let id = self.ends.client.port().to_be_bytes();
        let (ask, answer) = match (ipv6, self.random.below(5)) {
            (true, _) => (128, 129),
            (false, 0) => (13, 14),
            (false, 1) => (15, 16),
            _ => (8, 0),
        };
        for n in 0..1 + self.random.below(4) as u8 {
            let len = *self.random.pick(&[0, 56, 56, 2000]);
            let from = self.random.below(10);
            for (from_client, ty) in [(true, ask), (false, answer)] {
                if from == 0 && from_client {
                    continue;
                }
                let way = self.way(from_client);
                let rest = [id[0], id[1], 0, n];
                let code = u8::from(self.random.chance(3));
                let l4 = frames::icmp(way, (ty, code), rest, &vec![b'i'; len]);
                match l4.len() > 1400 {
                    true => self.send_fragments(from_client, way, proto, &l4),
                    false => self.send(from_client, way, proto, &l4),
                }
                self.pause();
            }
        }
        if self.random.chance(10) {
            let way = self.way(true);
            let (ty, code) = (self.random.below(256) as u8, 0);
            let l4 = frames::icmp(way, (ty, code), [0; 4], &[1, 2, 3]);
            self.send(true, way, proto, &l4);
        }
    }

    /// Somebody says that what one side sent did not arrive. The error goes to who sent it and quotes it as it was
    /// where it was lost.
    pub fn error(&mut self, proto: u8) {
        // Open vSwitch does not mend the checksum of what a translated ICMPv6 error quotes.
        let ipv6 = self.ends.client.is_ipv6();
        if ipv6 && matches!(self.ends.kind, Kind::Snat | Kind::Dnat | Kind::SnatPort) {
            return;
        }
        let about_client = self.random.chance(60);
        // What the client sent was lost at the server, and the other way round.
        let quoted = match about_client {
            true => (self.ends.seen, self.ends.server),
            false => (self.ends.target, self.ends.client),
        };
        let mut l4 = match proto {
            UDP => frames::udp(quoted, &[b'q'; 64], true),
            _ => {
                let s = frames::Segment {
                    flags: frames::ACK,
                    seq: 1,
                    ack: 1,
                    window: 9,
                    payload: vec![b'q'; 64],
                    ..Default::default()
                };
                frames::tcp(quoted, &s)
            }
        };
        if self.random.chance(40) {
            // Open vSwitch dies of a translated port in a quoted TCP header that ends before the checksum.
            let whole = proto != UDP && self.ends.kind.moves_ports();
            let short = *self.random.pick(&[8, 8, 20, 7, 4]);
            l4.truncate(if whole { 20 } else { short });
        }
        let mut inner = frames::ip(quoted.0.ip(), quoted.1.ip(), proto, 77, &l4);
        if self.random.chance(10) {
            let (len, header) = (self.random.below(inner.len()), inner.len() - l4.len());
            // Where a TCP header ends behind its checksum Open vSwitch mends of it only what ports change.
            inner.truncate(match len.saturating_sub(header) {
                1..20 if proto != UDP && self.ends.kind.moves_ports() => header,
                17..20 if proto != UDP => header + 16,
                _ => len,
            });
        }
        let from = match self.random.below(3) {
            // A router between them; where nothing is translated in the end Open vSwitch gives it the host's address.
            0 if self.ends.kind != Kind::ZeroSnat => match ipv6 {
                false => SocketAddr::from(([172, 16, 0, 1], 0)),
                true => SocketAddr::from(([0xfd99, 0, 0, 0, 0, 0, 0, 1], 0)),
            },
            _ => quoted.1,
        };
        let to = if self.random.chance(5) {
            quoted.1
        } else {
            quoted.0
        };
        let way = (from, to);
        let kinds: &[(u8, u8)] = match ipv6 {
            false => &[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0), (5, 0)],
            true => &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 0)],
        };
        let kind = *self.random.pick(kinds);
        let l4 = frames::icmp(way, kind, [0; 4], &inner);
        self.send(!about_client, way, if ipv6 { ICMPV6 } else { ICMP }, &l4);
        self.pause();
    }
}
