//! The command line of ovsdb-server.

use std::path::PathBuf;

use ferrovs_runtime::daemon::{self, Daemon};
use ferrovs_runtime::options::{self, Arg, Opt, Parser};
use ferrovs_runtime::{dirs, version, vlog};

use crate::state::{State, Sync};

/// What the command line said.
pub struct Arguments {
    pub daemon: Daemon,
    pub databases: Vec<String>,
    pub remotes: Vec<String>,
    pub run: Option<String>,
    pub unixctl: Option<PathBuf>,
    /// Files, or `db:DB,TABLE,COLUMN` for where to find their names.
    pub tls: Tls,
    pub column_diff: bool,
    /// Records of conversions hold the data too. Those are a matter of clustered files alone.
    pub data_conversion: bool,
    /// The file that says what to serve, in place of this command line.
    pub config_file: Option<PathBuf>,
    pub sync: Sync,
    /// What outlives a crash.
    pub state: State,
}

/// TLS material and restrictions as given, or `db:DB,TABLE,COLUMN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub private_key: Option<String>,
    pub certificate: Option<String>,
    pub ca_cert: Option<String>,
    pub bootstrap: bool,
    pub peer_ca_cert: Option<String>,
    pub protocols: Option<String>,
    pub ciphers: Option<String>,
    pub ciphersuites: Option<String>,
    pub server_name: Option<String>,
}

impl Tls {
    /// Everything that may name a column.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        [
            &self.private_key,
            &self.certificate,
            &self.ca_cert,
            &self.peer_ca_cert,
            &self.protocols,
            &self.ciphers,
            &self.ciphersuites,
        ]
        .into_iter()
        .flatten()
    }
}

const OPTIONS: &[Opt] = &[
    Opt::long("remote", Arg::Required),
    Opt::long("unixctl", Arg::Required),
    Opt::long("run", Arg::Required),
    Opt::both("help", 'h', Arg::None),
    Opt::both("version", 'V', Arg::None),
    options::SSL_BOOTSTRAP,
    options::SSL_PEER_CA,
    Opt::long("sync-from", Arg::Required),
    Opt::long("sync-exclude-tables", Arg::Required),
    Opt::long("active", Arg::None),
    Opt::long("no-dbs", Arg::None),
    Opt::long("disable-file-column-diff", Arg::None),
    Opt::long("disable-file-no-data-conversion", Arg::None),
    Opt::long("config-file", Arg::Required),
];

/// Parses the program's command line; does not return after `--help`, `--version` or an error.
pub fn parse() -> Arguments {
    let tables = [OPTIONS, daemon::OPTIONS, options::VLOG, options::SSL];
    let mut parser = Parser::from_env(&tables, true);
    let mut a = Arguments {
        daemon: Daemon::new(),
        databases: Vec::new(),
        remotes: Vec::new(),
        run: None,
        unixctl: None,
        tls: Tls::default(),
        column_diff: true,
        data_conversion: false,
        config_file: None,
        sync: Sync::default(),
        state: State::new(),
    };
    let (mut no_dbs, mut active) = (false, false);
    // Options that leave nothing to a configuration file.
    let mut conflicting = None;
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found) || a.daemon.handle(&found) {
            continue;
        }
        let value = found.value.clone();
        match found.opt.long {
            "remote" => {
                conflicting = Some("--remote");
                a.remotes.push(found.required().to_owned());
            }
            "unixctl" => a.unixctl = Some(found.required().into()),
            "run" => a.run = value,
            "help" => {
                usage();
                std::process::exit(0);
            }
            "version" => {
                version::print_version(dirs::program_name(), &[]);
                std::process::exit(0);
            }
            "private-key" => a.tls.private_key = value,
            "certificate" => a.tls.certificate = value,
            "ca-cert" => (a.tls.ca_cert, a.tls.bootstrap) = (value, false),
            "bootstrap-ca-cert" => (a.tls.ca_cert, a.tls.bootstrap) = (value, true),
            "peer-ca-cert" => a.tls.peer_ca_cert = value,
            "ssl-protocols" => a.tls.protocols = value,
            "ssl-ciphers" => a.tls.ciphers = value,
            "ssl-ciphersuites" => a.tls.ciphersuites = value,
            "ssl-server-name" => a.tls.server_name = value,
            "sync-from" => {
                conflicting = Some("--sync-from");
                a.sync.from = value;
            }
            "sync-exclude-tables" => {
                conflicting = Some("--sync-exclude-tables");
                a.sync.set_exclude(found.required());
            }
            "active" => {
                conflicting = Some("--active");
                active = true;
            }
            "no-dbs" => no_dbs = true,
            "disable-file-column-diff" => a.column_diff = false,
            "disable-file-no-data-conversion" => a.data_conversion = true,
            "config-file" => {
                let path = std::path::absolute(found.required());
                a.config_file = path.ok().or_else(|| Some(found.required().into()));
            }
            other => ferrovs_runtime::fatal(format_args!("--{other} is not supported")),
        }
    }
    a.databases = parser.operands();
    a.sync.backup = a.sync.from.is_some() && !active;
    if a.config_file.is_some() {
        if !a.databases.is_empty() {
            conflicting = Some("databases");
        }
        if let Some(what) = conflicting {
            ferrovs_runtime::fatal(format_args!(
                "{what} on the command line cannot be combined with --config-file"
            ));
        }
        return a;
    }
    if a.databases.is_empty() && !no_dbs {
        a.databases
            .push(dirs::dbdir().join("conf.db").display().to_string());
    }
    a
}

fn usage() {
    let program = dirs::program_name();
    print!(
        "{program}: Open vSwitch database server
usage: {program} [OPTIONS] [DATABASE...]
where each DATABASE is a database file in ovsdb format.
The default DATABASE, if none is given, is
{}.

JSON-RPC options (may be specified any number of times):
  --remote=REMOTE         connect or listen to REMOTE

Active JSON-RPC connection methods:
  tcp:HOST:PORT           PORT at remote HOST
  ssl:HOST:PORT           SSL/TLS PORT at remote HOST
  unix:FILE               Unix domain socket named FILE
Passive JSON-RPC connection methods:
  ptcp:PORT[:IP]          listen to TCP PORT on IP
  pssl:PORT[:IP]          listen for SSL/TLS on PORT on IP
  punix:FILE              listen on Unix domain socket FILE
{}
Configuration file:
  --config-file PATH      Use configuration file as a source of
                          database and JSON-RPC configuration.
                          Mutually exclusive with the DATABASE,
                          JSON-RPC and Syncing options.
                          Assumes --no-dbs.
",
        dirs::dbdir().join("conf.db").display(),
        options::ssl_usage(true)
    );
    daemon::usage();
    vlog::usage();
    print!(
        "
Syncing options:
  --sync-from=SERVER      sync DATABASE from active SERVER and start in
                          backup mode (except with --active)
  --sync-exclude-tables=DB:TABLE,...
                          exclude the TABLE in DB from syncing
  --active                with --sync-from, start in active mode

Other options:
  --run COMMAND           run COMMAND as subprocess then exit
  --unixctl=SOCKET        override default control socket name
  --no-dbs                do not add default database
  --disable-file-column-diff
                          don't use column diff in database file
  -h, --help              display this help message
  -V, --version           display version information
"
    );
}
