//! Flows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::dpif::{
    Dpif, Errno, FlowEntry, FlowPut, PackedMatch, PmdId, Put, RefusedPut, Ufid,
};
use ferrovs_datapath::offload::Offloaded;
use ferrovs_datapath::text::{
    KeyError, ParsedKey, PortNames, format_flow, format_flow_stats, parse_actions, parse_key,
};

use super::Context;

/// Kinds of flows that `type=` can select.
const TYPES: [&str; 7] = [
    "ovs",
    "tc",
    "dpdk",
    "offloaded",
    "non-offloaded",
    "partially-offloaded",
    "all",
];

fn passes(types: &[&str], entry: &FlowEntry) -> bool {
    types.is_empty()
        || types.iter().any(|t| match *t {
            "all" => true,
            "offloaded" => entry.attrs.offloaded == Offloaded::Full,
            "partially-offloaded" => entry.attrs.offloaded == Offloaded::Partial,
            "non-offloaded" => entry.attrs.offloaded == Offloaded::No,
            layer => layer == entry.attrs.dp_layer,
        })
}

pub fn dump(cx: &mut Context<'_>, args: &[&str]) {
    let (mut filter, mut types, mut pmd) = (None, None, None);
    let mut rest = Vec::new();
    for arg in args {
        if let Some(text) = arg.strip_prefix("filter=") {
            filter = Some(text);
        } else if let Some(text) = arg.strip_prefix("type=") {
            types = Some(text);
        } else if let Some(text) = arg.strip_prefix("pmd=") {
            pmd = Some(text);
        } else {
            rest.push(*arg);
        }
    }
    let Some((dp, _)) = cx.datapath(&rest, 1) else {
        return;
    };
    let ports = PortNames::new(&dp.ports());
    let filter = match filter.map(|text| (cx.filter)(text, &ports)) {
        None => None,
        Some(Ok(filter)) => Some(filter),
        Some(Err(error)) => {
            return cx.error(&format!("Failed to parse filter ({error})"), None);
        }
    };
    // A list may end in a comma, or be empty; between commas stands a type.
    let types = types.unwrap_or_default();
    let types = types.strip_suffix(',').unwrap_or(types);
    let types: Vec<&str> = match types {
        "" => Vec::new(),
        types => types.split(',').collect(),
    };
    if let Some(bad) = types.iter().find(|t| !TYPES.contains(t)) {
        return cx.error(
            &format!("Failed to parse type ({bad})"),
            Some(Errno::EINVAL),
        );
    }
    let pmd = match pmd {
        None => None,
        Some("-1") => Some(PmdId::NON_PMD),
        Some(core) => match core.parse() {
            Ok(core) => Some(PmdId(core)),
            Err(_) => {
                cx.failed = true;
                return;
            }
        },
    };
    let names = cx.names_for(&*dp);
    let (verbose, now) = (cx.verbose(), cx.now);
    let mut threads: BTreeMap<(bool, PmdId), String> = BTreeMap::new();
    dp.flow_dump(&mut |entry| {
        if pmd.is_some_and(|p| p != entry.pmd)
            || !passes(&types, &entry)
            || filter
                .as_ref()
                .is_some_and(|f| !f(&entry.match_.flow, &entry.match_.wc))
        {
            return;
        }
        let key = (entry.pmd != PmdId::NON_PMD, entry.pmd);
        let text = threads.entry(key).or_default();
        text.push_str(&format_flow(&entry, names.as_ref(), verbose, now));
        text.push('\n');
    });
    for ((is_pmd, id), text) in threads {
        _ = if is_pmd {
            writeln!(cx.out, "flow-dump from pmd on cpu core: {}", id.0)
        } else {
            writeln!(cx.out, "flow-dump from the main thread:")
        };
        cx.out.push_str(&text);
    }
}

