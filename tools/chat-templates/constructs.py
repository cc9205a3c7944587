"""Writes fixtures/chat/constructs.json: what each construct of Jinja gives in the environment of
Hugging Face's `apply_chat_template`, or that it is an error there.

    pip install "transformers>=5" "jinja2>=3.1.6"
    python tools/chat-templates/constructs.py [--check]

The templates stand in constructs.txt, one after the other, with a line of `---` between them.
"""

import copy
import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = Path(__file__).parent
FIXTURE = HERE.parents[1] / "fixtures" / "chat" / "constructs.json"

VARIABLES = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "look", "arguments": {"at": "it", "n": 2}}}]},
        {"role": "tool", "content": "{\"is\": \"a cat\"}", "name": "look"},
        {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nA cat.", "thinking": "Hm."},
    ],
    "tools": None,
    "documents": None,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "people": [
        {"name": "Ada", "age": 36, "city": {"name": "London"}},
        {"name": "bob", "age": 7, "city": {"name": "york"}},
        {"name": "Cid", "age": 36, "city": {"name": "London"}},
    ],
    "tree": [{"n": 1, "sub": [{"n": 2, "sub": [{"n": 3}]}, {"n": 4}]}, {"n": 5}],
    "text": "The quick brown fox",
    "umlaut": "Zürich 😀 ﬁ",
    "number": 42,
    "half": 0.5,
    "nothing": None,
    "yes": True,
    "empty": [],
    "letters": {"b": 2, "a": 1, "C": 3},
    "nested": {"items": "not a method", "list": [1, [2, {"k": "v"}], None, True, 1.5, "it's"]},
}


def constructs():
    return (HERE / "constructs.txt").read_text().removesuffix("\n").split("\n---\n")


def result(template):
    try:
        text = _compile_jinja_template(template).render(**copy.deepcopy(VARIABLES))
        return {"error": "address in memory"} if " at 0x" in text else {"text": text}
    except Exception as error:  # noqa: BLE001 - any exception ends a rendering
        return {"error": type(error).__name__}


def fixture():
    cases = [{"template": template, **result(template)} for template in constructs()]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    variables = json.dumps(VARIABLES, ensure_ascii=False)
    return f'{{"variables": {variables},\n"cases": [\n{lines}\n]}}\n', len(cases)


def main():
    text, count = fixture()
    if "--check" in sys.argv:
        if FIXTURE.read_text() != text:
            sys.exit(f"{FIXTURE} is not what this writes")
    else:
        FIXTURE.write_text(text)
    print(f"{count} constructs")


if __name__ == "__main__":
    main()
