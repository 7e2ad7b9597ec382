"""Our `Encoder` and the batch encoding of tokenizers, on the same texts with the same vocabulary.

    python encode.py DOCUMENTS.jsonl

CPU seconds of all threads; both begin with a first batch that is not counted. A vocabulary of 16,384 is trained on a
part of the texts.
"""

from __future__ import annotations

import json
import sys
import time

from engine.tokens import TokensConfig
from engine.tokens.encoder import Encoder
from engine.tokens.tokenizer import train

BATCH = 1000
TRAINED_ON = 8_000_000
VOCABULARY = 16_384


def main(path: str) -> None:
    with open(path) as lines:
        texts = [json.loads(line)["text"] for line in lines]
    part, size = [], 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size > TRAINED_ON:
            break
    tokenizer = train([part], TokensConfig(vocab_size=VOCABULARY))
    encode = Encoder(tokenizer)  # one for all batches, as `tokenize` has it
    batches = [texts[start:start + BATCH] for start in range(0, len(texts), BATCH)]
    spent = {"ours": 0.0, "tokenizers": 0.0}
    tokens = different = 0
    for number, batch in enumerate([batches[0], *batches]):
        begun = time.process_time()
        mine = encode(batch)
        between = time.process_time()
        theirs = [found.ids for found in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
        ended = time.process_time()
        if number:
            spent["ours"] += between - begun
            spent["tokenizers"] += ended - between
            tokens += sum(map(len, theirs))
            different += sum(a.tolist() != b for a, b in zip(mine, theirs, strict=True))
    size = sum(len(text.encode()) for text in texts)
    print(f"  {size / 1e6:.0f} MB, {tokens} tokens, vocabulary {VOCABULARY}")
    for side, seconds in spent.items():
        print(f"  {side:12}{seconds:9.1f} CPU seconds, {size / 1e6 / seconds:7.1f} MB a second")
    print(f"  tokenizers need {spent['tokenizers'] / spent['ours']:.2f} times our CPU seconds; "
          f"{different} of {len(texts)} texts have other ids")


if __name__ == "__main__":
    main(sys.argv[1])
