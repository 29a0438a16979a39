//! What the race gave, and the table of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cases::{Case, GROUPS, Group};
use super::measure::Counts;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Name and version of the peer, if it could run.
    pub peer: Option<String>,
    pub ours: String,
    pub processor: String,
    pub rounds: u32,
    /// By the name of the case, what each round gave.
    pub cases: BTreeMap<String, Both>,
}

/// The two side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Both {
    pub peer: Rounds,
    pub ours: Rounds,
}

/// Cycles a packet in each round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rounds(pub Vec<f64>);

impl Rounds {
    /// The one in the middle; of two, their mean.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.len() % 2 {
            1 => Some(sorted[half]),
            _ => Some((sorted.get(half.checked_sub(1)?)? + sorted.get(half)?) / 2.0),
        }
    }

    /// How far the least and the most are from the median, in percent.
    fn spread(&self) -> Option<(f64, f64)> {
        let median = self.median()?;
        let percent = |x: f64| (x / median - 1.0) * 100.0;
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(0.0, f64::max);
        Some((percent(least), percent(most)))
    }
}

impl Both {
    /// Ours as a share of the peer's.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.ours.median()? / self.peer.median()?)
    }
}

impl Results {
    pub fn new(peer: Option<String>, ours: String, rounds: u32) -> Results {
        Results {
            peer,
            ours,
            processor: processor(),
            rounds,
            cases: BTreeMap::new(),
        }
    }

    /// One run is over.
    pub fn add(&mut self, case: &str, is_peer: bool, counts: Counts) {
        let both = self.cases.entry(case.to_owned()).or_default();
        let rounds = if is_peer {
            &mut both.peer
        } else {
            &mut both.ours
        };
        rounds.0.extend(counts.cycles());
    }

    /// Reads what [`Results::json`] wrote.
    pub fn read(path: &Path) -> Result<Results, String> {
        let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
        serde_json::from_str(&text).map_err(|e| fail(&e))
    }

    pub fn json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|e| e.to_string())
    }

    /// Takes over another race's cases. It must have been between the same two, on the same machine.
    pub fn join(&mut self, other: Results) -> Result<(), String> {
        let of = |r: &Results| {
            (
                r.peer.clone(),
                r.ours.clone(),
                r.processor.clone(),
                r.rounds,
            )
        };
        if of(self) != of(&other) {
            return Err("these results are not of the same race".to_owned());
        }
        self.cases.extend(other.cases);
        Ok(())
    }

    /// The cases that were run, by their groups, in the order of their table.
    pub fn groups(&self) -> Vec<(&'static str, Vec<(&'static str, &Both)>)> {
        let rows = |group: &Group| -> Vec<_> {
            let row = |case: &Case| Some((case.name, self.cases.get(case.name)?));
            group.cases.iter().filter_map(row).collect()
        };
        let groups = GROUPS.iter().map(|group| (group.name, rows(group)));
        groups.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    pub fn table(&self) -> String {
        let mut out = format!(
            "{:30} {:>8} {:>13} {:>8} {:>13} {:>6}\n",
            "cycles a packet", "peer", "spread", "ours", "spread", "ratio"
        );
        for (group, rows) in self.groups() {
            _ = writeln!(out, "{group}");
            for (name, both) in rows {
                out += &row(name, both, self.rounds);
            }
        }
        let peer = self.peer.as_deref().unwrap_or("none, it cannot run here");
        out + &format!(
            "peer: {peer}\nours: {}\nmachine: {}\nmedians of {} rounds; less is better; one polling thread, frames of 64 bytes\n",
            self.ours, self.processor, self.rounds
        )
    }
}

/// A ratio as text: one that is small has digits all the same.
pub fn share(ratio: f64) -> String {
    match ratio {
        0.0..0.1 => format!("{ratio:.3}"),
        _ => format!("{ratio:.2}"),
    }
}

