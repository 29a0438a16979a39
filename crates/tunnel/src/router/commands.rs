//! `ovs/route/*`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use ferrovs_packet::field::parse_ipv4_prefix;
use ferrovs_runtime::unixctl::{Commands, Format, Output, Reply, Request};
use serde_json::Value;

use super::table::{RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN, Route};
use super::{common_len, from_bits, state, tables, to_bits};
use crate::scan::number;

mod rules;

/// Adds the commands.
pub fn register<S: 'static>(c: &mut Commands<S>) {
    let add_usage = "ip/plen dev [gw] [pkt_mark=mark] [src=src_ip] [table=id]";
    c.register("ovs/route/add", add_usage, 2, 6, |_, r| add(r));
    c.register("ovs/route/show", "[table=all|id]", 0, 1, |_, r| show(r));
    c.register(
        "ovs/route/del",
        "ip/plen [pkt_mark=mark] [table=id]",
        1,
        3,
        |_, r| del(r),
    );
    let lookup_usage = "ip_addr [pkt_mark=mark] [src=src_ip]";
    c.register("ovs/route/lookup", lookup_usage, 1, 3, |_, r| lookup(r));
    rules::register(c);
    ferrovs_netdev::dummy::set_address_hook(super::add_connected);
    ferrovs_netdev::set_egress_status(|config| {
        let hop = super::lookup(config.egress_pkt_mark.unwrap_or(0), config.dst?, config.src)?;
        let carrier = ferrovs_netdev::lookup(&hop.dev).is_none_or(|d| d.carrier());
        Some((hop.dev.to_string(), carrier))
    });
}

/// An address whose numbers may wrap, if it is one of IPv4, and what follows it.
fn address(text: &str) -> Option<(IpAddr, &str)> {
    if let Some((a, rest)) = parse_ipv4_prefix(text) {
        return Some((a.into(), rest));
    }
    let end = text.find('/').unwrap_or(text.len());
    Some((text[..end].parse::<Ipv6Addr>().ok()?.into(), &text[end..]))
}

fn whole_address(text: &str) -> Option<IpAddr> {
    address(text)
        .filter(|(_, rest)| rest.is_empty())
        .map(|a| a.0)
}

/// An address and the length of a prefix, which may be written as a mask.
fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, rest) = address(text)?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    if rest.is_empty() {
        return Some((addr, width));
    }
    let len = rest.strip_prefix('/')?;
    let len = match whole_address(len).filter(|m| m.is_ipv4() == addr.is_ipv4()) {
        Some(mask) => {
            let bits = to_bits(mask) << (128 - u32::from(width));
            let ones = bits.leading_ones();
            (bits.count_ones() == ones).then_some(ones as u8)?
        }
        None => len.parse().ok()?,
    };
    (len <= width).then_some((addr, len))
}

/// Whether the tables are those of the three rules that are always there.
fn is_standard(table: u32) -> bool {
    matches!(table, RT_TABLE_MAIN | RT_TABLE_LOCAL | RT_TABLE_DEFAULT)
}

const BAD_PREFIX: &str = "Invalid 'ip/plen' parameter";
const BAD_TABLE: &str = "Invalid table format";

fn add(r: &Request) -> Reply {
    let (Some(dst), Some(dev)) = (r.arg(1).and_then(prefix), r.arg(2)) else {
        return Err(BAD_PREFIX.into());
    };
    let (mut gateway, mut mark, mut src, mut table) = (None, 0, None, RT_TABLE_MAIN);
    for arg in &r.argv[3..] {
        let same_family = |a: &IpAddr| a.is_ipv4() == dst.0.is_ipv4();
        let ok = if let Some(m) = arg.strip_prefix("pkt_mark=") {
            number(m).map(|m| mark = m)
        } else if let Some(s) = arg.strip_prefix("src=") {
            whole_address(s).filter(same_family).map(|s| src = Some(s))
        } else if let Some(t) = arg.strip_prefix("table=") {
            table = number(t).ok_or(BAD_TABLE)?;
            Some(())
        } else {
            arg.parse()
                .ok()
                .filter(same_family)
                .map(|g| gateway = Some(g))
        };
        if ok.is_none() {
            return Err("Invalid pkt_mark, IP gateway or src_ip".into());
        }
    }
    if super::add(dst, dev, gateway, mark, src, table) {
        Ok("OK".into())
    } else {
        Err("Error while inserting route.".into())
    }
}

