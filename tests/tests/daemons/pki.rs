//! ovs-pki: its files beside those of Debian's (a script around openssl), and TLS with certificates
//! that it made, between each pair of programs.

use std::path::Path;

use ferrovs_testkit::command::{Outcome, run};
use ferrovs_testkit::oracle::oracle;
use ferrovs_testkit::{Netns, Programs};
use tempfile::TempDir;

/// A directory in which ovs-pki is run; the PKI is `pki` in it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(
            tempfile::Builder::new()
                .prefix("ferrovs-")
                .tempdir()
                .unwrap(),
        )
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    /// Runs a command line in the directory.
    fn sh(&self, line: &str) -> Outcome {
        let env = [("DIR".to_string(), self.file(""))];
        run("sh", &["-c", &format!("cd $DIR; {line}")], &env)
    }

    fn pki(&self, programs: &Programs, args: &str) -> Outcome {
        let program = programs.path("ovs-pki");
        self.sh(&format!("{program} -l log -d pki {args} </dev/null"))
    }

    /// Every file with its permissions.
    fn files(&self) -> String {
        self.sh("find . ! -name log -printf '%M %P\\n' | sort -k2")
            .ok()
    }
}

/// A daemon that ends with the test, by its pidfile.
struct Daemon(String);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(&self.0) {
            run("kill", &["-9", pid.trim()], &[]);
        }
    }
}

/// A text without what differs from run to run.
fn comparable(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = match line.split_once('\t') {
            Some((name, when))
                if !when.starts_with("fingerprint")
                    && (when.ends_with("20") || when.contains(" UTC ")) =>
            {
                format!("{name}\tWHEN")
            }
            _ => line.to_string(),
        };
        let line = match line.split_once("fingerprint ") {
            Some((before, print)) if print.len() == 40 => {
                let case = print.chars().any(|c| c.is_ascii_lowercase());
                format!("{before}fingerprint {}", if case { "x" } else { "X" })
            }
            _ => line,
        };
        let line = match line.split_once(" id:") {
            Some((before, _)) => format!("{before} id:ID"),
            None => line,
        };
        // The script is run by its full name, whichever that is.
        let line = match line.find("ovs-pki: ") {
            Some(at) => line[at..].to_string(),
            None => line,
        };
        out += &line;
        out.push('\n');
    }
    out
}

#[test]
fn ovs_pki_leaves_the_files_and_says_the_words_of_openssls() {
    let lines = [
        "init",
        "init",
        "-f init",
        "-k foo",
        "-B 2047 -k foo bar",
        "-B 2047 bar",
        "--force --bits 2048 req a",
        "req a",
        "sign a",
        "sign -b a controller",
        "-b sign a",
        "--batch -f sign a",
        "sign nosuch",
        "sign a foo",
        "req+sign c",
        "--uni req+sign d controller",
        "req+sign c",
        "verify c",
        "verify c controller",
        "verify d controller",
        "verify nosuch",
        "fingerprint c-req.pem",
        "fingerprint c-cert.pem",
        "fingerprint nosuch",
        "fingerprint",
        "req s",
        "self-sign s",
        "self-sign s",
        "self-sign nosuch",
        "verify s",
        "-B 1000 req t",
        "-k foo req t",
        "-k dsa req t",
        "-d nosuch -b sign s",
        "-d nosuch req+sign t",
        "frob",
        "--frob",
        "req t u",
        "sign t switch u",
        "",
        "-d",
    ];
    let (theirs, ours) = (Place::new(), Place::new());
    for line in lines {
        let want = theirs.pki(&oracle(), line);
        let have = ours.pki(&Programs::ours(), line);
        assert_eq!(
            (comparable(&want.text()), theirs.files()),
            (comparable(&have.text()), ours.files()),
            "ovs-pki {line}"
        );
    }
}

#[test]
fn either_ovs_pki_goes_on_with_the_others_files() {
    for (first, second) in [(Programs::ours(), oracle()), (oracle(), Programs::ours())] {
        let place = Place::new();
        place.pki(&first, "init").ok();
        place.pki(&first, "req a").ok();
        place.pki(&second, "-b sign a").ok();
        place.pki(&second, "req+sign b controller").ok();
        place.pki(&second, "req c").ok();
        place.pki(&first, "-b sign c").ok();
        place.pki(&first, "self-sign c -f").ok();
        for programs in [&first, &second] {
            assert_eq!(place.pki(programs, "verify a").ok(), "a-cert.pem: OK\n");
            let b = place.pki(programs, "verify b controller");
            assert_eq!(b.ok(), "b-cert.pem: OK\n");
        }
        assert_eq!(place.sh("cat pki/switchca/serial").ok(), "04\n");
        assert_eq!(place.sh("wc -l <pki/switchca/index.txt").ok(), "3\n");
    }
}

