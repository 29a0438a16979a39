//! The log: a file of records, each a line of header and the JSON that it announces.
//!
//! ```text
//! OVSDB JSON <length> <SHA-1 of the body, 40 hex digits>\n
//! <body: one line of JSON, its newline included in length and hash>
//! ```
//!
//! The first record of a standalone database is its schema, each later one a transaction
//! (`records`). `CLUSTER` in place of `JSON` marks a clustered database's file. A reader stops at
//! the first record that is not intact; a writer then cuts the file there, so that a crash in the
//! middle of a write costs that write alone. `file` is the implementation of `Storage` on disk, `disk`
//! what it needs of a file system, `lockfile` what keeps two writers apart.

pub mod disk;
pub mod file;
pub mod load;
pub mod lockfile;
pub mod records;
pub mod schedule;
mod stream;

use std::sync::OnceLock;

use sha1::{Digest, Sha1};

use crate::Error;

pub const MAGIC_JSON: &str = "JSON";
pub const MAGIC_CLUSTER: &str = "CLUSTER";

/// Where a database keeps its records.
pub trait Storage {
    /// Appends a whole framed record.
    fn append(&mut self, record: &[u8]) -> Result<(), Error>;
    /// Returns when everything appended survives a crash of the machine.
    fn sync(&mut self) -> Result<(), Error>;
    /// Takes back the record that was appended last.
    fn withdraw(&mut self);
    /// True if something that was appended may be lost for good, and all of it has to be written
    /// anew before anything can be called durable.
    fn damaged(&self) -> bool;
    /// Bytes in the log.
    fn size(&self) -> u64;
}

/// Takes what the program's own log should say: module of Open vSwitch's log, text.
pub type Report = fn(&'static str, &str);

static REPORT: OnceLock<Report> = OnceLock::new();

/// Sets who is told of failures of the storage that nobody else may hear of. Only the first call
/// counts.
pub fn report_to(report: Report) {
    let _ = REPORT.set(report);
}

pub(crate) fn report(module: &'static str, text: &str) {
    if let Some(report) = REPORT.get() {
        report(module, text);
    }
}

/// Keeps nothing: databases that live in memory only.
pub struct NoStorage;

impl Storage for NoStorage {
    fn append(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
    fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn withdraw(&mut self) {}
    fn damaged(&self) -> bool {
        false
    }
    fn size(&self) -> u64 {
        0
    }
}

/// A record from its body, which must end in a newline.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let header = header(body.len() as u64, &sha1_hex(body));
    let mut out = Vec::with_capacity(header.len() + body.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(body);
    out
}

/// The header line of a record in a standalone database.
pub(crate) fn header(len: u64, sha1: &str) -> String {
    format!("OVSDB {MAGIC_JSON} {len} {sha1}\n")
}

pub fn sha1_hex(data: &[u8]) -> String {
    hex(&Sha1::digest(data))
}

pub(crate) fn hex(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |d: u8| char::from(DIGITS[usize::from(d)]);
    digest
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

/// What a header line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub magic: &'a str,
    pub len: u64,
    pub sha1: &'a str,
    /// What an error about the line quotes.
    pub shown: &'a [u8],
}

/// Takes a header line apart, its newline included. As the error, what an error message quotes of
/// it: all before the newline or NUL, and once the magic is reached, nothing after that.
pub(crate) fn parse_header(line: &[u8]) -> Result<Header<'_>, &[u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    let Some(rest) = text.strip_prefix(b"OVSDB ") else {
        return Err(text);
    };
    let magic = rest.split(|&b| b == b' ').next().unwrap_or_default();
    let shown = &text[..6 + magic.len()];
    let parse = || {
        let magic = std::str::from_utf8(magic).ok()?;
        let rest = std::str::from_utf8(rest).ok()?.get(magic.len() + 1..)?;
        let (len, sha1) = number(rest)?;
        let sha1 = sha1.strip_prefix(' ')?;
        let hex = sha1.len() == 40 && sha1.bytes().all(|c| c.is_ascii_hexdigit());
        let whole = line.len() == text.len() + 1;
        (hex && whole && len > 0).then_some(Header {
            magic,
            len,
            sha1,
            shown,
        })
    };
    parse().ok_or(shown)
}

/// A number as C's strtoull takes it, space and sign before it included, and what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\x0b', '\x0c', '\r']);
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let value: u64 = digits[..end].parse().ok()?;
    let value = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    Some((value, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_header_line_and_a_body() {
        let r = frame(b"{x\n");
        let end = r.iter().position(|&b| b == b'\n').unwrap() + 1;
        assert_eq!(&r[end..], b"{x\n");
        let h = parse_header(&r[..end]).unwrap();
        assert_eq!(
            (h.magic, h.len, h.sha1),
            ("JSON", 3, sha1_hex(b"{x\n").as_str())
        );
    }

    #[test]
    fn header_lines_are_taken_as_open_vswitch_takes_them() {
        const SHA1: &str = "5f36b2ea290645ee34d943220a14b54ee5ea5be5";
        for (line, len) in [
            ("OVSDB JSON 3 HASH\n", 3),
            ("OVSDB JSON  3 HASH\n", 3),
            ("OVSDB JSON +03 HASH\n", 3),
            ("OVSDB JSON -5 HASH\n", u64::MAX - 4),
        ] {
            let line = line.replace("HASH", SHA1);
            assert_eq!(parse_header(line.as_bytes()).unwrap().len, len, "{line}");
        }
        for (line, shown) in [
            ("garbage line\n", "garbage line"),
            ("OVSDB JS", "OVSDB JS"),
            ("OVSDB  JSON 3 HASH\n", "OVSDB "),
            ("OVSDB JSON\t3 HASH\n", "OVSDB JSON\t3"),
            ("OVSDB JSON 3 HASH", "OVSDB JSON"),
            ("OVSDB JSON 3  HASH\n", "OVSDB JSON"),
            ("OVSDB JSON 0 HASH\n", "OVSDB JSON"),
            ("OVSDB JSON 0x3 HASH\n", "OVSDB JSON"),
            ("OVSDB JSON 99999999999999999999 HASH\n", "OVSDB JSON"),
            ("OVSDB JSON 3 HASHx\n", "OVSDB JSON"),
            ("OVSDB JSON 3 HASH\r\n", "OVSDB JSON"),
            ("\0\0\0", ""),
        ] {
            let line = line.replace("HASH", SHA1);
            let quoted = parse_header(line.as_bytes()).unwrap_err();
            assert_eq!(quoted, shown.as_bytes(), "{line}");
        }
    }
}
