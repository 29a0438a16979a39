//! `ovs/route/*`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;

use ferrovs_runtime::unixctl::{Commands, Reply, Request};

use super::{RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN, Route, common_len, from_bits, state};

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
    ferrovs_netdev::dummy::set_address_hook(super::add_connected);
    ferrovs_netdev::set_egress_status(|config| {
        let hop = super::lookup(config.egress_pkt_mark.unwrap_or(0), config.dst?, config.src)?;
        let carrier = ferrovs_netdev::lookup(&hop.dev).is_none_or(|d| d.carrier());
        Some((hop.dev, carrier))
    });
}

fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, len) = match text.split_once('/') {
        Some((a, l)) => (a.parse::<IpAddr>().ok()?, l.parse::<u8>().ok()?),
        None => {
            let a = text.parse::<IpAddr>().ok()?;
            (a, if a.is_ipv4() { 32 } else { 128 })
        }
    };
    (len <= if addr.is_ipv4() { 32 } else { 128 }).then_some((addr, len))
}

/// A number, decimal or after 0x.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(h) => u32::from_str_radix(h, 16).ok(),
        None => text.parse().ok(),
    }
}

fn table_id(text: &str) -> Option<u32> {
    match text {
        "local" => Some(RT_TABLE_LOCAL),
        "main" => Some(RT_TABLE_MAIN),
        "default" => Some(RT_TABLE_DEFAULT),
        _ => number(text).filter(|t| *t != 0),
    }
}

fn add(r: &Request) -> Reply {
    let (Some(dst), Some(dev)) = (r.arg(1).and_then(prefix), r.arg(2)) else {
        return Err("Invalid parameters".into());
    };
    let (mut gateway, mut mark, mut src, mut table) = (None, 0, None, RT_TABLE_MAIN);
    for arg in &r.argv[3..] {
        let same_family = |a: &IpAddr| a.is_ipv4() == dst.0.is_ipv4();
        let ok = if let Some(m) = arg.strip_prefix("pkt_mark=") {
            number(m).map(|m| mark = m)
        } else if let Some(s) = arg.strip_prefix("src=") {
            s.parse().ok().filter(same_family).map(|s| src = Some(s))
        } else if let Some(t) = arg.strip_prefix("table=") {
            table_id(t).map(|t| table = t)
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
        let ok = if let Some(t) = arg.strip_prefix("table=") {
            table_id(t).map(|t| table = t)
        } else {
            arg.strip_prefix("pkt_mark=")
                .and_then(number)
                .map(|m| mark = m)
        };
        if ok.is_none() {
            return Err("Invalid pkt_mark".into());
        }
    }
    if super::del(dst, mark, table) {
        Ok("OK".into())
    } else {
        Err("Not found".into())
    }
}

fn lookup(r: &Request) -> Reply {
    let Some((dst, len)) = r.arg(1).and_then(prefix) else {
        return Err("Invalid parameters".into());
    };
    if len != if dst.is_ipv4() { 32 } else { 128 } {
        return Err("Invalid parameters".into());
    }
    let (mut mark, mut src) = (0, None);
    for arg in &r.argv[2..] {
        let ok = if let Some(s) = arg.strip_prefix("src=") {
            s.parse().ok().map(|s| src = Some(s))
        } else {
            arg.strip_prefix("pkt_mark=")
                .and_then(number)
                .map(|m| mark = m)
        };
        if ok.is_none() {
            return Err("Invalid pkt_mark".into());
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

fn show(r: &Request) -> Reply {
    let wanted = match r.arg(1).map(|a| a.strip_prefix("table=")) {
        None => None,
        Some(Some("all")) => Some(None),
        Some(Some(t)) => match table_id(t) {
            Some(t) => Some(Some(t)),
            None => return Err("Invalid table format".into()),
        },
        Some(None) => return Err("Invalid table format".into()),
    };
    let shown = |r: &&Route| match wanted {
        None => matches!(r.table, RT_TABLE_MAIN | RT_TABLE_LOCAL | RT_TABLE_DEFAULT),
        Some(None) => true,
        Some(Some(t)) => r.table == t,
    };
    let mut routes: Vec<Route> = state(|s| {
        s.user
            .iter()
            .chain(&s.cached)
            .filter(shown)
            .cloned()
            .collect()
    });
    // Of several ways to one network the one that counts.
    let key = |r: &Route| (r.plen, r.dst, r.mark, r.table, r.user);
    routes.reverse();
    routes.sort_by_key(|r| (key(r), r.metric));
    routes.dedup_by_key(|r| key(r));
    // By length, the length that has the most urgent route first.
    let urgency: HashMap<u8, u16> = routes.iter().fold(HashMap::new(), |mut most, r| {
        let p = most.entry(r.plen).or_default();
        *p = r.priority().max(*p);
        most
    });
    routes.sort_by_key(|r| {
        (
            Reverse((urgency[&r.plen], r.plen)),
            r.user && !r.local,
            !from_bits(r.dst).is_ipv4(),
            r.dst,
            r.mark,
        )
    });
    Ok(text(&routes).into())
}

fn text(routes: &[Route]) -> String {
    let mut out = String::from("Route Table:\n");
    for r in routes {
        let dst = from_bits(r.dst);
        // The default route of IPv4 is a prefix of 96 bits in the common space.
        let len = r.plen - if dst.is_ipv4() { common_len(dst, 0) } else { 0 };
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
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Hop, mask, to_bits};
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
            text(&[
                route("1.1.1.9", None, "1.1.1.9", false, true, 0),
                route("2.3.0.0/16", Some("1.1.1.5"), "1.1.1.9", true, false, 5),
                route("0.0.0.0/0", Some("1.1.1.77"), "1.1.1.9", true, false, 0),
                route("::/0", Some("fc00::5"), "fc00::9", true, false, 0),
            ]),
            "Route Table:\n\
             Cached: 1.1.1.9/32 dev br0 SRC 1.1.1.9 local\n\
             User: 2.3.0.0/16 MARK 5 dev br0 GW 1.1.1.5 SRC 1.1.1.9\n\
             User: 0.0.0.0/0 dev br0 GW 1.1.1.77 SRC 1.1.1.9\n\
             User: ::/0 dev br0 GW fc00::5 SRC fc00::9\n"
        );
    }

    #[test]
    fn prefixes_need_an_address_and_a_length_that_fits() {
        assert_eq!(prefix("1.1.1.0/24"), Some(("1.1.1.0".parse().unwrap(), 24)));
        assert_eq!(prefix("fc00::1").unwrap().1, 128);
        for bad in ["", "abc", "1.1.1.0/33", "fc00::/129", "1.1.1.0/"] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }
}
