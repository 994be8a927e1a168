//! What is the shell's own, without a jail: bash is the same outside.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::*;

struct Session {
    folder: tempfile::TempDir,
}

impl Session {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn output(&self, command: &str) -> Output {
        let words = words(self.state().to_str().unwrap(), OsStr::new(command)).unwrap();
        let mut bash = Command::new(&words[0]);
        bash.args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("FIRST", "1")
            .env("LANG", "C.UTF-8")
            .env(RUNNER.0, RUNNER.1);
        bash.current_dir(self.folder.path()).output().unwrap()
    }

    /// What a command prints, whose code is this.
    #[track_caller]
    fn says(&self, command: &str, code: i32) -> String {
        let output = self.output(command);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {output:?}");
        text(&output.stdout) + &text(&output.stderr)
    }
}

#[test]
fn each_kind_of_state_is_there_for_the_next_command() {
    let session = Session::new();
    let all = "cd /usr/bin; cd /usr; x=5; export Y='a\nb\"$'; unset FIRST; list=(1 '2 3'); declare -A map=([k]=v)
        readonly -A fixed=([a]=1); f() { local x=z; echo \"f $x\"; }; h() { cat <<E\nhere $1\nE\n}; export -f f
        alias ll='echo aliased'; umask 027; set -o pipefail; shopt -s nullglob; shopt -u sourcepath; empty=
        declare -i n=7";
    assert_eq!(session.says(all, 0), "");
    let expected = "5 /usr /usr/bin a\nb\"$ gone 2 3 v 1 7 0027";
    let shown = "echo \"$x $PWD $OLDPWD $Y ${FIRST-gone} ${list[1]} ${map[k]} ${fixed[a]} $n $(umask)\"";
    for _ in 0..2 {
        assert_eq!(session.says(shown, 0), format!("{expected}\n"));
    }
    assert_eq!(session.says("f; h me; ll; bash -c 'f; echo \"$Y ${x-not exported}\"'", 0), {
        "f z\nhere me\naliased\nf z\na\nb\"$ not exported\n"
    });
    assert_eq!(session.says("false | true", 1), "");
    assert_eq!(session.says("set +o pipefail; echo /nothing*; shopt -q sourcepath || echo off", 0), "\noff\n");
    assert_eq!(session.says("false | true; echo ${empty-unset}", 0), "\n");
    // What makes it ready is not seen by what runs.
    assert_eq!(session.says("env | grep corral; (($(wc -c </proc/$$/cmdline) < 400)) && echo short", 0), "short\n");
    // The control: another session has none of it.
    assert_eq!(
        Session::new().says("echo ${x-unset} ${FIRST-gone} $(umask); type f ll 2>/dev/null", 1),
        "unset 1 0022\n"
    );
}

#[test]
fn a_shell_that_does_not_end_by_itself_keeps_the_state_of_before() {
    let session = Session::new();
    session.says("x=1", 0);
    session.says("x=2; exec bash -c 'exit 9'", 9);
    assert_eq!(session.output("x=3; kill -KILL $$").status.code(), None);
    assert_eq!(session.says("echo $x", 0), "1\n");
    // The control: `exit` is an end of its own, wherever it stands.
    session.says("x=4; exit 300", 44);
    assert_eq!(session.says("echo $x", 0), "4\n");
    session.says("x=5; f() { local x=inner; exit 3; }; f", 3);
    session.says("set -e; x=${x}6; false; x=7", 1);
    assert_eq!(session.says("set +e; echo $x", 0), "56\n");
    session.says("trap 'x=8; echo ended >&2' EXIT; x=9", 0);
    assert_eq!(session.says("echo $x", 0), "9\n");
}

#[test]
fn nothing_that_a_command_sets_is_in_the_way_of_the_next() {
    let each = [
        "set -u",
        "set -n\nx=2",
        "set -f",
        "set -C",
        "set -m",
        "set -a",
        "set -t",
        "set -o posix",
        "IFS=x",
        "PATH=",
        "shopt -s nocasematch",
        "readonly PATH",
        "cd /tmp; mkdir gone$$; cd gone$$; rmdir /tmp/gone$$",
        "unset PWD",
        "alias eval=false builtin=false source=false printf=false",
        "umask 777",
        "printf() { return 1; }; set() { return 1; }; declare() { return 1; }; eval() { return 1; }",
        "LC_ALL=none",
        "exec 1>&- 2>&-",
        "BASH_XTRACEFD=99",
        "set -- a b c",
        "POSIXLY_CORRECT=1",
        "shopt -s extglob",
    ];
    for setting in each {
        let session = Session::new();
        session.says("x=1", 0);
        session.output(setting);
        let said = session.says("{ echo \"$x\"; y=2; }", 0);
        assert!(said.starts_with("1\n") || said.ends_with("\n1\n"), "{setting}: {said}");
        assert!(session.says("echo \"$y\"", 0).contains('2'), "{setting}");
    }
}

#[test]
fn errors_name_the_commands_own_lines() {
    let session = Session::new();
    assert!(session.says("nothing-like-it", 127).contains("bash: line 1: nothing-like-it: command not found"));
    session.says("set -u", 0);
    assert!(session.says("\n\necho $nothing", 127).contains("line 3: nothing: unbound"));
    assert!(session.says("echo )", 2).contains("syntax error"));
    session.says("set -x; x=1", 0);
    let traced = session.says("echo seen", 0);
    assert!(traced.ends_with("+ echo seen\n") && !traced.contains("__corral"), "{traced}");
}

#[test]
fn a_long_command_comes_whole_and_what_is_too_long_is_refused() {
    let session = Session::new();
    let long = format!("x='{}'; echo ${{#x}}", "ü".repeat(LONGEST / 2 - 20));
    assert_eq!(session.says(&long, 0), format!("{}\n", LONGEST / 2 - 20));
    for refused in ["x".repeat(LONGEST + 1), "a\0b".to_owned()] {
        assert_eq!(words(STATE, OsStr::new(&refused)).unwrap_err().code(), Code::InvalidRequest);
    }
}
