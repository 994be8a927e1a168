//! One attempt to get out, and what shows that it is a real one: the same script outside of the jail succeeds.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Command, Stdio};

use crate::world::{Base, World};

const PRELUDE: &str = include_str!("prelude.py");
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Where the same script succeeds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Control {
    /// Outside, as the same user.
    Outside,
    /// There, with these definitions instead.
    OutsideWith(&'static str),
    /// There, with rights over namespaces of its own: `unshare` with these options, and first this for a shell.
    Unshare(&'static str, &'static str),
    /// There, as root.
    Root,
    /// In a jail, with these definitions instead.
    JailWith(&'static str),
    /// In a jail with other arguments.
    Jail(&'static [&'static str]),
}

/// What a control or a jail was seen to do.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

/// A look at the host from outside: whether the attempt had its effect.
pub(crate) type Effect = fn(&World<'_>) -> bool;

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    name: String,
    /// The lines of a function; it returns something true, or raises.
    script: String,
    /// Definitions before it.
    with: String,
    /// By what it may be denied; empty where only the effect counts.
    denied: &'static [&'static str],
    control: Control,
    jail: &'static [&'static str],
    beneath: &'static str,
    effect: Option<Effect>,
    during: Option<fn(&World<'_>)>,
    lacking: &'static [&'static str],
}

/// An attempt that is denied by one of these.
pub(crate) fn attempt(name: impl Into<String>, denied: &'static [&'static str], script: impl Into<String>) -> Attempt {
    Attempt {
        name: name.into(),
        script: script.into(),
        with: String::new(),
        denied,
        control: Control::Outside,
        jail: &["--network", "none"],
        beneath: "",
        effect: None,
        during: None,
        lacking: &[],
    }
}

impl Attempt {
    pub(crate) fn control(self, control: Control) -> Self {
        Self { control, ..self }
    }

    /// With definitions, lines of Python.
    pub(crate) fn with(self, definitions: impl Into<String>) -> Self {
        Self { with: definitions.into(), ..self }
    }

    /// Judged by what it did to the host as well.
    pub(crate) fn effect(self, effect: Effect) -> Self {
        Self { effect: Some(effect), ..self }
    }

    /// Where it says READY, this happens on the host.
    pub(crate) fn during(self, during: fn(&World<'_>)) -> Self {
        Self { during: Some(during), ..self }
    }

    /// Called by this command, in the jail's case and in the control's.
    pub(crate) fn beneath(self, command: &'static str) -> Self {
        Self { beneath: command, ..self }
    }

    /// With other arguments of `corral jail`.
    pub(crate) fn jail(self, arguments: &'static [&'static str]) -> Self {
        Self { jail: arguments, ..self }
    }

    /// Where the control is denied by one of these, this machine cannot do it at all.
    pub(crate) fn lacking(self, reasons: &'static [&'static str]) -> Self {
        Self { lacking: reasons, ..self }
    }

    fn python(&self, world: &World<'_>, with: &str) -> Vec<String> {
        let mut text = format!("{PRELUDE}\n{}{}\n{with}\n\ndef attempt():\n", world.definitions(), self.with);
        for line in self.script.lines() {
            writeln!(text, "    {line}").expect("a text can be written to");
        }
        text.push_str("\n\nconclude(attempt)\n");
        [PYTHON, "-I", "-c", &text].map(str::to_owned).to_vec()
    }

    fn inside(&self, world: &World<'_>, with: &str) -> Seen {
        let workspace = world.path("work").display().to_string();
        let mut words = split(self.beneath);
        words.extend(world.corral(&[&["jail", "--workspace", &workspace], self.jail, &["--"]].concat()));
        words.extend(self.python(world, with));
        self.run(world, &mut world.command(&words))
    }

    fn outside(&self, world: &World<'_>) -> Seen {
        let plain = |with| [split(self.beneath), self.python(world, with)].concat();
        match self.control {
            Control::Outside => self.run(world, &mut world.command(&plain(""))),
            Control::OutsideWith(with) => self.run(world, &mut world.command(&plain(with))),
            Control::Root => self.run(world, &mut world.command_as_tester(&plain(""))),
            Control::JailWith(with) => self.inside(world, with),
            Control::Jail(arguments) => self.clone().jail(arguments).inside(world, ""),
            Control::Unshare(options, before) => {
                let before = before.replace("WORK", &world.path("work").display().to_string());
                let shell = format!("{before}{}exec \"$@\"", if before.is_empty() { "" } else { " && " });
                let shell = ["/bin/sh", "-c", &shell, "sh"].map(str::to_owned).to_vec();
                self.run(world, &mut world.command(&[split("unshare"), split(options), shell, plain("")].concat()))
            }
        }
    }

    fn run(&self, world: &World<'_>, command: &mut Command) -> Seen {
        let mut said = tempfile::tempfile().expect("a file");
        command.stdout(Stdio::piped()).stderr(said.try_clone().expect("a descriptor"));
        let mut child = command.spawn().expect("`timeout` and `setpriv`, of coreutils and util-linux, are there");
        let mut out = String::new();
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok) {
            if line == "READY" {
                self.during.expect("something is to happen")(world);
            }
            writeln!(out, "{line}").expect("a text can be written to");
        }
        let code = child.wait().expect("a child can be waited for").code();
        let mut err = String::new();
        std::io::Seek::rewind(&mut said).expect("a file");
        said.read_to_string(&mut err).expect("UTF-8");
        Seen { out, err, code }
    }

    /// Makes the attempt. None: it is denied inside and would succeed outside.
    fn make(&self, base: &Base, prepare: &dyn Fn(&mut World<'_>)) -> Outcome {
        if matches!(self.control, Control::Root) && !base.as_root() {
            return Outcome::NotTested("its control needs root".to_owned());
        }
        let mut world = World::new(base);
        prepare(&mut world);
        let inside = self.inside(&world, "");
        let had_effect = self.effect.is_some_and(|effect| effect(&world));
        match inside.verdict() {
            Some("GOT") if !self.denied.is_empty() => return Outcome::hole("it SUCCEEDS inside", &inside),
            _ if had_effect => return Outcome::hole("it HAS AN EFFECT from inside", &inside),
            None => return Outcome::hole("it is not carried out inside", &inside),
            Some(said) if !self.denied.is_empty() => {
                let why = said.strip_prefix("DENIED ").unwrap_or(said);
                if !self.denied.contains(&why) {
                    return Outcome::hole(&format!("it is denied inside, but by {why:?}"), &inside);
                }
            }
            Some(_) => {}
        }
        let mut world = World::new(base);
        prepare(&mut world);
        let outside = self.outside(&world);
        let verdict = outside.verdict();
        if let Some(why) =
            verdict.and_then(|said| said.strip_prefix("DENIED ")).filter(|why| self.lacking.contains(why))
        {
            return Outcome::NotTested(format!("this machine refuses it outside as well, by {why}"));
        }
        if verdict != Some("GOT") {
            return Outcome::hole("its control does not succeed", &outside);
        }
        if self.effect.is_some_and(|effect| !effect(&world)) {
            return Outcome::hole("its control has no effect", &outside);
        }
        Outcome::Held
    }
}

