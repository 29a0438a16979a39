//! The commands `dpctl/*` of ovs-vswitchd, which are those of ovs-dpctl too.
//!
//! A command is a function from its arguments to text; where the text goes is its caller's business. Errors are
//! lines of the same text, each with the program's name in front, and make the answer an error.
//!
//! ```text
//!   ovs-appctl dpctl/show -s --> options taken out --> Command::run --> Dpif of the classes
//! ```
//!
//! All that is known of datapaths here is what the contract says: any kind can be asked.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::dpif::{Dpif, DpifClass, Errno};
use ferrovs_datapath::text::PortNames;
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_runtime::unixctl::{Commands, Output};
use ferrovs_runtime::{clock, dirs};

mod conntrack;
mod flows;
mod normalize;
mod ports;

/// Says whether a flow passes `filter=`.
pub type Filter = Box<dyn Fn(&Flow, &FlowWildcards) -> bool>;
/// Reads the text of `filter=`, an OpenFlow match, in which ports have the datapath's names and numbers.
pub type FilterParser = fn(&str, &PortNames) -> Result<Filter, String>;

/// What the commands act on and how.
pub struct Context<'a> {
    pub classes: &'a [Arc<dyn DpifClass>],
    pub program: &'a str,
    pub now: Instant,
    pub filter: FilterParser,
    pub statistics: bool,
    pub zero: bool,
    pub may_create: bool,
    pub read_only: bool,
    pub more: u32,
    /// The commands are a tool's own, and have no prefix.
    pub tool: bool,
    names: Option<bool>,
    out: String,
    failed: bool,
}

