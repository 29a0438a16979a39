//! A matrix of ovsdb-client invocations on Open vSwitch's ovsdb-client and ours.
//!
//! `ovsdb_client/setup.sh` makes the databases that each case of `ovsdb_client/cases.sh` starts with.
//! The cases run twice: with one server for both clients, and with each client's own.

use ferrovs_testkit::matrix::Matrix;
use std::sync::{Mutex, PoisonError};

/// What cases may use: a server, the client under test, and what changes a database meanwhile.
const PRELUDE: &str = r#"
serve() {
    timeout 60 "$SERVER" --remote=punix:db.sock --unixctl="$PWD/ctl" --pidfile="$PWD/pid" --detach \
        --no-chdir -vconsole:off "$@" 2> /dev/null
    trap 'kill $(cat pid) 2> /dev/null' EXIT
}
client() {
    [ -e pid ] || serve ordinals.db
    timeout 20 "$CLIENT" "$@"
}
change() { timeout 20 "$PEER" transact "[\"ordinals\",$1]" > /dev/null; }
ask() { timeout 20 "$APPCTL" -t "$PWD/ctl" "$@"; }
insert='{"op":"insert","table":"single","row":{"n":10,"s":"ten"}}'
modify='{"op":"update","table":"single","where":[["n","==",1]],"row":{"s":"uno","m":["map",[["k","w"],["l","1"]]]}}'
delete='{"op":"delete","table":"single","where":[["n","==",1]]}'
# Until the server has a monitor, or it takes too long.
monitored() {
    for i in 1 2 3 4 5 6 7 8 9 10; do
        ask memory/show 2> /dev/null | grep -q 'monitors:[1-9]' && break
        kill -0 $watcher 2> /dev/null || break
        sleep 0.3
    done
}
# Until nothing has been printed for a while.
settle() {
    was=none
    while now=$(stat -c %s out); [ "$now" != "$was" ]; do was=$now; sleep 0.7; done
}
# Watches while the changes happen, each by itself. What the end of the client says is no part of it.
watch() {
    serve ordinals.db; : > out
    "$CLIENT" "$@" > out 2> err & watcher=$!
    monitored; settle
    for what in "$insert" "$modify" "$delete"; do change "$what"; settle; done
    kill $watcher; wait $watcher 2> /dev/null
    cat out; grep -v fatal_signal err >&2; true
}
# Watches until something happens to the whole database.
upto() {
    serve ordinals.db; : > out
    "$CLIENT" "$@" > out 2> err & watcher=$!
    [ "$WAIT" = no ] || monitored
    settle
    eval "$EVENT" > /dev/null
    settle
    kill $watcher 2> /dev/null; wait $watcher 2> /dev/null
    cat out; grep -v fatal_signal err >&2; true
}
# A client in the background: its name, then its arguments.
back() {
    [ -e pid ] || serve ordinals.db
    trap 'kill $(cat pid *.pid) 2> /dev/null' EXIT
    name=$1; shift
    timeout 20 "$CLIENT" --detach --no-chdir --pidfile="$PWD/$name.pid" "$@" > $name.out 2>&1
    echo "$name: exit $?"
}
# Asks a client in the background over its control socket.
tell() {
    name=$1; shift
    timeout 20 "$APPCTL" -t "$PWD/ovsdb-client.$(cat $name.pid).ctl" "$@" 2>&1 | sed 's/ovsdb-client\.[0-9]*/ovsdb-client/'
}
# What the client in the background has printed, once that is so many lines.
lines() {
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        [ $(wc -l < $1.out) -ge $2 ] && break
        sleep 0.2
    done
    echo "$1:"; cat $1.out
}
# Waits until the client is gone.
gone() {
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        [ -e $1.pid ] || break
        sleep 0.2
    done
    ls | sed -n "s/^$1.pid/$1 lives/p"
}
wait10='{"op":"wait","table":"single","where":[["n","==",10]],"columns":["s"],"until":"==","rows":[{"s":"ten"}]}'
"#;

/// The cases take time, and each of the tests all processors.
static TURN: Mutex<()> = Mutex::new(());

fn matrix(cases: &str, fixed: &[(&str, &str)], compared: &[(&str, &str)]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    Matrix {
        prelude: PRELUDE,
        setup: include_str!("ovsdb_client/setup.sh"),
        cases,
        fixed,
        compared,
    }
    .compare(dir.path());
}

const CASES: &str = include_str!("ovsdb_client/cases.sh");
const TOOL: (&str, &str) = ("TOOL", "ovsdb-tool");
const PEER: (&str, &str) = ("PEER", "ovsdb-client");
const APPCTL: (&str, &str) = ("APPCTL", "ovs-appctl");
const CLIENT: (&str, &str) = ("CLIENT", "ovsdb-client");
const SERVER: (&str, &str) = ("SERVER", "ovsdb-server");

#[test]
fn every_invocation_ends_as_with_open_vswitch_on_its_server() {
    matrix(CASES, &[TOOL, PEER, APPCTL, SERVER], &[CLIENT]);
}

#[test]
fn every_invocation_ends_as_with_open_vswitch_on_our_server() {
    matrix(CASES, &[TOOL, PEER, APPCTL], &[CLIENT, SERVER]);
}

#[test]
fn clients_in_the_background_do_as_open_vswitchs() {
    let cases = include_str!("ovsdb_client/background.sh");
    matrix(cases, &[TOOL, PEER, APPCTL], &[CLIENT, SERVER]);
}
