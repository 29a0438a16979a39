//! The neighbour cache: Ethernet addresses of next hops, learned by looking over the host's
//! shoulder.
//!
//! Nothing here sends; translation queries for a missing entry and later sees the reply pass by on
//! its way to the host, and [`snoop`] takes note. An entry lasts for the ageing time after it was
//! last confirmed or used.
//!
//! Whoever can send to the host can announce neighbours that nobody asked for, so these have a
//! limit of their own. When it is reached, the port that announced most loses its oldest: a flood
//! from one port pushes out itself. What a tunnel asked for or uses, and what the user set, has its
//! own room.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_packet::types::{Be32, MacAddr, eth_type, ip_proto};
use ferrovs_runtime::unixctl::{Commands, Reply, Request};
use ferrovs_runtime::{Poller, clock};

const MAX_AGEING_S: u64 = 3600;
/// Longest name of a bridge, as of any device.
const NAME_MAX: usize = 15;
/// Neighbours that tunnels asked for or use.
const MAX_WANTED: usize = 65536;
/// Neighbours that nobody asked for, over all ports: a few megabytes.
const MAX_UNASKED: usize = 16384;

const ARP_OP_REPLY: u8 = 2;
const ND_NEIGHBOR_ADVERT: u16 = 136;

static AGEING_S: AtomicU64 = AtomicU64::new(900);
static RETRANS_MS: AtomicU64 = AtomicU64::new(1000);

/// A bridge and an address beyond it.
type Key = (String, IpAddr);
/// A bridge and its port that an announcement came through.
type Source = (String, u32);

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: MacAddr,
    expires: Instant,
    /// The port that announced it; none for what was asked for, is used, or was set.
    from: Option<u32>,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<Key, Entry>,
    /// When each missing neighbour was last asked for.
    asked: HashMap<Key, Instant>,
    /// What each port announced unasked, oldest first; entries that are wanted by now may be among them.
    unasked: HashMap<Source, VecDeque<IpAddr>>,
    n_unasked: usize,
    /// No entry expires before.
    due: Option<Instant>,
}

static CACHE: LazyLock<RwLock<Cache>> = LazyLock::new(Default::default);

fn read() -> RwLockReadGuard<'static, Cache> {
    CACHE.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Cache> {
    CACHE.write().unwrap_or_else(PoisonError::into_inner)
}

fn ageing() -> Duration {
    Duration::from_secs(AGEING_S.load(Ordering::Relaxed))
}

fn name_of(bridge: &str) -> String {
    bridge.chars().take(NAME_MAX).collect()
}

impl Cache {
    /// Takes note of a neighbour that the port `from` announced, or none that was set. Returns true if
    /// translations may have become wrong.
    fn set(
        &mut self,
        bridge: &str,
        ip: IpAddr,
        mac: MacAddr,
        expires: Instant,
        from: Option<u32>,
    ) -> bool {
        let key = (name_of(bridge), ip);
        let asked = self.asked.remove(&key).is_some();
        self.due = Some(self.due.map_or(expires, |due| due.min(expires)));
        if let Some(old) = self.entries.get_mut(&key) {
            let moved = old.mac != mac;
            (old.mac, old.expires) = (mac, expires);
            if asked || from.is_none() {
                self.want(&key);
            }
            return moved;
        }
        let from = from.filter(|_| !asked);
        match from {
            None if self.entries.len() - self.n_unasked >= MAX_WANTED => return false,
            None => {}
            Some(port) => {
                if self.n_unasked >= MAX_UNASKED {
                    self.evict();
                }
                self.n_unasked += 1;
                let source = (key.0.clone(), port);
                self.unasked.entry(source).or_default().push_back(ip);
            }
        }
        self.entries.insert(key, Entry { mac, expires, from });
        true
    }

    /// A tunnel wants the neighbour: it keeps its place whatever others announce.
    fn want(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.from.take().is_some()
        {
            self.n_unasked -= 1;
        }
    }

    /// Takes out the oldest of the port that announced most.
    fn evict(&mut self) {
        while let Some((source, queue)) = self.unasked.iter_mut().max_by_key(|(_, q)| q.len()) {
            let Some(ip) = queue.pop_front() else {
                self.unasked.clear();
                return;
            };
            let key = (source.0.clone(), ip);
            let port = source.1;
            if self.entries.get(&key).is_some_and(|e| e.from == Some(port)) {
                self.entries.remove(&key);
                self.n_unasked -= 1;
                return;
            }
        }
    }

