"""Clusters of several nodes on this machine, and what may happen to them."""

import os
import random
import signal
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path

HEAD = "127.0.0.2"  # on the loopback interface; Ray takes 127.0.0.1 for the address that others see
ADDRESSES = (f"127.0.0.{number}" for number in count(3))  # of the nodes: the driver belongs to the head


def add_node(cluster, cpus: int = 1):
    """Add a node with a folder of its own, as on a machine of its own.

    In a shared folder, Ray's agent of a new node removes the code under the feet of the other nodes' workers.
    """
    folder = tempfile.mkdtemp(prefix="node", dir=cluster.folder)
    return cluster.add_node(num_cpus=cpus, node_ip_address=next(ADDRESSES), temp_dir=folder)


class Faults:
    """Twenty faults at random moments in a command on a cluster."""

    def __init__(self, cluster, start) -> None:
        self.cluster, self.start = cluster, start
        self.random = random.Random(7)
        self.driver = start()

    def worker_killed(self) -> None:
        busy = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if path.read_bytes().startswith((b"ray::carry_out", b"ray::IDLE")):  # not the agents of a node
                    busy.append(int(path.parent.name))
        if busy:
            os.kill(self.random.choice(busy), signal.SIGKILL)

    def node_removed(self) -> None:
        if len(self.cluster.workers) > 1:
            node = self.cluster.workers.pop(self.random.randrange(len(self.cluster.workers)))
            self.cluster.remove_node(node, allow_graceful=False)
        else:
            self.node_added()

    def node_added(self) -> None:
        if len(self.cluster.workers) < 3:
            self.cluster.workers.append(add_node(self.cluster))

    def driver_killed(self) -> None:
        self.driver.kill()
        self.driver.wait()
        self.driver = self.start()
