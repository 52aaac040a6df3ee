"""What the person at the terminal sees, and what a script reads."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table

from engines.launch.llamacpp import MODEL
from router.demo.stage import Pool
from router.demo.tally import Row, Tally


def live(tally: Tally, elapsed_s: float, seconds: float | None) -> RenderableType:
    """Return the table as it stands."""
    until = "until Ctrl-C" if seconds is None else f"of {seconds:.0f} s"
    return table(tally, f"{elapsed_s:.0f} s {until}")


def table(tally: Tally, title: str) -> Table:
    """Return a row a class: how many, how fast, how often in time, and where they ran.

    Fits a terminal of 80 columns, so targets stand under the class and pools under each other.
    """
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    result.add_column("class", no_wrap=True)
    for name in ("ended", "open", "failed", "TTFT ms\np50", "\np95", "TPOT ms\np50", "in\ntime"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("answered by", no_wrap=True)
    for sla_class, row in tally.rows.items():
        result.add_row("\n".join((sla_class.value, *_targets(row))), *_cells(row))
    return result


def _cells(row: Row) -> Iterable[str]:
    yield f"{row.ended}"
    yield f"{row.in_flight or row.left}"
    yield "\n".join(f"{count} x {why}" for why, count in row.missing.most_common()) or "-"
    yield _milliseconds(row.first_token_s(0.5))
    yield _milliseconds(row.first_token_s(0.95))
    yield _milliseconds(row.per_token_s(0.5))
    yield "-" if row.attained is None else f"{row.attained:.0%}"
    yield "\n".join(f"{pool} {share:.0%}" for pool, share in row.pool_shares().items()) or "-"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f}"


def _targets(row: Row) -> Iterable[str]:
    named = (
        ("TTFT", row.targets.first_token_s),
        ("TPOT", row.targets.per_token_s),
        ("whole", row.targets.deadline_s),
    )
    return [f"  {name} {seconds:g} s" for name, seconds in named if seconds is not None]


def invitation(url: str, pools: Sequence[Pool]) -> str:
    """Return how to try the router while it runs: with curl, and with the SDK."""
    engines = "\n".join(
        f"  {pool.name}: llama.cpp with {pool.slots} slots, {pool.engine_url}" for pool in pools
    )
    return f"""
The router is at {url}/v1, before two engines:
{engines}

Try it while it runs:
  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -H 'X-SLA-Class: interactive' -H 'X-SLA-TTFT-Ms: 1500' \\
    -d '{{"model": "{MODEL}", "stream": true, "max_tokens": 32, \
"messages": [{{"role": "user", "content": "Hello!"}}]}}'
or with the OpenAI SDK:
  OpenAI(base_url="{url}/v1", api_key="none").chat.completions.create(model="{MODEL}", …)
"""


def summary(tally: Tally, elapsed_s: float, url: str) -> dict[str, object]:
    """Return what one JSON line at the end says; times in milliseconds, shares 0..1."""
    return {
        "seconds": round(elapsed_s, 1),
        "url": url,
        "model": MODEL,
        "classes": {sla_class.value: _figures(row) for sla_class, row in tally.rows.items()},
    }


def _figures(row: Row) -> dict[str, object]:
    return {
        "requests": row.ended,
        "unfinished": row.left,
        "answered": len(row.answers),
        "no_answer": dict(row.missing),
        "ttft_p50_ms": _rounded(row.first_token_s(0.5), 1000),
        "ttft_p95_ms": _rounded(row.first_token_s(0.95), 1000),
        "tpot_p50_ms": _rounded(row.per_token_s(0.5), 1000),
        "attained": _rounded(row.attained, 1, digits=4),
        "pools": {pool: round(share, 4) for pool, share in row.pool_shares().items()},
    }


def _rounded(value: float | None, factor: float, digits: int = 1) -> float | None:
    return None if value is None else round(value * factor, digits)
