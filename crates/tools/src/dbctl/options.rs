//! The options of a tool; command options may stand among them and belong to the first command.

use super::tool::Tool;
use super::{Spec, print_commands, print_options};
use crate::table::{self, Format, Style};
use ferrovs_runtime::options::{self, Arg, Opt, Parser, Ssl};
use ferrovs_runtime::vlog;
use ferrovs_runtime::{dirs, fatal, set_timeout, version};

/// What the command line says, commands aside.
pub struct Settings {
    pub db: String,
    /// Wait until ovs-vswitchd has applied the change, where the tool has a daemon behind it.
    pub wait: bool,
    pub dry_run: bool,
    pub oneline: bool,
    pub retry: bool,
    pub leader_only: bool,
    pub shuffle: bool,
    pub style: Style,
    /// Command options that stood before the first command.
    pub leading: Vec<(String, Option<String>)>,
    pub words: Vec<String>,
}

/// The options of all commands, each once.
fn command_options<E>(spec: &Spec<E>) -> Vec<Opt> {
    let mut found: Vec<Opt> = Vec::new();
    for command in spec.commands.iter().flat_map(|group| group.iter()) {
        for option in command.options {
            let name = option.trim_start_matches('-');
            let (name, arg) = match name.strip_suffix('=') {
                Some(name) => (name, Arg::Required),
                None => (name, Arg::None),
            };
            if !found.iter().any(|o| o.long == name) {
                found.push(Opt::long(name, arg));
            }
        }
    }
    found
}

/// Where the database is unless `--db` says otherwise.
pub(super) fn default_db() -> String {
    format!("unix:{}", dirs::rundir().join("db.sock").display())
}

/// Reads the options; those that print something end the program.
pub(super) fn parse<E>(tool: &'static Tool<E>, args: Vec<String>) -> Settings {
    let mut settings = Settings {
        db: default_db(),
        wait: true,
        dry_run: false,
        oneline: false,
        retry: false,
        leader_only: true,
        shuffle: true,
        style: Style::new(Format::List),
        leading: Vec::new(),
        words: Vec::new(),
    };
    let own = [
        tool.options,
        options::VLOG,
        table::OPTIONS,
        options::SSL,
        tool.ssl,
    ];
    let commands = command_options(tool.spec);
    let mut all = own.to_vec();
    all.push(&commands);
    let mut tls = Ssl::default();
    let mut parser = Parser::new(&all, args, false);
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found) || settings.style.handle(&found) || tls.handle(&found) {
            continue;
        }
        match found.opt.long {
            "db" => settings.db = found.required().to_string(),
            "no-syslog" => {
                let syslog = Some(vlog::Destination::Syslog);
                vlog::set_level(Some(tool.module), syslog, vlog::Level::Warn);
            }
            "no-wait" => settings.wait = false,
            "dry-run" => settings.dry_run = true,
            "oneline" => settings.oneline = true,
            "timeout" => match found.required().trim_start().parse::<u32>() {
                Ok(seconds) if seconds > 0 => set_timeout(seconds),
                _ => fatal(format_args!(
                    "value {} on -t or --timeout is invalid",
                    found.required()
                )),
            },
            "retry" => settings.retry = true,
            "leader-only" => settings.leader_only = true,
            "no-leader-only" => settings.leader_only = false,
            "shuffle-remotes" => settings.shuffle = true,
            "no-shuffle-remotes" => settings.shuffle = false,
            "help" => {
                tool.help.print(tool.spec);
                std::process::exit(0);
            }
            "commands" => {
                print_commands(tool.spec);
                std::process::exit(0);
            }
            "options" => {
                print_options(&own);
                std::process::exit(0);
            }
            "version" => {
                let schema = format!("DB Schema {}", tool.spec.db.version);
                version::print_version(dirs::program_name(), &[&schema]);
                std::process::exit(0);
            }
            name => {
                let name = format!("--{name}");
                // Among the tool's own options, unlike after "--", the first of several counts.
                if !settings.leading.iter().any(|(n, _)| *n == name) {
                    settings.leading.push((name, found.value.clone()));
                }
            }
        }
    }
    crate::tls::configure(&tls);
    settings.words = parser.operands();
    settings
}
