//! ovsdb-tool: works on database files that no server has open.
//!
//! One table gives the commands, their arguments, the check of how many there are, and the
//! `list-commands` text.

mod cluster;
mod data;
mod schema;
mod show_log;

use std::process::ExitCode;

use ferrovs_ovsdb::{Error, Uuid};
use ferrovs_runtime::options::{self, Arg, Opt, Parser};
use ferrovs_runtime::{dirs, fatal, version, vlog};

/// What a command sees.
pub(crate) struct Context {
    args: Vec<String>,
    /// How many times `-m` was given.
    more: u32,
    pub(crate) rbac_role: Option<String>,
    /// The cluster to join.
    cid: Option<Uuid>,
    /// The election timer of a new cluster, in milliseconds.
    election_timer: Option<u64>,
}

impl Context {
    pub(crate) fn arg(&self, i: usize) -> Option<&str> {
        self.args.get(i).map(String::as_str)
    }

    /// The database file: an argument, or the default.
    pub(crate) fn db(&self, i: usize) -> String {
        self.arg(i).map_or_else(default_db, str::to_owned)
    }

    /// The schema file: an argument, or the default.
    pub(crate) fn schema(&self, i: usize) -> String {
        self.arg(i).map_or_else(default_schema, str::to_owned)
    }
}

type Handler = fn(&Context) -> Result<ExitCode, Error>;

struct Command {
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: Handler,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: Handler,
) -> Command {
    Command {
        name,
        usage,
        min,
        max,
        run,
    }
}

const ANY: usize = usize::MAX;

const COMMANDS: &[Command] = &[
    command("create", "[db [schema]]", 0, 2, data::create),
    command(
        "create-cluster",
        "db contents local",
        3,
        3,
        cluster::create_cluster,
    ),
    command(
        "join-cluster",
        "db name local remote...",
        4,
        ANY,
        cluster::join_cluster,
    ),
    command("compact", "[db [dst]]", 0, 2, data::compact),
    command("convert", "[db [schema [dst]]]", 0, 3, data::convert),
    command("needs-conversion", "", 0, 2, schema::needs_conversion),
    command("db-name", "[db]", 0, 1, schema::db_name),
    command("db-version", "[db]", 0, 1, schema::db_version),
    command("db-cksum", "[db]", 0, 1, schema::db_cksum),
    command("db-cid", "db", 1, 1, cluster::db_cid),
    command("db-sid", "db", 1, 1, cluster::db_sid),
    command("db-local-address", "db", 1, 1, cluster::db_local_address),
    command("db-is-clustered", "db", 1, 1, schema::db_is_clustered),
    command("db-is-standalone", "db", 1, 1, schema::db_is_standalone),
    command("schema-name", "[schema]", 0, 1, schema::schema_name),
    command("schema-version", "[schema]", 0, 1, schema::schema_version),
    command("schema-cksum", "[schema]", 0, 1, schema::schema_cksum),
    command("query", "[db] trns", 1, 2, data::query),
    command("transact", "[db] trns", 1, 2, data::transact),
    command("show-log", "[db]", 0, 1, show_log::show_log),
    command("check-cluster", "db...", 1, ANY, schema::check_cluster),
    command("compare-versions", "a op b", 3, 3, schema::compare_versions),
    command("help", "", 0, ANY, help),
    command("list-commands", "", 0, ANY, list_commands),
    command(
        "cluster-to-standalone",
        "db clusterdb",
        2,
        2,
        schema::cluster_to_standalone,
    ),
];

const OPTIONS: &[Opt] = &[
    Opt::both("more", 'm', Arg::None),
    Opt::long("rbac-role", Arg::Required),
    Opt::long("cid", Arg::Required),
    Opt::long("election-timer", Arg::Required),
    // Of the logging options this one alone.
    Opt::both("verbose", 'v', Arg::Optional),
    Opt::both("help", 'h', Arg::None),
    Opt::both("option", 'o', Arg::None),
    Opt::both("version", 'V', Arg::None),
];

