//! ovsdb-client: asks an OVSDB server something, or watches a database.
//!
//! One table gives the commands, what they need (a connection, a database) and how many arguments
//! they take. A server and a database may be named before the arguments; both have defaults.

mod control;
mod data;
mod help;
mod lock;
mod monitor;
mod monitor_print;
mod rpc;
mod schema;
mod transfer;
mod wait;

use crate::table::{self, Format, Style, Table};
use ferrovs_runtime::daemon::{self, Daemon};
use ferrovs_runtime::options::{self, Arg, Opt, Parser, Ssl};
use ferrovs_runtime::vlog::modules;
use ferrovs_runtime::{clock, dirs, fatal, fatal_signal, set_timeout, version, vlog};
use ferrovs_stream::json::{Value, to_string, to_string_pretty};
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

/// What a command needs before it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It connects by itself.
    Nothing,
    /// A server, which is asked once the arguments have told what for: [`Client::open`].
    Server,
    Connection,
    Database,
}

struct Command {
    name: &'static str,
    need: Need,
    min: usize,
    max: usize,
    run: fn(&mut Client, Vec<String>),
}

const fn command(
    name: &'static str,
    need: Need,
    min: usize,
    max: usize,
    run: fn(&mut Client, Vec<String>),
) -> Command {
    Command {
        name,
        need,
        min,
        max,
        run,
    }
}

const COMMANDS: &[Command] = &[
    command("list-dbs", Need::Connection, 0, 0, schema::list_dbs),
    command("get-schema", Need::Database, 0, 0, schema::get_schema),
    command(
        "get-schema-version",
        Need::Database,
        0,
        0,
        schema::get_schema_version,
    ),
    command(
        "get-schema-cksum",
        Need::Database,
        0,
        0,
        schema::get_schema_cksum,
    ),
    command("list-tables", Need::Database, 0, 0, schema::list_tables),
    command("list-columns", Need::Database, 0, 1, schema::list_columns),
    command("transact", Need::Server, 1, 1, data::transact),
    command("query", Need::Server, 1, 1, data::query),
    command("monitor", Need::Database, 1, usize::MAX, monitor::monitor),
    command("monitor-cond", Need::Database, 2, 3, monitor::monitor_cond),
    command(
        "monitor-cond-since",
        Need::Database,
        2,
        4,
        monitor::monitor_cond_since,
    ),
    command("wait", Need::Nothing, 2, 3, wait::wait),
    command("convert", Need::Server, 1, 1, schema::convert),
    command(
        "needs-conversion",
        Need::Server,
        1,
        1,
        schema::needs_conversion,
    ),
    command("dump", Need::Database, 0, usize::MAX, data::dump),
    command("backup", Need::Database, 0, 0, transfer::backup),
    command("restore", Need::Database, 0, 0, transfer::restore),
    command("lock", Need::Connection, 1, 1, lock::lock),
    command("steal", Need::Connection, 1, 1, lock::steal),
    command("unlock", Need::Connection, 1, 1, lock::unlock),
];

const OPTIONS: &[Opt] = &[
    Opt::both("help", 'h', Arg::None),
    Opt::both("version", 'V', Arg::None),
    Opt::long("timestamp", Arg::None),
    Opt::long("force", Arg::None),
    Opt::both("timeout", 't', Arg::Required),
    Opt::long("db-change-aware", Arg::None),
    Opt::long("no-db-change-aware", Arg::None),
    Opt::long("leader-only", Arg::None),
    Opt::long("no-leader-only", Arg::None),
];

/// A run of the program: its options, its connection, its database.
struct Client {
    style: Style,
    first_table: bool,
    timestamp: bool,
    force: bool,
    change_aware: Option<bool>,
    leader_only: bool,
    daemon: Daemon,
    remotes: Vec<String>,
    rpc: Option<rpc::Rpc>,
    database: String,
}

impl Client {
    fn rpc(&mut self) -> &mut rpc::Rpc {
        self.rpc
            .as_mut()
            .expect("what the command table says it needs has been opened")
    }

    /// Connects to the server: to the leader for a database, if there are several.
    fn open(&mut self, database: &str) {
        let rpc = rpc::Rpc::open_leader(&self.remotes, database, self.leader_only);
        self.rpc = Some(rpc);
    }

    fn print_table(&mut self, table: &Table) {
        print!("{}", table.format(&self.style, &mut self.first_table));
    }

