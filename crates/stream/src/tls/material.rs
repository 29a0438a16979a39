//! Reading certificates and keys from their files.

use super::certificate::Parts;
use super::text;
use ferrovs_runtime::vlog::{self, modules};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// What tells one state of a file from another; `None` if there is no file.
pub(super) type Stamp = Option<(i64, i64, u64, u64)>;

/// The state of a file now.
pub(super) fn stamp(path: Option<&Path>) -> Stamp {
    let meta = std::fs::metadata(path?).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}

pub(super) type Chain = Vec<CertificateDer<'static>>;

/// A key, and how it signs.
pub(super) type Key = Arc<dyn SigningKey>;

/// The most that is read of a file: bundles of authorities are far smaller.
const MAX_SIZE: u64 = 16 << 20;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    io::Read::read_to_end(&mut io::Read::take(file, MAX_SIZE), &mut bytes)?;
    Ok(bytes)
}

/// Why PEM could not be read, as OpenSSL says it.
fn pem_text(e: &pem::Error, nothing: &str) -> String {
    match e {
        pem::Error::MissingSectionEnd { .. } => "error:04800066:PEM routines::bad end line".into(),
        pem::Error::Base64Decode(_) => "error:04800064:PEM routines::bad base64 decode".into(),
        _ => nothing.into(),
    }
}

/// The certificates in a file, at least one; the error is a text in OpenSSL's words.
pub(super) fn certificates(path: &Path) -> Result<Chain, String> {
    let bytes = read(path).map_err(|e| text::system(&e))?;
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|e| pem_text(&e, text::NO_START_LINE))?;
        if Parts::of(&certificate).is_none() {
            return Err("error:068000A8:asn1 encoding routines::wrong tag".into());
        }
        chain.push(certificate);
    }
    match chain.is_empty() {
        true => Err(text::NO_START_LINE.into()),
        false => Ok(chain),
    }
}

/// The key in a file; the error is a text in OpenSSL's words.
pub(super) fn key(path: &Path, provider: &CryptoProvider) -> Result<Key, String> {
    let bytes = read(path).map_err(|e| text::system(&e))?;
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| pem_text(&e, text::NO_KEY))?;
    provider.key_provider.load_private_key(der).map_err(|e| {
        vlog::dbg!(modules::STREAM_SSL, "{}: {e}", path.display());
        text::NO_KEY.to_owned()
    })
}

/// Whether `key` is the one that the first certificate of `chain` is about.
pub(super) fn matches(key: &Key, chain: &Chain) -> bool {
    let parts = chain.first().and_then(|c| Parts::of(c));
    match (key.public_key(), parts) {
        (Some(public), Some(parts)) => public.as_ref() == parts.key_info,
        _ => false,
    }
}

/// `chain` with what a peer needs to follow it up to an authority among `known`, which is sent,
/// too: a peer that bootstraps learns it from there.
pub(super) fn completed(chain: &Chain, known: &[CertificateDer<'static>]) -> Chain {
    let mut chain = chain.clone();
    // An authority that signs itself ends it, as does the number of those known.
    for _ in 0..known.len() {
        let Some(last) = chain.last().and_then(|c| Parts::of(c)) else {
            break;
        };
        if last.is_self_issued() {
            break;
        }
        let issuer = last.issuer.to_vec();
        let next = known
            .iter()
            .find(|c| Parts::of(c).is_some_and(|p| p.subject == issuer));
        match next {
            Some(next) => chain.push(next.clone()),
            None => break,
        }
    }
    chain
}
