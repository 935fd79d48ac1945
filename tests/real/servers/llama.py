"""llama-server: with one model, and as a router that starts a child for each model."""

from pathlib import Path

from real.build_llama_server import VERSION, build
from real.servers.server import RealServer
from real.tiny_model import write_tiny_model

COUNTERS = {
    "completion": ["llamacpp:tokens_predicted_total"],
    "prompt": ["llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"],
    "prompt_cached": ["llamacpp:prompt_tokens_cached_total"],
}

OPTIONS = ["-np", "4", "-c", "8192", "--no-webui", "--metrics", "--host", "127.0.0.1"]


def _model(folder: Path, name: str = "tiny.gguf") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_tiny_model(path)
    return path


def _one_model(name: str, call: list[str], folder: Path) -> RealServer:
    """Of four slots."""
    model = str(_model(folder))
    return RealServer(
        name,
        lambda port: [*call, "-m", model, "--port", str(port), *OPTIONS],
        folder,
        model="tiny",
        version=VERSION,
        counters=COUNTERS,
    )


def start(folder: Path, cache: Path) -> RealServer:
    return _one_model("llama-server", [str(build(cache))], folder)


def start_serve(folder: Path, cache: Path) -> RealServer:
    """The same by the single binary."""
    return _one_model("llama-serve", [str(build(cache, "llama")), "serve"], folder)


def start_router(folder: Path, cache: Path) -> RealServer:
    """The router, which starts a child for each model when it is first asked for."""
    program = build(cache)
    models = folder / "models"
    for name in ("a.gguf", "b.gguf"):
        _model(models, name)
    return RealServer(
        "llama-router",
        lambda port: [str(program), "--models-dir", str(models), "--port", str(port), *OPTIONS],
        folder,
        model="a",
        version=VERSION,
        metrics_path=None,
    )
