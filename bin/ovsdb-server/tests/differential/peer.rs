//! A server, Open vSwitch's or ours, with one client that monitors in several ways.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrovs_ovsdb::json;
use ferrovs_testkit::Programs;
use serde_json::{Value, json as tree};

pub struct Peer {
    programs: Programs,
    socket: PathBuf,
    child: Child,
    client: Client,
}

/// A reply, and the notifications that came before it.
#[derive(Debug)]
pub struct Answer {
    pub reply: Value,
    pub notifications: Vec<Value>,
}

impl Peer {
    /// Makes a database of the schema.
    pub fn create(programs: &Programs, file: &Path, schema: &Path) {
        let created = Command::new(programs.path("ovsdb-tool"))
            .args([Path::new("create"), file, schema])
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
    }

    pub fn start(programs: &Programs, file: &Path, name: &str) -> Self {
        let dir = file.parent().unwrap();
        let socket = dir.join(format!("{name}.sock"));
        let _ = std::fs::remove_file(&socket);
        let child = Command::new(programs.path("ovsdb-server"))
            .arg(file)
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!(
                "--unixctl={}",
                dir.join(format!("{name}.ctl")).display()
            ))
            .arg(format!(
                "--log-file={}",
                dir.join(format!("{name}.log")).display()
            ))
            .args(["-vconsole:off", "-vsyslog:off"])
            .env("OVS_RUNDIR", dir)
            .env("OVS_LOGDIR", dir)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.join(format!("{name}.err"))).unwrap())
            .spawn()
            .unwrap();
        let client = Client::connect(&socket);
        Self {
            programs: programs.clone(),
            socket,
            child,
            client,
        }
    }

    /// What a server that died said.
    pub fn last_words(&mut self) -> String {
        std::thread::sleep(Duration::from_millis(50));
        let status = self.child.try_wait().unwrap();
        let read = |kind| {
            let text = std::fs::read_to_string(self.socket.with_extension(kind));
            let text = text.unwrap_or_default();
            text.lines()
                .filter(|l| !l.contains("INFO"))
                .collect::<Vec<_>>()
                .join("|")
        };
        format!("{status:?}, {}, {}", read("err"), read("log"))
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.socket.with_extension("log")).unwrap()
    }

    /// Runs a command of ovs-appctl on the server.
    pub fn unixctl(&self, command: &[&str]) {
        let run = Command::new(self.programs.path("ovs-appctl"))
            .arg("-t")
            .arg(self.socket.with_extension("ctl"))
            .args(command)
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
    }

    /// The answer; none if the server died.
    pub fn call(&mut self, method: &str, params: &Value) -> Option<Answer> {
        self.client.call(method, params)
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.socket)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection.
pub struct Client {
    pub stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let stream = (0..5000).find_map(|_| {
            let stream = UnixStream::connect(socket).ok();
            if stream.is_none() {
                std::thread::sleep(Duration::from_millis(2));
            }
            stream
        });
        let stream = stream.expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub fn call(&mut self, method: &str, params: &Value) -> Option<Answer> {
        let request = json::to_string(&tree!({"method": method, "params": params, "id": 1}));
        self.stream.write_all(request.as_bytes()).ok()?;
        let mut notifications = Vec::new();
        loop {
            let msg = self.receive()?;
            if msg["id"] == 1 {
                return Some(Answer {
                    reply: msg,
                    notifications,
                });
            }
            notifications.push(msg);
        }
    }

    /// The next message; none if the connection ends.
    pub fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(n) = message_len(&self.buffer) {
                let text: Vec<u8> = self.buffer.drain(..n).collect();
                return Some(json::parse_bytes(&text).expect("messages are JSON"));
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk).ok()? {
                0 => return None,
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// The length of the first object in the buffer, if it is complete.
pub fn message_len(b: &[u8]) -> Option<usize> {
    let (mut depth, mut string, mut escaped) = (0, false, false);
    for (i, c) in b.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'{' if !string => depth += 1,
            b'}' if !string => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}
