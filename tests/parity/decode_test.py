"""Decoding and resizing against Pillow, on files of every kind that Pillow or this script can write.

Decoded pixels are Pillow's to the bit, regions too. Resized ones are within one level of Pillow's on at least 99.9 % of
the values, and never more than two away.
"""
import itertools
import pathlib
import struct
import zlib

import parity
from augment_support import Tool, images
import numpy as np
from PIL import Image, ImageFile

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LEAST_SHARE, MOST_LEVELS = 0.999, 2
ImageFile.MAXBLOCK = 1 << 23  # Pillow writes a progressive JPEG from one buffer, which noise fills


def interlaced_png(pixels):
    """RGB [height, width, 3] in Adam7's seven passes (PNG specification, section 8), which Pillow does not write."""
    height, width, _ = pixels.shape
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = b""
    for top, left, down, right in passes:
        part = pixels[top::down, left::right]
        if part.size:
            lines += b"".join(b"\0" + line.tobytes() for line in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def jpegs(colour, grey):
    for quality, subsampling, progressive in itertools.product((30, 75, 96), (0, 1, 2), (False, True)):
        yield (f"quality {quality}, subsampling {subsampling}{', progressive' if progressive else ''}.jpg", colour,
               dict(quality=quality, subsampling=subsampling, progressive=progressive))
    yield "grey.jpg", grey, dict(quality=90)
    yield "CMYK.jpg", colour.convert("CMYK"), dict(quality=90)
    yield "restarts.jpg", colour, dict(quality=90, restart_marker_blocks=3)
    yield "keeps RGB.jpg", colour, dict(quality=90, keep_rgb=True)


def pngs(colour, grey):
    with_alpha = colour.copy()
    with_alpha.putalpha(grey)
    yield "colour.png", colour, {}
    yield "colour and alpha.png", with_alpha, {}
    yield "grey and alpha.png", with_alpha.convert("LA"), {}
    yield "grey.png", grey, {}
    yield "palette.png", colour.quantize(200), {}
    yield "palette of 16.png", colour.quantize(16), {"bits": 4}
    yield "palette and transparency.png", colour.quantize(64), {"transparency": 3}
    yield "transparent colour.png", colour, {"transparency": (1, 2, 3)}
    yield "one bit.png", grey.convert("1"), {}
    yield "colour.ppm", colour, {}
    yield "grey.pgm", grey, {}


def write_files(folder):
    """Every kind at a few sizes; paths without blanks, as the tool's lines have them between its arguments."""
    files = []
    for size, pixels in images():
        if pixels.ndim != 3 or min(pixels.shape[:2]) < 2:
            continue
        colour = Image.fromarray(pixels)
        for name, image, options in (*jpegs(colour, colour.convert("L")), *pngs(colour, colour.convert("L"))):
            path = folder / f"{size} {name}".replace(" ", "_")
            image.save(path, **options)
            files.append(path)
        path = folder / f"{size} interlaced.png".replace(" ", "_")
        path.write_bytes(interlaced_png(pixels))
        files.append(path)
    return files


def regions_of(height, width):
    yield 0, 0, height, width
    yield height // 3, width // 4, max(1, height // 2), max(1, width // 2)
    yield height - 1, width - 1, 1, 1


def decoded_cases(files):
    for path in files:
        opened = Image.open(path)
        for channels, mode in ((3, "RGB"), (1, "L")):
            if channels == 1 and opened.mode not in ("1", "L", "LA"):
                continue  # colour becomes luma before the resizing, with the loader's own formula
            pixels = np.asarray(opened.convert(mode))
            for top, left, height, width in regions_of(*pixels.shape[:2]):
                yield (path.name, f"{path} {channels} {top} {left} {height} {width} 0 0 -",
                       pixels[top:top + height, left:left + width])


def resized_cases(files):
    generator = np.random.default_rng(5)
    for path in files:
        image = Image.open(path).convert("RGB")
        for out, (name, resampling) in itertools.product((17, 96, 224), FILTERS.items()):
            height, width = (int(generator.integers(1, side + 1)) for side in (image.height, image.width))
            top, left = (int(generator.integers(0, side + 1)) for side in (image.height - height, image.width - width))
            theirs = image.crop((left, top, left + width, top + height)).resize((out, out), resampling)
            yield (f"{path.name} to {out}, {name}", f"{path} 3 {top} {left} {height} {width} {out} {out} {name}",
                   np.asarray(theirs))


def differences(tool, cases):
    """(name, |ours - theirs|) of each case."""
    cases = list(cases)
    pathlib.Path(tool.path("cases")).write_text("".join(line + "\n" for _, line, _ in cases))
    tool.run(tool.path("cases"), tool.path("output"))
    output, at = np.fromfile(tool.path("output"), np.uint8), 0
    assert len(output) == sum(expected.size for _, _, expected in cases), "images of another size"
    for name, _, expected in cases:
        found = output[at:at + expected.size].reshape(expected.shape)
        at += expected.size
        yield name, np.abs(found.astype(int) - expected)


def files_of(tool):
    folder = pathlib.Path(tool.path("files"))
    if folder.exists():
        return sorted(folder.iterdir())
    folder.mkdir()
    return write_files(folder)


def test_decoded_pixels_are_pillows(tool):
    count = 0
    for name, difference in differences(tool, decoded_cases(files_of(tool))):
        assert not difference.any(), (f"{name}: {np.count_nonzero(difference)} of {difference.size} values differ, by up "
                                      f"to {difference.max()}")
        count += 1
    return f"{count} regions equal"


def test_resized_pixels_are_pillows_within_a_level(tool):
    total = beyond = changed = 0
    for name, difference in differences(tool, resized_cases(files_of(tool))):
        assert difference.max() <= MOST_LEVELS, f"{name}: a value differs by {difference.max()}"
        total += difference.size
        changed += np.count_nonzero(difference)
        beyond += np.count_nonzero(difference > 1)
    assert beyond <= (1 - LEAST_SHARE) * total, f"{beyond} of {total} values differ by more than a level"
    return f"{total} values: {100 * changed / total:.3f} % differ by one level, {beyond} by two"


if __name__ == "__main__":
    parity.main([test_decoded_pixels_are_pillows, test_resized_pixels_are_pillows_within_a_level], Tool)
