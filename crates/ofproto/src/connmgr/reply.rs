//! What a connection's peer is told about a message, and what other connections are told about it.

use std::time::Instant;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::{ErrorMsg, Message, Msg};
use ferrovs_packet::field::TunTable;
use ferrovs_runtime::vlog;

use super::OfConn;
use super::parts::Parts;
use crate::udpif::Round;

static RL: vlog::RateLimit = vlog::RateLimit::new(10, 10);

const OFPT_ERROR: u8 = 1;
/// How many bytes of a message its error quotes at most, so that the error is a message too.
const ERROR_QUOTE: usize = 65535 - 24;

/// How a message that was carried out is answered.
pub enum Reply {
    None,
    Message(Message),
    /// A list, cut into messages.
    Parts(Parts),
    /// When the round is over; no further request is read before.
    After(Round, Message),
    /// A message in bytes, of another version than the connection's.
    Bytes(Vec<u8>),
    /// The commit of a bundle failed because of the message in it that these bytes brought: that one is refused first.
    BundleFailed(Vec<u8>, OfpErr),
}

/// A message that was carried out.
pub struct Answer {
    pub reply: Reply,
    /// What other connections are told.
    pub notice: Option<Notice>,
}

/// What a message of one connection means to the others.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A connection became primary: the others that were become secondary.
    Demote { except: u64 },
    /// A group or meter mod of one connection.
    Request { from: u64, request: Message },
}

impl OfConn {
    /// Answers the message `request` by what came of it. Returns what other connections are told.
    pub fn answer(
        &mut self,
        request: &[u8],
        handled: Result<Answer, OfpErr>,
        now: Instant,
    ) -> Option<Notice> {
        match handled {
            Ok(answer) => {
                self.reply_with(request, answer.reply, now);
                answer.notice
            }
            Err(error) => {
                self.refuse(request, error, now);
                None
            }
        }
    }

    fn reply_with(&mut self, request: &[u8], reply: Reply, now: Instant) {
        let xid = xid_of(request);
        match reply {
            Reply::None => {}
            Reply::Message(body) => self.reply(xid, body, now),
            Reply::Parts(parts) => {
                self.replies.push_back(parts);
                self.continue_replies(now);
            }
            Reply::After(round, body) => {
                self.held = Some(round);
                self.reply(xid, body, now);
            }
            Reply::Bytes(bytes) => self.rconn.send(bytes, now),
            Reply::BundleFailed(message, error) => {
                self.refuse(&message, error, now);
                self.refuse(request, OfpErr::OFPBFC_MSG_FAILED, now);
            }
        }
    }

    /// Answers a message with an error, and tells the log; what is an error itself is left alone.
    fn refuse(&mut self, request: &[u8], error: OfpErr, now: Instant) {
        if request.get(1) == Some(&OFPT_ERROR) {
            return;
        }
        vlog::info_rl!(
            RL,
            vlog::modules::CONNMGR,
            "{}: sending {} error reply to {} message",
            self.rconn.name(),
            error.name(),
            crate::codec::name(request)
        );
        self.reply_error(request, error, now);
    }

    /// Says that `request` failed, quoting its beginning.
    pub(super) fn reply_error(&mut self, request: &[u8], error: OfpErr, now: Instant) {
        // An error that the version cannot say is told as one that it can.
        let version = self.version();
        let code = error
            .code(version)
            .or_else(|| OfpErr::NXBRC_UNENCODABLE_ERROR.code(version));
        let Some(code) = code else { return };
        let data = request[..request.len().min(ERROR_QUOTE)].to_vec();
        let msg = ErrorMsg {
            error: Some(error),
            code,
            data,
        };
        self.reply(xid_of(request), Message::Error(msg), now);
    }

    /// Answers request `xid`, after the answers that are still in the making.
    fn reply(&mut self, xid: u32, body: Message, now: Instant) {
        if self.may_answer() {
            self.send_with_xid(body, xid, now);
        } else {
            let version = self.version();
            let mut once = Some(Msg { version, xid, body });
            let parts =
                move |tun: &TunTable| once.take().map(|msg| crate::codec::encode(&msg, tun));
            self.replies.push_back(Box::new(parts));
        }
    }
}

/// The number of a request.
fn xid_of(request: &[u8]) -> u32 {
    request
        .get(4..8)
        .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}
