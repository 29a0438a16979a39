//! A database server of one's own, and a plain connection to it.

use ferrovs_runtime::clock;
use ferrovs_testkit::Programs;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What kind of database the server serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Standalone,
    /// A cluster with one member: its transactions have ids, so resuming works.
    Cluster,
}

pub struct Server {
    programs: Programs,
    pub dir: TempDir,
    pub socket: PathBuf,
    database: PathBuf,
    child: Option<Child>,
}

impl Server {
    pub fn start(programs: Programs, model: Model, schema: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("schema"), schema).unwrap();
        let server = Server::bare(programs, dir);
        let (db, schema) = (server.path("db"), server.path("schema"));
        match model {
            Model::Standalone => server.tool("ovsdb-tool", &["create", &db, &schema]),
            Model::Cluster => {
                let raft = format!("unix:{}", server.path("raft"));
                server.tool("ovsdb-tool", &["create-cluster", &db, &schema, &raft])
            }
        };
        server.ready()
    }

    /// Another member of the cluster of `first`.
    pub fn join(first: &Server) -> Server {
        let server = Server::bare(first.programs.clone(), tempfile::tempdir().unwrap());
        let raft = format!("unix:{}", server.path("raft"));
        let remote = format!("unix:{}", first.path("raft"));
        let db = server.path("db");
        server.tool("ovsdb-tool", &["join-cluster", &db, "test", &raft, &remote]);
        server.ready()
    }

    fn bare(programs: Programs, dir: TempDir) -> Server {
        Server {
            programs,
            socket: dir.path().join("sock"),
            database: dir.path().join("db"),
            dir,
            child: None,
        }
    }

    fn ready(mut self) -> Server {
        self.run();
        self
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn remote(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// The database's file.
    pub fn database(&self) -> String {
        self.database.display().to_string()
    }

    /// Starts the server and waits until it serves.
    pub fn run(&mut self) {
        let mut command = Command::new(self.programs.path("ovsdb-server"));
        command
            .arg(&self.database)
            .arg(format!("--remote=punix:{}", self.socket.display()))
            .arg(format!("--unixctl={}", self.path("ctl")))
            .args(["--no-chdir", "-vconsole:off"])
            .envs(["RUN", "LOG", "DB", "SYSCONF"].map(|d| (format!("OVS_{d}DIR"), self.path("."))))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let end = clock::now() + Duration::from_secs(30);
        loop {
            assert!(clock::now() < end, "the server does not come up");
            if UnixStream::connect(&self.socket).is_ok() {
                let mut raw = Raw::connect(self);
                let op = json!({"op": "select", "table": "Node", "where": []});
                if raw
                    .transact(vec![op])
                    .get(0)
                    .is_some_and(|r| r.get("rows").is_some())
                {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server without ado.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Runs a program beside the server; what it printed.
    pub fn tool(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new("timeout")
            .arg("20")
            .arg(self.programs.path(program))
            .args(args)
            .envs(["RUN", "LOG", "DB", "SYSCONF"].map(|d| (format!("OVS_{d}DIR"), self.path("."))))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command in the server.
    pub fn appctl(&self, args: &[&str]) -> String {
        let target = self.path("ctl");
        let words: Vec<&str> = ["-t", target.as_str()]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        self.tool("ovs-appctl", &words)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// JSON-RPC without any client in between.
pub struct Raw {
    stream: UnixStream,
    replies: Box<dyn Iterator<Item = serde_json::Result<Value>>>,
    next: u64,
}

impl Raw {
    pub fn connect(server: &Server) -> Raw {
        let stream = UnixStream::connect(&server.socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let replies = serde_json::Deserializer::from_reader(reader).into_iter();
        Raw {
            stream,
            replies: Box::new(replies),
            next: 0,
        }
    }

    /// The results of a transaction.
    pub fn transact(&mut self, operations: Vec<Value>) -> Value {
        let mut params = vec![json!("test")];
        params.extend(operations);
        self.next += 1;
        let request = json!({"id": self.next, "method": "transact", "params": params});
        self.stream
            .write_all(request.to_string().as_bytes())
            .unwrap();
        self.replies
            .next()
            .and_then(Result::ok)
            .map(|mut reply| reply["result"].take())
            .unwrap_or_default()
    }
}
