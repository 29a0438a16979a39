//! One connection: three cache lines, of which packets of a connection without translation touch two.

use ferrovs_datapath::conntrack::{CtEntry, CtTuple};

use crate::alg::Helper;
use crate::extract::{Key, is_query};
use crate::tcp::{self, Tcp, Verdict};
use crate::timeouts::{Class, DEFAULT_POLICY};
use crate::tuple::Tuple;

/// What is known beyond the tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    Tcp(Tcp),
    Icmp { replied: bool },
    Other { state: Other },
}

/// How far a connection of a protocol without states has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    First,
    /// Several packets of one side.
    Single,
    /// Both sides have spoken.
    Multiple,
}

impl Proto {
    /// That of a connection which `key`'s packet begins, and its class; none if it cannot begin one.
    pub fn begin(key: &Key) -> Option<(Proto, Class)> {
        let t = &key.tuple;
        if t.proto == ferrovs_packet::types::ip_proto::TCP {
            let state = || (Proto::Tcp(Tcp::begin(&key.tcp)), Class::TcpFirst);
            return tcp::can_begin(&key.tcp).then(state);
        }
        if t.is_icmp() && t.src_l4 != 0 {
            let state = (Proto::Icmp { replied: false }, Class::IcmpFirst);
            return is_query(t.ipv6, (t.src_l4 >> 8) as u8).then_some(state);
        }
        let state = Other::First;
        Some((Proto::Other { state }, Class::OtherFirst))
    }

    /// A further packet.
    #[inline]
    pub fn update(&mut self, key: &Key, reply: bool, checked: bool) -> Verdict {
        match self {
            Proto::Tcp(tcp) => tcp.update(&key.tcp, reply, checked),
            Proto::Icmp { replied } => {
                *replied |= reply;
                match replied {
                    true => Verdict::Valid(Class::IcmpReply),
                    false => Verdict::ValidNew(Class::IcmpFirst),
                }
            }
            Proto::Other { state } => {
                *state = match (*state, reply) {
                    (Other::Multiple, _) | (_, true) => Other::Multiple,
                    _ => Other::Single,
                };
                match state {
                    Other::Multiple => Verdict::Valid(Class::OtherMultiple),
                    _ => Verdict::ValidNew(Class::OtherSingle),
                }
            }
        }
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
}

/// What few connections have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// The connection that announced this one.
    pub parent: Option<Tuple>,
    /// By how much the payload of either side grew, and the sequence numbers from which on.
    pub shift: [Shift; 2],
}

/// How the sequence numbers of one side differ behind a helper that changed the length of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Where the last change was, in the sender's numbers.
    pub at: u32,
    pub before: i32,
    pub after: i32,
}

/// See the module's text.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Conn {
    pub orig: Tuple,
    pub mark: u32,
    /// Milliseconds of the tracker's time.
    pub expires: u64,
    pub flags: u8,
    pub helper: Helper,
    pub policy: u32,

    pub proto: Proto,
    pub labels: [u8; 16],
    /// Which of the connections that have had this place it is.
    pub serial: u32,

    pub reply: Tuple,
    pub extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Conn>() == 192);

impl Default for Conn {
    fn default() -> Conn {
        Conn {
            orig: Tuple::default(),
            mark: 0,
            expires: 0,
            flags: 0,
            helper: Helper::None,
            policy: DEFAULT_POLICY,
            proto: Proto::Icmp { replied: false },
            labels: [0; 16],
            serial: 0,
            reply: Tuple::default(),
            extra: None,
        }
    }
}

impl Conn {
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Which direction packets with the tuple have: whether that of replies. None if they are not of this one.
    #[inline]
    pub fn direction_of(&self, t: &Tuple) -> Option<bool> {
        if !self.has(flag::USED) {
            None
        } else if self.orig == *t {
            Some(false)
        } else {
            let is_reply = match self.has(flag::NAT) {
                true => self.reply == *t,
                false => self.orig.reversed() == *t,
            };
            is_reply.then_some(true)
        }
    }

    #[inline]
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires <= now_ms
    }

    /// The tuple that keys of flows show: that of the connection which announced this one, if one did.
    #[inline]
    pub fn shown(&self) -> &Tuple {
        let parent = self.extra.as_ref().and_then(|e| e.parent.as_ref());
        parent.unwrap_or(&self.orig)
    }

    pub fn to_entry(&self, now_ms: u64) -> CtEntry {
        let parent = self.extra.as_ref().and_then(|e| e.parent);
        CtEntry {
            orig: self.orig.to_entry(),
            reply: self.reply.to_entry(),
            parent: parent.map(Tuple::to_entry as fn(Tuple) -> CtTuple),
            zone: self.orig.zone,
            mark: self.mark,
            labels: self.labels,
            timeout_s: (self.expires.saturating_sub(now_ms) / 1000) as u32,
            tcp: match self.proto {
                Proto::Tcp(tcp) => Some(tcp.to_entry()),
                _ => None,
            },
            helper: self.helper.name(),
        }
    }
}
