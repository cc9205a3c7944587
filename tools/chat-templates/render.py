"""Writes fixtures/chat/cases.json: conversations, and what Hugging Face's `apply_chat_template` makes
of them with the templates beside it.

    pip install "transformers>=5" "jinja2>=3.1.6"
    python tools/chat-templates/render.py [--check]
"""

import json
import sys
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "chat"


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
        rendered, _ = render_jinja_template([messages], chat_template=template, **variables)
        return {"text": rendered[0]}
    except TemplateError as error:
        return {"error": str(error)}


def main():
    cases = []
    for name, messages, variables in CASES:
        template = (DIRECTORY / f"{name}.jinja").read_text()
        case = {"template": name, "messages": messages, "variables": variables}
        cases.append({**case, **render(template, messages, variables)})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    text, fixture = f"[\n{lines}\n]\n", DIRECTORY / "cases.json"
    if "--check" in sys.argv:
        if fixture.read_text() != text:
            sys.exit(f"{fixture} is not what this writes")
    else:
        fixture.write_text(text)
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