fn del(r: &Request) -> Reply {
    let Some(dst) = r.arg(1).and_then(prefix) else {
        return Err("Invalid parameters".into());
    };
    let (mut mark, mut table) = (0, RT_TABLE_MAIN);
    for arg in &r.argv[2..] {
        if let Some(t) = arg.strip_prefix("table=") {
            table = number(t).ok_or(BAD_TABLE)?;
            if !tables().has(table) {
                return Err(format!("Table {arg} not found"));
            }
        } else {
            let given = arg.strip_prefix("pkt_mark=").and_then(number);
            mark = given.ok_or("Invalid pkt_mark")?;
        }
    }
    if super::del(dst, mark, table) {
        Ok("OK".into())
    } else {
        Err("Not found".into())
    }
}

fn lookup(r: &Request) -> Reply {
    let whole = |(a, len): &(IpAddr, u8)| *len == if a.is_ipv4() { 32 } else { 128 };
    let Some((dst, _)) = r.arg(1).and_then(prefix).filter(whole) else {
        return Err(BAD_PREFIX.into());
    };
    let (mut mark, mut src) = (0, None);
    for arg in &r.argv[2..] {
        let ok = if let Some(s) = arg.strip_prefix("src=") {
            let same_family = |a: &IpAddr| a.is_ipv4() == dst.is_ipv4();
            whole_address(s).filter(same_family).map(|s| src = Some(s))
        } else {
            arg.strip_prefix("pkt_mark=")
                .and_then(number)
                .map(|m| mark = m)
        };
        if ok.is_none() {
            return Err("Invalid pkt_mark or src".into());
        }
    }
    match super::lookup(mark, dst, src) {
        None => Err("Not found".into()),
        Some(hop) => {
            let gateway = hop.gateway.map_or("::".to_owned(), |g| g.to_string());
            Ok(format!("src {}\ngateway {gateway}\ndev {}\n", hop.src, hop.dev).into())
        }
    }
}

/// Which routes are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Those of the standard tables.
    Standard,
    All,
    Table(u32),
}

fn show(r: &Request) -> Reply {
    let wanted = match r.arg(1).map(|a| a.strip_prefix("table=")) {
        None => Shown::Standard,
        Some(Some("all")) => Shown::All,
        Some(Some(t)) => match number(t).ok_or(BAD_TABLE)? {
            0 => Shown::Standard,
            u32::MAX => Shown::All,
            t => Shown::Table(t),
        },
        Some(None) => return Err(BAD_TABLE.into()),
    };
    let shown = |r: &Route| match wanted {
        Shown::Standard => is_standard(r.table),
        Shown::All => true,
        Shown::Table(t) => r.table == t,
    };
    if let Shown::Table(t) = wanted
        && !tables().has(t)
    {
        let table = r.arg(1).unwrap_or_default();
        return Err(format!("Table '{table}' not found"));
    }
    let routes = state(|s| in_order(s.routes().filter(shown).collect()));
    if r.format == Format::Json {
        return Ok(Output::Json(routes.iter().map(json).collect()));
    }
    let title = match wanted {
        Shown::Table(t) if !is_standard(t) => format!("Route Table #{t}:\n"),
        Shown::Standard | Shown::Table(_) => "Route Table:\n".to_owned(),
        Shown::All => String::new(),
    };
    Ok((title + &text(&routes, wanted == Shown::All)).into())
}

/// Routes as Open vSwitch shows them: the standard tables first, in the order in which they are asked; in a table
/// length by length, the length that has the most urgent route first; of one length as they came.
fn in_order(routes: Vec<Route>) -> Vec<Route> {
    // Of several ways to one network the one that counts.
    let key = |r: &Route| (r.table, r.plen, r.dst, r.mark, r.user);
    let mut best: HashMap<_, usize> = HashMap::new();
    for (i, r) in routes.iter().enumerate() {
        let kept = best.entry(key(r)).or_insert(i);
        if r.metric <= routes[*kept].metric {
            *kept = i;
        }
    }
    let mut urgency: HashMap<(u32, u8), u16> = HashMap::new();
    for r in &routes {
        let most = urgency.entry((r.table, r.plen)).or_default();
        *most = r.priority().max(*most);
    }
    let kept = |(i, r): &(usize, Route)| best[&key(r)] == *i;
    let routes = routes.into_iter().enumerate().filter(kept);
    let mut routes: Vec<Route> = routes.map(|(_, r)| r).collect();
    routes.sort_by_key(|r| {
        let other = if is_standard(r.table) { 0 } else { r.table };
        let standard = Reverse(if is_standard(r.table) { r.table } else { 0 });
        (
            !is_standard(r.table),
            other,
            standard,
            Reverse((urgency[&(r.table, r.plen)], r.plen)),
        )
    });
    routes
}

/// A network as it is written: the default route of IPv4 is a prefix of 96 bits in the common space.
fn network(r: &Route) -> (IpAddr, u8) {
    let dst = from_bits(r.dst);
    let len = r.plen - if dst.is_ipv4() { common_len(dst, 0) } else { 0 };
    (dst, len)
}