/// One command.
pub struct Command {
    /// Its name with `dpctl/` in front.
    pub name: &'static str,
    pub usage: &'static str,
    pub min: usize,
    pub max: usize,
    /// Whether it changes anything, which `--read-only` refuses.
    pub writes: bool,
    run: fn(&mut Context<'_>, &[&str]),
}

macro_rules! commands {
    ($($name:literal, $usage:literal, $min:expr, $max:expr, $writes:literal, $run:path;)*) => {
        /// All commands, in the order of their list.
        pub static COMMANDS: &[Command] = &[$(Command {
            name: concat!("dpctl/", $name),
            usage: $usage,
            min: $min,
            max: $max,
            writes: $writes,
            run: $run,
        }),*];
    };
}

const MANY: usize = usize::MAX;

commands! {
    "add-dp", "dp [iface...]", 1, MANY, true, ports::add_dp;
    "del-dp", "dp", 1, 1, true, ports::del_dp;
    "add-if", "dp iface...", 2, MANY, true, ports::add_if;
    "del-if", "dp iface...", 2, MANY, true, ports::del_if;
    "set-if", "dp iface...", 2, MANY, true, ports::set_if;
    "dump-dps", "", 0, 0, false, ports::dump_dps;
    "show", "[-s] [dp...]", 0, MANY, false, ports::show;
    "dump-flows", "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]", 0, 6, false, flows::dump;
    "add-flow", "[dp] flow actions", 2, 3, true, flows::add;
    "mod-flow", "[dp] flow actions", 2, 3, true, flows::modify;
    "get-flow", "[dp] ufid", 1, 2, false, flows::get;
    "del-flow", "[dp] flow", 1, 2, true, flows::delete;
    "add-flows", "[dp] file", 1, 2, true, flows::add_file;
    "mod-flows", "[dp] file", 1, 2, true, flows::modify_file;
    "del-flows", "[dp] [file]", 0, 2, true, flows::delete_all;
    "offload-stats-show", "[dp]", 0, 1, false, ports::offload_stats;
    "dump-conntrack", "[-m] [-s] [dp] [zone=N]", 0, 4, false, conntrack::dump;
    "dump-conntrack-exp", "[dp] [zone=N]", 0, 2, false, conntrack::dump_expectations;
    "flush-conntrack", "[dp] [zone=N] [mark=X[/M]] [labels=Y[/N]] [ct-orig-tuple [ct-reply-tuple]]", 0, 6, true, conntrack::flush;
    "cache-get-size", "[dp]", 0, 1, false, ports::cache_size;
    "cache-set-size", "dp cache <size>", 3, 3, true, ports::cache_set_size;
    "ct-stats-show", "[dp] [zone=N]", 0, 3, false, conntrack::stats;
    "ct-bkts", "[dp] [gt=N]", 0, 2, false, conntrack::buckets;
    "ct-set-maxconns", "[dp] maxconns", 1, 2, true, conntrack::set_maxconns;
    "ct-get-maxconns", "[dp]", 0, 1, false, conntrack::maxconns;
    "ct-get-nconns", "[dp]", 0, 1, false, conntrack::nconns;
    "ct-enable-tcp-seq-chk", "[dp]", 0, 1, true, conntrack::enable_seq_check;
    "ct-disable-tcp-seq-chk", "[dp]", 0, 1, true, conntrack::disable_seq_check;
    "ct-get-tcp-seq-chk", "[dp]", 0, 1, false, conntrack::seq_check;
    "ct-set-limits", "[dp] [default=L] [zone=N,limit=L]...", 1, MANY, true, conntrack::set_limits;
    "ct-del-limits", "[dp] [default] [zone=N1[,N2]...]", 1, 3, true, conntrack::del_limits;
    "ct-get-limits", "[dp] [zone=N1[,N2]...]", 0, 2, false, conntrack::limits;
    "ct-get-sweep-interval", "[dp]", 0, 1, false, conntrack::sweep_interval;
    "ct-set-sweep-interval", "[dp] ms", 1, 2, true, conntrack::set_sweep_interval;
    "ipf-set-enabled", "[dp] v4|v6", 1, 2, true, conntrack::ipf_enable;
    "ipf-set-disabled", "[dp] v4|v6", 1, 2, true, conntrack::ipf_disable;
    "ipf-set-min-frag", "[dp] v4|v6 minfragment", 2, 3, true, conntrack::ipf_min_frag;
    "ipf-set-max-nfrags", "[dp] maxfrags", 1, 2, true, conntrack::ipf_max_nfrags;
    "ipf-get-status", "[dp]", 0, 1, false, conntrack::ipf_status;
    "list-commands", "", 0, MANY, false, list_commands;
    "parse-actions", "actions", 1, MANY, false, normalize::parse;
    "normalize-actions", "actions", 2, MANY, false, normalize::normalize;
}

/// Registers the commands with those of a daemon. `filter` reads the OpenFlow match of `dpctl/dump-flows filter=`.
pub fn register<S: 'static>(
    commands: &mut Commands<S>,
    classes: &[Arc<dyn DpifClass>],
    filter: FilterParser,
) {
    for command in COMMANDS {
        let classes = classes.to_vec();
        commands.register(
            command.name,
            command.usage,
            command.min,
            command.max,
            move |_, request| {
                let args: Vec<&str> = request.argv[1..].iter().map(String::as_str).collect();
                let program = dirs::program_name();
                let context = Context::new(&classes, program, clock::now(), filter);
                context.run_with_options(command, &args).map(Output::from)
            },
        );
    }
}

fn list_commands(cx: &mut Context<'_>, _: &[&str]) {
    cx.out.push_str("The available commands are:\n");
    for command in COMMANDS {
        if cx.tool && command.name == "dpctl/list-commands" {
            // The tool itself answers this one.
            _ = writeln!(cx.out, "  {:<24}", "help");
        }
        let name = match cx.tool {
            true => command.name.trim_start_matches("dpctl/"),
            false => command.name,
        };
        let width = if cx.tool { 24 } else { 30 };
        _ = writeln!(cx.out, "  {name:<width$}{}", command.usage);
    }
}

impl<'a> Context<'a> {
    pub fn new(
        classes: &'a [Arc<dyn DpifClass>],
        program: &'a str,
        now: Instant,
        filter: FilterParser,
    ) -> Self {
        Context {
            classes,
            program,
            now,
            filter,
            statistics: false,
            zero: false,
            may_create: false,
            read_only: false,
            more: 0,
            tool: false,
            names: None,
            out: String::new(),
            failed: false,
        }
    }

    pub fn set_names(&mut self, names: bool) {
        self.names = Some(names);
    }

