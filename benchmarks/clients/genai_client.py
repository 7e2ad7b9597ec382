"""onnxruntime-genai reads our bundles and writes the same greedy tokens.

    VENV_WITH_GENAI/bin/python benchmarks/clients/genai_client.py FOLDER [BUNDLE ...]

FOLDER is what `make.py` made. Each precision is read through a copy of genai_config.json that names it.
Exits with 1 unless the tokens are equal, of rounded weights the probabilities close.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai
from checks import Verdict, asked

folder, verdict = Path(sys.argv[1]), Verdict()
for name, wanted in asked(folder, sys.argv[2:]):
    for file, text in wanted["files"].items():
        config = genai.Config(str(folder / name))
        config.overlay(json.dumps({"model": {"decoder": {"filename": f"onnx/{file}"}}}))
        model = genai.Model(config)
        settings = genai.GeneratorParams(model)
        settings.set_search_options(do_sample=False, max_length=96, top_k=1)
        generator, new = genai.Generator(model, settings), []
        generator.append_tokens(np.array(wanted["ids"], np.int32))
        while not generator.is_done() and len(new) < len(text["new"]):
            generator.generate_next_token()
            new.append(int(generator.get_next_tokens()[0]))
        verdict.tell(name, file, new, text["ended"], ", to its end")
        cut = genai.Tokenizer(model)
        cut.update_options(add_special_tokens="true")   # by itself it puts nothing around a text
        verdict.same(name, "the prompt", cut.encode(wanted["prompt"]).tolist(), wanted["ids"])
        generator = genai.Generator(model, settings)
        generator.append_tokens(np.array(wanted["read_ids"], np.int32))
        verdict.near(name, file, generator.get_logits()[:, -1].tolist(), text["logits"][-1:])
verdict.end()
