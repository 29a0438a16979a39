//! ovs-pki: a small public key infrastructure for switches and controllers.
//!
//! Two certificate authorities live in one directory, one that certifies controllers and one that
//! certifies switches. `req` makes a private key and a request for a certificate, `sign` answers
//! the request on behalf of an authority; the files are those that OpenSSL's `ca` command keeps
//! and that Open vSwitch's own ovs-pki leaves behind, so either program goes on where the other
//! stopped. Nothing is run: keys are made and certificates signed in this process.
//!
//! ```text
//! PKI/{controllerca,switchca}/ca.cnf        the authority's settings, for openssl(1)
//!                             cacert.pem    its certificate, careq.pem the request for it
//!                             private/      cakey.pem, its key
//!                             newcerts/     NN.pem, what it signed, by serial number
//!                             index.txt     a line for each, serial: the next number
//! NAME-privkey.pem, NAME-req.pem, NAME-cert.pem   in the current directory
//! ```

mod ca;
mod key;
mod options;
mod text;
mod verify;
mod x509;

use key::{Key, KeyKind};
use options::Settings;
use sha1::{Digest, Sha1};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use x509::{Certificate, Request};

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// What the user reads after the program's name.
    #[error("{0}")]
    Said(String),
    /// A line that stands alone: what another program would have printed.
    #[error("{0}")]
    Plain(String),
    /// The log has the reason.
    #[error("see the log")]
    Logged(String),
    /// Everything was said; the status.
    #[error("status {0}")]
    Status(u8),
}

impl Error {
    fn io(path: &Path, e: std::io::Error) -> Error {
        Error::Said(format!("{}: {}", path.display(), reason(&e)))
    }
}

/// An error of the system without Rust's number.
fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

type Outcome = Result<(), Error>;

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    let program = options::full_name(args.first().map_or("ovs-pki", String::as_str));
    let settings = match options::parse(&program, &args) {
        Ok(Some(settings)) => settings,
        Ok(None) => return ExitCode::SUCCESS,
        Err(e) => return report(&program, &e),
    };
    match command(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if let Error::Logged(why) = &e {
                settings.log(&format!("{why}\n"));
            }
            report(&program, &e)
        }
    }
}

fn report(program: &str, error: &Error) -> ExitCode {
    match error {
        Error::Said(text) => eprintln!("{program}: {text}"),
        Error::Plain(text) => eprintln!("{text}"),
        Error::Logged(_) => {}
        Error::Status(status) => return ExitCode::from(*status),
    }
    ExitCode::FAILURE
}

fn command(settings: &Settings) -> Outcome {
    match settings.words.first().map_or("", String::as_str) {
        "init" => ca::init(settings),
        "req" => {
            let name = one_argument(settings)?;
            request(settings, name)?;
            fingerprint(Path::new(&format!("{name}-req.pem")))
        }
        "sign" => {
            let (name, authority) = name_and_type(settings)?;
            let request = PathBuf::from(format!("{name}-req.pem"));
            fingerprint(&request)?;
            if !settings.batch {
                confirm()?;
            }
            sign(settings, name, authority)
        }
        "req+sign" => {
            let (name, authority) = name_and_type(settings)?;
            settings.must_not_exist(&format!("{name}-privkey.pem"))?;
            settings.must_not_exist(&format!("{name}-req.pem"))?;
            settings.must_not_exist(&format!("{name}-cert.pem"))?;
            settings.pki_must_exist()?;
            request(settings, name)?;
            sign(settings, name, authority)?;
            fingerprint(Path::new(&format!("{name}-req.pem")))
        }
        "verify" => {
            let (name, authority) = name_and_type(settings)?;
            let file = format!("{name}-cert.pem");
            must_exist(&file)?;
            settings.pki_must_exist()?;
            verify::verify(&file, &settings.authority(authority).join("cacert.pem"))
        }
        "fingerprint" => fingerprint(Path::new(one_argument(settings)?)),
        "self-sign" => self_sign(settings, one_argument(settings)?),
        other => said(format!("{other} command unknown; use --help for help")),
    }
}

fn said<T>(text: String) -> Result<T, Error> {
    Err(Error::Said(text))
}

fn one_argument(settings: &Settings) -> Result<&str, Error> {
    match settings.words.as_slice() {
        [_, name] => Ok(name),
        words => said(format!(
            "{} must have exactly one argument; use --help for help",
            words[0]
        )),
    }
}

