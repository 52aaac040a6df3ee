"""How commands speak to a router's administration: address, token, errors in one sentence."""

import argparse
import getpass
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from router.credentials import ADMIN_TOKEN

URL_VARIABLE: Final = "HEADWAY_ADMIN_URL"
USUAL_URL: Final = "http://127.0.0.1:8080"
USUAL_TOKEN_FILE: Final = Path("admin.token")
TIMEOUT_S: Final = 150.0
HOW_TO_REACH: Final = f"""\
The router is found by --url, else {URL_VARIABLE}, else {USUAL_URL}; the token by --token-file,
else the variable {ADMIN_TOKEN}, else the file ./{USUAL_TOKEN_FILE}.
"""


class Failed(Exception):
    """What was asked cannot be done; the text is one sentence with the mend."""


class Client:
    """One router's administration."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    def open(self) -> httpx.Client:
        """Return a connection to it, to be closed."""
        return httpx.Client(
            base_url=f"{self.url.rstrip('/')}/admin/v1",
            headers={"authorization": f"Bearer {self._token}"},
            timeout=TIMEOUT_S,
        )

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return an answer that says that all went well; raises `Failed`."""
        content = None if document is None else orjson.dumps(document)
        encoded = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
        try:
            with self.open() as client:
                answer = client.request(
                    method, path, content=content, headers=encoded, params=query
                )
        except httpx.HTTPError as error:
            raise Failed(
                f"no router answers at {self.url} ({error}); give another with --url or start one"
            ) from error
        if answer.is_success:
            return answer
        raise Failed(_message(answer))

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return a document."""
        return self.ask("GET", path, query=query).json()


def _message(answer: httpx.Response) -> str:
    try:
        message: str = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code}; is administration on ([admin])?"
    if answer.status_code == httpx.codes.NOT_FOUND and "no route" in message:
        return f"{message}; is administration on ([admin]), and on this port?"
    return message


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every such command takes."""
    parser.add_argument("--url", help=f"the router; {USUAL_URL} by default")
    parser.add_argument("--token-file", type=Path, help="holds the token of [admin]")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def add_change_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command takes that changes something."""
    parser.add_argument("--reason", default="", help="why, for the history")


def client_of(args: argparse.Namespace) -> Client:
    """Return the client that the arguments mean; raises `Failed`."""
    url = args.url or os.environ.get(URL_VARIABLE) or USUAL_URL
    if "://" not in url:
        url = f"http://{url}"
    return Client(url, _token(args.token_file))


def _token(path: Path | None) -> str:
    if path is None and ADMIN_TOKEN in os.environ:
        return os.environ[ADMIN_TOKEN].strip()
    file = path or USUAL_TOKEN_FILE
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failed(
            f"no token: {str(file)!r} cannot be read ({reason}); give --token-file or set"
            f" {ADMIN_TOKEN}"
        ) from error


def change_headers(args: argparse.Namespace) -> dict[str, str]:
    """Return the headers that say who makes a change and why."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "unnamed"
    headers = {"x-change-by": who}
    if args.reason:
        headers["x-change-reason"] = args.reason
    return headers


def given(words: Sequence[str]) -> dict[str, Any]:
    """Return the merge patch that `KEY=VALUE` words mean; raises `Failed`."""
    patch: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise Failed(f"{word!r} is no KEY=VALUE; e.g. classes.bulk.max_wait_s=30")
        inside = patch
        *way, last = key.split(".")
        for part in way:
            inside = inside.setdefault(part, {})
        inside[last] = _value(value)
    return patch


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def failed(command: str, error: Failed) -> int:
    """Say what went wrong; returns the exit status."""
    sys.stderr.write(f"headway {command}: {error}\n")
    return 2


def done(args: argparse.Namespace, words: str, answer: object) -> int:
    """Say what was done; returns the exit status."""
    if args.json:
        print_json(answer)
    else:
        sys.stdout.write(f"{words}\n")
    return 0


def only(what: Sequence[str], otherwise: str) -> str:
    """Return the one word that was given; raises `Failed` with what to say `otherwise`."""
    if len(what) != 1:
        raise Failed(otherwise)
    return what[0]


def print_json(document: object) -> None:
    """Write a document for a script."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_differences(differences: list[dict[str, Any]]) -> None:
    """Write what differs, a line each."""
    if not differences:
        sys.stdout.write("no difference\n")
    sys.stdout.writelines(f"{line}\n" for line in difference_lines(differences))


def difference_lines(differences: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what differs, a line each."""
    for each in differences:
        before, after = _short(each["before"]), _short(each["after"])
        yield f"{each['pointer'] or '/'}: {before} -> {after}"


def _short(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 200 else f"{text[:197]}..."  # noqa: PLR2004 # two lines


def screen() -> Console:
    """Return where tables are written."""
    return Console(highlight=False)


def table(*columns: str) -> Table:
    """Return a plain table; columns that begin with ">" hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for each in columns:
        is_number = each.startswith(">")
        made.add_column(
            each.lstrip(">"), justify="right" if is_number else "left", no_wrap=is_number
        )
    return made


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f} %"


def milliseconds(value_s: float | None) -> str:
    """Return a time in milliseconds."""
    return "-" if value_s is None else f"{1e3 * value_s:.0f} ms"
