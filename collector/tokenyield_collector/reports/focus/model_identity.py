"""What the name of a model says about it, under the names of FOCUS (working draft for 1.5, in SkuPriceDetails). Pure.

`ModelId` is the name as it is served. The rest is given only where the name has it plainly: who made the model is what
stands before a slash (`meta-llama/…`); family and version are words followed by a number that is no size
(`Llama-3.3-70B` -> Llama, 3.3; `gpt-oss-120b` has no version).
"""

import re

_VERSIONED = re.compile(
    r"(?P<family>[A-Za-z]+(?:-[A-Za-z]+)*?)-?[vV]?"
    r"(?P<version>\d+\.\d+|\d+(?![-_.:]\d+(?:[-_:]|$)))(?=[-_:]|$)"
)


def model_identity(model: str) -> dict[str, str]:
    """Empty where no model is known."""
    if not model:
        return {}
    identity = {"ModelId": model}
    developer, slash, name = model.rpartition("/")
    if slash and developer:
        identity["ModelDeveloper"] = developer.rpartition("/")[2]
    if found := _VERSIONED.match(name):
        identity["ModelFamily"], identity["ModelVersion"] = found["family"], found["version"]
    return identity
