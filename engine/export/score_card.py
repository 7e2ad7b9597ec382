"""Score card: `card` for a model that scores texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.export import card as of
from engine.model import ModelConfig, estimate

LIMITS = """\
- A score says how much a text is like those that the model was trained to prefer. It is no measure of truth, and a text
  that was made to score high may be worthless.
- Scores of different models have different scales and are not to be compared.
- Nothing was done to make its scores fair. Do not use it where they decide about people."""


def card(config: ModelConfig, labels: Sequence[str], facts: Mapping[str, Any]) -> str:
    """The Markdown of README.md; `facts` as in `card.card`."""
    name, licence = str(facts["name"]), " ".join(str(facts.get("licence") or "").split())
    count, parity = estimate.parameters(config) + len(labels) * config.hidden_size, facts["parity"]
    gives = "one score; of two texts, the one that scores more is preferred" if len(labels) == 1 else (
        f"a number for each of {len(labels)} labels; the largest is its answer")
    parts = [
        of._matter({"library_name": "transformers", "pipeline_tag": parity["task"], "tags": ["onnx", parity["task"]],
                    **of._licence(licence)}),
        f"# {of._safe(name)}",
        f"A {config.family} model of {of._short(count)} parameters that reads a text and gives {gives}. It writes "
        "nothing.",
        of._section("Size", of._table([
            ("parameters", f"{count:,}"), ("layers", config.num_layers), ("width", config.hidden_size),
            ("labels", ", ".join(labels)), ("vocabulary", f"{config.vocab_size:,} tokens"),
            ("context", f"{config.context_length:,} tokens")])),
        of._section("Data", of._data(facts.get("recipe") or {}, facts.get("lineage") or {},
                                    facts.get("dataset") or {})),
        of._section("Energy", of._energy(facts.get("energy") or {})),
        of._section("Same model in ONNX", _parity(parity)),
        of._section("Smaller forms", _costs(parity.get("costs") or ())),
        of._section("Use", _use(name)),
        of._section("Licence", of._safe(licence) if licence else "None was given: ask whoever made this model before "
                    "you use it for more than looking at it."),
        of._section("Limits", LIMITS),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _parity(parity: Mapping[str, Any]) -> str:
    judged, pairs = "", parity.get("pairs") or {}
    if pairs.get("pytorch") is not None:
        judged = (f" In {pairs['pytorch']:.1%} of the {pairs['pairs']:,} pairs that were given, PyTorch scores the "
                  f"chosen text more; onnxruntime in {pairs['onnxruntime']:.1%}.")
    rows = [(case["name"], f"{case['max_difference']:.1e}") for case in parity["cases"]]
    return (f"{of._safe(parity['sentence'])} Allowed was {parity['tolerance']:.1e}.{judged} Largest difference of a "
            f"score:\n\n" + of._table(rows))


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `score_cost.measure`."""
    if not rows:
        return ""
    head = ("precision", "size", "scores move by, of their spread", "largest change", "same decision",
            "tokens read per second", "")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        told = ["–"] * 4 if "agreement" not in row else [
            f"{row['score_change']:.2%}", f"{row['largest_change']:.1e}", f"{row['agreement']:.1%}",
            f"{row['prefill_tokens_per_second']:,.0f}" if "prefill_tokens_per_second" in row else "–"]
        cells = [row["precision"], f"{row['bytes'] / 1e6:,.1f} MB", *told, "" if row["passed"] else "broken"]
        lines.append(f"| {' | '.join(map(of._safe, cells))} |")
    broken = [of._safe(row["sentence"]) for row in rows if not row["passed"]]
    left_out = f"\n\nLeft out: {' '.join(broken)}" if broken else ""
    return (f"Each measured against float32 on {rows[0]['pairs']:,} pairs of texts ({rows[0]['text']}); speed on one "
            "text, on the machine that made this bundle:\n\n" + "\n".join(lines) + left_out)


def _use(name: str) -> str:
    return f"""\
Without PyTorch, from this folder's parent:

```python
from engine.inference import load_scorer

print(load_scorer({name!r}).score(["a text", "another text"]))
```

The folder opens in transformers (`AutoModelForSequenceClassification.from_pretrained`); `onnx/model.onnx` takes
`input_ids` and `attention_mask` and gives `logits`, as optimum asks of a text classifier."""
