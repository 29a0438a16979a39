//! The push parser: a byte automaton over a stack of open arrays and objects.

use super::lex;
use serde_json::{Map, Value};

/// Arrays and objects may be nested this deep.
pub const MAX_NESTING: usize = 1000;

/// What a call to [`Parser::feed`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// The value is incomplete: everything was consumed.
    More,
    /// A value is complete: take it with [`Parser::take`] and feed the rest of the bytes.
    Done,
    /// The input is not JSON: the text says why and where.
    Failed(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lexer {
    Start,
    Number,
    Keyword,
    /// Inside quotes; true after a backslash.
    Text(bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    /// Nothing seen.
    TopLevel,
    /// After '['.
    FirstElement,
    /// After ',' in an array or ':' in an object.
    Value,
    /// After an element.
    CommaOrBracket,
    /// After '{'.
    FirstName,
    /// After ',' in an object.
    Name,
    Colon,
    CommaOrBrace,
    End,
}

enum Frame {
    Array(Vec<Value>),
    Object(Map<String, Value>, String),
}

enum Token {
    Punct(u8),
    Text(String),
    Scalar(Value),
}

/// Resumable JSON parser: see the module documentation.
pub struct Parser {
    lexer: Lexer,
    expect: Expect,
    buffer: Vec<u8>,
    stack: Vec<Frame>,
    done: Option<Value>,
    failed: Option<String>,
    line: usize,
    column: usize,
    byte: usize,
    max_size: usize,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new(usize::MAX)
    }
}

impl Parser {
    /// A parser that refuses a single value of more than `max_size` bytes.
    pub fn new(max_size: usize) -> Parser {
        Parser {
            lexer: Lexer::Start,
            expect: Expect::TopLevel,
            buffer: Vec::new(),
            stack: Vec::new(),
            done: None,
            failed: None,
            line: 0,
            column: 0,
            byte: 0,
            max_size,
        }
    }

    /// True if not a single byte of a value, white space aside, has been seen.
    pub fn is_idle(&self) -> bool {
        self.expect == Expect::TopLevel && self.lexer == Lexer::Start && self.failed.is_none()
    }

    /// Consumes bytes up to the end of one value; returns how many.
    pub fn feed(&mut self, input: &[u8]) -> (usize, Status) {
        let mut used = 0;
        while used < input.len() && self.failed.is_none() && self.done.is_none() {
            if self.byte >= self.max_size {
                self.fail(format!("input exceeds maximum size {}", self.max_size));
                break;
            }
            if self.lexer == Lexer::Text(false) {
                used += self.plain_text(&input[used..]);
                if used == input.len() {
                    break;
                }
            }
            let c = input[used];
            // A byte that ends a number or a keyword is looked at again on its own.
            if self.step(c) {
                used += 1;
                self.byte += 1;
                if c == b'\n' {
                    self.line += 1;
                    self.column = 0;
                } else {
                    self.column += 1;
                }
            }
        }
        (used, self.status())
    }

    /// Says that no more input follows; completes or fails what is pending.
    pub fn finish(&mut self) -> Status {
        if self.failed.is_none() && self.done.is_none() {
            match self.lexer {
                Lexer::Start => {}
                Lexer::Number | Lexer::Keyword => self.end_scalar(),
                Lexer::Text(_) => self.fail("unexpected end of input in quoted string".into()),
            }
        }
        if self.failed.is_none() && self.done.is_none() {
            let text = match self.expect {
                Expect::TopLevel => "empty input stream",
                _ => "unexpected end of input",
            };
            self.fail(text.into());
        }
        self.status()
    }

    /// Takes the complete value and makes the parser ready for the next one.
    pub fn take(&mut self) -> Option<Value> {
        let value = self.done.take()?;
        *self = Parser {
            buffer: std::mem::take(&mut self.buffer),
            ..Parser::new(self.max_size)
        };
        Some(value)
    }

    fn status(&self) -> Status {
        match (&self.failed, &self.done) {
            (Some(why), _) => Status::Failed(why.clone()),
            (None, Some(_)) => Status::Done,
            (None, None) => Status::More,
        }
    }

    fn fail(&mut self, why: String) {
        if self.failed.is_none() {
            self.failed = Some(format!(
                "line {}, column {}, byte {}: {why}",
                self.line, self.column, self.byte
            ));
            self.stack.clear();
        }
    }

    /// Copies the run of ordinary characters at the start of `input`; returns its length.
    fn plain_text(&mut self, input: &[u8]) -> usize {
        let room = self.max_size.saturating_sub(self.byte).min(input.len());
        let run = &input[..room];
        let n = run
            .iter()
            .position(|&b| b == b'"' || b == b'\\' || b < 0x20)
            .unwrap_or(run.len());
        self.buffer.extend_from_slice(&run[..n]);
        self.byte += n;
        self.column += n;
        n
    }

    /// Looks at one byte; false if it must be looked at again.
    fn step(&mut self, c: u8) -> bool {
        match self.lexer {
            Lexer::Start => match c {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'a'..=b'z' => {
                    self.buffer.push(c);
                    self.lexer = Lexer::Keyword;
                }
                b'[' | b'{' | b']' | b'}' | b':' | b',' => self.token(Token::Punct(c)),
                b'-' | b'0'..=b'9' => {
                    self.buffer.push(c);
                    self.lexer = Lexer::Number;
                }
                b'"' => self.lexer = Lexer::Text(false),
                0x21..=0x7e => self.fail(format!("invalid character '{}'", char::from(c))),
                _ => self.fail(format!("invalid character U+{c:04x}")),
            },
            Lexer::Keyword if c.is_ascii_alphabetic() => self.buffer.push(c),
            Lexer::Number if matches!(c, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') => {
                self.buffer.push(c);
            }
            Lexer::Keyword | Lexer::Number => {
                self.end_scalar();
                return false;
            }
            Lexer::Text(escaped) => {
                if escaped {
                    self.buffer.push(c);
                    self.lexer = Lexer::Text(false);
                } else if c == b'\\' {
                    self.buffer.push(c);
                    self.lexer = Lexer::Text(true);
                } else if c == b'"' {
                    self.lexer = Lexer::Start;
                    let text = lex::unescape(&self.buffer);
                    self.buffer.clear();
                    match text {
                        Ok(text) => self.token(Token::Text(text)),
                        Err(why) => self.fail(why),
                    }
                } else {
                    self.fail(format!("U+{c:04X} must be escaped in quoted string"));
                }
            }
        }
        // A failure leaves the position where it happened.
        self.failed.is_none()
    }

    fn end_scalar(&mut self) {
        let value = match self.lexer {
            Lexer::Number => lex::number(&self.buffer),
            _ => lex::keyword(&self.buffer),
        };
        self.buffer.clear();
        self.lexer = Lexer::Start;
        match value {
            Ok(value) => self.token(Token::Scalar(value)),
            Err(why) => self.fail(why),
        }
    }

    fn token(&mut self, token: Token) {
        match (self.expect, token) {
            (Expect::TopLevel, Token::Punct(c @ (b'[' | b'{'))) => self.open(c),
            (Expect::TopLevel, _) => self.fail("syntax error at beginning of input".into()),
            (Expect::FirstElement, Token::Punct(b']')) => self.close(),
            (Expect::FirstElement | Expect::Value, Token::Punct(c @ (b'[' | b'{'))) => self.open(c),
            (Expect::FirstElement | Expect::Value, Token::Text(text)) => {
                self.value(Value::String(text))
            }
            (Expect::FirstElement | Expect::Value, Token::Scalar(value)) => self.value(value),
            (Expect::FirstElement | Expect::Value, _) => {
                self.fail("syntax error expecting value".into())
            }
            (Expect::CommaOrBracket, Token::Punct(b',')) => self.expect = Expect::Value,
            (Expect::CommaOrBracket, Token::Punct(b']')) => self.close(),
            (Expect::CommaOrBracket, _) => self.fail("syntax error expecting ']' or ','".into()),
            (Expect::FirstName, Token::Punct(b'}')) => self.close(),
            (Expect::FirstName | Expect::Name, Token::Text(text)) => {
                if let Some(Frame::Object(_, name)) = self.stack.last_mut() {
                    *name = text;
                }
                self.expect = Expect::Colon;
            }
            (Expect::FirstName | Expect::Name, _) => {
                self.fail("syntax error parsing object expecting string".into());
            }
            (Expect::Colon, Token::Punct(b':')) => self.expect = Expect::Value,
            (Expect::Colon, _) => self.fail("syntax error parsing object expecting ':'".into()),
            (Expect::CommaOrBrace, Token::Punct(b',')) => self.expect = Expect::Name,
            (Expect::CommaOrBrace, Token::Punct(b'}')) => self.close(),
            (Expect::CommaOrBrace, _) => self.fail("syntax error expecting '}' or ','".into()),
            (Expect::End, _) => self.fail("trailing garbage at end of input".into()),
        }
    }

    fn open(&mut self, c: u8) {
        if self.stack.len() >= MAX_NESTING {
            self.fail(format!("input exceeds maximum nesting depth {MAX_NESTING}"));
        } else if c == b'[' {
            self.stack.push(Frame::Array(Vec::new()));
            self.expect = Expect::FirstElement;
        } else {
            self.stack.push(Frame::Object(Map::new(), String::new()));
            self.expect = Expect::FirstName;
        }
    }

    fn close(&mut self) {
        match self.stack.pop() {
            Some(Frame::Array(items)) => self.value(Value::Array(items)),
            Some(Frame::Object(members, _)) => self.value(Value::Object(members)),
            None => self.fail("syntax error at beginning of input".into()),
        }
    }

    fn value(&mut self, value: Value) {
        self.expect = match self.stack.last_mut() {
            Some(Frame::Array(items)) => {
                items.push(value);
                Expect::CommaOrBracket
            }
            Some(Frame::Object(members, name)) => {
                members.insert(std::mem::take(name), value);
                Expect::CommaOrBrace
            }
            None => {
                self.done = Some(value);
                Expect::End
            }
        };
    }
}

/// Parses a whole text that must hold exactly one array or object.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::default();
    let (used, status) = parser.feed(text.as_bytes());
    match status {
        Status::Failed(why) => return Err(why),
        Status::More => {
            if let Status::Failed(why) = parser.finish() {
                return Err(why);
            }
        }
        Status::Done => {}
    }
    let value = parser.done.take().unwrap_or_default();
    // Whatever follows the value must be white space; a token there is judged like any other.
    let rest = &text.as_bytes()[used..];
    let (_, status) = parser.feed(rest);
    if let Status::Failed(why) = status {
        return Err(why);
    }
    if parser.lexer != Lexer::Start
        && let Status::Failed(why) = parser.finish()
    {
        return Err(why);
    }
    Ok(value)
}
