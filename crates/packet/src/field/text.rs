//! Values of fields in text, both ways, with Open vSwitch's error texts.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::port::{PortMap, format_port, parse_port};
use super::value::FieldValue;
use super::{Field, Format, port_from_ofp11, port_to_ofp11};
use crate::flow::{
    CS_DST_NAT, CS_ESTABLISHED, CS_INVALID, CS_NEW, CS_RELATED, CS_REPLY_DIR, CS_SRC_NAT,
    CS_TRACKED, FLOW_TNL_F_OAM, NW_FRAG_ANY, NW_FRAG_LATER, NW_FRAG_MASK,
};
use crate::types::OfPort;

/// Name of one bit of a field.
pub type FlagName = (u32, &'static str);

pub const CT_STATE_FLAGS: [FlagName; 8] = [
    (CS_NEW as u32, "new"),
    (CS_ESTABLISHED as u32, "est"),
    (CS_RELATED as u32, "rel"),
    (CS_REPLY_DIR as u32, "rpl"),
    (CS_INVALID as u32, "inv"),
    (CS_TRACKED as u32, "trk"),
    (CS_SRC_NAT as u32, "snat"),
    (CS_DST_NAT as u32, "dnat"),
];

pub const TCP_FLAGS: [FlagName; 12] = [
    (0x001, "fin"),
    (0x002, "syn"),
    (0x004, "rst"),
    (0x008, "psh"),
    (0x010, "ack"),
    (0x020, "urg"),
    (0x040, "ece"),
    (0x080, "cwr"),
    (0x100, "ns"),
    (0x200, "[200]"),
    (0x400, "[400]"),
    (0x800, "[800]"),
];

/// Bits that `tun_flags` shows.
pub const TUNNEL_FLAGS: [FlagName; 1] = [(FLOW_TNL_F_OAM as u32, "oam")];

/// Values of `ip_frag` by value and mask.
const FRAGS: [(&str, u8, u8); 5] = [
    ("no", 0, NW_FRAG_MASK),
    ("yes", NW_FRAG_ANY, NW_FRAG_ANY),
    ("first", NW_FRAG_ANY, NW_FRAG_MASK),
    ("later", NW_FRAG_ANY | NW_FRAG_LATER, NW_FRAG_MASK),
    ("not_later", 0, NW_FRAG_LATER),
];

/// Writes the names of the bits of `bits`, joined by `sep`; bits without a name follow in hexadecimal, and no
/// bit at all is `0`.
pub fn format_flags(names: &[FlagName], bits: u32, sep: char, out: &mut String) {
    if bits == 0 {
        out.push('0');
        return;
    }
    let mut rest = bits;
    for (bit, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
        rest &= !bit;
        out.push_str(name);
        out.push(sep);
    }
    if rest != 0 {
        let _ = write!(out, "{rest:#x}{sep}");
    }
    out.pop();
}

/// Writes flags under a mask: `+name` for a set bit and `-name` for a clear one; under the full mask `max_mask`
/// as [`format_flags`] does.
pub fn format_flags_masked(
    names: &[FlagName],
    bits: u32,
    mask: u32,
    max_mask: u32,
    out: &mut String,
) {
    if mask == max_mask {
        return format_flags(names, bits, '|', out);
    }
    if mask == 0 {
        out.push_str("0/0");
        return;
    }
    let mut unnamed = mask;
    for (bit, name) in names.iter().filter(|(bit, _)| mask & bit != 0) {
        unnamed &= !bit;
        out.push(if bits & bit != 0 { '+' } else { '-' });
        out.push_str(name);
    }
    if unnamed != 0 {
        let _ = write!(out, "{:#x}/{:#x}", bits & unnamed, unnamed);
    }
}

/// Reads flags in any of the forms `+a-b`, `a|b`, `NUMBER[/MASK]`.
fn parse_flags(
    s: &str,
    names: &[FlagName],
    what: &str,
    allowed: u32,
    full: u32,
) -> Result<(u32, u32), String> {
    let unknown = |t: &str| Err(format!("{t}: unknown {what} flag(s)"));
    let named = |t: &str| names.iter().find(|(_, n)| *n == t).map(|(bit, _)| *bit);
    if s.starts_with(['+', '-']) {
        let (mut bits, mut mask, mut rest) = (0, 0, s);
        while !rest.is_empty() {
            let on = rest.starts_with('+');
            let end = rest[1..].find(['+', '-']).map_or(rest.len(), |i| i + 1);
            let name = &rest[1..end];
            let Some(bit) = named(name).filter(|bit| allowed & bit != 0) else {
                return unknown(name);
            };
            if mask & bit != 0 {
                return Err(format!(
                    "{name}: Each {what} flag can be specified only once"
                ));
            }
            mask |= bit;
            bits |= if on { bit } else { 0 };
            rest = &rest[end..];
        }
        return Ok((bits, mask));
    }
    if s.starts_with(|c: char| c.is_ascii_digit()) {
        let (value, mask) = s.split_once('/').map_or((s, None), |(v, m)| (v, Some(m)));
        let number = |t: &str| parse_u64(t).and_then(|n| u32::try_from(n).ok());
        let value = number(value).filter(|v| v & !allowed == 0);
        let mask = mask.map_or(Some(full), |m| number(m).filter(|m| m & !allowed == 0));
        return match (value, mask) {
            (Some(value), Some(mask)) => Ok((value, mask)),
            _ => unknown(s),
        };
    }
    let mut bits = 0;
    for name in s.split('|') {
        match named(name).filter(|bit| allowed & bit != 0) {
            Some(bit) => bits |= bit,
            None => return unknown(s),
        }
    }
    Ok((bits, full))
}

/// A number as C's strtoull reads it with base 0, all of `s`.
pub(super) fn parse_u64(s: &str) -> Option<u64> {
    let (n, "") = scan_u64(s)? else { return None };
    Some(n)
}

/// A number at the front of `s` (decimal, 0x hexadecimal or 0 octal, with sign), and what follows.
fn scan_u64(s: &str) -> Option<(u64, &str)> {
    let s = s.trim_start();
    let (negative, body) = match s.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    let hex = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X"));
    let (radix, digits) = match hex {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, digits),
        _ if body.starts_with('0') => (8, body),
        _ => (10, body),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let n = u64::from_str_radix(digits.get(..end).filter(|d| !d.is_empty())?, radix).ok()?;
    Some((if negative { n.wrapping_neg() } else { n }, &digits[end..]))
}

enum IntError {
    Syntax,
    TooLarge,
}

/// An integer of up to `n_bytes` at the front of `s`, and what follows.
fn scan_int(s: &str, n_bytes: usize) -> Result<(FieldValue, &str), IntError> {
    let hex = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X"));
    let (value, tail) = if let Some(digits) = hex {
        let end = digits.find(|c: char| !c.is_ascii_hexdigit());
        let (digits, tail) = digits.split_at(end.unwrap_or(digits.len()));
        let digits = digits.trim_start_matches('0').as_bytes();
        if digits.len() > n_bytes * 2 {
            return Err(IntError::TooLarge);
        }
        let mut value = FieldValue::ZERO;
        let bytes = value.low_bytes_mut(digits.len().div_ceil(2));
        for (byte, pair) in bytes.iter_mut().rev().zip(digits.rchunks(2)) {
            let nibble = |&c: &u8| (c as char).to_digit(16).unwrap_or(0) as u8;
            *byte = pair.iter().map(nibble).fold(0, |acc, n| acc << 4 | n);
        }
        (value, tail)
    } else {
        let digits = s.trim_start_matches(['+', '-', ' ']);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(IntError::Syntax);
        }
        let (n, tail) = scan_u64(s).ok_or(IntError::TooLarge)?;
        (FieldValue::from(n), tail)
    };
    let fits = match value.as_u128() {
        Some(n) => n_bytes >= 16 || n >> (8 * n_bytes) == 0,
        None => value.low_bytes(super::MAX_VALUE_BYTES)[..super::MAX_VALUE_BYTES - n_bytes]
            .iter()
            .all(|&b| b == 0),
    };
    if !fits {
        return Err(IntError::TooLarge);
    }
    Ok((value, tail))
}

