//! A daemon's control socket: clients send any bytes in pieces, and go.
//!
//! What must hold: nothing panics; a request that is right is answered with JSON, in order and once; a connection that
//! says something else ends; and the next client is served.

use std::cell::OnceCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use ferrovs_json::{self as json, Prefix};
use ferrovs_runtime::unixctl::{Commands, Server};
use ferrovs_testkit::database::Choose;

use crate::input::Input;

struct Daemon {
    _dir: tempfile::TempDir,
    path: PathBuf,
    server: Server,
    commands: Commands<()>,
}

impl Daemon {
    fn new() -> Daemon {
        let dir = tempfile::tempdir().expect("a folder of its own");
        let path = dir.path().join("ctl");
        let server = Server::open(Some(&path)).expect("a socket");
        let mut commands = Commands::new();
        commands.register("fuzz/echo", "[ARG]...", 0, 9, |(), r| {
            Ok(r.argv[1..].join(" ").into())
        });
        commands.register("fuzz/no", "ARG", 1, 1, |(), _| Err("no".into()));
        Daemon {
            _dir: dir,
            path,
            server,
            commands,
        }
    }

    fn run(&mut self) {
        self.server.run(&mut self.commands, &mut ());
    }
}

thread_local! {
    static DAEMON: std::cell::RefCell<OnceCell<Daemon>> = const { std::cell::RefCell::new(OnceCell::new()) };
}

/// What the daemon has said so far.
fn heard(client: &mut UnixStream, all: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        all.extend_from_slice(&buffer[..n]);
    }
}

pub fn run(data: &[u8]) {
    DAEMON.with_borrow_mut(|cell| {
        _ = cell.get_or_init(Daemon::new);
        serve(cell.get_mut().expect("it is there"), Input::new(data));
    });
}

fn serve(daemon: &mut Daemon, mut input: Input<'_>) {
    let mut client = UnixStream::connect(&daemon.path).expect("it listens");
    client.set_nonblocking(true).expect("a socket");
    let mut all = Vec::new();
    let step = input.below(64) + 1;
    while !input.is_empty() {
        let piece = match input.below(4) {
            0 => {
                let method = [
                    "fuzz/echo",
                    "fuzz/no",
                    "list-commands",
                    "version",
                    "set-options",
                ][input.below(5)];
                let params: Vec<String> = (0..input.below(3))
                    .map(|_| {
                        let len = input.below(16);
                        String::from_utf8_lossy(input.bytes(len)).into_owned()
                    })
                    .collect();
                serde_json::json!({"id": input.byte(), "method": method, "params": params})
                    .to_string()
                    .into_bytes()
            }
            _ => {
                let len = input.below(200);
                input.bytes(len).to_vec()
            }
        };
        for part in piece.chunks(step) {
            if client.write_all(part).is_err() {
                break;
            }
            if step > 16 {
                daemon.run();
            }
        }
        daemon.run();
        heard(&mut client, &mut all);
    }
    _ = client.shutdown(std::net::Shutdown::Write);
    for _ in 0..4 {
        daemon.run();
        heard(&mut client, &mut all);
    }
    // Nothing but whole answers.
    let mut rest = &all[..];
    while !rest.iter().all(u8::is_ascii_whitespace) {
        match json::parse_prefix(rest) {
            Prefix::Value(v, n) => {
                let v = v.as_object().expect("an answer is an object");
                assert!(v.get("result").is_some() || v.get("error").is_some());
                rest = &rest[n..];
            }
            _ => panic!("{:?}", String::from_utf8_lossy(rest)),
        }
    }
    drop(client);
    daemon.run();
    // The next one is served.
    let mut next = UnixStream::connect(&daemon.path).expect("it listens");
    next.set_nonblocking(true).expect("a socket");
    next.write_all(br#"{"id":7,"method":"fuzz/echo","params":["x"]}"#)
        .expect("room");
    let mut said = Vec::new();
    for _ in 0..3 {
        daemon.run();
        heard(&mut next, &mut said);
    }
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("\"result\":\"x\""), "{said}");
    drop(next);
    daemon.run();
}