    fn expire(&mut self, now: Instant) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, e| e.expires > now);
        let retrans = Duration::from_millis(RETRANS_MS.load(Ordering::Relaxed));
        self.asked.retain(|_, t| *t + retrans > now);
        let entries = &self.entries;
        self.unasked.retain(|(bridge, port), queue| {
            let unasked = |ip: &IpAddr| {
                let entry = entries.get(&(bridge.clone(), *ip));
                entry.is_some_and(|e| e.from == Some(*port))
            };
            queue.retain(unasked);
            !queue.is_empty()
        });
        self.n_unasked = entries.values().filter(|e| e.from.is_some()).count();
        self.due = entries.values().map(|e| e.expires).min();
        entries.len() != before
    }

    fn clear(&mut self) {
        *self = Cache {
            asked: std::mem::take(&mut self.asked),
            ..Cache::default()
        };
    }
}

/// The Ethernet address of `ip` beyond the bridge called `bridge`. Being used keeps an entry.
pub fn lookup(bridge: &str, ip: IpAddr) -> Option<MacAddr> {
    let now = clock::now();
    let key = (name_of(bridge), ip);
    let mut cache = write();
    let entry = cache.entries.get_mut(&key)?;
    if entry.expires <= now {
        return None;
    }
    entry.expires = now + ageing();
    let mac = entry.mac;
    cache.want(&key);
    Some(mac)
}

/// What is known of `ip`, for one who would only learn it: it keeps the entry, but does not make it wanted.
pub fn confirm(bridge: &str, ip: IpAddr) -> Option<MacAddr> {
    let now = clock::now();
    let mut cache = write();
    let entry = cache.entries.get_mut(&(name_of(bridge), ip))?;
    if entry.expires <= now {
        return None;
    }
    entry.expires = now + ageing();
    Some(entry.mac)
}

/// Whether a missing neighbour shall be asked for now: not more often than
/// `tnl/neigh/retrans_time` says.
pub fn may_ask(bridge: &str, ip: IpAddr) -> bool {
    let retrans = Duration::from_millis(RETRANS_MS.load(Ordering::Relaxed));
    if retrans.is_zero() {
        return true;
    }
    let now = clock::now();
    let mut cache = write();
    let last = cache.asked.get(&(name_of(bridge), ip));
    if last.is_some_and(|t| now < *t + retrans) || cache.asked.len() >= MAX_WANTED {
        return false;
    }
    cache.asked.insert((name_of(bridge), ip), now);
    true
}

