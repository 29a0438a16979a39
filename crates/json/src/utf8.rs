//! Strings that are not UTF-8. They are no fault of syntax to Open vSwitch, which minds them only
//! where a value is stored; a Rust string cannot hold them. A parsed text never contains NUL, so a
//! string that begins with one stands for such a string: between two NULs what is wrong with it,
//! then what it is with U+FFFD for the bad bytes.

use std::fmt::Write;
use std::str::Utf8Error;

/// What stands for the string `raw`.
pub(crate) fn invalid(raw: &[u8], error: &Utf8Error) -> String {
    let lossy = String::from_utf8_lossy(raw);
    format!("\0{}\0{lossy}", describe(raw, error))
}

/// What is wrong with `raw`: `invalid UTF-8 sequence 0xc3 0x28`.
pub fn describe(raw: &[u8], error: &Utf8Error) -> String {
    let mut text = String::from("invalid UTF-8 sequence");
    let bad = &raw[error.valid_up_to()..];
    // The bytes up to the first that cannot follow: the end of the string counts as NUL.
    let begins = matches!(bad.first(), Some(0xc2..=0xf4));
    let n = match error.error_len() {
        Some(n) => n + usize::from(begins),
        None => bad.len() + 1,
    };
    for byte in bad.iter().chain([&0]).take(n) {
        let _ = write!(text, " {byte:#04x}");
    }
    text
}

/// What is wrong with a parsed string, if it was not UTF-8.
pub fn invalid_utf8(s: &str) -> Option<&str> {
    Some(s.strip_prefix('\0')?.split_once('\0')?.0)
}

/// The string without what is wrong with it.
pub(crate) fn printable(s: &str) -> &str {
    let invalid = s.strip_prefix('\0').and_then(|s| s.split_once('\0'));
    invalid.map_or(s, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::invalid_utf8;
    use crate::{parse_bytes, to_string};

    #[test]
    fn bad_sequences_are_named_up_to_the_byte_that_cannot_follow() {
        for (raw, bad) in [
            (&b"a\xffb"[..], "0xff"),
            (b"\xc0\x80", "0xc0"),
            (b"\xe2\x28\xa1", "0xe2 0x28"),
            (b"\xe2\x82\x28", "0xe2 0x82 0x28"),
            (b"ok\xf0\x9f\x98", "0xf0 0x9f 0x98 0x00"),
            (b"\xf4\x90\x80\x80", "0xf4 0x90"),
            (b"\xf5\x80", "0xf5"),
            (b"\xed\xa0\x80", "0xed 0xa0"),
            (b"\\udc00", "0xed 0xb0"),
        ] {
            let text = [b"[\"", raw, b"\"]"].concat();
            let v = parse_bytes(&text).unwrap();
            let s = v[0].as_str().unwrap();
            let wanted = format!("invalid UTF-8 sequence {bad}");
            assert_eq!(invalid_utf8(s), Some(wanted.as_str()), "{raw:x?}");
        }
        assert_eq!(invalid_utf8("a\u{fffd}"), None);
    }

    #[test]
    fn bad_bytes_are_printed_as_replacement_characters() {
        let v = parse_bytes(b"[\"a\xffb\\n\"]").unwrap();
        assert_eq!(to_string(&v), "[\"a\u{fffd}b\\n\"]");
    }
}
