//! Which addresses and ports a translated connection gets.
//!
//! The address is one of the range that the hash of the connection says, so that the load spreads; with `persistent`
//! the hash is that of the originator's address alone and the same after a restart, with `random` it is none. Where
//! no range of ports is given a port stays what it is, if it can; if not, the next of its class is tried (1 to 511,
//! 600 to 1023, 1024 and up: RFC 4787, REQ-3 wants well-known ports to stay so). What ICMP queries have instead of
//! ports is their identifier.
//!
//! At most so many ports are tried at an address, at further places each time, and so many in all at the addresses behind
//! it, that a full range costs bounded work: whoever floods it makes each of his packets cost that much.

use ferrovs_datapath::action::{Nat, NatKind};
use ferrovs_packet::hash::mix;

use crate::tuple::{Addr, Tuple, addr4};

/// Ports that are tried one after the other, at first: at the address that the hash says, and at each further one.
const MAX_ATTEMPTS: [u32; 2] = [128, 16];
/// What is tried in all, from the second address on.
const MAX_FURTHER: u32 = 32;

/// A range of ports that is walked from somewhere in it, and perhaps one outside of it that comes before.
#[derive(Clone, Copy)]
struct Ports {
    min: u16,
    max: u16,
    first: u16,
    before: Option<u16>,
}

impl Ports {
    fn len(self) -> u32 {
        u32::from(self.max - self.min) + 1
    }

    fn only(port: u16) -> Ports {
        Ports {
            min: port,
            max: port,
            first: port,
            before: None,
        }
    }

    /// That port, which may be in none, and all ports of its class from it on.
    fn class_of(port: u16) -> Ports {
        let (min, max) = match port {
            0..=511 => (1, 511),
            512..=1023 => (600, 1023),
            _ => (1024, u16::MAX),
        };
        let first = port.clamp(min, max);
        Ports {
            min,
            max,
            first,
            before: (first != port).then_some(port),
        }
    }

    /// Tries ports until one is free, `attempts` one after the other at first; `random` says where to go on when a part
    /// of a large range was full.
    fn search(
        self,
        attempts: u32,
        random: &mut dyn FnMut() -> u32,
        free: &mut dyn FnMut(u16) -> bool,
    ) -> bool {
        if self.before.is_some_and(&mut *free) {
            return true;
        }
        let len = self.len();
        let mut attempts = len.min(attempts);
        let mut at = u32::from(self.first - self.min);
        loop {
            for i in 0..attempts {
                let port = self.min + ((at + i) % len) as u16;
                if free(port) {
                    return true;
                }
            }
            if attempts == len || attempts < 16 {
                return false;
            }
            attempts /= 2;
            at = random() % len;
        }
    }
}

/// A range of addresses.
struct Addrs {
    ipv6: bool,
    min: u128,
    len: u128,
}

fn number(a: &Addr, ipv6: bool) -> u128 {
    match ipv6 {
        true => u128::from_be_bytes(*a),
        false => u32::from_be_bytes([a[0], a[1], a[2], a[3]]).into(),
    }
}

impl Addrs {
    fn of(nat: &Nat, ipv6: bool) -> Option<Addrs> {
        let read = |a: &Addr| match ipv6 {
            true => number(a, true),
            // Actions have IPv4 addresses at the end.
            false => number(&addr4(&a[12..]), false),
        };
        let (min, max) = (read(&nat.ip_min), read(&nat.ip_max));
        let max = max.max(min);
        (min != 0).then_some(Addrs {
            ipv6,
            min,
            len: (max - min).saturating_add(1),
        })
    }

    fn get(&self, i: u128) -> Addr {
        let n = self.min + i % self.len;
        match self.ipv6 {
            true => n.to_be_bytes(),
            false => addr4(&(n as u32).to_be_bytes()),
        }
    }
}

