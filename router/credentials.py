"""Secrets, read where the configuration says that they are: the environment or a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from re import fullmatch
from typing import Final
from urllib.parse import unquote

from router.document import Flaw, place
from router.settings import Access, Admin, Pool, Redis, Tracing

ADMIN_TOKEN: Final = "HEADWAY_ADMIN_TOKEN"  # noqa: S105 -- a variable's name
REDIS_PASSWORD: Final = "HEADWAY_REDIS_PASSWORD"  # noqa: S105 -- a variable's name
PEPPER: Final = "HEADWAY_ACCESS_PEPPER"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must be shown to nobody; its own text shows nothing."""

    admin_token: str | None = field(default=None, repr=False)
    redis_password: str | None = field(default=None, repr=False)
    pepper: str | None = field(default=None, repr=False)
    """What digests of callers' keys are made with."""
    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By endpoint id, for those that want one."""
    tracing_headers: Mapping[str, str] | None = field(default=None, repr=False)
    """What a collector of traces is shown; None: as the environment's usual variable says."""


class SecretReader:
    """Looks for secrets, and notes where one should be and is not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.flaws: list[Flaw] = []
        """Every place that names a secret which is not there or cannot be used."""

    def read(
        self,
        pools: Sequence[Pool],
        admin: Admin | None,
        redis: Redis | None,
        access: Access | None = None,
        tracing: Tracing | None = None,
    ) -> Secrets:
        """Return all secrets that are there."""
        return Secrets(
            admin_token=self._admin_token(admin) if admin else None,
            redis_password=self._redis_password(redis) if redis else None,
            pepper=self._pepper(access) if access else None,
            api_keys=self._api_keys(pools),
            tracing_headers=self._tracing_headers(tracing) if tracing else None,
        )

    def _admin_token(self, admin: Admin) -> str | None:
        if admin.token_file is not None:
            return self._in_file("admin.token_file", admin.token_file)
        if ADMIN_TOKEN in self._environ:
            return self._in_variable("admin", ADMIN_TOKEN)
        message = f"has no token; name a file with token_file or set {ADMIN_TOKEN}"
        self.flaws.append(Flaw("admin", message))
        return None

    def _redis_password(self, redis: Redis) -> str | None:
        if redis.password_file is not None:
            return self._in_file("redis.password_file", redis.password_file)
        if redis.password_env is not None:
            return self._in_variable("redis.password_env", redis.password_env)
        if REDIS_PASSWORD in self._environ:
            return self._in_variable("redis", REDIS_PASSWORD)
        return None

    def _pepper(self, access: Access) -> str | None:
        if access.pepper_file is not None:
            return self._in_file("access.pepper_file", access.pepper_file)
        if PEPPER in self._environ:
            return self._in_variable("access", PEPPER)
        return None

    def _tracing_headers(self, tracing: Tracing) -> dict[str, str] | None:
        """Read headers as OTEL_EXPORTER_OTLP_HEADERS has them."""
        name = tracing.headers_env
        if name is None:
            return None
        problem = "is not set"
        if name in self._environ:
            pairs = [each.partition("=") for each in self._environ[name].split(",")]
            headers = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
            if all(map(_is_header, headers, headers.values())):
                return headers
            problem = "must hold 'authorization=Bearer%20key', and a comma before the next"
        message = f"the environment variable {name!r} {problem}"
        self.flaws.append(Flaw("tracing.headers_env", message))
        return None

    def _api_keys(self, pools: Sequence[Pool]) -> dict[str, str]:
        keys: dict[str, str | None] = {}
        for number, pool in enumerate(pools):
            for index, endpoint in enumerate(pool.endpoints):
                where = place(("pools", number, "endpoints", index))
                if endpoint.api_key_file is not None:
                    file = endpoint.api_key_file
                    keys[endpoint.id] = self._in_file(f"{where}.api_key_file", file)
                elif endpoint.api_key_env is not None:
                    name = endpoint.api_key_env
                    keys[endpoint.id] = self._in_variable(f"{where}.api_key_env", name)
        return {id_: key for id_, key in keys.items() if key is not None}

    def _in_variable(self, where: str, name: str) -> str | None:
        if name not in self._environ:
            self.flaws.append(Flaw(where, f"the environment variable {name!r} is not set"))
            return None
        return self._usable(where, f"the environment variable {name!r}", self._environ[name])

    def _in_file(self, where: str, path: Path) -> str | None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            self.flaws.append(Flaw(where, f"{str(path)!r} cannot be read: {reason.lower()}"))
            return None
        return self._usable(where, repr(str(path)), text)

    def _usable(self, where: str, holder: str, text: str) -> str | None:
        """Return a secret that an HTTP header can carry; surrounding white space is not its own."""
        secret = text.strip()
        if secret and secret.isascii() and secret.isprintable() and " " not in secret:
            return secret
        problem = "holds a character that no header can carry" if secret else "is empty"
        self.flaws.append(Flaw(where, f"{holder} {problem}"))
        return None


def _is_header(name: str, value: str) -> bool:
    """Tell whether HTTP can carry a header. Source: RFC 9110, sections 5.1 and 5.5."""
    is_token = fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is not None
    return is_token and bool(value) and value.isascii() and value.isprintable()
