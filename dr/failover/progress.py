"""The engine's events as a person reads them: what is being worked on, what is done, what was said. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dr.failover.engine import Event

# What a kind of resource is to somebody who waits for a server; anything else goes by its type.
_WORDS = {
    "dr:index:RecoveryPoint": "recovery point",
    "dr:index:BlobCopy": "copy",
    "dr:index:HealthCheck": "health check",
    "dr:index:Action": "action",
    "azure-native:resources:ResourceGroup": "resource group",
    "azure-native:compute:Disk": "disk",
    "azure-native:compute:VirtualMachine": "VM",
    "azure-native:network:NetworkInterface": "NIC",
}
_DOING = {
    "create": "making",
    "create-replacement": "making",
    "update": "changing",
    "delete": "removing",
    "delete-replaced": "removing",
}
_DONE = {
    "create": "made",
    "create-replacement": "made",
    "update": "changed",
    "delete": "removed",
    "delete-replaced": "removed",
}


@dataclass(slots=True)
class Progress:
    """Follows the events of one `up`: `working` maps URN to its line, `feed` returns lines that stay."""

    working: dict[str, str] = field(default_factory=dict)
    done: int = 0

    def feed(self, event: Event) -> list[str]:
        """Take one event; return the lines that it adds to the story."""
        if "resourcePreEvent" in event:
            return self._begin(event["resourcePreEvent"]["metadata"])
        if "resOutputsEvent" in event:
            return self._end(event["resOutputsEvent"]["metadata"], _DONE)
        if "resOpFailedEvent" in event:
            metadata = event["resOpFailedEvent"]["metadata"]
            return self._end(metadata, dict.fromkeys(_DONE, "failed"))
        if "diagnosticEvent" in event:
            return self._heard(event["diagnosticEvent"])
        return []

    def _begin(self, metadata: dict[str, Any]) -> list[str]:
        if metadata["op"] in _DOING:
            self.working[metadata["urn"]] = f"{_DOING[metadata['op']]} {_named(metadata)}"
        return []

    def _end(self, metadata: dict[str, Any], words: dict[str, str]) -> list[str]:
        self.working.pop(metadata["urn"], None)
        if metadata["op"] not in words or metadata["type"] == "pulumi:pulumi:Stack":
            return []
        self.done += 1
        return [f"{words[metadata['op']]} {_named(metadata)}"]

    def _heard(self, diagnostic: dict[str, Any]) -> list[str]:
        urn, text = diagnostic.get("urn", ""), diagnostic["message"].strip()
        if diagnostic.get("ephemeral"):
            if urn in self.working and text:
                self.working[urn] = f"{self.working[urn].partition(': ')[0]}: {text}"
            return []
        return [f"warning: {text}"] if diagnostic["severity"] == "warning" and text else []


def _named(metadata: dict[str, Any]) -> str:
    name = metadata["urn"].rpartition("::")[2]
    kind = metadata["type"]
    return f"{_WORDS.get(kind, kind.rpartition(':')[2])} {name}"
