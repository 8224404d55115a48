"""A second, independent reading of the Diet-ESP wire format: a sender in Python, and what a receiver must make of its packets.

    second_reader.py DIETESP FOLDER [SEED]

Writes captures, key and rule files into FOLDER, runs `dietesp decode`, `convert --to plain` and `compress` on them and compares frame by
frame. Nothing here is taken from the Rust program, and no receiver is implemented: what must come out is the original packet, with the fields that Diet-ESP does
not carry replaced as the documents say. Needs the package `cryptography` only. Bits are strings of 0 and 1.
"""

import collections
import hashlib
import hmac
import ipaddress
import itertools
import json
import math
import os
import random
import struct
import subprocess
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

ICMP, TCP, UDP, FRAGMENT, ESP, AH, ICMPV6, NO_NEXT, SCTP, UDPLITE = 1, 6, 17, 44, 50, 51, 58, 59, 132, 136
WITH_PORTS = (TCP, UDP, SCTP, UDPLITE)
SHORTEST = {UDP: 8, UDPLITE: 8, TCP: 20, SCTP: 12}
NAMES = {UDP: "udp", UDPLITE: "udplite", TCP: "tcp", SCTP: "sctp"}


class NoMatch(Exception):
    """The packet does not match the context: `args[0]` is the field."""


# ---------------------------------------------------------------------------------------------------------------- ciphers


class Suite(collections.namedtuple("Suite", "kind salt_len iv_len icv_len block")):
    pass


SUITES = {
    "ENCR_AES_CCM_8": Suite("ccm", 3, 8, 8, 1),
    "ENCR_AES_CCM_12": Suite("ccm", 3, 8, 12, 1),
    "ENCR_AES_CCM_16": Suite("ccm", 3, 8, 16, 1),
    "ENCR_AES_GCM_8": Suite("gcm", 4, 8, 8, 1),
    "ENCR_AES_GCM_12": Suite("gcm", 4, 8, 12, 1),
    "ENCR_AES_GCM_16": Suite("gcm", 4, 8, 16, 1),
    "ENCR_CHACHA20_POLY1305": Suite("chacha", 4, 8, 16, 1),
    "ENCR_AES_CCM_8_IIV": Suite("ccm", 3, 0, 8, 1),
    "ENCR_AES_GCM_16_IIV": Suite("gcm", 4, 0, 16, 1),
    "ENCR_CHACHA20_POLY1305_IIV": Suite("chacha", 4, 0, 16, 1),
    "ENCR_NULL_AUTH_AES_GMAC": Suite("gmac", 4, 8, 16, 1),
    "ENCR_AES_CBC": Suite("cbc", 0, 16, None, 16),
    "ENCR_AES_CTR": Suite("ctr", 4, 8, None, 1),
    "ENCR_NULL": Suite("null", 0, 0, None, 1),
}
INTEG = {
    "AUTH_HMAC_SHA1_96": (hashlib.sha1, 20, 12),
    "AUTH_HMAC_SHA2_256_128": (hashlib.sha256, 32, 16),
    "AUTH_HMAC_SHA2_384_192": (hashlib.sha384, 48, 24),
    "AUTH_HMAC_SHA2_512_256": (hashlib.sha512, 64, 32),
    "NONE": (None, 0, 0),
}


class Sa:
    """An entry of the key file, and its cipher."""

    def __init__(self, rng, name, spi, src, dst, encr, integ="NONE", esn=False, key_len=16):
        self.name, self.spi, self.src, self.dst, self.encr, self.integ, self.esn = name, spi, src, dst, encr, integ, esn
        self.suite = SUITES[encr]
        key_len = {"chacha": 32, "null": 0}.get(self.suite.kind, key_len)
        self.key, self.salt = rng.randbytes(key_len), rng.randbytes(self.suite.salt_len)
        self.hash, integ_len, self.icv_len = INTEG[integ]
        self.integ_key = rng.randbytes(integ_len)
        self.aead = self.suite.icv_len is not None
        if self.aead:
            self.icv_len = self.suite.icv_len

    def entry(self):
        entry = {"name": self.name, "spi": f"0x{self.spi:08x}", "encr": self.encr, "esn": self.esn}
        entry.update({k: v for k, v in (("src", self.src), ("dst", self.dst)) if v})
        entry.update({k: v.hex() for k, v in (("key", self.key), ("salt", self.salt), ("integ_key", self.integ_key)) if v})
        if not self.aead:
            entry["integ"] = self.integ
        return entry

    def numbers(self, sn):
        """SPI and Sequence Number as AEADs authenticate them."""
        return self.spi.to_bytes(4, "big") + (sn.to_bytes(8, "big") if self.esn else sn.to_bytes(4, "big"))

    def nonce(self, sn, iv):
        return self.salt + (iv or sn.to_bytes(8, "big"))

    def seal(self, sn, clear, iv):
        """Explicit IV, ciphertext, ICV."""
        kind = self.suite.kind
        aad = self.numbers(sn)
        if kind == "ccm":
            return iv + AESCCM(self.key, tag_length=self.icv_len).encrypt(self.nonce(sn, iv), clear, aad)
        if kind == "gcm":
            return iv + AESGCM(self.key).encrypt(self.nonce(sn, iv), clear, aad)[: len(clear) + self.icv_len]
        if kind == "chacha":
            return iv + ChaCha20Poly1305(self.key).encrypt(self.nonce(sn, iv), clear, aad)
        if kind == "gmac":
            return iv + clear + AESGCM(self.key).encrypt(self.nonce(sn, iv), b"", aad + iv + clear)
        body = iv + self.crypt(iv, clear, False)
        return body + self.icv(sn, body)

    def icv(self, sn, body):
        if not self.hash:
            return b""
        low = (sn & 0xFFFFFFFF).to_bytes(4, "big")
        high = (sn >> 32).to_bytes(4, "big") if self.esn else b""
        return hmac.new(self.integ_key, self.spi.to_bytes(4, "big") + low + body + high, self.hash).digest()[: self.icv_len]

    def crypt(self, iv, data, backwards):
        kind = self.suite.kind
        if kind == "null":
            return data
        mode = modes.CBC(iv) if kind == "cbc" else modes.CTR(self.salt + iv + b"\0\0\0\1")
        cipher = Cipher(algorithms.AES(self.key), mode)
        context = cipher.decryptor() if backwards else cipher.encryptor()
        return context.update(data) + context.finalize()

    def open(self, sn, sealed):
        """The clear text; the ICV is checked by sealing it again."""
        iv_len = self.suite.iv_len
        iv, text = sealed[:iv_len], sealed[iv_len : len(sealed) - self.icv_len]
        kind = self.suite.kind
        if kind == "ccm":  # CTR with the counter block of RFC 3610: flags L-1 = 3, nonce, counter from 1
            block = b"\3" + self.nonce(sn, iv) + b"\0\0\0\1"
            clear = Cipher(algorithms.AES(self.key), modes.CTR(block)).encryptor().update(text)
        elif kind == "gcm":
            clear = Cipher(algorithms.AES(self.key), modes.CTR(self.nonce(sn, iv) + b"\0\0\0\2")).encryptor().update(text)
        elif kind == "chacha":
            block = b"\1\0\0\0" + self.nonce(sn, iv)
            clear = Cipher(algorithms.ChaCha20(self.key, block), None).encryptor().update(text)
        elif kind == "gmac":
            clear = text
        else:
            clear = self.crypt(iv, text, True)
        assert self.seal(sn, clear, iv) == sealed, "the ICV is wrong"
        return clear


# ------------------------------------------------------------------------------------------------------------ plain packets


def checksum16(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


CRC32C = []
for index in range(256):
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    CRC32C.append(index)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def address(text):
    return ipaddress.ip_address(text)


def packed(text):
    return address(text).packed


def ip6(src, dst, next_header, body, tc=0, flow_label=0, hop_limit=64, length=None):
    length = len(body) if length is None else length
    return struct.pack("!IHBB", 6 << 28 | tc << 20 | flow_label, length, next_header, hop_limit) + packed(src) + packed(dst) + body


def ip4(src, dst, protocol, body, tos=0, ident=0, flags=0x4000, ttl=64, options=b"", length=None, checksum=None):
    assert len(options) % 4 == 0
    ihl = 5 + len(options) // 4
    length = ihl * 4 + len(body) if length is None else length
    head = struct.pack("!BBHHHBBH", 0x40 | ihl, tos, length, ident, flags, ttl, protocol, 0) + packed(src) + packed(dst) + options
    checksum = checksum16(head) if checksum is None else checksum
    return head[:10] + checksum.to_bytes(2, "big") + head[12:] + body


def pseudo(src, dst, protocol, length):
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, length)
    return src + dst + struct.pack("!II", length, protocol)


def with_checksum(protocol, src, dst, segment):
    """The segment with the right checksum in its place."""
    src, dst = (x if isinstance(x, bytes) else packed(x) for x in (src, dst))
    if protocol == SCTP:
        zeroed = segment[:8] + b"\0\0\0\0" + segment[12:]
        return segment[:8] + crc32c(zeroed).to_bytes(4, "little") + segment[12:]
    at = {UDP: 6, UDPLITE: 6, TCP: 16, ICMPV6: 2, ICMP: 2}[protocol]
    zeroed = segment[:at] + b"\0\0" + segment[at + 2 :]
    covered = zeroed
    if protocol == UDPLITE:
        coverage = int.from_bytes(segment[4:6], "big") or len(segment)
        covered = zeroed[:coverage]
    head = b"" if protocol == ICMP else pseudo(src, dst, protocol, len(segment))
    value = checksum16(head + covered)
    if protocol in (UDP, UDPLITE):
        value = value or 0xFFFF
    return zeroed[:at] + value.to_bytes(2, "big") + zeroed[at + 2 :]


