"""What exists in the folder that plays Azure: one JSON file per ARM id, written whole or not at all.

Rules:
- ARM ids are compared without regard to case, as Azure does; the file's name is a hash of the lower-case id.
- A record is written as `creating` before anything is made, with the identity of the process that makes it. One
  whose maker died counts as absent, so an interrupted `up` can be repeated.
- Look and change under `exclusive()`: several stacks may run at once.
- Records hold no secret: what a kind names as one is left out (a VM's osProfile is refused).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dr.durable import sync_folder, write_durably
from dr.local.processes import ProcessIdentity


@dataclass(frozen=True, slots=True)
class Record:
    """One resource: `inputs` as the program gave them, `outputs` as the engine got them."""

    id: str
    resource_type: str
    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    state: str  # "creating" or "ready"
    maker: Mapping[str, Any]  # pid and start time of the process that makes it

    @property
    def location(self) -> str:
        return str(self.outputs.get("location") or self.inputs.get("location") or "")

    def ready(self, outputs: Mapping[str, Any]) -> Record:
        return replace(self, outputs=dict(outputs), state="ready")


class Records:
    """All records of one local target."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the one lock under which records are compared and changed; keep it short."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def find(self, resource_id: str) -> Record | None:
        """Return the record of an ARM id, or None; one whose maker died while making it is none."""
        return self._load(self._path(resource_id))

    def all(self, resource_type: str | None = None) -> Iterator[Record]:
        """Yield every record, of one type when `resource_type` is given."""
        for path in sorted(self._folder.glob("*.json")):
            record = self._load(path)
            if record is not None and resource_type in (None, record.resource_type):
                yield record

    def below(self, scope: str) -> Iterator[Record]:
        """Yield the records whose id lies below `scope`, the deepest first."""
        prefix = f"{scope.lower()}/"
        found = [record for record in self.all() if record.id.lower().startswith(prefix)]
        yield from sorted(found, key=lambda record: -record.id.count("/"))

    def reserve(self, resource_id: str, resource_type: str, name: str, inputs: Mapping[str, Any]) -> Record:
        """Write a record in the state `creating` and return it; under `exclusive()`."""
        maker = ProcessIdentity.of(os.getpid()).as_dict()
        record = Record(resource_id, resource_type, name, dict(inputs), {}, "creating", maker)
        self.save(record)
        return record

    def save(self, record: Record) -> None:
        write_durably(self._path(record.id), json.dumps(asdict(record), indent=1).encode())

    def remove(self, resource_id: str) -> None:
        """Forget a resource; no error when there is no record."""
        self._path(resource_id).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _load(self, path: Path) -> Record | None:
        try:
            record = Record(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        if record.state == "creating" and not ProcessIdentity.from_dict(record.maker).alive():
            return None
        return record

    def _path(self, resource_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(resource_id.lower().encode()).hexdigest()[:32]}.json"
