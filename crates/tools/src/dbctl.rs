//! Database commands: the part that ovs-vsctl shares with every other tool of its kind.
//!
//! A tool describes itself by a [`Spec`]: its database, how records of each table may be named,
//! what `show` shows, and a table of [`Command`]s, each with its arguments, options, the columns
//! that it needs ([`Command::prepare`]) and its action. The generic commands (`list`, `find`, `get`,
//! `set`, `add`, `remove`, `clear`, `create`, `destroy`, `wait-until`, `comment`, `show`) are in
//! [`commands`]. One invocation of a tool is one transaction, however many commands it has; if the
//! database changes underneath, all of it is done again.
//!
//! A [`Tool`] adds options and texts to its [`Spec`] and is started by [`run`].
//!
//! `E` is what the tool keeps between its commands (ovs-vsctl: the bridges it knows).

mod columns;
pub mod commands;
mod help;
mod lookup;
mod manager;
mod options;
mod parse;
mod prepare;
mod show;
mod tool;

pub use columns::{ColumnRef, set_column};
pub use help::Help;
pub use lookup::{find_column, find_row, find_table};
pub use manager::{HasManagers, check_target, managers};
pub use options::Settings;
pub use parse::{
    leading_number, leading_number_any_base, parse_commands, print_commands, print_options,
};
pub use prepare::Prepare;
pub use tool::{Tool, run};

use crate::table::Table;
use ferrovs_idl::{Database, Idl, Txn, Uuid, View};
use ferrovs_ovsdb::{Datum, SymbolTable};
use std::collections::BTreeMap;

/// How a record of a table may be named, besides by its UUID.
#[derive(Clone, Copy, Debug)]
pub enum RecordName {
    /// "." stands for the only row.
    Singleton,
    /// By the value of one of its columns.
    Column(&'static str),
    /// By the name (a column) of the row in another table that refers to it (by a column).
    Via {
        table: &'static str,
        name: &'static str,
        column: &'static str,
    },
    /// "." stands for the row that the only row of another table refers to.
    ViaSingleton {
        table: &'static str,
        column: &'static str,
    },
}

/// What `show` prints of a table.
#[derive(Clone, Copy, Debug)]
pub struct ShowTable {
    pub table: &'static str,
    /// The column that names the row, or its UUID.
    pub name: Option<&'static str>,
    pub columns: &'static [&'static str],
}

/// A tool, as far as database commands go.
pub struct Spec<E: 'static> {
    pub db: &'static Database,
    pub names: &'static [(&'static str, RecordName)],
    pub show: &'static [ShowTable],
    pub commands: &'static [&'static [Command<E>]],
}

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Fail {
    /// The tool prints this and exits with status 1.
    Fatal(String),
    /// The tool exits with this status.
    Exit(u8),
    /// What the command waits for is not there yet: all is done again when the database changes.
    TryAgain,
    /// Rows that were not asked for ([`Prepare`]) have to be looked at.
    Partial,
}

impl From<String> for Fail {
    fn from(text: String) -> Fail {
        Fail::Fatal(text)
    }
}

impl From<&str> for Fail {
    fn from(text: &str) -> Fail {
        Fail::Fatal(text.into())
    }
}

pub type Outcome = Result<(), Fail>;

/// A command of a tool.
pub struct Command<E: 'static> {
    pub name: &'static str,
    pub min_args: usize,
    pub max_args: usize,
    /// Its arguments, as `--commands` prints them for shell completion.
    pub usage: &'static str,
    /// "--may-exist", "--id=" (with a value).
    pub options: &'static [&'static str],
    /// Says which columns of which rows the command needs.
    pub prepare: fn(&mut Prepare<'_>, &Invocation<E>) -> Outcome,
    pub run: fn(&mut Context<'_, E>, &mut Invocation<E>) -> Outcome,
    /// Called after the transaction succeeded.
    pub finish: Option<fn(&Txn, &mut Invocation<E>)>,
    pub writes: bool,
}

/// No upper limit on arguments.
pub const MANY: usize = usize::MAX;

/// One command on the command line.
pub struct Invocation<E: 'static> {
    pub command: &'static Command<E>,
    /// The command's name and its arguments.
    pub argv: Vec<String>,
    pub options: BTreeMap<&'static str, Option<String>>,
    pub output: String,
    pub table: Option<Table>,
    /// The row that `create` inserted.
    pub created: Option<Uuid>,
}

impl<E> Invocation<E> {
    pub fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    pub fn option(&self, option: &str) -> Option<&str> {
        self.options.get(option)?.as_deref()
    }

    pub fn arg(&self, i: usize) -> &str {
        self.argv.get(i).map_or("", String::as_str)
    }

    pub fn say(&mut self, line: impl std::fmt::Display) {
        use std::fmt::Write;
        let _ = writeln!(self.output, "{line}");
    }

    /// Forgets the results of an earlier try.
    pub fn reset(&mut self) {
        self.output.clear();
        self.table = None;
        self.created = None;
    }
}

/// What commands work on.
pub struct Context<'a, E: 'static> {
    pub spec: &'static Spec<E>,
    pub idl: &'a Idl,
    pub txn: &'a mut Txn,
    pub symbols: &'a mut SymbolTable,
    pub ext: &'a mut E,
    /// Rows that no command named may be missing from the replica ([`Prepare`]).
    pub partial: bool,
    /// What generic commands changed: tables, and columns unless whole rows.
    pub touched: Vec<(usize, Option<usize>)>,
}

impl<E> Context<'_, E> {
    /// The database as the transaction would leave it.
    pub fn view(&self) -> View<'_> {
        View {
            idl: self.idl,
            txn: self.txn,
        }
    }

    /// A column's value, by exact names.
    pub fn value(&self, table: &str, uuid: Uuid, column: &str) -> Datum {
        let t = self.spec.db.table_index(table).unwrap_or_default();
        match self.spec.db.tables[t].column_index(column) {
            Some(c) => self.view().get(t, uuid, c).clone(),
            None => Datum::Empty,
        }
    }
}