class Ip:
    """The fields of an IP packet, wherever its lengths may be wrong."""

    def __init__(self, raw):
        self.raw, self.version = raw, raw[0] >> 4
        if self.version == 6:
            word, self.length, self.protocol, self.ttl = struct.unpack("!IHBB", raw[:8])
            self.tc, self.label = word >> 20 & 0xFF, word & 0xFFFFF
            self.src, self.dst, self.body, self.options = raw[8:24], raw[24:40], raw[40:], b""
            self.fragment = self.protocol == FRAGMENT
        else:
            head = raw[0] % 16 * 4
            self.tc, self.length, self.label, self.flags, self.ttl, self.protocol = struct.unpack("!BHHHBB", raw[1:10])
            self.src, self.dst, self.options, self.body = raw[12:16], raw[16:20], raw[20:head], raw[head:]
            self.fragment = self.flags & 0x3FFF != 0  # MF or an offset
        self.dscp, self.ecn = self.tc >> 2, self.tc & 3

    def build(self):
        """The packet of these fields, lengths and header checksum computed."""
        src, dst = ipaddress.ip_address(self.src), ipaddress.ip_address(self.dst)
        if self.version == 6:
            return ip6(src, dst, self.protocol, self.body, self.tc, self.label, self.ttl)
        return ip4(src, dst, self.protocol, self.body, self.tc, self.label, self.flags, self.ttl, self.options)

    def upper(self):
        """Protocol and segment behind the extension headers; a segment of None in later fragments."""
        protocol, at, body = self.protocol, 0, self.body
        if self.version == 4:
            return protocol, None if self.flags & 0x1FFF else body
        while protocol in (0, 43, 60, FRAGMENT, AH, 135):
            if len(body) < at + 8:
                return protocol, None
            if protocol == FRAGMENT:
                if int.from_bytes(body[at + 2 : at + 4], "big") & 0xFFF8:
                    return body[at], None
                size = 8
            else:
                size = (body[at + 1] + 2) * 4 if protocol == AH else (body[at + 1] + 1) * 8
            protocol, at = body[at], at + size
        return protocol, body[at:]

    def summary(self):
        """`inner` of the record."""
        protocol, segment = self.upper()
        record = {"version": self.version, "src": str(address(self.src)), "dst": str(address(self.dst)), "protocol": protocol}
        if protocol in WITH_PORTS and segment and len(segment) >= 4:
            record["src_port"], record["dst_port"] = struct.unpack("!HH", segment[:4])
        return record


# ----------------------------------------------------------------------------------------------------------- SCHC in small


def bits(value, width):
    return format(value, f"0{width}b") if width else ""


def pack(residue):
    """Bits to bytes, zero bits behind."""
    residue += "0" * (-len(residue) % 8)
    return bytes(int(residue[i : i + 8], 2) for i in range(0, len(residue), 8))


class Range:
    """MSB(p), LSB with p the common prefix of start and end."""

    def __init__(self, start, end, width):
        self.start, self.end, self.width = start, end, width
        self.sent = (start ^ end).bit_length()

    def residue(self, value, field):
        if not self.start <= value <= self.end:
            raise NoMatch(field)
        return bits(value & (1 << self.sent) - 1, self.sent)


# --------------------------------------------------------------------------------------------------------------- contexts


PROTOCOLS = {"ANY": 0, "UDP": UDP, "TCP": TCP, "UDPLITE": UDPLITE, "UDP-LITE": UDPLITE, "SCTP": SCTP, "ICMPV6": ICMPV6, "ICMP": ICMP}


