#!/usr/bin/env python3
"""dietesp rules against microschc (random rules and packets) and jsonschema (schemas against files).

Usage: rules.py DIETESP, in the folder of the project.
"""

import copy
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import jsonschema
import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA = pathlib.Path("tests/data")
SEED = 8724
RULES = 260

FIELDS = [
    ("IPV6.VER", 4), ("IPV6.TC", 8), ("IPV6.FL", 20), ("IPV6.LEN", 16), ("IPV6.NXT", 8), ("IPV6.HOP_LMT", 8),
    ("IPV6.SRC", 128), ("IPV6.DST", 128),
    ("UDP.SRC_PORT", 16), ("UDP.DST_PORT", 16), ("UDP.LEN", 16), ("UDP.CKSUM", 16),
]
SPLIT = {
    "IPV6.TC": [("IPV6.DSCP", 6), ("IPV6.ECN", 2)],
    "IPV6.SRC": [("IPV6.SRC_PREFIX", 64), ("IPV6.SRC_IID", 64)],
    "IPV6.DST": [("IPV6.DST_PREFIX", 64), ("IPV6.DST_IID", 64)],
}
COMPUTED = {"IPV6.LEN": "compute-length", "UDP.LEN": "compute-length", "UDP.CKSUM": "compute-checksum"}


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff or 0xffff


def random_packet(rng):
    payload = rng.randbytes(rng.randrange(40))
    src, dst = rng.randbytes(16), rng.randbytes(16)
    length = 8 + len(payload)
    ports = rng.randbytes(4)
    pseudo = src + dst + length.to_bytes(4, "big") + b"\0\0\0\x11"
    udp = ports + length.to_bytes(2, "big")
    udp += checksum(pseudo + udp + b"\0\0" + payload).to_bytes(2, "big") + payload
    first = (6 << 28 | rng.randrange(1 << 28)).to_bytes(4, "big")
    return first + length.to_bytes(2, "big") + bytes([17, rng.randrange(256)]) + src + dst + udp


def cut(packet, layout):
    bits = int.from_bytes(packet, "big")
    at = len(packet) * 8
    for name, length in layout:
        at -= length
        yield name, length, bits >> at & (1 << length) - 1
    assert at % 8 == 0


