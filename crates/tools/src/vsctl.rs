//! ovs-vsctl: configures ovs-vswitchd through its database.
//!
//! A run is one transaction ([`crate::dbctl`]), and unless `--no-wait` says otherwise the tool
//! waits until ovs-vswitchd has applied it (`cur_cfg` has caught up with `next_cfg`) and reports
//! interfaces that could not be set up.

mod auto_attach;
mod bridge;
mod controller;
mod help;
mod port;
mod reset;
mod ssl;
mod switch;
mod zone;

use crate::dbctl::{
    self, Command, Context, HasManagers, Invocation, Outcome, Prepare, RecordName, Settings,
    ShowTable, Spec, Tool, commands,
};
use crate::vsctl::switch::Switch;
use ferrovs_idl::open_vswitch::{Interface, OPEN_VSWITCH, OpenVSwitch};
use ferrovs_idl::{Idl, Table, Txn, Uuid};
use ferrovs_runtime::options::{self, Arg, Opt};
use ferrovs_runtime::vlog::{Module, modules};
use ferrovs_runtime::{Poller, clock, dirs, program_error};
use std::process::ExitCode;

pub(crate) type Inv = Invocation<Switch>;
pub(crate) type Ctx<'a> = Context<'a, Switch>;
pub(crate) type Cmd = Command<Switch>;

/// A command with so many arguments, and what it does.
const fn command(
    name: &'static str,
    args: (usize, usize),
    usage: &'static str,
    options: &'static [&'static str],
    prepare: fn(&mut Prepare<'_>, &Inv) -> Outcome,
    run: fn(&mut Ctx<'_>, &mut Inv) -> Outcome,
    writes: bool,
) -> Cmd {
    Command {
        name,
        min_args: args.0,
        max_args: args.1,
        usage,
        options,
        prepare,
        run,
        finish: None,
        writes,
    }
}

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
        const { &commands::generic::<Switch>() },
        reset::COMMANDS,
        bridge::COMMANDS,
        port::COMMANDS,
        controller::COMMANDS,
        const { &dbctl::managers::<Switch>() },
        ssl::COMMANDS,
        auto_attach::COMMANDS,
        zone::COMMANDS,
        const { &commands::show_group::<Switch>() },
    ],
};

const OPTIONS: &[Opt] = &[
    Opt::long("db", Arg::Required),
    Opt::long("no-syslog", Arg::None),
    Opt::long("no-wait", Arg::None),
    Opt::long("dry-run", Arg::None),
    Opt::long("oneline", Arg::None),
    Opt::both("timeout", 't', Arg::Required),
    Opt::long("retry", Arg::None),
    Opt::both("help", 'h', Arg::None),
    Opt::long("commands", Arg::None),
    Opt::long("options", Arg::None),
    Opt::long("leader-only", Arg::None),
    Opt::long("no-leader-only", Arg::None),
    Opt::long("shuffle-remotes", Arg::None),
    Opt::long("no-shuffle-remotes", Arg::None),
    Opt::both("version", 'V', Arg::None),
];

static TOOL: Tool<Switch> = Tool {
    spec: &SPEC,
    module: &modules::VSCTL,
    options: OPTIONS,
    ssl: &[options::SSL_BOOTSTRAP, options::SSL_PEER_CA],
    help: &help::HELP,
    says_invoker: true,
    prepare,
    begin,
    touched: |switch, table, column| {
        if switch::is_model(table, column) {
            switch.forget();
        }
    },
    done,
};

impl HasManagers for Switch {
    const MANAGERS: (&'static str, &'static str) = ("Open_vSwitch", "manager_options");
    const MODULE: &'static Module = &modules::VSCTL;
    fn root(&self) -> Uuid {
        self.root
    }
}

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    dbctl::run(&TOOL, args)
}

fn prepare(p: &mut Prepare<'_>, settings: &Settings) {
    p.need_all("Open_vSwitch", &[]);
    if settings.wait {
        p.need_all("Open_vSwitch", &["cur_cfg"]);
        // Of those alone that the commands add.
        p.need_columns("Interface", &["ofport", "error"]);
    }
}

fn begin(idl: &Idl, txn: &mut Txn, settings: &Settings) -> Switch {
    let table = OpenVSwitch::INDEX;
    let root = match idl.first::<OpenVSwitch>() {
        Some(row) => row.uuid(),
        None => txn.insert_row(table, None),
    };
    if settings.wait {
        txn.increment(table, root, OpenVSwitch::NEXT_CFG.index(), false);
    }
    Switch::new(root)
}

fn done(idl: &mut Idl, txn: &Txn, switch: &mut Switch, settings: &Settings) -> ExitCode {
    if !settings.wait {
        return ExitCode::SUCCESS;
    }
    wait_for_switch(idl, txn.increment_result());
    check_interfaces(idl, txn, &switch.take_new_interfaces())
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

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_idl::open_vswitch::{Bridge, Port};
    use ferrovs_idl::{Condition, Function, Options};

    /// A replica of what a command line needs.
    fn needs(words: &str) -> Idl {
        let mut idl = Idl::new(
            "unix:/nosuch",
            &OPEN_VSWITCH,
            Options::default(),
            clock::now(),
        );
        let words: Vec<String> = words.split(' ').map(str::to_string).collect();
        let mut prepare = Prepare::new(&mut idl, &SPEC);
        prepare.need_columns("Interface", &["ofport"]);
        for inv in dbctl::parse_commands(&SPEC, &words, Vec::new()).unwrap() {
            (inv.command.prepare)(&mut prepare, &inv).unwrap();
        }
        prepare.restrict();
        idl
    }

    #[test]
    fn a_port_is_added_by_its_name_however_many_there_are() {
        let idl = needs("add-port br0 p1 tag=3 -- set Interface p1 type=internal");
        let ports = Condition::none()
            .or(Port::FAKE_BRIDGE, Function::Eq, true)
            .or(Port::NAME, Function::Eq, "p1");
        assert_eq!(*idl.condition::<Port>(), ports);
        let ifaces = Condition::none().or(Interface::NAME, Function::Eq, "p1");
        assert_eq!(*idl.condition::<Interface>(), ifaces);
        assert!(idl.condition::<Bridge>().is_all());
    }

    #[test]
    fn rows_that_are_not_named_alone_are_needed_all() {
        let all = |words| needs(words).condition::<Interface>().is_all();
        assert!(!all("get Interface p1 ofport"));
        assert!(
            !all("add-port br0 deaf"),
            "a new row has no UUID to be named by"
        );
        assert!(
            all("get Interface deaf ofport"),
            "may be the beginning of a UUID"
        );
        assert!(all("get Interface . ofport"));
        assert!(all("get Interface p1 ofport -- list Interface"));
        assert!(all("list-ports br0"));
        assert!(
            all("set-manager x -- get Interface p1 ofport"),
            "warns once"
        );
        let many = (0..99).map(|i| format!("add-port br0 p{i}"));
        assert!(all(&many.collect::<Vec<_>>().join(" -- ")));
        assert_eq!(
            *needs("get Open_vSwitch . cur_cfg").condition::<Interface>(),
            Condition::none()
        );
    }
}
