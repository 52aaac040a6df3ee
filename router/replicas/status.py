"""How a fleet of routers stands: as one of them sees it, and as the board shows it."""

from collections.abc import Iterable, Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router import metrics as families
from router.metrics import Metrics, Rows
from router.replicas.board import View
from router.replicas.member import Member
from router.replicas.word import Said, read


def brief(member: Member) -> dict[str, object]:
    """Return the detail of `/readyz`."""
    return {"mode": member.mode, "replica": member.replica, "count": member.count}


def status(member: Member) -> dict[str, object]:
    """Return the document of `/status`."""
    return {
        **brief(member),
        "share": 1 / member.count,
        "cautious": member.cautious,
        "exchanges": member.exchanges,
        "failures": member.failures,
        "exchange_s": round(member.exchange_s, 6),
        "replicas": fleet({**member.others, member.replica: member.said}),
    }


def on_board(view: View) -> dict[str, object]:
    """Return the same of a board, seen from outside."""
    said = {name: read(text) for name, text in view.texts.items()}
    return {"mode": "board", "count": len(said), "cautious": view.cautious, "replicas": fleet(said)}


def fleet(said: Mapping[str, Said]) -> dict[str, object]:
    """Return what each replica has, by name."""
    return {
        name: {
            "host": each.host,
            "mode": each.mode,
            "waiting": each.waiting,
            "in_flight": {id_: work.in_flight for id_, work in each.work.items()},
            "bulk_permits": each.permits,
            "down": each.down,
            "lessons": {pool: lesson.samples for pool, lesson in each.lessons.items()},
        }
        for name, each in sorted(said.items())
    }


def status_page(member: Member) -> Route:
    """Return the page `/status`."""

    async def page(_: Request) -> Response:
        return Response(orjson.dumps(status(member)), media_type="application/json")

    return Route("/status", page)


def read_at_scrape(metrics: Metrics, member: Member) -> None:
    """Have `metrics` read how a member stands."""
    metrics.read(families.REPLICAS, lambda: [((), float(member.count))])
    metrics.read(families.REPLICA_MODE, lambda: [((member.replica, member.mode), 1.0)])
    metrics.read(
        families.REPLICA_EXCHANGES,
        lambda: [
            (("answered",), float(member.exchanges - member.failures)),
            (("missed",), float(member.failures)),
        ],
    )
    metrics.read(families.REPLICA_EXCHANGE, lambda: [((), member.exchange_s)])
    metrics.read(families.BULK_PERMITS, lambda: _permits(member))


def _permits(member: Member) -> Rows:
    held: Iterable[tuple[str, int]] = list(member.permits.items())
    return [((id_,), float(count)) for id_, count in held]
