"""Other clients read our bundles of models that score, and give the same scores: one text at a time and padded.

    python benchmarks/clients/scoring_client.py transformers FOLDER [BUNDLE ...]
    VENV_WITH_OPTIMUM/bin/python benchmarks/clients/scoring_client.py optimum FOLDER [BUNDLE ...]

FOLDER is what `make_scorers.py` made. Exits with 1 unless the scores are equal, and the labels' names are ours.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from checks import asked
from transformers import AutoTokenizer

# Activations in 8 bits take their scale from all that is read at once, so that company changes a text's scores, which
# are about 1 apart.
MOST = {"model_quantized.onnx": 0.2}
EXACT = 1e-4


def models(client: str, folder: Path, wanted: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The model in each file of a bundle that the client reads."""
    if client == "transformers":
        from transformers import AutoModelForSequenceClassification

        yield "model.safetensors", AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False).eval()
        return
    from optimum.onnxruntime import ORTModelForSequenceClassification

    for file in wanted["scores"]:
        if file.endswith(".onnx"):
            yield file, ORTModelForSequenceClassification.from_pretrained(folder, subfolder="onnx", file_name=file)


client, place, failed = sys.argv[1], Path(sys.argv[2]), False
for name, wanted in asked(place, sys.argv[3:]):
    tokenizer = AutoTokenizer.from_pretrained(place / name)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    for file, model in models(client, place / name, wanted):
        scores, texts, apart = torch.tensor(wanted["scores"][file]), wanted["texts"], {}
        with torch.no_grad():
            alone = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])
            apart["alone"] = float((alone - scores).abs().max())
            for tokenizer.padding_side in ("left", "right"):
                given = tokenizer(texts, return_tensors="pt", padding=True)
                mask = given["attention_mask"]
                given["input_ids"][mask == 0] = model.config.pad_token_id
                if client == "transformers":    # whose GPT-2 would count the pads on the left as places
                    given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
                apart[f"padded {tokenizer.padding_side}"] = float((model(**given).logits - scores).abs().max())
        labels = [model.config.id2label[number] for number in range(len(wanted["labels"]))]
        told = ", ".join(f"{way} {difference:.1e}" for way, difference in apart.items())
        print(f"{name:20} {file:22} labels {', '.join(labels)}; scores differ by {told}", flush=True)
        most = {way: MOST.get(file, EXACT) if way != "alone" else EXACT for way in apart}
        failed |= labels != wanted["labels"] or any(not apart[way] <= most[way] for way in apart)
sys.exit(failed)
