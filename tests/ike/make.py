"""Makes the files beside it: an IKEv2 capture, its secrets, and the keys of its child SAs as `ip xfrm state` prints them.

Needs scapy and cryptography; nothing here is taken from dietesp.
"""

import hashlib
import hmac
import os
import random
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.all import IP, UDP, Raw, raw, wrpcap

rng = random.Random(7296)
rand = lambda n: bytes(rng.randrange(256) for _ in range(n))

SPI_I, SPI_R = rand(8), rand(8)
PRF = hashlib.sha384
SK_D = rand(48)
SK_EI, SK_ER = rand(36), rand(36)  # AES-256-GCM-16, 4 bytes of salt at the end
A, B = "192.0.2.1", "198.51.100.2"


def prf_plus(key, seed, length):
    out, last, n = b"", b"", 1
    while len(out) < length:
        last = hmac.new(key, last + seed + bytes([n]), PRF).digest()
        out, n = out + last, n + 1
    return out[:length]


def chain(*payloads):
    """Payload bytes and the type of the first."""
    out = b""
    for (kind, body), nxt in zip(payloads, list(payloads[1:]) + [(0, b"")]):
        out += struct.pack(">BBH", nxt[0], 0, len(body) + 4) + body
    return payloads[0][0], out


def sa(*proposals):
    out = b""
    for n, (number, protocol, spi, transforms) in enumerate(proposals):
        ts = b""
        for m, (kind, ident, bits) in enumerate(transforms):
            attribute = struct.pack(">HH", 0x800E, bits) if bits else b""
            ts += struct.pack(">BBHBBH", 0 if m == len(transforms) - 1 else 3, 0, 8 + len(attribute), kind, 0, ident) + attribute
        body = struct.pack(">BBBB", number, protocol, len(spi), len(transforms)) + spi + ts
        out += struct.pack(">BBH", 0 if n == len(proposals) - 1 else 2, 0, len(body) + 4) + body
    return 33, out


def header(first, exchange, from_i, response, mid, length, spi_r=SPI_R):
    flags = (0x08 if from_i else 0) | (0x20 if response else 0)
    return SPI_I + spi_r + struct.pack(">BBBBII", first, 0x20, exchange, flags, mid, length)


def seal(from_i, head, clear):
    key = SK_EI if from_i else SK_ER
    iv = rand(8)
    pad = rng.randrange(8)
    return iv + AESGCM(key[:32]).encrypt(key[32:] + iv, clear + bytes(pad) + bytes([pad]), head)


def sealed_len(clear):
    state = rng.getstate()
    rand(8)
    pad = rng.randrange(8)
    rng.setstate(state)
    return 8 + len(clear) + pad + 1 + 16


def encrypted(exchange, from_i, response, mid, *payloads):
    first, clear = chain(*payloads)
    n = sealed_len(clear)
    head = header(46, exchange, from_i, response, mid, 28 + 4 + n) + struct.pack(">BBH", first, 0, 4 + n)
    return head + seal(from_i, head, clear)


