#!/usr/bin/env python3
"""Makes rules.yaml, keys.yaml and packets.pcap of the published kit: contexts that have every value of every attribute,
an SA of every cipher, and packets that these contexts match, or do not match.

    python3 samples/vectors/make.py            # writes beside itself
    python3 samples/vectors/make.py DIR        # writes into DIR, to compare

Needs scapy (tests/requirements.txt). The output is the same every time. The keys are test keys, published: never
protect anything with them.
"""

import hashlib
import ipaddress
import itertools
import json
import pathlib
import struct
import sys

from scapy.layers.inet import IP, TCP, UDP, ICMP, IPOption
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrHopByHop, PadN
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Raw
from scapy.utils import checksum

START = 1_770_000_000  # seconds since 1970
LINKTYPE_RAW = 101
NUMBER = {"UDP": 17, "TCP": 6, "UDP-Lite": 136, "SCTP": 132}
PORTED = tuple(NUMBER)


def derived(text, length):
    """Bytes that only look random."""
    return hashlib.shake_256(b"dietesp vectors " + text.encode()).digest(length)


class Cycles:
    """Options of each attribute in turn, all of them before one comes again; attributes do not go hand in hand."""

    def __init__(self):
        self.counts = {}

    def __call__(self, name, *options):
        count = self.counts[name] = self.counts.get(name, -1) + 1
        turn, index = divmod(count, len(options))
        return options[sorted(range(len(options)), key=lambda option: derived(f"{name} {turn} {option}", 8))[index]]


pick = Cycles()


def ciphers():
    """(encr, key length, salt length, integ, its key length): every cipher with every key length."""
    lengths = (16, 24, 32)
    for name in ("CCM_8", "CCM_12", "CCM_16", "GCM_8", "GCM_12", "GCM_16", "CCM_8_IIV", "GCM_16_IIV"):
        for length in lengths:
            yield f"ENCR_AES_{name}", length, 3 if "CCM" in name else 4, None, 0
    for name in ("ENCR_CHACHA20_POLY1305", "ENCR_CHACHA20_POLY1305_IIV"):
        yield name, 32, 4, None, 0
    for length in lengths:
        yield "ENCR_NULL_AUTH_AES_GMAC", length, 4, None, 0
    hmacs = (("AUTH_HMAC_SHA1_96", 20), ("AUTH_HMAC_SHA2_256_128", 32), ("AUTH_HMAC_SHA2_384_192", 48), ("AUTH_HMAC_SHA2_512_256", 64))
    plain = (("ENCR_AES_CBC", 0, lengths), ("ENCR_AES_CTR", 4, lengths), ("ENCR_NULL", 0, (0,)))
    for (name, salt, lengths_of), (integ, integ_len) in itertools.product(plain, hmacs):
        yield name, pick(name, *lengths_of), salt, integ, integ_len
    yield "ENCR_AES_CBC", 16, 0, "NONE", 0
    yield "ENCR_NULL", 0, 0, "NONE", 0


CIPHERS = list(ciphers())
# Neighbours of one attribute get ciphers that have little in common.
CIPHERS = [CIPHERS[index * 17 % len(CIPHERS)] for index in range(len(CIPHERS))]


