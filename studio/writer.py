"""Writer: one model that writes in a thread, token by token, and stays open for the next text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from engine import files
from engine.runs.sources import Source, open_writer
from studio.background import Background

Edition = tuple[Source, int | None]


def edition(source: Source) -> Edition:
    """A source and when it was written (ns): what is exported again under its name is another model."""
    for path in (source.folder / files.MANIFEST, source.folder / "config.json"):
        try:
            return source, path.stat().st_mtime_ns
        except OSError:
            continue
    return source, None


class Writer:
    """`begin`, then look at `written` and ask `take` at each tick."""

    def __init__(self) -> None:
        self._work = Background()
        self._model: tuple[Edition | None, Any] = (None, None)
        self._halt = False
        self.written: list[tuple[float, Any]] = []  # (moment, token): the thread appends, the tick reads

    @property
    def busy(self) -> bool:
        return self._work.busy

    def begin(self, source: Source, ask: Callable[[Any], Iterator[Any]]) -> bool:
        """Start to write what `ask` gets from the model; False, and nothing done, while it writes already."""
        if self.busy:
            return False
        written: list[tuple[float, Any]] = []

        def work() -> None:
            asked = edition(source)     # before it is read: what is written meanwhile is read the next time
            if self._model[0] != asked:
                self._model = (None, None)
                self._model = (asked, open_writer(source))
            for token in ask(self._model[1]):
                written.append((time.perf_counter(), token))
                if self._halt:
                    return

        self.written, self._halt = written, False
        return self._work.begin(work)

    def stop(self) -> None:
        """The thread looks after each token."""
        self._halt = True

    def take(self) -> tuple[Any, str] | None:
        """As `Background.take`. A model with which something went wrong is opened anew the next time."""
        over = self._work.take()
        if over is not None and over[1]:
            self._model = (None, None)
        return over

    @property
    def tokens(self) -> list[Any]:
        return [token for _, token in self.written]

    @property
    def speed(self) -> float | None:
        """Tokens a second from the first to the last: the prompt and the loading are left out."""
        if len(self.written) < 2 or self.written[-1][0] <= self.written[0][0]:
            return None
        return (len(self.written) - 1) / (self.written[-1][0] - self.written[0][0])