class Context:
    """Attributes as in the rule file, with the defaults of the documents."""

    def __init__(self, **attributes):
        self.given = attributes
        self.dialect = attributes.get("dialect", "ietf")
        get = attributes.get
        self.mode = get("ipsec_mode")
        self.version = {"IPv4-only": 4, "IPv6-only": 6, None: None}[get("ts_ip_version")]
        self.protocol = get("ts_proto", 0)
        if isinstance(self.protocol, str):
            self.protocol = PROTOCOLS[self.protocol.upper()]
        self.src, self.dst = self.addresses("src"), self.addresses("dst")
        self.src_port, self.dst_port = self.ports("src"), self.ports("dst")
        unit = {"ietf": 1, "custom": 1}.get(self.dialect, 8)
        names = ("SPI_SIZE", "SN_SIZE") if self.dialect == "6lo" else ("esp_spi_lsb", "esp_sn_lsb")
        self.spi_bits, self.sn_bits = (get(name, 32 // unit) * unit for name in names)
        self.esp_sn = get("esp_sn", 1)

    def get(self, name, default=None):
        return self.given.get(name, default)

    def addresses(self, end):
        width = 128 if self.version == 6 else 32
        first, last = 0, (1 << width) - 1
        if f"ts_ip_{end}" in self.given:
            network = ipaddress.ip_network(self.given[f"ts_ip_{end}"])
            first, last = int(network[0]), int(network[-1])
        if f"ts_ip_{end}_start" in self.given:
            first = int(address(self.given[f"ts_ip_{end}_start"]))
        if f"ts_ip_{end}_end" in self.given:
            last = int(address(self.given[f"ts_ip_{end}_end"]))
        return Range(first, last, width)

    def ports(self, end):
        short = str(self.given.get(f"ts_port_{end}", "0-65535"))
        first, _, last = short.partition("-")
        first = self.given.get(f"ts_port_{end}_start", int(first))
        return Range(first, self.given.get(f"ts_port_{end}_end", int(last or first)), 16)


# ----------------------------------------------------------------------------------------------------------- dialect ietf


def check_packet(ip):
    """What no dialect compresses: lengths and checksums that are not the packet's own (2.4)."""
    if ip.version == 6 and ip.length != len(ip.body):
        raise NoMatch("payload_length")
    if ip.version == 4:
        if ip.length != len(ip.raw):
            raise NoMatch("total_length")
        if checksum16(ip.raw[: 20 + len(ip.options)]):
            raise NoMatch("header_checksum")


def check_transport(protocol, src, dst, segment):
    name = NAMES[protocol]
    if len(segment) < SHORTEST[protocol]:
        raise NoMatch(f"{name} header")
    if protocol == UDP and int.from_bytes(segment[4:6], "big") != len(segment):
        raise NoMatch("udp.length")
    if protocol == TCP and segment[12] >> 4 < 5:
        raise NoMatch("tcp.data_offset")
    if protocol == UDP and segment[6:8] == b"\0\0":
        return
    if with_checksum(protocol, src, dst, segment) != segment:
        raise NoMatch(f"{name}.checksum")


def check_protocol(c, ip):
    if c.protocol and ip.protocol != c.protocol or ip.protocol == NO_NEXT:
        raise NoMatch("next_header")
    if c.protocol and ip.fragment:
        raise NoMatch("fragment_offset")


def check_flags(c, ip, agreed):
    """The IPv4 Flags and Fragment Offset that are not sent; where several fields are wrong the first check names one."""
    if c.protocol and ip.fragment or (ip.flags ^ agreed) & 0xE000 == 0 and ip.flags != agreed:
        raise NoMatch("fragment_offset")
    if ip.flags != agreed:
        raise NoMatch("flags")


def check_selectors(c, ip):
    """The traffic selectors of an SA that sends the packet as it is."""
    if c.version and ip.version != c.version:
        raise NoMatch("version")
    check_protocol(c, ip)
    if c.version:
        c.src.residue(int.from_bytes(ip.src, "big"), "src")
        c.dst.residue(int.from_bytes(ip.dst, "big"), "dst")
    if not ip.fragment:
        check_ports(c, ip.protocol, ip.body)


def check_ports(c, protocol, segment):
    if protocol in WITH_PORTS and len(segment) >= 4:
        c.src_port.residue(int.from_bytes(segment[:2], "big"), "src_port")
        c.dst_port.residue(int.from_bytes(segment[2:4], "big"), "dst_port")


def generated(width, src, dst, protocol, segment, fragment):
    """D-10."""
    ports = segment[:4] if protocol in WITH_PORTS and not fragment and len(segment) >= 4 else bytes(4)
    digest = hashlib.sha256(src + dst + bytes([protocol]) + ports).digest()
    return int.from_bytes(digest, "big") >> 256 - width or 1


def lower_label(inner_version, outer):
    """Flow Label or Identification out of an outer header of the same or the other version."""
    return outer.label if inner_version >= outer.version else outer.label & 0xFFFF


def ietf_inner(c, raw, outer):
    """IIPC of a tunnel-mode packet: payload data, the Next Header value of the trailer, the restored packet, what was restored."""
    if c.get("iipc_profile") == "iipc_not_compressed":
        check_selectors(c, Ip(raw))
        return raw, 41 if raw[0] >> 4 == 6 else 4, raw, {}
    ip, restored, came = Ip(raw), Ip(raw), {}
    if ip.version != c.version:
        raise NoMatch("version")
    check_packet(ip)
    residue = ""
    if ip.version == 4:
        residue += bits(raw[0] % 16, 4)
    dscp = c.get("dscp_cda", "not_compressed")
    if dscp == "not_compressed":
        residue += bits(ip.dscp, 6)
    elif dscp == "sa":
        values = c.get("dscp_list")
        if ip.dscp not in values:
            raise NoMatch("dscp")
        residue += bits(values.index(ip.dscp), math.ceil(math.log2(len(values))))
    else:
        restored.dscp, came["dscp"] = outer.dscp, "outer"
    if c.get("ecn_cda", "not_compressed") == "not_compressed":
        residue += bits(ip.ecn, 2)
    else:
        restored.ecn, came["ecn"] = outer.ecn, "outer"
    restored.tc = restored.dscp << 2 | restored.ecn

    width = 20 if ip.version == 6 else 16
    label_name = "flow_label" if ip.version == 6 else "identification"
    label = c.get("flow_label_cda", "not_compressed")
    label_bits = bits(ip.label, width) if label == "not_compressed" else ""
    if label == "zero" and ip.label:
        raise NoMatch(label_name)
    length_bits = bits(ip.length, 16) if c.get("payload_length_cda") == "not_compressed" else ""
    residue += label_bits + length_bits if ip.version == 6 else length_bits + label_bits

    if ip.version == 4:
        flags = c.get("ipv4_flags_frag", "sent")
        if flags == "sent":
            residue += bits(ip.flags, 16)
        else:
            check_flags(c, ip, {"df": 0x4000, "zero": 0}[flags])

    single = c.protocol != 0
    check_protocol(c, ip)
    if ip.protocol == NO_NEXT:
        raise NoMatch("next_header")
    ttl_bits = ""
    if c.get("hop_limit_cda") == "not_compressed":
        ttl_bits = bits(ip.ttl, 8)
    else:
        restored.ttl, came["hop_limit" if ip.version == 6 else "ttl"] = outer.ttl, "outer"
    protocol_bits = "" if single else bits(ip.protocol, 8)
    residue += protocol_bits + ttl_bits if ip.version == 6 else ttl_bits + protocol_bits
    residue += c.src.residue(int.from_bytes(ip.src, "big"), "src") + c.dst.residue(int.from_bytes(ip.dst, "big"), "dst")
    residue += "".join(bits(byte, 8) for byte in ip.options)

    transport, payload, restored.body, transport_came = ietf_transport(c, ip.protocol, ip.src, ip.dst, ip.body, ip.fragment)
    if label == "lower":
        restored.label, came[label_name] = lower_label(ip.version, outer), "outer"
    elif label == "generated":
        zero = c.get("flow_label_generated") == "zero"
        restored.label = 0 if zero else generated(width, ip.src, ip.dst, ip.protocol, restored.body, ip.fragment)
        came[label_name] = "generated"
    return rule_id(c) + pack(residue + transport) + payload, 41 if ip.version == 6 else 4, restored.build(), came | transport_came


def ietf_transport(c, protocol, src, dst, segment, fragment=False):
    """Residue bits, payload, the segment as it comes back, and what was restored."""
    compressed = protocol in WITH_PORTS and not fragment
    if c.protocol == 0 and c.get("any_transport") == "none":
        compressed = False
    tcp_header = c.get("tcp_header", "header_order")
    if protocol == TCP and tcp_header == "none":
        compressed = False
    if not compressed:
        if not fragment:
            check_ports(c, protocol, segment)
        return "", segment, segment, {}
    check_transport(protocol, src, dst, segment)
    came = {}
    src_port, dst_port = struct.unpack("!HH", segment[:4])
    ports = c.src_port.residue(src_port, "src_port") + c.dst_port.residue(dst_port, "dst_port")

    def sent(first, last):
        return "".join(bits(byte, 8) for byte in segment[first:last])

    if protocol == UDP:
        return ports, segment[8:], with_checksum(UDP, src, dst, segment), {"udp.checksum": "computed"}
    if protocol == UDPLITE:
        if c.get("udplite_coverage") == "sent":
            return ports + sent(4, 6), segment[8:], segment, {}
        if int.from_bytes(segment[4:6], "big") not in (0, len(segment)):
            raise NoMatch("udplite.coverage")
        back = with_checksum(UDPLITE, src, dst, segment[:4] + len(segment).to_bytes(2, "big") + segment[6:])
        return ports, segment[8:], back, {"udplite.coverage": "length"}
    if protocol == SCTP:
        crc = sent(8, 12) if c.get("sctp_checksum") == "sent" else ""
        return ports + sent(4, 8) + crc, segment[12:], segment, {}
    if tcp_header == "ports_only":
        return ports, segment[4:16] + segment[18:], segment, {}
    return ports + sent(4, 16) + sent(18, 20), segment[20:], segment, {}


def rule_id(c):
    return bytes([c.get("rule_id_value", 0)]) if c.get("rule_id") == "one_byte" else b""


def padding_to(unit, size):
    """Padding bytes 1, 2, 3, ... so that `size` and they are a multiple of `unit`."""
    return bytes(i % 256 for i in range(1, 1 + -size % unit))


def ietf_clear(c, sa, payload, next_header, padding=None):
    """CTEC: the clear text."""
    unit = max(int(str(c.get("alignment", "64 bit")).split()[0]) // 8, sa.suite.block)
    if c.get("esp_trailer", "Optional") == "Mandatory":
        has_padding = has_next_header = True
    else:
        has_next_header = c.mode == "Transport" and c.protocol == 0
        has_padding = unit != 1
        if not (has_padding and has_next_header):
            payload = rule_id(c) + payload
    counted = has_next_header or (c.get("trailer_counts_elided_next_header") == "yes" and sa.suite.block == 1)
    if padding is None:
        padding = padding_to(unit, len(payload) + 1 + counted) if has_padding else b""
    trailer = padding + bytes([len(padding)]) if has_padding else b""
    return payload + trailer + (bytes([next_header]) if has_next_header else b"")


# ------------------------------------------------------------------------------------------------------------ dialect ehc


class TcpState:
    """Sequence and Acknowledgment Number of the packet before."""

    def __init__(self, c):
        self.seq, self.ack = c.get("tcp_sn", 0), c.get("tcp_ack", 0)


def ehc_inner(c, raw, outer, state):
    ip, restored, came, out = Ip(raw), Ip(raw), {}, b""
    if ip.version != c.version:
        raise NoMatch("version")
    check_packet(ip)
    single = c.protocol != 0
    if ip.version == 6:
        if outer.version == 6:
            restored.tc, restored.label = outer.tc, outer.label
            came.update(dscp="outer", ecn="outer", flow_label="outer")
        else:
            out += raw[:4]
    else:
        if ip.options:
            raise NoMatch("ihl")
        out += raw[1:2] + raw[4:6]
        check_flags(c, ip, 0x4000)
    if single and ip.protocol != c.protocol:
        raise NoMatch("next_header")
    if ip.protocol == NO_NEXT:
        raise NoMatch("next_header")
    if not single:
        out += bytes([ip.protocol])
    restored.ttl, came["hop_limit" if ip.version == 6 else "ttl"] = outer.ttl, "outer"
    for value, selector, field in ((ip.src, c.src, "src"), (ip.dst, c.dst, "dst")):
        selector.residue(int.from_bytes(value, "big"), field)
        if selector.sent:
            out += value
    data, restored.body, transport_came = ehc_transport(c, ip.protocol, ip.src, ip.dst, ip.body, state)
    return out + data, 41 if ip.version == 6 else 4, restored.build(), came | transport_came


def ehc_transport(c, protocol, src, dst, segment, state):
    """Compressed header and payload, the segment as it comes back, and what was restored."""
    if c.protocol not in (UDP, UDPLITE, TCP):
        check_ports(c, protocol, segment)
        return segment, segment, {}
    check_transport(protocol, src, dst, segment)
    out = b""
    for at, selector, field in ((0, c.src_port, "src_port"), (2, c.dst_port, "dst_port")):
        selector.residue(int.from_bytes(segment[at : at + 2], "big"), field)
        if selector.sent:
            out += segment[at : at + 2]
    if protocol == UDP:
        return out + segment[8:], with_checksum(UDP, src, dst, segment), {"udp.checksum": "computed"}
    if protocol == UDPLITE:
        agreed, coverage = c.get("udplite_coverage", "uncompressed"), int.from_bytes(segment[4:6], "big")
        if agreed == "uncompressed":
            return out + segment[4:6] + segment[8:], segment, {}
        expected = len(segment) if agreed == "Length" else min(agreed, len(segment))
        if coverage != expected and not (agreed == "Length" and coverage == 0):
            raise NoMatch("udplite.coverage")
        back = with_checksum(UDPLITE, src, dst, segment[:4] + expected.to_bytes(2, "big") + segment[6:])
        return out + segment[8:], back, {"udplite.coverage": "length"} if agreed == "Length" else {}
    lsb = c.get("tcp_lsb", 4)
    seq, ack = struct.unpack("!II", segment[4:12])
    for value, before, field in ((seq, state.seq, "tcp.sequence"), (ack, state.ack, "tcp.acknowledgment")):
        jump = min((value - before) % 2**32, (before - value) % 2**32)
        if lsb < 4 and 2 * jump >= 2 ** (8 * lsb):
            raise NoMatch(field)
    out += segment[8 - lsb : 8] + segment[12 - lsb : 12]
    if c.get("tcp_options", "True") == "True":
        out += segment[12:13]
    elif segment[12] != 0x50:
        raise NoMatch("tcp.flags")
    out += segment[13:16]
    if c.get("tcp_urgent", "True") == "True":
        out += segment[18:20]
    elif segment[18:20] != b"\0\0":
        raise NoMatch("tcp.urgent_pointer")
    state.seq, state.ack = seq, ack
    return out + segment[20:], segment, {}


def ehc_clear(c, sa, payload, next_header, padding=None):
    unit = math.lcm(c.get("esp_align", 32) // 8, sa.suite.block)
    next_header = b"" if c.mode == "Tunnel" or c.protocol else bytes([next_header])
    if unit == 1:
        return payload + next_header
    if padding is None:
        padding = padding_to(unit, len(payload) + 1 + len(next_header))
    return payload + padding + bytes([len(padding)]) + next_header


def sixlo_clear(c, sa, payload, next_header, padding=None):
    unit = max(c.get("ALIGN", 32) // 8, sa.suite.block)
    next_header = b"" if c.get("NH", "present") == "removed" else bytes([next_header])
    if c.get("PAD", "present") == "removed":
        return payload + next_header
    if padding is None:
        padding = padding_to(unit, len(payload) + 1 + len(next_header))
    return payload + padding + bytes([len(padding)]) + next_header


def esp_clear(sa, payload, next_header, padding=None):
    """RFC 4303 2.4."""
    if padding is None:
        padding = padding_to(max(4, sa.suite.block), len(payload) + 2)
    return payload + padding + bytes([len(padding), next_header])


# ----------------------------------------------------------------------------------------------------------------- session


class Session:
    """An SA, its context, and the sender's state."""

    def __init__(self, rng, sa, c, outer_src, outer_dst):
        self.rng, self.sa, self.c = rng, sa, c
        self.src, self.dst = outer_src, outer_dst
        self.sn = c.esp_sn if c else 1
        self.tcp = TcpState(c) if c else None
        self.dialect = c.dialect if c else "esp"

    def header(self, sn):
        """EEC: the ESP header."""
        if not self.c:
            return self.sa.spi.to_bytes(4, "big") + (sn & 0xFFFFFFFF).to_bytes(4, "big")
        c = self.c
        residue = bits(self.sa.spi & (1 << c.spi_bits) - 1, c.spi_bits) + bits(sn & (1 << c.sn_bits) - 1, c.sn_bits)
        byte = rule_id(c) if c.spi_bits + c.sn_bits < 64 else b""
        return byte + pack(residue)

    def clear(self, payload, next_header, padding=None):
        if not self.c:
            return esp_clear(self.sa, payload, next_header, padding)
        maker = {"ietf": ietf_clear, "custom": ietf_clear, "ehc": ehc_clear, "6lo": sixlo_clear}[self.dialect]
        return maker(self.c, self.sa, payload, next_header, padding)

    def inner(self, raw, outer):
        """Payload data, Next Header, restored packet, `restored` of a tunnel-mode packet."""
        if self.dialect in ("ietf", "custom"):
            return ietf_inner(self.c, raw, outer)
        if self.dialect == "ehc":
            return ehc_inner(self.c, raw, outer, self.tcp)
        return raw, 41 if raw[0] >> 4 == 6 else 4, raw, {}

    def segment(self, protocol, src, dst, segment):
        """Payload data, restored segment, `restored` in transport mode."""
        if self.c and self.c.protocol and self.c.protocol != protocol:
            raise NoMatch("next_header")
        if self.dialect in ("ietf", "custom") and self.c.get("iipc_profile") != "iipc_not_compressed":
            residue, payload, back, came = ietf_transport(self.c, protocol, src, dst, segment)
            return rule_id(self.c) + pack(residue) + payload, back, came
        if self.dialect == "ietf":
            check_ports(self.c, protocol, segment)
        if self.dialect == "ehc":
            return ehc_transport(self.c, protocol, src, dst, segment, self.tcp)
        return segment, segment, {}

    def wire(self, sn, clear, iv=None):
        if iv is None:
            iv = self.rng.randbytes(self.sa.suite.iv_len)
        return self.header(sn) + self.sa.seal(sn, clear, iv)

    def record(self, sn, wire, packet, upper_len, came):
        """The record that a receiver must print for a good packet; `upper_len` is what standard ESP carries of it."""
        unit, sa = max(4, self.sa.suite.block), self.sa
        esp = 8 + sa.suite.iv_len + math.ceil((upper_len + 2) / unit) * unit + sa.icv_len if self.c else len(wire)
        spi_bits, sn_bits = (self.c.spi_bits, self.c.sn_bits) if self.c else (32, 32)
        return {
            "status": "ok",
            "sa": sa.name,
            "esp": {
                "spi": f"0x{sa.spi:08x}",
                "sequence": sn,
                "wire": {"spi_bits": spi_bits, "sn_bits": sn_bits, "bytes": len(wire)},
                "icv": "verified" if sa.icv_len else "none",
            },
            "inner": Ip(packet).summary(),
            "packet": packet.hex(),
            "restored": came,
            "bytes": {"diet": len(wire), "esp": esp, "saved": esp - len(wire)},
            "warnings": [] if sa.icv_len else ["unauthenticated"],
        }


# ------------------------------------------------------------------------------------------------------------- the captures


class Capture:
    """A capture, its key and rule files, and the record expected of each frame. Every session has outer addresses of its own."""

    def __init__(self, name, seed):
        self.name, self.rng = name, random.Random(f"{name} {seed}")
        self.sessions, self.frames, self.expected, self.labels = [], [], [], []
        self.lowest = collections.defaultdict(list)  # session: its plain packets, for compress

    def session(self, label, outer=6, encr="ENCR_AES_CCM_8", integ="NONE", esn=False, key_len=16, spi=None, addresses=None, context=True, **attributes):
        number = len(self.sessions) + 1
        if outer == 6:
            src, dst = f"2001:db8:{number:x}::2", "2001:db8:ffff::1"
        else:
            src, dst = f"198.18.{number >> 8}.{number & 255}", "198.19.0.1"
        src, dst = addresses or (src, dst)
        spi = self.rng.randrange(256, 2**32) if spi is None else spi
        sa = Sa(self.rng, f"{number}-{label}", spi, src, dst, encr, integ, esn, key_len)
        c = None
        if context:
            if attributes.get("ipsec_mode", "Tunnel") == "Tunnel":
                attributes = {"ipsec_mode": "Tunnel", "tunnel_ip": {"src": src, "dst": dst}} | attributes
            c = Context(**{k: v for k, v in attributes.items() if v is not None})
        session = Session(self.rng, sa, c, src, dst)
        session.label, session.outer_version, session.capture = label, outer, self
        self.sessions.append(session)
        return session

    def add(self, frame, expected, label):
        self.frames.append(frame)
        self.expected.append(expected)
        self.labels.append(label)

    def keys(self):
        return {"sas": [session.sa.entry() for session in self.sessions]}

    def rules(self, sessions=None):
        contexts = [{"sa": s.sa.name} | s.c.given for s in sessions or self.sessions if s.c]
        return {"contexts": contexts}


def outer_packet(session, payload, protocol=None, encapsulated=False, ext=b"", ext_first=None, **fields):
    """The outer packet of a session: random DSCP, ECN, label and hop limit unless given."""
    rng = session.rng
    fields.setdefault("ttl", rng.randrange(1, 256))
    if protocol is None:
        protocol = session.c.get("protocol", ESP) if session.c else ESP
    if encapsulated:
        protocol = UDP
        payload = struct.pack("!HHHH", 4500, 4500, 8 + len(payload), 0) + payload
        if session.outer_version == 6:
            payload = with_checksum(UDP, session.src, session.dst, payload)
    tc = fields.get("tc", rng.randrange(256))
    if session.outer_version == 6:
        label = fields.get("label", rng.randrange(2**20))
        first = protocol if ext_first is None else ext_first
        return ip6(session.src, fields.get("dst", session.dst), first, ext + payload, tc, label, fields["ttl"])
    label, flags = fields.get("label", rng.randrange(2**16)), fields.get("flags", 0x4000)
    return ip4(session.src, fields.get("dst", session.dst), protocol, payload, tc, label, flags, fields["ttl"], fields.get("options", b""))


def outer_record(packet):
    ip = Ip(packet)
    return {"version": ip.version, "src": str(address(ip.src)), "dst": str(address(ip.dst)), "hop_limit": ip.ttl}


def tunnel(session, raw, sn=None, iv=None, padding=None, note="", **fields):
    """Send an inner packet; what does not match is kept for compress."""
    kept = session.capture.lowest[id(session)]
    draft = outer_packet(session, b"", **fields)
    outer = Ip(draft)
    try:
        payload, next_header, restored, came = session.inner(raw, outer) if session.c else (raw, 41 if raw[0] >> 4 == 6 else 4, raw, {})
    except NoMatch as reason:
        kept.append((raw, reason.args[0]))
        return None
    kept.append((raw, None))
    clear = session.clear(payload, next_header, padding)
    record = emit(session, clear, sn, iv, restored, len(restored), came, note, outer, fields)
    if padding is not None and padding != padding_to(len(padding), 0) and padding != bytes(range(1, len(padding) + 1)):
        record["warnings"].append("padding")
    return record


def emit(session, clear, sn, iv, restored, upper_len, came, note, outer, fields):
    """Seal a clear text, put it into a frame and expect the packet back."""
    sn = session.sn if sn is None else sn
    session.sn = sn + 1
    wire = session.wire(sn, clear, iv)
    fields = dict(fields)
    encapsulated = fields.pop("encapsulated", False)
    fields.update(tc=outer.tc, label=outer.label, ttl=outer.ttl)
    packet = outer_packet(session, wire, encapsulated=encapsulated, **fields)
    record = session.record(sn, wire, restored, upper_len, came)
    record["outer"] = outer_record(packet)
    session.capture.add(packet, record, f"{session.label} {note} clear {clear.hex()}")
    return record


def transport(session, protocol, segment, sn=None, iv=None, padding=None, note="", ext=b"", ext_first=None, ext_last_at=None, **fields):
    """Send a segment in transport mode. `ext` are extension headers whose last Next Header octet is at `ext_last_at`."""

    def whole(first, body):
        """The packet around `body`, whose protocol is `first`."""
        headers = ext
        if ext:
            headers = ext[:ext_last_at] + bytes([first]) + ext[ext_last_at + 1 :]
        return outer_packet(session, body, protocol=first, ext=headers, ext_first=ext_first, **fields)

    rng = session.rng
    fields.setdefault("ttl", rng.randrange(1, 256))
    fields.setdefault("tc", rng.randrange(256))
    fields.setdefault("label", rng.randrange(2**16))
    encapsulated = fields.pop("encapsulated", False)
    kept = session.capture.lowest[id(session)]
    src, dst = packed(session.src), packed(session.dst)
    original = whole(protocol, segment)
    try:
        payload, back, came = session.segment(protocol, src, dst, segment)
    except NoMatch as reason:
        kept.append((original, reason.args[0]))
        return None
    kept.append((original, None))
    clear = session.clear(payload, protocol, padding)
    sn = session.sn if sn is None else sn
    session.sn = sn + 1
    wire = session.wire(sn, clear, iv)
    esp = session.c.get("protocol", ESP) if session.c else ESP
    if encapsulated:
        wired = struct.pack("!HHHH", 4500, 4500, 8 + len(wire), 0) + wire
        wired = with_checksum(UDP, src, dst, wired) if session.outer_version == 6 else wired
        packet = whole(UDP, wired)
    else:
        packet = whole(esp, wire)
    record = session.record(sn, wire, whole(protocol, back), len(segment), came)
    record["outer"] = outer_record(packet)
    session.capture.add(packet, record, f"{session.label} {note} clear {clear.hex()}")
    return record


def damaged(session, clear, status, sn=None, note="", warnings=None, packet=None, **fields):
    """A clear text made by hand, under a valid ICV."""
    sn = session.sn if sn is None else sn
    session.sn = sn + 1
    wire = session.wire(sn, clear)
    frame = outer_packet(session, wire, **fields)
    expected = {"status": status, "sa": session.sa.name}
    if status in ("ok", "malformed"):
        expected["esp"] = {"spi": f"0x{session.sa.spi:08x}", "sequence": sn}
    if warnings is not None:
        expected["warnings"] = warnings
    if packet is not None:
        expected["packet"] = packet.hex()
    session.capture.add(frame, expected, f"{session.label} {note} clear {clear.hex()}")
    return frame


# --------------------------------------------------------------------------------------------------------- inner packets


V6 = {"src": "2001:db8:a::10", "dst": "2001:db8:b::1"}
V4 = {"src": "10.10.0.5", "dst": "10.20.0.1"}


def segment(rng, protocol, src, dst, sport=5683, dport=5683, data=None, **over):
    """A transport segment of random data with a right checksum."""
    data = rng.randbytes(rng.randrange(0, 40)) if data is None else data
    ports = struct.pack("!HH", sport, dport)
    if protocol == UDP:
        made = with_checksum(UDP, src, dst, ports + struct.pack("!HH", 8 + len(data), 0) + data)
        return made[:6] + b"\0\0" + made[8:] if over.get("zero") else made
    if protocol == UDPLITE:
        return with_checksum(UDPLITE, src, dst, ports + struct.pack("!HH", over.get("coverage", 8 + len(data)), 0) + data)
    if protocol == SCTP:
        return with_checksum(SCTP, src, dst, ports + rng.randbytes(4) + b"\0\0\0\0" + data)
    if protocol == TCP:
        options = over.get("options", b"")
        head = struct.pack("!IIBBHHH", over.get("seq", rng.getrandbits(32)), over.get("ack", rng.getrandbits(32)),
                           (5 + len(options) // 4) << 4 | over.get("reserved", 0), over.get("flags", 0x18), rng.randrange(65536), 0, over.get("urgent", 0))
        return with_checksum(TCP, src, dst, ports + head + options + data)
    if protocol in (ICMP, ICMPV6):
        kind = 128 if protocol == ICMPV6 else 8
        return with_checksum(protocol, src, dst, struct.pack("!BBHHH", kind, 0, 0, sport, dport) + data)
    return data


def packet(rng, version, protocol, src=None, dst=None, tc=None, label=None, ttl=None, **over):
    """An inner packet around such a segment."""
    ends = V6 if version == 6 else V4
    src, dst = src or ends["src"], dst or ends["dst"]
    tc = rng.randrange(256) if tc is None else tc
    ttl = rng.randrange(1, 256) if ttl is None else ttl
    body = segment(rng, protocol, src, dst, **{k: v for k, v in over.items() if k not in ("flags_frag", "ip_options")})
    if version == 6:
        return ip6(src, dst, protocol, body, tc, rng.randrange(2**20) if label is None else label, ttl)
    ident = rng.randrange(2**16) if label is None else label
    return ip4(src, dst, protocol, body, tc, ident, over.get("flags_frag", 0x4000), ttl, over.get("ip_options", b""))


def selectors(version, name="UDP", /, **more):
    ends = V6 if version == 6 else V4
    attributes = {"ts_ip_version": f"IPv{version}-only", "ts_ip_src": ends["src"], "ts_ip_dst": ends["dst"], "ts_proto": name,
                  "ts_port_src": 5683, "ts_port_dst": 5683, "alignment": "8 bit", "esp_spi_lsb": 8, "esp_sn_lsb": 8}
    return attributes | more


# ---------------------------------------------------------------------------------------------------------- the areas


def ietf_fields(x):
    """2.1, 2.4: DSCP, ECN, Flow Label and Identification, each way, in every pair of IP versions."""
    rng = x.rng
    for outer, inner in itertools.product((4, 6), (4, 6)):
        for dscp, ecn, label in itertools.product(("not_compressed", "lower", "sa"), ("not_compressed", "lower"), ("not_compressed", "lower", "generated", "zero")):
            values = rng.sample(range(64), rng.choice((1, 2, 3, 4, 5, 8, 9)))
            more = {"dscp_list": values} if dscp == "sa" else {}
            s = x.session(f"{inner}in{outer} {dscp} {ecn} {label}", outer=outer, **selectors(inner, dscp_cda=dscp, ecn_cda=ecn, flow_label_cda=label, **more))
            for i in range(3):
                tc = rng.choice(values) << 2 | rng.randrange(4) if dscp == "sa" else None
                tunnel(s, packet(rng, inner, UDP, tc=tc, label=0 if label == "zero" else None))
            if dscp == "sa":
                tunnel(s, packet(rng, inner, UDP, tc=next(v for v in range(64) if v not in values) << 2, label=0))
            if label == "zero":
                tunnel(s, packet(rng, inner, UDP, tc=values[0] << 2, label=5))


def ietf_ranges(x):
    """2.4: addresses and ports with and without a common prefix."""
    rng = x.rng
    def shape(width):
        kind = rng.randrange(5)
        if kind == 0:
            return 0, (1 << width) - 1
        if kind == 1:
            v = rng.getrandbits(width)
            return v, v
        if kind == 2:
            low = rng.randrange(1, width)
            v = rng.getrandbits(width) >> low << low
            return v, v + (1 << low) - 1
        if kind == 3:
            return (1 << width - 1) - 1 - rng.randrange(4), (1 << width - 1) + rng.randrange(4)
        return tuple(sorted(rng.getrandbits(width) for _ in range(2)))
    for i in range(60):
        inner, outer = rng.choice((4, 6)), rng.choice((4, 6))
        width = 128 if inner == 6 else 32
        (s0, s1), (d0, d1), (p0, p1), (q0, q1) = shape(width), shape(width), shape(16), shape(16)
        text = lambda v: str(ipaddress.IPv6Address(v) if inner == 6 else ipaddress.IPv4Address(v))
        name = rng.choice(("UDP", "TCP", "UDPLITE", "SCTP", "ANY"))
        attributes = selectors(inner, name, alignment=rng.choice(("8 bit", "16 bit", "32 bit", "64 bit")), dscp_cda=rng.choice(("lower", "not_compressed")))
        for key in ("ts_ip_src", "ts_ip_dst", "ts_port_src", "ts_port_dst"):
            del attributes[key]
        attributes.update(ts_ip_src_start=text(s0), ts_ip_src_end=text(s1), ts_ip_dst_start=text(d0), ts_ip_dst_end=text(d1),
                          ts_port_src_start=p0, ts_port_src_end=p1, ts_port_dst_start=q0, ts_port_dst_end=q1)
        s = x.session(f"ranges {name}", outer=outer, **attributes)
        protocol = PROTOCOLS[name] or rng.choice(WITH_PORTS)
        def send(a, b, p, q):
            tunnel(s, packet(rng, inner, protocol, src=text(a), dst=text(b), sport=p, dport=q))
        send(s0, d1, p0, q1)
        send(s1, d0, p1, q0)
        send(rng.randint(s0, s1), rng.randint(d0, d1), rng.randint(p0, p1), rng.randint(q0, q1))
        if s0:
            send(s0 - 1, d0, p0, q0)
        if d1 + 1 < 1 << width:
            send(s0, d1 + 1, p0, q0)
        if p0:
            send(s0, d0, p0 - 1, q0)
        if q1 < 65535:
            send(s0, d0, p0, q1 + 1)


def every_transport(x):
    """2.4, 2.5: each transport under each reading of it, in tunnel mode, under single and ANY."""
    rng = x.rng
    readings = [
        {}, {"any_transport": "none"}, {"tcp_header": "ports_only"}, {"tcp_header": "none"}, {"sctp_checksum": "sent"}, {"udplite_coverage": "sent"},
        {"hop_limit_cda": "not_compressed"}, {"payload_length_cda": "not_compressed"}, {"hop_limit_cda": "not_compressed", "payload_length_cda": "not_compressed"},
        {"flow_label_cda": "generated"}, {"flow_label_cda": "generated", "flow_label_generated": "zero"}, {"flow_label_cda": "generated", "any_transport": "none", "tcp_header": "none"},
        {"rule_id": "one_byte"}, {"rule_id": "one_byte", "rule_id_value": 0xA5, "esp_trailer": "Mandatory"}, {"ts_port_src": "5000-6000"}, {"iipc_profile": "iipc_not_compressed"},
        {"revision": "ietf-10"}, {"alignment": "32 bit", "trailer_counts_elided_next_header": "yes"},
    ]
    for inner, reading in itertools.product((4, 6), readings):
        for name in ("ANY", "TCP", "UDPLITE", "SCTP", "ICMPV6", "UDP", "ICMP"):
            if inner == 4 and name == "ICMPV6" or inner == 6 and name == "ICMP":
                continue
            s = x.session(f"transports {name} {reading}", outer=rng.choice((4, 6)), **selectors(inner, name, **reading))
            protocols = (UDP, TCP, UDPLITE, SCTP, ICMPV6 if inner == 6 else ICMP, 47) if name == "ANY" else (PROTOCOLS[name], 99)
            for protocol in protocols:
                tunnel(s, packet(rng, inner, protocol, data=rng.randbytes(9)))
            if name in ("ANY", "TCP"):
                tunnel(s, packet(rng, inner, TCP, options=bytes.fromhex("0101080a0000000100000002"), urgent=7, flags=0x38))
                tunnel(s, packet(rng, inner, TCP, reserved=5, data=b""))
                tunnel(s, packet(rng, inner, TCP, sport=7000))
                short = bytearray(packet(rng, inner, TCP, data=b"xyz"))
                at = 40 if inner == 6 else 20
                short[at + 12] = 0x40
                tunnel(s, bytes(short[:at]) + with_checksum(TCP, s_(short, inner, "src"), s_(short, inner, "dst"), bytes(short[at:])))
            if name in ("ANY", "UDP"):
                tunnel(s, packet(rng, inner, UDP, zero=True, data=b"zero"))
                tunnel(s, packet(rng, inner, UDP, data=b""))
                bad = bytearray(packet(rng, inner, UDP, data=b"bad"))
                bad[-1] ^= 1
                tunnel(s, bytes(bad))
            if name in ("ANY", "UDPLITE"):
                tunnel(s, packet(rng, inner, UDPLITE, coverage=0, data=b"coverage zero"))
                tunnel(s, packet(rng, inner, UDPLITE, coverage=8, data=b"coverage eight"))
                tunnel(s, packet(rng, inner, UDPLITE, coverage=12, data=b"coverage twelve"))
            if inner == 6 and name in ("ANY", "UDP", "TCP"):
                first = segment(rng, UDP, V6["src"], V6["dst"], data=b"whole")
                for head, number in ((bytes([UDP, 0]) + bytes(6), 0), (bytes([UDP, 0]) + struct.pack("!HI", 1, 7), FRAGMENT), (bytes([UDP, 0]) + struct.pack("!HI", 64, 7), FRAGMENT)):
                    tunnel(s, ip6(V6["src"], V6["dst"], number, head + first, 3, 0x12345, 9))
            if inner == 4:
                for flags in (0x2000, 0x0010, 0x2010):
                    tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, flags_frag=flags))
                tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, flags_frag=0x0000))
                tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, ip_options=bytes.fromhex("94040000")))
                tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, ip_options=bytes(36) + b"\1\1\1\1"))


