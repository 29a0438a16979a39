//! `cargo xtask bench --race`: Debian's Open vSwitch with DPDK and ours on the same work, in turn.
//!
//! Each case is done by one polling thread that receives frames of a file as fast as it can and sends them nowhere:
//! devices of DPDK's for the one, `replay` and `null` for the other. What counts is what the thread itself says, cycles of
//! the processor for each packet, source and sink included. Both switches run all the time, but only one has ports, so
//! that the other's thread does not poll. All this happens in namespaces that take everything with them when they end.

mod cases;
mod chart;
mod frames;
mod measure;
mod progress;
mod results;
mod side;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ferrovs_testkit::debian::{self, Wanted};
use ferrovs_testkit::{Programs, apt, isolation, pcap};

use crate::bin;
use cases::Case;
use progress::Progress;
use results::Results;
use side::Side;

const USAGE: &str = "\
usage: cargo xtask bench --race [OPTIONS]
  --rounds N      how often each case is run by each (3)
  --case PREFIX   only cases whose names begin so; may be given several times
  --suite NAME    the release of Debian whose Open vSwitch is the peer (trixie)
  --peer DIR      another peer: a tree into which its packages are unpacked, or a folder with its programs
  --ours DIR      a folder with our programs, instead of building them
  --json FILE     also write what each round gave
  --svg FILE      where the chart goes (target/race.svg)
  --from FILE     run nothing: table and chart of what --json wrote; several files of one race are joined";

