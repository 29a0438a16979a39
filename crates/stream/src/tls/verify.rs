//! Verifying the peer's certificate: by authority, not by name.
//!
//! webpki follows the chain. Two kinds of certificates that OpenSSL takes, and that many a test
//! setup has, are unknown to it: one that is its own authority and is trusted as such, and one of
//! X.509's first version (what `openssl x509 -req` makes without extensions) that a trusted
//! authority issued itself. They are verified here, with the same algorithms; neither can have
//! anything between the authority and itself.

use super::certificate::Parts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// Verifies a peer against the authorities; without any, nobody passes.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: everybody passes.
    roots: Option<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    /// For a server that has any root.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
}

impl Verifier {
    /// `roots`: whom to trust; `None` is everybody.
    pub fn new(roots: Option<&[CertificateDer<'static>]>, provider: &Arc<CryptoProvider>) -> Self {
        let roots = roots.map(|certificates| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(certificates.iter().cloned());
            let hints = store.subjects();
            let store = Arc::new(store);
            let clients = WebPkiClientVerifier::builder_with_provider(
                Arc::clone(&store),
                Arc::clone(provider),
            );
            Roots {
                certificates: certificates.to_vec(),
                store,
                clients: clients.build().ok(),
                hints,
            }
        });
        Verifier {
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Verifies what webpki does not know; its own `verdict` stands for everything else.
    fn or_else(
        &self,
        roots: &Roots,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        verdict: Result<(), Error>,
    ) -> Result<(), Error> {
        let Err(Error::InvalidCertificate(CertificateError::Other(_))) = &verdict else {
            return verdict;
        };
        let Some(parts) = Parts::of(certificate) else {
            return verdict;
        };
        let itself = parts.is_self_issued() && roots.certificates.iter().any(|r| r == certificate);
        let issuer = || {
            roots
                .certificates
                .iter()
                .filter_map(|root| Parts::of(root))
                .find(|root| self.issued(root, &parts))
        };
        let issuer = match (itself, parts.version) {
            (true, _) => None,
            (false, 1) => Some(issuer().ok_or(CertificateError::UnknownIssuer)?),
            (false, _) if parts.is_self_issued() => {
                return Err(CertificateError::UnknownIssuer.into());
            }
            (false, _) => return verdict,
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for parts in std::iter::once(parts).chain(issuer) {
            if now < parts.valid.0 {
                return Err(CertificateError::NotValidYet.into());
            }
            if now > parts.valid.1 {
                return Err(CertificateError::Expired.into());
            }
        }
        Ok(())
    }

    /// Whether `root` signed `certificate`.
    fn issued(&self, root: &Parts<'_>, certificate: &Parts<'_>) -> bool {
        root.subject == certificate.issuer
            && self.algorithms.all.iter().any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
                    && algorithm.public_key_alg_id().as_ref() == root.key_algorithm
                    && algorithm
                        .verify_signature(root.key, certificate.signed, certificate.signature)
                        .is_ok()
            })
    }

    fn tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parts = Parts::of(certificate).filter(|parts| parts.version == 1);
        let Some(parts) = parts else {
            return verify_tls12_signature(message, certificate, signed, &self.algorithms);
        };
        let valid = self
            .algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter())
            .any(|algorithm| {
                algorithm.public_key_alg_id().as_ref() == parts.key_algorithm
                    && algorithm
                        .verify_signature(parts.key, message, signed.signature())
                        .is_ok()
            });
        match valid {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match Parts::of(certificate).filter(|parts| parts.version == 1) {
            Some(parts) => {
                let key = SubjectPublicKeyInfoDer::from(parts.key_info);
                verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
            }
            None => verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let verdict = ParsedCertificate::try_from(end_entity).and_then(|certificate| {
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    &roots.store,
                    intermediates,
                    now,
                    self.algorithms.all,
                )
            });
            self.or_else(roots, end_entity, now, verdict)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.roots.as_ref().map_or(&[], |roots| &roots.hints)
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let verdict = match &roots.clients {
                Some(clients) => clients
                    .verify_client_cert(end_entity, intermediates, now)
                    .map(drop),
                None => Err(CertificateError::UnknownIssuer.into()),
            };
            self.or_else(roots, end_entity, now, verdict)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
