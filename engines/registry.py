"""Every kind of engine that the router can speak to."""

from collections.abc import Mapping

from engines.engine import Engine, Kind
from engines.llamacpp import LlamaCpp
from engines.openai import OpenAI
from engines.sglang import SGLang
from engines.tgi import Tgi
from engines.vllm import Vllm

ENGINES: Mapping[Kind, Engine] = {
    Kind.VLLM: Vllm(),
    Kind.TGI: Tgi(),
    Kind.SGLANG: SGLang(),
    Kind.LLAMACPP: LlamaCpp(),
    Kind.OPENAI: OpenAI(),
}
