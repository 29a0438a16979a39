//! A proxy between a client and a server that cuts connections in the middle of what is said.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

pub struct Proxy {
    pub socket: PathBuf,
    calm: Arc<AtomicBool>,
    cuts: Arc<AtomicU64>,
    _dir: TempDir,
}

impl Proxy {
    /// A proxy before the socket `server`; `seed` decides where it cuts.
    pub fn new(server: &Path, seed: u64) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let (calm, cuts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (server, gentle, count) = (server.to_path_buf(), calm.clone(), cuts.clone());
        std::thread::spawn(move || {
            let mut random = super::Random(seed);
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&server)) else {
                    continue;
                };
                // Short, middling, or long lives: in the greeting, in the contents, in updates.
                let from_server = match random.below(4) {
                    0 => random.below(5_000),
                    1 => random.below(15_000),
                    _ => random.below(50_000),
                };
                let from_client = 1 + random.below(6_000);
                relay(&server, &client, from_server, &gentle, &count);
                relay(&client, &server, from_client, &gentle, &count);
            }
        });
        Proxy {
            socket,
            calm,
            cuts,
            _dir: dir,
        }
    }

    /// Cuts nothing any more.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn relay(
    from: &UnixStream,
    to: &UnixStream,
    limit: usize,
    calm: &Arc<AtomicBool>,
    cuts: &Arc<AtomicU64>,
) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let (calm, cuts) = (calm.clone(), cuts.clone());
    std::thread::spawn(move || {
        let mut left = limit;
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let take = match calm.load(Ordering::Relaxed) {
                true => n,
                false => n.min(left),
            };
            left = left.saturating_sub(n);
            if to.write_all(&buffer[..take]).is_err() {
                break;
            }
            if take < n {
                cuts.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    });
}
