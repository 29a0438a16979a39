//! A certificate authority's directory, kept as OpenSSL's `ca` command keeps it.
//!
//! `index.txt` has a line for each certificate (validity, end, serial, file, name), `serial` the
//! next number in hexadecimal; before either is replaced, the old one is kept beside it as `.old`.

use super::key::{self, Key, KeyKind};
use super::options::{Settings, write_private};
use super::text::{self, NameStyle};
use super::x509::{
    AUTHORITY_KEY, COMMON_NAME, COUNTRY, Certificate, DAYS, EMAIL, Issuer, ORGANIZATION, Request,
    STATE, SUBJECT_KEY, UNIT,
};
use super::{Error, Outcome, read, said, write};
use ferrovs_runtime::clock;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use x509_cert::ext::Extension;
use x509_cert::name::{Name, RdnSequence};

/// Makes both authorities.
pub(super) fn init(settings: &Settings) -> Outcome {
    let dir = &settings.dir;
    if dir.exists() && !settings.force {
        return said(format!(
            "{} already exists and --force not specified",
            dir.display()
        ));
    }
    make_dir(dir)?;
    if settings.key == KeyKind::Dsa {
        let file = dir.join("dsaparam.pem");
        if !file.exists() {
            println!("Generating DSA parameters, please wait...");
            write(&file, &key::dsa_parameters(settings.bits)?)?;
        }
    }
    for name in ["controllerca", "switchca"] {
        println!("Creating {name}...");
        create(settings, name)?;
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Outcome {
    if dir.exists() && !dir.is_dir() {
        return Err(Error::Plain(format!(
            "mkdir: cannot create directory \u{2018}{}\u{2019}: File exists",
            dir.display()
        )));
    }
    std::fs::create_dir_all(dir).map_err(|e| {
        Error::Plain(format!(
            "mkdir: cannot create directory \u{2018}{}\u{2019}: {}",
            dir.display(),
            super::reason(&e)
        ))
    })
}

/// Makes an authority: what is there of an earlier one stays, but for its key and certificate.
fn create(settings: &Settings, name: &str) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let dir = settings.authority(name);
    for sub in ["", "certs", "crl", "newcerts", "private"] {
        make_dir(&dir.join(sub))?;
    }
    let private = dir.join("private");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| Error::io(&private, e))?;
    for (file, text) in [("index.txt", ""), ("serial", "01\n"), ("crlnumber", "01\n")] {
        let file = dir.join(file);
        if !file.exists() {
            write(&file, text)?;
        }
    }
    let settings_file = dir.join("ca.cnf");
    if !settings_file.exists() {
        let common_name = format!(
            "OVS {name} CA Certificate ({})",
            text::day_and_time(clock::wall())
        );
        write(&settings_file, &ca_settings(name, &common_name))?;
    }
    let key = match settings.key {
        KeyKind::Rsa => Key::rsa(settings.bits)?,
        KeyKind::Dsa => {
            let parameters = read(&settings.dir.join("dsaparam.pem"))?;
            write(&dir.join("dsaparam.pem"), &parameters)?;
            Key::dsa(&parameters)?
        }
    };
    write_private(&private.join("cakey.pem"), &key.to_pem()?, 0o600)?;
    let common_name = setting(&read(&settings_file)?, "CN").unwrap_or_else(|| name.to_string());
    let subject = super::x509::name(name, &common_name)?;
    let request = Request::new(&key, &subject, None)?;
    write(&dir.join("careq.pem"), &request.to_pem()?)?;
    settings.log("-----\n");
    let authority = Authority {
        settings,
        dir: dir.clone(),
        key,
        certificate: None,
    };
    write(&dir.join("cacert.pem"), &authority.sign(&request)?)
}

/// The value of a setting in an OpenSSL configuration file.
fn setting(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    let found = pairs.find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().to_string())
}

/// What openssl(1) needs to know to act for the authority.
fn ca_settings(name: &str, common_name: &str) -> String {
    format!(
        "[ req ]
prompt = no
distinguished_name = req_distinguished_name

[ req_distinguished_name ]
C = US
ST = CA
L = Palo Alto
O = Open vSwitch
OU = {name}
CN = {common_name}

[ ca ]
default_ca = the_ca

[ the_ca ]
dir = .
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
serial = $dir/serial
private_key = $dir/private/cakey.pem
default_days = {DAYS}
default_crl_days = 30
default_md = sha512
policy = policy
email_in_dn = no
name_opt = ca_default
cert_opt = ca_default
copy_extensions = copy
unique_subject = no

[ policy ]
countryName = optional
stateOrProvinceName = optional
organizationName = match
organizationalUnitName = optional
commonName = supplied
emailAddress = optional

[ ca_cert ]
basicConstraints = CA:true

[ usr_cert ]
basicConstraints = CA:false
"
    )
}

/// An authority that signs.
pub(super) struct Authority<'a> {
    settings: &'a Settings,
    dir: PathBuf,
    key: Key,
    /// None while its own certificate is being made.
    certificate: Option<Certificate>,
}

