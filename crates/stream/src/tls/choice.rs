//! Which protocol versions and cipher suites: `--ssl-protocols`, `--ssl-ciphers`,
//! `--ssl-ciphersuites`.
//!
//! OpenSSL's cipher strings name suites and classes of suites ("HIGH", "ECDHE+AESGCM"), add them,
//! move them to the end ("+"), delete them ("-") or ban them ("!"). rustls has six suites of TLS
//! 1.2, all with ephemeral keys and authenticated encryption; every other suite that OpenSSL
//! knows is an empty class here.
//!
//! Invariant: a suite that the user did not allow is never used. If none of those allowed is here,
//! the log says so, and TLS 1.2 is not offered.

use super::text;
use ferrovs_runtime::vlog::{self, modules};
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedProtocolVersion};
use std::sync::Arc;

/// The versions that are offered unless something else is asked for.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// Reads a list of versions, or a range such as "TLSv1.2+" or "TLSv1.2-TLSv1.3". `None`: what is
/// wrong has been logged, and nothing changes.
pub(super) fn versions(list: &str) -> Option<Vec<&'static SupportedProtocolVersion>> {
    let rank = |name: &str| match name {
        "TLSv1" | "TLSv1.1" => Some(0),
        "TLSv1.2" => Some(1),
        "TLSv1.3" => Some(2),
        _ => None,
    };
    let mut allowed = [false; 3];
    let mut any = false;
    for word in list.split([',', ' ', '\t']).filter(|w| !w.is_empty()) {
        any = true;
        let (from, to) = match (word.strip_suffix('+'), word.split_once('-')) {
            (Some(from), _) => (rank(from), Some(2)),
            (None, Some((from, to))) => (rank(from), rank(to)),
            (None, None) => (rank(word), rank(word)),
        };
        match (from, to) {
            (Some(from), Some(to)) if from <= to => allowed[from..=to].fill(true),
            _ => {
                vlog::err!(
                    modules::STREAM_SSL,
                    "{word}: SSL/TLS protocol not recognized"
                );
                return None;
            }
        }
    }
    if !any {
        vlog::err!(modules::STREAM_SSL, "SSL/TLS protocol settings invalid");
        return None;
    }
    if allowed[0] {
        vlog::warn!(
            modules::STREAM_SSL,
            "TLSv1 and TLSv1.1 protocols are not supported"
        );
    }
    let chosen = VERSIONS.iter().zip(&allowed[1..]).filter(|(_, on)| **on);
    Some(chosen.map(|(v, _)| *v).collect())
}

/// A suite of TLS 1.2: OpenSSL's name, rustls's, and the classes that OpenSSL counts it among.
struct Suite {
    name: &'static str,
    id: CipherSuite,
    authentication: &'static str,
    bits: u32,
    classes: &'static [&'static str],
}

/// In the order of OpenSSL's preference.
const SUITES: &[Suite] = &[
    Suite {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        authentication: "ECDSA",
        bits: 256,
        classes: &["AES", "AES256", "AESGCM", "SHA384"],
    },
    Suite {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        id: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        authentication: "RSA",
        bits: 256,
        classes: &["AES", "AES256", "AESGCM", "SHA384"],
    },
    Suite {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        authentication: "ECDSA",
        bits: 256,
        classes: &["CHACHA20"],
    },
    Suite {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        id: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        authentication: "RSA",
        bits: 256,
        classes: &["CHACHA20"],
    },
    Suite {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        authentication: "ECDSA",
        bits: 128,
        classes: &["AES", "AES128", "AESGCM", "SHA256"],
    },
    Suite {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        id: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        authentication: "RSA",
        bits: 128,
        classes: &["AES", "AES128", "AESGCM", "SHA256"],
    },
];

/// Classes that all six suites are in.
const EVERY: &[&str] = &[
    "ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "TLSv1.2", "FIPS",
];

/// Classes that OpenSSL has and none of the six is in.
const NONE: &[&str] = &[
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "eNULL",
    "NULL",
    "aNULL",
    "kRSA",
    "aDH",
    "kDHE",
    "kEDH",
    "DH",
    "DHE",
    "EDH",
    "kDH",
    "kDHr",
    "kDHd",
    "ADH",
    "AECDH",
    "aDSS",
    "DSS",
    "kPSK",
    "aPSK",
    "PSK",
    "kECDHEPSK",
    "kDHEPSK",
    "kRSAPSK",
    "kSRP",
    "aSRP",
    "SRP",
    "SSLv3",
    "TLSv1",
    "TLSv1.0",
    "AESCCM",
    "AESCCM8",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "DES",
    "3DES",
    "RC2",
    "RC4",
    "IDEA",
    "SEED",
    "MD5",
    "SHA1",
    "SHA",
    "aGOST",
    "aGOST01",
    "kGOST",
    "GOST94",
    "GOST89MAC",
    "CBC",
    "COMPLEMENTOFALL",
    "COMPLEMENTOFDEFAULT",
];

