"""The page shows names as the collector's other targets do: as text, with what nobody would see as escapes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hostile import NAMES, acting
from tokenyield_collector.web.page import STATIC
from tokenyield_settings.visible import visible

SCRIPTS = STATIC / "js"
SHOW = """
import { el, visible } from "./dom.js";
import { readFileSync } from "node:fs";
globalThis.document = { createElement: (name) => ({ name, children: [], attributes: {},
  append(child) { this.children.push(child); }, setAttribute(key, value) { this.attributes[key] = value; } }) };
const names = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify(names.map((name) => {
  const made = el("a", { title: name, href: "#/x" }, name);
  return [visible(name), made.children[0], made.attributes.title, made.attributes.href];
})));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript without a browser here")
def test_every_text_of_an_element_is_visible(tmp_path: Path) -> None:
    for name in ("dom.js", "buckets.js"):
        shutil.copy(SCRIPTS / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "show.js").write_text(SHOW)
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    call = ["node", str(tmp_path / "show.js"), str(tmp_path / "names.json")]
    shown = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    for name, (text, child, title, href) in zip(NAMES, shown, strict=True):
        assert text == child == title
        assert href == "#/x"
        assert not acting(text, but=""), name
        if "\u3000" not in name:  # a wide space is seen in a browser
            assert text == visible(name)
    assert len({text for text, *_ in shown}) == len(NAMES)


def test_no_script_makes_elements_of_text() -> None:
    for script in SCRIPTS.rglob("*.js"):
        text = script.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), (
            script
        )
        for line in text.splitlines():
            if re.search(r"\.(textContent|title) = ", line) and "${" in line:
                assert "visible(" in line or "rows.length" in line or "clock(" in line, line
