"""llama.cpp reads our GGUF files: the same logits, the same greedy tokens, every text cut in the same way.

    pip install llama-cpp-python        (builds llama.cpp: a quarter of an hour; its own environment)
    VENV_WITH_LLAMA_CPP/bin/python benchmarks/clients/llama_cpp_client.py FOLDER [MODEL ...]

FOLDER is what `make_gguf.py` made. Exits with 1 unless the files of whole numbers write every token as we do, and all
files end at the tokens that we end at, cut every text as we do and have logits within MOST of ours. llama.cpp rounds
activations too where weights are rounded, so that the equal tokens of those files are told and not asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from checks import asked
from llama_cpp import Llama, llama_vocab_is_eog

# The logits spread over 8 from the smallest to the largest. GPT-2's are within 2e-3: GELU is a table of 16-bit numbers.
MOST = {"F32": 5e-3, "F16": 2e-2, "Q8_0": 0.3, "Q4_0": 0.3}
folder, failed = Path(sys.argv[1]), False
logits = np.load(folder / "logits.npz")
print(f"{'model':17} {'file':6} {'pattern':10} {'logits differ by':>17} {'greedy tokens':>14} {'texts cut alike':>16}")
for name, wanted in asked(folder, sys.argv[2:]):
    for path, ours in wanted["new"].items():
        kind = Path(path).stem.rsplit("-", 1)[-1]
        # 0 is float32: by default the cache is kept in 16 bits, which changes logits by itself.
        model = Llama(str(folder / name / path), n_ctx=96, n_batch=96, type_k=0, type_v=0, logits_all=True, seed=0,
                      n_threads=1, n_gpu_layers=0, verbose=False)
        alike = 0
        for text, bare, whole in wanted["texts"]:
            raw = text.encode()
            same = (model.tokenize(raw, add_bos=False, special=True) == bare
                    and model.tokenize(raw, add_bos=True, special=True) == whole
                    and model.detokenize(bare, special=True) == raw)
            alike += same
            if not same:
                print(f"  {text!r}: {model.tokenize(raw, add_bos=False, special=True)}, ours {bare}")
        ends = [token for token in range(model.n_vocab()) if llama_vocab_is_eog(model._model.vocab, token)]
        if set(wanted["ends"]) - set(ends):  # llama.cpp adds tokens of names that it knows, such as <|eot_id|>
            print(f"  it ends at {ends}, and should at {wanted['ends']}")
        model.eval(wanted["ids"])
        scores = logits[f"{name}/{path}"]
        apart = float(np.abs(model.scores[:len(wanted["ids"])] - scores).max())
        new: list[int] = []
        while len(new) < len(ours):
            new.append(int(model.scores[model.n_tokens - 1].argmax()))
            model.eval(new[-1:])
        equal = next((i for i, pair in enumerate(zip(new, ours, strict=True)) if pair[0] != pair[1]), len(ours))
        print(f"{name:17} {kind:6} {wanted['pattern']:10} {apart:17.1e} {equal:7} of {len(ours)} "
              f"{alike:10} of {len(wanted['texts'])}", flush=True)
        failed |= bool(set(wanted["ends"]) - set(ends))
        failed |= alike < len(wanted["texts"]) or apart > MOST[kind] or (kind == "F32" and equal < len(ours))
sys.exit(failed)
