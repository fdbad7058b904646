"""What augment_test.py compares with and on: our tool, test images, and our keyed random numbers in Python.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import PIL
    import timm
    import torch
    import torchvision
    from PIL import Image
except ImportError as error:
    sys.exit(f"{error}. Parity tests of augmentation need numpy, Pillow 13, timm 1.0.31, torch and torchvision 0.26: run "
             "scripts/test, or configure with -DCOSUB_PYTHON=PATH of a Python that has them.")

# Others draw, round or refuse differently: a difference would say nothing about us.
for module, version in ((PIL, "13."), (timm, "1.0.31"), (torchvision, "0.26")):
    if not module.__version__.startswith(version):
        sys.exit(f"{module.__name__} is {module.__version__}; parity tests of augmentation compare with {version}")

torch.set_num_threads(1)


class Tool:
    """augment_tool, called once for many cases."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.TemporaryDirectory(prefix="cosub-parity-")

    def path(self, name):
        return str(pathlib.Path(self.folder.name) / name)

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stderr}"
        return done.stdout

    def values(self, cases):
        """One line of output for each line of input."""
        pathlib.Path(self.path("cases")).write_text("".join(case + "\n" for case in cases))
        lines = self.run("values", self.path("cases")).split("\n")[:-1]
        assert len(lines) == len(cases), f"{len(lines)} answers to {len(cases)} cases"
        return lines


class Pixels:
    """Cases of one test: operations on images and the images that they must give, compared some megabytes at a time."""

    def __init__(self, tool, limit=0):
        self.tool, self.limit, self.count, self.bytes = tool, limit, 0, 0
        self.cases = []  # (name, the tool's line, input, expected)

    def add(self, name, image, line, reference):
        """`image`: (its name, array); `line`: the operation for the tool; `reference`: a PIL image."""
        pixels, expected = image[1], np.asarray(reference)
        operation, _, arguments = line.partition(" ")
        height, width, channels = *pixels.shape[:2], 1 if pixels.ndim == 2 else 3
        self.cases.append((f"{name} of {image[0]} ({line})", f"{operation} {height} {width} {channels} {arguments}\n",
                           pixels, expected))
        self.bytes += pixels.size + expected.size
        if self.bytes > 50e6:
            self.compare()

    def compare(self):
        path = self.tool.path
        pathlib.Path(path("cases")).write_text("".join(line for _, line, _, _ in self.cases))
        with open(path("input"), "wb") as file:
            for _, _, pixels, _ in self.cases:
                file.write(pixels.tobytes())
        self.tool.run("pixels", path("cases"), path("input"), path("output"))
        output, at = np.fromfile(path("output"), np.uint8), 0
        assert len(output) == sum(expected.size for _, _, _, expected in self.cases), "images of another size"
        for name, _, _, expected in self.cases:
            found = output[at:at + expected.size].reshape(expected.shape)
            at += expected.size
            if np.array_equal(found, expected):
                continue
            difference = np.abs(found.astype(int) - expected)
            where = tuple(map(int, np.unravel_index(difference.argmax(), difference.shape)))
            assert difference.max() <= self.limit, (
                f"{name}: {np.count_nonzero(difference)} of {difference.size} values differ, at {where} "
                f"{found[where]} instead of {expected[where]}")
        self.count, self.cases, self.bytes = self.count + len(self.cases), [], 0

    def check(self):
        """No value differs by more than the limit; the result says how many cases there were."""
        self.compare()
        return f"{self.count} images " + ("equal" if self.limit == 0 else f"within {self.limit}")


def _smooth(height, width, rng):
    """Like a photograph: waves, edges, noise, and a saturated sky."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0, 1, 4)
        plane = 128 + 110 * np.sin(x * a / 9 + 6 * b) * np.cos(y * c / 9 + 6 * d)
        plane = np.where((x + 2 * y) % 97 < 30, 255 - plane, plane) + rng.normal(0, 5, plane.shape)
        planes.append(np.where(y < height // 5, 255, plane))
    return np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8)


def _of_kind(kind, height, width, rng):
    shape = (height, width, 3)
    if kind == "photograph":
        return _smooth(height, width, rng)
    if kind == "noise":
        return rng.integers(0, 256, shape).astype(np.uint8)
    if kind == "two values":
        return (rng.integers(0, 2, shape) * 255).astype(np.uint8)
    if kind == "ramp":
        return (np.arange(height * width * 3).reshape(shape) % 256).astype(np.uint8)
    return np.full(shape, int(kind), np.uint8)


SMALL = ((1, 1), (1, 7), (7, 1), (3, 2), (2, 3), (33, 65))
LARGE = ((224, 224), (389, 517))


def images(large=LARGE, kinds=("photograph", "noise", "two values", "ramp", "0", "255", "77")):
    """(name, array) of RGB (H, W, 3) and luma (H, W) images."""
    rng = np.random.default_rng(7)
    result = []
    for height, width in (*SMALL, *large):
        for kind in kinds if (height, width) in SMALL else kinds[:3]:
            pixels = _of_kind(kind, height, width, rng)
            name = f"{height}x{width} {kind}"
            result += [(name, pixels), (f"{name}, luma", np.ascontiguousarray(pixels[:, :, 0]))]
    return result


def pil(image):
    return Image.fromarray(image[1])


class KeyedRandom:
    """KeyedRandom(stream, Purpose::kTest, 0, 0) of common/random.h: Philox4x32-10."""

    TEST = 8

    def __init__(self, stream):
        key = (stream + self.TEST * 0x9E3779B97F4A7C15) % 2**64
        self.key, self.block, self.words = (key % 2**32, key >> 32), 0, []

    def next_u32(self):
        if not self.words:
            c, (k0, k1) = [0, 0, 0, self.block], self.key
            for _ in range(10):
                a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
                c = [b >> 32 ^ c[1] ^ k0, b % 2**32, a >> 32 ^ c[3] ^ k1, a % 2**32]
                k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
            self.words, self.block = c, self.block + 1
        return self.words.pop(0)

    def next_u64(self):
        low = self.next_u32()
        return self.next_u32() << 32 | low

    def random(self):
        return (self.next_u64() >> 11) * 2.0**-53

    def uniform(self, low, high):
        return low + (high - low) * self.random()

    def randint(self, low, high):
        """As Python's: `high` is included."""
        bound = high - low + 1
        product = self.next_u32() * bound
        while product % 2**32 < (2**32 - bound) % bound:
            product = self.next_u32() * bound
        return low + (product >> 32)


def kolmogorov_smirnov(a, b):
    """The two samples' largest distance of distributions, over its point of 1 in 20,000: below 1 when they are of one kind."""
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    distance = np.abs(np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)).max()
    return distance / (2.3 * ((len(a) + len(b)) / (len(a) * len(b))) ** 0.5)