    /// Runs a command whose arguments still have the options among them.
    pub fn run_with_options(self, command: &Command, args: &[&str]) -> Result<String, String> {
        let mut cx = self;
        let mut rest = Vec::new();
        for arg in args {
            match *arg {
                "-s" | "--statistics" => cx.statistics = true,
                "-c" | "--clear" => cx.zero = true,
                "--may-create" => cx.may_create = true,
                "--read-only" => cx.read_only = true,
                "-m" | "--more" => cx.more += 1,
                "--names" => cx.names = Some(true),
                "--no-names" => cx.names = Some(false),
                // A lone hyphen is a file name, and letters may stand together.
                other if other.len() > 1 && other.starts_with('-') => {
                    let letters = &other[1..];
                    if letters.starts_with('-')
                        || !letters.bytes().all(|b| matches!(b, b's' | b'c' | b'm'))
                    {
                        return Err(format!("Unrecognized option {other}"));
                    }
                    for letter in letters.bytes() {
                        match letter {
                            b's' => cx.statistics = true,
                            b'c' => cx.zero = true,
                            _ => cx.more += 1,
                        }
                    }
                }
                other => rest.push(other),
            }
        }
        cx.run(command, &rest)
    }

    /// Runs a command; the text is an error's when anything failed.
    pub fn run(mut self, command: &Command, args: &[&str]) -> Result<String, String> {
        if self.read_only && command.writes {
            return Err(format!(
                "{}: '{}' command does not work in read only mode\n",
                self.program,
                command.name.trim_start_matches("dpctl/")
            ));
        }
        // Options that stood among the arguments were counted as such before.
        if args.len() < command.min {
            return Err(format!(
                "\"{}\" command requires at least {} arguments\n",
                command.name, command.min
            ));
        }
        (command.run)(&mut self, args);
        if self.failed {
            Err(self.out)
        } else {
            Ok(self.out)
        }
    }

    /// A line of error, which makes the answer one.
    fn error(&mut self, message: &str, errno: Option<Errno>) {
        self.warn(message, errno);
        self.failed = true;
    }

    /// A line of error in an answer that may still be a good one.
    fn warn(&mut self, message: &str, errno: Option<Errno>) {
        _ = match errno {
            Some(errno) => writeln!(self.out, "{}: {message} ({errno})", self.program),
            None => writeln!(self.out, "{}: {message}", self.program),
        };
    }

    /// A list that may lack datapaths makes the answer an error, without a word.
    fn fail_if_incomplete(&mut self) {
        self.failed |= self.classes.iter().any(|c| c.enumeration_failed());
    }

    fn verbose(&self) -> bool {
        self.more > 0
    }

    /// Names of the ports of `dp` when they shall be printed: by default, when there is room for more text.
    fn names_for(&self, dp: &dyn Dpif) -> Option<PortNames> {
        self.names
            .unwrap_or(self.more > 0)
            .then(|| PortNames::new(&dp.ports()))
    }

    /// `kind@name` of all datapaths, sorted.
    fn all(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .classes
            .iter()
            .flat_map(|c| {
                c.enumerate()
                    .into_iter()
                    .map(|n| format!("{}@{n}", c.kind()))
            })
            .collect();
        all.sort();
        all
    }

    /// Opens the datapath called so; a name without a kind is one of kind `system`.
    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn Dpif>, Errno> {
        let (kind, name) = name.split_once('@').unwrap_or(("system", name));
        match self.classes.iter().find(|c| c.kind() == kind) {
            Some(class) => class.open(name, create),
            None if kind == "system" => Err(Errno::ENOENT),
            None => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// The datapath that the first of `args` names if it does, or else the only one there is; the command takes
    /// `max` arguments with the datapath. Other arguments remain.
    fn datapath<'x>(
        &mut self,
        args: &'x [&'x str],
        max: usize,
    ) -> Option<(Arc<dyn Dpif>, &'x [&'x str])> {
        let all = self.all();
        if let Some(first) = args.first() {
            let full = match first.contains('@') {
                true => (*first).to_owned(),
                false => format!("system@{first}"),
            };
            if all.contains(&full) {
                return match self.open(&full, false) {
                    Ok(dp) => Some((dp, &args[1..])),
                    Err(errno) => {
                        self.error("opening datapath", Some(errno));
                        None
                    }
                };
            }
        }
        let mut found = None;
        if args.len() != max {
            match &all[..] {
                [] => self.error("no datapaths exist", None),
                [one] => found = self.open(one, false).ok(),
                _ => self.error("multiple datapaths, specify one", None),
            }
        }
        match found {
            Some(dp) => Some((dp, args)),
            None => {
                self.error("datapath not found", Some(Errno::EINVAL));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
