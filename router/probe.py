"""Asks every engine how it is: what it offers, whether it answers, how busy it says it is.

Two loops an endpoint, neither on a request's way. Whatever goes wrong between here and an engine
becomes `ProbeFailed` in one place. Every question has its own time limit, for an engine that hangs
serves as little as one that is gone. Intervals vary by a fifth, so that many routers do not ask at
the same moment.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx

from engines.engine import Discovery, Engine, EngineLoad, Kind
from router.networks import Networks
from router.settings import Probes

logger = logging.getLogger(__name__)

JITTER: Final = 0.2
"""Share by which an interval varies, both ways."""
MAX_ANSWER_BYTES: Final = 4 << 20
"""A vLLM's metrics are 65 KB (measured); what is far larger is no answer to a probe."""
MOST_PER_S: Final = 50
"""Questions of one sort (health, load) to all engines together: each costs the loop a millisecond
(measured), so a fleet of hundreds is asked less often than the configuration says."""
MAX_LOAD_PAUSE_S: Final = 30.0
"""Between two readings of gauges that cannot be read: an engine may have none."""

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint to be probed."""

    id: str
    kind: Kind
    url: str
    """Without a slash at its end."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every probe: credentials."""
    networks: Networks | None = None
    """Where it has to be; None: anywhere."""
    server_name: str | None = None
    """Whom its certificate must name; None: the URL's host."""


@dataclass(frozen=True, slots=True)
class Report:
    """Whom to tell, by endpoint id; called on the event loop, must not wait."""

    discovered: Callable[[str, Discovery], None]
    """What an engine says it is: at the start, and each time it is back from being away."""
    probed: Callable[[str, bool], None]
    """Whether an engine is well; False: it says no, or makes no sense, or nothing."""
    observed: Callable[[str, EngineLoad], None]
    """How busy an engine says it is; not called where it does not say."""
    reads: Callable[[str], bool] = lambda _: True
    """Whether an engine's gauges are to be read: another router may do it for all."""


class ProbeFailed(Exception):
    """An engine did not answer a probe as it should; the text says how."""


