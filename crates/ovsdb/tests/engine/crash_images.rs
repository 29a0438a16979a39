//! What a crash of the machine leaves of the log, whenever it happens.
//!
//! A server runs random commits, durable ones, compactions and conversions on a disk in memory that
//! records every step: create, write, truncate, sync, rename, remove, sync of the directory. Then
//! for each step, the images are built that a crash right after it may leave. A file system may keep
//! or lose what was not synced:
//!
//! - of the data of a file, the writes since its last sync: all, none, the first few, the last one
//!   in part, or the size but not the bytes (zeros), or a later write without an earlier one;
//! - of the names, the changes since the last sync of the directory, in their order: all or the
//!   first few.
//!
//! Each image must open, have the contents of some commit not older than the last that was called
//! durable, take new records, and keep them.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ferrovs_ovsdb::Database;
use ferrovs_ovsdb::log::disk::{Disk, DiskFile, FileId, Warn};
use ferrovs_ovsdb::log::file::{LogFile, Mode};
use ferrovs_ovsdb::log::load::{Loaded, replay};
use ferrovs_ovsdb::log::lockfile::Lockfile;
use ferrovs_ovsdb::log::{Storage, frame, records};
use ferrovs_ovsdb::monitor::SessionId;
use ferrovs_ovsdb::server::{Access, Backing, Compaction, Db, Server};
use ferrovs_ovsdb::{DatabaseSchema, json};
use serde_json::Value;

use crate::{contents, now, run};

type Inode = usize;

/// One change of what is on the disk.
#[derive(Clone, Debug)]
enum Step {
    Create(PathBuf, Inode),
    Write(Inode, u64, Vec<u8>),
    SetSize(Inode, u64),
    Sync(Inode),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir,
}

/// The operation that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A write that gets only some bytes out.
    Write(usize),
    /// The same, and the torn record cannot be cut off either.
    WriteAndCut(usize),
    Sync,
    Rename,
    Create,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, Inode>,
    steps: Vec<Step>,
    fault: Option<Fault>,
    /// Truncating fails as long as this is set.
    no_cut: bool,
}

/// A disk in memory that remembers how it came to be what it is.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<State>>);

