"""`headway endpoints`, `drain`, `undrain`: the engines of a running router."""

import argparse
from typing import Any, Final

from router.cli.admin_client import (
    HOW_TO_REACH,
    Client,
    Failed,
    add_change_arguments,
    add_client_arguments,
    change_headers,
    client_of,
    done,
    failed,
    given,
    milliseconds,
    only,
    print_json,
    screen,
    table,
)

EXAMPLE: Final = f"""\
examples:
  headway endpoints                                                     all, with their state and why
  headway endpoints add bulk vllm-2 --engine vllm --at http://10.0.0.4:8000 --share 10
  headway endpoints set vllm-2 weight=1.0 labels.rack=7
  headway endpoints probe vllm-2
  headway endpoints delete vllm-0

--share 10: from its first request on it takes a tenth of each of its pool's models, no more;
headway shift changes that, headway variants compares. Without it, load is shared out by weight.
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    actions = ["list", "add", "set", "probe", "delete"]
    parser.add_argument("action", nargs="?", default="list", choices=actions)
    parser.add_argument("what", nargs="*", help="POOL ID for add, else ID, then KEY=VALUE for set")
    parser.add_argument("--engine", help="add: vllm, tgi, sglang, llamacpp or openai")
    parser.add_argument("--at", help="add: the engine's URL")
    parser.add_argument("--weight", type=float, help="add: capacity, relative to others")
    parser.add_argument(
        "--share", type=float, metavar="PERCENT", help="add: of each model's traffic"
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="add: usd_per_hour=2.5"
    )
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do what is asked; returns the exit status."""
    try:
        client = client_of(args)
        match args.action:
            case "list":
                return show(client.get("/pools"), as_json=args.json)
            case "add":
                return _add(client, args)
            case "set":
                return _set(client, args)
            case "probe":
                _, path = placed(client, _one(args))
                client.ask("POST", f"{path}/probe")
                return done(args, f"{_one(args)} is being probed", {})
            case _:
                return change(client, args, "DELETE", "", "is taken out")
    except Failed as error:
        return failed(f"endpoints {args.action}", error)


def show(pools: list[dict[str, Any]], *, as_json: bool) -> int:
    """Write endpoints and their state."""
    endpoints = [each for pool in pools for each in pool["endpoints"]]
    if as_json:
        print_json(endpoints)
        return 0
    rows = table("endpoint", "pool", "state", ">in flight", ">slots", ">weight", ">TTFT", "why")
    for pool in pools:
        for each in pool["endpoints"]:
            now = each["now"] or {}
            rows.add_row(
                each["id"],
                pool["name"],
                now.get("state", "-"),
                str(now.get("in_flight", "-")),
                str(now.get("slots", "-")),
                f"{each['weight']:g}",
                milliseconds(now.get("first_token_s")),
                now.get("why", ""),
            )
    screen().print(rows)
    return 0


def placed(client: Client, id_: str) -> tuple[str, str]:
    """Return an endpoint's pool and path; raises `Failed` where there is no such endpoint."""
    known = []
    for pool in client.get("/pools"):
        for each in pool["endpoints"]:
            known.append(each["id"])
            if each["id"] == id_:
                return pool["name"], f"/pools/{pool['name']}/endpoints/{id_}"
    raise Failed(f"no endpoint {id_!r}; there are {', '.join(known)}")


def change(client: Client, args: argparse.Namespace, method: str, tail: str, words: str) -> int:
    """Change one endpoint in one call; returns the exit status."""
    id_ = _one(args)
    _, path = placed(client, id_)
    answer = client.ask(method, f"{path}{tail}", headers=change_headers(args)).json()
    return done(args, f"{id_} {words}", answer)


def _one(args: argparse.Namespace) -> str:
    return only(args.what, "name one endpoint; headway endpoints lists them")


def _add(client: Client, args: argparse.Namespace) -> int:
    if len(args.what) != 2 or not args.engine or not args.at:  # noqa: PLR2004 - pool and id
        raise Failed(
            "say pool, id, engine and URL: headway endpoints add bulk vllm-2 --engine vllm"
            " --at http://10.0.0.4:8000"
        )
    pool, id_ = args.what
    endpoint = {"id": id_, "engine": args.engine, "url": args.at}
    if args.weight is not None:
        endpoint["weight"] = args.weight
    if args.label:
        endpoint["labels"] = dict(word.partition("=")[::2] for word in args.label)
    path, headers = f"/pools/{pool}/endpoints", change_headers(args)
    if args.share is None:
        answer = client.ask("POST", path, endpoint, headers=headers).json()
        return done(args, f"{id_} serves in pool {pool}", answer)
    if not 0 <= args.share <= 100:  # noqa: PLR2004 - per cent
        raise Failed(f"--share {args.share:g} is no percentage, 0 to 100")
    # Nothing is sent there before its share is set.
    client.ask("POST", path, {**endpoint, "draining": True}, headers=headers)
    variant = {"variants": {id_: {"endpoints": [id_], "share": args.share / 100}}}
    models = client.get(f"/pools/{pool}")["models"]
    tag = client.ask("GET", "/policy").headers["etag"]
    patch = {"models": dict.fromkeys(models, variant)}
    client.ask("PATCH", "/policy", patch, headers={**headers, "if-match": tag})
    answer = client.ask("POST", f"{path}/{id_}/undrain", headers=headers).json()
    words = f"{id_} serves {args.share:g} % of {', '.join(models)} in pool {pool}"
    return done(args, words, answer)


def _set(client: Client, args: argparse.Namespace) -> int:
    if len(args.what) < 2:  # noqa: PLR2004 - an id and a change
        raise Failed("say what to set: headway endpoints set vllm-2 weight=0.5")
    id_, *words = args.what
    _, path = placed(client, id_)
    patch = given(words)
    answer = client.ask("PATCH", path, patch, headers=change_headers(args)).json()
    return done(args, f"{id_} is changed", answer)