def s_(raw, version, end):
    at, size = {(6, "src"): (8, 16), (6, "dst"): (24, 16), (4, "src"): (12, 4), (4, "dst"): (16, 4)}[version, end]
    return bytes(raw[at : at + size])


def ipv4_flags(x):
    rng = x.rng
    for flags, name in itertools.product(("sent", "df", "zero"), ("UDP", "ANY")):
        s = x.session(f"flags {flags} {name}", outer=rng.choice((4, 6)), **selectors(4, name, ipv4_flags_frag=flags))
        for value in (0x4000, 0, 0x2000, 0x8000, 0x6000, 0x0001, 0x4001):
            tunnel(s, packet(rng, 4, UDP, flags_frag=value))


def trailers(x):
    """2.3: each trailer, alignment and cipher block, in both modes."""
    rng = x.rng
    for mode, trailer, bits_, counts, cbc, name, rule in itertools.product(
        ("Tunnel", "Transport"), ("Mandatory", "Optional"), (8, 16, 32, 64), ("no", "yes"), (False, True), ("UDP", "ANY"), ("elided", "one_byte")
    ):
        cipher = {"encr": "ENCR_AES_CBC", "integ": "AUTH_HMAC_SHA2_256_128"} if cbc else {}
        attributes = selectors(6, name, ipsec_mode=mode, esp_trailer=trailer, alignment=f"{bits_} bit", trailer_counts_elided_next_header=counts, rule_id=rule)
        if rule == "one_byte":
            attributes["rule_id_value"] = rng.randrange(256)
        if mode == "Transport":
            for key in ("ts_ip_src", "ts_ip_dst", "ts_ip_version"):
                del attributes[key]
        s = x.session(f"trailer {mode} {trailer} {bits_} counts={counts} cbc={cbc} {name} {rule}", **cipher, **attributes)
        for size in rng.sample(range(17), 3):
            if mode == "Tunnel":
                tunnel(s, packet(rng, 6, UDP, data=rng.randbytes(size)))
            else:
                transport(s, UDP, segment(rng, UDP, s.src, s.dst, data=rng.randbytes(size)))


