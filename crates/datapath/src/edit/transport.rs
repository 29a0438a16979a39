//! Transport headers, ICMP, ARP and neighbour discovery.

use std::sync::LazyLock;

use ferrovs_packet::buffer::{Checksum, NO_OFFSET, Packet};

use super::{blend, updated};
use crate::action::{ArpKey, IcmpKey, Masked, NdExtensionsKey, NdKey, PortsKey};

pub const TCP_CSUM: usize = 16;
pub const UDP_CSUM: usize = 6;
const ICMP_CSUM: usize = 2;

/// Offset of `size` bytes of transport header.
fn l4(packet: &Packet, size: usize) -> Option<usize> {
    let at = usize::from(packet.l4);
    (packet.l4 != NO_OFFSET && at + size <= packet.size()).then_some(at)
}

/// Whether the checksum is left to the hardware, which will find the new bytes.
fn unfinished(packet: &Packet) -> bool {
    matches!(packet.offload.checksum, Checksum::Partial { .. })
}

/// Changes `len` bytes at `at`, an even offset into the transport header, and the checksum at `csum`.
fn change(packet: &mut Packet, at: usize, new: &[u8], csum: usize, udp: bool) {
    let unfinished = unfinished(packet);
    let data = packet.data_mut();
    let sum = u16::from_be_bytes([data[csum], data[csum + 1]]);
    if !unfinished && !(udp && sum == 0) {
        let sum = match updated(sum, &data[at..at + new.len()], new) {
            0 if udp => 0xffff,
            sum => sum,
        };
        data[csum..csum + 2].copy_from_slice(&sum.to_be_bytes());
    }
    data[at..at + new.len()].copy_from_slice(new);
}

pub fn set_ports(packet: &mut Packet, m: &Masked<PortsKey>, csum: usize) {
    let Some(at) = l4(packet, csum + 2) else {
        return;
    };
    let mut ports = [0; 4];
    ports.copy_from_slice(&packet.data()[at..at + 4]);
    let old = ports;
    blend(&mut ports[..2], m.value.src.as_ref(), m.mask.src.as_ref());
    blend(&mut ports[2..], m.value.dst.as_ref(), m.mask.dst.as_ref());
    if ports != old {
        change(packet, at, &ports, at + csum, csum == UDP_CSUM);
    }
}

/// CRC-32C tables of one byte.
static CRC: LazyLock<[u32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        (0..8).fold(i as u32, |crc, _| {
            if crc & 1 != 0 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            }
        })
    })
});

/// The checksum of an SCTP packet, its field counted as zero.
fn sctp_crc(packet: &[u8]) -> u32 {
    let crc = packet.iter().enumerate().fold(u32::MAX, |crc, (i, &byte)| {
        let byte = if (8..12).contains(&i) { 0 } else { byte };
        CRC[usize::from(crc as u8 ^ byte)] ^ crc >> 8
    });
    !crc
}

pub fn set_sctp(packet: &mut Packet, m: &Masked<PortsKey>) {
    let Some(at) = l4(packet, 12) else { return };
    let unfinished = unfinished(packet);
    let end = packet
        .size()
        .saturating_sub(usize::from(packet.l2_pad))
        .max(at + 12);
    let data = &mut packet.data_mut()[at..end];
    let before = sctp_crc(data);
    let mut ports = [0; 4];
    ports.copy_from_slice(&data[..4]);
    blend(&mut ports[..2], m.value.src.as_ref(), m.mask.src.as_ref());
    blend(&mut ports[2..], m.value.dst.as_ref(), m.mask.dst.as_ref());
    data[..4].copy_from_slice(&ports);
    if !unfinished {
        // What was wrong stays wrong.
        let field = u32::from_le_bytes([data[8], data[9], data[10], data[11]]);
        let after = field ^ before ^ sctp_crc(data);
        data[8..12].copy_from_slice(&after.to_le_bytes());
    }
}

pub fn set_icmp(packet: &mut Packet, m: &Masked<IcmpKey>) {
    let Some(at) = l4(packet, 8) else { return };
    let mut new = [packet.data()[at], packet.data()[at + 1]];
    let value = [m.value.icmp_type, m.value.code];
    blend(&mut new, &value, &[m.mask.icmp_type, m.mask.code]);
    change(packet, at, &new, at + ICMP_CSUM, false);
}

pub fn set_arp(packet: &mut Packet, m: &Masked<ArpKey>) {
    let at = usize::from(packet.l3);
    if packet.l3 == NO_OFFSET {
        return;
    }
    let Some(arp) = packet.data_mut().get_mut(at..at + 28) else {
        return;
    };
    let (value, mask) = (&m.value, &m.mask);
    blend(&mut arp[6..8], value.op.as_ref(), mask.op.as_ref());
    blend(&mut arp[8..14], &value.sha.0, &mask.sha.0);
    blend(&mut arp[14..18], value.sip.as_ref(), mask.sip.as_ref());
    blend(&mut arp[18..24], &value.tha.0, &mask.tha.0);
    blend(&mut arp[24..28], value.tip.as_ref(), mask.tip.as_ref());
}

/// Offset of the first neighbour discovery option of that type.
fn nd_option(packet: &Packet, at: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let data = packet.data();
    let mut option = at + 24;
    while option + 8 <= data.len() {
        let len = usize::from(data[option + 1]) * 8;
        if len == 0 || option + len > data.len() {
            return None;
        }
        if wanted(data[option]) {
            return Some(option);
        }
        option += len;
    }
    None
}

const ND_SOURCE: u8 = 1;
const ND_TARGET: u8 = 2;

pub fn set_nd(packet: &mut Packet, m: &Masked<NdKey>) {
    let Some(at) = l4(packet, 24) else { return };
    let mut target = [0; 16];
    target.copy_from_slice(&packet.data()[at + 8..at + 24]);
    blend(&mut target, &m.value.target, &m.mask.target);
    change(packet, at + 8, &target, at + ICMP_CSUM, false);
    for (kind, value, mask) in [
        (ND_SOURCE, m.value.sll, m.mask.sll),
        (ND_TARGET, m.value.tll, m.mask.tll),
    ] {
        if mask.is_zero() {
            continue;
        }
        if let Some(option) = nd_option(packet, at, |k| k == kind) {
            let mut mac = [0; 6];
            mac.copy_from_slice(&packet.data()[option + 2..option + 8]);
            blend(&mut mac, &value.0, &mask.0);
            change(packet, option + 2, &mac, at + ICMP_CSUM, false);
        }
    }
}

pub fn set_nd_ext(packet: &mut Packet, m: &Masked<NdExtensionsKey>) {
    let Some(at) = l4(packet, 24) else { return };
    let mut reserved = [0; 4];
    reserved.copy_from_slice(&packet.data()[at + 4..at + 8]);
    blend(
        &mut reserved,
        m.value.reserved.as_ref(),
        m.mask.reserved.as_ref(),
    );
    change(packet, at + 4, &reserved, at + ICMP_CSUM, false);
    if m.mask.options_type != 0
        && let Some(option) = nd_option(packet, at, |k| matches!(k, ND_SOURCE | ND_TARGET))
    {
        let data = packet.data();
        let mut new = [data[option], data[option + 1]];
        blend(
            &mut new[..1],
            &[m.value.options_type],
            &[m.mask.options_type],
        );
        change(packet, option, &new, at + ICMP_CSUM, false);
    }
}
