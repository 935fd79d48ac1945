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


def _model(folder: Path, name: str = "tiny.gguf") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_tiny_model(path)
    return path


def start(folder: Path, cache: Path) -> RealServer:
    """One model, four slots."""
    program = build(cache)
    model = _model(folder)
    options = ["-np", "4", "-c", "8192", "--no-webui", "--metrics", "--host", "127.0.0.1"]
    return RealServer(
        "llama-server",
        lambda port: [str(program), "-m", str(model), "--port", str(port), *options],
        folder,
        model="tiny",
        version=VERSION,
        counters=COUNTERS,
    )


def start_serve(folder: Path, cache: Path) -> RealServer:
    """The same by the single binary: `llama serve`."""
    program = build(cache, "llama")
    model = _model(folder)
    options = ["-np", "4", "-c", "8192", "--no-webui", "--metrics", "--host", "127.0.0.1"]
    return RealServer(
        "llama-serve",
        lambda port: [str(program), "serve", "-m", str(model), "--port", str(port), *options],
        folder,
        model="tiny",
        version=VERSION,
        counters=COUNTERS,
    )


def start_router(folder: Path, cache: Path) -> RealServer:
    """The router, which starts a child for each model when it is first asked for."""
    program = build(cache)
    models = folder / "models"
    for name in ("a.gguf", "b.gguf"):
        _model(models, name)
    options = ["--models-dir", str(models), "-np", "4", "-c", "8192", "--no-webui", "--metrics", "--host", "127.0.0.1"]
    return RealServer(
        "llama-router",
        lambda port: [str(program), "--port", str(port), *options],
        folder,
        model="a",
        version=VERSION,
        metrics_path=None,
    )
