//! FTP and TFTP: conversations that announce others.

use std::net::{IpAddr, SocketAddr};

use super::Script;
use super::frames::{self, ACK, PSH, UDP};
use super::tcp::Connection;
use crate::database::Choose;

/// `h1,h2,h3,h4,p1,p2`
fn commas(ip: IpAddr, port: u16) -> String {
    format!(
        "{},{},{}",
        ip.to_string().replace('.', ","),
        port >> 8,
        port & 255
    )
}

/// `|1|10.0.0.1|2000|`
fn bars(ip: IpAddr, port: u16) -> String {
    let family = if ip.is_ipv4() { 1 } else { 2 };
    format!("|{family}|{ip}|{port}|")
}

impl Script<'_> {
    /// A line of a control connection. Behind a translation it reaches the other side longer by `grows`.
    fn line(&mut self, c: &mut Connection, i: usize, text: &str, grows: i32) {
        self.say(c, i, PSH | ACK, format!("{text}\r\n").as_bytes());
        if grows != 0 {
            let other = &mut c.sides[1 - i];
            other.heard = other.heard.wrapping_add(grows as u32);
        }
    }

    /// As [`Script::say`] for a side whose numbers reach the other side shifted.
    fn shifted(&mut self, c: &mut Connection, shift: [i32; 2]) {
        for i in [0, 1] {
            c.sides[1 - i].heard = c.sides[i].next.wrapping_add(shift[i] as u32);
        }
    }

    /// A session: a few transfers, each way of announcing one.
    pub fn ftp(&mut self) {
        let (a, b) = (self.way(true), self.way(false));
        let mut c = self.connection(a, b, true);
        // Nothing of it is out of the window: Open vSwitch believes announcements that are.
        for side in &mut c.sides {
            side.window = 29_200;
        }
        self.open(&mut c);
        let mut shift = [0, 0];
        self.line(&mut c, 1, "220 ready", 0);
        self.line(&mut c, 0, "USER anonymous", 0);
        self.line(&mut c, 1, "331 go on", 0);
        for n in 0..1 + self.random.below(2) as u16 {
            let port = 20_000 + n * 77 + self.random.below(70) as u16;
            let passive = self.random.chance(50);
            let ends = self.ends;
            // Over IPv4 Open vSwitch 3.5 does not know the extended commands, and 4.0 writes addresses with commas into them.
            let extended = a.0.is_ipv6();
            if passive {
                let (ask, tell) = match extended {
                    true => (
                        "EPSV",
                        format!("229 Entering Extended Passive Mode (|||{port}|)"),
                    ),
                    false => (
                        "PASV",
                        format!(
                            "227 Entering Passive Mode ({}).",
                            commas(ends.server.ip(), port)
                        ),
                    ),
                };
                self.line(&mut c, 0, ask, shift[0]);
                let grows = match extended {
                    true => 0,
                    false => grown(ends.server.ip(), ends.target.ip()),
                };
                self.line(&mut c, 1, &tell, shift[1] + grows);
                shift[1] += grows;
            } else {
                let (own, known) = (ends.client.ip(), ends.seen.ip());
                let tell = match extended {
                    true => format!("EPRT {}", bars(own, port)),
                    false => format!("PORT {}", commas(own, port)),
                };
                let grows = grown(own, known);
                self.line(&mut c, 0, &tell, shift[0] + grows);
                shift[0] += grows;
                self.line(&mut c, 1, "200 done", shift[1]);
            }
            self.line(&mut c, 0, "RETR x", shift[0]);
            self.line(&mut c, 1, "150 here it comes", shift[1]);
            self.transfer(passive, port);
            self.line(&mut c, 1, "226 done", shift[1]);
            self.shifted(&mut c, shift);
        }
        if self.random.chance(80) {
            self.line(&mut c, 0, "QUIT", shift[0]);
            // Not by a reset without an acknowledgement, in which Open vSwitch shifts the number that means nothing.
            self.finish(&mut c);
        }
    }

    /// The connection that was announced, as it was or a little otherwise.
    fn transfer(&mut self, passive: bool, port: u16) {
        let ends = self.ends;
        let at = |end: SocketAddr, port| SocketAddr::new(end.ip(), port);
        let wrong = self.random.chance(10);
        let port = if wrong { port + 1 } else { port };
        let from = 30_000 + self.random.below(3000) as u16;
        let mut d = match passive {
            true => {
                let (client, server) = (at(ends.client, from), at(ends.server, port));
                let way = (client, at(ends.target, port));
                self.connection(way, (server, at(ends.seen, from)), true)
            }
            false => {
                let (client, server) = (at(ends.client, port), at(ends.server, 20));
                let way = (server, at(ends.seen, port));
                self.connection(way, (client, at(ends.target, 20)), false)
            }
        };
        self.open(&mut d);
        self.say(&mut d, 0, PSH | ACK, &[b'd'; 300]);
        self.say(&mut d, 1, ACK, b"");
        self.close(&mut d);
    }

    /// A request to a TFTP server, whose answer comes from a port of its own.
    pub fn tftp(&mut self) {
        let way = self.way(true);
        let op = 1 + self.random.below(2) as u8;
        let l4 = frames::udp(way, &[&[0, op][..], b"file\0octet\0"].concat(), true);
        self.send(true, way, UDP, &l4);
        self.pause();
        let (server, client) = self.way(false);
        let from = SocketAddr::new(server.ip(), 3000 + self.random.below(100) as u16);
        for block in 1..1 + self.random.below(4) as u8 {
            let l4 = frames::udp((from, client), &[0, 3, 0, block, b'd'], true);
            self.send(false, (from, client), UDP, &l4);
            self.pause();
            let back = (client, from);
            let l4 = frames::udp(back, &[0, 4, 0, block], true);
            self.send(true, back, UDP, &l4);
            self.pause();
        }
    }
}

/// By how many bytes an address grows as text.
fn grown(own: IpAddr, known: IpAddr) -> i32 {
    known.to_string().len() as i32 - own.to_string().len() as i32
}
