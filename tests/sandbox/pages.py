"""Writes `docs/language.md` and `docs/sandbox-policy.md` from the tour and the policy tables.

`python tests/sandbox/pages.py --write` brings the pages up to date; a test compares them.
"""

# ruff: noqa: E501  (rows and programs are kept on one line)

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def language_page() -> str:
    from language import read_tour, run_in_sandbox

    lines = [
        "# The language of functions",
        "",
        "Functions are written in everyday Python. Every program below runs in the sandbox and gives what CPython",
        "gives; each is a test. What is left out, and what to write instead, is in",
        "[sandbox-policy.md](sandbox-policy.md). Each program shows the value of its last line, and the steps it took.",
        "",
        "Two additions to know about:",
        "",
        "- `super().method(...)` works inside methods in exactly this form; `super` is not a value.",
        "- Sets remember the order of insertion, and `set.pop()` takes the item that was added first.",
        "",
        "<!-- written by tests/sandbox/pages.py -->",
    ]
    topic = ""
    for snippet in read_tour():
        if snippet.topic != topic:
            topic = snippet.topic
            lines += ["", f"## {topic}"]
        outcome = run_in_sandbox(snippet.source)
        lines += ["", f"### {snippet.title}", "", "```python", snippet.source.rstrip("\n")]
        lines += [f"# log: {line}" for line in outcome.log]
        lines += [f"#> {outcome.result}", "```", f"{outcome.steps} steps"]
    return "\n".join(lines) + "\n"


