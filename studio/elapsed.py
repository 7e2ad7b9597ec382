"""Elapsed: how long a run has trained, without the hours in which it was stopped, paused or dead."""

from __future__ import annotations

import numpy as np

from studio.watch import Feed


def elapsed(feed: Feed, moments: np.ndarray) -> np.ndarray:
    """Seconds of training at `moments`, given in seconds since the epoch: 0 at the first row of the run.

    Each "running" event but the first ends a time without training, from the last row before it to the first one
    after: whatever ended the work, an event that says so may be missing, and a row is not.
    """
    times = [each.axis("time") for each in feed.series.values() if each.length]
    if not times:
        return np.zeros(len(moments))
    longest = max(times, key=len)
    begin, end = min(each[0] for each in times), max(each[-1] for each in times)
    corners, passed = [begin], [0.0]
    for event in feed.told("state"):
        place = int(np.searchsorted(longest, event.get("time", 0.0)))
        if event.get("state") != "running" or not 0 < place < len(longest) or longest[place - 1] <= corners[-1]:
            continue
        seconds = passed[-1] + longest[place - 1] - corners[-1]
        corners += [longest[place - 1], longest[place]]
        passed += [seconds, seconds]
    return np.interp(moments, [*corners, end], [*passed, passed[-1] + max(0.0, end - corners[-1])])


def trained_seconds(feed: Feed) -> float | None:
    """All of it so far; None before the first row."""
    ends = [each.axis("time")[-1] for each in feed.series.values() if each.length]
    return float(elapsed(feed, np.array([max(ends)]))[0]) if ends else None