/// What the command line says.
#[derive(Debug, PartialEq)]
struct Options {
    rounds: u32,
    cases: Vec<String>,
    suite: String,
    peer: Option<PathBuf>,
    ours: Option<PathBuf>,
    json: Option<PathBuf>,
    svg: PathBuf,
    from: Vec<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options, String> {
        let mut options = Options {
            rounds: 3,
            cases: Vec::new(),
            suite: "trixie".to_owned(),
            peer: None,
            ours: None,
            json: None,
            svg: bin::target().join("race.svg"),
            from: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(option) = args.next() {
            let mut value = || args.next().cloned().ok_or(USAGE);
            match option.as_str() {
                "--rounds" => {
                    options.rounds = value()?.parse().ok().filter(|n| *n > 0).ok_or(USAGE)?
                }
                "--case" => options.cases.push(value()?),
                "--suite" => options.suite = value()?,
                "--peer" => options.peer = Some(value()?.into()),
                "--ours" => options.ours = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--svg" => options.svg = value()?.into(),
                "--from" => options.from.push(value()?.into()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }

    fn cases(&self) -> Vec<&'static Case> {
        cases::all()
            .filter(|c| cases::is_chosen(c.name, &self.cases))
            .collect()
    }
}

pub fn run(args: &[String]) -> Result<(), String> {
    let options = Options::parse(args)?;
    if options.cases().is_empty() {
        let names: Vec<&str> = cases::all().map(|c| c.name).collect();
        return Err(format!("no such case; there are:\n{}", names.join("\n")));
    }
    if let [first, more @ ..] = &options.from[..] {
        let mut results = Results::read(first)?;
        for file in more {
            results.join(Results::read(file)?)?;
        }
        return report(&results, &options);
    }
    if !isolation::is_inside() {
        return prepare(args, &options);
    }
    match (&options.ours, &options.peer) {
        (Some(ours), Some(peer)) => report(&race(&options, ours, peer)?, &options),
        _ => Err(USAGE.to_owned()),
    }
}

/// The table, the chart, and the numbers if they are wanted.
fn report(results: &Results, options: &Options) -> Result<(), String> {
    print!("{}", results.table());
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    if let Some(file) = &options.json {
        write(file, results.json()?)?;
    }
    write(&options.svg, chart::svg(results))?;
    println!("chart: {}", options.svg.display());
    Ok(())
}

/// Builds, fetches, and begins anew in namespaces with what that gave.
fn prepare(args: &[String], options: &Options) -> Result<(), String> {
    apt::ensure(apt::TOOLS)?;
    let mut all = vec!["bench".to_owned(), "--race".to_owned()];
    all.extend_from_slice(args);
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| e.to_string());
    let ours = match &options.ours {
        Some(dir) => absolute(dir)?,
        None => {
            eprintln!("building (release)...");
            bin::release()?
        }
    };
    let peer = match &options.peer {
        Some(dir) => absolute(dir)?,
        None => {
            let dir = bin::target().join("race").join(&options.suite);
            if !dir.join("done").exists() {
                eprintln!("fetching Open vSwitch of Debian's {}...", options.suite);
            }
            debian::unpack(&dir, &Wanted::dpdk(&options.suite))?;
            absolute(&dir.join("root"))?
        }
    };
    for (option, dir) in [("--ours", ours), ("--peer", peer)] {
        all.extend([option.to_owned(), dir.display().to_string()]);
    }
    Err(isolation::enter(&all))
}

/// Runs all, in turn: each round one after the other, and in each case the two change places from round to round.
fn race(options: &Options, ours: &Path, peer: &Path) -> Result<Results, String> {
    let dir = std::env::temp_dir();
    let files = write_files(&options.cases(), &dir)?;
    let start_peer = || -> Result<Side, String> {
        let programs = side::peer_programs(peer, dir.join("peer"))?;
        Side::start(
            "Open vSwitch",
            programs,
            side::peer_drivers(peer).as_deref(),
        )
    };
    let mut peer = start_peer();
    if let Err(why) = &peer {
        eprintln!("The peer cannot run here, so ours runs alone: {why}");
    }
    let mut ours = Side::start("Ferrovs", Programs::of(ours.to_path_buf()), None)?;

    let name = |side: &Side| side.name.clone();
    let mut results = Results::new(peer.as_ref().ok().map(name), name(&ours), options.rounds);
    let cases = options.cases();
    let mut progress = Progress::new(options.rounds as usize * cases.len());
    for round in 0..options.rounds {
        for case in &cases {
            progress.show(&format!(
                "round {} of {}, {}",
                round + 1,
                options.rounds,
                case.name
            ));
            let (pcap, rules) = &files[case.name];
            let mut runs = [(true, peer.as_mut().ok()), (false, Some(&mut ours))];
            if round % 2 == 1 {
                runs.reverse();
            }
            for (is_peer, side) in runs {
                let Some(side) = side else { continue };
                match side.race(case, pcap, rules) {
                    Ok(counts) => results.add(case.name, is_peer, counts),
                    Err(e) => progress.say(&format!("{}: {}: {e}", side.name, case.name)),
                }
            }
        }
    }
    progress.end();
    Ok(results)
}

/// Writes the frames and rules of each case; by its name the files of the two.
fn write_files(
    cases: &[&'static Case],
    dir: &Path,
) -> Result<HashMap<&'static str, (PathBuf, PathBuf)>, String> {
    let mut files = HashMap::new();
    let mut written = HashMap::new();
    for (i, case) in cases.iter().enumerate() {
        let pcap = match written.get(&(case.frames, case.flows)) {
            Some(file) => PathBuf::clone(file),
            None => {
                let file = dir.join(format!("{i}.pcap"));
                let frames = frames::build(case.frames, case.flows);
                pcap::write(&file, &frames).map_err(|e| format!("{}: {e}", file.display()))?;
                written.insert((case.frames, case.flows), file.clone());
                file
            }
        };
        let rules = dir.join(format!("{i}.flows"));
        std::fs::write(&rules, case.rules.text(case.frames))
            .map_err(|e| format!("{}: {e}", rules.display()))?;
        files.insert(case.name, (pcap, rules));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn options_that_cannot_be_are_answered_by_the_usage() {
        for line in [
            "--rounds",
            "--rounds 0",
            "--rounds x",
            "--case",
            "--help",
            "drop",
        ] {
            assert_eq!(parse(line).err().as_deref(), Some(USAGE), "{line}");
        }
    }

    #[test]
    fn cases_are_those_whose_names_begin_so() -> Result<(), String> {
        assert_eq!(parse("")?.cases().len(), cases::all().count());
        let options = parse("--rounds 5 --case simple --case emc")?;
        assert_eq!((options.rounds, options.cases().len()), (5, 3));
        Ok(())
    }
}