/// Records a neighbour that the port `from` announced, or none that the user set.
pub fn set(bridge: &str, ip: IpAddr, mac: MacAddr, from: Option<u32>) {
    if write().set(bridge, ip, mac, clock::now() + ageing(), from) {
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
pub fn snoop(flow: &Flow, wc: &mut FlowWildcards, bridge: &str, learn: bool) {
    if let Some((ip, mac)) = announced(flow, wc, crate::ports::is_local_address)
        && learn
    {
        set(bridge, ip, mac, Some(flow.in_port));
    }
}

pub(crate) fn run() {
    // Taking the write lock only when something is due keeps readers undisturbed.
    let now = clock::now();
    let due = {
        let c = read();
        c.due.is_some_and(|due| due <= now) || !c.asked.is_empty()
    };
    if due && write().expire(now) {
        crate::change_seq().change();
    }
}

pub(crate) fn wait(poller: &mut Poller) {
    if let Some(first) = read().due {
        poller.wait_until(first);
    }
}

/// Adds the commands, each under its old name too.
pub(crate) fn register<S: 'static>(c: &mut Commands<S>) {
    for name in ["tnl/neigh/show", "tnl/arp/show"] {
        c.register(name, "", 0, 0, |_, _| Ok(show(&read()).into()));
    }
    for name in ["tnl/neigh/set", "tnl/arp/set"] {
        c.register(name, "BRIDGE IP MAC", 3, 3, |_, r| set_command(r));
    }
    for name in ["tnl/neigh/flush", "tnl/arp/flush"] {
        c.register(name, "", 0, 0, |_, _| {
            write().clear();
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
            Some(ms) => match ms.parse::<u64>() {
                Ok(ms) if ms <= u64::from(u32::MAX) => {
                    RETRANS_MS.store(ms, Ordering::Relaxed);
                    Ok("OK".into())
                }
                _ => Err("bad retrans_time value".into()),
            },
        }
    });
}

fn show(cache: &Cache) -> String {
    let mut out = format!("{:<45} {:<19} Bridge\n{}\n", "IP", "MAC", "=".repeat(74));
    let now = clock::now();
    let mut all: Vec<_> = cache.entries.iter().collect();
    all.sort_by(|(a, _), (b, _)| (a.1, &a.0).cmp(&(b.1, &b.0)));
    for ((bridge, ip), e) in all {
        let stale = if e.expires <= now { " STALE" } else { "" };
        out.push_str(&format!(
            "{:<45} {}   {bridge}{stale}\n",
            ip.to_string(),
            e.mac
        ));
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
    set(r.arg(1).unwrap_or_default(), ip, mac, None);
    Ok("OK".into())
}

fn ageing_command(r: &Request) -> Reply {
    let Some(text) = r.arg(1) else {
        return Ok(AGEING_S.load(Ordering::Relaxed).to_string().into());
    };
    match text.parse::<u64>() {
        Ok(s) if (1..=MAX_AGEING_S).contains(&s) => {
            let old = AGEING_S.swap(s, Ordering::Relaxed);
            // What is known keeps its age.
            let mut cache = write();
            for e in cache.entries.values_mut() {
                let confirmed = e.expires.checked_sub(Duration::from_secs(old));
                e.expires = confirmed.unwrap_or(e.expires) + Duration::from_secs(s);
            }
            cache.due = cache.entries.values().map(|e| e.expires).min();
            Ok("OK".into())
        }
        _ => Err("bad aging value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_last_for_the_ageing_time_and_are_shown() {
        let mut c = Cache::default();
        let now = clock::now();
        let mac: MacAddr = "02:00:00:00:00:01".parse().unwrap();
        let (a, b): (IpAddr, IpAddr) = ("1.1.1.1".parse().unwrap(), "fc00::1".parse().unwrap());
        let later = now + Duration::from_secs(900);
        assert!(c.set("br0", a, mac, later, None));
        assert!(!c.set("br0", a, mac, later, None));
        assert!(c.set(
            "averylonginterfacename",
            b,
            mac,
            later + Duration::from_secs(1),
            None
        ));
        assert_eq!(
            show(&c),
            "IP                                            MAC                 Bridge\n\
             ==========================================================================\n\
             1.1.1.1                                       02:00:00:00:00:01   br0\n\
             fc00::1                                       02:00:00:00:00:01   averylonginterf\n"
        );
        assert!(!c.expire(now));
        assert!(c.expire(later));
        assert_eq!(c.entries.len(), 1);
    }

    #[test]
    fn a_flood_of_announcements_keeps_no_real_peer_out() {
        let mut c = Cache::default();
        let now = clock::now();
        let later = now + Duration::from_secs(900);
        let mac: MacAddr = "02:00:00:00:00:01".parse().unwrap();
        let ip = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let (used, quiet, peer) = (ip(0xff_0001), ip(0xff_0002), ip(0xff_0003));
        // One that nobody asked for and a tunnel uses, and one announced by a port that says little.
        assert!(c.set("br0", used, mac, later, Some(1)));
        c.want(&("br0".into(), used));
        assert!(c.set("br0", quiet, mac, later, Some(2)));
        for n in 0..70_000 {
            c.set("br0", ip(n), mac, later, Some(1));
        }
        assert_eq!(c.n_unasked, MAX_UNASKED);
        assert_eq!(c.entries.len(), MAX_UNASKED + 1);
        // A tunnel asks, and the peer answers through the flooded port.
        c.asked.insert(("br0".into(), peer), now);
        assert!(c.set("br0", peer, mac, later, Some(1)));
        for n in 70_000..140_000 {
            c.set("br0", ip(n), mac, later, Some(1));
        }
        for kept in [used, quiet, peer, ip(139_999)] {
            assert!(c.entries.contains_key(&("br0".into(), kept)), "{kept}");
        }
        assert!(!c.entries.contains_key(&("br0".into(), ip(70_000))));
        let queued: usize = c.unasked.values().map(VecDeque::len).sum();
        assert!(queued <= MAX_UNASKED + 1, "{queued}");
        assert!(c.expire(later));
        assert_eq!((c.entries.len(), c.n_unasked, c.unasked.len()), (0, 0, 0));
        assert_eq!(c.due, None);
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
