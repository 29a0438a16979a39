//! The neighbour cache: Ethernet addresses of next hops, learned by looking over the host's
//! shoulder. Looking one up takes no lock.
//!
//! Nothing here sends; translation queries for a missing entry and later sees the reply pass by on
//! its way to the host, and [`snoop`] takes note. An entry lasts for the ageing time after it was
//! last confirmed or used. While an answer is waited for, nobody asks again; when that time is over,
//! whoever still needs the neighbour translates anew, and asks.
//!
//! Whoever can send to the host can announce neighbours that nobody asked for, so these have a
//! limit of their own. When it is reached, the port that announced most loses its oldest: a flood
//! from one port pushes out itself. What a tunnel asked for or uses, and what the user set, has its
//! own room.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::types::{Be32, MacAddr, eth_type, ip_proto};
use ferrovs_runtime::unixctl::{Commands, Reply, Request};
use ferrovs_runtime::{Poller, clock};

mod cache;

use crate::scan::number;
use cache::{Cache, Stamp};

const MAX_AGEING_S: u64 = 3600;
/// Longest name of a bridge, as of any device.
const NAME_MAX: usize = 15;
const US_PER_S: u64 = 1_000_000;

const ARP_OP_REPLY: u8 = 2;
const ND_NEIGHBOR_ADVERT: u16 = 136;

static AGEING_S: AtomicU64 = AtomicU64::new(900);
static RETRANS_MS: AtomicU64 = AtomicU64::new(1000);

static CACHE: LazyLock<Cache> = LazyLock::new(Default::default);
/// What stamps count from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(clock::now);

/// A bridge, as neighbours are kept for it: its name, and zeros behind.
///
/// In one piece, so that it can be told without a table of all names that there ever were.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bridge([u8; NAME_MAX + 1]);

