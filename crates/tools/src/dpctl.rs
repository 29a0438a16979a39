//! ovs-dpctl: asks the kernel's datapaths, those of kind `system`.
//!
//! The commands are the ones that ovs-vswitchd serves as `dpctl/*`. This program talks to the kernel and not to
//! ovs-vswitchd, whose datapaths live in its own process: see `ovs-appctl dpctl/help`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrovs_datapath::dpif::{Dpif, DpifClass, Errno};
use ferrovs_dpctl::{COMMANDS, Context};
use ferrovs_runtime::options::{self, Arg, Opt, Parser};
use ferrovs_runtime::vlog::modules::{DPIF, DPIF_NETLINK};
use ferrovs_runtime::{clock, dirs, fatal, set_timeout, version, vlog};

const OPTIONS: &[Opt] = &[
    Opt::both("statistics", 's', Arg::None),
    Opt::long("clear", Arg::None),
    Opt::long("may-create", Arg::None),
    Opt::long("read-only", Arg::None),
    Opt::both("more", 'm', Arg::None),
    Opt::long("names", Arg::None),
    Opt::long("no-names", Arg::None),
    Opt::both("timeout", 't', Arg::Required),
    Opt::both("help", 'h', Arg::None),
    Opt::both("option", 'o', Arg::None),
    Opt::both("version", 'V', Arg::None),
];

/// The kernel's datapaths, on a machine whose kernel has none.
struct System {
    told: AtomicBool,
}

impl System {
    fn absent(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            vlog::info!(
                DPIF_NETLINK,
                "Generic Netlink family 'ovs_datapath' does not exist. \
                 The Open vSwitch kernel module is probably not loaded."
            );
        }
    }
}

impl DpifClass for System {
    fn kind(&self) -> &'static str {
        "system"
    }

    fn enumerate(&self) -> Vec<String> {
        self.absent();
        vlog::warn!(
            DPIF,
            "failed to enumerate system datapaths: {}",
            Errno::ENOENT
        );
        Vec::new()
    }

    fn enumeration_failed(&self) -> bool {
        true
    }

    fn open(&self, _name: &str, _create: bool) -> Result<Arc<dyn Dpif>, Errno> {
        self.absent();
        Err(Errno::ENOENT)
    }

    fn port_open_kind(&self, kind: &str) -> String {
        kind.to_owned()
    }
}

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    let classes: [Arc<dyn DpifClass>; 1] = [Arc::new(System {
        told: AtomicBool::new(false),
    })];
    let program = dirs::program_name();
    let mut context = Context::new(&classes, program, clock::now(), |text, _| {
        // Never asked: there is no datapath whose flows could be filtered.
        Err(text.to_owned())
    });
    context.tool = true;
    let tables = [OPTIONS, options::VLOG];
    let mut parser = Parser::new(&tables, args, true);
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found) {
            continue;
        }
        match found.opt.long {
            "statistics" => context.statistics = true,
            "clear" => context.zero = true,
            "may-create" => context.may_create = true,
            "read-only" => context.read_only = true,
            "more" => context.more += 1,
            "names" => context.set_names(true),
            "no-names" => context.set_names(false),
            "timeout" => match found.required().parse::<u32>() {
                Ok(seconds) if seconds > 0 => set_timeout(seconds),
                _ => fatal(format_args!(
                    "value {} on -t or --timeout is invalid",
                    found.required()
                )),
            },
            "help" => {
                usage();
                return ExitCode::SUCCESS;
            }
            "option" => {
                options::print_options(&tables);
                return ExitCode::SUCCESS;
            }
            _ => {
                version::print_version(program, &[]);
                return ExitCode::SUCCESS;
            }
        }
    }
    let operands = parser.operands();
    let Some((name, rest)) = operands.split_first() else {
        fatal("missing command name; use --help for help");
    };
    if name == "help" {
        usage();
        return ExitCode::SUCCESS;
    }
    let full = format!("dpctl/{name}");
    let Some(command) = COMMANDS.iter().find(|c| c.name == full) else {
        fatal(format_args!(
            "unknown command '{name}'; use --help for help"
        ));
    };
    if rest.len() < command.min {
        fatal(format_args!(
            "'{name}' command requires at least {} arguments",
            command.min
        ));
    }
    if rest.len() > command.max {
        fatal(format_args!(
            "'{name}' command takes at most {} arguments",
            command.max
        ));
    }
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match context.run(command, &rest) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprint!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn usage() {
    let program = dirs::program_name();
    print!(
        "{program}: Open vSwitch datapath management utility\n\
         usage: {program} [OPTIONS] COMMAND [ARG...]\n\
         \x20 add-dp DP [IFACE...]     add new datapath DP (with IFACEs)\n\
         \x20 del-dp DP                delete local datapath DP\n\
         \x20 add-if DP IFACE...       add each IFACE as a port on DP\n\
         \x20 set-if DP IFACE...       reconfigure each IFACE within DP\n\
         \x20 del-if DP IFACE...       delete each IFACE from DP\n\
         \x20 dump-dps                 display names of all datapaths\n\
         \x20 show                     show basic info on all datapaths\n\
         \x20 show DP...               show basic info on each DP\n\
         \x20 dump-flows [DP]          display flows in DP\n\
         \x20 add-flow [DP] FLOW ACTIONS add FLOW with ACTIONS to DP\n\
         \x20 add-flows [DP] FILE        add flows from FILE\n\
         \x20 mod-flow [DP] FLOW ACTIONS change FLOW actions to ACTIONS in DP\n\
         \x20 mod-flows [DP] FILE        change flows from FILE\n\
         \x20 get-flow [DP] ufid:UFID    fetch flow corresponding to UFID\n\
         \x20 del-flow [DP] FLOW         delete FLOW from DP\n\
         \x20 del-flows [DP] [FILE]      delete all or specified flows from DP\n\
         \x20 cache-get-size [DP]             Show the current size for all caches\n\
         \x20 cache-set-size DP CACHE SIZE  Set cache size for a specific cache\n\
         \x20 dump-conntrack [DP] [zone=ZONE]  display conntrack entries for ZONE\n\
         \x20 flush-conntrack [DP] [zone=ZONE] [ct-tuple]delete matched conntrack entries in ZONE\n\
         \x20 ct-stats-show [DP] [zone=ZONE] [verbose] CT connections grouped by protocol\n\
         \x20 ct-bkts [DP] [gt=N] display connections per CT bucket\n\
         Each IFACE on add-dp, add-if, and set-if may be followed by\n\
         comma-separated options.  See ovs-dpctl(8) for syntax, or the\n\
         Interface table in ovs-vswitchd.conf.db(5) for an options list.\n\
         For COMMAND dump-flows, add-flow, add-flows, mod-flow,\n\
         mod-flows, del-flow and del-flows, DP is optional if there is\n\
         only one datapath.\n"
    );
    vlog::usage();
    print!(
        "\nOptions for show and mod-flow:\n\
         \x20 -s,  --statistics           print statistics for port or flow\n\
         \nOptions for dump-flows:\n\
         \x20 -m, --more                  increase verbosity of output\n\
         \x20 --names                     use port names in output\n\
         \nOptions for mod-flow:\n\
         \x20 --may-create                create flow if it doesn't exist\n\
         \x20 --read-only                 do not run read/write commands\n\
         \x20 --clear                     reset existing stats to zero\n\
         \nOther options:\n\
         \x20 -t, --timeout=SECS          give up after SECS seconds\n\
         \x20 -h, --help                  display this help message\n\
         \x20 -V, --version               display version information\n"
    );
}
