//! TLS between Open vSwitch's programs and ours, either way: who gets in, what is said when not.
//!
//! Each case of `tls/cases.sh` is run with Open vSwitch's client and ours on one server, and with
//! one client on Open vSwitch's server and ours. The certificates are those of the stream crate.

use ferrovs_testkit::matrix::Matrix;
use std::sync::{Mutex, PoisonError};

/// What cases may use: a server, whose port is found in its log, and the client under test.
const PRELUDE: &str = concat!(
    "CERTIFICATES='",
    env!("CARGO_MANIFEST_DIR"),
    "/../../crates/stream/tests/tls'\n",
    r#"
serve() {
    timeout 60 "$SERVER" ordinals.db --remote=pssl:0:127.0.0.1 --pidfile="$PWD/pid" \
        --unixctl="$PWD/ctl" --log-file="$PWD/log" --detach --no-chdir -vconsole:off "$@" 2> /dev/null
    trap 'kill $(cat pid) 2> /dev/null' EXIT
    port=$(sed -n 's/.*listening on port //p' log)
}
# The same names for what differs in versions and between runs.
same() { sed -E "s/127.0.0.1:[0-9]+/HOST/g; s#SSL/TLS#SSL#g"; }
client() { timeout 10 "$CLIENT" "$@" list-dbs ssl:127.0.0.1:$port 2> err; echo $?; same < err; }
# Who answers again and again has also looked at what came before that.
said() {
    for turn in 1 2 3; do timeout 10 "$APPCTL" -t "$PWD/ctl" version > /dev/null 2>&1; done
    sed -n 's/^[^|]*|[0-9]*|\(stream_ssl\)/\1/p' log | same
}
me() { echo "-p $1-key.pem -c $1.pem -C $2.pem"; }
"#
);

static TURN: Mutex<()> = Mutex::new(());

fn matrix(fixed: &[(&str, &str)], compared: &[(&str, &str)]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    Matrix {
        prelude: PRELUDE,
        setup: include_str!("tls/setup.sh"),
        cases: include_str!("tls/cases.sh"),
        fixed,
        compared,
    }
    .compare(dir.path());
}

const APPCTL: (&str, &str) = ("APPCTL", "ovs-appctl");
const TOOL: (&str, &str) = ("TOOL", "ovsdb-tool");
const CLIENT: (&str, &str) = ("CLIENT", "ovsdb-client");
const SERVER: (&str, &str) = ("SERVER", "ovsdb-server");

#[test]
fn our_client_is_to_open_vswitch_as_its_own() {
    matrix(&[APPCTL, TOOL, SERVER], &[CLIENT]);
}

#[test]
fn our_server_is_to_open_vswitch_as_its_own() {
    matrix(&[APPCTL, TOOL, CLIENT], &[SERVER]);
}

#[test]
fn our_programs_are_to_each_other_as_those_of_open_vswitch() {
    matrix(&[APPCTL, TOOL], &[SERVER, CLIENT]);
}
