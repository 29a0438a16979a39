//! Running a tool of database commands: one transaction for all commands of an invocation.
//!
//! A [`Tool`] adds to its [`Spec`] what differs between programs: options, the texts of `--help`,
//! how a transaction begins and what happens after it succeeded. The rest is here: the commands are
//! carried out on a replica of what they need ([`Prepare`]), the changes are committed at once, and
//! if the database changed meanwhile (or a command waits for something), everything is done again
//! when it changes.

use super::help::Help;
use super::options::{self, Settings};
use super::prepare::widen;
use super::{Context, Fail, Invocation, Prepare, Spec, parse_commands};
use ferrovs_idl::{Idl, Options, Status, Txn};
use ferrovs_ovsdb::SymbolTable;
use ferrovs_runtime::options::Opt;
use ferrovs_runtime::vlog::{self, Module, modules};
use ferrovs_runtime::{Poller, clock, dirs, fatal};
use std::io::IsTerminal;
use std::process::ExitCode;

/// A program whose commands work on a database.
pub struct Tool<E: 'static> {
    pub spec: &'static Spec<E>,
    /// What it logs under.
    pub module: &'static Module,
    /// Its options, those for logs, tables and TLS aside.
    pub options: &'static [Opt],
    /// Its options for TLS beyond the common ones.
    pub ssl: &'static [Opt],
    pub help: &'static Help,
    /// The comment in the database's log says by which program this one was started.
    pub says_invoker: bool,
    /// Needs columns beyond those that the commands need.
    pub prepare: fn(&mut Prepare<'_>, &Settings),
    /// Begins a transaction: makes sure of the root row.
    pub begin: fn(&Idl, &mut Txn, &Settings) -> E,
    /// A command changed a column, or whole rows, behind the back of what the tool keeps.
    pub touched: fn(&mut E, usize, Option<usize>),
    /// The transaction succeeded.
    pub done: fn(&mut Idl, &Txn, &mut E, &Settings) -> ExitCode,
}

/// Runs the program; `args` begins with its name.
pub fn run<E>(tool: &'static Tool<E>, args: Vec<String>) -> ExitCode {
    ferrovs_runtime::fatal_signal::init();
    vlog::set_level(None, Some(vlog::Destination::Console), vlog::Level::Warn);
    vlog::set_level(Some(&modules::RECONNECT), None, vlog::Level::Warn);
    let command_line = escape_args(&args);
    let settings = options::parse(tool, args);
    let mut invocations = parse_commands(tool.spec, &settings.words, settings.leading.clone())
        .unwrap_or_else(|e| fatal(e));
    let level = match invocations.iter().any(|inv| inv.command.writes) {
        true => vlog::Level::Info,
        false => vlog::Level::Dbg,
    };
    if tool.module.enabled(level) {
        vlog::write(tool.module, level, format_args!("Called as {command_line}"));
    }
    let idl_options = Options {
        // Who listens waits for ever.
        retry: settings.retry || ferrovs_stream::verify_passive(&settings.db),
        leader_only: settings.leader_only,
        shuffle: settings.shuffle,
    };
    let mut idl = Idl::new(&settings.db, tool.spec.db, idl_options, clock::now());
    idl.set_db_change_aware(false);
    let mut partial = prepare(tool, &mut idl, &invocations, &settings);

    // The contents that were tried last, and how many changes of conditions are waited for.
    let (mut tried, mut conditions) = (idl.seqno(), 0);
    let mut poller = Poller::new();
    loop {
        idl.run(clock::now());
        if !idl.is_alive() {
            let error = idl.last_error().unwrap_or_default().to_string();
            fatal(format_args!(
                "{}: database connection failed ({error})",
                settings.db
            ));
        }
        if idl.seqno() != tried && idl.condition_seqno() >= conditions {
            tried = idl.seqno();
            let commands = &mut invocations;
            match attempt(tool, &mut idl, commands, &settings, &command_line, partial) {
                Tried::Done(code) => {
                    idl.end();
                    return code;
                }
                Tried::Again => {}
                Tried::Partial => {
                    partial = false;
                    conditions = widen(&mut idl);
                    // Whether or not there are other rows.
                    tried = 0;
                    continue;
                }
            }
        }
        if idl.seqno() == tried || idl.condition_seqno() < conditions {
            idl.wait(&mut poller);
            poller.block();
        }
    }
}

/// Asks for what the commands need. Whether the replica will lack rows that none of them named.
fn prepare<E>(
    tool: &Tool<E>,
    idl: &mut Idl,
    invocations: &[Invocation<E>],
    settings: &Settings,
) -> bool {
    let mut prepare = Prepare::new(idl, tool.spec);
    (tool.prepare)(&mut prepare, settings);
    for inv in invocations {
        match (inv.command.prepare)(&mut prepare, inv) {
            Ok(()) => {}
            Err(Fail::Fatal(text)) => fatal(text),
            Err(_) => {}
        }
    }
    prepare.restrict()
}

