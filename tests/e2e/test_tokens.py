"""Tokens of an identity provider, whole: the router, the issuer's keys and an engine on sockets."""

import base64
import json
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import openai
import orjson
import pytest

from policies.facts import SlaClass
from policies.keys import Allowance, Entitlement
from router.settings import Access, Admin
from tests.canary import has_secret
from tests.e2e.caller import ask, caller, chat
from tests.e2e.running import TOKEN, pool, serving, until
from tests.fakes.http_engine import SILENCE, Answer, HttpEngine
from tests.fakes.identity import Identity, made, settings, signed
from tests.fakes.scripted import answering, scripted_engine

ANSWER = orjson.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50},
})  # fmt: skip
PATH = "/keys"


class Taking:
    """A router that takes tokens, and all that it has to do with."""

    def __init__(self, router, engine, published, identity, admin):
        self.router = router
        self.engine = engine
        self.published = published
        self.identity = identity
        self.admin = admin

    def token(self, kid=None, head=None, **claims):
        return self.identity.token(time.time(), kid, head, **claims)  # noqa: TID251 # issuers' time

    async def ask(self, token, headers=None, **body):
        shown = {"authorization": f"Bearer {token}", **(headers or {})}
        return await ask(self.router.port, chat(**body), shown)

    def publish(self):
        self.published.answers[PATH] = Answer(self.identity.jwks)

    @property
    def issuer(self):
        return self.router.router.access.issuer


@asynccontextmanager
async def taking(*, tenants=None, models=("m",), **jwt):
    identity = Identity("RS256")
    published = HttpEngine({PATH: Answer(identity.jwks)})
    async with published.listening(), scripted_engine(answering(ANSWER)) as engine:
        said = settings(jwks=published.url + PATH, refresh_s=3600.0, **jwt)
        async with (
            serving(
                pool("bulk", engine, models=models),
                admin=Admin(),
                access=Access(jwt=said, tenants=tenants or {}),
                within_s=15,
            ) as router,
            httpx.AsyncClient(
                base_url=router.url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False
            ) as admin,
        ):
            yield Taking(router, engine, published, identity, admin)


async def test_whoever_has_a_token_or_a_key_is_served_and_nobody_else():
    async with taking() as router:
        key = (await router.admin.post("/admin/v1/keys", json={"tenant": "acme"})).json()["key"]
        served = [await router.ask(each) for each in (router.token(), key)]
        strangers = [await router.ask(each) for each in ("a.b.c", "hw_wrong")]
        nobody = await ask(router.router.port, chat())

        assert [each.status for each in served] == [200, 200]
        assert [each.error["code"] for each in strangers] == ["invalid_token", "invalid_api_key"]
        assert nobody.error["code"] == "missing_api_key"
        assert len(router.engine.calls) == 2


async def test_without_the_section_a_token_is_no_key():
    async with (
        scripted_engine(answering(ANSWER)) as engine,
        serving(pool("bulk", engine), access=Access()) as router,
    ):
        token = Identity().token(time.time())  # noqa: TID251 # issuers' time
        answer = await ask(router.port, chat(), {"authorization": f"Bearer {token}"})

        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("jwt", [None, settings()], ids=["without", "with"])
async def test_the_package_is_needed_where_the_section_is_and_nowhere_else(jwt, monkeypatch):
    for each in [name for name in sys.modules if name.startswith("router.access.")]:
        if each.rpartition(".")[2] in {"issuer", "tokens", "jwks"}:
            monkeypatch.delitem(sys.modules, each)
    for each in [name for name in sys.modules if name.startswith("joserfc")]:
        monkeypatch.setitem(sys.modules, each, None)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(scripted_engine(answering(ANSWER)))
        starting = serving(pool("bulk", engine), access=Access(jwt=jwt))
        if jwt is None:
            router = await stack.enter_async_context(starting)
            assert (await ask(router.port, chat())).status == 401
        else:
            with pytest.raises(ModuleNotFoundError, match="joserfc"):
                await stack.enter_async_context(starting)


