"""Near: documents that say almost the same as another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from engine.config import setting
from engine.corpus import STEPS, Looked, Whole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

REASON = "nearly the same text as another document"


@STEPS.add("near_duplicates")
class NearDuplicates(Whole):
    """Keeps one of documents that resemble each other, by MinHash and banding (Broder 1997; Lee et al. 2022).

    The similarity of two texts is the share of their shingles (runs of words, without case and
    punctuation) that both have: with 5 words a shingle, one word in 20 changed leaves about 0.63, one
    in 50 about 0.83. A candidate found by the bands is verified by its whole signature before it joins
    a cluster. Of a cluster all but one document are dropped, or none, and then all are on one side of
    the split. Memory is about 0.2 GB for a million documents, whatever their length.
    """

    similarity: float = setting(0.6, "Similarity from which on two documents are near duplicates", ge=0.2, le=1)
    keep: Literal["longest", "first", "all"] = setting(
        "longest", "Which document of a cluster stays; all drops none, tags them and holds them on one side")
    shingle: int = setting(5, "Words of a shingle", ge=1, le=50, unit="words")
    num_hashes: int = setting(112, "Numbers of a signature: more tell similarities apart more sharply",
                              ge=16, le=1024, advanced=True)

    def look(self, batch: pa.Table) -> pa.Table:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        from daft.functions import minhash

        from engine.corpus.columns import column, compute
        from engine.corpus.dedupe import digests
        from engine.corpus.minhash import band_keys, banding
        from engine.corpus.words import plain

        words = plain(column("text"))
        made = compute(batch, {"signature": minhash(words, num_hashes=self.num_hashes, ngram_size=self.shingle),
                               "empty": words == ""})
        signatures = made["signature"].combine_chunks().flatten().to_numpy().reshape(-1, self.num_hashes)
        own = np.frombuffer(b"".join(digest[:8] for digest in digests(batch["text"])), ">u8").astype(np.uint64)
        bands, rows = banding(self.similarity, self.num_hashes)
        keys = band_keys(signatures, bands, rows)
        empty = made["empty"].to_numpy()
        keys[empty] = own[empty, None]                    # signs alone are like their copies, not like each other
        short = signatures.astype(np.uint8)
        return pa.table({
            "id": batch["id"], "source": batch["source"],
            "length": pc.utf8_length(batch["text"]).cast(pa.int64()), "digest": pa.array(own),
            "short": pa.FixedSizeBinaryArray.from_buffers(pa.binary(self.num_hashes), len(batch),
                                                          [None, pa.py_buffer(short.tobytes())]),
            **{f"band {band}": pa.array(keys[:, band]) for band in range(bands)}})

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa

        from engine.corpus.dedupe import values_of
        from engine.corpus.minhash import alike, banding, clusters

        bands, _ = banding(self.similarity, self.num_hashes)
        lengths, digests = (_all(looked, name) for name in ("length", "digest"))
        if not len(lengths):
            return
        short = np.empty((len(lengths), self.num_hashes), np.uint8)
        start = 0
        for table in looked.tables(["short"]):
            part = table["short"].combine_chunks()
            flat = np.frombuffer(part.buffers()[1], np.uint8)
            begin = part.offset * self.num_hashes
            short[start:start + len(part)] = flat[begin:begin + len(part) * self.num_hashes].reshape(len(part), -1)
            start += len(part)
        first = clusters(len(short), bands, lambda band: _all(looked, f"band {band}"), short, self.similarity)

        sizes = np.bincount(first, minlength=len(first))
        members = np.flatnonzero(sizes[first] > 1)        # of clusters, in the corpus' order
        number = np.cumsum(sizes > 1) - 1                 # clusters are counted in the order of their first members
        kept = _kept(first, members, lengths if self.keep == "longest" else None)
        near = alike(short, members, kept[members])
        dropped = (members != kept[members]) & (self.keep != "all")
        leaders, told = np.unique(kept[members]), dropped | (self.keep == "all")
        names, sources = (values_of(looked, leaders, name) for name in ("id", "source"))
        begin = 0
        for table in looked.tables(["length"]):
            inside = slice(*np.searchsorted(members, [begin, begin + len(table)]))
            at, own, tell = members[inside] - begin, members[inside], told[inside]
            reason, cluster, stays, lost_to, share, group = ([None] * len(table) for _ in range(6))
            for place, member, is_dropped, is_told, likeness in zip(
                    at.tolist(), own.tolist(), dropped[inside].tolist(), tell.tolist(), near[inside].tolist(),
                    strict=True):
                group[place] = int(digests[first[member]])
                if is_told:
                    cluster[place], stays[place] = int(number[first[member]]), names[int(kept[member])]
                    lost_to[place], share[place] = sources[int(kept[member])], likeness
                    reason[place] = REASON if is_dropped else None
            yield pa.table({"reason": pa.array(reason, pa.large_string()), "cluster": pa.array(cluster, pa.int64()),
                            "kept": pa.array(stays, pa.string()), "kept_source": pa.array(lost_to, pa.string()),
                            "similarity": pa.array(share, pa.float32()),
                            "group": pa.array(group, pa.uint64())})
            begin += len(table)


def _all(looked: Looked, name: str) -> np.ndarray:
    import numpy as np

    parts = [table[name].to_numpy() for table in looked.tables([name])]
    return np.concatenate(parts) if parts else np.empty(0)


def _kept(first: np.ndarray, members: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """For each document the one of its cluster that is kept: the first, or the first of the longest."""
    import numpy as np

    kept = first.copy()
    if lengths is not None:
        best = members[np.lexsort((members, -lengths[members], first[members]))]
        leaders = best[np.append(True, first[best][1:] != first[best][:-1])] if len(best) else best
        kept[first[leaders]] = leaders
        kept[members] = kept[first[members]]
    return kept
