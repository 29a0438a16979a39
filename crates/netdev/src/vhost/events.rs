//! The thread that speaks with the front-ends of all ports: they wait for answers, so they must not wait for what the
//! main thread has to do meanwhile.
//!
//! A port of either kind is a [`Place`] where front-ends are: one that listens there itself, or one that looks every
//! second whether somebody does. Each has one front-end at a time.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ferrovs_runtime::vlog::modules::{DPDK, NETDEV_DPDK};
use ferrovs_runtime::{clock, fatal_signal, text, vlog};
use ferrovs_sync::Waker;
use ferrovs_sys::fd::{Events, PollEntry, poll};
use ferrovs_sys::unix_socket::{MAX_FDS, UnixSocket};

use super::guest::Guest;
use super::session::Session;
use super::wire::{HEADER, Header};

/// How often somebody who is not there is looked for.
const RETRY: Duration = Duration::from_secs(1);
/// Messages that one front-end may send before others get their turn.
const TURN: usize = 64;

/// Who makes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// A place where front-ends are, as long as this is held.
#[derive(Debug)]
pub struct Place {
    id: u64,
}

impl Place {
    /// Begins to listen, or to connect.
    pub fn open(guest: Arc<Guest>, path: &Path, role: Role) -> io::Result<Place> {
        let hub = hub()?;
        let path = path.to_owned();
        hub.ask(|done| Command::Add(guest, path, role, done))?
            .map(|id| Place { id })
    }
}

impl Drop for Place {
    /// Afterwards nobody touches the guest's memory, and the path is free.
    fn drop(&mut self) {
        if let Ok(hub) = hub() {
            let id = self.id;
            // The thread is there as long as the process is.
            _ = hub.ask(|done| Command::Remove(id, done));
        }
    }
}

enum Command {
    Add(Arc<Guest>, PathBuf, Role, SyncSender<io::Result<u64>>),
    Remove(u64, SyncSender<()>),
}

/// The way to the thread.
struct Hub {
    commands: Mutex<Sender<Command>>,
    waker: Arc<Waker>,
}

impl Hub {
    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> io::Result<T> {
        let (done, answer) = sync_channel(1);
        let commands = self.commands.lock();
        let sent = commands
            .unwrap_or_else(PoisonError::into_inner)
            .send(command(done));
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        sent.map_err(|_| gone())?;
        self.waker.wake();
        answer.recv().map_err(|_| gone())
    }
}

/// Starts the thread when it is first needed.
fn hub() -> io::Result<&'static Hub> {
    static HUB: OnceLock<Hub> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hub) = HUB.get() {
        return Ok(hub);
    }
    let (send, receive) = channel();
    let waker = Arc::new(Waker::new()?);
    let thread = Thread {
        commands: receive,
        waker: waker.clone(),
        links: BTreeMap::new(),
        next: 0,
    };
    std::thread::Builder::new()
        .name("vhost-events".into())
        .spawn(|| thread.run())?;
    Ok(HUB.get_or_init(|| Hub {
        commands: Mutex::new(send),
        waker,
    }))
}

struct Thread {
    commands: Receiver<Command>,
    waker: Arc<Waker>,
    links: BTreeMap<u64, Link>,
    next: u64,
}

impl Thread {
    fn run(mut self) {
        loop {
            self.wait();
            self.waker.drain();
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            let now = clock::now();
            for link in self.links.values_mut() {
                link.run(now);
            }
        }
    }

    /// Sleeps until somebody says something, or is to be looked for.
    fn wait(&self) {
        let mut entries = vec![PollEntry::new(self.waker.as_fd().as_raw_fd(), Events::IN)];
        let mut due: Option<Instant> = None;
        for link in self.links.values() {
            let sockets = [
                link.listener.as_ref(),
                link.peer.as_ref().map(|p| &p.socket),
            ];
            for socket in sockets.into_iter().flatten() {
                entries.push(PollEntry::new(socket.as_fd().as_raw_fd(), Events::IN));
            }
            due = due.into_iter().chain(link.retry_at).min();
        }
        let left = due.map(|at| at.saturating_duration_since(clock::now()));
        // An error is an interrupted call.
        _ = poll(&mut entries, left);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(guest, path, role, done) => {
                let added = Link::open(guest, path, role).map(|link| {
                    self.next += 1;
                    self.links.insert(self.next, link);
                    self.next
                });
                // Who asked waits.
                _ = done.send(added);
            }
            Command::Remove(id, done) => {
                self.links.remove(&id);
                _ = done.send(());
            }
        }
    }
}

