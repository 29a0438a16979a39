//! Tokens of JSON: string unescaping, numbers and keywords, with Open vSwitch's error texts.
//!
//! The parser collects the raw bytes of one token and hands them over when the token is complete,
//! so every fault inside a token is reported at the place where the token ends.

use serde_json::{Number, Value};

/// Turns the raw bytes between two quotes into text.
///
/// Bytes that are not UTF-8, and escaped lone trailing surrogates, become U+FFFD: Rust strings
/// cannot hold them, and Open vSwitch itself refuses them later, as database strings.
pub(super) fn unescape(raw: &[u8]) -> Result<String, String> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(lossy(raw));
    }
    let mut out: Vec<u8> = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        let c = raw[i];
        i += 1;
        if c != b'\\' {
            out.push(c);
            continue;
        }
        // The scanner never ends a string inside an escape, so one byte follows.
        let e = raw[i];
        i += 1;
        let plain = match e {
            b'"' | b'\\' | b'/' => e,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = hex4(raw, i)?;
                i += 4;
                let code = if (0xd800..0xdc00).contains(&first) {
                    if raw.get(i) != Some(&b'\\') || raw.get(i + 1) != Some(&b'u') {
                        return Err("malformed escaped surrogate pair".into());
                    }
                    let second = hex4(raw, i + 2)?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(
                            "second half of escaped surrogate pair is not trailing surrogate"
                                .into(),
                        );
                    }
                    i += 6;
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                if code == 0 {
                    return Err("null bytes not supported in quoted strings".into());
                }
                let ch = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => return Err(format!("bad escape \\{}", char::from(other))),
        };
        out.push(plain);
    }
    Ok(lossy(&out))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex4(raw: &[u8], at: usize) -> Result<u32, String> {
    let Some(digits) = raw.get(at..at + 4) else {
        return Err("quoted string ends within \\u escape".into());
    };
    digits
        .iter()
        .try_fold(0, |code, &d| match char::from(d).to_digit(16) {
            Some(v) => Ok(code << 4 | v),
            None => Err("malformed \\u escape".into()),
        })
}

/// Reads the text of a number token: bytes out of `0-9 + - . e E`.
pub(super) fn number(text: &[u8]) -> Result<Value, String> {
    let mut rest = text;
    if let Some((b'-', tail)) = rest.split_first() {
        rest = tail;
    }
    let digits = |s: &[u8]| s.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(rest);
    if whole == 0 {
        return Err("'-' must be followed by digit".into());
    }
    if rest[0] == b'0' && whole > 1 {
        return Err("leading zeros not allowed".into());
    }
    rest = &rest[whole..];
    if let Some((b'.', tail)) = rest.split_first() {
        let fraction = digits(tail);
        if fraction == 0 {
            return Err("decimal point must be followed by digit".into());
        }
        rest = &tail[fraction..];
    }
    if let Some((b'e' | b'E', tail)) = rest.split_first() {
        rest = match tail.split_first() {
            Some((b'+' | b'-', t)) => t,
            _ => tail,
        };
        let exponent = digits(rest);
        if exponent == 0 {
            return Err("exponent must contain at least one digit".into());
        }
        rest = &rest[exponent..];
    }
    if !rest.is_empty() {
        return Err("syntax error in number".into());
    }
    // Only ASCII digits and signs are left here.
    let text = std::str::from_utf8(text).unwrap_or_default();
    if let Ok(i) = text.parse::<i64>() {
        return Ok(Value::from(i));
    }
    let real: f64 = text.parse().unwrap_or(f64::INFINITY);
    if !real.is_finite() {
        return Err("number outside valid range".into());
    }
    if real.fract() == 0.0 && (-9.2e18..=9.2e18).contains(&real) {
        return Ok(Value::from(real as i64));
    }
    Ok(Number::from_f64(real).map_or(Value::Null, Value::Number))
}

/// Reads a keyword token (lower case letters).
pub(super) fn keyword(text: &[u8]) -> Result<Value, String> {
    match text {
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        b"null" => Ok(Value::Null),
        other => Err(format!(
            "invalid keyword '{}'",
            String::from_utf8_lossy(other)
        )),
    }
}
