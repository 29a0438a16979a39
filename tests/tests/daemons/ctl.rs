//! ovs-vsctl and vtep-ctl: scripts of command lines, run by Debian's programs and by ours, each on a
//! server of its own. What every line prints, its exit code, and the database at every few lines
//! must be equal, UUIDs aside.
//!
//! A script has a command line on each line, quoted as for a shell. `@RUN@` is the run directory and
//! `{{TABLE:CONDITION}}` the UUID of the row that is found. No switch runs, so what would wait for one
//! says `--no-wait` or runs into its `-t`.

use std::path::{Path, PathBuf};

use ferrovs_testkit::Programs;
use ferrovs_testkit::command::{Outcome, run, run_within};
use ferrovs_testkit::oracle::oracle;
use ferrovs_testkit::text::normalise;
use tempfile::TempDir;

/// A database server with nothing beside it.
struct Database {
    /// Whose client reads it.
    client: Programs,
    tool: &'static str,
    dir: TempDir,
}

impl Database {
    #[track_caller]
    fn start(server: &Programs, client: &Programs, tool: &'static str, schema: &Path) -> Database {
        let database = Database {
            client: client.clone(),
            tool,
            dir: tempfile::Builder::new()
                .prefix("ferrovs-")
                .tempdir()
                .unwrap(),
        };
        let file = database.file("conf.db");
        let schema = schema.to_string_lossy();
        let create = server.path("ovsdb-tool");
        run(&create, &["create", &file, &schema], &database.env()).ok();
        let remote = format!("--remote=punix:{}", database.file("db.sock"));
        let options = [
            "--detach",
            "--no-chdir",
            "--pidfile",
            "--log-file",
            "-vconsole:off",
        ];
        let mut args = vec![file.as_str(), &remote];
        args.extend(options);
        run(&server.path("ovsdb-server"), &args, &database.env()).ok();
        database
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn env(&self) -> Vec<(String, String)> {
        let dir = self.dir.path().to_string_lossy().into_owned();
        ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"]
            .map(|k| (k.to_string(), dir.clone()))
            .to_vec()
    }

    fn tool(&self, words: &[String]) -> Outcome {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run_within(20, &self.client.path(self.tool), &words, &self.env())
    }

    /// The words of a line, what stands for something replaced.
    fn words(&self, line: &str) -> Vec<String> {
        let dir = self.dir.path().to_string_lossy();
        let words = split(line).into_iter();
        words
            .map(|word| self.with_uuid(&word.replace("@RUN@", &dir)))
            .collect()
    }

    fn with_uuid(&self, word: &str) -> String {
        let Some((before, rest)) = word.split_once("{{") else {
            return word.to_string();
        };
        let (query, after) = rest.split_once("}}").expect(word);
        let (table, condition) = query.split_once(':').expect(word);
        let find = ["--bare", "--columns=_uuid", "find", table, condition];
        let found = self.tool(&find.map(String::from)).ok();
        let uuid = found.lines().next().unwrap_or_default();
        format!("{before}{uuid}{after}")
    }

    /// What a line prints and its exit code, made comparable.
    fn says(&self, line: &str) -> (Vec<String>, Vec<String>, i32) {
        let outcome = self.tool(&self.words(line));
        let lines = |text: &str| self.comparable(text);
        (lines(&outcome.stdout), lines(&outcome.stderr), outcome.code)
    }

    /// Everything in the database.
    fn contents(&self, reader: &Programs) -> Vec<String> {
        let socket = format!("unix:{}", self.file("db.sock"));
        let dump = ["dump", &socket, "--format=csv"];
        let text = run(&reader.path("ovsdb-client"), &dump, &self.env()).ok();
        self.comparable(&text)
    }

    /// Lines without what differs from run to run. Rows are in order of their UUIDs, so the lines
    /// are sorted, and what separates rows is left out; so is which of two bridges comes first.
    fn comparable(&self, text: &str) -> Vec<String> {
        let text = normalise(text, &self.dir.path().to_string_lossy());
        let lines = text.lines().filter(|line| !line.is_empty());
        let mut lines: Vec<String> = lines
            .map(|line| without_path(&without_time(line), self.tool))
            .map(|line| line.replace("(br1 and br0)", "(br0 and br1)"))
            .collect();
        lines.sort();
        lines
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.file("ovsdb-server.pid")) {
            run("kill", &["-9", pid.trim()], &[]);
        }
    }
}

/// A log line's time gets a fixed name.
fn without_time(line: &str) -> String {
    match line.split_once("Z|") {
        Some((time, rest)) if time.len() == 19 && time.starts_with("20") => format!("TIME|{rest}"),
        _ => line.to_string(),
    }
}

/// The program is called by its name alone.
fn without_path(line: &str, tool: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(&format!("/{tool}")) {
        let start = rest[..at].rfind([' ', '"']).map_or(0, |i| i + 1);
        out.push_str(&rest[..start]);
        out.push_str(tool);
        rest = &rest[at + 1 + tool.len()..];
    }
    out + rest
}

/// Splits at blanks outside quotes.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ' ') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Lines between two looks at the database.
const STRIDE: usize = 12;

/// Runs a script with all of theirs and with our client on `server`.
#[track_caller]
fn same(tool: &'static str, schema: &str, script: &str, server: &Programs) {
    let (theirs, ours) = (oracle(), Programs::ours());
    let schema: PathBuf = theirs.schema.with_file_name(schema);
    let a = Database::start(&theirs, &theirs, tool, &schema);
    let b = Database::start(server, &ours, tool, &schema);
    let lines = script.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() > 100, "a script with little in it");
    for part in lines.chunks(STRIDE) {
        for line in part {
            let (want, have) = (a.says(line), b.says(line));
            assert_eq!(want, have, "`{tool} {line}`: theirs, then ours");
        }
        let (want, have) = (a.contents(&theirs), b.contents(&theirs));
        assert_eq!(want, have, "the database after {part:#?}");
    }
}

#[test]
fn ovs_vsctl_configures_switches_as_theirs_does() {
    let script = include_str!("ctl/vsctl-switch.txt");
    same("ovs-vsctl", "vswitch.ovsschema", script, &Programs::ours());
}

#[test]
fn ovs_vsctl_reads_and_prints_tables_as_theirs_does() {
    let script = include_str!("ctl/vsctl-tables.txt");
    same("ovs-vsctl", "vswitch.ovsschema", script, &Programs::ours());
}

#[test]
fn ovs_vsctl_takes_values_as_theirs_does_on_either_server() {
    let script = include_str!("ctl/vsctl-values.txt");
    for server in [Programs::ours(), oracle()] {
        same("ovs-vsctl", "vswitch.ovsschema", script, &server);
    }
}

#[test]
fn vtep_ctl_does_what_theirs_does_on_either_server() {
    let script = include_str!("ctl/vtep.txt");
    for server in [Programs::ours(), oracle()] {
        same("vtep-ctl", "vtep.ovsschema", script, &server);
    }
}
