"""The corpus' speed, agreement and memory, side by side with datatrove and tokenizers.

    python benchmarks/corpus.py FOLDER [--peer PYTHON] [--only filters minhash encode near memory] [--small]

FOLDER holds text in any format that the studio reads; `texts.py` makes one. Both sides get the same documents in the
same order, in processes of their own that run at the same time, so that a busy machine troubles both alike. CPU
seconds are those of all threads, from after the imports on. What each side decided is compared document by document.
PYTHON is that of an environment with datatrove and spaCy; without it, its side is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

RULES = {                       # the same rules with the same thresholds: those of datatrove's defaults
    "gopher_repetition": ({"min_times": 1}, {}),
    "quality": ({"signs": True, "min_lines": 1, "min_words": 50, "max_words": 100_000}, {"min_stop_words": 0}),
    "c4": ({"min_line_words": 3, "min_sentences": 5}, {}),
    "fineweb": ({"max_line_characters": 0.01}, {}),
}
"""Settings of each filter: ours, and datatrove's. Its rule that stop words appear is off, since we have none."""

HASHES = ({"keep": "first", "shingle": 5, "num_hashes": 112}, {"n_grams": 5, "num_buckets": 14, "hashes_per_bucket": 8})
SIZES = (1, 2, 4, 8)
PARTS = ["filters", "minhash", "encode", "near", "memory"]


