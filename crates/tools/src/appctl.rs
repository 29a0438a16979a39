//! ovs-appctl: asks a running daemon something through its control socket.
//!
//! The answer goes to standard output. An answer that is an error goes to standard error, and the
//! exit status is then 2; 1 stands for everything that kept the question from being asked.

use std::io::Write;
use std::process::ExitCode;

use ferrovs_runtime::options::{self, Arg, Opt, Parser};
use ferrovs_runtime::unixctl::{Client, target_path};
use ferrovs_runtime::{dirs, fatal, fatal_io, program_error, set_timeout, text, version};
use serde_json::Value;

const OPTIONS: &[Opt] = &[
    Opt::both("target", 't', Arg::Required),
    Opt::both("execute", 'e', Arg::None),
    Opt::both("format", 'f', Arg::Required),
    Opt::both("help", 'h', Arg::None),
    Opt::both("option", 'o', Arg::None),
    Opt::long("pretty", Arg::None),
    Opt::both("version", 'V', Arg::None),
    Opt::both("timeout", 'T', Arg::Required),
];

struct Request {
    target: String,
    json: bool,
    pretty: bool,
    command: Vec<String>,
}

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    let request = parse(args);
    let (mut client, target) = connect(&request.target);
    if request.json {
        let args = ["--format".to_string(), "json".to_string()];
        match client.transact("set-options", &args) {
            Err(e) => fatal_io(&e, format_args!("{target}: transaction error")),
            Ok(Err(message)) => return report(&target, &message),
            Ok(Ok(_)) => {}
        }
    }
    let (command, args) = request.command.split_first().expect("checked by parse");
    match client.transact(command, args) {
        Err(e) => fatal_io(&e, format_args!("{target}: transaction error")),
        Ok(Err(message)) => report(&target, &message),
        Ok(Ok(result)) => {
            print(&result, &request);
            ExitCode::SUCCESS
        }
    }
}

fn parse(args: Vec<String>) -> Request {
    let tables = [OPTIONS, options::VLOG];
    let mut parser = Parser::new(&tables, args, false);
    let mut request = Request {
        target: "ovs-vswitchd".to_string(),
        json: false,
        pretty: false,
        command: Vec::new(),
    };
    let mut execute = false;
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found) {
            continue;
        }
        let value = found.required();
        match found.opt.long {
            "target" => {
                if execute {
                    fatal("-e cannot be mixed with -t");
                }
                request.target = value.to_string();
            }
            // Older versions needed it; every command is executed anyway.
            "execute" => execute = true,
            "format" => match value {
                "text" => request.json = false,
                "json" => request.json = true,
                _ => fatal(format_args!("value {value} on -f or --format is invalid")),
            },
            "pretty" => request.pretty = true,
            "timeout" => match value.parse::<u32>() {
                Ok(seconds) if seconds > 0 => set_timeout(seconds),
                _ => fatal(format_args!("value {value} on -T or --timeout is invalid")),
            },
            "help" => {
                usage();
                std::process::exit(0);
            }
            "option" => {
                options::print_options(&tables);
                std::process::exit(0);
            }
            "version" => {
                version::print_version(dirs::program_name(), &[]);
                std::process::exit(0);
            }
            _ => unreachable!("an option that no table has"),
        }
    }
    if request.pretty && !request.json {
        fatal("--pretty is supported with --format json only");
    }
    request.command = parser.operands();
    if request.command.is_empty() {
        fatal("at least one non-option argument is required (use --help for help)");
    }
    request
}

fn connect(target: &str) -> (Client, String) {
    let path = match target_path(target) {
        Ok(p) => p,
        Err((e, what)) => fatal_io(&e, what),
    };
    match Client::connect(&path) {
        Ok(client) => (client, target.to_string()),
        Err(e) => fatal_io(&e, format_args!("cannot connect to \"{}\"", path.display())),
    }
}

fn report(target: &str, message: &str) -> ExitCode {
    eprint!("{}", with_newline(message));
    program_error(format_args!("{target}: server returned an error"));
    ExitCode::from(2)
}

/// Servers may leave the last newline out.
fn with_newline(text: &str) -> String {
    let missing = !text.is_empty() && !text.ends_with('\n');
    format!("{text}{}", if missing { "\n" } else { "" })
}

fn print(result: &Value, request: &Request) {
    let text = match result {
        Value::String(s) if !request.json => with_newline(s),
        value if request.pretty => {
            format!("{}\n", ferrovs_stream::json::to_string_pretty(value))
        }
        value => format!("{value}\n"),
    };
    let mut out = std::io::stdout().lock();
    let done = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(e) = done
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        fatal(format_args!("write failed ({})", text::errno(&e)));
    }
}

fn usage() {
    print!(
        "\
{program}, for querying and controlling Open vSwitch daemon
usage: {program} [TARGET] COMMAND [ARG...]
Targets:
  -t, --target=TARGET  pidfile or socket to contact
Common commands:
  list-commands      List commands supported by the target
  version            Print version of the target
  vlog/list          List current logging levels
  vlog/list-pattern  List logging patterns for each destination.
  vlog/set [SPEC]
      Set log levels as detailed in SPEC, which may include:
      A valid module name (all modules, by default)
      'syslog', 'console', 'file' (all destinations, by default))
      'off', 'emer', 'err', 'warn', 'info', or 'dbg' ('dbg', bydefault)
  vlog/reopen        Make the program reopen its log file
Other options:
  --timeout=SECS     wait at most SECS seconds for a response
  -f, --format=FMT   Output format. One of: 'json', or 'text'
                     (default: text)
  --pretty           Format the output in a more readable fashion.
                     Requires: --format=json.
  -h, --help         Print this helpful information
  -V, --version      Display {program} version information
",
        program = dirs::program_name()
    );
}
