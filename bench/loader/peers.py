"""Measures one peer's pipeline on one core and prints one line of JSON; called by bench/loader/run for every mode.

    build/bench/peers/bin/python3 bench/loader/peers.py MODE [--seconds 5] [--core 0] ...

The process is bound to one core before anything is imported, so that every library finds one CPU. Once over the set
fills the page cache and lets compilers finish; then batches are taken for at least the given time. CPU seconds are user
and system time of all threads. The peers run without worker processes; one that has a child is refused, as its time
would be missing.
"""
import argparse
import importlib
import json
import os
import pathlib
import resource
import sys
import time

# Mode -> module in pipelines/.
MODES = {
    "deit_plain": "deit_pil", "deit_3aug": "deit_pil", "deit_3aug_simd": "deit_pil",
    "torchvision_uint8": "torchvision_tensors", "torchvision_float": "torchvision_tensors",
    "torchvision_3aug": "torchvision_tensors",
    "dali_uint8": "dali_cpu", "dali_float": "dali_cpu", "dali_3aug": "dali_cpu",
    "dali_linear_uint8": "dali_cpu", "dali_linear_float": "dali_cpu",
    "ffcv_uint8": "ffcv_numba", "ffcv_float": "ffcv_numba",
    "ffcv_half_raw_uint8": "ffcv_numba", "ffcv_half_raw_float": "ffcv_numba",
}


def cpu_seconds():
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def refuse_children():
    for task in pathlib.Path("/proc/self/task").iterdir():
        if (task / "children").read_text().strip():
            sys.exit("error: the pipeline has started a process, whose CPU time cannot be counted while it lives")


class Values:
    """Shape, type, mean and deviation of what a pipeline gives; the same transform gives about the same ones."""

    def __init__(self):
        self.count, self.sum, self.sum_of_squares, self.shape, self.dtype = 0, 0.0, 0.0, None, None

    def add(self, batch):
        import numpy
        array = batch.as_array() if hasattr(batch, "as_array") else batch.numpy()  # DALI's list, or a tensor
        self.shape, self.dtype = list(array.shape), str(array.dtype)
        self.count += array.size
        self.sum += float(array.sum(dtype=numpy.float64))
        self.sum_of_squares += float(numpy.square(array, dtype=numpy.float64).sum())

    def summary(self):
        mean = self.sum / self.count
        deviation = (self.sum_of_squares / self.count - mean * mean) ** 0.5
        return {"shape": self.shape, "dtype": self.dtype, "mean": round(mean, 3), "deviation": round(deviation, 3)}


def measure(batches, warm_up_images, seconds):
    values, images = Values(), 0
    while images < warm_up_images:
        batch = next(batches)
        values.add(batch)
        images += len(batch)

    images, cpu, start = 0, cpu_seconds(), time.monotonic()
    while (wall := time.monotonic() - start) < seconds:
        images += len(next(batches))
    cpu = cpu_seconds() - cpu
    refuse_children()
    return {"images": images, "wall_seconds": round(wall, 3), "cpu_seconds": round(cpu, 3),
            "images_per_cpu_second": round(images / cpu, 1), "values": values.summary()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--folder", type=pathlib.Path, default="build/bench/photographs")
    parser.add_argument("--ffcv", type=pathlib.Path, default="build/bench/ffcv", help="what write_ffcv.py wrote")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()

    os.sched_setaffinity(0, {options.core})
    os.environ["OMP_NUM_THREADS"] = "1"
    images = sum(1 for path in options.folder.rglob("*.jpg"))
    if images < options.batch:
        sys.exit(f"error: {options.folder} has {images} JPEGs: run bench/loader/photographs")
    try:
        pipeline = importlib.import_module("pipelines." + MODES[options.mode])
    except ImportError as error:
        sys.exit(f"error: cannot be imported ({error}): run bench/loader/setup")
    result = measure(pipeline.open(options.mode, options), images, options.seconds)
    print(json.dumps({"mode": options.mode} | result))


if __name__ == "__main__":
    main()
