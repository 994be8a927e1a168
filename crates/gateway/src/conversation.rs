//! The conversations that each model has had: whether a request goes on with one, and whether llama-server's prompt
//! cache served it as it should.

use std::collections::HashMap;

use corral_core::ModelId;
use corral_core::usage::Tokens;

use crate::prompt::Prompt;

/// Of each model, as many conversations are remembered; and of as many models.
const MOST: usize = 64;

/// What reading a shorter prompt again costs is not worth a word, in tokens.
const WORTHWHILE: u64 = 2048;

/// A prompt that was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// As llama-server got it.
    pub(crate) prompt: Prompt,
    /// What llama-server said of it.
    pub(crate) tokens: Tokens,
    /// A number that differs whenever the model was loaded anew.
    pub(crate) load: u64,
}

/// What an answered prompt means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether it goes on with a conversation that the model has had; none where nothing is known of the model.
    pub(crate) continues: Option<bool>,
    /// That a long conversation was read again in place of coming out of the cache, with the likely cause. Told once,
    /// and again only once the cache has worked in between.
    pub(crate) alarm: Option<String>,
}

/// The latest conversations of the models.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    models: HashMap<ModelId, Vec<Conversation>>,
    /// Counts the prompts.
    clock: u64,
}

#[derive(Debug)]
struct Conversation {
    prompt: Prompt,
    /// Of its latest prompt.
    input: u64,
    load: u64,
    /// When its latest prompt came, by [`Conversations::clock`].
    at: u64,
    alarmed: bool,
}

impl Conversations {
    /// Takes a prompt whose answer is complete. Probes (`max_tokens` of 1) and counts are no part of a conversation and
    /// do not belong here.
    pub(crate) fn note(&mut self, model: &ModelId, answered: Answered) -> Verdict {
        self.clock += 1;
        let at = self.clock;
        let Some(known) = self.models.get_mut(model) else {
            self.forget_a_model();
            self.models.insert(model.clone(), vec![Conversation::new(answered, at)]);
            return Verdict { continues: None, alarm: None };
        };
        let Some(found) = latest(known, &answered.prompt) else {
            if known.len() >= MOST
                && let Some(oldest) = (0..known.len()).min_by_key(|at| known[*at].at)
            {
                known.swap_remove(oldest);
            }
            known.push(Conversation::new(answered, at));
            return Verdict { continues: Some(false), alarm: None };
        };
        let earlier = &known[found];
        let continues = answered.prompt.extends(&earlier.prompt);
        let worthwhile = earlier.input >= WORTHWHILE && answered.tokens.input > 0;
        let missed = worthwhile && answered.tokens.cached.saturating_mul(5) < earlier.input;
        let others = known.iter().any(|other| other.at > earlier.at);
        let alarm = (missed && !earlier.alarmed).then(|| alarm(model, earlier, &answered, others));
        let alarmed = missed || (earlier.alarmed && !worthwhile);
        known[found] = Conversation { alarmed, ..Conversation::new(answered, at) };
        Verdict { continues: Some(continues), alarm }
    }

    fn forget_a_model(&mut self) {
        let last = |known: &[Conversation]| known.iter().map(|conversation| conversation.at).max();
        if self.models.len() >= MOST
            && let Some(oldest) =
                self.models.iter().min_by_key(|(_, known)| last(known)).map(|(model, _)| model.clone())
        {
            self.models.remove(&oldest);
        }
    }
}

impl Conversation {
    fn new(Answered { prompt, tokens, load }: Answered, at: u64) -> Self {
        Self { prompt, input: tokens.input, load, at, alarmed: false }
    }
}

/// Which conversation a prompt goes on with: that of which it has most, and of several the latest.
fn latest(known: &[Conversation], prompt: &Prompt) -> Option<usize> {
    let fits = |earlier: &Conversation| {
        // The same question under another system prompt or with other tools is another conversation.
        prompt.extends(&earlier.prompt)
            || (prompt.extends_turns(&earlier.prompt) && prompt.turns.len() > earlier.prompt.turns.len())
    };
    let candidates = known.iter().enumerate().filter(|(_, earlier)| fits(earlier));
    let rank = |earlier: &Conversation| (prompt.extends(&earlier.prompt), earlier.prompt.turns.len(), earlier.at);
    candidates.max_by_key(|(_, earlier)| rank(earlier)).map(|(at, _)| at)
}

