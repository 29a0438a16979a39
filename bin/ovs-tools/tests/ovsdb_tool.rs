//! A matrix of ovsdb-tool invocations on Open vSwitch's ovsdb-tool and ours.
//!
//! `ovsdb_tool/setup.sh` makes the files that each case of `ovsdb_tool/cases.sh` starts with.

use ferrovs_testkit::matrix::Matrix;

/// What cases may use: the program under test and records for the end of a file.
const PRELUDE: &str = r#"
tool() { timeout 20 "$TOOL" "$@"; }
rec() { printf 'OVSDB JSON %d %s\n%s\n' $((${#1} + 1)) $(printf '%s\n' "$1" | sha1sum | cut -c1-40) "$1"; }
"#;

#[test]
fn every_invocation_ends_as_with_open_vswitch() {
    let dir = tempfile::tempdir().unwrap();
    Matrix {
        prelude: PRELUDE,
        setup: include_str!("ovsdb_tool/setup.sh"),
        cases: include_str!("ovsdb_tool/cases.sh"),
        fixed: &[],
        compared: &[("TOOL", "ovsdb-tool")],
    }
    .compare(dir.path());
}
