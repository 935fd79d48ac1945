"""Which process executes a server, and which only has one in its arguments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.tokens.dialects.registry import SERVERS
from tokenyield_agent.workloads.executed_program import carries_others, launches_ranks
from tokenyield_agent.workloads.server_process import server_of

PYTHON = "/usr/bin/python3.11"
EXECUTES: list[tuple[str, list[str], str]] = [
    # (server, argv, the resolved executable)
    ("vllm", [PYTHON, "/usr/local/bin/vllm", "serve", "m"], PYTHON),
    ("vllm", ["/opt/venv/bin/python3", "-u", "/opt/venv/bin/vllm", "serve", "m"], PYTHON),
    ("vllm", ["python3.11", "-um", "vllm.entrypoints.openai.api_server", "--model", "m"], PYTHON),
    ("vllm", ["python", "-W", "ignore", "-X", "faulthandler", "-m", "vllm.entrypoints.api_server"], PYTHON),
    ("vllm", ["python", "-Wignore", "-OO", "-mvllm.entrypoints.openai.run_batch", "-i", "f"], PYTHON),
    ("vllm", ["python", "-m", "vllm.entrypoints.cli.main", "serve", "m"], PYTHON),
    ("vllm", ["python3", "/src/vllm/vllm/entrypoints/openai/api_server.py", "--model", "m"], PYTHON),
    ("vllm", ["python3", "-m", "debugpy", "--listen", "5678", "-m", "vllm.entrypoints.openai.api_server"], PYTHON),
    ("vllm", ["python3", "-m", "cProfile", "-o", "x", "/usr/local/bin/vllm", "serve", "m"], PYTHON),
    ("vllm", ["/nix/store/x/bin/.vllm-wrapped", "serve", "m"], PYTHON),
    ("vllm", ["VLLM::EngineCore"], PYTHON),
    ("vllm", ["VLLM::Worker_TP0_EP0"], PYTHON),
    ("vllm", ["/usr/bin/python3 /usr/local/bin/vllm serve m"], PYTHON),  # a title with its whole command line
    ("sglang", ["python3", "-m", "sglang.launch_server", "--model-path", "m"], PYTHON),
    ("sglang", ["python3", "/sgl-workspace/sglang/python/sglang/launch_server.py"], PYTHON),
    ("sglang", ["/opt/venv/bin/sglang", "serve", "--model-path", "m"], PYTHON),
    ("sglang", ["sglang::scheduler_TP0"], PYTHON),
    ("llamacpp", ["./llama-server", "-m", "m.gguf"], "/opt/llama.cpp/build/bin/llama-server"),
    ("llamacpp", ["llama", "serve", "-m", "m.gguf"], "/usr/local/bin/llama"),
    ("llamacpp", ["/usr/local/bin/chat", "-m", "m.gguf"], "/opt/llama/llama-server"),  # by its resolved program
    ("llamacpp", ["llama-server-b11434"], "/opt/llama-server-b11434"),
    ("llamacpp", ["llama-server-0.3.36"], "/cache/llama-server-0.3.36"),
    ("llamacpp", ["llama-server-cuda12"], "/opt/llama-server-cuda12"),
    ("llamacpp", ["llama-server"], "/usr/bin/sleep"),
    ("llamacpp", ["./server", "-m", "m.gguf"], "/src/llama.cpp/server"),
    ("llamacpp", ["/lib64/ld-linux-x86-64.so.2", "--library-path", "/l", "/x/llama-server"], "/lib64/ld-2.31.so"),
    ("ollama", ["/usr/local/bin/ollama", "serve"], "/usr/local/bin/ollama"),
    ("ollama", ["ollama", "start"], "/snap/ollama/1/bin/ollama"),
    ("ollama", ["/usr/bin/ollama", "runner", "--model", "/m", "--port", "40001"], "/usr/bin/ollama"),
    ("lmdeploy", [PYTHON, "/opt/conda/bin/lmdeploy", "serve", "api_server", "m"], PYTHON),
    ("lmdeploy", ["python3", "-m", "lmdeploy", "serve", "api_server", "m"], PYTHON),
    ("lmdeploy", ["python3", "-m", "lmdeploy.serve.openai.api_server"], PYTHON),
    ("dynamo", ["python3", "-m", "dynamo.vllm", "--model", "m"], PYTHON),
    ("dynamo", ["python3", "-m", "dynamo.sglang.main", "--model", "m"], PYTHON),
    ("nim", ["/bin/bash", "/opt/nim/start-server.sh"], "/usr/bin/bash"),
    ("nim", ["bash", "-e", "-o", "pipefail", "/opt/nim/start-server.sh"], "/usr/bin/bash"),
    ("nim", ["/opt/nim/llm/.venv/bin/python3", "-m", "vllm_nvext.entrypoints.openai.api_server"], PYTHON),
    ("vllm", ["/opt/nim/llm/.venv/bin/python3", "-m", "vllm.entrypoints.openai.api_server"], PYTHON),
    ("tgi", ["text-generation-launcher", "--model-id", "m"], "/usr/local/bin/text-generation-launcher"),
    ("tgi", ["/opt/conda/bin/python3.11", "/opt/conda/bin/text-generation-server", "serve", "m"], PYTHON),
    ("triton", ["/opt/tritonserver/bin/tritonserver", "--model-repository=/m"], "/opt/tritonserver/bin/tritonserver"),
    ("trtllm", [PYTHON, "/usr/local/bin/trtllm-serve", "m"], PYTHON),
    ("transformers", [PYTHON, "/usr/local/bin/transformers", "serve", "--port", "8123"], PYTHON),
    ("ray", ["ray::ServeReplica:default:LLMServer"], PYTHON),
    ("ray", ["ray::RayWorkerWrapper.execute_method"], PYTHON),
]
SERVE = "/opt/venv/bin/vllm serve m --port 8001"
DOES_NOT: list[list[str]] = [
    [],
    [""],
    ["sh", "-c", f"exec {SERVE}"],
    ["/bin/bash", "-lc", f"{SERVE} & llama-server -m m.gguf & wait"],
    ["bash", "-ec", SERVE],
    ["bash", "-o", "pipefail", "-c", SERVE],
    ["busybox", "sh", "-c", SERVE],
    ["-bash"],
    ["bash", "start-vllm.sh", "serve", "llama-server"],
    ["/bin/sh", "./llama-server-and-more.sh"],
    ["tmux", "new-session", "-d", "-s", "llm", SERVE],
    ["tmux: server"],
    ["SCREEN", "-dmS", "llm", "llama-server", "-m", "m.gguf"],
    ["/usr/bin/python3", "/usr/bin/supervisord", "-c", "/etc/vllm.conf"],
    ["s6-supervise", "llama-server"],
    ["runsv", "llama-server"],
    ["tini", "--", *SERVE.split()],
    ["/usr/bin/dumb-init", "--", "llama-server"],
    ["/sbin/docker-init", "--", *SERVE.split()],
    ["sudo", "-u", "llm", *SERVE.split()],
    ["env", "CUDA_VISIBLE_DEVICES=0", "llama-server"],
    ["nohup", "llama-server"],
    ["numactl", "-N", "0", "llama-server"],
    ["nsys", "profile", "-o", "x", "python3", "-m", "sglang.launch_server"],
    ["timeout", "1h", "llama-server"],
    ["stdbuf", "-oL", "llama-server"],
    ["uv", "run", "vllm", "serve", "m"],
    [PYTHON, "/usr/bin/poetry", "run", "vllm", "serve", "m"],
    ["/opt/conda/bin/python", "/opt/conda/bin/conda", "run", "-n", "llm", "vllm", "serve", "m"],
    [PYTHON, "/usr/local/bin/torchrun", "--nproc-per-node", "2", "-m", "sglang.launch_server"],
    ["mpirun", "-n", "2", "trtllm-serve", "m"],
    ["srun", "--ntasks=2", "vllm", "serve", "m"],
    [PYTHON, "/usr/local/bin/accelerate", "launch", "/usr/local/bin/vllm", "serve", "m"],
    ["vim", "/usr/local/bin/llama-server"],
    ["grep", "-r", "vllm serve", "."],
    ["tail", "-f", "/var/log/llama-server"],
    ["less", "vllm/entrypoints/openai/api_server.py"],
    [PYTHON, "-c", "from multiprocessing.spawn import spawn_main; spawn_main()", "vllm serve"],
    [PYTHON, "-c", "import os; os.system('llama-server')"],
    [PYTHON, "train.py", "--like", "/usr/local/bin/vllm", "serve"],
    [PYTHON, "-m", "http.server", "llama-server"],
    [PYTHON, "-m", "vllm_router.app", "serve"],
    [PYTHON, "-m", "sglang_router.launch_router", "--worker-urls", "http://sglang.launch_server"],
    [PYTHON, "-m", "sglang.bench_serving"],
    [PYTHON, "-m", "pytest", "vllm/entrypoints/openai"],
    [PYTHON, "-"],
    ["vllm", "bench", "serve", "--model", "m"],
    ["vllm", "chat"],
    ["ollama", "run", "serve"],
    ["llama-server-exporter"],
    ["my-llama-server"],
    ["llama-cli", "serve"],
    ["ssh", "gpu1", SERVE],
    ["docker", "run", "vllm/vllm-openai", "vllm", "serve"],
    ["text-generation-server", "download-weights", "m"],
    ["sshd: vllm serve"],
    ["ray::IDLE"],
    ["ray::WorkerDict.generate"],
    ["tokenyield-agent", "run", "vllm", "serve"],
]


@pytest.mark.parametrize(("name", "argv", "resolved"), EXECUTES, ids=lambda value: str(value)[:60])
def test_the_process_that_executes_a_server_is_recognized(name: str, argv: list[str], resolved: str) -> None:
    server = server_of(argv, resolved)
    assert server is not None
    assert server.name == name


@pytest.mark.parametrize("argv", DOES_NOT, ids=lambda argv: " ".join(argv)[:60])
def test_a_process_that_only_mentions_a_server_is_none(argv: list[str]) -> None:
    assert server_of(argv) is None
    assert server_of(argv, "/usr/bin/something") is None


def test_every_server_that_has_processes_is_in_the_table() -> None:
    assert {name for name, _, _ in EXECUTES} == {s.name for s in SERVERS.values() if s.process is not None}


@pytest.mark.parametrize("name", ["/bin/echo", "grep", "tmux", "sudo", "bash -c", "python3 -c", "start.sh", "vim"])
@given(words=st.lists(st.sampled_from([word for _, argv, _ in EXECUTES for word in argv]), max_size=6))
def test_no_arguments_make_a_server_of_another_program(name: str, words: list[str]) -> None:
    assert server_of([*name.split(), *words]) is None


@given(st.lists(st.text(max_size=12), max_size=8), st.text(max_size=12))
def test_any_words_can_be_looked_at(argv: list[str], resolved: str) -> None:
    server_of(argv, resolved)
    carries_others(argv)
    launches_ranks(argv)


@pytest.mark.parametrize(
    ("argv", "carries", "launches"),
    [
        (["bash", "-c", "llama-server & wait"], True, False),
        (["/bin/sh", "start.sh"], True, False),
        (["tmux: server"], True, False),
        (["/usr/bin/python3", "/usr/bin/supervisord"], True, False),
        (["uv", "run", "serve.py"], True, False),
        (["mpirun", "-n", "2", "trtllm-serve"], False, True),
        (["slurmstepd: [42.0]"], False, True),
        (["python3", "-m", "torch.distributed.run", "x.py"], False, True),
        (["/usr/lib/python3/ray/core/src/ray/raylet/raylet", "--raylet_socket_name=x"], False, True),
        (["python3", "serve.py"], False, False),
        (["./llama-server"], False, False),
        ([], False, False),
    ],
)
def test_who_starts_others(argv: list[str], carries: bool, launches: bool) -> None:
    assert carries_others(argv) == carries
    assert launches_ranks(argv) == launches
