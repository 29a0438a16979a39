//! Messages and files of clusters of Open vSwitch are read, and what is written says the same.

use ferrovs_json::{Value, parse_bytes, to_string};
use ferrovs_ovsdb::Uuid;
use ferrovs_raft::message::Context;
use ferrovs_raft::record::frame;
use ferrovs_raft::types::check_address;
use ferrovs_raft::{Header, HeaderState, Message, Record, RecordBody, Stored};

const MESSAGES: [(&str, &str); 2] = [
    ("4.0", include_str!("captured/messages-4.0.txt")),
    ("3.1", include_str!("captured/messages-3.1.txt")),
];

const FILES: [(&str, &[u8]); 5] = [
    ("follower-4.0", include_bytes!("captured/follower-4.0.db")),
    ("left-4.0", include_bytes!("captured/left-4.0.db")),
    ("compacted-4.0", include_bytes!("captured/compacted-4.0.db")),
    ("left-3.1", include_bytes!("captured/left-3.1.db")),
    ("member-3.1", include_bytes!("captured/member-3.1.db")),
];

fn parse(text: &str) -> Value {
    parse_bytes(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn uuid(json: &Value, name: &str) -> Option<Uuid> {
    json[name].as_str().and_then(ferrovs_ovsdb::uuid::parse)
}

/// The records of a file. What is cut off at the end is not one.
fn records(file: &[u8]) -> Vec<Value> {
    let mut lines = file.split_inclusive(|b| *b == b'\n');
    let mut records = Vec::new();
    while let (Some(header), Some(body)) = (lines.next(), lines.next()) {
        assert_eq!([header, body].concat(), frame(body));
        records.push(parse(std::str::from_utf8(body).unwrap()));
    }
    records
}

#[test]
fn messages_are_read_and_say_the_same_when_written() {
    let mut methods = std::collections::BTreeSet::new();
    for (version, text) in MESSAGES {
        for line in text.lines() {
            let (method, text) = line.split_once(' ').unwrap();
            let json = parse(text);
            let context = Context {
                server: uuid(&json, "to").unwrap_or_default(),
                cluster: uuid(&json, "cluster"),
            };
            let message = Message::decode(method, std::slice::from_ref(&json), context)
                .unwrap_or_else(|e| panic!("{version} {line}: {e}"));
            assert_eq!(message.body.method(), method);
            let mut out = Vec::new();
            message.encode_parameter(&mut out);
            let written = parse(std::str::from_utf8(&out).unwrap());
            assert_eq!(to_string(&written), to_string(&json), "{version} {method}");
            methods.insert(method);
        }
    }
    assert_eq!(methods.len(), 14, "{methods:?}");
}

#[test]
fn records_are_read_and_say_the_same_when_written() {
    for (name, file) in FILES {
        let records = records(file);
        let header = Header::decode(&records[0]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = header.encode();
        let body = written.split(|b| *b == b'\n').nth(1).unwrap();
        let mut json = parse(std::str::from_utf8(body).unwrap());
        if records[0].get("prev_election_timer").is_none() {
            json.as_object_mut().unwrap().remove("prev_election_timer");
        }
        assert_eq!(to_string(&json), to_string(&records[0]), "{name}");
        for json in &records[1..] {
            let record = Record::decode(json).unwrap_or_else(|e| panic!("{name}: {json}: {e}"));
            let written = record.encode();
            let body = written.split(|b| *b == b'\n').nth(1).unwrap();
            let text = std::str::from_utf8(body).unwrap();
            assert_eq!(to_string(&parse(text)), to_string(json), "{name}");
        }
    }
}

fn load(file: &[u8]) -> Result<Stored, String> {
    let records = records(file);
    let header = Header::decode(&records[0]).map_err(|e| e.to_string())?;
    let mut stored = Stored::new(header);
    for record in &records[1..] {
        stored.add(record).map_err(|e| e.to_string())?;
    }
    Ok(stored)
}

#[test]
fn files_come_to_what_the_server_remembered() {
    let stored = load(FILES[0].1).unwrap();
    assert_eq!((stored.term, stored.vote, stored.commit), (1, None, 9));
    assert_eq!(stored.entries.len(), 8);
    assert_eq!(stored.entries[6].election_timer, Some(2000));
    assert_eq!(stored.entries[7].servers.as_ref().unwrap().len(), 2);
    stored.check_member().unwrap();

    let stored = load(FILES[2].1).unwrap();
    let snapshot = stored.snapshot().unwrap();
    assert_eq!(
        (snapshot.index, snapshot.term, snapshot.election_timer),
        (8, 1, 2000)
    );
    assert_eq!((stored.term, stored.commit), (1, 9));
    assert_eq!(stored.vote, Some(stored.header.server));
    assert!(snapshot.data.starts_with("[{\"name\":\"Fleet\""));

    for (name, file) in [FILES[1], FILES[3]] {
        let error = load(file).unwrap_err();
        assert!(
            error.contains("indicates server has left the cluster"),
            "{name}: {error}"
        );
    }
}

const U: &str = "11111111-2222-4333-8444-555555555555";
const V: &str = "22222222-2222-4333-8444-555555555555";

/// U, V, UID and VID stand for two ids, in and without quotation marks.
fn ids(text: &str) -> String {
    text.replace("'U'", &format!("\"{U}\""))
        .replace("'V'", &format!("\"{V}\""))
        .replace('\'', "\"")
}

fn error_of_message(method: &str, text: &str) -> String {
    let context = Context {
        server: ferrovs_ovsdb::uuid::parse(V).unwrap(),
        cluster: ferrovs_ovsdb::uuid::parse(V),
    };
    let params = parse(&ids(text));
    let error = Message::decode(method, params.as_array().unwrap(), context).unwrap_err();
    let error = error.to_string();
    // What it is about is quoted first.
    match error.split_once("}\": ") {
        Some((_, rest)) => rest.to_owned(),
        None => error,
    }
}

/// Messages that are wrong, and what Open vSwitch says of each; in capitals what many have in common.
const WRONG: &[(&str, &str, &str)] = &[
    ("frob", "[{}]", "ovsdb error: unknown method frob"),
    (
        "hello_request",
        "[]",
        "ovsdb error: hello_request RPC has 0 parameters (expected 1)",
    ),
    (
        "hello_request",
        "['x']",
        "syntax error: Parsing raft hello_request RPC failed: Object expected.",
    ),
    (
        "hello_request",
        "[{'address':'tcp:127.0.0.1:7777'}]",
        "syntax error: Parsing raft hello_request RPC failed: Required 'cluster' member is missing.",
    ),
    (
        "hello_request",
        "[{'address':'tcp:127.0.0.1:7777','from':'U','cluster':'U','to':'V'}]",
        "syntax error: Parsing raft hello_request RPC failed: wrong cluster 1111 (expected 2222)",
    ),
    (
        "hello_request",
        "[{'address':'tcp:127.0.0.1:7777','from':'U','cluster':'V','to':'U'}]",
        "syntax error: Parsing raft hello_request RPC failed: misrouted message (addressed to \
         1111 but we're 2222)",
    ),
    (
        "hello_request",
        "[{'address':'tcp:127.0.0.1:7777','from':'xx','cluster':'V','to':'V'}]",
        "syntax error: Parsing raft hello_request RPC failed: from is not a valid UUID",
    ),
    (
        "hello_request",
        "[{COMMON,'address':'tcp:127.0.0.1:7777','zot':1}]",
        "syntax error: Parsing raft hello_request RPC failed: Member 'zot' is present but not \
         allowed here.",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'x':2}]}]",
        "syntax error: Parsing raft log entry failed: Member 'x' is present but not allowed here.",
    ),
    (
        "append_request",
        "[{APPEND,'log':['x']}]",
        "syntax error: Parsing raft log entry failed: Object expected.",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'data':[null,{}]}]}]",
        "syntax error: Parsing raft log entry failed: Required 'eid' member is missing.",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'eid':'U'}]}]",
        "syntax error: Parsing raft log entry failed: Member 'eid' is present but not allowed here.",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'servers':{}}]}]",
        "syntax error: must have at least one server",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'servers':{'x':'tcp:1.1.1.1:1'}}]}]",
        "syntax error: x is not a UUID",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'servers':{'U':'x'}}]}]",
        "ovsdb error: x: expected \"tcp\" or \"ssl\" address",
    ),
    (
        "append_request",
        "[{APPEND,'log':[{'term':1,'servers':{'U':1}}]}]",
        "syntax \"1\": syntax error: server address is not string",
    ),
    (
        "append_reply",
        "[{COMMON,'term':1,'log_end':3,'prev_log_index':2,'prev_log_term':1,\
             'n_entries':0,'result':'zot'}]",
        "syntax error: Parsing raft append_reply RPC failed: unknown result \"zot\"",
    ),
    (
        "vote_request",
        "[{COMMON,'term':1,'last_log_index':3,'last_log_term':1,\
             'leadership_transfer':'x'}]",
        "syntax error: Parsing raft vote_request RPC failed: Type mismatch for member \
         'leadership_transfer'.",
    ),
    (
        "execute_command_reply",
        "[{COMMON,'result':'U','status':'zot'}]",
        "syntax error: Parsing raft execute_command_reply RPC failed: unknown status \"zot\"",
    ),
    (
        "add_server_reply",
        "[{COMMON,'success':false,'remote_addresses':['tcp:1.1.1.1:1','x']}]",
        "ovsdb error: x: expected \"tcp\" or \"ssl\" address",
    ),
];

