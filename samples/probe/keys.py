#!/usr/bin/env python3
"""Writes the key files of a recording, with the keys that gateway a has logged:

    dietesp keys export DIR/charon-a.log | samples/probe/keys.py DIR

DIR/esp_keys.txt has the SAs of DIR/original.pcap in the format of `ip xfrm state`. The kernel itself does not know them,
because ESP runs in user space. DIR/keys.yaml has fresh test keys for the Diet-ESP capture. Both list only the SAs that
carry packets, as probe-1-up, probe-1-down, probe-2-up, ... in the order of their first packets.
"""

import csv
import pathlib
import secrets
import struct
import sys

UP = "fd01::1"  # source of the packets of the sensor
SPI_AT = 14 + 40 + 8  # in a frame: after Ethernet, IPv6 and UDP
UDP_4500 = struct.pack(">H", 4500)


def spis(capture):
    """The SPIs in a pcap file, in the order of their first packets."""
    found, at = [], 24
    while at < len(capture):
        length = struct.unpack_from("<I", capture, at + 8)[0]
        frame = capture[at + 16 : at + 16 + length]
        at += 16 + length
        spi = f"0x{frame[SPI_AT : SPI_AT + 4].hex()}"
        is_esp = frame[20] == 17 and frame[56:58] == UDP_4500 and spi != "0x00000000"  # SPI 0: IKE
        if is_esp and spi not in found:
            found.append(spi)
    return found


def xfrm(src, dst, spi, key):
    """An SA as `ip xfrm state` prints it."""
    return (
        f"src {src} dst {dst}\n"
        f"\tproto esp spi {spi} reqid 1 mode tunnel\n"
        "\treplay-window 32 flag af-unspec\n"
        f"\taead rfc4309(ccm(aes)) 0x{key} 64\n"
        "\tencap type espinudp sport 4500 dport 4500 addr ::\n"
        "\tanti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000\n"
    )


def entry(name, src, dst, spi):
    """An SA of a dietesp key file, with a fresh key."""
    return (
        f"  - name: {name}\n    spi: {spi}\n    src: {src}\n    dst: {dst}\n    encr: ENCR_AES_CCM_8_IIV\n"
        f"    key: {secrets.token_hex(16)}\n    salt: {secrets.token_hex(3)}\n"
    )


def main():
    out = pathlib.Path(sys.argv[1])
    # Wireshark has no AES-CCM: the key is that of AES-CTR, with a 03 between key and salt.
    sas = {spi: (src, dst, key[2:34] + key[36:]) for _, src, dst, spi, _, key, *_ in csv.reader(sys.stdin)}
    ways = {"up": [], "down": []}
    for spi in spis((out / "original.pcap").read_bytes()):
        ways["up" if sas[spi][0] == UP else "down"].append(spi)
    old = ""
    new = "# Test keys, published: never protect anything with them. For samples/probe/diet-esp.pcapng.\nsas:\n"
    for number, pair in enumerate(zip(ways["up"], ways["down"], strict=True), 1):
        for way, spi in zip(ways, pair):
            src, dst, key = sas[spi]
            old += xfrm(src, dst, spi, key)
            new += entry(f"probe-{number}-{way}", src, dst, spi)
    (out / "esp_keys.txt").write_text(old)
    (out / "keys.yaml").write_text(new)


main()
