//! Numbers in the texts of datapaths: a reader of small parsers that consume what they recognise and say `None`
//! otherwise, and the forms in which C prints hexadecimal numbers.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::MacAddr;

/// Prints as C's `%#x` does: without a prefix for zero.
pub fn hex(out: &mut String, value: u64) {
    hex128(out, value.into());
}

pub fn hex128(out: &mut String, value: u128) {
    if value == 0 {
        out.push('0');
    } else {
        _ = write!(out, "{value:#x}");
    }
}

/// A long number without leading zeros.
pub fn write_long_hex(out: &mut String, bytes: &[u8]) {
    let significant: &[u8] = match bytes.iter().position(|&b| b != 0) {
        Some(i) => &bytes[i..],
        None => {
            out.push('0');
            return;
        }
    };
    _ = write!(out, "0x{:x}", significant[0]);
    for b in &significant[1..] {
        _ = write!(out, "{b:02x}");
    }
}

/// Reads a number of any length into the end of `out`.
pub fn read_long_hex(c: &mut Cursor<'_>, out: &mut [u8]) -> Option<()> {
    out.fill(0);
    if !c.eat("0x") {
        let value = c.dec()?;
        let bytes = value.to_be_bytes();
        for (o, b) in out.iter_mut().rev().zip(bytes.iter().rev()) {
            *o = *b;
        }
        return Some(());
    }
    let digits = c.take_while(|b| b.is_ascii_hexdigit());
    if digits.is_empty() {
        return None;
    }
    for (i, digit) in digits.bytes().rev().enumerate() {
        let nibble = (digit as char).to_digit(16)? as u8;
        let len = out.len();
        match len.checked_sub(1 + i / 2) {
            Some(at) => out[at] |= nibble << (4 * (i % 2)),
            None if nibble == 0 => {}
            None => return None,
        }
    }
    Some(())
}

/// What remains to be read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a str,
}