/// The bridge called so, whether it exists or not.
pub fn bridge(name: &str) -> Bridge {
    let mut bridge = Bridge([0; NAME_MAX + 1]);
    for (to, from) in bridge.0.iter_mut().zip(name.bytes().take(NAME_MAX)) {
        *to = from;
    }
    bridge
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(NAME_MAX);
        f.write_str(&String::from_utf8_lossy(&self.0[..end]))
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn stamp(at: Instant) -> Stamp {
    at.saturating_duration_since(*BEGINNING).as_micros() as Stamp
}

fn now() -> Stamp {
    // The beginning first: it is not to be after now.
    _ = *BEGINNING;
    stamp(clock::now())
}

fn ageing() -> Stamp {
    AGEING_S.load(Ordering::Relaxed) * US_PER_S
}

fn retrans() -> Stamp {
    RETRANS_MS.load(Ordering::Relaxed) * 1000
}

/// The Ethernet address of `ip` beyond the bridge. Being used keeps an entry.
pub fn lookup(bridge: Bridge, ip: IpAddr) -> Option<MacAddr> {
    let now = now();
    CACHE.get(&(bridge, ip), now, now + ageing(), true)
}

/// What is known of `ip`, for one who would only learn it: it keeps the entry, but does not make it wanted.
pub fn confirm(bridge: Bridge, ip: IpAddr) -> Option<MacAddr> {
    let now = now();
    CACHE.get(&(bridge, ip), now, now + ageing(), false)
}

/// Whether a missing neighbour shall be asked for now: not more often than
/// `tnl/neigh/retrans_time` says.
pub fn ask(bridge: Bridge, ip: IpAddr) -> bool {
    let (now, retrans) = (now(), retrans());
    retrans == 0 || CACHE.ask((bridge, ip), now, now + retrans)
}

/// Records a neighbour that the port `from` announced, or none that the user set.
pub fn set(bridge: Bridge, ip: IpAddr, mac: MacAddr, from: Option<u32>) {
    if CACHE.set((bridge, ip), mac, now() + ageing(), from) {
        crate::change_seq().change();
    }
}

/// What a packet that is about to reach the host says about a neighbour: an ARP reply to us, a
/// gratuitous ARP or a neighbour advertisement. Makes the bits that decided matter in `wc`.
/// `is_ours` tells the host's addresses.
fn announced(
    flow: &Flow,
    wc: &mut FlowWildcards,
    is_ours: impl Fn(IpAddr) -> bool,
) -> Option<(IpAddr, MacAddr)> {
    let m = &mut wc.masks;
    match flow.dl_type.get() {
        eth_type::ARP => {
            (m.nw_src, m.nw_dst) = (Be32::new(!0), Be32::new(!0));
            if flow.nw_src != flow.nw_dst {
                if !is_ours(flow.nw_dst.get().to_be_bytes().into()) {
                    return None;
                }
                m.nw_proto = 0xff;
                if flow.nw_proto != ARP_OP_REPLY {
                    return None;
                }
            }
            m.arp_sha = MacAddr::BROADCAST;
            if flow.arp_sha.is_zero() {
                return None;
            }
            Some((IpAddr::from(flow.nw_src.get().to_be_bytes()), flow.arp_sha))
        }
        // What is no ICMPv6 leaves no mark: it would make every flow of IPv6 to the host as narrow as
        // its protocol. Unicast advertisements differ from it by what `ports::lookup` has marked; from
        // other ICMPv6, such as echo requests, by their type alone.
        eth_type::IPV6 if flow.nw_proto == ip_proto::ICMPV6 => {
            m.nw_proto = 0xff;
            m.tp_src = (!0u16).into();
            m.tp_dst = (!0u16).into();
            if flow.tp_src.get() != ND_NEIGHBOR_ADVERT || flow.tp_dst.get() != 0 {
                return None;
            }
            m.ipv6_dst = [0xff; 16];
            if !is_ours(flow.ipv6_dst.into()) {
                return None;
            }
            m.ipv6_src = [0xff; 16];
            m.nd_target = [0xff; 16];
            m.arp_tha = MacAddr::BROADCAST;
            if flow.arp_tha.is_zero() {
                return None;
            }
            Some((Ipv6Addr::from(flow.nd_target).into(), flow.arp_tha))
        }
        _ => None,
    }
}

/// Learns from a packet that is about to leave `bridge` for the host: an ARP reply to one of its
/// addresses, a gratuitous ARP, a neighbour advertisement. Makes the bits that decided matter in
/// `wc`; `learn` false does nothing else.
pub fn snoop(flow: &Flow, wc: &mut FlowWildcards, bridge: Bridge, learn: bool) {
    if let Some((ip, mac)) = announced(flow, wc, crate::ports::is_local_address)
        && learn
    {
        set(bridge, ip, mac, Some(flow.in_port));
    }
}

pub(crate) fn run() {
    let now = now();
    if CACHE.is_due(now) && CACHE.expire(now) {
        crate::change_seq().change();
    }
}

pub(crate) fn wait(poller: &mut Poller) {
    if let Some(first) = CACHE.due() {
        poller.wait_until(*BEGINNING + Duration::from_micros(first));
    }
}

/// Adds the commands, each under its old name too.
pub(crate) fn register<S: 'static>(c: &mut Commands<S>) {
    for name in ["tnl/neigh/show", "tnl/arp/show"] {
        c.register(name, "", 0, 0, |_, _| Ok(show(&CACHE, now()).into()));
    }
    for name in ["tnl/neigh/set", "tnl/arp/set"] {
        c.register(name, "BRIDGE IP MAC", 3, 3, |_, r| set_command(r));
    }
    for name in ["tnl/neigh/flush", "tnl/arp/flush"] {
        c.register(name, "", 0, 0, |_, _| {
            CACHE.clear();
            crate::change_seq().change();
            Ok("OK".into())
        });
    }
    for name in ["tnl/neigh/aging", "tnl/arp/aging"] {
        c.register(name, "[SECS]", 0, 1, |_, r| ageing_command(r));
    }
    c.register("tnl/neigh/retrans_time", "[MSECS]", 0, 1, |_, r| {
        match r.arg(1) {
            None => Ok(format!("{}\n", RETRANS_MS.load(Ordering::Relaxed)).into()),
            Some(ms) => match number(ms).map(u64::from) {
                Some(ms) if ms > AGEING_S.load(Ordering::Relaxed) * 1000 => {
                    Err("retrans_time value cannot be greater than aging".into())
                }
                Some(ms) => {
                    let old = RETRANS_MS.swap(ms, Ordering::Relaxed);
                    CACHE.shift_asked(old * 1000, ms * 1000);
                    Ok("OK".into())
                }
                None => Err("bad retrans_time value".into()),
            },
        }
    });
}

fn show(cache: &Cache, now: Stamp) -> String {
    let mut out = format!("{:<45} {:<19} Bridge\n{}\n", "IP", "MAC", "=".repeat(74));
    let known = cache.all().into_iter().map(|n| {
        let state = if n.expires <= now { " STALE" } else { "" };
        ((n.ip, n.bridge.to_string()), n.mac.to_string(), state)
    });
    let asked = cache.asked(now).into_iter();
    let asked = asked.map(|(bridge, ip)| ((ip, bridge.to_string()), String::new(), " INCOMPLETE"));
    let mut all: Vec<_> = known.chain(asked).collect();
    all.sort();
    for ((ip, bridge), mac, state) in all {
        let _ = writeln!(out, "{:<45} {mac:<17}   {bridge}{state}", ip.to_string());
    }
    out
}

