//! What a flood costs, and whom.

use super::*;

#[test]
fn a_flood_is_bounded_and_leaves_connections_that_stand_alone() {
    let mut lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 80));
    lab.state(tcp(a, b, SYN, 100, 0, b""), &commit());
    lab.state(tcp(b, a, SYN | ACK, 500, 101, b""), &look());
    lab.state(tcp(a, b, ACK, 101, 501, b""), &look());
    lab.tracker.set_max_count(1000);
    for i in 0..5000u32 {
        let [_, _, x, y] = i.to_be_bytes();
        let src = ([172, 16, x, y], 7);
        assert_eq!(lab.state(tcp(src, b, SYN, 1, 0, b""), &commit()), CS_NEW);
    }
    assert_eq!(lab.tracker.count(), 1000);
    assert_eq!(
        lab.state(tcp(a, b, ACK, 101, 501, b""), &look()),
        CS_ESTABLISHED
    );
    // The flood is forgotten within its timeout and one interval of the sweep.
    lab.wait(31);
    let end = lab.now + Duration::from_secs(21);
    while let Some(due) = lab.tracker.sweep(lab.now).filter(|_| lab.now < end) {
        lab.now = due.max(lab.now + Duration::from_millis(1));
    }
    assert_eq!(lab.tracker.count(), 1);
    assert_eq!(
        lab.state(tcp(a, b, ACK, 101, 501, b""), &look()),
        CS_ESTABLISHED
    );
    lab.tracker.flush(&CtFilter::default());
    assert_eq!(lab.tracker.sweep(lab.now), None);
}

#[test]
fn what_expires_at_once_is_forgotten_a_little_at_a_time() {
    let mut lab = Lab::new();
    const ALL: u32 = 40_000;
    for first in (0..ALL).step_by(32) {
        let packet = |i: u32| {
            let [_, x, y, z] = i.to_be_bytes();
            udp(([10, x, y, z], 7), (B, 53), b"")
        };
        let mut batch: Batch = (first..first + 32).map(packet).collect();
        _ = lab.tracker.execute(&mut batch, &commit(), lab.now);
    }
    assert_eq!(lab.tracker.count(), ALL);
    lab.wait(60);
    // Whoever sweeps comes when that is due, or too late: in no case does it stay long.
    let (end, mut most) = (lab.now + Duration::from_secs(20), 0);
    for late in [0, 0, 7_000, 0] {
        let begins = lab.now + Duration::from_millis(late);
        lab.now = begins;
        while let Some(due) = lab.tracker.sweep(lab.now).filter(|due| *due < end) {
            let before = lab.tracker.count();
            lab.now = due.max(lab.now);
            lab.tracker.sweep(lab.now);
            most = most.max(before - lab.tracker.count());
            if late == 0 && lab.now > begins + Duration::from_secs(5) {
                break;
            }
        }
    }
    assert_eq!(lab.tracker.count(), 0);
    assert!(most > 0 && most <= 1024, "{most} at once");
}

#[test]
fn a_zone_has_no_more_than_its_limit() {
    let lab = Lab::new();
    lab.tracker.set_limit(Some(5), 2);
    for port in 1..=4 {
        assert_eq!(lab.state(udp((A, port), (B, 53), b""), &commit()), CS_NEW);
    }
    assert_eq!(lab.entries().len(), 2);
    let [limit] = lab.tracker.limits(Some(5))[..] else {
        panic!("no limit")
    };
    assert_eq!((limit.limit, limit.count), (2, 2));
    let other = Ct {
        zone: 6,
        ..commit()
    };
    lab.state(udp((A, 1), (B, 53), b""), &other);
    assert_eq!(lab.tracker.count(), 3);
    lab.tracker.set_limit(None, 1);
    lab.state(udp((A, 2), (B, 53), b""), &other);
    lab.tracker.delete_limit(Some(5));
    assert_eq!(
        (lab.tracker.count(), lab.tracker.limits(Some(5))[0].limit),
        (3, 1)
    );
}

#[test]
fn a_connection_takes_less_than_250_bytes() {
    // A place, its number among the free ones, an entry of the index at its emptiest, and an alias with its own.
    let entry = size_of::<[u32; 2]>() * 16 / 5;
    let alias = 52 + 4 + entry;
    let all = size_of::<crate::conn::Conn>() + 4 + entry;
    assert!(all < 160 && all + alias < 250, "{all} + {alias}");
}

#[test]
fn a_large_table_is_tracked_as_a_small_one() {
    let lab = Lab::new();
    let udp_to = |n: u16| udp((A, n + 1), (B, 53), b"");
    let track = |ports: std::ops::Range<u16>, ct: &Ct| -> Vec<u8> {
        let mut states = Vec::new();
        for first in ports.clone().step_by(32) {
            let mut batch: Batch = (first..(first + 32).min(ports.end)).map(udp_to).collect();
            _ = lab.tracker.execute(&mut batch, ct, lab.now);
            // What comes again counts once, here too.
            _ = lab.tracker.execute(&mut batch, ct, lab.now);
            states.extend(batch.iter().map(|p| p.md.ct_state & !CS_TRACKED));
        }
        states
    };
    assert!(track(0..10_000, &commit()).iter().all(|s| *s == CS_NEW));
    assert_eq!(lab.tracker.count(), 10_000);
    assert!(track(0..10_000, &look()).iter().all(|s| *s == CS_NEW));
    assert_eq!(lab.entries().len(), 10_000);
    // New ones and known ones in one batch.
    assert_eq!(track(9_990..10_010, &commit()).len(), 20);
    assert_eq!(lab.tracker.count(), 10_010);
}
