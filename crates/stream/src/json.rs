//! JSON as Open vSwitch reads and writes it: RFC 8259 values with Open vSwitch's error texts, positions and number rules.
//!
//! [`Parser`] is a resumable push parser: bytes come in as the network delivers them, values come
//! out back to back with no delimiter between them (RFC 7047 section 4). It builds
//! `serde_json::Value`s in one pass. A top-level value is an object or an array, as JSON-RPC needs.
//!
//! What differs from `serde_json`'s own parser, because users and peers can see it:
//! - error texts carry "line L, column C, byte B" and name the fault as Open vSwitch names it;
//! - a number that is integral and fits 64 bits is an integer however it was spelt ("1e3", "2.0"),
//!   and every other number is a real printed with 15 significant digits;
//! - the last of two members with one name wins, nesting stops at 1000, NUL is refused.
//!
//! Invariant: a parser never holds more than the message limit of its owner, and a parser that
//! failed stays failed.

mod lex;
mod parse;
mod write;

pub use parse::{MAX_NESTING, Parser, Status, parse};
pub use write::{format_real, to_string, to_string_pretty, write_string};

pub use serde_json::{Map, Number, Value};

#[cfg(test)]
mod tests;
