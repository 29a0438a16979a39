//! Requests and certificates: building them the way OpenSSL's `req`, `ca` and `x509` do, and reading them.
//!
//! Names follow Open vSwitch: organisation "Open vSwitch", the authority or "Open vSwitch
//! certifier" as its unit. Extensions are few: whether this is an authority, the name again as a
//! DNS name, and the identifiers of the keys, by which a chain is found.

use super::Error;
use super::key::{Hash, Key, is_signed_by};
use super::text::{self, NameStyle};
use der::asn1::{
    BitString, GeneralizedTime, ObjectIdentifier, OctetString, PrintableStringRef, SetOfVec,
    UtcTime, Utf8StringRef,
};
use der::{Any, Decode, DecodePem, Encode, EncodePem};
use ferrovs_runtime::clock;
use sha1::{Digest, Sha1};
use std::time::{Duration, UNIX_EPOCH};
use x509_cert::attr::{Attribute, AttributeTypeAndValue};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version as ReqVersion};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};
use x509_cert::{TbsCertificate, Version};

/// Days for which everything is certified.
pub(super) const DAYS: u64 = 3650;

macro_rules! oids {
    ($($name:ident $oid:literal;)*) => {
        $(pub(super) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($oid);)*
    };
}

oids! {
    COMMON_NAME "2.5.4.3";
    COUNTRY "2.5.4.6";
    LOCALITY "2.5.4.7";
    STATE "2.5.4.8";
    ORGANIZATION "2.5.4.10";
    UNIT "2.5.4.11";
    EMAIL "1.2.840.113549.1.9.1";
    EXTENSION_REQUEST "1.2.840.113549.1.9.14";
    SUBJECT_KEY "2.5.29.14";
    ALT_NAME "2.5.29.17";
    CONSTRAINTS "2.5.29.19";
    AUTHORITY_KEY "2.5.29.35";
}

fn bad(e: der::Error) -> Error {
    Error::Logged(format!("encoding: {e}"))
}

/// One part of a name.
fn part(oid: ObjectIdentifier, value: Any) -> Result<RelativeDistinguishedName, Error> {
    let pair = AttributeTypeAndValue { oid, value };
    let set = SetOfVec::try_from(vec![pair]).map_err(bad)?;
    Ok(RelativeDistinguishedName::from(set))
}

/// Most characters of a common name (X.520's upper bound).
const LONGEST_COMMON_NAME: usize = 64;

/// The name of an entity: with the unit it belongs to.
pub(super) fn name(unit: &str, common_name: &str) -> Result<Name, Error> {
    if common_name.chars().count() > LONGEST_COMMON_NAME {
        return Err(Error::Logged(format!(
            "Error making certificate request: string too long: maxsize={LONGEST_COMMON_NAME}"
        )));
    }
    let country = PrintableStringRef::new("US").map_err(bad)?;
    let mut parts = vec![part(COUNTRY, Any::encode_from(&country).map_err(bad)?)?];
    let rest = [
        (STATE, "CA"),
        (LOCALITY, "Palo Alto"),
        (ORGANIZATION, "Open vSwitch"),
        (UNIT, unit),
        (COMMON_NAME, common_name),
    ];
    for (oid, value) in rest {
        let value = Utf8StringRef::new(value).map_err(bad)?;
        parts.push(part(oid, Any::encode_from(&value).map_err(bad)?)?);
    }
    Ok(RdnSequence(parts))
}

/// The name in a request for a certificate.
pub(super) fn request_name(common_name: &str) -> Result<Name, Error> {
    name("Open vSwitch certifier", common_name)
}

fn extension(oid: ObjectIdentifier, value: &impl Encode) -> Result<Extension, Error> {
    let der = value.to_der().map_err(bad)?;
    Ok(Extension {
        extn_id: oid,
        critical: false,
        extn_value: OctetString::new(der).map_err(bad)?,
    })
}

fn alt_name(dns: &str) -> Result<Extension, Error> {
    // Written byte by byte: names with blanks are no DNS names, but that is what stands there.
    let mut general = vec![0x82];
    let length = der::Length::try_from(dns.len()).map_err(bad)?;
    general.extend(length.to_der().map_err(bad)?);
    general.extend(dns.as_bytes());
    let mut der = vec![0x30];
    let length = der::Length::try_from(general.len()).map_err(bad)?;
    der.extend(length.to_der().map_err(bad)?);
    der.extend(general);
    Ok(Extension {
        extn_id: ALT_NAME,
        critical: false,
        extn_value: OctetString::new(der).map_err(bad)?,
    })
}

