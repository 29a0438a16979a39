//! Large frames: what a port does that cannot leave segmentation and checksums to somebody else.
//!
//! A frame with [`Gso`] stands for several: `size` bytes of its payload go into each. Its transport
//! checksum is partial and begins at the transport header whose payload is cut. There are three
//! shapes:
//!
//! ```text
//!   plain    | Ethernet, VLANs | IP | TCP or UDP | payload ........................ |
//!   tunnel   | Ethernet | IP | UDP | tunnel, Ethernet | IP | TCP or UDP | payload .. |
//!   uso      | Ethernet | IP | UDP | (tunnel ... TCP, payload) (tunnel ... TCP, payload) ... |
//! ```
//!
//! The kernel takes and gives the plain shape. It gives the tunnel shape (a host's own encapsulated
//! TCP), and pushing a tunnel header onto a plain frame makes one, but it takes none: [`to_uso`]
//! turns it into the third shape, UDP segmentation offload whose payload is made of ready inner
//! packets, all of one size but the last. [`segment`] cuts any of them into ordinary frames, and
//! [`complete_checksum`] finishes one that is not large.
//!
//! Headers are found from the frame's bytes, never trusted: what does not parse is given back
//! unchanged ([`Shape`] is None) for the caller to drop.

use crate::buffer::{Checksum, Gso, GsoType, IpChecksum, Offload, Packet};
use crate::checksum::{Sum, pseudo_v4, pseudo_v6};
use crate::types::{eth_type, ip_proto};

const UDP_LEN: usize = 8;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;
/// Most frames that one large frame may stand for: 64 kB in the smallest segments that hosts agree on (48 bytes).
/// A frame that asks for more would cost what thousands of others cost.
pub const MAX_SEGMENTS: usize = 1400;
/// Longest headers that are repeated in every segment: those of a tunnel, with all options and some VLANs.
pub const MAX_HEADERS: usize = 512;
/// Most segments that the kernel takes in one UDP frame.
const USO_MAX_SEGMENTS: usize = 128;
/// Greatest length of an IP packet.
const IP_MAX: usize = 65535;

/// Where the headers of a large frame are; offsets from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Outer IP and UDP headers, for the tunnel shape.
    outer: Option<(usize, usize)>,
    l3: usize,
    l4: usize,
    payload: usize,
    tcp: bool,
}

fn u16_at(data: &[u8], ofs: usize) -> u16 {
    u16::from_be_bytes([data[ofs], data[ofs + 1]])
}

fn put_u16(data: &mut [u8], ofs: usize, value: u16) {
    data[ofs..ofs + 2].copy_from_slice(&value.to_be_bytes());
}

/// Carries out a truncation that was asked for.
pub fn cut(packet: &mut Packet) {
    complete_ip_checksum(packet);
    if packet.offload.gso.is_none() {
        complete_checksum(packet);
    }
    let size = packet.size().saturating_sub(packet.cutlen as usize);
    packet.truncate(size);
    packet.cutlen = 0;
    // Segments of bytes that are gone cannot be made.
    packet.offload = Offload::default();
}

/// Size of the largest frame that the packet makes on a wire.
pub fn size_on_wire(packet: &Packet) -> usize {
    match packet.offload.gso {
        Some(gso) if gso.hdr_len > 0 => packet
            .size()
            .min(usize::from(gso.hdr_len) + usize::from(gso.size)),
        _ => packet.size(),
    }
}

/// An IP header at `l3`: (protocol, offset of its payload). Without options of IPv6.
fn ip_header(data: &[u8], l3: usize) -> Option<(u8, usize)> {
    match data.get(l3)? >> 4 {
        4 => {
            let len = usize::from(data[l3] & 15) * 4;
            (len >= 20 && data.len() >= l3 + len).then(|| (data[l3 + 9], l3 + len))
        }
        6 => (data.len() >= l3 + 40).then(|| (data[l3 + 6], l3 + 40)),
        _ => None,
    }
}

/// Offset of the network header behind Ethernet and VLAN headers.
fn network_offset(data: &[u8]) -> Option<usize> {
    let mut ofs = 12;
    loop {
        if data.len() < ofs + 2 {
            return None;
        }
        match u16_at(data, ofs) {
            eth_type::VLAN_8021Q | eth_type::VLAN_8021AD => ofs += 4,
            eth_type::IP | eth_type::IPV6 => return Some(ofs + 2),
            _ => return None,
        }
    }
}