impl Suite {
    /// Whether a class, or a name, means this suite.
    fn is(&self, word: &str) -> bool {
        EVERY.contains(&word)
            || self.name == word
            || self.classes.contains(&word)
            || match word {
                "aRSA" | "RSA" => self.authentication == "RSA",
                "aECDSA" | "ECDSA" => self.authentication == "ECDSA",
                "SUITEB128" | "SUITEB128C2" => self.id == SUITES[4].id || self.id == SUITES[0].id,
                "SUITEB128ONLY" => self.id == SUITES[4].id,
                "SUITEB192" => self.id == SUITES[0].id,
                _ => false,
            }
    }
}

/// Whether OpenSSL knows `word`, as a class or as the name of a suite that is not here.
fn known(word: &str) -> bool {
    const PARTS: &[&str] = &[
        "3DES",
        "ADH",
        "AECDH",
        "AES128",
        "AES256",
        "ARIA",
        "ARIA128",
        "ARIA256",
        "CAMELLIA128",
        "CAMELLIA256",
        "CBC",
        "CBC3",
        "CCM",
        "CCM8",
        "CHACHA20",
        "DES",
        "DHE",
        "DSS",
        "ECDHE",
        "ECDSA",
        "GCM",
        "IDEA",
        "MD5",
        "NULL",
        "POLY1305",
        "PSK",
        "RC4",
        "RSA",
        "SEED",
        "SHA",
        "SHA256",
        "SHA384",
        "SRP",
    ];
    SUITES.iter().any(|s| s.is(word))
        || NONE.contains(&word)
        || (word.contains('-') && word.split('-').all(|part| PARTS.contains(&part)))
}

/// What a cipher string leaves, in its order; `None` if nothing in it is known.
fn ciphers(list: &str) -> Option<Vec<CipherSuite>> {
    let mut chosen: Vec<&Suite> = Vec::new();
    let mut banned: Vec<CipherSuite> = Vec::new();
    let mut anything = false;
    for word in list.split([':', ',', ' ', ';']).filter(|w| !w.is_empty()) {
        if let Some(order) = word.strip_prefix('@') {
            if order == "STRENGTH" {
                chosen.sort_by_key(|s| std::cmp::Reverse(s.bits));
            }
            continue;
        }
        let (rule, word) = match word.split_at(1) {
            (rule @ ("!" | "-" | "+"), word) => (rule, word),
            _ => ("", word),
        };
        let terms: Vec<&str> = word.split('+').collect();
        if !terms.iter().all(|term| known(term)) {
            continue;
        }
        let mut meant: Vec<&Suite> = SUITES
            .iter()
            .filter(|s| terms.iter().all(|term| s.is(term)))
            .collect();
        match rule {
            "!" | "-" => {
                chosen.retain(|s| !s.is_in(&meant));
                if rule == "!" {
                    banned.extend(meant.iter().map(|s| s.id));
                }
            }
            "+" => {
                let (last, first) = chosen.iter().partition(|s| s.is_in(&meant));
                chosen = first;
                let mut last: Vec<&Suite> = last;
                chosen.append(&mut last);
            }
            _ => {
                anything = true;
                if meant.is_empty() && word.contains('-') {
                    vlog::warn!(modules::STREAM_SSL, "{word}: cipher is not supported");
                }
                meant.retain(|s| !s.is_in(&chosen) && !banned.contains(&s.id));
                chosen.append(&mut meant);
            }
        }
    }
    anything.then(|| chosen.iter().map(|s| s.id).collect())
}

impl Suite {
    fn is_in(&self, suites: &[&Suite]) -> bool {
        suites.iter().any(|s| s.id == self.id)
    }
}

/// What a list of TLS 1.3 suites leaves; `None` if nothing in it is known.
fn ciphersuites(list: &str) -> Option<Vec<CipherSuite>> {
    let mut chosen = Vec::new();
    let words: Vec<&str> = list.split(':').filter(|w| !w.is_empty()).collect();
    let mut anything = words.is_empty();
    for word in words {
        let id = match word {
            "TLS_AES_256_GCM_SHA384" => CipherSuite::TLS13_AES_256_GCM_SHA384,
            "TLS_AES_128_GCM_SHA256" => CipherSuite::TLS13_AES_128_GCM_SHA256,
            "TLS_CHACHA20_POLY1305_SHA256" => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            "TLS_AES_128_CCM_SHA256" | "TLS_AES_128_CCM_8_SHA256" => {
                anything = true;
                vlog::warn!(modules::STREAM_SSL, "{word}: cipher is not supported");
                continue;
            }
            _ => continue,
        };
        anything = true;
        chosen.push(id);
    }
    anything.then_some(chosen)
}

