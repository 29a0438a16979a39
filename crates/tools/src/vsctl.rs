//! ovs-vsctl: configures ovs-vswitchd through its database.
//!
//! A run is one transaction: all commands are carried out on a replica of the needed columns, the
//! changes are committed at once, and unless `--no-wait` says otherwise the tool waits until
//! ovs-vswitchd has applied them (`cur_cfg` has caught up with `next_cfg`) and reports interfaces
//! that could not be set up. If the database changed meanwhile, everything is done again.

mod bridge;
mod controller;
mod help;
mod options;
mod port;
mod reset;
mod switch;
mod zone;

use crate::dbctl::{
    Context, Fail, Invocation, Prepare, RecordName, ShowTable, Spec, commands, parse_commands,
};
use crate::vsctl::switch::Switch;
use ferrovs_idl::open_vswitch::{Interface, OPEN_VSWITCH, OpenVSwitch};
use ferrovs_idl::{Idl, Options, Status, Table, Txn, Uuid};
use ferrovs_ovsdb::SymbolTable;
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_runtime::{Poller, clock, dirs, fatal, program_error};
use std::process::ExitCode;

pub(crate) type Inv = Invocation<Switch>;
pub(crate) type Ctx<'a> = Context<'a, Switch>;

/// Exit status when the database has the change but ovs-vswitchd could not apply it.
const NOT_APPLIED: u8 = 65;

const NAMES: &[(&str, RecordName)] = &[
    ("AutoAttach", via("Bridge", "auto_attach")),
    ("Bridge", RecordName::Column("name")),
    ("Controller", via("Bridge", "controller")),
    ("Flow_Sample_Collector_Set", RecordName::Column("id")),
    ("Flow_Table", RecordName::Column("name")),
    ("IPFIX", via("Bridge", "ipfix")),
    ("Interface", RecordName::Column("name")),
    ("Manager", RecordName::Column("target")),
    ("Mirror", RecordName::Column("name")),
    ("NetFlow", via("Bridge", "netflow")),
    ("Open_vSwitch", RecordName::Singleton),
    ("Port", RecordName::Column("name")),
    ("QoS", via("Port", "qos")),
    (
        "SSL",
        RecordName::ViaSingleton {
            table: "Open_vSwitch",
            column: "ssl",
        },
    ),
    ("sFlow", via("Bridge", "sflow")),
];

const fn via(table: &'static str, column: &'static str) -> RecordName {
    RecordName::Via {
        table,
        name: "name",
        column,
    }
}

const SHOW: &[ShowTable] = &[
    show(
        "Open_vSwitch",
        None,
        &["manager_options", "bridges", "ovs_version"],
    ),
    show(
        "Bridge",
        Some("name"),
        &["controller", "fail_mode", "datapath_type", "ports"],
    ),
    show("Port", Some("name"), &["tag", "trunks", "interfaces"]),
    show("Interface", Some("name"), &["type", "options", "error"]),
    show("Controller", Some("target"), &["is_connected"]),
    show("Manager", Some("target"), &["is_connected"]),
];

const fn show(
    table: &'static str,
    name: Option<&'static str>,
    columns: &'static [&'static str],
) -> ShowTable {
    ShowTable {
        table,
        name,
        columns,
    }
}

static SPEC: Spec<Switch> = Spec {
    db: &OPEN_VSWITCH,
    names: NAMES,
    show: SHOW,
    commands: &[
        reset::COMMANDS,
        bridge::COMMANDS,
        port::COMMANDS,
        controller::COMMANDS,
        zone::COMMANDS,
        const { &commands::generic::<Switch>() },
    ],
};

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    ferrovs_runtime::fatal_signal::init();
    vlog::set_level(None, Some(vlog::Destination::Console), vlog::Level::Warn);
    vlog::set_level(Some(&modules::RECONNECT), None, vlog::Level::Warn);
    let command_line = escape_args(&args);
    let settings = options::parse(args);
    let mut invocations = parse_commands(&SPEC, &settings.words, settings.leading.clone())
        .unwrap_or_else(|e| fatal(e));
    let level = match invocations.iter().any(|inv| inv.command.writes) {
        true => vlog::Level::Info,
        false => vlog::Level::Dbg,
    };
    if modules::VSCTL.enabled(level) {
        vlog::write(
            &modules::VSCTL,
            level,
            format_args!("Called as {command_line}"),
        );
    }
    let idl_options = Options {
        retry: settings.retry,
        leader_only: settings.leader_only,
        shuffle: settings.shuffle,
    };
    let mut idl = Idl::new(&settings.db, &OPEN_VSWITCH, idl_options, clock::now());
    prepare(&mut idl, &invocations, &settings);

    let mut seqno = idl.seqno();
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
        if idl.seqno() != seqno {
            seqno = idl.seqno();
            if let Some(code) = attempt(&mut idl, &mut invocations, &settings, &command_line) {
                return code;
            }
        }
        if idl.seqno() == seqno {
            idl.wait(&mut poller);
            poller.block();
        }
    }
}

