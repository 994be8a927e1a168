use std::fmt::Write as _;

use corral_core::catalog::Surroundings;

use super::*;
use crate::traffic::Waiting;

const MODELS: &str = "[models.a]\nfile = \"a.gguf\"\n[models.b]\nfile = \"b.gguf\"\nidle_unload = \"1m\"\n\
                      [models.c]\nfile = \"c.gguf\"\n";

fn id(model: &str) -> ModelId {
    ModelId::new(model).expect("a model id")
}

fn catalog(gateway: &str) -> Catalog {
    let surroundings =
        Surroundings { path: "models.toml".into(), home: "/home/u".into(), models_dir: "/models".into() };
    let text = format!("schema = 1\n[gateway]\nmin_stay = \"10s\"\n{gateway}\n{MODELS}");
    Catalog::read(&text, &surroundings).catalog.expect("a catalog")
}

/// What is, at second 100; requests are written as `a`, as `*` for whatever is loaded, and with `!` for a session's.
struct Case {
    policy: &'static str,
    /// What is open, since which second.
    open: Option<(&'static str, u64)>,
    under_way: usize,
    quiet_since: u64,
    waiting: &'static str,
    busy: bool,
    coming: &'static [&'static str],
    unsettled: bool,
    overruled: u64,
    not_before: u64,
    /// What failed, `*` for the usual model, at which second.
    failed: &'static [(&'static str, u64)],
    /// What was unloaded because nobody used it.
    unloaded: Option<&'static str>,
}

const CASE: Case = Case {
    policy: "",
    open: None,
    under_way: 0,
    quiet_since: 0,
    waiting: "",
    busy: false,
    coming: &[],
    unsettled: false,
    overruled: 0,
    not_before: 0,
    failed: &[],
    unloaded: None,
};
const NEVER: &str = "auto_switch = \"never\"";
const SESSIONS: &str = "auto_switch = \"sessions\"";

impl Case {
    fn decided(&self) -> String {
        let catalog = catalog(self.policy);
        let seconds = Duration::from_secs;
        let waiting = self.waiting.split_whitespace().zip(1..).map(|(ask, ticket)| {
            let name = ask.trim_end_matches('!');
            let model = (name != "*").then(|| id(name));
            Waiting { ticket, ask: Ask { model, session: ask.ends_with('!') } }
        });
        let mut failures = Failures::default();
        for (model, at) in self.failed {
            let key = (*model != "*").then(|| id(model));
            failures.note(key, seconds(*at) + COOL_OFF, Error::new(Code::OutOfMemory, "no memory"));
        }
        let decision = decide(&View {
            now: seconds(100),
            gate: Look {
                open: self.open.map(|(model, since)| (id(model), seconds(since))),
                under_way: self.under_way,
                quiet_since: seconds(self.quiet_since),
                waiting: waiting.collect(),
            },
            busy: self.busy,
            coming: self.coming.iter().map(|model| id(model)).collect(),
            unsettled: self.unsettled,
            overruled: seconds(self.overruled),
            not_before: seconds(self.not_before),
            unloaded: self.unloaded.map(id),
            catalog: &catalog,
            failures: &failures,
        });
        match decision {
            Decision::Switch(model) => format!("switch {model}"),
            Decision::Start => "start".to_owned(),
            Decision::Unload(model) => format!("unload {model}"),
            Decision::Wait(None) => "wait".to_owned(),
            Decision::Wait(Some(after)) => format!("wait {} s", after.as_secs()),
            Decision::Refuse(refusals) => refusals.iter().fold("refuse".to_owned(), |mut text, (ticket, why)| {
                let _ = write!(text, " {ticket}:{}", why.code().as_str());
                text
            }),
        }
    }
}

fn check(table: &[(&str, Case, &str)]) {
    for (what, case, expected) in table {
        assert_eq!(case.decided(), *expected, "{what}");
    }
}

#[test]
fn the_oldest_request_decides_what_is_loaded() {
    check(&[
        ("nothing to do", CASE, "wait"),
        ("nothing loaded", Case { waiting: "b a *", ..CASE }, "switch b"),
        ("nothing loaded, and any would do", Case { waiting: "* b", ..CASE }, "start"),
        ("another loaded, long since", Case { open: Some(("a", 10)), waiting: "b c b", ..CASE }, "switch b"),
        ("an operation goes first", Case { busy: true, coming: &["c"], waiting: "b *", ..CASE }, "wait"),
        ("also one that unloads", Case { busy: true, waiting: "b *", ..CASE }, "wait"),
        ("the way has just been closed", Case { unsettled: true, waiting: "b", ..CASE }, "wait"),
    ]);
}

#[test]
fn a_model_stays_for_a_while() {
    let open = Case { open: Some(("a", 92)), waiting: "b", ..CASE };
    check(&[
        ("8 s after its opening", Case { ..open }, "wait 2 s"),
        ("10 s after its opening", Case { open: Some(("a", 90)), ..open }, "switch b"),
        ("requests under way change nothing", Case { open: Some(("a", 90)), under_way: 3, ..open }, "switch b"),
        ("a person had it stay", Case { open: Some(("a", 10)), overruled: 95, ..open }, "wait 5 s"),
        ("the controller was busy", Case { open: Some(("a", 10)), not_before: 101, ..open }, "wait 1 s"),
        ("the controller was busy and nothing is loaded", Case { not_before: 101, waiting: "*", ..CASE }, "wait 1 s"),
    ]);
}

