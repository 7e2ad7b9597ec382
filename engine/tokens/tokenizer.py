"""Tokenizer: byte-level BPE trained on a dataset, or a published tokenizer.json.

Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) starts from the 256 bytes, so that every
text can be written in it and comes back unchanged. The file is the one of the `tokenizers` library,
which transformers, transformers.js and onnxruntime-genai read as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine import files
from engine.config import UserError
from engine.tokens import END_OF_TEXT, ENDS, TokensConfig

NUM_BYTES = 256


def train(texts: Iterable[Sequence[str]], config: TokensConfig, *, or_fewer: bool = False) -> Tokenizer:
    """The byte-level BPE of exactly `config.vocab_size` tokens that the texts, in batches, ask for.

    The same texts in the same order give the same tokenizer. END_OF_TEXT is token 0, the special
    tokens follow, then the bytes, then the merges. Raises UserError when the texts have too few
    pairs that occur twice for so many tokens, unless fewer will do.
    """
    special = [END_OF_TEXT, *config.special_tokens]
    if len(set(special)) < len(special) or "" in special:
        raise UserError(f"tokens.special_tokens must be different from one another, from {END_OF_TEXT} and not empty.",
                        where="tokens.special_tokens")
    least = NUM_BYTES + len(special)
    if config.vocab_size < least:
        raise UserError(f"tokens.vocab_size is {config.vocab_size}, but the 256 bytes and {len(special)} special "
                        f"tokens alone are {least}; choose more.", where="tokens.vocab_size")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # A pair seen once would spend a row of the embedding on something that is never trained twice.
    trainer = trainers.BpeTrainer(vocab_size=config.vocab_size, min_frequency=2, special_tokens=special,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    supported = vocab_size(tokenizer)
    if supported < config.vocab_size and not or_fewer:
        raise UserError(f"tokens.vocab_size is {config.vocab_size}, but the corpus supports only {supported} tokens; "
                        f"choose at most {supported}, or add text.", where="tokens.vocab_size")
    return tokenizer


def load(path: str | Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json, set to cut and pad nothing; a UserError if it cannot be read."""
    path = Path(path)
    try:
        if not path.is_dir():
            files.require_size(path, files.MOST_BYTES["tokenizer.json"])
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path} is missing or no file; name a tokenizer.json.", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} could not be read as text ({error}); name a tokenizer.json.",
                        where=str(path)) from None
    try:
        tokenizer = Tokenizer.from_str(text)
    except BaseException as error:  # the library raises bare Exception, and a panic that is no Exception at all
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise UserError(f"{path} is damaged or is no tokenizer.json of the tokenizers library ({error}); "
                        "restore it or name another.", where=str(path)) from None
    if not tokenizer.get_vocab_size():
        raise UserError(f"{path} has an empty vocabulary; name another tokenizer.json.", where=str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def complete(tokenizer: Tokenizer, special_tokens: Sequence[str] = ()) -> list[str]:
    """Give a loaded tokenizer what it lacks: an end of text and the special tokens.

    Returns a sentence on each thing that the user should know.
    """
    notes = []
    found = _end(tokenizer)
    if found is None:
        tokenizer.add_special_tokens([END_OF_TEXT])
        notes.append(f"The tokenizer has no token for the end of a text; {END_OF_TEXT} was added.")
    elif found != END_OF_TEXT:
        notes.append(f"The tokenizer's {found} is used as the end of a text.")
    missing = [name for name in special_tokens if tokenizer.token_to_id(name) is None]
    if missing:
        tokenizer.add_special_tokens(missing)
        notes.append(f"Added to the tokenizer: {', '.join(missing)}.")
    return notes


def end_of_text(tokenizer: Tokenizer) -> int:
    """The id of the token that ends a text."""
    found = _end(tokenizer)
    number = None if found is None else tokenizer.token_to_id(found)
    if number is None:
        raise UserError(f"the tokenizer has no special token for the end of a text, such as {END_OF_TEXT}; "
                        "choose another.", where="tokens.tokenizer")
    return number


def _end(tokenizer: Tokenizer) -> str | None:
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    return next((name for name in ENDS if name in special), None)


def vocab_size(tokenizer: Tokenizer) -> int:
    """Rows that an embedding needs: one more than the highest id, since published vocabularies have gaps."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, nothing added around them; `encoder.Encoder` is the same for batch after batch."""
    from engine.tokens.encoder import Encoder

    return [ids.tolist() for ids in Encoder(tokenizer)(texts)]


def bytes_per_token(tokenizer: Tokenizer) -> np.ndarray:
    """How many bytes of text each token stands for, (V,) float64; the end of a text stands for none.

    Right for byte-level vocabularies, whose tokens are written with one character a byte.
    """
    table = np.zeros(vocab_size(tokenizer))
    for token, i in tokenizer.get_vocab(with_added_tokens=True).items():
        table[i] = len(token)
    for i, added in tokenizer.get_added_tokens_decoder().items():
        table[i] = len(added.content.encode())
    table[end_of_text(tokenizer)] = 0
    return table


def pieces(tokenizer: Tokenizer, text: str) -> list[tuple[int, str]]:
    """The tokens of a text as (id, the characters it stands for), so that the characters make up the text again.

    A character of several tokens stands at the first of them; the others are empty.
    """
    return cut_text(tokenizer.encode(text, add_special_tokens=False), text)


def cut_text(encoding: Encoding, text: str) -> list[tuple[int, str]]:
    """The same of a text that was encoded."""
    found, done = [], 0
    for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True):
        found.append((token, text[done:max(done, end)]))
        done = max(done, end)
    return found