class Sa:
    """An SA of the kit: its place, its entries of both files, and its packets."""

    count = 0
    cipher = itertools.cycle(CIPHERS)
    all = []

    def __init__(self, dialect, *, tunnel, v6, outer_v6=None, stream=False, esn=False):
        Sa.count += 1
        Sa.all.append(self)
        self.number, self.v6, self.tunnel, self.stream = Sa.count, v6, tunnel, stream
        self.name = f"{dialect}-{self.number:03}"
        self.spi = derived(self.name + " spi", 4)
        encr, key, salt, integ, integ_key = next(Sa.cipher)
        while stream and encr == "ENCR_AES_CBC":
            encr, key, salt, integ, integ_key = next(Sa.cipher)
        n = self.number
        self.keys = {"name": self.name, "spi": "0x" + self.spi.hex()}
        self.context = {"sa": self.name, "dialect": dialect, "ipsec_mode": "Tunnel" if tunnel else "Transport"}
        if tunnel:
            src, dst = (f"2001:db8:0:{n:x}::2", f"2001:db8:0:{n:x}::1") if outer_v6 else (f"192.0.2.{n}", f"198.51.100.{n}")
            self.context["tunnel_ip"] = {"src": src, "dst": dst}
        else:
            src, dst = f"{self.address('src', 0)}/{112 if v6 else 24}", f"{self.address('dst', 0)}/{112 if v6 else 24}"
        self.keys |= {"src": src, "dst": dst, "encr": encr}
        self.keys |= {name: derived(f"{self.name} {name}", length).hex() for name, length in (("key", key), ("salt", salt)) if length}
        if integ:
            self.keys["integ"] = integ
        if integ_key:
            self.keys["integ_key"] = derived(self.name + " integ_key", integ_key).hex()
        if esn:
            self.keys["esn"] = True
            self.context["esp_sn"] = (n << 32) + 0xFFFF_FFFE - n % 2  # its low half wraps
        elif (first := pick("esp_sn " + dialect, None, None, None, 1000, 0xFFFF_FF00)) is not None:
            self.context["esp_sn"] = first
        self.packets = []

    def address(self, side, host):
        n = self.number
        if self.v6:
            return f"2001:db8:{'a' if side == 'src' else 'b'}:{n:x}::{host:x}" if host else f"2001:db8:{'a' if side == 'src' else 'b'}:{n:x}::"
        return f"10.{n}.{1 if side == 'src' else 2}.{host}"

    def select(self, protocol, *, single_only=False, state_version=True):
        """Traffic selectors; gives hosts and ports of two packets that they take."""
        self.protocol, own = protocol, self.context
        if state_version:
            own["ts_ip_version"] = "IPv6-only" if self.v6 else "IPv4-only"
        hosts = {}
        for side in ("src", "dst"):
            how = "single" if single_only else pick("address " + side, "single", "prefix", "range", "single", "whole" if side == "src" else "prefix")
            if how == "single":
                own[f"ts_ip_{side}"] = self.address(side, 0x10)
                hosts[side] = (0x10, 0x10)
            elif how == "prefix":
                own[f"ts_ip_{side}"] = f"{self.address(side, 0)}/{112 if self.v6 else 24}"
                hosts[side] = (1, 0x9E)
            elif how == "range":
                own[f"ts_ip_{side}_start"], own[f"ts_ip_{side}_end"] = self.address(side, 0x11), self.address(side, 0x26)
                hosts[side] = (0x11, 0x26)
            else:
                hosts[side] = (7, 0x77)
        own["ts_proto"] = protocol
        ports = {}
        for side in ("src", "dst"):
            how = "single" if single_only else pick("port " + side, "single", "prefix", "range", "whole")
            first = 5683 if side == "dst" else 61616
            if protocol not in PORTED and protocol != "ANY" or how == "whole":
                ports[side] = (first, first + 1000)
            elif how == "single":
                own[f"ts_port_{side}"] = first
                ports[side] = (first, first)
            elif how == "prefix":
                own[f"ts_port_{side}"] = f"{first & ~15}-{first | 15}"
                ports[side] = (first & ~15, first | 15)
            else:
                own[f"ts_port_{side}_start"], own[f"ts_port_{side}_end"] = first - 3, first + 5
                ports[side] = (first - 3, first + 5)
        self.hosts, self.ports = hosts, ports
        return self

    def ip(self, which=0, **fields):
        """The inner IP header of packet `which`."""
        src, dst = self.address("src", self.hosts["src"][which]), self.address("dst", self.hosts["dst"][which])
        names = dict(dscp=0, ecn=0, label=0, hops=64, flags="DF") | fields
        traffic_class = names["dscp"] << 2 | names["ecn"]
        if self.v6:
            return IPv6(src=src, dst=dst, tc=traffic_class, fl=names["label"], hlim=names["hops"])
        more = {"options": names["options"]} if "options" in names else {}
        return IP(src=src, dst=dst, tos=traffic_class, id=names["label"] & 0xFFFF, ttl=names["hops"], flags=names["flags"], **more)

    def segment(self, ip, protocol, which=0, data=b"", **fields):
        """`ip` with a segment behind it, as bytes."""
        ports = dict(sport=self.ports["src"][which], dport=self.ports["dst"][which])
        if protocol == "UDP":
            packet = ip / UDP(**ports, **fields) / Raw(data)
        elif protocol == "TCP":
            packet = ip / TCP(**ports, **({"seq": 0x1A2B3C4D, "ack": 0x5E6F7081, "flags": "PA", "window": 28800} | fields)) / Raw(data)
        elif protocol == "SCTP":
            packet = ip / SCTP(**ports, tag=0xC0FFEE01) / SCTPChunkData(data=data, tsn=which + 1)
        elif protocol == "UDP-Lite":
            packet = udp_lite(ip, ports, data, **fields)
        elif protocol == 58:
            packet = ip / ICMPv6EchoRequest(id=7, seq=which, data=data)
        else:
            packet = ip / ICMP(id=7, seq=which) / Raw(data)
        return bytes(packet)

    def add(self, packet):
        self.packets.append(packet)