#[test]
fn the_policy_decides_who_may_switch() {
    let open = Some(("a", 10));
    check(&[
        (
            "never",
            Case { policy: NEVER, open, waiting: "b c!", ..CASE },
            "refuse 1:switch_not_allowed 2:switch_not_allowed",
        ),
        (
            "sessions",
            Case { policy: SESSIONS, open, waiting: "b b! c", ..CASE },
            "refuse 1:switch_not_allowed 3:switch_not_allowed",
        ),
        ("a session's", Case { policy: SESSIONS, open, waiting: "b!", ..CASE }, "switch b"),
        ("any model, never", Case { policy: NEVER, waiting: "*", ..CASE }, "refuse 1:switch_not_allowed"),
        ("any model, a session's", Case { policy: SESSIONS, waiting: "*!", ..CASE }, "start"),
        ("being loaded", Case { policy: NEVER, busy: true, coming: &["b"], waiting: "b *", ..CASE }, "wait"),
        (
            "another is being loaded",
            Case { policy: NEVER, busy: true, coming: &["b"], waiting: "b a", ..CASE },
            "refuse 2:switch_not_allowed",
        ),
        (
            "being brought back",
            Case { policy: NEVER, busy: true, coming: &["a", "b"], waiting: "a b *", ..CASE },
            "wait",
        ),
        (
            "being unloaded",
            Case { policy: NEVER, busy: true, waiting: "* b", ..CASE },
            "refuse 1:switch_not_allowed 2:switch_not_allowed",
        ),
        ("not known yet", Case { policy: NEVER, unsettled: true, waiting: "* b", ..CASE }, "wait"),
    ]);
}

#[test]
fn what_failed_is_left_alone_for_a_while() {
    check(&[
        ("29 s ago", Case { failed: &[("b", 71)], waiting: "b", ..CASE }, "refuse 1:out_of_memory"),
        ("30 s ago", Case { failed: &[("b", 70)], waiting: "b", ..CASE }, "switch b"),
        ("others are not concerned", Case { failed: &[("b", 99)], waiting: "c *", ..CASE }, "switch c"),
        ("the usual model", Case { failed: &[("*", 99)], waiting: "* b", ..CASE }, "refuse 1:out_of_memory"),
        (
            "somebody tries it again",
            Case { failed: &[("b", 99)], busy: true, coming: &["b"], waiting: "b", ..CASE },
            "wait",
        ),
        ("no longer in the catalog", Case { waiting: "gone", ..CASE }, "refuse 1:unknown_model"),
        ("while it is still being loaded", Case { busy: true, coming: &["gone"], waiting: "gone", ..CASE }, "wait"),
    ]);
}

#[test]
fn what_was_unloaded_for_want_of_use_is_loaded_again_whatever_the_policy() {
    let unloaded = |policy, waiting| Case { policy, waiting, unloaded: Some("b"), ..CASE };
    check(&[
        ("by its name", unloaded(NEVER, "b"), "switch b"),
        ("by any name", unloaded(NEVER, "*"), "switch b"),
        ("not of a session", unloaded(SESSIONS, "* b!"), "switch b"),
        ("requests may load anything", unloaded("", "*"), "switch b"),
        ("another is another matter", unloaded(NEVER, "a b"), "refuse 1:switch_not_allowed"),
        ("it is still being unloaded", Case { busy: true, ..unloaded(NEVER, "* b") }, "wait"),
        ("it does not load", Case { failed: &[("b", 99)], ..unloaded(NEVER, "*") }, "refuse 1:out_of_memory"),
    ]);
}

#[test]
fn the_longer_time_out_counts() {
    let mut failures = Failures::default();
    let (minute, error) = (Duration::from_mins(1), |text: &str| Error::new(Code::LoadFailed, text));
    failures.note(Some(id("a")), minute, error("given up"));
    failures.note(Some(id("a")), minute / 2, error("tried by a person"));
    let recent = |at| failures.recent(Some(&id("a")), at).map(ToString::to_string);
    assert_eq!(recent(Duration::from_secs(59)).as_deref(), Some("tried by a person"));
    assert_eq!(recent(minute), None);
}

#[test]
fn what_nobody_uses_is_unloaded() {
    let quiet = |quiet_since, under_way| Case { open: Some(("b", 0)), quiet_since, under_way, ..CASE };
    check(&[
        ("it was used 59 s ago", quiet(41, 0), "wait 1 s"),
        ("it was used 60 s ago", quiet(40, 0), "unload b"),
        ("it is in use, and may be quiet for long enough in 60 s", quiet(40, 1), "wait 60 s"),
        ("it may stay for ever", Case { open: Some(("a", 0)), ..CASE }, "wait"),
        ("it is on its way out", Case { busy: true, ..quiet(40, 0) }, "wait"),
        ("the controller was busy", Case { not_before: 2000, ..quiet(40, 0) }, "wait 1900 s"),
        ("somebody waits for another", Case { waiting: "a", ..quiet(40, 0) }, "switch a"),
    ]);
}