def transport_mode(x):
    """Transport mode: each transport, outer IPv4 options and IPv6 extension headers, UDP 4500, another protocol number."""
    rng = x.rng
    hop_by_hop = bytes.fromhex("0000050200000100")
    for outer, name, more in itertools.product((4, 6), ("ANY", "UDP", "TCP", "UDPLITE", "SCTP", "ICMPV6"), (
        {}, {"esp_trailer": "Mandatory", "alignment": "32 bit"}, {"iipc_profile": "iipc_not_compressed"}, {"rule_id": "one_byte"}, {"any_transport": "none", "tcp_header": "ports_only"}, {"protocol": 253},
    )):
        attributes = selectors(6, name, ipsec_mode="Transport", **more)
        for key in ("ts_ip_src", "ts_ip_dst", "ts_ip_version"):
            del attributes[key]
        s = x.session(f"transport {name} {more}", outer=outer, **attributes)
        for protocol in (UDP, TCP, UDPLITE, SCTP, ICMPV6, 47):
            body = segment(rng, protocol, s.src, s.dst, data=rng.randbytes(7))
            transport(s, protocol, body)
            if name == "ANY" or PROTOCOLS[name] == protocol:
                if outer == 4:
                    transport(s, protocol, body, options=bytes.fromhex("94040000"))
                else:
                    transport(s, protocol, body, ext=hop_by_hop, ext_first=0, ext_last_at=0)
                    transport(s, protocol, body, ext=bytes([60, 0]) + hop_by_hop[2:] + hop_by_hop, ext_first=0, ext_last_at=8)
                if "protocol" not in more:
                    transport(s, protocol, body, encapsulated=True)
        if name in ("ANY", "UDP"):
            transport(s, UDP, segment(rng, UDP, s.src, s.dst, zero=True))
            transport(s, UDP, segment(rng, UDP, s.src, s.dst, sport=1))


