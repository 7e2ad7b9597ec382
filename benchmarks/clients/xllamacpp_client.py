"""llama.cpp as the package xllamacpp, which needs no compiler, reads our GGUF files: its server tells the same.

    VENV_WITH_XLLAMACPP/bin/python benchmarks/clients/xllamacpp_client.py FOLDER [MODEL ...]

FOLDER is what `make_gguf.py` made. Exits with 1 unless the files of whole numbers write every token as we do, up to a
tie, and all files cut every text as we do and give the token after the prompt probabilities close to ours.
`llama_cpp_client.py` compares the logits at every place, which the server does not tell.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp
from checks import asked, divergence

TIE = 5e-3      # nats between the two likeliest tokens, of which rounding may then choose the other
MOST = {"F32": 1e-5, "F16": 1e-3, "Q8_0": 1e-2, "Q4_0": 1e-2}   # nats; activations are rounded where weights are


def opened(path: Path) -> Any:
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = str(path), 96, 1
    settings.n_gpu_layers, settings.verbosity = 0, -1
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32   # 16 bits change logits
    return xllamacpp.Server(settings)


def asked_of(server: Any, what: str, **given: Any) -> Any:
    """An answer of the server's own interface: what it calls OpenAI's leaves out tokens that end inside a character."""
    request = urllib.request.Request(f"{server.listening_address}/{what}", data=json.dumps(given).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def written(server: Any, ids: list[int], number: int) -> Any:
    """The likeliest tokens that follow, with the log probabilities of all that could have."""
    return asked_of(server, "completion", prompt=ids, n_predict=number, temperature=0, samplers=["temperature"],
                    cache_prompt=False, return_tokens=True, n_probs=1 << 20)


def shares(made: Any) -> dict[int, float]:
    """Log probabilities of the first token written; none where it ends inside a character, of which nothing is said."""
    first = made["completion_probabilities"][0]
    return {each["id"]: each["logprob"] for each in first["top_logprobs"]} if first["id"] == made["tokens"][0] else {}


def main(folder: Path, names: list[str]) -> bool:
    failed, logits = False, np.load(folder / "logits.npz")
    for name, wanted in asked(folder, names):
        for path, ours in wanted["new"].items():
            kind, server = Path(path).stem.rsplit("-", 1)[-1], opened(folder / name / path)
            alike = sum(all(asked_of(server, "tokenize", content=text, add_special=special)["tokens"] == ids
                            for special, ids in ((False, bare), (True, whole)))
                        for text, bare, whole in wanted["texts"])
            made, scores = written(server, wanted["ids"], len(ours)), logits[f"{name}/{path}"][-1]
            new, told = made["tokens"], shares(made)
            equal = next((i for i, pair in enumerate(zip(new, ours, strict=False)) if pair[0] != pair[1]), len(new))
            theirs = [told.get(token, -1e9) for token in range(len(scores))]
            apart = divergence(scores.tolist(), theirs) if told else 0.0
            print(f"{name:17} {kind:6} {wanted['pattern']:10} KL divergence {apart:.1e}, {equal} of {len(new)} greedy "
                  f"tokens, {alike} of {len(wanted['texts'])} texts cut alike", flush=True)
            failed |= alike < len(wanted["texts"]) or not apart < MOST[kind]
            if kind == "F32" and equal < len(new):
                told = shares(written(server, wanted["ids"] + ours[:equal], 1))
                failed |= not max(told.values()) - told[ours[equal]] < TIE
            failed |= equal == len(new) < len(ours) and made["stop_type"] != "eos"
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
