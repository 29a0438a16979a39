//! Long records, row by row.
//!
//! The record of a whole database may be as large as the database. Its text is never in memory as a
//! whole: rows are cut out of it one after the other. This is for the ordinary case, new rows of
//! known tables in right JSON; what is anything else is left to `records`, which has the texts for
//! all that can be wrong, and takes the record whole.

use std::io::Read;

/// A part of a record.
pub(super) enum Part<'a> {
    /// A row of a table: the names as JSON strings, without their quotes, and the JSON of the row.
    Row(&'a str, &'a str, &'a [u8]),
    /// A member that is no object.
    Member(&'a str, &'a [u8]),
}

/// The record is not of the ordinary kind.
pub(super) struct Unusual;

/// Bytes with one to look at.
struct Bytes<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
}

impl<R: Read> Bytes<R> {
    fn peek(&mut self) -> Result<Option<u8>, Unusual> {
        if self.at == self.buffer.len() {
            self.at = 0;
            self.buffer.resize(1 << 16, 0);
            let n = self.reader.read(&mut self.buffer).map_err(|_| Unusual)?;
            self.buffer.truncate(n);
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn next(&mut self) -> Result<u8, Unusual> {
        let c = self.peek()?.ok_or(Unusual)?;
        self.at += 1;
        Ok(c)
    }

    /// The next byte that is no space, not taken.
    fn token(&mut self) -> Result<u8, Unusual> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(c) => return Ok(c),
                None => return Err(Unusual),
            }
        }
    }

    fn expect(&mut self, c: u8) -> Result<(), Unusual> {
        if self.token()? != c {
            return Err(Unusual);
        }
        self.at += 1;
        Ok(())
    }

    /// A member's name and the colon after it. Names with escapes are unusual.
    fn name(&mut self, out: &mut String) -> Result<(), Unusual> {
        self.expect(b'"')?;
        let mut bytes = std::mem::take(out).into_bytes();
        bytes.clear();
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => return Err(Unusual),
                c => bytes.push(c),
            }
        }
        *out = String::from_utf8(bytes).map_err(|_| Unusual)?;
        self.expect(b':')
    }

    /// The text of a value, checked no further than to find its end.
    fn value(&mut self, out: &mut Vec<u8>) -> Result<(), Unusual> {
        out.clear();
        self.token()?;
        let mut depth = 0usize;
        let mut string = false;
        loop {
            let Some(c) = self.peek()? else {
                return Err(Unusual);
            };
            if string {
                self.at += 1;
                out.push(c);
                match c {
                    b'\\' => {
                        let escaped = self.next()?;
                        out.push(escaped);
                    }
                    b'"' => string = false,
                    _ => {}
                }
                continue;
            }
            match c {
                b',' | b'}' | b']' if depth == 0 => return Ok(()),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => string = true,
                _ => {}
            }
            self.at += 1;
            out.push(c);
        }
    }

    /// True if another member follows, false at the end of the object.
    fn more(&mut self) -> Result<bool, Unusual> {
        let c = self.token()?;
        self.at += 1;
        match c {
            b',' => Ok(true),
            b'}' => Ok(false),
            _ => Err(Unusual),
        }
    }
}

/// Cuts a record into its parts.
pub(super) fn parts(
    reader: impl Read,
    mut f: impl FnMut(Part<'_>) -> Result<(), Unusual>,
) -> Result<(), Unusual> {
    let mut b = Bytes {
        reader,
        buffer: Vec::new(),
        at: 0,
    };
    let (mut name, mut id, mut text) = (String::new(), String::new(), Vec::new());
    b.expect(b'{')?;
    loop {
        b.name(&mut name)?;
        if b.token()? == b'{' {
            b.at += 1;
            if b.token()? == b'}' {
                b.at += 1;
            } else {
                loop {
                    b.name(&mut id)?;
                    b.value(&mut text)?;
                    f(Part::Row(&name, &id, &text))?;
                    if !b.more()? {
                        break;
                    }
                }
            }
        } else {
            b.value(&mut text)?;
            f(Part::Member(&name, &text))?;
        }
        if !b.more()? {
            break;
        }
    }
    match b.peek()? {
        Some(b'\n') => b.at += 1,
        Some(_) => return Err(Unusual),
        None => {}
    }
    match b.peek()? {
        None => Ok(()),
        Some(_) => Err(Unusual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts, a line each.
    fn cut(text: &str) -> Option<String> {
        let mut out = String::new();
        let text_of = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let done = parts(text.as_bytes(), |p| {
            out += &match p {
                Part::Row(table, id, row) => format!("{table} {id} {}\n", text_of(row)),
                Part::Member(name, value) => format!("{name} {}\n", text_of(value)),
            };
            Ok(())
        });
        done.is_ok().then_some(out)
    }

    #[test]
    fn a_record_falls_into_rows_and_other_members() {
        let record = r#"{"A":{"1":{"s":"}\"]{","m":["map",[]]}, "2" : null},"B":{},"_date":5}"#;
        assert_eq!(
            cut(record).unwrap(),
            "A 1 {\"s\":\"}\\\"]{\",\"m\":[\"map\",[]]}\nA 2 null\n_date 5\n"
        );
        assert!(cut(&format!("{record}\n")).is_some());
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_unusual() {
        let record = r#"{"A":{"1":{"s":"x"}},"_date":5}"#;
        for n in 0..record.len() {
            assert!(cut(&record[..n]).is_none(), "{n}");
        }
        for wrong in [
            "[]",
            "{}",
            "5",
            "{\"A\":}x",
            "{\"A\":5}x",
            "{\"A\\u0041\":5}",
        ] {
            assert!(cut(wrong).is_none(), "{wrong}");
        }
    }
}