fn key(cx: &mut Context<'_>, dp: &dyn Dpif, text: &str, what: &str) -> Option<ParsedKey> {
    let names = PortNames::new(&dp.ports());
    match parse_key(text, Some(&names)) {
        Ok(key) => Some(key),
        Err(KeyError::Ufid) => {
            cx.error("parsing flow ufid", Some(Errno::EINVAL));
            None
        }
        Err(error) => {
            let message = match what {
                "" => error.to_string(),
                what => format!("{what} ({error})"),
            };
            cx.error(&message, Some(Errno::EINVAL));
            None
        }
    }
}

/// What a line or a pair of arguments asks for.
#[derive(Clone, Copy)]
struct Change {
    create: bool,
    modify: bool,
}

fn put(cx: &mut Context<'_>, dp: &dyn Dpif, flow: &str, actions: &str, change: Change) {
    let Some(key) = key(cx, dp, flow, "parsing flow key") else {
        return;
    };
    let Ok(actions) = parse_actions(actions, None) else {
        return cx.error("parsing actions", Some(Errno::EINVAL));
    };
    let ufid = key.ufid.unwrap_or_else(|| Ufid::of(&key.flow));
    let before = match cx.statistics {
        true => dp.flow_get(ufid, None).map(|e| e.stats),
        false => Err(Errno::ENOENT),
    };
    let (written, fits) = (key.written().to_owned(), key.fit().is_ok());
    let no_port = fits && !key.has_exact_port();
    let result = match key.into_match() {
        Ok(match_) => {
            let packed = Arc::new(PackedMatch::new(&match_));
            dp.flow_put(FlowPut {
                ufid,
                pmd: None,
                put: match (change.create, change.modify) {
                    (true, true) => Put::CreateOrModify(&packed),
                    (true, false) => Put::Create(&packed),
                    (false, _) => Put::Modify { told_as: &packed },
                },
                actions: actions.into(),
                zero_stats: cx.zero,
            })
        }
        Err(_) => Err(dp.flow_refused(&RefusedPut {
            ufid,
            key: &written,
            actions: &actions,
            create: change.create,
            modify: change.modify,
            no_port,
        })),
    };
    match result {
        Ok(()) if cx.statistics => {
            let stats = before.unwrap_or_default();
            let now = cx.now;
            format_flow_stats(&mut cx.out, &stats, now);
            cx.out.push('\n');
        }
        Ok(()) => {}
        Err(errno) => cx.error("updating flow table", Some(errno)),
    }
}

pub fn add(cx: &mut Context<'_>, args: &[&str]) {
    put_args(
        cx,
        args,
        Change {
            create: true,
            modify: false,
        },
    );
}

pub fn modify(cx: &mut Context<'_>, args: &[&str]) {
    let create = cx.may_create;
    put_args(
        cx,
        args,
        Change {
            create,
            modify: true,
        },
    );
}

fn put_args(cx: &mut Context<'_>, args: &[&str], change: Change) {
    let Some((dp, rest)) = cx.datapath(args, 3) else {
        return;
    };
    match rest {
        [flow, actions] => put(cx, &*dp, flow, actions, change),
        _ => cx.error("parsing flow key", Some(Errno::EINVAL)),
    }
}

pub fn get(cx: &mut Context<'_>, args: &[&str]) {
    let Some((dp, rest)) = cx.datapath(args, 2) else {
        return;
    };
    // A bad identifier is told but is no failure.
    let Some(text) = rest.first().and_then(|a| a.strip_prefix("ufid:")) else {
        return cx.warn("parsing flow ufid", None);
    };
    let Some(ufid) = Ufid::parse(text) else {
        return cx.warn("parsing flow ufid", Some(Errno::EINVAL));
    };
    match dp.flow_get(ufid, None) {
        Ok(entry) => {
            let names = cx.names_for(&*dp);
            let (verbose, now) = (cx.verbose(), cx.now);
            cx.out
                .push_str(&format_flow(&entry, names.as_ref(), verbose, now));
            cx.out.push('\n');
        }
        Err(errno) => cx.error("getting flow", Some(errno)),
    }
}