    fn print_json(&self, json: &Value) {
        let text = if self.style.pretty {
            to_string_pretty(json)
        } else {
            to_string(json)
        };
        println!("{text}");
    }

    /// What was printed goes out; a reader that went away ends the tool at the next print.
    fn flush(&self) {
        use std::io::Write;
        let _ = std::io::stdout().flush();
    }

    /// The time for `--timestamp`.
    fn now_text(&self) -> Option<String> {
        self.timestamp.then(|| {
            let since = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
            civil(since.as_secs(), since.subsec_millis())
        })
    }
}

/// "2026-11-20 22:25:55.538", in UTC.
fn civil(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days to date in the proleptic Gregorian calendar, counted from 1 March of year 0.
    let z = days + 719_468;
    let era = z / 146_097;
    let of_era = z % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{millis:03}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn default_remote() -> String {
    format!("unix:{}", dirs::rundir().join("db.sock").display())
}

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    fatal_signal::init();
    let (mut client, mut words) = parse(args);
    if words.is_empty() {
        fatal("missing command name; use --help for help");
    }
    let name = words.remove(0);
    if name == "help" {
        help::print();
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        fatal(format_args!(
            "unknown command '{name}'; use --help for help"
        ));
    };
    if command.need != Need::Nothing {
        let named = words.len() > command.min && looks_like_remote(&words[0]);
        let remote = if named {
            words.remove(0)
        } else {
            default_remote()
        };
        client.remotes = remote.split(',').map(str::to_string).collect();
        let remotes = client.remotes.clone();
        match command.need {
            Need::Connection => client.rpc = Some(rpc::Rpc::open(&remotes)),
            Need::Database => {
                let leader_only = client.leader_only;
                let (rpc, database, taken) =
                    rpc::Rpc::open_database(&remotes, &words, command.min, leader_only);
                if taken {
                    words.remove(0);
                }
                client.rpc = Some(rpc);
                client.database = database;
            }
            Need::Nothing | Need::Server => {}
        }
    }
    if words.len() < command.min || words.len() > command.max {
        fatal(format_args!(
            "invalid syntax for '{name}' (use --help for help)"
        ));
    }
    (command.run)(&mut client, words);
    ExitCode::SUCCESS
}

/// A letter first and a colon somewhere: no database and no JSON looks like that.
fn looks_like_remote(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.contains(':')
}

fn parse(args: Vec<String>) -> (Client, Vec<String>) {
    let ssl = &[options::SSL_BOOTSTRAP, options::SSL_PEER_CA];
    let all = [
        OPTIONS,
        options::VLOG,
        table::OPTIONS,
        daemon::OPTIONS,
        options::SSL,
        ssl,
    ];
    let mut client = Client {
        style: Style::new(Format::Table),
        first_table: true,
        timestamp: false,
        force: false,
        change_aware: None,
        leader_only: true,
        daemon: Daemon::new(),
        remotes: Vec::new(),
        rpc: None,
        database: String::new(),
    };
    let mut tls = Ssl::default();
    let mut parser = Parser::new(&all, args, true);
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found)
            || client.style.handle(&found)
            || client.daemon.handle(&found)
            || tls.handle(&found)
        {
            continue;
        }
        match found.opt.long {
            "help" => {
                help::print();
                std::process::exit(0);
            }
            "version" => {
                version::print_version(dirs::program_name(), &[]);
                std::process::exit(0);
            }
            "timestamp" => client.timestamp = true,
            "force" => client.force = true,
            "timeout" => match found.required().parse::<u32>() {
                Ok(seconds) if seconds > 0 => set_timeout(seconds),
                _ => fatal(format_args!(
                    "value {} on -t or --timeout is invalid",
                    found.required()
                )),
            },
            "db-change-aware" => client.change_aware = Some(true),
            "no-db-change-aware" => client.change_aware = Some(false),
            "leader-only" => client.leader_only = true,
            "no-leader-only" => client.leader_only = false,
            other => vlog::dbg!(modules::OVSDB_CLIENT, "unhandled option --{other}"),
        }
    }
    crate::tls::configure(&tls);
    (client, parser.operands())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil_dates_in_utc() {
        assert_eq!(civil(0, 7), "1970-01-01 00:00:00.007");
        assert_eq!(civil(951_782_400, 0), "2000-02-29 00:00:00.000");
        assert_eq!(civil(1_795_213_558, 570), "2026-11-20 22:25:58.570");
    }
}
