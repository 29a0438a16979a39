//! Matrices: many command lines, each run by sh with Open vSwitch's programs and with ours in a fresh copy
//! of the same files. What they print, how they exit and, as far as they show it, what they leave
//! behind must be equal.
//!
//! Not compared, because Open vSwitch takes it from the order of a hash table: the order of members in
//! JSON, of selected rows, of rows and columns in `show-log`, and which of two rows that break an
//! index is named first.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::Programs;
use crate::oracle::oracle;
use crate::text::without_version;

/// Scripts that belong together.
pub struct Matrix<'a> {
    /// Definitions for all scripts.
    pub prelude: &'a str,
    /// Makes the files that each case starts with, with Open vSwitch's programs.
    pub setup: &'a str,
    /// One case a line; empty lines and those that begin with `#` are none.
    pub cases: &'a str,
    /// Programs that are to be Open vSwitch's in either run, by the variable that names them.
    pub fixed: &'a [(&'a str, &'a str)],
    /// Programs that are compared, in the same way.
    pub compared: &'a [(&'a str, &'a str)],
}

impl Matrix<'_> {
    /// Runs a script in `dir`, without root's power over files that may not be read or written.
    fn script(&self, text: &str, dir: &Path, programs: &Programs) -> Output {
        let prelude = dir.with_extension("prelude");
        std::fs::write(&prelude, self.prelude).expect("a directory of our own");
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set=-dac_override,-dac_read_search", "sh", "-c"])
            .arg(format!(". \"$PRELUDE\"\n{text}"))
            .current_dir(dir)
            .stdin(Stdio::null())
            .env("PRELUDE", &prelude)
            .env("OVS_RUNDIR", dir)
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        for (name, program) in self.fixed {
            command.env(name, oracle().path(program));
        }
        for (name, program) in self.compared {
            command.env(name, programs.path(program));
        }
        for name in [
            "OVS_DBDIR",
            "OVS_SYSCONFDIR",
            "OVS_PKGDATADIR",
            "OVS_LOGDIR",
        ] {
            command.env_remove(name);
        }
        command.output().expect("setpriv is there")
    }

    fn outcome(&self, case: &str, fixtures: &Path, work: &Path, programs: &Programs) -> String {
        let _ = std::fs::remove_dir_all(work);
        let copied = Command::new("cp").arg("-a").args([fixtures, work]).status();
        assert!(copied.is_ok_and(|s| s.success()), "cp fails");
        let o = self.script(case, work, programs);
        let text = |b: &[u8]| comparable(&String::from_utf8_lossy(b));
        format!(
            "{}\n--- stderr\n{}\n--- {:?}",
            text(&o.stdout),
            text(&o.stderr),
            o.status.code()
        )
    }

    /// The first line in which a case differs between the two.
    fn difference(&self, case: &str, fixtures: &Path, work: &Path) -> Option<String> {
        let a = self.outcome(case, fixtures, work, &oracle());
        let b = self.outcome(case, fixtures, work, &Programs::ours());
        if a == b {
            return None;
        }
        let line = a.lines().zip(b.lines()).find(|(a, b)| a != b);
        let (a, b) = line.unwrap_or(("one prints more", ""));
        Some(format!("{case}\nOpen vSwitch: {a}\nFerrovs:      {b}"))
    }

    /// Runs every case with both; `dir` is for files. Panics with the cases that differ.
    ///
    /// Some cases wait, for a while at most, until other processes have done their part. On a machine
    /// that is busy this may be too short, for either side: a case that differs runs again, alone,
    /// and counts if it goes on to differ.
    #[track_caller]
    pub fn compare(&self, dir: &Path) {
        let fixtures = dir.join("fixtures");
        std::fs::create_dir(&fixtures).expect("a directory of our own");
        let made = self.script(self.setup, &fixtures, &oracle());
        assert!(made.status.success(), "{made:?}");
        let cases = self.cases.lines();
        let next = Mutex::new(cases.filter(|l| !l.is_empty() && !l.starts_with('#')));
        let differing = Mutex::new(Vec::new());
        std::thread::scope(|s| {
            for worker in 0..4 {
                let (next, differing) = (&next, &differing);
                let (fixtures, work) = (&fixtures, dir.join(format!("run{worker}")));
                s.spawn(move || {
                    loop {
                        let case = next.lock().ok().and_then(|mut n| n.next());
                        let Some(case) = case else {
                            return;
                        };
                        if self.difference(case, fixtures, &work).is_some() {
                            differing.lock().expect("no worker panics").push(case);
                        }
                    }
                });
            }
        });
        let work = dir.join("again");
        let again = |case: &&str| {
            (0..3)
                .map(|_| self.difference(case, &fixtures, &work))
                .collect()
        };
        let failures: Vec<String> = differing
            .into_inner()
            .unwrap_or_default()
            .iter()
            // None as soon as one run shows no difference.
            .filter_map(|case| {
                let runs: Option<Vec<String>> = again(case);
                runs?.pop()
            })
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    }
}

