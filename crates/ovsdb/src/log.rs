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
//! middle of a write costs that write alone. `file` is the implementation of `Storage` on disk.

pub mod file;
pub mod load;
pub mod records;

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
    /// Bytes in the log.
    fn size(&self) -> u64;
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
    fn size(&self) -> u64 {
        0
    }
}

/// A record from its body, which must end in a newline.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    out.extend_from_slice(format!("OVSDB JSON {} {}\n", body.len(), sha1_hex(body)).as_bytes());
    out.extend_from_slice(body);
    out
}

pub fn sha1_hex(data: &[u8]) -> String {
    let digest = Sha1::digest(data);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// What a header line says.
pub(crate) struct Header<'a> {
    pub magic: &'a str,
    pub len: u64,
    pub sha1: &'a str,
}

pub(crate) fn parse_header(line: &str) -> Option<Header<'_>> {
    let mut parts = line.strip_prefix("OVSDB ")?.splitn(3, ' ');
    let magic = parts.next()?;
    let len: u64 = parts.next()?.parse().ok()?;
    let sha1 = parts.next()?;
    let hex = sha1.len() == 40 && sha1.bytes().all(|c| c.is_ascii_hexdigit());
    (hex && len > 0).then_some(Header { magic, len, sha1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_header_line_and_a_body() {
        let r = frame(b"{x\n");
        let text = String::from_utf8(r).unwrap();
        let (header, body) = text.split_once('\n').unwrap();
        assert_eq!(body, "{x\n");
        let h = parse_header(header).unwrap();
        assert_eq!(
            (h.magic, h.len, h.sha1),
            ("JSON", 3, sha1_hex(b"{x\n").as_str())
        );
        assert!(parse_header("garbage").is_none());
        assert!(parse_header("OVSDB JSON 0 aa").is_none());
    }
}