def udp_lite(ip, ports, data, coverage=None):
    """RFC 3828: coverage instead of the length, 0 for all."""
    length = 8 + len(data)
    coverage = length if coverage is None else coverage
    header = b"".join(value.to_bytes(2, "big") for value in (ports["sport"], ports["dport"], coverage, 0))
    bare = type(ip)(bytes(ip / Raw(header + data)))
    addresses = b"".join(ipaddress.ip_address(bare.getfieldval(name)).packed for name in ("src", "dst"))
    pseudo = addresses + (length.to_bytes(4, "big") + bytes([0, 0, 0, 136]) if ip.version == 6 else bytes([0, 136]) + length.to_bytes(2, "big"))
    covered = (header + data)[: coverage or length]
    total = checksum(pseudo + covered) or 0xFFFF
    packet = ip / Raw(header[:6] + total.to_bytes(2, "big") + data)
    setattr(packet, "nh" if ip.version == 6 else "proto", 136)
    return packet


DATA = (b"\x40\x01\x00\x07\xb4temp", b"\x60\x45\x00\x07\xff20.25", b"", b"\x30\x09\x00\x07temp/20")


def ietf(spi_bits, sn_bits):
    tunnel = pick("mode", True, True, True, False)
    v6 = pick("inner version", True, False, True, True, False)
    compressed = pick("iipc_profile", True, True, True, True, True, False)
    esn = pick("esn", False, False, True, False, False)
    sa = Sa("ietf", tunnel=tunnel, v6=v6, outer_v6=pick("outer version", True, False, True) if tunnel else v6, esn=esn)
    own = sa.context
    protocol = pick("ts_proto", "UDP", "TCP", "ANY", "UDP-Lite", "SCTP", "ANY", "other")
    protocol = (58 if v6 else 1) if protocol == "other" else protocol
    sa.select(protocol)
    own["iipc_profile"] = "iipc_diet-esp" if compressed else "iipc_not_compressed"
    dscps, labels, flags = (10, 46), (0x12345, 0xBEEF), "DF"
    if tunnel and compressed:
        own["dscp_cda"] = pick("dscp_cda", "not_compressed", "lower", "sa")
        if own["dscp_cda"] == "sa":
            own["dscp_list"] = pick("dscp_list", [46, 10, 0], [46], [0, 8, 10, 46, 63])
            dscps = (46, own["dscp_list"][-1])
        own["ecn_cda"] = pick("ecn_cda", "lower", "not_compressed")
        own["flow_label_cda"] = pick("flow_label_cda", "not_compressed", "lower", "generated", "zero")
        if own["flow_label_cda"] == "generated":
            own["flow_label_generated"] = pick("flow_label_generated", "hash", "zero")
        if own["flow_label_cda"] == "zero":
            labels = (0, 0)
        own["hop_limit_cda"] = pick("hop_limit_cda", "lower", "lower", "not_compressed")
        own["payload_length_cda"] = pick("payload_length_cda", "lower", "lower", "lower", "not_compressed")
        if not v6:
            own["ipv4_flags_frag"] = pick("ipv4_flags_frag", "sent", "df", "zero")
            flags = "" if own["ipv4_flags_frag"] == "zero" else "DF"
    own["alignment"] = pick("alignment", "8 bit", "64 bit", "8 bit", "16 bit", "32 bit")
    own["esp_trailer"] = pick("esp_trailer", "Optional", "Optional", "Mandatory")
    own["trailer_counts_elided_next_header"] = pick("trailer_counts", "no", "yes")
    own["rule_id"] = pick("rule_id", "elided", "elided", "one_byte")
    if own["rule_id"] == "one_byte":
        own["rule_id_value"] = pick("rule_id_value", 0, 5, 255)
    if protocol == "ANY":
        own["any_transport"] = pick("any_transport", "by_next_header", "none", "by_next_header")
    if protocol in ("TCP", "ANY"):
        own["tcp_header"] = pick("tcp_header " + str(protocol), "header_order", "ports_only", "none")
    if protocol in ("SCTP", "ANY"):
        own["sctp_checksum"] = pick("sctp_checksum " + str(protocol), "crc32c", "sent")
    if protocol in ("UDP-Lite", "ANY"):
        own["udplite_coverage"] = pick("udplite_coverage " + str(protocol), "length", "sent")
    own["revision"] = pick("revision", "ietf-07", "ietf-06", "ietf-08", "ietf-09", "ietf-10")
    own["esp_spi_lsb"], own["esp_sn_lsb"] = spi_bits, sn_bits
    if not tunnel and protocol != "ANY":
        own["protocol"] = pick("protocol", 50, 253)

    kinds = (PORTED + ((58 if v6 else 1),)) if protocol == "ANY" else (protocol, protocol)
    for index, kind in enumerate(kinds):
        which = index % 2
        ip = sa.ip(which, dscp=dscps[which], ecn=index % 3, label=labels[which], hops=64 - index, flags=flags)
        sa.add(sa.segment(ip, kind, which, DATA[(index + sa.number) % 4]))
    ip = sa.ip(0, dscp=dscps[0], label=labels[0], flags=flags)
    if protocol == "UDP" and (not v6 or pick("no checksum", True, False)):
        sa.add(sa.segment(ip, "UDP", 0, DATA[0], chksum=0))
    if protocol == "UDP-Lite":
        sa.add(sa.segment(ip, "UDP-Lite", 1, DATA[0], coverage=0))
        sa.add(sa.segment(ip, "UDP-Lite", 1, DATA[1], coverage=8))
    if protocol == "TCP":
        sa.add(sa.segment(ip, "TCP", 1, DATA[1], options=[("MSS", 1220)], urgptr=9))
    if protocol == "ANY" and tunnel and v6:
        sa.add(bytes(sa.ip(0, dscp=dscps[0], label=labels[0]) / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / UDP(sport=1, dport=2) / b"x"))
    if not v6 and tunnel:
        options = sa.ip(1, dscp=dscps[0], label=labels[0], flags=flags, options=[IPOption(b"\x94\x04\x00\x00")])
        sa.add(sa.segment(options, kinds[0], 1, DATA[1]))
    if protocol == "ANY" and not v6 and tunnel:
        fragment = sa.ip(1, dscp=dscps[0], label=labels[0], flags="MF")
        fragment.proto = 17
        sa.add(bytes(fragment / Raw(bytes(UDP(sport=1, dport=2, len=32, chksum=7) / b"abcdefgh"))))
    for _ in range(2):
        spoil(sa, protocol, dscps, labels, flags)


