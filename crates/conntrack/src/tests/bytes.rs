//! Packets with some of their bytes changed: nothing that a packet can be makes the tracker fail.

use ferrovs_packet::buffer::Checksum;
use proptest::prelude::*;

use super::*;
use crate::extract::{self, Key};

/// Packets that lead everywhere: an announcement, its answer, an error, a query, fragments, a transfer.
fn seeds() -> Vec<Packet> {
    let (a, b) = ((A, 1000), (B, 21));
    let whole = udp((A, 5), (B, 69), &[7; 1300]);
    let fragment = |from: usize, to: usize, flags: u16| {
        let payload = &whole.l3_data()[20..];
        let mut p = ip(A, B, 17, &payload[from..to]);
        let l3 = usize::from(p.l3);
        p.data_mut()[l3 + 6..l3 + 8].copy_from_slice(&flags.to_be_bytes());
        p
    };
    vec![
        tcp(a, b, SYN, 100, 0, b""),
        tcp(b, a, SYN | ACK, 500, 101, b""),
        tcp(a, b, ACK | PSH, 101, 501, b"PORT 10,0,0,1,4,5\r\n"),
        tcp(
            b,
            a,
            ACK | PSH,
            501,
            120,
            b"227 Entering Passive Mode (10,0,0,2,9,9)\r\n",
        ),
        tcp(
            b,
            a,
            ACK | PSH,
            501,
            120,
            b"229 Entering Extended Passive Mode (|||2000|)\r\n",
        ),
        tcp((B, 20), (A, 1029), SYN, 1, 0, b""),
        udp((A, 5), (B, 69), b"\0\x01file\0octet\0"),
        icmp(A, B, 8, 7, b"data"),
        icmp([9, 9, 9, 9], A, 3, 0, &whole.l3_data()[..40]),
        fragment(0, 800, 0x2000),
        fragment(800, 1308, 100),
        whole,
    ]
}

/// Marks a packet as one whose checksums nobody looks at, and mends that of the header.
fn mended(mut packet: Packet) -> Packet {
    MiniflowBuf::new().extract(&mut packet);
    let l3 = usize::from(packet.l3);
    let len = packet
        .l3_data()
        .first()
        .map_or(0, |b| usize::from(b & 15) * 4);
    if len >= 20 && packet.l3_data().len() >= len {
        let ip = &mut packet.data_mut()[l3..l3 + len];
        ip[10..12].fill(0);
        let sum = checksum(ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
    }
    packet.offload.checksum = Checksum::Good;
    packet
}

fn actions() -> Vec<Ct> {
    let mut addr = [0; 16];
    addr[12..].copy_from_slice(&[10, 123, 123, 123]);
    let nat = |kind| Nat {
        kind,
        ip_min: addr,
        ip_max: addr,
        ..Nat::default()
    };
    let with = |helper: &str, nat| Ct {
        helper: Some(helper.to_owned()),
        nat: Some(nat),
        ..commit()
    };
    vec![
        commit(),
        look(),
        with("ftp", nat(NatKind::Src)),
        with("ftp", nat(NatKind::Dst)),
        with("tftp", nat(NatKind::Src)),
        Ct {
            nat: Some(Nat::default()),
            ..look()
        },
    ]
}

proptest! {
    #[test]
    fn what_is_read_quickly_is_what_is_read_otherwise(
        seed in 0usize..12,
        changes in prop::collection::vec((0usize..60, any::<u8>()), 0..3),
        cut in 0usize..200,
        mend in any::<bool>(),
        pad in 0usize..9,
    ) {
        let mut packet = seeds().swap_remove(seed);
        let size = packet.size();
        for (at, value) in changes {
            packet.data_mut()[at % size] = value;
        }
        packet.truncate(size.min(cut.max(34)));
        packet.append(&vec![0; pad]);
        MiniflowBuf::new().extract(&mut packet);
        let packet = if mend { mended(packet) } else { packet };
        let (mut quick, mut slow) = (Key::NONE, Key::NONE);
        (quick.tuple.zone, slow.tuple.zone) = (5, 5);
        if extract::ordinary(&packet, &mut quick).is_some() {
            prop_assert!(!crate::frag::is_fragment(&packet));
            prop_assert_eq!(extract::any(&packet, &mut slow), Ok(()));
            prop_assert_eq!(quick, slow);
        }
    }

    #[test]
    fn no_packet_makes_the_tracker_fail(
        steps in prop::collection::vec(
            (0usize..12, prop::collection::vec((0usize..120, any::<u8>()), 0..4), 0usize..6, 0usize..2000),
            1..40,
        ),
    ) {
        let (seeds, actions) = (seeds(), actions());
        let mut lab = Lab::new();
        lab.tracker.set_max_count(8);
        lab.tracker.set_min_frag(ferrovs_datapath::conntrack::IpVersion::V4, 400).unwrap();
        for (seed, changes, action, cut) in steps {
            let mut packet = seeds[seed].duplicate();
            for (at, value) in changes {
                if let Some(byte) = packet.data_mut().get_mut(at) {
                    *byte = value;
                }
            }
            if cut < packet.size() && cut % 3 == 0 {
                packet.truncate(cut.max(1));
            }
            let size = packet.size();
            let mut batch: Batch = [mended(packet)].into_iter().collect();
            let rest = lab.tracker.execute(&mut batch, &actions[action], lab.now);
            prop_assert!(rest.is_empty() && batch.len() <= 2);
            if let [p] = &batch[..] {
                prop_assert!(p.md.ct_state & CS_TRACKED != 0);
                prop_assert!(p.size() <= size + 16);
            }
            // Once more in the zone, as behind a recirculation.
            _ = lab.tracker.execute(&mut batch, &actions[action], lab.now);
            lab.wait(u64::from(action == 1));
            lab.tracker.sweep(lab.now);
        }
        prop_assert!(lab.tracker.count() <= 8);
        lab.tracker.flush(&CtFilter::default());
        prop_assert_eq!((lab.tracker.count(), lab.tracker.expectations(None).len()), (0, 0));
    }
}