/// The network header that ends where the transport header `l4` begins.
fn inner_network(data: &[u8], l4: usize, proto: u8) -> Option<usize> {
    let fits = |l3: usize| ip_header(data, l3) == Some((proto, l4));
    // IPv4 without options, IPv6, IPv4 with options.
    [20, 40]
        .into_iter()
        .chain((24..=60).step_by(4))
        .filter_map(|len| l4.checked_sub(len))
        .find(|l3| fits(*l3))
}

/// Finds the headers of a large frame.
pub fn shape(packet: &Packet) -> Option<Shape> {
    let (Some(gso), Checksum::Partial { start, .. }) =
        (packet.offload.gso, packet.offload.checksum)
    else {
        return None;
    };
    let data = packet.data();
    let l4 = usize::from(start);
    let tcp = gso.kind != GsoType::Udp;
    let proto = if tcp { ip_proto::TCP } else { ip_proto::UDP };
    let first = network_offset(data)?;
    let (first_proto, first_l4) = ip_header(data, first)?;
    let (outer, l3) = if (first_proto, first_l4) == (proto, l4) {
        (None, first)
    } else if first_proto == ip_proto::UDP && first_l4 + UDP_LEN <= l4 {
        let l3 = inner_network(data, l4, proto).filter(|l3| *l3 >= first_l4 + UDP_LEN)?;
        (Some((first, first_l4)), l3)
    } else {
        return None;
    };
    let payload = if tcp {
        l4 + usize::from(data.get(l4 + 12)? >> 4) * 4
    } else {
        l4 + UDP_LEN
    };
    let least = if tcp { l4 + 20 } else { l4 + UDP_LEN };
    let whole = payload >= least && payload < data.len() && payload <= MAX_HEADERS && gso.size > 0;
    whole.then_some(Shape {
        outer,
        l3,
        l4,
        payload,
        tcp,
    })
}

/// Whether a large frame is TCP inside a tunnel, which no port takes as it is.
#[inline]
pub fn is_tunnel(packet: &Packet) -> bool {
    packet.offload.gso.is_some() && shape(packet).is_some_and(|s| s.outer.is_some())
}

/// Whether a large frame is one of UDP segmentation, each segment with the frame's own headers: in one that came through
/// a tunnel, the third shape, each segment is a packet of the tunnel.
#[inline]
pub fn is_uso(packet: &Packet) -> bool {
    let udp = packet.offload.gso.is_some_and(|g| g.kind == GsoType::Udp);
    udp && shape(packet).is_some_and(|s| s.outer.is_none())
}

/// Sets the length fields of an IP header, moves an IPv4 identification on by `n`, and makes its
/// checksum good. `len` counts from the header on.
fn fix_ip(data: &mut [u8], l3: usize, len: usize, n: u16) {
    if data[l3] >> 4 == 4 {
        put_u16(data, l3 + 2, len as u16);
        let id = u16_at(data, l3 + 4).wrapping_add(n);
        put_u16(data, l3 + 4, id);
        put_u16(data, l3 + 10, 0);
        let header = usize::from(data[l3] & 15) * 4;
        let sum = Sum::ZERO.add(&data[l3..l3 + header]).finish();
        put_u16(data, l3 + 10, sum);
    } else {
        put_u16(data, l3 + 4, (len - 40) as u16);
    }
}

/// Sum of the pseudo-header of `len` bytes of transport behind the IP header at `l3`.
fn pseudo(data: &[u8], l3: usize, proto: u8, len: usize) -> Sum {
    if data[l3] >> 4 == 4 {
        let a = |i: usize| [data[i], data[i + 1], data[i + 2], data[i + 3]];
        pseudo_v4(a(l3 + 12), a(l3 + 16), proto, len as u32)
    } else {
        let a = |i: usize| {
            let mut out = [0; 16];
            out.copy_from_slice(&data[i..i + 16]);
            out
        };
        pseudo_v6(&a(l3 + 8), &a(l3 + 24), proto, len as u32)
    }
}

