"""From the runs of bench/overlap/run to the table that people read."""
import os
import platform
import statistics

WANTED = 0.80


def machine():
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPUs, {models[0] if models else platform.machine()}, load {os.getloadavg()[0]:.1f}"


def of_round(off, on):
    """What one run says; seconds and shares. off, on: the two halves of the JSON of `bench step`, step by step in turns."""
    def phase(run, name):
        return run["phase_seconds"][name]["median"]

    found = {"step_off": off["step_seconds"]["median"], "step_on": on["step_seconds"]["median"],
             "backward_off": phase(off, "backward"), "backward_on": phase(on, "backward"),
             "exchange_off": off["exchange_seconds"]["median"], "exchange_on": on["exchange_seconds"]["median"],
             "exposed_off": phase(off, "reduce") + phase(off, "wait"),
             "exposed_on": phase(on, "reduce") + phase(on, "wait")}
    found["could_be_hidden"] = min(found["exchange_off"], found["backward_off"])
    found["exchange_over_backward"] = found["exchange_off"] / found["backward_off"]
    found["hidden_by_exposure"] = 1 - found["exposed_on"] / found["could_be_hidden"]
    found["saved"] = statistics.median(slow - fast for slow, fast in zip(off["seconds"], on["seconds"]))
    found["hidden_by_step"] = found["saved"] / found["could_be_hidden"]
    return found


ROWS = [  # key, what it is, unit, whether it is held against WANTED
    ("step_off", "step, overlap off", "ms", False),
    ("step_on", "step, overlap on", "ms", False),
    ("backward_off", "backward pass, off", "ms", False),
    ("backward_on", "backward pass, on", "ms", False),
    ("saved", "saved by overlap, median of the pairs", "ms", False),
    ("exchange_off", "exchange, off", "ms", False),
    ("exchange_on", "exchange, on", "ms", False),
    ("exposed_on", "exposed, on", "ms", False),
    ("could_be_hidden", "could be hidden", "ms", False),
    ("exchange_over_backward", "exchange / backward, off", "", False),
    ("hidden_by_exposure", "hidden share, by exposure", "", True),
    ("hidden_by_step", "hidden share, by step times", "", True),
]


def summary(rounds):
    found = {}
    for key, *_ in ROWS:
        values = [round_[key] for round_ in rounds]
        found[key] = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return found


def table(found):
    rows = [("of the rounds", "min", "median", "max", "wanted (median)")]
    for key, name, unit, held in ROWS:
        spread = found[key]
        cells = [f"{1e3 * spread[which]:.1f}" if unit == "ms" else f"{spread[which]:.3f}"
                 for which in ("min", "median", "max")]
        verdict = f">= {WANTED:.2f}: {'yes' if spread['median'] >= WANTED else 'NO'}" if held else ""
        rows.append((f"{name}, {unit}" if unit else name, *cells, verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) if 1 <= i <= 3 else cell.ljust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)