#[test]
fn messages_that_are_wrong_are_refused_in_open_vswitchs_words() {
    let common = "'from':'U','cluster':'V','to':'V'";
    let append =
        format!("{common},'term':1,'prev_log_index':2,'prev_log_term':1,'leader_commit':2");
    for (method, text, error) in WRONG {
        let text = text.replace("COMMON", common).replace("APPEND", &append);
        assert_eq!(error_of_message(method, &text), *error, "{method} {text}");
    }
}

fn header() -> Header {
    let text = "{'server_id':'U','local_address':'tcp:127.0.0.1:6001','name':'Fleet','cluster_id':\
        'V','prev_term':1,'prev_index':1,'prev_servers':{'U':'tcp:127.0.0.1:6001'},'prev_data':\
        [{},{}],'prev_eid':'V'}";
    Header::decode(&parse(&ids(text))).unwrap()
}

#[test]
fn files_that_are_wrong_are_refused_in_open_vswitchs_words() {
    for (records, error) in [
        (
            "[{}]",
            "syntax \"{}\": syntax error: error reading record 1 from Fleet log: Parsing raft log \
             record failed: Required 'term' member is missing.",
        ),
        (
            "[{'term':1},{'term':1,'index':4}]",
            "ovsdb error: error reading record 2 from Fleet log: record 2 with index 4 skips past \
             expected index 2",
        ),
        (
            "[{'term':2},{'term':2,'index':2},{'term':1,'index':3}]",
            "ovsdb error: error reading record 3 from Fleet log: record 3 with index 3 term 1 \
             precedes previous entry's term 2",
        ),
        (
            "[{'commit_index':9}]",
            "ovsdb error: error reading record 1 from Fleet log: record 1 advances commit index to \
             9 but last log index is 1",
        ),
        (
            "[{'term':1},{'term':1,'index':2},{'commit_index':2},{'commit_index':1}]",
            "ovsdb error: error reading record 4 from Fleet log: record 4 regresses commit index \
             from 2 to 1",
        ),
        (
            "[{'term':2,'vote':'V'},{'term':2,'vote':'U'}]",
            "ovsdb error: error reading record 2 from Fleet log: record 2 votes for 1111 in term 2 \
             but a previous record for the same term voted for 2222",
        ),
        (
            "[{'term':2,'vote':'U'},{'term':1,'vote':'V'}]",
            "ovsdb error: error reading record 2 from Fleet log: record 2 votes for term 1 but \
             current term is 2",
        ),
        (
            "[{'note':'left'}]",
            "ovsdb error: error reading record 1 from Fleet log: record 1 indicates server has left \
             the cluster; it cannot be added back (use \"ovsdb-tool join-cluster\" to add a new \
             server)",
        ),
        (
            "[{'term':1},{'term':1,'index':2,'servers':{'U':'x'}}]",
            "ovsdb error: error reading record 2 from Fleet log: x: expected \"tcp\" or \"ssl\" \
             address",
        ),
    ] {
        let mut stored = Stored::new(header());
        let records = parse(&ids(records));
        let records = records.as_array().unwrap();
        let failed = records.iter().find_map(|record| stored.add(record).err());
        assert_eq!(failed.unwrap().to_string(), error);
    }
}

