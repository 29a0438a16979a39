//! What the common work costs, in instructions: `cargo xtask bench` runs each of these under valgrind and holds their
//! counts against `counts.txt`.
//!
//! A bench prepares what it needs, counts some operations and says how many there were. Its input is made up, not drawn:
//! counts are the same in every run, but for what random seeds of hash tables change. Without valgrind it runs as well and
//! says nothing but the number of operations.
#![forbid(unsafe_code)]

mod classifier;
mod database;
mod datapath;
mod json;
mod packet;
mod switch;
mod text;
mod xlate;

use std::hint::black_box;
use std::process::ExitCode;

use ferrovs_testkit::memory::{Device, Look};

/// As in the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A bench: its name, and what runs it and tells the number of operations.
type Bench = (&'static str, fn() -> u64);

const FAMILIES: &[&[Bench]] = &[
    packet::BENCHES,
    datapath::BENCHES,
    classifier::BENCHES,
    xlate::BENCHES,
    switch::BENCHES,
    text::BENCHES,
    json::BENCHES,
    database::BENCHES,
];

/// Counts the instructions that `operation` takes for each item.
fn counted<T, R>(items: impl IntoIterator<Item = T>, mut operation: impl FnMut(T) -> R) -> u64 {
    let mut n = 0;
    let items = items.into_iter();
    ferrovs_sys::callgrind::toggle_collect();
    for item in items {
        black_box(operation(item));
        n += 1;
    }
    ferrovs_sys::callgrind::toggle_collect();
    n
}

/// Lets a device receive batches, and counts what the thread that gets them does with each until it asks for the next.
fn counted_receive(device: &Device, batches: impl IntoIterator<Item = Vec<Vec<u8>>>) {
    let mut counting = false;
    device.watch(move |look| {
        let has_work = matches!(look, Look::Ends(n) if n > 0);
        if has_work != counting {
            ferrovs_sys::callgrind::toggle_collect();
        }
        counting = has_work;
    });
    device.receive(batches);
}

fn main() -> ExitCode {
    let benches = || FAMILIES.iter().copied().flatten();
    match std::env::args().nth(1) {
        None => benches().for_each(|(name, _)| println!("{name}")),
        Some(wanted) => match benches().find(|(name, _)| *name == wanted) {
            Some((_, run)) => println!("{}", run()),
            None => {
                eprintln!("no bench is called {wanted}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}
