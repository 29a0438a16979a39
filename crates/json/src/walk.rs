//! A walk through a text that builds trees only of the parts that are asked for.

use serde_json::Value;

use crate::parse::{Fail, ParseError, Parser, locate};

/// Why a walk over a text ended early: the text is bad, or what was found in it.
pub enum WalkError<E> {
    Json(ParseError),
    Found(E),
}

/// Ends a walk: the text is bad, or the walker's owner found something.
pub enum Stop<E> {
    Json(usize, String),
    Found(E),
}

impl<E> From<Fail> for Stop<E> {
    fn from(e: Fail) -> Self {
        Self::Json(e.at, e.text)
    }
}

/// Goes through the members of the object that fills the text, without building a tree of it all.
/// `f` must consume each member's value by `Walker::value`, `members`, `elements` or `skip`.
pub fn walk<E>(
    text: &[u8],
    f: impl FnMut(String, &mut Walker<'_>) -> Result<(), Stop<E>>,
) -> Result<(), WalkError<E>> {
    let mut w = Walker::at(text);
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
        Err(Stop::Json(at, message)) => Err(WalkError::Json(locate(
            text,
            Fail {
                at,
                text: message,
                end: false,
            },
        ))),
        Err(Stop::Found(e)) => Err(WalkError::Found(e)),
    }
}

/// A place in a text.
pub struct Walker<'a> {
    p: Parser<'a>,
}

impl<'a> Walker<'a> {
    /// A walk that begins at a value.
    pub fn at(text: &'a [u8]) -> Self {
        Self {
            p: Parser::new(text),
        }
    }

    /// The value here as a tree.
    pub fn value<E>(&mut self) -> Result<Value, Stop<E>> {
        Ok(self.p.value("syntax error expecting value")?)
    }

    /// True if the value here is an object.
    pub fn at_object(&self) -> bool {
        self.p.peek() == Some(b'{')
    }

    /// True if the value here is an array.
    pub fn at_array(&self) -> bool {
        self.p.peek() == Some(b'[')
    }

    /// Where the walk is.
    pub fn position(&self) -> usize {
        self.p.pos
    }

    /// Passes over the value here; what is inside an array or object is not checked.
    pub fn skip<E>(&mut self) -> Result<(), Stop<E>> {
        match self.p.peek() {
            Some(b'{' | b'[') => {}
            Some(b'"') => return Ok(self.p.skip_string()?),
            _ => {
                self.value()?;
                return Ok(());
            }
        }
        let mut depth = 0usize;
        loop {
            let rest = &self.p.text[self.p.pos..];
            let special = |c: &u8| matches!(c, b'{' | b'[' | b'}' | b']' | b'"');
            let Some(n) = rest.iter().position(special) else {
                self.p.pos = self.p.text.len();
                return Ok(self.p.end("unexpected end of input")?);
            };
            self.p.pos += n;
            match rest[n] {
                b'{' | b'[' => depth += 1,
                b'"' => {
                    self.p.skip_string()?;
                    continue;
                }
                _ => depth -= 1,
            }
            self.p.pos += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The members of the object here.
    pub fn members<E>(
        &mut self,
        mut f: impl FnMut(String, &mut Self) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        if !self.at_object() {
            return Ok(self.p.fail("object expected")?);
        }
        self.p.enter()?;
        if self.p.peek() == Some(b'}') {
            self.p.leave();
            return Ok(());
        }
        loop {
            let name = self.p.name()?;
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

    /// The elements of the array here.
    pub fn elements<E>(
        &mut self,
        mut f: impl FnMut(&mut Self) -> Result<(), Stop<E>>,
    ) -> Result<(), Stop<E>> {
        if !self.at_array() {
            return Ok(self.p.fail("array expected")?);
        }
        self.p.enter()?;
        if self.p.peek() == Some(b']') {
            self.p.leave();
            return Ok(());
        }
        while self.element(&mut f)? {}
        Ok(())
    }

    /// One element and what follows it; false after the last one.
    fn element<E>(
        &mut self,
        f: &mut impl FnMut(&mut Self) -> Result<(), Stop<E>>,
    ) -> Result<bool, Stop<E>> {
        f(self)?;
        self.p.skip_space();
        match self.p.peek() {
            Some(b',') => {
                self.p.pos += 1;
                self.p.skip_space();
                Ok(true)
            }
            Some(b']') => {
                self.p.leave();
                Ok(false)
            }
            _ => Ok(self.p.wrong("syntax error expecting ']' or ','")?),
        }
    }
}
