//! What machines say to each other and to operators.

use std::sync::Arc;

use ferrovs_ovsdb::Uuid;
use ferrovs_raft::machine::{Destination, Level, Role, Write};
use ferrovs_raft::message::{AppendRequest, VoteRequest};
use ferrovs_raft::{
    Body, Header, HeaderState, Input, Message, Output, Raft, Servers, Snapshot, Status, Stored,
};

fn id(n: u64) -> Uuid {
    Uuid::from_u64_pair(n << 60 | 0x4000, 0x8000 << 48 | n)
}

fn address(n: u64) -> String {
    format!("tcp:127.0.0.1:600{n}")
}

fn cluster() -> Uuid {
    id(15)
}

fn machine(n: u64, state: HeaderState) -> Raft {
    let header = Header {
        server: id(n),
        local_address: address(n),
        name: "Fleet".to_owned(),
        state,
    };
    Raft::new(Stored::new(header), 0, n).unwrap()
}

fn member(n: u64, of: u64) -> Raft {
    let servers: Servers = (1..=of).map(|n| (id(n), address(n))).collect();
    let snapshot = Snapshot {
        index: 1,
        term: 1,
        eid: id(14),
        data: "[{},{}]".into(),
        servers: Arc::new(servers),
        election_timer: 1000,
    };
    let cluster = cluster();
    machine(n, HeaderState::Member { cluster, snapshot })
}

/// Takes what a machine puts out; writes are durable at once.
fn drain(raft: &mut Raft, now: u64) -> Vec<Output> {
    let mut all = Vec::new();
    while let Some(output) = raft.output() {
        if let Output::Write { number, .. } = &output {
            raft.input(now, Input::Synced(*number));
        }
        all.push(output);
    }
    all
}

fn leader() -> Raft {
    let mut raft = member(1, 1);
    raft.input(0, Input::Tick);
    drain(&mut raft, 0);
    assert_eq!(
        (raft.role(), raft.term(), raft.commit()),
        (Role::Leader, 1, 2)
    );
    raft
}

fn texts(outputs: &[Output]) -> Vec<&str> {
    let mut texts = Vec::new();
    for output in outputs {
        if let Output::Log(_, text) = output {
            texts.push(text.as_str());
        }
    }
    texts
}

fn records(outputs: &[Output]) -> Vec<String> {
    let body = |o: &Output| match o {
        Output::Write {
            write: Write::Append(record),
            ..
        } => {
            let text = String::from_utf8(record.encode()).ok()?;
            Some(text.lines().nth(1)?.to_owned())
        }
        _ => None,
    };
    outputs.iter().filter_map(body).collect()
}

#[test]
fn a_server_alone_leads_at_once_and_writes_what_open_vswitch_writes() {
    let mut raft = member(1, 1);
    raft.input(0, Input::Tick);
    let outputs = drain(&mut raft, 0);
    let us = id(1);
    assert_eq!(
        records(&outputs),
        [
            format!("{{\"term\":1,\"vote\":\"{us}\"}}"),
            format!("{{\"leader\":\"{us}\",\"term\":1}}"),
            "{\"index\":2,\"term\":1}".to_owned(),
            "{\"commit_index\":2}".to_owned(),
        ]
    );
    assert_eq!(
        texts(&outputs),
        [
            "term 1: 0 ms timeout expired, starting election (vote)",
            "term 1: elected leader by 1+ of 1 servers",
        ]
    );
}

/// Carries messages between two machines until there are none; who said what, with the comment.
fn talk(a: &mut Raft, b: &mut Raft, now: u64) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        let mut messages = Vec::new();
        for raft in [&mut *a, &mut *b] {
            for output in drain(raft, now) {
                if let Output::Send { to, message } = output {
                    messages.push((to, message));
                }
            }
        }
        if messages.is_empty() {
            return said;
        }
        for (to, message) in messages {
            let comment = message.comment.as_deref().unwrap_or("");
            said.push(
                format!("{} {comment}", message.body.method())
                    .trim()
                    .to_owned(),
            );
            let receiver = match to {
                Destination::Server(to) if to == a.server() => &mut *a,
                Destination::Address(to) if to == address(1) => &mut *a,
                _ => &mut *b,
            };
            receiver.input(now, Input::Message(message));
        }
    }
}

#[test]
fn a_server_joins_as_it_joins_open_vswitch() {
    let mut leader = leader();
    let remotes = vec![address(1)];
    let cluster = None;
    let mut joins = machine(2, HeaderState::Joining { cluster, remotes });
    joins.input(0, Input::Tick);
    let said = talk(&mut leader, &mut joins, 0);
    assert_eq!(
        said[..10],
        [
            "add_server_request",
            "append_request initialize new server",
            "append_reply mismatch past end of log",
            "install_snapshot_request",
            "install_snapshot_reply",
            "append_request snapshot installed",
            "append_reply log updated",
            "append_request execute command",
            "append_reply log updated",
            "add_server_reply completed",
        ]
    );
    assert!(joins.has_joined() && joins.is_member());
    assert_eq!(joins.cluster(), Some(self::cluster()));
    assert_eq!((leader.commit(), joins.commit()), (3, 3));
    assert_eq!(leader.servers().len(), 2);

    // And out again.
    joins.input(10, Input::Leave);
    joins.input(200, Input::Tick);
    talk(&mut leader, &mut joins, 200);
    assert!(joins.has_left());
    assert_eq!(leader.servers().len(), 1);
}

fn command(n: u64, prereq: Uuid) -> Input {
    Input::Command {
        eid: id(n),
        prereq,
        data: "[null,{}]".into(),
    }
}

