//! Command lines with the semantics of getopt_long(3), from tables.
//!
//! A program concatenates its own table with the shared groups ([`crate::vlog`], [`crate::daemon`],
//! TLS) and asks a [`Parser`] for one option after the other: unique prefixes of long options
//! match, values may be attached or follow, options may stand after other arguments unless the
//! program stops at the first of those, and error texts are the C library's.

use std::path::PathBuf;

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// It takes none.
    None,
    /// It must have one.
    Required,
    /// It may have one, attached by `=`.
    Optional,
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Name after `--`; "" for an option that has only a letter.
    pub long: &'static str,
    /// Letter after `-`.
    pub short: Option<char>,
    /// Its value.
    pub arg: Arg,
}

impl Opt {
    /// An option by its long name.
    pub const fn long(long: &'static str, arg: Arg) -> Opt {
        Opt {
            long,
            short: None,
            arg,
        }
    }

    /// An option by its long name and its letter.
    pub const fn both(long: &'static str, short: char, arg: Arg) -> Opt {
        Opt {
            long,
            short: Some(short),
            arg,
        }
    }

    /// An option that is only a letter; it is found as `long: ""`.
    pub const fn short(short: char, arg: Arg) -> Opt {
        Opt {
            long: "",
            short: Some(short),
            arg,
        }
    }
}

/// An option that stood on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The table's row.
    pub opt: Opt,
    /// Its value.
    pub value: Option<String>,
    /// Whether it was given by its letter.
    pub by_letter: bool,
}

impl Found {
    /// The long name, or for an option without one its letter as a string.
    pub fn name(&self) -> String {
        match (self.opt.long, self.opt.short) {
            ("", Some(c)) => c.to_string(),
            (long, _) => long.to_string(),
        }
    }

    /// The value of an option that requires one.
    pub fn required(&self) -> &str {
        self.value.as_deref().unwrap_or("")
    }
}

/// Takes options off a command line.
#[derive(Debug)]
pub struct Parser {
    table: Vec<Opt>,
    program: String,
    args: std::collections::VecDeque<String>,
    /// Letters of a cluster such as `-abc` that are still to come.
    cluster: String,
    operands: Vec<String>,
    permute: bool,
}

impl Parser {
    /// Parses `args` (the name of the program first). With `permute`, options may follow operands;
    /// without, the first operand ends the options.
    pub fn new(tables: &[&[Opt]], args: Vec<String>, permute: bool) -> Parser {
        let mut args: std::collections::VecDeque<String> = args.into();
        let program = args.pop_front().unwrap_or_default();
        let permute = permute && std::env::var_os("POSIXLY_CORRECT").is_none();
        Parser {
            table: tables.concat(),
            program,
            args,
            cluster: String::new(),
            operands: Vec::new(),
            permute,
        }
    }

    /// Parses the program's own command line.
    pub fn from_env(tables: &[&[Opt]], permute: bool) -> Parser {
        Parser::new(tables, args_from_env(), permute)
    }

    /// The next option, or None when only operands are left. An error is the line to print.
    #[allow(clippy::should_implement_trait)] // Fallible, and not an iterator in spirit.
    pub fn next(&mut self) -> Result<Option<Found>, String> {
        if !self.cluster.is_empty() {
            return self.letter().map(Some);
        }
        loop {
            let Some(arg) = self.args.pop_front() else {
                return Ok(None);
            };
            if arg == "--" {
                let rest = std::mem::take(&mut self.args);
                self.operands.extend(rest);
                return Ok(None);
            }
            if let Some(long) = arg.strip_prefix("--") {
                return self.long(long).map(Some);
            }
            if arg.len() > 1
                && let Some(cluster) = arg.strip_prefix('-')
            {
                self.cluster = cluster.to_string();
                return self.letter().map(Some);
            }
            if !self.permute {
                self.args.push_front(arg);
                let rest = std::mem::take(&mut self.args);
                self.operands.extend(rest);
                return Ok(None);
            }
            self.operands.push(arg);
        }
    }

    /// Like [`Parser::next`], but an error is printed and ends the program with status 1.
    pub fn next_or_exit(&mut self) -> Option<Found> {
        match self.next() {
            Ok(found) => found,
            Err(e) => {
                eprintln!("{e}");
                std::process::exit(1)
            }
        }
    }

    /// What is not an option, after [`Parser::next`] has returned None.
    pub fn operands(self) -> Vec<String> {
        self.operands
    }

    fn letter(&mut self) -> Result<Found, String> {
        let c = self.cluster.remove(0);
        let Some(&opt) = self.table.iter().find(|o| o.short == Some(c)) else {
            return Err(format!("{}: invalid option -- '{c}'", self.program));
        };
        let rest = std::mem::take(&mut self.cluster);
        let value = match opt.arg {
            Arg::None => {
                self.cluster = rest;
                None
            }
            Arg::Optional => (!rest.is_empty()).then_some(rest),
            Arg::Required if !rest.is_empty() => Some(rest),
            Arg::Required => Some(self.args.pop_front().ok_or_else(|| {
                format!("{}: option requires an argument -- '{c}'", self.program)
            })?),
        };
        Ok(Found {
            opt,
            value,
            by_letter: true,
        })
    }