#[test]
fn the_text_in_our_files_is_what_openssl_prints() {
    let place = Place::new();
    place.pki(&Programs::ours(), "init").ok();
    place.pki(&Programs::ours(), "req+sign a").ok();
    place.pki(&Programs::ours(), "req s").ok();
    place.pki(&Programs::ours(), "self-sign s").ok();
    for (kind, file) in [
        ("x509", "pki/switchca/cacert.pem"),
        ("x509", "a-cert.pem"),
        ("x509", "s-cert.pem"),
        ("req", "a-req.pem"),
    ] {
        // Versions of openssl differ in blanks around what is equal.
        let squeeze = |text: String| text.replace(" = ", "=").replace(": \n", ":\n");
        let printed = place.sh(&format!("openssl {kind} -text -in {file}")).ok();
        let written = std::fs::read_to_string(place.file(file)).unwrap();
        assert_eq!(squeeze(printed), squeeze(written), "{file}");
    }
    let dsa = "-k dsa -B 2048";
    place.sh("mv pki rsa").ok();
    place.pki(&Programs::ours(), &format!("{dsa} init")).ok();
    place.pki(&Programs::ours(), &format!("{dsa} req d")).ok();
    place.sh("openssl req -verify -noout -in d-req.pem").ok();
    place.sh("openssl dsa -noout -in d-privkey.pem").ok();
    place.pki(&Programs::ours(), "-b sign d").ok();
    assert_eq!(place.pki(&Programs::ours(), "verify d").code, 0);
}

#[test]
fn a_request_or_certificate_that_was_changed_is_refused() {
    let place = Place::new();
    let ours = Programs::ours();
    place.pki(&ours, "init").ok();
    place.pki(&ours, "-u req good").ok();
    place.pki(&ours, "-u req+sign fine").ok();
    // The name inside the signed part, changed in the DER.
    let change = |from: &str, to: &str, kind: &str, of: &str, by: &str| {
        let line = format!(
            "openssl {kind} -in {of} -outform DER | sed 's/{from}/{to}/g' | \
             openssl base64 -e >body; \
             (echo '-----BEGIN {by}-----'; cat body; echo '-----END {by}-----')"
        );
        place.sh(&line).ok()
    };
    let forged = change("good", "evil", "req", "good-req.pem", "CERTIFICATE REQUEST");
    std::fs::write(place.file("evil-req.pem"), forged).unwrap();
    assert_eq!(place.pki(&ours, "-b sign evil").code, 1);
    assert!(!Path::new(&place.file("evil-cert.pem")).exists());
    let forged = change("fine", "vile", "x509", "fine-cert.pem", "CERTIFICATE");
    std::fs::write(place.file("vile-cert.pem"), forged).unwrap();
    let verdict = place.pki(&ours, "verify vile");
    assert_eq!(verdict.code, 2);
    assert!(verdict.stderr.contains("error 7 at 0 depth lookup"));
    std::fs::write(place.file("junk-req.pem"), "junk").unwrap();
    assert_eq!(place.pki(&ours, "-b sign junk").code, 1);
    assert_eq!(place.sh("cat pki/switchca/serial").ok(), "03\n");
}

#[test]
fn programs_of_both_kinds_talk_tls_with_our_certificates() {
    let place = Place::new();
    let ours = Programs::ours();
    place.pki(&ours, "init").ok();
    place.pki(&ours, "req+sign server controller").ok();
    place.pki(&ours, "req+sign client switch").ok();
    let netns = Netns::new("pk");
    for (port, programs) in [("6701", ours.clone()), ("6702", oracle())] {
        let (tool, server) = (programs.path("ovsdb-tool"), programs.path("ovsdb-server"));
        let schema = oracle().schema.to_string_lossy().into_owned();
        place.sh(&format!("{tool} create {port}.db {schema}")).ok();
        let line = format!(
            "OVS_RUNDIR=$DIR OVS_LOGDIR=$DIR ip netns exec {} {server} {port}.db \
             --remote=pssl:{port}:127.0.0.1 -p server-privkey.pem -c server-cert.pem \
             -C pki/switchca/cacert.pem --detach --no-chdir --pidfile=${{DIR}}{port}.pid \
             --log-file --unixctl=${{DIR}}{port}.ctl -vconsole:off",
            netns.name
        );
        place.sh(&line).ok();
        let _server = Daemon(place.file(&format!("{port}.pid")));
        for client in [&ours, &oracle()] {
            let vsctl = |name: &str, ca: &str| {
                place.sh(&format!(
                    "OVS_RUNDIR=$DIR ip netns exec {} {} --no-wait --db=ssl:127.0.0.1:{port} \
                     -p {name}-privkey.pem -c {name}-cert.pem -C pki/{ca}/cacert.pem show",
                    netns.name,
                    client.path("ovs-vsctl")
                ))
            };
            vsctl("client", "controllerca").ok();
            let by_wrong_authority = vsctl("server", "controllerca");
            assert_eq!(by_wrong_authority.code, 1, "the server must refuse");
            let distrusted = vsctl("client", "switchca");
            assert_eq!(distrusted.code, 1, "the client must refuse");
            assert!(distrusted.stderr.contains("certificate verify failed"));
        }
    }
}