async def test_a_token_says_what_its_holder_may_ask_for():
    async with taking(models=("m", "other")) as router:
        token = router.token(headway_models=["m"], headway_highest_class="standard")
        hasty = await router.ask(token, {"x-sla-class": "interactive", "x-tenant-id": "acme"})
        other = await router.ask(token, model="other")
        client = openai.AsyncOpenAI(
            base_url=f"{router.router.url}/v1", api_key=token, max_retries=0
        )
        async with client:
            listed = [each.id async for each in client.models.list()]

        assert (hasty.status, hasty.header("x-sla-class")) == (200, "standard")
        assert hasty.header("x-sla-class-lowered") == "1"
        assert (other.status, other.error["code"]) == (403, "model_not_allowed")
        assert other.error["message"].startswith(
            "a token of tenant 'ann' may not use model 'other'"
        )
        assert listed == ["m"]
        assert router.router.log[0]["tenant"] == "ann"


async def test_a_token_that_does_not_say_is_good_for_the_default():
    default = Entitlement(("m",), highest_class=SlaClass.BULK)
    async with taking(models=("m", "other"), default=default) as router:
        served = await router.ask(router.token(), {"x-sla-class": "interactive"})
        refused = await router.ask(router.token(), model="other")

        assert served.header("x-sla-class") == "bulk"
        assert refused.status == 403


async def test_the_limits_of_a_tenant_are_for_its_keys_and_tokens_together():
    async with taking(tenants={"acme": Allowance(requests_per_minute=3)}) as router:
        key = (await router.admin.post("/admin/v1/keys", json={"tenant": "acme"})).json()["key"]
        shown = [key, *(router.token(headway_tenant="acme", jti=jti) for jti in "abc")]
        statuses = [(await router.ask(each)).status for each in shown]

        assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"exp": 1}, "expired_token"),
        ({"nbf": 10**12}, "invalid_token"),
        ({"aud": "other"}, "invalid_token"),
        ({"iss": "https://other.example"}, "invalid_token"),
        ({"headway_weight": "much"}, "invalid_token"),
    ],
    ids=["expired", "too early", "for another", "of another", "not understood"],
)
async def test_a_token_that_is_no_good_is_refused_with_what_would_mend_it(said, code):
    async with taking() as router:
        answer = await router.ask(router.token(**said))

        assert (answer.status, answer.error["code"]) == (401, code)
        assert answer.error["type"] == "authentication_error"
        assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'
        assert router.engine.calls == []


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_a_forged_token_opens_nothing():
    async with taking() as router:
        head, claims, signature = router.token().split(".")
        forged = [
            f"{part({'alg': 'none', 'kid': 'first'})}.{claims}.",
            f"{part({'alg': 'HS256', 'kid': 'first'})}.{claims}.{signature}",
            f"{head}.{part({'iss': 'https://id.example'})}.{signature}",
            f"{head}.{claims}.{signature[:-8]}AAAAAAAA",
            signed({"alg": "RS256", "kid": "first"}, {"sub": "ann"}, made("RS256", 1)),
        ]
        answers = [await router.ask(each) for each in forged]

        assert {(each.status, each.error["code"]) for each in answers} == {(401, "invalid_token")}
        assert router.engine.calls == []


async def test_a_key_that_the_issuer_has_rotated_in_is_taken_without_a_request_that_waits():
    async with taking() as router:
        router.identity.publish("second", "EdDSA")
        token = router.token("second")
        router.publish()
        first = await router.ask(token)
        await until(lambda: router.issuer.reads == 2)
        second = await router.ask(token)

        assert (first.status, first.error["code"]) == (401, "invalid_token")
        assert (first.header("retry-after"), first.header("x-should-retry")) == ("1", "true")
        assert second.status == 200


async def test_an_openai_client_does_not_even_notice_that_a_key_was_rotated_in():
    async with taking() as router:
        router.identity.publish("second")
        router.publish()
        client = openai.AsyncOpenAI(
            base_url=f"{router.router.url}/v1", api_key=router.token("second"), max_retries=2
        )
        async with client:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hello"}]
            )

        assert answer.choices[0].message.content == "hi"


