"""A report beside its run folders: every number of it is worked out anew, and each file looked at.

Three things must agree: what the page shows, what it carries as plain data, and what comes of the
run folders. An altered digit is found in a file by its checksum and in the page by what it makes of
the runs; who alters both, and the checksums too, has made a report of other runs, which only
training some of them again can tell.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from deltagclip_cli.core import (
    NotYetError,
    Seen,
    UsageError,
    files_seen,
    plural,
    printable,
    read_file,
)
from deltagclip_cli.report.output import FileNames
from deltagclip_cli.report.page import (
    PAGE,
    PageContent,
    answered,
    as_data,
    content_from,
    content_of,
    render,
    texts_beside,
)
from deltagclip_cli.report.record import (
    CODE,
    PROGRAM,
    Record,
    Searched,
    by_folder,
    conditions,
    digest_of,
    is_sealed,
)
from deltagclip_cli.results.read.run import Reading, Run
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.verify.deviations import Deviation, Likeness, around, deviations

_MOST_BYTES = 512 * 2**20  # of a page
_SCRIPT = re.compile(r'<script type="application/json" id="(data|carried)">(.*?)</script>')
_ANEW = "  deltagclip report writes one anew, from the run folders."


@dataclass(frozen=True)
class Verification:
    """The outcome of looking at a report."""

    report: Path
    runs: Sequence[Run]  # that were read
    differences: Sequence[Deviation]  # between the report and what was found; files come first
    notes: Sequence[str]  # what must be known of the comparison
    files: int  # that were read
    numbers: int  # on the page that were worked out anew


def verify(report: Path, runs: Path | None = None) -> Verification:
    """Work out a report anew.

    Args:
        report: the page, its folder, or that of an experiment with a report.
        runs: where the runs lie now; None for where they lay, seen from the page or from here.

    Raises:
        UsageError: it is no report, or its runs are not to be found.
    """
    pages = [report, report / PAGE, report / "report" / PAGE]
    page = next((each for each in pages if each.is_file()), report)
    text = _text(page)
    try:
        content, record = _carried(page, text)
    except _DamagedError as error:
        return Verification(page, [], [Deviation("seal", str(page), "", str(error))], [], 0, 0)
    notes = _notes(record)
    if _is_alone(page, record) and record.beside:
        notes.append("The files beside the page are not there, and were not looked at.")
    likeness = Likeness(is_exact=record.conditions == conditions())
    moved = _Moved.of(record, page, runs)
    with files_seen() as seen:
        reading = _read(record, moved)
        found, texts, problem = _worked_out(content, record, reading)
    new = by_folder(seen, moved.places)
    before, after = _folders(content), moved.back(_of(reading))
    differences = [*_on_runs(record, new, moved, before, after)]
    differences += _on_page(page, text, content, record)
    said = _compared(content)
    if found is None:
        differences.append(Deviation("request", "the report", "", problem))
    else:
        differences += deviations(said, moved.back(_compared(found)), likeness)
        differences += _beside(page, record, {n: moved.back(t) for n, t in texts.items()}, likeness)
    read = sum(map(len, new.values()))
    return Verification(page, reading.runs, differences, notes, read, _numbers(said))


def _compared(content: PageContent) -> dict[str, Any]:
    """Return what of a page is worked out of runs, without the names of links within it."""
    data = as_data(content)
    del data["record"], data["version"]
    names = {section.pop("name"): section["title"] for section in data["sections"]}
    if charts := data["data"]:
        charts["sections"] = {names.get(k, k): each for k, each in charts["sections"].items()}
    return data


def _text(page: Path) -> str:
    try:
        return read_file(page, _MOST_BYTES).decode("utf-8")
    except OSError as error:
        raise UsageError(
            f"{page}: cannot be read: {error.strerror}.\n"
            "  Name the folder of a report, such as runs/EXPERIMENT/report."
        ) from None
    except UnicodeDecodeError:
        raise _no_report(page) from None


def _no_report(page: Path) -> UsageError:
    return UsageError(
        f"{page}: no page of deltagclip report.\n  Name its {PAGE}, or the folder with that."
    )


def _carried(page: Path, text: str) -> tuple[PageContent, Record]:
    """Return what a page carries; UsageError if that is nothing, or damaged."""
    scripts = dict(reversed(_SCRIPT.findall(text)))
    if "carried" not in scripts:
        if "data" not in scripts or "deltagclip" not in text:
            raise _no_report(page)
        raise UsageError(
            f"{page}: it carries nothing that could be verified: it was made by a version of"
            f" deltagclip that did not write that yet, or that part was cut out.\n{_ANEW}"
        )
    try:
        carried = from_json(scripts["carried"], allow_inf_nan=False)
        data = from_json(scripts.get("data", ""), allow_inf_nan=False)
        content = content_from({**carried, "data": data})
    except (ValidationError, ValueError, TypeError) as error:
        why = str(error).splitlines()[0]
        if not is_sealed(text):
            raise _DamagedError(f"changed since it was written, so that {why}") from None
        raise UsageError(
            f"{page}: made by another state of deltagclip, whose pages carry other things ({why})."
            f"\n  That one verifies it. {_ANEW.lstrip()}"
        ) from None
    if content.record is None:
        raise UsageError(f"{page}: it carries no word of what was asked.\n{_ANEW}")
    return content, content.record


class _DamagedError(Exception):
    """A page carries something that cannot be read, for somebody changed it."""


def _notes(record: Record) -> list[str]:
    """Say what differs between the conditions of then and now."""
    here, there = conditions(), record.conditions
    notes = []
    if there.get(PROGRAM) != here[PROGRAM]:
        notes.append(
            f"The report was made by deltagclip {there.get(PROGRAM, 'of an unknown version')}, and"
            f" this is {here[PROGRAM]}: what differs may be a change of the program. That version"
            " verifies it to the last digit."
        )
    elif there.get(CODE) != here[CODE]:
        notes.append(
            f"The report was made by another state of deltagclip {here[PROGRAM]}: what differs may"
            " be a change of the program."
        )
    others = [
        f"{name} {there.get(name, 'unknown')} then, {here.get(name, 'unknown')} now"
        for name in dict.fromkeys([*there, *here])
        if name not in (PROGRAM, CODE) and there.get(name) != here.get(name)
    ]
    if others:
        notes.append(f"Last digits may differ, and count as equal: {'; '.join(others)}.")
    return notes


@dataclass(frozen=True)
class _Moved:
    """The folders that were searched, and where they are now."""

    now: Sequence[Path]
    then: Sequence[str]  # how they were named
    runs: Path

    @classmethod
    def of(cls, record: Record, page: Path, runs: Path | None) -> _Moved:
        """Find them: where they are said to be, seen from the page, or from here."""
        now = [_located(each, record, page, runs) for each in record.places]
        return cls(now, [each.given for each in record.places], runs or Path(record.runs.given))

    @property
    def places(self) -> list[tuple[Path, str]]:
        """Each with its name of then."""
        return list(zip(self.now, self.then, strict=True))

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """The names of those that moved, now and then; the longest come first."""
        names = ((str(path), then) for path, then in self.places if str(path) != then)
        return sorted(names, key=lambda pair: -len(pair[0]))

    def back(self, value: Any) -> Any:
        """Return plain data in which folders have the names that they had."""
        if not self.names:
            return value
        match value:
            case str():
                for now, then in self.names:
                    if then == ".":
                        value = value.replace(f"{now}/", "")
                    value = value.replace(now, then)
                return value
            case Mapping():
                return {self.back(key): self.back(each) for key, each in value.items()}
            case list() | tuple():
                return [self.back(each) for each in value]
        return value

    def here(self, folder: str) -> Path:
        """Return where a folder is now that had a name."""
        within = [each for each in self.places if PurePath(folder).is_relative_to(each[1])]
        now, then = [*within, *self.places][0]
        return Path(os.path.normpath(now / os.path.relpath(folder, then)))


def _located(place: Searched, record: Record, page: Path, runs: Path | None) -> Path:
    """Return where a folder is now that was searched; UsageError if it is not to be found."""
    if runs is not None:
        try:
            below = PurePath(place.from_page).relative_to(record.runs.from_page)
            candidates = [runs / below]
        except ValueError:  # it did not lie in the runs folder
            candidates = [runs / PurePath(place.given).name, runs]
    else:
        candidates = [Path(os.path.normpath(page.parent.resolve() / place.from_page))]
        given = Path(place.given)
        if given.is_dir() and (not candidates[0].is_dir() or given.samefile(candidates[0])):
            candidates = [given]
    for path in candidates:
        if path.is_dir() and (runs is not None or _has_runs(path, place, record)):
            return path if runs is None else path.resolve()
    raise UsageError(
        f"{place.given}: the runs of the report are not there{_tried(candidates)}.\n"
        "  Name the runs folder as it lies now with --runs DIR."
    )


def _tried(candidates: Sequence[Path]) -> str:
    return f", nor in {printable(str(candidates[0]))}" if candidates else ""


def _has_runs(path: Path, place: Searched, record: Record) -> bool:
    """Tell whether a folder has any of the files below it that were read."""
    for folder, files in record.files.items():
        parts, start = PurePath(folder), PurePath(place.given)
        if parts.is_relative_to(start):
            below = path / parts.relative_to(start)
            if any((below / name).is_file() for name in files):
                return True
    return False


def _read(record: Record, moved: _Moved) -> Reading:
    place = Place((), moved.runs, record.group, read_at=record.read_at or None)
    try:
        return place.read_in(moved.now)
    except NotYetError as error:
        raise UsageError(str(error)) from None


def _worked_out(
    content: PageContent, record: Record, reading: Reading
) -> tuple[PageContent | None, dict[str, str], str]:
    """Return what the page and the files beside it should be, or why there is no answer."""
    try:
        answer = answered(reading, record.request)
        problems = answer.problems if answer else reading.problems
        checklist = content.checklist.name if content.checklist else None
        found = content_of(content.title, reading.runs, answer, problems, checklist)
        return found, texts_beside(found, answer, FileNames()), ""
    except UsageError as error:  # such as a damaged lock, or no run that has the metric
        return None, {}, f"cannot be worked out any more: {error}"


def _folders(content: PageContent) -> list[str]:
    return [run["folder"] for run in content.provenance.runs]


def _of(reading: Reading) -> list[str]:
    return [printable(str(run.folder)) for run in reading.runs]


def _on_runs(
    record: Record,
    new: Mapping[str, Mapping[str, tuple[int, str]]],
    moved: _Moved,
    before: Sequence[str],
    after: Sequence[str],
) -> Iterator[Deviation]:
    """Yield which runs went, came or were moved, and which of their files are others than then."""
    contents = {_sums(new.get(each, {})): each for each in after if each not in before}
    gone: set[str] = set()
    for folder in dict.fromkeys(before):
        if folder in after:
            continue
        gone.add(folder)
        there = contents.pop(_sums(record.files.get(folder, {})), None)
        if there is not None:
            yield Deviation("run", folder, "there", f"moved to {there}", folder)
        elif moved.here(folder).is_dir():
            yield Deviation("run", folder, "there", "no run that can be read any more", folder)
        else:
            yield Deviation("run", folder, "there", "not there any more", folder)
    for folder in contents.values():
        yield Deviation("run", folder, "not there", "new since", folder)
    for folder in dict.fromkeys([*record.files, *new]):
        if folder in gone and not moved.here(folder).is_dir():
            continue
        if folder not in before and folder in after:
            continue
        known, files = record.files.get(folder, {}), new.get(folder, {})
        for name in dict.fromkeys([*known, *files]):
            path = moved.here(folder) / name
            yield from _on_file(f"{folder}/{name}", path, known.get(name), files.get(name))


def _sums(files: Mapping[str, tuple[int, str]]) -> frozenset[tuple[str, str]]:
    return frozenset((name, sha256) for name, (_, sha256) in files.items())


def _on_file(
    place: str, path: Path, then: tuple[int, str] | None, now: tuple[int, str] | None
) -> Iterator[Deviation]:
    if then is not None and now is None:  # it was not read, for its run is told of, or it is gone
        seen = _seen(path)
        now = None if seen is None else (seen.size, seen.sha256)
    if then == now or (then is not None and now is not None and tuple(then) == tuple(now)):
        return
    folder = str(PurePath(place).parent)
    if then is None and now is not None:
        yield Deviation("file", place, "not there", f"new since, {_bytes(now)}", folder)
    elif then is not None and now is None:
        yield Deviation("file", place, _bytes(then), "not there any more", folder)
    elif then is not None and now is not None:
        grown = now[0] > then[0] and digest_of(read_file(path, now[0])[: then[0]]) == then[1]
        more = f", of which {now[0] - then[0]} were added to what it was" if grown else ""
        yield Deviation("file", place, _bytes(then), f"changed: {_bytes(now)}{more}", folder)


def _seen(path: Path) -> Seen | None:
    try:
        content = read_file(path, _MOST_BYTES)
    except OSError:
        return None
    return Seen(len(content), digest_of(content))


def _bytes(each: tuple[int, str]) -> str:
    return f"{each[0]} bytes with SHA-256 {each[1][:12]}…"


def _on_page(page: Path, text: str, content: PageContent, record: Record) -> Iterator[Deviation]:
    """Yield where a page shows something else than it carries, or was changed at all."""
    is_same_code = record.conditions.get(CODE) == conditions()[CODE]
    expected, found = render(content), 0
    if is_same_code:
        pairs = list(zip(text.split("\n"), expected.split("\n"), strict=False))
        for number, (shown, carried) in enumerate(pairs, 1):
            if shown != carried and "deltagclip-seal" not in carried:
                found += 1
                said, own = around(shown, carried)
                yield Deviation("page", f"{page}, line {number}", said, own)
        if text.count("\n") != expected.count("\n"):
            found += 1
            lines = (plural(each.count("\n"), "line") for each in (text, expected))
            yield Deviation("page", str(page), next(lines), next(lines))
    else:
        there, due = Counter(_shown(text)), Counter(_shown(expected))
        for words in there - due:
            found += 1
            yield Deviation("page", str(page), repr(words), "nothing like it")
        for words in due - there:
            found += 1
            yield Deviation("page", str(page), "nothing like it", repr(words))
    if not found and not is_sealed(text):
        yield Deviation("seal", str(page), "", "changed since it was written, by its seal")


class _Texts(HTMLParser):
    """Gathers the texts of a page, without its programs and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._is_hidden = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._is_hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self._is_hidden and data.strip():
            self.texts.append(" ".join(data.split()))


