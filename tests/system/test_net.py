"""Networks: TCP both ways through the user network, a network of two machines, the deterministic responder, a capture."""

import hashlib
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

import machine

CHUNK = 1 << 16


def payload(size, seed):
    return random.Random(seed).randbytes(size)


def receive(connection, size):
    digest, left = hashlib.sha256(), size
    while left and (chunk := connection.recv(min(CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest() if not left else f'{left} bytes missing'


GUEST = '''#!/usr/bin/python3
import hashlib, random, socket
SIZE, PORT = {size}, {port}
def receive(c):
    d, left = hashlib.sha256(), SIZE
    while left and (b := c.recv(min(65536, left))):
        d.update(b); left -= len(b)
    return d.hexdigest() if not left else '%d bytes missing' % left
data = random.Random(3).randbytes(SIZE)
c = socket.create_connection(('10.0.2.2', PORT))
c.sendall(data)
print('out-received', receive(c), flush=True)
print('out-sent', hashlib.sha256(data).hexdigest(), flush=True)
s = socket.create_server(('', 7000))
print('listening', flush=True)
c, _ = s.accept()
print('in-received', receive(c), flush=True)
c.sendall(data)
c.close()
'''


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def transfer(megabytes='100'):
    """Each way on a connection from the guest and on one from the host, with equal checksums."""
    size = int(megabytes) << 20
    data = payload(size, 5)
    digest, results = hashlib.sha256(data).hexdigest(), {}
    server, forwarded = socket.create_server(('127.0.0.1', 0)), free_port()

    def serve():
        connection, _ = server.accept()
        with connection:
            results['host-received'] = receive(connection, size)
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        text = GUEST.format(size=size, port=server.getsockname()[1])
        with machine.Machine(*machine.demo(), '--net', f'user,hostfwd=tcp:127.0.0.1:{forwarded}-:7000', '--batch',
                             machine.script(folder, text)) as m:
            m.expect('listening', 600)
            with socket.create_connection(('127.0.0.1', forwarded)) as c:
                c.sendall(data)
                results['second-received'] = receive(c, size)
            status = m.wait()
            out = m.text.decode()
    machine.check(status == 0, m.shown())
    sent = out.split('out-sent ')[1].split()[0]
    machine.check(out.split('out-received ')[1].split()[0] == digest, out)
    machine.check(out.split('in-received ')[1].split()[0] == digest, out)
    machine.check(results == {'host-received': sent, 'second-received': sent}, f'{results}\n{out}')


def silent():
    """A connection from the host is delivered to a guest that has sent no IPv4 packet."""
    port = free_port()
    text = '''#!/usr/bin/python3
import socket
s = socket.create_server(('', 7000))
print('listening', flush=True)
c, _ = s.accept()
c.sendall(b'heard ' + c.recv(100))
'''
    with tempfile.TemporaryDirectory() as folder:
        with machine.Machine(*machine.demo(), '--net', f'user,hostfwd=tcp:127.0.0.1:{port}-:7000', '--batch',
                             machine.script(folder, text)) as m:
            m.expect('listening', 600)
            with socket.create_connection(('127.0.0.1', port), timeout=30) as c:
                c.sendall(b'host')
                heard = c.recv(100)
            machine.check(m.wait() == 0 and heard == b'heard host', f'{heard}\n{m.shown()}')


def pair():
    """Two machines joined by a stream socket ping each other."""
    with tempfile.TemporaryDirectory() as folder:
        words = lambda n: f'console=ttyS0 quiet cleave.net=192.168.7.{n}/24'
        first = machine.script(folder, 'until ping -c 1 -W 1 192.168.7.2 >/dev/null; do :; done; echo first-done; '
                                       'sleep 1000', 'first')
        second = machine.script(folder, 'for i in $(seq 100); do ping -c 3 -W 1 192.168.7.1 && exit 0; done; exit 1', 'second')
        with machine.Machine(*machine.demo(append=words(1)), '--net', f'stream,path={folder}/wire,listen', '--batch',
                             first) as a, \
             machine.Machine(*machine.demo(append=words(2)), '--net', f'stream,path={folder}/wire', '--batch',
                             second) as b:
            a.expect('first-done')
            machine.check(b.wait() == 0, b.shown())


def echo():
    """ARP, ping and UDP echo of the deterministic responder."""
    machine.passes('''set -e
ping -c 3 -W 2 10.0.2.2
python3 - <<'END'
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
for n in (1, 100, 1400):
    data = os.urandom(n); s.sendto(data, ('10.0.2.2', 7)); assert s.recv(2000) == data
END
''', '--net', 'echo')


def pcap():
    """The capture holds the guest's pings, readable by any tool: nanosecond magic, Ethernet."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'net.pcap')
        machine.passes('ping -c 2 10.0.2.2', '--net', f'echo,pcap={path}')
        raw = path.read_bytes()
        magic, _, _, _, _, _, link = struct.unpack('<IHHIIII', raw[:24])
        machine.check((magic, link) == (0xa1b23c4d, 1), f'{magic:x} {link}')
        at, pings = 24, 0
        while at < len(raw):
            length, whole = struct.unpack('<II', raw[at + 8:at + 16])
            frame = raw[at + 16:at + 16 + length]
            pings += frame[12:14] == b'\x08\x00' and frame[23] == 1
            at += 16 + length
        machine.check(at == len(raw) and pings >= 4, f'{pings} of 4 pings in the capture')


def tap():
    """A tap interface of the host, with offloads: the host's kernel answers pings and a TCP transfer."""
    if subprocess.run(['ip', 'tuntap', 'add', 'mode', 'tap', 'name', 'cleave0'], capture_output=True).returncode:
        machine.sys.exit(machine.SKIP)
    try:
        subprocess.run(['ip', 'addr', 'add', '192.168.77.1/24', 'dev', 'cleave0'], check=True)
        subprocess.run(['ip', 'link', 'set', 'cleave0', 'up'], check=True)
        server = socket.create_server(('192.168.77.1', 0))
        got = {}

        def serve():
            connection, _ = server.accept()
            with connection:
                got['digest'] = receive(connection, 8 << 20)

        threading.Thread(target=serve, daemon=True).start()
        out = machine.passes(f'''#!/usr/bin/python3
import hashlib, os, socket, subprocess
subprocess.run(['ping', '-c', '2', '192.168.77.1'], check=True)
data = os.urandom(8 << 20)
socket.create_connection(('192.168.77.1', {server.getsockname()[1]})).sendall(data)
print('sent', hashlib.sha256(data).hexdigest())
''', '--net', 'tap,ifname=cleave0', append='console=ttyS0 quiet cleave.net=192.168.77.2/24')
        machine.check(got.get('digest') == out.split('sent ')[1].split()[0], f'{got}\n{out}')
    finally:
        subprocess.run(['ip', 'link', 'del', 'cleave0'])


if machine.sys.argv[1] == 'tap' and not shutil.which('ip'):
    machine.sys.exit(machine.SKIP)
machine.main({'transfer': transfer, 'silent': silent, 'pair': pair, 'echo': echo, 'pcap': pcap, 'tap': tap})
