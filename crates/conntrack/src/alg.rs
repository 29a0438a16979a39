//! What control connections announce: FTP (RFC 959 `PORT` and `227`, RFC 2428 `EPRT` and `229`) and TFTP (RFC 1350).
//!
//! Only whole lines at the beginning of a segment count, as clients and servers send them. An address that is not the
//! sender's own announces nothing (RFC 2577): else a client could have the switch open ways to hosts of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::tuple::{Addr, addr4};

/// Who watches a control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Helper {
    #[default]
    None,
    Ftp,
    Tftp,
}

impl Helper {
    /// By its name.
    pub fn named(name: &str) -> Helper {
        match name {
            "ftp" => Helper::Ftp,
            "tftp" => Helper::Tftp,
            _ => Helper::None,
        }
    }

    pub fn name(self) -> Option<&'static str> {
        match self {
            Helper::None => None,
            Helper::Ftp => Some("ftp"),
            Helper::Tftp => Some("tftp"),
        }
    }
}

/// How an address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `10,0,0,1`
    Commas,
    /// As everywhere else.
    Plain,
}

/// A connection that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Where it will go to.
    pub port: u16,
    /// The address, how it is written, and where.
    pub addr: Option<(Addr, Style, Range<usize>)>,
}

/// Longest line that is looked at, in bytes.
const MAX_LINE: usize = 512;

/// Reads text from left to right.
struct Text<'a> {
    all: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.all.get(self.at).copied()
    }

    fn eat(&mut self, c: u8) -> Option<()> {
        (self.peek() == Some(c)).then(|| self.at += 1)
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// A decimal number up to `max`.
    fn number(&mut self, max: u32) -> Option<u32> {
        let start = self.at;
        let mut n = 0u32;
        while let Some(c) = self.peek().filter(u8::is_ascii_digit) {
            n = n.checked_mul(10)?.checked_add(u32::from(c - b'0'))?;
            if n > max {
                return None;
            }
            self.at += 1;
        }
        (self.at > start).then_some(n)
    }

    /// What stands before `end`, which is eaten.
    fn until(&mut self, end: u8) -> Option<Range<usize>> {
        let start = self.at;
        let len = self.all[start..].iter().position(|&c| c == end)?;
        self.at = start + len + 1;
        Some(start..start + len)
    }
}

/// The line at the beginning of a payload, if it is whole.
fn line(payload: &[u8]) -> Option<&[u8]> {
    let head = &payload[..payload.len().min(MAX_LINE)];
    let len = head.iter().position(|&c| c == b'\n' || c == b'\r')?;
    Some(&head[..len])
}

fn keyword<'a>(line: &'a [u8], word: &str) -> Option<Text<'a>> {
    let head = line.get(..word.len())?;
    head.eq_ignore_ascii_case(word.as_bytes()).then_some(Text {
        all: line,
        at: word.len(),
    })
}

/// `h1,h2,h3,h4,p1,p2`
fn commas(t: &mut Text<'_>) -> Option<Announced> {
    let start = t.at;
    let mut ip = [0; 4];
    for (i, byte) in ip.iter_mut().enumerate() {
        if i > 0 {
            t.eat(b',')?;
        }
        *byte = t.number(255)? as u8;
    }
    let end = t.at;
    t.eat(b',')?;
    let high = t.number(255)?;
    t.eat(b',')?;
    let low = t.number(255)?;
    Some(Announced {
        port: (high << 8 | low) as u16,
        addr: Some((addr4(&ip), Style::Commas, start..end)),
    })
}

/// `|1|132.235.1.2|6275|` or `|2|1080::8:800:200C:417A|5282|`
fn eprt(t: &mut Text<'_>, ipv6: bool) -> Option<Announced> {
    let bar = t.peek().filter(|c| (33..=126).contains(c))?;
    t.eat(bar)?;
    let family = t.number(2)?;
    t.eat(bar)?;
    let at = t.until(bar)?;
    let text = std::str::from_utf8(&t.all[at.clone()]).ok()?;
    let addr = match (family, ipv6) {
        (1, false) => addr4(&text.parse::<Ipv4Addr>().ok()?.octets()),
        (2, true) => text.parse::<Ipv6Addr>().ok()?.octets(),
        _ => return None,
    };
    let port = t.number(65535)? as u16;
    t.eat(bar)?;
    let addr = Some((addr, Style::Plain, at));
    Some(Announced { port, addr })
}

/// `(|||6446|)`
fn epsv(t: &mut Text<'_>) -> Option<Announced> {
    let bar = t.peek().filter(|c| (33..=126).contains(c))?;
    t.eat(bar)?;
    t.eat(bar)?;
    t.eat(bar)?;
    let port = t.number(65535)? as u16;
    t.eat(bar)?;
    Some(Announced { port, addr: None })
}

