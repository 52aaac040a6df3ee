"""The face of each kind."""

from engines.emulator.faces.face import Face
from engines.emulator.faces.llamacpp import LlamaCppFace
from engines.emulator.faces.sglang import SglangFace
from engines.emulator.faces.tgi import TgiFace
from engines.emulator.faces.vllm import VllmFace
from engines.engine import Kind

FACES: dict[Kind, Face] = {
    Kind.VLLM: VllmFace(),
    Kind.TGI: TgiFace(),
    Kind.SGLANG: SglangFace(),
    Kind.LLAMACPP: LlamaCppFace(),
}