/// Runs the lines of a function in the jail.
pub(crate) fn run_inside(world: &World<'_>, script: &str) -> Seen {
    attempt("", &[], script).inside(world, "")
}

/// What came of an attempt and its control.
enum Outcome {
    Held,
    NotTested(String),
    Failed(String),
}

impl Outcome {
    fn hole(what: &str, seen: &Seen) -> Self {
        Self::Failed(format!("{what}: exit {:?}\n{}{}", seen.code, seen.out, seen.err))
    }
}

impl Seen {
    /// The last line, where all went in order.
    pub(crate) fn verdict(&self) -> Option<&str> {
        let mut lines = self.out.lines();
        let tried = lines.next() == Some("TRIED");
        lines.next_back().filter(|_| tried && self.code == Some(0))
    }
}

fn split(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// Makes all attempts of a group, each in a world of its own, and tells all that went wrong; `least` have to be real.
#[track_caller]
pub(crate) fn hold(group: &str, attempts: &[Attempt], least: usize, prepare: &dyn Fn(&mut World<'_>)) {
    let base = Base::new();
    let wanted = corral_tests::parts::variable("CORRAL_TEST_ATTEMPT");
    let (mut held, mut failures) = (0, Vec::new());
    for attempt in attempts.iter().filter(|one| wanted.as_ref().is_none_or(|name| one.name.contains(name))) {
        match attempt.make(&base, prepare) {
            Outcome::Held => held += 1,
            // Not captured: it is to be seen in each run.
            Outcome::NotTested(why) => {
                writeln!(std::io::stderr(), "NOT TESTED: {group}: {}: {why}", attempt.name).expect("standard error");
            }
            Outcome::Failed(why) => failures.push(format!("{}: {why}", attempt.name)),
        }
    }
    assert!(
        failures.is_empty(),
        "{group}: {} of {} failed\n\n{}",
        failures.len(),
        attempts.len(),
        failures.join("\n\n")
    );
    assert!(held >= least || wanted.is_some(), "{group}: only {held} attempts are real here");
}

/// What has to work in the jail as it does outside; tells all that does not.
#[track_caller]
pub(crate) fn both_succeed(group: &str, all: &[Attempt], prepare: &dyn Fn(&mut World<'_>)) {
    let base = Base::new();
    let mut failures = Vec::new();
    for one in all {
        for place in ["inside", "outside"] {
            let mut world = World::new(&base);
            prepare(&mut world);
            let seen = if place == "inside" { one.inside(&world, "") } else { one.outside(&world) };
            if seen.verdict() != Some("GOT") {
                failures.push(format!("{} {place}: exit {:?}\n{}{}", one.name, seen.code, seen.out, seen.err));
            }
        }
    }
    assert!(failures.is_empty(), "{group}: {} failed\n\n{}", failures.len(), failures.join("\n\n"));
}
