//! Frames cross rings of both formats, in all layouts that a driver may choose.

use ferrovs_packet::buffer::{Checksum, GsoType, Packet};

use super::*;
use crate::Loss;

/// Where buffers lie in the memory.
const BUFFERS: u64 = 0x10_0000;
const TABLES: u64 = 0x8_0000;

fn buffer(n: u64) -> u64 {
    BUFFERS + n * 4096
}

fn plain() -> Features {
    Features::VERSION_1 | Features::MRG_RXBUF | Features::INDIRECT_DESC
}

/// Each format once.
fn each(size: u16, mut test: impl FnMut(Driver)) {
    for packed in [false, true] {
        let (_, memory) = memory();
        test(Driver::new(&memory, 0, size, packed));
    }
}

/// Puts a header and a frame at an offset.
fn put_frame(driver: &Driver, at: u64, header: &[u8; 12], frame: &[u8]) {
    driver.put(at, header);
    driver.put(at + 12, frame);
}

#[test]
fn frames_of_a_guest_arrive_in_order_whatever_pieces_they_come_in() {
    each(8, |mut driver| {
        let mut ring = ring_of(&driver, plain());
        // Several times around the ring.
        for round in 0..20u8 {
            let f = frame(round, 100 + usize::from(round));
            let size = f.len() as u32;
            let g = GUEST + buffer(0);
            put_frame(&driver, buffer(0), &[0; 12], &f);
            driver.offer(&[(g, size + 12, false)], None);
            driver.offer(&[(g, 12, false), (g + 12, size, false)], None);
            let pieces = [
                (g, 5, false),
                (g + 5, 30, false),
                (g + 35, 0, false),
                (g + 35, size - 23, false),
            ];
            driver.offer(&pieces, Some(TABLES));
            let (packets, tally) = received(&mut ring);
            assert_eq!((packets.len(), tally.packets, tally.malformed), (3, 3, 0));
            assert!(packets.iter().all(|p| p.data() == f), "{round}");
            assert_eq!(driver.used().len(), 3);
            assert!(received(&mut ring).0.is_empty());
        }
    });
}

#[test]
fn work_that_a_guest_leaves_undone_comes_with_the_frame() {
    each(8, |mut driver| {
        let mut ring = ring_of(&driver, plain());
        let header = |flags, gso, size: u16, start: u16| {
            let mut h = [0; 12];
            (h[0], h[1]) = (flags, gso);
            h[4..6].copy_from_slice(&size.to_le_bytes());
            h[6..8].copy_from_slice(&start.to_le_bytes());
            h[8..10].copy_from_slice(&16u16.to_le_bytes());
            h
        };
        for (n, h) in [
            header(1, 1, 1448, 34),
            // A checksum outside of the frame, and one that the guest vouches for.
            header(1, 0, 0, 3000),
            header(2, 0, 0, 0),
        ]
        .iter()
        .enumerate()
        {
            let at = buffer(n as u64);
            put_frame(&driver, at, h, &frame(2, 2900));
            driver.offer(&[(GUEST + at, 2912, false)], None);
        }
        let (packets, tally) = received(&mut ring);
        assert_eq!((packets.len(), tally.malformed), (2, 1));
        assert_eq!(packets[0].offload.gso.unwrap().kind, GsoType::Tcp4);
        let partial = Checksum::Partial {
            start: 34,
            offset: 16,
        };
        assert_eq!(packets[0].offload.checksum, partial);
        assert_eq!(packets[1].offload.checksum, Checksum::Unknown);
        assert_eq!(driver.used().len(), 3);
    });
}

