"""optimum-onnx reads our bundles and writes the same greedy tokens, with padding on the left too.

    VENV_WITH_OPTIMUM/bin/python benchmarks/clients/optimum_client.py FOLDER

FOLDER is what `make.py` made. optimum-onnx 0.1 wants an older transformers than ours: its own environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

folder = Path(sys.argv[1])
for name, wanted in json.loads((folder / "expected.json").read_text()).items():
    tokenizer = AutoTokenizer.from_pretrained(folder / name)
    for file, text in wanted["files"].items():
        model = ORTModelForCausalLM.from_pretrained(folder / name, subfolder="onnx", file_name=file,
                                                    use_io_binding=False)
        settings = {"max_new_tokens": len(text["new"]), "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        ids = tokenizer(wanted["prompt"], return_tensors="pt")["input_ids"]
        alone = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1]:].tolist()
        padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1)
        mask = torch.ones_like(padded)
        mask[0, :3] = 0
        left = model.generate(padded, attention_mask=mask, **settings)[0, padded.shape[1]:].tolist()
        equal = [sum(a == b for a, b in zip(one, text["new"], strict=False)) for one in (alone, left)]
        print(f"{name:16} {file:22} {equal[0]} of {len(text['new'])} tokens equal, padded on the left {equal[1]}")
