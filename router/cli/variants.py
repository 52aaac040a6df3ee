"""`headway variants` and `headway shift`: compare what a model's requests go to, and move them."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from router.cli.admin_client import (
    HOW_TO_REACH,
    Client,
    Failed,
    add_change_arguments,
    add_client_arguments,
    change_headers,
    client_of,
    failed,
    print_json,
    screen,
    table,
)
from router.cli.idle import warn_of_idle_shares

EXAMPLE: Final = f"""\
examples:
  headway shift llama-3.1-8b vllm-2=10        a tenth of its requests to that endpoint
  headway variants                            how it fares beside the others: TTFT, failures, cost
  headway shift llama-3.1-8b vllm-2=100 --reason 'as fast, half the price'
  headway shift llama-3.1-8b vllm-2=0         none of them, also not when others are down
  headway shift llama-3.1-8b --end            shared out by load again
  headway shift llama-3.1-8b --shadow vllm-3=5    copies of 5 % of them, answers thrown away

What may stand before "=": an endpoint, a pool, another model (an adapter) that engines are asked
for instead, or a variant that the policy has. What no variant takes is the variant "rest".
Away: requests of a variant that others had to serve, because it was down or failed. Requests of
one session keep to one variant. Each change is a version of the policy: see headway
policy history and headway policy rollback. Cost needs the endpoints' label usd_per_hour.
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the commands take."""
    parser.add_argument("model", nargs="?", help="a model; variants: left out, every one")
    parser.add_argument("shares", nargs="*", metavar="PLACE=PERCENT", help="shift: what goes where")
    parser.add_argument(
        "--shadow", metavar="PLACE=PERCENT", help="shift: what is copied, and where"
    )
    parser.add_argument("--end", action="store_true", help="shift: have no variants and no shadow")
    parser.add_argument(
        "--sticky",
        choices=["session", "tenant", "nothing"],
        help="shift: whose requests keep to one variant",
    )
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do what the command's name says; returns the exit status."""
    try:
        client = client_of(args)
        if args.command == "shift" and _changes(args):
            return _shift(client, args)
        return _compare(client, args)
    except Failed as error:
        return failed(args.command, error)


def _changes(args: argparse.Namespace) -> bool:
    if args.model is None:
        raise Failed("say which model, and what goes where: headway shift llama-3.1-8b vllm-2=10")
    return bool(args.shares or args.shadow or args.end or args.sticky)


def _shift(client: Client, args: argparse.Namespace) -> int:
    answer = client.ask("GET", "/policy")
    patch = {"models": {args.model: _patch(client, args, answer.json())}}
    headers = {**change_headers(args), "if-match": answer.headers["etag"]}
    made = client.ask("PATCH", "/policy", patch, headers=headers).json()
    if args.json:
        print_json(made)
        return 0
    sys.stdout.write(f"version {made['version']} is in effect\n{_said(args.model, made)}\n")
    warn_of_idle_shares(client)
    return 0


def _said(model: str, made: dict[str, Any]) -> str:
    """Return in one sentence what goes where from here on."""
    own = made["policy"]["models"].get(model, {})
    shares = {name: each["share"] for name, each in own.get("variants", {}).items()}
    parts = [f"{100 * part:g} % to {name}" for name, part in shares.items()]
    rest = round(1 - sum(shares.values()), 9)
    if parts:
        parts += [f"{100 * rest:g} % to the others"] if rest > 0 else []
    else:
        parts = ["shared out by load"]
    shadow = own.get("shadow")
    if shadow:
        where = ", ".join((*shadow["endpoints"], *shadow["pools"]))
        parts.append(f"{100 * shadow['share']:g} % copied to {where}")
    return f"{model}: {', '.join(parts)}"


def _patch(client: Client, args: argparse.Namespace, policy: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch of one model that the arguments mean."""
    if args.end:
        return {"variants": None, "shadow": None}
    patch: dict[str, Any] = {}
    pools = client.get("/pools")
    present = policy["models"].get(args.model, {}).get("variants", {})
    variants = {}
    for word in args.shares:
        name, part = _share(word)
        place = {} if name in present else _place(name, pools)
        variants[name] = {**place, "share": part}
    if variants:
        patch["variants"] = variants
    if args.shadow:
        name, part = _share(args.shadow)
        place = _place(name, pools)
        if "model" in place:
            raise Failed(f"{name!r} is a model; a shadow is an endpoint or a pool")
        patch["shadow"] = {"endpoints": [], "pools": [], **place, "share": part}
    if args.sticky:
        patch["sticky"] = args.sticky
    return patch


def _share(word: str) -> tuple[str, float]:
    name, equals, text = word.rpartition("=")
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not equals or not name or not 0 <= percent <= 100:  # noqa: PLR2004 - per cent
        raise Failed(f"{word!r} is no PLACE=PERCENT, 0 to 100; e.g. vllm-2=10")
    return name, round(percent / 100, 9)


def _place(name: str, pools: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a name stands for."""
    endpoints = [each["id"] for pool in pools for each in pool["endpoints"]]
    models = sorted({model for pool in pools for model in pool["models"]})
    names = [pool["name"] for pool in pools]
    if name in endpoints:
        return {"endpoints": [name]}
    if name in names:
        return {"pools": [name]}
    if name in models:
        return {"model": name}
    raise Failed(
        f"there is no {name!r}; endpoints: {', '.join(endpoints)}; pools: {', '.join(names)};"
        f" models: {', '.join(models)}"
    )


def _compare(client: Client, args: argparse.Namespace) -> int:
    found = [each for each in client.get("/variants") if args.model in (None, each["model"])]
    if args.json:
        print_json(found)
        return 0
    if not found:
        which = "no model is" if args.model is None else f"model {args.model!r} is not"
        sys.stdout.write(
            f"{which} divided; headway shift MODEL ENDPOINT=10 gives an endpoint a tenth\n"
        )
        return 0
    for each in found:
        sys.stdout.write(f"{each['model']}, the last {_span(each['since_s'])}\n")
        screen().print(comparison(each["variants"]))
    return 0


def comparison(variants: Iterable[Mapping[str, Any]]) -> Any:
    """Return variants side by side."""
    rows = table(
        *("variant", ">share", ">requests", ">failed", ">away", ">met"),
        *(">TTFT p50/p99", ">TPOT p50/p99", ">$/M tokens"),
    )
    for each in variants:
        cost = each["usd_per_million_output_tokens"]
        rows.add_row(
            each["variant"],
            _percent(each["share"]),
            str(each["requests"]),
            str(each["failed"]),
            str(each["elsewhere"]),
            _percent(each["attainment"]),
            _both(each["first_token_s"], digits=0),
            _both(each["per_token_s"], digits=1),
            "-" if cost is None else f"{cost:.2f}",
        )
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g}%"


def _both(times_s: Mapping[str, float | None], *, digits: int) -> str:
    """Return the median and the 99th percentile, ms."""
    p50, p99 = times_s["p50"], times_s["p99"]
    if p50 is None or p99 is None:
        return "-"
    return f"{1e3 * p50:.{digits}f}/{1e3 * p99:.{digits}f} ms"


def _span(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004
