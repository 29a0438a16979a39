//! The Open vSwitch command line tools in one binary; the name that it is called by chooses.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

/// Files of a million flows or rows are read in small pieces: the C library's allocator takes longer for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Tool = fn(Vec<String>) -> ExitCode;

/// Every tool, by the name of its program, and whether it talks with others, who may be slow.
const TOOLS: &[(&str, Tool, bool)] = &[
    ("ovs-appctl", ferrovs_tools::appctl::run, true),
    ("ovs-dpctl", ferrovs_tools::dpctl::run, true),
    ("ovs-ofctl", ferrovs_tools::ofctl::run, true),
    ("ovs-pki", ferrovs_tools::pki::run, false),
    ("ovs-vsctl", ferrovs_tools::vsctl::run, true),
    ("ovsdb-client", ferrovs_tools::ovsdb_client::run, true),
    ("ovsdb-tool", ferrovs_tools::ovsdb_tool::run, false),
    ("vtep-ctl", ferrovs_tools::vtep_ctl::run, true),
];

fn find(name: &str) -> Option<&'static (&'static str, Tool, bool)> {
    TOOLS.iter().find(|(n, _, _)| *n == name)
}

/// The last component of the name that a program was called by.
fn base_name(arg0: &str) -> String {
    Path::new(arg0)
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

fn main() -> ExitCode {
    ferrovs_tools::init();
    let mut args = match ferrovs_tools::arguments() {
        Ok(args) => args,
        Err(e) => {
            let arg0 = std::env::args_os().next().unwrap_or_default();
            eprintln!("{}: {e}", base_name(&arg0.to_string_lossy()));
            return ExitCode::FAILURE;
        }
    };
    let mut name = args.first().map(|a| base_name(a)).unwrap_or_default();
    // Called by its own name, the first argument names the tool: `ovs-tools ovs-vsctl show`.
    if find(&name).is_none() && args.len() > 1 && find(&args[1]).is_some() {
        args.remove(0);
        name = args[0].clone();
    }
    match find(&name) {
        Some((name, run, talks)) => {
            ferrovs_tools::set_program_name(name);
            if *talks {
                ferrovs_tools::take_default_timeout();
            }
            run(args)
        }
        None => {
            let names: Vec<&str> = TOOLS.iter().map(|(n, _, _)| *n).collect();
            eprintln!(
                "{name}: call this program by the name of a tool: {}",
                names.join(", ")
            );
            ExitCode::FAILURE
        }
    }
}
