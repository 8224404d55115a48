"""Checks a kit of `dietesp vectors make` with other code: the values of the ciphers with `cryptography`, the residues from
the rule tables and the packets alone.

    python3 tests/python/check_vectors.py samples/vectors/kit.json
"""

import ipaddress
import json
import sys

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

HASHES = {"SHA1_96": hashes.SHA1, "SHA2_256_128": hashes.SHA256, "SHA2_384_192": hashes.SHA384, "SHA2_512_256": hashes.SHA512}
NAMES = {6: "TCP", 17: "UDP", 132: "SCTP", 136: "UDPLITE"}
# Each header's fields and their lengths in bits, in the order of the packet.
LAYOUT = {
    "IPV6": "VER 4 DSCP 6 ECN 2 FL 20 LEN 16 NXT 8 HOP_LMT 8 SRC 128 DST 128",
    "IPV4": "VER 4 IHL 4 DSCP 6 ECN 2 LEN 16 ID 16 FLAGS 3 FRAG 13 TTL 8 PROTO 8 CKSUM 16 SRC 32 DST 32",
    "UDP": "SRC_PORT 16 DST_PORT 16 LEN 16 CKSUM 16",
    "UDPLITE": "SRC_PORT 16 DST_PORT 16 COVERAGE 16 CKSUM 16",
    "TCP": "SRC_PORT 16 DST_PORT 16 SEQ 32 ACK 32 DOFF_FLAGS 16 WINDOW 16 CKSUM 16 URG 16",
    "SCTP": "SRC_PORT 16 DST_PORT 16 VTAG 32 CKSUM 32",
}


def fields(header, data):
    """{field: (offset in bits, its bits as a string)}"""
    bits, found, at = "".join(f"{byte:08b}" for byte in data), {}, 0
    words = LAYOUT[header].split()
    for name, length in zip(words[::2], map(int, words[1::2])):
        found[f"{header}.{name}"] = (at, bits[at : at + length])
        at += length
    if header == "IPV6":
        found["IPV6.TC"] = (4, bits[4:12])
        for end, start in (("SRC", 64), ("DST", 192)):
            found[f"IPV6.{end}_PREFIX"], found[f"IPV6.{end}_IID"] = (start, bits[start : start + 64]), (start + 64, bits[start + 64 : start + 128])
    return found


def number(target, length):
    """A target value as an integer."""
    if isinstance(target, int):
        return target
    if target.startswith("0x"):
        return int(target, 16)
    if "/" in target:
        return int(ipaddress.ip_address(target.split("/")[0])) >> 64
    return int(ipaddress.ip_address(target))


def residue(row, bits, sent_bits):
    """The residue of a field, RFC 8724 section 7.4; a field that does not match is an error."""
    value, length = int(bits, 2), len(bits)
    target = row["TV"]
    if row["MO"] == "equal":
        assert value == number(target, length), row
    if row["MO"] == "MSB" and target is not None:
        assert bits[: row["MO.VAL"]] == f"{number(target, length):0{length}b}"[: row["MO.VAL"]], row
    action = row["CDA"]
    if action == "value-sent":
        return bits
    if action == "LSB":
        return bits[row["MO.VAL"] :]
    if action == "mapping-sent":
        width = (len(target) - 1).bit_length()
        return f"{[number(one, length) for one in target].index(value):0{width}b}" if width else ""
    if action == "nearest":
        return bits[length - sent_bits :]
    assert action == "not-sent" or action.startswith(("compute", "lower", "generated")), row
    return ""


def own_name(fid, direction):
    """DEV_ and APP_ of a packet of this direction (RFC 8724 section 10.7)."""
    up = direction != "Dw"
    for end, of_up, of_down in (("DEV_", "SRC_", "DST_"), ("APP_", "DST_", "SRC_")):
        fid = fid.replace("." + end, "." + (of_up if up else of_down))
    return fid


