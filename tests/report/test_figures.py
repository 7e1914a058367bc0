"""Figures as files: the same bytes for the same data, fonts in them, in the look asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from figure_cases import LOSS, clipping, drawn, legend, several, texts, trained
from made_runs import METRIC, answered, group, last_values

from deltagclip_cli.core import UsageError
from deltagclip_cli.report.appearance import Style
from deltagclip_cli.report.charts import FORMATS, figures, save

NASTY = (
    "$\\frac{a",
    "$\\frac{a$",
    "_hidden",
    "a_b^c %&#~",
    "<script>alert(1)</script>",
    "δ-GClip η γ × ≈ ‖g‖",
    "x" * 300,
)


def style(folder: Path, text: str) -> Style:
    (folder / "own.mplstyle").write_text(text, encoding="utf-8")
    return Style.read(folder / "own.mplstyle")


DRAW = """
import sys
from pathlib import Path
from figure_cases import several, clipping
from made_runs import answered
from deltagclip_cli.report.charts import FORMATS, figures, save
from deltagclip_cli.report.appearance import Style
assert "matplotlib" not in sys.modules  # the page does without
style = Style.read()
runs = several("adam", "δ-gclip") + clipping("gclip")
for each in figures(answered(runs, target=("test/accuracy=0.5",)), style):
    for ending in FORMATS:
        save(each, Path(sys.argv[1], each.kind).with_suffix("." + ending), style)
