//! The parser of a text in memory: recursive descent, positions counted only when something is
//! wrong.
//!
//! It works on text that is whole, where the end of the text is an error, and on the beginning of a
//! stream, where it means that more has to come; and it counts what the tree takes, so that a
//! peer cannot have it take more than its reader wants to give.

use serde_json::{Map, Value};

use crate::lex;

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

/// What [`parse_prefix`] found at the beginning of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Prefix {
    /// A value, which ends before this byte.
    Value(Value, usize),
    /// The beginning of a value, or nothing but white space.
    Incomplete,
    Failed(ParseError),
}

/// Parses one value that fills the whole text.
pub fn parse(text: &str) -> Result<Value, ParseError> {
    parse_bytes(text.as_bytes())
}

/// Parses one array or object that fills the whole text, as documents on the wire and in files are.
/// A scalar at the top is an error, as it is to Open vSwitch.
pub fn parse_bytes(text: &[u8]) -> Result<Value, ParseError> {
    parse_limited(text, usize::MAX)
}

/// The same, for a tree that takes at most about `max_weight` bytes.
pub fn parse_limited(text: &[u8], max_weight: usize) -> Result<Value, ParseError> {
    let mut p = Parser::new(text);
    p.room = max_weight;
    let result = p.document().and_then(|v| {
        p.skip_space();
        match p.peek() {
            None => Ok(v),
            Some(_) => p.wrong("trailing garbage at end of input"),
        }
    });
    result.map_err(|e| locate(text, e))
}

/// Parses the array or object at the beginning of the text.
pub fn parse_prefix(text: &[u8]) -> Prefix {
    let mut p = Parser::new(text);
    p.partial = true;
    match p.document() {
        Ok(v) => Prefix::Value(v, p.pos),
        Err(Fail { end: true, .. }) => Prefix::Incomplete,
        Err(e) => Prefix::Failed(locate(text, e)),
    }
}

/// What is wrong at the beginning of the text, if something is.
pub(crate) fn check_prefix(text: &[u8]) -> Option<ParseError> {
    let mut p = Parser::new(text);
    p.partial = true;
    p.check = true;
    match p.document() {
        Err(e) if !e.end => Some(locate(text, e)),
        _ => None,
    }
}

/// Parses the string of a quoted token such as `"a\tb"`, quotes included.
pub fn parse_string_token(token: &str) -> Result<String, String> {
    Parser::new(token.as_bytes()).string().map_err(|e| e.text)
}

/// What a tree takes, in bytes, by the measure of [`parse_limited`].
pub fn weight(v: &Value) -> usize {
    match v {
        Value::Array(items) => VALUE + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) if !members.is_empty() => {
            let all = members.iter().map(|(k, v)| MEMBER + k.len() + weight(v));
            VALUE + OBJECT + all.sum::<usize>()
        }
        Value::String(s) => VALUE + TEXT + s.len(),
        _ => VALUE,
    }
}

/// A value in an array that grows by doubling.
const VALUE: usize = 2 * size_of::<Value>();
/// What the allocator adds to a string.
const TEXT: usize = 32;
/// The first node of an object's tree: room for 11 members.
const OBJECT: usize = 11 * (size_of::<Value>() + size_of::<String>()) + 24;
/// A member in half-filled nodes, and its name's allocation.
const MEMBER: usize = 2 * (size_of::<Value>() + size_of::<String>()) + TEXT - VALUE;

/// Why parsing ended early: where, and whether the text just ended.
pub(crate) struct Fail {
    pub at: usize,
    pub text: String,
    pub end: bool,
}

pub(crate) fn locate(text: &[u8], e: Fail) -> ParseError {
    let before = &text[..e.at.min(text.len())];
    let line = memchr::memchr_iter(b'\n', before).count();
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    ParseError {
        line,
        column,
        byte: before.len(),
        message: e.text,
    }
}

