//! What the options and the files say, kept until either changes.
//!
//! One state for the whole process, as the options are. Files are read when options name them and
//! again, before a connection is made, after they changed. Log lines about a file come once per
//! change. A certificate and its key that do not fit together while both are being replaced leave
//! the old pair in use.
//!
//! Invariant: what cannot be read never widens trust: without authorities nobody is trusted.

use super::choice::{Allowed, VERSIONS, versions};
use super::material::{self, Chain, Key, Stamp, stamp};
use super::text;
use super::verify::Verifier;
use crate::{errno, error_text, protocol_error};
use ferrovs_runtime::options::Ssl;
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

static RL: RateLimit = RateLimit::new(5, 5);

/// Whom the peer must be certified by.
#[derive(Clone, PartialEq)]
enum Trust {
    /// `--ca-cert=none`.
    Anybody,
    Roots(Chain),
    /// Learn it from the peer, and keep it here.
    Bootstrap(PathBuf),
}

struct State {
    options: Ssl,
    versions: Vec<&'static SupportedProtocolVersion>,
    allowed: Allowed,
    certificate: Option<Chain>,
    key: Option<Key>,
    /// `None` until an option says where authorities are.
    trust: Option<Trust>,
    /// What is sent after our certificate.
    peer_ca: Chain,
    /// Of the key, the certificate, the authorities, and what is sent along.
    stamps: [Stamp; 4],
    client: Option<Arc<ClientConfig>>,
    server: Option<Arc<ServerConfig>>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    Mutex::new(State {
        options: Ssl::default(),
        versions: VERSIONS.to_vec(),
        allowed: Allowed::default(),
        certificate: None,
        key: None,
        trust: None,
        peer_ca: Vec::new(),
        stamps: [None; 4],
        client: None,
        server: None,
    })
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the pair is read first; the log depends on it, if they do not match.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Key,
    Certificate,
}

/// Sets the files and rules for every TLS stream that is opened from now on, as a command line
/// gives them: key first.
pub fn configure(options: &Ssl) {
    state().set(options, First::Key);
}

/// Like [`configure`], for daemons that get the pair from their database: certificate first.
pub fn reconfigure(options: &Ssl) {
    state().set(options, First::Certificate);
}

fn not_configured() -> io::Error {
    errno(rustix::io::Errno::NOPROTOOPT)
}

/// Where the authorities are, and whether a missing file is to be made.
fn authorities(options: &Ssl) -> Option<(&Path, bool)> {
    match (&options.bootstrap_ca_cert, &options.ca_cert) {
        (Some(path), _) => Some((path, true)),
        (None, Some(path)) => Some((path, false)),
        (None, None) => None,
    }
}

impl State {
    fn set(&mut self, options: &Ssl, first: First) {
        if self.options == *options {
            return self.refresh();
        }
        let old = std::mem::replace(&mut self.options, options.clone());
        self.changed();
        if old.protocols != options.protocols {
            match options.protocols.as_deref().map(versions) {
                Some(Some(chosen)) => self.versions = chosen,
                // What cannot be understood changes nothing: a typo lifts no restriction.
                Some(None) => {}
                None => self.versions = VERSIONS.to_vec(),
            }
        }
        if old.ciphers != options.ciphers {
            self.allowed.set_ciphers(options.ciphers.as_deref());
        }
        if old.ciphersuites != options.ciphersuites {
            self.allowed
                .set_ciphersuites(options.ciphersuites.as_deref());
        }
        if (&old.private_key, &old.certificate) != (&options.private_key, &options.certificate) {
            self.load_identity(first);
        }
        if authorities(&old) != authorities(options) {
            self.trust = None;
            self.load_trust();
        }
        if old.peer_ca_cert != options.peer_ca_cert {
            self.load_peer_ca();
        }
    }

    /// Whatever was built from the old state is of no use.
    fn changed(&mut self) {
        self.client = None;
        self.server = None;
    }

    /// The files that options name, in the order of `stamps`.
    fn files(&self) -> [Option<&Path>; 4] {
        let o = &self.options;
        [
            o.private_key.as_deref(),
            o.certificate.as_deref(),
            authorities(o).map(|(path, _)| path),
            o.peer_ca_cert.as_deref(),
        ]
    }

    /// Reads again what changed.
    fn refresh(&mut self) {
        let now = self.files().map(stamp);
        if now == self.stamps {
            return;
        }
        let old = std::mem::replace(&mut self.stamps, now);
        self.changed();
        if old[..2] != now[..2] {
            self.reload_identity();
        }
        if old[2] != now[2] {
            self.load_trust();
        }
        if old[3] != now[3] {
            self.load_peer_ca();
        }
    }

