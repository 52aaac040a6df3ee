"""A load generator of somebody else's: AIPerf, in an environment of its own under `.build`.

It is given the same prompts and answer lengths as `headway bench` sends, and counts what the engine
says. Its tokenizer is a local one: no hub is asked.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from router.bench.prompts import Prompts
from router.workload.offers import Offer

NAME: Final = "aiperf"
REQUIREMENT: Final = "aiperf==0.13.0"
HOME: Final = Path(__file__).parents[2] / ".build" / "bench" / NAME
INSTALL_S: Final = 900.0
RUN_S: Final = 300.0
_TOKEN: Final = r"\s?\w{1,6}|\s?[^\w\s]|\s"  # noqa: S105 # a token of text


class ToolMissing(Exception):
    """It cannot be had here; the message says why."""


class ToolFailed(Exception):
    """It ran and told nothing; the message has the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Medians:
    """What a load generator found, seconds."""

    first_token_s: float
    per_token_s: float
    """Per output token after the first."""


def installed() -> Path:
    """Return its command, installed if it is not there; raises `ToolMissing`."""
    command = HOME / "bin" / NAME
    if command.exists():
        return command
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    for step in (
        [sys.executable, "-m", "venv", str(HOME)],
        [*pip, "--quiet", "--only-binary", ":all:", REQUIREMENT],
    ):
        if (trouble := _trouble(step, INSTALL_S)) is not None:
            raise ToolMissing(trouble)
    return command


def run(command: Path, url: str, model: str, offers: Sequence[Offer], rate: float) -> Medians:
    """Send the offers' prompts at a constant rate; raises `ToolFailed`.

    All offers must have one length of answer.
    """
    (length,) = {offer.length for offer in offers}
    folder = HOME / "run"
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name, document in tokenizer().items():
        (folder / "tokenizer" / name).write_text(json.dumps(document))
    prompts = Prompts(0)
    lines = [json.dumps({"text": prompts.text(offer)}) + "\n" for offer in offers]
    (folder / "prompts.jsonl").write_text("".join(lines))
    report = folder / "out" / "profile_export_aiperf.json"
    report.unlink(missing_ok=True)
    arguments = ["profile", "--url", url, "-m", model, "--endpoint-type", "chat", "--streaming"]
    arguments += ["--tokenizer", "./tokenizer", "--use-server-token-count"]
    arguments += ["--input-file", "prompts.jsonl", "--custom-dataset-type", "single_turn"]
    arguments += ["--use-legacy-max-tokens", "--extra-inputs", f"max_tokens:{length}"]
    arguments += ["--extra-inputs", "ignore_eos:true", "--extra-inputs", "temperature:0"]
    arguments += ["--request-rate", f"{rate:g}", "--arrival-pattern", "constant"]
    arguments += ["--request-count", f"{len(offers)}", "--artifact-dir", "out", "--ui", "none"]
    trouble = _trouble([str(command), *arguments], RUN_S, folder)
    if trouble is not None or not report.exists():
        raise ToolFailed(trouble or f"{NAME} wrote no {report.name}")
    return medians(json.loads(report.read_text()), len(offers))


def medians(report: Mapping[str, Any], requests: int) -> Medians:
    """Read its report; raises `ToolFailed` where not every request was answered."""
    answered = report["request_count"]["avg"]
    if answered != requests:
        raise ToolFailed(f"{NAME}: {answered:g} of {requests} requests were answered")
    found = [report[name] for name in ("time_to_first_token", "inter_token_latency")]
    if wrong := [each["unit"] for each in found if each["unit"] != "ms"]:
        raise ToolFailed(f"{NAME} tells times in {wrong[0]!r}; it should in 'ms'")
    return Medians(*(each["p50"] / 1000 for each in found))


def tokenizer() -> dict[str, dict[str, object]]:
    """Return the files of a tokenizer that counts as the emulated engines do, by name."""
    pattern = {"type": "Split", "pattern": {"Regex": _TOKEN}, "behavior": "Isolated"}
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
    return {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {**pattern, "invert": False},
            "post_processor": None,
            "decoder": None,
            "model": model,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "[UNK]",
        },
    }


def _trouble(command: Sequence[str], timeout_s: float, folder: Path | None = None) -> str | None:
    """Run a command; return why it failed, with the end of what it wrote, None where it did not."""
    try:
        done = subprocess.run(  # noqa: S603 # our own interpreter, and the tool just installed
            command,
            timeout=timeout_s,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} took more than {timeout_s:g} s"
    if not done.returncode:
        return None
    tail = " / ".join(line.strip() for line in done.stdout.strip().splitlines()[-3:])
    return f"{command[0]} ended with {done.returncode}: {tail}"
