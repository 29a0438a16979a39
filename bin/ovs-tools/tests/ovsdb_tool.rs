//! A matrix of ovsdb-tool invocations on Open vSwitch's ovsdb-tool and ours: what they print, how they
//! exit and what they leave behind must be equal.
//!
//! `ovsdb_tool/setup.sh` makes the files that each case of `ovsdb_tool/cases.sh` starts with. Not
//! compared, because Open vSwitch takes it from the order of a hash table: the order of members in
//! JSON, of selected rows, of rows and columns in `show-log`, and which of two rows that break an
//! index is named first.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;
use serde_json::Value;

const SETUP: &str = include_str!("ovsdb_tool/setup.sh");
const CASES: &str = include_str!("ovsdb_tool/cases.sh");

/// What cases may use: the program under test and records for the end of a file.
const PRELUDE: &str = r#"
tool() { timeout 20 "$TOOL" "$@"; }
rec() { printf 'OVSDB JSON %d %s\n%s\n' $((${#1} + 1)) $(printf '%s\n' "$1" | sha1sum | cut -c1-40) "$1"; }
"#;

/// Runs a script in `dir`, without root's power over files that may not be read or written.
fn script(text: &str, dir: &Path, programs: &Programs) -> std::process::Output {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--bounding-set=-dac_override,-dac_read_search",
            "sh",
            "-c",
            &format!("{PRELUDE}{text}"),
        ])
        .current_dir(dir)
        .stdin(Stdio::null())
        .env("TOOL", programs.path("ovsdb-tool"))
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    for name in [
        "OVS_DBDIR",
        "OVS_SYSCONFDIR",
        "OVS_PKGDATADIR",
        "OVS_RUNDIR",
        "OVS_LOGDIR",
    ] {
        command.env_remove(name);
    }
    command.output().unwrap()
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
        if let Some(at) = line.find("/ovsdb-tool: ")
            && line.starts_with('/')
        {
            line.replace_range(..=at, "");
        }
        let line = line.replace("3.1.0", "VERSION").replace("3.7.0", "VERSION");
        out.push(line);
    }
    sort_rows(&mut block, &mut out);
    out.join("\n")
}

fn uuid(digit: &str) -> String {
    let d = |n: usize| digit.repeat(n);
    format!("{}-{}-4{}-8{}-{}", d(8), d(4), d(3), d(3), d(12))
}

fn outcome(case: &str, fixtures: &Path, work: &Path, programs: &Programs) -> String {
    let _ = std::fs::remove_dir_all(work);
    let copied = Command::new("cp")
        .arg("-a")
        .args([fixtures, work])
        .status()
        .unwrap();
    assert!(copied.success());
    let o = script(case, work, programs);
    let text = |b: &[u8]| comparable(&String::from_utf8_lossy(b));
    format!(
        "{}\n--- stderr\n{}\n--- {:?}",
        text(&o.stdout),
        text(&o.stderr),
        o.status.code()
    )
}

#[test]
fn every_invocation_ends_as_with_open_vswitch() {
    let (theirs, ours) = (oracle(), Programs::ours());
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let fixtures = dir.path().join("fixtures");
    std::fs::create_dir(&fixtures).unwrap();
    let made = script(SETUP, &fixtures, &theirs);
    assert!(made.status.success(), "{made:?}");

    let cases: Vec<&str> = CASES
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    assert!(cases.len() > 200);
    let next = Mutex::new(cases.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for worker in 0..4 {
            let (next, failures, theirs, ours) = (&next, &failures, &theirs, &ours);
            let (fixtures, work) = (&fixtures, dir.path().join(format!("run{worker}")));
            s.spawn(move || {
                loop {
                    let Some(case) = next.lock().unwrap().next() else {
                        return;
                    };
                    let a = outcome(case, fixtures, &work, theirs);
                    let b = outcome(case, fixtures, &work, ours);
                    if a != b {
                        let line = a.lines().zip(b.lines()).find(|(a, b)| a != b);
                        failures.lock().unwrap().push(format!("{case}\n{line:#?}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
