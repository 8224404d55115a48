#!/usr/bin/env python3
"""Makes the captures that compare.sh measures; the same arguments make the same bytes.

usage: gen_esp.py [--cipher gcm16|ccm8|ccm16|cbc] [--packets N] [--sas N] [--burst N] [--spi-bits N] [--sn-bits N] FOLDER

FOLDER gets
  esp.pcap        standard ESP: Ethernet, outer IPv6, tunnel mode, one packet a millisecond
  esp_keys.yaml   its keys
  esp_sa          the same for Wireshark
  rules.yaml      contexts of dialect ietf that leave out all they can; --spi-bits, --sn-bits (8) are sent
  diet_keys.yaml  other keys, for `dietesp compress --keys`

Packet i, from 0, belongs to SA i // burst % sas. Inside it is a CoAP message of 40 to 100 bytes, every length equally
often, over UDP from one of 1,000 ports to 5683, over IPv6. CBC has HMAC-SHA-256-128 beside it. IVs are the Sequence
Number; those of CBC are hashes.
"""
import argparse
import hashlib
import hmac
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

FIRST_SPI = 0x10000
OUTER = [bytes.fromhex(f"20010db8{net:04x}{1:020x}") for net in (1, 2)]
INNER = [bytes.fromhex(f"20010db8{net:04x}{1:020x}") for net in (0xA, 0xB)]
ETHERNET = bytes.fromhex("02000000000202000000000186dd")
PADDING = [bytes(range(1, length + 1)) for length in range(16)]
PORTS = range(40000, 41000)
LENGTHS = range(40, 101)

# IANA name, salt, esp_sa cipher, what goes between key and salt there, esp_sa authentication. Wireshark has no AES-CCM
# for ESP, but the key stream is that of AES-CTR with 03 in front of the salt.
CIPHERS = {
    "gcm16": ("ENCR_AES_GCM_16", 4, "AES-GCM with 16 octet ICV [RFC4106]", "", "NULL"),
    "ccm8": ("ENCR_AES_CCM_8", 3, "AES-CTR [RFC3686]", "03", "ANY 64 bit authentication [no checking]"),
    "ccm16": ("ENCR_AES_CCM_16", 3, "AES-CTR [RFC3686]", "03", "ANY 128 bit authentication [no checking]"),
    "cbc": ("ENCR_AES_CBC", 0, "AES-CBC [RFC3602]", "", "HMAC-SHA-256-128 [RFC4868]"),
}


def digest(text):
    return hashlib.sha256(text.encode()).digest()


class Sa:
    def __init__(self, cipher, use, index):
        self.spi = FIRST_SPI + index
        self.sn = 0
        self.cipher = cipher
        self.key = digest(f"{use} key {index}")[:16]
        self.salt = digest(f"{use} salt {index}")[: CIPHERS[cipher][1]]
        self.integ_key = digest(f"{use} integrity key {index}")

    def sealer(self):
        if self.cipher == "cbc":
            return self.seal_cbc
        tag_length = {"gcm16": 16, "ccm8": 8, "ccm16": 16}[self.cipher]
        aead = AESGCM(self.key) if self.cipher == "gcm16" else AESCCM(self.key, tag_length=tag_length)

        def seal(header, clear):
            iv = struct.pack(">Q", self.sn)
            return header + iv + aead.encrypt(self.salt + iv, clear, header)

        return seal

    def seal_cbc(self, header, clear):
        iv = digest(f"iv {self.spi} {self.sn}")[:16]
        encryptor = Cipher(algorithms.AES(self.key), modes.CBC(iv)).encryptor()
        text = header + iv + encryptor.update(clear) + encryptor.finalize()
        return text + hmac.digest(self.integ_key, text, "sha256")[:16]


def ones_complement_sum(data):
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f">{len(data) // 2}H", data))


ADDRESSES_SUM = ones_complement_sum(INNER[0] + INNER[1]) + 17


