//! ovs-pki's options: a grammar of its own, in which long options may be shortened to a fixed
//! prefix, options may stand anywhere, and letters cannot be joined.

use super::key::KeyKind;
use super::{Error, Outcome, said};
use ferrovs_runtime::{dirs, version};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the command line says.
pub(super) struct Settings {
    pub dir: PathBuf,
    pub key: KeyKind,
    pub bits: usize,
    pub batch: bool,
    pub force: bool,
    pub unique: bool,
    dsaparam: Option<PathBuf>,
    log: PathBuf,
    /// The command and its arguments.
    pub words: Vec<String>,
}

const DEFAULT_DIR: &str = "/var/lib/openvswitch/pki";

impl Settings {
    /// The directory of an authority.
    pub fn authority(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The file with the numbers that all DSA keys share.
    pub fn dsaparam(&self) -> PathBuf {
        let default = || self.dir.join("dsaparam.pem");
        self.dsaparam.clone().unwrap_or_else(default)
    }

    pub fn must_not_exist(&self, file: &str) -> Outcome {
        match Path::new(file).exists() && !self.force {
            true => said(format!("{file} already exists and --force not supplied")),
            false => Ok(()),
        }
    }

    pub fn pki_must_exist(&self) -> Outcome {
        match self.dir.exists() {
            true => Ok(()),
            false => said(format!(
                "{} does not exist (need to run 'init' or use '--dir'?)",
                self.dir.display()
            )),
        }
    }

    /// Appends to the log file; a log that cannot be written stops nothing.
    pub fn log(&self, text: &str) {
        if let Some(dir) = self
            .log
            .parent()
            .filter(|d| d.file_name().is_some() && !d.exists())
        {
            use std::os::unix::fs::DirBuilderExt;
            let _ = std::fs::DirBuilder::new().mode(0o750).create(dir);
        }
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.log);
        if let Ok(mut file) = file {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Writes a file that only its owner may read, whatever it was before.
pub(super) fn write_private(path: &Path, text: &str, mode: u32) -> Outcome {
    let fail = |e| Error::io(path, e);
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)
}

/// The program's name as a shell gives it to a script: with the directory it was found in.
pub(super) fn full_name(name: &str) -> String {
    if name.contains('/') {
        return name.to_string();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join(name));
    found.find(|p| p.is_file()).map_or_else(
        || name.to_string(),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// Options with a value: letter, the prefix of the long name that suffices, the name in errors.
const VALUES: [(&str, &str, &str); 5] = [
    ("-k", "--k", "keytype"),
    ("-B", "--bi", "bits"),
    ("-D", "--ds", "dsaparam"),
    ("-d", "--di", "pkidir"),
    ("-l", "--l", "log"),
];

/// Size of keys unless `--bits` says otherwise, and the least.
const DEFAULT_BITS: usize = 3072;
const LEAST_BITS: usize = 2048;
/// Larger keys take hours to make and no peer accepts them.
const LARGEST_KEY: usize = 16384;

/// Reads the command line; `None` if an option printed what was asked for.
pub(super) fn parse(program: &str, args: &[String]) -> Result<Option<Settings>, Error> {
    let mut settings = Settings {
        dir: DEFAULT_DIR.into(),
        key: KeyKind::Rsa,
        bits: DEFAULT_BITS,
        batch: false,
        force: false,
        unique: false,
        dsaparam: None,
        log: dirs::logdir().join("ovs-pki.log"),
        words: Vec::new(),
    };
    let (mut key, mut bits) = (None, None);
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        let value_of = VALUES
            .iter()
            .find(|(letter, long, _)| arg == letter || arg.starts_with(long));
        if let Some((_, _, name)) = value_of {
            let value = match arg.split_once('=') {
                Some((long, value)) if long.starts_with("--") => value.to_string(),
                _ => args.next().cloned().ok_or_else(|| {
                    Error::Plain(format!(": error: missing argument to --{name}"))
                })?,
            };
            match *name {
                "keytype" => key = Some(value),
                "bits" => bits = Some(value),
                "dsaparam" => settings.dsaparam = Some(value.into()),
                "pkidir" => settings.dir = value.into(),
                _ => settings.log = value.into(),
            }
            continue;
        }
        match arg.as_str() {
            "-h" | "--help" => {
                print_help(program, &settings.dir);
                return Ok(None);
            }
            "-V" | "--version" => {
                version::print_version("ovs-pki", &[]);
                return Ok(None);
            }
            "-f" | "--force" => settings.force = true,
            "-b" => settings.batch = true,
            "-u" => settings.unique = true,
            "--" => {}
            long if long.starts_with("--ba") && !long.contains('=') => settings.batch = true,
            long if long.starts_with("--un") && !long.contains('=') => settings.unique = true,
            option if option.starts_with('-') => {
                return Err(Error::Plain(format!("unrecognized option {option}")));
            }
            word if settings.words.len() == 3 => {
                return Err(Error::Plain(format!(
                    "{word}: only two arguments may be specified"
                )));
            }
            word => settings.words.push(word.to_string()),
        }
    }
    // Only whole command lines are judged: first that there is a command, then the keys to make.
    if settings.words.is_empty() {
        return said("missing command name; use --help for help".into());
    }
    if let Some(key) = key {
        settings.key = key_kind(&key)?;
    }
    if let Some(bits) = bits {
        settings.bits = key_bits(&bits)?;
    }
    Ok(Some(settings))
}

fn key_kind(word: &str) -> Result<KeyKind, Error> {
    match word {
        "rsa" => Ok(KeyKind::Rsa),
        "dsa" => Ok(KeyKind::Dsa),
        _ => said("argument to -k or --key must be rsa or dsa".into()),
    }
}

fn key_bits(word: &str) -> Result<usize, Error> {
    match word.trim().parse::<usize>() {
        Ok(bits) if bits > LARGEST_KEY => said(format!(
            "argument to -B or --bits must be at most {LARGEST_KEY}"
        )),
        Ok(bits) if bits >= LEAST_BITS => Ok(bits),
        _ => said(format!(
            "argument to -B or --bits must be at least {LEAST_BITS}"
        )),
    }
}

fn print_help(program: &str, dir: &Path) {
    print!(
        "ovs-pki, for managing a simple OpenFlow public key infrastructure \n\
         usage: {program} [OPTION...] COMMAND [ARG...]\n{HELP_COMMANDS}\
         \x20 -B, --bits=NBITS     Number of bits in keys (default: {DEFAULT_BITS}).  For DSA keys,\n\
         {HELP_KEYS}\
         \x20                        (default: {})\n{HELP_REST}",
        dir.display()
    );
}

const HELP_COMMANDS: &str = "
The valid stand-alone commands and their arguments are:
  init                 Initialize the PKI
  req NAME             Create new private key and certificate request
                       named NAME-privkey.pem and NAME-req.pem, resp.
  sign NAME [TYPE]     Sign switch certificate request NAME-req.pem,
                       producing certificate NAME-cert.pem
  req+sign NAME [TYPE] Combine the above two steps, producing all three files.
  verify NAME [TYPE]   Checks that NAME-cert.pem is a valid TYPE certificate
  fingerprint FILE     Prints the fingerprint for FILE
  self-sign NAME       Sign NAME-req.pem with NAME-privkey.pem,
                       producing self-signed certificate NAME-cert.pem
Each TYPE above is a certificate type: 'switch' (default) or 'controller'.

Options for 'init', 'req', and 'req+sign' only:
  -k, --key=rsa|dsa    Type of keys to use (default: rsa)
";

const HELP_KEYS: &str = "                         this has an effect only on 'init'.
  -D, --dsaparam=FILE  File with DSA parameters (DSA only)
                         (default: dsaparam.pem within PKI directory)
Options for use with the 'sign' command:
  -b, --batch          Skip fingerprint verification
Options that apply to any command:
  -d, --dir=DIR        Directory where the PKI is located
";

const HELP_REST: &str = "  -f, --force          Continue even if file or directory already exists
  -l, --log=FILE       Log openssl output to FILE (default: ovs-log.log)
  -u, --unique         NAME is unique (don't append UUID/date)
  -h, --help           Print this usage message.
  -V, --version        Display version information.
";
