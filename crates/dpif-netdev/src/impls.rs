//! The commands that choose among implementations of one thing: how threads process packets, how they read headers, how
//! a table of the classifier is looked up, how actions are carried out.
//!
//! Open vSwitch has some of these twice, for processors with AVX-512, and variants that compare the results of all. Here
//! each is there once, in plain code, under the name that Open vSwitch's plain code has: it can be chosen, as it is
//! what runs, and any other name is unknown.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use ferrovs_datapath::dpif::Shard;
use ferrovs_runtime::unixctl::{Commands, Reply, Request};
use ferrovs_runtime::vlog::{self, modules};

use crate::class::open_datapaths;
use crate::datapath::Datapath;
use crate::flows;
use crate::implementation::{ACTIONS, DPIF, LOOKUP, PARSER};

/// What was said of the only way to look tables up.
static LOOKUP_PRIORITY: AtomicU8 = AtomicU8::new(1);

/// Adds the commands.
pub fn register<S: 'static>(commands: &mut Commands<S>) {
    type Run = fn(&Request) -> Reply;
    let all: [(&str, &str, usize, usize, Run); 9] = [
        ("dpif-netdev/dpif-impl-get", "", 0, 0, |_| dpif_get()),
        (
            "dpif-netdev/dpif-impl-set",
            "dpif_implementation_name",
            1,
            1,
            dpif_set,
        ),
        ("dpif-netdev/miniflow-parser-get", "", 0, 0, |_| {
            parser_get()
        }),
        (
            "dpif-netdev/miniflow-parser-set",
            "[-pmd core] miniflow_implementation_name [study_pkt_cnt]",
            1,
            5,
            |request| parser_set(&request.argv[1..]),
        ),
        ("dpif-netdev/subtable-lookup-info-get", "", 0, 0, |_| {
            lookup_get()
        }),
        ("dpif-netdev/subtable-lookup-prio-get", "", 0, 0, |_| {
            lookup_get()
        }),
        (
            "dpif-netdev/subtable-lookup-prio-set",
            "[lookup_func] [prio]",
            2,
            2,
            lookup_set,
        ),
        ("odp-execute/action-impl-show", "", 0, 0, |_| actions_show()),
        ("odp-execute/action-impl-set", "name", 1, 1, actions_set),
    ];
    for (name, usage, min, max, run) in all {
        // The older name of a command is not listed.
        if name == "dpif-netdev/subtable-lookup-prio-get" {
            commands.register_hidden(name, min, max, move |_, request| run(request));
        } else {
            commands.register(name, usage, min, max, move |_, request| run(request));
        }
    }
}

/// The cores of the threads of a datapath that poll, which use what there is.
fn cores(dp: &Datapath) -> Vec<u32> {
    let threads = dp.threads.list();
    let polls = threads.iter().filter(|t| t.is_pmd());
    let mut cores: Vec<_> = polls.map(|t| t.id.0).collect();
    cores.sort_unstable();
    cores
}

/// A list of implementations for each datapath; `line` has the cores that use the only one.
fn lists(title: &str, line: impl Fn(&str) -> String) -> Reply {
    let mut out = String::new();
    for dp in open_datapaths() {
        let cores: Vec<_> = cores(&dp).iter().map(u32::to_string).collect();
        let cores = match cores.is_empty() {
            true => "none".into(),
            false => cores.join(","),
        };
        out += &format!("{title}\n  {}\n", line(&cores));
    }
    Ok(out.into())
}

fn dpif_get() -> Reply {
    lists("Available DPIF implementations:", |cores| {
        format!("{DPIF} (pmds: {cores})")
    })
}

/// Says an error to whoever asked and in the log.
fn fail(text: String) -> Reply {
    vlog::err!(modules::DPIF_NETDEV, "{text}");
    Err(text + "\n")
}

/// Says to whoever asked and in the log what was done.
fn done(text: String) -> Reply {
    vlog::info!(modules::DPIF_NETDEV, "{text}");
    Ok((text + "\n").into())
}

fn dpif_set(request: &Request) -> Reply {
    let name = request.arg(1).unwrap_or_default();
    if name != DPIF {
        return fail(format!(
            "DPIF implementation not available: Unknown DPIF implementation {name}."
        ));
    }
    done(format!("DPIF implementation set to {name}."))
}

fn parser_get() -> Reply {
    lists("Available MFEX implementations:", |cores| {
        format!("{PARSER} (available: True pmds: {cores})")
    })
}