async def test_while_the_issuer_does_not_answer_no_request_waits_for_it():
    async with taking() as router:
        router.published.answers[PATH] = SILENCE
        router.identity.publish("second")
        stranger = router.token("second")
        unknown = await router.ask(stranger)
        await until(lambda: router.published.asked[PATH] == 2)
        during = [(await router.ask(each)).status for each in (router.token(), stranger)]

        assert unknown.status == 401
        assert during == [200, 401]
        assert router.issuer.reads == 1


async def test_a_key_that_the_issuer_took_out_opens_nothing_on_a_connection_that_it_opened():
    async with taking() as router, caller(router.router.port) as connection:
        shown = {"authorization": f"Bearer {router.token()}"}
        before = [await connection.ask(chat(), shown) for _ in range(2)]
        router.identity.publish("second")
        del router.identity.keys["first"]
        router.publish()
        await router.issuer.refresh()
        after = await connection.ask(chat(), shown)

        assert [each.status for each in before] == [200, 200]
        assert (after.status, after.error["code"]) == (401, "invalid_token")


async def test_a_router_starts_without_its_issuer_and_takes_keys_meanwhile():
    async with (
        scripted_engine(answering(ANSWER)) as engine,
        serving(
            pool("bulk", engine),
            admin=Admin(),
            access=Access(jwt=settings(jwks="http://127.0.0.1:1/keys")),
        ) as router,
        httpx.AsyncClient(
            base_url=router.url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False
        ) as admin,
    ):
        key = (await admin.post("/admin/v1/keys", json={"tenant": "acme"})).json()["key"]
        token = Identity().token(time.time())  # noqa: TID251 # issuers' time
        shown = [{"authorization": f"Bearer {each}"} for each in (key, token)]
        statuses = [(await ask(router.port, chat(), each)).status for each in shown]

        assert statuses == [200, 401]


async def test_a_flood_of_tokens_is_told_to_come_back_and_known_holders_are_served():
    async with taking(max_share=1e-9) as router, caller(router.router.port) as flood:
        opened = await router.ask(router.token())
        known = router.token()
        answers = [
            await flood.ask(chat(), {"authorization": f"Bearer {router.token(jti=str(number))}"})
            for number in range(30)
        ]
        after = await router.ask(known)
        text = (await router.admin.get("/metrics")).text

        assert (opened.status, after.status) == (200, 200)
        assert {(each.status, each.error["code"]) for each in answers} == {
            (503, "too_many_new_tokens")
        }
        assert answers[-1].header("retry-after") == "1"
        assert 'headway_auth_failures_total{reason="crowded_out"} 30\n' in text


async def test_how_things_stand_with_the_issuer_is_told_at_a_scrape():
    async with taking() as router:
        await router.ask(router.token())
        router.published.answers[PATH] = Answer(b"", 500)
        await router.issuer.refresh()
        text = (await router.admin.get("/metrics")).text

        assert "headway_jwks_keys{} 1\n" in text
        assert "headway_tokens_known{} 1\n" in text
        assert "headway_jwks_age_seconds{} " in text
        assert 'headway_jwks_reads_total{outcome="read"} 1\n' in text
        assert 'headway_jwks_reads_total{outcome="failed"} 1\n' in text


async def test_a_token_reaches_no_engine_and_stands_in_no_log_and_on_no_page(caplog):
    caplog.set_level("DEBUG")
    async with taking() as router:
        good, bad = router.token(), router.token(aud="other")
        odd = router.token(headway_models=7)
        pages = [await router.ask(each, {"x-api-key": each}) for each in (good, bad, odd)]
        seen = b"".join(page.body for page in pages)
        for path in ("/metrics", "/admin/v1/status", "/admin/v1/requests", "/admin/v1/keys"):
            seen += (await router.admin.get(path)).content
        seen += str(router.router.log).encode() + caplog.text.encode()
        (call,) = router.engine.calls

        assert [page.status for page in pages] == [200, 401, 401]
        assert b"'tenant': 'ann'" in seen
        for token in (good, bad, odd):
            assert token.split(".")[2].encode() not in seen + call.head
            assert has_secret(f"token={token}")
        assert call.header("authorization") is None
