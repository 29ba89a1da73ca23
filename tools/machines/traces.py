"""What an installer could leave on a machine, as lines; two of them compared tell what was left.

`look` asks a server for everything that an installation may touch and that nothing else changes by itself: files with
mode, owner and content, users and groups, units, timers and cron, mounts, kernel modules, settings and command line,
tracing and BPF, listeners, and processes and control groups of ours. It runs as root and changes nothing.
"""

from __future__ import annotations

import shlex

from tools.machines.source import SourceMachine

# Each part names itself, so that a line which is left says what it is. What systems rewrite by themselves is left
# out by name: journals, clocks, random seeds, DHCP leases, caches of packages. Transient units are the scopes of
# logins, this one's among them; `list-units` tells of all others that run.
_LOOK = r"""
find FOLDERS -xdev \( \
  -path /var/log/journal -o -path /var/lib/systemd/random-seed -o -path /var/lib/systemd/timesync -o \
  -path /var/lib/systemd/timers -o -path '/var/lib/dhc*' -o -path /var/lib/apt -o \
  -path /var/cache/apt -o -path /var/lib/chrony -o -path '/tmp/systemd-private-*' -o \
  -path '/var/tmp/systemd-private-*' \) -prune -o \
  ! -type d -printf 'file %p %M %U %G %l\n' -o -type d -printf 'folder %p %M %U %G\n' 2>/dev/null |
  grep -v -e '^file /var/log/' -e '^file /etc/resolv.conf ' | sort
find /etc -xdev -type f ! -name resolv.conf -exec sha256sum {} + 2>/dev/null | sed 's/^/content /' | sort -k3
find /run -xdev \( -path '/run/user' -o -path '/run/systemd' -o -path '/run/udev' -o -path '/run/log' -o \
  -path '/run/credentials' -o -path '/run/fake-systemd.json' \) -prune -o -printf 'run %p %M %U %G\n' 2>/dev/null | sort
sed 's/^/user /' /etc/passwd; sed 's/^/group /' /etc/group
if [ -d /run/systemd/private ] || [ -S /run/systemd/private ]; then
  systemctl list-unit-files --no-legend --no-pager | awk '$2 != "transient" {print "unit-file", $1, $2, $3}' | sort
  systemctl list-units --all --no-legend --no-pager --plain --type=service,timer,mount,socket,path |
    grep -vE '^(user|session|run-user|systemd-|apt-|dpkg-|e2scrub|logrotate|man-db|fstrim|ssh@|getty|serial-getty)' |
    awk '{print "unit", $1, $2}' | sort
fi
for f in /var/spool/cron/crontabs/*; do [ -e "$f" ] && echo "cron $f"; done
awk '{print "mount", $2, $3}' /proc/self/mounts | grep -v -e ' /run/user/' -e ' /run/credentials/' | sort
cut -d' ' -f1 /proc/modules | sed 's/^/module /' | sort
echo "cmdline $(cat /proc/cmdline)"
sysctl -a 2>/dev/null | grep -E -e '^kernel\.(ftrace|kptr|perf_event_p|dmesg|panic|core|sysrq|unprivileged|trace)' \
  -e '^net\.(core\.bpf|ipv4\.(ip_forward|tcp_k|tcp_s))' -e '^vm\.(swappiness|dirty|overcommit)' \
  -e '^fs\.(protected|suid|inotify)' | sed 's/^/sysctl /' | sort
ls /sys/kernel/tracing/instances 2>/dev/null | sed 's/^/trace-instance /'
for f in set_event kprobe_events uprobe_events dynamic_events current_tracer; do
  sed "s/^/trace-$f /" /sys/kernel/tracing/$f 2>/dev/null
done
find /sys/fs/bpf 2>/dev/null | sed 's/^/bpf /' | sort
find /sys/fs/cgroup -iname '*lifeboat*' 2>/dev/null | sed 's/^/cgroup /'
for f in tcp tcp6 udp udp6; do
  sed -n "s/^ *[0-9]*: \([0-9A-F]*:[0-9A-F]*\) [0-9A-F:]* \(0A\|07\) .*/listener $f \1/p" /proc/net/$f 2>/dev/null
done | sort -u
for p in /proc/[0-9]*; do
  c=$(tr '\0' ' ' <$p/cmdline 2>/dev/null)
  case "$c" in *lifeboat-agent.py[z]*) echo "process $c";; esac
done
true
"""


FOLDERS = ("/etc", "/usr", "/opt", "/srv", "/root", "/home", "/boot", "/var", "/tmp", "/dev/shm")  # noqa: S108 - only looked at


def look(folders: tuple[str, ...] = FOLDERS) -> str:
    """Return the script that tells everything, with the files below `folders`."""
    return _LOOK.replace("FOLDERS", " ".join(folders))


def traces(machine: SourceMachine) -> set[str]:
    """Return everything that an installation could leave on `machine`, a line each."""
    return set(machine.run(f"sudo sh -c {shlex.quote(look())}").splitlines())
