//! What stands before the PEM blocks: requests and certificates as `openssl -text` shows them.

use super::key::{DsaParameters, algorithm_name};
use super::x509::{
    COMMON_NAME, COUNTRY, EMAIL, Known, LOCALITY, ORGANIZATION, STATE, UNIT, decode,
};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Encode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rsa::traits::PublicKeyParts;
use std::fmt::Write;
use std::time::SystemTime;
use x509_cert::ext::Extensions;
use x509_cert::name::Name;
use x509_cert::request::CertReq;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Time;

/// "C = US" or "C=US": OpenSSL's commands differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NameStyle {
    Spaced,
    Tight,
}

/// The short and the long names of what names are made of.
const PARTS: [(ObjectIdentifier, &str, &str); 7] = [
    (COUNTRY, "C", "countryName"),
    (STATE, "ST", "stateOrProvinceName"),
    (LOCALITY, "L", "localityName"),
    (ORGANIZATION, "O", "organizationName"),
    (UNIT, "OU", "organizationalUnitName"),
    (COMMON_NAME, "CN", "commonName"),
    (EMAIL, "emailAddress", "emailAddress"),
];

/// A part of a name: its short name, long name and value.
pub(super) struct NamePart {
    pub oid: ObjectIdentifier,
    pub short: String,
    pub long: String,
    pub value: String,
}

/// The parts of a name, in order.
pub(super) fn parts(name: &Name) -> Vec<NamePart> {
    let pairs = name.0.iter().flat_map(|set| set.0.iter());
    let part = |pair: &x509_cert::attr::AttributeTypeAndValue| {
        let known = PARTS.iter().find(|(oid, ..)| *oid == pair.oid);
        let text = |pick: fn(&(ObjectIdentifier, &'static str, &'static str)) -> &'static str| {
            known.map_or_else(|| pair.oid.to_string(), |k| pick(k).to_string())
        };
        NamePart {
            oid: pair.oid,
            short: text(|k| k.1),
            long: text(|k| k.2),
            value: String::from_utf8_lossy(pair.value.value()).into_owned(),
        }
    };
    pairs.map(part).collect()
}

/// A name on one line.
pub(super) fn name(name: &Name, style: NameStyle) -> String {
    let equals = match style {
        NameStyle::Spaced => " = ",
        NameStyle::Tight => "=",
    };
    let quote = |value: &str| match value.contains([',', '+', '"', '\\', '<', '>', ';']) {
        true => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
        false => value.to_string(),
    };
    let parts = parts(name).into_iter();
    let parts = parts.map(|p| format!("{}{equals}{}", p.short, quote(&p.value)));
    parts.collect::<Vec<_>>().join(", ")
}

/// A name as the authority's index has it: "/C=US/ST=CA".
pub(super) fn slashed(name: &Name) -> String {
    let parts = parts(name).into_iter();
    parts.map(|p| format!("/{}={}", p.short, p.value)).collect()
}

fn stamp(time: &Time) -> Timestamp {
    let seconds = time.to_unix_duration().as_secs();
    Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}

/// "Nov 18 00:56:28 2036 GMT".
pub(super) fn date(time: &Time) -> String {
    stamp(time).strftime("%b %e %H:%M:%S %Y GMT").to_string()
}

/// "361118005628Z".
pub(super) fn index_date(time: &Time) -> String {
    let form = match time {
        Time::UtcTime(_) => "%y%m%d%H%M%SZ",
        Time::GeneralTime(_) => "%Y%m%d%H%M%SZ",
    };
    stamp(time).strftime(form).to_string()
}

/// A time where we are, as date(1) prints it.
pub(super) fn local_date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or_default();
    let local = at.to_zoned(TimeZone::system());
    local.strftime("%a %b %e %H:%M:%S %Z %Y").to_string()
}

/// "2026 Nov 21 00:56:23".
pub(super) fn day_and_time(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or_default();
    let local = at.to_zoned(TimeZone::system());
    local.strftime("%Y %b %d %H:%M:%S").to_string()
}

/// Bytes between colons, in lines of `wide`, each after blanks.
fn push_hex(out: &mut String, bytes: &[u8], blanks: usize, wide: usize) {
    let lines = bytes.chunks(wide);
    let last = lines.len().saturating_sub(1);
    for (i, line) in lines.enumerate() {
        let line: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        let end = if i == last { "" } else { ":" };
        let _ = writeln!(out, "{}{}{end}", " ".repeat(blanks), line.join(":"));
    }
}

/// The bytes of a number, with a zero before a set sign bit.
fn signed(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|&b| b != 0).unwrap_or(0);
    let mut out = Vec::with_capacity(bytes.len() + 1);
    if bytes.get(start).is_some_and(|b| b & 0x80 != 0) {
        out.push(0);
    }
    out.extend(&bytes[start..]);
    out
}

