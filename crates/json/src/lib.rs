//! JSON as Open vSwitch reads and writes it: RFC 8259 values with Open vSwitch's error texts,
//! positions, number rules and limits. The tree is `serde_json::Value`.
//!
//! [`parse`] reads a text that is there as a whole. On a connection values come back to back and in
//! pieces: [`parse_prefix`] reads one that is complete in the buffer, in one pass, and a
//! [`Scanner`] collects one that is not: it follows the grammar byte by byte and keeps the *text*,
//! not a tree, because a tree takes up to fifty times the memory of its text. Whoever has the text
//! makes the tree with a limit ([`parse_limited`]), or makes many small ones in turn ([`RawArray`]).
//!
//! ```text
//! bytes -> parse_prefix -- complete --------------------> Value
//!               | incomplete
//!               v
//!            Scanner -- complete --> text -> parse_limited -> Value
//!               |                         -> RawArray -> Value, Value, ... one at a time
//!               +-- wrong --> parse_prefix once more, for the error's text and place
//! ```
//!
//! What differs from `serde_json`'s own parser, because users and peers can see it:
//! - error texts carry "line L, column C, byte B" and name the fault as Open vSwitch names it;
//! - a number that is integral and fits 64 bits is an integer however it was written ("1e3",
//!   "2.0"); every other number is a real, printed with 15 significant digits;
//! - the last of two members with one name wins; nesting ends at 1000 levels; NUL is refused;
//! - strings that are not UTF-8 are no syntax errors: see [`invalid_utf8`];
//! - a top-level value is an object or an array.
//!
//! Invariants: there is one lexer and one set of error texts, in `lex` and `parse`. A scanner never
//! holds more than its owner's limit, and one that failed stays failed.

#![forbid(unsafe_code)]

mod lex;
mod parse;
mod print;
mod raw;
mod scan;
mod utf8;
mod walk;

pub use parse::{
    MAX_DEPTH, ParseError, Prefix, parse, parse_bytes, parse_limited, parse_prefix,
    parse_string_token, weight,
};
pub use print::{
    format_real, to_string, to_string_pretty, write, write_integer, write_real, write_str,
};
pub use raw::{RawArray, RawValue};
pub use scan::{Scan, Scanner};
pub use utf8::{describe as describe_invalid_utf8, invalid_utf8};
pub use walk::{Stop, WalkError, Walker, walk};

pub use serde_json::{Map, Number, Value};

#[cfg(test)]
mod tests;
