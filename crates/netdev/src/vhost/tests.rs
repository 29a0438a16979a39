//! Rings and sessions beside a guest of the tests' own.

use std::sync::atomic::Ordering::SeqCst;

use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_testkit::guest::{
    AVAIL_AT, DESC, Driver, GUEST, INDIRECT, NEXT, Piece, SIZE, frame, memory,
};

use super::split::Parts;
use super::tally::Tally;
use super::vring::Ring;
use super::wire::Features;
use crate::Losses;

mod hostile;
mod rings;
mod sessions;

/// Where the ring of a driver is.
fn parts(driver: &Driver) -> Parts {
    let [desc, avail, used] = driver.parts();
    Parts { desc, avail, used }
}

/// The ring of a driver, from where it was stopped.
fn ring_at(driver: &Driver, features: Features, base: u16) -> Ring {
    let features = match driver.packed {
        true => features | Features::RING_PACKED,
        false => features,
    };
    Ring::new(driver.memory(), features, driver.size, parts(driver), base).unwrap()
}

fn ring_of(driver: &Driver, features: Features) -> Ring {
    ring_at(driver, features, driver.base())
}

/// The frames that a ring has for us.
fn received(ring: &mut Ring) -> (Vec<Packet>, Tally) {
    let (mut batch, mut tally) = (Batch::new(), Tally::default());
    ring.receive(&mut batch, &mut tally).unwrap();
    (batch.into_iter().collect(), tally)
}

/// Sends frames; how many were done with, and what was lost.
fn sent(ring: &mut Ring, packets: &[Packet]) -> (usize, Losses) {
    let (mut tally, mut losses) = (Tally::default(), Losses::default());
    let done = ring.send(packets, &mut tally, &mut losses).unwrap();
    (done, losses)
}