    fn long(&mut self, text: &str) -> Result<Found, String> {
        let (name, value) = match text.split_once('=') {
            Some((n, v)) => (n, Some(v.to_string())),
            None => (text, None),
        };
        let mut named = self.table.iter().filter(|o| !o.long.is_empty());
        let opt = match named.clone().find(|o| o.long == name) {
            Some(o) => *o,
            None => {
                let candidates: Vec<Opt> = named
                    .by_ref()
                    .filter(|o| o.long.starts_with(name))
                    .copied()
                    .collect();
                match candidates[..] {
                    [] => return Err(format!("{}: unrecognized option '--{text}'", self.program)),
                    [one] => one,
                    _ => {
                        let all: String = candidates
                            .iter()
                            .map(|o| format!(" '--{}'", o.long))
                            .collect();
                        return Err(format!(
                            "{}: option '--{text}' is ambiguous; possibilities:{all}",
                            self.program
                        ));
                    }
                }
            }
        };
        let value = match (opt.arg, value) {
            (Arg::None, Some(_)) => {
                return Err(format!(
                    "{}: option '--{}' doesn't allow an argument",
                    self.program, opt.long
                ));
            }
            (Arg::Required, None) => Some(self.args.pop_front().ok_or_else(|| {
                format!(
                    "{}: option '--{}' requires an argument",
                    self.program, opt.long
                )
            })?),
            (_, value) => value,
        };
        Ok(Found {
            opt,
            value,
            by_letter: false,
        })
    }
}

/// The program's own command line, the name of the program first.
pub fn args_from_env() -> Vec<String> {
    std::env::args_os()
        .map(|a| a.to_string_lossy().into_owned())
        .collect()
}

/// Prints a table as `--option` does, for shell completion: letters after their long names.
pub fn print_options(tables: &[&[Opt]]) {
    for o in tables.concat() {
        if !o.long.is_empty() {
            match o.arg {
                Arg::None => println!("--{}", o.long),
                Arg::Required => println!("--{}=ARG", o.long),
                Arg::Optional => println!("--{}=[ARG]", o.long),
            }
        }
        if let Some(c) = o.short {
            match o.arg {
                Arg::None => println!("-{c} "),
                Arg::Required => println!("-{c} ARG"),
                Arg::Optional => println!("-{c} [ARG]"),
            }
        }
    }
}

/// The logging options.
pub const VLOG: &[Opt] = &[
    Opt::both("verbose", 'v', Arg::Optional),
    Opt::long("log-file", Arg::Optional),
    Opt::long("syslog-method", Arg::Required),
    Opt::long("syslog-target", Arg::Required),
];

/// Applies an option of the [`VLOG`] group; false if it is of another group. A bad specification
/// ends the program, as Open vSwitch does.
pub fn handle_vlog(found: &Found) -> bool {
    match found.opt.long {
        "verbose" => match &found.value {
            None => crate::vlog::set_level(None, None, crate::vlog::Level::Dbg),
            Some(spec) => {
                if let Err(e) = crate::vlog::set_verbosity(spec) {
                    crate::fatal(format_args!("processing \"{spec}\": {e}"));
                }
            }
        },
        "log-file" => {
            let path = found.value.as_deref().map(PathBuf::from);
            // What cannot be opened has been logged; nothing else is said.
            if crate::vlog::set_log_file(path.as_deref()).is_err() {
                std::process::exit(1);
            }
        }
        "syslog-method" => {
            if let Err(e) = crate::vlog::set_syslog_method(found.required()) {
                crate::fatal(e);
            }
        }
        "syslog-target" => crate::vlog::set_syslog_target(found.required()),
        _ => return false,
    }
    true
}

/// The TLS options without `--peer-ca-cert` and `--bootstrap-ca-cert`, which not every program has.
pub const SSL: &[Opt] = &[
    Opt::both("private-key", 'p', Arg::Required),
    Opt::both("certificate", 'c', Arg::Required),
    Opt::both("ca-cert", 'C', Arg::Required),
    Opt::long("ssl-protocols", Arg::Required),
    Opt::long("ssl-ciphers", Arg::Required),
    Opt::long("ssl-ciphersuites", Arg::Required),
    Opt::long("ssl-server-name", Arg::Required),
];

/// `--bootstrap-ca-cert`.
pub const SSL_BOOTSTRAP: Opt = Opt::long("bootstrap-ca-cert", Arg::Required);
/// `--peer-ca-cert`.
pub const SSL_PEER_CA: Opt = Opt::long("peer-ca-cert", Arg::Required);

