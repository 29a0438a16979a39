//! JSON as Open vSwitch speaks it: a parser with its error texts, positions and limits, and a
//! printer with its number forms and sorted members. The tree is `serde_json::Value`.
//!
//! Numbers: whatever is integral and fits in 64 bits is an integer, however it was written (`1.0`,
//! `1e3`); the rest is a real, printed with 15 significant digits. Duplicate members: the last
//! one wins. Nesting ends at 1,000 levels, so that the parser may be recursive.

mod print;

use serde_json::{Map, Number, Value};

pub use print::{
    format_real, to_string, to_string_pretty, write, write_integer, write_real, write_str,
};

/// Arrays and objects inside each other: so many and no more.
pub const MAX_DEPTH: usize = 1000;

/// Why a text is no JSON, and where: lines and columns count from 0, as Open vSwitch's do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}, byte {byte}: {message}")]
pub struct ParseError {
    pub line: usize,
    pub column: usize,
    pub byte: usize,
    pub message: String,
}

/// Parses one value that fills the whole text.
pub fn parse(text: &str) -> Result<Value, ParseError> {
    parse_bytes(text.as_bytes())
}

/// Parses one array or object that fills the whole text, as documents on the wire and in files are.
/// A scalar at the top is an error, as it is to Open vSwitch.
pub fn parse_bytes(text: &[u8]) -> Result<Value, ParseError> {
    let mut p = Parser {
        text,
        pos: 0,
        depth: 0,
    };
    let result = p.document();
    result.map_err(|(at, message)| locate(text, at, message))
}

/// Parses the string of a quoted token such as `"a\tb"`, quotes included.
pub fn parse_string_token(token: &str) -> Result<String, String> {
    let mut p = Parser {
        text: token.as_bytes(),
        pos: 0,
        depth: 0,
    };
    match p.string() {
        Ok(s) => Ok(s),
        Err((_, m)) => Err(m),
    }
}

/// Why a walk over a text ended early: the text is bad, or what was found in it.
pub(crate) enum WalkError<E> {
    Json(ParseError),
    Found(E),
}

/// Goes through the members of the object that fills the text, without building a tree of it all.
/// `f` must consume each member's value by `Walker::value`, `members` or `skip`.
pub(crate) fn walk<E>(
    text: &[u8],
    f: impl FnMut(String, &mut Walker<'_>) -> Result<(), Stop<E>>,
) -> Result<(), WalkError<E>> {
    let mut w = Walker {
        p: Parser {
            text,
            pos: 0,
            depth: 0,
        },
    };
    w.p.skip_space();
    let result = w.members(f).and_then(|()| {
        w.p.skip_space();
        match w.p.peek() {
            None => Ok(()),
            Some(_) => Err(Stop::Json(
                w.p.pos,
                "trailing garbage at end of input".into(),
            )),
        }
    });
    match result {
        Ok(()) => Ok(()),
        Err(Stop::Json(at, message)) => Err(WalkError::Json(locate(text, at, message))),
        Err(Stop::Found(e)) => Err(WalkError::Found(e)),
    }
}

pub(crate) struct Walker<'a> {
    p: Parser<'a>,
}

/// Ends a walk.
pub(crate) enum Stop<E> {
    Json(usize, String),
    Found(E),
}

impl<E> From<Fail> for Stop<E> {
    fn from((at, message): Fail) -> Self {
        Self::Json(at, message)
    }
}

impl<'a> Walker<'a> {
    /// A walk that begins at a value.
    pub(crate) fn at(text: &'a [u8]) -> Self {
        Self {
            p: Parser {
                text,
                pos: 0,
                depth: 0,
            },
        }
    }

    /// The value here as a tree.
    pub(crate) fn value<E>(&mut self) -> Result<Value, Stop<E>> {
        Ok(self.p.value("syntax error expecting value")?)
    }

    /// True if the value here is an object.
    pub(crate) fn at_object(&self) -> bool {
        self.p.peek() == Some(b'{')
    }

    /// Where the walk is.
    pub(crate) fn position(&self) -> usize {
        self.p.pos
    }

