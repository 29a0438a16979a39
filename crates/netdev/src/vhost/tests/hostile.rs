//! Guests that write anything: nothing panics, hangs or reaches beyond their memory.

use proptest::prelude::*;

use super::*;
use crate::vhost::format::Broken;

const GUARD: usize = 0x20_0000;

fn is_unusable(ring: &mut Ring) -> Option<Broken> {
    let (mut batch, mut tally) = (Batch::new(), Tally::default());
    ring.receive(&mut batch, &mut tally).err()
}

#[test]
fn a_ring_without_a_next_buffer_is_broken() {
    let (_, memory) = memory();
    let driver = Driver::new(&memory, 0, 8, false);
    let mut ring = ring_of(&driver, Features::VERSION_1);
    driver.area.store_u16(AVAIL_AT + 2, 9, SeqCst);
    assert_eq!(is_unusable(&mut ring), Some(Broken::TooMany));
    driver.area.store_u16(AVAIL_AT + 2, 1, SeqCst);
    driver.area.store_u16(AVAIL_AT + 4, 8, SeqCst);
    assert_eq!(is_unusable(&mut ring), Some(Broken::Outside(8)));
    let mut packed = Driver::new(&memory, 1, 8, true);
    let mut ring = ring_of(&packed, Features::VERSION_1);
    let endless: Vec<_> = (0..8).map(|_| (GUEST, 10, NEXT)).collect();
    packed.offer_descs(&endless);
    let last = packed.at() + 7 * DESC + 14;
    let flags = packed.area.load_u16(last, SeqCst);
    packed.area.store_u16(last, flags | NEXT, SeqCst);
    assert_eq!(is_unusable(&mut ring), Some(Broken::Endless));
}

#[test]
fn what_comes_before_a_ring_breaks_still_counts() {
    let (_, memory) = memory();
    let mut driver = Driver::new(&memory, 0, 8, false);
    let mut ring = ring_of(&driver, Features::VERSION_1);
    let good = GUEST + GUARD as u64;
    for (write, outside) in [(false, 2), (true, 4)] {
        driver.offer(&[(good, 200, write)], None);
        driver.offer(&[(good, 200, write)], None);
        driver
            .area
            .store_u16(AVAIL_AT + 2 + outside * 2, 99, SeqCst);
        if !write {
            assert_eq!(received(&mut ring).0.len(), 1);
            // It is mended.
            driver.area.store_u16(AVAIL_AT + 2 + outside * 2, 1, SeqCst);
            assert_eq!(received(&mut ring).0.len(), 1);
            continue;
        }
        let packets = [60, 60].map(|n| Packet::from_slice(&frame(4, n)));
        assert_eq!(sent(&mut ring, &packets), (1, Losses::default()));
        let (mut tally, mut losses) = (Tally::default(), Losses::default());
        let broken = ring.send(&packets[1..], &mut tally, &mut losses);
        assert_eq!(broken, Err(Broken::Outside(99)));
    }
}

#[test]
fn buffers_that_make_no_sense_are_given_back_and_carry_nothing() {
    for packed in [false, true] {
        let (_, memory) = memory();
        let mut driver = Driver::new(&memory, 0, 64, packed);
        let mut ring = ring_of(&driver, Features::VERSION_1 | Features::MRG_RXBUF);
        let good = GUEST + GUARD as u64;
        let end = GUEST + SIZE;
        let bad: [&[Piece]; 8] = [
            &[(0, 100, false)],
            &[(end - 50, 100, false)],
            &[(u64::MAX, 100, false)],
            &[(good, 100, true)],
            &[(good, 12, false), (good, 100, true)],
            &[(good, 20, false)],
            &[(good, u32::MAX, false)],
            &[(good, 60_000, false), (good, 60_000, false)],
        ];
        for pieces in bad {
            driver.offer(pieces, None);
        }
        // Tables inside of tables, of odd sizes, and outside of the memory.
        for (address, size) in [
            (good, 17),
            (good, 0),
            (end - 16, 32),
            (good, 16 * 300),
            (7, 16),
        ] {
            driver.offer_descs(&[(address, size, INDIRECT)]);
        }
        driver.write_desc(GUARD, (good, 16), [INDIRECT, INDIRECT]);
        driver.offer_descs(&[(good, 16, INDIRECT)]);
        let (packets, tally) = received(&mut ring);
        assert_eq!(
            (packets.len(), tally.malformed),
            (0, 14),
            "packed: {packed}"
        );
        assert_eq!(driver.used().len(), 14);
        // A split chain that goes in a circle.
        if !packed {
            driver.offer(&[(good, 30, false), (good, 30, false)], None);
            let second = usize::from((driver.free + 63) % 64) * DESC;
            driver.area.store_u16(second + 12, NEXT, SeqCst);
            driver
                .area
                .store_u16(second + 14, (driver.free + 62) % 64, SeqCst);
            assert_eq!(received(&mut ring).1.malformed, 1);
        }
        // What is sent skips them.
        driver.offer(&[(0, 100, true)], None);
        driver.offer(&[(good, 100, true)], None);
        let packet = Packet::from_slice(&frame(2, 60));
        assert_eq!(sent(&mut ring, &[packet]).0, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_a_guest_writes_stays_its_own_problem(
        packed in any::<bool>(),
        writes in prop::collection::vec((any::<u16>(), any::<u64>(), 0..3u8), 1..60),
        indices in prop::collection::vec(any::<u16>(), 1..8),
        merged in any::<bool>(),
    ) {
        let (_, memory) = memory();
        let driver = Driver::new(&memory, 0, 16, packed);
        let mut features = Features::VERSION_1 | Features::EVENT_IDX | Features::INDIRECT_DESC;
        features.set(Features::MRG_RXBUF, merged);
        let mut ring = ring_of(&driver, features);
        let packets: Vec<Packet> = (0..4).map(|n| Packet::from_slice(&frame(n, 200))).collect();
        for (at, word, kind) in &writes {
            // Descriptors that are nearly right, anywhere in the ring's parts.
            let word = match kind {
                0 => GUEST + word % SIZE,
                1 => (word & 0x0007_0007_0000_0fff) | (word & 0x8080_0000_0000_0000),
                _ => *word,
            };
            let at = match kind {
                0 | 1 => usize::from(at % 0x200) & !7,
                _ => usize::from(*at) & !7,
            };
            driver.area.store_u64(at, word, SeqCst);
        }
        for index in indices {
            driver.area.store_u16(AVAIL_AT + 2, index % 20, SeqCst);
            let (mut batch, mut tally) = (Batch::new(), Tally::default());
            if ring.receive(&mut batch, &mut tally).is_err() {
                break;
            }
            prop_assert_eq!(batch.len() as u64, tally.packets);
            let mut losses = Losses::default();
            if ring.send(&packets, &mut tally, &mut losses).is_err() {
                break;
            }
        }
    }
}
