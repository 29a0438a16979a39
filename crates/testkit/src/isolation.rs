//! Runs a program again where it leaves nothing behind: in mount and process namespaces of its own.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set inside.
const INSIDE: &str = "FERROVS_ISOLATED";

/// Lines of shell that are run when the program has ended, however it did: for what namespaces do not undo.
pub const UNDO: &str = "/run/undo";

/// What is first in the namespaces, and whose end takes everything with it: processes, also those that have detached
/// themselves, mounts, network namespaces, and files below /run and of temporary folders.
const FIRST: &str = r#"
mount -t tmpfs none /run && mkdir /run/netns && mount -t tmpfs none /dev/shm || exit 1
trap 'if [ -e /run/undo ]; then . /run/undo; fi' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$0" "$@"
"#;

/// Whether this program runs in namespaces of its own already.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Makes this process the program anew, with these arguments, in namespaces of its own; returns only what went wrong.
pub fn enter(args: &[String]) -> String {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(e) => return format!("cannot tell the program's own name: {e}"),
    };
    let e = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-c", FIRST])
        .arg(program)
        .args(args)
        .env(INSIDE, "1")
        .env("TMPDIR", "/dev/shm")
        .exec();
    format!("cannot run unshare: {e}")
}
