"""Finds workloads and traces by name or path, and says everything that is wrong with them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from router import toml
from router.document import ConfigError, Document, Flaw, place, unknown
from router.workload.lengths import distribution
from router.workload.settings import Traffic, Workload

WORKLOAD: Final = Document(Workload)
_BUILT_IN: Final = Path(__file__).parent / "builtin"
_TRACES: Final = Path(__file__).parent / "traces"


def built_in_names() -> list[str]:
    """Return the names of the workloads that come with the package."""
    return sorted(path.stem for path in _BUILT_IN.glob("*.toml"))


def trace_names() -> list[str]:
    """Return the names of the traces that come with the package."""
    return sorted(path.name.partition(".")[0] for path in _TRACES.glob("*.gz"))


def load_workload(name: str) -> Workload:
    """Return a built-in workload by name, or the one in a TOML file; raises `ConfigError`."""
    path = _BUILT_IN / f"{name}.toml"
    if not path.exists():
        path = Path(name)
        if path.suffix != ".toml":
            message = unknown("workload", name, built_in_names()) + ", or a .toml file"
            raise ConfigError(name, [Flaw("", message)])
    workload = WORKLOAD.read(path.name, toml.parsed(path))
    workload = replace(
        workload, traffic=tuple(_beside(traffic, path.parent) for traffic in workload.traffic)
    )
    if flaws := list(_flaws(workload)):
        raise ConfigError(path.name, flaws)
    return workload


def trace_path(name: str) -> Path:
    """Return the file of a built-in trace by name, else the path that the name is."""
    built_in = (_TRACES / f"{name}{suffix}" for suffix in (".csv.gz", ".jsonl.gz"))
    return next((path for path in built_in if path.exists()), Path(name))


def _beside(traffic: Traffic, folder: Path) -> Traffic:
    """Let relative paths of traces start at the document's folder."""

    def found(name: str | None) -> str | None:
        if name is None or trace_path(name) != Path(name):
            return name
        return str(folder / name)

    return replace(traffic, lengths=found(traffic.lengths), trace=found(traffic.trace))


def _flaws(workload: Workload) -> Iterator[Flaw]:
    """Yield what is right key by key and wrong together."""
    if workload.warm_up_s >= workload.duration_s:
        message = f"must be less than duration_s, {workload.duration_s:g}"
        yield Flaw("warm_up_s", f"{message}, not {workload.warm_up_s:g}")
    names: set[str] = set()
    for index, traffic in enumerate(workload.traffic):
        here = ("traffic", index)
        if traffic.name in names:
            yield Flaw(place((*here, "name")), f"{traffic.name!r} is taken; give it another")
        names.add(traffic.name)
        for key, message in _traffic_flaws(traffic):
            yield Flaw(place((*here, key)), message)
    for index, fault in enumerate(workload.faults):
        if fault.until_s is not None and fault.until_s <= fault.at_s:
            message = f"must be more than at_s, {fault.at_s:g}, not {fault.until_s:g}"
            yield Flaw(place(("faults", index, "until_s")), message)


def _traffic_flaws(traffic: Traffic) -> Iterator[tuple[str, str]]:
    if (traffic.rate is None) == (traffic.trace is None):
        yield "rate", "give either a rate or a trace"
    if traffic.trace is not None:
        for key in ("lengths", "prompt", "output"):
            if getattr(traffic, key) is not None:
                yield key, "a trace has lengths of its own; leave this out"
        if traffic.changes:
            yield "changes", "a trace has a rate of its own; leave this out"
    else:
        yield from _length_flaws(traffic)
    times = [change.at_s for change in traffic.changes]
    if times != sorted(set(times)):
        yield "changes", f"must be ascending in at_s, not {times}"


def _length_flaws(traffic: Traffic) -> Iterator[tuple[str, str]]:
    drawn = {"prompt": traffic.prompt, "output": traffic.output}
    if traffic.lengths is None and None in drawn.values():
        yield "lengths", "give lengths, or both prompt and output"
    for key, text in drawn.items():
        if text is None:
            continue
        if traffic.lengths is not None:
            yield key, "lengths come from a trace already; leave this or lengths out"
        try:
            distribution(text)
        except ValueError as error:
            yield key, str(error)