/// The part of a `--help` text that tells of the TLS options.
pub fn ssl_usage(bootstrap: bool) -> String {
    let bootstrap = match bootstrap {
        true => "  --bootstrap-ca-cert=FILE  file with peer CA certificate to read or create\n",
        false => "",
    };
    format!(
        "PKI configuration (required to use SSL/TLS):
  -p, --private-key=FILE  file with private key
  -c, --certificate=FILE  file with certificate for private key
  -C, --ca-cert=FILE      file with peer CA certificate
{bootstrap}SSL/TLS options:
  --ssl-protocols=PROTOS    range of SSL/TLS protocols to enable
  --ssl-ciphers=CIPHERS     list of SSL/TLS ciphers to enable
                            with TLSv1.2
  --ssl-ciphersuites=SUITES list of SSL/TLS ciphersuites to
                            enable with TLSv1.3 and later
  --ssl-server-name=NAME    server name for TLS Server Name
                            Indication (SNI)
"
    )
}

/// What the TLS options said; the stream layer takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ssl {
    /// `--private-key`.
    pub private_key: Option<PathBuf>,
    /// `--certificate`.
    pub certificate: Option<PathBuf>,
    /// `--ca-cert`; "none" as given.
    pub ca_cert: Option<PathBuf>,
    /// `--bootstrap-ca-cert`.
    pub bootstrap_ca_cert: Option<PathBuf>,
    /// `--peer-ca-cert`.
    pub peer_ca_cert: Option<PathBuf>,
    /// `--ssl-protocols`.
    pub protocols: Option<String>,
    /// `--ssl-ciphers`.
    pub ciphers: Option<String>,
    /// `--ssl-ciphersuites`.
    pub ciphersuites: Option<String>,
    /// `--ssl-server-name`.
    pub server_name: Option<String>,
}

impl Ssl {
    /// Takes an option of the TLS group; false if it is of another group.
    pub fn handle(&mut self, found: &Found) -> bool {
        let text = || found.value.clone();
        let path = || found.value.as_deref().map(PathBuf::from);
        match found.opt.long {
            "private-key" => self.private_key = path(),
            "certificate" => self.certificate = path(),
            // Either says where the authorities are: the last one counts.
            "ca-cert" => (self.ca_cert, self.bootstrap_ca_cert) = (path(), None),
            "bootstrap-ca-cert" => (self.ca_cert, self.bootstrap_ca_cert) = (None, path()),
            "peer-ca-cert" => self.peer_ca_cert = path(),
            "ssl-protocols" => self.protocols = text(),
            "ssl-ciphers" => self.ciphers = text(),
            "ssl-ciphersuites" => self.ciphersuites = text(),
            "ssl-server-name" => self.server_name = text(),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Opt] = &[
        Opt::both("target", 't', Arg::Required),
        Opt::both("verbose", 'v', Arg::Optional),
        Opt::both("version", 'V', Arg::None),
        Opt::both("help", 'h', Arg::None),
    ];

    fn all(
        args: &[&str],
        permute: bool,
    ) -> Result<(Vec<(String, Option<String>)>, Vec<String>), String> {
        let args = std::iter::once("prog")
            .chain(args.iter().copied())
            .map(String::from)
            .collect();
        let mut p = Parser::new(&[TABLE], args, permute);
        let mut out = Vec::new();
        while let Some(f) = p.next()? {
            out.push((f.name(), f.value));
        }
        Ok((out, p.operands()))
    }

    #[test]
    fn values_attach_or_follow_and_letters_cluster() {
        let (o, rest) = all(&["-hVtx", "--target", "y", "a", "-vdbg", "-v", "b"], true).unwrap();
        let expect = [
            ("help", None),
            ("version", None),
            ("target", Some("x")),
            ("target", Some("y")),
            ("verbose", Some("dbg")),
            ("verbose", None),
        ];
        let expect: Vec<_> = expect
            .iter()
            .map(|(n, v)| (n.to_string(), v.map(str::to_string)))
            .collect();
        assert_eq!(o, expect);
        assert_eq!(rest, ["a", "b"]);
    }

    #[test]
    fn the_first_operand_ends_the_options_of_a_program_that_says_so() {
        let (o, rest) = all(&["-h", "cmd", "-V"], false).unwrap();
        assert_eq!(o.len(), 1);
        assert_eq!(rest, ["cmd", "-V"]);
    }

    #[test]
    fn errors_are_those_of_the_c_library() {
        let error = |args: &[&str]| all(args, true).unwrap_err();
        assert_eq!(error(&["--nosuch"]), "prog: unrecognized option '--nosuch'");
        assert_eq!(error(&["-Z"]), "prog: invalid option -- 'Z'");
        assert_eq!(
            error(&["--targ"]),
            "prog: option '--target' requires an argument"
        );
        assert_eq!(error(&["-t"]), "prog: option requires an argument -- 't'");
        assert_eq!(
            error(&["--ver"]),
            "prog: option '--ver' is ambiguous; possibilities: '--verbose' '--version'"
        );
        assert_eq!(
            error(&["--help=3"]),
            "prog: option '--help' doesn't allow an argument"
        );
    }
}