/// Reads an integer that fits the bytes of `field` at the front of `s`; returns what follows it too. `None` if
/// there is no number, or it is too large.
pub fn parse_int_prefix<'a>(s: &'a str, field: &Field) -> Option<(FieldValue, &'a str)> {
    scan_int(s, field.n_bytes.into()).ok()
}

/// The same for a number of up to 128 bytes.
pub fn parse_wide_int_prefix(s: &str) -> Option<(FieldValue, &str)> {
    scan_int(s, super::MAX_VALUE_BYTES).ok()
}

/// Reads an Ethernet address at the front of `s`.
pub fn parse_mac_prefix(s: &str) -> Option<crate::types::MacAddr> {
    scan_octets::<6>(s, ':', 16).map(|(octets, _)| crate::types::MacAddr(octets))
}

/// Reads an IPv4 address at the front of `s`, with octets that wrap; returns what follows it too.
pub fn parse_ipv4_prefix(s: &str) -> Option<(Ipv4Addr, &str)> {
    scan_octets::<4>(s, '.', 10).map(|(octets, rest)| (octets.into(), rest))
}

/// `N` decimal digits of an octet, wrapping as `%hhu` does.
fn scan_octets<const N: usize>(s: &str, sep: char, radix: u32) -> Option<([u8; N], &str)> {
    let mut out = [0; N];
    let mut rest = s;
    for (i, octet) in out.iter_mut().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(sep)?;
        }
        let end = rest
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        let digits = rest[..end].chars().filter_map(|c| c.to_digit(radix));
        *octet = digits.fold(0u8, |acc, d| {
            acc.wrapping_mul(radix as u8).wrapping_add(d as u8)
        });
        rest = &rest[end..];
    }
    Some((out, rest))
}

