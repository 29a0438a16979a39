//! The little that must be known of a certificate, read from its DER, and writing PEM.
//!
//! ```text
//! SEQUENCE {
//!   tbs SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, key, ... }
//!   algorithm SEQUENCE
//!   signature BIT STRING
//! }
//! ```
//!
//! Verification is webpki's; this is for names in the log, for RBAC's common name, and for the two
//! kinds of certificates that OpenSSL takes and webpki does not (see `verify`). Every function
//! takes any bytes and answers `None` for what is not a certificate.

use rustls::pki_types::CertificateDer;
use sha1::{Digest, Sha1};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// OpenSSL's short names of what stands in distinguished names.
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 46], "dnQualifier"),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
        "emailAddress",
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2],
        "unstructuredName",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
];

/// One type-length-value: its type, its value, all of it, and what follows.
struct Tlv<'a> {
    tag: u8,
    value: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

/// Splits one type-length-value off the front.
fn tlv(der: &[u8]) -> Option<Tlv<'_>> {
    let (&tag, after) = der.split_first()?;
    let (&first, mut after) = after.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let n = usize::from(first & 0x7f);
        if n > 4 || after.len() < n {
            return None;
        }
        len = after[..n]
            .iter()
            .fold(0, |len, &b| len << 8 | usize::from(b));
        after = &after[n..];
    }
    let value = after.get(..len)?;
    let rest = &after[len..];
    Some(Tlv {
        tag,
        value,
        whole: &der[..der.len() - rest.len()],
        rest,
    })
}

/// Splits off a type-length-value that must be of type `tag`.
fn expect(der: &[u8], tag: u8) -> Option<Tlv<'_>> {
    tlv(der).filter(|t| t.tag == tag)
}

/// What is in a certificate.
pub(super) struct Parts<'a> {
    /// What is signed.
    pub signed: &'a [u8],
    /// 1 to 3.
    pub version: u8,
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// Seconds since 1970 from which and until which it is valid.
    pub valid: (i64, i64),
    /// The SubjectPublicKeyInfo, its algorithm and its key.
    pub key_info: &'a [u8],
    pub key_algorithm: &'a [u8],
    pub key: &'a [u8],
    pub signature_algorithm: &'a [u8],
    pub signature: &'a [u8],
}

/// A BIT STRING's bytes, if they are whole ones.
fn bits(der: &[u8]) -> Option<&[u8]> {
    match expect(der, BIT_STRING)?.value.split_first()? {
        (0, bytes) => Some(bytes),
        _ => None,
    }
}

impl<'a> Parts<'a> {
    pub fn of(der: &'a [u8]) -> Option<Parts<'a>> {
        let certificate = expect(der, SEQUENCE)?;
        let tbs = expect(certificate.value, SEQUENCE)?;
        let algorithm = expect(tbs.rest, SEQUENCE)?;
        let mut rest = tbs.value;
        let mut version = 1;
        if let Some(explicit) = expect(rest, VERSION) {
            version = expect(explicit.value, INTEGER)?
                .value
                .last()?
                .checked_add(1)?;
            rest = explicit.rest;
        }
        let serial = expect(rest, INTEGER)?;
        let inner_algorithm = expect(serial.rest, SEQUENCE)?;
        let issuer = expect(inner_algorithm.rest, SEQUENCE)?;
        let validity = expect(issuer.rest, SEQUENCE)?;
        let from = tlv(validity.value)?;
        let until = tlv(from.rest)?;
        let subject = expect(validity.rest, SEQUENCE)?;
        let key_info = expect(subject.rest, SEQUENCE)?;
        let key_algorithm = expect(key_info.value, SEQUENCE)?;
        // The algorithm is written twice, once under the signature.
        if inner_algorithm.value != algorithm.value {
            return None;
        }
        Some(Parts {
            signed: tbs.whole,
            version,
            issuer: issuer.value,
            subject: subject.value,
            valid: (time(&from)?, time(&until)?),
            key_info: key_info.whole,
            key_algorithm: key_algorithm.value,
            key: bits(key_algorithm.rest)?,
            signature_algorithm: algorithm.value,
            signature: bits(algorithm.rest)?,
        })
    }

    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// "YYMMDDHHMMSSZ" or "YYYYMMDDHHMMSSZ" in seconds since 1970.
fn time(t: &Tlv<'_>) -> Option<i64> {
    let text = std::str::from_utf8(t.value).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, rest) = match (t.tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(0, 2)?;
            (year + if year < 50 { 2000 } else { 1900 }, 2)
        }
        (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |i: usize| number(rest + 2 * i, rest + 2 * i + 2);
    let (month, day) = (part(0)?, part(1)?);
    // Days since 1970 in the Gregorian calendar, years counted from March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?)
}

/// The attributes of a distinguished name: OID, text.
fn attributes(mut name: &[u8]) -> Vec<(&[u8], String)> {
    let mut found = Vec::new();
    while let Some(set) = expect(name, SET) {
        name = set.rest;
        let mut pairs = set.value;
        while let Some(pair) = expect(pairs, SEQUENCE) {
            pairs = pair.rest;
            if let Some(oid) = expect(pair.value, OID)
                && let Some(text) = tlv(oid.rest)
            {
                found.push((oid.value, String::from_utf8_lossy(text.value).into_owned()));
            }
        }
    }
    found
}

/// The subject's common name.
pub(super) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let parts = Parts::of(der)?;
    let (common_name, _) = ATTRIBUTES[0];
    let name = attributes(parts.subject)
        .into_iter()
        .find(|(oid, _)| *oid == common_name);
    name.map(|(_, text)| text)
}

/// The subject as OpenSSL writes it in one line: "/C=US/O=Open vSwitch/CN=me".
pub(super) fn subject_line(der: &[u8]) -> String {
    let subject = Parts::of(der).map_or(&[][..], |parts| parts.subject);
    let mut line = String::new();
    for (oid, text) in attributes(subject) {
        let known = ATTRIBUTES.iter().find(|(o, _)| *o == oid);
        let name = known.map_or_else(|| dotted(oid), |(_, name)| (*name).to_owned());
        line += &format!("/{name}={}", text.escape_debug());
    }
    line
}

/// An object identifier in numbers.
fn dotted(oid: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut value = 0u64;
    for &byte in oid {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (value / 40).min(2);
                numbers.push(first);
                value -= first * 40;
            }
            numbers.push(value);
            value = 0;
        }
    }
    let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
    texts.join(".")
}

/// The SHA-1 of a certificate, as 20 bytes with colons between.
pub(super) fn fingerprint(der: &[u8]) -> String {
    let bytes: Vec<String> = Sha1::digest(der)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    bytes.join(":")
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
