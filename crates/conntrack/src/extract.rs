//! From a packet to what the tracker needs of it.
//!
//! Relies on the layer offsets that the parser left in the packet. A packet of which no connection can be told (not
//! IP, a fragment, a header cut short, a wrong checksum, an ICMP message that is neither a query nor an error) yields
//! nothing: it is invalid. ICMP errors yield the tuple of the packet that they quote, reversed, so that they are found
//! as the answer that they are (RFC 792, RFC 4443).

use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::checksum::{Sum, checksum, crc32c_add, pseudo_v4, pseudo_v6};
use ferrovs_packet::parse::skip_ipv6_extensions;
use ferrovs_packet::types::ip_proto;

use crate::tuple::{Tuple, addr4};

/// Flags of a TCP header.
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

/// What window tracking looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// Bytes of payload.
    pub len: u32,
    /// Of the window scale option (RFC 7323), in segments with SYN.
    pub wscale: Option<u8>,
}

/// What a packet is to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the packet, or, if `related`, the reverse of the one that it quotes.
    pub tuple: Tuple,
    /// An ICMP error.
    pub related: bool,
    pub tcp: Segment,
}

impl Key {
    pub const NONE: Key = Key {
        tuple: Tuple::NONE,
        related: false,
        tcp: Segment::NONE,
    };
}

impl Segment {
    const NONE: Segment = Segment {
        flags: 0,
        seq: 0,
        ack: 0,
        window: 0,
        len: 0,
        wscale: None,
    };
}

/// Why a packet is invalid, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    NotIp,
    NetworkHeader,
    NetworkChecksum,
    Fragment,
    TransportHeader,
    TransportChecksum,
    /// An ICMP message that belongs to no connection.
    Icmp,
}

fn u16_at(data: &[u8], ofs: usize) -> u16 {
    u16::from_be_bytes([data[ofs], data[ofs + 1]])
}

fn u32_at(data: &[u8], ofs: usize) -> u32 {
    u32::from_be_bytes([data[ofs], data[ofs + 1], data[ofs + 2], data[ofs + 3]])
}

/// Where the transport header of a network packet begins, and where the packet ends.
struct Network {
    l4: usize,
    end: usize,
}

/// Reads a network header and puts protocol and addresses into a tuple. `data` may go on behind the packet; a packet
/// that is quoted may be cut short.
fn network(data: &[u8], quoted: bool, tuple: &mut Tuple) -> Result<Network, Invalid> {
    match data.first().map(|b| b >> 4) {
        Some(4) => {
            let h = data.first_chunk::<20>().ok_or(Invalid::NetworkHeader)?;
            let l4 = usize::from(h[0] & 15) * 4;
            let end = usize::from(u16_at(h, 2));
            let end = if quoted { end.min(data.len()) } else { end };
            if l4 < 20 || l4 > end || end > data.len() {
                return Err(Invalid::NetworkHeader);
            }
            if !quoted && checksum(&data[..l4]) != 0 {
                return Err(Invalid::NetworkChecksum);
            }
            if u16_at(h, 6) & 0x3fff != 0 {
                return Err(Invalid::Fragment);
            }
            (tuple.src, tuple.dst) = (addr4(&h[12..]), addr4(&h[16..]));
            (tuple.proto, tuple.ipv6) = (h[9], false);
            Ok(Network { l4, end })
        }
        Some(6) => {
            let h = data.first_chunk::<40>().ok_or(Invalid::NetworkHeader)?;
            let end = 40 + usize::from(u16_at(h, 4));
            let end = if quoted { end.min(data.len()) } else { end };
            if end > data.len() {
                return Err(Invalid::NetworkHeader);
            }
            let (proto, l4, frag) =
                skip_ipv6_extensions(&data[..end]).ok_or(Invalid::NetworkHeader)?;
            if frag != 0 {
                return Err(Invalid::Fragment);
            }
            tuple.src.copy_from_slice(&h[8..24]);
            tuple.dst.copy_from_slice(&h[24..40]);
            (tuple.proto, tuple.ipv6) = (proto, true);
            Ok(Network { l4, end })
        }
        _ => Err(Invalid::NotIp),
    }
}

/// The type of message that answers one; none for one that is no query.
fn answer_to(ipv6: bool, icmp_type: u8) -> Option<u8> {
    Some(match (ipv6, icmp_type) {
        (false, 8) => 0,
        (false, 0) => 8,
        (false, 13) => 14,
        (false, 14) => 13,
        (false, 15) => 16,
        (false, 16) => 15,
        (true, 128) => 129,
        (true, 129) => 128,
        _ => return None,
    })
}

