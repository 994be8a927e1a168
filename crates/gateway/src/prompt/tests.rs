use serde_json::{Value, json};

use super::*;

fn prompt(array: &Value, system_leads: bool) -> Prompt {
    let mut prompt = Prompt::default();
    let turns = Turns { prompt: Some(&mut prompt), key: "messages", array_only: false, system_leads };
    turns.deserialize(&mut serde_json::Deserializer::from_str(&array.to_string())).expect("turns");
    prompt
}

fn system(value: &Value) -> u64 {
    let mut prompt = Prompt::default();
    let mut json = serde_json::Deserializer::from_reader(std::io::Cursor::new(value.to_string()));
    prompt.system_seed().deserialize(&mut json).expect("a system prompt");
    prompt.system
}

fn tools(json: &str) -> u64 {
    let mut prompt = Prompt::default();
    prompt.set_tools(serde_json::from_str(json).expect("JSON"));
    prompt.tools
}

#[test]
fn a_prompt_extends_what_it_begins_with() {
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let one = prompt(&json!([turn("user", "a")]), false);
    let three = prompt(&json!([turn("user", "a"), turn("assistant", "b"), turn("user", "c")]), false);
    let other = prompt(&json!([turn("assistant", "a"), turn("assistant", "b"), turn("user", "c")]), false);
    assert!(three.extends(&one) && three.extends(&three) && !one.extends(&three));
    assert!(!other.extends(&one), "the role counts");
    assert!(!three.extends(&Prompt::default()), "nothing is no beginning");
    assert!(
        !three.extends(&Prompt { system: 1, ..one.clone() }) && !three.extends(&Prompt { tools: 1, ..one.clone() })
    );
    assert!(three.extends_turns(&Prompt { system: 1, ..one }));
}

#[test]
fn texts_side_by_side_are_not_one_text() {
    let turn = |content: Value| prompt(&json!([{"role": "user", "content": content}]), false);
    assert_ne!(turn(json!(["ab", "c"])), turn(json!(["a", "bc"])));
    assert_ne!(turn(json!(["ab", "c"])), turn(json!("abc")));
    assert_ne!(turn(json!([1])), turn(json!([true])));
    assert_ne!(turn(json!([-1])), turn(json!([1.5])));
    assert_eq!(turn(json!([null, "a"])), turn(json!("a")));
}

#[test]
fn longer_texts_share_their_leading_chunks() {
    let text = |length: usize| prompt(&json!("abcdefg".repeat(1000)[..length]), false);
    assert_eq!(text(1023).turns.len(), 0);
    assert!(text(3000).extends(&text(2100)) && !text(2100).extends(&text(3100)));
    let tokens = |count: u32| prompt(&json!((0..count).collect::<Vec<_>>()), false);
    assert!(tokens(10).extends(&tokens(9)));
    assert_eq!(tokens(5000).turns.len(), MOST_TURNS);
}

#[test]
fn the_attribution_is_no_part_of_the_system_prompt() {
    let line = "x-anthropic-billing-header: cc_version=2.1.329.e8c; cc_entrypoint=cli;";
    assert_eq!(system(&json!("be brief")), system(&json!(format!("{line}\nbe brief"))));
    assert_eq!(system(&json!("be brief")), system(&json!([{"type": "text", "text": line}, {"text": "be brief"}])));
    assert_eq!((system(&json!(line)), system(&json!([]))), (0, 0));
    assert_ne!(system(&json!("be brief")), system(&json!(["be brief", line])), "anywhere else it is text");
}

#[test]
fn system_messages_that_lead_a_chat_are_its_system_prompt() {
    let [system, user] = [json!({"role": "system", "content": "s"}), json!({"role": "user", "content": "u"})];
    let chat = prompt(&json!([system, user]), true);
    assert_eq!((chat.turns.len(), chat.system != 0, chat.system_turns.len()), (1, true, 0));
    let late = prompt(&json!([user, system, user]), true);
    assert_eq!((late.turns.len(), late.system, &late.system_turns[..]), (3, 0, &[1][..]));
    let merged = late.clone().with_system_merged();
    assert_eq!((merged.turns.len(), merged.system != 0, merged.system_turns.len()), (2, true, 0));
    assert_eq!(merged.turns[1], merged.turns[0]);
    assert_eq!(chat.clone().with_system_merged(), chat);
}

#[test]
fn tools_count_by_the_letter_less_their_cache_control() {
    let plain = tools(r#"[{"name":"a","n":[1]},{"name":"b"}]"#);
    assert_eq!(plain, tools(r#"[{"name":"a","n":[1]},{"name":"b","cache_control":{"type":"ephemeral","n":[{}]}}]"#));
    assert_eq!(plain, tools(r#"[{"cache_control" : null , "name":"a","n":[1]},{"name":"b"}]"#));
    assert_eq!(plain, tools(r#"[{"name":"a","cache_control":"}","n":[1]},{"cache_control":1,"name":"b"}]"#));
    assert_ne!(plain, tools(r#"[{"name":"a","n":[2]},{"name":"b"}]"#));
    let texts = [r#"["cache_control"]"#, r#"["\"cache_control"]"#, r#"["\"cache_control\":1"]"#, r#"["a"]"#];
    let hashes: std::collections::HashSet<u64> = texts.into_iter().map(tools).collect();
    assert_eq!(hashes.len(), texts.len(), "as a text it stays");
    assert_eq!(tools("null"), 0);
}