fn hash(orig: &Tuple, nat: &Nat, key: u64, random: &mut dyn FnMut() -> u32) -> u64 {
    if nat.random {
        return u64::from(random()) << 32 | u64::from(random());
    }
    let words = |a: &Addr| {
        let n = number(a, true);
        mix(n as u64, (n >> 64) as u64)
    };
    match nat.persistent {
        true => words(&orig.src),
        false => {
            let ports = u64::from(orig.src_l4) << 32 | u64::from(orig.dst_l4);
            mix(mix(mix(key, words(&orig.src)), words(&orig.dst)), ports)
        }
    }
}

/// Looks for the tuple of the replies of a connection: the first for which `free` says that nobody has it, and which
/// then is the connection's. None when there is none.
pub fn choose(
    orig: &Tuple,
    nat: &Nat,
    key: u64,
    random: &mut dyn FnMut() -> u32,
    free: &mut dyn FnMut(&Tuple) -> bool,
) -> Option<Tuple> {
    let mut reply = orig.reversed();
    let hash = hash(orig, nat, key, random);
    let source = nat.kind == NatKind::Src;
    let addrs = match nat.ipv6 == orig.ipv6 {
        true => Addrs::of(nat, orig.ipv6),
        false => None,
    };
    let icmp = orig.is_icmp();
    let range = (nat.port_min != 0).then(|| {
        let (min, max) = (nat.port_min, nat.port_max.max(nat.port_min));
        let len = u32::from(max - min) + 1;
        let first = min + ((hash >> 32) % u64::from(len)) as u16;
        Ports {
            min,
            max,
            first,
            before: None,
        }
    });
    let sports = match range {
        Some(range) if source => range,
        _ => Ports::class_of(orig.src_port()),
    };
    let dports = match range {
        Some(range) if !source => range,
        _ => Ports::only(orig.dst_port()),
    };
    let n_addrs = addrs.as_ref().map_or(1, |a| a.len);
    let mut further = 0;
    for i in 0..n_addrs {
        if further >= MAX_FURTHER {
            break;
        }
        let mut free = |t: &Tuple| {
            further += u32::from(i > 0);
            free(t)
        };
        let attempts = MAX_ATTEMPTS[usize::from(i > 0)];
        if let Some(addrs) = &addrs {
            let addr = addrs.get(u128::from(hash) % addrs.len + i);
            *(if source {
                &mut reply.dst
            } else {
                &mut reply.src
            }) = addr;
        }
        let has_id = icmp && (orig.src_l4 | orig.dst_l4) != 0;
        if !(orig.has_ports() || has_id) {
            if free(&reply) {
                return Some(reply);
            }
            continue;
        }
        if icmp {
            // Both ends have the one identifier.
            let found = sports.search(attempts, random, &mut |id| {
                reply.set_dst_port(id);
                reply.set_src_port(id);
                free(&reply)
            });
            if found {
                return Some(reply);
            }
            continue;
        }
        let found = !source
            && dports.search(attempts, random, &mut |port| {
                reply.src_l4 = port.into();
                free(&reply)
            });
        if found {
            return Some(reply);
        }
        reply.src_l4 = dports.first.into();
        let found = sports.search(attempts, random, &mut |port| {
            reply.dst_l4 = port.into();
            free(&reply)
        });
        if found {
            return Some(reply);
        }
        reply.dst_l4 = orig.src_l4;
    }
    None
}

