//! The push scanner: collects the text of one value that comes in pieces, and notices at once when
//! it cannot become one.
//!
//! It knows the grammar as a state and one bit for each open bracket; tokens are looked at when
//! they are complete. It makes no tree and no error texts: when something is wrong, the parser goes
//! over the text once more and says what.

use crate::lex;
use crate::parse::{MAX_DEPTH, ParseError, check_prefix};

/// What a call to [`Scanner::feed`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// The value is incomplete: everything was consumed.
    More,
    /// A value is complete: its text is taken with [`Scanner::take`].
    Done,
    /// The text is no JSON, or too long.
    Failed(ParseError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    None,
    Number,
    Keyword,
    /// Between quotes; whether an escape was seen.
    Text(bool),
    /// Right after a backslash.
    Escape,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    TopLevel,
    /// After '[': a value or the end.
    FirstElement,
    Value,
    CommaOrBracket,
    /// After '{': a name or the end.
    FirstName,
    Name,
    Colon,
    CommaOrBrace,
    End,
}

/// A position in a stream.
#[derive(Clone, Copy, Default, Debug)]
struct Place {
    line: usize,
    column: usize,
    byte: usize,
}

/// Collects one value after the other.
#[derive(Debug)]
pub struct Scanner {
    text: Vec<u8>,
    /// White space before the value, which is not kept.
    skipped: Place,
    token: Token,
    /// Where the token begins in `text`.
    start: usize,
    expect: Expect,
    /// True for each open object, false for each array.
    open: Vec<bool>,
    max_size: usize,
    failed: Option<ParseError>,
}

impl Scanner {
    /// A scanner of values whose texts have at most `max_size` bytes.
    pub fn new(max_size: usize) -> Scanner {
        Scanner {
            text: Vec::new(),
            skipped: Place::default(),
            token: Token::None,
            start: 0,
            expect: Expect::TopLevel,
            open: Vec::new(),
            max_size,
            failed: None,
        }
    }

    /// True if nothing of a value, white space aside, has been seen.
    pub fn is_idle(&self) -> bool {
        self.text.is_empty() && self.failed.is_none()
    }

    /// Bytes that are held.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Consumes bytes up to the end of one value; returns how many.
    pub fn feed(&mut self, input: &[u8]) -> (usize, Scan) {
        if let Some(e) = &self.failed {
            return (0, Scan::Failed(e.clone()));
        }
        let blank = if self.is_idle() { self.skip(input) } else { 0 };
        let from = self.text.len();
        self.text.extend_from_slice(&input[blank..]);
        match self.scan(from) {
            None if self.expect == Expect::End => (self.text.len() - from + blank, Scan::Done),
            None if self.text.len() > self.max_size => {
                let message = format!("input exceeds maximum size {}", self.max_size);
                self.fail(self.max_size, Some(message))
            }
            None => (input.len(), Scan::More),
            Some(at) => self.fail(at, None),
        }
    }

