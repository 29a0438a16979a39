//! What went wrong, in OpenSSL's words: operators and their scripts know those.
//!
//! OpenSSL writes "error:", eight hexadecimal digits (library and reason), the library, and the
//! reason. Reasons of 1000 and more are alerts that the peer sent.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};
use std::io;

/// The text of a reason of OpenSSL's SSL library.
fn ssl(reason: u32, text: &str) -> String {
    format!("error:0A{reason:06X}:SSL routines::{text}")
}

/// Options that leave no cipher suite.
pub(super) fn no_ciphers() -> String {
    ssl(181, "no ciphers available")
}

/// A list of ciphers in which nothing is known.
pub(super) fn no_cipher_match() -> String {
    ssl(185, "no cipher match")
}

/// A key that is gone since a certificate that does not match came after it.
pub(super) fn no_private_key() -> String {
    ssl(190, "no private key assigned")
}

/// A key that does not match the certificate before it.
pub(super) const KEY_MISMATCH: &str =
    "error:05800074:x509 certificate routines::key values mismatch";
/// A file without a certificate.
pub(super) const NO_START_LINE: &str = "error:0480006C:PEM routines::no start line";
/// A file without a key.
pub(super) const NO_KEY: &str = "error:1E08010C:DECODER routines::unsupported";

/// A system call's failure.
pub(super) fn system(e: &io::Error) -> String {
    let number = e.raw_os_error().unwrap_or(5);
    let text = crate::error_text(e);
    format!("error:80{number:06X}:system library::{text}")
}

/// Why a connection failed. `head` is how the peer's first words begin; a server that heard an
/// alert first, or HTTP, says so.
pub(super) fn failure(e: &Error, head: &[u8], client: bool) -> String {
    let wrong_version = || ssl(267, "wrong version number");
    match e {
        Error::InvalidMessage(_) if !client && is_http(head) => ssl(156, "http request"),
        Error::AlertReceived(_) if !client && head.first() == Some(&0x15) => {
            ssl(244, "unexpected message")
        }
        Error::InvalidCertificate(_) => ssl(134, "certificate verify failed"),
        Error::NoCertificatesPresented => ssl(199, "peer did not return a certificate"),
        Error::AlertReceived(alert) => received(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => wrong_version(),
        Error::InvalidMessage(
            InvalidMessage::MessageTooLarge | InvalidMessage::HandshakePayloadTooLarge,
        ) => ssl(198, "packet length too long"),
        Error::InvalidMessage(_) => ssl(160, "length too short"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            ssl(244, "unexpected message")
        }
        Error::DecryptError => ssl(281, "decryption failed or bad record mac"),
        Error::PeerSentOversizedRecord => ssl(198, "packet length too long"),
        Error::PeerIncompatible(what) => match what {
            PeerIncompatible::NoCipherSuitesInCommon => ssl(193, "no shared cipher"),
            PeerIncompatible::NoKxGroupsInCommon => ssl(101, "no suitable key share"),
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
                ssl(118, "no suitable signature algorithm")
            }
            _ => ssl(258, "unsupported protocol"),
        },
        Error::PeerMisbehaved(_) => ssl(110, "bad extension"),
        _ => format!("error:0A0C0103:SSL routines::internal error ({e})"),
    }
}

fn is_http(head: &[u8]) -> bool {
    [&b"GET "[..], b"POST ", b"HEAD ", b"PUT "]
        .iter()
        .any(|word| head.starts_with(word))
}

/// OpenSSL's text for an alert, which says with which version of the protocol the alert came in (since 3.2; before,
/// the first ones were said to be of SSL 3.0).
fn received(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let text = match alert {
        A::UnexpectedMessage => "ssl/tls alert unexpected message",
        A::BadRecordMac => "ssl/tls alert bad record mac",
        A::DecryptionFailed => "tlsv1 alert decryption failed",
        A::RecordOverflow => "tlsv1 alert record overflow",
        A::DecompressionFailure => "ssl/tls alert decompression failure",
        A::HandshakeFailure => "ssl/tls alert handshake failure",
        A::NoCertificate => "ssl/tls alert no certificate",
        A::BadCertificate => "ssl/tls alert bad certificate",
        A::UnsupportedCertificate => "ssl/tls alert unsupported certificate",
        A::CertificateRevoked => "ssl/tls alert certificate revoked",
        A::CertificateExpired => "ssl/tls alert certificate expired",
        A::CertificateUnknown => "ssl/tls alert certificate unknown",
        A::IllegalParameter => "ssl/tls alert illegal parameter",
        A::UnknownCA => "tlsv1 alert unknown ca",
        A::AccessDenied => "tlsv1 alert access denied",
        A::DecodeError => "tlsv1 alert decode error",
        A::DecryptError => "tlsv1 alert decrypt error",
        A::ExportRestriction => "tlsv1 alert export restriction",
        A::ProtocolVersion => "tlsv1 alert protocol version",
        A::InsufficientSecurity => "tlsv1 alert insufficient security",
        A::InternalError => "tlsv1 alert internal error",
        A::InappropriateFallback => "tlsv1 alert inappropriate fallback",
        A::UserCanceled => "tlsv1 alert user cancelled",
        A::NoRenegotiation => "tlsv1 alert no renegotiation",
        A::MissingExtension => "tlsv13 alert missing extension",
        A::UnsupportedExtension => "tlsv1 unsupported extension",
        A::CertificateUnobtainable => "tlsv1 certificate unobtainable",
        A::UnrecognisedName => "tlsv1 unrecognized name",
        A::BadCertificateStatusResponse => "tlsv1 bad certificate status response",
        A::BadCertificateHashValue => "tlsv1 bad certificate hash value",
        A::UnknownPSKIdentity => "tlsv1 alert unknown psk identity",
        A::CertificateRequired => "tlsv13 alert certificate required",
        A::NoApplicationProtocol => "tlsv1 alert no application protocol",
        _ => "reason(unknown alert)",
    };
    ssl(1000 + u32::from(u8::from(alert)), text)
}
