"""Contenders: the ways of running a model, each in a process of its own that reads and writes whenever it is told to.

    python -P contenders.py KIND PATH PROMPT_TOKENS NEW_TOKENS VOCAB_SIZE [OPTION]

It says on stdout, in lines of JSON, how long the model took to load ({"load_seconds"}), and after each line on stdin
how long one text took: {"first", "rest", "tokens"} as in `engine.inference.speed.Turn`, and {"peak_bytes"}, the most
memory that the process had so far. The interpreters of other environments run this file too: it needs nothing but the
standard library, and what a kind needs is imported by that kind.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Turn = tuple[float, float, list[int]]


class Task:
    """What is to be run. A kind calls `loading` when its libraries are imported, and returns what makes one turn."""

    def __init__(self, path: str, prompt_tokens: int, new_tokens: int, vocab_size: int, option: str = "") -> None:
        self.path, self.option = path, option
        self.prompt, self.new_tokens = [number % vocab_size for number in range(prompt_tokens)], new_tokens
        self.begun = time.perf_counter()

    @property
    def length(self) -> int:
        return len(self.prompt) + self.new_tokens

    def loading(self) -> None:
        self.begun = time.perf_counter()

    def timed(self, tokens: Callable[[], Iterable[int]]) -> Callable[[], Turn]:
        """A turn of something that gives one token after the other."""

        def once() -> Turn:
            begun = first = time.perf_counter()
            found: list[int] = []
            for token in tokens():
                found.append(token)
                if len(found) == 1:
                    first = time.perf_counter()
                if len(found) == self.new_tokens:
                    break
            return first - begun, time.perf_counter() - first, found

        return once


# The kinds ----------------------------------------------------------------------------------------------


def ours(task: Task) -> Callable[[], Turn]:
    """A bundle in our own inference; the option is its precision."""
    from engine.inference.generator import Generator
    from engine.inference.speed import turn

    task.loading()
    session = Generator(Path(task.path), precision=task.option)._session
    return lambda: turn(session, len(task.prompt), task.new_tokens)


def pytorch(task: Task) -> Callable[[], Turn]:
    """A checkpoint in our own decoder, as it writes samples in training; with the option "compiled", compiled."""
    import torch

    from engine.model.generate import stream
    from engine.model.pretrained import load

    task.loading()
    model = load(Path(task.path)).eval()
    if task.option == "compiled":
        model.hidden = torch.compile(model.hidden, dynamic=True)  # type: ignore[method-assign]
    ids = torch.tensor([task.prompt])
    return task.timed(lambda: stream(model, ids, task.new_tokens, temperature=0))


def transformers(task: Task) -> Callable[[], Turn]:
    """The checkpoint in transformers' `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    task.loading()
    return _generating(task, AutoModelForCausalLM.from_pretrained(task.path, dtype=torch.float32).eval())


def optimum(task: Task) -> Callable[[], Turn]:
    """A folder with a graph in optimum's client; the option is the graph's path in it."""
    from optimum.onnxruntime import ORTModelForCausalLM

    task.loading()
    folder, _, name = task.option.rpartition("/")
    return _generating(task, ORTModelForCausalLM.from_pretrained(task.path, subfolder=folder, file_name=name,
                                                                 use_io_binding=False))


def _generating(task: Task, model: Any) -> Callable[[], Turn]:
    import torch
    from transformers.generation.streamers import BaseStreamer

    class Moments(BaseStreamer):
        """When the prompt and each token came."""

        def __init__(self) -> None:
            self.all: list[float] = []

        def put(self, value: Any) -> None:
            self.all.append(time.perf_counter())

        def end(self) -> None:
            pass

    ids = torch.tensor([task.prompt])

    def once() -> Turn:
        moments, begun = Moments(), time.perf_counter()
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=task.new_tokens,
                              min_new_tokens=task.new_tokens, do_sample=False, pad_token_id=0, eos_token_id=None,
                              streamer=moments)
        return (moments.all[1] - begun, moments.all[-1] - moments.all[1], made[0, len(task.prompt):].tolist())

    return once


