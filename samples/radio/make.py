#!/usr/bin/env python3
"""Carries the IPv6 packets of ipv6.pcap over IEEE 802.15.4: 6LoWPAN, fragments, link-layer security, repeats.

    ./make.py ipv6.pcap radio.pcap        needs scapy and cryptography

The frames are those of two sleepy nodes: each is repeated until the receiver wakes up. Now and then comes an
acknowledgment, a frame that was damaged on the air, and one of a ZigBee network nearby.
"""
import random
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from scapy.utils import rdpcap

PAN = 0xABCD
KEY = bytes.fromhex("1f5ab25dd4f58a3b4e2f9d05c36e7716")
KEY_INDEX = 3
# Address in the prefix of context 0, 2001:db8:0:1::/64, to EUI-64 and short address.
NODES = {1: (bytes.fromhex("02124b0006aa0001"), 0x0001), 2: (bytes.fromhex("02124b0006aa0002"), 0x0002)}
FRAGMENT = 64


def crc(data):
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x8408 if value & 1 else value >> 1
    return struct.pack("<H", value)


class Sender:
    def __init__(self, node):
        self.eui64, self.short = NODES[node]
        self.sequence = self.counter = self.tag = 0

    def frame(self, receiver, payload, secured):
        """A data frame of 2006; level 5 (encrypted, MIC of 4 bytes), key identifier mode 1."""
        self.sequence = (self.sequence + 1) & 0xFF
        control = 0x1861 | 0x8000 | (8 if secured else 0)
        header = struct.pack("<HBHHH", control, self.sequence, PAN, receiver.short, self.short)
        if secured:
            self.counter += 1
            header += struct.pack("<BIB", 5 | 1 << 3, self.counter, KEY_INDEX)
            nonce = self.eui64 + struct.pack(">IB", self.counter, 5)
            payload = AESCCM(KEY, tag_length=4).encrypt(nonce, payload, header)
        return header + payload

    def send(self, receiver, packet, secured):
        """The frames of an IPv6 packet."""
        headers, body = compress(packet), packet[40:]
        if 40 + len(body) <= FRAGMENT + 20:
            return [self.frame(receiver, headers + body, secured)]
        self.tag += 1
        size = len(packet)
        end = FRAGMENT
        frames = [struct.pack(">HH", 0xC000 | size, self.tag) + headers + packet[40:end]]
        while end < size:
            frames.append(struct.pack(">HHB", 0xE000 | size, self.tag, end // 8) + packet[end : end + FRAGMENT])
            end += FRAGMENT
        return [self.frame(receiver, payload, secured) for payload in frames]


def compress(packet):
    """IPHC (RFC 6282): addresses in context 0 with 64 bits in line, all else as short as it goes."""
    word, flow_class = 0x6000 | 1 << 6 | 1 << 4 | 1 << 2 | 1, struct.unpack(">I", packet[:4])[0] & 0xFFFFFFF
    in_line = b""
    if flow_class == 0:
        word |= 3 << 11
    else:
        traffic_class, flow = flow_class >> 20, flow_class & 0xFFFFF
        in_line += bytes([(traffic_class & 3) << 6 | traffic_class >> 2]) + flow.to_bytes(3, "big")
    in_line += packet[6:7]
    hop_limit = packet[7]
    if hop_limit in (1, 64, 255):
        word |= {1: 1, 64: 2, 255: 3}[hop_limit] << 8
    else:
        in_line += packet[7:8]
    return struct.pack(">H", word) + in_line + packet[16:24] + packet[32:40]


def link_status(sequence, random_bytes):
    """A ZigBee router's list of its neighbors (one here), broadcast in the clear."""
    eui64, neighbor = random_bytes[:8], random_bytes[8:10]
    mac = struct.pack("<HBHHH", 0x8841, sequence, 0x1234, 0xFFFF, 0)
    network = struct.pack("<HHHBB", 0x1009, 0xFFFC, 0, 1, sequence) + eui64
    return mac + network + bytes([8, 0x61]) + neighbor + b"\x11"


def main(source, target):
    rng = random.Random(6282)
    nodes = {node: Sender(node) for node in NODES}
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 127, 195)]
    now = 1_767_225_600.0

    def air(frame):
        out.append(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame)) + frame)

    for number, packet in enumerate(map(bytes, rdpcap(source))):
        sender, receiver = nodes[packet[23]], nodes[packet[39]]
        now += rng.uniform(0.5, 4)
        # The first packets are in the clear, and one in four later.
        frames = sender.send(receiver, packet, number >= 4 and number % 4 != 0)
        for frame in frames:
            times = rng.choice([1, 1, 2, 3, 7])
            for time in range(times):
                now += 0.004
                if time + 1 < times and rng.random() < 0.1:
                    air(frame[:-1] + bytes([frame[-1] ^ 0x10]) + crc(frame))
                else:
                    air(frame + crc(frame))
            now += 0.001
            ack = struct.pack("<HB", 0x0002, frame[2])
            air(ack + crc(ack))
        if rng.random() < 0.1:
            other = link_status(rng.randrange(256), rng.randbytes(20))
            now += 0.01
            air(other + crc(other))
    with open(target, "wb") as file:
        file.write(b"".join(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
