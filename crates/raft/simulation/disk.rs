//! A disk that loses what was not made durable: after a crash there is any part of it, cut at any
//! byte, the end perhaps as zeros. A file that takes the place of another does so as a whole.

use std::collections::VecDeque;

use ferrovs_json::{Value, parse_bytes};
use ferrovs_raft::machine::Write;
use ferrovs_raft::record::frame;
use ferrovs_raft::{Header, Stored};

use super::{Failure, Random};

#[derive(Default)]
pub struct Disk {
    durable: Vec<u8>,
    pending: VecDeque<(u64, Pending)>,
}

enum Pending {
    Append(Vec<u8>),
    Replace(Vec<u8>),
}

impl Disk {
    pub fn new(header: &Header) -> Self {
        Self {
            durable: header.encode(),
            pending: VecDeque::new(),
        }
    }

    pub fn write(&mut self, number: u64, write: &Write) {
        let pending = match write {
            Write::Append(record) => Pending::Append(record.encode()),
            Write::Replace { header, records } => {
                let mut file = header.encode();
                for record in records {
                    file.extend(record.encode());
                }
                Pending::Replace(file)
            }
        };
        self.pending.push_back((number, pending));
    }

    /// Makes all up to this write durable.
    pub fn sync(&mut self, number: u64) {
        while self.pending.front().is_some_and(|(n, _)| *n <= number) {
            if let Some((_, pending)) = self.pending.pop_front() {
                self.perform(pending);
            }
        }
    }

    fn perform(&mut self, pending: Pending) {
        match pending {
            Pending::Append(bytes) => self.durable.extend(bytes),
            Pending::Replace(file) => self.durable = file,
        }
    }

    pub fn crash(&mut self, random: &mut Random) {
        let n = random.below(self.pending.len() as u64 + 1);
        let mut lost = std::mem::take(&mut self.pending);
        for _ in 0..n {
            if let Some((_, pending)) = lost.pop_front() {
                self.perform(pending);
            }
        }
        if let Some((_, Pending::Append(bytes))) = lost.pop_front() {
            let part = random.below(bytes.len() as u64) as usize;
            self.durable.extend(&bytes[..part]);
            if random.chance(200) {
                self.durable
                    .resize(self.durable.len() + bytes.len() - part, 0);
            }
        }
    }

    /// Reads the file as a server that starts does: up to the first record that is not whole, where
    /// it will go on writing.
    pub fn read(&mut self) -> Result<Stored, Failure> {
        let mut stored: Option<Stored> = None;
        let mut at = 0;
        while let Some((value, end)) = next_record(&self.durable, at) {
            let fail = |e: ferrovs_ovsdb::Error| Failure(format!("cannot read file: {e}"));
            match &mut stored {
                None => stored = Some(Stored::new(Header::decode(&value).map_err(fail)?)),
                Some(stored) => stored.add(&value).map_err(fail)?,
            }
            at = end;
        }
        self.durable.truncate(at);
        stored.ok_or_else(|| Failure("file without a first record".to_owned()))
    }
}

fn next_record(file: &[u8], at: usize) -> Option<(Value, usize)> {
    let rest = &file[at..];
    let line = rest.iter().position(|&b| b == b'\n')? + 1;
    let text = std::str::from_utf8(&rest[..line]).ok()?;
    let len: usize = text
        .strip_prefix("OVSDB CLUSTER ")?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let body = rest.get(line..line + len)?;
    let whole = rest.get(..line + len)?;
    (frame(body) == whole).then_some(())?;
    Some((parse_bytes(body).ok()?, at + line + len))
}
