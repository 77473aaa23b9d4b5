"""One process for each host of a Ray cluster: python ray_hosts.py HOSTS GPUS-OF-A-HOST sciml train darcy --out DIR ...

The folder DIR is on a file system that all hosts see.
"""

import os
import socket
import subprocess
import sys

import ray


@ray.remote
class Host:
    """A host with all of its GPUs."""

    def address(self):
        """Where process 0 waits for the others, if this is its host."""
        with socket.socket() as one:
            one.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{one.getsockname()[1]}"

    def run(self, command, address, count, rank):
        """Runs a command as one of several processes; returns its exit code."""
        own = {"JAX_COORDINATOR_ADDRESS": address, "SCIML_PROCESSES": str(count), "SCIML_RANK": str(rank)}
        return subprocess.run(command, env=os.environ | own).returncode


def main(count, gpus, command):
    ray.init(address="auto")
    hosts = [Host.options(num_gpus=gpus).remote() for _ in range(count)]
    address = ray.get(hosts[0].address.remote())
    return max(ray.get([host.run.remote(command, address, count, rank) for rank, host in enumerate(hosts)]))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
