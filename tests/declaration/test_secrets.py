"""A secret that is written where only its place may be named: refused, and never repeated."""

from __future__ import annotations

import pytest

from dr.schema import examine
from dr.schema.definition import KINDS
from dr.schema.definition.words import every_key
from dr.schema.secret import KEYS
from tests.declaration.estate import whole_files

SECRET = "hunter2Geheim"
PLACES = [
    ("servers.yaml", "{env: DB1_PASSWORD}"),
    ("servers.yaml", "{file: secrets/sudo}"),
    ("site.yaml", "{keyStore: vpn-key}"),
    ("plans.yaml", "{env: CHAT_HOOK}"),
    ("plans.yaml", '"https://desk.example.org/dr"'),
    ("plans.yaml", '{url: "https://desk.example.org/dr"}'),
]
WRITTEN = [
    SECRET,
    f'"{SECRET}"',
    f"[{SECRET}]",
    f"{{{SECRET}: }}",
    f"{{value: {SECRET}}}",
    f'{{env: "{SECRET} !"}}',
    f'{{file: ["{SECRET}"]}}',
    f"{{keyStore: _{SECRET}}}",
    f"{{keyStore: {{{SECRET}: {SECRET}}}}}",
    f"{{url: {SECRET}}}",
    f"0x{SECRET.encode().hex()}",
    f"|\n    {SECRET}\n    {SECRET}",
    f"https://me:{SECRET}@example.org",
]


@pytest.mark.parametrize(("file", "place"), PLACES)
def test_no_secret_is_repeated_however_it_is_written(file: str, place: str) -> None:
    text = whole_files()[file]
    assert text.count(place) == 1
    for written in WRITTEN:
        examined = examine({file: text.replace(place, written).encode()})
        said = "".join(str(finding) for finding in examined.findings)
        assert said, written
        assert SECRET not in said, written
        assert SECRET.encode().hex() not in said, written


def test_every_reference_to_a_secret_stands_under_a_key_that_is_known_for_it() -> None:
    for kind, definition in KINDS.items():
        for key, _, _ in every_key(definition):
            above, _, last = key.rpartition(".")
            if last == "keyStore":
                assert above.rpartition(".")[2] in KEYS, f"{kind}.{above}"
