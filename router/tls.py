"""How an engine's certificate is checked."""

import ssl

from router.settings import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return a context for connections to engines; slow (it reads every authority), so keep it.

    Raises OSError (`ssl.SSLError` among them) where the authorities' file cannot be used.
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