def spoil(sa, protocol, dscps, labels, flags):
    """Packets that are those of the SA but for one field; not all kinds for every SA."""
    ip = lambda **fields: sa.ip(0, **({"dscp": dscps[0], "label": labels[0], "flags": flags} | fields))  # noqa: E731
    kinds = ["protocol", "address", "dummy", "dscp", "label"] + ([] if sa.v6 else ["header"])
    kinds += ["checksum", "port", "short"] if protocol in PORTED else []
    kinds += ["length"] if protocol == "UDP" else []
    kind = pick(f"spoil {protocol}", *kinds)
    if kind == "port":
        ports, sa.ports = sa.ports, {"src": (1, 1), "dst": (1, 1)}
        sa.add(sa.segment(ip(), protocol, 0, DATA[0]))
        sa.ports = ports
    elif kind == "checksum":
        packet = bytearray(sa.segment(ip(), protocol, 0, DATA[0]))
        packet[-1] ^= 1
        sa.add(bytes(packet))
    elif kind == "length":
        packet = bytearray(sa.segment(ip(), "UDP", 0, DATA[0]))
        packet[45 if sa.v6 else 25] ^= 1
        sa.add(bytes(packet))
    elif kind == "dscp":
        sa.add(sa.segment(ip(dscp=1), protocol if protocol != "ANY" else "UDP", 0, DATA[0]))
    elif kind == "label":
        sa.add(sa.segment(ip(label=0x777), protocol if protocol != "ANY" else "UDP", 0, DATA[0]))
    elif kind == "short":
        packet = ip() / Raw(b"\x01\x02\x03\x04")
        setattr(packet, "nh" if sa.v6 else "proto", NUMBER[protocol])
        sa.add(bytes(packet))
    elif kind == "protocol":
        sa.add(sa.segment(ip(), "UDP" if protocol == "TCP" else "TCP", 0, DATA[0]))
    elif kind == "address":
        hosts, sa.hosts = sa.hosts, {"src": (0xEE, 0xEE), "dst": (0xFD, 0xFD)}
        sa.add(sa.segment(ip(), protocol if protocol != "ANY" else "UDP", 0, DATA[0]))
        sa.hosts = hosts
    elif kind == "header":
        packet = bytearray(sa.segment(ip(), protocol if protocol != "ANY" else "UDP", 0, DATA[0]))
        packet[10] ^= 1
        sa.add(bytes(packet))
    elif kind == "dummy":
        packet = ip() / Raw(bytes(12))
        setattr(packet, "nh" if sa.v6 else "proto", 59)
        sa.add(bytes(packet))


