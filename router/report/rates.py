"""Reads the rates that a command line asks for."""

from typing import Final

MOST_RATES: Final = 100


def rates(text: str) -> list[float]:
    """Read `63`, `40,50` or `from:to:step`, the last included; raises ValueError."""
    try:
        numbers = [float(part) for part in text.replace(":", ",").split(",")]
    except ValueError:
        numbers = []
    if ":" in text:
        steps = text.count(":") == 2 and len(numbers) == 3  # noqa: PLR2004 - from, to, step
        numbers = _steps(*numbers) if steps else []
    if not numbers or not all(0 < rate < float("inf") for rate in numbers):
        raise ValueError(
            f"--rate {text!r} is no rate; 63, 40,50,60 or 40:80:10 would be, {MOST_RATES} at most"
        )
    return numbers


def _steps(first: float, last: float, step: float) -> list[float]:
    """Return the numbers from first to last; none where there is no way or it is too long."""
    if not (step > 0 and first <= last and (last - first) / step < MOST_RATES):
        return []
    return [first + index * step for index in range(int((last - first) / step + 1e-9) + 1)]