#[test]
fn a_server_that_its_cluster_does_not_list_does_not_start() {
    let mut stored = Stored::new(header());
    stored.check_member().unwrap();
    for record in [
        "{'term':1,'index':2,'servers':{'U':'tcp:127.0.0.1:1','V':'tcp:127.0.0.1:2'}}",
        "{'term':1,'index':3,'servers':{'V':'tcp:127.0.0.1:2'}}",
    ] {
        stored.add(&parse(&ids(record))).unwrap();
    }
    let error = stored.check_member().unwrap_err().to_string();
    assert_eq!(error, "ovsdb error: server does not belong to cluster");
}

#[test]
fn a_log_that_goes_back_is_cut_there() {
    let mut stored = Stored::new(header());
    for record in [
        "{'term':1,'index':2}",
        "{'term':1,'index':3}",
        "{'term':2}",
        "{'term':2,'index':2}",
    ] {
        stored.add(&parse(&ids(record))).unwrap();
    }
    assert_eq!(stored.entries.len(), 1);
    assert_eq!(stored.entries[0].term, 2);
}

#[test]
fn headers_that_are_wrong_are_refused_in_open_vswitchs_words() {
    let joining = "'server_id':'U','local_address':'tcp:127.0.0.1:6001','name':'Fleet'";
    for (text, error) in [
        (
            "{}".to_owned(),
            "syntax \"{}\": syntax error: Parsing raft header failed: Required 'server_id' member \
             is missing.",
        ),
        (
            format!("{{{joining},'remote_addresses':[]}}"),
            "syntax \"[]\": syntax error: at least one remote address is required",
        ),
        (
            format!("{{{joining},'remote_addresses':['x']}}"),
            "ovsdb error: x: expected \"tcp\" or \"ssl\" address",
        ),
        (
            format!("{{{joining},'remote_addresses':[1]}}"),
            "syntax \"1\": syntax error: server address is not string",
        ),
    ] {
        let failed = Header::decode(&parse(&ids(&text))).unwrap_err();
        assert_eq!(failed.to_string(), error);
    }
    let alone = format!("{{{joining},'remote_addresses':['tcp:127.0.0.1:6001']}}");
    let failed = Header::decode(&parse(&ids(&alone)))
        .unwrap_err()
        .to_string();
    assert!(
        failed.ends_with("at least one remote address (other than the local address) is required"),
        "{failed}"
    );
    let joins = format!("{{{joining},'remote_addresses':['tcp:127.0.0.1:6002'],'cluster_id':'V'}}");
    let header = Header::decode(&parse(&ids(&joins))).unwrap();
    let HeaderState::Joining { cluster, remotes } = header.state else {
        panic!("no joining header");
    };
    assert_eq!((cluster.is_some(), remotes.len()), (true, 1));
}

#[test]
fn an_address_has_a_port() {
    for (address, error) in [
        (
            "foo",
            "ovsdb error: foo: expected \"tcp\" or \"ssl\" address",
        ),
        (
            "tcp:1.2.3.4",
            "ovsdb error: tcp:1.2.3.4: syntax error in address",
        ),
        (
            "ssl:[::1]:99999",
            "ovsdb error: ssl:[::1]:99999: syntax error in address",
        ),
    ] {
        let failed = check_address(address).unwrap_err();
        assert_eq!(failed.to_string(), error);
    }
    for address in ["tcp:host:6001", "ssl:[::1]:6001"] {
        check_address(address).unwrap();
    }
}

#[test]
fn numbers_of_sixty_four_bits_are_negative_from_the_middle_on() {
    let record = Record::from(RecordBody::Term(u64::MAX));
    let text = String::from_utf8(record.encode()).unwrap();
    assert!(text.ends_with("{\"term\":-1}\n"), "{text}");
    let read = Record::decode(&parse("{\"term\":-1}")).unwrap();
    assert_eq!(read, record);
}
