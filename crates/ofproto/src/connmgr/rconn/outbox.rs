//! Messages that wait to be sent; many leave with one system call.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use ferrovs_openflow::text;
use ferrovs_runtime::{coverage, vlog};
use ferrovs_stream::{Stream, error_text};

use super::MESSAGES_RL;

/// What a waiting message takes up besides its bytes: its place in the queue, and the allocator's own.
const OVERHEAD: usize = std::mem::size_of::<Waiting>() + 16;
/// Messages that are offered to the system at once.
const AT_ONCE: usize = 64;

struct Waiting {
    bytes: Vec<u8>,
    packet_in: bool,
}

#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Waiting>,
    /// How much of the first message is sent already.
    sent: usize,
    bytes: usize,
    memory: usize,
    packet_ins: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they take up.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Packet-ins among the messages.
    pub fn packet_ins(&self) -> usize {
        self.packet_ins
    }

    pub fn push(&mut self, bytes: Vec<u8>, packet_in: bool) {
        self.bytes += bytes.len();
        self.memory += bytes.capacity() + OVERHEAD;
        self.packet_ins += usize::from(packet_in);
        self.queue.push_back(Waiting { bytes, packet_in });
    }

    /// Sends what the peer takes. `target` is for the log, `established` says whether messages are the owner's and
    /// not still those of the beginning.
    pub fn flush(
        &mut self,
        stream: &mut Stream,
        target: &str,
        established: bool,
    ) -> io::Result<()> {
        while !self.queue.is_empty() {
            let mut parts = [IoSlice::new(&[]); AT_ONCE];
            let mut n = 0;
            for (part, waiting) in parts.iter_mut().zip(&self.queue) {
                let begin = if n == 0 { self.sent } else { 0 };
                *part = IoSlice::new(&waiting.bytes[begin..]);
                n += 1;
            }
            match stream.send_parts(&parts[..n]) {
                Ok(n) => self.forget(n, target, established),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => {
                    if self.sent == 0 {
                        self.log_first(target, Some(&e));
                    }
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// So many bytes have left. A message counts as sent when it begins to leave.
    fn forget(&mut self, mut n: usize, target: &str, established: bool) {
        self.bytes -= n;
        while n > 0 {
            if self.sent == 0 {
                self.log_first(target, None);
                coverage::VCONN_SENT.inc();
            }
            let Some(first) = self.queue.front() else {
                return;
            };
            let left = first.bytes.len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.memory -= first.bytes.capacity() + OVERHEAD;
            self.packet_ins -= usize::from(first.packet_in);
            self.queue.pop_front();
            self.sent = 0;
            if established {
                coverage::RCONN_SENT.inc();
            }
        }
    }

    fn log_first(&self, target: &str, error: Option<&io::Error>) {
        if let Some(waiting) = self.queue.front() {
            vlog::dbg_rl!(
                MESSAGES_RL,
                vlog::modules::VCONN,
                "{target}: sent ({}): {}",
                error.map_or("Success".into(), error_text),
                text::log::message(&waiting.bytes)
            );
        }
    }
}
