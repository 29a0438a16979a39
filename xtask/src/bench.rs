//! Instruction counts: what each bench takes for one operation, beside the number that the tree expects.
//!
//! A count does not hang on how busy the machine is, nor, beyond a fraction of a percent, on which machine it is: so a
//! change that makes something dearer is seen where it is made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrovs_testkit::apt;

use crate::{bin, race};

const PACKAGE: &str = "ferrovs-benches";
/// How far a count may be from its pin, in percent.
const TOLERANCE: f64 = 5.0;
const HEADING: &str = "\
# Instructions for one operation, by name. `cargo xtask bench --check` fails when one is more than 5 % off; the commit
# that moves it runs `cargo xtask bench --pin` and says why.
";

/// What is done with the counts.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Show,
    Check,
    Pin,
}

/// `cargo xtask bench [--check | --pin] [PREFIX...]`, or the race.
pub fn run(args: &[String]) -> Result<(), String> {
    if let [first, rest @ ..] = args
        && first == "--race"
    {
        return race::run(rest);
    }
    let mut then = Then::Show;
    let mut prefixes = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--check" => then = Then::Check,
            "--pin" => then = Then::Pin,
            prefix if !prefix.starts_with('-') => prefixes.push(prefix),
            other => return Err(format!("unknown option {other}")),
        }
    }
    apt::ensure(&[("valgrind", "valgrind")])?;
    bin::cargo(&["build", "--quiet", "--release", "-p", PACKAGE])?;
    let program = bin::target().join("release").join(PACKAGE);
    let wanted = |name: &&str| prefixes.is_empty() || prefixes.iter().any(|p| name.starts_with(p));
    let list = output(&mut Command::new(&program))?.0;
    let names: Vec<&str> = list.lines().filter(wanted).collect();
    let counts = count_all(&program, &names)?;

    let pinned = read_pins()?;
    let mut moved = Vec::new();
    println!(
        "{:28} {:>12} {:>12} {:>8}",
        "bench", "count", "pin", "change"
    );
    for (name, count) in names.iter().zip(&counts) {
        let pin = pinned.get(*name);
        let change = pin.map(|pin| (count / pin - 1.0) * 100.0);
        if change.is_none_or(|c| c.abs() > TOLERANCE) {
            moved.push(*name);
        }
        let pin = pin.map_or_else(|| "-".to_owned(), |pin| format!("{pin:.0}"));
        let change = change.map_or_else(|| "new".to_owned(), |c| format!("{c:+.1} %"));
        println!("{name:28} {count:12.0} {pin:>12} {change:>8}");
    }
    // A pin whose bench is gone would be there for ever.
    let gone = pinned.keys().map(String::as_str);
    moved.extend(gone.filter(|name| prefixes.is_empty() && !names.contains(name)));
    match then {
        Then::Check if !moved.is_empty() => Err(format!(
            "off by more than {TOLERANCE} %: {}. If that is meant, `cargo xtask bench --pin`, and say why.",
            moved.join(", ")
        )),
        Then::Pin => write_pins(pinned, &names, &counts, prefixes.is_empty()),
        _ => Ok(()),
    }
}

fn pins() -> PathBuf {
    bin::root().join("benches/counts.txt")
}

fn read_pins() -> Result<BTreeMap<String, f64>, String> {
    let path = pins();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(char::is_whitespace)?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{}: a line is no name and number", path.display()))
}

/// Writes the counts; with `all` nothing else stays.
fn write_pins(
    mut pins_now: BTreeMap<String, f64>,
    names: &[&str],
    counts: &[f64],
    all: bool,
) -> Result<(), String> {
    pins_now.retain(|_, _| !all);
    pins_now.extend(
        names
            .iter()
            .map(|&name| name.to_owned())
            .zip(counts.iter().copied()),
    );
    let lines = pins_now
        .iter()
        .map(|(name, count)| format!("{name:28} {count:10.0}\n"));
    let text: String = std::iter::once(HEADING.to_owned()).chain(lines).collect();
    std::fs::write(pins(), text).map_err(|e| format!("{}: {e}", pins().display()))
}

/// Runs the benches, as many at once as there are processors.
fn count_all(program: &PathBuf, names: &[&str]) -> Result<Vec<f64>, String> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(vec![Ok(0.0); names.len()]);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(i) else { break };
            let count = count(program, name).map_err(|e| format!("{name}: {e}"));
            if let Ok(mut counts) = counts.lock() {
                counts[i] = count;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
    let counts = counts.into_inner().map_err(|e| e.to_string())?;
    counts.into_iter().collect()
}

/// Instructions for one operation of a bench.
fn count(program: &PathBuf, name: &str) -> Result<f64, String> {
    // One set of memcpy and its kin, whatever the processor has.
    const PLAIN: &str = "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";
    let (stdout, stderr) = output(
        Command::new("valgrind")
            .args([
                "--tool=callgrind",
                "--collect-atstart=no",
                "--callgrind-out-file=/dev/null",
            ])
            .arg(program)
            .arg(name)
            .env("GLIBC_TUNABLES", PLAIN),
    )?;
    // "==123== Collected : 456"
    let collected = stderr
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, n)| n.trim().parse::<f64>().ok());
    let operations: Option<f64> = stdout.trim().parse().ok();
    match (collected, operations) {
        (Some(collected), Some(operations)) if operations > 0.0 => Ok(collected / operations),
        _ => Err(format!("no count in {stdout}{stderr}")),
    }
}

/// What a command that succeeds prints.
fn output(command: &mut Command) -> Result<(String, String), String> {
    let run = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&run.stdout), text(&run.stderr));
    match run.status.success() {
        true => Ok((stdout, stderr)),
        false => Err(format!("{command:?}: {}\n{stderr}", run.status)),
    }
}