def cut(rules, data, direction):
    """The residue of a header by its rule, and the offsets in bits of what the rule covers."""
    text, covered = "", []
    header = fields(rules["fields"][0]["FID"].split(".")[0], data)
    for row, sent in zip(rules["fields"], rules["sent_bits"]):
        if row["DI"] in ("Bi", direction) or direction == "Bi":
            at, bits = header[own_name(row["FID"], direction)]
            text += residue(row, bits, sent)
            covered.append((at // 8, (at + len(bits) + 7) // 8))
    return text, covered


def payload_data(packet, context, rules):
    """The IIPC's output for the packet, and the number of residue bits."""
    data, outer = bytes.fromhex(packet["inner_packet"]), bytes.fromhex(packet["outer_header"])
    v6, tunnel, direction = data[0] >> 4 == 6, context["ipsec_mode"] == "Tunnel", context.get("direction", "Bi")
    header_len = 40 if v6 else (data[0] & 15) * 4
    protocol = data[6] if v6 else data[9]
    fragment = not v6 and int.from_bytes(data[6:8], "big") & 0x3FFF
    segment = data[header_len:]
    by_header = {}
    for rule in rules:
        if rule["name"].startswith("iipc"):
            only = rule["name"].partition(", outer ipv")[2]
            if only and int(only) != outer[0] >> 4:
                continue
            # A rule of the user's own may hold two headers.
            for row, sent in zip(rule["fields"], rule["sent_bits"]):
                own = by_header.setdefault(row["FID"].split(".")[0], {"fields": [], "sent_bits": []})
                own["fields"].append(row), own["sent_bits"].append(sent)
        if rule["name"] == "iipc ipv6" and outer[0] >> 4 == 4 and any(other["name"] == "iipc ipv6, outer ipv4" for other in rules):
            del by_header["IPV6"]
    ip, transport = by_header.get("IPV6" if v6 else "IPV4"), by_header.get(NAMES.get(protocol))
    text, front = "", b""
    if context["dialect"] == "ietf" and context["rule_id"] == "one_byte" and context["iipc_profile"] == "iipc_diet-esp":
        front = bytes([context["rule_id_value"]])
    if tunnel and ip is None:
        return front + data, 0
    if tunnel:
        text, _ = cut(ip, data, direction)
        text += "".join(f"{byte:08b}" for byte in data[20:header_len]) if not v6 else ""
    if transport is not None and not fragment:
        own, covered = cut(transport, segment, direction)
        text += own
        gone = {at for start, end in covered for at in range(start, end)}
        segment = bytes(byte for at, byte in enumerate(segment) if at not in gone)
    filled = text + "0" * (-len(text) % 8)
    return front + (int(filled, 2).to_bytes(len(filled) // 8, "big") if filled else b"") + segment, len(text)


def sealed(sa, spi, sn, high, iv, clear):
    """(nonce, what the ICV covers, ciphertext, ICV)"""
    key, salt = bytes.fromhex(sa.get("key", "")), bytes.fromhex(sa.get("salt", ""))
    name = sa["encr"]
    nonce = salt + ((high or bytes(4)) + sn if name.endswith("_IIV") else iv)
    aad = spi + high + sn
    if "CCM" in name or "GCM" in name or "CHACHA" in name:
        length = 16 if "CHACHA" in name else int(name.replace("_IIV", "").split("_")[3])
        if "CCM" in name:
            both = AESCCM(key, tag_length=length).encrypt(nonce, clear, aad)
        else:
            both = (ChaCha20Poly1305 if "CHACHA" in name else AESGCM)(key).encrypt(nonce, clear, aad)
        return nonce, aad, both[: len(clear)], both[len(clear) :][:length]
    if "GMAC" in name:
        return nonce, aad + iv + clear, clear, AESGCM(key).encrypt(nonce, b"", aad + iv + clear)
    if name == "ENCR_AES_CBC":
        nonce, mode = iv, modes.CBC(iv)
    elif name == "ENCR_AES_CTR":
        nonce = salt + iv + (1).to_bytes(4, "big")
        mode = modes.CTR(nonce)
    else:
        nonce, mode = b"", None
    cipher = clear
    if mode:
        encryptor = Cipher(algorithms.AES(key), mode).encryptor()
        cipher = encryptor.update(clear) + encryptor.finalize()
    if sa["integ"] == "NONE":
        return nonce, b"", cipher, b""
    kind = sa["integ"].removeprefix("AUTH_HMAC_")
    covered = spi + sn + iv + cipher + high
    tag = hmac.HMAC(bytes.fromhex(sa["integ_key"]), HASHES[kind]())
    tag.update(covered)
    return nonce, covered, cipher, tag.finalize()[: int(kind.split("_")[-1]) // 8]


def eec_residue(spi, sn, rules):
    (rule,) = [rule for rule in rules if rule["name"] == "eec"]
    values = {"ESP.SPI": spi, "ESP.SEQ": sn}
    bits = {name: f"{int.from_bytes(value, 'big'):032b}" for name, value in values.items()}
    text = "".join(residue(row, bits[row["FID"]], sent) for row, sent in zip(rule["fields"], rule["sent_bits"]))
    return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def main(path):
    kit = json.load(open(path))
    sas, contexts = {sa["name"]: sa for sa in kit["sas"]}, {context["sa"]: context for context in kit["contexts"]}
    tables = {table["sa"]: table["rules"] for table in kit["tables"]}
    packets = {packet["packet"]: packet for packet in kit["packets"]}
    wrong = 0

    def same(vector, which, **expected):
        nonlocal wrong
        for name, value in expected.items():
            value = value.hex() if isinstance(value, bytes) else value
            if vector[name] != value:
                wrong += 1
                print(f"{which} {vector[which]} ({vector['sa']}): {name}: {value} here, {vector[name]} in the kit")

    def raw(vector, *names):
        return [bytes.fromhex(vector[name]) for name in names]

    for packet in kit["packets"]:
        sa, rules = sas[packet["sa"]], tables[packet["sa"]]
        spi, sn, high, iv, clear = raw(packet, "spi", "sn", "sn_high", "iv", "clear_text")
        nonce, aad, cipher, icv = sealed(sa, spi, sn, high, iv, clear)
        same(packet, "packet", spi=bytes.fromhex(sa["spi"][2:]), nonce=nonce, aad=aad, ciphertext=cipher, icv=icv)
        same(packet, "packet", eec_residue=eec_residue(spi, sn, rules))
        data, bits = payload_data(packet, contexts[packet["sa"]], rules)
        same(packet, "packet", payload_data=data, residue_bits=bits)
        front, back, rule_id, residue_bytes = raw(packet, "clear_rule_id", "trailer", "header_rule_id", "eec_residue")
        same(packet, "packet", clear_text=front + data + back, wire=rule_id + residue_bytes + iv + cipher + icv)
    for failure in kit["failures"]:
        if failure["kind"] == "clear-text":
            spi, sn, high, iv, clear = raw(failure, "spi", "sn", "sn_high", "iv", "clear_text")
            _, _, cipher, icv = sealed(sas[failure["sa"]], spi, sn, high, iv, clear)
            (wire,) = raw(failure, "wire")
            same(failure, "failure", wire=wire[: len(wire) - len(iv + cipher + icv)] + iv + cipher + icv)
        elif failure["kind"] != "no-match":
            wire = bytearray.fromhex(packets[failure["of"]]["wire"])
            wire[failure["bit"] // 8] ^= 0x80 >> failure["bit"] % 8
            same(failure, "failure", wire=bytes(wire))
    print(f"{len(kit['packets'])} packets, {len(kit['failures'])} failures, {wrong} values differ")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
