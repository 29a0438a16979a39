//! From files and options to rustls configurations.

use super::verify;
use crate::{errno, protocol_error};
use ferrovs_runtime::options::Ssl;
use ferrovs_runtime::vlog::{self, modules};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

static SETTINGS: Mutex<Option<Ssl>> = Mutex::new(None);

/// Sets the files and rules for every TLS stream that is opened from now on.
pub fn configure(options: &Ssl) {
    *SETTINGS.lock().unwrap_or_else(PoisonError::into_inner) = Some(options.clone());
}

fn settings() -> Ssl {
    SETTINGS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
        .unwrap_or_default()
}

/// Whom the peer must be certified by.
enum Trust {
    Anybody,
    Roots(RootCertStore),
    /// Learn it from the peer.
    Bootstrap(PathBuf),
}

fn not_configured() -> io::Error {
    errno(rustix::io::Errno::NOPROTOOPT)
}

/// Says what is missing for TLS to work at all.
fn check(options: &Ssl) -> io::Result<()> {
    let ca = options.ca_cert.is_some() || options.bootstrap_ca_cert.is_some();
    for (there, what) in [
        (options.private_key.is_some(), "Private key"),
        (options.certificate.is_some(), "Certificate"),
        (ca, "CA certificate"),
    ] {
        if !there {
            vlog::err!(
                modules::STREAM_SSL,
                "{what} must be configured to use SSL/TLS"
            );
        }
    }
    match options.private_key.is_some() && options.certificate.is_some() && ca {
        true => Ok(()),
        false => Err(not_configured()),
    }
}

/// Fails, and says why, unless TLS connections can be made.
pub(crate) fn check_client() -> io::Result<()> {
    check(&settings())
}

/// Fails, and says why, unless TLS connections can be accepted.
pub(crate) fn check_server() -> io::Result<()> {
    check(&settings())
}

fn read_certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let failed = |e: rustls::pki_types::pem::Error| {
        vlog::err!(
            modules::STREAM_SSL,
            "failed to load certificates from {}: {e}",
            path.display()
        );
        not_configured()
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect();
    certificates.map_err(failed)
}

fn trust(options: &Ssl) -> io::Result<Trust> {
    let path = match (&options.bootstrap_ca_cert, &options.ca_cert) {
        (Some(path), _) if !path.exists() => return Ok(Trust::Bootstrap(path.clone())),
        (Some(path), _) => path,
        (None, Some(path)) if path.as_os_str() == "none" => {
            vlog::warn!(
                modules::STREAM_SSL,
                "Peer certificate validation disabled (this is a security risk)"
            );
            return Ok(Trust::Anybody);
        }
        (None, Some(path)) => path,
        (None, None) => return Err(not_configured()),
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        if let Err(e) = roots.add(certificate) {
            vlog::warn!(modules::STREAM_SSL, "{}: {e}", path.display());
        }
    }
    if roots.is_empty() {
        vlog::err!(modules::STREAM_SSL, "no certificates in {}", path.display());
        return Err(not_configured());
    }
    Ok(Trust::Roots(roots))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Our certificate with what is sent along, and the key.
fn identity(options: &Ssl) -> io::Result<Identity> {
    let (Some(certificate), Some(key)) = (&options.certificate, &options.private_key) else {
        return Err(not_configured());
    };
    let mut chain = read_certificates(certificate)?;
    if let Some(peer_ca) = &options.peer_ca_cert {
        chain.extend(read_certificates(peer_ca)?);
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| {
        vlog::err!(
            modules::STREAM_SSL,
            "failed to load private key from {}: {e}",
            key.display()
        );
        not_configured()
    })?;
    Ok((chain, key))
}

/// OpenSSL's names of the TLS 1.2 cipher suites that rustls has.
const CIPHERS: &[(&str, &str)] = &[
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// The algorithms, limited to the cipher suites that the options name. Classes of suites
/// ("HIGH", "DEFAULT", "!aNULL") leave rustls's own choice, which has no weak ones.
fn provider(options: &Ssl) -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
    if let Some(list) = &options.ciphersuites {
        let wanted: Vec<&str> = list.split(':').collect();
        provider.cipher_suites.retain(|suite| {
            let name = name(suite).replace("TLS13_", "TLS_");
            suite.tls13().is_none() || wanted.contains(&name.as_str())
        });
    }
    if let Some(list) = &options.ciphers {
        let wanted: Vec<&str> = CIPHERS
            .iter()
            .filter(|(openssl, _)| list.split([':', ',', ' ']).any(|word| word == *openssl))
            .map(|(_, rustls)| *rustls)
            .collect();
        if !wanted.is_empty() {
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || wanted.contains(&name(suite).as_str()));
        }
    }
    Arc::new(provider)
}