pub fn run(args: Vec<String>) -> ExitCode {
    // Only what goes wrong belongs on the console of a tool.
    vlog::set_level(None, Some(vlog::Destination::Console), vlog::Level::Warn);
    ferrovs_ovsdb::log::report_to(warn);
    let mut parser = Parser::new(&[OPTIONS], args, true);
    let mut more = 0;
    let mut rbac_role = None;
    let (mut cid, mut election_timer) = (None, None);
    while let Some(found) = parser.next_or_exit() {
        match found.opt.long {
            "more" => more += 1,
            "rbac-role" => rbac_role = found.value,
            // Clusters alone have these two. They are checked whatever the command is.
            "cid" => {
                let text = found.value.unwrap_or_default();
                cid = ferrovs_ovsdb::uuid::parse(&text).filter(|id| !id.is_nil());
                if cid.is_none() {
                    fatal(format_args!("{text}: not a valid UUID"));
                }
            }
            "election-timer" => {
                let ms = found.value.unwrap_or_default().trim().parse::<u64>().ok();
                election_timer = ms.filter(|ms| (100..=600_000).contains(ms));
                if election_timer.is_none() {
                    fatal(Error::ovsdb(
                        "election timer must be between 100 and 600000, in msec.",
                    ));
                }
            }
            "help" => usage(),
            "option" => {
                options::print_options(&[OPTIONS]);
                return ExitCode::SUCCESS;
            }
            "version" => {
                version::print_version("ovsdb-tool", &[]);
                return ExitCode::SUCCESS;
            }
            _ => {
                options::handle_vlog(&found);
            }
        }
    }
    let mut args = parser.operands();
    if args.is_empty() {
        fatal("missing command name; use --help for help");
    }
    let name = args.remove(0);
    let Some(c) = COMMANDS.iter().find(|c| c.name == name) else {
        fatal(format_args!(
            "unknown command '{name}'; use --help for help"
        ));
    };
    if args.len() < c.min {
        fatal(format_args!(
            "'{name}' command requires at least {} arguments",
            c.min
        ));
    }
    if args.len() > c.max {
        fatal(format_args!(
            "'{name}' command takes at most {} arguments",
            c.max
        ));
    }
    match (c.run)(&Context {
        args,
        more,
        rbac_role,
        cid,
        election_timer,
    }) {
        Ok(code) => code,
        Err(e) => fatal(e),
    }
}

fn default_db() -> String {
    dirs::dbdir().join("conf.db").display().to_string()
}

fn default_schema() -> String {
    dirs::pkgdatadir()
        .join("vswitch.ovsschema")
        .display()
        .to_string()
}

/// Warnings of the file layer go to the log.
pub(crate) fn warn(module: &'static str, text: &str) {
    match module {
        "lockfile" => vlog::warn!(vlog::modules::LOCKFILE, "{text}"),
        "ovsdb_log" => vlog::warn!(vlog::modules::OVSDB_LOG, "{text}"),
        _ => vlog::warn!(vlog::modules::OVSDB_TOOL, "{text}"),
    }
}

fn list_commands(_: &Context) -> Result<ExitCode, Error> {
    println!("The available commands are:");
    for c in COMMANDS {
        println!("  {:<23} {}", c.name, c.usage);
    }
    Ok(ExitCode::SUCCESS)
}

fn help(_: &Context) -> Result<ExitCode, Error> {
    usage()
}

fn usage() -> ! {
    print!(
        "ovsdb-tool: Open vSwitch database management utility
usage: ovsdb-tool [OPTIONS] COMMAND [ARG...]
  create [DB [SCHEMA]]    create DB with the given SCHEMA
  [--election-timer=ms] create-cluster DB CONTENTS LOCAL
    create clustered DB with given CONTENTS and LOCAL address
  [--cid=UUID] join-cluster DB NAME LOCAL REMOTE...
    join clustered DB with given NAME and LOCAL and REMOTE addrs
  compact [DB [DST]]      compact DB in-place (or to DST)
  convert [DB [SCHEMA [DST]]]   convert DB to SCHEMA (to DST)
  db-name [DB]            report name of schema used by DB
  db-version [DB]         report version of schema used by DB
  db-cksum [DB]           report checksum of schema used by DB
  db-cid DB               report cluster ID of clustered DB
  db-sid DB               report server ID of clustered DB
  db-local-address DB     report local address of clustered DB
  db-is-clustered DB      test whether DB is clustered
  db-is-standalone DB     test whether DB is standalone
  schema-name [SCHEMA]    report SCHEMA's name
  schema-version [SCHEMA] report SCHEMA's schema version
  schema-cksum [SCHEMA]   report SCHEMA's checksum
  compare-versions A OP B  compare OVSDB schema version numbers
  query [DB] TRNS         execute read-only transaction on DB
  transact [DB] TRNS      execute read/write transaction on DB
  cluster-to-standalone DB DB    Convert clustered DB to
      standalone DB when cluster is down and cannot be
        revived
  [-m]... show-log [DB]   print DB's log entries
The default DB is {}.
The default SCHEMA is {}.
",
        default_db(),
        default_schema()
    );
    vlog::usage();
    print!(
        "
Other options:
  -m, --more                  increase show-log verbosity
  --rbac-role=ROLE            RBAC role for transact and query commands
  -h, --help                  display this help message
  -V, --version               display version information
"
    );
    std::process::exit(0)
}
