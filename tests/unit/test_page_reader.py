"""The page is read as it is typed."""

from __future__ import annotations

from tests.harness.running import ROOT
from tests.lab.page.reader import boxes, commands

_PAGE = """# Title
## 1. One
Text.
```
./smd deploy --a \\
    --b          # a remark
openstack --os-cloud MYCLOUD list
```
## 2. Two
```yaml
name: x
```
"""


def test_boxes_are_found_by_their_part() -> None:
    found = boxes(_PAGE)
    assert [box.language for box in found["2. Two"]] == ["yaml"]
    assert commands(found["1. One"][0], {"MYCLOUD": "lab"}) == [
        "./smd deploy --a      --b",
        "openstack --os-cloud lab list",
    ]


def test_the_page_has_the_boxes_that_are_followed() -> None:
    found = boxes((ROOT / "docs" / "first-deployment.md").read_text())
    by_number = {heading.split(".")[0]: part for heading, part in found.items()}
    kinds = {number: [box.language for box in part] for number, part in by_number.items()}
    assert kinds["4"] == ["", "yaml", ""]
    assert commands(by_number["5"][0], {}) == ["./smd deploy"]
    assert [len(commands(box, {})) for box in by_number["8"]] == [3, 2]
    assert "terraform" in by_number["10"][0].text
    assert commands(by_number["6"][0], {}) == ["./smd status"]