def ehc(spi_bytes, sn_bytes):
    tunnel = pick("ehc mode", True, True, True, False)
    v6 = pick("ehc version", True, True, False)
    sa = Sa("ehc", tunnel=tunnel, v6=v6, outer_v6=pick("ehc outer", True, True, False) if tunnel else v6, esn=pick("ehc esn", False, False, False, True))
    own = sa.context
    protocol = pick("ehc protocol", "TCP", "UDP", "UDP-Lite", "ANY")
    sa.select(protocol, single_only=pick("ehc single", True, True, False))
    own["esp_spi_lsb"], own["esp_sn_lsb"] = spi_bytes, sn_bytes
    own["esp_sn_gen"] = pick("esp_sn_gen", "incremental", "incremental", "time")
    if own["esp_sn_gen"] == "time":
        own["esp_sn_period"] = pick("esp_sn_period", 60, 0.5)
    own["esp_align"] = pick("esp_align", 8, 16, 24, 32, 8)
    ip = lambda which: sa.ip(which, dscp=12, ecn=1, label=0x54321, hops=61)  # noqa: E731
    if protocol == "TCP":
        own["tcp_lsb"] = pick("tcp_lsb", 2, 0, 1, 3, 4)
        own["tcp_sn"], own["tcp_ack"] = 0x1A2B3CFF, 0xFFFFFFF0
        own["tcp_options"] = pick("tcp_options", False, True, False, False)
        own["tcp_urgent"] = pick("tcp_urgent", False, False, True)
        step = (1 << 8 * own["tcp_lsb"]) // 3 if own["tcp_lsb"] else 0
        for index in range(4):
            seq, ack = (0x1A2B3CFF + index * step) % 2**32, (0xFFFFFFF0 + index * step) % 2**32
            options = [("MSS", 1220)] if own["tcp_options"] and index == 0 else []
            urgent = 5 if own["tcp_urgent"] and index == 1 else 0
            sa.add(sa.segment(ip(index % 2), "TCP", index % 2, DATA[index], seq=seq, ack=ack, options=options, urgptr=urgent))
        sa.add(sa.segment(ip(0), "TCP", 0, DATA[0], seq=0x9A2B3CFF, ack=0xFFFFFFF0, urgptr=5))
        sa.add(sa.segment(ip(0), "TCP", 0, DATA[0], seq=0x1A2B3CFF, ack=0xFFFFFFF0, urgptr=5))
        return
    if protocol == "UDP-Lite":
        own["udplite_coverage"] = pick("ehc coverage", "uncompressed", "Length", 8, 65535)
        agreed = own["udplite_coverage"]
        for which in (0, 1):
            coverage = {"uncompressed": 9, "Length": None, 8: 8}.get(agreed)
            sa.add(sa.segment(ip(which), "UDP-Lite", which, DATA[1], coverage=coverage))
        sa.add(sa.segment(ip(0), "UDP-Lite", 0, DATA[1], coverage=0))
        sa.add(sa.segment(ip(0), "UDP-Lite", 0, DATA[1], coverage=12))
        return
    for index, kind in enumerate(("UDP", "UDP") if protocol == "UDP" else ("UDP", "TCP", 58 if v6 else 1)):
        sa.add(sa.segment(ip(index % 2), kind, index % 2, DATA[index + 1]))