/// How an attempt ended.
enum Tried {
    Done(ExitCode),
    /// The database must change first, then again.
    Again,
    /// The rest of the rows must be there first, then again.
    Partial,
}

/// Carries everything out once.
fn attempt<E>(
    tool: &Tool<E>,
    idl: &mut Idl,
    invocations: &mut [Invocation<E>],
    settings: &Settings,
    command_line: &str,
    partial: bool,
) -> Tried {
    let mut txn = Txn::new();
    if settings.dry_run {
        txn.set_dry_run();
    }
    let invoker = match tool.says_invoker {
        true => invoked_by(),
        false => String::new(),
    };
    txn.comment(&format!(
        "{}{invoker}: {command_line}",
        dirs::program_name()
    ));
    let mut ext = (tool.begin)(idl, &mut txn, settings);
    let mut symbols = SymbolTable::new();
    for inv in invocations.iter_mut() {
        inv.reset();
        let mut ctx = Context {
            spec: tool.spec,
            idl,
            txn: &mut txn,
            symbols: &mut symbols,
            ext: &mut ext,
            partial,
            touched: Vec::new(),
        };
        let outcome = (inv.command.run)(&mut ctx, inv);
        for (table, column) in std::mem::take(&mut ctx.touched) {
            (tool.touched)(&mut ext, table, column);
        }
        match outcome {
            Ok(()) => {}
            Err(Fail::TryAgain) => return Tried::Again,
            // What fails is judged by all rows.
            Err(_) if partial => return Tried::Partial,
            Err(Fail::Fatal(text)) => fatal(text),
            Err(Fail::Exit(code)) => return Tried::Done(ExitCode::from(code)),
            Err(Fail::Partial) => return Tried::Again,
        }
    }
    check_symbols(tool.module, &symbols);
    let status = txn.commit_block(idl);
    match &status {
        Status::Unchanged | Status::Success => {}
        Status::TryAgain => return Tried::Again,
        Status::Error(text) => fatal(format_args!("transaction error: {text}")),
        Status::NotLocked => fatal("database not locked"),
        Status::Aborted => fatal("transaction aborted"),
        Status::Uncommitted | Status::Incomplete => unreachable!("commit_block waits"),
    }
    let mut first = true;
    let mut output = String::new();
    for inv in invocations.iter_mut() {
        if let (Status::Success, Some(finish)) = (&status, inv.command.finish) {
            finish(&txn, inv);
        }
        match &inv.table {
            Some(table) => output += &table.format(&settings.style, &mut first),
            None if settings.oneline => output += &one_line(&inv.output),
            None => output += &inv.output,
        }
    }
    // As with C's buffered output, who reads from a pipe hears nothing of a run that timed out.
    let at_once = std::io::stdout().is_terminal();
    if at_once {
        print!("{output}");
    }
    let code = match status == Status::Success && !settings.dry_run {
        true => (tool.done)(idl, &txn, &mut ext, settings),
        false => ExitCode::SUCCESS,
    };
    if !at_once {
        print!("{output}");
    }
    // Nobody needs the room that thousands of ports take.
    std::mem::forget(ext);
    Tried::Done(code)
}

fn check_symbols(module: &'static Module, symbols: &SymbolTable) {
    for (name, symbol) in symbols.iter() {
        if !symbol.created {
            fatal(format_args!(
                "row id \"{name}\" is referenced but never created (e.g. with \"-- --id={name} create ...\")"
            ));
        }
        if !symbol.strong_ref {
            let why = match symbol.weak_ref {
                false => "no reference to it was inserted",
                true => "only a weak reference to it was inserted",
            };
            vlog::warn!(
                *module,
                "row id \"{name}\" was created but {why}, so it will not actually appear in the database"
            );
        }
    }
}

fn one_line(output: &str) -> String {
    let line = output.strip_suffix('\n').unwrap_or(output);
    format!("{}\n", line.replace('\\', "\\\\").replace('\n', "\\n"))
}

/// The command line as a shell would take it.
fn escape_args(args: &[String]) -> String {
    let escape = |arg: &String| match arg.contains(UNSAFE) {
        true => ferrovs_runtime::text::json_quote(arg),
        false => arg.clone(),
    };
    args.iter().map(escape).collect::<Vec<_>>().join(" ")
}

/// Characters that make an argument need quotes.
const UNSAFE: [char; 4] = [' ', '\'', '"', '\\'];

/// " (invoked by PROGRAM)", as far as the system tells.
fn invoked_by() -> String {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    let command = parent.and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
    let name = command
        .as_deref()
        .and_then(|c| c.split(|&b| b == 0).next())
        .unwrap_or_default();
    match String::from_utf8_lossy(name).as_ref() {
        "" => String::new(),
        name => format!(" (invoked by {name})"),
    }
}
