//! Splitting of flow text: numbers as strtoull(3) reads them, and lists of keys and values.
//!
//! A list is `key`, `key=value`, `key:value` or `key(value)` joined by commas and blanks; parentheses and
//! brackets nest, so that a value may hold commas.

/// Reads a whole unsigned number in C notation (decimal, 0x, octal).
pub fn parse_u64(s: &str) -> Option<u64> {
    match parse_u64_prefix(s)? {
        (n, "") => Some(n),
        _ => None,
    }
}

/// Reads a number at the front and returns the rest.
pub fn parse_u64_prefix(s: &str) -> Option<(u64, &str)> {
    let t = s.trim_start();
    let (neg, t) = match t.strip_prefix('-') {
        Some(t) => (true, t),
        None => (false, t.strip_prefix('+').unwrap_or(t)),
    };
    let (radix, digits) = match t.strip_prefix("0x").or_else(|| t.strip_prefix("0X")) {
        Some(d) if d.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, d),
        _ if t.starts_with('0') && t.len() > 1 => (8, t),
        _ => (10, t),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let n = u64::from_str_radix(&digits[..end], radix).unwrap_or(u64::MAX);
    Some((if neg { n.wrapping_neg() } else { n }, &digits[end..]))
}

/// Like strtoul on a prefix, for the many places where Open vSwitch ignores what follows.
pub fn atoi(s: &str) -> i64 {
    let t = s.trim_start();
    let (neg, t) = match t.strip_prefix('-') {
        Some(t) => (true, t),
        None => (false, t),
    };
    let end = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    let n = t[..end].parse::<i64>().unwrap_or(0);
    if neg { -n } else { n }
}

/// Reads a number of up to `max`; the error names `name`.
pub fn number(s: &str, name: &str, max: u64) -> Result<u64, String> {
    match parse_u64(s) {
        Some(n) if n <= max => Ok(n),
        _ => Err(format!("invalid {name} \"{s}\"")),
    }
}

pub fn u8(s: &str, name: &str) -> Result<u8, String> {
    number(s, name, u8::MAX.into()).map(|n| n as u8)
}

pub fn u16(s: &str, name: &str) -> Result<u16, String> {
    number(s, name, u16::MAX.into()).map(|n| n as u16)
}

/// Reads a 32-bit number.
pub fn u32(s: &str) -> Result<u32, String> {
    u64(s)?
        .try_into()
        .map_err(|_| format!("invalid numeric format {s}"))
}

pub fn u64(s: &str) -> Result<u64, String> {
    if s.is_empty() {
        return Err("missing required numeric argument".to_owned());
    }
    parse_u64(s).ok_or_else(|| format!("invalid numeric format {s}"))
}

/// What divides a list.
fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b',' | b'\t' | b'\r' | b'\n')
}

/// Takes the next key and value off the list; `None` at its end. A key without value has the value "".
pub fn next_pair<'a>(list: &mut &'a str) -> Option<(&'a str, &'a str)> {
    let (key, value, _) = next_pair_delimited(list)?;
    Some((key, value))
}

/// As [`next_pair`], with the character behind the key: `:`, `=`, `(`, or a blank if there is no value.
///
/// A value in parentheses ends at the one that closes it, but for `(x)->y`, whose value is `x)->y`.
pub fn next_pair_delimited<'a>(list: &mut &'a str) -> Option<(&'a str, &'a str, char)> {
    let start = list.bytes().position(|b| !is_blank(b));
    let s = &list[start.unwrap_or(list.len())..];
    if s.is_empty() {
        *list = s;
        return None;
    }
    let ends_key = |b| is_blank(b) || matches!(b, b':' | b'=' | b'(');
    let key_end = s.bytes().position(ends_key).unwrap_or(s.len());
    let (key, rest) = s.split_at(key_end);
    // What divides is one byte; nothing may follow.
    let delim = rest.bytes().next().unwrap_or(b' ');
    let text = rest.get(1..).unwrap_or_default();
    let end = match delim {
        b':' | b'=' => value_end(text, is_blank),
        b'(' => {
            let close = value_end(text, |b| b == b')');
            match text[close..].strip_prefix(')') {
                Some(tail) if tail.starts_with("->") => close + value_end(&text[close..], is_blank),
                _ => close,
            }
        }
        _ => {
            *list = text;
            return Some((key, "", ' '));
        }
    };
    *list = text.get(end + 1..).unwrap_or_default();
    Some((key, &text[..end], delim.into()))
}

/// Where a value ends: at the first delimiter outside of parentheses.
fn value_end(s: &str, is_delimiter: impl Fn(u8) -> bool) -> usize {
    let mut depth = 0usize;
    for (i, b) in s.bytes().enumerate() {
        match b {
            _ if depth == 0 && is_delimiter(b) => return i,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    s.len()
}

/// Splits at commas and blanks.
pub fn words(s: &str) -> impl Iterator<Item = &str> {
    s.split(['\t', ' ', ',', '\r', '\n'])
        .filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_commas_inside_parentheses() {
        let mut list = "tcp, in_port=1 learn(a,b(c,d)),ct:x(1,2) f(1)->r[0..1],end";
        let mut out = Vec::new();
        while let Some(p) = next_pair(&mut list) {
            out.push(p);
        }
        assert_eq!(
            out,
            [
                ("tcp", ""),
                ("in_port", "1"),
                ("learn", "a,b(c,d)"),
                ("ct", "x(1,2)"),
                ("f", "1)->r[0..1]"),
                ("end", "")
            ]
        );
    }

    #[test]
    fn a_value_ends_at_its_own_parenthesis() {
        let mut list = "f(1))g[2..3]=4,h:[5,6]";
        let mut out = Vec::new();
        while let Some(p) = next_pair(&mut list) {
            out.push(p);
        }
        let want = [("f", "1"), (")g[2..3]", "4"), ("h", "[5"), ("6]", "")];
        assert_eq!(out, want);
    }

    #[test]
    fn numbers_must_be_there_and_fit() {
        assert_eq!(u32(""), Err("missing required numeric argument".to_owned()));
        assert_eq!(u32("-1"), Err("invalid numeric format -1".to_owned()));
        assert_eq!(u64("-1"), Ok(u64::MAX));
        assert_eq!(u32("0x10"), Ok(16));
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        assert_eq!(parse_u64("0x10"), Some(16));
        assert_eq!(parse_u64("010"), Some(8));
        assert_eq!(parse_u64("5x"), None);
        assert_eq!(parse_u64(""), None);
        assert_eq!(parse_u64_prefix("12/3"), Some((12, "/3")));
    }
}