/// What names a key: the digest of its bits.
fn key_identifier(public: &SubjectPublicKeyInfoOwned) -> Result<OctetString, Error> {
    let bits = public.subject_public_key.raw_bytes();
    OctetString::new(Sha1::digest(bits).to_vec()).map_err(bad)
}

/// The first block of that kind in a text that may hold more.
fn find_block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let end = format!("-----END {label}-----");
    let from = text.find(&format!("-----BEGIN {label}-----"))?;
    let to = text[from..].find(&end)? + from + end.len();
    Some(&text[from..to])
}

/// A request for a certificate.
pub(super) struct Request(pub CertReq);

impl Request {
    /// A request by the owner of a key, perhaps for a DNS name too.
    pub fn new(key: &Key, subject: &Name, dns: Option<&str>) -> Result<Request, Error> {
        let mut attributes = SetOfVec::new();
        if let Some(dns) = dns {
            let wanted = ExtensionReq(vec![alt_name(dns)?]);
            let value = Any::encode_from(&wanted.0).map_err(bad)?;
            let attribute = Attribute {
                oid: EXTENSION_REQUEST,
                values: SetOfVec::try_from(vec![value]).map_err(bad)?,
            };
            attributes.insert(attribute).map_err(bad)?;
        }
        let info = CertReqInfo {
            version: ReqVersion::V1,
            subject: subject.clone(),
            public_key: key.public()?,
            attributes,
        };
        let signature = key.sign(Hash::Sha256, &info.to_der().map_err(bad)?)?;
        Ok(Request(CertReq {
            info,
            algorithm: key.algorithm(Hash::Sha256),
            signature: BitString::from_bytes(&signature).map_err(bad)?,
        }))
    }

    pub fn from_text(text: &str) -> Result<Request, Error> {
        let failed = || Error::Logged("Unable to load certificate request".into());
        let block = find_block(text, "CERTIFICATE REQUEST").ok_or_else(failed)?;
        let request = CertReq::from_pem(block).map_err(|_| failed())?;
        Ok(Request(request))
    }

    /// The request for people, then for programs.
    pub fn to_text(&self) -> Result<String, Error> {
        Ok(format!(
            "{}{}",
            text::request(&self.0, self.extensions()?),
            self.to_pem()?
        ))
    }

    pub fn to_pem(&self) -> Result<String, Error> {
        self.0.to_pem(Default::default()).map_err(bad)
    }

    /// The extensions that it asks for.
    pub fn extensions(&self) -> Result<Extensions, Error> {
        let mut found = Vec::new();
        for attribute in self.0.info.attributes.iter() {
            if attribute.oid == EXTENSION_REQUEST {
                for value in attribute.values.iter() {
                    let wanted = Extensions::from_der(&value.to_der().map_err(bad)?);
                    found.extend(wanted.map_err(bad)?);
                }
            }
        }
        Ok(found)
    }

    /// Whether whoever asks has the key.
    pub fn is_genuine(&self) -> bool {
        let info = &self.0.info;
        info.to_der().is_ok_and(|data| {
            let signature = self.0.signature.raw_bytes();
            is_signed_by(&info.public_key, &self.0.algorithm, &data, signature)
        })
    }
}

/// The whole second that it is, and the one at which certificates end.
fn validity() -> Result<Validity, Error> {
    let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let from = Duration::from_secs(now.as_secs());
    let to = from + Duration::from_secs(DAYS * 24 * 3600);
    let time = |at| match UtcTime::from_unix_duration(at) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => GeneralizedTime::from_unix_duration(at).map(Time::GeneralTime),
    };
    Ok(Validity {
        not_before: time(from).map_err(bad)?,
        not_after: time(to).map_err(bad)?,
    })
}

/// Who signs: name and key, and the key's identifier if the authority is not itself the subject.
pub(super) struct Issuer<'a> {
    pub name: &'a Name,
    pub key: &'a Key,
    pub certificate: Option<&'a Certificate>,
}

/// A certificate.
pub(super) struct Certificate(pub x509_cert::Certificate);

impl Certificate {
    /// Certifies a request's key under a name.
    pub fn issue(
        issuer: &Issuer<'_>,
        request: &Request,
        subject: &Name,
        serial: u64,
        is_authority: bool,
    ) -> Result<Certificate, Error> {
        let constraints = BasicConstraints {
            ca: is_authority,
            path_len_constraint: None,
        };
        let mut extensions = vec![extension(CONSTRAINTS, &constraints)?];
        for wanted in request.extensions()? {
            if !extensions.iter().any(|e| e.extn_id == wanted.extn_id) {
                extensions.push(wanted);
            }
        }
        let serial = serial.to_be_bytes();
        let start = serial.iter().position(|&b| b != 0).unwrap_or(7);
        let serial = SerialNumber::new(&serial[start..]).map_err(bad)?;
        Certificate::build(issuer, request, subject, serial, extensions, Hash::Sha512)
    }

