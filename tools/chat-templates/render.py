"""Writes fixtures/chat/cases.json: conversations, and what Jinja2 makes of them with the templates
beside it, set up as Hugging Face's `apply_chat_template` does.

    python tools/chat-templates/render.py     # needs jinja2 3.1 alone
"""

import json
from pathlib import Path

from jinja2 import TemplateError, nodes
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "chat"


class Generation(Extension):
    """`{% generation %}` marks text for training and changes nothing of it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def raise_exception(message):
    raise TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda layout: "now"
    return env


def message(role, content, **more):
    return {"role": role, "content": content, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a <place> & \"more\"",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {
            "type": "integer", "enum": [1, 2]}}, "required": ["place"], "extra": {}, "none": []},
    },
}
CALL = {"type": "function",
        "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 2}}}
SYSTEM = message("system", "  Be brief.\n")
HELLO = [message("user", " Hello! "), message("assistant", "Hi."), message("user", "How are you?")]
THOUGHT = [
    message("user", "One?"),
    message("assistant", "<think>\nHm, one.\n</think>\n\nOne."),
    message("user", "Two?"),
    message("assistant", "Two.", reasoning_content="\nHm, two.\n"),
]
USED = [
    message("user", "Rain?"),
    message("assistant", "I look.", tool_calls=[CALL]),
    message("tool", "{\"rain\": true}"),
    message("tool", "dry"),
]

CASES = [
    (name, messages, {"add_generation_prompt": answer})
    for name in ["thinking", "functions", "turns", "reasoning", "chatml"]
    for messages in [HELLO, [SYSTEM, *HELLO], HELLO[:1], HELLO[:2], [SYSTEM], THOUGHT, USED]
    for answer in [True, False]
] + [
    ("thinking", HELLO, {"enable_thinking": False}),
    ("thinking", HELLO, {"enable_thinking": True}),
    ("thinking", [SYSTEM, *USED], {"tools": [WEATHER]}),
    ("thinking", [*USED, message("user", "<result>no question</result>")], {"tools": [WEATHER]}),
    ("thinking", [message("user", "x"), message("assistant", "", tool_calls=[CALL, CALL["function"]])],
     {}),
    ("functions", [SYSTEM, *USED], {"tools": [WEATHER]}),
    ("functions", [SYSTEM, *USED], {"tools": [WEATHER], "functions_first": False}),
    ("functions", [SYSTEM], {"tools": [WEATHER]}),
    ("functions", [SYSTEM, *HELLO], {"builtin_functions": ["interpreter", "search", "sum"],
                                     "today": "1 May 2031"}),
    ("turns", [HELLO[0], HELLO[0]], {}),
    ("turns", [HELLO[1]], {}),
    ("chatml", [message("skip", "x"), *HELLO], {}),
    ("chatml", HELLO[:1], {"loud": "some text"}),
]


def render(template, messages, variables):
    variables = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, **variables}
    try:
        return {"text": template.render(messages=messages, **variables)}
    except JinjaError as error:
        return {"error": str(error)}


def main():
    cases = []
    for name, messages, variables in CASES:
        template = environment().from_string((DIRECTORY / f"{name}.jinja").read_text())
        case = {"template": name, "messages": messages, "variables": variables}
        cases.append({**case, **render(template, messages, variables)})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (DIRECTORY / "cases.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
