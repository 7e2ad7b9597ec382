"""transformers reads the weights of our bundles and writes the same greedy tokens, with padding on the left too.

    python benchmarks/clients/transformers_client.py FOLDER [BUNDLE ...]

FOLDER is what `make.py` made. Exits with 1 unless all tokens are equal.
"""

from __future__ import annotations

import sys
from pathlib import Path

from checks import Verdict, asked
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, verdict = Path(sys.argv[1]), Verdict()
for name, wanted in asked(folder, sys.argv[2:]):
    tokenizer = AutoTokenizer.from_pretrained(folder / name, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder / name, use_safetensors=True, trust_remote_code=False)
    text, longer = wanted["files"]["model.onnx"], wanted["prompt"] + " was small and grey"
    for prompts, more in (([wanted["prompt"]], ""), ([wanted["prompt"], longer], ", padded on the left")):
        given = tokenizer(prompts, return_tensors="pt", padding=True)
        out = model.generate(**given, max_new_tokens=len(text["new"]), do_sample=False, eos_token_id=None,
                             pad_token_id=0)
        verdict.tell(name, "model.safetensors", out[0, given["input_ids"].shape[1]:].tolist(), text["new"], more)
    given = tokenizer(wanted["prompt"], return_tensors="pt")
    verdict.same(name, "the prompt", given["input_ids"][0].tolist(), wanted["ids"])
    out = model.generate(**given, max_new_tokens=len(text["new"]), do_sample=False)[0, given["input_ids"].shape[1]:]
    verdict.tell(name, "model.safetensors", out.tolist(), text["ended"], ", to its end")
    if "chat" in wanted:
        chat = tokenizer.apply_chat_template(wanted["chat"]["messages"], add_generation_prompt=True, return_dict=True)
        verdict.same(name, "the chat", chat["input_ids"], wanted["chat"]["ids"])
verdict.end()