def _shown(text: str) -> list[str]:
    """Return the words of a page with a digit in them."""
    parser = _Texts()
    parser.feed(text)
    return [each for each in parser.texts if re.search(r"\d", each)]


def _beside(
    page: Path, record: Record, texts: Mapping[str, str], likeness: Likeness
) -> Iterator[Deviation]:
    """Yield what differs in the files beside a page: texts are worked out, figures are summed."""
    if _is_alone(page, record):
        return
    for name, sha256 in record.beside.items():
        path = page.parent / name
        try:
            content = read_file(path, _MOST_BYTES)
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
            yield Deviation("beside", str(path), "written beside the page", why)
            continue
        if name in texts:
            yield from _on_text(path, content.decode("utf-8", "replace"), texts[name], likeness)
        if digest_of(content) != sha256:
            said, found = f"SHA-256 {sha256[:12]}…", f"SHA-256 {digest_of(content)[:12]}…"
            yield Deviation("beside", str(path), said, found)


def _is_alone(page: Path, record: Record) -> bool:
    """Tell whether a page was sent without the files beside it."""
    return not any((page.parent / name).exists() for name in record.beside)


def _on_text(path: Path, said: str, found: str, likeness: Likeness) -> Iterator[Deviation]:
    own, others = said.split("\n"), found.split("\n")
    if len(own) != len(others):
        yield Deviation("beside", str(path), plural(len(own), "line"), plural(len(others), "line"))
    for number, (one, other) in enumerate(zip(own, others, strict=False), 1):
        if not likeness.are_alike(one, other):
            shown, worked = around(one, other)
            yield Deviation("beside", f"{path}, line {number}", shown, worked)


def _numbers(value: Any) -> int:
    """Count the numbers in plain data, in its words as well."""
    match value:
        case bool() | None:
            return 0
        case int() | float():
            return 1
        case str():
            return len(re.findall(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", value))
        case Mapping():
            return sum(map(_numbers, value.values()))
    return sum(map(_numbers, value))
