"""Card: what goes with a model so that others know what it is (Mitchell et al. 2019), in Hugging Face's layout."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from engine.export import data_card
from engine.export.heads import kernel_size
from engine.model import ModelConfig, estimate

METRICS = {"val/loss": "loss (nats per token)", "val/perplexity": "perplexity", "val/bits_per_byte": "bits per byte",
           "val/accuracy": "next tokens guessed right (share)"}
TRAINING = {"max_steps": "steps", "micro_batch_size": "rows in a micro-batch", "accumulation": "accumulation",
            "max_grad_norm": "longest gradient", "precision": "precision asked for"}


def card(config: ModelConfig, facts: Mapping[str, Any]) -> str:
    """The Markdown of README.md.

    `facts`: name, licence, parity (what `bundle.export` returns), target, and what is known of recipe, lineage,
    dataset (`data_card.facts`), evaluation and energy. A fact that is not there is not spoken of, except that no
    licence was given.
    """
    recipe, parity = facts.get("recipe") or {}, facts["parity"]
    name, licence = str(facts["name"]), " ".join(str(facts.get("licence") or "").split())
    count, published = estimate.parameters(config), "published" in (facts.get("lineage") or {})
    parts = [
        _front_matter(licence, published),
        f"# {_safe(name)}",
        _what(config, count, facts.get("lineage") or {}),
        _section("Size", _table([
            ("parameters", f"{count:,}"), ("layers", config.num_layers), ("width", config.hidden_size),
            ("heads (key-value heads)", f"{config.num_heads} ({config.num_kv_heads})"),
            ("width inside the MLP", config.intermediate_size), ("vocabulary", f"{config.vocab_size:,} tokens"),
            ("context", f"{config.context_length:,} tokens"), ("head tied to the embedding", config.tied_embeddings)])),
        _section("Data", _data(recipe, facts.get("lineage") or {}, facts.get("dataset") or {})),
        _section("Training", _training(recipe, config)),
        _section("Energy", _energy(facts.get("energy") or {})),
        _section("Evaluation", _evaluation(facts.get("evaluation") or {})),
        _section("Same model in ONNX", _parity(parity)),
        _section("Smaller forms", _costs(parity.get("costs") or ())),
        _section("For llama.cpp", _gguf(parity.get("gguf") or {})),
        _section("Use", _use(name, config, str(facts.get("target", "native")))),
        _section("Licence", _safe(licence) if licence else "None was given: ask whoever made this model before you use "
                 "it for more than looking at it. The texts that it was trained on have licences of their own."),
        _section("Limits", PUBLISHED_LIMITS if published else LIMITS),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


LIMITS = """\
- A small model trained on little text. It writes sentences that look like its corpus and knows next to nothing: take
  no statement of it for true.
- It repeats what its corpus holds: its prejudices, its age, and at times whole passages, word for word.
- Nothing was done to make its texts safe or fair. Do not use it where its words decide about people.
- It has seen no text but that of its corpus, so other languages, subjects and code come out as noise."""


PUBLISHED_LIMITS = """\
- They are those that its makers tell of. The figures above compare forms of it with one another and say nothing of how
  good or safe its texts are."""
OF_GGUF = ("Of the GGUF files it is the weights as rounded that were measured, computed with in float32: llama.cpp's "
           "own arithmetic is not included.")
LINEAGE = ("published", "dataset", "tokens", "run", "checkpoint")


def _front_matter(licence: str, published: bool = False) -> str:
    values: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation",
                              "tags": ["onnx", "text-generation", *([] if published else ["from-scratch"])]}
    return _matter({**values, **_licence(licence)})


def _licence(licence: str) -> dict[str, str]:
    """In the Hub's words, which has names for the common ones."""
    if not licence or re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", licence):
        return {"license": licence} if licence else {}
    return {"license": "other", "license_name": licence}


def _matter(values: Mapping[str, Any]) -> str:
    return "---\n" + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True).rstrip() + "\n---"


def _what(config: ModelConfig, count: int, lineage: Mapping[str, Any]) -> str:
    begun = f"A {config.family} language model of {_short(count)} parameters, "
    if "published" in lineage:
        return (f"{begun}made by others and published as {_safe(str(lineage['published']))}. What it was trained on "
                "and what it is good for is told there; here it was brought into another form.")
    return (f"{begun}trained from scratch. It continues a text; it was taught neither to follow instructions nor to "
            "hold a conversation.")


def _data(recipe: Mapping[str, Any], lineage: Mapping[str, Any], dataset: Mapping[str, Any] | None = None) -> str:
    corpus = recipe.get("corpus") or {}
    # The last part of a path says which text it was; the rest says whose computer it was.
    rows = [("source", PurePath(str(source.get("path", ""))).name) for source in corpus.get("sources", ())]
    steps = [step.get("kind", "") if isinstance(step, dict) else str(step) for step in corpus.get("steps", ())]
    rows += [("curated by", ", ".join(steps))] if steps else []
    rows += [(noun, lineage[noun]) for noun in LINEAGE if noun in lineage]
    return "\n\n".join(filter(None, [_table(rows), data_card.told(dataset or {})]))


