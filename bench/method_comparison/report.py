"""From the runs to the tables that people read and the same numbers for the JSON."""
import math
import os
import statistics

from methods import SUBMODELS

MEASURED = ("full", "half", *SUBMODELS)
DIFFERENCES = (("cosub", "stochastic_depth"), ("stochastic_depth", "plain"), ("cosub", "plain"))
# Student's t, two-sided 95 %, for 1 to 19 degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
        2.110, 2.101, 2.093)


def machine():
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPUs, {models[0] if models else 'unknown'}"


def line(result):
    top1 = result["top1"]
    return (f"{result['name']:<46} full {top1['full']:.2f}  half depth {top1['half']:.2f}  ("
            + ", ".join(f"{name} {top1[name]:.2f}" for name in SUBMODELS) + f")  {result['seconds']:.0f} s")


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows)


def header(*names):
    return [names, tuple("---" for _ in names)]


def top1(results, method, measured):
    return {result["seed"]: result["top1"][measured] for result in results if result["method"] == method}


def spread(values):
    """Sample standard deviation; 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def accuracy(final, method):
    found = {}
    for measured in MEASURED:
        values = list(top1(final, method, measured).values())
        found[measured] = {"mean": statistics.mean(values), "sd": spread(values), "min": min(values), "max": max(values)}
    return found


def difference(final, method, other, measured):
    """Mean over the seeds of method - other, and the half-width of its 95 % t interval."""
    mine, theirs = top1(final, method, measured), top1(final, other, measured)
    values = [mine[seed] - theirs[seed] for seed in mine]
    half = T_95[len(values) - 2] * spread(values) / math.sqrt(len(values)) if 1 < len(values) < 21 else math.nan
    return {"mean": statistics.mean(values), "half_width_95": half, "min": min(values), "max": max(values)}


def price_table(compared, global_batch, lrs):
    rows = header("method", "M multiply-adds forward, an image", "images", "steps", "T multiply-adds in all", "learning rate")
    rows += [(method.name, f"{method.forward / 1e6:.3f}", f"{method.steps * global_batch:,}", f"{method.steps}",
              f"{method.training(global_batch) / 1e12:.3f}", f"{lrs[method.name]:g}") for method in compared]
    return table(rows)


def tuning_table(compared, tuning):
    lrs = sorted({result["lr"] for result in tuning})
    rows = header("full model's top-1 on the held-out images, %", *(f"{lr:g}" for lr in lrs))
    for method in compared:
        mine = {result["lr"]: result["top1"]["full"] for result in tuning if result["method"] == method.name}
        rows.append((method.name, *(f"{mine[lr]:.2f}" for lr in lrs)))
    return table(rows)


def report(compared, global_batch, tuning, lrs, final):
    """(tables as text, numbers as an object)"""
    tables = [price_table(compared, global_batch, lrs), tuning_table(compared, tuning)]
    if not final:
        return "\n\n".join(tables), {}
    numbers = {"accuracy": {method.name: accuracy(final, method.name) for method in compared}, "differences": {}}
    rows = header("top-1 %, mean ± sd (min to max)", *MEASURED)
    for name, found in numbers["accuracy"].items():
        cells = (f"{a['mean']:.2f} ± {a['sd']:.2f} ({a['min']:.2f} to {a['max']:.2f})" for a in found.values())
        rows.append((name, *cells))
    tables.append(table(rows))
    rows = header("paired difference, points, 95 % t interval", *MEASURED)
    for method, other in DIFFERENCES:
        found = {measured: difference(final, method, other, measured) for measured in MEASURED}
        numbers["differences"][f"{method} - {other}"] = found
        rows.append((f"{method} - {other}", *(f"{d['mean']:+.2f} ± {d['half_width_95']:.2f}" for d in found.values())))
    tables.append(table(rows))
    return "\n\n".join(tables), numbers