fn parse_mac(s: &str) -> Option<(u64, u64)> {
    let number = |o: [u8; 6]| crate::types::MacAddr(o).to_u64();
    let (value, rest) = scan_octets::<6>(s, ':', 16)?;
    if rest.is_empty() {
        return Some((number(value), 0xffff_ffff_ffff));
    }
    let (mask, "") = scan_octets::<6>(rest.strip_prefix('/')?, ':', 16)? else {
        return None;
    };
    Some((number(value), number(mask)))
}

fn parse_ipv4(s: &str) -> Result<(u32, u32), String> {
    let invalid = || format!("{s}: invalid IP address");
    let (value, rest) = scan_octets::<4>(s, '.', 10).ok_or_else(invalid)?;
    let value = u32::from_be_bytes(value);
    if rest.is_empty() {
        return Ok((value, u32::MAX));
    }
    let rest = rest.strip_prefix('/').ok_or_else(invalid)?;
    if let Some((mask, "")) = scan_octets::<4>(rest, '.', 10) {
        return Ok((value, u32::from_be_bytes(mask)));
    }
    let prefix: i64 = rest.parse().map_err(|_| invalid())?;
    match prefix {
        0..=32 => Ok((value, u32::MAX.checked_shl(32 - prefix as u32).unwrap_or(0))),
        _ => Err(format!(
            "{s}: IPv4 network prefix bits not between 0 and 32, inclusive"
        )),
    }
}

fn parse_ipv6(s: &str) -> Result<(u128, u128), String> {
    let invalid = || format!("{s}: invalid IPv6 address");
    let (addr, mask) = s.split_once('/').map_or((s, None), |(a, m)| (a, Some(m)));
    let addr = addr.parse::<Ipv6Addr>().map_err(|_| invalid())?.to_bits();
    let Some(mask) = mask else {
        return Ok((addr, u128::MAX));
    };
    if let Ok(mask) = mask.parse::<Ipv6Addr>() {
        return Ok((addr, mask.to_bits()));
    }
    let prefix: i64 = mask.parse().map_err(|_| invalid())?;
    match prefix {
        0..=128 => Ok((
            addr,
            u128::MAX.checked_shl(128 - prefix as u32).unwrap_or(0),
        )),
        _ => Err(format!(
            "{s}: IPv6 network prefix bits not between 0 and 128, inclusive"
        )),
    }
}

