#!/usr/bin/env python3
"""Makes original.pcap and esp_keys.yaml of the samples tcp, gateway, ipv4 and transport: standard ESP, sealed by scapy.

    python3 samples/make.py            # writes below samples/
    python3 samples/make.py DIR        # writes below DIR, to compare

Needs scapy and cryptography (tests/requirements.txt). The output is the same every time: keys are hashes of names, IVs
count, and nothing reads the clock. The keys are test keys: never protect anything with them.
"""

import hashlib
import pathlib
import sys

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapWriter

START = 1_770_000_000  # seconds since 1970
MAC = {"up": dict(src="02:00:00:00:00:02", dst="02:00:00:00:00:01"), "down": dict(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")}
SALT_LEN = {"AES-GCM": 4, "AES-CCM": 3}


def derived(text, length):
    """Bytes that only look random."""
    return hashlib.sha256(b"dietesp sample " + text.encode()).digest()[:length]


class Sa:
    """One direction: seals with scapy, and knows its entry of the key file."""

    def __init__(self, name, direction, spi, src, dst, algorithm, icv_len, encr, outer):
        salt_len = SALT_LEN[algorithm]
        self.direction, self.next_sn = direction, 1
        self.key, self.salt = derived(name + " key", 16), derived(name + " salt", salt_len)
        self.entry = (
            f"  - name: {name}\n    spi: 0x{spi:08x}\n    src: {src}\n    dst: {dst}\n    encr: {encr}\n"
            f"    key: {self.key.hex()}\n    salt: {self.salt.hex()}\n"
        )
        self.scapy = SecurityAssociation(
            ESP, spi=spi, crypt_algo=algorithm, crypt_key=self.key + self.salt, crypt_icv_size=icv_len, tunnel_header=outer
        )

    def seal(self, packet, sn=None):
        """The Ethernet frame that carries `packet`; numbers count up unless given."""
        sn = self.next_sn if sn is None else sn
        self.next_sn = sn + 1
        sealed = self.scapy.encrypt(packet, seq_num=sn, iv=sn.to_bytes(8, "big"))
        return Ether(**MAC[self.direction]) / sealed


def write(folder, sas, frames):
    """`frames` as (seconds after the start, frame)."""
    folder.mkdir(parents=True, exist_ok=True)
    head = "# Test keys, published: never protect anything with them. Opens original.pcap (standard ESP).\nsas:\n"
    (folder / "esp_keys.yaml").write_text(head + "".join(sa.entry for sa in sas))
    with PcapWriter(str(folder / "original.pcap"), linktype=1) as pcap:
        for seconds, frame in frames:
            frame.time = START + seconds
            pcap.write(frame)


GET, POST, CONTENT = (0x40, 0x01), (0x40, 0x02), (0x60, 0x45)  # type and code: confirmable 0.01, 0.02; acknowledgement 2.05


def coap(kind, number, payload=b""):
    """A CoAP message (RFC 7252 section 3) without token; requests name the path `temp`."""
    path = b"" if kind == CONTENT else b"\xb4temp"
    return Raw(bytes(kind) + number.to_bytes(2, "big") + path + (b"\xff" + payload if payload else b""))


def tcp(root):
    """An MQTT session: handshake with options, CONNECT, SUBSCRIBE, PUBLISH both ways, one lost segment sent again, FIN."""
    ends = {"up": ("2001:db8:0:2::2", "2001:db8:0:2::1"), "down": ("2001:db8:0:2::1", "2001:db8:0:2::2")}
    sas = {
        way: Sa(f"tcp-{way}", way, spi, src, dst, "AES-GCM", 16, "ENCR_AES_GCM_16", IPv6(src=src, dst=dst, hlim=64))
        for (way, (src, dst)), spi in zip(ends.items(), (0x5C0FFEE1, 0x5C0FFEE2))
    }
    sensor, broker = ("2001:db8:a::20", 50123), ("2001:db8:b::25", 1883)
    sequence = {"up": 0x1A2B3C4D, "down": 0x90ABCDEF}
    acked = {"up": 0, "down": 0}
    frames, clock = [], [0.0]

    def send(way, flags, data=b"", options=(), again=False):
        (src, sport), (dst, dport) = (sensor, broker) if way == "up" else (broker, sensor)
        other = "down" if way == "up" else "up"
        seq = sequence[way] - len(data) if again else sequence[way]
        segment = TCP(sport=sport, dport=dport, seq=seq, ack=acked[way], flags=flags, window=28800, options=list(options))
        frames.append((clock[0], sas[way].seal(IPv6(src=src, dst=dst, hlim=64) / segment / Raw(data))))
        clock[0] += 0.012
        if not again:
            sequence[way] += len(data) + ("S" in flags) + ("F" in flags)
        acked[other] = sequence[way]

    def stamps():
        return [("NOP", None), ("NOP", None), ("Timestamp", (1000 + int(clock[0] * 1000), 7000))]

    mss = [("MSS", 1220), ("SAckOK", b""), ("Timestamp", (1000, 0)), ("NOP", None), ("WScale", 7)]
    send("up", "S", options=mss)
    send("down", "SA", options=mss)
    send("up", "A", options=stamps())
    send("up", "PA", b"\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08probe-20", stamps())
    send("down", "PA", b"\x20\x02\x00\x00", stamps())
    send("up", "PA", b"\x82\x0b\x00\x01\x00\x06set/20\x00", stamps())
    send("down", "PA", b"\x90\x03\x00\x01\x00", stamps())
    for number in range(8):
        text = b"\x00\x07temp/20" + f"{20 + number / 4:.2f}".encode()
        publish = bytes([0x30, len(text)]) + text
        send("up", "PA", publish, stamps())
        if number == 3:
            clock[0] += 0.2
            send("up", "PA", publish, stamps(), again=True)
        send("down", "A", options=stamps())
    send("down", "PA", b"\x30\x0c\x00\x06set/20rate", stamps())
    send("up", "A", options=stamps())
    send("up", "PA", b"\xe0\x00", stamps())
    send("up", "FA", options=stamps())
    send("down", "FA", options=stamps())
    send("up", "A", options=stamps())
    write(root / "tcp", sas.values(), frames)


def gateway(root):
    """Two SAs between one pair of gateways whose SPIs end in the same 4 bits; some packets lost, some late."""
    src, dst = "2001:db8:0:3::2", "2001:db8:0:3::1"
    sas = [
        Sa(name, "up", spi, src, dst, "AES-CCM", 8, "ENCR_AES_CCM_8", IPv6(src=src, dst=dst, hlim=63, fl=0x12345))
        for name, spi in (("meters", 0x3A51_00C7), ("alarms", 0x9E02_4417))
    ]
    hosts = [("2001:db8:c::", 5683), ("2001:db8:d::", 5683)]
    numbered = []
    for number in range(1, 61):
        for which, (sa, (net, port)) in enumerate(zip(sas, hosts)):
            if which == 1 and number > 30:
                continue
            host = number % 5 + 1
            inner = IPv6(src=f"{net}{host:x}", dst="2001:db8:e::1", hlim=63, fl=0x12345)
            message = coap(POST, number, f"{host}:{number * 7 % 100}".encode())
            seconds = number * 0.5 if which == 0 else number + 0.1
            numbered.append((seconds, which, number, sa.seal(inner / UDP(sport=40000 + host, dport=port) / message, number)))
    lost = {(0, 9), (1, 12), *((0, number) for number in range(21, 43))}
    late = {(0, 5): 1.3, (1, 7): 2.5, (0, 50): 2.2}
    kept = [(seconds + late.get((which, number), 0), frame) for seconds, which, number, frame in numbered if (which, number) not in lost]
    write(root / "gateway", sas, sorted(kept, key=lambda item: item[0]))


def ipv4(root):
    """CoAP over IPv4, in an IPv4 tunnel; two hosts behind each end."""
    ends = {"up": ("192.0.2.2", "192.0.2.1"), "down": ("192.0.2.1", "192.0.2.2")}
    sas = {
        way: Sa(f"ipv4-{way}", way, spi, src, dst, "AES-GCM", 16, "ENCR_AES_GCM_16", IP(src=src, dst=dst, ttl=64, id=0x4000, flags="DF"))
        for (way, (src, dst)), spi in zip(ends.items(), (0x1100_2201, 0x1100_2202))
    }
    frames = []
    for number in range(20):
        host, request, reply = number % 2 + 10, coap(GET, number), coap(CONTENT, number, f"{20 + number / 4:.2f}".encode())
        up = IP(src="10.1.0.2", dst=f"10.2.0.{host}", ttl=64, id=number + 1, flags="DF") / UDP(sport=49200, dport=5683) / request
        down = IP(src=f"10.2.0.{host}", dst="10.1.0.2", ttl=64, id=number + 9, flags="DF") / UDP(sport=5683, dport=49200) / reply
        frames += [(number, sas["up"].seal(up)), (number + 0.04, sas["down"].seal(down))]
    write(root / "ipv4", sas.values(), frames)


def transport(root):
    """CoAP between two IPv6 hosts, transport mode."""
    ends = {"up": ("2001:db8:0:4::2", "2001:db8:0:4::1"), "down": ("2001:db8:0:4::1", "2001:db8:0:4::2")}
    sas = {
        way: Sa(f"transport-{way}", way, spi, src, dst, "AES-CCM", 8, "ENCR_AES_CCM_8", None)
        for (way, (src, dst)), spi in zip(ends.items(), (0x7000_0061, 0x7000_0062))
    }
    frames = []
    for number in range(20):
        (sensor, server) = ends["up"]
        up = IPv6(src=sensor, dst=server, hlim=64) / UDP(sport=5683, dport=5683) / coap(POST, number, f"{20 + number / 4:.2f}".encode())
        down = IPv6(src=server, dst=sensor, hlim=64) / UDP(sport=5683, dport=5683) / Raw(b"\x60\x44" + number.to_bytes(2, "big"))  # acknowledgement, 2.04
        frames += [(number, sas["up"].seal(up)), (number + 0.03, sas["down"].seal(down))]
    write(root / "transport", sas.values(), frames)


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    target = target if len(sys.argv) > 1 else target.parent
    for sample in (tcp, gateway, ipv4, transport):
        sample(target)
