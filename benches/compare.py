"""The measurements of compare.sh.

Every figure is a median of --runs runs (3 at least), the programs taking turns, of the whole command with start-up and
the reading of keys. CPU is user and system time of the whole process. tshark is slow on these captures, so it gets the
first packets only, and what is compared is packets per second. What is written goes to memory where there is a
/dev/shm. Nothing here passes or fails by its speed; what the programs print is checked.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).resolve().parent.parent
DIETESP = PROJECT / "target/release/dietesp"
FOLDER = PROJECT / "target/compare"
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
CIPHERS = {"ccm8": "CCM_8", "gcm16": "GCM_16"}
PORT = ["--format", "fields", "-e", "inner.dst_port"]


def say(text):
    print(text, file=sys.stderr, flush=True)


class Capture:
    """A folder of gen_esp.py, made if it is not there, and the Diet-ESP made of it."""

    def __init__(self, cipher, packets, sas=1, burst=1, spi_bits=8):
        self.packets = packets
        self.folder = FOLDER / f"{cipher}-{packets}-{sas}-{burst}-{spi_bits}"
        self.esp, self.diet = self.folder / "esp.pcap", self.folder / "diet.pcap"
        self.esp_options = ["-k", self.folder / "esp_keys.yaml"]
        self.esp_sa_options = ["-k", self.folder / "esp_sa"]
        self.diet_options = ["-k", self.folder / "diet_keys.yaml", "-r", self.folder / "rules.yaml"]
        if not self.diet.exists():
            say(f"making {self.folder.name}")
            options = {"cipher": cipher, "packets": packets, "sas": sas, "burst": burst, "spi-bits": spi_bits}
            arguments = [f"--{name}={value}" for name, value in options.items()]
            subprocess.run([sys.executable, PROJECT / "benches/gen_esp.py", *arguments, self.folder], check=True)
            subprocess.run([DIETESP, "-q", *self.compress(self.diet)], check=True)
        # What a cache forgot would be measured otherwise.
        for path in (self.esp, self.diet):
            path.read_bytes()

    def decode_esp(self, *options):
        return ["decode", self.esp, *self.esp_options, *options]

    def decode_esp_sa(self, *options):
        """With the keys that tshark reads."""
        return ["decode", self.esp, *self.esp_sa_options, *options]

    def decode_diet(self, *options):
        return ["decode", self.diet, *self.diet_options, *options]

    def convert(self, output):
        return ["convert", self.diet, "-o", output, *self.diet_options]

    def compress(self, output):
        return ["compress", self.esp, "-o", output, "--esp-keys", self.folder / "esp_keys.yaml", *self.diet_options]


class Run:
    """A command to be measured, and how many packets it takes."""

    def __init__(self, command, packets, environment=None, output=None):
        self.command = [str(word) for word in command]
        self.packets = packets
        self.environment = {**os.environ, **(environment or {})}
        # What each line of standard output is to be.
        self.output = output
        self.seconds = []
        self.cpu_seconds = []
        self.kernel_seconds = []

    def once(self, wrapper=()):
        with tempfile.TemporaryFile(dir=MEMORY) as stdout, tempfile.TemporaryFile() as stderr:
            start = time.perf_counter()
            child = subprocess.Popen(
                [*wrapper, *self.command], env=self.environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
            _, status, usage = os.wait4(child.pid, 0)
            self.seconds.append(time.perf_counter() - start)
            self.cpu_seconds.append(usage.ru_utime + usage.ru_stime)
            self.kernel_seconds.append(usage.ru_stime)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode != 0:
                stderr.seek(0)
                sys.exit(f"{' '.join(self.command)}\nended with {child.returncode}: {stderr.read().decode()}")
            if self.output is not None:
                stdout.seek(0)
                lines = stdout.read().decode().splitlines()
                if len(lines) != self.packets or set(lines) != {self.output}:
                    sys.exit(f"{' '.join(self.command)}\nprinted {len(lines)} lines, {sorted(set(lines))[:5]}")

    def peak_mib(self):
        """Peak resident memory of one run. Measured by time(1), which is small: Linux counts the parent's before exec."""
        with tempfile.NamedTemporaryFile() as report:
            self.once(["/usr/bin/time", "-f", "%M", "-o", report.name])
            self.seconds.pop()
            self.cpu_seconds.pop()
            self.kernel_seconds.pop()
            return int(report.read().split()[-1]) / 1024

    def time(self):
        return median(self.seconds)

    def cpu(self):
        return median(self.cpu_seconds)

    def kernel(self):
        return median(self.kernel_seconds)

    def rate(self):
        return self.packets / self.time()

    def nanos(self):
        return 1e9 * self.time() / self.packets

    def cpu_nanos(self):
        return 1e9 * self.cpu() / self.packets


