"""Makes esp.pcap with scapy: ESP in tunnel mode under the keys of setkey.conf and tcpdump.secrets beside it."""

import os
import sys

from scapy.all import ESP, IP, UDP, Raw, SecurityAssociation, raw, wrpcap

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
outer = IP(src="192.0.2.1", dst="192.0.2.2")
packets = []
for spi, crypt, key, auth, auth_key in (
    (0x10001, "AES-CBC", KEY, "HMAC-SHA1-96", b"a key of 20 letters."),
    (0x10002, "AES-GCM", KEY + bytes.fromhex("a0a1a2a3"), None, None),
    (0x10003, "AES-CBC", KEY, "NULL", None),
    (0x10004, "AES-CTR", KEY + bytes.fromhex("a0a1a2a3"), "SHA2-256-128", KEY + KEY),
):
    sa = SecurityAssociation(ESP, spi=spi, crypt_algo=crypt, crypt_key=key, auth_algo=auth, auth_key=auth_key, tunnel_header=outer)
    for n in range(3):
        inner = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5683, dport=61616) / Raw(b"probe %d" % n)
        packets.append(IP(raw(sa.encrypt(inner))))
wrpcap(os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "esp.pcap"), packets)
