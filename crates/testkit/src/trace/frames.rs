//! IP packets of a trace, built byte by byte.

use std::net::{IpAddr, SocketAddr};

use crate::packets::checksum;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The header of an IPv4 packet with so many bytes behind it; `frag` is the word of flags and offset.
fn ipv4_header(src: IpAddr, dst: IpAddr, proto: u8, id: u16, frag: u16, len: usize) -> Vec<u8> {
    let mut h = vec![0x45, 0];
    h.extend((20 + len as u16).to_be_bytes());
    h.extend(id.to_be_bytes());
    h.extend(frag.to_be_bytes());
    h.extend([64, proto, 0, 0]);
    h.extend(octets(src));
    h.extend(octets(dst));
    let sum = checksum(&h).to_be_bytes();
    h[10..12].copy_from_slice(&sum);
    h
}

fn ipv6_header(src: IpAddr, dst: IpAddr, next: u8, len: usize) -> Vec<u8> {
    let mut h = vec![0x60, 0, 0, 0];
    h.extend((len as u16).to_be_bytes());
    h.extend([next, 64]);
    h.extend(octets(src));
    h.extend(octets(dst));
    h
}

/// A whole IP packet.
pub fn ip(src: IpAddr, dst: IpAddr, proto: u8, id: u16, l4: &[u8]) -> Vec<u8> {
    let mut packet = match src {
        IpAddr::V4(_) => ipv4_header(src, dst, proto, id, 0x4000, l4.len()),
        IpAddr::V6(_) => ipv6_header(src, dst, proto, l4.len()),
    };
    packet.extend(l4);
    packet
}

/// The same in fragments of `size` bytes of payload (a multiple of eight), the second of which begins `overlap` bytes
/// early.
pub fn fragments(
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    id: u16,
    l4: &[u8],
    size: usize,
    overlap: usize,
) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < l4.len() {
        let start = if at == size { at - overlap } else { at };
        let end = (at + size).min(l4.len());
        let more = end < l4.len();
        let part = &l4[start..end];
        let mut packet = match src {
            IpAddr::V4(_) => {
                let word = (start / 8) as u16 | if more { 0x2000 } else { 0 };
                ipv4_header(src, dst, proto, id, word, part.len())
            }
            IpAddr::V6(_) => {
                let mut h = ipv6_header(src, dst, 44, part.len() + 8);
                h.extend([proto, 0]);
                h.extend((start as u16 | u16::from(more)).to_be_bytes());
                h.extend(u32::from(id).to_be_bytes());
                h
            }
        };
        packet.extend(part);
        out.push(packet);
        at = end;
    }
    out
}

/// Puts the checksum over pseudo header and message at `at`.
fn summed(src: IpAddr, dst: IpAddr, proto: u8, at: usize, mut l4: Vec<u8>) -> Vec<u8> {
    let mut all = octets(src);
    all.extend(octets(dst));
    all.extend((l4.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, proto]);
    all.extend(&l4);
    let sum = checksum(&all).to_be_bytes();
    l4[at..at + 2].copy_from_slice(&sum);
    l4
}

fn ports((src, dst): (SocketAddr, SocketAddr)) -> Vec<u8> {
    [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat()
}

/// A TCP segment.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// Of a multiple of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

pub fn tcp(way: (SocketAddr, SocketAddr), s: &Segment) -> Vec<u8> {
    let mut l4 = ports(way);
    l4.extend(s.seq.to_be_bytes());
    l4.extend(s.ack.to_be_bytes());
    l4.extend([(5 + s.options.len() as u8 / 4) << 4, s.flags]);
    l4.extend(s.window.to_be_bytes());
    l4.extend([0; 4]);
    l4.extend(&s.options);
    l4.extend(&s.payload);
    summed(way.0.ip(), way.1.ip(), TCP, 16, l4)
}

/// A datagram; over IPv4 without checksum where asked.
pub fn udp(way: (SocketAddr, SocketAddr), payload: &[u8], checked: bool) -> Vec<u8> {
    let mut l4 = ports(way);
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    match checked || way.0.is_ipv6() {
        true => summed(way.0.ip(), way.1.ip(), UDP, 6, l4),
        false => l4,
    }
}

/// A message of ICMP or ICMPv6 with the four bytes `rest` in its header.
pub fn icmp(
    way: (SocketAddr, SocketAddr),
    (ty, code): (u8, u8),
    rest: [u8; 4],
    payload: &[u8],
) -> Vec<u8> {
    let mut l4 = vec![ty, code, 0, 0];
    l4.extend(rest);
    l4.extend(payload);
    match way.0 {
        SocketAddr::V4(_) => {
            let sum = checksum(&l4).to_be_bytes();
            l4[2..4].copy_from_slice(&sum);
            l4
        }
        SocketAddr::V6(_) => summed(way.0.ip(), way.1.ip(), ICMPV6, 2, l4),
    }
}

/// An SCTP packet with one chunk.
pub fn sctp(way: (SocketAddr, SocketAddr), chunk: u8, payload: &[u8]) -> Vec<u8> {
    let mut l4 = ports(way);
    l4.extend([0, 0, 0, 9, 0, 0, 0, 0, chunk, 0]);
    l4.extend((4 + payload.len() as u16).to_be_bytes());
    l4.extend(payload);
    let crc = crc32c(&l4).to_le_bytes();
    l4[8..12].copy_from_slice(&crc);
    l4
}

fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}
