"""The three methods, and one run of one of them by `cosub run`: started, gone on with, or read if it is there."""
import dataclasses
import gzip
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

from cost import forward, kept_share

PIPELINE = pathlib.Path(__file__).resolve().parent / "pipeline.yaml"
TRAIN_FILES = "/usr/share/datasets/fashion-mnist/train-{}.gz"
TRAIN_IMAGES, HELD_OUT = 60000, 6000
SUBMODELS = ("even", "odd", "first_half", "last_half")


def pipeline_value(key):
    """What the pipeline's line `key: {JSON}` holds."""
    for line in PIPELINE.read_text().splitlines():
        if line.strip().startswith(key + ": {\""):
            return json.loads(line.split(":", 1)[1])
    sys.exit(f"error: {PIPELINE} has no line `{key}: {{JSON}}`")


class RunError(Exception):
    pass


@dataclasses.dataclass
class Method:
    name: str
    views: int
    drop_rate: float
    forward: float = 0  # multiply-adds of one training image
    steps: int = 0

    def plan(self, cost, micro, budget, global_batch):
        self.forward = forward(cost, kept_share(self.drop_rate, micro) if self.drop_rate else 1, self.views)
        self.steps = round(budget / self.forward / global_batch)

    def training(self, global_batch):
        """Multiply-adds of the whole training: the backward pass costs twice the forward pass."""
        return 3 * self.forward * self.steps * global_batch


def methods(drop_rate):
    return [Method("plain", 1, 0), Method("stochastic_depth", 1, drop_rate), Method("cosub", 2, drop_rate)]


def hold_out(folder):
    """The last images of the training set as IDX files of their own, for choosing the learning rate."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind, item in (("images-idx3-ubyte", 28 * 28), ("labels-idx1-ubyte", 1)):
        data = gzip.open(TRAIN_FILES.format(kind)).read()
        dimensions = data[3]
        sizes = data[8:4 + 4 * dimensions]
        files[kind.split("-")[0]] = path = folder / f"held-out-{kind}"
        path.write_bytes(data[:4] + HELD_OUT.to_bytes(4, "big") + sizes + data[-HELD_OUT * item:])
    return files


@dataclasses.dataclass
class Run:
    method: Method
    lr: float
    seed: int
    held_out: dict | None = None  # files; the run then trains without them and is measured on them

    def name(self):
        return f"{self.method.name}-{'tuning' if self.held_out else 'final'}-lr{self.lr:g}-seed{self.seed}"

    def settings(self, runs, global_batch, warmup_share):
        images = TRAIN_IMAGES - HELD_OUT if self.held_out else TRAIN_IMAGES
        epochs = self.method.steps / (images // global_batch)
        settings = {"name": self.name(), "runs": runs, "seed": self.seed,
                    "defaults.model.drop_rate": self.method.drop_rate,
                    "defaults.cosub.enabled": str(self.method.views == 2).lower(),
                    "stages.train.optimizer.lr": f"{self.lr:g}",
                    "stages.train.schedule.epochs": f"{epochs:.6f}",
                    "stages.train.schedule.warmup_epochs": f"{epochs * warmup_share:.6f}"}
        if self.held_out:
            settings |= {"defaults.data.train.limit": images}
            settings |= {f"defaults.data.val.idx.{kind}": path for kind, path in self.held_out.items()}
        return [f"--set={key}={value}" for key, value in settings.items()]

    def result(self, program, runs, settings):
        """Its numbers. A run of other settings under this name is started anew; an unfinished one is gone on with."""
        folder = runs / self.name()
        told = json.dumps([hashlib.sha256(PIPELINE.read_bytes()).hexdigest(), *settings])
        note = runs / f"{self.name()}.settings"
        if not note.exists() or note.read_text() != told:
            shutil.rmtree(folder, ignore_errors=True)
            runs.mkdir(parents=True, exist_ok=True)
            note.write_text(told)
        results = folder / "results.json"
        if not results.exists() or json.loads(results.read_text())["state"] != "succeeded":
            command = [program, "run", PIPELINE, *settings]
            with open(runs / f"{self.name()}.log", "a") as log:
                status = subprocess.run([str(word) for word in command], stdout=log, stderr=log).returncode
            if status:
                raise RunError(f"{self.name()} ended with status {status}: {log.name}. This command goes on with it.")
        return self.read(folder)

    def read(self, folder):
        results = json.loads((folder / "results.json").read_text())
        evaluated = results["stages"]["evaluate"]
        steps = int((folder / "train" / "metrics.csv").read_text().splitlines()[-1].split(",")[0])
        if steps != self.method.steps:
            raise RunError(f"{self.name()} took {steps} steps, not {self.method.steps}")
        top1 = {"full": evaluated["top1"]} | {name: evaluated["submodels"][name]["top1"] for name in SUBMODELS}
        top1["half"] = sum(top1[name] for name in SUBMODELS) / len(SUBMODELS)
        # Where nothing drops, the two branch scales are one and the results hold it once.
        as_trained = {name: found.get("branch_scale_train", found)["top1"]
                      for name, found in evaluated["submodels"].items()}
        return {"name": self.name(), "method": self.method.name, "lr": self.lr, "seed": self.seed, "steps": steps,
                "seconds": results["stages"]["train"]["seconds"], "attempts": results["stages"]["train"]["attempts"],
                "top1": {name: 100 * value for name, value in top1.items()},
                "top1_branch_scale_train": {name: 100 * value for name, value in as_trained.items()}}