def dietesp(arguments, packets, threads=1, output=None):
    command = [DIETESP, "-q", *arguments, *(["--threads", str(threads)] if threads else [])]
    return Run(command, packets, output=output)


def tshark(capture, packets, options, output=None):
    environment = {"WIRESHARK_CONFIG_DIR": str(capture.folder)}
    command = ["tshark", "-n", "-r", capture.esp, "-c", packets, "-o", "esp.enable_encryption_decode:TRUE", *options]
    return Run(command, packets, environment, output)


SCAPY = """
import sys
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.utils import PcapReader
path, count, spi, key = sys.argv[1:]
sa = SecurityAssociation(ESP, int(spi), crypt_algo="AES-GCM", crypt_key=bytes.fromhex(key),
                         tunnel_header=IPv6(src="2001:db8:1::1", dst="2001:db8:2::1"))
with PcapReader(path) as packets:
    for _, packet in zip(range(int(count)), packets):
        print(sa.decrypt(packet[IPv6]).dport)
"""


def scapy(capture, packets):
    if subprocess.run([sys.executable, "-c", "import scapy.layers.ipsec"], capture_output=True).returncode != 0:
        return None
    words = (capture.folder / "esp_sa").read_text().splitlines()[0].replace('"', "").split(",")
    arguments = [capture.esp, packets, int(words[3], 16), words[5].removeprefix("0x")]
    return Run([sys.executable, "-c", SCAPY, *arguments], packets, output="5683")


def first_packet_of(path, short):
    """Writes a capture of the first packet alone."""
    with path.open("rb") as capture:
        head = capture.read(24 + 16)
        short.write(head + capture.read(int.from_bytes(head[32:36], "little")))
    short.flush()


