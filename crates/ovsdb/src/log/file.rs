//! The log on disk: opening, reading, appending, replacing.
//!
//! Replacing (compaction, conversion) writes a new file, syncs it, renames it over the old one and
//! syncs the directory, before anything is written to the new one under its final name.
//!
//! A record that could not be written whole, or not be synced when that was asked for, is cut off
//! again, at the latest before the next one is written: what follows a torn record is lost to
//! readers, and a transaction that its client was told had failed must not come back.

use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use sha1::{Digest, Sha1};

use super::disk::{Disk, DiskFile, FileSystem};
use super::lockfile::Lockfile;
use super::schedule::Schedule;
use super::{MAGIC_CLUSTER, MAGIC_JSON, Storage, header, hex, parse_header};
use crate::error::{strerror, tag};
use crate::{Error, json};

pub use super::disk::Warn;

/// Bytes of a header line that are looked at.
const MAX_HEADER: u64 = 127;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    ReadOnly,
    ReadWrite,
    /// Make a new file; one that exists is an error.
    Create,
    /// Make a new file or use the one that exists.
    OpenOrCreate,
}

impl Mode {
    /// How an error calls it.
    fn verb(self) -> &'static str {
        match self {
            Mode::ReadOnly | Mode::ReadWrite => "open",
            Mode::Create => "create",
            Mode::OpenOrCreate => "create or open",
        }
    }
}

pub struct LogFile {
    disk: Arc<dyn Disk>,
    /// As given by the user, for messages.
    name: String,
    path: PathBuf,
    reader: BufReader<Box<dyn DiskFile>>,
    /// End of the last record that was read and not given back, or written.
    end: u64,
    /// Where the next header is read from.
    pos: u64,
    /// Records that were accepted or written.
    len: usize,
    /// Bytes in the log when it was written anew, 0 if it never was.
    base: u64,
    /// The file ends at `end`, and what is written next goes there.
    writing: bool,
    /// The end before the last append, to take that back.
    before: Option<u64>,
    /// Something that was written may not have reached the disk and never will.
    damaged: bool,
    magic: Magic,
    _lock: Option<Lockfile>,
}

/// A record that was read.
pub enum Record {
    /// Its offset and text.
    Text(u64, Vec<u8>),
    /// One that is better not taken into memory whole.
    Long { offset: u64, len: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Magic {
    Json,
    Cluster,
}

impl Magic {
    fn text(self) -> &'static str {
        match self {
            Magic::Json => MAGIC_JSON,
            Magic::Cluster => MAGIC_CLUSTER,
        }
    }
}

impl LogFile {
    /// Opens a file, locked if it may be written to.
    pub fn open(name: &str, mode: Mode, warn: Warn<'_>) -> Result<Self, Error> {
        let disk: Arc<dyn Disk> = Arc::new(FileSystem);
        let lock = if mode == Mode::ReadOnly {
            None
        } else {
            disk.lock(&disk.follow(Path::new(name)), warn)
                .map_err(|e| Error::io(&e, format!("{name}: failed to lock lockfile")))?
        };
        Self::open_on(disk, name, mode, lock)
    }

    /// Opens a file whose lock is somebody else's business, or which needs none.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        name: &str,
        mode: Mode,
        lock: Option<Lockfile>,
    ) -> Result<Self, Error> {
        let path = disk.follow(Path::new(name));
        let file = disk
            .open(&path, mode)
            .map_err(|e| Error::io(&e, format!("{name}: {} failed", mode.verb())))?;
        let creating = mode == Mode::Create || mode == Mode::OpenOrCreate;
        if creating && let Some(dir) = path.parent() {
            disk.sync_dir(dir);
        }
        let mut log = Self {
            disk,
            name: name.to_owned(),
            // A daemon may change its directory later.
            path: std::path::absolute(&path).unwrap_or(path),
            reader: BufReader::with_capacity(1 << 16, file),
            end: 0,
            pos: 0,
            len: 0,
            base: 0,
            writing: false,
            before: None,
            damaged: false,
            magic: Magic::Json,
            _lock: lock,
        };
        log.identify(creating)?;
        Ok(log)
    }

    fn identify(&mut self, may_be_empty: bool) -> Result<(), Error> {
        let name = &self.name;
        let line = read_line(&mut self.reader)
            .and_then(|line| self.reader.seek(SeekFrom::Start(0)).map(|_| line))
            .map_err(|e| Error::io(&e, format!("{name}: read error")))?;
        if line.is_empty() {
            return if may_be_empty {
                Ok(())
            } else {
                Err(Error::ovsdb(format!("{name}: cannot identify file type")))
            };
        }
        self.magic = match parse_header(&line).map(|h| h.magic) {
            Ok(MAGIC_JSON) => Magic::Json,
            Ok(MAGIC_CLUSTER) => Magic::Cluster,
            Ok(_) => return Err(Error::ovsdb(format!("{name}: cannot identify file type"))),
            Err(_) => return Err(Error::ovsdb(format!("{name}: unexpected file format"))),
        };
        Ok(())
    }