def sixlo(spi_bytes, sn_bytes):
    align = pick("ALIGN", 8, 16, 32, 64, 8)
    pad = pick("PAD", "removed", "present") if align == 8 else "present"
    tunnel, v6, outer_v6 = pick("6lo form", *itertools.product((True,), (True, False), (True, False)), (False, True, True), (False, False, False))
    sa = Sa("6lo", tunnel=tunnel, v6=v6, outer_v6=outer_v6, stream=pad == "removed", esn=pick("6lo esn", False, True))
    sa.select(pick("6lo protocol", "UDP", "TCP", "UDP"))
    sa.context |= {"SPI_SIZE": spi_bytes, "SN_SIZE": sn_bytes, "NH": pick("NH", "removed", "present"), "PAD": pad, "ALIGN": align}
    for which in (0, 1):
        sa.add(sa.segment(sa.ip(which, dscp=5, label=0x1111 * which), sa.protocol, which, DATA[which + 1]))


def rows(text):
    """Field tables, a row a line: FID, TV or -, MO, CDA, and DI if it is not Bi."""
    table = []
    for line in text.strip().splitlines():
        fid, target, operator, action, *direction = line.split()
        row = {"FID": fid}
        if direction:
            row["DI"] = direction[0]
        if target != "-":
            row["TV"] = json.loads(target)
        table.append(row | {"MO": operator, "CDA": action})
    return table


PADDED = "ESP.PAD - ignore value-sent\nESP.PAD_LEN - ignore value-sent\n"
BARE = "ESP.PAD - ignore compute\nESP.PAD_LEN - ignore compute\n"