def fragments(count, exchange, from_i, response, mid, *payloads):
    first, clear = chain(*payloads)
    size = -(-len(clear) // count)
    out = []
    for k in range(count):
        part = clear[k * size : (k + 1) * size]
        n = sealed_len(part)
        head = header(53, exchange, from_i, response, mid, 28 + 8 + n)
        head += struct.pack(">BBHHH", first if k == 0 else 0, 0, 8 + n, k + 1, count)
        out.append(head + seal(from_i, head, part))
    return out


frames, states = [], []


def send(from_a, message, port=4500):
    src, dst = (A, B) if from_a else (B, A)
    marker = b"" if port == 500 else bytes(4)
    frames.append(IP(src=src, dst=dst) / UDP(sport=port, dport=port) / Raw(marker + message))


def state(src, dst, spi, lines, esn=False):
    flags = "af-unspec esn" if esn else "af-unspec"
    states.append(f"src {src} dst {dst}\n\tproto esp spi 0x{spi.hex()} reqid 1 mode tunnel\n\treplay-window 32 flag {flags}\n\t" + "\n\t".join(lines) + "\n")


nonce = lambda n=32: (40, rand(n))
ke = lambda: (34, struct.pack(">HH", 31, 0) + rand(32))
ts = ((44, rand(16)), (45, rand(16)))
ike_proposal = lambda spi=b"": (1, 1, spi, [(1, 20, 256), (2, 6, 0), (4, 31, 0)])

# IKE_SA_INIT: the first request is told to use another group, the second gets its answer.
for number in range(2):
    ni = nonce()
    first, body = chain(sa(ike_proposal()), ke(), ni)
    send(True, header(first, 34, True, False, 0, 28 + len(body), bytes(8)) + body, 500)
    if number == 0:
        first, body = chain((41, struct.pack(">BBHH", 0, 0, 17, 31)))
        send(False, header(first, 34, False, True, 0, 28 + len(body), bytes(8)) + body, 500)
nr = nonce(48)
first, body = chain(sa(ike_proposal()), ke(), nr)
send(False, header(first, 34, False, True, 0, 28 + len(body)) + body, 500)

# IKE_AUTH with EAP: the request in three fragments, in disorder and one repeated; the SA comes in the last response.
cbc = [(1, 12, 256), (3, 14, 0), (5, 1, 0)]
spi_a, spi_b, spi_other = rand(4), rand(4), rand(4)
parts = fragments(3, 35, True, False, 1, (35, rand(40)), sa((1, 3, spi_other, [(1, 28, 0), (5, 0, 0)]), (2, 3, spi_a, cbc)), *ts)
for k in (1, 0, 1, 2):
    send(True, parts[k])
send(False, encrypted(35, False, True, 1, (36, rand(30)), (48, rand(8))))
send(True, encrypted(35, True, False, 2, (48, rand(8))))
send(False, encrypted(35, False, True, 2, (39, rand(30)), sa((2, 3, spi_b, cbc)), *ts))
keymat = prf_plus(SK_D, ni[1] + nr[1], 2 * (32 + 64))
for (src, dst, spi), k in zip(((A, B, spi_b), (B, A, spi_a)), (keymat[:96], keymat[96:])):
    state(src, dst, spi, [f"auth-trunc hmac(sha512) 0x{k[32:].hex()} 256", f"enc cbc(aes) 0x{k[:32].hex()}"], esn=True)


def create(from_a, mid, transforms, lens, lines, with_ke=False, broken=False):
    """CREATE_CHILD_SA begun by either side; `lens` are those of encryption key and integrity key."""
    spi_req, spi_res = rand(4), rand(4)
    n_req, n_res = nonce(), nonce(20)
    extra = (ke(),) if with_ke else ()
    request = encrypted(36, from_a, False, mid, sa((1, 3, spi_req, transforms)), n_req, *extra, *ts)
    response = encrypted(36, not from_a, True, mid, sa((1, 3, spi_res, transforms)), n_res, *extra, *ts)
    if broken:
        response = response[:-1] + bytes([response[-1] ^ 1])
    for message, side in ((request, from_a), (request, from_a), (response, not from_a)):
        send(side, message)
    if with_ke or broken:
        return
    e, i = lens
    keymat = prf_plus(SK_D, n_req[1] + n_res[1], 2 * (e + i))
    src, dst = (A, B) if from_a else (B, A)
    for (s, d, spi), k in zip(((src, dst, spi_res), (dst, src, spi_req)), (keymat[: e + i], keymat[e + i :])):
        state(s, d, spi, lines(k[:e].hex(), k[e:].hex()))


create(False, 0, [(1, 28, 0), (5, 0, 0)], (36, 0), lambda e, i: [f"aead rfc7539esp(chacha20,poly1305) 0x{e} 128"])
create(True, 4, [(1, 13, 192), (3, 2, 0), (5, 0, 0)], (28, 20), lambda e, i: [f"auth-trunc hmac(sha1) 0x{i} 96", f"enc rfc3686(ctr(aes)) 0x{e}"])
create(True, 5, [(1, 20, 128), (4, 31, 0), (5, 0, 0)], (20, 0), None, with_ke=True)
create(True, 6, [(1, 20, 128), (5, 0, 0)], (20, 0), None, broken=True)

# The IKE SA itself, rekeyed.
send(False, encrypted(36, False, False, 1, sa(ike_proposal(rand(8))), nonce(), ke()))
send(True, encrypted(36, True, True, 1, sa(ike_proposal(rand(8))), nonce(), ke()))

here = os.path.dirname(os.path.abspath(sys.argv[0]))
packets = [raw(frame) for frame in frames]
wrpcap(os.path.join(here, "made.pcap"), [IP(p) for p in packets], linktype=101)
with open(os.path.join(here, "made.ike"), "w") as out:
    out.write(f"# SK_d, and a line of Wireshark's ikev2_decryption_table\n")
    out.write(f"ispi={SPI_I.hex()} rspi={SPI_R.hex()} prf=PRF_HMAC_SHA2_384 SK_d={SK_D.hex()}\n")
    out.write(f'{SPI_I.hex()},{SPI_R.hex()},{SK_EI.hex()},{SK_ER.hex()},"AES-GCM-256 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"\n')
with open(os.path.join(here, "made.xfrm"), "w") as out:
    out.write("".join(states))
