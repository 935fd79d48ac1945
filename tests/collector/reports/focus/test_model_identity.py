"""What a model's name says about it, and what it does not."""

import pytest

from tokenyield_collector.reports.focus.model_identity import model_identity


@pytest.mark.parametrize(
    ("name", "developer", "family", "version"),
    [
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama", "Llama", "3.3"),
        ("Qwen/Qwen2.5-72B-Instruct", "Qwen", "Qwen", "2.5"),
        ("google/gemma-2-9b-it", "google", "gemma", "2"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek-ai", "DeepSeek", "3.1"),
        ("microsoft/phi-4", "microsoft", "phi", "4"),
        ("zai-org/GLM-4.5-Air-FP8", "zai-org", "GLM", "4.5"),
        ("openai/gpt-oss-120b", "openai", None, None),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai", None, None),
        ("claude-sonnet-4-5-20250929", None, None, None),
        ("llama-70b", None, None, None),
        ("/models/ggml-model-q4.gguf", "models", None, None),
        ("日本語", None, None, None),
    ],
)
def test_only_what_the_name_says_plainly(
    name: str, developer: str | None, family: str | None, version: str | None
) -> None:
    wanted = {"ModelId": name, "ModelDeveloper": developer, "ModelFamily": family, "ModelVersion": version}
    assert model_identity(name) == {key: value for key, value in wanted.items() if value is not None}


def test_no_model_has_no_identity() -> None:
    assert model_identity("") == {}
