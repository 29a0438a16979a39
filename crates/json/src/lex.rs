//! Tokens of JSON: strings, numbers and keywords, with Open vSwitch's error texts.
//!
//! Each function gets the raw bytes of one whole token, so every fault inside a token is reported
//! at the place where the token ends.

use serde_json::{Number, Value};

use crate::utf8;

/// So much of a bad keyword is quoted.
const MAX_QUOTED: usize = 256;

/// Turns the raw bytes between two quotes into text.
///
/// If they are not UTF-8 (escaped lone trailing surrogates are not either), the text is one that
/// [`invalid_utf8`](crate::invalid_utf8) knows.
pub(crate) fn text(raw: &[u8]) -> Result<String, String> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(match std::str::from_utf8(raw) {
            Ok(text) => text.to_owned(),
            Err(e) => utf8::invalid(raw, &e),
        });
    }
    let mut out: Vec<u8> = Vec::with_capacity(raw.len());
    unescape(raw, |bytes| out.extend_from_slice(bytes))?;
    Ok(String::from_utf8(out).unwrap_or_else(|e| utf8::invalid(e.as_bytes(), &e.utf8_error())))
}

/// Checks what [`text`] would make of the bytes.
pub(crate) fn check_text(raw: &[u8]) -> Result<(), String> {
    unescape(raw, |_| {})
}

fn unescape(raw: &[u8], mut put: impl FnMut(&[u8])) -> Result<(), String> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        put(&rest[..at]);
        let Some(&e) = rest.get(at + 1) else {
            return Err("quoted string may not end with backslash".into());
        };
        rest = &rest[at + 2..];
        let plain = match e {
            b'"' | b'\\' | b'/' => e,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = hex4(rest)?;
                rest = &rest[4..];
                if (0xd800..0xdc00).contains(&code) {
                    let Some(second) = rest.strip_prefix(b"\\u") else {
                        return Err("malformed escaped surrogate pair".into());
                    };
                    let low = hex4(second)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(
                            "second half of escaped surrogate pair is not trailing surrogate"
                                .into(),
                        );
                    }
                    rest = &second[4..];
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                if code == 0 {
                    return Err("null bytes not supported in quoted strings".into());
                }
                match char::from_u32(code) {
                    Some(ch) => put(ch.encode_utf8(&mut [0; 4]).as_bytes()),
                    // A trailing surrogate, in the form that UTF-8 forbids.
                    None => put(&[
                        0xed,
                        0x80 | (code >> 6 & 0x3f) as u8,
                        0x80 | (code & 0x3f) as u8,
                    ]),
                }
                continue;
            }
            other => return Err(format!("bad escape \\{}", char::from(other))),
        };
        put(&[plain]);
    }
    put(rest);
    Ok(())
}

fn hex4(s: &[u8]) -> Result<u32, String> {
    let Some(digits) = s.get(..4) else {
        return Err("quoted string ends within \\u escape".into());
    };
    digits
        .iter()
        .try_fold(0, |code, &d| match char::from(d).to_digit(16) {
            Some(v) => Ok(code << 4 | v),
            None => Err("malformed \\u escape".into()),
        })
}

/// True for the bytes that a number token is made of.
pub(crate) fn in_number(c: u8) -> bool {
    matches!(c, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Reads a number token.
pub(crate) fn number(token: &[u8]) -> Result<Value, String> {
    let (negative, d) = match token.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, token),
    };
    let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
    let whole = digits(d);
    if whole == 0 {
        return Err("'-' must be followed by digit".into());
    }
    if whole > 1 && d[0] == b'0' {
        return Err("leading zeros not allowed".into());
    }
    if whole == d.len() && whole <= 18 {
        // What nearly all numbers are.
        let v = d.iter().fold(0i64, |v, c| v * 10 + i64::from(c - b'0'));
        return Ok(Value::from(if negative { -v } else { v }));
    }
    let mut rest = &d[whole..];
    let mut fraction: &[u8] = &[];
    if let Some((b'.', after)) = rest.split_first() {
        let n = digits(after);
        if n == 0 {
            return Err("decimal point must be followed by digit".into());
        }
        (fraction, rest) = after.split_at(n);
    }
    let mut exponent: i64 = 0;
    if let Some((b'e' | b'E', after)) = rest.split_first() {
        let (below, after) = match after.split_first() {
            Some((b'-', r)) => (true, r),
            Some((b'+', r)) => (false, r),
            _ => (false, after),
        };
        let n = digits(after);
        if n == 0 {
            return Err("exponent must contain at least one digit".into());
        }
        for &c in &after[..n] {
            if exponent >= i64::from(i32::MAX / 10) {
                return Err("exponent outside valid range".into());
            }
            exponent = exponent * 10 + i64::from(c - b'0');
        }
        if below {
            exponent = -exponent;
        }
        rest = &after[n..];
    }
    if !rest.is_empty() {
        return Err("syntax error in number".into());
    }
    if let Some(v) = exact_integer(negative, &d[..whole], fraction, exponent) {
        return Ok(Value::from(v));
    }
    let text = std::str::from_utf8(token).unwrap_or_default();
    let v: f64 = text.parse().unwrap_or(f64::INFINITY);
    if v == 0.0 {
        return Ok(Value::from(0));
    }
    if v.is_subnormal() {
        return Err("number outside valid range".into());
    }
    Number::from_f64(v)
        .map(Value::Number)
        .ok_or_else(|| "number outside valid range".into())
}

/// The value, if it is integral and fits.
fn exact_integer(negative: bool, whole: &[u8], fraction: &[u8], exponent: i64) -> Option<i64> {
    /// No integer that fits is written with more digits than that, but for zeros without end.
    const MAX_DIGITS: usize = 4096;
    let trailing = fraction.iter().rev().take_while(|&&c| c == b'0').count();
    let fraction = &fraction[..fraction.len() - trailing];
    if whole.len() + fraction.len() > MAX_DIGITS {
        return None;
    }
    let mut scale = exponent - fraction.len() as i64;
    let mut digits: smallvec::SmallVec<[u8; 40]> = whole.iter().chain(fraction).copied().collect();
    while scale < 0 && digits.last() == Some(&b'0') {
        digits.pop();
        scale += 1;
    }
    let mut v: u64 = 0;
    for c in &digits {
        v = v.checked_mul(10)?.checked_add(u64::from(c - b'0'))?;
    }
    if v == 0 {
        return Some(0);
    }
    if scale < 0 {
        return None;
    }
    for _ in 0..scale {
        v = v.checked_mul(10)?;
    }
    if negative {
        0i64.checked_sub_unsigned(v)
    } else {
        i64::try_from(v).ok()
    }
}

/// Reads a keyword token (letters, the first a small one).
pub(crate) fn keyword(token: &[u8]) -> Result<Value, String> {
    match token {
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        b"null" => Ok(Value::Null),
        other => {
            let quoted = String::from_utf8_lossy(&other[..other.len().min(MAX_QUOTED)]);
            Err(format!("invalid keyword '{quoted}'"))
        }
    }
}

/// The complaint about a byte that begins no token.
pub(crate) fn bad_character(c: u8) -> String {
    if (0x20..0x7f).contains(&c) {
        format!("invalid character '{}'", char::from(c))
    } else {
        format!("invalid character U+{c:04x}")
    }
}

/// The complaint about a control character between quotes.
pub(crate) fn bad_in_text(c: u8) -> String {
    format!("U+{c:04X} must be escaped in quoted string")
}