fn set_command(r: &Request) -> Reply {
    let Some(Ok(ip)) = r.arg(2).map(str::parse::<IpAddr>) else {
        return Err("bad IP address".into());
    };
    let Some(Ok(mac)) = r.arg(3).map(str::parse::<MacAddr>) else {
        return Err("bad MAC address".into());
    };
    set(bridge(r.arg(1).unwrap_or_default()), ip, mac, None);
    Ok("OK".into())
}

fn ageing_command(r: &Request) -> Reply {
    let Some(text) = r.arg(1) else {
        return Ok(AGEING_S.load(Ordering::Relaxed).to_string().into());
    };
    match number(text).map(u64::from) {
        Some(s) if s > 0 && s * 1000 < RETRANS_MS.load(Ordering::Relaxed) => {
            Err("aging value cannot be less than retrans_time".into())
        }
        Some(s) if (1..=MAX_AGEING_S).contains(&s) => {
            let old = AGEING_S.swap(s, Ordering::Relaxed);
            CACHE.shift(old * US_PER_S, s * US_PER_S);
            Ok("OK".into())
        }
        _ => Err("bad aging value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_shown_with_their_bridges_and_whether_they_are_stale() {
        let c = Cache::default();
        let mac: MacAddr = "02:00:00:00:00:01".parse().unwrap();
        let (a, b): (IpAddr, IpAddr) = ("1.1.1.1".parse().unwrap(), "fc00::1".parse().unwrap());
        assert!(c.set((bridge("br0"), a), mac, 900, None));
        assert!(c.set((bridge("averylonginterfacename"), b), mac, 901, None));
        assert!(c.ask((bridge("br0"), "1.1.1.2".parse().unwrap()), 900, 901));
        assert_eq!(
            show(&c, 900),
            "IP                                            MAC                 Bridge\n\
             ==========================================================================\n\
             1.1.1.1                                       02:00:00:00:00:01   br0 STALE\n\
             1.1.1.2                                                           br0 INCOMPLETE\n\
             fc00::1                                       02:00:00:00:00:01   averylonginterf\n"
        );
        assert_eq!(bridge("averylonginterf"), bridge("averylonginterface2"));
    }

    #[test]
    fn replies_and_advertisements_announce_a_neighbour() {
        let mac: MacAddr = "02:00:00:00:00:01".parse().unwrap();
        let ours = |a: IpAddr| a == "1.1.1.2".parse::<IpAddr>().unwrap();
        let mut f = Flow {
            dl_type: eth_type::ARP.into(),
            nw_src: 0x0101_0101.into(),
            nw_dst: 0x0101_0109.into(),
            arp_sha: mac,
            nw_proto: 2,
            ..Flow::default()
        };
        let mut wc = FlowWildcards::default();
        // Not to us: whether it is a reply does not matter.
        assert_eq!(announced(&f, &mut wc, ours), None);
        assert_eq!(wc.masks.nw_proto, 0);
        f.nw_dst = 0x0101_0102.into();
        f.nw_proto = 1;
        assert_eq!(announced(&f, &mut wc, ours), None);
        assert_eq!(wc.masks.nw_proto, 0xff);
        f.nw_proto = 2;
        let one: IpAddr = "1.1.1.1".parse().unwrap();
        assert_eq!(announced(&f, &mut wc, ours), Some((one, mac)));
        // Gratuitous.
        f.nw_dst = f.nw_src;
        f.nw_proto = 1;
        assert_eq!(announced(&f, &mut wc, ours), Some((one, mac)));
        let mut f = Flow {
            dl_type: eth_type::IPV6.into(),
            nw_proto: 58,
            ..Flow::default()
        };
        f.tp_src = 136.into();
        f.nd_target[15] = 9;
        f.arp_tha = mac;
        // To somebody else, then to us.
        assert_eq!(announced(&f, &mut wc, ours), None);
        let ours = |a: IpAddr| a == "::".parse::<IpAddr>().unwrap();
        assert_eq!(
            announced(&f, &mut wc, ours),
            Some(("::9".parse().unwrap(), mac))
        );
        f.tp_src = 128.into();
        let mut wc = FlowWildcards::default();
        assert_eq!(announced(&f, &mut wc, ours), None);
        // A flow for echo requests must not take advertisements along.
        assert_eq!(wc.masks.tp_src.get(), !0);
    }
}
