"""Bar charts as SVG, written by hand: no library needed."""

from html import escape

WIDTH, LEFT, RIGHT = 860, 260, 90
BAR, GAP, HEAD, PANEL_GAP = 18, 6, 34, 26
OURS, LIMIT, OTHERS = "#2b6cb0", "#a0aec0", "#d69e2e"


def colour(name):
    if name.startswith(("limit", "nginx `return")):
        return LIMIT
    return OURS if name.startswith("nginx-wsgi") else OTHERS


def bar_chart(title, panels):
    """`panels` is {caption: [(name, value)]}; each panel has a scale of its own."""
    parts, y = [], 40
    for caption, bars in panels.items():
        parts.append(f'<text x="12" y="{y + 14}" class="caption">{escape(caption)}</text>')
        y += HEAD - 10
        top = max(value for _, value in bars) or 1
        for name, value in bars:
            parts += one_bar(name, value, value / top * (WIDTH - LEFT - RIGHT), y)
            y += BAR + GAP
        y += PANEL_GAP
    return "\n".join([*opening(title, y), *parts, "</svg>", ""])


def one_bar(name, value, length, y):
    middle = y + BAR - 5
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return [
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" fill="{colour(name)}"/>',
        f'<text x="{LEFT + length + 6:.1f}" y="{middle}">{shown}</text>',
    ]


def opening(title, height):
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "<style>text{font:13px sans-serif;fill:#1a202c}.caption{font-weight:bold}.title{font-size:16px}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" class="title">{escape(title)}</text>',
    ]