pub fn delete(cx: &mut Context<'_>, args: &[&str]) {
    let Some((dp, rest)) = cx.datapath(args, 2) else {
        return;
    };
    match rest {
        [flow] => delete_one(cx, &*dp, flow),
        _ => cx.error("parsing flow key", Some(Errno::EINVAL)),
    }
}

fn delete_one(cx: &mut Context<'_>, dp: &dyn Dpif, flow: &str) {
    let Some(key) = key(cx, dp, flow, "") else {
        return;
    };
    let ufid = key.ufid.unwrap_or_else(|| Ufid::of(&key.flow));
    match dp.flow_del(ufid, None) {
        Ok(stats) if cx.statistics => {
            let now = cx.now;
            format_flow_stats(&mut cx.out, &stats, now);
            cx.out.push('\n');
        }
        Ok(_) => {}
        Err(errno) => {
            cx.error("deleting flow", Some(errno));
            if errno == Errno::ENOENT && key.ufid.is_none() {
                cx.out.push_str("Perhaps you need to specify a UFID?\n");
            }
        }
    }
}

pub fn delete_all(cx: &mut Context<'_>, args: &[&str]) {
    match args {
        [] => {}
        // The file alone: the datapath is the only one there is.
        [file] if !is_datapath(cx, file) => return run_file(cx, args, Word::Delete),
        [_] => {}
        _ => return run_file(cx, args, Word::Delete),
    }
    if let Some((dp, _)) = cx.datapath(args, 2) {
        dp.flow_flush();
    }
}

fn is_datapath(cx: &Context<'_>, name: &str) -> bool {
    let all = cx.all();
    all.iter()
        .any(|n| n == name || *n == format!("system@{name}"))
}

pub fn add_file(cx: &mut Context<'_>, args: &[&str]) {
    run_file(cx, args, Word::Add);
}

pub fn modify_file(cx: &mut Context<'_>, args: &[&str]) {
    run_file(cx, args, Word::Modify);
}

/// What a line of a file begins with, or what its command means without.
#[derive(Clone, Copy)]
enum Word {
    Add,
    Modify,
    Delete,
}

fn run_file(cx: &mut Context<'_>, args: &[&str], default: Word) {
    let file = args.last().copied().unwrap_or_default();
    let text = if file == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read(file).map(|b| String::from_utf8_lossy(&b).into_owned())
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            let errno = Errno(error.raw_os_error().unwrap_or(Errno::EINVAL.0));
            return cx.warn(&format!("Opening file \"{file}\" failed"), Some(errno));
        }
    };
    let Some((dp, _)) = cx.datapath(&args[..args.len() - 1], 1) else {
        return;
    };
    // What a line fails in is told; the command itself does not fail.
    let failed = cx.failed;
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (word, rest) = match first {
            "add" => (Word::Add, rest.trim()),
            "modify" => (Word::Modify, rest.trim()),
            "delete" => (Word::Delete, rest.trim()),
            _ => (default, line),
        };
        let (flow, actions) = match rest.split_once(char::is_whitespace) {
            Some((flow, actions)) => (flow, Some(actions.trim())),
            None => (rest, None),
        };
        match (word, actions) {
            (Word::Delete, None) if !flow.is_empty() => delete_one(cx, &*dp, flow),
            (Word::Add, Some(actions)) => {
                put(
                    cx,
                    &*dp,
                    flow,
                    actions,
                    Change {
                        create: true,
                        modify: false,
                    },
                );
            }
            (Word::Modify, Some(actions)) => {
                let create = cx.may_create;
                put(
                    cx,
                    &*dp,
                    flow,
                    actions,
                    Change {
                        create,
                        modify: true,
                    },
                );
            }
            // A flow and actions, or just the flow that is to go.
            (Word::Delete, _) | (_, None) => cx.warn(
                &format!("Failed parsing line number {}, skipped!", n + 1),
                None,
            ),
        }
    }
    cx.failed = failed;
}
