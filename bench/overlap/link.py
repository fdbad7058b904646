"""Two network namespaces joined by a veth pair: two hosts with one link between them, for an mpirun of two ranks."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

DEVICE = "veth0"  # the link's name at both ends
# mpirun starts its daemon on the other host through this, as it would through ssh.
AGENT = """#!/bin/bash
host=$1; shift
exec ip netns exec "$host" unshare --uts bash -c 'hostname "$0"; exec bash -c "$1"' "$host" "$*"
"""
# An idle bucket of tokens lets that much through at once. Less, and the limit is missed whenever the kernel's thread
# that opens it waits for a core; both ends send this much of every step's gradients for nothing.
BURST_BYTES = 1 << 20
QUEUE_BYTES = 16 << 20  # more than TCP has under way, so that nothing is dropped


def check_possible():
    missing = [name for name in ("ip", "tc", "unshare", "mpirun") if shutil.which(name) is None]
    if missing:
        sys.exit(f"error: {', '.join(missing)} not found: needs iproute2, util-linux and Open MPI")
    if os.geteuid() != 0:
        sys.exit("error: network namespaces and rate limits need root (CAP_NET_ADMIN, CAP_SYS_ADMIN)")


def call(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Link:
    """Context manager. Whatever happens, at its end no process of the two hosts is left, and no namespace."""

    def __init__(self):
        self.hosts = [f"cosub-{os.getpid()}-{end}" for end in ("a", "b")]

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cosub-overlap-"))
        try:
            self.agent = self.folder / "agent"
            self.agent.write_text(AGENT)
            self.agent.chmod(0o755)
            for host in self.hosts:
                call("ip", "netns", "add", host)
            a, b = self.hosts
            call("ip", "-n", a, "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", b)
            for i, host in enumerate(self.hosts):
                call("ip", "-n", host, "address", "add", f"10.99.0.{i + 1}/24", "dev", DEVICE)
                call("ip", "-n", host, "link", "set", "lo", "up")  # ranks speak to their host's daemon over it
                call("ip", "-n", host, "link", "set", DEVICE, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        for host in self.hosts:
            if not pathlib.Path("/run/netns", host).exists():
                continue
            for pid in subprocess.run(["ip", "netns", "pids", host], stdout=subprocess.PIPE, text=True).stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            subprocess.run(["ip", "netns", "delete", host])
        shutil.rmtree(self.folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)

    def limit(self, bytes_per_second):
        """Of each direction; None: no limit."""
        for host in self.hosts:
            if bytes_per_second is None:
                call("tc", "-n", host, "qdisc", "delete", "dev", DEVICE, "root")
                continue
            call("tc", "-n", host, "qdisc", "replace", "dev", DEVICE, "root", "tbf", "rate",
                 f"{round(8 * bytes_per_second)}bit", "burst", str(BURST_BYTES), "limit", str(QUEUE_BYTES))

    def sent(self):
        """Bytes that each end has put on the link so far."""
        shown = [json.loads(call("ip", "-n", host, "-s", "-j", "link", "show", "dev", DEVICE)) for host in self.hosts]
        return [links[0]["stats64"]["tx"]["bytes"] for links in shown]

    def mpirun(self, program):
        """The command that runs one rank on each host. No shared memory between them, TCP over the link alone."""
        mpirun = ["mpirun", "-n", "2", "--host", ",".join(f"{host}:1" for host in self.hosts), "--bind-to", "none",
                  "--mca", "plm_rsh_agent", str(self.agent), "--mca", "oob_tcp_if_include", DEVICE, "--mca", "pml",
                  "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", DEVICE, *program]
        return ["ip", "netns", "exec", self.hosts[0], "unshare", "--uts", "bash", "-c", 'hostname "$0"; exec "$@"',
                self.hosts[0], *mpirun]