    /// A request's owner certifies itself.
    pub fn self_signed(request: &Request, key: &Key, dns: &str) -> Result<Certificate, Error> {
        let subject = request.0.info.subject.clone();
        let issuer = Issuer {
            name: &subject,
            key,
            certificate: None,
        };
        let mut serial = uuid::Uuid::new_v4().as_bytes().to_vec();
        serial.extend(&uuid::Uuid::new_v4().as_bytes()[..4]);
        serial[0] = serial[0] & 0x7f | 0x01;
        let serial = SerialNumber::new(&serial).map_err(bad)?;
        let extensions = vec![alt_name(dns)?];
        Certificate::build(&issuer, request, &subject, serial, extensions, Hash::Sha256)
    }

    fn build(
        issuer: &Issuer<'_>,
        request: &Request,
        subject: &Name,
        serial_number: SerialNumber,
        mut extensions: Extensions,
        hash: Hash,
    ) -> Result<Certificate, Error> {
        let public = &request.0.info.public_key;
        let own = SubjectKeyIdentifier(key_identifier(public)?);
        extensions.push(extension(SUBJECT_KEY, &own)?);
        if let Some(certificate) = issuer.certificate {
            let authority = &certificate.0.tbs_certificate.subject_public_key_info;
            let by = AuthorityKeyIdentifier {
                key_identifier: Some(key_identifier(authority)?),
                ..AuthorityKeyIdentifier::default()
            };
            extensions.push(extension(AUTHORITY_KEY, &by)?);
        }
        let algorithm = issuer.key.algorithm(hash);
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number,
            signature: algorithm.clone(),
            issuer: issuer.name.clone(),
            validity: validity()?,
            subject: subject.clone(),
            subject_public_key_info: public.clone(),
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        };
        let signature = issuer
            .key
            .sign(hash, &tbs_certificate.to_der().map_err(bad)?)?;
        Ok(Certificate(x509_cert::Certificate {
            tbs_certificate,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(&signature).map_err(bad)?,
        }))
    }

    pub fn from_text(text: &str) -> Result<Certificate, Error> {
        let failed = || Error::Logged("Unable to load certificate".into());
        let block = find_block(text, "CERTIFICATE").ok_or_else(failed)?;
        let certificate = x509_cert::Certificate::from_pem(block).map_err(|_| failed())?;
        Ok(Certificate(certificate))
    }

    /// The certificate for people, then for programs.
    pub fn to_text(&self, style: NameStyle) -> Result<String, Error> {
        let pem = self.0.to_pem(Default::default()).map_err(bad)?;
        Ok(format!("{}{pem}", text::certificate(&self.0, style)))
    }

    pub fn der(&self) -> Result<Vec<u8>, Error> {
        self.0.to_der().map_err(bad)
    }

    /// Whether the owner of a key signed it.
    pub fn is_signed_by(&self, public: &SubjectPublicKeyInfoOwned) -> bool {
        let (algorithm, signature) = (&self.0.signature_algorithm, &self.0.signature);
        let data = self.0.tbs_certificate.to_der();
        data.is_ok_and(|data| is_signed_by(public, algorithm, &data, signature.raw_bytes()))
    }
}

/// A decoded extension, as far as it is one of those that are used here.
pub(super) enum Known {
    Constraints(bool),
    Dns(Vec<String>),
    SubjectKey(Vec<u8>),
    AuthorityKey(Vec<u8>),
    Other,
}

pub(super) fn decode(extension: &Extension) -> Known {
    let der = extension.extn_value.as_bytes();
    match extension.extn_id {
        CONSTRAINTS => {
            BasicConstraints::from_der(der).map_or(Known::Other, |c| Known::Constraints(c.ca))
        }
        ALT_NAME => SubjectAltName::from_der(der).map_or(Known::Other, |names| {
            let dns = names.0.iter().filter_map(|name| match name {
                GeneralName::DnsName(dns) => Some(dns.to_string()),
                _ => None,
            });
            Known::Dns(dns.collect())
        }),
        SUBJECT_KEY => SubjectKeyIdentifier::from_der(der)
            .map_or(Known::Other, |id| Known::SubjectKey(id.0.into_bytes())),
        AUTHORITY_KEY => match AuthorityKeyIdentifier::from_der(der) {
            Ok(AuthorityKeyIdentifier {
                key_identifier: Some(id),
                ..
            }) => Known::AuthorityKey(id.into_bytes()),
            _ => Known::Other,
        },
        _ => Known::Other,
    }
}
