//! Commands that are run to their end, with a limit in time.

use std::process::{Command, Output};

/// Seconds after which a command of a test is killed.
const LIMIT_S: u32 = 60;

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl Outcome {
    fn of(output: Output) -> Outcome {
        Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        self.result().unwrap_or_else(|e| panic!("{e}"))
    }

    /// Standard output of a command that succeeds; what it printed if it does not.
    pub fn result(self) -> Result<String, String> {
        match self.code {
            0 => Ok(self.stdout),
            code => Err(format!("exit code {code}: {}{}", self.stdout, self.stderr)),
        }
    }

    /// Both outputs and the exit code as one text.
    pub fn text(&self) -> String {
        format!("{}{}rc={}\n", self.stdout, self.stderr, self.code)
    }
}

/// Runs `program` with `args` and an environment, killed after a minute.
pub fn run(program: &str, args: &[&str], env: &[(String, String)]) -> Outcome {
    run_within(LIMIT_S, program, args, env)
}

/// The same with a limit of one's own, in seconds.
pub fn run_within(limit_s: u32, program: &str, args: &[&str], env: &[(String, String)]) -> Outcome {
    let limit = limit_s.to_string();
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", &limit, program])
        .args(args)
        .stdin(std::process::Stdio::null());
    command.envs(env.iter().map(|(k, v)| (k, v)));
    match command.output() {
        Ok(output) => Outcome::of(output),
        Err(e) => panic!("cannot run {program}: {e}"),
    }
}

/// Runs a command line in a shell; for set-up, where failure is a failure of the test.
#[track_caller]
pub fn sh(line: &str) -> String {
    run("sh", &["-ec", line], &[]).ok()
}
