"""Clients that people have besides the OpenAI SDK."""

import json
import shutil
import subprocess
import urllib.request

import pytest
from pydantic import SecretStr

BODY = {"max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "Say hi."}]}


@pytest.fixture
def fetch():
    """Return what a POST with curl gives; where there is no curl, with Python's own client."""
    curl = shutil.which("curl") or ""

    def with_curl(url, document):
        finished = subprocess.run(  # noqa: S603 - curl, at our own server
            [
                curl, "--silent", "--show-error", "--no-buffer", "--max-time", "15", url,
                "--header", "Content-Type: application/json", "--data", json.dumps(document),
            ],
            capture_output=True,
            check=True,
        )  # fmt: skip
        return finished.stdout

    def with_python(url, document):
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(url, json.dumps(document).encode(), headers)  # noqa: S310 - our own server
        with urllib.request.urlopen(asked, timeout=15) as answer:  # noqa: S310 - our own server
            return answer.read()

    return with_curl if curl else with_python


def test_curl_gets_an_answer(fetch, router_url, model):
    said = json.loads(fetch(f"{router_url}/v1/chat/completions", BODY | {"model": model}))

    assert said["choices"][0]["message"]["content"]


def test_curl_gets_a_stream_of_events_up_to_the_last(fetch, router_url, model):
    said = fetch(f"{router_url}/v1/chat/completions", BODY | {"model": model, "stream": True})

    *events, last, rest = said.split(b"\n\n")
    assert rest == b""
    assert last == b"data: [DONE]"
    assert all(json.loads(event.removeprefix(b"data: "))["choices"] for event in events)


# The library warns of its own inner workings, which differ from release to release.
@pytest.mark.filterwarnings("ignore")
def test_langchain_gets_an_answer_and_a_stream(router_url, model):
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - warns when it is imported

    chat = ChatOpenAI(
        base_url=f"{router_url}/v1",
        api_key=SecretStr("none"),
        model=model,
        max_completion_tokens=4,
        temperature=0,
        max_retries=0,
        extra_body={"cache_prompt": False},
    )

    whole = chat.invoke("Say hi.").text
    assert whole
    assert "".join(chunk.text for chunk in chat.stream("Say hi.")) == whole