/// A name and which authority is to certify it.
fn name_and_type(settings: &Settings) -> Result<(&str, &'static str), Error> {
    let (name, kind) = match settings.words.as_slice() {
        [_, name] => (name, "switch"),
        [_, name, kind] => (name, kind.as_str()),
        words => {
            return said(format!(
                "{} must have one or two arguments; use --help for help",
                words[0]
            ));
        }
    };
    match kind {
        "switch" => Ok((name, "switchca")),
        "controller" => Ok((name, "controllerca")),
        _ => said("type argument must be 'switch' or 'controller'".into()),
    }
}

fn must_exist(file: &str) -> Outcome {
    match Path::new(file).exists() {
        true => Ok(()),
        false => said(format!("{file} does not exist")),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|e| Error::io(path, e))
}

fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|e| Error::io(path, e))
}

/// Makes a key and a request for a certificate.
fn request(settings: &Settings, name: &str) -> Outcome {
    let (key_file, file) = (format!("{name}-privkey.pem"), format!("{name}-req.pem"));
    settings.must_not_exist(&key_file)?;
    settings.must_not_exist(&file)?;
    settings.log("");
    let key = match settings.key {
        KeyKind::Rsa => Key::rsa(settings.bits)?,
        KeyKind::Dsa => {
            let parameters = settings.dsaparam();
            must_exist(&parameters.display().to_string())?;
            Key::dsa(&read(&parameters)?)?
        }
    };
    options::write_private(Path::new(&key_file), &key.to_pem()?, 0o600)?;
    let common_name = match settings.unique {
        true => name.to_string(),
        false => format!("{name} id:{}", uuid::Uuid::new_v4()),
    };
    let request = Request::new(&key, &x509::request_name(&common_name)?, Some(&common_name))?;
    write(Path::new(&file), &request.to_text()?)
}

/// Prints when a file was made and its fingerprint.
fn fingerprint(path: &Path) -> Outcome {
    let name = path.display();
    let modified = std::fs::metadata(path)
        .and_then(|m| m.modified())
        .map_err(|e| Error::Plain(format!("date: {name}: {}", reason(&e))))?;
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let text = String::from_utf8_lossy(&bytes);
    let print = match text.contains("-----BEGIN CERTIFICATE-----") {
        true => hex(&Sha1::digest(Certificate::from_text(&text)?.der()?), true),
        false => hex(&Sha1::digest(&bytes), false),
    };
    println!("{name}\t{}", text::local_date(modified));
    match path.to_string_lossy().contains(&print) {
        true => println!("\t(correct fingerprint in filename)"),
        false => println!("\tfingerprint {print}"),
    }
    Ok(())
}

fn hex(bytes: &[u8], upper: bool) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = match upper {
            true => write!(out, "{byte:02X}"),
            false => write!(out, "{byte:02x}"),
        };
    }
    out
}

/// Asks whether the fingerprint is the one that was noted when the request was made.
fn confirm() -> Outcome {
    println!("Does fingerprint match? (yes/no)");
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(n) if n > 0 => {}
        _ => return Err(Error::Status(1)),
    }
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Error::Plain("Match failure, aborting".into())),
    }
}

fn sign(settings: &Settings, name: &str, authority: &str) -> Outcome {
    let file = format!("{name}-cert.pem");
    settings.must_not_exist(&file)?;
    settings.pki_must_exist()?;
    let request = read(Path::new(&format!("{name}-req.pem")))?;
    let request = Request::from_text(&request)?;
    let text = ca::Authority::open(settings, authority)?.sign(&request)?;
    write(Path::new(&file), &text)
}

fn self_sign(settings: &Settings, name: &str) -> Outcome {
    let [request, key, file] = ["req", "privkey", "cert"].map(|kind| format!("{name}-{kind}.pem"));
    must_exist(&request)?;
    must_exist(&key)?;
    settings.must_not_exist(&file)?;
    let request = Request::from_text(&read(Path::new(&request))?)?;
    let key = Key::from_pem(&read(Path::new(&key))?)?;
    let certificate = Certificate::self_signed(&request, &key, name)?;
    write(
        Path::new(&file),
        &certificate.to_text(text::NameStyle::Spaced)?,
    )
}
