# SPDX-License-Identifier: Apache-2.0
"""The medians of a comparison as an SVG: bars on a logarithmic scale, with the least and the most of the rounds."""
import math
import xml.etree.ElementTree as xml

WIDTH, LABEL, RIGHT, ROW, GAP = 760, 130, 90, 20, 46
COLOURS = {"leat": "#1b6ca8", "other": "#b9b9b4"}
PANELS = (("appends_per_s", "appends/s, more is better"), ("p50_us", "p50 in us, less is better"))


def text(parent, x, y, words, anchor="start", size=12, weight="normal"):
    element = xml.SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor,
                                              "font-size": str(size), "font-weight": weight})
    element.text = words


def panel(parent, top, title, cells, name):
    """One bar a system; returns where it ends."""
    text(parent, 10, top, title + ' (logarithmic)', size=13, weight="bold")
    low = 10 ** math.floor(math.log10(min(c[name]["least"] for c in cells)))
    high = 10 ** math.ceil(math.log10(max(c[name]["most"] for c in cells)) + 1e-9)
    high = max(high, low * 10)

    def x(value):
        return LABEL + (WIDTH - LABEL - RIGHT) * math.log(value / low) / math.log(high / low)
    y = top + 10
    for cell in cells:
        figure = cell[name]
        ours = cell["system"].startswith("leat")
        end = max(x(figure["median"]), LABEL + 1)
        text(parent, LABEL - 8, y + 14, cell["system"], "end", weight="bold" if ours else "normal")
        xml.SubElement(parent, "rect", {"class": "bar", "x": str(LABEL), "y": str(y + 3), "width": f"{end - LABEL:.1f}", "height": str(ROW - 6),
                                        "fill": COLOURS["leat" if ours else "other"]})
        xml.SubElement(parent, "line", {"x1": f"{x(figure['least']):.1f}", "x2": f"{x(figure['most']):.1f}", "y1": str(y + ROW / 2),
                                        "y2": str(y + ROW / 2), "stroke": "#222", "stroke-width": "1.5"})
        text(parent, max(end, x(figure["most"])) + 6, y + 14, f"{figure['median']:,.0f}")
        y += ROW
    return y + GAP - 10


def draw(path, cells):
    root = xml.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", "width": str(WIDTH)})
    ground = xml.SubElement(root, "rect", {"width": str(WIDTH), "fill": "#fff"})
    y = 28
    for size, inflight in sorted({(c["size"], c["inflight"]) for c in cells}):
        for level in ("durable", "memory"):
            chosen = [c for c in cells if (c["size"], c["inflight"], c["level"]) == (size, inflight, level)]
            for name, title in PANELS if chosen else ():
                y = panel(root, y, f"{size} B, {inflight} in flight, acknowledged by {'disk' if level == 'durable' else 'memory'}: {title}",
                          chosen, name)
    for element in (root, ground):
        element.set("height", str(y))
    xml.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
