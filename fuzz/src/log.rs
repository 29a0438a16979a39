//! Log files. Any bytes are a file that can be opened or is refused; what was opened takes a new record and
//! opens again with it. Recorded transactions replay to what was in memory, and a file that is cut anywhere
//! opens with the transactions before the cut.

use std::path::Path;
use std::sync::Arc;

use ferrovs_ovsdb::log::file::Mode;
use ferrovs_ovsdb::log::load::{Loaded, load};
use ferrovs_ovsdb::log::{Storage, frame, records};
use ferrovs_ovsdb::{Database, DatabaseSchema, Error};
use ferrovs_testkit::database::{self, Choose, Generator};

use crate::input::Input;
use crate::model;

const SCHEMA: &[u8] = br#"{"name":"d","tables":{"A":{"columns":{"a":{"type":{"key":"integer","min":0,"max":"unlimited"}},"b":{"type":"string"}}}}}
"#;

pub fn run(data: &[u8]) {
    let dir = tempfile::Builder::new()
        .tempdir_in(shared_memory())
        .expect("a folder of its own");
    let path = dir.path().join("db");
    let mut input = Input::new(data);
    match input.below(3) {
        0 => any_file(&path, input.rest()),
        1 => {
            // Headers that fit, so that bodies are read.
            let mut file = frame(SCHEMA);
            for body in input.rest().split(|&c| c == b'\n') {
                file.extend_from_slice(&frame(&[body, b"\n"].concat()));
            }
            any_file(&path, &file);
        }
        _ => recorded(&path, input),
    }
}

/// Files need not survive anything here.
fn shared_memory() -> std::path::PathBuf {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    }
}

fn open(path: &Path) -> Result<Loaded, Error> {
    let name = path.to_str().expect("a plain name");
    load(name, Mode::ReadWrite, None, &|_, _| ())
}

fn any_file(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    let mut first = match open(path) {
        Ok(loaded) => loaded,
        Err(e) => {
            let text = e.to_string();
            assert!(
                text.len() < 2 * bytes.len() + 1000,
                "{} bytes of error",
                text.len()
            );
            assert_eq!(
                std::fs::read(path).unwrap(),
                bytes,
                "a refused file is not touched"
            );
            return;
        }
    };
    model::check(&first.db);
    let before = model::lasting(&first.db);
    let n = first.n_records;
    first
        .log
        .append(&frame(b"{\"_comment\":\"after\",\"_date\":1}\n"))
        .expect("there is space");
    drop(first);
    let second = open(path).expect("it opened before");
    assert!(second.damage.is_none(), "{:?}", second.damage);
    assert_eq!(second.n_records, n + 1);
    assert!(model::lasting(&second.db) == before);
}

fn recorded(path: &Path, mut input: Input<'_>) {
    let cut = input.below(60_000);
    let flip = input.below(3) == 0;
    let drawn = database::schema(&mut input);
    let schema = Arc::new(DatabaseSchema::from_json(&drawn).unwrap());
    let mut db = Database::new(Arc::clone(&schema));
    let mut bytes = frame(&records::encode_schema(&schema));
    // Where each record ends, and the contents there.
    let mut states = vec![(bytes.len(), model::lasting(&db))];
    let mut generator = Generator::new(input, &drawn);
    for i in 0..100 {
        if generator.choose.is_empty() {
            break;
        }
        let params = generator.transaction();
        let mut record = None;
        model::execute(&mut db, &params, &mut |db, c| {
            record = records::encode_txn(db, c, i, i % 3 != 0);
            Ok(())
        });
        if let Some(record) = record {
            bytes.extend_from_slice(&frame(&record));
            states.push((bytes.len(), model::lasting(&db)));
        }
        if i == 50 {
            // A compaction: everything so far as one record.
            bytes = frame(&records::encode_schema(&schema));
            let snapshot = records::encode_snapshot(&db.snapshot(), "compacted", i);
            states = vec![(bytes.len(), Default::default())];
            bytes.extend_from_slice(&frame(&snapshot));
            states.push((bytes.len(), model::lasting(&db)));
        }
    }
    if model::miscounts(&db) || model::ambiguous(&db) {
        return;
    }
    std::fs::write(path, &bytes).unwrap();
    let whole = open(path).expect("it is as it was written");
    assert!(whole.damage.is_none(), "{:?}", whole.damage);
    model::check(&whole.db);
    assert!(model::lasting(&whole.db) == model::lasting(&db), "replay");
    drop(whole);
    // Damaged somewhere after the schema.
    let first = states[0].0;
    let at = first + cut % (bytes.len() - first + 1);
    if flip && at < bytes.len() {
        bytes[at] ^= 1;
    } else {
        bytes.truncate(at);
    }
    std::fs::write(path, &bytes).unwrap();
    let damaged = open(path).expect("the schema is there");
    let intact = states
        .iter()
        .rposition(|s| s.0 <= at)
        .expect("the schema is before");
    assert_eq!(damaged.n_records, intact, "records before the damage");
    assert!(model::lasting(&damaged.db) == states[intact].1, "recovery");
}
