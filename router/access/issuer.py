"""Follows an identity provider's public keys, from a URL or a file, beside the requests.

Read on an interval, and sooner where a token names a key that is not known, though not more often
than every `WISH_S` for that: no request waits for it, and no flood of requests becomes one of
readings. What is not there, too slow, too large or no JWKS changes nothing: the last known keys stay.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from router.access.jwks import NotAJwks, read_keys
from router.access.keyring import Keyring
from router.access.tokens import Tokens
from router.settings import Jwt, Tls
from router.tls import Certificates, engines_certificates
from router.urls import is_web

logger = logging.getLogger("headway.access")

READ_S: Final = 5.0
"""For one reading, whole."""
MOST_BYTES: Final = 256 << 10
"""Sixty-four keys with their certificates are less."""
WISH_S: Final = 10.0
"""Between two readings that unknown keys are the reason of."""
RETRY_S: Final = 10.0
"""After a reading that failed, where the interval is longer."""


class JwksNotRead(Exception):
    """There are no keys to be had; the text says why."""


class Issuer:
    """The keys of one issuer, as they were last heard of."""

    def __init__(
        self,
        settings: Jwt,
        tokens: Tokens,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        read_s: float = READ_S,
    ) -> None:
        self._settings = settings
        self.tokens = tokens
        self._clock = clock
        self._wall_clock = wall_clock
        self._read_s = read_s
        self._certificates: Certificates | None = None
        self._text: bytes | None = None
        """What was read last; None before the first time."""
        self._read_at = clock()
        self._wish_at = -WISH_S
        self._failing: str | None = None
        """Why the last reading failed."""
        self.reads = 0
        self.failures = 0

    @property
    def age_s(self) -> float:
        """How long ago the keys were read, or that was begun to be tried."""
        return self._clock() - self._read_at

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._pause()
            await self.refresh()
            self.tokens.sweep(self._wall_clock())

    async def refresh(self) -> None:
        """Read the keys once, and take them up where they changed."""
        try:
            await self._read()
        except (JwksNotRead, NotAJwks) as error:
            self._failed(str(error))
        except Exception as error:  # whatever it was, the next reading may be a better one
            logger.exception("jwks broke")
            self._failed(type(error).__name__)
        else:
            self.reads += 1
            self._read_at = self._clock()
            if self._failing is not None:
                logger.info("jwks read again", extra={"source": self._settings.jwks})
            self._failing = None

    def _failed(self, reason: str) -> None:
        self.failures += 1
        if self._failing is None:
            fields = {"source": self._settings.jwks, "reason": reason}
            logger.warning("jwks cannot be read; the last known keys stay", extra=fields)
        self._failing = reason

    async def _pause(self) -> None:
        """Wait until the next reading: the interval's, or one that is wished for."""
        refresh_s = self._settings.refresh_s
        due_s = refresh_s if self._failing is None else min(refresh_s, RETRY_S)
        due_at = self._clock() + due_s
        # Wishes are not heard too soon after the last one.
        await asyncio.sleep(min(due_s, max(0.0, self._wish_at + WISH_S - self._clock())))
        lacking = self.tokens.lacking
        try:
            async with asyncio.timeout(due_at - self._clock()):
                await lacking.wait()
            self._wish_at = self._clock()
        except TimeoutError:
            pass
        lacking.clear()

    async def _read(self) -> None:
        """Read, and take up; raises `JwksNotRead` or `NotAJwks`."""
        source = self._settings.jwks
        try:
            async with asyncio.timeout(self._read_s):
                text = await (
                    self._fetched(source) if is_web(source) else asyncio.to_thread(_in_file, source)
                )
        except TimeoutError:
            raise JwksNotRead(f"no answer in {self._read_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise JwksNotRead(reason) from error
        if text == self._text:
            return
        # A thread: hundreds of keys would be milliseconds of the loop's.
        keys = await asyncio.to_thread(read_keys, text, self._settings.algorithms)
        self._text = text
        gone = self.tokens.adopt(keys)
        count = len(keys.thumbprints)
        level = logging.INFO if count else logging.WARNING
        fields = {"source": source, "keys": count, "left_out": "; ".join(keys.left_out)}
        logger.log(level, "jwks changed", extra={**fields, "tokens_void": gone})

    async def _fetched(self, url: str) -> bytes:
        """Return what is at a URL; no redirection is followed, for nobody configured where to."""
        if self._certificates is None:
            authorities = Tls(ca_file=self._settings.ca_file)
            self._certificates = await asyncio.to_thread(engines_certificates, authorities)
        else:
            self._certificates.renew()
        client = httpx.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity"},
            verify=self._certificates.context,
            timeout=None,  # noqa: S113 # nosec B113 # `_read` has one for the whole exchange
            trust_env=False,
        )
        body = bytearray()
        async with client, client.stream("GET", url) as answer:
            if not answer.is_success:
                raise JwksNotRead(f"it was answered {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise JwksNotRead(f"it is larger than {MOST_BYTES} bytes")
        return bytes(body)


def following(
    settings: Jwt,
    keyring: Keyring,
    *,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> Issuer:
    """Return who signs tokens, which open nothing before its keys are read."""
    tokens = Tokens(settings, keyring, clock)
    return Issuer(settings, tokens, clock=clock, wall_clock=wall_clock)


def _in_file(path: str) -> bytes:
    """Return a file's bytes; raises OSError or `JwksNotRead`."""
    with Path(path).open("rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise JwksNotRead(f"it is larger than {MOST_BYTES} bytes")
    return text
