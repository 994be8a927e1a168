//! Chat templates that treat `system` entries amid a conversation as those of real models do; the tiny models' own
//! takes them where they are.

/// Says no, like those of the Qwen family.
pub const REFUSES_SYSTEM: &str = "{% for message in messages %}{% if message.role == 'system' and not loop.first %}\
    {{ raise_exception('System message must be at the beginning.') }}{% endif %}\
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Passes over them without a word.
pub const DROPS_SYSTEM: &str = "{% for message in messages %}{% if message.role != 'system' or loop.first %}\
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The line of a model's table that gives it this template.
pub fn line(template: &str) -> String {
    format!("args = [\"--chat-template\", '''{template}''']\n")
}
