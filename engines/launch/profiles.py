"""What a pool's profile means as flags, for each kind of engine, and why.

A profile is a promise about waiting. A predictable engine has few slots and a small prefill budget,
so that no request can delay another by much; a throughput engine trades that for more tokens a
second. `python -m engines.launch.profiles` prints the whole table.

Measured figures are of an 8B model on one H100 under vLLM 0.26 and of a 135M model on two CPU cores
under llama.cpp 2026.10; what was not measured is said to be read from the engine's source.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from engines.engine import Kind


class Profile(StrEnum):
    """A pool's profile, by the names that the configuration uses."""

    PREDICTABLE = "predictable"
    THROUGHPUT = "throughput"


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers behind a profile's flags."""

    slots: int
    """Requests that run at once, at least 1."""
    step_tokens: int
    """Prompt tokens that one step may take: what a newcomer can add to the others' token gap."""
    waiting: int
    """Requests that the engine itself lets wait; more are refused at once."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One argument of an engine's command line."""

    name: str
    value: str | None
    """None: a switch."""
    why: str


SHAPES: Mapping[tuple[Kind, Profile], Shape] = {
    (Kind.VLLM, Profile.PREDICTABLE): Shape(slots=32, step_tokens=512, waiting=32),
    (Kind.VLLM, Profile.THROUGHPUT): Shape(slots=256, step_tokens=2048, waiting=256),
    (Kind.TGI, Profile.PREDICTABLE): Shape(slots=32, step_tokens=2048, waiting=0),
    (Kind.TGI, Profile.THROUGHPUT): Shape(slots=256, step_tokens=8192, waiting=0),
    (Kind.SGLANG, Profile.PREDICTABLE): Shape(slots=32, step_tokens=512, waiting=32),
    (Kind.SGLANG, Profile.THROUGHPUT): Shape(slots=256, step_tokens=2048, waiting=256),
    (Kind.LLAMACPP, Profile.PREDICTABLE): Shape(slots=2, step_tokens=32, waiting=0),
    (Kind.LLAMACPP, Profile.THROUGHPUT): Shape(slots=8, step_tokens=512, waiting=0),
}
"""Every kind that has flags of its own; a plain OpenAI server has none that we could know."""


def flags(kind: Kind, profile: Profile, *, slots: int | None = None) -> tuple[Flag, ...]:
    """Return what `profile` means on an engine of `kind`; empty for a plain OpenAI server.

    `slots` replaces the profile's own number of requests that run at once.
    """
    shape = SHAPES.get((kind, profile))
    if shape is None:
        return ()
    if slots is not None:
        if slots < 1:
            raise ValueError(f"an engine needs at least 1 slot, not {slots}")
        shape = replace(shape, slots=slots, waiting=min(shape.waiting, slots))
    return _WRITERS[kind](profile, shape)


def arguments(kind: Kind, profile: Profile, *, slots: int | None = None) -> list[str]:
    """Return the flags of `flags` as the engine's command line takes them."""
    return [
        word
        for flag in flags(kind, profile, slots=slots)
        for word in ((flag.name,) if flag.value is None else (flag.name, flag.value))
    ]


def table() -> str:
    """Return every flag and its reason as a Markdown table."""
    rows = ["| engine | profile | flag | why |", "|---|---|---|---|"]
    rows += [
        f"| {kind} | {profile} | `{flag.name}{'' if flag.value is None else f' {flag.value}'}` "
        f"| {flag.why} |"
        for kind, profile in SHAPES
        for flag in flags(kind, profile)
    ]
    return "\n".join(rows) + "\n"


def _vllm(profile: Profile, shape: Shape) -> tuple[Flag, ...]:
    both = (
        Flag(
            "--scheduling-policy",
            "priority",
            "the class travels as vLLM's priority; without this flag it has no effect. "
            "A burst of 128 long prompts then delays a short one by 0.3 s instead of 8.7 s (p99)",
        ),
        Flag(
            "--max-num-queued-reqs",
            f"{shape.waiting}",
            "an honest 503 before the stream begins, where the default queue has no end",
        ),
        Flag(
            "--enable-prompt-tokens-details",
            None,
            "answers tell how much of the prompt was cached",
        ),
        Flag("--shutdown-timeout", "30", "running answers end before the engine does"),
    )
    match profile:
        case Profile.PREDICTABLE:
            return (
                Flag(
                    "--max-num-seqs",
                    f"{shape.slots}",
                    "a step with 32 sequences takes 7 ms, so a token waits for few others",
                ),
                Flag(
                    "--max-num-batched-tokens",
                    f"{shape.step_tokens}",
                    "the longest mixed step, and so the worst token gap: 19 ms at 512, 60 ms at "
                    "2048, 200 ms at 8192",
                ),
                Flag(
                    "--max-cudagraph-capture-size",
                    f"{shape.step_tokens}",
                    "graphs stop at twice the slots otherwise, and mixed steps above take 15-18 ms "
                    "instead of 7-13",
                ),
                *both,
            )
        case Profile.THROUGHPUT:
            return (
                Flag(
                    "--max-num-seqs",
                    f"{shape.slots}",
                    "nine tenths of the output of 512 sequences at half of their token gap",
                ),
                Flag(
                    "--max-num-batched-tokens",
                    f"{shape.step_tokens}",
                    "as many bulk tokens a second as 8192, and spilled interactive requests see "
                    "gaps of 85 ms instead of 203 (p99)",
                ),
                *both,
            )


