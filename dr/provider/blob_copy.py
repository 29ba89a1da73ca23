"""`dr:index:BlobCopy`: the copy of one snapshot that a managed disk is imported from.

A copy is complete when its metadata names the snapshot it came from (`COPY_OF`), which is written after the copy
has ended: an interrupted copy carries only the metadata of its source and is made again.
"""

from __future__ import annotations

from dr.errors import NotFound
from dr.provider.resource import Properties, ResourceType, Session
from dr.provider.world import World
from dr.vault.store import BlobStore

COPY_OF = "lifeboat_copy_of"


class BlobCopy(ResourceType):
    name = "BlobCopy"
    required = ("subscription", "account", "sourceContainer", "sourceBlob", "snapshot", "container", "blob")

    def __init__(self, world: World) -> None:
        self._world = world

    def preview(self, inputs: Properties) -> Properties:
        return {**inputs, "url": _url_in_preview(self._world, inputs)}

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        store = self._store(inputs)
        container, blob, origin = inputs["container"], inputs["blob"], _origin(inputs)
        if _copied_from(store, container, blob) != origin:
            session.progress(f"copying {inputs['sourceBlob']} of {inputs['snapshot']}")
            store.delete(container, blob)
            store.copy_snapshot(inputs["sourceContainer"], inputs["sourceBlob"], inputs["snapshot"], container, blob)
            metadata = store.info(container, blob).metadata
            store.set_metadata(container, blob, {**metadata, COPY_OF: origin})
        outputs = {**inputs, "url": store.url(container, blob), "sizeBytes": store.info(container, blob).size_bytes}
        return f"{container}/{blob}", outputs

    def read(self, resource_id: str, state: Properties, session: Session) -> Properties | None:
        store = self._store(state)
        return state if _copied_from(store, state["container"], state["blob"]) == _origin(state) else None

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        self._store(state).delete(state["container"], state["blob"])

    def _store(self, properties: Properties) -> BlobStore:
        return self._world.open_store(properties["subscription"], properties["account"])


def _origin(properties: Properties) -> str:
    return f"{properties['sourceContainer']}/{properties['sourceBlob']}@{properties['snapshot']}"


def _copied_from(store: BlobStore, container: str, blob: str) -> str | None:
    try:
        return store.info(container, blob).metadata.get(COPY_OF)
    except NotFound:
        return None


def _url_in_preview(world: World, inputs: Properties) -> str:
    return world.open_store(inputs["subscription"], inputs["account"]).url(inputs["container"], inputs["blob"])
