"""Results of `rdh bench` as a folder with tables and pictures: what `rdh report` starts.

python benchmarks/bench_report.py '{"files": ["results.csv"], "out": "report"}'

The JSON may say "levels": true, to show instruction sets of rdh_ext other than the best too, and "force": true, to
write into a folder that holds other things. An error is the last line on standard error, and the exit status 1.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _bench_words as words
from _bench_choice import Rows, groups, ours
from _bench_pictures import comparison_picture, picture_name, pictures
from _bench_tables import default_table, files_table, paper_table, summary_table, sweep_table, where
from _rows import COLUMNS, read

MARKER = ".rdh-report"
"""A folder that has it is an earlier report, whose files may be overwritten."""
NO_PICTURES = "no pictures: matplotlib is not installed; get it with: pip install 'rdh_ext[cli]'"

HOW_TO_READ = """\
Times are medians of a call. *Of the limit* is the time that the device needs for the bytes or the operations alone,
measured in the same rounds, as a share of the time taken. *Extra memory* is by how much a call raises the peak, its
result included. Multiples are taken round by round; in brackets percentiles 20 and 80."""


class Failure(Exception):
    """A foreseen one, in a sentence."""


def rows_of(path: Path) -> Rows:
    """The rows of a file that `rdh bench` wrote."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file), [])
        if set(columns) != set(COLUMNS):
            missing = [name for name in COLUMNS if name not in columns]
            said = f"the column {missing[0]} is missing" if missing else "it has other columns too"
            raise Failure(f"{path}: no result of rdh bench: {said}")
        rows = read(path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from error
    except (ValueError, TypeError, csv.Error) as error:  # bytes that are no text, lines too long or too short
        raise Failure(f"{path}: no result of rdh bench: {error}") from error
    if not rows:
        raise Failure(f"{path}: no rows; rdh bench was interrupted before its first case was done")
    if any(None in row.values() or None in row for row in rows):
        raise Failure(f"{path}: a line has too few cells or too many; was the file cut off?")
    return rows


def named(files: dict[Path, Rows]) -> dict[str, Rows]:
    """Files by what tells them apart: the device, the version of rdh_ext, or their names."""

    def said(rows: Rows, column: str) -> str:
        row = ours(rows) or rows[0]
        return row[column]

    choices = (
        [said(rows, "device") for rows in files.values()],
        [f"rdh_ext {said(rows, 'rdh_ext')}" for rows in files.values()],
        [path.stem for path in files],
        [str(path) for path in files],
    )
    names = next(names for names in choices if len(set(names)) == len(files) and all(names))
    return dict(zip(names, files.values(), strict=True))


def claim(out: Path, force: bool) -> None:
    """Makes the folder and marks it; nothing in it is deleted."""
    try:
        if out.exists() and not out.is_dir():
            raise Failure(f"--out {out} is a file; name a folder")
        if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file() and not force:
            raise Failure(f"--out {out} is not empty and holds no earlier report; name another folder, or add --force")
        out.mkdir(parents=True, exist_ok=True)
        write(out / MARKER, b"An rdh report: 'rdh report' overwrites the files it wrote here.\n")
    except OSError as error:
        raise Failure(f"{error.filename or out}: {error.strerror or error}") from error


def write(path: Path, content: bytes) -> None:
    """A file that is complete or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def drawn(files: dict[str, Rows], levels: bool) -> dict[str, bytes] | None:
    """Pictures of all files by their names; None without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return None
    found = {}
    for name, rows in files.items():
        for file, content in pictures(rows, levels=levels).items():
            found[prefix(files, name) + file] = content
    if len(files) > 1:
        for (op, mode, sweep), own in sweeps_of_all(files).items():
            picture = comparison_picture(own)
            if picture is not None:
                found[compared_name(op, mode, sweep)] = picture
    return found


def prefix(files: dict[str, Rows], name: str) -> str:
    """Before the names of a file's pictures, where there are several files."""
    return f"{list(files).index(name) + 1}-" if len(files) > 1 else ""


def compared_name(op: str, mode: str, sweep: str) -> str:
    return f"compared-{words.slug(op, mode, sweep)}.png"


def sweeps_of_all(files: dict[str, Rows]) -> dict[tuple[str, ...], dict[str, Rows]]:
    """Rows of each file by op, mode and sweep."""
    found: dict[tuple[str, ...], dict[str, Rows]] = {}
    for name, rows in files.items():
        for key, own in groups(rows, "op", "mode", "sweep").items():
            found.setdefault(key, {})[name] = own
    return found


def document(files: dict[str, Rows], shown: Sequence[str], levels: bool) -> str:
    """All of report.md; ``shown``: the names of those that were drawn."""
    parts = ["# What rdh bench measured", _contents(files)]
    if len(files) > 1:
        parts += ['<a id="compared"></a>\n\n## Side by side', files_table(files)]
        parts.append("Times of rdh_ext, and multiples of the first column's. Pictures are of sweeps of the same sizes.")
        for op, mode, sweep in sweeps_of_all(files):
            title = f"{op}{f', {mode}' if mode else ''}, {words.axis(sweep)}"
            parts.append(_picture(compared_name(op, mode, sweep), title, shown))
    for name, rows in files.items():
        before = prefix(files, name)
        depth = "##" if len(files) > 1 else "#"
        if len(files) > 1:
            parts.append(f'<a id="{before}file"></a>\n\n## {words.cell(name)}')
        parts += [
            where([row for row in rows if row["sweep"] == "default"] or rows),
            summary_table(rows),
            _picture(f"{before}overview.png", "All ops, times as multiples of rdh_ext's", shown),
            *_ops(rows, before, depth, shown, levels),
        ]
        if paper := paper_table(rows):
            parts += [f'<a id="{before}paper"></a>\n\n{depth}# The paper\'s data sets', paper]
    parts.append(HOW_TO_READ)
    return "\n\n".join(part for part in parts if part) + "\n"


def _ops(rows: Rows, before: str, depth: str, shown: Sequence[str], levels: bool) -> list[str]:
    parts = []
    for (op,), of_op in groups(rows, "op").items():
        modes = groups(of_op, "mode")
        for (mode,), of_mode in modes.items():
            title = f"`{op.replace('`', ' ')}`{', ' if mode else ''}{words.cell(mode)}"
            is_first = of_mode is next(iter(modes.values()))
            anchor = f'<a id="{before}{words.slug(op)}"></a>\n\n' if is_first else ""
            parts.append(f"{anchor}{depth}# {title}")
            parts.append(default_table(of_mode, levels=levels))
            for (sweep,), own in groups(of_mode, "sweep").items():
                table = sweep_table(own) if sweep not in ("default", "paper") else ""
                kinds = {"": "time of a call", "-memory": "memory that a call adds"}
                images = [
                    _picture(
                        before + picture_name(rows, op, mode, sweep, kind), f"{op}, {words.axis(sweep)}: {said}", shown
                    )
                    for kind, said in kinds.items()
                ]
                parts += [table, *images]
    return parts


def _picture(name: str, title: str, shown: Sequence[str]) -> str:
    text = words.cell(title)
    return f"![{text}]({name})" if name in shown else ""


def _contents(files: dict[str, Rows]) -> str:
    lines = ["- [Side by side](#compared)"] if len(files) > 1 else []
    for name, rows in files.items():
        before = prefix(files, name)
        pad = "  " if before else ""
        if before:
            lines.append(f"- [{words.cell(name)}](#{before}file)")
        lines += [f"{pad}- [`{op}`](#{before}{words.slug(op)})" for (op,) in groups(rows, "op")]
        if paper_table(rows):
            lines.append(f"{pad}- [The paper's data sets](#{before}paper)")
    return "\n".join(lines)


def make(request: dict[str, Any]) -> tuple[Path, int]:
    """Writes the folder that a request asks for, report.md last; returns where that is, and how many pictures."""
    out, levels = Path(request["out"]), bool(request.get("levels"))
    files = named({Path(path): rows_of(Path(path)) for path in request["files"]})
    claim(out, bool(request.get("force")))
    drawings = drawn(files, levels)
    if drawings is None:
        print(NO_PICTURES, file=sys.stderr)
    try:
        for name, content in (drawings or {}).items():
            write(out / name, content)
        write(out / "report.md", document(files, list(drawings or {}), levels).encode())
    except OSError as error:
        raise Failure(f"{error.filename or out}: {error.strerror or error}") from error
    return out / "report.md", len(drawings or {})


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 1 or not arguments[0].startswith("{"):
        print(__doc__)
        return 2
    request = json.loads(arguments[0])
    try:
        report, count = make(request)
    except Failure as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"report: {report}")
    if count:
        print(f"pictures: {count} beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
