"""The search for secrets finds: in each place that it looks at, and what a mutant of our own code writes."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from tests.config_server.rig import build_site
from tests.end_to_end.secrets import ANY_PRIVATE_KEY, PART_BYTES, Processes, Search, cores

CHECKOUT = Path(__file__).resolve().parents[2]
WHERE = "dr/certificates/site.py"
SECRET = b"correct-horse-battery/staple+2"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("stack.json", b'{"a": "' + SECRET + b'"}'),
        ("history/stack.checkpoint.json", b"x" * (PART_BYTES - 5) + SECRET),
        ("backups/stack.json.gz", gzip.compress(b"before " + SECRET, mtime=0)),
        ("serve.log", b"token " + SECRET.hex().encode()),
        ("trace.log", b"Authorization: Basic " + b64encode(b"user:" + SECRET)),
        ("events.json", b64encode(b"ab" + SECRET + b"and more")),
        ("url.log", b"GET /?password=correct-horse-battery%2Fstaple%2B2"),
        (SECRET.decode().replace("/", "-slash-") + ".log", SECRET),
        ("wide.log", SECRET.decode().encode("utf-16le")),
    ],
)
def test_a_planted_secret_is_found_in_a_file(tmp_path: Path, name: str, content: bytes) -> None:
    search = Search({"planted": SECRET})
    assert list(search.files(tmp_path, ())) == []
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert list(search.files(tmp_path, ())) == [f"planted in {path}"]
    assert list(search.files(tmp_path, {path})) == []


@pytest.mark.thorough
def test_a_planted_secret_is_found_in_a_command_line_and_in_an_environment(tmp_path: Path) -> None:
    search, processes = Search({"argument": SECRET, "variable": SECRET[::-1]}), Processes(str(tmp_path))
    command = [sys.executable, "-c", "import time; time.sleep(1.5)", SECRET.decode()]
    subprocess.run(command, env={**os.environ, "HIDDEN": SECRET[::-1].decode(), "FOLDER": str(tmp_path)}, check=True)
    processes.stop()
    assert search.found(b"\n".join(processes.command_lines)) == {"argument"}
    assert search.found(b"\n".join(processes.environments)) == {"variable"}


def test_a_core_file_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    program = "import resource, os; resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30)); os.abort()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    (left,) = list(tmp_path.iterdir())
    left.rename(tmp_path / "notes.txt")
    assert cores(tmp_path, ()) == [tmp_path / "notes.txt"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("mutation", "expected"),
    [
        (None, set()),
        ("print(key.decode(), file=__import__('sys').stderr)", set(ANY_PRIVATE_KEY)),
        ("print(__import__('base64').b64encode(key), file=__import__('sys').stderr)", set(ANY_PRIVATE_KEY)),
    ],
)
def test_a_mutant_that_logs_a_token_is_found(tmp_path: Path, mutation: str | None, expected: set[str]) -> None:
    """`dr agent token` as it is, and with one line more: what it says on stderr is a log that may hold no key."""
    mutant, root = tmp_path / "mutant", tmp_path / "local"
    shutil.copytree(CHECKOUT / "dr", mutant / "dr", ignore=shutil.ignore_patterns("__pycache__"))
    build_site(root / "site")
    marked = "        self._note(chain, renews=None)\n        return key + chain\n"
    source = (mutant / WHERE).read_text()
    assert source.count(marked) == 1
    if mutation is not None:
        (mutant / WHERE).write_text(source.replace(marked, f"        {mutation}\n{marked}"))
    log = tmp_path / "logs" / "command.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        subprocess.run(
            [sys.executable, "-P", "-m", "dr", "agent", "token", "shop1", "--output", str(tmp_path / "token")],
            env={**os.environ, "PYTHONPATH": str(mutant), "LIFEBOAT_LOCAL": str(root)},
            stderr=file,
            check=True,
        )
    found = set(Search(ANY_PRIVATE_KEY).files(log.parent, ()))
    assert found == {f"{name} in {log}" for name in expected}