def _tgi(profile: Profile, shape: Shape) -> tuple[Flag, ...]:
    permits = Flag(
        "--max-concurrent-requests",
        f"{shape.slots}",
        "TGI orders nothing: what it holds beyond its slots waits first come, first served, so the "
        "router keeps the queue; one more is a 429 at once",
    )
    match profile:
        case Profile.PREDICTABLE:
            return (
                permits,
                Flag(
                    "--max-batch-prefill-tokens",
                    f"{shape.step_tokens}",
                    "the default is about a second of the card's peak, which one step may then "
                    "take from every running answer",
                ),
                Flag(
                    "--max-waiting-tokens",
                    "4",
                    "the default lets a newcomer wait 20 decode steps; applies where prompts are "
                    "not chunked",
                ),
            )
        case Profile.THROUGHPUT:
            return (
                permits,
                Flag(
                    "--max-batch-prefill-tokens",
                    f"{shape.step_tokens}",
                    "large steps read prompts fastest",
                ),
                Flag(
                    "--cuda-graphs",
                    ",".join(f"{2**power}" for power in range(shape.slots.bit_length())),
                    "batches above the largest graph (32 by default) run step by step from Python",
                ),
            )


def _sglang(profile: Profile, shape: Shape) -> tuple[Flag, ...]:
    step_reason = {
        Profile.PREDICTABLE: "the most prompt tokens that may come between two tokens of an answer",
        Profile.THROUGHPUT: "a prompt in larger pieces is read sooner; 8192 stalls answers longer",
    }
    return (
        Flag("--max-running-requests", f"{shape.slots}", "the number of slots"),
        Flag("--chunked-prefill-size", f"{shape.step_tokens}", step_reason[profile]),
        Flag(
            "--enable-mixed-chunk",
            None,
            "prompts come first otherwise, and running answers stand still for each",
        ),
        Flag(
            "--enable-priority-scheduling",
            None,
            "the class travels as SGLang's priority; without this flag it has no effect",
        ),
        Flag(
            "--max-queued-requests",
            f"{shape.waiting}",
            "a refusal at once, where the default queue has no end",
        ),
        Flag("--enable-metrics", None, "there is no /metrics without it"),
    )


CONTEXT_TOKENS = 2048
"""Prompt and answer of one llama.cpp slot; each slot has its share of the context set apart."""


def _llamacpp(profile: Profile, shape: Shape) -> tuple[Flag, ...]:
    slot_reason = {
        Profile.PREDICTABLE: "a slot's token gap grows with each other slot that runs: 20 ms alone, "
        "34 ms with two, 124 ms with eight",
        Profile.THROUGHPUT: "as many answers at once as the cache has room for",
    }
    step_reason = {
        Profile.PREDICTABLE: "a long prompt is read in small pieces, between which others get their "
        "next token: the worst gap was 0.8 s at 32, 6 s at 512",
        Profile.THROUGHPUT: "a long prompt read in large pieces was ready in 17 s instead of 22",
    }
    return (
        Flag("--parallel", f"{shape.slots}", slot_reason[profile]),
        Flag(
            "--ctx-size",
            f"{shape.slots * CONTEXT_TOKENS}",
            "shared out evenly: so much for each slot times the slots",
        ),
        Flag("--batch-size", f"{shape.step_tokens}", step_reason[profile]),
        Flag("--ubatch-size", f"{shape.step_tokens}", "the piece that is really computed at once"),
        Flag("--cache-ram", "0", "the default keeps old prompts in up to 8 GiB of memory"),
        Flag("--metrics", None, "there is no /metrics without it"),
    )


_WRITERS: Mapping[Kind, Callable[[Profile, Shape], tuple[Flag, ...]]] = {
    Kind.VLLM: _vllm,
    Kind.TGI: _tgi,
    Kind.SGLANG: _sglang,
    Kind.LLAMACPP: _llamacpp,
}

if __name__ == "__main__":
    sys.stdout.write(table())