def sides(what: str, work: Path, peer: str | None, settings: tuple[dict, dict]) -> dict[str, Path]:
    """Run both sides at once; the folder of each one's verdicts and cost."""
    commands = {"ours": [sys.executable, str(HERE / "ours.py")], "peer": [peer, str(HERE / "peer.py")]}
    folders, running = {}, {}
    for (side, command), chosen in zip(commands.items(), settings, strict=True):
        folder = work / f"{side}-{what}"
        if command[0] is None or finished(folder):
            folders.update({side: folder} if finished(folder) else {})
            continue
        with open(work / f"{side}-{what}.log", "w") as log:
            running[side] = subprocess.Popen(
                [*map(str, command), what, str(work / "documents.jsonl"), str(folder), json.dumps(chosen)],
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
        folders[side] = folder
    for side, process in running.items():
        if process.wait():
            sys.exit(f"{side} failed at {what}:\n{(work / f'{side}-{what}.log').read_text()[-2000:]}")
    return folders


def finished(folder: Path) -> bool:
    """Whether a side was run to its end before, in a folder that was kept."""
    return (folder / "cost.json").exists() and json.loads((folder / "cost.json").read_text()).get("finished", False)


def rows(folder: Path) -> list[dict]:
    with open(folder / "verdicts.jsonl") as lines:
        return [json.loads(line) for line in lines]


def costs(folders: dict[str, Path]) -> dict[str, dict]:
    """Each side's cost, and the ratio for what both have done."""
    told = {side: json.loads((folder / "cost.json").read_text()) for side, folder in folders.items()}
    for side, cost in told.items():
        peak = f", peak {cost['peak_mb']} MB" if "peak_mb" in cost else ""
        print(f"  {side:5} {cost['cpu']:9.1f} CPU seconds for {cost['documents']} documents{peak}")
        for name, spent in cost.get("by_filter", {}).items():
            print(f"          {name:20} {spent:9.2f}")
    if len(told) == 2:
        print(f"  datatrove needs {told['peer']['cpu'] / told['ours']['cpu']:.1f} times our CPU seconds")
    return told


def filters(work: Path, peer: str | None) -> None:
    ours, theirs = ({name: pair[side] for name, pair in RULES.items()} for side in (0, 1))
    print("\nFilters")
    folders = sides("filters", work, peer, (ours, theirs))
    costs(folders)
    if len(folders) < 2:
        return
    one, other = rows(folders["ours"]), rows(folders["peer"])
    for name in RULES:
        pairs = [(a[name], b[name]) for a, b in zip(one, other, strict=True)]
        differ = Counter((a, b) for a, b in pairs if (a is None) != (b is None))
        dropped = [sum(pair[side] is not None for pair in pairs) for side in (0, 1)]
        print(f"  {name:20} {1 - differ.total() / len(pairs):8.2%} decided alike; "
              f"dropped: ours {dropped[0]}, datatrove {dropped[1]}")
        for (a, b), count in differ.most_common(6):
            print(f"          {count:6} × ours: {a or 'kept'}; datatrove: {b or 'kept'}")
    kept = [a["c4_text"] == b["c4_text"] for a, b in zip(one, other, strict=True) if a["c4"] is b["c4"] is None]
    print(f"  {'c4':20} {sum(kept) / max(1, len(kept)):8.2%} of the kept texts have the same lines left")


def minhash(work: Path, peer: str | None) -> None:
    print("\nNear duplicates")
    folders = sides("minhash", work, peer, HASHES)
    costs(folders)
    planted = json.loads((work / "planted.json").read_text())
    edits = sorted({pair["edits"] for pair in planted})
    print(f"  {'planted copies found':24}" + "".join(f"{share:>8.0%}" for share in edits))
    for side, folder in folders.items():
        found = rows(folder)
        line = f"  {side:24}"
        for share in edits:
            own = [pair for pair in planted if pair["edits"] == share]
            caught = sum(found[p["copy"]]["cluster"] is not None
                         and found[p["copy"]]["cluster"] == found[p["original"]]["cluster"] for p in own)
            line += f"{caught / len(own):8.1%}"
        print(f"{line}   dropped {sum(row['dropped'] for row in found)}")
    print("  of what was dropped, true similarity (Jaccard's, of 5-word shingles) to the nearest of its cluster:")
    for side, folder in folders.items():
        shares = similarities(work, rows(folder))
        if shares:
            print(f"  {side:24}{sum(s >= 0.6 for s in shares) / len(shares):8.1%} at least 0.6; "
                  f"{sum(s < 0.4 for s in shares) / len(shares):6.1%} below 0.4, of {len(shares)}")


def similarities(work: Path, found: list[dict], most: int = 1000) -> list[float]:
    """The true similarity of dropped documents to the nearest other member of their cluster, of small clusters."""
    members: dict[int, list[int]] = {}
    for row, verdict in enumerate(found):
        if verdict["cluster"] is not None:
            members.setdefault(verdict["cluster"], []).append(row)
    chosen = [(row, members[verdict["cluster"]]) for row, verdict in enumerate(found) if verdict["dropped"]
              and len(members[verdict["cluster"]]) <= 20][:most]
    wanted = {row for _, cluster in chosen for row in cluster}
    with open(work / "documents.jsonl") as lines:
        shingles = {row: shingles_of(json.loads(line)["text"]) for row, line in enumerate(lines) if row in wanted}

    def jaccard(a: set, b: set) -> float:
        return len(a & b) / max(1, len(a | b))

    return [max(jaccard(shingles[row], shingles[other]) for other in cluster if other != row)
            for row, cluster in chosen]


def shingles_of(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = "".join(sign if sign.isalnum() else " " for sign in text.lower()).split()
    return {tuple(words[at:at + n]) for at in range(max(1, len(words) - n + 1))}


def encode(work: Path) -> None:
    print("\nTokens")
    subprocess.run([sys.executable, str(HERE / "encode.py"), str(work / "documents.jsonl")], check=True,
                   env={**os.environ, "PYTHONPATH": str(HERE.parent)})


def memory(folder: Path, work: Path, sizes: tuple[int, ...], presets: list[str]) -> None:
    """Peak memory of whole curations of 1, 2, 4 and 8 times the text, each time with other words in it."""
    from texts import repeated

    print("\nMemory of whole curations")
    for preset in presets:
        for size in sizes:
            space = work / f"workspace-{size}"
            corpus = space / "corpora" / "text"
            if not corpus.exists():
                corpus.mkdir(parents=True)
                repeated(folder, corpus, size)
            out = work / f"memory-{preset}-{size}"
            subprocess.run([sys.executable, str(HERE / "ours.py"), "memory", str(space), str(out), preset], check=True,
                           env={**os.environ, "PYTHONPATH": str(HERE.parent)})
            cost = json.loads((out / "cost.json").read_text())
            read = sum(path.stat().st_size for path in corpus.iterdir()) / 1e6
            print(f"  {preset:6} {read:7.0f} MB {cost['documents_in']:9} documents in, {cost['documents']:9} out: "
                  f"peak {cost['peak_mb']:5} MB, {cost['cpu']:7.1f} CPU seconds", flush=True)
            shutil.rmtree(space)


def near(work: Path, number: int) -> None:
    """Memory that near-dedupe takes besides what a process with the libraries has, by made-up notes."""
    print("\nMemory of near-dedupe's decision")
    out = work / f"near-{number}"
    subprocess.run([sys.executable, str(HERE / "ours.py"), "near", "-", str(out), str(number)], check=True,
                   env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    cost = json.loads((out / "cost.json").read_text())
    more = cost["peak_mb"] - cost["before_mb"]
    print(f"  {cost['documents']} documents: {more} MB more than the {cost['before_mb']} MB before, "
          f"{more / cost['documents'] * 1e6:.0f} MB for a million; {cost['cpu']:.1f} CPU seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="text files")
    parser.add_argument("--peer", help="the Python of an environment with datatrove")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--megabytes", type=int, default=250, help="how much of the text is compared, at most")
    parser.add_argument("--copies", type=int, default=1000, help="planted copies for each share of edits")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="multiples of the text for memory")
    parser.add_argument("--presets", nargs="+", default=["books", "web"])
    parser.add_argument("--work", type=Path, help="folder for documents and verdicts that is kept; what is finished "
                                                  "there is not run again")
    parser.add_argument("--small", action="store_true", help="a smoke run of a minute or two")
    asked = parser.parse_args()
    if asked.small:
        asked.megabytes, asked.copies, asked.sizes = 2, 50, (1, 2)
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        prepare(asked.folder, work, asked.megabytes, asked.copies)
        if "filters" in asked.only:
            filters(work, asked.peer)
        if "minhash" in asked.only:
            minhash(work, asked.peer)
        if "encode" in asked.only:
            encode(work)
        if "near" in asked.only:
            near(work, 100_000 if asked.small else 1_000_000)
        if "memory" in asked.only:
            memory(work / "text" if asked.small else asked.folder, work, tuple(asked.sizes), asked.presets)


def prepare(folder: Path, work: Path, megabytes: int, copies: int) -> None:
    """The documents that both sides get, with planted copies at their end."""
    from documents import gather, plant, write

    if not (work / "documents.jsonl").exists():
        texts = gather(folder, megabytes * 1_000_000)
        if not texts:
            sys.exit(f"{folder} holds no text that can be read; make some with benchmarks/texts.py")
        made, planted = plant(texts, copies)
        (work / "planted.json").write_text(json.dumps(planted))
        (work / "text").mkdir(exist_ok=True)
        write(work / "text" / "part.jsonl", texts)
        write(work / "documents.jsonl", made)
    with open(work / "documents.jsonl") as lines:
        number = sum(1 for _ in lines)
    size = (work / "text" / "part.jsonl").stat().st_size / 1e6
    print(f"{size:.0f} MB of text; {number} documents, {len(json.loads((work / 'planted.json').read_text()))} of them "
          "planted copies")


if __name__ == "__main__":
    main()