impl<'a> Authority<'a> {
    pub fn open(settings: &'a Settings, name: &str) -> Result<Authority<'a>, Error> {
        let dir = settings.authority(name);
        let key = Key::from_pem(&read(&dir.join("private/cakey.pem"))?)?;
        let certificate = Certificate::from_text(&read(&dir.join("cacert.pem"))?)?;
        Ok(Authority {
            settings,
            dir,
            key,
            certificate: Some(certificate),
        })
    }

    /// Answers a request: the text of the certificate, which is on record from now on.
    pub fn sign(&self, request: &Request) -> Result<String, Error> {
        self.settings
            .log("Using configuration from ca.cnf\nCheck that the request matches the signature\n");
        if !request.is_genuine() {
            let text = "Signature did not match the certificate request";
            return Err(Error::Logged(text.into()));
        }
        self.settings.log("Signature ok\n");
        let own = self.certificate.as_ref();
        let issuer = own.map(|c| c.0.tbs_certificate.subject.clone());
        let wanted = &request.0.info.subject;
        let subject = self.allowed(wanted, issuer.as_ref())?;
        let issuer = Issuer {
            name: issuer.as_ref().unwrap_or(&subject),
            key: &self.key,
            certificate: own,
        };
        let serial = self.serial()?;
        let certificate = Certificate::issue(&issuer, request, &subject, serial, own.is_none())?;
        self.log_details(&certificate, serial);
        let text = certificate.to_text(NameStyle::Tight)?;
        self.record(&certificate, serial, &text)?;
        self.settings
            .log("Write out database with 1 new entries\nDatabase updated\n");
        Ok(text)
    }

    /// The name that the policy leaves of what is asked for.
    fn allowed(&self, wanted: &Name, issuer: Option<&Name>) -> Result<Name, Error> {
        let organization = |name: &Name| {
            let parts = text::parts(name).into_iter();
            parts
                .filter(|p| p.oid == ORGANIZATION)
                .map(|p| p.value)
                .next()
        };
        if let Some(issuer) = issuer {
            match (organization(wanted), organization(issuer)) {
                (None, _) => {
                    return Err(Error::Logged(
                        "The mandatory organizationName field was missing".into(),
                    ));
                }
                (a, b) if a != b => {
                    return Err(Error::Logged(format!(
                        "The organizationName field is different between\nCA certificate ({}) and the request ({})",
                        b.unwrap_or_default(),
                        a.unwrap_or_default()
                    )));
                }
                _ => {}
            }
        }
        let of = |oid| {
            wanted
                .0
                .iter()
                .filter(move |set| set.0.iter().any(|p| p.oid == oid))
        };
        if of(COMMON_NAME).next().is_none() {
            return Err(Error::Logged(
                "The commonName field needed to be supplied and was missing".into(),
            ));
        }
        let order = [COUNTRY, STATE, ORGANIZATION, UNIT, COMMON_NAME, EMAIL];
        Ok(RdnSequence(
            order.into_iter().flat_map(of).cloned().collect(),
        ))
    }

    fn serial(&self) -> Result<u64, Error> {
        let path = self.dir.join("serial");
        let text = read(&path)?;
        u64::from_str_radix(text.trim(), 16).map_err(|_| {
            Error::Logged(format!(
                "{}: error while loading serial number",
                path.display()
            ))
        })
    }

    fn log_details(&self, certificate: &Certificate, serial: u64) {
        let tbs = &certificate.0.tbs_certificate;
        let mut out = String::new();
        let end = text::date(&tbs.validity.not_after);
        let _ = write!(
            out,
            "Certificate Details:\n        Serial Number: {serial} (0x{serial:x})\n        Validity\n            Not Before: {}\n            Not After : {end}\n        Subject:\n",
            text::date(&tbs.validity.not_before),
        );
        for part in text::parts(&tbs.subject) {
            let _ = writeln!(out, "            {:<25} = {}", part.long, part.value);
        }
        if let Some(extensions) = &tbs.extensions {
            out.push_str("        X509v3 extensions:\n");
            let told = |e: &&Extension| ![SUBJECT_KEY, AUTHORITY_KEY].contains(&e.extn_id);
            let told = extensions.iter().filter(told).cloned().collect();
            text::push_extensions(&mut out, &told, 12);
        }
        let _ = write!(
            out,
            "Certificate is to be certified until {end} ({DAYS} days)\n\n"
        );
        self.settings.log(&out);
    }

    /// Replaces a file of the record; the old one stays beside it.
    fn replace(&self, file: &str, text: &str) -> Outcome {
        let path = self.dir.join(file);
        let (new, old) = (self.dir.join(format!("{file}.new")), format!("{file}.old"));
        write(&new, text)?;
        let fail = |e| Error::io(&path, e);
        if path.exists() {
            std::fs::rename(&path, self.dir.join(old)).map_err(fail)?;
        }
        std::fs::rename(&new, &path).map_err(fail)
    }

    /// Puts a certificate on record.
    fn record(&self, certificate: &Certificate, serial: u64, text: &str) -> Outcome {
        let number = hex_number(serial);
        let copy = self.dir.join("newcerts").join(format!("{number}.pem"));
        write(&copy, text)?;
        let tbs = &certificate.0.tbs_certificate;
        let mut index = read(&self.dir.join("index.txt"))?;
        let _ = writeln!(
            index,
            "V\t{}\t\t{number}\tunknown\t{}",
            text::index_date(&tbs.validity.not_after),
            text::slashed(&tbs.subject)
        );
        self.replace("serial", &format!("{}\n", hex_number(serial + 1)))?;
        self.replace("index.txt", &index)?;
        self.replace("index.txt.attr", "unique_subject = no\n")
    }
}

/// A number in hexadecimal, with an even count of digits.
fn hex_number(n: u64) -> String {
    let digits = format!("{n:X}");
    match digits.len() % 2 {
        0 => digits,
        _ => format!("0{digits}"),
    }
}
