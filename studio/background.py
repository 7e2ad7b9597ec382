"""Background: work in a thread, asked for its result by the page's tick: one piece, or the newest question's."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from engine.config import UserError


class Background:
    """Work that would block the studio. The thread touches nothing but this object; whoever ticks calls `take`."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: tuple[Any, str] | None = None

    @property
    def busy(self) -> bool:
        """Work was begun, and its result was not taken yet."""
        return self._thread is not None

    def begin(self, work: Callable[[], Any]) -> bool:
        """Start the work; False, and nothing done, while there is some already."""
        if self.busy:
            return False
        self._done = None
        self._thread = threading.Thread(target=self._do, args=(work,), daemon=True)
        self._thread.start()
        return True

    def take(self) -> tuple[Any, str] | None:
        """The result and the sentence of what went wrong (one of them is empty), once; None while it is not over."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread.join()
        self._thread = None
        return self._done

    def wait(self, timeout_seconds: float = 60) -> None:
        """Sleep until the work is over; for tests."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _do(self, work: Callable[[], Any]) -> None:
        try:
            self._done = (work(), "")
        except UserError as error:
            self._done = (None, error.sentence)
        except Exception as error:
            traceback.print_exc()
            self._done = (None, f"{type(error).__name__}: {error}. The studio's log has the details.")


class Latest:
    """The answer to the newest question. One that was overtaken while it was worked on is thrown away.

    Work begins when no question came for `quiet_seconds`, so that a form may be typed into. Like `Background`
    it is driven by whoever ticks: `answer` begins what is due and gives what is ready.
    """

    def __init__(self, quiet_seconds: float = 0.0) -> None:
        self.quiet_seconds = quiet_seconds
        self._work = Background()
        self._asked: tuple[Any, Callable[[], Any]] | None = None    # not begun yet
        self._begun: Any = None
        self._since = 0.0
        self.question: Any = None

    @property
    def busy(self) -> bool:
        """The newest question has no answer yet."""
        return self._asked is not None or self._work.busy

    def ask(self, question: Any, work: Callable[[], Any]) -> bool:
        """Want the result of `work`; False, and nothing changed, if this question is the newest already."""
        if question == self.question:
            return False
        self.question, self._asked, self._since = question, (question, work), time.monotonic()
        return True

    def again(self) -> None:
        """Let the newest question be asked once more."""
        self.question = None

    def answer(self) -> tuple[Any, str] | None:
        """The result and the sentence of what went wrong (one of them is empty), once; None while there is none."""
        over = self._work.take()
        fresh = over if over and self._asked is None and self._begun == self.question else None
        if self._asked and not self._work.busy and time.monotonic() - self._since >= self.quiet_seconds:
            self._begun, work = self._asked
            self._asked = None
            self._work.begin(work)
        return fresh

    def wait(self, timeout_seconds: float = 60) -> None:
        """Sleep until the work that was begun is over; for tests."""
        self._work.wait(timeout_seconds)