/// `(NS,TYPE)`.
fn parse_packet_type(s: &str) -> Result<u32, String> {
    let rest = s
        .strip_prefix('(')
        .ok_or_else(|| format!("{s}: bad syntax for packet type missing '('"))?;
    let number = |t: &str, what: &str| match scan_int(t, 2) {
        Ok((value, tail)) => Ok((value.to_u64() as u32, tail.len())),
        Err(_) => Err(format!("{t}: bad syntax for packet type {what}")),
    };
    let (ns, tail) = number(rest, "ns")?;
    let after_ns = &rest[rest.len() - tail..];
    let ty_text = after_ns
        .strip_prefix(',')
        .ok_or_else(|| format!("{rest}: bad syntax for packet type missing ','"))?;
    let (ty, tail) = number(ty_text, "ns_type")?;
    if !ty_text[ty_text.len() - tail..].starts_with(')') {
        return Err(format!("{ty_text}: bad syntax for packet type missing ')'"));
    }
    Ok(ns << 16 | ty)
}

impl Field {
    /// Reads `VALUE`, `VALUE/MASK` or `*` (anything) for the field. Out-of-range values that fit the field's
    /// bytes are let through, as Open vSwitch does; see [`Field::is_value_valid`].
    pub fn parse(&self, s: &str, ports: &dyn PortMap) -> Result<(FieldValue, FieldValue), String> {
        if s == "*" {
            return Ok((FieldValue::ZERO, FieldValue::ZERO));
        }
        let (value, mask) = self.parse_any(s, ports)?;
        if !self.is_mask_valid(&mask) {
            return Err(format!("{s}: invalid mask for field {}", self.name));
        }
        Ok((value, mask))
    }

    /// Reads a value without a mask.
    pub fn parse_value(&self, s: &str, ports: &dyn PortMap) -> Result<FieldValue, String> {
        let (value, mask) = self.parse(s, ports)?;
        if !mask.is_ones(usize::from(self.n_bytes) * 8) {
            return Err(format!("{s}: wildcards not allowed here"));
        }
        Ok(value)
    }

    fn parse_any(&self, s: &str, ports: &dyn PortMap) -> Result<(FieldValue, FieldValue), String> {
        let full = FieldValue::ones(usize::from(self.n_bytes) * 8);
        let flags = |(value, mask): (u32, u32)| {
            (
                FieldValue::from(u64::from(value)),
                FieldValue::from(u64::from(mask)),
            )
        };
        match self.format {
            Format::Dec | Format::Hex => self.parse_int(s),
            Format::Ethernet => parse_mac(s)
                .map(|(value, mask)| (FieldValue::from(value), FieldValue::from(mask)))
                .ok_or_else(|| format!("{s}: invalid Ethernet address")),
            Format::Ipv4 => parse_ipv4(s).map(flags),
            Format::Ipv6 => {
                parse_ipv6(s).map(|(value, mask)| (FieldValue::from(value), FieldValue::from(mask)))
            }
            Format::OfPort => parse_port(s, ports)
                .map(|port| (FieldValue::from(u64::from(port.0)), full))
                .ok_or_else(|| format!("{s}: invalid or unknown port for {}", self.name)),
            Format::OfPortOxm => parse_port(s, ports)
                .map(|port| (FieldValue::from(u64::from(port_to_ofp11(port.0))), full))
                .ok_or_else(|| format!("{s}: port value out of range for {}", self.name)),
            Format::Frag => FRAGS
                .iter()
                .find(|(name, ..)| name.eq_ignore_ascii_case(s))
                .map(|&(_, value, mask)| {
                    let mask = if mask == NW_FRAG_MASK { 0xff } else { mask };
                    flags((u32::from(value), u32::from(mask)))
                })
                .ok_or_else(|| {
                    // The missing parenthesis is Open vSwitch's.
                    format!(
                        "{s}: unknown fragment type (valid types are \"no\", \"yes\", \"first\", \
                         \"later\", \"not_later\""
                    )
                }),
            Format::CtState => {
                parse_flags(s, &CT_STATE_FLAGS, "ct_state", 0xff, u32::MAX).map(flags)
            }
            Format::TcpFlags => parse_flags(s, &TCP_FLAGS, "TCP", 0xfff, 0xffff).map(flags),
            Format::TnlFlags => parse_flags(s, &TUNNEL_FLAGS, "tunnel", 1, 0xffff).map(flags),
            Format::PacketType => {
                parse_packet_type(s).map(|ty| (FieldValue::from(u64::from(ty)), full))
            }
        }
    }