/// Which suites are allowed: of TLS 1.2, of TLS 1.3; `None` is all.
#[derive(Clone, Default)]
pub(super) struct Allowed {
    ciphers: Option<Vec<CipherSuite>>,
    ciphersuites: Option<Vec<CipherSuite>>,
}

impl Allowed {
    /// Takes a cipher string, if any; if it names none, that is logged, and none is allowed.
    pub fn set_ciphers(&mut self, list: Option<&str>) {
        let Some(list) = list else {
            self.ciphers = None;
            return;
        };
        let chosen = ciphers(list);
        match &chosen {
            Some(chosen) if chosen.is_empty() => vlog::warn!(
                modules::STREAM_SSL,
                "{list}: none of these ciphers is supported, TLSv1.2 cannot be used"
            ),
            Some(_) => {}
            None => vlog::err!(
                modules::STREAM_SSL,
                "SSL_CTX_set_cipher_list: {}",
                text::no_cipher_match()
            ),
        }
        self.ciphers = Some(chosen.unwrap_or_default());
    }

    /// Takes a list of TLS 1.3 suites, if any; what is wrong with it is logged and changes nothing.
    pub fn set_ciphersuites(&mut self, list: Option<&str>) {
        match list.map(ciphersuites) {
            Some(Some(chosen)) => self.ciphersuites = Some(chosen),
            Some(None) => vlog::err!(
                modules::STREAM_SSL,
                "SSL_CTX_set_ciphersuites: {}",
                text::no_cipher_match()
            ),
            None => self.ciphersuites = None,
        }
    }

    /// The algorithms, limited to the allowed suites, in the order in which they were given.
    pub fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = rustls::crypto::ring::default_provider();
        let here = std::mem::take(&mut provider.cipher_suites);
        for (tls13, wanted) in [(true, &self.ciphersuites), (false, &self.ciphers)] {
            let mut suites: Vec<_> = here
                .iter()
                .filter(|s| s.tls13().is_some() == tls13)
                .copied()
                .collect();
            if let Some(wanted) = wanted {
                let place = |id: CipherSuite| wanted.iter().position(|w| *w == id);
                suites.retain(|s| place(s.suite()).is_some());
                suites.sort_by_key(|s| place(s.suite()));
            }
            provider.cipher_suites.append(&mut suites);
        }
        Arc::new(provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_lists_and_ranges_are_understood() {
        let count = |text: &str| versions(text).map(|v| v.len());
        assert_eq!(count("TLSv1.2"), Some(1));
        assert_eq!(count("TLSv1.2,TLSv1.3"), Some(2));
        assert_eq!(count("TLSv1.3+"), Some(1));
        assert_eq!(count("TLSv1-TLSv1.2"), Some(1));
        assert_eq!(count("TLSv1"), Some(0));
        assert_eq!(count("TLSv1.2 SSLv3"), None);
        assert_eq!(count(""), None);
    }

    #[test]
    fn cipher_strings_add_move_delete_and_ban() {
        let of = |list: &str| {
            ciphers(list).map(|ids| {
                ids.iter()
                    .map(|id| SUITES.iter().position(|s| s.id == *id).unwrap())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(of("HIGH:!aNULL:!MD5"), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(of("ECDHE-RSA-AES128-GCM-SHA256"), Some(vec![5]));
        assert_eq!(of("ECDHE+AESGCM:!aRSA"), Some(vec![0, 4]));
        assert_eq!(of("ALL:+AESGCM:-ECDSA"), Some(vec![3, 1, 5]));
        assert_eq!(of("!RSA:ALL"), Some(vec![0, 2, 4]));
        assert_eq!(of("AES128:AES256:@STRENGTH"), Some(vec![0, 1, 4, 5]));
        assert_eq!(of("AES128-SHA"), Some(vec![]));
        assert_eq!(of("JUNK"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_list_of_tls_1_3_suites_keeps_its_order() {
        let mut allowed = Allowed::default();
        allowed.set_ciphersuites(Some(
            "TLS_CHACHA20_POLY1305_SHA256:junk:TLS_AES_128_GCM_SHA256",
        ));
        allowed.set_ciphers(Some("AES128-SHA"));
        let ids: Vec<_> = allowed
            .provider()
            .cipher_suites
            .iter()
            .map(|s| s.suite())
            .collect();
        assert_eq!(
            ids,
            [
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS13_AES_128_GCM_SHA256
            ]
        );
        allowed.set_ciphersuites(Some("junk"));
        assert_eq!(allowed.provider().cipher_suites.len(), 2);
    }

    #[test]
    fn ciphers_that_nobody_knows_allow_none() {
        let mut allowed = Allowed::default();
        allowed.set_ciphers(Some("junk"));
        let suites = &allowed.provider().cipher_suites;
        assert!(!suites.is_empty() && suites.iter().all(|s| s.tls13().is_some()));
    }
}