def ciphers(x):
    """Every cipher, with and without ESN, by the wire widths of SPI and SN."""
    rng = x.rng
    rows = [(encr, "NONE") for encr, suite in SUITES.items() if suite.icv_len is not None]
    rows += [(encr, integ) for encr in ("ENCR_AES_CBC", "ENCR_AES_CTR", "ENCR_NULL") for integ in INTEG]
    for (encr, integ), esn, key_len in itertools.product(rows, (False, True), (16, 24, 32)):
        if SUITES[encr].kind in ("chacha", "null") and key_len != 16:
            continue
        spi_bits, sn_bits = rng.choice(((4, 4), (5, 3), (12, 4), (0, 0), (0, 8), (32, 32), (20, 12), (8, 8), (1, 7), (3, 29), (31, 1)))
        if integ == "NONE" and SUITES[encr].icv_len is None:
            spi_bits, sn_bits = 8, 8
        start = rng.choice((1, 250, 2**32 - 3 if esn else 65530, 2**40 + 5 if esn else 2**31))
        s = x.session(f"cipher {encr} {integ} {key_len} esn={esn} {spi_bits}+{sn_bits}", outer=rng.choice((4, 6)), encr=encr, integ=integ, esn=esn, key_len=key_len,
                      **selectors(6, alignment=rng.choice(("8 bit", "32 bit")), esp_spi_lsb=spi_bits, esp_sn_lsb=sn_bits, esp_sn=start))
        for i in range(3):
            tunnel(s, packet(rng, 6, UDP))
        if integ != "NONE" or SUITES[encr].icv_len is not None:
            if sn_bits > 1:
                tunnel(s, packet(rng, 6, UDP), sn=s.sn + 2)


def standard_esp(x):
    """An SA without context."""
    rng = x.rng
    for encr, integ, outer in itertools.product(("ENCR_AES_GCM_16", "ENCR_AES_CBC", "ENCR_AES_CCM_8_IIV"), ("AUTH_HMAC_SHA2_256_128",), (4, 6)):
        integ = integ if encr == "ENCR_AES_CBC" else "NONE"
        s = x.session(f"esp {encr}", outer=outer, encr=encr, integ=integ, context=False)
        tunnel(s, packet(rng, 6, UDP))
        tunnel(s, packet(rng, 4, TCP))
        transport(s, UDP, segment(rng, UDP, s.src, s.dst))
        transport(s, ICMPV6, segment(rng, ICMPV6, s.src, s.dst))
        raw = packet(rng, 6, UDP)
        tail = raw + rng.randbytes(23)
        damaged(s, esp_clear(s.sa, tail, 41), "ok", packet=raw, note="tfc")
        damaged(s, esp_clear(s.sa, rng.randbytes(20), 59), "ok", warnings=["dummy"])
        tunnel(s, packet(rng, 6, UDP, data=b"1234"), padding=bytes(10), note="padding")