/// What the name of a flag is made of; `[800]` is one.
fn is_flag(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'[' || b == b']'
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { rest: text }
    }

    pub fn rest(&self) -> &'a str {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    /// Consumes `literal` if it comes next.
    pub fn eat(&mut self, literal: &str) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub fn expect(&mut self, literal: &str) -> Option<()> {
        self.eat(literal).then_some(())
    }

    /// Skips the characters that may separate attributes.
    pub fn skip_any(&mut self, set: &[char]) {
        self.rest = self.rest.trim_start_matches(set);
    }

    /// The longest run of bytes that satisfy `accept`.
    pub fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let end = self
            .rest
            .bytes()
            .position(|b| !accept(b))
            .unwrap_or(self.rest.len());
        // Only a boundary of characters can be split at; `accept` takes ASCII alone in practice.
        let end = if self.rest.is_char_boundary(end) {
            end
        } else {
            0
        };
        let (head, rest) = self.rest.split_at(end);
        self.rest = rest;
        head
    }

    /// A decimal number.
    pub fn dec(&mut self) -> Option<u64> {
        let mut copy = *self;
        let digits = copy.take_while(|b| b.is_ascii_digit());
        let value = digits.parse().ok()?;
        *self = copy;
        Some(value)
    }

    /// A number in C's notation: 0x, leading zero for octal, or decimal; it must not exceed `max`.
    pub fn number(&mut self, max: u64) -> Option<u64> {
        let value = u64::try_from(self.number128()?).ok()?;
        (value <= max).then_some(value)
    }

    /// Like [`Cursor::number`]. White space may stand before it, as before every number that C reads.
    pub fn number128(&mut self) -> Option<u128> {
        let mut copy = *self;
        copy.skip_any(&[' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        let value = if copy.eat("0x") || copy.eat("0X") {
            let digits = copy.take_while(|b| b.is_ascii_hexdigit());
            u128::from_str_radix(digits, 16).ok()?
        } else {
            let digits = copy.take_while(|b| b.is_ascii_digit());
            if digits.len() > 1 && digits.starts_with('0') {
                u128::from_str_radix(digits, 8).ok()?
            } else {
                digits.parse().ok()?
            }
        };
        *self = copy;
        Some(value)
    }

    /// A number with an optional mask; without one the mask is `full`.
    pub fn masked(&mut self, full: u64) -> Option<(u64, u64)> {
        let value = self.number(full)?;
        let mask = if self.eat("/") {
            self.number(full)?
        } else {
            full
        };
        Some((value, mask))
    }

    pub fn masked128(&mut self) -> Option<(u128, u128)> {
        let value = self.number128()?;
        let mask = if self.eat("/") {
            self.number128()?
        } else {
            u128::MAX
        };
        Some((value, mask))
    }

    pub fn mac(&mut self) -> Option<MacAddr> {
        let mut copy = *self;
        let text = copy.take_while(|b| b.is_ascii_hexdigit() || b == b':');
        let mac = text.parse().ok()?;
        *self = copy;
        Some(mac)
    }

    pub fn masked_mac(&mut self) -> Option<(MacAddr, MacAddr)> {
        let value = self.mac()?;
        let mask = if self.eat("/") {
            self.mac()?
        } else {
            MacAddr::BROADCAST
        };
        Some((value, mask))
    }

    pub fn ipv4(&mut self) -> Option<u32> {
        let mut copy = *self;
        let text = copy.take_while(|b| b.is_ascii_digit() || b == b'.');
        let ip: Ipv4Addr = text.parse().ok()?;
        *self = copy;
        Some(ip.into())
    }

    pub fn masked_ipv4(&mut self) -> Option<(u32, u32)> {
        let value = self.ipv4()?;
        let mask = if self.eat("/") {
            self.ipv4()?
        } else {
            u32::MAX
        };
        Some((value, mask))
    }

    pub fn ipv6(&mut self) -> Option<[u8; 16]> {
        let mut copy = *self;
        let text = copy.take_while(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
        let ip: Ipv6Addr = text.parse().ok()?;
        *self = copy;
        Some(ip.octets())
    }

    pub fn masked_ipv6(&mut self) -> Option<([u8; 16], [u8; 16])> {
        let value = self.ipv6()?;
        let mask = if self.eat("/") {
            self.ipv6()?
        } else {
            [0xff; 16]
        };
        Some((value, mask))
    }

    /// Pairs of hexadecimal digits.
    pub fn hex_bytes(&mut self) -> Option<Vec<u8>> {
        let mut copy = *self;
        let digits = copy.take_while(|b| b.is_ascii_hexdigit());
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        let bytes = (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok())
            .collect::<Option<_>>()?;
        *self = copy;
        Some(bytes)
    }

    /// `name=value` or `name(..)` members separated by commas, up to and including the closing parenthesis;
    /// `member` gets the reader behind the equals sign.
    pub fn members(
        &mut self,
        mut member: impl FnMut(&str, &mut Cursor<'a>) -> Option<()>,
    ) -> Option<()> {
        if self.eat(")") {
            return Some(());
        }
        loop {
            let name = self.take_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            self.eat("=");
            member(name, self)?;
            if self.eat(")") {
                return Some(());
            }
            self.expect(",")?;
        }
    }

    /// Flags: a number with an optional mask, names joined by `|`, or `+set-unset`.
    pub fn flags(&mut self, names: &[&str], full: u32) -> Option<(u32, u32)> {
        let bit = |name: &str| names.iter().position(|n| *n == name).map(|i| 1u32 << i);
        match self.peek()? {
            b'0'..=b'9' => {
                let (value, mask) = self.masked(full.into())?;
                Some((value as u32, mask as u32))
            }
            b'+' | b'-' => {
                let (mut value, mut mask) = (0, 0);
                while let Some(sign @ (b'+' | b'-')) = self.peek() {
                    self.rest = &self.rest[1..];
                    let name = self.take_while(is_flag);
                    let bit = bit(name)?;
                    if mask & bit != 0 {
                        return None;
                    }
                    mask |= bit;
                    if sign == b'+' {
                        value |= bit;
                    }
                }
                Some((value, mask))
            }
            _ => {
                let mut value = 0;
                loop {
                    let name = self.take_while(is_flag);
                    value |= bit(name)?;
                    if !self.eat("|") {
                        break;
                    }
                }
                Some((value, full))
            }
        }
    }
}
