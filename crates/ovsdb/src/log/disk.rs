//! What the log wants of a file system: the few operations whose order decides what a crash leaves.
//!
//! Everything that changes a file or a name goes through `Disk`, so that a test can record each step,
//! make any step fail, and build the images that a crash between any two steps may leave.
//! `FileSystem` is the real one.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::file::Mode;
use super::lockfile::Lockfile;

/// Takes warnings: module of Open vSwitch's log, text.
pub type Warn<'a> = &'a dyn Fn(&'static str, &str);

/// Names one file for as long as it is there, whatever it is called.
pub type FileId = (u64, u64);

pub trait Disk: Send + Sync + Debug {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what happened to names in a directory durable, as far as the file system allows.
    fn sync_dir(&self, dir: &Path);
    /// Where a symbolic link points, with other links on the way followed too.
    fn follow(&self, path: &Path) -> PathBuf;
    /// Which file has this name.
    fn id(&self, path: &Path) -> Option<FileId>;
    /// Keeps other writers away, or none if nobody else can be there.
    fn lock(&self, path: &Path, warn: Warn<'_>) -> io::Result<Option<Lockfile>>;
}

pub trait DiskFile: Read + Write + Seek + Send {
    fn size(&self) -> io::Result<u64>;
    fn set_size(&mut self, size: u64) -> io::Result<()>;
    /// Returns when everything that was written survives a crash of the machine.
    fn sync(&mut self) -> io::Result<()>;
    fn id(&self) -> Option<FileId>;
}

/// Files of the operating system.
#[derive(Debug)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o660);
        match mode {
            Mode::ReadOnly => &mut options,
            Mode::ReadWrite => options.write(true),
            Mode::Create => options.write(true).create_new(true),
            Mode::OpenOrCreate => options.write(true).create(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        if let Ok(d) = File::open(dir) {
            // Some file systems cannot sync a directory, and do not need it.
            let _ = d.sync_all();
        }
    }

    fn follow(&self, path: &Path) -> PathBuf {
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

    fn id(&self, path: &Path) -> Option<FileId> {
        std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
    }

    fn lock(&self, path: &Path, warn: Warn<'_>) -> io::Result<Option<Lockfile>> {
        Lockfile::lock(path, warn).map(Some)
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }

    fn set_size(&mut self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn id(&self) -> Option<FileId> {
        self.metadata().ok().map(|m| (m.dev(), m.ino()))
    }
}
