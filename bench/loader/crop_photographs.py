"""Cuts ImageNet-like JPEGs out of large photographs; called by bench/loader/photographs.

Every candidate is drawn by its own generator, keyed by (seed, photograph, index), so that the set is the same bytes
again with the same Pillow. Image sizes follow ImageNet's most frequent ones (mean about 473 x 402). A crop covers 1x
to 4x its own size in the photograph and is reduced by that factor. Wallpapers have more sky and blur than ImageNet,
whose files hold about 110 KB; candidates whose file has less than MIN_BYTES_PER_PIXEL are left out, so that entropy
decoding has about the share that it has there.
"""
import argparse
import io
import pathlib
import random
import shutil
import sys

import PIL
from PIL import Image

# (photograph's class, path below the unpacked packages). Only real photographs, chosen by eye.
LOMIRI_16 = ("Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Picture_1A_by_freespace "
             "Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
             "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
             "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi").split()
LOMIRI_20 = ["Kleiber_by_Lukas_Baubkus"]
MATE = "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower".split()
PLASMA = ("BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path "
          "summer_1am").split()
PHOTOGRAPHS = (
    [(name, f"lomiri-wallpapers-16.04/usr/share/backgrounds/{name}.jpg") for name in LOMIRI_16]
    + [(name, f"lomiri-wallpapers-20.04/usr/share/backgrounds/{name}.jpg") for name in LOMIRI_20]
    + [(name, f"mate-backgrounds/usr/share/backgrounds/mate/nature/{name}.jpg") for name in MATE]
    + [(name, f"plasma-workspace-wallpapers/usr/share/wallpapers/{name}/contents/images/2560x1600.jpg")
       for name in PLASMA])

# Sizes in pixels and how often they are drawn, in percent.
SIZES = {(500, 375): 60, (375, 500): 18, (500, 333): 8, (333, 500): 4, (500, 500): 4, (640, 480): 3, (400, 300): 3}
MAX_REDUCTION = 4.0
QUALITY = 96
MIN_BYTES_PER_PIXEL = 0.35


def encode(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return buffer.getvalue()


def draw_crop(photograph, generator):
    width, height = generator.choices(list(SIZES), weights=list(SIZES.values()))[0]
    largest = min(MAX_REDUCTION, photograph.width / width, photograph.height / height)
    reduction = generator.uniform(1.0, largest)
    left = generator.uniform(0, photograph.width - width * reduction)
    top = generator.uniform(0, photograph.height - height * reduction)
    box = (left, top, left + width * reduction, top + height * reduction)
    return photograph.resize((width, height), Image.Resampling.LANCZOS, box=box)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wallpapers", type=pathlib.Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=67, help="crops drawn from each photograph")
    options = parser.parse_args()

    if not options.output.exists():
        make(options)
    describe(options.output)


def make(options):
    """Whole or not at all: written beside the output, then renamed."""
    partial = options.output.with_name(options.output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, path in PHOTOGRAPHS:
        source = options.wallpapers / path
        if not source.exists():
            sys.exit(f"error: {source} is missing; rm -r {options.wallpapers} and run bench/loader/photographs again")
        with Image.open(source) as opened:
            photograph = opened.convert("RGB")
        for index in range(options.candidates):
            crop = draw_crop(photograph, random.Random(f"{options.seed} {name} {index}"))
            data = encode(crop)
            if len(data) >= MIN_BYTES_PER_PIXEL * crop.width * crop.height:
                (partial / name).mkdir(parents=True, exist_ok=True)
                (partial / name / f"{index:03}.jpg").write_bytes(data)
    partial.rename(options.output)


def describe(output):
    sizes, bytes_ = [], []
    for path in sorted(output.rglob("*.jpg")):
        with Image.open(path) as image:
            sizes.append(image.size)
        bytes_.append(path.stat().st_size)
    bytes_.sort()
    print(f"{output}: {len(sizes)} JPEGs of {len(list(output.iterdir()))} photographs, "
          f"mean {sum(w for w, _ in sizes) / len(sizes):.0f} x {sum(h for _, h in sizes) / len(sizes):.0f}, "
          f"mean {sum(bytes_) / len(bytes_) / 1000:.0f} kB "
          f"(10 % below {bytes_[len(bytes_) // 10] / 1000:.0f}, 10 % above {bytes_[-len(bytes_) // 10] / 1000:.0f}), "
          f"Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()