class Bench:
    def __init__(self, packets, runs, large):
        self.packets, self.runs, self.large = packets, max(runs, 3), large
        # What is about a few nanoseconds, or about 100,000 SAs, needs more.
        self.more_packets = max(packets, min(10 * packets, 1_000_000))
        self.with_tshark = shutil.which("tshark") is not None
        if not self.with_tshark:
            say("tshark is not installed: its columns stay empty")

    def measure(self, *runs, times=None):
        """Runs the commands in turn."""
        for _ in range(times or self.runs):
            for run in runs:
                if run:
                    say(f"  {Path(run.command[0]).name} {run.command[2]} ..." if run.command[1] != "-c" else "  scapy ...")
                    run.once()

    def peer(self, capture, packets, options, output=None):
        """tshark on as many of the first packets as it can take in some seconds."""
        return tshark(capture, min(packets, self.packets), options, output) if self.with_tshark else None

    def ports(self):
        """Inner destination port of every packet."""
        threads = ["1 thread", "2 threads"]
        titles = ["inner destination port of every packet; keys of ESP as tshark reads them", *threads, "2 against 1", "tshark", *(f"ratio, {t}" for t in threads)]
        table = Table(*titles)
        for sas in (1, 100, 10_000):
            for cipher, name in CIPHERS.items():
                # 10,000 SAs need more than 8 bits to be told apart, and more packets add nothing new.
                packets = self.packets if sas < 1000 else min(self.packets, 100_000)
                capture = Capture(cipher, packets, sas, spi_bits=8 if sas < 1000 else 16)
                both = lambda arguments: [dietesp(arguments, packets, threads, "5683") for threads in (1, 2)]
                esp, diet = both(capture.decode_esp_sa(*PORT)), both(capture.decode_diet(*PORT))
                yaml = both(capture.decode_esp(*PORT)) if sas > 1000 else []
                # Its look-up of SAs is linear: fewer packets than SAs would meet the first of them only.
                slow = sas > 1000
                count = sas if slow and not self.large else 100_000
                peer = self.peer(capture, count, ["-T", "fields", "-e", "udp.dstport"], "5683")
                self.measure(*esp, *yaml, *diet)
                self.measure(peer, times=1 if slow and self.large else None)
                label = f"{name}, {sas:,} SA{'s' if sas > 1 else ''}"
                table.rates(f"ESP, {label}", esp, peer)
                if yaml:
                    table.rates(f"ESP, {label}, keys in YAML", yaml, peer)
                table.rates(f"Diet-ESP, {label}", diet, peer)
        table.print()
        capture = Capture("gcm16", self.packets)
        other = scapy(capture, min(self.packets, 5000))
        if other:
            one = dietesp(capture.decode_esp(*PORT), self.packets, 1, "5683")
            self.measure(one, other)
            print(f"scapy, ESP, GCM_16, 1 SA: {other.rate():,.0f} packets/s; ratio, 1 thread: {ratio(one, other)}\n")

    def records(self):
        """Everything of every packet, and the other commands."""
        titles = ["ns per packet, 1 thread", "2 threads", "CPU ns per packet, 1 thread", "2 threads", "CPU against decode, 1 thread"]
        table = Table("CCM_8, 1 SA", *titles)
        capture = Capture("ccm8", self.packets)
        with tempfile.TemporaryDirectory(dir=MEMORY or FOLDER) as folder:
            output = Path(folder) / "out.pcap"
            both = lambda arguments: [dietesp(arguments, self.packets, threads) for threads in (1, 2)]
            esp, diet = both(capture.decode_esp(*PORT)), both(capture.decode_diet(*PORT))
            jsonl, rows = both(capture.decode_diet("--format", "jsonl")), both(capture.decode_diet())
            esp_jsonl = both(capture.decode_esp("--format", "jsonl"))
            convert, compress = both(capture.convert(output)), both(capture.compress(output))
            peer = self.peer(capture, 20_000, ["-T", "ek"])
            self.measure(*esp, *diet, *jsonl, *rows, *esp_jsonl, *convert, *compress, peer)
        table.nanos("ESP: decode, one field", esp, esp)
        table.nanos("Diet-ESP: decode, one field", diet, diet)
        table.nanos("ESP: decode, jsonl", esp_jsonl, esp)
        table.nanos("Diet-ESP: decode, jsonl", jsonl, diet)
        table.nanos("Diet-ESP: decode, table", rows, diet)
        table.nanos("Diet-ESP to ESP: convert", convert, diet)
        table.nanos("ESP to Diet-ESP: compress", compress, esp)
        table.print()
        print(f"Diet-ESP against ESP, decode of one field, time: {diet[0].time() / esp[0].time():.2f} with 1 thread, {diet[1].time() / esp[1].time():.2f} with 2\n")
        if peer:
            print(
                f"`--format jsonl` against `tshark -T ek` ({peer.packets:,} packets of ESP, {peer.rate():,.0f} packets/s): "
                f"ratio {ratio(esp_jsonl[0], peer)} with 1 thread, {ratio(esp_jsonl[1], peer)} with 2\n"
            )

    def opening(self):
        """The whole of decode against a loop that only opens packets, with the crate `ccm` 0.5."""
        packets = self.more_packets
        capture = Capture("ccm8", packets)
        run = dietesp(capture.decode_esp(*PORT), packets, 1, "5683")
        loop = ["cargo", "bench", "--quiet", "--locked", "--manifest-path", PROJECT / "Cargo.toml", "--bench", "ccm_peer"]
        opened = []
        for _ in range(self.runs):
            self.measure(run, times=1)
            say("  ccm_peer ...")
            done = subprocess.run([*loop, "--", capture.folder], check=True, capture_output=True)
            opened.append(float(done.stdout.split()[-1]))
        print(
            f"CPU per packet ({packets:,} packets of ESP, CCM_8, 1 SA): all of `dietesp decode` {run.cpu_nanos():,.0f} ns, a loop that only "
            f"opens the same packets with the crate ccm 0.5 {median(opened):,.0f} ns: ratio {run.cpu_nanos() / median(opened):.2f}\n"
        )

    def lookup(self):
        """Many SAs."""
        titles = ["CPU ns per packet", "of them the kernel's", "start-up with its keys, CPU ms", "tries per packet", "CPU per packet against 1 SA"]
        table = Table("look-up, GCM_16, 1 thread", *titles)
        cases = [("ESP, 1 SA", dict(sas=1), "esp"), ("ESP, 100,000 SAs", dict(sas=100_000, spi_bits=24), "esp")]
        cases += [("Diet-ESP, 8 SPI bits, 1 SA", dict(sas=1), "diet")]
        cases += [("Diet-ESP, 8 SPI bits, 1,000 SAs, bursts of 16", dict(sas=1000, burst=16), "diet")]
        packets = self.more_packets
        runs = []
        with tempfile.TemporaryDirectory() as shorts:
            for label, options, kind in cases:
                capture = Capture("gcm16", packets, **options)
                arguments, path = (capture.decode_esp_sa, capture.esp) if kind == "esp" else (capture.decode_diet, capture.diet)
                short = Path(shorts) / f"{len(runs)}.pcap"
                with short.open("wb") as first:
                    first_packet_of(path, first)
                run = dietesp(arguments(*PORT), packets, 1, "5683")
                empty = dietesp([short if word == path else word for word in arguments(*PORT)], 1, 1, "5683")
                runs.append((label, kind, path, capture.esp_sa_options if kind == "esp" else capture.diet_options, run, empty))
            # What it costs the kernel to find memory for 100,000 SAs differs from run to run.
            self.measure(*(run for *_, full, empty in runs for run in (full, empty)), times=3 * self.runs)
        single = {}
        for label, kind, path, options, run, empty in runs:
            rows = subprocess.run([DIETESP, "-q", "sa", path, *options, "--format", "jsonl"], check=True, capture_output=True)
            streams = [json.loads(line) for line in rows.stdout.splitlines()]
            verified = sum(stream["verified"] for stream in streams)
            tries = sum(stream["tries"] for stream in streams) / verified
            rest = 1e9 * (run.cpu() - empty.cpu()) / packets
            kernel = 1e9 * (run.kernel() - empty.kernel()) / packets
            against = f"{rest / single.setdefault(kind, rest):.2f}"
            table.row(label, f"{rest:,.0f}", f"{kernel:,.0f}", f"{1000 * empty.cpu():,.1f}", f"{tries:.2f}", against)
        table.print()

    def keys(self):
        """Start-up with 10,000 SAs, in each form of key files."""
        table = Table("10,000 SAs, GCM_16, a capture of one packet", "ms", "CPU ms")
        capture = Capture("gcm16", min(self.packets, 100_000), 10_000, spi_bits=16)
        with tempfile.NamedTemporaryFile(suffix=".pcap") as esp, tempfile.NamedTemporaryFile(suffix=".pcap") as diet:
            first_packet_of(capture.esp, esp)
            first_packet_of(capture.diet, diet)
            forms = {
                "keys as tshark reads them (`esp_sa`)": (esp, capture.esp_sa_options),
                "keys in YAML": (esp, capture.esp_options),
                "keys and rules in YAML": (diet, capture.diet_options),
            }
            runs = {form: dietesp(["decode", short.name, *files, *PORT], 1, None, "5683") for form, (short, files) in forms.items()}
            self.measure(*runs.values(), times=max(self.runs, 5))
        for form, run in runs.items():
            table.row(form, f"{1000 * run.time():,.1f}", f"{1000 * run.cpu():,.1f}")
        table.print()

    def memory(self):
        """Peak memory, and start-up."""
        least = min(self.packets, 100_000)
        sizes = [least, 10 * least] + ([100 * least] if self.large else [])
        table = Table("peak memory in MiB, ESP, GCM_16, 1 SA", "1 thread", "2 threads", "tshark")
        for packets in sizes:
            capture = Capture("gcm16", packets)
            runs = [dietesp(capture.decode_esp(*PORT), packets, threads, "5683") for threads in (1, 2)]
            # With 10 million tshark would need some 10 GiB.
            if self.with_tshark and packets <= 1_000_000:
                runs.append(tshark(capture, packets, ["-T", "fields", "-e", "udp.dstport"], "5683"))
            table.row(f"{packets:,} packets", *(f"{run.peak_mib():,.1f}" for run in runs))
        table.print()
        capture = Capture("gcm16", 1)
        own = dietesp(capture.decode_esp(*PORT), 1, None, "5683")
        peer = self.peer(capture, 1, ["-T", "fields", "-e", "udp.dstport"], "5683")
        self.measure(own, peer, times=11)
        against = f", tshark {1000 * peer.time():.0f} ms: ratio {ratio(own, peer)}" if peer else ""
        print(f"Start-up, a capture of one packet: {1000 * own.time():.1f} ms{against}\n")


