"""From the measurements of bench/step/run to the tables that people read."""
import os
import platform
import statistics


def machine():
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPUs, {models[0] if models else platform.machine()}, load {os.getloadavg()[0]:.1f}"


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def text(values, digits=2):
    s = spread(values)
    return f"{s['min']:.{digits}f} / {s['median']:.{digits}f} / {s['max']:.{digits}f}"


def aligned(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def verdict(value, wanted):
    """wanted: (">=" or "<=", limit) or None"""
    if wanted is None:
        return ""
    relation, limit = wanted
    good = value >= limit if relation == ">=" else value <= limit
    return f"{relation} {limit:.2f}: {'yes' if good else 'NO'}"


def comparison(found):
    """Ratios are taken round by round, peer over ours: above 1 ours is faster."""
    rows = [("seconds a step, min / median / max", "ours", "peer", "peer / ours", "wanted (median)")]
    for result in found:
        ratios = [b / a for a, b in zip(result["ours"], result["peer"])]
        result["ratio"] = spread(ratios)
        rows.append((f"{result['precision']}, drop rate {result['rate']}, {result['name']}", text(result["ours"]),
                     text(result["peer"]), text(ratios),
                     verdict(result["ratio"]["median"], result["wanted"])))
    return aligned(rows)


def scaling(found):
    """found: rate -> seconds by round, with 'one block' beside them. What lies outside of the branches is where a
    line through one block and all of them meets no block."""
    depth, whole = found["depth"], statistics.median(found["rates"][0.0])
    outside = max(0.0, (depth * statistics.median(found["one_block"]) - whole) / (depth - 1))
    rows = [("ours by drop rate", "seconds", "over that at 0.0", "over 1.08 K/B t(0.0) + outside", "")]
    for rate, seconds in found["rates"].items():
        kept = 1 - rate
        ratios = [b / a for a, b in zip(found["rates"][0.0], seconds)]
        shares = [b / (1.08 * kept * a + outside) for a, b in zip(found["rates"][0.0], seconds)]
        wanted = ("<=", 1.0) if rate > 0 else None
        rows.append((f"{rate}", text(seconds), text(ratios, 3), text(shares, 3),
                     verdict(statistics.median(shares), wanted)))
    return aligned(rows) + f"\noutside of the branches: {outside:.3f} s"


def startup(found):
    ours, peer = found["ours"], found["peer"]
    step = statistics.median(found["peer_step"])
    limit = step + 2.0
    return aligned([
        ("process start to the end of the first step", "seconds", "wanted (median)"),
        ("ours", text(ours), verdict(statistics.median(ours), ("<=", limit)) + " (the peer's step and 2 s)"),
        ("peer", text(peer), ""),
        ("ours / peer", text([a / b for a, b in zip(ours, peer)]),
         verdict(statistics.median(a / b for a, b in zip(ours, peer)), ("<=", 0.6))),
    ])
