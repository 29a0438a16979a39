//! The log on disk: opening, locking, reading, appending, replacing.
//!
//! The lock is a POSIX record lock on `.<name>.~lock~` beside the file (symbolic links followed), so
//! it goes away with the process however that ends. Replacing (compaction, conversion) writes a
//! new file and renames it over the old one.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use super::{MAGIC_CLUSTER, MAGIC_JSON, Storage, parse_header, sha1_hex};
use crate::error::{strerror, tag};
use crate::{Error, json};

/// Takes warnings: module of Open vSwitch's log, text.
pub type Warn<'a> = &'a dyn Fn(&'static str, &str);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    ReadOnly,
    ReadWrite,
    /// Make a new file; one that exists is an error.
    Create,
    /// Make a new file or use the one that exists.
    OpenOrCreate,
}

pub struct LogFile {
    /// As given by the user, for messages.
    name: String,
    path: PathBuf,
    reader: BufReader<File>,
    /// End of the last record that was read and not given back, or written.
    end: u64,
    /// Where the next header is read from.
    pos: u64,
    /// Size of the file if nothing else writes to it.
    size: u64,
    writing: bool,
    magic: Magic,
    lock: Option<Lockfile>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Magic {
    Json,
    Cluster,
}

impl LogFile {
    pub fn open(name: &str, mode: Mode, warn: Warn<'_>) -> Result<Self, Error> {
        let path = deref_symlinks(Path::new(name));
        let lock = if mode == Mode::ReadOnly {
            None
        } else {
            Some(
                Lockfile::lock(&path, warn)
                    .map_err(|e| Error::io(&e, format!("{name}: failed to lock lockfile")))?,
            )
        };
        let mut options = OpenOptions::new();
        options.read(true).mode(0o640);
        match mode {
            Mode::ReadOnly => &mut options,
            Mode::ReadWrite => options.write(true),
            Mode::Create => options.write(true).create_new(true),
            Mode::OpenOrCreate => options.write(true).create(true),
        };
        let creating = mode == Mode::Create || mode == Mode::OpenOrCreate;
        let file = options.open(&path).map_err(|e| {
            let op = if creating { "create" } else { "open" };
            Error::io(&e, format!("{name}: {op} failed"))
        })?;
        if creating && let Some(dir) = path.parent() {
            sync_dir(dir);
        }
        let size = file.metadata().map(|m| m.len()).unwrap_or(0);
        let mut log = Self {
            name: name.to_owned(),
            path,
            reader: BufReader::with_capacity(1 << 16, file),
            end: 0,
            pos: 0,
            size,
            writing: false,
            magic: Magic::Json,
            lock,
        };
        log.identify(creating)?;
        Ok(log)
    }

    fn identify(&mut self, may_be_empty: bool) -> Result<(), Error> {
        let name = &self.name;
        let read = |e| Error::io(&e, format!("{name}: read error"));
        let start = self.reader.fill_buf().map_err(read)?;
        if start.is_empty() {
            return if may_be_empty {
                Ok(())
            } else {
                Err(Error::ovsdb(format!("{name}: cannot identify file type")))
            };
        }
        let line = start.split(|&b| b == b'\n').next().unwrap_or_default();
        let words: Vec<&[u8]> = line.splitn(3, |&b| b == b' ').collect();
        match words.as_slice() {
            [b"OVSDB", magic, ..] if *magic == MAGIC_JSON.as_bytes() => Ok(()),
            [b"OVSDB", magic, ..] if *magic == MAGIC_CLUSTER.as_bytes() => {
                self.magic = Magic::Cluster;
                Ok(())
            }
            _ => Err(Error::ovsdb(format!("{name}: unexpected file format"))),
        }
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
        let Some((offset, body)) = self.read_body()? else {
            return Ok(None);
        };
        match json::parse_bytes(&body) {
            Ok(v) => {
                self.accept();
                Ok(Some(v))
            }
            Err(e) => Err(self.not_json(offset, body.len(), &e)),
        }
    }

    /// The next record as its offset and text. It counts as part of the log once it is accepted.
    pub fn read_text(&mut self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        self.read_body()
    }

    /// Keeps the record that was read last.
    pub fn accept(&mut self) {
        self.end = self.pos;
    }

    /// The error for a record that is no JSON.
    pub fn not_json(&self, offset: u64, len: usize, e: &json::ParseError) -> Error {
        Error::plain_syntax(format!(
            "{}: {len} bytes starting at offset {offset} are not valid JSON ({e})",
            self.name
        ))
    }

    fn read_body(&mut self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let name = &self.name;
        let mut line = Vec::new();
        let n = (&mut self.reader)
            .take(256)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io(&e, format!("{name}: read failed")))?;
        if n == 0 {
            return Ok(None);
        }
        let complete = line.last() == Some(&b'\n');
        if complete {
            line.pop();
        }
        let text = String::from_utf8_lossy(&line);
        let Some(h) = parse_header(&text).filter(|_| complete) else {
            return Err(Error::plain_syntax(format!(
                "{name}: parse error at offset {} in header line \"{text}\"",
                self.pos
            )));
        };
        let offset = self.pos + n as u64;
        let mut body = Vec::new();
        // The announced length is not trusted with an allocation.
        let got = (&mut self.reader).take(h.len).read_to_end(&mut body);
        let failed = match &got {
            Ok(n) if *n as u64 == h.len => None,
            Ok(_) => Some("End of file".to_owned()),
            Err(e) => Some(strerror(e)),
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
        let actual = sha1_hex(&body);
        if !actual.eq_ignore_ascii_case(h.sha1) {
            return Err(Error::plain_syntax(format!(
                "{name}: {} bytes starting at offset {offset} have SHA-1 hash {actual} but \
                 should have hash {}",
                h.len,
                h.sha1.to_lowercase()
            )));
        }
        debug_assert!(h.magic == MAGIC_JSON || h.magic == MAGIC_CLUSTER);
        self.pos = offset + h.len;
        Ok(Some((offset, body)))
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
        file.set_len(end).map_err(|e| {
            Error::io(
                &e,
                format!("{}: cannot truncate to length {end}", self.name),
            )
        })?;
        self.size = end;
        self.writing = true;
        Ok(())
    }

