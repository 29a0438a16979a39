//! Finds where one JSON text ends and the next begins in a stream of bytes.
//!
//! Messages follow each other without separators. The scanner looks at each byte once, however the
//! bytes arrive, and knows only strings and nesting; what it cuts off goes to the JSON parser.

/// Longest message that is taken from a peer.
const MAX_MESSAGE: usize = 16 << 20;

/// Cuts a byte stream into JSON objects.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    buffer: Vec<u8>,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// Adds bytes that arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        while self.scanned < self.buffer.len() {
            let b = self.buffer[self.scanned];
            self.scanned += 1;
            if self.in_string {
                match b {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match b {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let rest = self.buffer.split_off(self.scanned);
                        let message = std::mem::replace(&mut self.buffer, rest);
                        self.scanned = 0;
                        return Ok(Some(message));
                    }
                }
                b'"' if self.depth > 0 => self.in_string = true,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.depth > 0 => {}
                _ => return Err("syntax error at beginning of input"),
            }
        }
        if self.buffer.len() > MAX_MESSAGE {
            return Err("message is too long");
        }
        Ok(None)
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
                    out.push(String::from_utf8(m).unwrap().trim().to_string());
                }
            }
            assert_eq!(out, [r#"{"a":"}\"{"}"#, "[1,[2]]", r#"{"b":{}}"#]);
        }
    }

    #[test]
    fn junk_is_refused() {
        let mut f = Framer::default();
        f.push(b"hello");
        assert!(f.next().is_err());
    }
}