    /// Passes over the value here; what is inside an array or object is not checked.
    pub(crate) fn skip<E>(&mut self) -> Result<(), Stop<E>> {
        if !matches!(self.p.peek(), Some(b'{' | b'[')) {
            self.value()?;
            return Ok(());
        }
        let mut depth = 0usize;
        loop {
            match self.p.peek() {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(b'"') => {
                    self.p.skip_string()?;
                    continue;
                }
                Some(_) => {}
                None => return Err((self.p.pos, "unexpected end of input".to_owned()).into()),
            }
            self.p.pos += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The members of the object here.
    pub(crate) fn members<E>(
        &mut self,
        mut f: impl FnMut(String, &mut Self) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        if !self.at_object() {
            return Err((self.p.pos, "object expected".to_owned()).into());
        }
        self.p.enter()?;
        if self.p.peek() == Some(b'}') {
            self.p.leave();
            return Ok(());
        }
        loop {
            if self.p.peek() != Some(b'"') {
                return Ok(self
                    .p
                    .wrong("syntax error parsing object expecting string")?);
            }
            let name = self.p.string()?;
            self.p.skip_space();
            if self.p.peek() != Some(b':') {
                return Ok(self.p.wrong("syntax error parsing object expecting ':'")?);
            }
            self.p.pos += 1;
            self.p.skip_space();
            f(name, self)?;
            self.p.skip_space();
            match self.p.peek() {
                Some(b',') => {
                    self.p.pos += 1;
                    self.p.skip_space();
                }
                Some(b'}') => {
                    self.p.leave();
                    return Ok(());
                }
                _ => return Ok(self.p.wrong("syntax error expecting '}' or ','")?),
            }
        }
    }
}

fn locate(text: &[u8], at: usize, message: String) -> ParseError {
    let before = &text[..at.min(text.len())];
    let line = memchr::memchr_iter(b'\n', before).count();
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    ParseError {
        line,
        column,
        byte: before.len(),
        message,
    }
}

type Fail = (usize, String);

struct Parser<'a> {
    text: &'a [u8],
    pos: usize,
    depth: usize,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Value, Fail> {
        self.skip_space();
        let v = match self.peek() {
            Some(b'{' | b'[') => self.value("syntax error at beginning of input")?,
            None if self.text.is_empty() => return self.fail("empty input stream"),
            None => return self.fail("unexpected end of input"),
            Some(_) => return self.wrong("syntax error at beginning of input"),
        };
        self.skip_space();
        if self.peek().is_some() {
            return self.wrong("trailing garbage at end of input");
        }
        Ok(v)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Fail> {
        Err((self.pos, message.into()))
    }

    /// The next token is not what the grammar wants. A token that is itself malformed is reported
    /// as that; the position of a scalar is its end.
    fn wrong<T>(&mut self, message: &str) -> Result<T, Fail> {
        match self.peek() {
            None => self.fail("unexpected end of input"),
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => self.fail(message),
            Some(_) => {
                let string = self.peek() == Some(b'"');
                self.scalar_token()?;
                if string {
                    self.pos -= 1;
                }
                self.fail(message)
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.pos += 1;
        }
    }

    fn value(&mut self, context: &str) -> Result<Value, Fail> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'}' | b']' | b',' | b':') => self.fail(context),
            None => self.fail("unexpected end of input"),
            Some(_) => self.scalar_token(),
        }
    }

    fn enter(&mut self) -> Result<(), Fail> {
        if self.depth >= MAX_DEPTH {
            return self.fail(format!("input exceeds maximum nesting depth {MAX_DEPTH}"));
        }
        self.depth += 1;
        self.pos += 1;
        self.skip_space();
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.pos += 1;
    }

