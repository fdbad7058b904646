"""The programs that bench/step/run measures, each a process that runs one step for each line it is sent."""
import dataclasses
import os
import pathlib
import subprocess
import time

LIMIT_SECONDS = 600  # of an answer; torch.compile takes its time


@dataclasses.dataclass(frozen=True)
class Settings:
    worker: pathlib.Path
    python: pathlib.Path
    folder: pathlib.Path  # for weights, inputs and kept rows
    model: str
    images: int
    threads: int
    steps: int  # at most
    device: str = "cpu"
    ours_more: tuple = ()  # arguments of cosub bench step

    def ours(self, rate, precision="fp32", weights=True, extra=()):
        command = [str(self.worker), "bench", "step", "--on-request", "--model", self.model, "--images",
                   str(self.images), "--drop-rate", str(rate), "--precision", precision, "--threads",
                   str(self.threads), "--device", self.device, "--warm-up", "0", "--steps", str(self.steps),
                   *self.ours_more, *extra]
        return command + (["--weights", str(self.weights)] if weights else [])

    def peer(self, rate, rows, precision="fp32", compiled=False, weights=True):
        command = [str(self.python), "bench/step/peer.py", "--model", self.model, "--rows", rows, "--threads",
                   str(self.threads), "--device", self.device, "--inputs", str(self.inputs), "--kept-rows",
                   str(self.kept_rows(rate))]
        return (command + (["--weights", str(self.weights)] if weights else [])
                + (["--bf16"] if precision == "bf16" else []) + (["--compile"] if compiled else []))

    @property
    def weights(self):
        return self.folder / "weights.safetensors"

    @property
    def inputs(self):
        return self.folder / "inputs.safetensors"

    def kept_rows(self, rate):
        return self.folder / f"kept_rows_{rate}.json"

    def write_files(self, rates):
        """What both sides start from: drawn by ours."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.weights.unlink(missing_ok=True)
        self.inputs.unlink(missing_ok=True)
        once = ["--save-weights", str(self.weights), "--save-inputs", str(self.inputs)]
        for rate in rates:
            command = self.ours(rate, weights=False, extra=["--kept-rows", str(self.kept_rows(rate)), *once])
            subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=LIMIT_SECONDS)
            once = []


class Program:
    """A live process. step() -> (seconds, loss); started: when it was started, by time.monotonic(); peak_bytes: of
    tensors on the GPU so far."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 3:
            raise RuntimeError(f"no answer from: {' '.join(self.process.args)}")
        self.peak_bytes = int(answer[2])
        return float(answer[0]), float(answer[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already, which its missing answer has told
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
