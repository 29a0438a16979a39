//! A directory with a server in it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ferrovs_testkit::Programs;
use ferrovs_testkit::command::{Outcome, run_within};
use serde_json::{Value, json};

/// How long what should happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Host {
    dir: tempfile::TempDir,
    programs: Programs,
}

impl Host {
    /// A place for a server of these programs.
    pub fn new(programs: &Programs) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            programs: programs.clone(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The target for clients.
    pub fn target(&self) -> String {
        format!("unix:{}", self.file("db.sock"))
    }

    fn run(&self, program: &str, args: &[&str]) -> Outcome {
        let dir = self.dir.path().display().to_string();
        let env: Vec<(String, String)> =
            ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
                .iter()
                .map(|name| ((*name).to_owned(), dir.clone()))
                .collect();
        // What is named without a directory is made there, not in the tree.
        let here = ["-C", &dir, program];
        run_within(40, "env", &[&here, args].concat(), &env)
    }

    /// Runs one of our own tools.
    pub fn tool(&self, program: &str, args: &[&str]) -> Outcome {
        self.run(&Programs::ours().path(program), args)
    }

    #[track_caller]
    pub fn create(&self, db: &str, schema: &str) {
        let name = self.file(&format!("{db}.schema"));
        std::fs::write(&name, schema).unwrap();
        self.tool("ovsdb-tool", &["create", &self.file(db), &name])
            .ok();
    }

    /// Starts the server with its usual sockets; it is stopped when the host goes.
    #[track_caller]
    pub fn start(&self, args: &[&str]) {
        self.start_bare(
            &[
                &[&*format!("--remote=punix:{}", self.file("db.sock"))],
                args,
            ]
            .concat(),
        );
    }

    /// The same without a remote.
    #[track_caller]
    pub fn start_bare(&self, args: &[&str]) {
        let fixed = [
            format!("--unixctl={}", self.file("ctl")),
            format!("--pidfile={}", self.file("pid")),
            format!("--log-file={}", self.file("log")),
            "--detach".to_owned(),
            "--no-chdir".to_owned(),
            "-vconsole:off".to_owned(),
        ];
        let mut all: Vec<&str> = fixed.iter().map(String::as_str).collect();
        all.extend(args);
        self.run(&self.programs.path("ovsdb-server"), &all).ok();
    }

    pub fn stop(&self) {
        self.kill("TERM");
        self.until("the server is gone", || !self.path("pid").exists());
    }

    pub fn kill(&self, signal: &str) {
        if let Ok(pid) = std::fs::read_to_string(self.path("pid")) {
            self.run("kill", &[&format!("-{signal}"), pid.trim()]);
        }
    }

    /// A command on the control socket.
    pub fn appctl(&self, args: &[&str]) -> Outcome {
        let ctl = self.file("ctl");
        self.tool("ovs-appctl", &[&["-t", &*ctl], args].concat())
    }

    /// The reply to a transaction.
    #[track_caller]
    pub fn transact(&self, request: &str) -> Value {
        let out = self.tool("ovsdb-client", &["transact", &self.target(), request]);
        serde_json::from_str(&out.ok()).unwrap()
    }

    /// The answer to any request.
    #[track_caller]
    pub fn rpc(&self, method: &str, params: &Value) -> Value {
        let mut stream = UnixStream::connect(self.path("db.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = json!({"id": 0, "method": method, "params": params});
        stream.write_all(request.to_string().as_bytes()).unwrap();
        let mut answers = serde_json::Deserializer::from_reader(stream).into_iter();
        answers.next().unwrap().unwrap()
    }

    /// The contents, row by row in order.
    pub fn dump(&self, db: &str) -> String {
        let out = self.tool(
            "ovsdb-client",
            &["--timeout=5", "-fcsv", "dump", &self.target(), db],
        );
        let mut lines: Vec<&str> = out.stdout.lines().collect();
        // Rows have no order; tables have.
        for table in lines.split_mut(|l| l.is_empty()) {
            if let Some(rows) = table.get_mut(2..) {
                rows.sort_unstable();
            }
        }
        lines.join("\n")
    }

    #[track_caller]
    pub fn wait(&self, db: &str, state: &str) {
        self.tool("ovsdb-client", &["wait", &self.target(), db, state])
            .ok();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for something.
    #[track_caller]
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        #[allow(clippy::disallowed_methods)]
        let (start, now) = (Instant::now(), Instant::now);
        while !done() {
            assert!(
                now() - start < PATIENCE,
                "{what} did not happen; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the contents are those of another server.
    #[track_caller]
    pub fn until_same(&self, other: &Host, db: &str) {
        self.until("the contents are the same", || {
            let dump = self.dump(db);
            !dump.is_empty() && dump == other.dump(db)
        });
    }

    /// Waits until `ovsdb-server/sync-status` says something.
    #[track_caller]
    pub fn until_status(&self, part: &str) {
        self.until(part, || {
            let status = self.appctl(&["ovsdb-server/sync-status"]);
            status.stdout.contains(part)
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill("KILL");
    }
}
