"""Published models as their makers leave them: tokens that begin and end texts and turns, defaults, a chat template."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import toy_tokens
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from toy_models import stir

VOCABULARY, CONTEXT, NEW = 400, 128, 24
PROMPT = "kalo mi ne"
MESSAGES = [{"role": "user", "content": "kalo"}, {"role": "assistant", "content": "mi ne"},
            {"role": "user", "content": "ru sa"}]
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 88, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
LLAMA3 = ("{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}"
          "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
          "{% endif %}")
INST = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}")


class Form(NamedTuple):
    """One published model. The numbers of its special tokens are their places in `special`."""

    config: transformers.PretrainedConfig
    special: list[str]
    turn: int                       # the token that its answers end with
    generation: dict | None         # of generation_config.json; None: there is none
    tokenizer: dict                 # of tokenizer_config.json
    begins: bool = False            # whether its tokenizer puts special[0] before each text
    template: str = ""              # of chat_template.jinja


FORMS = {
    "llama-3": lambda: Form(
        transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True, bos_token_id=0, eos_token_id=[1, 2],
                                 rope_parameters={"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0,
                                                  "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                  "original_max_position_embeddings": 16}),
        ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"], 2,
        {"bos_token_id": 0, "eos_token_id": [1, 2], "do_sample": True, "temperature": 0.6, "top_p": 0.9},
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": LLAMA3}, begins=True),
    "llama-2": lambda: Form(
        transformers.LlamaConfig(**SHAPE, bos_token_id=0, eos_token_id=1), ["<s>", "</s>", "<unk>"], 1,
        {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "do_sample": True, "temperature": 0.6, "top_p": 0.9},
        {"bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False,
                       "single_word": False}, "eos_token": "</s>", "unk_token": "<unk>", "chat_template": INST},
        begins=True),
    "llama-of-deepseek": lambda: Form(      # tokenizer_config.json says what tokenizer.json does not do
        transformers.LlamaConfig(**SHAPE, bos_token_id=0, eos_token_id=1), ["<|begin|>", "<|end|>"], 1,
        {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.6, "top_p": 0.95},
        {"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": True, "add_eos_token": False}),
    "mistral": lambda: Form(
        transformers.MistralConfig(**SHAPE, sliding_window=None, bos_token_id=0, eos_token_id=1),
        ["<s>", "</s>", "<unk>"], 1, {"bos_token_id": 0, "eos_token_id": 1},
        {"bos_token": "<s>", "eos_token": "</s>", "chat_template": INST}, begins=True),
    "qwen2.5": lambda: Form(
        transformers.Qwen2Config(**SHAPE, tie_word_embeddings=True, bos_token_id=0, eos_token_id=2),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 2,
        {"bos_token_id": 0, "pad_token_id": 0, "eos_token_id": [2, 0], "do_sample": True, "temperature": 0.7,
         "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.3},
        {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}),
    "qwen3": lambda: Form(
        transformers.Qwen3Config(**SHAPE, head_dim=12, bos_token_id=0, eos_token_id=2),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 2,
        {"bos_token_id": 0, "pad_token_id": 0, "eos_token_id": [2, 0], "do_sample": True, "temperature": 0.6,
         "top_p": 0.95, "top_k": 20},
        {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, template=CHATML),
    "smollm2": lambda: Form(
        transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 2,
        {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
        {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "chat_template": CHATML}),
    "gpt2": lambda: Form(
        transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=48, n_layer=2, n_head=4, n_positions=CONTEXT,
                                bos_token_id=0, eos_token_id=0), ["<|endoftext|>"], 0, None,
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
}


def published(folder: Path, name: str) -> Path:
    """A model's folder. What it writes after PROMPT ends with the token of its turns before NEW tokens are written."""
    form = FORMS[name]()
    tokenizer(tuple(form.special), form.begins).save(str(made(folder) / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **form.tokenizer}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if form.template:
        (folder / "chat_template.jinja").write_text(form.template)
    model = stir(transformers.AutoModelForCausalLM.from_config(form.config))
    end_a_turn(model, transformers.AutoTokenizer.from_pretrained(folder), form)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    if form.generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(form.generation))
    return folder


def end_a_turn(model, cut, form: Form) -> None:
    """Give the turn's end the row of a token that the model writes after some others, and that token the end's."""
    given = cut(PROMPT, return_tensors="pt")
    penalty = (form.generation or {}).get("repetition_penalty", 1.0)
    out = model.generate(**given, max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0,
                         repetition_penalty=penalty)[0].tolist()
    begun = given["input_ids"].shape[1]
    written = next(token for place, token in enumerate(out) if place >= begun + 4 and token not in out[:place]
                   and token >= len(form.special))
    with torch.no_grad():
        for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            weight[[written, form.turn]] = weight[[form.turn, written]]


@cache
def tokenizer(special: tuple[str, ...], begins: bool) -> Tokenizer:
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.train_from_iterator(toy_tokens.texts(300, seed=1), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if begins:
        found.post_processor = processors.TemplateProcessing(single=f"{special[0]} $A",
                                                             special_tokens=[(special[0], 0)])
    return found


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