def onnxruntime(task: Task) -> Callable[[], Turn]:
    """Any decoder's graph in a plain loop, the past handed back at every step."""
    import numpy as np
    import onnxruntime as runtime

    task.loading()
    session = runtime.InferenceSession(task.path, providers=["CPUExecutionProvider"])
    shapes = {value.name: value.shape for value in session.get_inputs()}
    caches = [name for name in shapes if name.startswith("past_key_values.")]

    def tokens() -> Iterable[int]:
        unread, length = np.array([task.prompt], np.int64), len(task.prompt)
        past = [np.zeros((1, shapes[name][1], 0, shapes[name][3]), np.float32) for name in caches]
        while True:
            given = {"input_ids": unread, "attention_mask": np.ones((1, length), np.int64),
                     "position_ids": np.arange(length - unread.shape[1], length)[None]}
            logits, *past = session.run(None, {**{name: given[name] for name in given if name in shapes},
                                               **dict(zip(caches, past, strict=True))})
            token = int(logits[0, -1].argmax())
            yield token
            unread, length = np.array([[token]]), length + 1

    return task.timed(tokens)


def genai(task: Task) -> Callable[[], Turn]:
    """A folder in onnxruntime-genai; the option is the graph's path in it, where it is not the one it names itself."""
    import numpy as np
    import onnxruntime_genai as library

    task.loading()
    config = library.Config(task.path)
    if task.option:
        config.overlay(json.dumps({"model": {"decoder": {"filename": task.option}}}))
    model = library.Model(config)

    def tokens() -> Iterable[int]:
        settings = library.GeneratorParams(model)
        settings.set_search_options(do_sample=False, max_length=task.length, min_length=task.length)
        generator = library.Generator(model, settings)
        generator.append_tokens(np.array(task.prompt, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
            yield int(generator.get_next_tokens()[0])

    return task.timed(tokens)


def llama_cpp(task: Task) -> Callable[[], Turn]:
    """A GGUF file in llama.cpp's own server, called in this process (package xllamacpp), which says its own times."""
    import xllamacpp

    task.loading()
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = task.path, task.length, 1
    settings.n_gpu_layers, settings.verbosity = 0, -1
    server = xllamacpp.Server(settings)

    def once() -> Turn:
        made = server.handle_completions({"prompt": task.prompt, "n_predict": task.new_tokens, "temperature": 0,
                                          "samplers": ["temperature"], "ignore_eos": True, "cache_prompt": False,
                                          "return_tokens": True})
        times = made["timings"]
        assert times["prompt_n"] == len(task.prompt), "llama.cpp did not read the prompt anew"
        assert times["predicted_n"] == task.new_tokens, "llama.cpp stopped early"
        return times["prompt_ms"] / 1000, times["predicted_ms"] / 1000, made.get("tokens", [])

    return once


KINDS: dict[str, Callable[[Task], Callable[[], Turn]]] = {
    "ours": ours, "pytorch": pytorch, "transformers": transformers, "optimum": optimum, "onnxruntime": onnxruntime,
    "genai": genai, "llama_cpp": llama_cpp}


def peak_bytes() -> int:
    """The most memory that this process had at once, files that it maps included."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(kind: str, path: str, prompt_tokens: str, new_tokens: str, vocab_size: str, option: str = "") -> None:
    # Libraries print what they like: only what is meant for the one who asked goes there.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    task = Task(path, int(prompt_tokens), int(new_tokens), int(vocab_size), option)
    once = KINDS[kind](task)
    answer(load_seconds=time.perf_counter() - task.begun)
    for _ in sys.stdin:
        first, rest, tokens = once()
        answer(first=first, rest=rest, tokens=tokens, peak_bytes=peak_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
