#!/usr/bin/env python3
"""A real Slurm cluster on this one machine, for tests: munged, slurmctld, and one slurmd for each virtual node. It needs no systemd and no
cgroups, listens on 127.0.0.1 only, and keeps everything in one folder (whose path must be short: 75 characters).

    cluster.py start FOLDER [--nodes N] [--cpus N] [--memory MB] [--gpus N] [--accounting] [--set KEY=VALUE]...
    cluster.py stop | status FOLDER
    cluster.py kill-slurmd | start-slurmd | kill-node FOLDER NODE
    cluster.py kill-slurmctld | start-slurmctld FOLDER

Clients need nothing but SLURM_CONF=FOLDER/slurm.conf."""

import argparse
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

DAEMONS = ("munged", "slurmctld", "slurmd", "slurmstepd", "unshare", "sbatch", "squeue", "scancel", "scontrol")
ACCOUNTING_DAEMONS = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct")
MOST_PATH = 75  # a Unix socket's path has 107 bytes, and Slurm adds its own names
FAKE_GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")

# A node of its own to Open MPI: host name, name table and shared memory. Two nodes that shared /dev/shm would write over each
# other's segments.
ENTER_NODE = (
    "mount --make-rprivate / && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && "
    'mount --bind "$1/hosts" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'
)

CONFIGURATION = """
ClusterName=filotest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=pmix
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
SlurmctldTimeout=5
SlurmdTimeout=5
MessageTimeout=5
KillWait=5
MailProg=/bin/true
"""

NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none\n"
# Memory is watched every second, and a job that uses more than it asked for is killed: what sites do that have no cgroups.
ACCOUNTING = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/run/munge.socket
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
"""
ACCOUNTING_DAEMON = """AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm
StorageUser={user}
"""


class Failure(Exception):
    pass


def missing_programs(accounting=False):
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
    return [name for name in DAEMONS + ACCOUNTING_DAEMONS * accounting if shutil.which(name, path=path) is None]


def program_of(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


def utsname_space(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Cluster:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder).absolute()
        self.configuration = self.folder / "slurm.conf"

    # For subprocess: this process's environment without another Slurm's variables.
    def environment(self, **more):
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SQUEUE"))
        }
        kept["PATH"] = kept.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
        return dict(kept, SLURM_CONF=str(self.configuration), MYSQL_UNIX_PORT=str(self.folder / "run/mariadb"), **more)

    def call(self, *command, seconds=30):
        """What a client command prints; Failure when it fails."""
        result = subprocess.run(
            command,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if result.returncode != 0:
            raise Failure(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout

    def nodes(self):
        lines = self.configuration.read_text().splitlines()
        return [line.split()[0].removeprefix("NodeName=") for line in lines if line.startswith("NodeName=")]

    def start(self, nodes=4, cpus=4, memory=4000, gpus=0, accounting=False, settings=()):
        absent = missing_programs(accounting)
        if absent:
            raise Failure(f"not installed: {' '.join(absent)} (tools/setup test installs Slurm)")
        if len(str(self.folder)) > MOST_PATH:
            raise Failure(f"{self.folder}: {len(str(self.folder))} characters, at most {MOST_PATH} fit a socket's path")
        if self.pid("slurmctld"):
            raise Failure(f"a cluster runs in {self.folder} already")
        for name in ("run", "log", "state", "spool", "tmp", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "munge").chmod(0o700)
        self.write_configuration(nodes, cpus, memory, gpus, accounting, settings)
        self.isolated = self.can_isolate()
        (self.folder / "run/isolated").write_text("yes" if self.isolated else "no")
        if not self.isolated:
            print("cluster: no namespaces here: the nodes share a host name and /dev/shm", file=sys.stderr)
        self.start_munged()
        if accounting:
            self.start_accounting()
        self.start_slurmctld("-i")
        for node in self.nodes():
            self.start_slurmd(node)
        self.wait_until_idle(nodes)

    def write_configuration(self, nodes, cpus, memory, gpus, accounting, settings):
        host = socket.gethostname().split(".")[0]
        port = free_ports(nodes + 2)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = CONFIGURATION.format(host=host, port=port, user=user, folder=self.folder)
        text += ACCOUNTING.format(port=port + nodes + 1, folder=self.folder) if accounting else NO_ACCOUNTING
        if accounting:
            daemon = self.folder / "slurmdbd.conf"
            daemon.touch(mode=0o600)
            daemon.write_text(ACCOUNTING_DAEMON.format(port=port + nodes + 1, user=user, folder=self.folder))
        text += "".join(f"{line}\n" for line in settings)
        for number in range(1, nodes + 1):
            gres = f" Gres=gpu:{gpus}" if gpus else ""
            text += f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number}"
            text += f" CPUs={cpus} RealMemory={memory}{gres} State=UNKNOWN\n"
        text += "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP\n"
        self.configuration.write_text(text)
        gres = f"AutoDetect=off\nNodeName=n[1-{nodes}] Name=gpu File={','.join(FAKE_GPUS[:gpus])}\n" if gpus else ""
        (self.folder / "gres.conf").write_text(gres)
        names = "".join(f"127.0.0.{10 + number} n{number}\n" for number in range(1, nodes + 1))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {host}\n{names}")

    def inside_node(self, node, command):
        own = [] if os.geteuid() == 0 else ["-U", "--map-current-user", "--keep-caps"]
        return ["unshare", *own, "-u", "-m", "sh", "-c", ENTER_NODE, "sh", str(self.folder), node, *command]

    def can_isolate(self):
        return subprocess.run(self.inside_node("n1", ["true"]), capture_output=True).returncode == 0

    def run_daemon(self, command, log):
        result = subprocess.run(
            command, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        if result.returncode != 0:
            tail = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
            raise Failure(f"{command[0]}: {result.stderr.strip()} {' '.join(tail)}")

    def start_munged(self):
        key = self.folder / "munge/key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(128))
        run, log = self.folder / "run", self.folder / "munge/munged.log"
        options = [f"--key-file={key}", f"--socket={run}/munge.socket", f"--pid-file={run}/munged.pid"]
        self.run_daemon(["munged", *options, f"--log-file={log}", f"--seed-file={self.folder}/munge/seed"], log)

    def start_accounting(self):
        """A data base of this cluster's own, by socket only, and slurmdbd."""
        data, log = self.folder / "database", self.folder / "log/mariadbd.log"
        data.mkdir(exist_ok=True)
        options = ["--no-defaults", f"--datadir={data}"]
        user = self.call("id", "-un").strip()
        self.run_daemon(
            ["mariadb-install-db", *options, "--skip-test-db", f"--user={user}", "--auth-root-authentication-method=socket",
             f"--auth-root-socket-user={user}"], log)
        sockets = ["--skip-networking", f"--socket={self.folder}/run/mariadb", f"--pid-file={self.folder}/run/mariadbd.pid"]
        server = ["mariadbd", *options, *sockets, f"--user={user}", f"--log-error={log}", "--innodb-buffer-pool-size=64M"]
        self.run_daemon(["setsid", "--fork", *server], log)
        wait_for(lambda: (self.folder / "run/mariadb").exists(), 30, "the data base up")
        self.run_daemon(["slurmdbd"], self.folder / "log/slurmdbd.log")
        wait_for(self.accounting_is_up, 30, "slurmdbd up")

    def accounting_is_up(self):
        try:
            self.call("sacctmgr", "-n", "show", "cluster", seconds=5)
            return True
        except (Failure, subprocess.TimeoutExpired):
            return False

    def start_slurmctld(self, *options):
        self.run_daemon(["slurmctld", *options], self.folder / "log/slurmctld.log")
        wait_for(self.controller_is_up, 20, "slurmctld up")

    def controller_is_up(self):
        try:
            return " UP" in self.call("scontrol", "ping")
        except Failure:
            return False

    def start_slurmd(self, node):
        for name in (f"spool/{node}", f"tmp/{node}"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp" / node).chmod(0o1777)
        isolated = (self.folder / "run/isolated").read_text() == "yes"
        command = ["slurmd", "-N", node]
        self.run_daemon(self.inside_node(node, command) if isolated else command, self.folder / f"log/slurmd.{node}.log")
        wait_for(lambda: self.pid(f"slurmd.{node}"), 5, f"slurmd of {node}")
        if isolated:  # every process of the node is in a name space of this one
            with open(self.folder / f"run/{node}.spaces", "a") as file:
                file.write(utsname_space(self.pid(f"slurmd.{node}")) + "\n")

    def wait_until_idle(self, nodes, seconds=15):
        def ready():
            try:
                states = self.call("sinfo", "-h", "-N", "-o", "%T", seconds=5).split()
            except (Failure, subprocess.TimeoutExpired):
                return False
            return len([state for state in states if state in ("idle", "mixed", "allocated")]) == nodes

        wait_for(ready, seconds, "nodes up")

    def pid(self, name):
        """The process id of a daemon ("slurmd.n1") that runs, else None: an id in a file may have been given to another."""
        try:
            pid = int((self.folder / f"run/{name}.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if program_of(pid).startswith(name.split(".")[0]) else None

    def end(self, name, number):
        pid = self.pid(name)
        if pid:
            os.kill(pid, number)
        return pid

    def processes_of(self, node):
        """Every process of a node: daemon, steps, tasks."""
        try:
            spaces = set((self.folder / f"run/{node}.spaces").read_text().split())
        except OSError:
            return self.processes_by_environment(node)
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and utsname_space(name) in spaces]

    def processes_by_environment(self, node):
        wanted = {f"SLURM_CONF={self.configuration}", f"SLURMD_NODENAME={node}"}
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                variables = set(pathlib.Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace").split("\0"))
            except OSError:
                continue
            if wanted <= variables:
                found.append(int(name))
        return found

    def kill_slurmd(self, node):
        """The daemon alone: its jobs run on."""
        return self.end(f"slurmd.{node}", signal.SIGKILL)

    def kill_node(self, node):
        """As if its power was lost."""
        self.end(f"slurmd.{node}", signal.SIGKILL)
        for _ in range(3):  # a process may start another meanwhile
            for pid in self.processes_of(node):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        # A node that starts again has none of these; left behind they make a later PMIx step fail.
        shutil.rmtree(self.folder / "tmp" / node, ignore_errors=True)
        for path in (self.folder / "spool" / node).rglob("*"):
            if path.is_socket():
                path.unlink()

    def kill_slurmctld(self):
        return self.end("slurmctld", signal.SIGKILL)

    def stop(self):
        if not self.configuration.exists():
            return
        self.end("slurmctld", signal.SIGTERM)
        for node in self.nodes():
            self.end(f"slurmd.{node}", signal.SIGTERM)
        try:
            wait_for(lambda: not self.pid("slurmctld"), 5, "slurmctld's end")
        except Failure:
            self.end("slurmctld", signal.SIGKILL)
        for node in self.nodes():
            self.kill_node(node)
        for name in ("slurmdbd", "mariadbd"):
            if self.end(name, signal.SIGTERM):
                wait_for(lambda: not self.pid(name), 20, f"{name}'s end")
        self.end("munged", signal.SIGTERM)

    def status(self):
        names = ["munged", "mariadbd", "slurmdbd", "slurmctld"] + [f"slurmd.{node}" for node in self.nodes()]
        return {name: self.pid(name) for name in names}


def free_ports(count):
    for _ in range(100):
        first = random.randrange(20000, 32000)
        sockets = []
        try:
            for port in range(first, first + count):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise Failure(f"no {count} free ports in a row")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action")
    parser.add_argument("folder")
    parser.add_argument("node", nargs="?")
    for name, number in (("--nodes", 4), ("--cpus", 4), ("--memory", 4000), ("--gpus", 0)):
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and a data base, and memory watched")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a line of slurm.conf")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder)
    if arguments.action == "start":
        cluster.start(arguments.nodes, arguments.cpus, arguments.memory, arguments.gpus, arguments.accounting, arguments.set)
        print(f"export SLURM_CONF={cluster.configuration}")
    elif arguments.action == "status":
        for name, pid in cluster.status().items():
            print(name, pid or "down")
    elif arguments.action in ("kill-slurmd", "start-slurmd", "kill-node"):
        if arguments.node not in cluster.nodes():
            parser.error(f"found the node {arguments.node}, expected one of {' '.join(cluster.nodes())}")
        getattr(cluster, arguments.action.replace("-", "_"))(arguments.node)
    elif arguments.action in ("stop", "kill-slurmctld", "start-slurmctld"):
        getattr(cluster, arguments.action.replace("-", "_"))()
    else:
        parser.error(f"found the action {arguments.action}, expected one of those above")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"cluster: {failure}")
