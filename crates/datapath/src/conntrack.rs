//! Connection tracking, as the commands and the switch see it: a part that a datapath may have.
//!
//! Entries are lent one at a time while the tracker is walked, so that a dump of millions builds nothing and holds up
//! no packet for longer than one part of the table takes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::action::Masked;
use crate::errno::Errno;

/// Addresses and transport identifiers of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtTuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    pub l4: CtL4,
}

/// What a transport protocol tells connections apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtL4 {
    Ports { src: u16, dst: u16 },
    Icmp { id: u16, icmp_type: u8, code: u8 },
}

/// State of one peer of a TCP connection, in the order of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    Closed,
    Listen,
    SynSent,
    SynRecv,
    Established,
    CloseWait,
    FinWait1,
    Closing,
    LastAck,
    FinWait2,
    TimeWait,
}

impl TcpState {
    pub const ALL: [TcpState; 11] = [
        TcpState::Closed,
        TcpState::Listen,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::Established,
        TcpState::CloseWait,
        TcpState::FinWait1,
        TcpState::Closing,
        TcpState::LastAck,
        TcpState::FinWait2,
        TcpState::TimeWait,
    ];

    pub fn name(self) -> &'static str {
        match self {
            TcpState::Closed => "CLOSED",
            TcpState::Listen => "LISTEN",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::FinWait1 => "FIN_WAIT_1",
            TcpState::Closing => "CLOSING",
            TcpState::LastAck => "LAST_ACK",
            TcpState::FinWait2 => "FIN_WAIT_2",
            TcpState::TimeWait => "TIME_WAIT",
        }
    }
}

/// Bits of [`CtPeer::flags`]: the peer scales its window; its sequence numbers are checked leniently.
pub const TCPF_WINDOW_SCALE: u8 = 1 << 0;
pub const TCPF_BE_LIBERAL: u8 = 1 << 2;

/// What is known of one peer of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtPeer {
    pub state: TcpState,
    pub wscale: u8,
    pub flags: u8,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtEntry {
    pub orig: CtTuple,
    pub reply: CtTuple,
    /// The connection that announced this one.
    pub parent: Option<CtTuple>,
    pub zone: u16,
    pub mark: u32,
    pub labels: [u8; 16],
    /// Seconds until it expires.
    pub timeout_s: u32,
    /// Both peers of a TCP connection: that of the originator first.
    pub tcp: Option<[CtPeer; 2]>,
    /// Name of the helper that watches it.
    pub helper: Option<&'static str>,
}

/// A connection that a helper has seen announced. From which port it will come is not known: it is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtExpectation {
    pub orig: CtTuple,
    pub parent: CtTuple,
    pub zone: u16,
}

/// Which connections to forget; all conditions hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtFilter {
    pub zone: Option<u16>,
    pub mark: Option<Masked<u32>>,
    pub labels: Option<Masked<[u8; 16]>>,
    pub orig: CtPattern,
    pub reply: CtPattern,
}

/// A tuple of which only some parts are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtPattern {
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    pub proto: Option<u8>,
    pub tp_src: Option<u16>,
    pub tp_dst: Option<u16>,
    pub icmp_id: Option<u16>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
}

impl fmt::Display for CtFilter {
    /// As the log tells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = CtFilter {
            zone: self.zone,
            ..CtFilter::default()
        };
        if *self == plain {
            return match self.zone {
                Some(zone) => write!(f, "zone {zone}"),
                None => f.write_str("<all>"),
            };
        }
        write!(f, "zone={}", self.zone.unwrap_or(0))?;
        if let Some(Masked { value, mask }) = self.mark {
            write!(f, " mark={value:#x}")?;
            if mask != u32::MAX {
                write!(f, "/{mask:#x}")?;
            }
        }
        if let Some(m) = self.labels {
            write!(f, " labels={:#x}", u128::from_be_bytes(m.value))?;
            if m.mask != [0xff; 16] {
                write!(f, "/{:#x}", u128::from_be_bytes(m.mask))?;
            }
        }
        let addrs = [self.orig.src, self.orig.dst, self.reply.src, self.reply.dst];
        let family = match addrs.iter().flatten().any(IpAddr::is_ipv4) {
            true => "nw",
            false => "ipv6",
        };
        let icmp = matches!(self.orig.proto, Some(1 | 58));
        f.write_str(" '")?;
        self.orig.write(f, family, icmp)?;
        write!(f, ",ct_nw_proto={}' '", self.orig.proto.unwrap_or(0))?;
        self.reply.write(f, family, icmp)?;
        f.write_str("'")
    }
}

impl CtPattern {
    fn write(&self, f: &mut fmt::Formatter<'_>, family: &str, icmp: bool) -> fmt::Result {
        let addr = |a: Option<IpAddr>| a.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let (src, dst) = (addr(self.src), addr(self.dst));
        write!(f, "ct_{family}_src={src},ct_{family}_dst={dst},")?;
        if icmp {
            let (ty, code) = (self.icmp_type.unwrap_or(0), self.icmp_code.unwrap_or(0));
            let id = self.icmp_id.unwrap_or(0);
            return write!(f, "icmp_id={id},icmp_type={ty},icmp_code={code}");
        }
        let (src, dst) = (self.tp_src.unwrap_or(0), self.tp_dst.unwrap_or(0));
        write!(f, "ct_tp_src={src},ct_tp_dst={dst}")
    }

