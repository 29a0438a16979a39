//! The oracle: Debian's own Open vSwitch programs, unpacked into a cache and never installed.
//!
//! They come from Debian 13 (Open vSwitch 3.5). `FERROVS_ORACLE` names a folder with programs of another version (and
//! its `vswitch.ovsschema`) to ask instead.
//!
//! [`compare`] runs the same commands on a switch of theirs and one of ours and shows where they differ.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::debian::{self, Wanted};
use crate::programs::Programs;
use crate::switch::{Cast, Switch};
use crate::text::normalise;

const SUITE: &str = "trixie";

/// Open vSwitch's programs: those of `FERROVS_ORACLE`, or Debian's, downloaded at first use.
#[track_caller]
pub fn oracle() -> Programs {
    static ORACLE: OnceLock<Programs> = OnceLock::new();
    ORACLE
        .get_or_init(|| match std::env::var_os("FERROVS_ORACLE") {
            Some(dir) => Programs::of(dir.into()),
            None => {
                let wanted = Wanted {
                    suite: SUITE.to_owned(),
                    packages: "openvswitch-common openvswitch-switch openvswitch-vtep",
                    also: "",
                };
                debian::unpack(&cache(), &wanted).unwrap_or_else(|e| panic!("{e}"))
            }
        })
        .clone()
}

/// A folder in the user's cache.
fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir)
        .join(format!("ferrovs-oracle-{SUITE}"))
}

/// A command line of a comparison: the program's name, then its words. `@RUN@` is the switch's directory.
pub type Line<'a> = &'a [&'a str];

/// Runs the lines on a switch made of `cast` and returns what was printed, made comparable.
pub fn transcript(cast: Cast, options: &[&str], lines: &[Line<'_>]) -> String {
    let switch = Switch::start(cast, options);
    let dir = switch.path().to_string_lossy().into_owned();
    let mut out = String::new();
    for line in lines {
        let words: Vec<String> = line.iter().map(|w| w.replace("@RUN@", &dir)).collect();
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        out += &format!("$ {}\n", words.join(" "));
        out += &switch.client(&words[0], &args).text();
    }
    normalise(&out, &dir)
}

/// The same lines on Debian's programs and on ours; panics with the first lines that differ.
#[track_caller]
pub fn compare(options: &[&str], lines: &[Line<'_>]) {
    let theirs = transcript(Cast::all(oracle()), options, lines);
    let ours = transcript(Cast::all(Programs::ours()), options, lines);
    assert_same(&theirs, &ours);
}

/// Panics with the first difference of two transcripts.
#[track_caller]
pub fn assert_same(theirs: &str, ours: &str) {
    let mut command = "";
    for (a, b) in theirs.lines().zip(ours.lines()) {
        if a.starts_with("$ ") {
            command = a;
        }
        assert!(
            a == b,
            "after `{command}`\nOpen vSwitch: {a}\nFerrovs:      {b}\n"
        );
    }
    assert_eq!(
        theirs.lines().count(),
        ours.lines().count(),
        "one transcript is longer than the other"
    );
}
