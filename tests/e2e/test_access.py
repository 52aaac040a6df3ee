"""Keys, whole: who is let in, as what, how often, and what becomes of everybody else."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import orjson
import pytest

from policies.facts import SlaClass
from policies.keys import Allowance
from router.settings import AboveClass, Access, Admin, Redis
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import TOKEN, pool, serving, until
from tests.fakes.redis_server import redis_server
from tests.fakes.scripted import answering, scripted_engine, streaming

ANSWER = orjson.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50},
})  # fmt: skip
CHUNK = b'{"choices":[{"delta":{"content":"a"}}]}'


class Guarded:
    """A router that asks for keys, the engine behind it, and whoever makes the keys."""

    def __init__(self, serving, engine, admin):
        self.serving = serving
        self.engine = engine
        self.admin = admin

    async def key(self, **said):
        answer = await self.admin.post("/admin/v1/keys", json={"tenant": "acme", **said})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def client(self, key, **more):
        return openai.AsyncOpenAI(
            base_url=f"{self.serving.url}/v1", api_key=key, max_retries=0, **more
        )

    async def ask(self, key, headers=None, **body):
        shown = {"authorization": f"Bearer {key}", **(headers or {})}
        return await ask(self.serving.port, chat(**body), shown)


@asynccontextmanager
async def guarded(script=None, access=None, **more):
    async with (
        scripted_engine(script or answering(ANSWER)) as engine,
        serving(
            pool("bulk", engine, **more), admin=Admin(), access=access or Access(), within_s=15
        ) as router,
        httpx.AsyncClient(
            base_url=router.url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False
        ) as admin,
    ):
        yield Guarded(router, engine, admin)


async def say_hello(client):
    return await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hello"}]
    )


async def test_whoever_has_a_key_is_served_and_nobody_else():
    async with guarded() as router:
        made = await router.key()
        async with router.client(made["key"]) as client, router.client("hw_wrong") as stranger:
            answer = await say_hello(client)
            with pytest.raises(openai.AuthenticationError) as refused:
                await say_hello(stranger)
        nobody = await ask(router.serving.port, chat())

        assert answer.choices[0].message.content == "hi"
        assert refused.value.code == "invalid_api_key"
        assert (nobody.status, nobody.error["code"]) == (401, "missing_api_key")
        assert len(router.engine.calls) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key[:3] + "0" * 12 + key[15:],
        lambda key: key + "A",
        lambda key: key.replace("hw_", "sk_"),
        lambda key: key[:15],
        lambda _: "",
    ],
    ids=["another secret", "another id", "longer", "another start", "cut", "empty"],
)
async def test_nothing_but_the_key_itself_opens(spoil):
    async with guarded() as router:
        key = (await router.key())["key"]
        answer = await router.ask(spoil(key))

        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert router.engine.calls == []


async def test_a_key_may_come_as_x_api_key():
    async with guarded() as router:
        key = (await router.key())["key"]
        answer = await ask(router.serving.port, chat(), {"x-api-key": key})

        assert answer.status == 200


async def test_a_key_reaches_no_engine():
    async with guarded() as router:
        key = (await router.key())["key"]
        await router.ask(key, {"x-api-key": key, "api-key": key})

        assert key.encode() not in router.engine.calls[0].head
        assert router.engine.calls[0].header("authorization") is None


async def test_a_revoked_key_opens_nothing_on_a_connection_that_it_opened():
    async with guarded() as router, caller(router.serving.port) as connection:
        made = await router.key()
        shown = {"authorization": f"Bearer {made['key']}"}
        before = await connection.ask(chat(), shown)
        await router.admin.delete(f"/admin/v1/keys/{made['id']}")
        after = await connection.ask(chat(), shown)

        assert (before.status, after.status) == (200, 401)
        assert after.error["code"] == "revoked_api_key"


async def test_a_rotated_key_has_another_secret_and_the_one_before_for_as_long_as_was_said():
    async with guarded() as router:
        made = await router.key()
        path = f"/admin/v1/keys/{made['id']}/rotate"
        second = (await router.admin.post(path, params={"overlap_s": 60})).json()["key"]
        overlapping = [(await router.ask(each)).status for each in (made["key"], second)]
        third = (await router.admin.post(path)).json()["key"]
        after = [(await router.ask(each)).status for each in (made["key"], second, third)]

        assert overlapping == [200, 200]
        assert after == [401, 401, 200]


async def test_an_expired_key_says_so_to_its_holder():
    async with guarded() as router:
        key = (await router.key(expires_at_s=1.0))["key"]
        answer = await router.ask(key)

        assert (answer.status, answer.error["code"]) == (401, "expired_api_key")


async def test_a_model_that_a_key_is_not_good_for_is_refused_and_not_listed():
    async with guarded(models=["m", "other"]) as router:
        key = (await router.key(models=["o*"]))["key"]
        async with router.client(key) as client:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await say_hello(client)
            listed = [each.id async for each in client.models.list()]
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("m")
        async with router.client("hw_wrong") as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.models.list()

        assert refused.value.code == "model_not_allowed"
        assert listed == ["other"]
        assert router.engine.calls == []


HASTE = [
    {"x-sla-class": "interactive"},
    {"x-sla-ttft-ms": "100"},
    {"x-sla-tpot-ms": "10"},
    {"x-slo-ttft-ms": "1"},
    {"x-llm-d-inference-objective": "interactive"},
    {"x-gateway-inference-objective": "interactive"},
    {"x-smg-priority": "system"},
    {"priority": "u=0", "x-sla-class": "interactive"},
    {"x-sla-deadline-ms": "50", "x-sla-class": "interactive"},
]


@pytest.mark.parametrize("headers", HASTE, ids=str)
async def test_nobody_talks_itself_into_a_class_above_its_highest(headers):
    async with guarded() as router:
        key = (await router.key(highest_class="bulk"))["key"]
        answer = await router.ask(key, headers)

        assert answer.header("x-sla-class") == "bulk"
        assert answer.header("x-sla-class-lowered") == "1"


async def test_a_service_tier_is_no_way_around_the_highest_class():
    async with guarded() as router:
        key = (await router.key(highest_class="standard"))["key"]
        answer = await router.ask(key, service_tier="priority")

        assert answer.header("x-sla-class") == "standard"


async def test_a_class_above_the_highest_is_refused_where_the_rule_is_to_refuse():
    access = Access(above_class=AboveClass.REFUSE)
    async with guarded(access=access) as router:
        key = (await router.key(highest_class="standard"))["key"]
        async with router.client(key, default_headers={"X-SLA-Class": "interactive"}) as client:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await say_hello(client)
        fitting = await router.ask(key, {"x-sla-class": "standard"})

        assert refused.value.code == "class_not_allowed"
        assert (fitting.status, fitting.header("x-sla-class-lowered")) == (200, None)


async def test_a_class_between_those_allowed_is_lowered_past_the_gap():
    async with guarded() as router:
        key = (await router.key(classes=["interactive", "bulk"]))["key"]
        served = [
            (await router.ask(key, {"x-sla-class": each})).header("x-sla-class")
            for each in SlaClass
        ]

        assert served == ["interactive", "bulk", "bulk"]


async def test_the_tenant_is_the_keys_whatever_a_header_says():
    async with guarded() as router:
        key = (await router.key(tenant="acme"))["key"]
        for name in ("x-tenant-id", "x-llm-d-inference-fairness-id"):
            await router.ask(key, {name: "globex"})
        await until(lambda: len(router.serving.log) == 2)

        assert {line["tenant"] for line in router.serving.log} == {"acme"}


async def test_requests_beyond_the_limit_are_told_when_to_come_back():
    async with guarded() as router:
        key = (await router.key(requests_per_minute=2))["key"]
        answers = [await router.ask(key) for _ in range(2)]
        async with router.client(key) as client:
            with pytest.raises(openai.RateLimitError) as refused:
                await say_hello(client)

        assert [each.header("x-ratelimit-remaining-requests") for each in answers] == ["1", "0"]
        assert answers[0].header("x-ratelimit-limit-requests") == "2"
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.type == "requests"
        headers = refused.value.response.headers
        assert 58 <= int(headers["retry-after"]) <= 61
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"] in {"1m0s", "1m1s"}


async def test_tokens_are_counted_as_engines_count_them():
    async with guarded() as router:
        key = (await router.key(tokens_per_minute=10_000))["key"]
        await router.ask(key, max_tokens=5000)
        second = await router.ask(key)

        quota = router.serving.router.access.keyring._quotas
        assert [each.tokens.used for each in quota.values()] == [100]
        # Told while it runs: the first as it was, the second as it is thought to be.
        assert int(second.header("x-ratelimit-remaining-tokens")) < 10_000 - 50


async def test_a_days_budget_is_a_quota_that_no_library_waits_for():
    async with guarded() as router:
        key = (await router.key(tokens_per_day=400))["key"]
        for _ in range(2):
            await router.ask(key, max_tokens=300)
        async with router.client(key) as client:
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(
                    model="m", max_tokens=1000, messages=[{"role": "user", "content": "x" * 2000}]
                )

        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"


async def test_what_is_more_than_the_limit_is_not_told_to_come_back():
    async with guarded() as router:
        key = (await router.key(tokens_per_minute=10))["key"]
        answer = await router.ask(key)

        assert answer.status == 429
        assert answer.header("retry-after") is None
        assert answer.header("x-should-retry") == "false"
        assert "more than the limit itself" in answer.error["message"]


async def test_a_tenants_limit_is_for_all_of_its_keys_together():
    access = Access(tenants={"acme": Allowance(requests_per_minute=2)})
    async with guarded(access=access) as router:
        keys = [(await router.key())["key"] for _ in range(3)]
        statuses = [(await router.ask(each)).status for each in keys]

        assert statuses == [200, 200, 429]


async def test_a_place_is_free_again_when_the_caller_leaves():
    async def silent(call):
        await call.begin_stream()
        await call.say_chunk(b"data: " + CHUNK + b"\n\n")

    async with guarded(silent) as router:
        made = await router.key(concurrent=1)
        shown = {"authorization": f"Bearer {made['key']}"}
        async with caller(router.serving.port) as first:
            await first.send(request(chat(stream=True), shown))
            await first.begin()
            second = await ask(router.serving.port, chat(stream=True), shown)
        (quota,) = router.serving.router.access.keyring.quotas
        await until(lambda: quota.places.in_use == 0)

        assert (second.status, second.error["code"]) == (429, "rate_limit_exceeded")


async def test_who_leaves_in_the_middle_is_charged_what_was_written():
    async def talks(call):
        await call.begin_stream()
        for _ in range(5):
            await call.say_chunk(b"data: " + CHUNK + b"\n\n")

    async with guarded(talks) as router:
        made = await router.key(tokens_per_minute=10_000)
        shown = {"authorization": f"Bearer {made['key']}"}
        async with caller(router.serving.port) as first:
            await first.send(request(chat(stream=True), shown))
            await first.begin()
            await until(lambda: _events(router) == 5)
        (quota,) = router.serving.router.access.keyring.quotas
        await until(lambda: quota.tokens.used < 100)

        # The prompt as estimated, and an event a token.
        assert 5 < quota.tokens.used < 20


def _events(router):
    return sum(each._attempt.events for each in router.serving.router.door.active)


async def test_a_key_and_a_secret_stand_in_no_log_and_on_no_page():
    async with guarded() as router:
        made = await router.key(requests_per_minute=1)
        pages = [await router.ask(made["key"]) for _ in range(2)]
        seen = b"".join(page.body for page in pages)
        for path in ("/metrics", "/admin/v1/keys", f"/admin/v1/keys/{made['id']}",
                     "/admin/v1/status", "/admin/v1/requests"):  # fmt: skip
            seen += (await router.admin.get(path)).content
        seen += str(router.serving.log).encode()

        secret = made["key"][16:].encode()
        assert made["id"].encode() in seen
        assert secret not in seen


async def test_few_of_many_strangers_are_written_down_and_all_are_counted():
    async with guarded() as router, caller(router.serving.port) as connection:
        for _ in range(50):
            await connection.ask(chat(), {"authorization": "Bearer hw_wrong"})
        text = (await router.admin.get("/metrics")).text

        assert 1 <= len(router.serving.log) <= 15
        assert 'headway_auth_failures_total{reason="malformed"} 50\n' in text


async def test_use_is_told_by_tenant_and_no_more_tenants_than_allowed_have_a_name():
    async with guarded(access=Access(max_tenants=1)) as router:
        for tenant in ("acme", "globex", "initech"):
            key = (await router.key(tenant=tenant))["key"]
            await router.ask(key)
        text = (await router.admin.get("/metrics")).text

        assert 'headway_tenant_tokens_total{tenant="acme"} 50\n' in text
        assert 'headway_tenant_tokens_total{tenant="other"} 100\n' in text


async def test_a_stream_is_charged_once_with_what_the_engine_counted():
    usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    async with guarded(streaming(CHUNK, CHUNK, usage)) as router:
        key = (await router.key(tokens_per_minute=10_000, concurrent=1))["key"]
        for _ in range(3):
            await router.ask(key, stream=True)
        (quota,) = router.serving.router.access.keyring.quotas

        assert quota.tokens.used == 15
        assert quota.places.in_use == 0


async def test_without_a_section_nobody_is_asked():
    async with scripted_engine(answering(ANSWER)) as engine, serving(pool("bulk", engine)) as open_:
        answer = await ask(open_.port, chat())

    assert answer.status == 200
    assert answer.header("x-ratelimit-limit-requests") is None


FORWARDED = {"x-forwarded-for": "192.0.2.7", "forwarded": "for=192.0.2.7", "x-real-ip": "192.0.2.7"}


@pytest.mark.parametrize(
    ("proxies", "passes"),
    [((), False), (("10.0.0.0/8",), False), (("127.0.0.0/8",), True)],
    ids=["nobody is trusted", "another is", "it is"],
)
async def test_whom_a_hop_speaks_for_is_believed_of_trusted_hops_alone(proxies, passes):
    async with guarded(access=Access(trusted_proxies=proxies)) as router:
        key = (await router.key())["key"]
        await router.ask(key, FORWARDED)
        (call,) = router.engine.calls

        assert [call.header(name) is not None for name in FORWARDED] == [passes] * 3


async def test_what_the_router_alone_tells_is_not_taken_from_an_engine():
    async def lying(call):
        await call.say_json(
            ANSWER, headers=b"x-sla-class: interactive\r\nx-ratelimit-remaining-requests: 9\r\n"
        )

    async with guarded(lying) as router:
        key = (await router.key(highest_class="bulk", requests_per_minute=2))["key"]
        answer = await router.ask(key)

        # `header` fails where a name comes twice.
        assert answer.header("x-sla-class") == "bulk"
        assert answer.header("x-ratelimit-remaining-requests") == "1"


@asynccontextmanager
async def two_routers(folder):
    with redis_server(folder) as redis:
        async with scripted_engine(answering(ANSWER)) as engine:
            shared: dict[str, Any] = {
                "redis": Redis(redis.url, replicas=2),
                "access": Access(),
                "within_s": 20,
            }
            async with (
                serving(pool("p", engine), admin=Admin(), **shared) as first,
                serving(pool("p", engine), seed=2, **shared) as second,
                httpx.AsyncClient(
                    base_url=first.url,
                    headers={"authorization": f"Bearer {TOKEN}"},
                    trust_env=False,
                ) as admin,
            ):
                yield Guarded(first, engine, admin), Guarded(second, engine, admin)


async def status_becomes(router, key, status):
    while (await router.ask(key)).status != status:
        pass  # each question takes its time


@pytest.mark.timeout(60)
async def test_a_key_made_and_revoked_on_one_router_is_so_on_another(tmp_path):
    async with two_routers(tmp_path) as (first, second):
        made = await first.key()
        await status_becomes(second, made["key"], 200)
        await first.admin.delete(f"/admin/v1/keys/{made['id']}")
        async with asyncio.timeout(1.0):
            await status_becomes(second, made["key"], 401)


@pytest.mark.timeout(60)
async def test_two_routers_let_through_one_limit(tmp_path):
    async with two_routers(tmp_path) as (first, second):
        key = (await first.key(requests_per_minute=20))["key"]
        await status_becomes(second, key, 200)
        served = 1
        async with asyncio.timeout(10.0):
            while served < 20:
                for router in (first, second):
                    served += (await router.ask(key)).status == 200
        after = [(await router.ask(key)).status for router in (first, second) * 10]

        assert served == 20
        assert set(after) == {429}


async def test_a_good_key_is_let_in_over_a_connection_that_tried_many():
    async with guarded() as router, caller(router.serving.port) as connection:
        made = await router.key()
        wrong = made["key"][:-1] + ("A" if made["key"][-1] != "A" else "B")
        statuses = []
        for number in range(40):
            key = made["key"] if number % 10 == 9 else wrong
            answer = await connection.ask(chat(), {"authorization": f"Bearer {key}"})
            statuses.append(answer.status)
        text = (await router.admin.get("/metrics")).text

        assert statuses == ([401] * 9 + [200]) * 4
        assert 'headway_auth_failures_total{reason="wrong"} 36\n' in text