fn prepare(idl: &mut Idl, invocations: &[Inv], settings: &options::Settings) {
    let mut prepare = Prepare {
        idl,
        db: &OPEN_VSWITCH,
        names: NAMES,
        show: SHOW,
    };
    prepare.need("Open_vSwitch", &[]);
    if settings.wait {
        prepare.need("Open_vSwitch", &["cur_cfg"]);
        prepare.need("Interface", &["ofport", "error"]);
    }
    for inv in invocations {
        match (inv.command.prepare)(&mut prepare, inv) {
            Ok(()) => {}
            Err(Fail::Fatal(text)) => fatal(text),
            Err(_) => {}
        }
    }
}

/// Carries everything out once. `None`: the database must change first, then again.
fn attempt(
    idl: &mut Idl,
    invocations: &mut [Inv],
    settings: &options::Settings,
    command_line: &str,
) -> Option<ExitCode> {
    let mut txn = Txn::new();
    if settings.dry_run {
        txn.set_dry_run();
    }
    txn.comment(&format!("ovs-vsctl{}: {command_line}", invoked_by()));
    let table = OpenVSwitch::INDEX;
    let root = match idl.first::<OpenVSwitch>() {
        Some(row) => row.uuid(),
        None => txn.insert_row(table, None),
    };
    if settings.wait {
        txn.increment(table, root, OpenVSwitch::NEXT_CFG.index(), false);
    }
    let mut symbols = SymbolTable::new();
    let mut switch = Switch::new(root);
    for inv in invocations.iter_mut() {
        inv.reset();
        let mut ctx = Context {
            spec: &SPEC,
            idl,
            txn: &mut txn,
            symbols: &mut symbols,
            ext: &mut switch,
            touched: Vec::new(),
        };
        let outcome = (inv.command.run)(&mut ctx, inv);
        let touched = std::mem::take(&mut ctx.touched);
        if touched
            .into_iter()
            .any(|(table, column)| switch::is_model(table, column))
        {
            switch.forget();
        }
        match outcome {
            Ok(()) => {}
            Err(Fail::Fatal(text)) => fatal(text),
            Err(Fail::Exit(code)) => return Some(ExitCode::from(code)),
            Err(Fail::TryAgain) => return None,
        }
    }
    check_symbols(&symbols);
    let expected = switch.take_new_interfaces();
    let status = txn.commit_block(idl);
    match &status {
        Status::Unchanged | Status::Success => {}
        Status::TryAgain => return None,
        Status::Error(text) => fatal(format_args!("transaction error: {text}")),
        Status::NotLocked => fatal("database not locked"),
        Status::Aborted => fatal("transaction aborted"),
        Status::Uncommitted | Status::Incomplete => unreachable!("commit_block waits"),
    }
    let mut first = true;
    for inv in invocations.iter_mut() {
        if let (Status::Success, Some(finish)) = (&status, inv.command.finish) {
            finish(&txn, inv);
        }
        let text = match &inv.table {
            Some(table) => table.format(&settings.style, &mut first),
            None if settings.oneline => one_line(&inv.output),
            None => inv.output.clone(),
        };
        print!("{text}");
    }
    if settings.wait && status == Status::Success && !settings.dry_run {
        use std::io::Write;
        let _ = std::io::stdout().flush();
        wait_for_switch(idl, txn.increment_result());
        return Some(check_interfaces(idl, &txn, &expected));
    }
    Some(ExitCode::SUCCESS)
}

fn check_symbols(symbols: &SymbolTable) {
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
                modules::VSCTL,
                "row id \"{name}\" was created but {why}, so it will not actually appear in the database"
            );
        }
    }
}

fn one_line(output: &str) -> String {
    let line = output.strip_suffix('\n').unwrap_or(output);
    format!("{}\n", line.replace('\\', "\\\\").replace('\n', "\\n"))
}

/// Waits until ovs-vswitchd says that it has applied the configuration with this number.
fn wait_for_switch(idl: &mut Idl, next_cfg: i64) {
    let mut poller = Poller::new();
    loop {
        idl.run(clock::now());
        if idl
            .rows::<OpenVSwitch>()
            .any(|row| row.cur_cfg() >= next_cfg)
        {
            return;
        }
        idl.wait(&mut poller);
        poller.block();
    }
}

/// Reports new interfaces that ovs-vswitchd could not set up.
fn check_interfaces(idl: &Idl, txn: &Txn, expected: &[Uuid]) -> ExitCode {
    let mut failed = false;
    for &uuid in expected {
        let Some(row) = txn
            .insert_uuid(uuid)
            .and_then(|real| idl.row::<Interface>(real))
        else {
            continue;
        };
        if !matches!(row.ofport(), None | Some(-1)) {
            continue;
        }
        let reason = row
            .error()
            .filter(|e| !e.is_empty())
            .map(|e| format!(": {e}"));
        program_error(format_args!(
            "Error detected while setting up '{}'{}.  See ovs-vswitchd log for details.",
            row.name(),
            reason.unwrap_or_default()
        ));
        failed = true;
    }
    if !failed {
        return ExitCode::SUCCESS;
    }
    program_error(format_args!(
        "The default log directory is \"{}\".",
        dirs::logdir().display()
    ));
    ExitCode::from(NOT_APPLIED)
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
