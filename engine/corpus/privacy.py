"""Privacy: what tells who somebody is, taken out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from engine.config import setting
from engine.corpus import STEPS, Step
from engine.corpus.personal import KINDS

if TYPE_CHECKING:
    import pyarrow as pa

Action = Literal["placeholder", "mask", "drop", "keep"]


def _action(what: str, default: Action = "placeholder") -> Any:
    return setting(default, f"What is done about {what}: a placeholder or stars in their place, the document is "
                            "dropped, or they are kept")


@STEPS.add("privacy")
class Privacy(Step):
    """Takes out personal data by patterns and check digits, as for ROOTS (Laurençon et al. 2022).

    Names of people are not recognised. A placeholder such as [EMAIL] tells the model that something stood there;
    stars keep the length, and what is no letter or digit. Card numbers must pass Luhn's check and IBANs theirs;
    IP addresses of local networks stay.
    """

    email: Action = _action("e-mail addresses")
    phone: Action = _action("phone numbers")
    ip: Action = _action("IP addresses")
    card: Action = _action("numbers of credit cards")
    iban: Action = _action("numbers of bank accounts (IBAN)")
    key: Action = _action("keys, tokens and passwords of programs")
    address: Action = _action("street addresses, which public places have too", "keep")

    def begin(self) -> Callable[[pa.Table], pa.Table]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from engine.corpus.columns import column, compute, with_text

        actions = {name: getattr(self, name) for name in KINDS if getattr(self, name) != "keep"}
        gates = {name: column("text").regexp(KINDS[name].gate) for name in actions}

        def privacy(batch: pa.Table) -> pa.Table:
            reasons: list[str | None] = [None] * len(batch)
            kinds: list[list[str]] = [[] for _ in reasons]
            texts = {}
            if gates:
                may_hold = np.column_stack([found.to_numpy() for found in compute(batch, gates).columns])
                for row in np.flatnonzero(may_hold.any(1)).tolist():
                    sought = [name for name, may in zip(gates, may_hold[row], strict=True) if may]
                    text = batch["text"][row].as_py()
                    texts[row], kinds[row], reasons[row] = take_out(text, {name: actions[name] for name in sought})
            if texts:
                mask = np.zeros(len(batch), bool)
                mask[list(texts)] = True
                old = batch["text"].combine_chunks()
                batch = with_text(batch, pc.replace_with_mask(old, pa.array(mask), pa.array(texts.values(), old.type)))
            return (batch.append_column("reason", pa.array(reasons, pa.large_string()))
                    .append_column("kinds", pa.array(kinds, pa.list_(pa.string()))))

        return privacy


def take_out(text: str, actions: dict[str, Action]) -> tuple[str, list[str], str | None]:
    """The text without what the actions name, the kind of each that was taken out, and why it is dropped if it is."""
    kinds: list[str] = []
    for name, action in actions.items():
        kind = KINDS[name]
        after, count = kind.sub(text, _stars if action == "mask" else lambda _, name=name: f"[{name.upper()}]")
        if count and action == "drop":
            return text, [], f"holds personal data: {kind.name}"
        text = after
        kinds += [kind.name] * count
    return text, kinds, None


def _stars(found: str) -> str:
    return re.sub(r"[^\W_]", "*", found)