def custom():
    v6_udp = lambda sa: f"""
        IPV6.VER 6 equal not-sent
        IPV6.TC [0,40,184] match-mapping mapping-sent
        IPV6.FL 74565 MSB(8) LSB
        IPV6.LEN - ignore compute-length
        IPV6.NXT 17 equal not-sent
        IPV6.HOP_LMT - ignore value-sent
        IPV6.SRC_PREFIX "2001:db8:a:{sa.number:x}::/64" equal not-sent
        IPV6.SRC_IID "::10" MSB(48) LSB
        IPV6.DST "{sa.address('dst', 0x10)}" equal not-sent
        UDP.SRC_PORT [61616,61617] match-mapping mapping-sent
        UDP.DST_PORT 5683 MSB(10) LSB
        UDP.LEN - ignore compute-length
        UDP.CKSUM - ignore compute-checksum
    """  # noqa: E731
    v6_named = lambda sa: f"""
        IPV6.VER 6 equal not-sent
        IPV6.DSCP - ignore compute-lower
        IPV6.ECN - ignore compute-lower
        IPV6.FL - ignore compute-generated
        IPV6.LEN - ignore value-sent
        IPV6.NXT 17 equal value-sent
        IPV6.HOP_LMT 64 ignore not-sent
        IPV6.DEV_PREFIX "2001:db8:a:{sa.number:x}::/64" MSB(60) LSB Up
        IPV6.APP_PREFIX "2001:db8:a:{sa.number:x}::/64" equal not-sent Dw
        IPV6.DEV_IID - ignore value-sent Up
        IPV6.APP_IID - ignore value-sent Dw
        IPV6.APP_PREFIX "2001:db8:b:{sa.number:x}::/64" equal not-sent Up
        IPV6.DEV_PREFIX "2001:db8:b:{sa.number:x}::/64" equal not-sent Dw
        IPV6.APP_IID "::" MSB(56) LSB Up
        IPV6.DEV_IID "::" MSB(40) LSB Dw
        UDP.DEV_PORT 61616 equal not-sent Up
        UDP.APP_PORT 61616 equal not-sent Dw
        UDP.APP_PORT - ignore value-sent Up
        UDP.DEV_PORT 5683 equal not-sent Dw
        UDP.LEN - ignore compute
        UDP.CKSUM - ignore compute
    """  # noqa: E731
    v4_tcp = lambda sa: f"""
        IPV4.VER 4 equal not-sent
        IPV4.IHL 5 equal not-sent
        IPV4.DSCP 10 equal not-sent
        IPV4.ECN - ignore value-sent
        IPV4.LEN - ignore compute-length
        IPV4.ID - ignore compute-zero
        IPV4.FLAGS 2 equal not-sent
        IPV4.FRAG 0 equal not-sent
        IPV4.TTL - ignore lower
        IPV4.PROTO 6 equal not-sent
        IPV4.CKSUM - ignore compute-checksum
        IPV4.SRC "10.{sa.number}.1.0" MSB(24) LSB
        IPV4.DST ["10.{sa.number}.2.16","10.{sa.number}.2.17","10.{sa.number}.2.18"] match-mapping mapping-sent
        TCP.SRC_PORT 61616 equal not-sent
        TCP.DST_PORT 5683 equal not-sent
        TCP.SEQ - ignore value-sent
        TCP.ACK "0x5e6f0000" MSB(16) LSB
        TCP.DOFF_FLAGS - ignore value-sent
        TCP.WINDOW [28800,0] match-mapping mapping-sent
        TCP.CKSUM - ignore compute-checksum
        TCP.URG 0 equal not-sent
    """  # noqa: E731
    udp_lite_rows = """
        UDPLITE.SRC_PORT - ignore value-sent
        UDPLITE.DST_PORT 5683 equal not-sent
        UDPLITE.COVERAGE - ignore compute-length
        UDPLITE.CKSUM - ignore compute-checksum
    """
    sctp_rows = """
        SCTP.SRC_PORT 61616 equal not-sent
        SCTP.DST_PORT 5683 equal not-sent
        SCTP.VTAG - ignore value-sent
        SCTP.CKSUM - ignore value-sent
    """
    low = lambda spi, sn: f"ESP.SPI - MSB({32 - spi}) LSB\nESP.SEQ - MSB({32 - sn}) LSB"  # noqa: E731
    cases = [
        # protocol, tunnel, v6, inner rows, direction, ctec, eec, alignment
        ("UDP", True, True, v6_udp, "Bi", BARE + "ESP.NXT 41 equal not-sent", low(8, 8), "8 bit"),
        ("UDP", True, True, v6_udp, "Bi", BARE + "ESP.NXT [4,41] match-mapping mapping-sent", low(3, 5), "8 bit"),
        ("UDP", True, True, v6_named, "Up", PADDED + "ESP.NXT 40 MSB(5) LSB", low(0, 16), "16 bit"),
        ("UDP", True, True, v6_named, "Dw", PADDED + "ESP.NXT - ignore compute", low(32, 0), "64 bit"),
        ("TCP", True, False, v4_tcp, "Bi", PADDED + "ESP.NXT - ignore value-sent", "ESP.SPI - ignore not-sent\nESP.SEQ - ignore value-sent", "32 bit"),
        ("UDP-Lite", False, True, lambda sa: udp_lite_rows, "Bi", BARE + "ESP.NXT 136 equal not-sent", "ESP.SPI - ignore value-sent\nESP.SEQ - ignore not-sent", "8 bit"),
        ("SCTP", False, False, lambda sa: sctp_rows, "Bi", BARE + "ESP.NXT - ignore value-sent", "mapping", "8 bit"),
        ("UDP", True, False, None, "Bi", "", "", "32 bit"),
    ]
    for protocol, tunnel, v6, inner, direction, ctec, eec, alignment in cases:
        sa = Sa("custom", tunnel=tunnel, v6=v6, outer_v6=pick("custom outer", True, False) if tunnel else v6, stream=alignment == "8 bit")
        sa.hosts, sa.ports = {"src": (0x10, 0x1F), "dst": (0x10, 0x10)}, {"src": (61616, 61616), "dst": (5683, 5683)}
        if inner is v6_udp:
            sa.context["ts_ip_version"] = "IPv6-only"
            sa.ports = {"src": (61616, 61617), "dst": (5683, 5690)}
        if eec == "mapping":
            eec = f'ESP.SPI ["0x{sa.spi.hex()}","0x00000001"] match-mapping mapping-sent\nESP.SEQ - MSB(25) LSB'
        tables = {"iipc": inner(sa) if inner else "", "ctec": ctec, "eec": eec}
        sa.context |= {"ts_proto": protocol, "direction": direction, "alignment": alignment}
        if not inner:
            sa.context |= {"ts_ip_version": "IPv4-only", "ts_ip_dst": sa.address("dst", 0x10)}
        sa.context["rules"] = {name: rows(text) for name, text in tables.items() if text}
        for which in (0, 1):
            ip = sa.ip(which, dscp=10, ecn=0, label=0x12345 if v6 else which, hops=64 if inner is v6_named else 60 + which)
            sa.add(sa.segment(ip, protocol, which, DATA[which]))
        sa.add(sa.segment(sa.ip(0, dscp=11, ecn=1, label=0x99999, hops=3), protocol, 0, DATA[0]))


