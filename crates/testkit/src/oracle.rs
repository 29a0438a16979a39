//! The oracle: Debian's own Open vSwitch programs, unpacked into a cache and never installed.
//!
//! They come from Debian 13 (Open vSwitch 3.5), whatever release the machine runs: with their libraries, the C
//! library too, and its loader. `FERROVS_ORACLE` names a folder with programs of another version (and its
//! `vswitch.ovsschema`) to ask instead.
//!
//! [`compare`] runs the same commands on a switch of theirs and one of ours and shows where they differ.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::command::run_within;
use crate::programs::Programs;
use crate::switch::{Cast, Switch};
use crate::text::normalise;

const SUITE: &str = "trixie";
const PACKAGES: &str = "openvswitch-common openvswitch-switch openvswitch-vtep";

/// Open vSwitch's programs: those of `FERROVS_ORACLE`, or Debian's, downloaded at first use.
#[track_caller]
pub fn oracle() -> Programs {
    static ORACLE: OnceLock<Programs> = OnceLock::new();
    ORACLE
        .get_or_init(|| match std::env::var_os("FERROVS_ORACLE") {
            Some(dir) => Programs::of(dir.into()),
            None => unpack(&cache()),
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

/// Downloads and unpacks, unless that is done; the lock lets one of several test processes do the work
/// while the others wait for it. apt works on lists and a state of its own, so that an empty machine's
/// point of view gives all libraries, and nothing of the host's apt changes.
const UNPACK: &str = r#"
mkdir -p "$D"; exec 9>"$D/lock"; flock 9
[ -e "$D/done" ] && exit 0
A="$D/apt"; R="$D/root"; B="$D/bin"; rm -rf "$A" "$R" "$B"
mkdir -p "$A/lists/partial" "$A/cache/archives/partial" "$A/debs" "$R" "$B"
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -E '^(URIs:|deb )' |
  grep -oE 'https?://[^ ]+' | grep -v security | head -1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] ${mirror:-http://deb.debian.org/debian} $SUITE main" > "$A/sources.list"
apt() {
  command=$1; shift
  "$command" -qq -o Dir::Etc::sourcelist="$A/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$A/lists" \
    -o Dir::State::status=/dev/null -o Dir::Cache="$A/cache" -o APT::Sandbox::User=root -o Debug::NoLocking=1 "$@"
}
apt apt-get update >/dev/null
packages=$(apt apt-get install --no-install-recommends -s $PACKAGES | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
  grep -E '^(lib|openvswitch|zlib1g|gcc-)' | sort -u)
cd "$A/debs"
apt apt-get download $packages
for f in *.deb; do dpkg-deb -x "$f" "$R"; done
loader=$(find "$R" -name 'ld-linux-*.so.*' | head -1)
libraries=$(find "$R" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
for p in "$R"/usr/bin/ovs* "$R"/usr/bin/vtep-ctl "$R"/usr/sbin/ovs* "$R"/usr/lib/openvswitch-switch/ovs-vswitchd; do
  [ -e "$p" ] || continue
  name=$(basename "$p")
  if [ "$(head -c4 "$p" | tail -c3)" = ELF ]; then
    printf '#!/bin/sh\nexec %s --library-path %s --argv0 %s %s "$@"\n' "$loader" "$libraries" "$name" "$p" > "$B/$name"
  else
    printf '#!/bin/sh\nexec %s "$@"\n' "$p" > "$B/$name"
  fi
  chmod +x "$B/$name"
done
cp "$R"/usr/share/openvswitch/*.ovsschema "$B"
"$B/ovs-vswitchd" --version >/dev/null
"$B/ovsdb-server" --version >/dev/null
rm -rf "$A"
touch "$D/done"
"#;

fn unpack(dir: &Path) -> Programs {
    let d = dir.display().to_string();
    let env = [("D", d.as_str()), ("SUITE", SUITE), ("PACKAGES", PACKAGES)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    // Downloads take as long as they take.
    run_within(900, "sh", &["-ec", UNPACK], &env).ok();
    Programs::of(dir.join("bin"))
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
