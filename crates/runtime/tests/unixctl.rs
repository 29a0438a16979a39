//! The control socket, server and client together, over a real socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ferrovs_runtime::Poller;
use ferrovs_runtime::unixctl::{Client, Commands, Output, Responder, Server};
use serde_json::{Value, json};

#[derive(Default)]
struct App {
    waiting: Option<Responder>,
    stop: bool,
}

/// Serves at `path` on a thread of its own until somebody asks for `stop`.
fn serve(path: PathBuf) -> std::thread::JoinHandle<()> {
    let mut server = Server::open(Some(&path)).unwrap();
    std::thread::spawn(move || {
        let mut commands: Commands<App> = Commands::new();
        commands.register("echo", "[arg]...", 0, usize::MAX, |_, r| {
            Ok(r.argv.join(" ").into())
        });
        commands.register("fail", "", 0, 0, |_, _| Err("no luck".to_string()));
        commands.register("later", "", 0, 0, |app: &mut App, r| {
            app.waiting = Some(r.responder());
            Ok(Output::Deferred)
        });
        commands.register("now", "", 0, 0, |app: &mut App, _| {
            if let Some(r) = app.waiting.take() {
                r.reply(Ok("at last".into()));
            }
            Ok(Output::empty())
        });
        commands.register("json", "", 0, 0, |_, _| Ok(Output::Json(json!({ "a": 1 }))));
        commands.register_hidden("stop", 0, 0, |app: &mut App, _| {
            app.stop = true;
            Ok(Output::empty())
        });
        let mut app = App::default();
        let mut poller = Poller::new();
        while !app.stop {
            server.run(&mut commands, &mut app);
            server.wait(&mut poller);
            if !app.stop {
                poller.block();
            }
        }
    })
}

fn ask(client: &mut Client, command: &str, args: &[&str]) -> Result<Value, String> {
    let args: Vec<String> = args.iter().map(|s| s.to_string()).collect();
    client.transact(command, &args).unwrap()
}

fn with_server(test: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.ctl");
    let thread = serve(path.clone());
    test(&path);
    ask(&mut Client::connect(&path).unwrap(), "stop", &[]).unwrap();
    thread.join().unwrap();
    assert!(!path.exists(), "the socket goes with its server");
}

#[test]
fn answers_are_texts_and_errors_are_errors() {
    with_server(|path| {
        let mut c = Client::connect(path).unwrap();
        assert_eq!(
            ask(&mut c, "echo", &["a", "b\"c"]),
            Ok(json!("echo a b\"c"))
        );
        assert_eq!(ask(&mut c, "fail", &[]), Err("no luck".to_string()));
        assert_eq!(ask(&mut c, "vlog/set", &["poll_loop:info"]), Ok(json!("")));
        let commands = ask(&mut c, "list-commands", &[]).unwrap();
        let commands = commands.as_str().unwrap();
        assert!(commands.contains("\n  echo                    [arg]...\n"));
        assert!(!commands.contains("stop"));
    });
}

#[test]
fn an_answer_can_wait_for_something_else() {
    with_server(|path| {
        let mut first = Client::connect(path).unwrap();
        let waiting = std::thread::spawn(move || ask(&mut first, "later", &[]));
        let mut second = Client::connect(path).unwrap();
        while !waiting.is_finished() {
            ask(&mut second, "now", &[]).unwrap();
        }
        assert_eq!(waiting.join().unwrap(), Ok(json!("at last")));
    });
}

#[test]
fn a_client_that_wants_json_gets_it_for_every_command() {
    with_server(|path| {
        let mut c = Client::connect(path).unwrap();
        assert_eq!(ask(&mut c, "json", &[]), Ok(json!("{\"a\":1}\n")));
        ask(&mut c, "set-options", &["--format", "json"]).unwrap();
        assert_eq!(ask(&mut c, "json", &[]), Ok(json!({ "a": 1 })));
        let plain = json!({ "reply-format": "plain", "reply": "echo x" });
        assert_eq!(ask(&mut c, "echo", &["x"]), Ok(plain));
        let commands = ask(&mut c, "list-commands", &[]).unwrap();
        assert_eq!(commands["echo"], json!("[arg]..."));
    });
}

#[test]
fn the_bytes_on_the_wire_are_those_of_open_vswitch_and_junk_ends_the_connection() {
    with_server(|path| {
        let exchange = |request: &str| {
            let mut s = UnixStream::connect(path).unwrap();
            s.write_all(request.as_bytes()).unwrap();
            s.shutdown(std::net::Shutdown::Write).unwrap();
            let mut reply = String::new();
            s.read_to_string(&mut reply).unwrap();
            reply
        };
        assert_eq!(
            exchange(
                r#"{"method":"echo","params":[],"id":0}{"method":"fail","params":[],"id":"x"}"#
            ),
            r#"{"id":0,"result":"echo","error":null}{"id":"x","error":"no luck"}"#
        );
        for junk in [
            "hello",
            "{]",
            r#"{"method":"echo","params":{},"id":0}"#,
            r#"{"id":1,"result":2}"#,
        ] {
            assert_eq!(exchange(junk), "", "{junk}");
        }
        assert_eq!(
            exchange(r#"{"method":"echo","params":[1],"id":0}"#),
            "{\"id\":0,\"error\":\"\\\"echo\\\" command has non-string argument\"}"
        );
    });
}