fn push_public(out: &mut String, public: &SubjectPublicKeyInfoOwned) {
    use rsa::pkcs8::DecodePublicKey;
    out.push_str("        Subject Public Key Info:\n");
    let der = public.to_der().unwrap_or_default();
    if let Ok(key) = rsa::RsaPublicKey::from_public_key_der(&der) {
        let e = key.e().to_string().parse::<u64>().unwrap_or_default();
        let _ = write!(
            out,
            "            Public Key Algorithm: rsaEncryption\n                Public-Key: ({} bit)\n                Modulus:\n",
            key.n().bits()
        );
        push_hex(out, &signed(&key.n().to_bytes_be()), 20, 15);
        let _ = writeln!(out, "                Exponent: {e} (0x{e:x})");
        return;
    }
    let parameters = public.algorithm.parameters.as_ref();
    let parameters = parameters.and_then(|p| p.to_der().ok()).unwrap_or_default();
    let shared = DsaParameters::from_der(&parameters);
    let own = UintRef::from_der(public.subject_public_key.raw_bytes());
    let (Ok(shared), Ok(own)) = (shared, own) else {
        let oid = &public.algorithm.oid;
        let _ = writeln!(out, "            Public Key Algorithm: {oid}");
        return;
    };
    let bits = 8 * shared.p.as_bytes().len();
    let _ = write!(
        out,
        "            Public Key Algorithm: dsaEncryption\n                Public-Key: ({bits} bit)\n"
    );
    for (label, number) in [
        ("pub: ", own),
        ("P:   ", shared.p),
        ("Q:   ", shared.q),
        ("G:   ", shared.g),
    ] {
        let _ = writeln!(out, "                {label}");
        push_hex(out, &signed(number.as_bytes()), 20, 15);
    }
}

/// Extensions, each after `blanks`.
pub(super) fn push_extensions(out: &mut String, extensions: &Extensions, blanks: usize) {
    let indent = " ".repeat(blanks);
    let colons = |bytes: &[u8]| {
        let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02X}")).collect();
        hex.join(":")
    };
    for extension in extensions {
        let (title, value) = match decode(extension) {
            Known::Constraints(ca) => (
                "X509v3 Basic Constraints".to_string(),
                format!("CA:{}", if ca { "TRUE" } else { "FALSE" }),
            ),
            Known::Dns(names) => {
                let names: Vec<String> = names.iter().map(|n| format!("DNS:{n}")).collect();
                ("X509v3 Subject Alternative Name".into(), names.join(", "))
            }
            Known::SubjectKey(id) => ("X509v3 Subject Key Identifier".into(), colons(&id)),
            Known::AuthorityKey(id) => ("X509v3 Authority Key Identifier".into(), colons(&id)),
            Known::Other => (
                extension.extn_id.to_string(),
                colons(extension.extn_value.as_bytes()),
            ),
        };
        let critical = if extension.critical { "critical" } else { "" };
        let _ = write!(out, "{indent}{title}: {critical}\n{indent}    {value}\n");
    }
}

fn push_signature(out: &mut String, algorithm: &ObjectIdentifier, signature: &[u8]) {
    let _ = write!(
        out,
        "    Signature Algorithm: {}\n    Signature Value:\n",
        algorithm_name(algorithm)
    );
    push_hex(out, signature, 8, 18);
}

/// What the text of a request says.
pub(super) fn request(request: &CertReq, extensions: Extensions) -> String {
    let mut out = String::from("Certificate Request:\n    Data:\n        Version: 1 (0x0)\n");
    let subject = name(&request.info.subject, NameStyle::Spaced);
    let _ = writeln!(out, "        Subject: {subject}");
    push_public(&mut out, &request.info.public_key);
    out.push_str("        Attributes:\n");
    match extensions.is_empty() {
        true => out.push_str("            (none)\n"),
        false => {
            out.push_str("            Requested Extensions:\n");
            push_extensions(&mut out, &extensions, 16);
        }
    }
    push_signature(
        &mut out,
        &request.algorithm.oid,
        request.signature.raw_bytes(),
    );
    out
}

/// What the text of a certificate says.
pub(super) fn certificate(certificate: &x509_cert::Certificate, style: NameStyle) -> String {
    let tbs = &certificate.tbs_certificate;
    let mut out = String::from("Certificate:\n    Data:\n        Version: 3 (0x2)\n");
    match serial(tbs.serial_number.as_bytes()) {
        Some(n) => {
            let _ = writeln!(out, "        Serial Number: {n} (0x{n:x})");
        }
        None => {
            out.push_str("        Serial Number:\n");
            push_hex(&mut out, tbs.serial_number.as_bytes(), 12, 64);
        }
    }
    let _ = write!(
        out,
        "        Signature Algorithm: {}\n        Issuer: {}\n        Validity\n            Not Before: {}\n            Not After : {}\n        Subject: {}\n",
        algorithm_name(&tbs.signature.oid),
        name(&tbs.issuer, style),
        date(&tbs.validity.not_before),
        date(&tbs.validity.not_after),
        name(&tbs.subject, style),
    );
    push_public(&mut out, &tbs.subject_public_key_info);
    if let Some(extensions) = &tbs.extensions {
        out.push_str("        X509v3 extensions:\n");
        push_extensions(&mut out, extensions, 12);
    }
    push_signature(
        &mut out,
        &certificate.signature_algorithm.oid,
        certificate.signature.raw_bytes(),
    );
    out
}

/// A serial number that fits into 63 bits.
fn serial(bytes: &[u8]) -> Option<i64> {
    let bytes = signed(bytes);
    if bytes.len() > 8 {
        return None;
    }
    Some(bytes.iter().fold(0, |n, &b| n << 8 | i64::from(b)))
}
