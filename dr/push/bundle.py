"""The manual way: what a person, or a configuration manager, runs on a server that we do not reach by SSH.

    OUTPUT/lifeboat-agent.pyz      the program
    OUTPUT/tasks.yml               the whole way, as tasks for Ansible
    OUTPUT/SERVER/ask.sh           asks what `pulumi up` would ask; changes nothing
    OUTPUT/SERVER/answer.txt       what it printed, brought back by whoever ran it
    OUTPUT/SERVER/install.sh       the steps that `pulumi up` would take, each under the condition that it is needed
    OUTPUT/SERVER/remove.sh        takes everything off again

Rules:
- Probes, judgement, plan and steps are those of the push, so both ways give the same server, byte by byte.
- install.sh is for the hardware that answered, and refuses any other.
- No secret is in the bundle: the private key is made on the server, the token travels by itself (`dr agent token`).
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dr.compile.blueprint import ProtectionBlueprint
from dr.durable import write_durably
from dr.errors import Corrupt
from dr.push import layout, plan
from dr.push.blockers import blocked, findings
from dr.push.connection import SCRIPT_HEAD
from dr.push.facts import Facts, facts_of, probes_for
from dr.push.plan import Desired, Step, recorded
from dr.push.presence import NOTHING, PathState, presence_of
from dr.push.presence import PROBES as PRESENCE
from dr.push.probes import Output, Probe, bundle, split

_SOMETHING = PathState(0, "", "")
# Something of ours is there, whatever it is: each step of a removal asks for itself.
_WHOLE = replace(NOTHING, paths=dict.fromkeys((layout.UNIT_FILE, layout.PROGRAM, layout.CONFIG), _SOMETHING))
ANSWER_LIMIT_BYTES = 1 << 20
FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one server: "asked" (an answer is awaited), "blocked" (`message` says why) or "ready"."""

    state: str
    message: str = ""
    concerns: tuple[str, ...] = ()


def write_bundle(
    output: Path, site: str, protections: Sequence[ProtectionBlueprint], *, package: bytes, authority_pem: bytes
) -> Mapping[str, Made]:
    """Write the folder of each server below `output`, and the tasks; return what became of each.

    Raises `Corrupt` for an answer that is not whole or not to the present question.
    """
    write_durably(_folder(output) / "tasks.yml", TASKS.encode(), mode=0o644)
    made = {}
    for protection in protections:
        name, folder = protection.server, _folder(output / protection.server)
        write_durably(folder / "ask.sh", ask_script(protection).encode(), mode=0o755)
        write_durably(folder / "remove.sh", remove_script(name).encode(), mode=0o755)
        (folder / "install.sh").unlink(missing_ok=True)  # it may be of an older answer
        answer = folder / "answer.txt"
        if answer.exists():
            made[name] = _ready(folder, site, protection, read_answer(answer, protection), package, authority_pem)
        else:
            made[name] = Made("asked")
    return made


def _ready(
    folder: Path,
    site: str,
    protection: ProtectionBlueprint,
    outputs: Mapping[str, Output],
    package: bytes,
    authority_pem: bytes,
) -> Made:
    facts, present = facts_of(outputs, protection, privilege="root"), presence_of(outputs)
    found = findings(protection, facts, site=site, installed=present.config, protection_epoch=FIRST_EPOCH)
    concerns = tuple(str(each) for each in found if not each.blocks)
    if any(each.blocks for each in found):
        return Made("blocked", blocked(protection.server, found), concerns)
    config = plan.config(protection, facts, site=site, protection_epoch=FIRST_EPOCH)
    wanted = plan.desired(config, facts, package=package, authority_pem=authority_pem)
    write_durably(folder / "install.sh", install_script(protection, facts, wanted).encode(), mode=0o755)
    return Made("ready", concerns=concerns)


def questions(protection: ProtectionBlueprint) -> tuple[Probe[object], ...]:
    """Return everything that the server is asked."""
    return (*probes_for(protection), *PRESENCE)


