#!/usr/bin/env python3
"""A small TCP workload for `make demo`: a server with a fast and a slow answer, clients over IPv4 and
IPv6, a bulk transfer, and a few commands. Loopback only; ends by itself after some seconds."""

import random
import socket
import subprocess
import threading
import time

SECONDS = 3


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    with connection:
        request = connection.recv(65536)
        bulk = request.startswith(b"bulk")
        while request:
            if request.startswith(b"slow"):
                time.sleep(0.02)
            if not bulk:
                connection.sendall(b"x" * 900)
            request = connection.recv(65536)


def client(family, address, port, until):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.connect((address, port))
        while time.monotonic() < until:
            connection.sendall(b"slow" if random.random() < 0.02 else b"fast" + b"?" * random.randrange(40, 400))
            connection.recv(65536)
            time.sleep(0.001)


def bulk(address, port):
    with socket.create_connection((address, port)) as connection:
        for _ in range(200):
            connection.sendall(b"bulk" + bytes(65532))


def main():
    listeners = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
    for listener in listeners:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    (v4, v6), until = [listener.getsockname()[1] for listener in listeners], time.monotonic() + SECONDS
    clients = [(socket.AF_INET, "127.0.0.1", v4)] * 3 + [(socket.AF_INET6, "::1", v6)]
    threads = [threading.Thread(target=client, args=(*one, until)) for one in clients]
    threads.append(threading.Thread(target=bulk, args=("127.0.0.1", v4)))
    for thread in threads:
        thread.start()
    for words in (["true"], ["sleep", "0.1"], ["sh", "-c", "exit 3"]):
        subprocess.run(words, check=False)
    for thread in threads:
        thread.join()


main()