    fn parse_int(&self, s: &str) -> Result<(FieldValue, FieldValue), String> {
        let n_bytes = usize::from(self.n_bytes);
        let error = |e: IntError, what: &str| match e {
            IntError::Syntax => format!("{s}: bad syntax for {} {what}", self.name),
            IntError::TooLarge => {
                format!(
                    "{s}: {what} too large for {n_bytes}-byte field {}",
                    self.name
                )
            }
        };
        let (value, tail) = scan_int(s, n_bytes).map_err(|e| error(e, "value"))?;
        let Some(mask) = tail.strip_prefix('/') else {
            if tail.is_empty() {
                return Ok((value, FieldValue::ones(n_bytes * 8)));
            }
            return Err(error(IntError::Syntax, "value"));
        };
        match scan_int(mask, n_bytes) {
            Ok((mask, "")) => Ok((value, mask)),
            Ok(_) => Err(error(IntError::Syntax, "mask")),
            Err(e) => Err(error(e, "mask")),
        }
    }

    /// Writes a value, and its mask unless it is exact, as set-field actions and learned specifications show it.
    pub fn format(
        &self,
        value: &FieldValue,
        mask: Option<&FieldValue>,
        ports: &dyn PortMap,
        out: &mut String,
    ) {
        let mask = match mask {
            Some(mask) if mask.is_zero() => {
                out.push_str("ANY");
                return;
            }
            Some(mask) if mask.is_ones(usize::from(self.n_bytes) * 8) => None,
            Some(mask) if mask.is_ones(usize::from(self.n_bits)) => None,
            mask => mask,
        };
        let number = value.to_u64();
        let mask_number = mask.map(FieldValue::to_u64);
        let result = match self.format {
            Format::OfPort if mask.is_none() => {
                return format_port(OfPort(number as u16), ports, out);
            }
            Format::OfPortOxm if mask.is_none() => match port_from_ofp11(number as u32) {
                Some(port) => return format_port(OfPort(port), ports, out),
                None => write!(out, "{number}"),
            },
            Format::Dec | Format::Hex | Format::OfPort | Format::OfPortOxm => {
                format_int(self.format != Format::Hex, value, mask, out);
                Ok(())
            }
            Format::Ethernet => {
                format_mac(value.to_mac(), out);
                if let Some(mask) = mask {
                    out.push('/');
                    format_mac(mask.to_mac(), out);
                }
                Ok(())
            }
            Format::Ipv4 => {
                let (ip, mask) = (number as u32, mask_number.map_or(u32::MAX, |m| m as u32));
                format_ipv4_masked(ip, mask, out);
                Ok(())
            }
            Format::Ipv6 => {
                format_ipv6_masked(
                    value.to_u128(),
                    mask.map_or(u128::MAX, FieldValue::to_u128),
                    out,
                );
                Ok(())
            }
            Format::Frag => {
                let mask = mask_number.map_or(NW_FRAG_MASK, |m| m as u8 & NW_FRAG_MASK);
                let bits = number as u8 & mask;
                match FRAGS.iter().find(|(_, v, m)| (*v, *m) == (bits, mask)) {
                    Some((name, ..)) => out.write_str(name),
                    None => out.write_str("<error>"),
                }
            }
            Format::CtState => {
                let mask = mask_number.map_or(u32::MAX, |m| m as u32);
                format_flags_masked(&CT_STATE_FLAGS, number as u32, mask, u32::MAX, out);
                Ok(())
            }
            Format::TcpFlags => {
                let mask = mask_number.map_or(0xfff, |m| m as u32 & 0xfff);
                format_flags_masked(&TCP_FLAGS, number as u32, mask, 0xfff, out);
                Ok(())
            }
            Format::TnlFlags => {
                let mask = mask_number.map_or(1, |m| m as u32 & 1);
                format_flags_masked(&TUNNEL_FLAGS, number as u32, mask, 1, out);
                Ok(())
            }
            Format::PacketType => {
                let part = |n: u64| match n & 0xffff {
                    n @ 0..10 => n.to_string(),
                    n => format!("{n:#x}"),
                };
                write!(out, "({},{})", part(number >> 16), part(number))
            }
        };
        debug_assert!(result.is_ok());
    }
}

