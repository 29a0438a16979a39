use super::*;
use crate::json::{Value, parse};
use crate::{PStream, Stream};
use ferrovs_runtime::clock;

#[test]
fn bad_messages_are_told_as_open_vswitch_tells_them() {
    for (text, told) in [
        ("[]", "message is not a JSON object"),
        ("{}", "notification must have \"method\""),
        (r#"{"method":1}"#, "method is not a JSON string"),
        (r#"{"method":"a"}"#, "notification must have \"params\""),
        (
            r#"{"method":"a","params":1,"id":0}"#,
            "\"params\" must be JSON array",
        ),
        (
            r#"{"method":"a","params":[],"id":1,"x":2}"#,
            "message has unexpected member \"x\"",
        ),
        (
            r#"{"method":"a","params":[],"id":1,"result":5}"#,
            "reply must not have \"method\"",
        ),
        (
            r#"{"result":1,"error":2,"id":1}"#,
            "reply must not have \"error\"",
        ),
        (r#"{"id":1}"#, "request must have \"method\""),
        (r#"{"result":1}"#, "reply must have \"id\""),
    ] {
        assert_eq!(
            Msg::from_json(parse(text).unwrap()),
            Err(told.to_string()),
            "{text}"
        );
    }
}

#[test]
fn messages_survive_the_wire() {
    let messages = [
        Msg::Request {
            method: "m".into(),
            params: vec![1.into(), "x".into()],
            id: 7.into(),
        },
        Msg::notify("n", vec![]),
        Msg::reply(Value::Array(vec![]), 7.into()),
        Msg::error("no".into(), "a".into()),
    ];
    let (a, b) = Stream::pair().unwrap();
    let (mut a, mut b) = (Connection::new(a), Connection::new(b));
    for msg in &messages {
        a.send(msg);
    }
    for msg in &messages {
        assert_eq!(b.recv_block().unwrap(), *msg);
    }
    drop(a);
    assert_eq!(
        b.recv_block().unwrap_err().kind(),
        std::io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_backlog_over_its_threshold_drops_the_connection() {
    let (a, _b) = Stream::pair().unwrap();
    let mut a = Connection::new(a);
    a.set_backlog_threshold(0, 1 << 20);
    let msg = Msg::notify("n", vec!["x".repeat(1 << 16).into()]);
    let sent = (0..100).take_while(|_| {
        a.send(&msg);
        a.error().is_none()
    });
    assert!((16..50).contains(&sent.count()));
}

#[test]
fn a_session_connects_answers_echo_and_reconnects() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than a socket address: reached through its directory.
    let deep = dir.path().join("x".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let path = deep.join("s").display().to_string();
    let mut listener = PStream::open(&format!("punix:{path}")).unwrap();
    let now = clock::now();
    let mut session = Session::open(&format!("unix:{path}"), true, now);
    let accept = |session: &mut Session, listener: &mut PStream, now| {
        session.run(now);
        session.run(now);
        Connection::new(listener.accept().unwrap().expect("a connection waits"))
    };
    let mut server = accept(&mut session, &mut listener, now);
    let seqno = session.seqno();
    let (echo, _) = Msg::request("echo", vec!["hi".into()]);
    server.send(&echo);
    server.send(&Msg::notify("update", vec![]));
    assert_eq!(session.recv(now), Some(Msg::notify("update", vec![])));
    assert!(
        matches!(server.recv_block().unwrap(), Msg::Reply { result: Value::Array(p), .. } if p == ["hi"])
    );
    drop(server);
    while session.is_connected() {
        assert_eq!(session.recv(now), None);
        session.run(now);
    }
    session.run(now);
    assert!(!session.is_connected() && session.is_alive() && session.seqno() != seqno);
    let later = now + crate::reconnect::MIN_BACKOFF;
    accept(&mut session, &mut listener, later);
    assert!(session.is_connected());
    drop(listener);
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn what_a_message_may_take_is_limited() {
    let limits = Limits {
        text: 1 << 20,
        tree: 1 << 20,
    };
    let deep = "[".repeat(2000);
    let endless = format!("[\"{}", "a".repeat(2 << 20));
    let heavy = format!(
        "{{\"id\":1,\"method\":\"m\",\"params\":[{}1]}}",
        "1,".repeat(100_000)
    );
    let element = format!(
        "{{\"id\":1,\"method\":\"transact\",\"params\":[{}1]}}",
        "{},".repeat(100_000)
    );
    for (text, told) in [
        (deep, None),
        (endless, None),
        (heavy, None),
        (element, Some(100_001)),
    ] {
        let (a, b) = Stream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            let mut a = Connection::new(a);
            a.send_texts([text.into()]);
            while a.error().is_none() && a.backlog() > 0 {
                a.run();
            }
            a
        });
        let mut b = Connection::with_limits(b, limits);
        let got = loop {
            match b.recv_incoming() {
                Ok(None) => assert!(b.buffered() <= (1 << 20) + (2 << 16)),
                Ok(Some(Incoming::Large { params, .. })) => break Some(params.len()),
                Ok(Some(other)) => panic!("{other:?}"),
                Err(_) => break None,
            }
        };
        assert_eq!(got, told);
        drop(b);
        writer.join().unwrap();
    }
}

#[test]
fn the_result_of_a_large_reply_stays_text_for_who_asks_for_it() {
    let rows = (0..20_000)
        .map(|i| Value::from(format!("row{i}")))
        .collect();
    let small = Msg::reply(Value::Array(vec![1.into()]), 1.into());
    let large = Msg::reply(
        Value::Array(vec![true.into(), Value::Array(rows)]),
        2.into(),
    );
    let (a, b) = Stream::pair().unwrap();
    let sent = [small.clone(), large.clone(), small.clone()];
    let writer = std::thread::spawn(move || {
        let mut a = Connection::new(a);
        sent.iter().for_each(|msg| a.send(msg));
        while a.error().is_none() && a.backlog() > 0 {
            a.run();
        }
    });
    let mut b = Connection::new(b);
    let mut got = Vec::new();
    while got.len() < 3 {
        match b.recv_result().unwrap() {
            None => {}
            Some(Incoming::Msg(msg)) => got.push(msg),
            Some(Incoming::LargeReply { result, id }) => {
                assert_eq!(got.len(), 1);
                got.push(Msg::reply(result.to_value().unwrap(), id));
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(got, [small.clone(), large, small]);
    writer.join().unwrap();
}
