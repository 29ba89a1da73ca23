"""uv, and the Python environment of requirements.lock.

The environment lies in the cache under the hash of the lock, so that a changed lock gives a new one and an old
checkout keeps its own; `.venv` points to it. Scripts in an environment contain its path, so it is made in place, and
counts as whole by a file that is written last.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.setup.making import held, make_once
from tools.setup.paths import CHECKOUT, LOCK, Cache
from tools.setup.step import call

WHOLE = ".lifeboat-whole"
AZURE_SDK = "pulumi_azure_native"
# Only read as text, by the tests: the rest of azure.mgmt, tens of megabytes.
NEVER_IMPORTED = f"/{AZURE_SDK}/|/azure/mgmt/(?!core/|resource/)"
UV_LOCK = Path(__file__).resolve().parent / "uv.lock"


def find_uv(cache: Cache) -> str:
    """Return the path of uv: the one on PATH, else ours in the cache."""
    return shutil.which("uv") or str(cache.uv / "bin" / "uv")


def install_uv(cache: Cache) -> str:
    """Install uv in an environment of its own where none is on PATH."""
    if shutil.which("uv") is not None:
        return ""

    def make(folder: Path) -> None:
        call([sys.executable, "-m", "venv", folder])
        python = folder / "bin" / "python"
        call([python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "-r", UV_LOCK])

    return f"installed {cache.uv.name}" if make_once(cache.uv, cache.locks, make) else ""


def install_environment(cache: Cache) -> str:
    """Make the environment of the lock, and let `.venv` point to it."""
    folder, did = cache.venv(), []
    if not (folder / WHOLE).exists():
        with held(cache.locks / f"{folder.name}.lock"):
            if not (folder / WHOLE).exists():
                _fill(folder, find_uv(cache))
                did.append(f"installed {_count(LOCK)} libraries")
    link = CHECKOUT / ".venv"
    if not link.is_symlink() or link.readlink() != folder:
        _point(link, folder)
        did.append(".venv points to it")
    return ", ".join(did)


def _fill(folder: Path, uv: str) -> None:
    environment = {**machine_settings(), "VIRTUAL_ENV": str(folder)}
    if not (folder / "bin" / "python").exists():
        call([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], environment=environment)
    call([uv, "pip", "sync", "--quiet", "--require-hashes", LOCK], environment=environment)
    _compile(folder)
    (folder / WHOLE).touch()


def _compile(folder: Path) -> None:
    """Compile the libraries once: where Python may not write bytecode by itself, each `pulumi up` would do it again.

    Of the azure-native SDK, which has a thousand modules, only those that the stacks import; of azure.mgmt only what
    the product imports.
    """
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    sdk = packages / AZURE_SDK
    call([python, "-m", "compileall", "-q", "-j", "0", "-x", NEVER_IMPORTED, packages])
    call([python, "-m", "compileall", "-q", "-l", sdk])
    call([python, "-m", "compileall", "-q", "-j", "0", *(sdk / name for name in _sdk_modules())])


def _sdk_modules() -> list[str]:
    texts = [path.read_text() for path in sorted((CHECKOUT / "stacks").glob("*.py"))]
    imports = re.findall(rf"^from {AZURE_SDK} import (.+)$", "\n".join(texts), re.MULTILINE)
    return sorted({name.strip() for line in imports for name in line.split(",")})


def _point(link: Path, folder: Path) -> None:
    """Replace the link in one step: other commands of this checkout may be using it."""
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} is not a link of ours; move it away")
    fresh = link.with_name(f".venv-{os.getpid()}")
    fresh.symlink_to(folder)
    fresh.replace(link)


def machine_settings() -> dict[str, str]:
    """Return the environment for uv with what this machine has configured for pip and not for uv."""
    environment = dict(os.environ)
    index = environment.get("PIP_INDEX_URL") or _pip_setting("index-url")
    if index and not any(name in environment for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        environment["UV_DEFAULT_INDEX"] = index
    certificates = environment.get("PIP_CERT") or _pip_setting("cert")
    if certificates:
        environment.setdefault("SSL_CERT_FILE", certificates)
    environment.setdefault("UV_PYTHON_DOWNLOADS", "never")
    return environment


def _pip_setting(name: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", f"global.{name}"], capture_output=True, text=True, check=False
    )
    return result.stdout.strip() if result.returncode == 0 else ""


def _count(lock: Path) -> int:
    return sum("==" in line for line in lock.read_text().splitlines())