/// Clients that each ask for one model, again as soon as they were answered. Gives the times of the switches, and how
/// long each client waited at most.
fn compete(clients: &[&str], seconds: u64) -> (Vec<(u64, String)>, Vec<u64>) {
    let (catalog, failures) = (catalog(""), Failures::default());
    let (mut open, mut tickets, mut switches) = (None::<(ModelId, u64)>, 0, Vec::new());
    // When each client began to wait, and with which ticket.
    let mut asked: Vec<Option<(u64, u64)>> = vec![None; clients.len()];
    let mut longest = vec![0; clients.len()];
    for now in 0..seconds {
        for (client, asked) in clients.iter().zip(&mut asked) {
            let served = open.as_ref().is_some_and(|(model, _)| model.as_str() == *client);
            if !served && asked.is_none() {
                tickets += 1;
                *asked = Some((now, tickets));
            }
        }
        let waiting = clients.iter().zip(&asked).filter_map(|(client, asked)| {
            asked.map(|(_, ticket)| Waiting { ticket, ask: Ask { model: Some(id(client)), session: false } })
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_by_key(|waiting| waiting.ticket);
        let since = |(model, since): &(ModelId, u64)| (model.clone(), Duration::from_secs(*since));
        let decision = decide(&View {
            now: Duration::from_secs(now),
            gate: Look { open: open.as_ref().map(since), under_way: 1, quiet_since: Duration::ZERO, waiting },
            busy: false,
            coming: Vec::new(),
            unsettled: false,
            overruled: Duration::ZERO,
            not_before: Duration::ZERO,
            unloaded: None,
            catalog: &catalog,
            failures: &failures,
        });
        let Decision::Switch(model) = decision else { continue };
        for ((client, asked), longest) in clients.iter().zip(&mut asked).zip(&mut longest) {
            if *client == model.as_str() {
                *longest = asked.take().map_or(*longest, |(since, _)| (now - since).max(*longest));
            }
        }
        switches.push((now, model.to_string()));
        open = Some((model, now));
    }
    (switches, longest)
}

#[test]
fn two_clients_take_turns() {
    let (switches, longest) = compete(&["a", "b"], 35);
    let expected = [(0, "a"), (10, "b"), (20, "a"), (30, "b")].map(|(at, model)| (at, model.to_owned()));
    assert_eq!(switches, expected);
    assert!(longest.iter().all(|longest| *longest <= 10), "{longest:?}");
}

#[test]
fn nobody_starves() {
    let (switches, longest) = compete(&["a", "b", "a", "b", "c"], 600);
    assert_eq!(switches.len(), 60, "one switch for each stay");
    assert!(longest.iter().all(|longest| *longest <= 20), "{longest:?}");
}

#[test]
fn a_failure_is_forgotten_once_the_model_is_loaded() {
    let mut failures = Failures::default();
    let now = Duration::from_secs(1);
    for key in [Some("a"), Some("b"), None] {
        failures.note(key.map(id), now + COOL_OFF, Error::new(Code::LoadFailed, "no"));
    }
    failures.forget(&id("a"));
    let left = [Some("a"), Some("b"), None].map(|key| failures.recent(key.map(id).as_ref(), now).is_some());
    assert_eq!(left, [false, true, false]);
}

#[test]
fn a_refusal_says_what_is_loaded_and_what_to_do() {
    let catalog = catalog(NEVER);
    let failures = Failures::default();
    let mut view = View {
        unloaded: None,
        now: Duration::ZERO,
        gate: Look { open: Some((id("a"), Duration::ZERO)), ..Look::default() },
        busy: false,
        coming: Vec::new(),
        unsettled: false,
        overruled: Duration::ZERO,
        not_before: Duration::ZERO,
        catalog: &catalog,
        failures: &failures,
    };
    let said = |view: &View<'_>, model: Option<&str>| {
        let refusal = view.refusal(&Ask { model: model.map(id), session: true }).expect("it is refused").body();
        format!("{} ({})", refusal.message, refusal.hint.expect("a hint"))
    };
    assert_eq!(
        said(&view, Some("b")),
        "`b` is not loaded, and requests load no model (ask for `a`, which is loaded, or `corral switch b`; \
         `auto_switch` in models.toml decides who may)"
    );
    view.gate.open = None;
    view.coming = vec![id("c")];
    assert!(said(&view, Some("b")).contains("(ask for `c`, which is being loaded, or"), "{}", said(&view, Some("b")));
    view.coming.clear();
    assert!(said(&view, Some("b")).contains("(no model is loaded: `corral switch b`;"), "{}", said(&view, Some("b")));
    assert_eq!(
        said(&view, None),
        "no model is loaded, and requests load no model (`corral start` loads one; `auto_switch` in models.toml \
         decides who may)"
    );
}
