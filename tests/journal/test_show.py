"""`dr journal show` tells a whole file from a torn one."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from dr.cli.journal import journal
from dr.errors import Corrupt
from dr.journal import SegmentHeader, SegmentKind, SegmentWriter


def segment() -> bytes:
    writer = SegmentWriter(SegmentHeader(1, 5, "sda", SegmentKind.DATA))
    writer.data(0, b"x" * 512)
    writer.zero(65536, 65536)
    return writer.finish()


def test_show_prints_each_record(tmp_path: Path) -> None:
    file = tmp_path / "5.hrl"
    file.write_bytes(segment())
    result = CliRunner().invoke(journal, ["show", str(file), "--json"], catch_exceptions=False)
    assert json.loads(result.output) == {
        "header": {"protection_epoch": 1, "sequence": 5, "disk": "sda", "kind": "data"},
        "records": [
            {"type": "data", "offset": 0, "length": 512},
            {"type": "zeros", "offset": 65536, "length": 65536},
        ],
        "complete": True,
    }
    plain = CliRunner().invoke(journal, ["show", str(file)], catch_exceptions=False)
    assert plain.output.splitlines()[-1] == "whole"


def test_a_torn_file_exits_as_corrupt(tmp_path: Path) -> None:
    file = tmp_path / "5.hrl"
    file.write_bytes(segment()[:-3])
    result = CliRunner().invoke(journal, ["show", str(file), "--json"])
    assert result.exit_code == Corrupt.exit_code
    shown = json.loads(result.output)
    assert len(shown["records"]) == 2
    assert shown["error"]["code"] == "corrupt"
    plain = CliRunner().invoke(journal, ["show", str(file)])
    assert isinstance(plain.exception, Corrupt)
    assert "NOT whole" in plain.output