def ehc(x):
    """Section 3: every attribute."""
    rng = x.rng
    def base(version, name, **more):
        attributes = selectors(version, name, dialect="ehc", esp_spi_lsb=rng.randrange(5), esp_sn_lsb=rng.randrange(1, 5)) | more
        del attributes["alignment"]
        return {k: v for k, v in attributes.items() if v is not None}
    for outer, inner, name, align in itertools.product((4, 6), (4, 6), ("UDP", "TCP", "UDPLITE", "SCTP", "ANY"), (8, 16, 24, 32)):
        cipher = {"encr": "ENCR_AES_CBC", "integ": "AUTH_HMAC_SHA1_96"} if rng.randrange(3) == 0 else {}
        prefix = {"ts_ip_src": "2001:db8:a::/64" if inner == 6 else "10.10.0.0/16"} if rng.randrange(2) else {}
        ports = rng.choice(({}, {"ts_port_src": "5000-6000"}, {"ts_port_src": None, "ts_port_dst": None}))
        s = x.session(f"ehc {inner}in{outer} {name} {align}", outer=outer, **cipher, **base(inner, name, esp_align=align, **prefix, **ports))
        protocols = (UDP, TCP, UDPLITE, SCTP) if name == "ANY" else (PROTOCOLS[name], 99)
        for protocol in protocols:
            tunnel(s, packet(rng, inner, protocol, urgent=3, options=bytes.fromhex("01010101")))
            tunnel(s, packet(rng, inner, protocol))
        tunnel(s, packet(rng, inner, UDP, zero=True))
        tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, dst="2001:db8:b::2" if inner == 6 else "10.20.0.2"))
        tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, sport=1))
        if inner == 4:
            tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, flags_frag=0))
            tunnel(s, packet(rng, inner, PROTOCOLS[name] or UDP, ip_options=bytes(4)))
    for lsb, options, urgent, inner in itertools.product(range(5), ("True", "False"), ("True", "False"), (4, 6)):
        start = rng.choice((0, 2**32 - 20, 2**31))
        s = x.session(f"ehc tcp {lsb} {options} {urgent}", **base(inner, "TCP", esp_align=8, tcp_lsb=lsb, tcp_options=options, tcp_urgent=urgent, tcp_sn=start, tcp_ack=12345))
        seq, ack = start, 12345
        half = max(1, 2 ** (8 * lsb - 1)) if lsb else 1
        for step in (0, half - 1, half // 2, -(half // 3), half - 1, half, -(half - 1), -half):
            kept = s.tcp.seq, s.tcp.ack
            tunnel(s, packet(rng, inner, TCP, seq=(s.tcp.seq + step) % 2**32, ack=(s.tcp.ack + step) % 2**32, data=b"abc"))
        tunnel(s, packet(rng, inner, TCP, seq=s.tcp.seq, ack=s.tcp.ack, urgent=9))
        tunnel(s, packet(rng, inner, TCP, seq=s.tcp.seq, ack=s.tcp.ack, options=b"\1\1\1\1"))
        tunnel(s, packet(rng, inner, TCP, seq=s.tcp.seq, ack=s.tcp.ack, reserved=2))
    for agreed in ("uncompressed", "Length", 8, 12, 20, 65535):
        s = x.session(f"ehc coverage {agreed}", **base(6, "UDPLITE", esp_align=8, udplite_coverage=agreed))
        for size, coverage in itertools.product((0, 3, 12, 30), (0, 8, 11, 12, 20, "all")):
            coverage = 8 + size if coverage == "all" else coverage
            if coverage <= 8 + size:
                tunnel(s, packet(rng, 6, UDPLITE, data=rng.randbytes(size), coverage=coverage))
    for outer, name, align in itertools.product((4, 6), ("UDP", "TCP", "UDPLITE", "ANY", "ICMPV6"), (8, 32)):
        attributes = base(6, name, ipsec_mode="Transport", esp_align=align)
        for key in ("ts_ip_src", "ts_ip_dst", "ts_ip_version"):
            del attributes[key]
        s = x.session(f"ehc transport {name}", outer=outer, **attributes)
        for protocol in (UDP, TCP, UDPLITE, ICMPV6):
            transport(s, protocol, segment(rng, protocol, s.src, s.dst))


def sixlo(x):
    """Section 4."""
    rng = x.rng
    for nh, pad, align, cbc, mode in itertools.product(("present", "removed"), ("present", "removed"), (8, 16, 32, 64), (False, True), ("Tunnel", "Transport")):
        if pad == "removed" and (align != 8 or cbc):
            continue
        cipher = {"encr": "ENCR_AES_CBC", "integ": "AUTH_HMAC_SHA2_512_256"} if cbc else {}
        attributes = {"dialect": "6lo", "ipsec_mode": mode, "NH": nh, "PAD": pad, "ALIGN": align, "SPI_SIZE": rng.randrange(5), "SN_SIZE": rng.randrange(5)}
        attributes |= {"ts_ip_version": "IPv6-only"} if mode == "Tunnel" else {"ts_proto": "UDP"}
        s = x.session(f"6lo {mode} NH {nh} PAD {pad} {align} cbc={cbc}", outer=rng.choice((4, 6)), **cipher, **attributes)
        for protocol in (UDP, UDP, UDP):
            if mode == "Tunnel":
                tunnel(s, packet(rng, 6, protocol))
            else:
                transport(s, protocol, segment(rng, protocol, s.src, s.dst))


def receivers(x):
    """2.3, 2.4: what a receiver makes of clear texts that no good sender makes, each under a valid ICV."""
    rng = x.rng
    def nine():
        return rng.randbytes(9)
    s = x.session("pad bits", **selectors(6, flow_label_cda="zero", dscp_cda="lower", ecn_cda="lower", ts_port_src="5680-5687"))
    good = packet(rng, 6, UDP, tc=0, label=0, ttl=7, sport=5683, data=b"data")
    damaged(s, bytes([0b01100000]) + b"data", "ok", warnings=[], packet=good, tc=0, ttl=7)
    damaged(s, bytes([0b01100001]) + b"data", "ok", warnings=["nonzero-pad-bits"], packet=good, tc=0, ttl=7)
    damaged(s, b"", "malformed", note="no residue")
    s = x.session("outside", **selectors(6, flow_label_cda="zero", dscp_cda="lower", ecn_cda="lower", ts_port_src="5680-5685"))
    damaged(s, bytes([0b11100000]) + b"data", "ok", warnings=["outside-selector"], packet=packet(rng, 6, UDP, tc=0, label=0, ttl=7, sport=5687, data=b"data"), tc=0, ttl=7)
    damaged(s, bytes([0b11100100]) + b"data", "ok", warnings=["outside-selector", "nonzero-pad-bits"], tc=0, ttl=7)
    s = x.session("outside address", **selectors(6, flow_label_cda="zero", dscp_cda="lower", ecn_cda="lower", ts_ip_dst_start="2001:db8:b::", ts_ip_dst_end="2001:db8:b::f0") | {"ts_ip_dst": None})
    damaged(s, b"\xf1data", "ok", warnings=["outside-selector"], packet=packet(rng, 6, UDP, dst="2001:db8:b::f1", tc=0, label=0, ttl=7, data=b"data"), tc=0, ttl=7)
    damaged(s, b"\xf0data", "ok", warnings=[], packet=packet(rng, 6, UDP, dst="2001:db8:b::f0", tc=0, label=0, ttl=7, data=b"data"), tc=0, ttl=7)
    s = x.session("mapping", **selectors(6, flow_label_cda="zero", dscp_cda="sa", dscp_list=[1, 2, 3, 4, 5], ecn_cda="lower"))
    for index in range(8):
        damaged(s, bytes([index << 5]) + nine(), "ok" if index < 5 else "malformed", note=f"index {index}")
    s = x.session("short residue", **selectors(4, "ANY", **{"dscp_cda": "lower"}))
    whole = packet(rng, 4, TCP, data=b"data", ttl=3)
    ip = Ip(whole)
    payload = s.inner(whole, ip)[0]
    for size in range(len(payload) - 3):
        residue = len(payload) - 4
        damaged(s, payload[:size], "malformed" if size < residue else "ok", note=f"cut to {size} of {len(payload)}")
    for ihl in range(16):
        residue = bits(ihl, 4) + bits(0, 2) + bits(0, 16) + bits(0x4000, 16) + bits(47, 8)
        damaged(s, pack(residue) + bytes(41), "ok" if ihl >= 5 else "malformed", note=f"ihl {ihl}")
    for trailer, cipher in itertools.product(("Mandatory", "Optional"), ("ENCR_AES_CCM_8", "ENCR_AES_GCM_16", "ENCR_AES_CBC")):
        more = {"integ": "AUTH_HMAC_SHA1_96"} if cipher == "ENCR_AES_CBC" else {}
        s = x.session(f"trailers {trailer} {cipher}", encr=cipher, **more, **selectors(6, "UDP", dscp_cda="lower", ecn_cda="lower", flow_label_cda="zero", esp_trailer=trailer, alignment="32 bit"))
        last = b"\x29" if trailer == "Mandatory" else b""
        good = packet(rng, 6, UDP, tc=0, label=0, ttl=7, data=b"d" * 9)
        size = 16 if cipher == "ENCR_AES_CBC" else 12
        pad = size - 9 - 1 - len(last)
        ahead = {"tc": 0, "ttl": 7}
        damaged(s, b"d" * 9 + bytes(range(1, pad + 1)) + bytes([pad]) + last, "ok", warnings=[], packet=good, **ahead)
        damaged(s, b"d" * 9 + bytes(range(0, pad)) + bytes([pad]) + last, "ok", warnings=["padding"], packet=good, **ahead)
        room = size - 1 - len(last)
        damaged(s, bytes(range(1, room + 1)) + bytes([room]) + last, "ok", warnings=[], packet=packet(rng, 6, UDP, tc=0, label=0, ttl=7, data=b""), note="only padding", **ahead)
        for pad in (room + 1, 200, 255):
            damaged(s, bytes(room) + bytes([pad]) + last, "malformed", note=f"pad length {pad}")
        if last:
            damaged(s, bytes(room) + b"\0\x3b", "ok", warnings=["dummy"])
    s = x.session("empty", **selectors(6, "UDP", esp_trailer="Mandatory"))
    damaged(s, b"", "malformed")
    damaged(s, b"\x29", "malformed")
    s = x.session("uncompressed", **selectors(6, "UDP", iipc_profile="iipc_not_compressed"))
    raw = packet(rng, 6, UDP)
    damaged(s, raw, "ok", packet=raw, warnings=[])
    for bad in (b"", b"\0" * 60, raw[:30], b"\x60" + bytes(7), b"\x45" + bytes(10), b"\x41" + bytes(40)):
        damaged(s, bad, "malformed", note="no packet")
    s = x.session("dummies", **selectors(6, "ANY", ipsec_mode="Transport") | dict.fromkeys(("ts_ip_version", "ts_ip_src", "ts_ip_dst")))
    damaged(s, b"garbage\x3b", "ok", warnings=["dummy"])
    damaged(s, b"\x3b", "ok", warnings=["dummy"])
    s = x.session("coverage", **selectors(6, "UDPLITE", dscp_cda="lower", ecn_cda="lower", flow_label_cda="zero", udplite_coverage="sent"))
    for coverage in (0, 1, 7, 8, 12, 13, 65535):  # of 12 bytes
        status = "ok" if coverage in (0, 8, 12) else "malformed"
        damaged(s, coverage.to_bytes(2, "big") + b"data", status, note=f"coverage {coverage}", tc=0, ttl=7)
    s = x.session("rule ids", **selectors(6, "UDP", dscp_cda="lower", ecn_cda="lower", flow_label_cda="zero", rule_id="one_byte", rule_id_value=7))
    damaged(s, b"\7\7data", "ok", warnings=[], packet=packet(rng, 6, UDP, tc=0, label=0, ttl=7, data=b"data"), tc=0, ttl=7)
    damaged(s, b"\7\6data", "unsupported")
    damaged(s, b"\6\7data", "unsupported")
    damaged(s, b"\7", "malformed")
    damaged(s, b"", "malformed")
    for name, more in (("ehc", {"dialect": "ehc", "esp_spi_lsb": 1, "esp_sn_lsb": 1, "esp_align": 8}), ("6lo", {"dialect": "6lo", "SPI_SIZE": 1, "SN_SIZE": 1})):
        attributes = selectors(6, "UDP") | more
        for key in ("alignment",) + (("esp_spi_lsb", "esp_sn_lsb", "ts_ip_src", "ts_ip_dst", "ts_port_src", "ts_port_dst", "ts_proto") if name == "6lo" else ()):
            del attributes[key]
        s = x.session(name, **attributes)
        raw = packet(rng, 6, UDP, data=b"data")
        if name == "6lo":
            damaged(s, raw + b"\0\0\x29", "ok", note="not aligned, no matter")
            damaged(s, raw + b"\1\1\x29", "ok", warnings=[])
            damaged(s, raw + b"\0\1\x29", "ok", warnings=["padding"])
            damaged(s, raw + b"\xff\x29", "malformed")
            damaged(s, raw + b"\1\1\x3b", "ok", warnings=["dummy"])
        else:
            damaged(s, b"data", "ok", warnings=[])
            damaged(s, b"", "ok", warnings=[], note="no data")


def lookup(x):
    """1, 6: SAs that share their bits, repeats, broken packets, short packets."""
    rng = x.rng
    def bare(status, frame, label):
        x.add(frame, {"status": status}, label)
    def one(s, **more):
        return tunnel(s, packet(rng, 6, UDP), **more)
    ends = ("2001:db8:77::2", "2001:db8:ffff::1")
    shared = [x.session(f"shared {widths}", spi=0x11223300 + widths[0] * 256 + i, addresses=ends, **selectors(6, esp_spi_lsb=widths[0], esp_sn_lsb=widths[1]))
              for i, widths in enumerate(((4, 4), (5, 3), (12, 4), (0, 0), (0, 8), (32, 32), (20, 12), (8, 8), (8, 16)))]
    for i in range(60):
        one(rng.choice(shared))
    same = [x.session(f"same {i}", spi=0xAB00 + (i << 16), addresses=("2001:db8:78::2", "2001:db8:ffff::1"), **selectors(6, esp_spi_lsb=8, esp_sn_lsb=8)) for i in range(12)]
    for i in range(60):
        one(rng.choice(same))
    # RuleID bytes tell SAs apart
    ruled = [x.session(f"ruled {i}", spi=0x55000000 + i, addresses=("2001:db8:79::2", "2001:db8:ffff::1"), **selectors(6, esp_spi_lsb=0, esp_sn_lsb=8, rule_id="one_byte", rule_id_value=i)) for i in range(4)]
    for i in range(12):
        one(rng.choice(ruled))
    # every byte of a packet, broken
    for encr, integ in (("ENCR_AES_CCM_8", "NONE"), ("ENCR_AES_GCM_16", "NONE"), ("ENCR_AES_CBC", "AUTH_HMAC_SHA1_96"), ("ENCR_NULL_AUTH_AES_GMAC", "NONE"), ("ENCR_CHACHA20_POLY1305_IIV", "NONE")):
        s = x.session(f"broken {encr}", encr=encr, integ=integ, **selectors(6))
        one(s)
        frame = bytearray(x.frames[-1])
        for at in range(40, len(frame)):
            broken = bytearray(frame)
            broken[at] ^= 1 << rng.randrange(8)
            bare("no-sa" if at == 40 else "auth-failed", bytes(broken), f"broken {encr} byte {at - 40}")
        for size in range(40, len(frame)):
            cut = bytearray(frame[:size])
            cut[4:6] = (size - 40).to_bytes(2, "big")
            header = 2 + s.sa.suite.iv_len + s.sa.icv_len
            expected = "malformed" if size - 40 < header else "auth-failed"
            if encr == "ENCR_AES_CBC" and (size - 40 - header) % 16:
                expected = ["malformed", "auth-failed"]
            bare(expected, bytes(cut), f"short {encr} {size - 40} of {len(frame) - 40}")
    # repeats and replays
    for outer in (4, 6):
        s = x.session("repeats", outer=outer, **selectors(6, esp_sn_lsb=8))
        first = one(s)
        number = len(x.frames)
        x.add(x.frames[-1], first | {"warnings": ["duplicate"], "repeat_of": number}, "repeat")
        one(s, sn=5)
        replay = one(s, sn=5)
        replay["warnings"] = ["replayed"]
        one(s, sn=3)
        # the same ESP payload under another hop limit is a repeat too
        record = one(s, sn=7, ttl=9, label=1, tc=0)
        again = bytearray(x.frames[-1])
        number = len(x.frames)
        again = Ip(bytes(again))
        again.ttl = 8
        x.add(again.build(), {"status": "ok", "warnings": ["duplicate"], "repeat_of": number, "esp": record["esp"] | {}}, "repeat, other hop limit")
    # the first number, the reach of the bits, and streams that start late
    for start in (1, 2, 77, 200, 65000, 2**32 - 600):
        s = x.session(f"esp_sn {start}", **selectors(6, esp_sn=start))
        for step in (0, 100, 127, 1, 90):
            one(s, sn=s.sn + step)
    s = x.session("late and reordered", **selectors(6, esp_sn_lsb=16, esp_spi_lsb=16))
    for sn in (40, 39, 41, 30000, 29999, 45000, 70000, 69000, 100000):
        one(s, sn=sn)
    s = x.session("0 bits", **selectors(6, esp_sn_lsb=0))
    for sn in (1, 2, 5, 4, 3, 60, 1, 123, 62, 200, 500):
        record = one(s, sn=sn)
    for record in x.expected:
        if record.get("sa") == s.sa.name and record["esp"]["sequence"] == 1 and record is not next(r for r in x.expected if r.get("sa") == s.sa.name):
            record["warnings"] = ["replayed"]
    for encr, bits_, wide in (("ENCR_AES_GCM_16", 0, 2**31), ("ENCR_AES_CCM_16", 8, 123456789), ("ENCR_AES_GCM_16", 4, 2**32 - 1)):
        s = x.session(f"from the ICV {bits_}", encr=encr, **selectors(6, esp_spi_lsb=8 - bits_ % 8 if bits_ % 8 else 8, esp_sn_lsb=bits_))
        one(s, sn=wide)["esp"]["method"] = "icv"
        one(s, sn=5)["esp"]["method"] = "icv"
    s = x.session("IV mask", **selectors(6))
    mask = rng.getrandbits(64)
    for i, sn in enumerate((1, 2, 1000, 2**30, 7)):
        record = one(s, sn=sn, iv=(sn ^ mask).to_bytes(8, "big"))
        if i:
            record["esp"]["method"] = "iv-mask"
    s = x.session("whole number", **selectors(6, esp_sn_lsb=32, esp_spi_lsb=32))
    one(s, sn=2**31)["esp"]["method"] = "wire"
    # multicast: a stream per source
    s = x.session("multicast", addresses=("any", "ff15::77"), **selectors(6) | {"tunnel_ip": {"src": "2001:db8::1", "dst": "ff15::77"}})
    for i, sender in itertools.product(range(4), (1, 2, 3)):
        s.src, s.dst = f"2001:db8:80::{sender}", "ff15::77"
        one(s, sn=1 + i * 100)
    # UDP 4500
    for outer in (4, 6):
        s = x.session("udp 4500", outer=outer, **selectors(6, esp_spi_lsb=0, esp_sn_lsb=16))
        one(s, encapsulated=True)
        bare("not-esp", outer_packet(s, bytes(4) + rng.randbytes(28), encapsulated=True), "IKE")
        bare("not-esp", outer_packet(s, b"\xff", encapsulated=True), "keepalive")
        one(s, encapsulated=True)
        s = x.session("udp 4500 zero", outer=outer, spi=0x12000000, **selectors(6, esp_spi_lsb=16, esp_sn_lsb=16))
        one(s, sn=65536, encapsulated=True, note="four zero octets")
    # another protocol number, and then that only
    s = x.session("protocol 253", **selectors(6, protocol=253))
    one(s)
    frame = Ip(x.frames[-1])
    frame.protocol = ESP
    bare(["no-sa", "not-esp"], frame.build(), "50 where 253 was agreed")
    # nothing of ours
    stranger = x.session("stranger", **selectors(6))
    one(stranger)
    frame = Ip(x.frames[-1])
    frame.src = packed("2001:db8:9999::1")
    bare("no-sa", frame.build(), "another source")
    bare("not-esp", packet(rng, 6, TCP), "TCP")
    # behind Ethernet padding the packet is the same
    s = x.session("none", encr="ENCR_NULL", integ="NONE", **selectors(6))
    one(s)
    one(s)


AREAS = [ietf_fields, ietf_ranges, every_transport, ipv4_flags, trailers, transport_mode, ciphers, standard_esp, ehc, sixlo, receivers, lookup]


# -------------------------------------------------------------------------------------------------------- the comparison


def pcap(frames, link=101, snap=None):
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap or 262144, link)
    for i, frame in enumerate(frames):
        kept = frame[:snap]
        out += struct.pack("<IIII", 1_770_000_000 + i, 1000, len(kept), len(frame)) + kept
    return out