def random_rule(rng, packet):
    """Rows, and for each the value of its field."""
    layout = []
    for name, length in FIELDS:
        layout += SPLIT[name] if name in SPLIT and rng.random() < 0.3 else [(name, length)]
    rows = []
    for name, length, value in cut(packet, layout):
        row = {"FID": name, "FL": length, "FP": 1, "DI": "Bi"}
        # Now and then a rule for another packet.
        known = value ^ 1 << rng.randrange(length) if rng.random() < 0.02 else value
        digits = "0x{:0{}x}"
        kind = rng.choice(["sent", "not", "lsb", "map", "ignore", "equal-sent"] + (["compute"] * 3 if name in COMPUTED else []))
        if kind == "sent":
            row |= {"TV": None, "MO": "ignore", "CDA": "value-sent"}
        elif kind == "not":
            row |= {"TV": digits.format(known, -(-length // 4)), "MO": "equal", "CDA": "not-sent"}
        elif kind == "equal-sent":
            row |= {"TV": known, "MO": "equal", "CDA": "value-sent"}
        elif kind == "ignore":
            row |= {"TV": rng.randrange(1 << length), "MO": "ignore", "CDA": "not-sent"}
        elif kind == "lsb":
            # microschc takes the first bits as the pattern.
            row |= {"TV": digits.format(known, -(-length // 4)), "MO": "MSB", "MO.VAL": rng.randint(1, length), "CDA": "LSB"}
        elif kind == "map":
            values = {known}
            for _ in range(rng.randrange(min(70, (1 << length) - 2))):
                values.add(rng.randrange(1 << length))
            values = list(values)
            rng.shuffle(values)
            row |= {"TV": values, "MO": "match-mapping", "CDA": "mapping-sent"}
        else:
            row |= {"TV": None, "MO": "ignore", "CDA": COMPUTED[name]}
        if rng.random() < 0.05:
            # The other way has another row.
            row["DI"] = "Up"
            rows.append((row, value))
            row = {"FID": name, "FL": length, "FP": 1, "DI": "Dw", "TV": None, "MO": "ignore", "CDA": "value-sent"}
        rows.append((row, value))
    return rows


def number(value):
    return int(value, 0) if isinstance(value, str) else value


def microschc_residue(rows, direction):
    """The residue as digits, or None if the rule does not match."""
    from microschc.binary.buffer import Buffer, Padding
    from microschc.compressor.compressor import compress
    from microschc.rfc8724 import (CompressionDecompressionAction as CDA, DirectionIndicator as DI, FieldDescriptor,
                                   MatchingOperator as MO, MatchMapping, PacketDescriptor, RuleDescriptor,
                                   RuleFieldDescriptor, RuleNature)
    from microschc.ruler.ruler import RuleDescriptorMatchError, Ruler

    def buffer(value, length):
        return Buffer(content=value.to_bytes(-(-length // 8), "big"), length=length)

    actions = {"value-sent": CDA.VALUE_SENT, "not-sent": CDA.NOT_SENT, "LSB": CDA.LSB, "mapping-sent": CDA.MAPPING_SENT}
    directions = {"Bi": DI.BIDIRECTIONAL, "Up": DI.UP, "Dw": DI.DOWN}
    described, values = [], []
    for row, value in rows:
        length = row["FL"]
        target = row["TV"]
        if row["MO"] == "MSB":
            operator, target = MO.MSB, buffer(number(target) >> length - row["MO.VAL"], row["MO.VAL"])
        elif row["MO"] == "match-mapping":
            bits = (len(target) - 1).bit_length()
            mapping = {buffer(number(listed), length): buffer(index, bits) for index, listed in enumerate(target)}
            operator, target = MO.MATCH_MAPPING, MatchMapping(mapping)
        else:
            operator = MO.EQUAL if row["MO"] == "equal" else MO.IGNORE
            target = buffer(number(target) if target is not None else 0, length)
        described.append(RuleFieldDescriptor(
            id=row["FID"], length=length, position=1, direction=directions[row["DI"]], target_value=target,
            matching_operator=operator, compression_decompression_action=actions.get(row["CDA"], CDA.COMPUTE)))
        if row["DI"] in ("Bi", direction):
            values.append(FieldDescriptor(id=row["FID"], value=buffer(value, length), position=1))
    rule = RuleDescriptor(id=Buffer(content=b"", length=0), nature=RuleNature.COMPRESSION, field_descriptors=described)
    packet = PacketDescriptor(direction=directions[direction], fields=values,
                              payload=Buffer(content=b"", length=0, padding=Padding.RIGHT))
    try:
        next(iter(Ruler([rule]).match_packet_descriptor(packet)))
    except RuleDescriptorMatchError:
        return None
    residue = compress(packet, rule)
    bits = int.from_bytes(residue.content, "big")
    if residue.padding is Padding.RIGHT:
        bits >>= 8 * len(residue.content) - residue.length
    return f"{bits:0{residue.length}b}" if residue.length else ""


def rules(dietesp, folder):
    rng = random.Random(SEED)
    matched = 0
    for count in range(RULES):
        packet = random_packet(rng)
        rows = random_rule(rng, packet)
        path = folder / "rule.json"
        path.write_text(json.dumps([row for row, _ in rows]))
        for direction in ("Up", "Dw"):
            command = [dietesp, "rules", "apply", path, "--packet", packet.hex(), "--direction", direction, "--format", "json"]
            run = subprocess.run(command, capture_output=True)
            assert run.returncode == 0, f"{run.stderr.decode()}: {path.read_text()}"
            answer = json.loads(run.stdout)
            wanted = microschc_residue(rows, direction)
            where = f"rule {count} {direction}: {path.read_text()} {packet.hex()}"
            assert answer["match"] == (wanted is not None), where
            if wanted is not None:
                assert answer["residue_bits"] == wanted, f"{answer['residue_bits']} not {wanted}: {where}"
                assert bytes.fromhex(answer["payload"]) == packet[48:], where
                matched += 1
    assert matched > RULES, "too few rules match to tell anything"
    print(f"{RULES} rules both ways agree with microschc, {matched} times with a residue")


BROKEN_KEYS = [
    ("an SA without spi", lambda file: file["sas"][0].pop("spi")),
    ("an unknown cipher", lambda file: file["sas"][0].update(encr="ENCR_AES_CCM_9")),
    ("an unknown key", lambda file: file["sas"][0].update(keys="00")),
    ("an SPI of 33 bits", lambda file: file["sas"][0].update(spi=1 << 32)),
    ("a key that is no hexadecimal", lambda file: file["sas"][0].update(key="zz")),
    ("an address that is none", lambda file: file["sas"][0].update(src="here")),
]
IETF = {"sa": "up", "ipsec_mode": "Tunnel", "ts_ip_version": "IPv6-only"}
ROW = {"FID": "IPV6.VER", "TV": 6, "MO": "equal", "CDA": "not-sent"}
GOOD_RULES = [
    {"contexts": [IETF]},
    {"contexts": [IETF | {"alignment": "8BIT", "dscp_cda": "SA", "dscp_list": [46, 0], "ts_port_dst": "61616-61631"}]},
    {"contexts": [{"spi": 1, "src": "any", "ipsec_mode": "transport", "ts_proto": "UDP", "esp_trailer": "mandatory"}]},
    [ROW],
    {"RuleID": 1, "RuleIDLength": 8, "fields": [ROW, ROW | {"FID": "ipv6.dst", "TV": "::1", "MO": "msb(3)", "CDA": "lsb"}]},
]
BROKEN_RULES = [
    {"contexts": [{"ipsec_mode": "Tunnel", "ts_ip_version": "IPv6-only"}]},
    {"contexts": [IETF | {"spi": 1}]},
    {"contexts": [IETF | {"alignment": "12 bit"}]},
    {"contexts": [IETF | {"esp_spi_lsb": 33}]},
    {"contexts": [IETF | {"dscp_cda": "sa", "dscp_list": [1, 1]}]},
    {"contexts": [IETF | {"dscp_cda": "outer"}]},
    {"contexts": [IETF | {"tunnel_ip": {"src": "::1"}}]},
    {"contexts": [IETF | {"SPI_SIZE": 1}]},
    {"contexts": [IETF | {"dialect": "6lo", "SPI_SIZE": 5}]},
    {"contexts": [IETF | {"dialect": "ehc", "esp_align": 64}]},
    {"contexts": [IETF | {"dialect": "custom"}]},
    {"contexts": [IETF], "context": []},
    [ROW | {"FID": "IPV6.VERSION"}],
    [ROW | {"MO": "same"}],
    [ROW | {"CDA": "sent"}],
    [ROW | {"FL": 129}],
    [{"FID": "IPV6.VER", "TV": 6, "MO": "equal"}],
    [],
]


def with_text_keys(data):
    """The value as JSON has it: the keys of objects are text."""
    if isinstance(data, dict):
        return {str(key): with_text_keys(value) for key, value in data.items()}
    return [with_text_keys(value) for value in data] if isinstance(data, list) else data


def schemas(dietesp, folder):
    validators = {}
    for of in ("rules", "keys"):
        schema = json.loads(pathlib.Path(f"schemas/{of}.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        validators[of] = jsonschema.Draft202012Validator(schema)

    def check(of, data, where):
        errors = [jsonschema.exceptions.best_match([error]).message for error in validators[of].iter_errors(data)]
        assert not errors, f"{where}: {errors}"

    def taken(data):
        path = folder / "file.yaml"
        path.write_text(json.dumps(data))
        command = "show" if isinstance(data, list) or "fields" in data else "check"
        return subprocess.run([dietesp, "rules", command, path], capture_output=True).returncode == 0

    files = 0
    key_file = None
    folders = [pathlib.Path("samples"), DATA / "diet-cases"]
    for path in sorted(path for top in folders for path in top.glob("**/*.yaml")):
        data = with_text_keys(yaml.safe_load(path.read_text()))
        if path.stem.startswith(("rules", "keys")) or path.stem.endswith(("rules", "keys")):
            check("rules" if "rules" in path.stem else "keys", data, path)
            files += 1
            if path.stem == "keys":
                key_file = key_file or data
    if key_file:
        for what, break_it in BROKEN_KEYS:
            broken = copy.deepcopy(key_file)
            break_it(broken)
            assert not validators["keys"].is_valid(broken), what
            assert not taken(broken), what
    for good in GOOD_RULES:
        check("rules", good, good)
        assert taken(good), good
    for broken in BROKEN_RULES:
        assert not validators["rules"].is_valid(broken), broken
        assert not taken(broken), broken
    print(f"{files} key and rule files fit the schemas, {len(BROKEN_KEYS) + len(BROKEN_RULES)} broken ones do not")


def records(pcap):
    """The packets of a pcap file."""
    data = pcap.read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at < len(data):
        length = struct.unpack(order + "I", data[at + 8:at + 12])[0]
        yield data[at + 16:at + 16 + length]
        at += 16 + length


def matches_of_a_capture(dietesp, folder):
    """`rules check --capture` on the packets of a compress case, sealed here as standard ESP."""
    case = DATA / "diet-cases/compress/01-ietf-tunnel"
    key, salt, spi = bytes(range(16)), b"salt", 0xc07901b1
    keys = folder / "keys.yaml"
    keys.write_text(f"sas: [{{ name: s, spi: {spi}, encr: ENCR_AES_GCM_16, key: {key.hex()}, salt: {salt.hex()} }}]")
    capture = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101)
    outer = bytes.fromhex("20010db8000000010000000000000002" "20010db8000000010000000000000001")
    for number, packet in enumerate(records(case / "original.pcap"), 1):
        header = struct.pack(">II", spi, number)
        iv = number.to_bytes(8, "big")
        padding = -(len(packet) + 2) % 4
        clear = packet + bytes(range(1, padding + 1)) + bytes([padding, 41 if packet[0] >> 4 == 6 else 4])
        esp = header + iv + AESGCM(key).encrypt(salt + iv, clear, header)
        frame = struct.pack(">IHBB", 6 << 28, len(esp), 50, 64) + outer + esp
        capture += struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame
    path = folder / "esp.pcap"
    path.write_bytes(capture)
    run = subprocess.run([dietesp, "rules", "check", case / "rules.yaml", "--keys", keys, "--capture", path],
                         capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    expected = [json.loads(line) for line in (case / "expected.jsonl").read_text().splitlines()]
    good = sum(frame["matches"] for frame in expected)
    assert f"s: {good} of {len(expected)} packets match\n" in run.stdout, run.stdout
    for field in {frame["x_field"] for frame in expected if not frame["matches"]}:
        stopped = [frame["frame"] for frame in expected if frame.get("x_field") == field]
        assert f"  {len(stopped)} stopped by {field}; frame {stopped[0]}: {field} " in run.stdout, (field, run.stdout)
    print(f"{good} of {len(expected)} packets match, the others are stopped by the fields of the case")


def main():
    dietesp = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        rules(dietesp, pathlib.Path(folder))
        schemas(dietesp, pathlib.Path(folder))
        matches_of_a_capture(dietesp, pathlib.Path(folder))


if __name__ == "__main__":
    main()
