"""optimum-onnx reads our bundles and writes the same greedy tokens, with padding on the left too.

    VENV_WITH_OPTIMUM/bin/python benchmarks/clients/optimum_client.py FOLDER [BUNDLE ...]

FOLDER is what `make.py` made. optimum-onnx 0.1 wants an older transformers than ours: its own environment.
Exits with 1 unless the tokens are equal, of rounded weights the probabilities close.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from checks import Verdict, asked
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

folder, verdict = Path(sys.argv[1]), Verdict()
for name, wanted in asked(folder, sys.argv[2:]):
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
        verdict.same(name, "the prompt", ids[0].tolist(), wanted["ids"])
        ended = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(text["new"]),
                               do_sample=False)[0, ids.shape[1]:].tolist()
        verdict.tell(name, file, ended, text["ended"], ", to its end")
        verdict.tell(name, file, alone, text["new"])
        verdict.tell(name, file, left, text["new"], ", padded on the left")
        read = torch.tensor([wanted["read_ids"]])
        logits = model(input_ids=read, attention_mask=torch.ones_like(read)).logits[0]
        verdict.near(name, file, logits.tolist(), text["logits"])
    if "chat" in wanted:
        chat = tokenizer.apply_chat_template(wanted["chat"]["messages"], add_generation_prompt=True)
        verdict.same(name, "the chat", chat, wanted["chat"]["ids"])
verdict.end()