/// Whether the first packet of a connection can be such a message.
pub fn is_query(ipv6: bool, icmp_type: u8) -> bool {
    match ipv6 {
        false => matches!(icmp_type, 8 | 13 | 15),
        true => icmp_type == 128,
    }
}

fn is_error(ipv6: bool, icmp_type: u8) -> bool {
    match ipv6 {
        false => matches!(icmp_type, 3 | 4 | 5 | 11 | 12),
        true => matches!(icmp_type, 1..=4),
    }
}

/// Whether an SCTP header is there, and the first chunk behind it as long as it says (RFC 9260, section 3).
fn is_sctp(l4: &[u8]) -> bool {
    l4.len() >= 12
        && l4.get(12..16).is_none_or(|chunk| {
            let len = usize::from(u16_at(chunk, 2));
            len >= 4 && 12 + len <= l4.len()
        })
}

/// Adds to the tuple the ports at the beginning of a transport header. Nobody has port 0.
fn ports(tuple: &mut Tuple, l4: &[u8]) -> Result<(), Invalid> {
    (tuple.src_l4, tuple.dst_l4) = (u16_at(l4, 0).into(), u16_at(l4, 2).into());
    match tuple.src_l4 != 0 && tuple.dst_l4 != 0 {
        true => Ok(()),
        false => Err(Invalid::TransportHeader),
    }
}

/// Adds to the tuple what the transport header says. What is quoted has its first eight bytes at least; all of TCP's
/// where ICMPv6 quotes it, which quotes as much as there is room for (RFC 4443, section 3).
fn transport(tuple: &mut Tuple, l4: &[u8], quoted: bool) -> Result<(), Invalid> {
    let short = Err(Invalid::TransportHeader);
    match tuple.proto {
        ip_proto::TCP => {
            let least = if quoted && tuple.ipv6 { 20 } else { 8 };
            if l4.len() < least {
                return short;
            }
            if !quoted {
                let header = l4.get(12).map_or(0, |b| usize::from(b >> 4) * 4);
                if header < 20 || header > l4.len() {
                    return short;
                }
            }
            ports(tuple, l4)?;
        }
        ip_proto::UDP => {
            if l4.len() < 8 {
                return short;
            }
            let len = usize::from(u16_at(l4, 4));
            if !quoted && (len < 8 || len != l4.len()) {
                return short;
            }
            ports(tuple, l4)?;
        }
        ip_proto::SCTP => {
            if l4.len() < 8 || !quoted && !is_sctp(l4) {
                return short;
            }
            ports(tuple, l4)?;
        }
        proto if proto == icmp_of(tuple.ipv6) => {
            if l4.len() < 8 {
                return short;
            }
            let (ty, code) = (l4[0], l4[1]);
            let answer = answer_to(tuple.ipv6, ty).filter(|_| code == 0);
            let answer = answer.ok_or(Invalid::Icmp)?;
            let id = u32::from(u16_at(l4, 4)) << 16;
            tuple.src_l4 = id | u32::from(ty) << 8;
            tuple.dst_l4 = id | u32::from(answer) << 8;
        }
        // Of the others there is one connection between two hosts.
        _ => {}
    }
    Ok(())
}

fn icmp_of(ipv6: bool) -> u8 {
    match ipv6 {
        false => ip_proto::ICMP,
        true => ip_proto::ICMPV6,
    }
}

/// Whether the transport checksum holds, where the protocol has one and the sender put one in.
fn sum_holds(t: &Tuple, l4: &[u8]) -> bool {
    let pseudo = || {
        let len = l4.len() as u32;
        match (t.src.first_chunk::<4>(), t.dst.first_chunk::<4>()) {
            (Some(src), Some(dst)) if !t.ipv6 => pseudo_v4(*src, *dst, t.proto, len),
            _ => pseudo_v6(&t.src, &t.dst, t.proto, len),
        }
    };
    match t.proto {
        ip_proto::TCP => pseudo().add(l4).finish() == 0,
        ip_proto::UDP => {
            // Only over IPv4 may it be absent (RFC 768, RFC 8200).
            let absent = l4.len() >= 8 && u16_at(l4, 6) == 0;
            (absent && !t.ipv6) || pseudo().add(l4).finish() == 0
        }
        ip_proto::SCTP if l4.len() >= 12 => {
            let crc = crc32c_add(!0, &l4[..8]);
            let crc = !crc32c_add(crc32c_add(crc, &[0; 4]), &l4[12..]);
            u32::from_le_bytes([l4[8], l4[9], l4[10], l4[11]]) == crc
        }
        ip_proto::ICMP if !t.ipv6 => Sum::ZERO.add(l4).finish() == 0,
        ip_proto::ICMPV6 if t.ipv6 => pseudo().add(l4).finish() == 0,
        _ => true,
    }
}