def pcap_frames(data):
    at, frames = 24, []
    while at < len(data):
        size = struct.unpack("<I", data[at + 8 : at + 12])[0]
        frames.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return frames


def differences(expected, actual, path=""):
    """Where the record is not what was expected. Keys that nothing is expected of are left alone, but not in these."""
    found = []
    if path in ("restored", "inner"):
        found += [f"{path}.{key}: is {actual[key]!r}, not there in ours" for key in actual if key not in expected]
    for key, value in expected.items():
        here = f"{path}.{key}".strip(".")
        if value == {} and not actual.get(key):
            continue
        if key not in actual:
            found.append(f"{here}: missing, expected {value!r}")
        elif isinstance(value, dict):
            found += differences(value, actual[key], here)
        elif key == "status" and isinstance(value, list):
            if actual[key] not in value:
                found.append(f"status: {actual[key]}, expected one of {value}")
        elif key == "warnings":
            if sorted(value) != sorted(actual[key]):
                found.append(f"warnings: {actual[key]}, expected {value}")
        elif value != actual[key]:
            found.append(f"{here}: {actual[key]!r}, expected {value!r}")
    return found


class Reader:
    """Runs dietesp on captures and counts."""

    def __init__(self, program, folder):
        self.program, self.folder, self.frames, self.packets, self.wrong = program, folder, 0, 0, []

    def run(self, *args):
        return subprocess.run([self.program, *args], capture_output=True, text=True)

    def write(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else json.dumps(data).encode())
        return path

    def decode(self, x, link=101, *options, status=None, snap=None):
        capture = self.write(f"{x.name}.pcap", pcap(x.frames, link, snap))
        rules, keys = self.write(f"{x.name}.rules.yaml", x.rules()), self.write(f"{x.name}.keys.yaml", x.keys())
        out = self.run("decode", capture, "--rules", rules, "--keys", keys, "--format", "jsonl", *options)
        if out.returncode == 2:
            self.wrong.append(f"{x.name}: {out.stderr}")
            return
        records = [json.loads(line) for line in out.stdout.splitlines()]
        if len(records) != len(x.frames):
            self.wrong.append(f"{x.name}: {len(records)} records of {len(x.frames)} frames")
        failed = any(record["status"] in ("auth-failed", "malformed", "unsupported") for record in records)
        if out.returncode != (status if status is not None else int(failed)):
            self.wrong.append(f"{x.name}: exit status {out.returncode}")
        for expected, record, label in zip(x.expected, records, x.labels):
            self.frames += 1
            problems = differences(expected, record)
            if problems:
                self.wrong.append(f"{x.name} frame {record['frame']}: {label}\n    " + "\n    ".join(problems) + (f"\n    reason: {record['reason']}" if "reason" in record else ""))

    def compress(self, s):
        """`dietesp compress` on the plain packets of one session against what this sender makes of them."""
        plain = s.capture.lowest[id(s)]
        fresh = Session(s.rng, s.sa, s.c, s.src, s.dst)
        name = f"{s.capture.name}.compress"
        original, out = self.write(f"{name}.original.pcap", pcap([raw for raw, _ in plain])), os.path.join(self.folder, f"{name}.out.pcap")
        rules, keys = self.write(f"{name}.rules.yaml", s.capture.rules([s])), self.write(f"{name}.keys.yaml", {"sas": [s.sa.entry()]})
        if os.path.exists(out):
            os.remove(out)
        ran = self.run("compress", original, "-o", out, "--rules", rules, "--keys", keys, "--on-mismatch", "skip")
        self.packets += len(plain)
        problems, expected, fields = [], [], collections.Counter()
        for raw, _ in plain:
            try:
                expected.append((raw, *self.plain_clear(fresh, raw)))
            except NoMatch as reason:
                fields[reason.args[0]] += 1
        said = collections.Counter()
        for line in ran.stderr.splitlines():
            count, sep, field = line.partition(" did not match because of ")
            if sep:
                said[field] += int(count)
        if said != fields:
            problems.append(f"did not match: {dict(said)}, expected {dict(fields)}")
        if ran.returncode != int(bool(fields)):
            problems.append(f"exit status {ran.returncode}: {ran.stderr}")
        written = pcap_frames(open(out, "rb").read()) if os.path.exists(out) else []
        if len(written) != len(expected):
            problems.append(f"{len(written)} packets written, expected {len(expected)}: {ran.stderr}")
        for sn, (frame, (raw, clear)) in enumerate(zip(written, expected), s.c.esp_sn):
            problems += self.compressed(fresh, frame, raw, clear, sn)
        if problems:
            self.wrong.append(f"{s.capture.name} compress: {s.label}\n    " + "\n    ".join(problems))

    def plain_clear(self, s, raw):
        """The clear text that a plain packet becomes."""
        ip = Ip(raw)
        if s.c.mode == "Tunnel":
            outer = Ip(ip6(s.src, s.dst, ESP, b"") if ":" in s.src else ip4(s.src, s.dst, ESP, b""))
            payload, next_header, _, _ = s.inner(raw, outer)
        else:
            next_header, body = ip.upper()
            payload, _, _ = s.segment(next_header, ip.src, ip.dst, body)
        return (s.clear(payload, next_header),)

    def compressed(self, s, frame, raw, clear, sn):
        """What is wrong with one packet that compress wrote."""
        outer, inner, problems = Ip(frame), Ip(raw), []
        header = s.header(sn)
        body = outer.body
        if s.c.mode == "Tunnel":
            ends = s.c.get("tunnel_ip")
            if (outer.src, outer.dst) != (packed(ends["src"]), packed(ends["dst"])):
                problems.append("outer addresses")
            if (outer.tc, outer.ttl) != (inner.tc, inner.ttl):
                problems.append(f"outer class {outer.tc}, hop limit {outer.ttl}, expected {inner.tc}, {inner.ttl}")
            label = inner.label if outer.version >= inner.version else inner.label & 0xFFFF
            if outer.label != label:
                problems.append(f"outer label {outer.label}, expected {label}")
        else:
            _, segment = inner.upper()
            ahead = len(raw) - len(segment)
            body = frame[ahead:]
            same = 6 if outer.version == 6 else 10
            if frame[8:ahead] != raw[8:ahead] and not inner.version == 4 and inner.protocol == inner.upper()[0]:
                problems.append("the header in front changed")
            if (outer.tc, outer.label, outer.ttl, outer.options) != (inner.tc, inner.label, inner.ttl, inner.options):
                problems.append("outer fields changed")
        try:
            check_packet(outer)
        except NoMatch as reason:
            problems.append(f"outer {reason.args[0]}")
        if body[: len(header)] != header:
            problems.append(f"ESP header {body[:len(header)].hex()}, expected {header.hex()}")
        elif s.sa.suite.iv_len == 0:
            if body != s.wire(sn, clear, b""):
                problems.append(f"ESP payload {body.hex()}, expected {s.wire(sn, clear, b'').hex()}")
        else:
            try:
                opened = s.sa.open(sn, body[len(header):])
                if opened != clear:
                    problems.append(f"clear {opened.hex()}, expected {clear.hex()}")
            except AssertionError:
                problems.append("does not open")
        return problems


def main():
    program, folder = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    reader = Reader(program, folder)
    only = os.environ.get("AREA", "")
    for area in AREAS:
        if only in area.__name__:
            x = Capture(area.__name__, seed)
            area(x)
            before = len(reader.wrong)
            reader.decode(x)
            for session in x.sessions:
                if x.lowest[id(session)] and session.c and session.dialect != "esp":
                    reader.compress(session)
            print(f"{x.name}: {len(x.frames)} frames of {len(x.sessions)} SAs, {len(reader.wrong) - before} wrong", file=sys.stderr)
    print(f"{reader.frames} frames decoded, {reader.packets} packets compressed, {len(reader.wrong)} wrong")
    for wrong in reader.wrong[: int(os.environ.get("SHOW", "40"))]:
        print(wrong)
    sys.exit(bool(reader.wrong))


if __name__ == "__main__":
    main()