def main(folder):
    for spi_bits in range(33):
        ietf(spi_bits, 32 - spi_bits)
    for spi_bits, sn_bits in ((8, 8), (0, 0), (32, 32), (4, 12), (2, 6), (32, 32), (8, 16), (0, 8), (16, 0), (3, 29), (5, 3)):
        ietf(spi_bits, sn_bits)
    for spi_bytes in range(5):
        for sn_bytes in (4 - spi_bytes, (spi_bytes * 2 + 1) % 5, 1, 2):
            ehc(spi_bytes, sn_bytes)
    for index in range(10):
        sixlo(index % 5, (index * 2 + index // 5) % 5)
    custom()

    note = "# Made by make.py. Test keys, published: never protect anything with them.\n"
    line = lambda entry: f"  - {json.dumps(entry)}\n"  # noqa: E731
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keys.yaml").write_text(note + "sas:\n" + "".join(line(sa.keys) for sa in Sa.all))
    rules = "# Made by make.py: every value of every attribute of every dialect.\ncontexts:\n"
    (folder / "rules.yaml").write_text(rules + "".join(line(sa.context) for sa in Sa.all))
    with open(folder / "packets.pcap", "wb") as pcap:
        pcap.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW))
        for number, packet in enumerate(packet for sa in Sa.all for packet in sa.packets):
            pcap.write(struct.pack("<IIII", START + number, 0, len(packet), len(packet)) + packet)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent)
