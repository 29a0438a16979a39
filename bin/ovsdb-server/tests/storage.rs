//! Trouble with the storage, as Open vSwitch's ovsdb-server has it and as ours does: damaged files, files
//! and directories that may not be written to, a full disk, files that others hold, replace or
//! remove, compaction and conversion in the middle of it.
//!
//! `storage/cases.sh` has a case a line; they start with the files of ovsdb-tool's matrix.

use ferrovs_testkit::matrix::Matrix;

#[test]
fn trouble_with_files_ends_as_with_open_vswitch() {
    let dir = tempfile::tempdir().unwrap();
    let setup = include_str!("../../ovs-tools/tests/ovsdb_tool/setup.sh");
    Matrix {
        prelude: include_str!("storage/prelude.sh"),
        setup: &format!("{setup}\ncp a.db a0.db\n"),
        cases: include_str!("storage/cases.sh"),
        fixed: &[("CLIENT", "ovsdb-client"), ("APPCTL", "ovs-appctl")],
        compared: &[("SERVER", "ovsdb-server"), ("TOOL", "ovsdb-tool")],
    }
    .compare(dir.path());
}