/// Zero is `0` in either base, as `%#x` prints it; a mask is always hexadecimal.
fn format_int(decimal: bool, value: &FieldValue, mask: Option<&FieldValue>, out: &mut String) {
    if decimal {
        match u64::try_from(value.to_u128()) {
            Ok(n) => format_dec(n, out),
            Err(_) => {
                let _ = write!(out, "{}", value.to_u128());
            }
        }
    } else {
        format_hex(value, out);
    }
    if let Some(mask) = mask {
        out.push('/');
        format_hex(mask, out);
    }
}

/// Writes a number in decimal digits.
pub fn format_dec(n: u64, out: &mut String) {
    if n < 10 {
        return out.push((b'0' + n as u8) as char);
    }
    let mut digits = [0; 20];
    let (mut rest, mut at) = (n, digits.len());
    while rest != 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Writes a number in hexadecimal as `%#x` of C does: zero has no prefix.
pub fn format_hex(value: &FieldValue, out: &mut String) {
    let Some(n) = value.as_u128() else {
        let bytes = value.low_bytes(super::MAX_VALUE_BYTES);
        let start = bytes.iter().position(|&b| b != 0).unwrap_or(0);
        let _ = write!(out, "{:#x}", bytes[start]);
        for b in &bytes[start + 1..] {
            let _ = write!(out, "{b:02x}");
        }
        return;
    };
    let _ = match u64::try_from(n) {
        Ok(0) => out.write_char('0'),
        Ok(n) => write!(out, "{n:#x}"),
        Err(_) => write!(out, "{n:#x}"),
    };
}

/// Writes an IPv4 address.
fn format_ipv4(ip: u32, out: &mut String) {
    for (i, octet) in ip.to_be_bytes().into_iter().enumerate() {
        if i > 0 {
            out.push('.');
        }
        format_dec(octet.into(), out);
    }
}

/// Writes an Ethernet address.
fn format_mac(mac: crate::types::MacAddr, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (i, octet) in mac.0.into_iter().enumerate() {
        if i > 0 {
            out.push(':');
        }
        for digit in [octet >> 4, octet & 15] {
            out.push(DIGITS[usize::from(digit)] as char);
        }
    }
}

/// `IP`, `IP/PREFIX` or `IP/MASK`.
pub fn format_ipv4_masked(ip: u32, mask: u32, out: &mut String) {
    format_ipv4(ip, out);
    if mask == u32::MAX {
        return;
    }
    out.push('/');
    let prefix = mask.leading_ones();
    if mask.checked_shl(prefix).unwrap_or(0) == 0 {
        format_dec(prefix.into(), out);
    } else {
        format_ipv4(mask, out);
    }
}

/// `IP`, `IP/PREFIX` or `IP/MASK`.
pub fn format_ipv6_masked(ip: u128, mask: u128, out: &mut String) {
    out.push_str(&format_ipv6(ip));
    if mask == u128::MAX {
        return;
    }
    out.push('/');
    let prefix = mask.leading_ones();
    if mask.checked_shl(prefix).unwrap_or(0) == 0 {
        format_dec(prefix.into(), out);
    } else {
        out.push_str(&format_ipv6(mask));
    }
}

/// An address as inet_ntop(3) writes it, which embeds IPv4 in `::a.b.c.d` where Rust does not.
pub fn format_ipv6(ip: u128) -> String {
    if ip >> 32 == 0 && ip > 0xffff {
        return format!("::{}", Ipv4Addr::from(ip as u32));
    }
    Ipv6Addr::from(ip).to_string()
}
