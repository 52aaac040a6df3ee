"""A router with administration, and a client that has its token."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from router.settings import Admin, Pool
from tests.e2e.running import TOKEN, Serving, serving


@dataclass(slots=True)
class Asking:
    """Both ends."""

    client: httpx.AsyncClient
    router: Serving

    async def get(self, path: str, **more: Any) -> httpx.Response:
        """Ask."""
        return await self.client.get(f"/admin/v1{path}", **more)

    async def send(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        """Change something; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, f"/admin/v1{path}", json=document, headers=named)


@asynccontextmanager
async def administered(*pools: Pool, **more: Any) -> AsyncGenerator[Asking]:
    """Serve pools with administration."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    more.setdefault("admin", Admin())
    async with (
        serving(*pools, **more) as router,
        httpx.AsyncClient(base_url=router.url, headers=headers, trust_env=False) as client,
    ):
        yield Asking(client, router)
