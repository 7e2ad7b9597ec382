"""Columns: a run's metrics as arrays, kept beside `metrics.jsonl`, so that a history of 100,000 steps opens at once.

    columns.bin   the length of its head, the head in JSON, then float64 numbers: step, tokens, time and the metrics
                  of each kind of row, one column after the other

It may be deleted at any time. It holds the rows up to a byte of `metrics.jsonl`, and counts only while that file is
the same one (its inode) and the bytes before that place are the same. JSON is read by Arrow: 5 times as fast as Python.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import files
from engine.config import UserError
from engine.runs.folder import START, Cursor, Run

CACHE = "columns.bin"
WORTH_BYTES = 1 << 20  # a shorter history is read as fast
MOST_HEAD_BYTES = 1 << 20
MARK_BYTES = 64        # of the history's end, to know it again
AXES = ("step", "tokens", "time")


@dataclass(frozen=True)
class Rows:
    """Rows of one kind, such as steps or validations: `where` is step, tokens and time, (3, n); `values` are (n,)."""

    where: np.ndarray
    values: dict[str, np.ndarray]


def history(run: Run) -> tuple[list[Rows], Cursor]:
    """All whole rows that there are, and the cursor behind them; the arrays may be read only.

    A long history is kept for the next one who asks, where the folder can be written to.
    """
    found, cursor = kept(run)
    try:
        with open(run.path / "metrics.jsonl", "rb") as file:
            facts = os.fstat(file.fileno())
            offset = cursor[1] if cursor[0] == facts.st_ino else 0
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], START
    if not offset:
        found = []
    data = data[: data.rfind(b"\n") + 1]
    if not data:
        return found, (facts.st_ino, offset)
    found = _joined([*found, *parse(data)])
    after = (facts.st_ino, offset + len(data))
    if len(data) >= WORTH_BYTES:
        _keep(run, found, after)
    return found, after


def parse(data: bytes) -> list[Rows]:
    """The rows of whole lines; what is no JSON object is left out, as is what is no number."""
    try:
        return _parsed(data)
    except Exception:  # Arrow's errors share no base; a line that a kill cut is one of many reasons
        return _parsed(b"".join(line + b"\n" for line in data.splitlines() if _whole(line)), strict=False)


def _parsed(data: bytes, *, strict: bool = True) -> list[Rows]:
    """Rows by Arrow, or, where their types don't agree, in Python."""
    if not data:
        return []
    if strict:
        from pyarrow import json as arrow

        table = arrow.read_json(io.BytesIO(data), read_options=arrow.ReadOptions(block_size=1 << 22))
        numeric = {name: table[name].cast("double") for name in table.column_names
                   if str(table[name].type) in ("int64", "double")}
        numbers = {name: np.asarray(column.to_numpy(), dtype=float) for name, column in numeric.items()}
        present = {name: np.asarray(column.is_valid().to_numpy()) for name, column in numeric.items()}
    else:
        rows = [json.loads(line) for line in data.splitlines()]
        names = dict.fromkeys(name for row in rows for name in row)
        numbers = {name: np.array([_float(row.get(name)) for row in rows]) for name in names}
        present = {name: np.array([isinstance(row.get(name), (int, float)) for row in rows]) for name in names}
    total = len(next(iter(numbers.values()), ()))
    where = np.array([numbers.get(name, np.full(total, np.nan)) for name in AXES])
    kinds: dict[bytes, list[str]] = {}
    for name in numbers:
        if "/" in name:
            kinds.setdefault(np.packbits(present[name]).tobytes(), []).append(name)
    found = []
    for alike in kinds.values():
        chosen = present[alike[0]]
        found.append(Rows(where[:, chosen], {name: numbers[name][chosen] for name in alike}))
    return found


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _float(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _joined(parts: list[Rows]) -> list[Rows]:
    """Rows of the same metrics, one part after the other."""
    found: dict[tuple[str, ...], list[Rows]] = {}
    for rows in parts:
        found.setdefault(tuple(rows.values), []).append(rows)
    return [alike[0] if len(alike) == 1 else Rows(
        np.concatenate([rows.where for rows in alike], axis=1),
        {name: np.concatenate([rows.values[name] for rows in alike]) for name in names})
        for names, alike in found.items()]


# The file ------------------------------------------------------------------------------------------------


def _keep(run: Run, found: list[Rows], cursor: Cursor) -> None:
    head = {"version": 1, "inode": cursor[0], "offset": cursor[1], "mark": _mark(run, cursor[1]),
            "kinds": [{"rows": rows.where.shape[1], "names": list(rows.values)} for rows in found]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers stand on their own boundaries
    body = b"".join(np.ascontiguousarray(column, dtype=float).tobytes()
                    for rows in found for column in (*rows.where, *rows.values.values()))
    try:
        files.write(run.path / CACHE, len(text).to_bytes(8, "little") + text + body)
    except (UserError, OSError):
        return  # somebody else's folder, or a full disk: the history is read anew each time


def kept(run: Run) -> tuple[list[Rows], Cursor]:
    """What was kept, if it still tells of this history, and the cursor behind it."""
    path = run.path / CACHE
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(size, MOST_HEAD_BYTES)))
        if head["version"] != 1 or head["inode"] != (run.path / "metrics.jsonl").stat().st_ino:
            return [], START
        if head["mark"] != _mark(run, head["offset"]):
            return [], START
        numbers = np.memmap(path, dtype=float, mode="r", offset=8 + size)
        found, place = [], 0
        for kind in head["kinds"]:
            length, names = kind["rows"], kind["names"]
            table = numbers[place: place + length * (3 + len(names))].reshape(3 + len(names), length)
            found.append(Rows(table[:3], dict(zip(names, table[3:], strict=True))))
            place += length * (3 + len(names))
        return found, (head["inode"], head["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], START


def _mark(run: Run, offset: int) -> str:
    """The bytes before a place in the history, or nothing where it is shorter."""
    with open(run.path / "metrics.jsonl", "rb") as file:
        file.seek(max(0, offset - MARK_BYTES))
        return file.read(min(offset, MARK_BYTES)).hex()