def policy_page() -> str:
    from sandbox import costs, policy
    from sandbox.facades import re_
    from sandbox.guest import GuestRuntime
    from sandbox.keys import COLLISIONS_MAX, COMPARED, TUPLES_MAX
    from sandbox.meter import COST_VERSION, DEPTH_DEFAULT, FUEL_DEFAULT

    def refusals(table: dict[str, policy.Refusal]) -> list[str]:
        grouped: dict[policy.Refusal, list[str]] = {}
        for name, refusal in table.items():
            grouped.setdefault(refusal, []).append(f"`{name}`")
        head = ["| not available | because | instead |", "| --- | --- | --- |"]
        return head + [
            f"| {' '.join(names)} | {refusal.reason} | {refusal.instead} |".replace("|.", "\\|.")
            for refusal, names in grouped.items()
        ]

    def names(title: str, items: object) -> list[str]:
        return [f"- {title}: " + " ".join(f"`{item}`" for item in items)]  # type: ignore[attr-defined]  # a table

    runtime = GuestRuntime()
    lines = [
        "# What functions may use",
        "",
        "Functions run under a policy that is data: the tables below are the ones the compiler reads. A refused",
        "construct is an error of the push that names the file, the line, the reason and the replacement.",
        "",
        f"Policy version {policy.VERSION}, digest `{policy.DIGEST[:16]}`; cost table version {COST_VERSION}.",
        "",
        "<!-- written by tests/sandbox/pages.py -->",
        "",
        "## Constructs that are not available",
        "",
        *refusals(dict(policy.CONSTRUCTS)),
        "",
        "Everything else of the language works; [language.md](language.md) shows it.",
        "",
        "## Builtins",
        "",
        *names("types", policy.BUILTIN_TYPES),
        *names("functions", policy.BUILTIN_FUNCTIONS),
        *names("constants", policy.BUILTIN_CONSTANTS),
        *names("exceptions", policy.BUILTIN_EXCEPTIONS),
        "",
        *refusals(dict(policy.REFUSED_NAMES)),
        "",
        "## Attributes that are not available",
        "",
        "Nothing that starts with an underscore, and none of these, on any object:",
        "",
        *refusals(dict(policy.DENIED_ATTRIBUTES)),
        "",
        "## Modules",
        "",
        "| module | members |",
        "| --- | --- |",
        *(
            f"| `{name}` | {' '.join(f'`{item}`' for item in dir(runtime.facade(name)))} |"
            for name in policy.FACADES
        ),
        "",
        *refusals(dict(policy.REFUSED_MODULES)),
        "",
        "## Limits",
        "",
        "| what | limit |",
        "| --- | --- |",
        f"| source of a module | {policy.SOURCE_BYTES_MAX // 1024} KiB, {policy.NODES_MAX} nodes, nesting {policy.NESTING_MAX} |",
        f"| integers | {policy.INTEGER_BITS_MAX} bits |",
        f"| text, bytes | {policy.TEXT_LENGTH_MAX} |",
        f"| items of a container made at once | {policy.ITEMS_MAX} |",
        f"| ends of a range | {costs.RANGE_BITS} bits |",
        f"| keys of one hash | {TUPLES_MAX} tuples, {COLLISIONS_MAX} others |",
        f"| nesting of values that are compared, hashed, shown or encoded | {policy.DEPTH_MAX} |",
        f"| iterators over iterators | {policy.LAZY_DEPTH_MAX} |",
        f"| nested calls | {DEPTH_DEFAULT} |",
        f"| steps of a call | {FUEL_DEFAULT} |",
        "",
        "Passing a size is an ordinary error. Using up the steps or the nesting of calls ends the call.",
        "",
        "## What takes steps",
        "",
        "One step for every item of a loop or comprehension, every test of a `while`, every entry of a function or",
        "lambda, every handler entered. Bulk work takes steps by size:",
        "",
        "| work | per step |",
        "| --- | --- |",
        f"| copying text | {costs.COPY_BYTES} characters |",
        f"| searching, splitting, changing text | {costs.SCAN_BYTES} characters |",
        f"| looking for m characters in n, beside that | {costs.COMPARED} comparisons: m (n - m) from the end, and from the start of {costs.SHORT_PLACES:,} characters or of the last {costs.LONG_PLACES:,} if m is {costs.SHORT_SOUGHT} or more |",
        f"| trimming n characters by k others, beside that | {costs.COMPARED} comparisons of n (k - 1) |",
        f"| reading text of up to {costs.SHORT_TEXT} characters | none |",
        f"| writing a float | {costs.FLOAT_BITS} bits of its exponent, {costs.FLOAT_DIGITS} digits asked for |",
        f"| reading a float | {costs.PARSED_DIGITS} characters |",
        f"| compiling a pattern | {re_.COMPILE_STEPS} steps and {re_.CHARACTER_STEPS} for a character |",
        f"| a match of a pattern, beside the text | {re_.MATCH_STEPS} steps and one for a group; where a repeat could go on after the match, one for {re_.AHEAD_BYTES} characters that follow |",
        f"| JSON | {costs.JSON_NODE} steps for a value written, one for 4 characters read |",
        f"| hashing | {costs.HASH_BYTES} bytes |",
        f"| copying containers | {costs.COPY_ITEMS} items |",
        f"| comparing and hashing lists and tuples of texts and numbers | {costs.WALK_ITEMS} items |",
        "| comparing and hashing anything else, and searching it | 1 item |",
        f"| joining and comparing dicts and sets | {costs.TABLE_ITEMS} keys |",
        f"| keys of one hash that a tuple meets | {COMPARED} keys |",
        f"| fields of a dataclass written, read or compared | {costs.FIELDS} |",
        f"| a set, a generator or another lazy iterator made | {costs.SET} steps |",
        "| what works on a list as a whole | 1 step, and for its items |",
        f"| a key taken from a dict or a set | {costs.REMOVED_ITEMS} keys that are in it |",
        f"| adding and comparing long integers | {costs.INTEGER_BITS} bits |",
        f"| statements and expressions in a body, all of them if they are more than {costs.FREE_NODES} | {costs.NODES} |",
        f"| a `*rest` or `**rest` in a `match`, for the whole subject | {costs.COPY_ITEMS} items |",
        "| sorting | n log2(n) / 2 steps |",
        f"| a class statement | {costs.CLASS} steps |",
        "",
        "A body is that of a function, a lambda, a loop, a clause of a comprehension or the module, without the bodies",
        "inside it; of branches the largest counts. It is charged each time it runs.",
    ]
    lines += [
        "",
        "## Between versions of Python",
        "",
        "Results, steps and the texts of errors are the same on 3.11, 3.12 and 3.13: where the interpreter words an",
        "error differently, functions see one form of it. One thing differs: what the interpreter knows of Unicode.",
        "3.11 has the tables of Unicode 14, 3.12 those of 15, 3.13 those of 15.1. About 5,100 characters that were",
        "added after Unicode 14 are letters, or can be shown, on later versions alone, and 19 older ones changed a",
        "property (`isalpha`, `isnumeric`, `upper`, `repr`, ...). A record names the version it was made with, and is",
        "replayed on that.",
    ]
    return "\n".join(lines) + "\n"


PAGES = {"docs/language.md": language_page, "docs/sandbox-policy.md": policy_page}

if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    from sandbox.guest import prepare_process

    prepare_process()
    for path, render in PAGES.items():
        if "--write" in sys.argv[1:]:
            (ROOT / path).write_text(render())
        elif (ROOT / path).read_text() != render():
            raise SystemExit(f"{path} is out of date; run tests/sandbox/pages.py --write")
