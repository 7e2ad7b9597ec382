"""Pardons: documents that the user keeps although a step would drop them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.corpus import Pardon


class Pardons:
    """The rules that overrule one step."""

    def __init__(self, pardons: tuple[Pardon, ...], kind: str) -> None:
        self._rules = [pardon for pardon in pardons if pardon.step in ("", kind)]
        self._texts = [re.compile(rule.text) for rule in self._rules]

    @property
    def settings(self) -> list[Any]:
        return [rule.dump() for rule in self._rules]

    def grant(self, before: pa.Table, after: pa.Table) -> pa.Table:
        """What a step made of a batch, with the pardoned documents kept as they came.

        Their reason moves to a column `pardoned`, which is there only if a rule is.
        """
        if not self._rules:
            return after
        dropped = pc.indices_nonzero(pc.is_valid(after["reason"])).to_pylist()
        kept = [False] * len(after)
        for at in dropped:
            row = after["row"][at].as_py()
            kept[at] = self._holds(before["id"][row].as_py(), after["reason"][at].as_py(), before["text"][row].as_py())
        pardoned = pa.array(kept)
        none = pa.scalar(None, after["reason"].type)
        original = before["text"].take(pc.if_else(pardoned, after["row"], pa.scalar(None, pa.int64())))
        changed = {"reason": pc.if_else(pardoned, none, after["reason"]),
                   "text": pc.if_else(pardoned, original, after["text"])}
        for name, column in changed.items():
            reasons = after["reason"]
            after = after.set_column(after.schema.get_field_index(name), name, column)
            if name == "reason":
                after = after.append_column("pardoned", pc.if_else(pardoned, reasons, none))
        return after

    def _holds(self, id_: str, reason: str, text: str) -> bool:
        return any(rule.reason in reason and fnmatchcase(id_, rule.id or "*") and pattern.search(text)
                   for rule, pattern in zip(self._rules, self._texts, strict=True))
