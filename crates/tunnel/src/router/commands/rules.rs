//! `ovs/route/rule/*`.

use std::fmt::Write;

use ferrovs_runtime::unixctl::{Commands, Format, Output, Reply, Request};
use serde_json::Value;

use super::super::rules::Rule;
use super::super::table::{RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN};
use super::super::{add_rule, del_rule, from_bits, state, tables, to_bits};
use super::prefix;
use crate::scan::number;

const USAGE: &str = "[-6] [not] from=all|ip/plen [prio=num] table=local|main|default|id";

/// The names of the tables that have some.
const NAMES: [(&str, u32); 3] = [
    ("local", RT_TABLE_LOCAL),
    ("main", RT_TABLE_MAIN),
    ("default", RT_TABLE_DEFAULT),
];

pub(super) fn register<S: 'static>(c: &mut Commands<S>) {
    c.register("ovs/route/rule/add", USAGE, 2, 5, |_, r| {
        add_rule(rule(&r.argv[1..])?);
        Ok("OK".into())
    });
    c.register("ovs/route/rule/del", USAGE, 2, 5, |_, r| {
        match del_rule(&rule(&r.argv[1..])?) {
            true => Ok("OK".into()),
            false => Err("Failed to delete router rule: -2 (Unknown error -2)".into()),
        }
    });
    c.register("ovs/route/rule/show", "[-6]", 0, 1, |_, r| show(r));
}

/// The rule that the arguments, whose order is fixed, speak of; its number is 0 if they tell none.
fn rule(args: &[String]) -> Result<Rule, String> {
    const NOT_ENOUGH: &str = "Not enough arguments";
    let mut args = args.iter().map(String::as_str).peekable();
    let ipv6 = args.next_if_eq(&"-6").is_some();
    let invert = args.next_if_eq(&"not").is_some();
    let from = args.next().ok_or(NOT_ENOUGH)?;
    let from = from
        .strip_prefix("from=")
        .ok_or("Invalid 'from' parameter")?;
    let (ipv4, from) = if from.starts_with("all") {
        (!ipv6, None)
    } else {
        let (network, len) = prefix(from).ok_or("Invalid from=ip/plen")?;
        (network.is_ipv4(), Some((network, len)).filter(|_| len > 0))
    };
    let is_priority = |arg: &&str| arg.strip_prefix("prio=").and_then(number).is_some();
    let priority = args.next_if(is_priority);
    let table = args.next().ok_or(NOT_ENOUGH)?.strip_prefix("table=");
    Ok(Rule {
        priority: priority.and_then(|p| number(&p[5..])).unwrap_or(0),
        user: true,
        invert,
        ipv4,
        from,
        table: table.and_then(table_id).ok_or("Invalid 'table' format")?,
    })
}

fn table_id(text: &str) -> Option<u32> {
    let named = NAMES.iter().find(|(name, _)| text.starts_with(name));
    named.map(|n| n.1).or_else(|| number(text))
}

fn show(r: &Request) -> Reply {
    let ipv4 = r.arg(1) != Some("-6");
    // The first that asks sets up the rules that are always there.
    state(|_| {
        let tables = tables();
        let shown = tables.rules.iter().filter(|rule| rule.ipv4 == ipv4);
        Ok(match r.format {
            Format::Json => Output::Json(shown.map(json).collect()),
            _ => shown.map(text).collect::<String>().into(),
        })
    })
}

/// The network whose packets a rule is for, as it is written, the length of its prefix, and whether that is an address.
fn source(r: &Rule) -> (String, u8, bool) {
    match r.from {
        None => ("all".to_owned(), 0, true),
        Some((network, len)) => {
            let whole = len == if network.is_ipv4() { 32 } else { 128 };
            (from_bits(to_bits(network)).to_string(), len, whole)
        }
    }
}

fn text(r: &Rule) -> String {
    let kind = if r.user { "User" } else { "Cached" };
    let (from, len, whole) = source(r);
    let not = if r.invert { "not " } else { "" };
    let mut out = format!("{kind}: {}: {not}from {from}", r.priority);
    if !whole {
        let _ = write!(out, "/{len} ");
    }
    let name = NAMES.iter().find(|n| n.1 == r.table);
    let _ = match name {
        Some((name, _)) => writeln!(out, " lookup {name}"),
        None => writeln!(out, " lookup {}", r.table),
    };
    out
}

fn json(r: &Rule) -> Value {
    let (from, len, _) = source(r);
    serde_json::json!({
        "from": from,
        "invert": r.invert,
        "ipv4": r.ipv4,
        "lookup": r.table,
        "priority": r.priority,
        "src-prefix": len,
        "user": r.user,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Rule, String> {
        rule(&args.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn rules_are_written_as_open_vswitch_writes_them() {
        for (args, want) in [
            ("from=all table=10", "User: 0: from all lookup 10\n"),
            (
                "from=1.1.1.7/24 prio=5 table=main",
                "User: 5: from 1.1.1.7/24  lookup main\n",
            ),
            (
                "not from=1.1.1.7 prio=12x table=localx",
                "User: 12: not from 1.1.1.7 lookup local\n",
            ),
            (
                "-6 from=fc00::/16 table=-3",
                "User: 0: from fc00::/16  lookup 4294967293\n",
            ),
            ("from=::/0 table=0x4", "User: 0: from all lookup 0\n"),
        ] {
            assert_eq!(text(&parse(args).unwrap()), want, "{args}");
        }
        assert_eq!(
            json(&parse("-6 not from=all prio=98 table=4").unwrap()).to_string(),
            r#"{"from":"all","invert":true,"ipv4":false,"lookup":4,"priority":98,"src-prefix":0,"user":true}"#
        );
        // The address tells the family.
        assert!(parse("-6 from=1.1.1.1 table=4").unwrap().ipv4);
    }

    #[test]
    fn arguments_out_of_order_are_refused() {
        for (args, want) in [
            ("prio=5 from=all table=4", "Invalid 'from' parameter"),
            ("from=1.1.1.0/33 table=4", "Invalid from=ip/plen"),
            ("from=ALL table=4", "Invalid from=ip/plen"),
            ("from=all prio=x table=4", "Invalid 'table' format"),
            ("from=all table=x", "Invalid 'table' format"),
            ("from=all prio=4", "Not enough arguments"),
            ("-6 not", "Not enough arguments"),
        ] {
            assert_eq!(parse(args), Err(want.to_owned()), "{args}");
        }
    }
}