/// A line of the table.
fn row(name: &str, both: &Both, rounds: u32) -> String {
    let dash = || "-".to_owned();
    let number = |n: Option<f64>| n.map_or_else(dash, |n| format!("{n:.0}"));
    let spread = |rounds: &Rounds| {
        let spread = rounds.spread();
        spread.map_or_else(dash, |(a, b)| format!("{a:+.0} {b:+.0} %"))
    };
    let ratio = both.ratio().map_or_else(dash, share);
    // What failed was said when it did.
    let counted = |side: &Rounds| side.0.len();
    let few = match (
        counted(&both.peer).max(counted(&both.ours)),
        counted(&both.ours),
    ) {
        (all, ours) if all < rounds as usize || ours < all => {
            format!("  ours in {ours} of {rounds} rounds")
        }
        _ => String::new(),
    };
    format!(
        "  {name:28} {:>8} {:>13} {:>8} {:>13} {ratio:>6}{few}\n",
        number(both.peer.median()),
        spread(&both.peer),
        number(both.ours.median()),
        spread(&both.ours),
    )
}

/// The machine's processor.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let get = |label: &str| {
        let line = text.lines().find(|line| line.starts_with(label))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let (name, mhz) = (get("model name"), get("cpu MHz"));
    let count = text.lines().filter(|l| l.starts_with("processor")).count();
    format!(
        "{}, {} MHz, {count} processors",
        name.unwrap_or_else(|| "unknown".to_owned()),
        mhz.unwrap_or_else(|| "?".to_owned())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Rounds {
        Rounds(values.to_vec())
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(rounds(&[]).median(), None);
        assert_eq!(rounds(&[3.0]).median(), Some(3.0));
        assert_eq!(rounds(&[9.0, 1.0]).median(), Some(5.0));
        assert_eq!(rounds(&[9.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(
            rounds(&[80.0, 100.0, 150.0])
                .spread()
                .map(|(a, b)| (a.round(), b)),
            Some((-20.0, 50.0))
        );
    }

    #[test]
    fn a_row_has_medians_spreads_and_the_ratio() {
        let both = Both {
            peer: rounds(&[90.0, 100.0, 120.0]),
            ours: rounds(&[50.0; 3]),
        };
        let words = |text: String| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            words(row("drop", &both, 3)),
            "drop 100 -10 +20 % 50 +0 +0 % 0.50"
        );
        let far = Both {
            peer: rounds(&[30_000.0]),
            ours: rounds(&[150.0]),
        };
        assert!(row("masks", &far, 1).ends_with("0.005\n"));
        let alone = Both {
            ours: rounds(&[50.0]),
            ..Both::default()
        };
        assert_eq!(words(row("drop", &alone, 1)), "drop - - 50 +0 +0 % -");
        let words = words(row("drop", &alone, 2));
        assert!(words.ends_with("ours in 1 of 2 rounds"), "{words}");
    }

    #[test]
    fn results_are_read_back_and_joined_with_those_of_the_same_race() -> Result<(), String> {
        let mut results = Results::new(Some("peer".to_owned()), "ours".to_owned(), 1);
        let mut more = results.clone();
        let counts = Counts {
            received: 3,
            busy: 1000,
            ..Counts::default()
        };
        results.add("drop", true, counts);
        more.add("EMC, 1 flow", false, counts);
        let read: Results = serde_json::from_str(&results.json()?).map_err(|e| e.to_string())?;
        assert_eq!(read, results);
        results.join(more.clone())?;
        assert_eq!(results.cases.len(), 2);
        more.rounds = 2;
        assert!(results.join(more).is_err());
        Ok(())
    }

    #[test]
    fn the_table_has_only_what_was_run_under_its_heading() {
        let mut results = Results::new(None, "Ferrovs".to_owned(), 1);
        results.add(
            "drop",
            false,
            Counts {
                received: 10,
                busy: 500,
                ..Counts::default()
            },
        );
        let table = results.table();
        assert!(table.contains("\nOne rule\n  drop "), "{table}");
        assert!(
            !table.contains("VXLAN") && !table.contains("simple match"),
            "{table}"
        );
        assert!(
            table.contains("peer: none, it cannot run here\n"),
            "{table}"
        );
    }
}
