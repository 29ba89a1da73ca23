"""A project of its own with its local target, driven by the real Pulumi CLI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dr.local import services
from dr.local.environment import environment
from dr.local.tools import checkout
from dr.schema import load
from dr.target.choice import LOCAL
from dr.target.folders import Folders


@dataclass(frozen=True)
class Estate:
    """A project of its own (this checkout by links), its local target and its declaration."""

    project: Path
    folders: Folders
    variables: Mapping[str, str]

    def pulumi(self, stack: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--stack", stack, "--non-interactive"],
            cwd=self.project,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def run(self, stack: str, *arguments: str) -> list[str]:
        """Run `up`, `preview` or `destroy`; return "operation type" of everything that is not left the same."""
        confirmed = () if arguments[0] == "preview" else ("--yes", "--skip-preview")
        environment = {**self.variables, "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}
        done = Estate(self.project, self.folders, environment).pulumi(stack, *arguments, *confirmed, "--json")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        steps = [event["resourcePreEvent"]["metadata"] for event in events if "resourcePreEvent" in event]
        return [f"{step['op']} {step['type'].rpartition(':')[2]}" for step in steps if step["op"] != "same"]

    @property
    def plans(self) -> Path:
        return Path(self.variables["LIFEBOAT_PLANS"])

    def edit(self, file: str, before: str, after: str) -> None:
        text = (self.plans / file).read_text()
        assert before in text
        (self.plans / file).write_text(text.replace(before, after))


@contextmanager
def local_estate(root: Path, plans: Path | None = None) -> Iterator[Estate]:
    """Start a local target below `root`, with a copy of the declaration in `plans` (the checkout's when not given)."""
    project, folders, declared = root / "project", Folders(root / "local"), root / "plans"
    project.mkdir()
    shutil.copy(checkout() / "Pulumi.yaml", project)
    for name in ("bin", "dr", "stacks", "docs", ".venv"):
        (project / name).symlink_to(checkout() / name)
    shutil.copytree(plans or checkout() / "plans", declared)
    before = dict(os.environ)
    os.environ["LIFEBOAT_LOCAL"] = str(folders.root)
    try:
        variables = {**environment(LOCAL, folders), "LIFEBOAT_PLANS": str(declared)}
        services.up_cloud(folders, load(declared), lambda line: None, project=project)
        yield Estate(project, folders, variables)
    finally:
        services.down(folders, lambda line: None, stop_machines=True)
        os.environ.clear()
        os.environ.update(before)
