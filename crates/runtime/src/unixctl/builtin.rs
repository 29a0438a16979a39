//! The commands of what is below the control socket: `vlog/*` and `coverage/*`.

use super::{Commands, Output, Reply, Request};
use crate::coverage;
use crate::vlog::{self, Destination, Level};

pub(super) fn register<S>(commands: &mut Commands<S>) {
    commands.register(
        "coverage/show",
        "",
        0,
        0,
        |_, _| Ok(coverage::show().into()),
    );
    commands.register("coverage/read-counter", "COUNTER", 1, 1, |_, r| {
        let total = coverage::total(&r.argv[1]).ok_or("No such counter")?;
        Ok(format!("{total}\n").into())
    });
    let many = usize::MAX;
    commands.register(
        "vlog/set",
        "{spec | PATTERN:destination:pattern}",
        0,
        many,
        |_, r| set(r),
    );
    commands.register("vlog/list", "", 0, 0, |_, _| Ok(list().into()));
    commands.register("vlog/list-pattern", "", 0, 0, |_, _| {
        Ok(list_pattern().into())
    });
    commands.register("vlog/enable-rate-limit", "[module]...", 0, many, |_, r| {
        limit(r, true)
    });
    commands.register("vlog/disable-rate-limit", "[module]...", 0, many, |_, r| {
        limit(r, false)
    });
    commands.register("vlog/reopen", "", 0, 0, |_, _| reopen());
    commands.register("vlog/close", "", 0, 0, |_, _| {
        vlog::close_log_file();
        Ok(Output::empty())
    });
}

fn set(request: &Request) -> Reply {
    if request.argv.len() == 1 {
        vlog::set_level(None, None, Level::Dbg);
    }
    for spec in &request.argv[1..] {
        vlog::set_verbosity(spec)?;
    }
    Ok(Output::empty())
}

fn list() -> String {
    let mut s = String::from(
        "                 console    syslog    file\n                 -------    ------    ------\n",
    );
    for m in vlog::program_modules() {
        s.push_str(&format!(
            "{:<16}  {:>4}       {:>4}       {:>4}\n",
            m.name(),
            m.level(Destination::Console).name(),
            m.level(Destination::Syslog).name(),
            m.level(Destination::File).name()
        ));
    }
    s
}

fn list_pattern() -> String {
    let mut s = String::from(
        "         prefix                            format\n         ------                            ------\n",
    );
    for d in Destination::ALL {
        let prefix = if d == Destination::Syslog {
            "<%B> %D{%h %e %T} %E %A: "
        } else {
            "none"
        };
        let (name, pattern) = (d.name().to_uppercase(), vlog::pattern(d));
        s.push_str(&format!("{name:<7}  {prefix:<32}  {pattern}\n"));
    }
    s
}

fn limit(request: &Request, honor: bool) -> Reply {
    let set_all = || vlog::program_modules().for_each(|m| m.set_honor_rate_limits(honor));
    if request.argv.len() == 1 {
        set_all();
    }
    for name in &request.argv[1..] {
        if name.eq_ignore_ascii_case("any") {
            set_all();
        } else {
            let module = vlog::module_by_name(name).ok_or("unknown module")?;
            module.set_honor_rate_limits(honor);
        }
    }
    Ok(Output::empty())
}

fn reopen() -> Reply {
    if !vlog::has_log_file() {
        return Err("Logging to file not configured".to_string());
    }
    vlog::reopen_log_file().map_err(|e| crate::text::errno(&e))?;
    Ok(Output::empty())
}
