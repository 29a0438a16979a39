//! The command line of ovs-vswitchd.

use std::path::PathBuf;

use ferrovs_runtime::daemon::{self, Daemon};
use ferrovs_runtime::options::{self, Arg, Opt, Parser, Ssl};
use ferrovs_runtime::{dirs, fatal, numa, program_error, version, vlog};

/// How far dummy devices and datapaths replace real ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dummy {
    /// They are there, under their own names.
    Normal,
    /// They take the place of `system` only.
    System,
    /// They take the place of every type.
    Override,
}

/// What the command line said.
pub struct Arguments {
    pub daemon: Daemon,
    pub remote: String,
    pub unixctl: Option<PathBuf>,
    pub mlockall: bool,
    pub hw_rawio: bool,
    pub dummy: Option<Dummy>,
    pub disable_system: bool,
    pub disable_system_route: bool,
    pub ssl: Ssl,
}

const OPTIONS: &[Opt] = &[
    Opt::both("help", 'h', Arg::None),
    Opt::both("version", 'V', Arg::None),
    Opt::long("mlockall", Arg::None),
    Opt::long("unixctl", Arg::Required),
    options::SSL_PEER_CA,
    options::SSL_BOOTSTRAP,
    Opt::long("enable-dummy", Arg::Optional),
    Opt::long("disable-system", Arg::None),
    Opt::long("disable-system-route", Arg::None),
    Opt::long("dpdk", Arg::Optional),
    Opt::long("dummy-numa", Arg::Required),
    Opt::long("hw-rawio-access", Arg::None),
];

/// Parses the program's command line; does not return after `--help`, `--version` or an error.
pub fn parse() -> Arguments {
    let tables = [OPTIONS, daemon::OPTIONS, options::VLOG, options::SSL];
    let mut parser = Parser::from_env(&tables, true);
    let mut a = Arguments {
        daemon: Daemon::new(),
        remote: format!("unix:{}/db.sock", dirs::rundir().display()),
        unixctl: None,
        mlockall: false,
        hw_rawio: false,
        dummy: None,
        disable_system: false,
        disable_system_route: false,
        ssl: Ssl::default(),
    };
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found) || a.daemon.handle(&found) || a.ssl.handle(&found) {
            continue;
        }
        match found.opt.long {
            "help" => {
                usage();
                std::process::exit(0);
            }
            "version" => {
                version::print_version(dirs::program_name(), &[]);
                std::process::exit(0);
            }
            "mlockall" => a.mlockall = true,
            "unixctl" => a.unixctl = Some(found.required().into()),
            "enable-dummy" => {
                a.dummy = Some(match found.value.as_deref() {
                    Some("override") => Dummy::Override,
                    Some("system") => Dummy::System,
                    None | Some("") => Dummy::Normal,
                    Some(level) => fatal(format_args!("{level}: unknown dummy level")),
                });
            }
            "disable-system" => a.disable_system = true,
            "disable-system-route" => a.disable_system_route = true,
            "dpdk" => fatal("Using --dpdk to configure DPDK is not supported."),
            "dummy-numa" => numa::set_dummy(found.required()),
            "hw-rawio-access" => a.hw_rawio = true,
            _ => unreachable!("an option that no table has"),
        }
    }
    let operands = parser.operands();
    match &operands[..] {
        [] => {}
        [remote] => a.remote = remote.clone(),
        _ => {
            program_error("at most one non-option argument accepted; use --help for usage");
            std::process::exit(1);
        }
    }
    a
}

fn usage() {
    let program = dirs::program_name();
    println!(
        "{program}: Open vSwitch daemon\n\
         usage: {program} [OPTIONS] [DATABASE]\n\
         where DATABASE is a socket on which ovsdb-server is listening\n\
         \x20     (default: \"unix:{}/db.sock\").",
        dirs::rundir().display()
    );
    print!(
        "
Active DATABASE connection methods:
  tcp:HOST:PORT           PORT at remote HOST
  ssl:HOST:PORT           SSL/TLS PORT at remote HOST
  unix:FILE               Unix domain socket named FILE
{}",
        options::ssl_usage(true)
    );
    daemon::usage();
    vlog::usage();
    print!(
        "
DPDK options:
Configuration of DPDK via command-line is removed from this
version of Open vSwitch. DPDK is configured through ovsdb.

Other options:
  --unixctl=SOCKET          override default control socket name
  -h, --help                display this help message
  -V, --version             display version information
"
    );
}