    /// The text of the value that is complete; the next value may follow.
    pub fn take(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.text);
        *self = Scanner::new(self.max_size);
        text
    }

    /// Passes over white space before a value.
    fn skip(&mut self, input: &[u8]) -> usize {
        let blank = |c: &u8| matches!(c, b' ' | b'\t' | b'\r' | b'\n');
        let n = input.iter().take_while(|c| blank(c)).count();
        let p = &mut self.skipped;
        for &c in &input[..n] {
            if c == b'\n' {
                (p.line, p.column) = (p.line + 1, 0);
            } else {
                p.column += 1;
            }
        }
        p.byte += n;
        n
    }

    /// Something is wrong before byte `end` of the text: finds out what.
    fn fail(&mut self, end: usize, message: Option<String>) -> (usize, Scan) {
        let found = match message {
            Some(_) => None,
            None => check_prefix(&self.text[..end.min(self.text.len())]),
        };
        let mut e = found.unwrap_or_else(|| ParseError {
            line: 0,
            column: end,
            byte: end,
            message: message.unwrap_or_else(|| "syntax error".into()),
        });
        if e.line == 0 {
            e.column += self.skipped.column;
        }
        e.line += self.skipped.line;
        e.byte += self.skipped.byte;
        self.text = Vec::new();
        self.failed = Some(e.clone());
        (0, Scan::Failed(e))
    }

    /// Goes over the text from `at`. On the end of the value the text ends there; something wrong
    /// is seen before the position that is returned.
    fn scan(&mut self, mut at: usize) -> Option<usize> {
        while let Some(&c) = self.text.get(at) {
            match self.token {
                Token::None => match c {
                    b' ' | b'\t' | b'\r' | b'\n' => {}
                    b'"' => self.begin(Token::Text(false), at + 1),
                    b'-' | b'0'..=b'9' => self.begin(Token::Number, at),
                    b'a'..=b'z' => self.begin(Token::Keyword, at),
                    b'[' | b'{' | b']' | b'}' | b':' | b',' => {
                        if !self.punctuation(c) {
                            return Some(at + 1);
                        }
                        if self.expect == Expect::End {
                            self.text.truncate(at + 1);
                            return None;
                        }
                    }
                    _ => return Some(at + 1),
                },
                Token::Text(escaped) => {
                    let special = |&b: &u8| b == b'"' || b == b'\\' || b < 0x20;
                    at += self.text[at..].iter().position(special)?;
                    match self.text[at] {
                        b'"' => {
                            self.token = Token::None;
                            let raw = &self.text[self.start..at];
                            if (escaped && lex::check_text(raw).is_err()) || !self.string() {
                                return Some(at + 1);
                            }
                        }
                        b'\\' => self.token = Token::Escape,
                        _ => return Some(at + 1),
                    }
                }
                Token::Escape => self.token = Token::Text(true),
                Token::Number if lex::in_number(c) => {}
                Token::Keyword if c.is_ascii_alphabetic() => {}
                Token::Number | Token::Keyword => {
                    let raw = &self.text[self.start..at];
                    let good = match self.token {
                        Token::Number => lex::number(raw).is_ok(),
                        _ => lex::keyword(raw).is_ok(),
                    };
                    self.token = Token::None;
                    if !good || !self.scalar() {
                        return Some(at + 1);
                    }
                    // This byte begins something new.
                    continue;
                }
            }
            at += 1;
        }
        None
    }

    fn begin(&mut self, token: Token, start: usize) {
        self.token = token;
        self.start = start;
    }

    fn punctuation(&mut self, c: u8) -> bool {
        match (self.expect, c) {
            (Expect::TopLevel | Expect::FirstElement | Expect::Value, b'[' | b'{') => {
                if self.open.len() >= MAX_DEPTH {
                    return false;
                }
                self.open.push(c == b'{');
                self.expect = if c == b'{' {
                    Expect::FirstName
                } else {
                    Expect::FirstElement
                };
            }
            (Expect::FirstElement | Expect::CommaOrBracket, b']')
            | (Expect::FirstName | Expect::CommaOrBrace, b'}') => {
                self.open.pop();
                self.after_value();
            }
            (Expect::CommaOrBracket, b',') | (Expect::Colon, b':') => self.expect = Expect::Value,
            (Expect::CommaOrBrace, b',') => self.expect = Expect::Name,
            _ => return false,
        }
        true
    }

    fn string(&mut self) -> bool {
        match self.expect {
            Expect::FirstName | Expect::Name => self.expect = Expect::Colon,
            _ => return self.scalar(),
        }
        true
    }

    fn scalar(&mut self) -> bool {
        let good = matches!(self.expect, Expect::FirstElement | Expect::Value);
        if good {
            self.after_value();
        }
        good
    }

    fn after_value(&mut self) {
        self.expect = match self.open.last() {
            Some(true) => Expect::CommaOrBrace,
            Some(false) => Expect::CommaOrBracket,
            None => Expect::End,
        };
    }
}
