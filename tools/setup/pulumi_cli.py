"""The Pulumi CLI with its Python language host, under one folder of the cache.

A CLI on PATH that is recent enough and has its language host beside it is used as it is (the cache then holds links).
Otherwise both are built from Go modules; `go/cli` and `go/language_host` pin them, with the sums of all they need.
The host of the CLI's own version is a module that can't be fetched; the one inside the SDK at v3.68.0 works with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from dr.errors import PrerequisiteMissing
from tools.setup.making import make_once
from tools.setup.paths import PULUMI_VERSION, Cache
from tools.setup.step import call

MODULES = Path(__file__).resolve().parent / "go"
SDK = "github.com/pulumi/pulumi/sdk/v3"
CLI = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
LANGUAGE_HOST = f"{SDK}/python/cmd/pulumi-language-python"
SCRIPTS = ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-resource-pulumi-python")
PROGRAMS = ("pulumi", "pulumi-language-python", *(Path(script).name for script in SCRIPTS))
OLDEST_GO = (1, 25, 11)


def install_pulumi(cache: Cache) -> str:
    """Provide Pulumi's programs in the cache; return what was done."""
    did = ["built from Go modules"]

    def make(folder: Path) -> None:
        binaries = folder / "bin"
        binaries.mkdir(parents=True)
        found = on_path()
        if found is not None:
            did[0] = f"taken from {found}"
            for name in PROGRAMS:
                (binaries / name).symlink_to(found / name)
        else:
            _build(binaries, folder / "build")

    return did[0] if make_once(cache.pulumi, cache.locks, make, is_whole) else ""


def is_whole(folder: Path) -> bool:
    """Say whether all of Pulumi's programs are there."""
    return all(os.access(folder / "bin" / name, os.X_OK) for name in PROGRAMS)


def on_path() -> Path | None:
    """Return the folder of an installed CLI that will do, or None."""
    program = shutil.which("pulumi")
    if program is None:
        return None
    folder = Path(program).resolve().parent
    if not all((folder / name).exists() for name in PROGRAMS):
        return None
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    return folder if _version(said) >= _version(PULUMI_VERSION) else None


def _build(binaries: Path, scratch: Path) -> None:
    _require_go()
    shutil.copytree(MODULES, scratch)
    # Whatever this machine configures (proxies, sums) stays; only what would change the result is set.
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    version = f"-X {SDK}/go/common/version.Version=v{PULUMI_VERSION}"  # without it the Automation API refuses the CLI
    for folder, package, flags in (("cli", CLI, f"-s -w {version}"), ("language_host", LANGUAGE_HOST, "-s -w")):
        output = binaries / package.rpartition("/")[2]
        call(["go", "build", "-ldflags", flags, "-o", output, package], cwd=scratch / folder, environment=environment)
    sdk = call(["go", "list", "-m", "-f", "{{.Dir}}", SDK], cwd=scratch / "cli", environment=environment).strip()
    for script in SCRIPTS:
        target = binaries / Path(script).name
        shutil.copyfile(Path(sdk) / script, target)
        target.chmod(0o755)
    shutil.rmtree(scratch)


def _require_go() -> None:
    wanted = ".".join(map(str, OLDEST_GO))
    if shutil.which("go") is None:
        raise PrerequisiteMissing(
            f"neither Pulumi {PULUMI_VERSION} nor Go is installed",
            remedy=f"install Pulumi with its own installer, or Go {wanted} or newer, and have it on PATH",
        )
    found = call(["go", "env", "GOVERSION"], environment={**os.environ, "GOTOOLCHAIN": "local"}).strip()
    if _version(found) < OLDEST_GO:
        raise PrerequisiteMissing(f"{found} is too old to build Pulumi", remedy=f"install Go {wanted} or newer")


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)
