"""The process server's HTTP interface, `/v1`; described in `docs/formats/process-server-api.md`."""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web

from dr import https
from dr.certificates.revocations import Revocations
from dr.errors import NotFound
from dr.https import RequestInvalid, number
from dr.process_server.states import Position, WriterReport
from dr.process_server.stream import Stream, require_declared
from dr.process_server.writer import ServerWriter
from dr.vault.batch import DiskSpec

MAX_BODY_BYTES = 8 << 20
MAX_WAIT_SECONDS = 30
MAX_DISKS = 65  # one to boot from and 64 data disks, the most that a VM has in Azure
MAX_DIGESTS = 4096  # entries of one answer: 256 MiB of disk
MAX_CHUNKS = 1 << 40
UPLOADS = 4  # of one server at a time; bounds the memory that one agent may take


def application(
    site: str,
    writers: Mapping[str, ServerWriter],
    epochs: Mapping[str, int],
    revocations: Revocations | None = None,
) -> web.Application:
    """Return the application of the protected servers' writers; `epochs` are their protection epochs."""
    app = https.application(site, revocations=revocations, max_body_bytes=MAX_BODY_BYTES)
    # An agent sends one segment at a time; more than one only while a broken connection runs into its deadline.
    uploads: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(UPLOADS))

    def writer_for(request: web.Request) -> ServerWriter:
        server = request.match_info["server"]
        https.demand_agent_of(request, server)
        writer = writers.get(server)
        if writer is None:
            raise NotFound(
                f'server "{server}" is not protected by this site',
                code="unknown-server",
                remedy="add it to the declaration and run `pulumi up` of the site stack",
            )
        return writer

    async def open_stream(request: web.Request) -> web.Response:
        writer = writer_for(request)
        document = await https.read_json(request)
        stream, next_sequence = parse_open(document)
        require_declared(writer.server, stream.protection_epoch, epochs[writer.server])
        told_stored = number(document.get("stored_sequence", 0), "stored_sequence")
        return web.json_response(asdict(await writer.open_stream(stream, next_sequence, told_stored)))

    async def put_segment(request: web.Request) -> web.Response:
        writer = writer_for(request)
        protection_epoch = number(request.match_info["epoch"], "protection epoch", lowest=1)
        sequence = number(request.match_info["sequence"], "sequence", lowest=1)
        writer_epoch = number(request.query.get("writer_epoch"), "writer_epoch", lowest=1)
        async with uploads[writer.server]:
            body = await https.read_body(request, MAX_BODY_BYTES)
            require_declared(writer.server, protection_epoch, epochs[writer.server])
            position = await writer.append(protection_epoch, sequence, writer_epoch, body)
        return web.json_response({"received": position.received, "stored": position.stored})

    async def get_position(request: web.Request) -> web.Response:
        writer = writer_for(request)
        after = number(request.query.get("stored_after", "0"), "stored_after")
        wait = number(request.query.get("wait", "0"), "wait")
        return web.json_response(position_document(await writer.wait_stored(after, min(wait, MAX_WAIT_SECONDS))))

    async def get_digests(request: web.Request) -> web.Response:
        writer, query = writer_for(request), request.query
        entries = await writer.digests(
            request.match_info["disk"],
            number(query.get("first"), "first", highest=MAX_CHUNKS),
            number(query.get("count"), "count", lowest=1, highest=MAX_DIGESTS),
            writer_epoch=number(query.get("writer_epoch"), "writer_epoch", lowest=1),
            stored=number(query.get("stored"), "stored"),
        )
        return web.json_response({"entries": base64.b64encode(entries).decode()})

    async def get_status(request: web.Request) -> web.Response:
        https.demand_role(request, "operator", "server")
        return web.json_response({"servers": {w.server: report_document(w.report()) for w in writers.values()}})

    app.router.add_post("/v1/servers/{server}/stream", open_stream)
    app.router.add_put("/v1/servers/{server}/segments/{epoch}/{sequence}", put_segment)
    app.router.add_get("/v1/servers/{server}/position", get_position)
    app.router.add_get("/v1/servers/{server}/digests/{disk}", get_digests)
    app.router.add_get("/v1/status", get_status)
    return app


def parse_open(document: Mapping[str, Any]) -> tuple[Stream, int]:
    """Return the stream and the sequence that an agent asks for. `RequestInvalid`."""
    epoch = number(document.get("protection_epoch"), "protection_epoch", lowest=1)
    next_sequence = number(document.get("next_sequence"), "next_sequence", lowest=1)
    disks, facts = document.get("disks"), document.get("facts", {})
    if not isinstance(disks, list) or not 1 <= len(disks) <= MAX_DISKS:
        raise RequestInvalid(f'"disks" is not a list of 1 to {MAX_DISKS} disks')
    if not isinstance(facts, dict):
        raise RequestInvalid('"facts" is not an object')
    specs = tuple(_disk(disk) for disk in disks)
    if len({spec.name for spec in specs}) != len(specs):
        raise RequestInvalid("two disks have the same name")
    return Stream(epoch, specs, facts), next_sequence


def _disk(disk: object) -> DiskSpec:
    if not isinstance(disk, dict) or not isinstance(disk.get("name"), str):
        raise RequestInvalid("a disk is an object with name and size_bytes")
    name: str = disk["name"]
    plain = name.isascii() and all(c.isalnum() or c in "-_." for c in name)
    if not plain or not 1 <= len(name) <= 64 or name.startswith("."):
        raise RequestInvalid("a disk's name holds 1 to 64 ASCII letters, digits, '-', '_' and '.'")
    size = number(disk.get("size_bytes"), "size_bytes", lowest=512, highest=1 << 62)
    if size % 512:
        raise RequestInvalid('"size_bytes" is not a multiple of 512')
    return DiskSpec(name, size)


def position_document(position: Position) -> dict[str, Any]:
    """Return a position as the interface's JSON."""
    return asdict(position)


def report_document(report: WriterReport) -> dict[str, Any]:
    """Return a writer's report as the interface's JSON."""
    return {**asdict(report), "state": report.state.value, "remedy": report.remedy}
