//! What the crate promises, on real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ferrovs_sync::{Counter, Seq, Versions, Waker};

#[test]
fn the_sum_holds_what_every_thread_added() {
    let c = Counter::new();
    std::thread::scope(|s| {
        for _ in 0..20 {
            s.spawn(|| (0..1000).for_each(|_| c.add(3)));
        }
    });
    assert_eq!(c.sum(), 60_000);
}

#[test]
fn a_watcher_is_woken_once_by_the_next_change() {
    let seq = Seq::new();
    let w = Arc::new(Waker::new().unwrap());
    let v = seq.read();
    assert!(seq.watch(v, &w));
    assert!(seq.watch(v, &w));
    assert!(!w.drain());
    seq.change();
    assert!(w.drain());
    seq.change();
    assert!(!w.drain());
}

#[test]
fn a_change_that_already_happened_is_reported_at_once() {
    let seq = Seq::new();
    let w = Arc::new(Waker::new().unwrap());
    let v = seq.read();
    seq.change();
    assert!(!seq.watch(v, &w));
}

#[test]
fn the_oldest_pin_holds_back_and_its_drop_releases() {
    let v = Versions::new(5);
    let a = v.pin();
    v.publish(6);
    let b = v.pin();
    v.publish(9);
    assert_eq!((a.version, b.version), (5, 6));
    assert_eq!(v.oldest_pinned(), 5);
    drop(a);
    assert_eq!(v.oldest_pinned(), 6);
    drop(b);
    assert_eq!(v.oldest_pinned(), 9);
}

#[test]
fn a_writer_never_overtakes_a_pinned_reader() {
    let v = Versions::new(1);
    let unlinked = AtomicU64::new(0); // every version below this one is gone
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..20_000 {
                    let g = v.pin();
                    assert!(g.version >= unlinked.load(SeqCst));
                }
            });
        }
        for n in 2..20_000 {
            v.publish(n);
            unlinked.fetch_max(v.oldest_pinned(), SeqCst);
        }
    });
}
