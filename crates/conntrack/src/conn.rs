//! One connection: two cache lines. What packets of all connections need is in the first; the second has TCP's windows,
//! labels, and what differs where addresses are translated.

use ferrovs_datapath::conntrack::{CtEntry, CtTuple};

use crate::alg::Helper;
use crate::extract::{Key, is_query};
use crate::tcp::{self, Tcp, Verdict};
use crate::timeouts::{Class, DEFAULT_POLICY};
use crate::tuple::{Addr, Tuple, addr4};

/// How far a connection has come; that of TCP is in [`Tcp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Tcp,
    IcmpAsked,
    IcmpReplied,
    /// Of a protocol without states: one packet.
    First,
    /// Several packets of one side.
    Single,
    /// Both sides have spoken.
    Multiple,
}

impl State {
    /// That of a connection which `key`'s packet begins, and its class; none if it cannot begin one.
    pub fn begin(key: &Key) -> Option<(State, Class)> {
        let t = &key.tuple;
        if t.proto == ferrovs_packet::types::ip_proto::TCP {
            return tcp::can_begin(&key.tcp).then_some((State::Tcp, Class::TcpFirst));
        }
        if t.is_icmp() && (t.src_l4 | t.dst_l4) != 0 {
            let state = (State::IcmpAsked, Class::IcmpFirst);
            return is_query(t.ipv6, (t.src_l4 >> 8) as u8).then_some(state);
        }
        Some((State::First, Class::OtherFirst))
    }
}

/// Bits of [`Conn::flags`].
pub mod flag {
    /// The place holds a connection.
    pub const USED: u8 = 1 << 0;
    /// The originator's address is translated.
    pub const SRC_NAT: u8 = 1 << 1;
    /// The destination is translated.
    pub const DST_NAT: u8 = 1 << 2;
    pub const NAT: u8 = SRC_NAT | DST_NAT;
    /// Another connection announced this one.
    pub const RELATED: u8 = 1 << 3;
    /// There is an entry for the reply in the index.
    pub const ALIASED: u8 = 1 << 4;
    /// Labels have been set.
    pub const LABELED: u8 = 1 << 5;
    /// It has extras.
    pub const EXTRA: u8 = 1 << 6;
    /// It has a policy other than the default one.
    pub const POLICY: u8 = 1 << 7;
}

/// What few connections have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// The connection that announced this one.
    pub parent: Option<Tuple>,
    /// By how much the payload of either side grew, and the sequence numbers from which on.
    pub shift: [Shift; 2],
    /// The tuple of replies where it is neither the original one reversed nor IPv4.
    reply: Option<Tuple>,
}

/// How the sequence numbers of one side differ behind a helper that changed the length of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Where the last change was, in the sender's numbers.
    pub at: u32,
    pub before: i32,
    pub after: i32,
}

/// Ends of the replies of a translated IPv4 connection: what else is in their tuple is as in the original one.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    addrs: [[u8; 4]; 2],
    /// Ports or identifiers.
    ports: [u16; 2],
}

/// See the module's text.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Conn {
    pub orig: Tuple,
    pub mark: u32,
    /// Which of the connections that have had this place it is.
    pub serial: u32,
    pub flags: u8,
    pub helper: Helper,
    state: State,
    /// Milliseconds of the tracker's time.
    pub expires: u64,

    tcp: Tcp,
    labels: [u8; 16],
    policy: u32,
    reply: Ends,
    extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Conn>() == 128 && std::mem::offset_of!(Conn, tcp) == 64);

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            orig: Tuple::default(),
            mark: 0,
            serial: 0,
            flags: 0,
            helper: Helper::None,
            state: State::First,
            expires: 0,
            tcp: Tcp::NONE,
            labels: [0; 16],
            policy: DEFAULT_POLICY,
            reply: Ends::default(),
            extra: None,
        }
    }
}

impl Conn {
    /// The one that a packet begins, without a translation.
    pub fn new(key: &Key, state: State) -> Conn {
        Conn {
            orig: key.tuple,
            state,
            tcp: match state {
                State::Tcp => Tcp::begin(&key.tcp),
                _ => Tcp::NONE,
            },
            ..Conn::default()
        }
    }

    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Which direction packets with the tuple have: whether that of replies. None if they are not of this one.
    #[inline]
    pub fn direction_of(&self, t: &Tuple) -> Option<bool> {
        match self.flags & (flag::USED | flag::NAT) {
            flag::USED => self.orig.direction_of(t),
            flags if flags & flag::USED != 0 => self.translated_direction_of(t),
            _ => None,
        }
    }

    #[inline(never)]
    fn translated_direction_of(&self, t: &Tuple) -> Option<bool> {
        match self.orig == *t {
            true => Some(false),
            false => (self.reply() == *t).then_some(true),
        }
    }

    /// The tuple of its replies.
    pub fn reply(&self) -> Tuple {
        let plain = self.orig.reversed();
        if !self.has(flag::NAT) {
            return plain;
        }
        if plain.ipv6 {
            return self.extra().and_then(|e| e.reply).unwrap_or(plain);
        }
        let Ends { addrs, ports } = self.reply;
        let mut reply = plain;
        (reply.src, reply.dst) = (addr4(&addrs[0]), addr4(&addrs[1]));
        reply.set_src_port(ports[0]);
        reply.set_dst_port(ports[1]);
        reply
    }

