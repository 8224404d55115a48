#!/usr/bin/env python3
"""scapy and dietesp open each other's packets.

    scapy_interop.py DIETESP FOLDER

scapy seals; `dietesp decode` must give back the packets that went in. `dietesp compress` then makes Diet-ESP of them, `dietesp convert`
standard ESP of that, sealed again; scapy must open these to the same packets. Ends with a traceback at the first difference.
"""

import json
import pathlib
import subprocess
import sys

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapReader, PcapWriter

DIETESP, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
SPI, KEY, SALT = 0x0BADF00D, bytes(range(32)), bytes(range(0xA0, 0xA4))

# IANA name, scapy's name, key and salt length, ICV length of an AEAD, integrity algorithm: IANA, scapy, key length.
NONE = ("NONE", "NULL", 0)
SHA1 = ("AUTH_HMAC_SHA1_96", "HMAC-SHA1-96", 20)
SHA256 = ("AUTH_HMAC_SHA2_256_128", "SHA2-256-128", 32)
SHA384 = ("AUTH_HMAC_SHA2_384_192", "SHA2-384-192", 48)
SHA512 = ("AUTH_HMAC_SHA2_512_256", "SHA2-512-256", 64)
SUITES = [
    *((f"ENCR_AES_CCM_{icv}", "AES-CCM", key, 3, icv, None) for key in (16, 24, 32) for icv in (8, 12, 16)),
    *(("ENCR_AES_GCM_16", "AES-GCM", key, 4, 16, None) for key in (16, 24, 32)),
    ("ENCR_CHACHA20_POLY1305", "CHACHA20-POLY1305", 32, 4, 16, None),
    ("ENCR_NULL_AUTH_AES_GMAC", "AES-NULL-GMAC", 16, 4, 16, None),
    *(("ENCR_AES_CBC", "AES-CBC", key, 0, None, integ) for key, integ in ((16, SHA1), (24, SHA256), (32, SHA384), (16, SHA512))),
    ("ENCR_AES_CTR", "AES-CTR", 16, 4, None, SHA256),
    ("ENCR_NULL", "NULL", 0, 0, None, SHA256),
]
OUTER = {6: IPv6(src="2001:db8:0:1::2", dst="2001:db8:0:1::1"), 4: IP(src="192.0.2.2", dst="192.0.2.1")}


def inner_packets():
    """Lengths of every remainder modulo 16, so that every padding occurs."""
    for length in range(17):
        data = Raw(bytes(range(length)))
        yield IPv6(src="2001:db8:a::10", dst="2001:db8:b::1") / UDP(sport=5683, dport=61616) / data
        yield IPv6(src="2001:db8:a::10", dst="2001:db8:b::1") / TCP(sport=5683, dport=61616, seq=length, options=[("NOP", None)]) / data


def run(*args):
    done = subprocess.run([DIETESP, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def check(suite, version):
    encr, algorithm, key_len, salt_len, icv, integ = suite
    integ_name, integ_scapy, integ_len = integ or NONE
    key, salt, integ_key = KEY[:key_len], SALT[:salt_len], bytes(range(0x40, 0x40 + integ_len))
    sa = SecurityAssociation(
        ESP, spi=SPI, crypt_algo=algorithm, crypt_key=key + salt, crypt_icv_size=icv, auth_algo=integ_scapy, auth_key=integ_key, tunnel_header=OUTER[version]
    )
    files = {name: FOLDER / name for name in ("keys.yaml", "rules.yaml", "esp.pcap", "diet.pcap", "back.pcap")}
    ends = f"src: {OUTER[version].src}\n    dst: {OUTER[version].dst}\n"
    lines = [f"encr: {encr}", *([f"key: {key.hex()}"] if key else []), *([f"salt: {salt.hex()}"] if salt else [])]
    lines += [f"integ: {integ_name}", f"integ_key: {integ_key.hex()}"] if integ else []
    files["keys.yaml"].write_text(f"sas:\n  - name: sa\n    spi: 0x{SPI:08x}\n    {ends}" + "".join(f"    {line}\n" for line in lines))
    files["rules.yaml"].write_text(
        "contexts:\n  - sa: sa\n    ipsec_mode: Tunnel\n"
        f"    tunnel_ip: {{ src: \"{OUTER[version].src}\", dst: \"{OUTER[version].dst}\" }}\n    ts_ip_version: IPv6-only\n"
        "    ts_ip_src: 2001:db8:a::10\n    ts_ip_dst: 2001:db8:b::/112\n    alignment: 8 bit\n    esp_spi_lsb: 8\n    esp_sn_lsb: 8\n"
    )
    originals = [bytes(packet) for packet in inner_packets()]
    with PcapWriter(str(files["esp.pcap"]), linktype=1) as pcap:
        for number, packet in enumerate(originals, 1):
            iv = number.to_bytes(8, "big") if icv or algorithm == "AES-CTR" else None
            pcap.write(Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01") / sa.encrypt(IPv6(packet), seq_num=number, iv=iv))

    def decoded(capture, *more):
        records = [json.loads(line) for line in run("decode", capture, "--keys", files["keys.yaml"], "--format", "jsonl", *more).splitlines()]
        assert [record["esp"]["sequence"] for record in records] == list(range(1, len(originals) + 1))
        assert all(record["esp"]["icv"] == "verified" for record in records)
        return [bytes.fromhex(record["packet"]) for record in records]

    assert decoded(files["esp.pcap"]) == originals, "what scapy sealed"
    rules = ("--rules", files["rules.yaml"])
    run("compress", files["esp.pcap"], "-o", files["diet.pcap"], *rules, "--keys", files["keys.yaml"])
    # Hop Limits are the outer header's: the same here.
    assert decoded(files["diet.pcap"], *rules) == originals, "compressed"
    run("convert", files["diet.pcap"], "-o", files["back.pcap"], *rules, "--keys", files["keys.yaml"], "--reseal", "keep")
    with PcapReader(str(files["back.pcap"])) as pcap:
        opened = [bytes(sa.decrypt(frame[IPv6 if version == 6 else IP])) for frame in pcap]
    assert opened == originals, "what dietesp sealed"
    return len(originals)


if __name__ == "__main__":
    packets = sum(check(suite, version) for suite in SUITES for version in (6, 4))
    print(f"{packets} packets of {len(SUITES)} suites, both ways")
