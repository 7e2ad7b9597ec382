"""Mixture: how much of the text each source makes up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from engine.config import setting
from engine.corpus import STEPS, Looked, Whole

if TYPE_CHECKING:
    import pyarrow as pa


@STEPS.add("mixture")
class Mixture(Whole):
    """Gives each source its share of the text: by its weight, or by a temperature over its size.

    By weight, sources of weight 3 and 1 make up three quarters and one quarter, whatever their sizes. By temperature
    T, shares go by weight × size^(1/T), as in XLM-R and mT5 (Conneau et al. 2020; Xue et al. 2021): 1 keeps the
    proportions, a large one evens them out. What has to be more is repeated, what has to be less is cut, the same way
    every time. Four epochs teach nearly as much as new text (Muennighoff et al. 2023); beyond `max_epochs` a source is
    not repeated, and the others fill its place. Put it last: what follows would undo the shares. The copies of a
    document fall on one side of the split, so what is held out has the shares too. A weight per document is no setting of training: it is sampled here.
    """

    mitigates: ClassVar[bool] = True
    sees_sources: ClassVar[bool] = True
    by: Literal["weight", "temperature"] = setting("weight", "What a source's share goes by: its weight alone, or its "
                                                             "weight and its size")
    temperature: float = setting(3.3, "How even shares by temperature are; 1 keeps the proportions, mT5 took 3.3",
                                 ge=1, le=1000)
    max_epochs: float = setting(4.0, "Most often that a source's text is in the dataset", ge=1, le=100, unit="epochs")
    megabytes: float = setting(0.0, "Text of the dataset; 0 for as much as there is", ge=0, unit="MB")

    def look(self, batch: pa.Table) -> pa.Table:
        import numpy as np
        import pyarrow.compute as pc

        from engine.corpus.shares import notes

        coded = pc.dictionary_encode(batch["source"]).combine_chunks()
        noted = notes(batch, np.zeros(len(batch), np.int32))
        return noted.append_column("source", coded)

    def decide(self, looked: Looked) -> Iterator[pa.Table]:
        import numpy as np

        from engine.corpus.shares import copies, epochs, gathered, table, verdicts

        sources = list({id(source): source for source in looked.sources.values()}.values())
        place = {id(source): at for at, source in enumerate(sources)}
        of_file = {name: place[id(source)] for name, source in looked.sources.items()}
        parts = [np.array([of_file[name] for name in table["source"].to_pylist()], np.int64)
                 for table in looked.tables(["source"])]
        _, sizes, keys = gathered(looked)
        kinds = np.concatenate([*parts, np.empty(0, np.int64)])
        amounts = np.bincount(kinds, sizes, len(sources))
        weights = [source.weight for source in sources]
        if self.by == "temperature":
            wanted = [weight * amount ** (1 / self.temperature)
                      for weight, amount in zip(weights, amounts, strict=True)]
        else:
            wanted = list(weights)
        times = epochs(amounts.tolist(), wanted, self.megabytes * 1e6 or float(amounts.sum()), self.max_epochs)
        taken = copies(kinds, sizes, keys, times)
        told = table("source", [source.path for source in sources], kinds, sizes, taken, weights)
        yield from verdicts(looked, taken, "more than its source's share of the mixture", told)

    def judge(self, batch: pa.Table, verdict: pa.Table) -> pa.Table:
        from engine.corpus.shares import repeated

        return repeated(batch, verdict)