/// Moves the port of a reply's destination to one that is free, as [`choose`] does for the source.
pub fn next_port(
    reply: &mut Tuple,
    random: &mut dyn FnMut() -> u32,
    free: &mut dyn FnMut(&Tuple) -> bool,
) -> bool {
    let ports = Ports::class_of(reply.dst_l4 as u16);
    ports.search(MAX_ATTEMPTS[0], random, &mut |port| {
        reply.dst_l4 = port.into();
        free(reply)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn orig(port: u16) -> Tuple {
        Tuple {
            src: addr4(&[10, 0, 0, 1]),
            dst: addr4(&[10, 0, 0, 2]),
            src_l4: port.into(),
            dst_l4: 80,
            zone: 1,
            proto: 17,
            ipv6: false,
        }
    }

    fn v4(a: [u8; 4]) -> [u8; 16] {
        let mut out = [0; 16];
        out[12..].copy_from_slice(&a);
        out
    }

    fn nat(kind: NatKind, last: [u8; 2], ports: [u16; 2]) -> Nat {
        Nat {
            kind,
            ip_min: v4([10, 1, 1, last[0]]),
            ip_max: v4([10, 1, 1, last[1]]),
            port_min: ports[0],
            port_max: ports[1],
            ..Nat::default()
        }
    }

    fn pick(orig: &Tuple, nat: &Nat, taken: &mut HashSet<Tuple>) -> Option<Tuple> {
        let mut n = 0;
        let random = &mut || {
            n += 7919;
            n
        };
        choose(orig, nat, 1, random, &mut |t| taken.insert(*t))
    }

    #[test]
    fn all_of_a_range_is_used_and_then_there_is_none() {
        let mut taken = HashSet::new();
        let nat = nat(NatKind::Src, [1, 2], [5000, 5003]);
        for port in 1..=8 {
            let r = pick(&orig(port), &nat, &mut taken).unwrap();
            assert!((5000..=5003).contains(&r.dst_l4) && r.src == orig(1).dst);
        }
        assert_eq!(taken.len(), 8);
        assert_eq!(pick(&orig(9), &nat, &mut taken), None);
    }

    #[test]
    fn a_port_stays_if_it_can_and_else_in_its_class() {
        let mut taken = HashSet::new();
        let nat = nat(NatKind::Src, [1, 1], [0, 0]);
        for (port, want) in [
            (1000, 1000),
            (1000, 1001),
            (100, 100),
            (100, 101),
            (1023, 1023),
            (1023, 600),
            (511, 511),
            (511, 1),
            (65535, 65535),
            (65535, 1024),
            // In no class.
            (550, 550),
            (550, 601),
            (0, 0),
            (0, 2),
        ] {
            let r = pick(&orig(port), &nat, &mut taken);
            assert_eq!(r.map(|r| r.dst_l4), Some(want), "{port}");
        }
    }

    #[test]
    fn a_destination_that_is_taken_moves_the_source() {
        let mut taken = HashSet::new();
        let nat = nat(NatKind::Dst, [1, 1], [5000, 5000]);
        let r = pick(&orig(1000), &nat, &mut taken).unwrap();
        assert_eq!(
            (r.src, r.src_l4, r.dst_l4),
            (addr4(&[10, 1, 1, 1]), 5000, 1000)
        );
        let other = Tuple {
            dst: addr4(&[10, 0, 0, 9]),
            ..orig(1000)
        };
        let r = pick(&other, &nat, &mut taken).unwrap();
        assert_eq!((r.src_l4, r.dst_l4), (5000, 1001));
    }

    #[test]
    fn an_address_of_zeros_changes_ports_alone_and_only_if_it_must() {
        let mut taken = HashSet::new();
        let nat = Nat {
            kind: NatKind::Src,
            ..Nat::default()
        };
        assert_eq!(
            pick(&orig(9000), &nat, &mut taken),
            Some(orig(9000).reversed())
        );
        let r = pick(&orig(9000), &nat, &mut taken).unwrap();
        assert_eq!((r.dst, r.dst_l4), (orig(1).src, 9001));
    }

    #[test]
    fn persistence_goes_by_the_originator_and_work_is_bounded() {
        let wide = Nat {
            persistent: true,
            ..nat(NatKind::Src, [1, 200], [0, 0])
        };
        let mut taken = HashSet::new();
        let first = pick(&orig(2000), &wide, &mut taken).unwrap();
        for port in 2001..2050 {
            assert_eq!(pick(&orig(port), &wide, &mut taken).unwrap().dst, first.dst);
        }
        let mut tries = 0;
        let none = choose(&orig(1), &wide, 1, &mut || 5, &mut |_| {
            tries += 1;
            false
        });
        assert!(none.is_none() && tries <= 248 + 32 + 24, "{tries}");
    }
}
