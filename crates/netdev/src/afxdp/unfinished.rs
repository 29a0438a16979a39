//! Checksums that the sender left to a device that then did not send.
//!
//! A host's stack leaves the checksum of TCP and UDP to the device, and puts into the field the sum of the
//! pseudo-header, which is the part that it has at hand. To a device of the same host (the other end of a veth pair, a
//! tap) the packet goes as it is, with a note beside it that the kernel reads and that AF_XDP does not carry. A packet
//! that came so is known by the field itself: that sum and nothing of what it should cover.
//!
//! A field that is right may have the same value, by chance. No harm is done: the checksum that is computed anew is the
//! same. Of packets that somebody damaged, one in 65,536 could be taken for one that was never finished; that is why
//! this is for devices only that do not receive from a wire.

use ferrovs_packet::buffer::Checksum;
use ferrovs_packet::checksum::{pseudo_v4, pseudo_v6};

/// Drivers of devices through which packets come that no wire has seen.
pub const DRIVERS: [&str; 3] = ["veth", "tun", "virtio_net"];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is left to do with a frame's checksum.
#[inline]
pub fn checksum(frame: &[u8]) -> Checksum {
    undone(frame).unwrap_or_default()
}

fn u16_at(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

#[inline]
fn undone(frame: &[u8]) -> Option<Checksum> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    const MAX_TAGS: usize = 2;
    let mut l3 = 14;
    let mut ethertype = u16_at(frame, 12)?;
    for _ in 0..MAX_TAGS {
        if !matches!(ethertype, 0x8100 | 0x88a8) {
            break;
        }
        ethertype = u16_at(frame, l3 + 2)?;
        l3 += 4;
    }
    let (protocol, l4, sum) = match ethertype {
        IPV4 => v4(frame, l3)?,
        IPV6 => v6(frame, l3)?,
        _ => return None,
    };
    let offset = match protocol {
        TCP => 16,
        _ => 6,
    };
    (u16_at(frame, l4 + offset)? == sum).then_some(Checksum::Partial {
        start: l4 as u16,
        offset: offset as u16,
    })
}

/// Protocol, where its header begins, and the sum of the pseudo-header.
#[inline]
fn v4(frame: &[u8], l3: usize) -> Option<(u8, usize, u16)> {
    const FRAGMENT: u16 = 0x3fff;
    let header: &[u8; 20] = frame.get(l3..)?.first_chunk()?;
    let (size, protocol) = (usize::from(header[0] & 0x0f) * 4, header[9]);
    let total = usize::from(u16_at(frame, l3 + 2)?);
    let is_fragment = u16_at(frame, l3 + 6)? & FRAGMENT != 0;
    // What a stack sends is not padded.
    let whole = header[0] >> 4 == 4 && size >= 20 && size < total && l3 + total == frame.len();
    if !whole || is_fragment || !matches!(protocol, TCP | UDP) {
        return None;
    }
    let (src, dst) = (*header[12..].first_chunk()?, *header[16..].first_chunk()?);
    let sum = pseudo_v4(src, dst, protocol, (total - size) as u32);
    Some((protocol, l3 + size, sum.fold()))
}

#[inline]
fn v6(frame: &[u8], l3: usize) -> Option<(u8, usize, u16)> {
    const SIZE: usize = 40;
    let header: &[u8; SIZE] = frame.get(l3..)?.first_chunk()?;
    let protocol = header[6];
    let size = usize::from(u16_at(frame, l3 + 4)?);
    let whole = header[0] >> 4 == 6 && l3 + SIZE + size == frame.len();
    if !whole || !matches!(protocol, TCP | UDP) {
        return None;
    }
    let (src, dst) = (header[8..].first_chunk()?, header[24..].first_chunk()?);
    let sum = pseudo_v6(src, dst, protocol, size as u32);
    Some((protocol, l3 + SIZE, sum.fold()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a payload of some bytes, and where its transport header begins.
    fn frame(ipv6: bool, protocol: u8, tagged: bool, payload: usize) -> (Vec<u8>, usize) {
        let mut f = vec![2; 12];
        if tagged {
            f.extend([0x81, 0, 0, 5]);
        }
        let l4_size = if protocol == TCP { 20 } else { 8 };
        let size = l4_size + payload;
        if ipv6 {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, size as u8, protocol, 64]);
            f.extend([0xfe; 32]);
        } else {
            f.extend([
                0x08,
                0,
                0x45,
                0,
                0,
                20 + size as u8,
                0,
                1,
                0x40,
                0,
                64,
                protocol,
            ]);
            f.extend([0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let l4 = f.len();
        f.extend(vec![7; size]);
        (f, l4)
    }

    fn pseudo(ipv6: bool, protocol: u8, size: usize) -> u16 {
        match ipv6 {
            true => pseudo_v6(&[0xfe; 16], &[0xfe; 16], protocol, size as u32).fold(),
            false => pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], protocol, size as u32).fold(),
        }
    }

    #[test]
    fn a_field_with_the_sum_of_the_pseudo_header_is_known_and_any_other_left_alone() {
        for (ipv6, protocol, tagged) in [
            (false, TCP, false),
            (false, UDP, true),
            (true, TCP, true),
            (true, UDP, false),
        ] {
            let (mut f, l4) = frame(ipv6, protocol, tagged, 33);
            let offset = if protocol == TCP { 16 } else { 6 };
            assert_eq!(checksum(&f), Checksum::Unknown);
            let sum = pseudo(ipv6, protocol, f.len() - l4);
            f[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
            let left = Checksum::Partial {
                start: l4 as u16,
                offset: offset as u16,
            };
            assert_eq!(checksum(&f), left);
            // Padding would be summed too.
            f.push(0);
            assert_eq!(checksum(&f), Checksum::Unknown);
            f.pop();
            // No part of a frame is taken for more than it is.
            for end in 0..f.len() {
                assert_eq!(checksum(&f[..end]), Checksum::Unknown, "{end}");
            }
        }
        let (mut fragment, l4) = frame(false, UDP, false, 33);
        let sum = pseudo(false, UDP, 41);
        fragment[l4 + 6..l4 + 8].copy_from_slice(&sum.to_be_bytes());
        fragment[20] = 0x20;
        assert_eq!(checksum(&fragment), Checksum::Unknown);
    }
}
