//! The JSON texts in a stream of bytes, one after the other without separators.
//!
//! Each byte is looked at once, however the bytes arrive; what cannot become JSON is refused at once, in the words that
//! Open vSwitch has for it.

use ferrovs_json::{self as json, ParseError, Scan, Scanner, Value};

/// Longest message that is taken from a peer.
const MAX_MESSAGE: usize = 16 << 20;

/// Cuts a byte stream into JSON values.
#[derive(Debug)]
pub(crate) struct Framer {
    /// Arrived, but not looked at.
    buffer: Vec<u8>,
    scanner: Scanner,
}

impl Default for Framer {
    fn default() -> Framer {
        Framer {
            buffer: Vec::new(),
            scanner: Scanner::new(MAX_MESSAGE),
        }
    }
}

impl Framer {
    /// Adds bytes that arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Value>, ParseError> {
        let (used, scan) = self.scanner.feed(&self.buffer);
        self.buffer.drain(..used);
        match scan {
            Scan::More => Ok(None),
            Scan::Done => json::parse_bytes(&self.scanner.take()).map(Some),
            Scan::Failed(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_wherever_the_stream_is_cut() {
        let stream = br#" {"a":"}\"{"}[1,[2]]{"b":{}}"#;
        for step in 1..stream.len() {
            let mut f = Framer::default();
            let mut out = Vec::new();
            for chunk in stream.chunks(step) {
                f.push(chunk);
                while let Some(m) = f.next().unwrap() {
                    out.push(m.to_string());
                }
            }
            assert_eq!(out, [r#"{"a":"}\"{"}"#, "[1,[2]]", r#"{"b":{}}"#]);
        }
    }

    #[test]
    fn junk_is_refused_in_the_words_of_open_vswitch() {
        for (text, why) in [
            (
                r#"{"id":1,"method":"version","params":["\u0000"]}"#,
                "line 0, column 44, byte 44: null bytes not supported in quoted strings",
            ),
            (
                r#"{"id":1,"method":"list-commands","params":[01]}"#,
                "line 0, column 45, byte 45: leading zeros not allowed",
            ),
            (
                "  7 {}",
                "line 0, column 3, byte 3: syntax error at beginning of input",
            ),
            (
                r#"{"a":[1}]"#,
                "line 0, column 7, byte 7: syntax error expecting ']' or ','",
            ),
        ] {
            let mut f = Framer::default();
            f.push(text.as_bytes());
            assert_eq!(f.next().unwrap_err().to_string(), why, "{text}");
        }
    }
}
