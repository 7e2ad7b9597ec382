"""Background: one piece of work in a thread, asked for its result by the page's tick."""

from __future__ import annotations

import threading
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