    /// Writes another file with the same lock, to take this one's place by `install`.
    pub fn replacement(&self) -> Result<Replacement, Error> {
        Replacement::create(&self.path, &self.name)
    }

    /// Puts a finished replacement in place of this log and goes on with it.
    pub fn install(&mut self, r: Replacement) -> Result<(), Error> {
        let Replacement {
            path,
            mut file,
            size,
            ..
        } = r;
        file.flush()
            .and_then(|()| file.get_ref().sync_all())
            .map_err(|e| Error::io(&e, format!("{}: fsync failed", path.display())))?;
        let file = file
            .into_inner()
            .map_err(|e| Error::io(e.error(), format!("{}: write failed", path.display())))?;
        std::fs::rename(&path, &self.path).map_err(|e| {
            Error::io(
                &e,
                format!(
                    "failed to rename \"{}\" to \"{}\"",
                    path.display(),
                    self.path.display()
                ),
            )
        })?;
        if let Some(dir) = self.path.parent() {
            sync_dir(dir);
        }
        self.reader = BufReader::new(file);
        self.end = size;
        self.pos = size;
        self.size = size;
        self.writing = true;
        Ok(())
    }

    /// Keeps the lock only.
    pub fn into_lock(self) -> Option<Lockfile> {
        self.lock
    }
}

impl Storage for LogFile {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.start_writing()?;
        let file = self.reader.get_mut();
        if let Err(e) = file.write_all(record) {
            // A half-written record must not stay before the next one.
            let end = self.end;
            let _ = file
                .set_len(end)
                .and_then(|()| file.seek(SeekFrom::Start(end)));
            return Err(self.io("write failed", &e));
        }
        self.end += record.len() as u64;
        self.size = self.end;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let result = self.reader.get_ref().sync_data();
        result.map_err(|e| self.io("fsync failed", &e))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// A new log that is being written beside the old one.
pub struct Replacement {
    path: PathBuf,
    file: std::io::BufWriter<File>,
    size: u64,
    installed: bool,
}

impl Replacement {
    fn create(target: &Path, name: &str) -> Result<Self, Error> {
        let mut path = target.as_os_str().to_owned();
        path.push(".tmp");
        let path = PathBuf::from(path);
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)
            .map_err(|e| Error::io(&e, format!("{name}.tmp: create failed")))?;
        let file = std::io::BufWriter::with_capacity(1 << 16, file);
        Ok(Self {
            path,
            file,
            size: 0,
            installed: false,
        })
    }

    pub fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(record)
            .map_err(|e| Error::io(&e, format!("{}: write failed", self.path.display())))?;
        self.size += record.len() as u64;
        Ok(())
    }

    /// Pushes everything to the disk, so that `install` has little left to wait for.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(|e| Error::io(&e, format!("{}: fsync failed", self.path.display())))
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives up: removes the file.
    pub fn abandon(self) {
        let _ = std::fs::remove_file(&self.path);
        debug_assert!(!self.installed);
    }
}

/// Makes a directory entry durable, as far as the file system allows.
fn sync_dir(dir: &Path) {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    if let Ok(d) = File::open(dir) {
        let _ = d.sync_all();
    }
}

/// Follows symbolic links at the end of the path, so that the lock and the replacement are made
/// beside the real file.
fn deref_symlinks(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..10 {
        match std::fs::read_link(&path) {
            Ok(target) if target.is_absolute() => path = target,
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    path
}

/// A lock that this process holds.
#[derive(Debug)]
pub struct Lockfile {
    path: PathBuf,
    id: (u64, u64),
    _file: File,
}

/// Locks of this process by device and inode: the kernel would grant them again.
static HELD: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

impl Lockfile {
    /// Locks `.<name>.~lock~` beside `path`.
    pub fn lock(path: &Path, warn: Warn<'_>) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock_path = path.with_file_name(format!(".{file_name}.~lock~"));
        let shown = lock_path.display();
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path);
        let file = opened.inspect_err(|e| {
            let e = strerror(e);
            warn(
                "lockfile",
                &format!("{shown}: failed to open lock file: {e}"),
            );
            warn("lockfile", &format!("{shown}: failed to lock file: {e}"));
        })?;
        let m = file.metadata()?;
        let id = (m.dev(), m.ino());
        let mut held = HELD
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.contains(&id) {
            warn(
                "lockfile",
                &format!("{shown}: cannot lock file because this process has already locked it"),
            );
            return Err(rustix::io::Errno::DEADLK.into());
        }
        let op = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if let Err(e) = rustix::fs::fcntl_lock(&file, op) {
            let want = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
            let owner = rustix::process::fcntl_getlk(&file, &want).ok().flatten();
            match owner.and_then(|f| f.pid) {
                Some(pid) => warn(
                    "lockfile",
                    &format!(
                        "{shown}: cannot lock file because it is already locked by pid {}",
                        pid.as_raw_nonzero()
                    ),
                ),
                None => warn("lockfile", &format!("{shown}: failed to lock file: {e}")),
            }
            return Err(rustix::io::Errno::AGAIN.into());
        }
        held.push(id);
        Ok(Self {
            path: lock_path,
            id,
            _file: file,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lockfile {
    fn drop(&mut self) {
        let mut held = HELD
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        held.retain(|id| *id != self.id);
    }
}
