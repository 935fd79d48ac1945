"""Writes a tiny Llama with random weights as Hugging Face keeps models, for vLLM and Dynamo's mocker.

    python tiny_hf_model.py FOLDER        by the server's own interpreter, which has tokenizers, safetensors and numpy

Real inference, no download, no sense in what it says. The tokenizer knows single bytes only.
"""

import json
import sys
from pathlib import Path

WIDTH, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 2, 128, 4096
CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def write(folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *letters])}
    size = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "chat_template": CHAT,
            "model_max_length": CONTEXT,
        },
    )
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": size,
            "hidden_size": WIDTH,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": WIDTH // HEADS,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": "float32",
        },
    )
    _write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 1})
    random = np.random.default_rng(20_261_127)

    def weight(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return random.normal(0, 0.05, shape).astype(np.float32)

    ones = np.ones(WIDTH, dtype=np.float32)
    tensors = {"model.embed_tokens.weight": weight(size, WIDTH), "lm_head.weight": weight(size, WIDTH)}
    tensors["model.norm.weight"] = ones
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        tensors |= {f"{at}.input_layernorm.weight": ones, f"{at}.post_attention_layernorm.weight": ones}
        for part in "qkvo":
            tensors[f"{at}.self_attn.{part}_proj.weight"] = weight(WIDTH, WIDTH)
        for part in ("gate", "up"):
            tensors[f"{at}.mlp.{part}_proj.weight"] = weight(FEED_FORWARD, WIDTH)
        tensors[f"{at}.mlp.down_proj.weight"] = weight(WIDTH, FEED_FORWARD)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def write_lora(folder: Path) -> None:
    """A LoRA adapter of rank 8 for it."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    parts = ("q_proj", "v_proj")
    _write_json(
        folder / "adapter_config.json",
        {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": list(parts), "bias": "none",
         "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny"},
    )  # fmt: skip
    tensors = {}
    for layer in range(LAYERS):
        for part in parts:
            at = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors[f"{at}.lora_A.weight"] = random.normal(0, 0.05, (8, WIDTH)).astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = random.normal(0, 0.05, (WIDTH, 8)).astype(np.float32)
    save_file(tensors, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})


def _write_json(path: Path, document: dict[str, object]) -> None:
    path.write_text(json.dumps(document))


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "tiny")
    write_lora(Path(sys.argv[1]) / "lora")