    fn read_certificate(&self) -> Option<Chain> {
        let path = self.options.certificate.as_ref()?;
        material::certificates(path)
            .map_err(|e| vlog::err!(modules::STREAM_SSL, "SSL_use_certificate_file: {e}"))
            .ok()
    }

    fn read_key(&self) -> Option<Key> {
        let path = self.options.private_key.as_ref()?;
        material::key(path, &rustls::crypto::ring::default_provider())
            .map_err(|e| vlog::err!(modules::STREAM_SSL, "SSL_use_PrivateKey_file: {e}"))
            .ok()
    }

    fn load_identity(&mut self, first: First) {
        let files = self.files();
        let stamps = [stamp(files[0]), stamp(files[1])];
        self.stamps[..2].copy_from_slice(&stamps);
        if first == First::Key {
            self.key = self.read_key();
            self.certificate = self.read_certificate();
            return;
        }
        self.certificate = self.read_certificate();
        self.key = self.read_key();
        if let (Some(key), Some(chain)) = (&self.key, &self.certificate)
            && !material::matches(key, chain)
        {
            vlog::err!(
                modules::STREAM_SSL,
                "SSL_use_PrivateKey_file: {}",
                text::KEY_MISMATCH
            );
            self.key = None;
        }
    }

    /// Takes a new pair if it is one; until then the old one serves.
    fn reload_identity(&mut self) {
        let (Some(key), Some(certificate)) = (&self.options.private_key, &self.options.certificate)
        else {
            return self.load_identity(First::Key);
        };
        let key = material::key(key, &rustls::crypto::ring::default_provider());
        let chain = material::certificates(certificate);
        match (key, chain) {
            (Ok(key), Ok(chain)) if material::matches(&key, &chain) => {
                (self.key, self.certificate) = (Some(key), Some(chain));
            }
            (key, chain) if self.usable_pair().is_none() => {
                // There is nothing to lose: each half is as good as it can be.
                (self.key, self.certificate) = (key.ok(), chain.ok());
            }
            (key, chain) => {
                let why = key.err().or(chain.err());
                let why = why.unwrap_or_else(|| text::KEY_MISMATCH.into());
                vlog::dbg!(
                    modules::STREAM_SSL,
                    "keeping the old certificate and private key: {why}"
                );
            }
        }
    }

    fn usable_pair(&self) -> Option<(&Key, &Chain)> {
        let (key, chain) = (self.key.as_ref()?, self.certificate.as_ref()?);
        material::matches(key, chain).then_some((key, chain))
    }

    fn load_trust(&mut self) {
        let Some((path, bootstrap)) = authorities(&self.options) else {
            self.trust = None;
            return;
        };
        let path = path.to_owned();
        self.stamps[2] = stamp(Some(&path));
        if !bootstrap && path.as_os_str() == "none" {
            vlog::warn!(
                modules::STREAM_SSL,
                "Peer certificate validation disabled (this is a security risk)"
            );
            self.trust = Some(Trust::Anybody);
            return;
        }
        if bootstrap && !path.exists() {
            self.trust = Some(Trust::Bootstrap(path));
            return;
        }
        match material::certificates(&path) {
            Ok(chain) => self.trust = Some(Trust::Roots(chain)),
            Err(e) => {
                vlog::err!(
                    modules::STREAM_SSL,
                    "failed to load client certificates from {}: {e}",
                    path.display()
                );
                if !matches!(self.trust, Some(Trust::Roots(_))) {
                    self.trust = Some(Trust::Roots(Vec::new()));
                }
            }
        }
    }

    fn load_peer_ca(&mut self) {
        let Some(path) = self.options.peer_ca_cert.clone() else {
            self.peer_ca.clear();
            return;
        };
        self.stamps[3] = stamp(Some(&path));
        if let Err(e) = std::fs::File::open(&path) {
            let (name, text) = (path.display(), error_text(&e));
            vlog::err!(
                modules::STREAM_SSL,
                "failed to open {name} for reading: {text}"
            );
            return;
        }
        match material::certificates(&path) {
            Ok(chain) => self.peer_ca = chain,
            Err(e) => {
                let name = path.display();
                vlog::err!(
                    modules::STREAM_SSL,
                    "failed to load client certificates from {name}: {e}"
                );
            }
        }
    }

