"""Questions for the adapters, from a document or from a recording."""

import orjson

from engines.engine import Question, Route


def ask(document, route=Route.CHAT, *, model="public", rank=0, urgency=3):
    return Question(
        route=route,
        body=orjson.dumps(document),
        document=document,
        model=model,
        stream=document.get("stream") is True,
        sla_rank=rank,
        urgency=urgency,
        id="req-7",
    )
