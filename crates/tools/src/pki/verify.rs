//! `verify`: whether an authority certified something, in the words of `openssl verify`.

use super::text::{self, NameStyle};
use super::x509::{Certificate, Known, decode};
use super::{Error, Outcome, read};
use ferrovs_runtime::clock;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Why a certificate is not good: OpenSSL's number, how far up the chain, and text.
type Flaw = (u32, u32, &'static str);

/// Exit status of a certificate that is not good.
const NOT_GOOD: u8 = 2;

pub(super) fn verify(file: &str, authority: &Path) -> Outcome {
    let Ok(certificate) = Certificate::from_text(&read(Path::new(file))?) else {
        eprintln!("Could not read certificate file from {file}");
        eprintln!("Unable to load certificate file");
        return Err(Error::Status(NOT_GOOD));
    };
    let text = std::fs::read(authority).unwrap_or_default();
    let Ok(authority_certificate) = Certificate::from_text(&String::from_utf8_lossy(&text)) else {
        eprintln!("Error loading file {}", authority.display());
        return Err(Error::Status(NOT_GOOD));
    };
    let Some((number, depth, why)) = flaw(&certificate, &authority_certificate) else {
        println!("{file}: OK");
        return Ok(());
    };
    let at = if depth == 0 {
        &certificate
    } else {
        &authority_certificate
    };
    let name = text::name(&at.0.tbs_certificate.subject, NameStyle::Spaced);
    eprintln!("{name}\nerror {number} at {depth} depth lookup: {why}");
    eprintln!("error {file}: verification failed");
    Err(Error::Status(NOT_GOOD))
}

/// The first thing that is wrong.
fn flaw(certificate: &Certificate, authority: &Certificate) -> Option<Flaw> {
    let (tbs, ca) = (&certificate.0.tbs_certificate, &authority.0.tbs_certificate);
    let issued = tbs.issuer == ca.subject && is_key_named(certificate, authority);
    if !issued {
        return Some(match tbs.issuer == tbs.subject {
            true => (18, 0, "self-signed certificate"),
            false => (20, 0, "unable to get local issuer certificate"),
        });
    }
    if !certificate.is_signed_by(&ca.subject_public_key_info) {
        return Some((7, 0, "certificate signature failure"));
    }
    [(ca, 1), (tbs, 0)].into_iter().find_map(|(tbs, depth)| {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        if now < tbs.validity.not_before.to_unix_duration() {
            Some((9, depth, "certificate is not yet valid"))
        } else if now > tbs.validity.not_after.to_unix_duration() {
            Some((10, depth, "certificate has expired"))
        } else {
            None
        }
    })
}

/// Whether the key that a certificate says it was signed with is the authority's.
fn is_key_named(certificate: &Certificate, authority: &Certificate) -> bool {
    let extensions = |of: &Certificate| {
        let extensions = of.0.tbs_certificate.extensions.iter().flatten();
        extensions.map(decode).collect::<Vec<_>>()
    };
    let named = extensions(certificate).into_iter().find_map(|e| match e {
        Known::AuthorityKey(id) => Some(id),
        _ => None,
    });
    let own = extensions(authority).into_iter().find_map(|e| match e {
        Known::SubjectKey(id) => Some(id),
        _ => None,
    });
    match (named, own) {
        (Some(named), Some(own)) => named == own,
        _ => true,
    }
}