def ask_script(protection: ProtectionBlueprint) -> str:
    """Return ask.sh."""
    probes = questions(protection)
    what = "asks what an installation must know; it changes nothing"
    return f"{_head(protection.server, what, 'ask.sh >answer.txt')}\n{bundle(probes, _nonce(protection))}\n"


def read_answer(path: Path, protection: ProtectionBlueprint) -> Mapping[str, Output]:
    """Return what ask.sh printed on the server. Raises `Corrupt`."""
    with path.open("rb") as file:
        text = file.read(ANSWER_LIMIT_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    remedy = f"run {path.parent / 'ask.sh'} on the server again and bring the whole of what it prints"
    nonce = _nonce(protection)
    if nonce not in text:
        what = "is no answer to the present question (the declaration or this program has changed)"
        raise Corrupt(f"{protection.server}: {path} {what}", code="answer-outdated", remedy=remedy)
    try:
        outputs = split("\n" + text, nonce)
    except Corrupt as error:
        what = f"{protection.server}: {path}: {error.message}"
        raise Corrupt(what, code="answer-incomplete", remedy=remedy) from error
    missing = [probe.name for probe in questions(protection) if probe.name not in outputs]
    if missing:
        what = f"lacks {', '.join(missing)}"
        raise Corrupt(f"{protection.server}: {path} {what}", code="answer-incomplete", remedy=remedy)
    return outputs


def install_script(protection: ProtectionBlueprint, facts: Facts, wanted: Desired) -> str:
    """Return install.sh for the server of `facts`."""
    steps = [*plan.identity_steps(NOTHING), plan.key_step(), *plan.installation_steps(wanted, NOTHING)]
    program = hashlib.sha256(wanted.files[layout.PROGRAM]).hexdigest()
    checks = "\n".join(_hardware_checks(facts))
    return f"""{_head(protection.server, "installs or updates its Mobility agent", "install.sh")}
{checks}
[ -x {facts.python.path if facts.python else ""} ] || fail "its Python is gone; ask again"
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
for program in "$here/lifeboat-agent.pyz" "$here/../lifeboat-agent.pyz" ""; do
  [ "$(sha256sum <"$program" | cut -c-64)" = {program} ] && break
done 2>/dev/null
[ -n "$program" ] || fail "lifeboat-agent.pyz that belongs to this script is not beside it"
{_rendered(steps)}
[ "$changed" = 0 ] && say "nothing was to do"
for second in 1 2 3 4 5; do
  sleep 1; [ "$(systemctl show {layout.UNIT} -p ActiveState)" = ActiveState=active ] || \
    fail "the agent does not stay up: journalctl -u {layout.UNIT}"
done
[ -s {layout.CERTIFICATE} ] || {{
  say "the agent waits for its certificate: make a token on the site's machine (dr agent token {protection.server})"
  say "and put it here as {layout.TOKEN}, mode 0600"
}}
exit 0
"""


def remove_script(server: str) -> str:
    """Return remove.sh; it needs no answer."""
    left = " ".join((layout.UNIT_FILE, *layout.TREES))
    return f"""{_head(server, "takes its Mobility agent off", "remove.sh")}
python=$(command -v python3) || python=:
{_rendered(plan.removal_steps(_WHOLE, python='"$python"'))}
for path in {left}; do [ -e "$path" ] && fail "$path is left"; done
[ "$changed" = 0 ] && say "nothing was to do"
exit 0
"""


def _head(server: str, what: str, call: str) -> str:
    name = call.split(".", maxsplit=1)[0]
    return f"""#!/bin/sh
# Lifeboat, server "{server}": {what}. To be run there, as root: sh {call}
{SCRIPT_HEAD}
changed=0
say() {{ printf '%s\\n' "{name}: $*"; }}
fail() {{ say "$*" >&2; exit 1; }}
[ "$(id -u)" = 0 ] || fail "run it as root\""""


def _hardware_checks(facts: Facts) -> Iterator[str]:
    other = 'fail "this is not the hardware that answered; ask again"'
    uuid = "$(cat /sys/class/dmi/id/product_uuid 2>/dev/null | tr A-Z a-z)"
    yield f'[ "{uuid}" = {shlex.quote(facts.product_uuid)} ] || {other}'
    for disk in facts.disks.values():
        node = f'"$(readlink -f {shlex.quote(disk.device)})"'
        yield f"node={node}"
        yield f'[ "$(cat /sys/class/block/"${{node##*/}}"/size 2>/dev/null)" = {disk.size_bytes // 512} ] || {other}'


def _rendered(steps: Iterable[Step]) -> str:
    return "\n".join(map(_step, steps))


def _step(step: Step) -> str:
    if step.what == layout.PROGRAM:
        given = 'cat "$program" | '
    elif step.stdin:
        given = f"printf %s {base64.b64encode(step.stdin).decode()} | base64 -d | "
    else:
        given = ""
    what = shlex.quote(step.what)
    return (
        f"if ! ( {step.unless or 'false'} ); then\n  say {what}; changed=1\n"
        f"  {given}( {recorded(step)} ) || fail {what} failed\nfi"
    )


def _nonce(protection: ProtectionBlueprint) -> str:
    asked = "\n".join(f"{probe.name} {probe.command}" for probe in questions(protection))
    return f"==lifeboat-{hashlib.sha256(f'{protection.server} {asked}'.encode()).hexdigest()[:24]}"


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


TASKS = """\
# The manual way as tasks for Ansible; only ansible.builtin is used. Hosts are named as the servers are declared, the
# play becomes root, `bundle` is this folder. `dr` runs on the machine that Ansible runs on; the token is made there
# only if that is the site's machine.
- name: Ask the server what an installation must know
  ansible.builtin.script: "{{ bundle }}/{{ inventory_hostname }}/ask.sh"
  register: answer
  changed_when: false
  check_mode: false

- name: Keep its answer
  ansible.builtin.copy:
    content: "{{ answer.stdout }}"
    dest: "{{ bundle }}/{{ inventory_hostname }}/answer.txt"
    mode: "0600"
  delegate_to: localhost
  become: false
  check_mode: false
  changed_when: false

- name: Judge it and make the installation; everything that stands against it is told
  ansible.builtin.command:
    argv: [dr, agent, package, "{{ inventory_hostname }}", --output, "{{ bundle }}"]
  delegate_to: localhost
  become: false
  check_mode: false
  changed_when: false

- name: A folder for the installation
  ansible.builtin.tempfile:
    state: directory
    prefix: lifeboat-
  register: folder
  changed_when: false

- name: Install
  block:
    - name: Bring the program and the installation
      ansible.builtin.copy:
        src: "{{ item }}"
        dest: "{{ folder.path }}/"
        mode: "0700"
      loop:
        - "{{ bundle }}/lifeboat-agent.pyz"
        - "{{ bundle }}/{{ inventory_hostname }}/install.sh"
      changed_when: false

    - name: Take the steps that are needed
      ansible.builtin.command:
        argv: [sh, "{{ folder.path }}/install.sh"]
      register: installed
      changed_when: "'nothing was to do' not in installed.stdout"
  always:
    - name: Take the folder away
      ansible.builtin.file:
        path: "{{ folder.path }}"
        state: absent
      changed_when: false

- name: Make a token for its certificate
  ansible.builtin.command:
    argv: [dr, agent, token, "{{ inventory_hostname }}"]
  register: token
  delegate_to: localhost
  become: false
  no_log: true
  when: "'waits for its certificate' in installed.stdout"

- name: Give the agent its token
  ansible.builtin.copy:
    content: "{{ token.stdout }}\\n"
    dest: /etc/lifeboat/tls/token.pem
    mode: "0600"
  no_log: true
  when: "'waits for its certificate' in installed.stdout"
"""
