"""From words on the command line to certificates, on the terminal and in the run folders."""

from __future__ import annotations

from collections.abc import Sequence

from deltagclip_cli.core import ClaimedError, ExitCode, NotYetError, UsageError
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.terminal.compare_view import print_tables
from deltagclip_cli.terminal.console import make_console, print_problems, shown_reading
from deltagclip_cli.terminal.streams import print_json
from deltagclip_cli.theory.certificate import (
    HOW_MEASURED,
    Certificate,
    certificate_of,
    certificate_table,
    numbers_table,
)


def certify(place: Place, *, as_json: bool, quiet: bool) -> ExitCode:
    """Certify the runs of a place, and leave each certificate in its run folder.

    Args:
        place: where the runs are.
        as_json: print all numbers, for programs.
        quiet: show no progress.

    Returns:
        ``OK`` if every line of every run holds; ``USAGE`` if a run has no certificate.

    Raises:
        UsageError: there are no runs, none of them has a certificate, or it cannot be written.
    """
    reading = place.read(shown_reading(quiet=quiet))
    certificates: list[Certificate] = []
    refusals: list[str] = []
    waiting: list[str] = []
    for run in reading.runs:
        try:
            certificates.append(certificate_of(run))
        except NotYetError as error:
            waiting.append(str(error))
        except UsageError as error:
            refusals.append(str(error))
    if not certificates and not refusals and waiting:
        raise NotYetError("\n".join([*waiting, *reading.problems]))
    if not certificates:
        raise UsageError("\n".join([*refusals, *waiting, *reading.problems]))
    for each in certificates:
        try:
            each.write()
        except ClaimedError as error:
            waiting.append(str(error))
    if as_json:
        records = [each.record() for each in certificates]
        print_json(records)
    else:
        _print(certificates)
    print_problems([*refusals, *waiting, *reading.problems])
    if refusals:
        return ExitCode.USAGE
    all_hold = all(each.holds for each in certificates) and not waiting
    return ExitCode.OK if all_hold else ExitCode.FAILED


def _print(certificates: Sequence[Certificate]) -> None:
    console = make_console()
    tables = [certificate_table(each) for each in certificates]
    if len(certificates) > 1:
        tables.append(numbers_table("All of these runs", certificates))
    print_tables(console, tables)
    console.print(HOW_MEASURED, style="dim")
