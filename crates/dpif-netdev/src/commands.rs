//! The control commands `dpif-netdev/*`.

use std::sync::Arc;

use ferrovs_datapath::dpif::{DpifClass, PmdId};
use ferrovs_runtime::unixctl::{Commands, Format, Output, Reply, Request};

use crate::account::Account;
use crate::class::open_datapaths;
use crate::datapath::Datapath;
use crate::impls;
use crate::perf;
use crate::show::{self, Args};
use crate::thread::{Message, Thread};

/// Adds the commands, and those of dummies if there are such among the classes.
pub fn register_commands<S: 'static>(commands: &mut Commands<S>, classes: &[Arc<dyn DpifClass>]) {
    if classes.iter().any(|c| c.kind() == "dummy") {
        commands.register(
            "dpif-dummy/change-port-number",
            "dp port new-number",
            3,
            3,
            |_, request| change_port_number(request),
        );
    }
    impls::register(commands);
    type Show = fn(&mut String, &Datapath, &[Arc<Thread>], &Args);
    let threads: [(&str, &str, usize, Show); 5] = [
        (
            "dpif-netdev/pmd-stats-show",
            "[-pmd core] [dp]",
            3,
            show::stats,
        ),
        (
            "dpif-netdev/pmd-stats-clear",
            "[-pmd core] [dp]",
            3,
            show::clear,
        ),
        (
            "dpif-netdev/pmd-rxq-show",
            "[-pmd core] [-secs secs] [dp]",
            5,
            show::rxqs,
        ),
        (
            "dpif-netdev/pmd-perf-show",
            "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]",
            8,
            show::perf,
        ),
        ("dpif-netdev/pmd-sleep-show", "[dp]", 1, show::sleeps),
    ];
    for (name, usage, max, show) in threads {
        commands.register(name, usage, 0, max, move |_, request| {
            let (dp, threads, args) = select(request)?;
            let mut out = String::new();
            show(&mut out, &dp, &threads, &args);
            Ok(out.into())
        });
    }
    commands.register(
        "dpif-netdev/pmd-perf-log-set",
        LOG_SET,
        0,
        10,
        |_, request| perf_log_set(request),
    );
    commands.register(
        "dpif-netdev/pmd-rxq-rebalance",
        "[dp]",
        0,
        1,
        |_, request| {
            named(request)?.rebalance();
            Ok("pmd rxq rebalance requested.\n".into())
        },
    );
    commands.register("dpif-netdev/drops", "[dp]", 0, 1, |_, request| {
        let (dp, ..) = select(request)?;
        let account = Account::new(&dp);
        Ok(match request.format {
            Format::Text => account.text().into(),
            Format::Json => Output::Json(account.json()),
        })
    });
    commands.register(
        "dpif-netdev/bond-show",
        "[dp]",
        0,
        1,
        |_, request| -> Reply {
            // Bonds are balanced above this datapath, so it has none of its own.
            named(request).map(|_| Output::empty())
        },
    );
}

/// What is no number counts as none.
fn number(arg: Option<&String>) -> usize {
    arg.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Usage of the command that sets what is logged of iterations.
const LOG_SET: &str = "on|off [-b before] [-a after] [-e|-ne] [-us usec] [-q qlen]";

fn perf_log_set(request: &Request) -> Reply {
    if !perf::set_log(&request.argv[1..]) {
        return Err(
            "Usage: ovs-appctl dpif-netdev/pmd-perf-log-set [on|off] [-b before] [-a after] \
             [-e|-ne] [-us usec] [-q qlen]\n"
                .to_owned(),
        );
    }
    for dp in open_datapaths() {
        dp.threads.tell_polling(|| Message::Configure);
    }
    Ok(Output::empty())
}

fn change_port_number(request: &Request) -> Reply {
    let arg = |n| request.arg(n).unwrap_or_default();
    let dp = open_datapaths().into_iter().find(|d| d.is_called(arg(1)));
    let dp = dp.ok_or("unknown datapath or not a dummy")?;
    dp.renumber(arg(2), arg(3).parse().unwrap_or(0))?;
    Ok(Output::empty())
}

const NO_SUCH: &str = "please specify an existing datapath";

/// The datapath that the argument names, or, without one, the only one there is.
fn named(request: &Request) -> Result<Arc<Datapath>, String> {
    let (dp, ..) = select(request)?;
    match request.arg(1).is_none_or(|name| dp.is_called(name)) {
        true => Ok(dp),
        false => Err(NO_SUCH.to_owned()),
    }
}

/// The datapath and the threads that the arguments mean. A name that no datapath has means the only one there is.
fn select(request: &Request) -> Result<(Arc<Datapath>, Vec<Arc<Thread>>, Args), String> {
    let mut args = request.argv[1..].iter();
    let (mut core, mut name, mut rest) = (None, None, Args::default());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-pmd" => core = args.next().and_then(|c| c.parse::<u32>().ok()),
            "-secs" => rest.secs = args.next().and_then(|s| s.parse().ok()),
            "-it" => rest.iterations = number(args.next()),
            "-ms" => rest.milliseconds = number(args.next()),
            "-nh" => rest.no_histograms = true,
            other => name = Some(other),
        }
    }
    let mut all = open_datapaths();
    let at = name.and_then(|n| {
        let n = n.split_once('@').map_or(n, |(_, n)| n);
        all.iter().position(|d| d.is_called(n))
    });
    let dp = match at {
        Some(at) => all.swap_remove(at),
        None if all.len() == 1 => all.remove(0),
        None => return Err(NO_SUCH.to_owned()),
    };
    let mut threads: Vec<_> = dp
        .threads
        .list()
        .iter()
        .filter(|t| core.is_none_or(|c| t.id == PmdId(c)))
        .cloned()
        .collect();
    threads.sort_by_key(|t| t.id);
    rest.one_thread = core.is_some();
    Ok((dp, threads, rest))
}
