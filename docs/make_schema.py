"""Write docs/wire-v1.schema.json from the wire's types; a test holds the two together."""

import json
from pathlib import Path

from tokenyield_wire.codec import json_schema

if __name__ == "__main__":
    Path(__file__).with_name("wire-v1.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")
