"""Checklists that conferences ask for, filled from the files, and what these do not tell left open.

A question has what the files say to it, each with its source, and what is left to the authors.
The answer itself, a yes or a no about their paper, always is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.report.evidence import Evidence, Known, evidence, name_of
from deltagclip_cli.results.compare.formats import markdown_text

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.analysis import Analysis
    from deltagclip_cli.results.read.run import Run


@dataclass(frozen=True)
class ChecklistItem:
    """A question of a checklist."""

    question: str
    evidence: Sequence[Evidence]  # what the files say to it
    left_open: Sequence[str]  # what only the authors know, such as a license


@dataclass(frozen=True)
class Checklist:
    """A checklist, as far as the files fill it."""

    name: str  # ``neurips`` or ``acl``
    title: str
    items: Sequence[ChecklistItem]


@dataclass(frozen=True)
class _Question:
    text: str
    evidence: Sequence[str] = ()  # names of EVIDENCE
    left_open: Sequence[str] = ()


@dataclass(frozen=True)
class _Form:
    title: str
    questions: Sequence[_Question]


_SPLITS = (
    "The splits of data whose samples are divided by their makers, and how many samples each has."
)
_NEURIPS = _Form(
    "NeurIPS Paper Checklist: the questions on experiments",
    [
        _Question(
            "4. Experimental result reproducibility. Does the paper fully disclose all the"
            " information needed to reproduce the main experimental results?",
            ["runs", "models", "best settings", "code", "verification"],
        ),
        _Question(
            "5. Open access to data and code. Does the paper provide open access to the data and"
            " code, with sufficient instructions to reproduce the main experimental results?",
            ["code", "data"],
            ["Where the code, the run folders and the data can be had."],
        ),
        _Question(
            "6. Experimental setting/details. Does the paper specify all the training and test"
            " details (data splits, hyperparameters, how they were chosen, type of optimizer)?",
            ["data", "models", "bounds", "choice", "best settings", "validation figures"],
            [_SPLITS],
        ),
        _Question(
            "7. Experiment statistical significance. Does the paper report error bars suitably and"
            " correctly defined, or other information about the statistical significance?",
            ["error bars", "runs", "failures"],
        ),
        _Question(
            "8. Experiments compute resources. Does the paper provide sufficient information on the"
            " computer resources (type of workers, memory, time of execution)?",
            ["compute", "runtime"],
            [
                "Memory, which is not measured.",
                "Compute of experiments that are not in this report, such as preliminary ones.",
            ],
        ),
        _Question(
            "12. Licenses for existing assets. Are the creators of assets (code, data, models)"
            " credited, and are license and terms of use mentioned and respected?",
            ["data", "packages"],
            ["Creators, licenses and terms of use of data, models and packages."],
        ),
    ],
)
_ACL = _Form(
    "ACL Reproducibility Checklist",
    [
        _Question(
            "A clear description of the mathematical setting, algorithm, and/or model",
            ["models", "best settings"],
            ["The description itself."],
        ),
        _Question(
            "A link to a downloadable source code, with specification of all dependencies",
            ["code", "packages"],
            ["The link."],
        ),
        _Question("A description of computing infrastructure used", ["compute"], ["Memory."]),
        _Question(
            "The average runtime for each model or algorithm, or estimated energy cost",
            ["runtime"],
            ["Energy, which is not measured."],
        ),
        _Question(
            "The number of parameters in each model",
            ["models"],
            ["The number of parameters, which run folders do not tell."],
        ),
        _Question(
            "Corresponding validation performance for each reported test result",
            ["validation figures"],
        ),
        _Question(
            "A clear definition of the specific evaluation measure or statistics used to report"
            " results",
            ["measures", "error bars"],
        ),
        _Question("The exact number of training and evaluation runs", ["runs", "failures"]),
        _Question("The bounds for each hyperparameter", ["bounds"]),
        _Question(
            "The hyperparameter configurations for best-performing models", ["best settings"]
        ),
        _Question(
            "The method of choosing hyperparameter values and the criterion used to select among"
            " them",
            ["choice"],
        ),
        _Question("Summary statistics of the results", ["results", "error bars"]),
        _Question(
            "Relevant statistics such as number of examples and label distributions",
            ["data"],
            ["Numbers of examples and distributions of labels, but for what is said above."],
        ),
        _Question("Details of train/validation/test splits", ["data"], [_SPLITS]),
        _Question(
            "An explanation of any data that were excluded, and all pre-processing steps",
            ["preprocessing"],
            ["What was done to the data before this program read them."],
        ),
        _Question("For natural language data, the name of the language(s)", [], ["The languages."]),
        _Question(
            "A link to a downloadable version of the dataset or simulation environment",
            ["data"],
            ["The link."],
        ),
        _Question(
            "For new data collected, a complete description of the data collection process",
            [],
            ["The process, if data were collected."],
        ),
    ],
)
FORMS: Mapping[str, _Form] = {"neurips": _NEURIPS, "acl": _ACL}
"""The checklists by the words that ``--checklist`` takes."""


def checklist_of(
    name: str, runs: Sequence[Run], answer: Analysis | None, facts: Mapping[str, str]
) -> Checklist:
    """Fill a checklist.

    Args:
        name: one of :data:`FORMS`.
        facts: of the origin of the runs, as the page has them.
    """
    known, items = Known(runs, answer, facts), []
    for each in FORMS[name].questions:
        told = {kind: evidence(known, kind) for kind in each.evidence}
        unknown = [
            f"{name_of(kind)}: the files do not say." for kind, found in told.items() if not found
        ]
        found = [each for each in told.values() if each is not None]
        items.append(ChecklistItem(each.text, found, [*unknown, *each.left_open]))
    return Checklist(name, FORMS[name].title, items)


def checklist_file(checklist: Checklist) -> str:
    """Return the name of the file of a checklist."""
    return f"checklist-{checklist.name}.md"


def checklist_markdown(checklist: Checklist) -> str:
    """Return a checklist as a file to be filled up."""
    parts = [
        f"# {checklist.title}\n\n"
        "Filled from the run folders. Answer yes or no yourself, and fill what is left open; the"
        " other questions are about the paper, and no run answers them.\n"
    ]
    for item in checklist.items:
        parts.append(f"## {markdown_text(item.question)}\n\nAnswer: ______\n")
        for each in item.evidence:
            lines = "".join(f"- {markdown_text(line)}\n" for line in each.lines)
            parts.append(f"{lines}\nSource: {markdown_text(each.source)}\n")
        if item.left_open:
            parts.append(
                "".join(f"- [ ] {markdown_text(each)} ______\n" for each in item.left_open)
            )
    return "\n".join(parts)
