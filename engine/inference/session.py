"""Session: the ONNX graph at work, with keys and values in buffers that it extends in place.

Copying the past at every step would cost more than a small model's arithmetic. A native graph is told
to read and to write the same memory, which its attention takes as leave to append. A portable one
gives a new past at every step, which is handed back to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil

from engine.config import UserError

PREFILL_TOKENS = 512            # of a prompt read at once
WORTH_ASKING_BYTES = 1 << 28    # of a cache: below it, the machine isn't asked whether there is room
ONE_CORE_BYTES = 15 << 20       # below it, handing work to a second core takes longer than the work, token by token


def options_for(path: Path, threads: int = 0) -> onnxruntime.SessionOptions:
    """How a graph's file is run; `threads` 0 chooses by its size."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4      # what goes wrong is raised, and told in one sentence
    if threads or path.stat().st_size < ONE_CORE_BYTES:
        options.intra_op_num_threads = threads or 1
    return options


class Session:
    """A decoder's graph: token ids in, logits out; with an .onnx_adapter file switched on if one is given.

    Raises UserError if onnxruntime cannot read the file or if it isn't a graph of ours.
    """

    def __init__(self, path: Path, threads: int = 0, adapter: Path | None = None) -> None:
        try:
            # It reads external weights from the graph's own folder alone; a test holds that.
            self._run = onnxruntime.InferenceSession(str(path), options_for(path, threads),
                                                     providers=["CPUExecutionProvider"])
            # Names that are no UTF-8 are found only when they are asked for.
            given = {value.name: value.shape for value in self._run.get_inputs()}
            wide = next((value.shape for value in self._run.get_outputs() if value.name == "logits"), None)
            about = self._run.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime's errors share no base class of their own
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{path} could not be read by onnxruntime ({reason}); export the bundle again.",
                            where=str(path)) from None
        self.caches = [name.removeprefix("past_key_values.") for name in given if name.startswith("past_key_values.")]
        shapes = [given[f"past_key_values.{name}"] for name in self.caches]
        if ({"input_ids", "attention_mask", "position_ids"} - set(given) or not shapes or wide is None
                or len(shapes[0]) != 4 or not all(isinstance(size, int) and size > 0 for size in
                                                  (*shapes[0][1::2], *wide[-1:]))):
            raise UserError(f"{path} is no decoder with a cache; export the bundle again.", where=str(path))
        self.vocab_size = wide[-1]
        _, self.num_kv_heads, _, self.head_size = shapes[0]
        self.adapter = self._read_adapter(adapter) if adapter else {}
        self.appends = about.get("target") != "portable"

    def _read_adapter(self, path: Path) -> dict[str, onnxruntime.OrtValue]:
        """The adapter's matrices by the inputs that take them.

        They are given as inputs, as onnxruntime itself does for RunOptions.add_active_adapter: that has no way into
        a run with bound buffers.
        """
        try:
            found = onnxruntime.AdapterFormat.read_adapter(str(path)).get_parameters()
        except Exception as error:  # onnxruntime's errors share no base class of their own
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{path} could not be read by onnxruntime ({reason}); export the bundle again.",
                            where=str(path)) from None
        takes = {value.name: value.shape for value in self._run.get_overridable_initializers()}
        for name, value in found.items():
            given, wanted = value.shape(), takes.get(name, [])
            fits = len(given) == len(wanted) and all(size == other for size, other in zip(given, wanted, strict=True)
                                                     if isinstance(other, int))
            if not fits or value.data_type() != "tensor(float)":
                raise UserError(f"{path} holds {name}, for which this graph has no place; export the bundle again.",
                                where=str(path))
        return found

    def logits(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Logits (B, T, V) of rows of tokens (B, T); `mask` (B, T) is 0 at padding, on either side."""
        empty = np.zeros((len(ids), self.num_kv_heads, 0, self.head_size), np.float32)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(-1) - 1, 0),
                  **{f"past_key_values.{name}": empty for name in self.caches}, **self.adapter}
        with told():
            return self._run.run(["logits"], inputs)[0]

    def step(self, ids: np.ndarray, mask: np.ndarray,
             past: list[np.ndarray] | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
        """Logits (B, V) after the last of the tokens (B, T) of several rows, padded on the left, and the new past.

        `mask` (B, P + T). With a past T must be 1: the attention of native graphs takes no more of several rows.
        """
        assert past is None or ids.shape[1] == 1
        empty = np.zeros((len(ids), self.num_kv_heads, 0, self.head_size), np.float32)
        names = [f"present.{name}" for name in self.caches]
        positions = np.maximum(mask.cumsum(-1) - 1, 0)[:, -ids.shape[1]:]
        past = past or [empty] * len(names)
        if ids.shape[1] > 1:
            past = self._several(names, ids[:, :-1], mask[:, :-1], positions[:, :-1], past, only_the_cache())
        logits, *present = self._several(["logits", *names], ids[:, -1:], mask, positions[:, -1:], past)
        return logits[:, -1], present

    def _several(self, outputs: list[str], ids: np.ndarray, mask: np.ndarray, positions: np.ndarray,
                 past: list[np.ndarray], options: onnxruntime.RunOptions | None = None) -> list[np.ndarray]:
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **self.adapter,
                  **{f"past_key_values.{name}": value for name, value in zip(self.caches, past, strict=True)}}
        with told():
            return self._run.run(outputs, inputs, options)

    @property
    def token_bytes(self) -> int:
        """Of keys and values, for each token of a text."""
        return 4 * len(self.caches) * self.num_kv_heads * self.head_size

    def cache(self, capacity: int) -> Cache:
        """An empty cache with room for `capacity` tokens. Raises UserError where the machine's memory has none."""
        wanted = (capacity * (16 + self.token_bytes)
                  + 4 * self.vocab_size * min(capacity, PREFILL_TOKENS))
        try:
            if wanted < WORTH_ASKING_BYTES or wanted < psutil.virtual_memory().available:
                return (Cache if self.appends else GrowingCache)(self, self._run, capacity)
        except MemoryError:
            pass
        raise UserError(f"keys and values of {capacity:,} tokens take {wanted / 2**30:,.1f} GiB, and this machine has "
                        "no room for them; ask for fewer new tokens.", where="max_new_tokens")


def only_the_cache() -> onnxruntime.RunOptions:
    """Leave out what no bound output needs. Of a prompt, only its last token's logits are looked at: the head, a
    quarter of a small model, is not multiplied with the others."""
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


class Cache:
    """One text as the model has read it: keys and values of its tokens, in buffers of a fixed size."""

    def __init__(self, session: Session, run: Any, capacity: int) -> None:
        self._run, self._session = run, session
        self.capacity, self.length, self.vocab_size = capacity, 0, session.vocab_size
        self._mask = np.ones((1, capacity), np.int64)
        self._positions = np.arange(capacity, dtype=np.int64)[None]
        self._unread, self._place = np.empty((1, 1), np.int64), np.empty((1, 1), np.int64)
        self._logits = np.empty((1, 1, self.vocab_size), np.float32)
        self._begin()
        # Binding takes longer than writing: what one token needs is bound once.
        self._one = self._binding()
        self._bind(self._one, "input_ids", self._unread)
        self._bind(self._one, "position_ids", self._place)
        self._one.bind_output("logits", "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)

    def _begin(self) -> None:
        shape = (1, self._session.num_kv_heads, self.capacity, self._session.head_size)
        self._buffers = {name: onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                         for name in self._session.caches}

    def _binding(self) -> Any:
        """The buffers and the adapter, bound."""
        binding = self._run.io_binding()
        for name, value in self._session.adapter.items():
            binding.bind_ortvalue_input(name, value)
        for name, buffer in self._buffers.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", buffer)
            binding.bind_ortvalue_output(f"present.{name}", buffer)
        return binding

    @staticmethod
    def _bind(binding: Any, name: str, array: np.ndarray) -> None:
        binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Append tokens (T,) and return the logits (V,) of the one after them, valid until the next call."""
        assert 0 < len(ids) <= self.capacity - self.length, "the cache is too small"
        for start in range(0, len(ids) - 1, PREFILL_TOKENS):
            self._append(np.ascontiguousarray(ids[None, start:min(start + PREFILL_TOKENS, len(ids) - 1)], np.int64))
        self._unread[0], self._place[0] = ids[-1], self.length
        self._one.bind_cpu_input("attention_mask", self._mask[:, :self.length + 1])
        self._step(self._one)
        self.length += 1
        return self._logits[0, -1]

    def parts(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Append tokens (T,) part by part; gives the logits (P, V) after each of a part."""
        assert 0 < len(ids) <= self.capacity - self.length, "the cache is too small"
        for start in range(0, len(ids), PREFILL_TOKENS):
            part = np.ascontiguousarray(ids[None, start:start + PREFILL_TOKENS], np.int64)
            logits = np.empty((1, part.shape[1], self.vocab_size), np.float32)
            self._append(part, logits)
            yield logits[0]

    def _append(self, ids: np.ndarray, logits: np.ndarray | None = None) -> None:
        """Read tokens (1, T); their logits go into `logits` (1, T, V), if anybody asks for them."""
        binding, end = self._binding(), self.length + ids.shape[1]
        self._bind(binding, "input_ids", ids)
        self._bind(binding, "position_ids", self._positions[:, self.length:end])
        self._bind(binding, "attention_mask", self._mask[:, :end])
        if logits is not None:
            binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._step(binding, only_the_cache() if logits is None else None)
        self.length = end

    def _step(self, binding: Any, options: onnxruntime.RunOptions | None = None) -> None:
        with told():
            self._run.run_with_iobinding(binding, options)


class GrowingCache(Cache):
    """A cache that the graph gives anew at every step, longer by the new tokens."""

    def _begin(self) -> None:
        empty = np.zeros((1, self._session.num_kv_heads, 0, self._session.head_size), np.float32)
        self._buffers = {name: onnxruntime.OrtValue.ortvalue_from_numpy(empty) for name in self._session.caches}

    def _binding(self) -> Any:
        binding = self._run.io_binding()
        for name, value in self._session.adapter.items():
            binding.bind_ortvalue_input(name, value)
        return binding

    def _step(self, binding: Any, options: onnxruntime.RunOptions | None = None) -> None:
        for name, value in self._buffers.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_output(f"present.{name}", "cpu")
        super()._step(binding, options)
        made = binding.get_outputs()[-len(self._buffers):]      # behind the logits, where they are bound
        self._buffers = dict(zip(self._buffers, made, strict=True))


@contextmanager
def told() -> Iterator[None]:
    """What onnxruntime says while it runs a graph, in one sentence."""
    try:
        yield
    except Exception as error:  # onnxruntime's errors share no base class of their own
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"onnxruntime could not run the model ({reason}); export the bundle again.") from None
