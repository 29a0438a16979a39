//! Debian's Open vSwitch, unpacked and never installed, whatever release of Debian the machine runs: with its libraries,
//! the C library too, and its loader.

use std::path::{Path, PathBuf};

use crate::command::{Outcome, run_within};
use crate::programs::Programs;

/// What is fetched.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Debian's name of a release.
    pub suite: String,
    /// Packages, separated by spaces. The libraries that they need come with them.
    pub packages: &'static str,
    /// Names of more packages, which those only recommend, as an extended regular expression.
    pub also: &'static str,
}

impl Wanted {
    /// Open vSwitch with DPDK, and DPDK's drivers that read files and send nowhere.
    pub fn dpdk(suite: &str) -> Wanted {
        Wanted {
            suite: suite.to_owned(),
            packages: "openvswitch-common openvswitch-switch openvswitch-switch-dpdk",
            also: "^librte-(bus-vdev|mempool-ring|net-null|net-pcap)[0-9.]+$",
        }
    }
}

/// Downloads, unless that is done; the lock lets one of several processes do the work while the others wait for it. apt
/// works on lists and a state of its own, so that an empty machine's point of view gives all libraries, and nothing of
/// the host's apt changes.
const FETCH: &str = r#"
mkdir -p "$D"; exec 9>"$D/lock"; flock 9
[ -e "$D/done" ] && exit 0
A="$D/apt"; R="$D/root"; B="$D/bin"; rm -rf "$A" "$R" "$B"
mkdir -p "$A/lists/partial" "$A/cache/archives/partial" "$A/debs" "$R"
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
[ -z "$ALSO" ] || PACKAGES="$PACKAGES $(apt apt-cache pkgnames | grep -E "$ALSO" | paste -sd' ')"
packages=$(apt apt-get install --no-install-recommends -s $PACKAGES | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
  grep -E '^(lib|openvswitch|zlib1g|gcc-)' | sort -u)
cd "$A/debs"
apt apt-get download $packages
for f in *.deb; do dpkg-deb -x "$f" "$R"; done
"#;

/// Puts the programs of the tree $R under their names into the folder $B. They run with the tree's loader and libraries;
/// the system's own know their way. The switch with DPDK goes before the one without.
const LAY: &str = r#"
R="${R%/}"; mkdir -p "$B"
loader=$(find -H "$R/lib" "$R/lib64" "$R/usr/lib" "$R/usr/lib64" -maxdepth 2 -type f -name 'ld-linux-*.so.*' 2>/dev/null |
  head -1)
[ -z "$R" ] || libraries=$(find "$R" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
for p in "$R"/usr/bin/ovs* "$R"/usr/bin/vtep-ctl "$R"/usr/sbin/ovs* "$R"/usr/lib/openvswitch-switch/ovs-vswitchd \
    "$R"/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk; do
  [ -e "$p" ] || continue
  name=$(basename "$p" -dpdk)
  if [ "$(head -c4 "$p" | tail -c3)" = ELF ]; then
    printf '#!/bin/sh\nexec %s %s --argv0 %s %s "$@"\n' "$loader" "${libraries:+--library-path $libraries}" "$name" "$p"
  else
    printf '#!/bin/sh\nexec %s "$@"\n' "$p"
  fi > "$B/$name"
  chmod +x "$B/$name"
done
cp "$R"/usr/share/openvswitch/*.ovsschema "$B"
"$B/ovs-vswitchd" --version >/dev/null
"$B/ovsdb-server" --version >/dev/null
"#;

const DONE: &str = r#"
rm -rf "$A"
touch "$D/done"
"#;

/// What is wanted, in `dir`: the tree in `root` below it, the programs in `bin`.
pub fn unpack(dir: &Path, wanted: &Wanted) -> Result<Programs, String> {
    let d = dir.display().to_string();
    let env = [
        ("D", &*d),
        ("SUITE", &*wanted.suite),
        ("PACKAGES", wanted.packages),
        ("ALSO", wanted.also),
    ];
    // Downloads take as long as they take.
    script(900, &[FETCH, LAY, DONE].concat(), &env)?;
    Ok(Programs::of(dir.join("bin")))
}

/// The programs of a tree that is there already, laid into the folder `bin`.
pub fn lay(tree: &Path, bin: PathBuf) -> Result<Programs, String> {
    let [r, b] = [tree, &bin].map(|path| path.display().to_string());
    script(60, LAY, &[("R", &r), ("B", &b)])?;
    Ok(Programs::of(bin))
}

fn script(limit_s: u32, text: &str, env: &[(&str, &str)]) -> Result<String, String> {
    let env: Vec<_> = (env.iter())
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let outcome: Outcome = run_within(limit_s, "sh", &["-ec", text], &env);
    outcome.result()
}
