//! `netdev-dummy/*`: what tests say to dummy devices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrovs_packet::buffer::Packet;
use ferrovs_runtime::unixctl::{Commands, Reply, Request};

use super::{Dummy, device, devices};
use crate::Flags;

/// Makes packets from the text of a datapath flow, padded to a size if one is given. The error is
/// the text that the user sees.
pub type FlowParser = fn(text: &str, size: Option<usize>) -> Result<Packet, String>;

/// The least size that `--len` takes.
const MIN_LEN: usize = 60;

/// Adds the commands. Flows are parsed by `parse`, as their language belongs to the datapath.
pub fn register<S: 'static>(commands: &mut Commands<S>, parse: FlowParser) {
    commands.register(
        "netdev-dummy/receive",
        "name [--qid queue_id] packet|flow [--len packet_len]",
        2,
        usize::MAX,
        move |_, r| receive(r, parse),
    );
    commands.register(
        "netdev-dummy/set-admin-state",
        "[netdev] up|down",
        1,
        2,
        |_, r| set_admin_state(r),
    );
    commands.register("netdev-dummy/conn-state", "[netdev]", 0, 1, |_, r| {
        conn_state(r)
    });
    commands.register(
        "netdev-dummy/ip4addr",
        "[netdev] ipaddr/mask-prefix-len",
        2,
        2,
        |_, r| add_address(r, parse_ipv4),
    );
    commands.register("netdev-dummy/ip6addr", "[netdev] ip6addr", 2, 2, |_, r| {
        add_address(r, parse_ipv6)
    });
}

/// A frame written as hexadecimal digits, with any white space between.
fn from_hex(text: &str) -> Option<Packet> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(2) || digits.len() < 2 * super::ETH_HEADER_LEN {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|d| {
            let hi = char::from(d[0]).to_digit(16)?;
            let lo = char::from(d[1]).to_digit(16)?;
            Some((hi << 4 | lo) as u8)
        })
        .collect();
    bytes.map(|b| Packet::from_slice(&b))
}

fn receive(r: &Request, parse: FlowParser) -> Reply {
    let Some(dev) = device(r.arg(1).unwrap_or_default()) else {
        return Err("no such dummy netdev".into());
    };
    let mut i = 2;
    let mut queue = 0;
    if r.arg(2) == Some("--qid") && r.argv.len() > 3 {
        let n_rxq = dev.state().layout.n_rxq;
        // What is no number is 0.
        queue = r.arg(3).map_or(0, |q| q.parse::<i64>().unwrap_or(0)) as usize;
        if queue >= n_rxq {
            return Err("bad rx queue id.".into());
        }
        i = 4;
    }
    while let Some(text) = r.arg(i) {
        let packet = match from_hex(text) {
            Some(p) => p,
            None => {
                let mut size = None;
                if r.arg(i + 1) == Some("--len")
                    && let Some(len) = r.arg(i + 2)
                {
                    match len.parse::<usize>() {
                        Ok(n) if n >= MIN_LEN => size = Some(n),
                        _ => return Err("too small packet len".into()),
                    }
                    i += 2;
                }
                parse(text, size)?
            }
        };
        dev.receive(queue, packet);
        i += 1;
    }
    if let Some(handled) = super::RECEIVE_HOOK.get() {
        handled();
    }
    Ok("".into())
}

fn set_admin_state(r: &Request) -> Reply {
    let (on, off) = match r.argv.last().map(|s| s.to_ascii_lowercase()).as_deref() {
        Some("up") => (Flags::UP, Flags::empty()),
        Some("down") => (Flags::empty(), Flags::UP),
        _ => return Err("Invalid Admin State".into()),
    };
    let set = |d: &Dummy| {
        let mut st = d.state();
        st.flags = (st.flags | on) - off;
        drop(st);
        d.changed();
    };
    if r.argv.len() > 2 {
        let Some(d) = device(r.arg(1).unwrap_or_default()) else {
            return Err("Unknown Dummy Interface".into());
        };
        set(&d);
    } else {
        devices().iter().for_each(|d| set(d));
    }
    Ok("OK".into())
}

fn conn_state(r: &Request) -> Reply {
    let word = |connected: Option<bool>| match connected {
        Some(true) => "connected",
        Some(false) => "disconnected",
        None => "unknown",
    };
    if let Some(name) = r.arg(1) {
        let connected = device(name).and_then(|d| d.state().conn.connected());
        return Ok(format!("{name}: {}\n", word(connected)).into());
    }
    let mut out = String::new();
    for d in devices() {
        if let Some(c) = d.state().conn.connected() {
            out.push_str(&format!("{}: {}\n", d.name, word(Some(c))));
        }
    }
    Ok(out.into())
}

fn parse_ipv4(text: &str) -> Result<(IpAddr, u8), String> {
    let bad = || format!("{text}: invalid IP address");
    let (addr, len) = match text.split_once('/') {
        None => (text, 32),
        Some((a, l)) => match l.parse::<u8>() {
            Ok(l) if l <= 32 => (a, l),
            Ok(_) => {
                return Err(format!(
                    "{text}: IPv4 network prefix bits not between 0 and 32, inclusive"
                ));
            }
            Err(_) => {
                let mask = l.parse::<Ipv4Addr>().map_err(|_| bad())?.to_bits();
                let len = mask.leading_ones();
                if mask.count_ones() != len {
                    return Err(format!("{text}: CIDR network required"));
                }
                (a, len as u8)
            }
        },
    };
    Ok((addr.parse::<Ipv4Addr>().map_err(|_| bad())?.into(), len))
}

fn parse_ipv6(text: &str) -> Result<(IpAddr, u8), String> {
    let (addr, len) = text.split_once('/').unwrap_or((text, "128"));
    let len = match (len.parse::<u8>(), len.parse::<Ipv6Addr>()) {
        (Ok(len @ 0..=128), _) => len,
        (_, Ok(mask)) if mask.to_bits().count_zeros() == mask.to_bits().trailing_zeros() => {
            mask.to_bits().leading_ones() as u8
        }
        (_, Ok(_)) => return Err(format!("{text}: CIDR network required")),
        _ => {
            return Err(format!(
                "{text}: IPv6 network prefix bits not between 0 and 128, inclusive"
            ));
        }
    };
    let addr = addr
        .parse::<Ipv6Addr>()
        .map_err(|_| format!("{text}: invalid IPv6 address"))?;
    Ok((addr.into(), len))
}

fn add_address(r: &Request, parse: fn(&str) -> Result<(IpAddr, u8), String>) -> Reply {
    let Some(d) = device(r.arg(1).unwrap_or_default()) else {
        return Err("Unknown Dummy Interface".into());
    };
    let (addr, len) = parse(r.arg(2).unwrap_or_default())?;
    let mut st = d.state();
    // A device has one IPv4 address and any number of IPv6 addresses.
    st.addresses.retain(|(a, _)| {
        if addr.is_ipv4() {
            !a.is_ipv4()
        } else {
            *a != addr
        }
    });
    st.addresses.push((addr, len));
    drop(st);
    d.changed();
    if let Some(hook) = super::ADDRESS_HOOK.get() {
        hook(&d.name, addr, len);
    }
    Ok("OK".into())
}
