//! The frames of a case, the same at each run.

use ferrovs_testkit::packets::{ethernet, ipv4, udp};

use super::cases::{Frames, MAC_BITS, mac_bit};

/// Bytes of a frame without tunnel headers and checksum of Ethernet.
const SIZE: usize = 64;
/// Fewer frames are not put into a file: a batch is of many flows.
const LEAST: u32 = 1_024;

/// Addresses of the tunnel and its number.
pub const LOCAL_IP: [u8; 4] = [172, 31, 1, 1];
pub const REMOTE_IP: [u8; 4] = [172, 31, 1, 2];
pub const LOCAL_MAC: [u8; 6] = [0xaa, 0x55, 0xaa, 0x55, 0, 1];
pub const REMOTE_MAC: [u8; 6] = [0xaa, 0x55, 0xaa, 0x55, 0, 2];
pub const VNI: u8 = 42;

/// What is played: in turn a frame of each flow, or two of each connection.
pub fn build(frames: Frames, flows: u32) -> Vec<Vec<u8>> {
    let each = if frames == Frames::Connections { 2 } else { 1 };
    // Whole rounds, so that playing it again goes on evenly.
    let rounds = LEAST.div_ceil(flows * each);
    let one = |i: u32| match frames {
        Frames::Connections => Flow::of(i / 2).frame(i % 2 == 1),
        Frames::Udp | Frames::Once => Flow::of(i).frame(false),
        Frames::Masks(n) => Flow::of(i).with_masks(i % n).frame(false),
        Frames::Vxlan => Flow::of(i).in_vxlan(),
    };
    (0..rounds)
        .flat_map(|_| (0..flows * each).map(one))
        .collect()
}

/// What makes a flow's frames.
struct Flow {
    /// Random bits of its own.
    bits: u64,
    dl_dst: [u8; 6],
    dl_src: [u8; 6],
}

impl Flow {
    fn of(i: u32) -> Flow {
        Flow {
            bits: splitmix(u64::from(i) + 1),
            dl_dst: [2, 0, 0, 0, 0, 2],
            dl_src: [2, 0, 0, 0, 0, 1],
        }
    }

    /// Matched by the rules number `k % 47` of the first and `k / 47` of the second table.
    fn with_masks(self, k: u32) -> Flow {
        Flow {
            dl_dst: mac_bit(k % MAC_BITS),
            dl_src: mac_bit(k / MAC_BITS),
            ..self
        }
    }

    /// Its frame one way, or back.
    fn frame(&self, back: bool) -> Vec<u8> {
        let bits = self.bits;
        let byte = |shift: u32| (bits >> shift) as u8;
        let mut ip = [[10, 0, byte(8), byte(16)], [20, 0, byte(24), byte(32)]];
        let mut port = [
            1024 + (bits >> 40 & 0x7fff) as u16,
            80 + (bits >> 55 & 0xff) as u16,
        ];
        if back {
            ip.reverse();
            port.reverse();
        }
        let datagram = udp(port[0], port[1], &[0; SIZE - 14 - 20 - 8]);
        let packet = ipv4(ip[0], ip[1], 17, 64, &datagram);
        ethernet(self.dl_dst, self.dl_src, 0x0800, &packet)
    }

    fn in_vxlan(&self) -> Vec<u8> {
        let header = [8, 0, 0, 0, 0, 0, VNI, 0];
        let port = 49152 + (self.bits & 0x3fff) as u16;
        let datagram = udp(port, 4789, &[&header[..], &self.frame(false)].concat());
        let packet = ipv4(REMOTE_IP, LOCAL_IP, 17, 64, &datagram);
        ethernet(LOCAL_MAC, REMOTE_MAC, 0x0800, &packet)
    }
}

fn splitmix(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ferrovs_testkit::packets::checksum;

    use super::*;

    fn count(frames: &[Vec<u8>]) -> usize {
        frames.iter().collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn there_are_as_many_flows_as_wanted_in_whole_rounds() {
        let one = build(Frames::Udp, 1);
        assert_eq!((one.len(), count(&one)), (1024, 1));
        let thousand = build(Frames::Udp, 1_000);
        assert_eq!((thousand.len(), count(&thousand)), (2_000, 1_000));
        let many = build(Frames::Once, 10_000);
        assert_eq!((many.len(), count(&many)), (10_000, 10_000));
    }

    #[test]
    fn frames_are_whole() {
        for frame in build(Frames::Udp, 10) {
            assert_eq!(frame.len(), 64);
            assert_eq!(checksum(&frame[14..34]), 0);
            assert_eq!(frame[14 + 2..14 + 4], 50u16.to_be_bytes());
            assert_eq!(frame[30], 20, "matched by the rule of the prefix");
        }
        for frame in build(Frames::Vxlan, 10) {
            assert_eq!(frame.len(), 64 + 50);
            assert_eq!((checksum(&frame[14..34]), checksum(&frame[64..84])), (0, 0));
        }
    }

    #[test]
    fn the_second_frame_of_a_connection_is_the_first_ones_answer() {
        let frames = build(Frames::Connections, 3);
        assert_eq!(count(&frames), 6);
        assert_eq!(frames[0][26..30], frames[1][30..34]);
        assert_eq!(frames[0][34..36], frames[1][36..38]);
    }

    #[test]
    fn frames_of_masks_differ_in_their_addresses() {
        let frames = build(Frames::Masks(1000), 1_000);
        let addresses: BTreeSet<_> = frames.iter().map(|f| f[..12].to_vec()).collect();
        assert_eq!(addresses.len(), 1000);
    }
}
