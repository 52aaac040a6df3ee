"""The dashboard's files: they hold nothing secret, so that they are served to anybody.

The page asks for the token and sends it with each question to the interface.
"""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

_FOLDER: Final = Path(__file__).parent.parent / "dashboard"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def files() -> dict[str, bytes]:
    """Return every file of the dashboard by name."""
    return {
        path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES
    }


def page_routes() -> list[BaseRoute]:
    """Return what serves the dashboard."""
    known = files()

    async def file(request: Request) -> Response:
        name = request.path_params.get("file") or "index.html"
        if name not in known:
            return Response(f"no file {name!r}", 404, media_type="text/plain")
        media = _TYPES[Path(name).suffix]
        return Response(known[name], headers={**_HEADERS, "content-type": media})

    async def home(_: Request) -> Response:
        return RedirectResponse("/dashboard/")

    return [Route("/dashboard", home), Route("/dashboard/", file), Route("/dashboard/{file}", file)]
