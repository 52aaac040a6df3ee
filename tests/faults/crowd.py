"""Callers that account for every request they make: what each one asked and what became of it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

import h11

from engines import sse

PATIENCE_S = 25.0
"""An answer that has not ended by then is lost."""
COMPLETIONS = "/v1/completions"
GOOD_STATUS = 200
CUT = "(cut short, unread)"
"""Stands for the text of an answer whose body broke off."""
REFUSALS = frozenset({429, 503, 504})


class Fate(StrEnum):
    """What became of a request, as its caller saw it."""

    SERVED = "served"
    REFUSED = "refused"
    """An error with a reason before anything was begun, that says to come back or why not."""
    FAILED = "failed"
    """An error that nobody can take for an answer: a status, an event, a body cut short."""
    LOST = "lost"
    """Silence, or an end that looks like an end and is none."""
    WRONG = "wrong"
    """An answer, but to something else."""


class Moment(StrEnum):
    """Where a request stood when the fault struck."""

    QUEUED = "queued"
    BEFORE = "before first byte"
    STREAMING = "streaming"
    PLAIN = "non-streaming"
    LATER = "later"
    """It came while the fault lasted, or after."""


@dataclass(slots=True, eq=False)
class Account:
    """One request."""

    id: str
    stream: bool
    sla_class: str
    prompt: int
    """Which of the known prompts."""
    sent_at: float
    ended_at: float = 0.0
    bytes_seen: int = 0
    """Of the body."""
    text: str = ""
    parts: list[str] = field(default_factory=list)
    """The text by events, those without any left out."""
    fate: Fate | None = None
    said: str = ""
    """What an error said, or why it is lost."""
    moment: Moment = Moment.LATER
    receipt: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """A prompt, and the only right answer to it."""

    prompt: str
    text: str


@dataclass(slots=True)
class Wishes:
    """How a crowd asks."""

    model: str
    known: list[Known]
    max_tokens: int
    stream_share: float = 0.6
    continues: bool = False
    """Ask for broken streams to be continued."""
    patience_s: float = PATIENCE_S
    body: dict[str, object] = field(default_factory=dict)
    """More members of each request."""


@dataclass(slots=True)
class Crowd:
    """Callers in a closed loop, and all their accounts."""

    port: int
    wishes: Wishes
    rng: Random
    accounts: list[Account] = field(default_factory=list)
    live: set[Account] = field(default_factory=set)
    stopping: bool = False
    _serial: int = 0

    async def run(self, callers: int) -> None:
        """Ask until told to stop, and then to the end of every answer."""
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._ask_on())

    async def _ask_on(self) -> None:
        while not self.stopping:
            account = await self.ask_once()
            if account.fate is not Fate.SERVED:
                await asyncio.sleep(0.05)

    async def ask_once(self) -> Account:
        """Ask one question and account for it."""
        rng, wishes = self.rng, self.wishes
        self._serial += 1
        now = asyncio.get_running_loop().time
        account = Account(
            id=f"faults-{rng.getrandbits(32):08x}-{self._serial}",
            stream=rng.random() < wishes.stream_share,
            sla_class=rng.choice(("interactive", "standard", "standard", "bulk")),
            prompt=rng.randrange(len(wishes.known)),
            sent_at=now(),
        )
        self.accounts.append(account)
        self.live.add(account)
        try:
            async with asyncio.timeout(wishes.patience_s):
                await self._ask(account)
        except TimeoutError:
            account.fate, account.said = Fate.LOST, "no end within the caller's patience"
        except (OSError, h11.RemoteProtocolError) as error:
            _broke(account, error)
        except (ValueError, LookupError, TypeError) as error:
            account.fate, account.said = Fate.LOST, f"an answer that is none: {error!r}"
        finally:
            account.ended_at = now()
            self.live.discard(account)
        return account

    async def _ask(self, account: Account) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self._request(account))
            judge = h11.Connection(h11.CLIENT)
            judge.send(h11.Request(method="POST", target="/", headers=[("host", "router")]))
            judge.send(h11.EndOfMessage())
            status, body = 0, bytearray()
            while (event := await _next(judge, reader)) is not None:
                if isinstance(event, h11.Response):
                    status = event.status_code
                    told = dict(event.headers).get(b"x-sla-receipt")
                    account.receipt = {} if told is None else json.loads(told)
                elif isinstance(event, h11.Data):
                    body += event.data
                    account.bytes_seen = len(body) if status == GOOD_STATUS else 0
            self._judge(account, status, bytes(body))
        finally:
            writer.transport.abort()

    def _request(self, account: Account) -> bytes:
        wishes = self.wishes
        document: dict[str, object] = {
            "model": wishes.model,
            "prompt": wishes.known[account.prompt].prompt,
            "max_tokens": wishes.max_tokens,
            "temperature": 0,
            "stream": account.stream,
            **wishes.body,
        }
        body = json.dumps(document).encode()
        lines = [
            f"POST {COMPLETIONS} HTTP/1.1",
            "host: router",
            "connection: close",
            f"content-length: {len(body)}",
            f"x-request-id: {account.id}",
            f"x-sla-class: {account.sla_class}",
            f"x-faults-class: {account.sla_class}",
            "x-sla-receipt: 1",
        ]
        if wishes.continues:
            lines.append("x-sla-continue: 1")
        return "\r\n".join((*lines, "", "")).encode() + body

    def _judge(self, account: Account, status: int, body: bytes) -> None:
        if status != GOOD_STATUS:
            account.fate, account.said = judged_error(status, body)
            return
        if not account.stream:
            account.text = json.loads(body)["choices"][0]["text"]
            ended = True
        else:
            ended, error = read_stream(account, body)
            if error is not None:
                account.fate, account.said = Fate.FAILED, error
                return
        if not ended:
            account.fate, account.said = Fate.LOST, "the stream ended without its mark"
        elif account.text == self.wishes.known[account.prompt].text:
            account.fate = Fate.SERVED
        else:
            account.fate = Fate.WRONG
            account.said = f"{account.text!r} instead of the known answer"


async def _next(judge: h11.Connection, reader: asyncio.StreamReader) -> object:
    """Return the next part of an answer; None at its end. Raises where it breaks off."""
    while (event := judge.next_event()) is h11.NEED_DATA:
        judge.receive_data(await reader.read(1 << 16))
    if isinstance(event, h11.ConnectionClosed):
        raise ConnectionResetError("closed without an answer")
    return None if isinstance(event, h11.EndOfMessage) else event


def read_stream(account: Account, body: bytes) -> tuple[bool, str | None]:
    """Take in a stream's text; return whether it ended with its mark, and the error that it told."""
    frames, rest = sse.split(body)
    if rest:
        return False, None
    ended, error = False, None
    for frame in frames:
        data = sse.data_of(frame)
        if data is None:
            if frame.startswith(b": sla "):
                account.receipt = json.loads(frame[6:])
            continue
        if data == b"[DONE]":
            ended = True
            continue
        event = json.loads(data)
        if "error" in event:
            error = str(event["error"])[:200]
            continue
        texts = [choice["text"] for choice in event.get("choices", ())]
        account.parts += [text for text in texts if text]
    account.text = "".join(account.parts)
    return ended, error


def judged_error(status: int, body: bytes) -> tuple[Fate, str]:
    """Return the fate of an answer that is an error: it must say what is wrong as OpenAI does."""
    try:
        error = json.loads(body)["error"]
        said = f"{status} {error['code']}: {error['message']}"[:200]
    except (ValueError, KeyError, TypeError):
        return Fate.LOST, f"{status} without an error object: {body[:80]!r}"
    return (Fate.REFUSED if status in REFUSALS else Fate.FAILED), said


def _broke(account: Account, error: Exception) -> None:
    """Judge a connection that broke: honest where a body had begun, whose framing needs more."""
    if account.bytes_seen:
        account.fate, account.said = Fate.FAILED, f"cut short: {error}"
        account.text = CUT
    else:
        account.fate, account.said = Fate.LOST, f"{type(error).__name__}: {error}"


def doubled(answered: Callable[[str], int], accounts: list[Account]) -> list[Account]:
    """Return the requests that engines answered as a whole more than once."""
    return [each for each in accounts if answered(each.id) > 1]