fn alarm(model: &ModelId, earlier: &Conversation, answered: &Answered, others: bool) -> String {
    let (cached, before) = (answered.tokens.cached, earlier.input);
    let cause = if answered.prompt.system != earlier.prompt.system {
        "its system prompt has changed since its last request"
    } else if answered.prompt.tools != earlier.prompt.tools {
        "its list of tools has changed since its last request"
    } else if answered.load != earlier.load {
        "the model was loaded again in between and its context was not brought back"
    } else if others {
        "another conversation used the model's slot in between; with a higher `parallel` each has its own"
    } else {
        "llama-server dropped its cache (see its log)"
    };
    format!(
        "{model} read a conversation of {before} tokens again, only {cached} of them came out of the cache: {cause}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelId {
        ModelId::new("m").expect("an id")
    }

    /// A prompt of these turns, all of it in one load.
    fn answered(turns: &[u64], input: u64, cached: u64) -> Answered {
        let prompt = Prompt { system: 1, tools: 2, turns: turns.to_vec(), ..Prompt::default() };
        Answered { prompt, tokens: Tokens { input, cached, output: 1 }, load: 1 }
    }

    fn note(conversations: &mut Conversations, turns: &[u64], input: u64, cached: u64) -> Verdict {
        conversations.note(&model(), answered(turns, input, cached))
    }

    #[test]
    fn a_conversation_is_known_by_its_turns() {
        let mut all = Conversations::default();
        assert_eq!(note(&mut all, &[1], 10, 0), Verdict { continues: None, alarm: None });
        assert_eq!(note(&mut all, &[1, 2, 3], 20, 9).continues, Some(true));
        assert_eq!(note(&mut all, &[4], 20, 9).continues, Some(false));
        assert_eq!(note(&mut all, &[1, 2, 3, 4], 20, 9).continues, Some(true));
        assert_eq!(note(&mut all, &[], 20, 9).continues, Some(false));
        let other = ModelId::new("other").expect("an id");
        assert_eq!(all.note(&other, answered(&[1, 2, 3, 4], 20, 9)).continues, None);
    }

    #[test]
    fn an_alarm_comes_once_until_the_cache_has_worked_again() {
        let mut all = Conversations::default();
        note(&mut all, &[1], 5000, 0);
        let alarm = note(&mut all, &[1, 2], 6000, 999).alarm.expect("an alarm");
        assert_eq!(
            alarm,
            "m read a conversation of 5000 tokens again, only 999 of them came out of the cache: llama-server dropped \
             its cache (see its log)"
        );
        assert_eq!(note(&mut all, &[1, 2, 3], 7000, 0).alarm, None);
        assert_eq!(note(&mut all, &[1, 2, 3, 4], 8000, 6900).alarm, None);
        assert!(note(&mut all, &[1, 2, 3, 4, 5], 9000, 0).alarm.is_some());
    }

    #[test]
    fn what_is_short_or_unknown_alarms_nobody() {
        let mut all = Conversations::default();
        note(&mut all, &[1], 2047, 0);
        assert_eq!(note(&mut all, &[1, 2], 3000, 0).alarm, None, "the earlier one was short");
        assert_eq!(note(&mut all, &[1, 2, 3], 0, 0).alarm, None, "nothing is known of its tokens");
        assert_eq!(note(&mut all, &[1, 2, 3, 4], 4000, 0).alarm, None);
        assert_eq!(note(&mut all, &[1, 2, 3, 4, 5], 5000, 800).alarm, None, "a fifth came out of the cache");
    }

    #[test]
    fn the_likely_cause_is_named() {
        let cause = |change: fn(&mut Answered), between: bool| {
            let mut all = Conversations::default();
            note(&mut all, &[1], 5000, 0);
            if between {
                note(&mut all, &[7], 5000, 0);
            }
            let mut second = answered(&[1, 2], 6000, 0);
            change(&mut second);
            let verdict = all.note(&model(), second);
            (verdict.continues.expect("something is known"), verdict.alarm.expect("an alarm"))
        };
        for (change, between, continues, expected) in [
            ((|now| now.prompt.system = 9) as fn(&mut Answered), true, false, "its system prompt has changed"),
            (|now| now.prompt.tools = 9, true, false, "its list of tools has changed"),
            (|now| now.load = 9, true, true, "the model was loaded again in between"),
            (|_| {}, true, true, "another conversation used the model's slot in between; with a higher `parallel`"),
            (|_| {}, false, true, "llama-server dropped its cache"),
        ] {
            let (went_on, alarm) = cause(change, between);
            assert!(alarm.contains(expected), "{alarm}");
            assert_eq!(went_on, continues, "{alarm}");
        }
    }

    #[test]
    fn the_same_question_under_another_system_prompt_is_another_conversation() {
        let mut all = Conversations::default();
        note(&mut all, &[1], 5000, 0);
        let mut other = answered(&[1], 5000, 0);
        other.prompt.system = 9;
        assert_eq!(all.note(&model(), other), Verdict { continues: Some(false), alarm: None });
    }

    #[test]
    fn the_longest_beginning_counts() {
        let mut all = Conversations::default();
        note(&mut all, &[1], 3000, 0);
        note(&mut all, &[1, 2, 3], 9000, 2900);
        note(&mut all, &[1], 3000, 2900);
        assert!(note(&mut all, &[1, 2, 3, 4], 9500, 1000).alarm.is_some_and(|alarm| alarm.contains("9000 tokens")));
    }

    #[test]
    fn memory_is_bounded() {
        let mut all = Conversations::default();
        for turn in 0..200 {
            note(&mut all, &[turn], 10, 0);
            all.note(&ModelId::new(format!("m{turn}")).expect("an id"), answered(&[1], 10, 0));
            note(&mut all, &[0, 1], 10, 0);
        }
        assert_eq!((all.models.len(), all.models[&model()].len()), (MOST, MOST));
        assert_eq!(note(&mut all, &[0, 1, 2], 10, 0).continues, Some(true), "what is in use stays");
        assert_eq!(note(&mut all, &[100, 1], 10, 0).continues, Some(false), "the oldest has gone");
    }
}
