//! The developer's command: `cargo xtask VERB`.
#![forbid(unsafe_code)]

mod bench;
mod bin;
mod check;
mod cycles;
mod lab;
mod race;
mod unused;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB [OPTIONS]
  bin          build all programs (release) into target/ovs/bin, with vswitch.ovsschema beside them
  lab          build, start a switch between network namespaces, ping through it and show what it did
    --keep       stay up, and print how to use it
  test [ARGS]  run all tests; ARGS go to cargo test
  lint         formatting, clippy, and what nobody uses; warnings are errors
  bench [NAME] instructions that one operation takes, beside what the tree expects, for names that begin so
    --check      fail when one is more than 5 % off
    --pin        expect what was counted
    --race       Debian's Open vSwitch with DPDK and ours in turn: cycles a packet (more options: --race --help)";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match verb.as_str() {
        "bench" => bench::run(&rest),
        "bin" => bin::release().map(|dir| println!("{}", dir.display())),
        "lab" => lab::run(&rest),
        "test" => check::test(&rest),
        "lint" => check::lint(),
        _ => Err(USAGE.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
