//! Runs the simulation of clusters for as many seeds as one likes:
//! `cargo run --release -p ferrovs-raft --example simulate -- [SEEDS [FIRST [--trace]]]`.

#[path = "../simulation/mod.rs"]
mod simulation;

use std::process::ExitCode;

use simulation::{NOT_BACK, Options, Summary, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default| match arguments.get(i) {
        Some(text) => text.parse().unwrap_or(default),
        None => default,
    };
    let (seeds, first): (u64, u64) = (number(0, 1000), number(1, 0));
    let options = Options {
        trace: arguments.iter().any(|a| a == "--trace"),
        ..Options::default()
    };
    let mut total = Summary::default();
    for seed in first..first + seeds {
        match run(seed, options) {
            Ok(s) => {
                total.steps += s.steps;
                total.crashes += s.crashes;
                total.elections += s.elections;
                total.acknowledged += s.acknowledged;
                total.members += s.members;
                total.snapshots += s.snapshots;
            }
            Err(failure) => {
                let kind = match failure.0 == NOT_BACK {
                    true => "liveness",
                    false => "safety",
                };
                println!("seed {seed}: {kind}: {}", failure.0);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{seeds} seeds: {total:?}");
    ExitCode::SUCCESS
}