/// A UDP checksum, of which 0 means none.
fn udp_sum(sum: Sum) -> u16 {
    match sum.finish() {
        0 => 0xffff,
        s => s,
    }
}

impl Shape {
    /// Makes the transport and network headers of segment `n` right, in `out`, which holds the
    /// frame from `base` (a number of bytes before which it is cut off) to the segment's end.
    fn fix_inner(&self, out: &mut [u8], base: usize, n: usize, mss: usize, last: bool) {
        let (l3, l4) = (self.l3 - base, self.l4 - base);
        let end = out.len();
        fix_ip(out, l3, end - l3, n as u16);
        if self.tcp {
            let at = |i: usize| u32::from_be_bytes([out[i], out[i + 1], out[i + 2], out[i + 3]]);
            let seq = at(l4 + 4).wrapping_add((n * mss) as u32);
            out[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
            if !last {
                out[l4 + 13] &= !(TCP_FIN | TCP_PSH);
            }
            if n > 0 {
                out[l4 + 13] &= !TCP_CWR;
            }
            put_u16(out, l4 + 16, 0);
            let sum = pseudo(out, l3, ip_proto::TCP, end - l4)
                .add(&out[l4..])
                .finish();
            put_u16(out, l4 + 16, sum);
        } else {
            put_u16(out, l4 + 4, (end - l4) as u16);
            put_u16(out, l4 + 6, 0);
            let sum = udp_sum(pseudo(out, l3, ip_proto::UDP, end - l4).add(&out[l4..]));
            put_u16(out, l4 + 6, sum);
        }
    }
}

/// Cuts a large frame into ordinary ones with complete checksums. One that cannot be understood,
/// and one that is not large, comes out as it is.
pub fn segment(packet: Packet, mut emit: impl FnMut(Packet)) {
    let (Some(shape), Some(gso)) = (shape(&packet), packet.offload.gso) else {
        return emit(packet);
    };
    let mss = usize::from(gso.size);
    let data = packet.data();
    let (header, payload) = data.split_at(shape.payload);
    let count = payload.len().div_ceil(mss);
    for (n, chunk) in payload.chunks(mss).enumerate() {
        let mut seg = Packet::with_capacity(header.len() + chunk.len());
        seg.append(header);
        seg.append(chunk);
        let out = seg.data_mut();
        shape.fix_inner(out, 0, n, mss, n + 1 == count);
        if let Some((ip, udp)) = shape.outer {
            let end = out.len();
            fix_ip(out, ip, end - ip, n as u16);
            put_u16(out, udp + 4, (end - udp) as u16);
            if u16_at(out, udp + 6) != 0 {
                put_u16(out, udp + 6, 0);
                let sum = udp_sum(pseudo(out, ip, ip_proto::UDP, end - udp).add(&out[udp..]));
                put_u16(out, udp + 6, sum);
            }
        }
        seg.take_after(&packet);
        emit(seg);
    }
}

/// Turns a frame of the tunnel shape into UDP frames whose segments are its inner packets, as few
/// as lengths allow. Other frames come out as they are.
///
/// The outer UDP checksum of a frame with several segments is always computed, by the kernel, even
/// if the tunnel is configured without: segmentation offload has no way to leave it out.
pub fn to_uso(packet: Packet, mut emit: impl FnMut(Packet)) {
    let (Some(shape), Some(gso)) = (shape(&packet), packet.offload.gso) else {
        return emit(packet);
    };
    let Some((ip, udp)) = shape.outer else {
        return emit(packet);
    };
    let mss = usize::from(gso.size);
    let data = packet.data();
    let base = udp + UDP_LEN;
    let (outer, inner) = (&data[..base], &data[base..shape.payload]);
    let payload = &data[shape.payload..];
    let size = inner.len() + mss;
    let count = payload.len().div_ceil(mss);
    let fit = ((IP_MAX - (base - ip)) / size).clamp(1, USO_MAX_SEGMENTS);
    // Frames of about equal length.
    let per_frame = count.div_ceil(count.div_ceil(fit));
    let mut n = 0;
    for part in payload.chunks(per_frame * mss) {
        let segments = part.len().div_ceil(mss);
        let mut frame = Packet::with_capacity(base + segments * inner.len() + part.len());
        frame.append(outer);
        for chunk in part.chunks(mss) {
            let start = frame.size();
            frame.append(inner);
            frame.append(chunk);
            shape.fix_inner(&mut frame.data_mut()[start..], base, n, mss, n + 1 == count);
            n += 1;
        }
        let out = frame.data_mut();
        let end = out.len();
        fix_ip(out, ip, end - ip, (n - segments) as u16);
        put_u16(out, udp + 4, (end - udp) as u16);
        let has_sum = u16_at(out, udp + 6) != 0;
        let partial = has_sum || segments > 1;
        if partial {
            let sum = pseudo(out, ip, ip_proto::UDP, end - udp).fold();
            put_u16(out, udp + 6, sum);
        }
        frame.take_after(&packet);
        if partial {
            frame.offload.checksum = Checksum::Partial {
                start: udp as u16,
                offset: 6,
            };
        }
        if segments > 1 {
            frame.offload.gso = Some(Gso {
                kind: GsoType::Udp,
                size: size as u16,
                hdr_len: base as u16,
                ecn: false,
            });
        }
        emit(frame);
    }
}

/// Cuts a large plain frame into large frames with at most `max` bytes of payload each, which keep
/// their partial checksums. Other frames come out as they are.
pub fn split(packet: Packet, max: usize, mut emit: impl FnMut(Packet)) {
    let (Some(shape), Some(gso)) = (shape(&packet), packet.offload.gso) else {
        return emit(packet);
    };
    let mss = usize::from(gso.size);
    let per_part = (max / mss).max(1);
    let data = packet.data();
    let (header, payload) = data.split_at(shape.payload);
    if shape.outer.is_some() || payload.len() <= per_part * mss {
        return emit(packet);
    }
    let parts = payload.len().div_ceil(per_part * mss);
    let proto = if shape.tcp {
        ip_proto::TCP
    } else {
        ip_proto::UDP
    };
    for (i, chunk) in payload.chunks(per_part * mss).enumerate() {
        let mut part = Packet::with_capacity(header.len() + chunk.len());
        part.append(header);
        part.append(chunk);
        let out = part.data_mut();
        shape.fix_inner(out, 0, i * per_part, mss, i + 1 == parts);
        let end = out.len();
        let sum = pseudo(out, shape.l3, proto, end - shape.l4).fold();
        put_u16(out, shape.l4 + if shape.tcp { 16 } else { 6 }, sum);
        part.take_after(&packet);
        part.offload = packet.offload;
        if chunk.len() <= mss {
            part.offload.gso = None;
        }
        emit(part);
    }
}

/// Computes a checksum that was left to the hardware.
pub fn complete_checksum(packet: &mut Packet) {
    if let Checksum::Partial { start, offset } = packet.offload.checksum {
        let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
        let data = packet.data_mut();
        if field + 2 <= data.len() {
            let mut sum = Sum::ZERO.add(&data[start..]).finish();
            if sum == 0 && offset == 6 {
                sum = 0xffff;
            }
            put_u16(data, field, sum);
        }
        packet.offload.checksum = Checksum::Unknown;
    }
}

/// Computes the checksum of the IPv4 header if that was put off.
pub fn complete_ip_checksum(packet: &mut Packet) {
    if packet.md.ip_checksum == IpChecksum::Open {
        let l3 = usize::from(packet.l3);
        let words = packet.l3_data().first().map_or(0, |b| usize::from(b & 0xf));
        let header = packet.data_mut().get_mut(l3..l3 + words * 4);
        if let Some(header) = header.filter(|h| h.len() >= 20 && h[0] >> 4 == 4) {
            put_u16(header, 10, 0);
            let sum = Sum::ZERO.add(header).finish();
            put_u16(header, 10, sum);
        }
    }
    packet.md.ip_checksum = IpChecksum::AsIs;
}

/// Leaves nothing to the hardware: emits ordinary frames with complete checksums.
pub fn finish(mut packet: Packet, mut emit: impl FnMut(Packet)) {
    complete_ip_checksum(&mut packet);
    if packet.offload.gso.is_some() {
        segment(packet, emit);
    } else {
        complete_checksum(&mut packet);
        emit(packet);
    }
}

#[cfg(test)]
mod tests;