    pub fn magic(&self) -> Magic {
        self.magic
    }

    /// Refuses a clustered database's file.
    pub fn require_standalone(&self) -> Result<(), Error> {
        if self.magic == Magic::Cluster {
            return Err(Error::ovsdb(format!(
                "{}: cannot apply this operation to clustered database file",
                self.name
            )));
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next record, or none at the end of the file. After an error the log counts as ending
    /// before the record in question.
    pub fn read(&mut self) -> Result<Option<Value>, Error> {
        let Some((offset, body)) = self.read_text()? else {
            return Ok(None);
        };
        match json::parse_bytes(&body) {
            Ok(v @ Value::Object(_)) => {
                self.accept();
                Ok(Some(v))
            }
            Ok(_) => Err(self.not_object(offset, body.len())),
            Err(e) => Err(self.not_json(offset, body.len(), &e)),
        }
    }

    /// Keeps the record that was read last.
    pub fn accept(&mut self) {
        self.end = self.pos;
        self.len += 1;
        if self.len == 2 {
            // The first one after the schema is what an earlier process wrote the log anew with.
            self.base = self.end;
        }
    }

    /// The error for a record that is no JSON.
    pub fn not_json(&self, offset: u64, len: usize, e: &json::ParseError) -> Error {
        Error::plain_syntax(format!(
            "{}: {len} bytes starting at offset {offset} are not valid JSON ({e})",
            self.name
        ))
    }

    /// The error for a record that is JSON, but no object.
    pub fn not_object(&self, offset: u64, len: usize) -> Error {
        Error::plain_syntax(format!(
            "{}: {len} bytes starting at offset {offset} are not a JSON object",
            self.name
        ))
    }

    /// The next record as its offset and text. It counts as part of the log once it is accepted.
    pub fn read_text(&mut self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        match self.next(u64::MAX)? {
            Some(Record::Text(offset, text)) => Ok(Some((offset, text))),
            _ => Ok(None),
        }
    }

    /// The next record: its text, or if that is longer than `most`, where it is. Its hash is right
    /// in either case.
    pub fn next(&mut self, most: u64) -> Result<Option<Record>, Error> {
        let name = &self.name;
        let line = read_line(&mut self.reader)
            .map_err(|e| Error::io(&e, format!("{name}: read failed")))?;
        if line.is_empty() {
            return Ok(None);
        }
        let parsed = parse_header(&line).and_then(|h| {
            let same = h.magic == self.magic.text();
            if same { Ok(h) } else { Err(h.shown) }
        });
        let h = parsed.map_err(|shown| {
            Error::plain_syntax(format!(
                "{name}: parse error at offset {} in header line \"{}\"",
                self.pos,
                String::from_utf8_lossy(shown)
            ))
        })?;
        let offset = self.pos + line.len() as u64;
        // The announced length is not trusted with an allocation.
        let room = if h.len > most { 0 } else { h.len.min(1 << 20) };
        let mut body = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        let mut sha1 = Sha1::new();
        let mut rest = (&mut self.reader).take(h.len);
        let failed = loop {
            if rest.limit() == 0 {
                break None;
            }
            match rest.fill_buf() {
                Ok([]) => break Some("End of file".to_owned()),
                Ok(piece) => {
                    sha1.update(piece);
                    if h.len <= most {
                        body.extend_from_slice(piece);
                    }
                    let n = piece.len();
                    rest.consume(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break Some(strerror(&e)),
            }
        };
        if let Some(io) = failed {
            return Err(Error {
                tag: tag::IO,
                details: Some(format!(
                    "{name}: error reading {} bytes starting at offset {offset}",
                    h.len
                )),
                syntax: None,
                io: Some(io),
            });
        }
        let actual = hex(&sha1.finalize());
        if !actual.eq_ignore_ascii_case(h.sha1) {
            return Err(Error::plain_syntax(format!(
                "{name}: {} bytes starting at offset {offset} have SHA-1 hash {actual} but \
                 should have hash {}",
                h.len,
                h.sha1.to_lowercase()
            )));
        }
        self.pos = offset + h.len;
        Ok(Some(if h.len > most {
            Record::Long { offset, len: h.len }
        } else {
            Record::Text(offset, body)
        }))
    }

    /// Reads a long record again, in what pieces `f` wants.
    pub fn reread<T>(
        &mut self,
        offset: u64,
        len: u64,
        f: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, Error> {
        let name = &self.name;
        let failed = |e| Error::io(&e, format!("{name}: read failed"));
        self.reader.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let result = f(&mut (&mut self.reader).take(len));
        let end = SeekFrom::Start(self.pos);
        self.reader.seek(end).map_err(failed)?;
        Ok(result)
    }

    /// When it should be written anew: none while it has nothing but its schema and one record
    /// with the contents.
    pub fn due(&self, schedule: &Schedule) -> Option<Instant> {
        let beginning = if self.base > 0 { 2 } else { 1 };
        let records = self.len.saturating_sub(beginning);
        schedule.due(records, self.end, self.base)
    }

    /// Where the last good record ends.
    pub fn position(&self) -> u64 {
        self.end
    }

    fn io(&self, what: &str, e: &std::io::Error) -> Error {
        Error::io(e, format!("{}: {what}", self.name))
    }

    fn start_writing(&mut self) -> Result<(), Error> {
        if self.writing {
            return Ok(());
        }
        let end = self.end;
        let file = self.reader.get_mut();
        file.seek(SeekFrom::Start(end))
            .map_err(|e| Error::io(&e, format!("{}: cannot seek to offset {end}", self.name)))?;
        file.set_size(end).map_err(|e| {
            Error::io(
                &e,
                format!("{}: cannot truncate to length {end}", self.name),
            )
        })?;
        self.writing = true;
        Ok(())
    }

    /// Writes another file with the same lock, to take this one's place by `install`.
    pub fn replacement(&self) -> Result<Replacement, Error> {
        Replacement::create(Arc::clone(&self.disk), &self.path)
    }

    /// Puts a finished replacement in place of this log and goes on with it.
    pub fn install(&mut self, r: Replacement) -> Result<(), Error> {
        self.install_retiring(r).map(drop)
    }

    /// The same, with the old file still open: the system gives its space back when it is dropped,
    /// which takes long for a large one.
    pub fn install_retiring(&mut self, mut r: Replacement) -> Result<Option<Retired>, Error> {
        r.sync()?;
        // Somebody else may have removed the file or put another one there.
        if r.disk.id(&r.path) != r.id {
            return Err(Error::io(
                &ErrorKind::NotFound.into(),
                r.rename_failed(&self.path),
            ));
        }
        r.disk
            .rename(&r.path, &self.path)
            .map_err(|e| Error::io(&e, r.rename_failed(&self.path)))?;
        r.installed = true;
        if let Some(dir) = self.path.parent() {
            r.disk.sync_dir(dir);
        }
        let Some(file) = r.file.take() else {
            return Ok(None);
        };
        let (file, _) = file.into_parts();
        let old = std::mem::replace(&mut self.reader, BufReader::new(file));
        self.end = r.size;
        self.pos = r.size;
        self.len = r.len;
        self.base = r.base.unwrap_or(r.size);
        self.writing = true;
        self.before = None;
        self.damaged = false;
        self.magic = Magic::Json;
        Ok(Some(Retired { _file: old }))
    }
}

/// The file of a log that another has replaced.
pub struct Retired {
    _file: BufReader<Box<dyn DiskFile>>,
}

impl Storage for LogFile {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.start_writing()?;
        if let Err(e) = self.reader.get_mut().write_all(record) {
            self.cut();
            write_failed(&self.path, &e);
            return Err(self.io("write failed", &e));
        }
        self.before = Some(self.end);
        self.end += record.len() as u64;
        self.len += 1;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        if self.damaged {
            let e = std::io::Error::from(rustix::io::Errno::IO);
            return Err(self.io("fsync failed", &e));
        }
        if let Err(e) = self.reader.get_mut().sync() {
            // The kernel reports such a failure once; what it covered may be gone.
            self.damaged = true;
            return Err(self.io("fsync failed", &e));
        }
        Ok(())
    }

    fn withdraw(&mut self) {
        if let Some(before) = self.before.take() {
            self.end = before;
            self.len -= 1;
            self.cut();
        }
    }

    fn damaged(&self) -> bool {
        self.damaged
    }

    fn size(&self) -> u64 {
        self.end
    }
}

impl LogFile {
    /// Cuts off what follows the last good record. If that fails now, the next append tries again
    /// and fails if it cannot.
    fn cut(&mut self) {
        self.writing = false;
        let _ = self.start_writing();
    }
}

fn write_failed(path: &Path, e: &std::io::Error) {
    let text = format!("{}: write failed ({})", path.display(), strerror(e));
    super::report("ovsdb_log", &text);
}

/// A line of at most so many bytes, its newline included.
fn read_line(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_HEADER).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// A new log that is being written beside the old one. Dropped before it is installed, it takes its
/// file along.
pub struct Replacement {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    id: Option<super::disk::FileId>,
    file: Option<BufWriter<Box<dyn DiskFile>>>,
    size: u64,
    /// Records, and bytes before those that were appended as a whole.
    len: usize,
    base: Option<u64>,
    synced: u64,
    installed: bool,
}

impl Replacement {
    fn create(disk: Arc<dyn Disk>, target: &Path) -> Result<Self, Error> {
        let mut path = target.as_os_str().to_owned();
        path.push(".tmp");
        let path = PathBuf::from(path);
        let name = path.display();
        // A crash may have left one.
        if let Err(e) = disk.remove(&path)
            && e.kind() != ErrorKind::NotFound
        {
            return Err(Error::io(&e, format!("failed to remove {name}")));
        }
        let file = disk
            .open(&path, Mode::Create)
            .map_err(|e| Error::io(&e, format!("{name}: create failed")))?;
        Ok(Self {
            id: file.id(),
            file: Some(BufWriter::with_capacity(1 << 16, file)),
            disk,
            path,
            size: 0,
            len: 0,
            base: None,
            synced: 0,
            installed: false,
        })
    }

    fn rename_failed(&self, to: &Path) -> String {
        format!(
            "failed to rename \"{}\" to \"{}\"",
            self.path.display(),
            to.display()
        )
    }

    fn attempt<T>(
        &mut self,
        what: &str,
        f: impl FnOnce(&mut BufWriter<Box<dyn DiskFile>>) -> std::io::Result<T>,
    ) -> Result<T, Error> {
        let result = match &mut self.file {
            Some(file) => f(file),
            None => Err(ErrorKind::NotFound.into()),
        };
        result.map_err(|e| {
            if what == "write" {
                write_failed(&self.path, &e);
            }
            Error::io(&e, format!("{}: {what} failed", self.path.display()))
        })
    }

    /// Appends a framed record.
    pub fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.append_all(record, 1)
    }

    /// Appends so many records that were written to the old log while this one was.
    pub fn append_news(&mut self, records: &[u8], len: usize) -> Result<(), Error> {
        self.base = Some(self.size);
        self.append_all(records, len)
    }

    fn append_all(&mut self, records: &[u8], len: usize) -> Result<(), Error> {
        self.attempt("write", |f| f.write_all(records))?;
        self.size += records.len() as u64;
        self.len += len;
        Ok(())
    }

    /// Appends a record whose body `produce` gives piece by piece, so that it is never whole in
    /// memory. The header comes before the body and tells its length and hash: room is left for
    /// it. How much depends on the number of digits of the length; if `expected` misleads, the
    /// body is produced again.
    pub fn append_streamed(
        &mut self,
        expected: u64,
        mut produce: impl FnMut(&mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.size;
        let mut room = header(expected.max(1), "").len() + 40;
        loop {
            let (mut len, mut sha1) = (0u64, Sha1::new());
            self.attempt("write", |f| {
                f.seek(SeekFrom::Start(start))?;
                f.write_all(&vec![b' '; room])
            })?;
            produce(&mut |piece| {
                sha1.update(piece);
                len += piece.len() as u64;
                self.attempt("write", |f| f.write_all(piece))
            })?;
            let line = header(len, &hex(&sha1.finalize()));
            let end = start + room as u64 + len;
            if line.len() != room {
                room = line.len();
                self.attempt("write", |f| {
                    f.flush()?;
                    f.get_mut().set_size(start)
                })?;
                continue;
            }
            self.attempt("write", |f| {
                f.seek(SeekFrom::Start(start))?;
                f.write_all(line.as_bytes())?;
                f.seek(SeekFrom::Start(end)).map(drop)
            })?;
            self.size = end;
            self.len += 1;
            return Ok(());
        }
    }

    /// Pushes everything to the disk, so that `install` has little left to wait for.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.synced == self.size && self.size > 0 {
            return Ok(());
        }
        self.attempt("write", Write::flush)?;
        self.attempt("fsync", |f| f.get_mut().sync())?;
        self.synced = self.size;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // What is left in the buffer is of no use to anybody.
        if let Some(file) = self.file.take() {
            drop(file.into_parts());
        }
        if !self.installed && self.disk.id(&self.path) == self.id {
            let _ = self.disk.remove(&self.path);
        }
    }
}
