//! Templates that were made to do harm: each is an error, or gives a text, and the process lives, in a
//! thread with a small stack.
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::thread;

use candle_coreml::{ChatMessage, ChatOptions, ChatTemplate, ErrorKind};
use serde_json::json;

/// Smaller than that of any server's thread.
const STACK: usize = 1 << 20;

fn render(source: &str) -> Result<String, String> {
    let source = source.to_owned();
    let run = move || {
        let template = ChatTemplate::new(&source, None, None)?;
        template.render(&[ChatMessage::user("hi")], &ChatOptions::default())
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
    thread.join().unwrap().map_err(|error| error.to_string())
}

/// The templates are errors, whose messages have this part.
fn are_refused(sources: &[String], part: &str) {
    let mut wrong = Vec::new();
    for source in sources {
        let result = render(source);
        let refused = result.as_ref().is_err_and(|error| error.contains(part));
        if !refused {
            let start: String = source.chars().take(100).collect();
            let result: String = format!("{result:?}").chars().take(200).collect();
            wrong.push(format!("{start}\n  gives {result}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn owned(sources: &[&str]) -> Vec<String> {
    sources.iter().map(|source| (*source).to_owned()).collect()
}

#[test]
fn deep_sources_are_refused() {
    let nested = |begin: &str, end: &str| {
        format!("{{{{ {}1{} }}}}", begin.repeat(50_000), end.repeat(50_000))
    };
    let mut sources: Vec<String> = [
        ("(", ")"),
        ("[", "]"),
        ("{1: ", "}"),
        ("f(", ")"),
        ("x[", "]"),
        ("1 if 0 else ", ""),
        ("1 if 0 else (", ")"),
        ("x|default(", ")"),
        ("1 is eq [", "]"),
        ("-(", ")"),
        ("not (", ")"),
    ]
    .map(|(begin, end)| nested(begin, end))
    .to_vec();
    for (begin, end) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for x in [1] %}", "{% endfor %}"),
        ("{% filter upper %}", "{% endfilter %}"),
        ("{% set x %}", "{% endset %}"),
        ("{% macro m() %}", "{% endmacro %}"),
        ("{% call m() %}", "{% endcall %}"),
        ("{% with %}", "{% endwith %}"),
        ("{% generation %}", "{% endgeneration %}"),
        ("{% if 1 %}", ""),
    ] {
        sources.push(begin.repeat(20_000) + &end.repeat(20_000));
    }
    sources.push(format!("{{% set {}x{} = 1 %}}", "(".repeat(20_000), ")".repeat(20_000)));
    are_refused(&sources, "nested too deep");
    are_refused(&sources, "template `default`, line 1");
}

#[test]
fn endless_rows_are_refused() {
    let rows = [
        ("", "-", "1"),
        ("", "not ", "1"),
        ("'a'", "|upper", ""),
        ("a", ".b", ""),
        ("x", "[0]", ""),
        ("f", "()", ""),
        ("1", "+1", ""),
        ("1", "*1", ""),
        ("1", "**1", ""),
        ("'a'", "~'a'", ""),
        ("1", "<2", ""),
        ("1", " and 1", ""),
        ("0", " or 0", ""),
    ];
    let sources =
        rows.map(|(begin, middle, end)| format!("{{{{ {begin}{}{end} }}}}", middle.repeat(50_000)));
    are_refused(&sources, "in a row");
}

#[test]
fn deep_values_are_refused() {
    let grow = |begin: &str, step: &str, end: &str| {
        format!(
            "{{% set ns = namespace(x={begin}, y={begin}) %}}{{% for i in range(20000) %}}\
             {{% set ns.x = {step} %}}{{% set ns.y = {} %}}{{% endfor %}}{end}",
            step.replace("ns.x", "ns.y")
        )
    };
    let sources = [
        grow("[]", "[ns.x]", "{{ ns.x }}"),
        grow("[]", "[ns.x]", "{{ ns.x == ns.y }}"),
        grow("[]", "[ns.x]", ""),
        grow("()", "(ns.x,)", "{{ {ns.x: 1} }}"),
        grow("{}", "{'a': ns.x}", "{{ ns.x|tojson }}"),
        grow("[]", "[ns.x] + [1]", "{{ [ns.x, ns.y]|sort }}"),
        grow("[]", "{'a': ns.x}.values()", "done"),
        grow("[]", "[ns.x]|select", "done"),
        grow("[]", "[ns.x.copy]", "done"),
        grow("[]", "cycler(ns.x)", "done"),
        grow("[]", "joiner(ns.x)", "done"),
        grow("[]", "dict(a=ns.x)", "done"),
        grow("[]", "[1]|batch(3, ns.x)|list", "done"),
        grow("[]", "[ns.x]|groupby(0)", "done"),
    ];
    are_refused(&sources, "values are nested too deep");
}

#[test]
fn values_that_hold_themselves_do_no_harm() {
    for (source, text) in [
        ("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x == ns.x }}", "True"),
        (
            "{% set ns = namespace(x=0) %}{% for i in range(50000) %}\
             {% set ns.x = namespace(y=ns.x) %}{% endfor %}done",
            "done",
        ),
        (
            "{% macro f(p) %}{% macro g() %}{{ p }}{% endmacro %}{% set ns.m = g %}{% endmacro %}\
             {% set ns = namespace(m=0) %}{% for i in range(20000) %}{% set _ = f(ns.m) %}{% endfor %}\
             done",
            "done",
        ),
    ] {
        assert_eq!(render(source).as_deref(), Ok(text));
    }
    let cycle = "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}";
    are_refused(&owned(&[cycle]), "namespaces hold each other");
}

#[test]
fn endless_calls_are_refused() {
    are_refused(
        &owned(&[
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro f(n) %}{% for i in [1] %}{% if 1 %}{% filter upper %}{% set x %}{{ [f(n)] }}\
             {% endset %}{{ x }}{% endfilter %}{% endif %}{% endfor %}{% endmacro %}{{ f(1) }}",
            "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{{ caller }}{% endmacro %}\
             {% call f() %}x{% endcall %}",
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "{% macro f() %}{{ ns.f() }}{% endmacro %}{% set ns = namespace(f=f) %}{{ ns.f() }}",
        ]),
        "call each other too deep",
    );
}

#[test]
fn greedy_templates_are_stopped() {
    are_refused(
        &owned(&[
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% set x = range(100000)|list %}{% for i in range(100000) %}{{ -1 in x }}{% endfor %}",
            "{% set x = 'a' * 10**6 %}{% for i in range(100000) %}{{ x.find('b') }}{% endfor %}",
            "{{ ('a' * 10**7)|list }}",
            "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}\
             {% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
            "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] %}\
             {% endfor %}{{ ns.x }}",
        ]),
        "too m",
    );
    are_refused(
        &owned(&[
            "{% set n = namespace(x='0123456789') %}{% for a in range(60) %}\
             {% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x|length }}",
            "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "{{ 'x' * 99999999999 }}",
            "{{ ([1] * 10**9)|length }}",
            "{{ (['a' * 1000] * 10000)|join('b' * 1000) }}",
            "{{ ('b' * 10000).join(['a' * 1000] * 10000) }}",
            "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
            "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
            "{{ 'a'.center(10**9) }}",
            "{{ 'a'.ljust(10**12) }}",
            "{{ 'a'.rjust(10**30) }}",
            "{{ 'a'.zfill(10**9) }}",
            "{{ 'a'|center(10**9) }}",
            "{{ '\t'.expandtabs(10**9) }}",
            "{{ '%1000000000d' % 1 }}",
            "{{ '%*d' % (10**30, 1) }}",
            "{{ '{:1000000000}'.format(1) }}",
            "{{ '{:01000000000,}'.format(1) }}",
            "{{ '{:{}}'.format(1, 10**18) }}",
            "{{ ('a\n' * 100000)|indent(10**6) }}",
            "{{ [[1]]|tojson(indent=10**9) }}",
            "{{ [1]|batch(10**12, 0)|list }}",
            "{{ [1]|slice(10**12)|list }}",
            "{{ ('a' * 10**7)|wordwrap(1) }}",
            "{{ ('<' * 10**7)|escape }}",
            "{{ ('a ' * 10**7).split() }}",
            "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}",
            "{% set ns = namespace(x=(1,)) %}{% for i in range(100) %}{% set ns.x = (ns.x, ns.x) %}\
             {% endfor %}{{ {ns.x: 1} }}",
        ]),
        "too much memory",
    );
    are_refused(
        &owned(&[
            "{{ range(10**9) }}",
            "{{ '%.1000000000f' % 1 }}",
            "{{ '{:.1000000000f}'.format(1) }}",
            "{{ '%.1000000000d' % 1 }}",
            "{{ 'a' % (10**9 * [1],) }}",
            "{{ dict(**dict.fromkeys(range(100000)|map('string'), 1)) }}",
        ]),
        "",
    );
}

#[test]
fn orders_that_contradict_themselves_do_no_harm() {
    let source = "{{ ([1.0, 'nan'|float, 0.5, 'nan'|float] * 1000)|sort|length }}";
    assert_eq!(render(source).as_deref(), Ok("4000"));
    assert!(render("{{ ([1, 'a', none, 2.5, []] * 100)|sort }}").is_err());
}

#[test]
fn borders_of_integers_do_no_harm() {
    let low = "-(2**126) * 2";
    for source in [
        format!("{{{{ ({low}) // -1 }}}}"),
        format!("{{{{ -({low}) }}}}"),
        format!("{{{{ ({low})|abs }}}}"),
        format!(
            "{{{{ [1, 2][{low}] }}}}{{{{ [1, 2][{low}::2**126] }}}}{{{{ 'ab'[{low}:2**126] }}}}"
        ),
        format!("{{{{ range({low}, 2**126) }}}}"),
        format!("{{{{ range({low}, {low} + 3)|list }}}}{{{{ range(2**126, {low}, {low})|list }}}}"),
        "{{ range(5)[::2**126]|list }}{{ range(0, 5, 2**126)[::2**100]|list }}".to_owned(),
        "{{ 1.5|round(10**30) }}{{ 1.5|round(-10**30) }}{{ 5|round(-10**30) }}".to_owned(),
    ] {
        // A text or an error, no panic.
        if let Err(error) = render(&source) {
            assert!(!error.contains("unexpectedly"), "{source}: {error}");
        }
    }
}

/// A template may be as deep as its limits allow.
#[test]
fn what_is_within_the_limits_is_rendered() {
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(90), ")".repeat(90));
    assert_eq!(render(&nested).as_deref(), Ok("1"));
    let loops = "{% for x in [1] %}".repeat(90) + "x" + &"{% endfor %}".repeat(90);
    assert_eq!(render(&loops).as_deref(), Ok("x"));
    let sum = format!("{{{{ 0{} }}}}", " + 1".repeat(900));
    assert_eq!(render(&sum).as_deref(), Ok("900"));
    let calls = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% else %}end{% endif %}{% endmacro %}\
                 {{ f(100) }}";
    assert_eq!(render(calls).as_deref(), Ok("end"));
    let values = "{% set ns = namespace(x=[]) %}{% for i in range(150) %}{% set ns.x = [ns.x] %}\
                  {% endfor %}{{ ns.x|string|length }}";
    assert_eq!(render(values).as_deref(), Ok("302"));
}

#[test]
fn deep_messages_are_refused() {
    let mut deep = json!([]);
    for _ in 0..300 {
        deep = json!([deep]);
    }
    let template = ChatTemplate::new("{{ messages }}", None, None).unwrap();
    let message = ChatMessage::user("hi").with("deep", deep);
    let error = template.render(&[message], &ChatOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("messages or variables are nested too deep"), "{error}");
}
