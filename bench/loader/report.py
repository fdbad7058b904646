"""From the measurements of bench/loader/run to the table that people read and the ratios in its JSON."""
import os
import platform
import statistics

from loaders import CATEGORIES, LOADERS


def scaling_name(name):
    return name + "_2_threads"


def machine():
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} CPUs, {model}, load average {os.getloadavg()[0]:.1f}"


def measured(results, name):
    return name in results and bool(results[name]) and "not_measured" not in results[name][-1]


def median(results, name, value=lambda result: result["images_per_cpu_second"]):
    return statistics.median(value(result) for result in results[name])


def per_second(result):
    return result["images"] / result["wall_seconds"]


def aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]
    return "\n".join(lines)


def speeds(results):
    """A row per loader. `core` is the share of its core that it got: well below 100 %, other work was in the way."""
    rows = [("images per CPU second", "min", "median", "max", "core", "")]
    for category, title in CATEGORIES.items():
        members = [name for name in LOADERS if LOADERS[name].category == category and name in results]
        if members:
            rows.append((title + ":", "", "", "", "", ""))
        for name in members:
            if not measured(results, name):
                rows.append(("  " + name, "-", "-", "-", "-", "not measured: " + results[name][-1]["not_measured"]))
                continue
            rates = [result["images_per_cpu_second"] for result in results[name]]
            core = median(results, name, lambda result: result["cpu_seconds"] / result["wall_seconds"])
            note = "a cheaper filter" if LOADERS[name].cheaper_filter else ""
            rows.append(("  " + name, f"{min(rates):.0f}", f"{statistics.median(rates):.0f}", f"{max(rates):.0f}",
                         f"{100 * core:.0f} %", note))
    absent = [f"  {name}: not measured: {results[name][-1]['not_measured']}"
              for name in results if name not in LOADERS and not measured(results, name)]
    return "\n".join([aligned(rows)] + absent)


def compared(results, ours, peers):
    """Ours over the fastest of the peers, by medians, with the ratio of each round's pair as the range."""
    peers = [name for name in peers if measured(results, name)]
    if not measured(results, ours) or not peers:
        return None
    best = max(peers, key=lambda name: median(results, name))
    pairs = [mine["images_per_cpu_second"] / theirs["images_per_cpu_second"]
             for mine, theirs in zip(results[ours], results[best])]
    return {"ours": ours, "best_peer": best, "ratio": median(results, ours) / median(results, best),
            "min": min(pairs), "max": max(pairs)}


def ratios(results):
    found = {}
    for category, title in CATEGORIES.items():
        members = [loader for loader in LOADERS.values() if loader.category == category]
        ours = next(loader.name for loader in members if loader.ours)
        alike = [loader.name for loader in members if not loader.ours and not loader.cheaper_filter]
        every = [loader.name for loader in members if not loader.ours]
        found[title] = compared(results, ours, alike)
        if len(every) > len(alike):
            found[f"{title}, of those with a cheaper filter too"] = compared(results, ours, every)
    found["3-Augment and jitter, float, DeiT's own"] = compared(results, "cosub_3aug", ["deit_3aug"])
    for name, loader in LOADERS.items():
        two = scaling_name(name)
        if loader.scales and measured(results, name) and measured(results, two):
            pairs = [per_second(b) / per_second(a) for a, b in zip(results[name], results[two])]
            found[f"{name}: two threads over one"] = {
                "ours": two, "best_peer": name, "min": min(pairs), "max": max(pairs),
                "ratio": median(results, two, per_second) / median(results, name, per_second)}
    return {title: ratio for title, ratio in found.items() if ratio}


def report(results):
    """(table as text, ratios as an object)"""
    found = ratios(results)
    text = speeds(results)
    if found:
        rows = [("ours over the best peer", "min", "ratio", "max", "")]
        rows += [(title, f"{r['min']:.2f}", f"{r['ratio']:.2f}", f"{r['max']:.2f}", f"{r['ours']} / {r['best_peer']}")
                 for title, r in found.items()]
        text += "\n\n" + aligned(rows)
    else:
        text += "\n\nNo ratios: ours and a peer of the same category are needed."
    return text, found
