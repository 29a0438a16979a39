//! The `--help` text, around a tool's own commands and options.

use super::{RecordName, Spec, options};
use crate::table;
use ferrovs_runtime::options::ssl_usage;
use ferrovs_runtime::{dirs, vlog};

/// What is a tool's own in the text.
pub struct Help {
    /// What the tool is, after its name.
    pub title: &'static str,
    /// The commands, the generic ones aside.
    pub commands: &'static str,
    /// The options after `--db`.
    pub options: &'static str,
    /// The line about `--no-syslog`.
    pub no_syslog: &'static str,
    /// The tool has `--bootstrap-ca-cert`.
    pub bootstrap: bool,
}

impl Help {
    pub(super) fn print<E>(&self, spec: &Spec<E>) {
        let program = dirs::program_name();
        print!(
            "{program}: {}\nusage: {program} [OPTIONS] COMMAND [ARG...]\n{}{DATABASE_COMMANDS}",
            self.title, self.commands
        );
        print_records(spec);
        print!(
            "\nOptions:
  --db=DATABASE               connect to DATABASE
                              (default: {})
{}",
            options::default_db(),
            self.options
        );
        print!("{}", table::USAGE);
        vlog::usage();
        print!("{}{CONNECTIONS}", self.no_syslog);
        print!("{}{AFTER}", ssl_usage(self.bootstrap));
    }
}

/// How the records of each table may be named.
fn print_records<E>(spec: &Spec<E>) {
    let mut tables: Vec<&str> = spec.db.tables.iter().map(|t| t.name).collect();
    tables.sort_unstable();
    for table in tables {
        println!("  {table}:\n    by UUID");
        for (_, how) in spec.names.iter().filter(|(of, _)| *of == table) {
            match how {
                RecordName::Singleton | RecordName::ViaSingleton { .. } => println!("    as \".\""),
                RecordName::Column(column) => println!("    by \"{column}\""),
                RecordName::Via {
                    table,
                    name,
                    column,
                } => {
                    println!("    via \"{column}\" of {table} with matching \"{name}\"");
                }
            }
        }
    }
}

const DATABASE_COMMANDS: &str = "
Database commands:
  list TBL [REC]              list RECord (or all records) in TBL
  find TBL CONDITION...       list records satisfying CONDITION in TBL
  get TBL REC COL[:KEY]       print values of COLumns in RECord in TBL
  set TBL REC COL[:KEY]=VALUE set COLumn values in RECord in TBL
  add TBL REC COL [KEY=]VALUE add (KEY=)VALUE to COLumn in RECord in TBL
  remove TBL REC COL [KEY=]VALUE  remove (KEY=)VALUE from COLumn
  clear TBL REC COL           clear values from COLumn in RECord in TBL
  create TBL COL[:KEY]=VALUE  create and initialize new record
  destroy TBL REC             delete RECord from TBL
  wait-until TBL REC [COL[:KEY]=VALUE]  wait until condition is true
Potentially unsafe database commands require --force option.
Database commands may reference a row in each table in the following ways:
";

const CONNECTIONS: &str = "
Active database connection methods:
  tcp:HOST:PORT           PORT at remote HOST
  ssl:HOST:PORT           SSL/TLS PORT at remote HOST
  unix:FILE               Unix domain socket named FILE
Passive database connection methods:
  ptcp:PORT[:IP]          listen to TCP PORT on IP
  pssl:PORT[:IP]          listen for SSL/TLS on PORT on IP
  punix:FILE              listen on Unix domain socket FILE
";

const AFTER: &str = "
Other options:
  -h, --help                  display this help message
  -V, --version               display version information
";