    /// Sets the tuple of its replies, which translation, as `flags` say, makes another than the reverse of its own.
    pub fn set_reply(&mut self, reply: &Tuple, flags: u8) {
        self.flags |= flags;
        if reply.ipv6 {
            self.extra_mut().reply = Some(*reply);
            return;
        }
        let four = |a: &Addr| [a[0], a[1], a[2], a[3]];
        self.reply = Ends {
            addrs: [four(&reply.src), four(&reply.dst)],
            ports: [reply.src_port(), reply.dst_port()],
        };
    }

    #[inline]
    pub fn extra(&self) -> Option<&Extra> {
        match self.has(flag::EXTRA) {
            true => self.extra.as_deref(),
            false => None,
        }
    }

    pub fn extra_mut(&mut self) -> &mut Extra {
        self.flags |= flag::EXTRA;
        self.extra.get_or_insert_default()
    }

    #[inline]
    pub fn policy(&self) -> u32 {
        match self.has(flag::POLICY) {
            true => self.policy,
            false => DEFAULT_POLICY,
        }
    }

    pub fn set_policy(&mut self, policy: u32) {
        self.policy = policy;
        if policy != DEFAULT_POLICY {
            self.flags |= flag::POLICY;
        }
    }

    #[inline]
    pub fn labels(&self) -> [u8; 16] {
        match self.has(flag::LABELED) {
            true => self.labels,
            false => [0; 16],
        }
    }

    pub fn set_labels(&mut self, value: &[u8; 16], mask: &[u8; 16]) {
        for (label, (value, mask)) in self.labels.iter_mut().zip(value.iter().zip(mask)) {
            *label = value & mask | *label & !mask;
        }
        self.flags |= flag::LABELED;
    }

    /// Ends it: the place is free.
    pub fn clear(&mut self) {
        if self.has(flag::EXTRA) {
            self.extra = None;
        }
        self.flags = 0;
    }

    /// A further packet.
    #[inline]
    pub fn update(&mut self, key: &Key, reply: bool, checked: bool) -> Verdict {
        let (state, verdict) = match (self.state, reply) {
            (State::Tcp, _) => return self.tcp.update(&key.tcp, reply, checked),
            (State::IcmpReplied, _) | (State::IcmpAsked, true) => {
                (State::IcmpReplied, Verdict::Valid(Class::IcmpReply))
            }
            (State::IcmpAsked, false) => (State::IcmpAsked, Verdict::ValidNew(Class::IcmpFirst)),
            (State::Multiple, _) | (_, true) => {
                (State::Multiple, Verdict::Valid(Class::OtherMultiple))
            }
            _ => (State::Single, Verdict::ValidNew(Class::OtherSingle)),
        };
        self.state = state;
        verdict
    }

    #[inline]
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires <= now_ms
    }

    /// The tuple that keys of flows show: that of the connection which announced this one, if one did.
    #[inline]
    pub fn shown(&self) -> &Tuple {
        let parent = self.extra().and_then(|e| e.parent.as_ref());
        parent.unwrap_or(&self.orig)
    }

    pub fn to_entry(&self, now_ms: u64) -> CtEntry {
        let parent = self.extra().and_then(|e| e.parent);
        CtEntry {
            orig: self.orig.to_entry(),
            reply: self.reply().to_entry(),
            parent: parent.map(Tuple::to_entry as fn(Tuple) -> CtTuple),
            zone: self.orig.zone,
            mark: self.mark,
            labels: self.labels(),
            timeout_s: (self.expires.saturating_sub(now_ms) / 1000) as u32,
            tcp: (self.state == State::Tcp).then(|| self.tcp.to_entry()),
            helper: self.helper.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translated_connection_knows_its_replies() {
        let udp = Tuple {
            src: addr4(&[10, 0, 0, 1]),
            dst: addr4(&[10, 0, 0, 2]),
            src_l4: 1000,
            dst_l4: 80,
            zone: 5,
            proto: 17,
            ipv6: false,
        };
        let ping = Tuple {
            src_l4: 7 << 16 | 8 << 8,
            dst_l4: 7 << 16,
            proto: 1,
            ..udp
        };
        let six = Tuple {
            src: [1; 16],
            dst: [2; 16],
            ipv6: true,
            ..udp
        };
        for orig in [udp, ping, six] {
            let mut conn = Conn {
                orig,
                flags: flag::USED,
                ..Conn::default()
            };
            assert_eq!(conn.reply(), orig.reversed());
            assert_eq!(conn.direction_of(&orig.reversed()), Some(true));
            let mut reply = orig.reversed();
            reply.dst = if orig.ipv6 { [9; 16] } else { addr4(&[9; 4]) };
            reply.set_dst_port(0xfedc);
            reply.set_src_port(0xba98);
            conn.set_reply(&reply, flag::SRC_NAT);
            assert_eq!(conn.reply(), reply);
            assert_eq!(conn.direction_of(&reply), Some(true));
            assert_eq!(conn.direction_of(&orig), Some(false));
            assert_eq!(conn.direction_of(&orig.reversed()), None);
            conn.clear();
            assert_eq!(conn.direction_of(&reply), None);
        }
    }
}