    fn array(&mut self) -> Result<Value, Fail> {
        self.enter()?;
        let mut out = Vec::new();
        if self.peek() == Some(b']') {
            self.leave();
            return Ok(Value::Array(out));
        }
        loop {
            out.push(self.value("syntax error expecting value")?);
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.pos += 1;
                    self.skip_space();
                }
                Some(b']') => {
                    self.leave();
                    return Ok(Value::Array(out));
                }
                _ => return self.wrong("syntax error expecting ']' or ','"),
            }
        }
    }

    fn object(&mut self) -> Result<Value, Fail> {
        self.enter()?;
        let mut out = Map::new();
        if self.peek() == Some(b'}') {
            self.leave();
            return Ok(Value::Object(out));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.wrong("syntax error parsing object expecting string");
            }
            let name = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.wrong("syntax error parsing object expecting ':'");
            }
            self.pos += 1;
            self.skip_space();
            let v = self.value("syntax error expecting value")?;
            out.insert(name, v);
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.pos += 1;
                    self.skip_space();
                }
                Some(b'}') => {
                    self.leave();
                    return Ok(Value::Object(out));
                }
                _ => return self.wrong("syntax error expecting '}' or ','"),
            }
        }
    }

    fn scalar_token(&mut self) -> Result<Value, Fail> {
        match self.text[self.pos] {
            b'"' => self.string().map(Value::String),
            b'-' | b'0'..=b'9' => self.number(),
            c if c.is_ascii_lowercase() => {
                let start = self.pos;
                while self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
                    self.pos += 1;
                }
                match &self.text[start..self.pos] {
                    b"true" => Ok(Value::Bool(true)),
                    b"false" => Ok(Value::Bool(false)),
                    b"null" => Ok(Value::Null),
                    other => self.fail(format!(
                        "invalid keyword '{}'",
                        String::from_utf8_lossy(other)
                    )),
                }
            }
            c if (0x20..0x7f).contains(&c) => {
                self.fail(format!("invalid character '{}'", c as char))
            }
            c => self.fail(format!("invalid character U+{c:04x}")),
        }
    }

    fn number(&mut self) -> Result<Value, Fail> {
        let start = self.pos;
        while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') = self.peek() {
            self.pos += 1;
        }
        let token = &self.text[start..self.pos];
        number_token(token).or_else(|m| self.fail(m))
    }

    fn skip_string(&mut self) -> Result<(), Fail> {
        loop {
            self.pos += 1;
            match memchr::memchr2(b'"', b'\\', &self.text[self.pos.min(self.text.len())..]) {
                Some(i) if self.text[self.pos + i] == b'"' => {
                    self.pos += i + 1;
                    return Ok(());
                }
                Some(i) => self.pos += i + 1,
                None => {
                    self.pos = self.text.len();
                    return self.fail("unexpected end of input in quoted string");
                }
            }
        }
    }

    fn string(&mut self) -> Result<String, Fail> {
        self.pos += 1;
        let start = self.pos;
        // The common case: no escape, one copy.
        loop {
            match self.peek() {
                Some(b'"') => {
                    let raw = &self.text[start..self.pos];
                    let s = std::str::from_utf8(raw)
                        .map_err(|_| (self.pos, "invalid UTF-8 sequence in string".to_owned()))?
                        .to_owned();
                    self.pos += 1;
                    return Ok(s);
                }
                Some(b'\\') => break,
                Some(c) if c < 0x20 => {
                    return self.fail(format!("U+{c:04X} must be escaped in quoted string"));
                }
                Some(_) => self.pos += 1,
                None => return self.fail("unexpected end of input in quoted string"),
            }
        }
        // Errors inside an escaped string are reported at its closing quote.
        let end = {
            let mut i = self.pos;
            loop {
                match self.text.get(i) {
                    Some(b'"') => break i,
                    Some(b'\\') => i += 2,
                    Some(c) if *c < 0x20 => {
                        self.pos = i;
                        return self.fail(format!("U+{c:04X} must be escaped in quoted string"));
                    }
                    Some(_) => i += 1,
                    None => {
                        self.pos = self.text.len();
                        return self.fail("unexpected end of input in quoted string");
                    }
                }
            }
        };
        let raw = &self.text[start..end];
        self.pos = end;
        let bytes = unescape(raw).or_else(|m| self.fail(m))?;
        let s = String::from_utf8(bytes)
            .map_err(|_| (end, "invalid UTF-8 sequence in string".to_owned()))?;
        self.pos += 1;
        Ok(s)
    }
}

