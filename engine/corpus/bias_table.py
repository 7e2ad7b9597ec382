"""Bias table: a bias report as the few lines that card, command line and studio show, before beside after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTE = ("Counts of English terms over the whole text. A gap is the mean difference in association (npmi) of words that "
        "published tests use; figures in brackets are 95 % intervals.")


def digest(report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The few figures of a report that a dataset's summary and card tell; of the groups, those that one
    document in a hundred speaks of."""
    if report is None:
        return None
    sides = {"before": report["before"], "after": report["after"]}
    groups = {(group["axis"], group["group"]): {} for side in sides.values() if side for group in side["groups"]
              if 100 * group["documents"] >= side["documents"]}
    gaps: dict[str, dict[str, Any]] = {}
    for name, side in sides.items():
        for group in side["groups"] if side else ():
            if (told := groups.get((group["axis"], group["group"]))) is not None:
                told[name] = {key: group[key] for key in ("documents", "share")}
        for gap in side["gaps"] if side else ():
            gaps.setdefault(gap["axis"], {"groups": gap["groups"]})[name] = gap["size"]
    return {"before_is": report["before_is"], "cost": report["cost"],
            "groups": [{"axis": axis, "group": group, **told} for (axis, group), told in groups.items()],
            "gaps": [{"axis": axis, **told} for axis, told in gaps.items()],
            "toxic": {name: side["toxic"]["blocks"] for name, side in sides.items() if side}}


def heads(digest: Mapping[str, Any]) -> list[str]:
    """What the columns are of."""
    return [*([f"before ({digest['before_is']})"] if "before" in digest["toxic"] else []), "as it is"]


def rows(digest: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Each measure with its figure in every column."""
    sides = [side for side in ("before", "after") if side in digest["toxic"]]
    cost = digest["cost"] or {}
    found = [(f"{of}", [f"{count:,}" for count in cost[of]]) for of in cost]
    found += [(f"gap between {' and '.join(gap['groups'])}", [interval(gap.get(side), 3) for side in sides])
              for gap in digest["gaps"]]
    found.append(("blocks of 32 words with a word of abuse", [percents(digest["toxic"][side]) for side in sides]))
    found += [(f"{group['group']}: share of the mentions of {group['axis']}",
               [f"{group[side]['share']:.1%}" if side in group else "–" for side in sides])
              for group in digest["groups"]]
    return found


def interval(figure: Mapping[str, float | None] | None, digits: int) -> str:
    """0.047 (0.040 to 0.055); a dash for what is not known."""
    if figure is None or figure["value"] is None:
        return "–"
    around = f" ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})" if figure["low"] is not None else ""
    return f"{figure['value']:.{digits}f}{around}"


def percents(figure: Mapping[str, float | None]) -> str:
    """0.89 % (0.82 to 0.96)."""
    return interval({end: None if value is None else 100 * value for end, value in figure.items()}, 2).replace(
        " (", " % (") + ("" if figure["low"] is not None else " %")