pub(crate) struct Parser<'a> {
    pub text: &'a [u8],
    pub pos: usize,
    depth: usize,
    /// More may follow what is here.
    partial: bool,
    /// Values are looked at and dropped.
    check: bool,
    /// What the tree may still take.
    room: usize,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            pos: 0,
            depth: 0,
            partial: false,
            check: false,
            room: usize::MAX,
        }
    }

    fn document(&mut self) -> Result<Value, Fail> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') => self.value("syntax error at beginning of input"),
            None if self.text.is_empty() => self.end("empty input stream"),
            None => self.end("unexpected end of input"),
            Some(_) => self.wrong("syntax error at beginning of input"),
        }
    }

    pub fn fail<T>(&self, text: impl Into<String>) -> Result<T, Fail> {
        Err(Fail {
            at: self.pos,
            text: text.into(),
            end: false,
        })
    }

    /// The text is over, which is wrong if nothing follows.
    pub fn end<T>(&self, text: &str) -> Result<T, Fail> {
        Err(Fail {
            at: self.pos,
            text: text.into(),
            end: true,
        })
    }

    /// The next token is not what the grammar wants. A token that is itself malformed is reported
    /// as that; the position of a scalar is its end.
    pub fn wrong<T>(&mut self, message: &str) -> Result<T, Fail> {
        match self.peek() {
            None => self.end("unexpected end of input"),
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => self.fail(message),
            Some(c) => {
                self.scalar()?;
                if c == b'"' {
                    self.pos -= 1;
                }
                self.fail(message)
            }
        }
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    pub fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.pos += 1;
        }
    }

    fn spend(&mut self, weight: usize) -> Result<(), Fail> {
        match self.room.checked_sub(weight) {
            Some(room) => {
                self.room = room;
                Ok(())
            }
            None => self.fail("input takes too much memory"),
        }
    }

    pub fn value(&mut self, context: &str) -> Result<Value, Fail> {
        self.spend(VALUE)?;
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'}' | b']' | b',' | b':') => self.fail(context),
            None => self.end("unexpected end of input"),
            Some(_) => self.scalar(),
        }
    }

    pub fn enter(&mut self) -> Result<(), Fail> {
        if self.depth >= MAX_DEPTH {
            return self.fail(format!("input exceeds maximum nesting depth {MAX_DEPTH}"));
        }
        self.depth += 1;
        self.pos += 1;
        self.skip_space();
        Ok(())
    }

    pub fn leave(&mut self) {
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
            let v = self.value("syntax error expecting value")?;
            if !self.check {
                out.push(v);
            }
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
        self.spend(OBJECT)?;
        loop {
            let name = self.name()?;
            self.spend(MEMBER + name.len())?;
            let v = self.value("syntax error expecting value")?;
            if !self.check {
                out.insert(name, v);
            }
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

    /// The name of a member and the colon.
    pub fn name(&mut self) -> Result<String, Fail> {
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
        Ok(name)
    }

    fn scalar(&mut self) -> Result<Value, Fail> {
        let start = self.pos;
        let (rest, c) = (&self.text[start..], self.text[start]);
        let (length, read): (_, fn(&[u8]) -> Result<Value, String>) = match c {
            b'"' => {
                let s = self.string()?;
                self.spend(TEXT + s.len())?;
                return Ok(Value::String(s));
            }
            b'-' | b'0'..=b'9' => {
                let n = rest.iter().take_while(|&&c| lex::in_number(c)).count();
                (n, lex::number)
            }
            b'a'..=b'z' => {
                let n = rest.iter().take_while(|c| c.is_ascii_alphabetic()).count();
                (n, lex::keyword)
            }
            c => return self.fail(lex::bad_character(c)),
        };
        self.pos += length;
        if self.partial && self.pos == self.text.len() {
            return self.end("unexpected end of input");
        }
        read(&rest[..length]).or_else(|text| self.fail(text))
    }

    /// Passes over a string without looking into it.
    pub fn skip_string(&mut self) -> Result<(), Fail> {
        loop {
            self.pos += 1;
            let rest = self.text.get(self.pos..).unwrap_or_default();
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(i) if rest[i] == b'"' => {
                    self.pos += i + 1;
                    return Ok(());
                }
                Some(i) => self.pos += i + 1,
                None => {
                    self.pos = self.text.len();
                    return self.end("unexpected end of input in quoted string");
                }
            }
        }
    }

    pub fn string(&mut self) -> Result<String, Fail> {
        self.pos += 1;
        let start = self.pos;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.pos..).unwrap_or_default();
            let special = |&b: &u8| b == b'"' || b == b'\\' || b < 0x20;
            let Some(n) = rest.iter().position(special) else {
                self.pos = self.text.len();
                return self.end("unexpected end of input in quoted string");
            };
            self.pos += n;
            match rest[n] {
                b'"' => break,
                b'\\' => {
                    // Whatever follows is judged when the string is complete.
                    self.pos += 2;
                    escaped = true;
                }
                c => return self.fail(lex::bad_in_text(c)),
            }
        }
        let raw = &self.text[start..self.pos];
        let text = if self.check {
            let checked = if escaped {
                lex::check_text(raw)
            } else {
                Ok(())
            };
            checked.map(|()| String::new())
        } else if raw.len() > self.room {
            return self.fail("input takes too much memory");
        } else {
            lex::text(raw)
        };
        let text = text.or_else(|e| self.fail(e))?;
        self.pos += 1;
        Ok(text)
    }
}
