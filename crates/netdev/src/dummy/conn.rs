//! Streams that join the dummy ports of two processes.
//!
//! A port has either a listener (`pstream`), which sends to every peer, or one connection
//! (`stream`) that is made again whenever it breaks. On the wire a frame follows its length in two
//! bytes, most significant first. Everything happens under the device's lock and never blocks;
//! frames that a slow peer does not take are dropped beyond a limit.

use std::collections::VecDeque;
use std::io;

use ferrovs_runtime::vlog::modules::NETDEV_DUMMY;
use ferrovs_runtime::{Poller, clock, text, vlog};
use ferrovs_stream::reconnect::{Action, Reconnect};
use ferrovs_stream::{PStream, Stream};

use super::MAX_QUEUE;

#[derive(Default)]
pub enum Conn {
    #[default]
    None,
    Passive {
        name: String,
        listener: PStream,
        peers: Vec<Frames>,
    },
    Active {
        name: String,
        stream: Option<Frames>,
        connected: bool,
        reconnect: Box<Reconnect>,
    },
}

/// A stream that carries frames.
pub struct Frames {
    stream: Stream,
    received: Vec<u8>,
    unsent: VecDeque<Vec<u8>>,
    /// Bytes of the first unsent frame that have gone already.
    gone: usize,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Conn").field(&self.config()).finish()
    }
}

