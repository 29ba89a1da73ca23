"""Write this run's declaration: the example estate with the ports and host key of a server that was just built."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tools.machines.source import SourceMachine


def write_declaration(example: Path, target: Path, source: SourceMachine, https_port: int, data_port: int) -> None:
    """Copy the example estate to `target` and put in what differs on each run."""
    shutil.copytree(example, target)
    for path in sorted(target.glob("*.yaml")):
        documents = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            if document["kind"] == "Site":
                document["configurationServer"]["port"] = https_port
                document["processServers"][0]["port"] = data_port
            if document["kind"] == "Server":
                document["ssh"] |= {"port": source.port(22), "hostKey": source.host_key}
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
