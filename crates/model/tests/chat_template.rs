//! Chat templates: transformers' dialect of Jinja, and templates that mean harm.

use headwise_core::Error;
use headwise_model::chat_template::{ChatTemplate, Message};

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

fn render(source: &str) -> Result<String, Error> {
    let messages = [message("user", " Hi "), message("assistant", "é < \"1\"\n")];
    ChatTemplate::new(source)?.render(&messages, true, Some("<s>"), Some("</s>"))
}

fn refused(source: &str) -> String {
    match render(source) {
        Err(Error::ChatTemplate { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn python_methods_and_filters_work() {
    let source = "{{ bos_token }}{% for m in messages %}[{{ m['role'].upper() }}] {{ m.content | trim }}\
        {% if m.content.startswith(' ') %}!{% endif %}{% endfor %}{{ eos_token }}{{ messages[0].get('name', 'none') }}";
    assert_eq!(render(source).unwrap(), "<s>[USER] Hi![ASSISTANT] é < \"1\"</s>none");
}

#[test]
fn blocks_take_their_line_with_them() {
    let source = "{% for m in messages %}\n    {%- if true %}\n  {{ m.role }}\n    {% endif %}\n{% endfor %}\nend\n";
    // As Jinja renders it with trim_blocks and lstrip_blocks.
    assert_eq!(render(source).unwrap(), "  user\n  assistant\nend");
}

#[test]
fn json_is_pythons() {
    let source = r#"{% set x = {"z": 1, "a": [true, none, 1.5, "<é'"], "e": {}} %}{{ x | tojson }}"#;
    assert_eq!(render(source).unwrap(), r#"{"z": 1, "a": [true, null, 1.5, "<é'"], "e": {}}"#);
    let source = r#"{{ {"z": [1, []]} | tojson(indent=2) }}"#;
    assert_eq!(render(source).unwrap(), "{\n  \"z\": [\n    1,\n    []\n  ]\n}");
    assert_eq!(render("{{ messages[1].content | tojson }}").unwrap(), r#""é < \"1\"\n""#);
}

#[test]
fn a_template_can_refuse_a_conversation() {
    let source = "{% if messages[0].role != 'system' %}{{ raise_exception('begin with system') }}{% endif %}";
    assert!(refused(source).contains("begin with system"));
}

#[test]
fn tools_and_documents_are_none() {
    let source = "{% if tools is none and not documents %}{{ 'no' }}{% endif %}{% if tools is defined %}t{% endif %}";
    assert_eq!(render(source).unwrap(), "not");
}

#[test]
fn today_is_this_year_or_later() {
    let year: u32 = render("{{ strftime_now('%Y') }}").unwrap().parse().unwrap();
    assert!((2025..2200).contains(&year), "{year}");
    assert!(refused("{{ strftime_now('%Q') }}").contains("%Q"));
}

#[test]
fn a_loop_without_end_runs_out_of_fuel() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{{ a }}{% endfor %}{% endfor %}{% endfor %}";
    assert!(refused(source).contains("fuel"));
}

#[test]
fn a_macro_without_end_runs_out() {
    let reason = refused("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}");
    assert!(reason.contains("recursion") || reason.contains("fuel"), "{reason}");
}

#[test]
fn a_flood_of_output_is_cut_off() {
    let reason = refused("{% set s = 'a' * 1000000 %}{% for i in range(9999) %}{{ s }}{% endfor %}");
    assert!(reason.contains("writes more than"), "{reason}");
}

#[test]
fn values_nested_without_end_do_not_overflow_the_stack() {
    let nest = "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    assert_eq!(render(nest).unwrap(), "");
    assert!(refused(&format!("{nest}{{{{ ns.x | tojson }}}}")).contains("deeper"));
    let deepest = "{% set ns = namespace(x=[]) %}{% for a in range(1000) %}{% for b in range(1000) %}\
        {% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    assert!(refused(deepest).contains("fuel"));
}

#[test]
fn other_templates_and_files_are_out_of_reach() {
    assert!(render("{% include '/etc/hostname' %}").is_err());
    assert!(render("{% extends 'base' %}").is_err());
    assert!(render("{{ messages.__class__.__mro__ }}").is_err());
}

#[test]
fn a_template_that_does_not_parse_is_an_error() {
    assert!(matches!(ChatTemplate::new("{% if %}"), Err(Error::ChatTemplate { .. })));
    assert!(matches!(ChatTemplate::new("{{ '".repeat(1000)), Err(Error::ChatTemplate { .. })));
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(matches!(ChatTemplate::new(nested), Err(Error::ChatTemplate { .. })));
}