def _training(recipe: Mapping[str, Any], config: ModelConfig) -> str:
    train, optim, schedule = (recipe.get(noun) or {} for noun in ("train", "optim", "schedule"))
    if not train:
        return ""
    rows = [(words, train[name]) for name, words in TRAINING.items() if name in train]
    if {"max_steps", "micro_batch_size", "accumulation"} <= set(train):
        tokens = train["max_steps"] * train["micro_batch_size"] * train["accumulation"] * config.context_length
        rows.insert(1, ("tokens seen, on one device", f"{tokens:,}"))
    rows += [("optimizer", _settings(optim)), ("schedule", _settings(schedule)), ("seed", recipe.get("seed", ""))]
    return _table((name, value) for name, value in rows if value != "")


def _settings(values: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in values.items() if name != "kind")
    return f"{values.get('kind', '')} ({rest})" if rest else str(values.get("kind", ""))


def _evaluation(report: Mapping[str, Any]) -> str:
    rows = [(words, f"{report[name]:.4g}") for name, words in METRICS.items()
            if isinstance(report.get(name), int | float)]
    if not rows:
        return ""
    tokens = f", {report['tokens']:,} tokens of it" if isinstance(report.get("tokens"), int) else ""
    return f"On text of the same corpus that was held out of training{tokens}:\n\n" + _table(rows)


def _energy(energy: Mapping[str, Any]) -> str:
    if not energy:
        return ""
    million = 1e6 / max(1, energy["tokens"])
    return _table([
        ("training", f"{energy['kwh']:.3g} kWh, {energy['value']}"), ("how", energy["why"]),
        ("cost", f"{energy['cost']:.2g} {energy['currency']}"), ("emissions", f"{energy['co2e_kg']:.2g} kg CO2e"),
        ("for a million tokens", f"{energy['kwh'] * million:.2g} kWh")])


def _parity(parity: Mapping[str, Any]) -> str:
    rows = [(case["name"], f"{case['max_difference']:.1e}") for case in parity["cases"]]
    return (f"{_safe(parity['sentence'])} Allowed was {parity['tolerance']:.1e}. Largest difference of a logit:\n\n"
            + _table(rows))


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    told = "text that was held out" if rows[0]["text"] == "held out" else "text of the model itself"
    head = ("precision", "size", "perplexity", "Δ bits per byte", "KL", "same likeliest token", "same greedy text",
            "tokens per second", "")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        lines.append(f"| {' | '.join(map(_safe, _cost(row)))} |")
    broken = [_safe(row["sentence"]) for row in rows if not row["passed"]]
    left_out = f"\n\nLeft out: {' '.join(broken)}" if broken else ""
    if any(row["file"].endswith(".gguf") for row in rows):
        left_out = f"\n\n{OF_GGUF}{left_out}"
    return (f"Each measured against float32 on {rows[0]['tokens']:,} tokens of {told}; speed at batch 1, on the "
            "machine that made this bundle:\n\n" + "\n".join(lines) + left_out)


def _cost(row: Mapping[str, Any]) -> list[str]:
    name = row["precision"] + (" (GGUF)" if row["file"].endswith(".gguf") else "")
    if "loss" not in row:
        return [name, f"{row['bytes'] / 1e6:,.1f} MB", *["–"] * 6, "broken"]
    bits = row["bits_per_byte_change"]
    speed = row.get("tokens_per_second")
    return [name, f"{row['bytes'] / 1e6:,.1f} MB", f"{row['perplexity']:.4g}",
            "–" if bits is None else f"{bits:+.4f}", f"{row['divergence']:.1e}", f"{row['agreement']:.1%}",
            f"{row['greedy_agreement']:.0%}", "–" if speed is None else f"{speed:,.0f}",
            "" if row["passed"] else "broken"]


def _gguf(told: Mapping[str, Any]) -> str:
    if not told.get("files"):
        return _safe(told.get("refused", ""))
    files = ", ".join(f"`{path}`" for path in told["files"].values())
    return (f"{files}: weights, tokenizer and chat template in one file each. They hold the same weights, rounded "
            "where their names say so; what that costs stands above.")


def _use(name: str, config: ModelConfig, target: str) -> str:
    # Their caches get the head size of config.json, or width / heads.
    but = ""
    if target == "native" and kernel_size(config) != config.head_size:
        but = (f"; only, the attention operator needs heads of {kernel_size(config)} where the model has "
               f"{config.head_size}, which optimum and transformers.js refuse")
    return f"""\
Without PyTorch, from this folder's parent:

```python
from engine.inference import load

print(load({name!r}).generate("It was", max_new_tokens=80))
```

The folder opens in transformers (`AutoModelForCausalLM.from_pretrained`); its names and sidecar files are those that
optimum, onnxruntime-genai and transformers.js look for{but}."""


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _table(rows: Iterable[tuple[Any, Any]]) -> str:
    lines = [f"| {_safe(name)} | {_safe(value)} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _safe(value: Any) -> str:
    """Text that shows as itself, whatever a person named things."""
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return re.sub(r"([\\`*_|\[\]#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _short(number: int) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
