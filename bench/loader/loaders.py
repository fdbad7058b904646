"""What bench/loader/run measures: every loader with its category and its command.

Within a category files, transform and output type are the same; the ratios are taken there.
"""
import dataclasses
import pathlib
import subprocess
import sys
import tarfile

PHOTOGRAPHS = pathlib.Path("build/bench/photographs")
HALF_RAW = pathlib.Path("build/bench/half_raw")
PEERS = pathlib.Path("build/bench/peers/bin/python3")
PEERS_SIMD = pathlib.Path("build/bench/peers_simd/bin/python3")
WORKER = pathlib.Path("build/release/bin/cosub-worker")


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    category: str
    cheaper_filter: bool = False  # measured, but not like for like
    python: pathlib.Path = PEERS
    ours = scales = False

    def command(self, seconds, core):
        return [str(self.python), "bench/loader/peers.py", self.name, "--seconds", str(seconds), "--core", str(core)]


@dataclasses.dataclass(frozen=True)
class Ours:
    name: str
    category: str
    output: str
    augmented: bool = False
    half_raw: bool = False
    scales: bool = False  # also measured with two threads
    ours = True
    cheaper_filter = False

    def command(self, seconds, core=None, threads=1):
        source = ["--shards", half_raw_shards()] if self.half_raw else ["--folder", str(PHOTOGRAPHS)]
        augment = ["--three-augment", "--color-jitter", "0.3"] if self.augmented else []
        return [str(WORKER), "data", "bench", *source, "--image-size", "224", "--batch", "64",
                "--threads", str(threads), "--seconds", str(seconds), "--output", self.output,
                "--crop", "random_resized", "--interpolation", "bicubic", "--flip", "0.5", *augment, "--json"]


CATEGORIES = {
    "uint8": "plain, uint8",
    "float": "plain, float",
    "augmented": "3-Augment and jitter, float",
    "half_raw_uint8": "half raw, uint8",
    "half_raw_float": "half raw, float",
}

LOADERS = {loader.name: loader for loader in [
    Ours("cosub_uint8", "uint8", "uint8", scales=True),
    Peer("torchvision_uint8", "uint8"),
    Peer("dali_uint8", "uint8"),
    Peer("dali_linear_uint8", "uint8", cheaper_filter=True),
    Peer("ffcv_uint8", "uint8"),
    Ours("cosub_float", "float", "float", scales=True),
    Peer("deit_plain", "float"),
    Peer("torchvision_float", "float"),
    Peer("dali_float", "float"),
    Peer("dali_linear_float", "float", cheaper_filter=True),
    Peer("ffcv_float", "float"),
    Ours("cosub_3aug", "augmented", "float", augmented=True, scales=True),
    Peer("deit_3aug", "augmented"),
    Peer("deit_3aug_simd", "augmented", python=PEERS_SIMD),
    Peer("torchvision_3aug", "augmented"),
    Peer("dali_3aug", "augmented"),
    Ours("cosub_half_raw_uint8", "half_raw_uint8", "uint8", half_raw=True),
    Peer("ffcv_half_raw_uint8", "half_raw_uint8"),
    Ours("cosub_half_raw_float", "half_raw_float", "float", half_raw=True),
    Peer("ffcv_half_raw_float", "half_raw_float"),
]}

# What cannot be measured, whatever is installed.
ABSENT = {"ffcv_3aug": "FFCV 1.0.2 has no grey, solarisation or blur"}


def half_raw_shards():
    """The shards' names as a brace pattern; they are numbered from 0."""
    shards = sorted(HALF_RAW.glob("*.tar"))
    if not shards:
        return str(HALF_RAW / "{000000..000000}.tar")  # ours then says what is missing
    return str(HALF_RAW / f"{{{shards[0].stem}..{shards[-1].stem}}}.tar")


def pack_half_raw():
    if not WORKER.exists():
        print(f"{WORKER} is missing: only the peers are measured. scripts/test builds it.", file=sys.stderr)
        return
    done = subprocess.run([str(WORKER), "data", "pack", "--folder", str(PHOTOGRAPHS), "--output", str(HALF_RAW),
                           "--raw-share", "0.5", "--samples-per-shard", "400"], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"our half raw set could not be packed: {done.stderr.strip()}", file=sys.stderr)
        return
    names = [name for shard in sorted(HALF_RAW.glob("*.tar")) for name in tarfile.open(shard).getnames()]
    raw, jpeg = (sum(name.endswith(suffix) for name in names) for suffix in (".ppm", ".jpg"))
    print(f"{HALF_RAW}: {raw + jpeg} images, {raw} of them raw", file=sys.stderr)


def scaling_command(name, seconds):
    return LOADERS[name.removesuffix("_2_threads")].command(seconds, threads=2)
