//! An array that stays text: its elements become trees one at a time.
//!
//! A transaction of a hundred thousand operations is some megabytes of text and some hundred of
//! tree; it runs operation by operation, so one operation's tree is all that is needed.

use std::ops::Range;

use serde_json::Value;

use crate::parse::{ParseError, parse_limited};
use crate::walk::{Stop, Walker};

/// Part of a text that is known to be an array (a [`crate::Scanner`] went over it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawArray {
    text: Vec<u8>,
    /// From bracket to bracket.
    array: Range<usize>,
    len: usize,
}

impl RawArray {
    /// The array at `array` in `text`; the text comes back if there is no array, or one of more
    /// than `max_len` elements.
    pub fn new(text: Vec<u8>, array: Range<usize>, max_len: usize) -> Result<RawArray, Vec<u8>> {
        let mut len = 0;
        let mut w = Walker::at(text.get(array.clone()).unwrap_or_default());
        let walked = w.elements::<()>(|w| {
            len += 1;
            if len > max_len {
                return Err(Stop::Found(()));
            }
            w.skip()
        });
        match walked {
            Ok(()) => Ok(RawArray { text, array, len }),
            Err(_) => Err(text),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are held.
    pub fn size(&self) -> usize {
        self.text.capacity()
    }

    /// The whole array's text.
    pub fn text(&self) -> &[u8] {
        &self.text[self.array.clone()]
    }

    /// The texts of the elements in turn.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        // The first byte is the opening bracket.
        let mut rest = &self.text[self.array.start + 1..self.array.end];
        (0..self.len).map_while(move |_| {
            let start = rest.iter().position(|c| !c.is_ascii_whitespace())?;
            rest = &rest[start..];
            let mut w = Walker::at(rest);
            w.skip::<()>().ok()?;
            let element = &rest[..w.position()];
            rest = &rest[w.position()..];
            if let Some(comma) = rest.iter().position(|&c| c == b',') {
                rest = &rest[comma + 1..];
            }
            Some(element)
        })
    }

    /// All of it as one tree, if that takes no more than `max_weight`.
    pub fn to_value(&self, max_weight: usize) -> Result<Value, ParseError> {
        parse_limited(&self.text[self.array.clone()], max_weight)
    }

    /// One element's text as a tree. Scalars are elements too, unlike documents.
    pub fn element(text: &[u8], max_weight: usize) -> Result<Value, ParseError> {
        match text.first() {
            Some(b'{' | b'[') => parse_limited(text, max_weight),
            _ => {
                let mut w = Walker::at(text);
                w.value::<()>().map_err(|_| ParseError {
                    line: 0,
                    column: 0,
                    byte: 0,
                    message: "syntax error expecting value".into(),
                })
            }
        }
    }
}

/// Part of a text that is an array or an object, to be walked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawValue {
    text: Vec<u8>,
    value: Range<usize>,
}

impl RawValue {
    /// The array or object at `value` in `text`.
    pub fn new(text: Vec<u8>, value: Range<usize>) -> RawValue {
        RawValue { text, value }
    }

    pub fn walker(&self) -> Walker<'_> {
        Walker::at(&self.text[self.value.clone()])
    }

    /// All of it as one tree.
    pub fn to_value(&self) -> Result<Value, ParseError> {
        parse_limited(&self.text[self.value.clone()], usize::MAX)
    }
}
