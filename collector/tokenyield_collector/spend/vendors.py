"""Names of vendors, as they are kept: one for all of its products and for all spellings of others. Pure."""

from tokenyield_collector.spend.values import UnusableSpend

OWN_FLEET = "own-fleet"
"""In the place of a vendor: requests that the fleet itself served and counts too, so they are in no total of spend."""
_NAMES = {
    "anthropic": ("anthropic", "anthropic pbc"),
    "openai": ("openai", "text-completion-openai", "openai llc"),
    "aws": ("aws", "amazon web services", "bedrock", "bedrock_converse", "sagemaker", "amazon", "bedrock_mantle"),
    "azure": ("azure", "microsoft", "azure_ai", "microsoft azure", "azure_text"),
    "google": (
        "google",
        "google cloud",
        "google cloud platform",
        "gcp",
        "vertex_ai",
        "vertex_ai_beta",
        "gemini",
    ),
    "openrouter": ("openrouter", "openrouter inc"),
    OWN_FLEET: (OWN_FLEET, "hosted_vllm", "vllm", "ollama", "ollama_chat", "llamafile", "lm_studio", "triton"),
}
_BY_SPELLING = {spelling: name for name, spellings in _NAMES.items() for spelling in spellings}


def vendor_of(spelling: str) -> str:
    """`Amazon Web Services` -> `aws`; a vendor that is not known keeps its own name, in small letters. Raises
    `UnusableSpend` where there is none."""
    plain = spelling.strip().casefold()
    if not plain:
        raise UnusableSpend("vendor", expected="who is paid", found="nothing")
    return _BY_SPELLING.get(plain) or _BY_SPELLING.get(plain.rstrip(".").replace(",", "")) or plain
