"""A well declaration of two servers that the tests of this room change and break."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqQGZfObRoABjBxiZVU26D65DtuZ0jWDpGyFBzlIRUE"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"

SITE = """\
kind: Site
name: harbour
location: westeurope
network:
  addressSpace: 10.20.0.0/16
  subnets:
    - name: front
      prefix: 10.20.1.0/24
      inboundPorts: [22, 8080]
    - name: back
      prefix: 10.20.2.0/24
configurationServer:
  address: 10.0.2.2
processServers:
  - name: ps1
    address: 10.0.2.2
  - name: ps2
    address: ps2.example.org
    port: 9444
"""

POLICIES = """\
kind: ReplicationPolicy
name: standard
rpoThreshold: 60m
retention: 24h
crashConsistentEvery: 5m
"""

SERVERS = f"""\
kind: Server
name: web1
ssh:
  address: 192.0.2.11
  user: dradmin
  keyEnv: LIFEBOAT_SSH_KEY
  hostKey: {HOST_KEY} root@web1
policy: standard
disks:
  - name: os
    device: /dev/disk/by-id/virtio-web1-os
target:
  size: Standard_D2s_v5
  subnet: front
  address: 10.20.1.10
  firmware: bios
  tags:
    service: shop
---
kind: Server
name: db1
ssh:
  address: 192.0.2.12
  port: 2222
  user: root
  keyFile: keys/db1
  hostKey: {OTHER_KEY}
policy: standard
disks:
  - name: os
    device: /dev/sda
  - name: data
    device: /dev/disk/by-id/scsi-0001
target:
  name: database
  size: Standard_E4s_v5
  subnet: back
  address: 10.20.2.10
  firmware: uefi
"""

PLANS = """\
kind: RecoveryPlan
name: shop
groups:
  - servers: [db1]
  - servers: [web1]
    checks:
      - server: web1
        http: {port: 8080, path: /health, contains: ok}
        timeout: 10m
      - server: web1
        tcp: {port: 22}
"""

FILES = {"site.yaml": SITE, "policies.yaml": POLICIES, "servers.yaml": SERVERS, "plans.yaml": PLANS}


def sources(files: dict[str, str] | None = None) -> dict[str, bytes]:
    """Return the files as `examine` wants them."""
    return {name: text.encode() for name, text in (FILES if files is None else files).items()}


@dataclass(frozen=True)
class Broken:
    """An estate with a few edits, and all the errors that they must give, in order."""

    file: str  # of the folder `broken`
    title: str
    estate: str  # "small": the one above; "whole": the one of folder `whole`, which uses every key
    edits: tuple[tuple[str, str, str], ...]  # file, text, what replaces it
    errors: tuple[str, ...]

    def files(self) -> dict[str, str]:
        """Return the broken files; an edit that finds nothing to replace is a mistake in the test."""
        files = dict(FILES) if self.estate == "small" else whole_files()
        for file, text, by in self.edits:
            assert text in files[file], (self.title, text)
            files[file] = files[file].replace(text, by)
        return files


def whole_files() -> dict[str, str]:
    """Return the files of the estate that uses every key."""
    return {file.name: file.read_text() for file in (Path(__file__).parent / "whole").glob("*.yaml")}


def broken() -> list[Broken]:
    """Return all broken declarations of the folder `broken`."""
    cases = []
    for file in sorted((Path(__file__).parent / "broken").glob("*.yaml")):
        for case in yaml.safe_load(file.read_text()):
            edits = tuple((edit["file"], edit["replace"], edit["by"]) for edit in case["edits"])
            cases.append(Broken(file.name, case["title"], case.get("estate", "small"), edits, tuple(case["errors"])))
    return cases