class Prober:
    """Probes endpoints until they are forgotten; its tasks live in the group that it is given."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        engines: Mapping[Kind, Engine],
        report: Report,
        times: Probes,
        rng: Random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._group = group
        self._engines = engines
        self._report = report
        self._times = times
        self._rng = rng
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, target: Target, certificates: ssl.SSLContext) -> None:
        """Probe an endpoint from now on; one of the same id that is being probed is forgotten.

        `certificates` decides whom to trust where the URL is https; share one among endpoints, for
        each costs some ten milliseconds to make.
        """
        self.forget(target.id)
        name = f"probe {target.id}"
        self._tasks[target.id] = self._group.create_task(
            self._watch(target, certificates), name=name
        )

    def forget(self, endpoint_id: str) -> None:
        """Stop probing an endpoint, if it is being probed; nothing is reported of it any more."""
        if (task := self._tasks.pop(endpoint_id, None)) is not None:
            task.cancel()

    def close(self) -> None:
        """Stop probing altogether."""
        for endpoint_id in list(self._tasks):
            self.forget(endpoint_id)

    async def _watch(self, target: Target, certificates: ssl.SSLContext) -> None:
        engine = self._engines[target.kind]
        client = httpx.AsyncClient(
            # Uncompressed: the text is short-lived and the loop's time is not.
            headers={"accept-encoding": "identity", **target.headers},
            verify=certificates,
            timeout=None,  # noqa: S113 # nosec B113 # `_Watch.ask` has one for the whole exchange
            limits=httpx.Limits(keepalive_expiry=engine.traits.keep_alive_s),
            trust_env=False,  # no proxy stands between a router and its engines
        )
        async with client, asyncio.TaskGroup() as loops:
            watch = _Watch(target, engine, client, self._report, self._times)
            loops.create_task(self._forever(target.id, watch.health))
            if engine.traits.load_path is not None:
                loops.create_task(self._forever(target.id, watch.load))

    async def _forever(self, endpoint_id: str, step: Callable[[], Awaitable[float]]) -> None:
        """Repeat a step, which returns after how many seconds it wants to be repeated."""
        pause_s = self._times.health_s
        while True:
            try:
                pause_s = await step()
            except Exception:  # whatever an adapter or a callback did, the engine is still there
                logger.exception("probe broke", extra={"endpoint": endpoint_id})
            pause_s = max(pause_s, len(self._tasks) / MOST_PER_S)
            await self._sleep(pause_s * self._rng.uniform(1 - JITTER, 1 + JITTER))


class _Watch:
    """One endpoint's probes, and what must be remembered between two of them."""

    def __init__(
        self,
        target: Target,
        engine: Engine,
        client: httpx.AsyncClient,
        report: Report,
        times: Probes,
    ) -> None:
        self._target = target
        self._engine = engine
        self._client = client
        self._report = report
        self._times = times
        self._is_well: bool | None = None
        self._is_discovered = False
        self._failed_readings = 0

    async def health(self) -> float:
        """Ask after health, and what the engine is where that is not known."""
        try:
            await self._ask(self._engine.traits.health_path)
            is_well, reason = True, ""
        except ProbeFailed as failure:
            is_well, reason = False, str(failure)
        if is_well is not self._is_well:
            self._is_well = is_well
            fields = {"endpoint": self._target.id, **({"reason": reason} if reason else {})}
            level = logging.INFO if is_well else logging.WARNING
            logger.log(level, "probe answered" if is_well else "probe failed", extra=fields)
        # Before it is called well: a request should find the limits that the engine has.
        self._is_discovered = is_well and (self._is_discovered or await self._discover())
        self._report.probed(self._target.id, is_well)
        return self._times.health_s

    async def load(self) -> float:
        """Read the engine's gauges, unless it is away; less and less often while that fails."""
        traits = self._engine.traits
        if not self._is_well or traits.load_path is None or not self._reads:
            return self._times.load_s
        try:
            text = (await self._ask(traits.load_path)).decode(errors="replace")
        except ProbeFailed as failure:
            if self._failed_readings == 0:
                fields = {"endpoint": self._target.id, "reason": str(failure)}
                logger.info("load unknown", extra=fields)
            self._failed_readings += 1
            pause_s = self._times.load_s * 2.0 ** min(self._failed_readings, 16)
            return max(self._times.load_s, min(pause_s, MAX_LOAD_PAUSE_S))
        self._failed_readings = 0
        self._report.observed(self._target.id, self._engine.read_load(text))
        return self._times.load_s

    @property
    def _reads(self) -> bool:
        return self._report.reads(self._target.id)

    async def _discover(self) -> bool:
        """Ask what the engine is; tells whether it said anything."""
        answers = {}
        for path in self._engine.traits.discovery_paths:
            try:
                answers[path] = await self._ask(path)
            except ProbeFailed as failure:
                fields = {"endpoint": self._target.id, "path": path, "reason": str(failure)}
                logger.debug("discovery failed", extra=fields)
        if answers:
            self._report.discovered(self._target.id, self._engine.read_discovery(answers))
        return bool(answers) or not self._engine.traits.discovery_paths

    async def _ask(self, path: str) -> bytes:
        """Return the body of a 2xx answer; raises `ProbeFailed`."""
        limit_s = self._times.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                *others, last = await self._ways(path)
                for way in others:
                    with contextlib.suppress(httpx.ConnectError):
                        return await self._read(path, way)
                return await self._read(path, last)
        except TimeoutError:
            raise ProbeFailed(f"{path} gave no answer in {limit_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise ProbeFailed(f"{path}: {reason}") from error

    async def _read(self, path: str, way: "_Way") -> bytes:
        """Ask one way; raises `ProbeFailed` or what httpx does."""
        body = bytearray()
        asked = self._client.stream("GET", way.url, headers=way.headers, extensions=way.extensions)
        async with asked as answer:
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProbeFailed(f"{path} answers more than {MAX_ANSWER_BYTES} bytes")
        if not answer.is_success:
            raise ProbeFailed(f"{path} answered {answer.status_code}")
        return bytes(body)

    async def _ways(self, path: str) -> "list[_Way]":
        """Return how to ask for a path: where not all is allowed, of addresses that are."""
        target = self._target
        url = httpx.URL(target.url + path)
        named = {"sni_hostname": target.server_name or url.host}
        if target.networks is None:
            return [_Way(url, extensions=named)]
        port = url.port or (443 if url.scheme == "https" else 80)
        host = {"host": url.netloc.decode("ascii")}
        addresses = await target.networks.addresses(url.host, port)
        return [_Way(url.copy_with(host=each), host, named) for each in addresses]


@dataclass(frozen=True, slots=True)
class _Way:
    """A URL, and what a name for its host would otherwise have said."""

    url: httpx.URL
    headers: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
