//! Private keys: making them, their files, signatures by them and with their public halves.

use super::Error;
use der::asn1::{ObjectIdentifier, UintRef};
use der::pem::PemLabel;
use der::{Any, Decode, Encode, EncodePem, Sequence};
use dsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use dsa::{Components, KeySize, SigningKey, VerifyingKey};
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
};
use rsa::rand_core::OsRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256, Sha512};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum KeyKind {
    Rsa,
    Dsa,
}

/// Digests that signatures are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn pkcs1(self) -> Pkcs1v15Sign {
        match self {
            Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }
}

/// How something is signed, and what OpenSSL calls that.
const ALGORITHMS: [(KeyKind, Hash, ObjectIdentifier, &str); 4] = [
    (
        KeyKind::Rsa,
        Hash::Sha256,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
        "sha256WithRSAEncryption",
    ),
    (
        KeyKind::Rsa,
        Hash::Sha512,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"),
        "sha512WithRSAEncryption",
    ),
    (
        KeyKind::Dsa,
        Hash::Sha256,
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.2"),
        "dsa_with_SHA256",
    ),
    (
        KeyKind::Dsa,
        Hash::Sha512,
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.4"),
        "dsa_with_SHA512",
    ),
];

/// OpenSSL's name of a signature algorithm.
pub(super) fn algorithm_name(oid: &ObjectIdentifier) -> String {
    let known = ALGORITHMS.iter().find(|(_, _, o, _)| o == oid);
    known.map_or_else(|| oid.to_string(), |(.., name)| name.to_string())
}

/// The parameters that DSA keys share, as a file holds them.
#[derive(Sequence)]
pub(super) struct DsaParameters<'a> {
    pub p: UintRef<'a>,
    pub q: UintRef<'a>,
    pub g: UintRef<'a>,
}

impl PemLabel for DsaParameters<'_> {
    const PEM_LABEL: &'static str = "DSA PARAMETERS";
}

/// A private key.
pub(super) enum Key {
    Rsa(Box<RsaPrivateKey>),
    Dsa(Box<SigningKey>),
}

/// Something about a key's file or numbers that is wrong.
fn bad(what: &str, e: impl std::fmt::Display) -> Error {
    Error::Logged(format!("{what}: {e}"))
}

/// New parameters for DSA keys, in PEM.
pub(super) fn dsa_parameters(bits: usize) -> Result<String, Error> {
    let size = match bits {
        2048 => KeySize::DSA_2048_224,
        3072 => KeySize::DSA_3072_256,
        _ => {
            let text = "argument to -B or --bits must be 2048 or 3072 for DSA keys";
            return Err(Error::Said(text.into()));
        }
    };
    let made = Components::generate(&mut OsRng, size);
    let [p, q, g] = [made.p(), made.q(), made.g()].map(|n| n.to_bytes_be());
    let number = |bytes| UintRef::new(bytes).map_err(|e| bad("DSA parameters", e));
    let parameters = DsaParameters {
        p: number(&p)?,
        q: number(&q)?,
        g: number(&g)?,
    };
    let pem = parameters.to_pem(LineEnding::LF);
    pem.map_err(|e| bad("DSA parameters", e))
}

impl Key {
    pub fn rsa(bits: usize) -> Result<Key, Error> {
        let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(|e| bad("RSA key", e))?;
        Ok(Key::Rsa(Box::new(key)))
    }

    /// A key with the parameters of a file.
    pub fn dsa(parameters: &str) -> Result<Key, Error> {
        let wrong = |e: der::Error| bad("unable to load DSA parameters", e);
        let (label, der) = der::pem::decode_vec(parameters.as_bytes())
            .map_err(|e| bad("unable to load DSA parameters", e))?;
        if label != DsaParameters::PEM_LABEL {
            return Err(bad("unable to load DSA parameters", label));
        }
        let read = DsaParameters::from_der(&der).map_err(wrong)?;
        let number = |n: UintRef<'_>| dsa::BigUint::from_bytes_be(n.as_bytes());
        let components =
            Components::from_components(number(read.p), number(read.q), number(read.g))
                .map_err(|e| bad("unable to load DSA parameters", e))?;
        Ok(Key::Dsa(Box::new(SigningKey::generate(
            &mut OsRng, components,
        ))))
    }

    pub fn from_pem(text: &str) -> Result<Key, Error> {
        if let Ok(key) = RsaPrivateKey::from_pkcs8_pem(text) {
            return Ok(Key::Rsa(Box::new(key)));
        }
        let key = SigningKey::from_pkcs8_pem(text);
        let key = key.map_err(|e| bad("Could not read private key", e))?;
        Ok(Key::Dsa(Box::new(key)))
    }

    pub fn to_pem(&self) -> Result<String, Error> {
        let pem = match self {
            Key::Rsa(key) => key.to_pkcs8_pem(LineEnding::LF),
            Key::Dsa(key) => key.to_pkcs8_pem(LineEnding::LF),
        };
        pem.map(|text| text.to_string())
            .map_err(|e| bad("private key", e))
    }

    /// The public half, as certificates hold it.
    pub fn public(&self) -> Result<SubjectPublicKeyInfoOwned, Error> {
        let der = match self {
            Key::Rsa(key) => key.to_public_key().to_public_key_der(),
            Key::Dsa(key) => key.verifying_key().to_public_key_der(),
        };
        let der = der.map_err(|e| bad("public key", e))?;
        SubjectPublicKeyInfoOwned::from_der(der.as_bytes()).map_err(|e| bad("public key", e))
    }

    fn kind(&self) -> KeyKind {
        match self {
            Key::Rsa(_) => KeyKind::Rsa,
            Key::Dsa(_) => KeyKind::Dsa,
        }
    }

    /// How signatures by this key are called.
    pub fn algorithm(&self, hash: Hash) -> AlgorithmIdentifierOwned {
        let kind = self.kind();
        let found = ALGORITHMS
            .iter()
            .find(|(k, h, ..)| (*k, *h) == (kind, hash));
        AlgorithmIdentifierOwned {
            oid: found.map_or(ALGORITHMS[0].2, |(_, _, oid, _)| *oid),
            parameters: (kind == KeyKind::Rsa).then(Any::null),
        }
    }

    pub fn sign(&self, hash: Hash, data: &[u8]) -> Result<Vec<u8>, Error> {
        let digest = hash.digest(data);
        match self {
            Key::Rsa(key) => key
                .sign_with_rng(&mut OsRng, hash.pkcs1(), &digest)
                .map_err(|e| bad("signature", e)),
            Key::Dsa(key) => {
                let signature: dsa::Signature =
                    key.sign_prehash(&digest).map_err(|e| bad("signature", e))?;
                signature.to_der().map_err(|e| bad("signature", e))
            }
        }
    }
}

/// Whether a signature over data is by the owner of a public key.
pub(super) fn is_signed_by(
    public: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    data: &[u8],
    signature: &[u8],
) -> bool {
    let found = ALGORITHMS.iter().find(|(_, _, o, _)| *o == algorithm.oid);
    let (Some((kind, hash, ..)), Ok(der)) = (found, public.to_der()) else {
        return false;
    };
    let digest = hash.digest(data);
    match kind {
        KeyKind::Rsa => RsaPublicKey::from_public_key_der(&der)
            .is_ok_and(|key| key.verify(hash.pkcs1(), &digest, signature).is_ok()),
        KeyKind::Dsa => {
            let key = VerifyingKey::from_public_key_der(&der);
            let signature = dsa::Signature::from_der(signature);
            matches!((key, signature), (Ok(k), Ok(s)) if k.verify_prehash(&digest, &s).is_ok())
        }
    }
}