/// What a segment of an FTP control connection announces; `reply` says whether it is the server's.
pub fn ftp(payload: &[u8], reply: bool, ipv6: bool) -> Option<Announced> {
    let line = line(payload)?;
    let announced = if !reply {
        if let Some(mut t) = keyword(line, "PORT ").filter(|_| !ipv6) {
            t.spaces();
            commas(&mut t)
        } else {
            let mut t = keyword(line, "EPRT ")?;
            t.spaces();
            eprt(&mut t, ipv6)
        }
    } else if let Some(mut t) = keyword(line, "227").filter(|_| !ipv6) {
        // Servers differ in what they write around the numbers (RFC 1123, 4.1.2.6).
        t.at = line.iter().skip(3).position(u8::is_ascii_digit)? + 3;
        commas(&mut t)
    } else {
        let mut t = keyword(line, "229")?;
        t.until(b'(')?;
        epsv(&mut t)
    };
    announced.filter(|a| a.port != 0)
}

/// Whether a datagram asks a TFTP server for a transfer.
pub fn tftp_asks(payload: &[u8]) -> bool {
    matches!(payload, [0, 1 | 2, _, ..])
}

/// An address as it is written in a style.
pub fn write_addr(addr: &Addr, style: Style, ipv6: bool) -> String {
    let four = [addr[0], addr[1], addr[2], addr[3]];
    match style {
        Style::Commas => four.map(|b| b.to_string()).join(","),
        Style::Plain if ipv6 => IpAddr::from(*addr).to_string(),
        Style::Plain => IpAddr::from(four).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, reply: bool, ipv6: bool) -> Option<(u16, Option<String>)> {
        let a = ftp(text.as_bytes(), reply, ipv6)?;
        let addr = a.addr.map(|(addr, style, at)| {
            // What is written again is what was there.
            let again = write_addr(&addr, style, ipv6);
            assert_eq!(again, text[at]);
            again
        });
        Some((a.port, addr))
    }

    #[test]
    fn announcements_of_clients_and_servers_are_read() {
        let at = |port, addr: &str| Some((port, Some(addr.to_owned())));
        assert_eq!(
            seen("PORT 10,0,0,1,4,5\r\n", false, false),
            at(1029, "10,0,0,1")
        );
        assert_eq!(
            seen("port  10,0,0,1,255,255\n", false, false),
            at(65535, "10,0,0,1")
        );
        assert_eq!(
            seen("EPRT |1|10.0.0.1|1029|\r\n", false, false),
            at(1029, "10.0.0.1")
        );
        assert_eq!(
            seen("EPRT !2!fd00::1!1029!\r\n", false, true),
            at(1029, "fd00::1")
        );
        let pasv = "227 Entering Passive Mode (10,0,0,2,9,9).\r\n";
        assert_eq!(seen(pasv, true, false), at(2313, "10,0,0,2"));
        assert_eq!(
            seen("227 =10,0,0,2,9,9\r\n", true, false),
            at(2313, "10,0,0,2")
        );
        let epsv = "229 Entering Extended Passive Mode (|||2000|)\r\n";
        assert_eq!(seen(epsv, true, false), Some((2000, None)));
        assert_eq!(seen(epsv, true, true), Some((2000, None)));
    }

    #[test]
    fn anything_else_announces_nothing() {
        for text in [
            "",
            "PORT",
            "PORT \r\n",
            "PORT 10,0,0,1,4,5",
            "PORT 10,0,0,256,4,5\r\n",
            "PORT 10,0,0,1,4,256\r\n",
            "PORT 10,0,0,1,0,0\r\n",
            "PORT 10.0.0.1.4.5\r\n",
            "XPORT 10,0,0,1,4,5\r\n",
            "EPRT |3|10.0.0.1|5|\r\n",
            "EPRT |2|fd00::1|5|\r\n",
            "EPRT |1|10.0.0|5|\r\n",
            "EPRT |1|10.0.0.1|65536|\r\n",
            "EPRT |1|10.0.0.1|5\r\n",
            "227 Entering Passive Mode (10,0,0,2,9,9)\r\n",
            "PORT 99999999999999,0,0,1,4,5\r\n",
        ] {
            assert_eq!(seen(text, false, false), None, "{text}");
        }
        assert_eq!(seen("229 no (||2000|)\r\n", true, false), None);
        assert_eq!(seen("229 2000\r\n", true, false), None);
        assert_eq!(seen("227 none\r\n", true, false), None);
        assert_eq!(seen("227 10,0,0,2,9,9\r\n", true, true), None);
        let far = format!("227 {} 10,0,0,2,9,9\r\n", " ".repeat(600));
        assert_eq!(seen(&far, true, false), None);
        assert!(tftp_asks(b"\0\x01a\0octet\0") && !tftp_asks(b"\0\x03a") && !tftp_asks(b"\0"));
    }
}