/// The tuple of the packet that an ICMP error quotes, reversed. Whoever got the error must have sent the packet.
fn quoted(outer: &Tuple, l4: &[u8]) -> Result<Tuple, Invalid> {
    let inner = l4.get(8..).unwrap_or_default();
    let mut t = Tuple::default();
    let net = network(inner, true, &mut t)?;
    if t.src != outer.dst || t.ipv6 != outer.ipv6 {
        return Err(Invalid::Icmp);
    }
    transport(&mut t, &inner[net.l4..net.end], true)?;
    Ok(t.reversed())
}

/// The window scale option.
fn wscale(options: &[u8]) -> Option<u8> {
    let mut rest = options;
    loop {
        match rest {
            [0, ..] | [] => return None,
            [1, after @ ..] => rest = after,
            [3, 3, shift, ..] => return Some((*shift).min(14)),
            [_, len, ..] if *len >= 2 => rest = rest.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

fn segment(l4: &[u8]) -> Segment {
    let Some(h) = l4.first_chunk::<20>() else {
        return Segment::NONE;
    };
    let header = usize::from(h[12] >> 4) * 4;
    let flags = h[13];
    Segment {
        flags,
        seq: u32_at(h, 4),
        ack: u32_at(h, 8),
        window: u16_at(h, 14),
        len: l4.len().saturating_sub(header) as u32,
        wscale: match flags & SYN {
            0 => None,
            _ => l4.get(20..header).and_then(wscale),
        },
    }
}

/// Whether the checksum of an IPv4 header without options holds.
#[inline]
fn header_holds(h: &[u8; 28]) -> bool {
    // The order of bytes does not matter.
    let word = |at: usize| u64::from(u32::from_ne_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]));
    let sum = word(0) + word(4) + word(8) + word(12) + word(16);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

/// Reads what most packets are, TCP or UDP in IPv4 without options, as [`any`] does. None for all others, for fragments,
/// and for those with which something is wrong.
#[inline]
pub fn ordinary(packet: &Packet, key: &mut Key) -> Option<()> {
    let l3 = packet.l3_data();
    let h = l3.first_chunk::<28>()?;
    if h[0] != 0x45 || u16_at(h, 6) & 0x3fff != 0 || !header_holds(h) {
        return None;
    }
    let l4 = l3.get(20..usize::from(u16_at(h, 2)))?;
    let proto = h[9];
    let fits = match proto {
        ip_proto::UDP => l4.len() >= 8 && usize::from(u16_at(l4, 4)) == l4.len(),
        ip_proto::TCP => {
            let header = usize::from(l4.get(12)? >> 4) * 4;
            key.tcp = segment(l4);
            header >= 20 && header <= l4.len()
        }
        _ => false,
    };
    key.tuple = Tuple {
        src: addr4(&h[12..]),
        dst: addr4(&h[16..]),
        src_l4: u16_at(h, 20).into(),
        dst_l4: u16_at(h, 22).into(),
        zone: key.tuple.zone,
        proto,
        ipv6: false,
    };
    let fits = fits && key.tuple.src_l4 != 0 && key.tuple.dst_l4 != 0;
    let absent = proto == ip_proto::UDP && h[26] | h[27] == 0;
    let looked_at = packet.offload.checksum == Checksum::Unknown && !absent;
    (fits && (!looked_at || sum_holds(&key.tuple, l4))).then_some(())
}

/// Reads a packet into a key, which has nothing but a zone.
pub fn any(packet: &Packet, key: &mut Key) -> Result<(), Invalid> {
    let l3 = packet.l3_data();
    let mut outer = Tuple {
        zone: key.tuple.zone,
        ..Tuple::default()
    };
    let net = network(l3, false, &mut outer)?;
    let l4 = &l3[net.l4..net.end];
    let icmp = outer.proto == icmp_of(outer.ipv6);
    key.related = icmp && l4.len() >= 8 && is_error(outer.ipv6, l4[0]);
    if key.related {
        key.tuple = quoted(&outer, l4)?;
        key.tuple.zone = outer.zone;
    } else {
        key.tuple = outer;
        transport(&mut key.tuple, l4, false)?;
    }
    // What the receiver has verified or the sender left to the hardware is not looked at.
    if packet.offload.checksum == Checksum::Unknown && !sum_holds(&outer, l4) {
        return Err(Invalid::TransportChecksum);
    }
    key.tcp = match outer.proto {
        ip_proto::TCP => segment(l4),
        _ => Segment::NONE,
    };
    Ok(())
}