/// The protocol versions that the options allow: a list, or a range such as "TLSv1.2+".
pub(super) fn versions(options: &Ssl) -> Vec<&'static SupportedProtocolVersion> {
    let all = [
        ("TLSv1.2", &rustls::version::TLS12),
        ("TLSv1.3", &rustls::version::TLS13),
    ];
    let Some(list) = &options.protocols else {
        return all.map(|(_, v)| v).to_vec();
    };
    let rank = |name: &str| match name {
        "TLSv1" | "TLSv1.1" => Some(0),
        "TLSv1.2" => Some(1),
        "TLSv1.3" => Some(2),
        _ => None,
    };
    let mut allowed = [false; 3];
    for word in list.split([',', ' ', '\t']).filter(|w| !w.is_empty()) {
        let (from, to) = match (word.strip_suffix('+'), word.split_once('-')) {
            (Some(from), _) => (rank(from), Some(2)),
            (None, Some((from, to))) => (rank(from), rank(to)),
            (None, None) => (rank(word), rank(word)),
        };
        match (from, to) {
            (Some(from), Some(to)) if from <= to => allowed[from..=to].fill(true),
            _ => vlog::err!(
                modules::STREAM_SSL,
                "{list}: SSL/TLS protocol not recognized"
            ),
        }
    }
    if allowed[0] {
        vlog::warn!(
            modules::STREAM_SSL,
            "TLSv1 and TLSv1.1 protocols are not supported"
        );
    }
    let chosen: Vec<_> = all
        .iter()
        .zip(&allowed[1..])
        .filter(|(_, on)| **on)
        .map(|((_, v), _)| *v)
        .collect();
    if chosen.is_empty() {
        all.map(|(_, v)| v).to_vec()
    } else {
        chosen
    }
}

fn bad(e: impl std::fmt::Display) -> io::Error {
    vlog::err!(modules::STREAM_SSL, "{e}");
    protocol_error()
}

/// A client's connection, and the file that the peer's authority must be written to, if any.
pub(super) fn client(host: &str) -> io::Result<(ClientConnection, Option<PathBuf>)> {
    let options = settings();
    check(&options)?;
    let provider = provider(&options);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&options))
        .map_err(bad)?;
    let (roots, bootstrap) = match trust(&options)? {
        Trust::Anybody => (None, None),
        Trust::Roots(roots) => (Some(roots), None),
        Trust::Bootstrap(file) => (None, Some(file)),
    };
    let verifier = verify::ServerVerifier::new(roots, provider).map_err(bad)?;
    let (chain, key) = identity(&options)?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(bad)?;
    config.enable_sni = true;
    let name = options.server_name.as_deref().unwrap_or(host).to_string();
    let name = ServerName::try_from(name).map_err(bad)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(bad)?;
    Ok((connection, bootstrap))
}

/// What a server's configuration was made from.
#[derive(PartialEq)]
struct Made {
    options: Ssl,
    modified: Vec<Option<SystemTime>>,
}

static SERVER: Mutex<Option<(Made, Arc<ServerConfig>)>> = Mutex::new(None);

fn modified(options: &Ssl) -> Vec<Option<SystemTime>> {
    [
        &options.private_key,
        &options.certificate,
        &options.ca_cert,
        &options.bootstrap_ca_cert,
        &options.peer_ca_cert,
    ]
    .into_iter()
    .map(|path| std::fs::metadata(path.as_ref()?).ok()?.modified().ok())
    .collect()
}

/// A server's connection.
pub(super) fn server() -> io::Result<ServerConnection> {
    let options = settings();
    check(&options)?;
    let made = Made {
        modified: modified(&options),
        options,
    };
    let mut cache = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let config = match &*cache {
        Some((from, config)) if *from == made => Arc::clone(config),
        _ => {
            let config = Arc::new(server_config(&made.options)?);
            *cache = Some((made, Arc::clone(&config)));
            config
        }
    };
    ServerConnection::new(config).map_err(bad)
}

fn server_config(options: &Ssl) -> io::Result<ServerConfig> {
    let provider = provider(options);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(options))
        .map_err(bad)?;
    let (chain, key) = identity(options)?;
    let builder = match trust(options)? {
        // A server that knows no authority yet cannot tell its clients apart.
        Trust::Anybody | Trust::Bootstrap(_) => builder.with_no_client_auth(),
        Trust::Roots(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(bad)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(chain, key).map_err(bad)
}
