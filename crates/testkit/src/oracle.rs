//! The oracle: Debian's own Open vSwitch programs, unpacked into a cache and never installed.
//!
//! [`compare`] runs the same commands on a switch of theirs and one of ours and shows where they differ.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::command::run_within;
use crate::programs::Programs;
use crate::switch::{Cast, Switch};
use crate::text::normalise;

const PACKAGES: &str = "openvswitch-common openvswitch-switch openvswitch-vtep";

/// Debian's programs, downloaded at first use.
#[track_caller]
pub fn oracle() -> Programs {
    static ORACLE: OnceLock<Programs> = OnceLock::new();
    ORACLE.get_or_init(|| unpack(&cache())).clone()
}

/// `FERROVS_ORACLE` if set, else a folder in the user's cache.
fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("FERROVS_ORACLE") {
        return dir.into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir)
        .join("ferrovs-oracle")
}

fn unpack(dir: &Path) -> Programs {
    let (root, bin) = (dir.join("root"), dir.join("bin"));
    let programs = Programs {
        schema: root.join("usr/share/openvswitch/vswitch.ovsschema"),
        dir: bin.clone(),
    };
    // The lock lets one of several test processes do the work while the others wait for it.
    let script = format!(
        r#"mkdir -p {d}; exec 9>{d}/lock; flock 9
        [ -e {d}/done -a -e {bin}/vtep-ctl ] && exit 0
        mkdir -p {d}/debs {root} {bin}; cd {d}/debs
        apt-get update -qq >/dev/null
        libs=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances {PACKAGES} |
          grep -E '^lib' | grep -vE '^lib(c6|gcc|c-bin|pam|systemd|perl|python)' | sort -u)
        for p in {PACKAGES} $libs; do apt-get download -qq $p 2>/dev/null || true; done
        for f in *.deb; do dpkg-deb -x $f {root}; done
        for p in {root}/usr/bin/ovs* {root}/usr/bin/vtep-ctl {root}/usr/sbin/ovs* {root}/usr/lib/openvswitch-switch/ovs-vswitchd; do
          printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$(dirname $(find {root} -name 'libopenvswitch*.so*' -o -name 'libunbound.so*' | head -1))" $p > {bin}/$(basename $p)
          chmod +x {bin}/$(basename $p)
        done
        {bin}/ovs-vswitchd --version >/dev/null
        touch {d}/done"#,
        d = dir.display(),
        root = root.display(),
        bin = bin.display(),
    );
    // Downloads take as long as they take.
    run_within(900, "sh", &["-ec", &script], &[]).ok();
    programs
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
