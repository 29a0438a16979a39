//! `--user`: what root still does by name must not help whoever owns the directory.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ferrovs_testkit::Programs;
use ferrovs_testkit::command::{Outcome, run, sh};

/// A run directory that belongs to nobody, a database in it, and beside it a file that is root's alone.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new()
            .prefix("ferrovs-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let place = Place { dir };
        std::fs::create_dir(place.run()).unwrap();
        std::fs::write(place.secret(), "secret").unwrap();
        std::fs::set_permissions(place.secret(), PermissionsExt::from_mode(0o600)).unwrap();
        let schema = Programs::ours().schema.to_string_lossy().into_owned();
        place
            .program("ovsdb-tool", &["create", &place.file("conf.db"), &schema])
            .ok();
        sh(&format!("chown -R nobody: {}", place.run().display()));
        place
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn secret(&self) -> PathBuf {
        self.dir.path().join("secret")
    }

    fn file(&self, name: &str) -> String {
        self.run().join(name).to_string_lossy().into_owned()
    }

    fn program(&self, name: &str, args: &[&str]) -> Outcome {
        let run_dir = self.run().to_string_lossy().into_owned();
        let env = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"];
        let env = env.map(|k| (k.to_string(), run_dir.clone()));
        run(&Programs::ours().path(name), args, &env)
    }

    fn ovsdb_server(&self, more: &[&str]) -> Outcome {
        let remote = format!("--remote=punix:{}", self.file("db.sock"));
        self.daemon("ovsdb-server", &[&self.file("conf.db"), &remote], more)
    }

    fn vswitchd(&self, more: &[&str]) -> Outcome {
        let db = format!("unix:{}", self.file("db.sock"));
        self.daemon("ovs-vswitchd", &[&db, "--enable-dummy=override"], more)
    }

    fn daemon(&self, name: &str, args: &[&str], more: &[&str]) -> Outcome {
        let common = "--user=nobody --detach --no-chdir --pidfile --log-file -vconsole:off";
        let mut all = args.to_vec();
        all.extend(common.split(' ').chain(more.iter().copied()));
        self.program(name, &all)
    }

    fn pid(&self, daemon: &str) -> Option<String> {
        let pid = std::fs::read_to_string(self.run().join(format!("{daemon}.pid"))).ok()?;
        Some(pid.trim().to_string())
    }

    #[track_caller]
    fn secret_is_untouched(&self) {
        let meta = std::fs::metadata(self.secret()).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o600));
        assert_eq!(std::fs::read(self.secret()).unwrap(), b"secret");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for daemon in ["ovs-vswitchd", "ovsdb-server"] {
            if let Some(pid) = self.pid(daemon) {
                run("kill", &[&pid], &[]);
            }
        }
    }
}

/// The values of `keys` in /proc/PID/status.
fn status(pid: &str, keys: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &&str| {
        let line = text.lines().find_map(|l| l.strip_prefix(*key)).unwrap();
        line.trim_start_matches(':').trim().to_string()
    };
    keys.iter().map(value).collect()
}

#[test]
fn a_link_that_the_user_planted_leads_nowhere() {
    for name in ["pid", "pid.tmp", "log"] {
        for more in [&[][..], &["--monitor"]] {
            let place = Place::new();
            symlink(place.secret(), place.file(&format!("ovsdb-server.{name}"))).unwrap();
            let outcome = place.ovsdb_server(more);
            assert_ne!(outcome.code, 0, "{name}: {}", outcome.text());
            place.secret_is_untouched();
            symlink(place.secret(), place.file(&format!("ovs-vswitchd.{name}"))).unwrap();
            let outcome = place.vswitchd(more);
            assert_ne!(outcome.code, 0, "{name}: {}", outcome.text());
            place.secret_is_untouched();
        }
    }
}

#[test]
fn neither_the_daemon_nor_its_monitor_keeps_a_privilege() {
    let place = Place::new();
    place.ovsdb_server(&["--monitor"]).ok();
    place.vswitchd(&["--monitor"]).ok();
    let nobody = "65534\t65534\t65534\t65534";
    // NET_BIND_SERVICE and IPC_LOCK; for the switch NET_ADMIN and NET_RAW too.
    for (daemon, kept) in [("ovsdb-server", 0x4400), ("ovs-vswitchd", 0x7400)] {
        let pid = place.pid(daemon).unwrap();
        let monitor = status(&pid, &["PPid"]).remove(0);
        let keys = ["Uid", "Groups", "CapPrm", "CapEff", "CapBnd"];
        let expected = [
            nobody.to_string(),
            String::new(),
            format!("{kept:016x}"),
            format!("{kept:016x}"),
            format!("{:016x}", 0),
        ];
        assert_eq!(status(&pid, &keys), expected, "{daemon}");
        assert_eq!(status(&monitor, &keys), expected, "{daemon}'s monitor");
    }
}

#[test]
fn a_log_file_is_not_for_all_to_read() {
    let place = Place::new();
    place.ovsdb_server(&[]).ok();
    let mode = |name: &str| {
        let path = place.file(name);
        std::fs::metadata(Path::new(&path)).unwrap().mode() & 0o7777
    };
    let masked = umask();
    assert_eq!(mode("ovsdb-server.log"), 0o660 & !masked);
    assert_eq!(mode("ovsdb-server.pid"), 0o666 & !masked);
}

/// The umask of this process, which the daemons inherit.
fn umask() -> u32 {
    let text = status("self", &["Umask"]).remove(0);
    u32::from_str_radix(&text, 8).unwrap()
}