fn done(outputs: &[Output]) -> Vec<(Uuid, Status, Option<u64>)> {
    let done = |o: &Output| match o {
        Output::Done { eid, status, index } => Some((*eid, *status, *index)),
        _ => None,
    };
    outputs.iter().filter_map(done).collect()
}

#[test]
fn a_command_is_taken_on_the_state_that_it_was_made_for_alone() {
    let mut raft = leader();
    raft.input(1, command(5, id(14)));
    // Not yet durable, and the log ends with it already.
    raft.input(1, command(6, id(14)));
    raft.input(1, command(7, id(5)));
    let outputs = drain(&mut raft, 1);
    assert_eq!(
        done(&outputs),
        [
            (id(6), Status::PrerequisiteFailed, None),
            (id(5), Status::Success, Some(3)),
            (id(7), Status::Success, Some(4)),
        ]
    );
    let said = format!(
        "current entry eid {} does not match prerequisite {} in execute_command_request",
        id(5),
        id(14)
    );
    assert_eq!(texts(&outputs), [said]);
}

#[test]
fn nothing_is_committed_before_it_is_durable() {
    let mut raft = leader();
    raft.input(1, command(5, id(14)));
    assert_eq!(raft.commit(), 2);
    let outputs: Vec<Output> = std::iter::from_fn(|| raft.output()).collect();
    assert!(done(&outputs).is_empty());
    let last = outputs.iter().rev().find_map(|o| match o {
        Output::Write { number, .. } => Some(*number),
        _ => None,
    });
    raft.input(1, Input::Synced(last.unwrap()));
    assert_eq!(raft.commit(), 3);
}

#[test]
fn operators_hear_what_open_vswitch_says() {
    let answer = |raft: &mut Raft, input| {
        raft.input(1, input);
        drain(raft, 1).into_iter().find_map(|o| match o {
            Output::Answer(answer) => Some(answer),
            _ => None,
        })
    };
    let mut raft = leader();
    for (ms, text) in [
        (
            50,
            Err("election timer must be between 100 and 600000, in msec."),
        ),
        (
            700_000,
            Err("election timer must be between 100 and 600000, in msec."),
        ),
        (
            5000,
            Err("election timer increase should not exceed the current value x 2."),
        ),
        (2000, Ok("change of election timer initiated.")),
    ] {
        assert_eq!(
            answer(&mut raft, Input::ChangeElectionTimer(ms)),
            Some(text)
        );
    }
    assert_eq!(raft.election_timer(), 2000);
    assert_eq!(
        answer(&mut raft, Input::Kick(id(9))),
        Some(Err("unknown server"))
    );
    let mut follower = member(1, 3);
    assert_eq!(
        answer(&mut follower, Input::ChangeElectionTimer(2000)),
        Some(Err("election timer must be changed through leader."))
    );
}

fn message(from: u64, body: Body) -> Input {
    Input::Message(Message {
        from: id(from),
        to: None,
        cluster: Some(cluster()),
        comment: None,
        body,
    })
}

#[test]
fn votes_are_not_given_while_a_leader_is_about() {
    let mut raft = member(1, 3);
    drain(&mut raft, 0);
    let ask = |term, transfer| {
        let (last_index, last_term, prevote) = (1, 1, false);
        message(
            2,
            Body::VoteRequest(VoteRequest {
                term,
                last_index,
                last_term,
                transfer,
                prevote,
            }),
        )
    };
    raft.input(75, ask(2, false));
    let text = "ignoring vote request received after only 75 ms (minimum election time is 1000 ms)";
    assert_eq!(
        drain(&mut raft, 75),
        [Output::Log(Level::Warn, text.to_owned())]
    );
    assert_eq!(raft.term(), 0);
    raft.input(80, ask(2, true));
    let outputs = drain(&mut raft, 80);
    let vote = format!("{{\"term\":2,\"vote\":\"{}\"}}", id(2));
    assert_eq!(records(&outputs).last(), Some(&vote));
    assert_eq!(raft.term(), 2);
    raft.input(81, ask(1, true));
    assert_eq!(
        texts(&drain(&mut raft, 81)),
        ["rejecting term 1 < current term 2 received in vote_request message from server 2000"]
    );
}

#[test]
fn what_is_committed_is_not_changed_whoever_asks() {
    let mut raft = leader();
    raft.input(1, command(5, id(14)));
    drain(&mut raft, 1);
    let usurper = AppendRequest {
        term: 9,
        prev_index: 2,
        prev_term: 1,
        commit: 2,
        entries: vec![ferrovs_raft::Entry {
            term: 9,
            ..Default::default()
        }],
    };
    raft.input(2, message(2, Body::AppendRequest(usurper)));
    let outputs = drain(&mut raft, 2);
    let replies = outputs.iter().filter_map(|o| match o {
        Output::Send { message, .. } => message.comment.as_deref(),
        _ => None,
    });
    assert_eq!(
        replies.collect::<Vec<_>>(),
        ["conflict with committed entry"]
    );
    assert_eq!((raft.commit(), raft.term_at(3)), (3, Some(1)));
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let mut raft = member(1, 3);
    let append = AppendRequest {
        term: u64::MAX,
        prev_index: u64::MAX,
        prev_term: u64::MAX,
        commit: u64::MAX,
        entries: vec![],
    };
    raft.input(1, message(2, Body::AppendRequest(append)));
    drain(&mut raft, 1);
    for now in [5000, 10_000, 20_000] {
        raft.input(now, Input::Tick);
        drain(&mut raft, now);
    }
    assert_eq!(raft.term(), u64::MAX);
    assert_eq!(raft.commit(), 1);
}
