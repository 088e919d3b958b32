"""TCP Fast Open, for which there is nothing in the tests' own language.

client HOST PORT TEXT   sends the text with its SYN, says whether the server took it so, and what it answers
get PID                 how many such connections each TCP listener of a process lets wait; 0: none are taken
set PID NUMBER          sets that from outside
"""

import ctypes
import os
import socket
import sys

MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN = 23
TCP_INFO_OPTIONS = 5
TCPI_OPT_SYN_DATA = 32
SYS_PIDFD_GETFD = 438


def client(host, port, text):
    connection = socket.socket()
    connection.sendto(text.encode(), MSG_FASTOPEN, (host, int(port)))
    answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    options = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[TCP_INFO_OPTIONS]
    print("early" if options & TCPI_OPT_SYN_DATA else "late", answer.decode())


def listeners(pid):
    """Our own descriptors of the process's listening sockets."""
    process = os.pidfd_open(int(pid))
    numbers = [int(number) for number in os.listdir(f"/proc/{pid}/fd")]
    for number in sorted(numbers):
        descriptor = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, process, number, 0)
        try:
            taken = socket.socket(fileno=descriptor)
            if taken.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_TCP:
                if taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield taken
        except OSError:
            pass


def get(pid):
    for listener in listeners(pid):
        print(listener.getsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN))


def set(pid, number):
    for listener in listeners(pid):
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, int(number))


{"client": client, "get": get, "set": set}[sys.argv[1]](*sys.argv[2:])
