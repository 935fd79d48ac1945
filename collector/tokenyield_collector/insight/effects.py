"""The catalogue of effects: what makes one period cost more or less than another. Pure.

Every surface names and words effects from here. Their order is that in which a difference is divided
(differences.py): each is the change of the cost when one thing alone goes from its old value to its new one, those
before it being new already.
"""

from typing import NamedTuple


class Effect(NamedTuple):
    """`words` follow an amount and name whose it is; `alone` is said where it is nobody's."""

    name: str
    title: str
    words: str
    alone: str
    meaning: str


def _of(name: str, title: str, words: str, meaning: str) -> Effect:
    return Effect(name, title, f"{words} of {{}}", words, meaning)


CATALOGUE = (
    Effect("gone", "gone", "from {}, which is gone", "from what is gone",
           "workloads and vendors that cost nothing any more"),
    Effect("new", "new", "from {}, which is new", "from what is new", "workloads and vendors that cost nothing before"),
    Effect("length", "days", "by the number of days ({})", "by the number of days", "the periods are not equally long"),
    _of("volume", "volume", "by the volume", "more or fewer tokens; of work without tokens, GPU time"),
    _of("mix", "model mix", "by the mix of models", "tokens that moved to models with another cost per token"),
    _of("cache", "cache hits", "by the cache hits", "another part of the prompts came from the cache"),
    _of("answers", "input and output", "by the ratio of prompts to answers", "longer or shorter answers to a prompt"),
    _of("pace", "pace", "by the pace", "more or less GPU time for the same work"),
    _of("idle", "idle", "by idle time", "GPU time held while no kernel ran"),
    _of("unallocated", "unallocated", "by unallocated GPUs", "GPU time that nobody held"),
    _of("dark", "dark", "by dark GPUs", "GPU time that was paid for, and not reported or unknown"),
    _of("energy", "energy", "by the energy", "joules for the same work and time, and their price"),
    _of("price", "price", "by the price", "another price of a token, or of a GPU-hour"),
    _of("charges", "charges", "by charges", "cost without tokens and GPU time: seats, fees, corrections"),
    Effect("shared", "shared", "shared to {}", "by sharing", "cost taken over from others by the sharing policy"),
)  # fmt: skip
NAMES = tuple(effect.name for effect in CATALOGUE)
BY_NAME = {effect.name: effect for effect in CATALOGUE}