def ratio(own, peer):
    value = own.rate() / peer.rate()
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


class Table:
    """A Markdown table, printed when it is full."""

    def __init__(self, *titles):
        self.rows, self.width = [titles, ["---"] + ["--:"] * (len(titles) - 1)], len(titles)

    def row(self, *cells):
        self.rows.append([*cells] + [""] * (self.width - len(cells)))

    def rates(self, label, own, peer):
        cells = [f"{run.rate():,.0f}/s" for run in own] + [ratio(own[1], own[0])]
        if peer:
            cells += [f"{peer.rate():,.0f}/s", *(ratio(run, peer) for run in own)]
        self.row(label, *cells)

    def nanos(self, label, own, base):
        cells = [f"{nanos:,.0f}" for nanos in [*(run.nanos() for run in own), *(run.cpu_nanos() for run in own)]]
        self.row(label, *cells, f"{own[0].cpu() / base[0].cpu():.2f}")

    def print(self):
        for row in self.rows:
            print(f"| {' | '.join(row)} |")
        print(flush=True)


def main():
    parser = argparse.ArgumentParser(prog="benches/compare.sh", description="Compares speed and memory with tshark")
    parser.add_argument("--packets", type=int, default=100_000, help="packets of a capture (100000)")
    parser.add_argument("--runs", type=int, default=3, help="runs of every command, 3 at least (3)")
    parser.add_argument("--large", action="store_true", help="memory of 100 times as many packets, and tshark on every packet of 10,000 SAs: 4 GB of disk and half an hour")
    parts = ["ports", "keys", "records", "opening", "lookup", "memory"]
    parser.add_argument("--only", choices=parts, action="append", help="one part; may be given several times")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.packets, args.runs, args.large)
    started = time.monotonic()
    for part in args.only or parts:
        getattr(bench, part)()
    say(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
