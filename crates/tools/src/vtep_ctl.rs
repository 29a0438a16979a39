//! vtep-ctl: configures a VTEP through its database, hardware_vtep.
//!
//! A run is one transaction ([`crate::dbctl`]). A VTEP is a physical switch: VLANs of its ports are
//! bound to logical switches, and tables say behind which tunnel endpoint each MAC address of a
//! logical switch is: "local" tables, written by the switch, of what it learned itself, and
//! "remote" ones, written by a controller.

mod help;
mod logical;
mod macs;
mod model;
mod physical;

use crate::dbctl::{
    self, Context, HasManagers, Invocation, RecordName, ShowTable, Spec, Tool, commands,
};
use ferrovs_idl::Uuid;
use ferrovs_idl::hardware_vtep::{Global, HARDWARE_VTEP};
use ferrovs_runtime::options::{self, Arg, Opt};
use ferrovs_runtime::vlog::{Module, modules};
use model::Vtep;
use std::process::ExitCode;

type Inv = Invocation<Vtep>;
type Ctx<'a> = Context<'a, Vtep>;

const NAMES: &[(&str, RecordName)] = &[
    ("Global", RecordName::Singleton),
    ("Logical_Router", RecordName::Column("name")),
    ("Logical_Switch", RecordName::Column("name")),
    ("Manager", RecordName::Column("target")),
    ("Physical_Port", RecordName::Column("name")),
    ("Physical_Switch", RecordName::Column("name")),
];

const SHOW: &[ShowTable] = &[
    show("Global", None, &["managers", "switches"]),
    show("Manager", Some("target"), &["is_connected"]),
    show(
        "Physical_Switch",
        Some("name"),
        &["management_ips", "tunnel_ips", "ports"],
    ),
    show("Physical_Port", Some("name"), &["vlan_bindings"]),
    show("Logical_Switch", Some("name"), &[]),
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

static SPEC: Spec<Vtep> = Spec {
    db: &HARDWARE_VTEP,
    names: NAMES,
    show: SHOW,
    commands: &[
        const { &commands::generic::<Vtep>() },
        physical::COMMANDS,
        logical::COMMANDS,
        macs::COMMANDS,
        const { &dbctl::managers::<Vtep>() },
        const { &commands::show_group::<Vtep>() },
    ],
};

const OPTIONS: &[Opt] = &[
    Opt::long("db", Arg::Required),
    Opt::long("no-syslog", Arg::None),
    Opt::long("dry-run", Arg::None),
    Opt::long("oneline", Arg::None),
    Opt::both("timeout", 't', Arg::Required),
    Opt::both("help", 'h', Arg::None),
    Opt::both("version", 'V', Arg::None),
];

static TOOL: Tool<Vtep> = Tool {
    spec: &SPEC,
    module: &modules::VTEP_CTL,
    options: OPTIONS,
    ssl: &[options::SSL_PEER_CA],
    help: &help::HELP,
    says_invoker: false,
    prepare: |p, _| p.need_all("Global", &[]),
    begin: |idl, txn, _| {
        let root = match idl.first::<Global>() {
            Some(row) => row.uuid(),
            None => txn.insert::<Global>(),
        };
        Vtep::new(root)
    },
    touched: |vtep, _, _| vtep.forget(),
    done: |_, _, _, _| ExitCode::SUCCESS,
};

impl HasManagers for Vtep {
    const MANAGERS: (&'static str, &'static str) = ("Global", "managers");
    const MODULE: &'static Module = &modules::VTEP_CTL;
    fn root(&self) -> Uuid {
        self.root
    }
}

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    dbctl::run(&TOOL, args)
}