    /// Fails, and says why, unless connections can be made; else the key, the certificate with
    /// what follows it, and whom to trust.
    fn check(&self) -> io::Result<(Key, Chain, Trust)> {
        for (there, what) in [
            (self.key.is_some(), "Private key"),
            (self.certificate.is_some(), "Certificate"),
            (self.trust.is_some(), "CA certificate"),
        ] {
            if !there {
                vlog::err_rl!(
                    RL,
                    modules::STREAM_SSL,
                    "{what} must be configured to use SSL"
                );
            }
        }
        let (Some(_), Some(_), Some(trust)) = (&self.key, &self.certificate, &self.trust) else {
            return Err(not_configured());
        };
        let Some((key, chain)) = self.usable_pair() else {
            vlog::err_rl!(
                RL,
                modules::STREAM_SSL,
                "Private key does not match certificate public key: {}",
                text::no_private_key()
            );
            return Err(not_configured());
        };
        let mut whole = chain.clone();
        if self.peer_ca.is_empty() {
            if let Trust::Roots(roots) = trust {
                whole = material::completed(chain, roots);
            }
        } else {
            whole.extend(self.peer_ca.iter().cloned());
        }
        Ok((Arc::clone(key), whole, trust.clone()))
    }

    fn client_config(&mut self) -> io::Result<(Arc<ClientConfig>, Option<PathBuf>)> {
        self.refresh();
        let (key, chain, trust) = self.check()?;
        let bootstrap = match &trust {
            Trust::Bootstrap(file) => Some(file.clone()),
            _ => None,
        };
        if let Some(config) = &self.client {
            return Ok((Arc::clone(config), bootstrap));
        }
        let provider = self.allowed.provider();
        let roots = match &trust {
            Trust::Anybody | Trust::Bootstrap(_) => None,
            Trust::Roots(roots) => Some(roots.as_slice()),
        };
        let verifier = Verifier::new(roots, &provider);
        let mut config = ClientConfig::builder_with_provider(usable(provider, &self.versions))
            .with_protocol_versions(&self.versions)
            .map_err(|e| no_ciphers("SSL_connect", &e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(identity(key, chain));
        // Each connection proves who it is: what was true of an earlier one need not be now.
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        self.client = Some(Arc::clone(&config));
        Ok((config, bootstrap))
    }

    fn server_config(&mut self) -> io::Result<Arc<ServerConfig>> {
        self.refresh();
        let (key, chain, trust) = self.check()?;
        if let Some(config) = &self.server {
            return Ok(Arc::clone(config));
        }
        let provider = self.allowed.provider();
        let roots = match &trust {
            Trust::Anybody => None,
            Trust::Roots(roots) => Some(roots.as_slice()),
            // Only clients can learn whom to trust.
            Trust::Bootstrap(_) => Some(&[][..]),
        };
        let verifier = Arc::new(Verifier::new(roots, &provider));
        let builder = ServerConfig::builder_with_provider(usable(provider, &self.versions))
            .with_protocol_versions(&self.versions)
            .map_err(|e| no_ciphers("SSL_accept", &e))?;
        let builder = match trust {
            Trust::Anybody => builder.with_no_client_auth(),
            _ => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(identity(key, chain));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        self.server = Some(Arc::clone(&config));
        Ok(config)
    }
}

/// `provider`, or an empty one if no version may be used at all.
fn usable(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<CryptoProvider> {
    if !versions.is_empty() {
        return provider;
    }
    let mut none = (*provider).clone();
    none.cipher_suites.clear();
    Arc::new(none)
}

fn no_ciphers(what: &str, e: &rustls::Error) -> io::Error {
    vlog::dbg!(modules::STREAM_SSL, "{e}");
    let text = text::no_ciphers();
    vlog::warn_rl!(RL, modules::STREAM_SSL, "{what}: {text}");
    protocol_error()
}

fn identity(key: Key, chain: Chain) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

/// A client's side of a connection.
pub(super) struct Client {
    pub connection: ClientConnection,
    /// The file that the peer's authority must be written to, if any.
    pub bootstrap: Option<PathBuf>,
    /// Whether a handshake that succeeds means that the peer was verified.
    pub verifies: bool,
}

/// A client's connection; `host` is what stood before the port.
pub(super) fn client(host: &str) -> io::Result<Client> {
    let mut state = state();
    let (config, bootstrap) = state.client_config()?;
    let name = state.options.server_name.as_deref().unwrap_or(host);
    // No name is sent for addresses, and none for what cannot be a name.
    let name = ServerName::try_from(name.to_owned()).unwrap_or(ServerName::IpAddress(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED).into(),
    ));
    let connection =
        ClientConnection::new(config, name).map_err(|e| no_ciphers("SSL_connect", &e))?;
    Ok(Client {
        connection,
        bootstrap,
        verifies: matches!(state.trust, Some(Trust::Roots(_))),
    })
}

/// A server's connection, and whether it verifies its peer.
pub(super) fn server() -> io::Result<(ServerConnection, bool)> {
    let mut state = state();
    let config = state.server_config()?;
    let connection = ServerConnection::new(config).map_err(|e| no_ciphers("SSL_accept", &e))?;
    Ok((connection, state.trust != Some(Trust::Anybody)))
}
