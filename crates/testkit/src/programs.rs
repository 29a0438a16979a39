//! A directory with every program under its Open vSwitch name.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Names by which the multi-call binary answers.
pub const TOOLS: &[&str] = &[
    "ovs-vsctl",
    "ovs-ofctl",
    "ovs-appctl",
    "ovs-dpctl",
    "ovs-pki",
    "ovsdb-client",
    "ovsdb-tool",
    "vtep-ctl",
];
/// Programs with a file of their own.
pub const DAEMONS: &[&str] = &["ovs-vswitchd", "ovsdb-server"];

/// Where programs are found.
#[derive(Clone, Debug)]
pub struct Programs {
    pub dir: PathBuf,
    pub schema: PathBuf,
}

impl Programs {
    /// The programs of this workspace: `FERROVS_BIN` if set, else those built beside the running test.
    pub fn ours() -> Programs {
        static OURS: OnceLock<Programs> = OnceLock::new();
        OURS.get_or_init(|| {
            if let Some(dir) = std::env::var_os("FERROVS_BIN") {
                return Programs::of(dir.into());
            }
            panic!("FERROVS_BIN is not set: run the tests by `cargo xtask test`");
        })
        .clone()
    }

    /// The programs of a folder that has the schema of the switch too.
    pub fn of(dir: PathBuf) -> Programs {
        Programs {
            schema: dir.join("vswitch.ovsschema"),
            dir,
        }
    }

    /// The full name of one program.
    pub fn path(&self, program: &str) -> String {
        self.dir.join(program).to_string_lossy().into_owned()
    }
}

/// Fills `dir` with links to the programs that a build left in `built`.
pub fn link(built: &Path, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let put = |from: &str, name: &str| {
        let to = dir.join(name);
        if to.symlink_metadata().is_ok() {
            std::fs::remove_file(&to)?;
        }
        symlink(std::path::absolute(built.join(from))?, to)
    };
    for daemon in DAEMONS {
        put(daemon, daemon)?;
    }
    for tool in TOOLS {
        put("ovs-tools", tool)?;
    }
    Ok(())
}
