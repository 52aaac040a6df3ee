"""Variants and shadows of models, compared; shares are a part of the policy and changed there."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from router.admin.live import Live
from router.admin.operations import Operation, answer

_COMPARED: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["model", "since_s", "sticky", "variants"],
        "properties": {
            "model": {"type": "string"},
            "since_s": {"type": "number"},
            "sticky": {"type": "string"},
            "variants": {"type": "array", "items": {"type": "object"}},
        },
    },
}


class VariantsApi:
    """Operations on variants."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def operations(self) -> list[Operation]:
        """Return what can be asked."""
        about = "Every model that has variants or a shadow: how each of these fares, side by side"
        return [Operation("GET", "/variants", about, self.variants, _COMPARED)]

    async def variants(self, _: Request) -> Response:
        """Compare them."""
        self._live.count()
        return answer(self._live.compared.report())
