"""The whole examination: bytes of files in, a declaration or all findings out. Pure; reading is `dr.schema.files`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dr.model import Declaration
from dr.schema.actions import check_actions
from dr.schema.applications import check_applications
from dr.schema.build import build
from dr.schema.concerns import Concern, find_concerns
from dr.schema.definition import KINDS
from dr.schema.document import Document, parse
from dr.schema.findings import NO_SITE, Finding, closest, quoted
from dr.schema.networks import check_networks
from dr.schema.plans import check_plans
from dr.schema.policies import check_policies
from dr.schema.replication_groups import check_replication_groups
from dr.schema.servers import check_servers
from dr.schema.shape import prepare
from dr.schema.sites import check_sites
from dr.schema.targets import check_targets
from dr.schema.thing import Estate, Thing
from dr.schema.traffic import check_traffic

_CHECKS: tuple[Callable[[Estate], Iterable[Finding]], ...] = (
    check_sites,
    check_networks,
    check_policies,
    check_traffic,
    check_servers,
    check_applications,
    check_targets,
    check_replication_groups,
    check_plans,
    check_actions,
)


@dataclass(frozen=True, slots=True)
class Examined:
    """Either a declaration and what concerns it raises, or what is wrong with it."""

    declaration: Declaration | None
    findings: tuple[Finding, ...]
    concerns: tuple[Concern, ...] = ()


def examine(sources: Mapping[str, bytes], *, folder: str = ".", unread: Sequence[Finding] = ()) -> Examined:
    """Return the declaration that the files make, or everything that is wrong with them.

    `sources` is file name → content; `folder` is named where an error belongs to no file; `unread` are the findings
    about files that could not be read at all.
    """
    findings: list[Finding] = list(unread)
    documents: list[Document] = []
    whole = not unread
    for file in sorted(sources):
        parsed = parse(file, sources[file])
        documents += parsed.documents
        findings += parsed.findings
        whole = whole and parsed.whole
    estate = _estate(documents, findings, whole=whole)
    findings += _check_number_of_sites(estate, folder)
    findings += _check_names(estate)
    for check in _CHECKS:
        findings += check(estate)
    if findings:
        return Examined(None, tuple(sorted(set(findings), key=str_order)))
    return Examined(build(estate), (), find_concerns(estate))


def str_order(finding: Finding) -> tuple[str, int, int, str]:
    """Return the key that findings are sorted by."""
    return finding.file, finding.line, finding.column, finding.message


def _estate(documents: list[Document], findings: list[Finding], *, whole: bool) -> Estate:
    things: list[Thing] = []
    unsure = set() if whole else {*KINDS, "subnet"}
    names: dict[str, set[str]] = {kind: set() for kind in (*KINDS, "subnet")}
    for document in documents:
        kind, wrong = _kind(document)
        findings += wrong
        if kind is None:
            unsure |= {*KINDS, "subnet"}
            continue
        unsure |= _note_names(names, kind, document)
        if not wrong:
            findings += prepare(document, kind, KINDS[kind])
            things.append(Thing(kind, document.data.get("name"), document))
    if not names["Site"]:
        unsure.add("subnet")
    return Estate(tuple(things), {kind: frozenset(found) for kind, found in names.items()}, frozenset(unsure))


def _note_names(names: dict[str, set[str]], kind: str, document: Document) -> set[str]:
    """Keep the names as written, before the shape check takes refused ones out; return the kinds that lack one."""
    unsure = set()
    name = document.data.get("name")
    if isinstance(name, str) and ("name",) not in document.bad:
        names[kind].add(name)
    else:
        unsure.add(kind)
    if kind == "Site":
        network = document.data.get("network")
        subnets = network.get("subnets") if isinstance(network, dict) else None
        listed = subnets if isinstance(subnets, list) and subnets else [None]
        written = [subnet.get("name") if isinstance(subnet, dict) else None for subnet in listed]
        names["subnet"].update(name for name in written if isinstance(name, str))
        if not all(isinstance(name, str) for name in written):
            unsure.add("subnet")
    return unsure


def _kind(document: Document) -> tuple[str | None, list[Finding]]:
    """Return the kind that a document is meant to be, if that can be told, and what is wrong with it."""
    data = document.data
    if not isinstance(data, dict):
        found = "a list" if isinstance(data, list) else "a single value"
        return None, [document.finding((), f"a document must be a mapping with kind and name; found {found}")]
    if "kind" not in data:
        meant = [key for key in data if closest(key, ["kind"])]
        if meant:
            unknown = f"unknown key {quoted(meant[0])}"
            return None, [document.finding((meant[0],), unknown, "kind", at_key=True)]
        return None, [document.finding((), f'the document lacks the key "kind", one of {", ".join(KINDS)}')]
    kind = data["kind"]
    if isinstance(kind, str) and kind in KINDS:
        return kind, []
    if ("kind",) in document.bad:
        return None, []
    meant_kind = closest(kind, KINDS) if isinstance(kind, str) else None
    found = quoted(kind) if isinstance(kind, str) else "a value that is no text"
    wrong = "the kind is left empty" if kind in (None, "") else f"unknown kind {found}"
    message = f"{wrong}; kinds are {', '.join(KINDS)}"
    return meant_kind, [document.finding(("kind",), message, meant_kind)]


def _check_number_of_sites(estate: Estate, folder: str) -> list[Finding]:
    sites = list(estate.of("Site"))
    if not sites and "Site" not in estate.unsure and not estate.names["Site"]:
        return [Finding(folder, 1, 1, f"{NO_SITE}; a declaration has exactly one, add it")]
    return [
        site.document.finding(
            ("kind",), f"a second Site; a declaration has exactly one (first at {sites[0].where(())}); take one out"
        )
        for site in sites[1:]
    ]


def _check_names(estate: Estate) -> list[Finding]:
    findings = []
    first: dict[tuple[str, str], Thing] = {}
    for thing in estate.things:
        if thing.name is None or thing.kind == "Site":
            continue
        key = (thing.kind, thing.name)
        if key in first:
            place = first[key].where(("name",))
            message = f"{thing.kind} {quoted(thing.name)} is declared twice (first at {place}); give one another name"
            findings.append(thing.finding(("name",), message))
        first.setdefault(key, thing)
    return findings
