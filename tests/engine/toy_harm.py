"""Harm: how a stranger's file may differ from a good one. Each takes a file's bytes and dice, and gives other bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

Change = Callable[[bytes, random.Random], bytes]

DEEP, LONG = "@deep@", "@long@"     # stand for what `json` itself refuses to write
RAW = {DEEP: "[" * 100_000 + "]" * 100_000, LONG: "1" + "0" * 5000}
ABSURD = [None, True, -1, 0, 0.5, 1e308, 2**31, 2**63, 10**30, 10**400, 10**4000, "", "../../../etc/passwd", "\x00",
          "a\nb", "\ud800", [], {}, [[[]]], "NaN", {"a": {"b": []}}, ["x"] * 100, float("nan"), float("inf"), -(2**63),
          DEEP, LONG, "/etc/hostname", {"x": 10**400}]
CODE = ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% for a in range(10**9) %}x{% endfor %}", "{%", "{{",
        "{{ 'x' * 10**10 }}", "{% include '/etc/passwd' %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages[9] }}", "{{ raise_exception('no') }}", "{{ 1 / 0 }}", "{{ bos_token.x.y }}", "\x00", "(" * 5000,
        "{{ " + "(" * 5000, "[" * 5000, "> " * 5000, "| a |\n|---|\n" * 200, "<script>alert(1)</script>"]


def places(value, path=()) -> Iterator[tuple]:
    """Where something stands in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed_json(data: bytes, dice: random.Random) -> bytes:
    """One value in it, or the whole, replaced, dropped, or put somewhere else."""
    value = json.loads(data)
    known = list(places(value))
    if not known or dice.random() < 0.03:
        return written(dice.choice(ABSURD))
    *way, last = dice.choice(known)
    inside = value
    for key in way:
        inside = inside[key]
    how = dice.random()
    if isinstance(inside, dict) and how < 0.2:
        del inside[last]
    elif isinstance(inside, dict) and how < 0.25:
        inside[str(dice.choice(ABSURD))[:200]] = inside.pop(last)
    else:
        inside[last] = dice.choice(ABSURD)
    return written(value)


def written(value) -> bytes:
    text = json.dumps(value)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text.encode()


def changed_bytes(data: bytes, dice: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 3, 20))):
        at, how = dice.randrange(max(1, len(made))), dice.randrange(5)
        if how == 0:
            made[at:at + 1] = bytes([dice.randrange(256)])
        elif how == 1:
            del made[at:at + dice.choice((1, 8, 500))]
        elif how == 2:
            made[at:at] = bytes(dice.randrange(256) for _ in range(dice.choice((1, 8, 100))))
        elif how == 3:
            made[at:] = b""
        else:
            made[at:at + 8] = dice.choice((b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f"))
    return bytes(made)


def changed_header(data: bytes, dice: random.Random) -> bytes:
    """The JSON at the head of a safetensors file changed, its length told rightly."""
    size = int.from_bytes(data[:8], "little")
    head = changed_json(data[8:8 + size], dice)
    return len(head).to_bytes(8, "little") + head + data[8 + size:]


def changed_text(data: bytes, dice: random.Random) -> bytes:
    """Code or markup put in somewhere, or in the place of all."""
    piece = dice.choice(CODE).encode()
    at = dice.randrange(len(data) + 1)
    return piece if dice.random() < 0.2 else data[:at] + piece + data[at:]
