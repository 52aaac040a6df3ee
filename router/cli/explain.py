"""`headway explain`: the decision that a request would get, or why one that ended went as it did."""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from router.cli.admin_client import (
    HOW_TO_REACH,
    Client,
    Failed,
    add_client_arguments,
    client_of,
    failed,
    milliseconds,
    print_json,
    screen,
    table,
)

EXAMPLE: Final = f"""\
examples:
  headway explain --model llama-3.1-8b --prompt-bytes 2000 -H 'X-SLA-Class: interactive'
  headway explain --body request.json -H 'X-SLA-TTFT-Ms: 500'
  headway explain --request 3f2a...                     why one that ended (or runs) was slow

The id of a request is in its answer's X-Request-Id and in the access log; headway requests
lists those of the latest.
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--request", metavar="ID", help="a request that ended or is under way")
    parser.add_argument("--body", type=Path, help="a request's body, JSON")
    parser.add_argument("--model", help="the model, where there is no body")
    parser.add_argument("--prompt-bytes", type=int, default=100, help="how long its prompt is")
    parser.add_argument("--route", default="/v1/chat/completions")
    parser.add_argument("-H", "--header", action="append", default=[], help="'Name: value'")
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Explain; returns the exit status."""
    try:
        client = client_of(args)
        if args.request:
            return _story(client, args)
        asked = {"route": args.route, "headers": _headers(args.header), "body": _body(args)}
        told = client.ask("POST", "/explain", asked).json()
    except Failed as error:
        return failed("explain", error)
    if args.json:
        print_json(told)
    else:
        _show(told)
    return 0


def _story(client: Client, args: argparse.Namespace) -> int:
    told = client.get(f"/requests/{args.request}")
    if args.json:
        print_json(told)
    else:
        sys.stdout.writelines(f"{sentence}\n" for sentence in told["story"])
    return 0


def _show(told: dict[str, Any]) -> None:
    sys.stdout.write(f"{told['decision']['text']}\n")
    asked = told["asked"]
    if asked:
        sys.stdout.write(
            f"class {asked['class']} (decided by: {asked['class_why']}); prompt about"
            f" {asked['prompt_tokens']} tokens, answer about {asked['output_p50_tokens']:.0f}\n"
        )
    rows = table(
        "endpoint", "pool", "as", "state", ">in flight", ">slots", ">TTFT", ">TPOT", "verdict"
    )
    for each in told["candidates"]:
        rows.add_row(
            each["id"],
            each["pool"],
            each["tier"] or "-",
            each["state"],
            str(each["in_flight"]),
            str(each["slots"]),
            milliseconds(each["predicted_first_token_s"]),
            milliseconds(each["predicted_per_token_s"]),
            each["verdict"],
        )
    screen().print(rows)


def _headers(lines: list[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Failed(f"{line!r} is no header; e.g. -H 'X-SLA-Class: interactive'")
        headers[name.strip()] = value.strip()
    return headers


def _body(args: argparse.Namespace) -> Any:
    if args.body is not None:
        try:
            return orjson.loads(args.body.read_bytes())
        except (OSError, ValueError) as error:
            raise Failed(f"{str(args.body)!r} cannot be read as JSON: {error}") from error
    if args.model is None:
        raise Failed("say which request: --model NAME, --body FILE or --request ID")
    prompt = "x" * max(1, args.prompt_bytes)
    return {"model": args.model, "messages": [{"role": "user", "content": prompt}], "stream": True}
