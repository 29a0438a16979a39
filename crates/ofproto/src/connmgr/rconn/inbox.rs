//! What came on a stream, cut into messages: one buffer, whose messages are lent.

use std::io;
use std::ops::Range;

use ferrovs_openflow::text;
use ferrovs_runtime::{coverage, vlog};
use ferrovs_stream::Stream;

use super::{HEADER_LEN, MESSAGES_RL, RL};

/// How much is asked for at once.
const READ_SIZE: usize = 64 * 1024;

/// Never holds more than one maximal message and one read.
#[derive(Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    /// Received bytes that no message has used; the rest of the buffer is room.
    have: Range<usize>,
    /// The last read took all there was: what came since ends the next sleep at once.
    is_drained: bool,
}

impl Inbox {
    /// Reads again, though the last read took all there was.
    pub fn rearm(&mut self) {
        self.is_drained = false;
    }

    /// Reads what is there, once; 0 when nothing is.
    pub fn fill(&mut self, stream: &mut Stream) -> io::Result<usize> {
        if self.is_drained {
            return Ok(0);
        }
        let Range { start, end } = self.have.clone();
        if start > 0 {
            self.buffer.copy_within(start..end, 0);
            self.have = 0..end - start;
        }
        let end = self.have.end;
        if self.buffer.len() < end + READ_SIZE {
            self.buffer.resize(end + READ_SIZE, 0);
        }
        let got = stream.recv(&mut self.buffer[end..]);
        let n = *got.as_ref().unwrap_or(&0);
        // A TLS session gives out records one by one.
        let may_have_more = n == self.buffer.len() - end || (n > 0 && stream.is_tls());
        self.is_drained = !may_have_more;
        self.have.end += n;
        match got {
            Ok(0) if !self.have.is_empty() => {
                vlog::err_rl!(
                    RL,
                    vlog::modules::VCONN_STREAM,
                    "connection dropped mid-packet"
                );
                Err(ferrovs_stream::protocol_error())
            }
            Ok(0) => Err(ferrovs_stream::eof_error()),
            Ok(n) => Ok(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The next whole message, if one has come.
    pub fn next(&mut self, target: &str) -> io::Result<Option<&[u8]>> {
        let Some(size) = self.next_size() else {
            return Ok(None);
        };
        if size < HEADER_LEN {
            vlog::err_rl!(
                RL,
                vlog::modules::VCONN_STREAM,
                "received too-short ofp_header ({size} bytes)"
            );
            return Err(ferrovs_stream::protocol_error());
        }
        if self.have.len() < size {
            return Ok(None);
        }
        let msg = &self.buffer[self.have.start..][..size];
        self.have.start += size;
        coverage::VCONN_RECEIVED.inc();
        vlog::dbg_rl!(
            MESSAGES_RL,
            vlog::modules::VCONN,
            "{target}: received: {}",
            text::log::message(msg)
        );
        Ok(Some(msg))
    }

    /// Whether [`Inbox::next`] has something to say without a read.
    pub fn has_next(&self) -> bool {
        self.next_size().is_some_and(|size| self.have.len() >= size)
    }

    /// The size of the next message, as its header says it.
    fn next_size(&self) -> Option<usize> {
        let have = &self.buffer[self.have.clone()];
        let header = have.first_chunk::<HEADER_LEN>()?;
        Some(usize::from(u16::from_be_bytes([header[2], header[3]])))
    }
}