/// A port's end.
struct Link {
    guest: Arc<Guest>,
    path: PathBuf,
    listener: Option<UnixSocket>,
    peer: Option<Peer>,
    /// When a client looks again.
    retry_at: Option<Instant>,
    /// It is known that nobody is there.
    told: bool,
}

impl Link {
    fn open(guest: Arc<Guest>, path: PathBuf, role: Role) -> io::Result<Link> {
        let listener = match role {
            Role::Client => None,
            Role::Server => {
                let listener = UnixSocket::listen(&path)?;
                fatal_signal::unlink_on_exit(&path);
                Some(listener)
            }
        };
        Ok(Link {
            guest,
            path,
            retry_at: (role == Role::Client).then(clock::now),
            listener,
            peer: None,
            told: false,
        })
    }

    fn run(&mut self, now: Instant) {
        if let Some(peer) = &mut self.peer
            && let Err(end) = peer.run()
        {
            if let End::Error(why) = end {
                vlog::err!(NETDEV_DPDK, "{}: {why}", self.path.display());
            }
            self.peer = None;
            self.retry_at = self.listener.is_none().then_some(now);
        }
        if self.peer.is_some() {
            return;
        }
        let socket = match &self.listener {
            Some(listener) => listener.accept().ok().flatten(),
            None if self.retry_at.is_some_and(|at| at <= now) => self.connect(now),
            None => None,
        };
        if let Some(socket) = socket {
            (self.retry_at, self.told) = (None, false);
            let path = self.path.to_string_lossy();
            self.peer = Some(Peer::new(socket, Session::new(self.guest.clone(), &path)));
        }
    }

    fn connect(&mut self, now: Instant) -> Option<UnixSocket> {
        let path = self.path.display();
        match UnixSocket::connect(&self.path) {
            Ok(socket) => {
                vlog::info!(DPDK, "VHOST_CONFIG: ({path}) connected");
                Some(socket)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    let error = text::errno(&error);
                    vlog::warn!(DPDK, "VHOST_CONFIG: ({path}) failed to connect: {error}");
                    vlog::info!(DPDK, "VHOST_CONFIG: ({path}) reconnecting...");
                }
                self.retry_at = Some(now + RETRY);
                None
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.peer = None;
        if self.listener.take().is_some() {
            fatal_signal::unlink_now(&self.path);
        }
    }
}

enum End {
    /// The front-end has closed the connection.
    Closed,
    Error(String),
}

impl<E: std::error::Error> From<E> for End {
    fn from(error: E) -> End {
        End::Error(error.to_string())
    }
}

/// A front-end, and what has come of its next message.
struct Peer {
    socket: UnixSocket,
    session: Session,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Peer {
    fn new(socket: UnixSocket, session: Session) -> Peer {
        Peer {
            socket,
            session,
            bytes: Vec::new(),
            fds: Vec::new(),
        }
    }

    /// Reads and handles what has come.
    fn run(&mut self) -> Result<(), End> {
        for _ in 0..TURN {
            if !self.read()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads up to the end of a header, or of a message, and handles it when it is whole. False if there is no more.
    fn read(&mut self) -> Result<bool, End> {
        let size = match self.bytes.first_chunk() {
            Some(header) => HEADER + Header::parse(header)?.size,
            None => HEADER,
        };
        let had = self.bytes.len();
        if had < size {
            self.bytes.resize(size, 0);
            let got = self.socket.recv(&mut self.bytes[had..], &mut self.fds);
            self.bytes.truncate(had + got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) => return Err(End::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(true),
                // A guest that is killed leaves an error, which says no more.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(End::Closed),
                Err(e) => return Err(e.into()),
            }
            if self.fds.len() > MAX_FDS {
                return Err(End::Error("too many descriptors".into()));
            }
        }
        let Some(header) = self.bytes.first_chunk() else {
            return Ok(true);
        };
        let header = Header::parse(header)?;
        if self.bytes.len() < HEADER + header.size {
            return Ok(true);
        }
        let fds = std::mem::take(&mut self.fds);
        let answer = self.session.input(&header, &self.bytes[HEADER..], fds)?;
        self.bytes.clear();
        if let Some(answer) = answer {
            // Answers are short, and a front-end waits for each: one that does not read them is not served.
            let sent = self.socket.send(&answer, &[])?;
            if sent != answer.len() {
                return Err(End::Error("an answer was not taken".into()));
            }
        }
        Ok(true)
    }
}