fn broken() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Recorder {
    /// A disk after a crash: files under names.
    fn with(files: Vec<Vec<u8>>, names: BTreeMap<PathBuf, Inode>) -> Self {
        let state = State {
            files,
            names,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn n_steps(&self) -> usize {
        self.0.lock().unwrap().steps.len()
    }

    fn fail(&self, fault: Fault) {
        self.0.lock().unwrap().fault = Some(fault);
    }

    fn mend(&self) {
        let mut s = self.0.lock().unwrap();
        s.fault = None;
        s.no_cut = false;
    }
}

impl State {
    /// True once if that is the operation that is to fail.
    fn fails(&mut self, fault: Fault) -> bool {
        if self.fault == Some(fault) {
            self.fault = None;
            return true;
        }
        false
    }
}

impl Disk for Recorder {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut s = self.0.lock().unwrap();
        let inode = match (s.names.get(path).copied(), mode) {
            (Some(_), Mode::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Mode::ReadOnly | Mode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                if s.fails(Fault::Create) {
                    return Err(broken());
                }
                let inode = s.files.len();
                s.files.push(Vec::new());
                s.names.insert(path.to_owned(), inode);
                s.steps.push(Step::Create(path.to_owned(), inode));
                inode
            }
        };
        Ok(Box::new(Open {
            disk: self.clone(),
            inode,
            at: 0,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.0.lock().unwrap();
        if s.fails(Fault::Rename) {
            return Err(broken());
        }
        let inode = s.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        s.names.insert(to.to_owned(), inode);
        s.steps.push(Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut s = self.0.lock().unwrap();
        s.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        s.steps.push(Step::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) {
        self.0.lock().unwrap().steps.push(Step::SyncDir);
    }

    fn follow(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn id(&self, path: &Path) -> Option<FileId> {
        let s = self.0.lock().unwrap();
        s.names.get(path).map(|&inode| (0, inode as u64))
    }

    fn lock(&self, _: &Path, _: Warn<'_>) -> io::Result<Option<Lockfile>> {
        Ok(None)
    }
}

struct Open {
    disk: Recorder,
    inode: Inode,
    at: u64,
}

impl Read for Open {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let s = self.disk.0.lock().unwrap();
        let rest = s.files[self.inode]
            .get(self.at as usize..)
            .unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for Open {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut s = self.disk.0.lock().unwrap();
        let mut data = data;
        match s.fault {
            Some(Fault::Write(n) | Fault::WriteAndCut(n)) if n == 0 => {
                s.no_cut = matches!(s.fault, Some(Fault::WriteAndCut(_)));
                s.fault = None;
                return Err(broken());
            }
            Some(Fault::Write(n)) => {
                data = &data[..n.min(data.len())];
                s.fault = Some(Fault::Write(0));
            }
            Some(Fault::WriteAndCut(n)) => {
                data = &data[..n.min(data.len())];
                s.fault = Some(Fault::WriteAndCut(0));
            }
            _ => {}
        }
        write_at(&mut s.files[self.inode], self.at, data);
        s.steps
            .push(Step::Write(self.inode, self.at, data.to_vec()));
        self.at += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Open {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.size()?;
        self.at = match to {
            SeekFrom::Start(n) => n,
            SeekFrom::End(n) => end.saturating_add_signed(n),
            SeekFrom::Current(n) => self.at.saturating_add_signed(n),
        };
        Ok(self.at)
    }
}

impl DiskFile for Open {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().files[self.inode].len() as u64)
    }

    fn set_size(&mut self, size: u64) -> io::Result<()> {
        let mut s = self.disk.0.lock().unwrap();
        if s.no_cut {
            return Err(broken());
        }
        s.files[self.inode].resize(size as usize, 0);
        s.steps.push(Step::SetSize(self.inode, size));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut s = self.disk.0.lock().unwrap();
        if s.fails(Fault::Sync) {
            return Err(broken());
        }
        s.steps.push(Step::Sync(self.inode));
        Ok(())
    }

    fn id(&self) -> Option<FileId> {
        Some((0, self.inode as u64))
    }
}

fn write_at(file: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = at as usize;
    if file.len() < at + data.len() {
        file.resize(at + data.len(), 0);
    }
    file[at..at + data.len()].copy_from_slice(data);
}

/// What becomes of data that was not synced.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Nothing is lost.
    None,
    /// All of it is.
    All,
    /// The first so many changes of each file are kept.
    After(usize),
    /// The last write got so far.
    Torn(usize),
    /// The last write left zeros.
    Zeros,
    /// The last change but one is lost, the last is not.
    Reordered,
}

/// The disk after a crash, if the first so many changes of names since the directory was synced
/// are kept.
fn image(steps: &[Step], loss: Loss, names_kept: usize) -> Recorder {
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut pending: Vec<Vec<&Step>> = Vec::new();
    let mut names = BTreeMap::new();
    let mut pending_names: Vec<&Step> = Vec::new();
    let rename = |names: &mut BTreeMap<PathBuf, Inode>, step: &Step| match step {
        Step::Create(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Step::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Step::Remove(path) => {
            names.remove(path);
        }
        _ => {}
    };
    let apply = |file: &mut Vec<u8>, step: &Step| match step {
        Step::Write(_, at, data) => write_at(file, *at, data),
        Step::SetSize(_, size) => file.resize(*size as usize, 0),
        _ => {}
    };
    for step in steps {
        match step {
            Step::Create(_, inode) => {
                files.resize(files.len().max(inode + 1), Vec::new());
                pending.resize(files.len(), Vec::new());
                pending_names.push(step);
            }
            Step::Write(inode, ..) | Step::SetSize(inode, _) => pending[*inode].push(step),
            Step::Sync(inode) => {
                for step in pending[*inode].drain(..) {
                    apply(&mut files[*inode], step);
                }
            }
            Step::Rename(..) | Step::Remove(_) => pending_names.push(step),
            Step::SyncDir => {
                for step in pending_names.drain(..) {
                    rename(&mut names, step);
                }
            }
        }
    }
    for step in pending_names.into_iter().take(names_kept) {
        rename(&mut names, step);
    }
    for (file, pending) in files.iter_mut().zip(pending) {
        let n = pending.len();
        for (i, step) in pending.into_iter().enumerate() {
            let last = i + 1 == n;
            match (loss, step) {
                (Loss::All, _) => {}
                (Loss::After(kept), _) if i >= kept => {}
                (Loss::Torn(len), Step::Write(_, at, data)) if last => {
                    write_at(file, *at, &data[..len.min(data.len())]);
                }
                (Loss::Zeros, Step::Write(_, at, data)) if last => {
                    write_at(file, *at, &vec![0; data.len()]);
                }
                (Loss::Reordered, _) if i + 2 == n => {}
                _ => apply(file, step),
            }
        }
    }
    Recorder::with(files, names)
}

const PATH: &str = "/db";

/// Like `Random` elsewhere: the same for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

fn schema(version: usize) -> Value {
    // A column comes and goes with the version.
    let extra = if version % 2 == 1 {
        r#","x":{"type":"integer"}"#
    } else {
        ""
    };
    let text = format!(
        r#"{{"name":"t","version":"{version}.0.0","tables":{{
          "A":{{"isRoot":true,"columns":{{"n":{{"type":"integer"}},"s":{{"type":"string"}},
            "set":{{"type":{{"key":"integer","min":0,"max":"unlimited"}}}}{extra}}}}}}}}}"#
    );
    json::parse(&text).unwrap()
}

fn open(disk: &Recorder) -> Loaded {
    let log = LogFile::open_on(Arc::new(disk.clone()), PATH, Mode::ReadWrite, None);
    let loaded = replay(log.unwrap(), None).unwrap();
    assert!(loaded.refused.is_none(), "{:?}", loaded.refused);
    loaded
}

/// Version of the schema and rows.
fn state(db: &Database) -> (String, Vec<String>) {
    (db.schema.version.clone(), contents(db))
}

/// A server on a recording disk, and what it promised.
struct Scene {
    disk: Recorder,
    server: Server,
    session: SessionId,
    version: usize,
    running: Option<Compaction>,
    /// Contents after each commit, the first of them in the empty database.
    states: Vec<(String, Vec<String>)>,
    /// For each step of the disk that was taken when something was promised: the commit that may
    /// not be lost any more.
    promises: Vec<(usize, usize)>,
    /// For each commit, the steps that were taken before it.
    begun: Vec<usize>,
    /// Transactions that failed: the commit before, the steps before, and what they would have
    /// made. Until something is durable again, they may come back: a crash may undo what took them
    /// out of the file.
    attempts: Vec<(usize, usize, (String, Vec<String>))>,
}

impl Scene {
    fn new() -> Self {
        let disk = Recorder::default();
        let schema_json = schema(0);
        let s = DatabaseSchema::from_json(&schema_json).unwrap();
        let mut log = LogFile::open_on(Arc::new(disk.clone()), PATH, Mode::Create, None).unwrap();
        log.append(&frame(&records::encode_schema(&s))).unwrap();
        log.sync().unwrap();
        drop(log);
        let mut server = Server::new(now());
        let loaded = open(&disk);
        let first = state(&loaded.db);
        assert!(server.add_db(Db::new(loaded.db, Backing::File(loaded.log))));
        let session = server.add_session(Access::default());
        let promises = vec![(disk.n_steps(), 0)];
        Self {
            disk,
            server,
            session,
            version: 0,
            running: None,
            states: vec![first],
            promises,
            begun: vec![0],
            attempts: Vec::new(),
        }
    }

    fn database(&self) -> &Database {
        self.server.db("t").unwrap().database()
    }

    /// The result of a request, or its error.
    fn call(&mut self, method: &str, params: &str) -> Value {
        let Value::Array(params) = json::parse(params).unwrap() else {
            panic!("an array")
        };
        self.server
            .request(self.session, method, params, 1.into(), now());
        self.server.flush(|_| true);
        let mut reply = Value::Null;
        self.server.output(|_, texts| {
            for t in texts {
                reply = json::parse_bytes(t.as_bytes()).unwrap();
            }
        });
        match reply["error"].take() {
            Value::Null => reply["result"].take(),
            error => error,
        }
    }

    fn transact(&mut self, ops: &str) -> Value {
        self.call("transact", &format!(r#"["t",{ops}]"#))
    }

    /// A random transaction.
    fn commit(&mut self, random: &mut Random, durable: bool) -> bool {
        let n = random.below(6);
        let text = "x".repeat(random.below(40));
        let mut ops = match random.below(5) {
            0 | 1 => format!(
                r#"{{"op":"insert","table":"A","uuid":"00000000-0000-4000-8000-{:012}","row":{{"n":{n},"s":"{text}"}}}}"#,
                random.below(1 << 30)
            ),
            2 => format!(
                r#"{{"op":"mutate","table":"A","where":[["n","==",{n}]],"mutations":[["set","insert",{}]]}}"#,
                random.below(9)
            ),
            3 => format!(
                r#"{{"op":"update","table":"A","where":[["n","==",{n}]],"row":{{"s":"{text}"}}}}"#
            ),
            _ => format!(r#"{{"op":"delete","table":"A","where":[["n","==",{n}]]}}"#),
        };
        if durable {
            ops.push_str(r#",{"op":"commit","durable":true}"#);
        }
        let begun = self.disk.n_steps();
        let before = self.server.commits();
        let reply = self.transact(&ops);
        let failed = json::to_string(&reply).contains("\"error\":\"I/O error\"");
        if failed {
            let s = state(self.database());
            assert_eq!(Some(&s), self.states.last(), "a failure leaves no trace");
            let mut copy = open(&self.disk);
            assert_eq!(state(&copy.db), s, "nor in the file");
            run(&mut copy.db, &ops);
            let attempt = state(&copy.db);
            self.attempts.push((self.states.len() - 1, begun, attempt));
            return false;
        }
        if self.server.commits() != before {
            self.begun.push(begun);
            let s = state(self.database());
            self.states.push(s);
        }
        if durable && self.server.commits() != before {
            self.promise();
        }
        true
    }

    fn promise(&mut self) {
        let newest = self.states.len() - 1;
        self.promises.push((self.disk.n_steps(), newest));
    }

    fn start_compaction(&mut self) {
        if self.running.is_none() {
            let db = self.server.db_mut("t").unwrap();
            self.running = db.start_compaction("", true, now()).ok().flatten();
        }
    }

    fn finish_compaction(&mut self) -> bool {
        let Some(job) = self.running.take() else {
            return true;
        };
        let db = self.server.db_mut("t").unwrap();
        let compacting = db.compacting();
        // Elsewhere this is another thread; between other steps it makes no difference.
        let done = db.finish_compaction(job.write());
        if done.is_ok() && compacting {
            self.promise();
        }
        done.is_ok()
    }

    fn convert(&mut self) -> bool {
        let begun = self.disk.n_steps();
        let schema = json::to_string(&schema(self.version + 1));
        let text = format!(r#"["t",{schema}]"#);
        let reply = self.call("convert", &text);
        if reply != Value::Object(Default::default()) {
            return false;
        }
        self.version += 1;
        self.begun.push(begun);
        let s = state(self.database());
        self.states.push(s);
        self.promise();
        true
    }

    /// Looks at the disk as it would be after a crash following each step.
    fn check(&self, random: &mut Random) -> usize {
        let steps = self.disk.0.lock().unwrap().steps.clone();
        let mut images = 0;
        for n in self.promises[0].0..=steps.len() {
            let promise = self.promises.iter().rev().find(|p| p.0 <= n).unwrap();
            let newest = self.begun.iter().rposition(|&b| b < n).unwrap_or(0);
            let last = match steps.get(n.wrapping_sub(1)) {
                Some(Step::Write(_, _, data)) => data.len(),
                _ => 0,
            };
            let mut losses = vec![Loss::None, Loss::All, Loss::Zeros, Loss::Reordered];
            losses.extend((1..4).map(Loss::After));
            losses.extend((0..last.min(3)).map(|_| Loss::Torn(random.below(last))));
            for loss in losses {
                for names in [0, 1, 2, usize::MAX] {
                    let what = format!("{n} steps, {loss:?}, {names} names");
                    self.examine(image(&steps[..n], loss, names), n, promise.1, newest, &what);
                    images += 1;
                }
            }
        }
        images
    }

    fn examine(&self, disk: Recorder, n: usize, oldest: usize, newest: usize, what: &str) {
        let mut loaded = open(&disk);
        let found = state(&loaded.db);
        let attempted = |a: &(usize, usize, _)| a.0 >= oldest && a.1 < n && a.2 == found;
        assert!(
            self.states[oldest..=newest.max(oldest)].contains(&found)
                || self.attempts.iter().any(attempted),
            "{what}: {found:#?} is none of commits {oldest} to {newest}: {:#?}",
            &self.states[oldest..=newest.max(oldest)]
        );
        let op = r#"{"op":"insert","table":"A","row":{"n":77}}"#;
        let (_, done) = run(&mut loaded.db, op);
        let body = records::encode_txn(&loaded.db, &done, 1, true).unwrap();
        loaded.log.append(&frame(&body)).unwrap();
        loaded.log.sync().unwrap();
        drop(loaded.log);
        let again = open(&disk);
        assert!(again.damage.is_none(), "{what}: {:?}", again.damage);
        assert_eq!(state(&again.db), state(&loaded.db), "{what}");
    }
}

/// A random run; with `faults`, operations fail now and then.
fn play(seed: u64, length: usize, faults: bool) -> Scene {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut scene = Scene::new();
    for _ in 0..length {
        if faults && random.below(4) == 0 {
            let fault = match random.below(5) {
                0 => Fault::Write(random.below(60)),
                1 => Fault::WriteAndCut(random.below(60)),
                2 => Fault::Sync,
                3 => Fault::Rename,
                _ => Fault::Create,
            };
            scene.disk.fail(fault);
        }
        match random.below(12) {
            0 => scene.start_compaction(),
            1 | 2 => {
                scene.finish_compaction();
            }
            3 if random.below(3) == 0 => {
                scene.convert();
            }
            n => {
                scene.commit(&mut random, n < 7);
            }
        }
        scene.disk.mend();
    }
    scene.finish_compaction();
    assert!(scene.commit(&mut random, true) || !faults);
    scene
}

/// How many random runs there are, `FERROVS_CRASH_SEEDS` if that is set.
fn seeds() -> u64 {
    std::env::var("FERROVS_CRASH_SEEDS").map_or(3, |n| n.parse().unwrap())
}

#[test]
fn a_crash_after_any_step_costs_nothing_that_was_called_durable() {
    let mut images = 0;
    for seed in 1..=seeds() {
        let scene = play(seed, 50, false);
        images += scene.check(&mut Random(seed));
    }
    assert!(images > 5_000, "{images} images");
}

#[test]
fn a_crash_after_failed_operations_costs_nothing_that_was_called_durable() {
    for seed in 1..=seeds() {
        let scene = play(seed, 50, true);
        scene.check(&mut Random(seed));
    }
}

#[test]
fn a_record_is_torn_at_any_byte_without_harm() {
    let scene = play(99, 15, false);
    let steps = scene.disk.0.lock().unwrap().steps.clone();
    for (i, step) in steps.iter().enumerate().skip(scene.promises[0].0) {
        let Step::Write(_, _, data) = step else {
            continue;
        };
        let n = i + 1;
        let promise = scene.promises.iter().rev().find(|p| p.0 <= n).unwrap();
        let newest = scene.begun.iter().rposition(|&b| b < n).unwrap_or(0);
        for len in 0..data.len() {
            let disk = image(&steps[..n], Loss::Torn(len), usize::MAX);
            let what = format!("{n} steps, {len} bytes");
            scene.examine(disk, n, promise.1, newest, &what);
        }
    }
}

#[test]
fn a_replacement_is_synced_before_it_is_renamed_and_the_directory_after() {
    let mut scene = Scene::new();
    scene.commit(&mut Random(5), true);
    let from = scene.disk.n_steps();
    scene.start_compaction();
    assert!(scene.finish_compaction());
    let steps = scene.disk.0.lock().unwrap().steps.clone();
    let steps = &steps[from..];
    let at = |f: &dyn Fn(&Step) -> bool| steps.iter().rposition(f).unwrap();
    let written = at(&|s| matches!(s, Step::Write(..)));
    let synced = at(&|s| matches!(s, Step::Sync(_)));
    let renamed = at(&|s| matches!(s, Step::Rename(..)));
    let named = at(&|s| matches!(s, Step::SyncDir));
    assert!(written < synced && synced < renamed && renamed < named);
}

#[test]
fn a_compaction_that_a_conversion_overtook_is_dropped() {
    let mut scene = Scene::new();
    let mut random = Random(6);
    for _ in 0..5 {
        scene.commit(&mut random, false);
    }
    scene.start_compaction();
    assert!(scene.convert());
    scene.commit(&mut random, true);
    assert!(scene.finish_compaction());
    let now = state(scene.database());
    drop(scene.server);
    assert_eq!(state(&open(&scene.disk).db), now);
    let names = &scene.disk.0.lock().unwrap().names;
    assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
}

#[test]
fn a_compaction_of_a_file_that_was_opened_again_is_dropped() {
    let mut scene = Scene::new();
    let mut random = Random(7);
    for _ in 0..5 {
        scene.commit(&mut random, false);
    }
    scene.start_compaction();
    assert!(scene.server.remove_db("t"));
    let loaded = open(&scene.disk);
    let db = Db::new(loaded.db, Backing::File(loaded.log));
    assert!(scene.server.add_db(db));
    while !scene.commit(&mut random, true) {}
    assert!(scene.finish_compaction());
    let now = state(scene.database());
    assert_eq!(state(&open(&scene.disk).db), now);
}

#[test]
fn a_transaction_whose_sync_failed_does_not_come_back() {
    let mut scene = Scene::new();
    let mut random = Random(1);
    while scene.states.len() < 2 {
        assert!(scene.commit(&mut random, true));
    }
    scene.disk.fail(Fault::Sync);
    let reply = scene
        .transact(r#"{"op":"insert","table":"A","row":{"n":5}},{"op":"commit","durable":true}"#);
    assert_eq!(reply[2]["error"], "I/O error", "{reply}");
    assert_eq!(reply[2]["details"], "/db: fsync failed", "{reply}");
    assert_eq!(state(&open(&scene.disk).db), scene.states[1]);
    // What the sync covered may be gone: the next record comes with all the others.
    assert!(scene.commit(&mut random, true));
    let now = state(scene.database());
    assert_eq!(state(&open(&scene.disk).db), now);
}

#[test]
fn a_log_that_grew_is_compacted_in_time_and_again_soon_if_that_failed() {
    let minutes = |n: u64| std::time::Duration::from_secs(n * 60);
    let mut scene = Scene::new();
    let start = now().instant;
    assert!(scene.server.due_for_compaction(start).is_empty());
    let text = "x".repeat(110_000);
    for n in 0..100 {
        scene.transact(&format!(
            r#"{{"op":"insert","table":"A","row":{{"n":{n},"s":"{text}"}}}}"#
        ));
    }
    assert!(
        scene
            .server
            .due_for_compaction(start + minutes(9))
            .is_empty()
    );
    let later = start + minutes(21);
    assert_eq!(scene.server.due_for_compaction(later), ["t"]);
    assert!(scene.server.deadline().is_some_and(|d| d <= later));

    scene.disk.fail(Fault::Rename);
    scene.start_compaction();
    assert!(
        scene.server.due_for_compaction(later).is_empty(),
        "one runs"
    );
    assert!(!scene.finish_compaction());
    assert!(scene.server.due_for_compaction(later).is_empty());
    let again = later + minutes(2);
    assert_eq!(scene.server.due_for_compaction(again), ["t"]);

    scene.start_compaction();
    assert!(scene.finish_compaction());
    assert!(scene.server.due_for_compaction(again).is_empty());
    // Nothing was written since: not even a day makes it due.
    let next_day = again + minutes(25 * 60);
    assert!(scene.server.due_for_compaction(next_day).is_empty());
    scene.transact(r#"{"op":"insert","table":"A","row":{"n":1}}"#);
    assert_eq!(scene.server.due_for_compaction(next_day), ["t"]);
}