assert "matplotlib.pyplot" not in sys.modules  # which looks for a display
"""


def draw_elsewhere(folder: Path, **environment: str) -> dict[str, bytes]:
    """What another process writes."""
    folder.mkdir()
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run(
        [sys.executable, "-c", DRAW, folder],
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=True,
        cwd=folder,
    )
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.mark.slow
def test_the_same_data_are_the_same_bytes_whatever_the_user_has_set(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("figure.figsize: 1, 1\nsvg.hashsalt: x\nlines.color: b")
    one = draw_elsewhere(tmp_path / "one", PYTHONHASHSEED="1", SOURCE_DATE_EPOCH="1")
    two = draw_elsewhere(
        tmp_path / "two",
        PYTHONHASHSEED="2",
        SOURCE_DATE_EPOCH="999999999",
        MATPLOTLIBRC=str(tmp_path),
    )
    kinds = ("curves", "step-size", "regimes", "time-to-target")
    assert set(one) == {f"{kind}.{ending}" for kind in kinds for ending in FORMATS}
    assert {name for name in one if one[name] != two[name]} == set()


def test_the_same_data_are_the_same_bytes_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for second in ("1", "999999999"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", second)
        (drawing, *_) = figures(answered(last_values("adam", [0.9, 0.8])), Style.read())
        paths = [tmp_path / f"a.{ending}" for ending in FORMATS]
        for path in paths:
            save(drawing, path, Style.read())
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


def test_fonts_are_in_the_files(tmp_path: Path) -> None:
    (drawing, *_) = figures(answered(several("δ-gclip", "adam")), Style.read())
    for ending in ("pdf", "svg"):
        save(drawing, tmp_path / f"a.{ending}", Style.read())
    pdf, svg = (tmp_path / "a.pdf").read_bytes(), (tmp_path / "a.svg").read_text("utf-8")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert "<text" not in svg and "<path" in svg


def test_no_setting_of_matplotlib_is_changed(tmp_path: Path) -> None:
    before, environment = matplotlib.rcParams.copy(), dict(os.environ)
    for each in figures(answered(several("adam")), Style.read()):
        assert matplotlib.rcParams.copy() == before  # also between two figures
        save(each, tmp_path / "a.png", Style.read())
    assert matplotlib.rcParams.copy() == before and dict(os.environ) == environment


def test_settings_that_others_made_before_change_nothing() -> None:
    with matplotlib.rc_context(
        {"figure.figsize": (1, 1), "lines.markersize": 50, "text.color": "r"}
    ):
        figure = drawn(answered(several("adam")))["curves"]
    assert figure.get_size_inches()[0] == 7
    assert {text.get_color() for text in figure.legends[0].get_texts()} == {"black"}


def test_a_figure_is_drawn_when_it_is_asked_for_and_names_what_it_shows() -> None:
    runs = [*several("adam", "sgd"), *last_values(group("adam", experiment="other"), [0.1, 0.2])]
    found = figures(answered(runs), Style.read())
    first = next(found)
    assert (first.title, first.kind) == ("tiny", "curves")
    assert ("other", "curves") in [(each.title, each.kind) for each in found]


def test_a_validation_split_is_drawn_with_train_and_test() -> None:
    figure = drawn(answered(several("adam", validation__loss=LOSS)))["curves"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Accuracy"]
    assert legend(figure) == ["adam", "train", "test", "val"]


def test_the_title_is_in_the_file_for_who_loses_its_name(tmp_path: Path) -> None:
    (drawing, *_) = figures(answered(several("adam")), Style.read())
    save(drawing, tmp_path / "a.svg", Style.read())
    assert "<dc:title>tiny</dc:title>" in (tmp_path / "a.svg").read_text("utf-8")


# ---------------------------------------------------------------- names


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    runs = [trained(name, seed) for name in NASTY for seed in range(2)]
    grid = last_values(group("a", **{"$l": "$1$", "_g": "$x"}), [0.9])
    for found in figures(
        answered([*runs, *grid], target=("test/accuracy=0.5",), heatmap="$l,_g"),
        Style.read(),
    ):
        save(found, tmp_path / "a.pdf", Style.read())  # no formula, no warning
        if found.kind != "heat-map-1":
            assert set(NASTY[:-1]) <= set(texts(found.figure))
        else:
            assert {"$l", "_g", "$1$", "$x"} <= set(texts(found.figure))


def test_letters_that_a_terminal_would_obey_are_written_out(tmp_path: Path) -> None:
    (drawing, *_) = figures(answered([trained("\x1b[31mred\n", 0)]), Style.read())
    save(drawing, tmp_path / "a.pdf", Style.read())
    assert r"\x1b[31mred\n" in texts(drawing.figure)


# ---------------------------------------------------------------- styles


def test_a_style_file_is_laid_over_the_papers(tmp_path: Path) -> None:
    own = style(
        tmp_path,
        """
        # a comment
        figure.figsize: 3.3, 2   # a column
        font.family: sans-serif
        lines.linewidth: 3
        axes.prop_cycle: cycler(color=["red", "#00ff00"])
        grid.color: "#123456"
        """,
    )
    figure = drawn(answered(several("a", "b", "c")), own)["curves"]
    assert figure.get_size_inches()[0] == 3.3
    found = {line.get_color() for line in figure.axes[0].get_lines()}
    assert found == {"#ff0000", "#00ff00"}
    assert {line.get_linewidth() for line in figure.axes[0].get_lines()} == {3}
    assert own.settings["font.family"][0] == "sans-serif"
    assert own.settings["grid.color"] == "#123456"
    assert own.settings["pdf.fonttype"] == 42  # of the paper's, which is below


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("font.sice: 9", ["line 2", "Bad key font.sice"]),
        ("font.size 9", ["line 2", "'font.size 9'", "Missing colon"]),
        ("font.size: large-ish", ["line 2", "font.size", "large-ish"]),
        ("text.usetex: True", ["text.usetex"]),
    ],
)
def test_a_wrong_line_of_a_style_file_is_refused(
    tmp_path: Path, line: str, words: list[str]
) -> None:
    with pytest.raises(UsageError) as error:
        style(tmp_path, f"font.size: 9\n{line}\n")
    for word in [f"--style {tmp_path / 'own.mplstyle'}", *words]:
        assert word in str(error.value)


def test_a_style_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, words in (("missing", "No such file"), ("binary", "UTF-8"), (".", "directory")):
        with pytest.raises(UsageError, match=words) as error:
            Style.read(tmp_path / name)
        assert "--style" in str(error.value)


CLASSIC = Path(matplotlib.get_data_path(), "stylelib", "classic.mplstyle")


@pytest.mark.parametrize("family", ["sans-serif", "DejaVu Sans Mono", "monospace, cursive", None])
def test_a_family_of_fonts_may_have_any_name(tmp_path: Path, family: str | None) -> None:
    own = style(tmp_path, f"font.family: {family}") if family else Style.read(CLASSIC)
    figure = drawn(answered(several("δ-gclip")), own)["curves"]
    assert "δ-gclip" in texts(figure)


def test_a_font_that_is_not_there_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = style(tmp_path, "font.family: No Such-Font, DejaVu Sans Mono, Nor This")
    for drawing in figures(answered(several("δ-gclip")), own):
        save(drawing, tmp_path / "a.png", own)
    assert caplog.messages == [
        f"--style {tmp_path / 'own.mplstyle'}: no font No Such-Font, Nor This is here; DejaVu Sans"
        " Mono stands in for it."
    ]
    assert own.settings["font.family"][0] == "DejaVu Sans Mono"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("figure.figsize: -7, 2", "figure size must be positive finite"),
        ("path.effects: [1]", "no attribute 'draw_path'"),
        ("savefig.dpi: 1e7", "Image size of"),
    ],
)
def test_what_matplotlib_cannot_draw_is_blamed_on_the_style(
    tmp_path: Path, line: str, reason: str
) -> None:
    own = style(tmp_path, line)
    with pytest.raises(UsageError) as error:
        for drawing in figures(answered(several("adam")), own):
            save(drawing, tmp_path / "a.png", own)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"--style {tmp_path / 'own.mplstyle'}: figures cannot be drawn in it: ")
    assert reason in first and len(first) < 300
    assert second == "  Change the line of the file that this is about, or leave it out."
    assert not (tmp_path / "a.png").exists()


def test_a_folder_in_which_nothing_can_be_written_is_not_blamed_on_the_style(
    tmp_path: Path,
) -> None:
    own = style(tmp_path, "font.size: 8")
    (drawing, *_) = figures(answered(several("adam")), own)
    with pytest.raises(FileNotFoundError):
        save(drawing, tmp_path / "missing" / "a.png", own)


def test_a_fault_of_our_own_is_not_blamed_on_a_style() -> None:
    with pytest.raises(ZeroDivisionError), Style.read().applied():
        raise ZeroDivisionError


def test_what_a_style_says_holds_for_all_figures(tmp_path: Path) -> None:
    own = style(tmp_path, "axes.facecolor: red")
    runs = several("adam", "sgd") + clipping("gclip")
    found = drawn(answered(runs, target=(f"{METRIC}=0.5",)), own)
    for figure in found.values():
        assert {axes.get_facecolor() for axes in figure.axes} == {(1, 0, 0, 1)}
    assert found.keys() >= {"curves", "step-size", "time-to-target"}