fn parser_set(args: &[String]) -> Reply {
    let mut args = args;
    let mut on = String::new();
    if let [option, rest @ ..] = args
        && option == "-pmd"
    {
        let [core, rest @ ..] = rest else {
            return fail("Error: -pmd option requires a thread id argument.".into());
        };
        let unchanged = "Error: miniflow extract parser not changed, PMD thread";
        let Ok(id) = core.parse::<u32>() else {
            return fail(format!(
                "{unchanged} passed is not valid: '{core}'. Pass a valid pmd thread ID."
            ));
        };
        if rest.is_empty() {
            return fail(
                "Error: no miniflow extract name provided. Output of miniflow-parser-get shows \
                 implementation list."
                    .into(),
            );
        }
        if !open_datapaths().iter().any(|dp| cores(dp).contains(&id)) {
            return fail(format!(
                "{unchanged} {id} not in use, pass a valid pmd thread ID."
            ));
        }
        on = format!(", on pmd thread {id}");
        args = rest;
    }
    let [name, rest @ ..] = args else {
        return fail("Error: no miniflow extract name provided.".into());
    };
    if let [unknown, ..] = rest {
        return fail(format!("Error: unknown argument {unknown}."));
    }
    if name != PARSER {
        return fail(format!(
            "Error: unknown miniflow extract implementation {name}."
        ));
    }
    done(format!(
        "Miniflow extract implementation set to {name}{on}."
    ))
}

/// How many tables the classifiers of all threads have: each thread has one for each mask of each port.
fn n_tables() -> usize {
    let mut n = 0;
    for dp in open_datapaths() {
        for thread in dp.threads.list().iter() {
            let mut masks = HashSet::new();
            let one = std::slice::from_ref(thread);
            flows::dump(one, Shard::WHOLE, &mut |flow| {
                masks.insert((flow.key().in_port, flow.mask()));
            });
            n += masks.len();
        }
    }
    n
}

fn lookup_get() -> Reply {
    let (n, priority) = (n_tables(), LOOKUP_PRIORITY.load(Relaxed));
    let mut out = String::from("Available dpcls implementations:\n");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "  {LOOKUP} (Use count: {n}, Priority: {priority})");
    Ok(out.into())
}

fn lookup_set(request: &Request) -> Reply {
    let (name, priority) = (request.arg(1), request.arg(2).unwrap_or_default());
    let name = name.unwrap_or_default();
    // As C's strtol: what is no number counts as 0.
    let digits = priority.trim_start();
    let end = digits
        .char_indices()
        .position(|(i, c)| !(c.is_ascii_digit() || i == 0 && matches!(c, '-' | '+')));
    let number: i64 = digits[..end.unwrap_or(digits.len())].parse().unwrap_or(0);
    let Ok(priority) = u8::try_from(number) else {
        return Err("error converting priority, use integer in range 0-255\n".into());
    };
    if name != LOOKUP {
        vlog::warn!(
            modules::DPIF_NETDEV_LOOKUP,
            "Subtable function '{name}' not found, failed to set priority"
        );
        return Err("error, subtable lookup function not found\n".into());
    }
    LOOKUP_PRIORITY.store(priority, Relaxed);
    vlog::info!(
        modules::DPIF_NETDEV_LOOKUP,
        "Subtable function '{name}' set priority to {priority}"
    );
    // There is nothing else that tables could be looked up by.
    done("Lookup priority change affected 0 dpcls ports and 0 subtables.".into())
}

fn actions_show() -> Reply {
    let list = "Available Actions implementations:";
    Ok(format!("{list}\n  {ACTIONS} (available: Yes, active: Yes)\n").into())
}

fn actions_set(request: &Request) -> Reply {
    let name = request.arg(1).unwrap_or_default();
    if name != ACTIONS {
        vlog::err!(
            modules::ODP_EXECUTE,
            "Failed setting action implementation to {name}"
        );
        return Err(format!(
            "Error: unknown action implementation, {name}, specified!\n"
        ));
    }
    Ok(format!("Action implementation set to {name}.\n").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser(args: &str) -> Result<(), String> {
        let args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
        parser_set(&args).map(drop)
    }

    #[test]
    fn only_what_there_is_can_be_chosen() {
        assert_eq!(parser("scalar"), Ok(()));
        for (args, error) in [
            ("study", "unknown miniflow extract implementation study."),
            ("scalar 500", "unknown argument 500."),
            ("-pmd", "-pmd option requires a thread id argument."),
            (
                "-pmd x scalar",
                "miniflow extract parser not changed, PMD thread passed is not valid: 'x'. \
                 Pass a valid pmd thread ID.",
            ),
            (
                "-pmd 77 scalar",
                "miniflow extract parser not changed, PMD thread 77 not in use, pass a valid pmd thread ID.",
            ),
        ] {
            assert_eq!(parser(args), Err(format!("Error: {error}\n")), "{args}");
        }
    }
}
