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

/// Reads a 32-bit number; a sign is fine, as Open vSwitch has it.
pub fn u32(s: &str) -> Result<u32, String> {
    match parse_u64(s) {
        Some(n) if n <= u32::MAX.into() => Ok(n as u32),
        Some(n) if s.trim_start().starts_with('-') && n as i64 >= i32::MIN.into() => Ok(n as u32),
        Some(_) => Err(format!("invalid numeric format {s}")),
        None => Err(format!("invalid numeric format {s}")),
    }
}

pub fn u64(s: &str) -> Result<u64, String> {
    parse_u64(s).ok_or_else(|| format!("invalid numeric format {s}"))
}

const BLANKS: &[char] = &[' ', ',', '\t', '\r', '\n'];

/// Takes the next key and value off the list; `None` at its end. A key without value has the value "".
pub fn next_pair<'a>(list: &mut &'a str) -> Option<(&'a str, &'a str)> {
    let (key, value, _) = next_pair_delimited(list)?;
    Some((key, value))
}

/// As [`next_pair`], with the whole of what stood for the pair's value side: `(value)` with its parentheses.
pub fn next_pair_delimited<'a>(list: &mut &'a str) -> Option<(&'a str, &'a str, char)> {
    let s = list.trim_start_matches(BLANKS);
    if s.is_empty() {
        *list = s;
        return None;
    }
    let key_end = s
        .find([':', '=', '(', ' ', ',', '\t', '\r', '\n'])
        .unwrap_or(s.len());
    let key = &s[..key_end];
    let rest = &s[key_end..];
    let delim = rest.chars().next().unwrap_or(' ');
    match delim {
        ':' | '=' => {
            let value_start = &rest[1..];
            let mut depth = 0usize;
            let mut end = value_start.len();
            for (i, c) in value_start.char_indices() {
                match c {
                    '(' | '[' => depth += 1,
                    ')' | ']' => depth = depth.saturating_sub(1),
                    ' ' | ',' | '\t' | '\r' | '\n' if depth == 0 => {
                        end = i;
                        break;
                    }
                    _ => {}
                }
            }
            *list = &value_start[end..];
            Some((key, &value_start[..end], delim))
        }
        '(' => {
            let inside = &rest[1..];
            let mut depth = 1usize;
            let mut end = inside.len();
            let mut after = inside.len();
            for (i, c) in inside.char_indices() {
                match c {
                    '(' => depth += 1,
                    ')' => {
                        depth -= 1;
                        if depth == 0 {
                            end = i;
                            after = i + 1;
                            break;
                        }
                    }
                    _ => {}
                }
            }
            // What directly follows the parenthesis up to a blank belongs to the pair ("f(1)->reg0").
            let tail = &inside[after..];
            let mut stop = tail.len();
            let mut depth = 0usize;
            for (i, c) in tail.char_indices() {
                match c {
                    '(' | '[' => depth += 1,
                    ')' | ']' => depth = depth.saturating_sub(1),
                    ' ' | ',' | '\t' | '\r' | '\n' if depth == 0 => {
                        stop = i;
                        break;
                    }
                    _ => {}
                }
            }
            *list = &tail[stop..];
            if stop > 0 {
                // The value is then everything up to there.
                return Some((key, &inside[..after + stop], delim));
            }
            Some((key, &inside[..end], delim))
        }
        _ => {
            *list = rest;
            Some((key, "", ' '))
        }
    }
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
    fn numbers_are_read_as_c_reads_them() {
        assert_eq!(parse_u64("0x10"), Some(16));
        assert_eq!(parse_u64("010"), Some(8));
        assert_eq!(parse_u64("5x"), None);
        assert_eq!(parse_u64(""), None);
        assert_eq!(parse_u64_prefix("12/3"), Some((12, "/3")));
    }
}
