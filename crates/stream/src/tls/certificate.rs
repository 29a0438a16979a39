//! The little that must be known of a certificate: issuer, subject, common name; and writing PEM.
//!
//! A certificate is DER: nested type-length-value. `SEQUENCE { tbs SEQUENCE { [0] version,
//! serial, algorithm, issuer, validity, subject, ... } ... }`.

use ferrovs_runtime::vlog::{self, modules};
use rustls::pki_types::CertificateDer;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Splits one type-length-value off the front: type, value, rest.
fn tlv(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let n = usize::from(first & 0x7f);
        if n > 4 || rest.len() < n {
            return None;
        }
        len = rest[..n]
            .iter()
            .fold(0, |len, &b| len << 8 | usize::from(b));
        rest = &rest[n..];
    }
    (rest.len() >= len).then(|| (tag, &rest[..len], &rest[len..]))
}

/// The issuer's and the subject's names, as DER.
fn names(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (SEQUENCE, certificate, _) = tlv(der)? else {
        return None;
    };
    let (SEQUENCE, mut rest, _) = tlv(certificate)? else {
        return None;
    };
    if let (VERSION, _, after) = tlv(rest)? {
        rest = after;
    }
    for _ in 0..2 {
        rest = tlv(rest)?.2;
    }
    let (_, issuer, after) = tlv(rest)?;
    let (_, _, after) = tlv(after)?;
    let (_, subject, _) = tlv(after)?;
    Some((issuer, subject))
}

/// The subject's common name.
pub(super) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let (_, mut subject) = names(der)?;
    while let Some((SET, mut set, after)) = tlv(subject) {
        subject = after;
        while let Some((SEQUENCE, pair, next)) = tlv(set) {
            set = next;
            let (OID, oid, rest) = tlv(pair)? else {
                continue;
            };
            if oid == COMMON_NAME {
                return Some(String::from_utf8_lossy(tlv(rest)?.1).into_owned());
            }
        }
    }
    None
}

/// Keeps the authority at the end of a peer's chain in a new file.
pub(super) fn bootstrap(path: &Path, chain: &[CertificateDer<'_>]) {
    let fail = |why: &str| {
        vlog::err!(modules::STREAM_SSL, "could not bootstrap CA cert: {why}");
    };
    let Some(last) = chain.last() else {
        return fail("no certificate presented by peer");
    };
    if chain.len() < 2 || names(last).is_none_or(|(issuer, subject)| issuer != subject) {
        return fail("peer did not present its CA certificate (self-signed) with its own");
    }
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(pem(last).as_bytes()));
    match written {
        Ok(()) => vlog::info!(
            modules::STREAM_SSL,
            "successfully bootstrapped CA cert to {}",
            path.display()
        ),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => vlog::info!(
            modules::STREAM_SSL,
            "reading CA cert {} created by another process",
            path.display()
        ),
        Err(e) => fail(&format!(
            "writing {} failed: {}",
            path.display(),
            crate::error_text(&e)
        )),
    }
}

/// A certificate as a PEM block.
pub(super) fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for chunk in der.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| {
            w << 8 | u32::from(chunk.get(i).copied().unwrap_or(0))
        });
        for i in 0..4 {
            base64.push(match i <= chunk.len() {
                true => char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]),
                false => '=',
            });
        }
    }
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
