"""Results as pictures, drawn by matplotlib: the extra `bench` installs it.

A picture is the same, byte for byte, for the same results.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES: Final = (".svg", ".png")
_WIDTH_IN: Final = 5.2
_HEIGHT_IN: Final = 3.4
_LEAST_S: Final = 0.005
"""Where time axes begin: nothing answers sooner."""


class ChartsMissing(Exception):
    """The library that draws is not installed; the text says how to get it."""


def require_charts() -> None:
    """Raise `ChartsMissing` where nothing can be drawn."""
    if find_spec("matplotlib") is None:
        raise ChartsMissing(
            "pictures need matplotlib, which is not installed; pip install 'headway[bench]'"
        )


def fit_suffix(path: Path) -> None:
    """Raise ValueError where a file's name says no kind of picture."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r} is no picture; a name in {' or '.join(SUFFIXES)} would be")


def save(figure: "Figure", path: Path) -> None:
    """Write a picture, in the kind that the file's name says."""
    path.write_bytes(drawn(figure, path.suffix.removeprefix(".")))


def drawn(figure: "Figure", kind: str) -> bytes:
    """Return a picture as a file's bytes; `kind` is svg or png."""
    out = io.BytesIO()
    metadata: dict[str, str | None] = {"Date": None} if kind == "svg" else {"Software": None}
    with _styled():
        figure.savefig(out, format=kind, metadata=metadata, dpi=150)
    return out.getvalue()


def attainment_over_rate(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw attainment over the offered rate: a line a contender, a panel a class."""
    figure, panels = _panels(_classes(rows))
    for sla_class, panel in panels.items():
        for name in _names(rows):
            own = [row for row in rows if row["name"] == name and sla_class in row["classes"]]
            shares = [row["classes"][sla_class]["attainment"] for row in own]
            rates = [row["rate"] for row in own]
            (line,) = panel.plot(
                rates, [100 * each["mean"] for each in shares], marker="o", markersize=3, label=name
            )
            if shares and all(each["low"] is not None for each in shares):
                panel.fill_between(
                    rates,
                    [100 * each["low"] for each in shares],
                    [100 * each["high"] for each in shares],
                    color=line.get_color(),
                    alpha=0.15,
                    linewidth=0,
                )
        panel.set(xlabel="offered, requests/s", ylabel="met their targets, %", ylim=(-3, 103))
        panel.axhline(99, color="0.5", linewidth=0.8, linestyle=":")
    _legend(figure, panels)
    return figure


def first_token_curves(
    rows: Sequence[Mapping[str, Any]], targets_s: Mapping[str, float | None] | None = None
) -> "Figure":
    """Draw how many of the answers had begun by then: a line a contender, a panel a class."""
    figure, panels = _panels(_classes(rows))
    for sla_class, panel in panels.items():
        for row in rows:
            points = row["classes"].get(sla_class, {}).get("first_token_curve", [])
            panel.plot(
                [_LEAST_S, *(time_s for time_s, _ in points)],
                [0.0, *(100 * share for _, share in points)],
                drawstyle="steps-post",
                label=_label(row, rows),
            )
        target_s = (targets_s or {}).get(sla_class)
        if target_s is not None:
            panel.axvline(target_s, color="0.5", linewidth=0.8, linestyle=":")
        panel.set(xscale="log", xlabel="time to first token, s", ylabel="of answers, %")
        panel.set(ylim=(0, 103), xlim=(_LEAST_S, None))
    _legend(figure, panels)
    return figure


def attainment_over_time(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw attainment by the time of arrival: a line a contender, a panel a class."""
    figure, panels = _panels(_classes(rows))
    for sla_class, panel in panels.items():
        for row in rows:
            pieces = [p for p in row["classes"][sla_class]["timeline"] if p["offered"]]
            panel.plot(
                [piece["at_s"] for piece in pieces],
                [100 * piece["good"] / piece["offered"] for piece in pieces],
                label=_label(row, rows),
            )
        panel.set(xlabel="arrived at, s", ylabel="met their targets, %", ylim=(-3, 103))
    _legend(figure, panels)
    return figure


def _styled() -> AbstractContextManager[None]:
    """Let matplotlib draw our way for a while, its own settings left as they were."""
    from matplotlib import rc_context  # noqa: PLC0415 - an optional extra

    return rc_context(
        {
            "svg.hashsalt": "headway",
            "svg.fonttype": "path",
            "font.size": 9,
            "axes.grid": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.alpha": 0.3,
            "lines.linewidth": 1.6,
        }
    )


def _panels(classes: Sequence[str]) -> "tuple[Figure, dict[str, Axes]]":
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra

    with _styled():
        size = (_WIDTH_IN * max(1, len(classes)), _HEIGHT_IN)
        figure = Figure(figsize=size, layout="constrained")
        drawn_in = figure.subplots(1, max(1, len(classes)), squeeze=False)[0]
        panels = dict(zip(classes, drawn_in, strict=False))
        for sla_class, panel in panels.items():
            panel.set_title(sla_class)
    return figure, panels


def _legend(figure: "Figure", panels: "Mapping[str, Axes]") -> None:
    if panels:
        handles, labels = next(iter(panels.values())).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def _classes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows for name in row["classes"]))


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in rows))


def _label(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what a line is called: the rate as well where one name has several."""
    several = len({each["rate"] for each in rows}) > 1
    return f"{row['name']} at {row['rate']:g}/s" if several else str(row["name"])
