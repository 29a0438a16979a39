//! A switch of one's own: both daemons on a private database and run directory, in a namespace of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::command::{Outcome, run};
use crate::netns::Netns;
use crate::programs::Programs;

/// Which programs play which part.
#[derive(Clone, Debug)]
pub struct Cast {
    pub vswitchd: Programs,
    pub ovsdb: Programs,
    pub clients: Programs,
}

impl Cast {
    pub fn all(programs: Programs) -> Cast {
        Cast {
            vswitchd: programs.clone(),
            ovsdb: programs.clone(),
            clients: programs,
        }
    }
}

/// See the module's text. The daemons end when it is dropped.
#[derive(Debug)]
pub struct Switch {
    pub netns: Netns,
    pub cast: Cast,
    dir: TempDir,
}

impl Switch {
    /// Starts both daemons; `options` are for ovs-vswitchd.
    #[track_caller]
    pub fn start(cast: Cast, options: &[&str]) -> Switch {
        Switch::try_start(cast, &[], options).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The same with settings (`other_config:dpdk-init=true`) that ovs-vswitchd finds when it starts; what went wrong
    /// as text.
    pub fn try_start(cast: Cast, settings: &[&str], options: &[&str]) -> Result<Switch, String> {
        let dir = tempfile::Builder::new().prefix("ferrovs-").tempdir();
        let switch = Switch {
            netns: Netns::new("fs"),
            cast,
            dir: dir.map_err(|e| format!("cannot make a directory: {e}"))?,
        };
        let db = switch.file("conf.db");
        let schema = switch.cast.ovsdb.schema.to_string_lossy().into_owned();
        run(
            &switch.cast.clients.path("ovsdb-tool"),
            &["create", &db, &schema],
            &switch.env(),
        )
        .result()?;
        switch.run_ovsdb().result()?;
        let mut init = vec!["--no-wait", "init"];
        if !settings.is_empty() {
            init.extend(["--", "set", "Open_vSwitch", "."]);
            init.extend(settings);
        }
        switch.client("ovs-vsctl", &init).result()?;
        switch.run_vswitchd(options).result()?;
        Ok(switch)
    }

    /// Our own programs with dummy devices: nothing outside the switch is touched, time can be stopped.
    #[track_caller]
    pub fn dummy() -> Switch {
        Switch::start(
            Cast::all(Programs::ours()),
            &["--enable-dummy=override", "--disable-system"],
        )
    }

    /// Starts ovsdb-server on the switch's database.
    #[track_caller]
    pub fn start_ovsdb(&self) {
        self.run_ovsdb().ok();
    }

    fn run_ovsdb(&self) -> Outcome {
        let sock = format!("--remote=punix:{}", self.file("db.sock"));
        let args = [
            &*self.file("conf.db"),
            &sock,
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        ];
        self.daemon(&self.cast.ovsdb, "ovsdb-server", &args)
    }

    #[track_caller]
    pub fn start_vswitchd(&self, options: &[&str]) {
        self.run_vswitchd(options).ok();
    }

    fn run_vswitchd(&self, options: &[&str]) -> Outcome {
        let db = format!("unix:{}", self.file("db.sock"));
        let mut args = vec![&*db];
        args.extend(options);
        self.daemon(&self.cast.vswitchd, "ovs-vswitchd", &args)
    }

    fn daemon(&self, programs: &Programs, name: &str, args: &[&str]) -> Outcome {
        let path = programs.path(name);
        let mut all = vec!["netns", "exec", &self.netns.name, &path];
        all.extend(args);
        all.extend([
            "--detach",
            "--no-chdir",
            "--pidfile",
            "--log-file",
            "-vconsole:off",
        ]);
        run("ip", &all, &self.env())
    }

    /// The variables that make every program use the switch's directory.
    pub fn env(&self) -> Vec<(String, String)> {
        let dir = self.path().to_string_lossy().into_owned();
        ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
            .map(|k| (k.to_string(), dir.clone()))
            .to_vec()
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in the run directory.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).to_string_lossy().into_owned()
    }

    /// Runs one of the client programs in the switch's namespace.
    pub fn client(&self, program: &str, args: &[&str]) -> Outcome {
        let path = self.cast.clients.path(program);
        let mut all = vec!["netns", "exec", &self.netns.name, &path];
        all.extend(args);
        run("ip", &all, &self.env())
    }

    /// `ovs-vsctl` with the words of `line`; must succeed.
    #[track_caller]
    pub fn vsctl(&self, line: &str) -> String {
        let mut args = vec!["--timeout=20"];
        args.extend(line.split_whitespace());
        self.client("ovs-vsctl", &args).ok()
    }

    /// `ovs-ofctl` with the words of `line`; must succeed.
    #[track_caller]
    pub fn ofctl(&self, line: &str) -> String {
        self.client("ovs-ofctl", &line.split_whitespace().collect::<Vec<_>>())
            .ok()
    }

    /// `ovs-appctl` with the words of `line`; must succeed.
    #[track_caller]
    pub fn appctl(&self, line: &str) -> String {
        self.client("ovs-appctl", &line.split_whitespace().collect::<Vec<_>>())
            .ok()
    }

    /// Process id of a daemon, from its pidfile.
    pub fn pid(&self, daemon: &str) -> Option<u32> {
        std::fs::read_to_string(self.path().join(format!("{daemon}.pid")))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Text of a daemon's log file.
    pub fn log(&self, daemon: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("{daemon}.log"))).unwrap_or_default()
    }

    /// Sends a signal to a daemon and waits until it is gone.
    #[track_caller]
    pub fn kill(&self, daemon: &str, signal: &str) {
        let Some(pid) = self.pid(daemon) else {
            panic!("{daemon} has no pidfile")
        };
        run("kill", &[&format!("-{signal}"), &pid.to_string()], &[]).ok();
        let gone = wait_for(Duration::from_secs(10), || {
            !PathBuf::from(format!("/proc/{pid}")).exists()
        });
        assert!(gone, "{daemon} does not end");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for daemon in ["ovs-vswitchd", "ovsdb-server"] {
            if let Some(pid) = self.pid(daemon) {
                run("kill", &["-9", &pid.to_string()], &[]);
            }
        }
        if std::thread::panicking() {
            let tail: Vec<_> = self
                .log("ovs-vswitchd")
                .lines()
                .rev()
                .take(20)
                .map(String::from)
                .collect();
            eprintln!(
                "last lines of ovs-vswitchd.log, newest first:\n{}",
                tail.join("\n")
            );
        }
    }
}

/// Waits until `condition` holds, at most `limit`; true if it did.
pub fn wait_for(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let step = Duration::from_millis(20);
    let tries = (limit.as_millis() / step.as_millis()).max(1);
    for _ in 0..tries {
        if condition() {
            return true;
        }
        std::thread::sleep(step);
    }
    condition()
}