    /// Whether it names exactly one tuple.
    pub fn is_exact(&self) -> bool {
        let ends = self.src.is_some() && self.dst.is_some();
        ends && match self.proto {
            Some(1 | 58) => self.icmp_id.is_some(),
            Some(_) => self.tp_src.is_some() && self.tp_dst.is_some(),
            None => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == CtPattern::default()
    }

    pub fn matches(&self, t: &CtTuple) -> bool {
        let l4 = match t.l4 {
            CtL4::Ports { src, dst } => {
                self.tp_src.is_none_or(|p| p == src) && self.tp_dst.is_none_or(|p| p == dst)
            }
            CtL4::Icmp {
                id,
                icmp_type,
                code,
            } => {
                self.icmp_id.is_none_or(|i| i == id)
                    && self.icmp_type.is_none_or(|i| i == icmp_type)
                    && self.icmp_code.is_none_or(|i| i == code)
            }
        };
        l4 && self.src.is_none_or(|a| a == t.src)
            && self.dst.is_none_or(|a| a == t.dst)
            && self.proto.is_none_or(|p| p == t.proto)
    }
}

/// Limit of a zone and how many connections count towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtZoneLimit {
    pub zone: u16,
    /// 0 for none.
    pub limit: u32,
    pub count: u32,
}

/// Times after which an idle connection is forgotten, by what it has come to. What is absent is as by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtTimeouts(pub [Option<u32>; CT_TIMEOUTS.len()]);

/// Names of the members of [`CtTimeouts`], in order: those of the database.
pub const CT_TIMEOUTS: [&str; 16] = [
    "tcp_syn_sent",
    "tcp_syn_recv",
    "tcp_established",
    "tcp_fin_wait",
    "tcp_close_wait",
    "tcp_last_ack",
    "tcp_time_wait",
    "tcp_close",
    "tcp_syn_sent2",
    "tcp_retransmit",
    "tcp_unack",
    "udp_first",
    "udp_single",
    "udp_multiple",
    "icmp_first",
    "icmp_reply",
];

/// Versions of IP, where they are handled apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    V4,
    V6,
}

/// Counters of reassembly of one version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragCounters {
    pub accepted: u64,
    pub completed: u64,
    pub expired: u64,
    pub too_small: u64,
    pub overlapped: u64,
    pub purged: u64,
}

/// State of reassembly of one version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragFamily {
    pub enabled: bool,
    pub min_size: u32,
    pub counters: FragCounters,
}

/// State of reassembly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragStatus {
    pub v4: FragFamily,
    pub v6: FragFamily,
    pub max_frags: u32,
    /// How many wait.
    pub frags: u32,
    pub lists: Vec<FragList>,
}

/// Fragments of one packet that wait for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragList {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub recirc_id: u32,
    pub id: u32,
    pub zone: u16,
    pub proto: u8,
    pub frags: u32,
    pub has_first: bool,
    pub has_last: bool,
}

/// Connection tracking of a datapath. Methods can be called from any thread.
pub trait Conntrack: Send + Sync {
    /// Shows the connections, of one zone or all, one part of the table at a time: those that come and go meanwhile
    /// may or may not be seen.
    fn dump(&self, zone: Option<u16>, now: Instant, visit: &mut dyn FnMut(&CtEntry));
    /// Connections that were announced.
    fn expectations(&self, zone: Option<u16>) -> Vec<CtExpectation>;
    /// Forgets connections that match; returns how many.
    fn flush(&self, filter: &CtFilter) -> usize;

    /// Number of connections, and the most that there may be.
    fn count(&self) -> u32;
    fn max_count(&self) -> u32;
    fn set_max_count(&self, max: u32);

    /// Whether segments outside of the window are invalid.
    fn checks_tcp_sequence(&self) -> bool;
    fn check_tcp_sequence(&self, on: bool);

    /// Time in which all connections are looked through for those that have expired.
    fn sweep_interval_ms(&self) -> u32;
    fn set_sweep_interval_ms(&self, ms: u32);

    /// The limit of zones that have none of their own; 0 for none.
    fn default_limit(&self) -> u32;
    /// Sets it, or a zone's own.
    fn set_limit(&self, zone: Option<u16>, limit: u32);
    /// Takes it away.
    fn delete_limit(&self, zone: Option<u16>);
    /// What holds for a zone, or for all that have a limit of their own.
    fn limits(&self, zone: Option<u16>) -> Vec<CtZoneLimit>;

    /// Says whether the limits are configured elsewhere, so that commands are not to change them.
    fn protect_limits(&self, on: bool);
    fn limits_are_protected(&self) -> bool;

    /// Sets the timeouts that connections of a policy have, or takes the policy away.
    fn set_timeouts(&self, policy: u32, timeouts: Option<&CtTimeouts>);

    fn frag_status(&self) -> FragStatus;
    fn enable_frags(&self, version: IpVersion, on: bool);
    /// Sets the size below which fragments, the last excepted, are refused.
    fn set_min_frag(&self, version: IpVersion, size: u32) -> Result<(), Errno>;
    /// Sets how many fragments may wait.
    fn set_max_frags(&self, max: u32) -> Result<(), Errno>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_told_in_words() {
        let mut f = CtFilter::default();
        assert_eq!(f.to_string(), "<all>");
        f.zone = Some(7);
        assert_eq!(f.to_string(), "zone 7");
        f.mark = Some(Masked { value: 1, mask: 3 });
        let (mut value, mut mask) = ([0; 16], [0; 16]);
        (value[15], mask[15]) = (5, 15);
        f.labels = Some(Masked { value, mask });
        f.orig.src = Some(IpAddr::from([10, 1, 1, 1]));
        f.orig.proto = Some(6);
        assert_eq!(
            f.to_string(),
            "zone=7 mark=0x1/0x3 labels=0x5/0xf 'ct_nw_src=10.1.1.1,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=0,\
             ct_nw_proto=6' 'ct_nw_src=::,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=0'"
        );
    }
}
