//! The grammar that flows, groups and meters share in text: `KEY`, `KEY=VALUE`, `KEY:VALUE`, `KEY(VALUE)`,
//! separated by commas or white space; parentheses nest.

/// One item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub key: &'a str,
    /// Empty when there is none.
    pub value: &'a str,
    /// What stood between key and value, if anything.
    pub delimiter: Option<char>,
}

const SEPARATORS: &[char] = &[',', ' ', '\t', '\r', '\n'];

/// Takes the next item off the front of `rest`; None at the end.
pub fn next<'a>(rest: &mut &'a str) -> Option<Token<'a>> {
    let text = rest.trim_start_matches(SEPARATORS);
    *rest = text;
    if text.is_empty() {
        return None;
    }
    let key_end = text
        .find(|c| SEPARATORS.contains(&c) || matches!(c, '=' | ':' | '('))
        .unwrap_or(text.len());
    let (key, tail) = text.split_at(key_end);
    let delimiter = tail.chars().next().filter(|c| matches!(c, '=' | ':' | '('));
    let Some(delimiter) = delimiter else {
        *rest = tail.get(1..).unwrap_or("");
        return Some(Token {
            key,
            value: "",
            delimiter: None,
        });
    };
    let body = &tail[1..];
    if delimiter != '(' {
        let end = end_of_value(body, 0);
        *rest = body.get(end + 1..).unwrap_or("");
        return Some(Token {
            key,
            value: &body[..end],
            delimiter: Some(delimiter),
        });
    }
    let close = closing(body);
    let after = body.get(close + 1..).unwrap_or("");
    if after.starts_with("->") {
        // `check_pkt_larger(LEN)->FIELD`: the destination belongs to the value, parenthesis and all.
        let end = close + 1 + end_of_value(after, 0);
        *rest = body.get(end + 1..).unwrap_or("");
        return Some(Token {
            key,
            value: &body[..end],
            delimiter: Some('('),
        });
    }
    *rest = after;
    Some(Token {
        key,
        value: &body[..close],
        delimiter: Some('('),
    })
}

/// Where the parenthesis that is open before `body` closes; the end if it does not.
fn closing(body: &str) -> usize {
    let mut level = 1;
    for (i, c) in body.char_indices() {
        match c {
            '(' => level += 1,
            ')' => level -= 1,
            _ => {}
        }
        if level == 0 {
            return i;
        }
    }
    body.len()
}

/// Where a value ends: at a separator outside all parentheses.
fn end_of_value(body: &str, mut level: i32) -> usize {
    for (i, c) in body.char_indices() {
        match c {
            '(' => level += 1,
            ')' => level -= 1,
            c if level <= 0 && SEPARATORS.contains(&c) => return i,
            _ => {}
        }
    }
    body.len()
}

/// An unsigned number as C's strtoul with base 0 takes it: decimal, 0x hexadecimal, 0 octal.
pub fn number(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return (!hex.starts_with('+')).then(|| u64::from_str_radix(hex, 16).ok())?;
    }
    if text.starts_with('+') {
        return None;
    }
    if text.len() > 1 && text.starts_with('0') {
        return u64::from_str_radix(&text[1..], 8).ok();
    }
    text.parse().ok()
}

/// A number in `0..=max`; the error is Open vSwitch's, `what` being the name in it.
pub fn bounded(text: &str, what: &str, max: u64) -> Result<u64, String> {
    match number(text) {
        Some(n) if n <= max => Ok(n),
        _ => Err(format!("invalid {what} \"{text}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_one_by_one() {
        let mut rest = "ip, nw_src=10.0.0.1 ct(commit,nat(src=1.2.3.4)),check_pkt_larger(100)->reg0[0],output:2";
        let mut got = Vec::new();
        while let Some(t) = next(&mut rest) {
            got.push((t.key, t.value));
        }
        let want = [
            ("ip", ""),
            ("nw_src", "10.0.0.1"),
            ("ct", "commit,nat(src=1.2.3.4)"),
            ("check_pkt_larger", "100)->reg0[0]"),
            ("output", "2"),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn open_parentheses_end_with_the_text() {
        let mut rest = "clone(output:1";
        let token = next(&mut rest).map(|t| t.value);
        assert_eq!((token, rest), (Some("output:1"), ""));
    }

    #[test]
    fn numbers_have_the_bases_of_c() {
        assert_eq!(
            [number("0x1f"), number("017"), number("19"), number("0")],
            [Some(31), Some(15), Some(19), Some(0)]
        );
        assert_eq!(
            [
                number(""),
                number("0x"),
                number("+1"),
                number("-1"),
                number("9a")
            ],
            [None; 5]
        );
    }
}
