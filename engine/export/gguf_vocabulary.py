"""GGUF vocabulary: a tokenizer.json as llama.cpp wants it, or the sentence that says why it can't have it.

llama.cpp holds the patterns that cut a text into words in its own code; a file only names one of
them. A tokenizer with another pattern would be read without a word and cut every text otherwise
than the model was taught, so that it is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import files
from engine.config import UserError
from engine.model.special import Special, special
from engine.tokens import tokenizer as tokenizers

ROLES = ("eos", "eot", "eom")       # the ends of a text, a turn and a message: llama.cpp stops at each of them
END_OF_MESSAGE = "<|eom_id|>"
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5      # kinds of tokens, in llama.cpp's numbers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS = r"\p{N}"
_QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
_LLAMA3 = _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

PATTERNS: dict[tuple[tuple[str, ...], bool], str] = {
    ((_GPT2,), False): "gpt-2",                 # Radford et al. 2019; what is trained here
    ((_DIGITS, _GPT2), False): "smollm",
    ((_QWEN2,), False): "qwen2",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "dbrx",                # the pattern of Llama 3, but every word is merged from its bytes
}
"""llama.cpp's name for the patterns, and for whether a word that is a token as it stands is taken whole."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer."""

    pattern: str                # of PATTERNS
    tokens: list[str]           # one for each row of the embedding
    kinds: list[int]
    merges: list[str]
    ends: list[int]             # of a text, and for a chat model of a turn; at most one for each of ROLES
    begin: int                  # begins one; the end, where the model has no other
    pad: int
    add_begin: bool             # whether llama.cpp puts it before every text by itself
    add_end: bool


def vocabulary(path: Path, vocab_size: int) -> Vocabulary:
    """The tokenizer.json at `path`, for a model of `vocab_size` rows.

    Raises UserError, saying why, when llama.cpp would not cut texts as the tokenizer does.
    """
    values = files.read_json(path)
    model, added = values["model"], values.get("added_tokens") or []
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _refused("it is no byte-level BPE")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise _refused("it marks where words begin or end")
    if any(token.get("lstrip") or token.get("rstrip") or token.get("single_word") for token in added):
        raise _refused("one of its added tokens takes the spaces around it, or stands for whole words alone")
    pattern = PATTERNS.get((_cuts(values.get("pre_tokenizer")), bool(model.get("ignore_merges"))))
    if pattern is None:
        raise _refused("llama.cpp does not know the pattern by which it cuts texts into words")
    # Qwen2's first composes characters; llama.cpp does not, nor do the files that its own converter makes.
    if values.get("normalizer") and not (pattern == "qwen2" and values["normalizer"].get("type") == "NFC"):
        raise _refused("it changes texts before it cuts them")
    stated = special(path, vocab_size)
    ends = _ends(stated, {token["id"]: token["content"] for token in added})
    before, after = _around(path)
    if len(before) > 1 or after not in ([], ends[:1]):
        raise _refused("it puts more around a text than one token before it and the end after it")
    tokens, kinds = _rows(model["vocab"], added, vocab_size)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    begin = before[0] if before else ends[0] if stated.begin is None else stated.begin
    return Vocabulary(pattern, tokens, kinds, merges, ends, begin, ends[0] if stated.pad is None else stated.pad,
                      bool(before), bool(after))


def _ends(stated: Special, names: dict[int, str]) -> list[int]:
    """The tokens that end what is written, a message's end last: there llama.cpp has a place for that one alone."""
    ends = sorted(dict.fromkeys(stated.ends), key=lambda number: names.get(number) == END_OF_MESSAGE)
    if not ends:
        raise _refused("it has no token that ends a text")
    if len(ends) > len(ROLES):
        raise _refused(f"{len(ends)} of its tokens end what is written, and those files have room for {len(ROLES)}")
    return ends


def _refused(why: str) -> UserError:
    return UserError(f"No GGUF file was made, because llama.cpp would not cut texts as the model's tokenizer does: "
                     f"{why}; use the ONNX files, or train the tokenizer here.", where="export.gguf")


def _cuts(pre: Any) -> tuple[str, ...]:
    """The patterns by which a pre-tokenizer cuts, one after the other; ("",) for one that does anything else."""
    if not isinstance(pre, dict):
        return ("",)
    found = []
    for part in pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]:
        kind, pattern = part.get("type"), part.get("pattern")
        if kind == "ByteLevel" and not part.get("add_prefix_space", True):
            found += [_GPT2] if part.get("use_regex", True) else []
        elif kind == "Digits" and part.get("individual_digits"):
            found.append(_DIGITS)
        elif kind == "Split" and isinstance(pattern, dict) and "Regex" in pattern \
                and part.get("behavior") == "Isolated" and not part.get("invert"):
            found.append(pattern["Regex"])
        else:
            return ("",)
    return tuple(found)


def _around(path: Path) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before a text and after it."""
    tokenizer = tokenizers.load(path)
    bare, whole = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    place = next((i for i in range(len(whole)) if whole[i:i + len(bare)] == bare), 0)
    return whole[:place], whole[place + len(bare):]


def _rows(known: dict[str, int], added: list[dict[str, Any]], vocab_size: int) -> tuple[list[str], list[int]]:
    """The tokens by their ids and their kinds; rows that stand for no token get a name that no text has."""
    tokens, kinds = [f"[PAD{i}]" for i in range(vocab_size)], [UNUSED] * vocab_size
    found = [(token, i, NORMAL) for token, i in known.items()]
    found += [(token["content"], token["id"], CONTROL if token.get("special") else USER_DEFINED) for token in added]
    for token, i, kind in found:
        if i >= vocab_size:
            raise _refused(f"it has the token {i}, and the model knows {vocab_size:,}")
        tokens[i], kinds[i] = token, kind
    return tokens, kinds