/// Replaces each place that fits the pattern, in which `9` is any decimal and `h` any hexadecimal
/// digit.
fn replace(text: &str, pattern: &str, with: &str) -> String {
    let bytes = text.as_bytes();
    let fits = |at: usize| {
        bytes.get(at..at + pattern.len()).is_some_and(|part| {
            part.iter().zip(pattern.bytes()).all(|(c, p)| match p {
                b'9' => c.is_ascii_digit(),
                b'h' => c.is_ascii_digit() || (b'a'..=b'f').contains(c),
                p => *c == p,
            })
        })
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if fits(at) {
            out.extend_from_slice(with.as_bytes());
            at += pattern.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Rows of a result in one order. Members of objects come sorted anyway.
fn in_order(v: Value) -> Value {
    match v {
        Value::Object(m) => m
            .into_iter()
            .map(|(k, v)| {
                let mut v = in_order(v);
                if k == "rows"
                    && let Value::Array(rows) = &mut v
                {
                    rows.sort_by_key(Value::to_string);
                }
                (k, v)
            })
            .collect(),
        Value::Array(a) => a.into_iter().map(in_order).collect(),
        v => v,
    }
}

/// A line that is JSON, or quotes some, with its members in one order.
fn json_in_order(line: &str) -> String {
    let ordered = |text: &str| {
        let v: Value = serde_json::from_str(text).ok()?;
        Some(in_order(v).to_string())
    };
    if line.starts_with(['{', '[']) {
        return ordered(line).unwrap_or_else(|| line.to_owned());
    }
    if let Some((before, rest)) = line.split_once("syntax \"")
        && let Some((json, after)) = rest.rsplit_once("\": ")
        && let Some(json) = ordered(json)
    {
        return format!("{before}syntax \"{json}\": {after}");
    }
    line.to_owned()
}

/// Rows of one record of `show-log`, and the columns of each, in one order.
fn sort_rows(block: &mut Vec<String>, out: &mut Vec<String>) {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.drain(..) {
        match rows.last_mut() {
            Some(row) if line.starts_with("    ") => row.1.push(line),
            _ => rows.push((line, Vec::new())),
        }
    }
    rows.iter_mut().for_each(|r| r.1.sort());
    rows.sort();
    for (head, columns) in rows {
        out.push(head);
        out.extend(columns);
    }
}

fn comparable(text: &str) -> String {
    let text = replace(text, "2999-99-99T99:99:99Z", "TIME");
    let text = replace(&text, "2999-99-99 99:99:99.999", "TIME");
    // Dates in records; those of the fixtures begin otherwise.
    let text = replace(&text, "\"_date\":1799999999999", "\"_date\":0");
    let text = replace(&text, "\"_date\":1899999999999", "\"_date\":0");
    // Random UUIDs: those of the fixtures are of one digit each.
    let mut fixed = text;
    for d in ["1", "2", "3", "4"] {
        fixed = fixed.replace(&uuid(d), &format!("<{d}>"));
    }
    let text = replace(&fixed, "hhhhhhhh-hhhh-4hhh-hhhh-hhhhhhhhhhhh", "UUID");
    let (mut out, mut block) = (Vec::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let shown = line.starts_with("  table ")
            || line == "    delete row"
            || (line.starts_with("    ") && line.contains('='));
        if shown {
            // Short forms of random UUIDs.
            let line = replace(line, " row hhhhhhhh", " row SHORT");
            let line = replace(&line, "(hhhhhhhh)", "(SHORT)");
            block.push(line);
            continue;
        }
        sort_rows(&mut block, &mut out);
        let mut line = json_in_order(line);
        if let Some(rest) = line.strip_prefix("TIME|") {
            // The position in the log. Open vSwitch says some things at each turn of its loop.
            line = format!("TIME|{}", rest.trim_start_matches(|c| c != '|'));
            if out.last() == Some(&line) || line.contains("(Open vSwitch)") {
                continue;
            }
        }
        if line.starts_with("OVSDB JSON ") && lines.peek().is_some_and(|l| l.starts_with('{')) {
            // The hash and, because of versions and dates, the length of what follows.
            line = "OVSDB JSON".into();
        }
        if let Some(at) = line.find("First row")
            && let Some(end) = line.rfind("Second row")
        {
            let end = end + line[end..].find(['"', '}']).unwrap_or(line.len() - end);
            line.replace_range(at..end, "ROWS");
        }
        // The program's name in messages of the C library.
        if line.starts_with('/')
            && let Some(end) = line.find(": ")
            && let Some(at) = line[..end].rfind('/')
        {
            line.replace_range(..=at, "");
        }
        if let Some(at) = line.find(" locked by pid ") {
            line.truncate(at + " locked by pid".len());
        }
        out.push(without_version(&line));
    }
    sort_rows(&mut block, &mut out);
    out.join("\n")
}

fn uuid(digit: &str) -> String {
    let d = |n: usize| digit.repeat(n);
    format!("{}-{}-4{}-8{}-{}", d(8), d(4), d(3), d(3), d(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hash_orders_is_put_in_order() {
        assert_eq!(
            comparable("[{\"rows\":[{\"b\":1,\"a\":2},{\"a\":1}]}]"),
            comparable("[{\"rows\":[{\"a\":1},{\"a\":2,\"b\":1}]}]")
        );
        assert_eq!(
            comparable("  table B row x:\n    b=1\n    a=2\n  table A row y:\n"),
            comparable("  table A row y:\n  table B row x:\n    a=2\n    b=1\n")
        );
        assert_ne!(comparable("[1,2]"), comparable("[2,1]"));
    }
}