fn unescape(raw: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        if raw[i] != b'\\' {
            out.push(raw[i]);
            i += 1;
            continue;
        }
        let c = *raw
            .get(i + 1)
            .ok_or("quoted string may not end with backslash")?;
        i += 2;
        match c {
            b'"' | b'\\' | b'/' => out.push(c),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = u32::from(hex4(&raw[i..])?);
                i += 4;
                if (0xd800..0xdc00).contains(&code) {
                    const PAIR: &str = "malformed escaped surrogate pair";
                    if raw.get(i) != Some(&b'\\') || raw.get(i + 1) != Some(&b'u') {
                        return Err(PAIR.into());
                    }
                    let low = u32::from(hex4(&raw[i + 2..])?);
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(
                            "second half of escaped surrogate pair is not trailing surrogate"
                                .into(),
                        );
                    }
                    i += 6;
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                if code == 0 {
                    return Err("null bytes not supported in quoted strings".into());
                }
                let ch = char::from_u32(code).ok_or("malformed escaped surrogate pair")?;
                out.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c => {
                return Err(format!("bad escape \\{}", c as char));
            }
        }
    }
    Ok(out)
}

fn hex4(s: &[u8]) -> Result<u16, String> {
    let s = s.get(..4).ok_or("quoted string ends within \\u escape")?;
    let mut v = 0u16;
    for &c in s {
        let d = (c as char).to_digit(16).ok_or("malformed \\u escape")?;
        v = v << 4 | d as u16;
    }
    Ok(v)
}

fn number_token(t: &[u8]) -> Result<Value, String> {
    let (negative, d) = match t.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, t),
    };
    let int_len = d.iter().take_while(|c| c.is_ascii_digit()).count();
    if int_len == 0 {
        return Err("'-' must be followed by digit".into());
    }
    if int_len > 1 && d[0] == b'0' {
        return Err("leading zeros not allowed".into());
    }
    let mut rest = &d[int_len..];
    let mut frac: &[u8] = &[];
    if let Some((b'.', after)) = rest.split_first() {
        let n = after.iter().take_while(|c| c.is_ascii_digit()).count();
        if n == 0 {
            return Err("decimal point must be followed by digit".into());
        }
        frac = &after[..n];
        rest = &after[n..];
    }
    let mut exp: i64 = 0;
    if let Some((b'e' | b'E', after)) = rest.split_first() {
        let (neg, digits) = match after.split_first() {
            Some((b'-', r)) => (true, r),
            Some((b'+', r)) => (false, r),
            _ => (false, after),
        };
        let n = digits.iter().take_while(|c| c.is_ascii_digit()).count();
        if n == 0 {
            return Err("exponent must contain at least one digit".into());
        }
        for &c in &digits[..n] {
            exp = (exp * 10 + i64::from(c - b'0')).min(100_000);
        }
        if neg {
            exp = -exp;
        }
        rest = &digits[n..];
    }
    if !rest.is_empty() {
        return Err("syntax error in number".into());
    }
    if let Some(v) = exact_integer(negative, &d[..int_len], frac, exp) {
        return Ok(Value::Number(v.into()));
    }
    let text = std::str::from_utf8(t).map_err(|e| e.to_string())?;
    let v: f64 = text
        .parse()
        .map_err(|_| "syntax error in number".to_owned())?;
    if v == 0.0 {
        return Ok(Value::Number(0.into()));
    }
    Number::from_f64(v)
        .map(Value::Number)
        .ok_or_else(|| "number outside valid range".into())
}