impl Frames {
    fn new(stream: Stream) -> Frames {
        Frames {
            stream,
            received: Vec::new(),
            unsent: VecDeque::new(),
            gone: 0,
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Ok(len) = u16::try_from(frame.len())
            && self.unsent.len() < MAX_QUEUE
        {
            let mut f = Vec::with_capacity(2 + frame.len());
            f.extend_from_slice(&len.to_be_bytes());
            f.extend_from_slice(frame);
            self.unsent.push_back(f);
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(f) = self.unsent.front() {
            match self.stream.send(&f[self.gone..]) {
                Ok(n) => {
                    self.gone += n;
                    if self.gone == f.len() {
                        self.unsent.pop_front();
                        self.gone = 0;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends what waits and takes whole frames that have come.
    fn run(&mut self, frames: &mut Vec<Vec<u8>>) -> io::Result<()> {
        self.stream.run();
        self.flush()?;
        let mut buf = [0; 16384];
        // Bounded, so that a peer that never stops does not hold the main loop.
        for _ in 0..16 {
            match self.stream.recv(&mut buf) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Ok(n) => self.received.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
            let mut used = 0;
            while let [a, b, rest @ ..] = &self.received[used..] {
                let len = usize::from(u16::from_be_bytes([*a, *b]));
                let Some(frame) = rest.get(..len) else { break };
                // Shorter than an Ethernet header is not a frame.
                if len >= super::ETH_HEADER_LEN {
                    frames.push(frame.to_vec());
                }
                used += 2 + len;
            }
            self.received.drain(..used);
        }
        Ok(())
    }

    fn wait(&self, poller: &mut Poller) {
        self.stream.run_wait(poller);
        self.stream.recv_wait(poller);
        if !self.unsent.is_empty() {
            self.stream.send_wait(poller);
        }
    }
}

impl Conn {
    /// Applies the options `pstream` and `stream`; what is connected as wanted stays connected.
    pub fn configure(&mut self, pstream: Option<&str>, stream: Option<&str>) {
        if let (Some(p), Some(s)) = (pstream, stream) {
            vlog::warn!(NETDEV_DUMMY, "Open failed: both {p} and {s} are configured");
            return;
        }
        let unchanged = match self {
            Conn::None => pstream.is_none() && stream.is_none(),
            Conn::Passive { name, .. } => pstream == Some(name.as_str()),
            Conn::Active { name, .. } => stream == Some(name.as_str()),
        };
        if unchanged {
            return;
        }
        *self = Conn::None;
        if let Some(name) = pstream {
            match PStream::open(name) {
                Ok(listener) => {
                    *self = Conn::Passive {
                        name: name.to_owned(),
                        listener,
                        peers: Vec::new(),
                    };
                }
                Err(e) => {
                    vlog::warn!(NETDEV_DUMMY, "{name}: open failed ({})", text::errno(&e));
                }
            }
        } else if let Some(name) = stream {
            let now = clock::now();
            let mut reconnect = Box::new(Reconnect::new(now));
            reconnect.set_name(name);
            reconnect.set_passive(false, now);
            reconnect.set_probe_interval(None);
            reconnect.enable(now);
            *self = Conn::Active {
                name: name.to_owned(),
                stream: None,
                connected: false,
                reconnect,
            };
        }
    }

    /// The option that made this connection.
    pub fn config(&self) -> Option<(&'static str, &str)> {
        match self {
            Conn::None => None,
            Conn::Passive { name, .. } => Some(("pstream", name)),
            Conn::Active { name, .. } => Some(("stream", name)),
        }
    }

    /// For a port that connects: whether it is connected.
    pub fn connected(&self) -> Option<bool> {
        match self {
            Conn::Active { connected, .. } => Some(*connected),
            _ => None,
        }
    }

    /// Sends a frame to whoever is connected; true if something is left for the main loop.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        match self {
            Conn::None => false,
            Conn::Passive { peers, .. } => {
                peers.retain_mut(|p| p.send(frame).is_ok());
                peers.iter().any(|p| !p.unsent.is_empty())
            }
            Conn::Active {
                stream: Some(s),
                connected: true,
                ..
            } => {
                // An error shows again when the main loop receives.
                s.send(frame).is_err() || !s.unsent.is_empty()
            }
            Conn::Active { .. } => false,
        }
    }

    pub fn run(&mut self, frames: &mut Vec<Vec<u8>>) {
        match self {
            Conn::None => {}
            Conn::Passive {
                name,
                listener,
                peers,
            } => {
                match listener.accept() {
                    Ok(Some(stream)) => peers.push(Frames::new(stream)),
                    Ok(None) => {}
                    Err(e) => {
                        vlog::warn!(NETDEV_DUMMY, "{name}: accept failed ({})", text::errno(&e));
                        *self = Conn::None;
                        return;
                    }
                }
                peers.retain_mut(|p| p.run(frames).is_ok());
            }
            Conn::Active {
                name,
                stream,
                connected,
                reconnect,
            } => {
                let now = clock::now();
                match reconnect.run(now) {
                    Some(Action::Connect) => match Stream::open(name) {
                        Ok(s) => {
                            reconnect.connecting(now);
                            *stream = Some(Frames::new(s));
                        }
                        Err(e) => reconnect.connect_failed(now, Some(&e)),
                    },
                    Some(Action::Disconnect) => {
                        reconnect.disconnected(now, None);
                        (*stream, *connected) = (None, false);
                    }
                    _ => {}
                }
                let Some(s) = stream else { return };
                if !*connected {
                    match s.stream.connect() {
                        Ok(()) => {
                            reconnect.connected(now);
                            *connected = true;
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                        Err(e) => {
                            reconnect.connect_failed(now, Some(&e));
                            *stream = None;
                            return;
                        }
                    }
                }
                if let Err(e) = s.run(frames) {
                    reconnect.disconnected(now, Some(&e));
                    (*stream, *connected) = (None, false);
                }
            }
        }
    }

    /// Says what would make `run` worth calling; false if nothing ever would.
    pub fn wait(&self, poller: &mut Poller) -> bool {
        match self {
            Conn::None => return false,
            Conn::Passive {
                listener, peers, ..
            } => {
                listener.wait(poller);
                for p in peers {
                    p.wait(poller);
                }
            }
            Conn::Active {
                stream,
                connected,
                reconnect,
                ..
            } => {
                if let Some(deadline) = reconnect.deadline() {
                    poller.wait_until(deadline);
                }
                match stream {
                    Some(s) if *connected => s.wait(poller),
                    Some(s) => s.stream.connect_wait(poller),
                    None => {}
                }
            }
        }
        true
    }
}
