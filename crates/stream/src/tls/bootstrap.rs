//! Learning whom to trust from the first peer: `--bootstrap-ca-cert`.
//!
//! The last certificate that the peer sent must be one that an authority issued to itself. It goes
//! into a file that did not exist before, and the connection is given up: trust begins with the
//! next one, which can be verified.

use super::certificate::{Parts, fingerprint, pem, subject_line};
use crate::{error_text, protocol_error};
use ferrovs_runtime::vlog::{self, modules};
use rustls::pki_types::CertificateDer;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Keeps the authority at the end of a peer's chain in a new file; the error says what becomes of
/// the connection, and there always is one.
pub(super) fn bootstrap(path: &Path, chain: &[CertificateDer<'_>]) -> io::Error {
    let Some(last) = chain.last() else {
        vlog::err!(
            modules::STREAM_SSL,
            "could not bootstrap CA cert: no certificate presented by peer"
        );
        return protocol_error();
    };
    if !Parts::of(last).is_some_and(|parts| parts.is_self_issued()) {
        vlog::err!(
            modules::STREAM_SSL,
            "could not bootstrap CA cert: obtained certificate is not self-signed \
             (subject issuer mismatch)"
        );
        if chain.len() < 2 {
            vlog::err!(
                modules::STREAM_SSL,
                "only one certificate was received, so probably the peer is not configured to \
                 send its CA certificate"
            );
        }
        return protocol_error();
    }
    let name = path.display();
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            vlog::info!(
                modules::STREAM_SSL,
                "reading CA cert {name} created by another process"
            );
            return protocol_error();
        }
        Err(e) => {
            let text = error_text(&e);
            vlog::err!(
                modules::STREAM_SSL,
                "could not bootstrap CA cert: creating {name} failed: {text}"
            );
            return e;
        }
    };
    if let Err(e) = file.write_all(pem(last).as_bytes()) {
        let text = error_text(&e);
        vlog::err!(
            modules::STREAM_SSL,
            "could not bootstrap CA cert: writing {name} failed: {text}"
        );
        // Half a file would be trusted by nobody, and keep the next try from making a whole one.
        let _ = std::fs::remove_file(path);
        return e;
    }
    vlog::info!(
        modules::STREAM_SSL,
        "successfully bootstrapped CA cert to {name}"
    );
    vlog::info!(
        modules::STREAM_SSL,
        "Trusting CA cert from {name} ({}) (fingerprint {})",
        subject_line(last),
        fingerprint(last)
    );
    vlog::info!(
        modules::STREAM_SSL,
        "killing successful connection to retry using CA cert"
    );
    protocol_error()
}
