"""Certificates: the router's own before callers and engines, and whose are believed.

A context lives as long as whoever uses it. Certificates that are renewed are loaded into the
context in use, so that connections made from then on have them and no others are touched.
"""

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from router.settings import CallersTls, Tls, TlsVersion

_VERSIONS: Final = {
    TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3,
}


class Certificates:
    """A context, and the files that it was loaded from."""

    def __init__(
        self,
        make: Callable[[], ssl.SSLContext],
        load: Callable[[ssl.SSLContext], None],
        files: Iterable[Path | None],
    ) -> None:
        """`load` puts the files' content into a context. Raises OSError as both of them do."""
        self._make = make
        self._load = load
        self._paths = tuple(file for file in files if file is not None)
        self._seen = self._stamps()
        self.context = make()
        """For every connection."""
        load(self.context)

    def renew(self) -> bool:
        """Load the files again if they changed; tell whether they did.

        Raises OSError where they cannot be used; then the context is what it was.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        # Half of a pair in the context in use would break every handshake.
        self._load(self._make())
        self._load(self.context)
        return True

    @property
    def files(self) -> list[str]:
        """Where they are, for logs."""
        return [str(each) for each in self._paths]

    def _stamps(self) -> list[tuple[int, int, int]]:
        """Return what changes with a file, be it written anew or another one in its place."""
        found = [file.stat() for file in self._paths]
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]


def callers_certificates(tls: CallersTls) -> Certificates:
    """Return what callers are shown, and whose certificates theirs must be; raises OSError."""

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[tls.min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        if tls.client_ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def load(context: ssl.SSLContext) -> None:
        context.load_cert_chain(tls.cert_file, tls.key_file, _no_password)
        if tls.client_ca_file is not None:
            context.load_verify_locations(tls.client_ca_file)

    return Certificates(make, load, (tls.cert_file, tls.key_file, tls.client_ca_file))


def engines_certificates(tls: Tls) -> Certificates:
    """Return whose certificates engines must have, and what they are shown; raises OSError.

    Slow, for it reads every authority, so keep it.
    """

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def load(context: ssl.SSLContext) -> None:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, _no_password)

    return Certificates(make, load, (tls.ca_file, tls.cert_file, tls.key_file))


def flaw(make: Callable[[], Certificates]) -> str | None:
    """Say why certificates cannot be used; None where they can."""
    try:
        make()
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        return f"cannot be used: {reason.lower().replace('_', ' ')}; files are PEM, a key its own"
    except OSError as error:
        return f"{error.filename or 'a file'} cannot be read: {(error.strerror or '').lower()}"
    except _WantsPassword as error:
        return str(error)
    return None


class _WantsPassword(Exception):
    """A key is encrypted."""


def _no_password() -> str:
    """Be asked for no password at the terminal, as OpenSSL would."""
    raise _WantsPassword("the key wants a password; leave it unencrypted, readable by nobody else")