fn text(routes: &[Route], tables: bool) -> String {
    let mut out = String::new();
    for r in routes {
        let (dst, len) = network(r);
        let kind = if r.user { "User" } else { "Cached" };
        let _ = write!(out, "{kind}: {dst}/{len}");
        if r.mark != 0 {
            let _ = write!(out, " MARK {}", r.mark);
        }
        let _ = write!(out, " dev {}", r.hop.dev);
        if let Some(g) = r.hop.gateway {
            let _ = write!(out, " GW {g}");
        }
        let _ = write!(out, " SRC {}", r.hop.src);
        if r.local {
            out.push_str(" local");
        }
        if tables && !is_standard(r.table) {
            let _ = write!(out, " table {}", r.table);
        }
        out.push('\n');
    }
    out
}

fn json(r: &Route) -> Value {
    let (dst, len) = network(r);
    let mut hop = serde_json::json!({ "dev": *r.hop.dev });
    if let Some(g) = r.hop.gateway {
        hop["gateway"] = g.to_string().into();
    }
    let mut out = serde_json::json!({
        "dst": dst.to_string(),
        "local": r.local,
        "nexthops": [hop],
        "prefix": len,
        "prefsrc": r.hop.src.to_string(),
        "table": r.table,
        "user": r.user,
    });
    if r.mark != 0 {
        out["mark"] = r.mark.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Hop, mask};
    use super::*;

    #[test]
    fn routes_are_shown_as_open_vswitch_shows_them() {
        let route = |dst: &str, gw: Option<&str>, src: &str, user, local, mark| {
            let (a, len) = prefix(dst).unwrap();
            let plen = common_len(a, len);
            Route {
                dst: mask(to_bits(a), plen),
                plen,
                mark,
                table: RT_TABLE_MAIN,
                user,
                local,
                metric: 0,
                hop: Hop {
                    dev: "br0".into(),
                    gateway: gw.map(|g| g.parse().unwrap()),
                    src: src.parse().unwrap(),
                },
            }
        };
        assert_eq!(
            text(
                &[
                    route("1.1.1.9", None, "1.1.1.9", false, true, 0),
                    route("2.3.0.0/16", Some("1.1.1.5"), "1.1.1.9", true, false, 5),
                    route("0.0.0.0/0", Some("1.1.1.77"), "1.1.1.9", true, false, 0),
                    route("::/0", Some("fc00::5"), "fc00::9", true, false, 0),
                ],
                false
            ),
            "Cached: 1.1.1.9/32 dev br0 SRC 1.1.1.9 local\n\
             User: 2.3.0.0/16 MARK 5 dev br0 GW 1.1.1.5 SRC 1.1.1.9\n\
             User: 0.0.0.0/0 dev br0 GW 1.1.1.77 SRC 1.1.1.9\n\
             User: ::/0 dev br0 GW fc00::5 SRC fc00::9\n"
        );
    }

    #[test]
    fn a_route_is_an_object_in_json() {
        let r = Route {
            dst: mask(to_bits("10.7.1.0".parse().unwrap()), 120),
            plen: 120,
            mark: 7,
            table: 10,
            user: true,
            local: false,
            metric: 0,
            hop: Hop {
                dev: "br0".into(),
                gateway: Some("10.9.0.9".parse().unwrap()),
                src: "10.9.0.1".parse().unwrap(),
            },
        };
        assert_eq!(
            json(&r).to_string(),
            r#"{"dst":"10.7.1.0","local":false,"mark":7,"nexthops":[{"dev":"br0","gateway":"10.9.0.9"}],"prefix":24,"prefsrc":"10.9.0.1","table":10,"user":true}"#
        );
        assert_eq!(
            text(&[r], true),
            "User: 10.7.1.0/24 MARK 7 dev br0 GW 10.9.0.9 SRC 10.9.0.1 table 10\n"
        );
    }

    #[test]
    fn prefixes_need_an_address_and_a_length_that_fits() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert_eq!(prefix("1.1.1.0/24"), Some((ip("1.1.1.0"), 24)));
        assert_eq!(prefix("1.1.1.300"), Some((ip("1.1.1.44"), 32)));
        assert_eq!(prefix("1.1.1.1/255.255.0.0"), Some((ip("1.1.1.1"), 16)));
        assert_eq!(prefix("fc00::1").unwrap().1, 128);
        assert_eq!(prefix("fc00::1/ffff::").unwrap().1, 16);
        for bad in [
            "",
            "abc",
            "1.1.1",
            "1.1.1.1x",
            "1.1.1.0/33",
            "fc00::/129",
            "1.1.1.0/",
            "1.1.1.1/255.0.255.0",
            "1.1.1.1/ffff::",
        ] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }
}
