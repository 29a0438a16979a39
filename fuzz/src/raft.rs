//! What servers of a cluster tell each other, and their files.
//!
//! ```text
//!   messages   [method, parameter]... --> decode --> encode, decode again --> the machine of a server
//!   file       bodies of records, framed --> header, records --> written and read again --> the machine
//! ```
//!
//! What must hold: nothing panics, what is read is written and read as the same, what the machine writes can be
//! read, terms and commit indexes never go back, and no message makes it say more than the cluster is large.

use ferrovs_json::{self as json, Value};
use ferrovs_raft::machine::{Input as Event, Output, Raft, Write};
use ferrovs_raft::message::Context;
use ferrovs_raft::message::Message;
use ferrovs_raft::record::{Header, Record};
use ferrovs_raft::stored::Stored;
use ferrovs_testkit::database::Choose;

use crate::input::Input;

const METHODS: [&str; 15] = [
    "hello_request",
    "append_request",
    "append_reply",
    "vote_request",
    "vote_reply",
    "add_server_request",
    "add_server_reply",
    "remove_server_request",
    "remove_server_reply",
    "install_snapshot_request",
    "install_snapshot_reply",
    "become_leader",
    "execute_command_request",
    "execute_command_reply",
    "pre_vote_request",
];

/// Servers 1 to 3 are a cluster, of which this is 1; `$C`, `$1`.. in the fuzzer's text are these ids.
const CLUSTER: &str = "cccccccc-0000-4000-8000-000000000000";
const SERVERS: [&str; 3] = [
    "11111111-0000-4000-8000-000000000000",
    "22222222-0000-4000-8000-000000000000",
    "33333333-0000-4000-8000-000000000000",
];

/// The fuzzer's bytes as text, with ids where it names them.
fn expand(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace("$C", CLUSTER);
    for (name, id) in ["$1", "$2", "$3"].into_iter().zip(SERVERS) {
        text = text.replace(name, id);
    }
    text
}

fn header() -> Value {
    let servers: Vec<String> = SERVERS
        .iter()
        .enumerate()
        .map(|(n, id)| format!("\"{id}\":\"tcp:127.0.0.1:{}\"", n + 1))
        .collect();
    let text = format!(
        r#"{{"cluster_id":"{CLUSTER}","local_address":"tcp:127.0.0.1:1","name":"d","prev_data":[{{}},{{}}],
        "prev_eid":"{CLUSTER}","prev_index":1,"prev_servers":{{{}}},"prev_term":1,"server_id":"{}"}}"#,
        servers.join(","),
        SERVERS[0]
    );
    json::parse(&text).expect("it is JSON")
}

/// The body of a framed record.
fn body(framed: &[u8]) -> Value {
    let at = framed.iter().position(|&c| c == b'\n').expect("a header");
    json::parse_bytes(&framed[at + 1..]).expect("what is written is JSON")
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(2) {
        0 => {
            let stored = Stored::new(Header::decode(&header()).expect("it is a member"));
            let raft = Raft::new(stored, 0, 1).expect("it belongs to the cluster");
            drive(raft, input);
        }
        _ => file(input),
    }
}

/// Bodies of records; then messages.
fn file(mut input: Input<'_>) {
    let first = match input.below(2) {
        0 => header(),
        _ => {
            let len = usize::from(input.byte()) * 4;
            match json::parse(&expand(input.bytes(len))) {
                Ok(v) => v,
                Err(_) => return,
            }
        }
    };
    let Ok(decoded) = Header::decode(&first) else {
        return;
    };
    let again = Header::decode(&body(&decoded.encode()));
    assert_eq!(again.as_ref().ok(), Some(&decoded), "a header");
    let mut stored = Stored::new(decoded);
    for _ in 0..input.below(8) {
        let len = usize::from(input.byte());
        let Ok(record) = json::parse(&expand(input.bytes(len))) else {
            break;
        };
        if let Ok(record) = Record::decode(&record) {
            let again = Record::decode(&body(&record.encode()));
            assert_eq!(again.as_ref().ok(), Some(&record), "a record");
        }
        let before = stored.commit;
        if stored.add(&record).is_err() {
            return;
        }
        // Entries that are replaced were not committed, unless the file says so.
        assert!(stored.commit >= before || !stored.entries.is_empty());
    }
    if let Ok(raft) = Raft::new(stored, 0, 1) {
        drive(raft, input);
    }
}

fn drive(mut raft: Raft, mut input: Input<'_>) {
    let mut now = 0;
    let mut synced = 0;
    while !input.is_empty() {
        let choices = input.byte();
        now += u64::from(choices >> 4) * 300;
        let event = match choices & 15 {
            15 => Event::Tick,
            method => {
                let len = usize::from(input.byte()) * 2;
                let text = expand(input.bytes(len));
                let Ok(parameter) = json::parse(&text) else {
                    raft.input(now, Event::Tick);
                    continue;
                };
                let context = Context {
                    server: raft.server(),
                    cluster: raft.cluster(),
                };
                let method = METHODS[usize::from(method)];
                let Ok(message) = Message::decode(method, &[parameter], context) else {
                    continue;
                };
                let mut written = Vec::new();
                message.encode_parameter(&mut written);
                let parameter = json::parse_bytes(&written).expect("what is written is JSON");
                let again = Message::decode(method, &[parameter], context);
                assert_eq!(again.as_ref().ok(), Some(&message), "a message");
                Event::Message(message)
            }
        };
        let (term, commit) = (raft.term(), raft.commit());
        raft.input(now, event);
        assert!(raft.term() >= term, "the term went back");
        assert!(raft.commit() >= commit, "the commit index went back");
        let n_servers = raft.servers().len();
        let mut said = 0;
        while let Some(output) = raft.output() {
            match output {
                Output::Send { message, .. } => {
                    said += 1;
                    assert!(!message.encode().is_empty());
                }
                Output::Write { number, write } => {
                    check(&write);
                    synced = number;
                }
                _ => {}
            }
        }
        assert!(said <= 4 * (n_servers + 4), "{said} messages at once");
        raft.input(now, Event::Synced(synced));
        while raft.output().is_some() {}
    }
}

/// What goes to the file can be read from there.
fn check(write: &Write) {
    match write {
        Write::Append(record) => {
            let again = Record::decode(&body(&record.encode()));
            assert_eq!(again.as_ref().ok(), Some(record));
        }
        Write::Replace { header, records } => {
            let again = Header::decode(&body(&header.encode())).expect("a header");
            assert_eq!(&again, header);
            let mut stored = Stored::new(again);
            for record in records {
                let read = stored.add(&body(&record.encode()));
                assert!(read.is_ok(), "{read:?}");
            }
        }
    }
}