#[test]
fn frames_for_a_guest_fill_one_buffer_or_several() {
    each(16, |mut driver| {
        let mut ring = ring_of(&driver, plain());
        for n in 0..6 {
            // The second half in two pieces.
            let g = GUEST + buffer(n);
            driver.offer(&[(g, 200, true), (g + 200, 312, true)], None);
        }
        let packets = [60, 500, 501, 1500].map(|n| Packet::from_slice(&frame(4, n)));
        // The last wants three buffers, of which two are left.
        let (done, losses) = sent(&mut ring, &packets);
        assert_eq!((done, losses), (3, Losses::default()));
        let lengths: Vec<u32> = driver.used().iter().map(|u| u.1).collect();
        assert_eq!(lengths, [72, 512, 512, 1]);
        assert_eq!(
            driver.get(buffer(0), 12),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
        );
        assert_eq!(driver.get(buffer(0) + 12, 60), frame(4, 60));
        assert_eq!(driver.get(buffer(2) + 10, 2), [2, 0]);
        let third = [driver.get(buffer(2) + 12, 500), driver.get(buffer(3), 1)].concat();
        assert_eq!(third, frame(4, 501));
        let g = GUEST + buffer(6);
        driver.offer(&[(g, 600, true)], Some(TABLES));
        assert_eq!(sent(&mut ring, &packets[3..]).0, 1);
        let lengths: Vec<u32> = driver.used().iter().map(|u| u.1).collect();
        assert_eq!(lengths, [512, 512, 488]);
        assert_eq!(sent(&mut ring, &packets[..1]).0, 0);
    });
}

#[test]
fn without_merged_buffers_what_does_not_fit_one_is_lost_and_the_buffer_is_kept() {
    each(8, |mut driver| {
        let mut ring = ring_of(&driver, Features::VERSION_1);
        driver.offer(&[(GUEST + buffer(0), 300, true)], None);
        driver.offer(&[(GUEST + buffer(1), 300, true)], None);
        let packets = [289, 288, 60].map(|n| Packet::from_slice(&frame(4, n)));
        let (done, losses) = sent(&mut ring, &packets);
        assert_eq!((done, losses), (3, Losses::all(Loss::OverMtu, 1)));
        let lengths: Vec<u32> = driver.used().iter().map(|u| u.1).collect();
        assert_eq!(lengths, [300, 72]);
        assert_eq!(driver.get(buffer(0) + 12, 288), frame(4, 288));
    });
}

#[test]
fn an_old_driver_has_a_shorter_header() {
    let (_, memory) = memory();
    let mut driver = Driver::new(&memory, 0, 8, false);
    let mut ring = ring_of(&driver, Features::empty());
    driver.put(buffer(0) + 10, &frame(6, 60));
    driver.offer(&[(GUEST + buffer(0), 70, false)], None);
    assert_eq!(received(&mut ring).0[0].data(), frame(6, 60));
}

#[test]
fn a_guest_is_told_when_it_asks_for_it() {
    use std::io::Read;
    each(8, |mut driver| {
        let mut ring = ring_of(&driver, plain() | Features::EVENT_IDX);
        let (mut heard, bell) = std::os::unix::net::UnixStream::pair().unwrap();
        heard.set_nonblocking(true).unwrap();
        let bell = ferrovs_sys::doorbell::Doorbell::new(bell.into()).unwrap();
        ring.set_call(Some(bell));
        let mut tolds = Vec::new();
        // It asks to hear of the fourth buffer.
        let event = driver.at()
            + if driver.packed {
                AVAIL_AT
            } else {
                AVAIL_AT + 4 + 2 * 8
            };
        let named = if driver.packed { 3 | 1 << 15 } else { 3 };
        driver.area.store_u16(event, named, SeqCst);
        if driver.packed {
            driver.area.store_u16(event + 2, 2, SeqCst);
        }
        for _ in 0..6 {
            driver.offer(&[(GUEST + buffer(0), 100, false)], None);
            let told = received(&mut ring).1.told;
            assert_eq!(heard.read(&mut [0; 64]).is_ok(), told == 1);
            tolds.push(told);
        }
        assert_eq!(tolds, [0, 0, 0, 1, 0, 0]);
    });
}

#[test]
fn a_ring_that_was_stopped_goes_on_where_it_was() {
    each(8, |mut driver| {
        let mut ring = ring_of(&driver, plain());
        let mut seen = 0;
        for n in 0..13 {
            driver.put(buffer(0) + 12, &frame(n, 60));
            driver.offer(&[(GUEST + buffer(0), 72, false)], None);
            if n % 3 == 0 {
                let (base, _) = ring.stop();
                ring = ring_at(&driver, plain(), base);
            }
            let (packets, _) = received(&mut ring);
            assert_eq!((packets.len(), packets[0].data()[6]), (1, n));
            seen += driver.used().len();
        }
        assert_eq!(seen, 13);
    });
}
