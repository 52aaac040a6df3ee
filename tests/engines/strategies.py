"""What hypothesis draws for the adapters: bytes that are nonsense, and bytes that nearly are not."""

import orjson
from hypothesis import strategies as st

names = st.sampled_from(
    [
        "error", "error_type", "message", "type", "code", "param", "detail", "object", "usage",
        "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens",
        "timings", "details", "data", "id", "model", "choices", "finish_reason", "delta", "content",
        "loads", "internal_states", "response", "max_model_len", "modalities", "total_slots",
    ]
)  # fmt: skip

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["error", '{"error":{"message":"no"}}', "data: ", "response.failed", "Model is overloaded"]
)

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | texts

values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=5),
    max_leaves=12,
)

documents = st.dictionaries(names, values, max_size=6)

json_bytes = values.map(orjson.dumps) | documents.map(orjson.dumps)

pieces = st.lists(
    st.sampled_from(
        [
            b'"usage":', b'"usage": {', b"{", b"}", b"null", b'"prompt_tokens":', b"7", b",",
            b'"timings":{', b'"details":{"generated_tokens":', b'"error":', b"data: ", b"\n\n",
            b'"model":"', b'"', b"[DONE]", b"\xff", b"\\",
        ]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip

anything = st.binary(max_size=60) | json_bytes | pieces