def inner_packet(index):
    length = LENGTHS[index * 37 % len(LENGTHS)]
    message_id = index & 0xFFFF
    # Non-confirmable POST with a token of 2 bytes, Uri-Path "s", payload.
    coap = struct.pack(">BBHH", 0x52, 2, message_id, message_id) + b"\xb1s\xff" + digest(f"payload {index}") * 3
    coap = coap[:length]
    port, length = PORTS[index % len(PORTS)], 8 + length
    total = ADDRESSES_SUM + 2 * length + port + 5683 + ones_complement_sum(coap)
    checksum = 0xFFFF - (total % 0xFFFF)  # in 1..0xffff
    udp = struct.pack(">HHHH", port, 5683, length, checksum) + coap
    return struct.pack(">IHBB", 6 << 28, length, 17, 64) + INNER[0] + INNER[1] + udp


def write_capture(path, cipher, sas, packets, burst):
    sealers = [(sa, sa.sealer()) for sa in sas]
    block = 16 if cipher == "cbc" else 4
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for index in range(packets):
            sa, seal = sealers[index // burst % len(sas)]
            sa.sn += 1
            inner = inner_packet(index)
            pad = -(len(inner) + 2) % block
            esp = seal(struct.pack(">II", sa.spi, sa.sn), inner + PADDING[pad] + bytes((pad, 41)))
            outer = struct.pack(">IHBB", 6 << 28, len(esp), 50, 64) + OUTER[0] + OUTER[1]
            frame = ETHERNET + outer + esp
            time = divmod(1_700_000_000_000 + index, 1000)
            file.write(struct.pack("<IIII", time[0], time[1] * 1000, len(frame), len(frame)) + frame)


def write_keys(path, sas):
    with open(path, "w") as file:
        file.write("sas:\n")
        for sa in sas:
            fields = f"spi: 0x{sa.spi:08x}, src: 2001:db8:1::1, dst: 2001:db8:2::1, encr: {CIPHERS[sa.cipher][0]}"
            fields += f", key: {sa.key.hex()}"
            if sa.cipher == "cbc":
                fields += f", integ: AUTH_HMAC_SHA2_256_128, integ_key: {sa.integ_key.hex()}"
            else:
                fields += f", salt: {sa.salt.hex()}"
            file.write(f"  - {{ {fields} }}\n")


def write_esp_sa(path, sas):
    with open(path, "w") as file:
        for sa in sas:
            _, _, name, between, authentication = CIPHERS[sa.cipher]
            integ_key = f"0x{sa.integ_key.hex()}" if sa.cipher == "cbc" else ""
            key = f"0x{sa.key.hex()}{between}{sa.salt.hex()}"
            file.write(f'"IPv6","*","*","0x{sa.spi:08x}","{name}","{key}","{authentication}","{integ_key}"\n')


def write_rules(path, sas, spi_bits, sn_bits):
    with open(path, "w") as file:
        file.write("contexts:\n")
        for sa in sas:
            file.write(
                f"  - {{ spi: 0x{sa.spi:08x}, ipsec_mode: Tunnel, tunnel_ip: {{ src: 2001:db8:1::1, dst: 2001:db8:2::1 }},"
                " ts_ip_version: IPv6-only, ts_ip_src: 2001:db8:a::1, ts_ip_dst: 2001:db8:b::1, ts_proto: UDP,"
                f" ts_port_src: {PORTS[0]}-{PORTS[-1]}, ts_port_dst: 5683, dscp_cda: lower, ecn_cda: lower,"
                f" flow_label_cda: lower, alignment: 8 bit, esp_spi_lsb: {spi_bits}, esp_sn_lsb: {sn_bits} }}\n"
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cipher", choices=CIPHERS, default="gcm16")
    parser.add_argument("--packets", type=int, default=100_000)
    parser.add_argument("--sas", type=int, default=1)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--spi-bits", type=int, default=8)
    parser.add_argument("--sn-bits", type=int, default=8)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    sas = [Sa(args.cipher, "esp", index) for index in range(args.sas)]
    write_keys(args.folder / "esp_keys.yaml", sas)
    write_esp_sa(args.folder / "esp_sa", sas)
    write_rules(args.folder / "rules.yaml", sas, args.spi_bits, args.sn_bits)
    write_keys(args.folder / "diet_keys.yaml", [Sa(args.cipher, "diet", index) for index in range(args.sas)])
    write_capture(args.folder / "esp.pcap", args.cipher, sas, args.packets, args.burst)


if __name__ == "__main__":
    main()