/// The value, if it is integral and fits.
fn exact_integer(negative: bool, int: &[u8], frac: &[u8], exp: i64) -> Option<i64> {
    let trailing = frac.iter().rev().take_while(|&&c| c == b'0').count();
    let frac = &frac[..frac.len() - trailing];
    let mut scale = exp - frac.len() as i64;
    let mut v: u64 = 0;
    let mut digits: smallvec::SmallVec<[u8; 40]> = int.iter().chain(frac).copied().collect();
    while scale < 0 && digits.last() == Some(&b'0') {
        digits.pop();
        scale += 1;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn err(s: &str) -> String {
        parse(s).unwrap_err().to_string()
    }

    #[test]
    fn integral_numbers_are_integers_however_written() {
        for (text, want) in [
            ("[1.0]", "[1]"),
            ("[1e3]", "[1000]"),
            ("[0.1e1]", "[1]"),
            ("[1e-5000]", "[0]"),
            ("[-0.0]", "[0]"),
            ("[100e-2]", "[1]"),
            ("[9223372036854775807]", "[9223372036854775807]"),
            ("[-9223372036854775808]", "[-9223372036854775808]"),
            ("[9223372036854775808]", "[9.22337203685478e+18]"),
            ("[0.00001]", "[1e-05]"),
            ("[123456789.123456789]", "[123456789.123457]"),
            ("[1.5e300]", "[1.5e+300]"),
        ] {
            assert_eq!(to_string(&parse(text).unwrap()), want, "{text}");
        }
    }

    #[test]
    fn errors_have_open_vswitchs_texts_and_positions() {
        for (text, want) in [
            (
                "5",
                "line 0, column 1, byte 1: syntax error at beginning of input",
            ),
            ("", "line 0, column 0, byte 0: empty input stream"),
            (
                "[1,]",
                "line 0, column 3, byte 3: syntax error expecting value",
            ),
            (
                "{\"a\" 5}",
                "line 0, column 6, byte 6: syntax error parsing object expecting ':'",
            ),
            (
                "{\"a\":1 \"b\"}",
                "line 0, column 9, byte 9: syntax error expecting '}' or ','",
            ),
            (
                "[1 2]",
                "line 0, column 4, byte 4: syntax error expecting ']' or ','",
            ),
            (
                "[01]",
                "line 0, column 3, byte 3: leading zeros not allowed",
            ),
            (
                "[-a]",
                "line 0, column 2, byte 2: '-' must be followed by digit",
            ),
            (
                "[1.x]",
                "line 0, column 3, byte 3: decimal point must be followed by digit",
            ),
            (
                "[1e+]",
                "line 0, column 4, byte 4: exponent must contain at least one digit",
            ),
            ("[.5]", "line 0, column 1, byte 1: invalid character '.'"),
            (
                "[1.5.5]",
                "line 0, column 6, byte 6: syntax error in number",
            ),
            ("[foo]", "line 0, column 4, byte 4: invalid keyword 'foo'"),
            (
                "[\"a",
                "line 0, column 3, byte 3: unexpected end of input in quoted string",
            ),
            ("[\"a\\x\"]", "line 0, column 5, byte 5: bad escape \\x"),
            (
                "[\"\\u12\"]",
                "line 0, column 6, byte 6: quoted string ends within \\u escape",
            ),
            (
                "[\"\\u12g4\"]",
                "line 0, column 8, byte 8: malformed \\u escape",
            ),
            (
                "[\"\\ud800\"]",
                "line 0, column 8, byte 8: malformed escaped surrogate pair",
            ),
            (
                "[\"\t\"]",
                "line 0, column 2, byte 2: U+0009 must be escaped in quoted string",
            ),
            (
                "[]]",
                "line 0, column 2, byte 2: trailing garbage at end of input",
            ),
            (
                "[] 5",
                "line 0, column 4, byte 4: trailing garbage at end of input",
            ),
            (
                "[1e5000]",
                "line 0, column 7, byte 7: number outside valid range",
            ),
            (
                "[--1]",
                "line 0, column 4, byte 4: '-' must be followed by digit",
            ),
            ("[1-2]", "line 0, column 4, byte 4: syntax error in number"),
            (
                "{\n \"a\":1,\n x}",
                "line 2, column 2, byte 12: invalid keyword 'x'",
            ),
            (
                "{\"a\":1,}",
                "line 0, column 7, byte 7: syntax error parsing object expecting string",
            ),
        ] {
            assert_eq!(err(text), want, "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_a_thousand() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(&deep(1000)).is_ok());
        assert_eq!(
            err(&deep(1001)),
            "line 0, column 1000, byte 1000: input exceeds maximum nesting depth 1000"
        );
    }

    #[test]
    fn strings_round_trip_with_escapes() {
        let v = parse("[\"a\\u0001\\n\\\"\\\\\\/\u{e9}\\ud834\\udd1e\u{7f}\"]").unwrap();
        assert_eq!(
            to_string(&v),
            "[\"a\\u0001\\n\\\"\\\\/\u{e9}\u{1d11e}\u{7f}\"]"
        );
    }
}
