"""Whether people with a keyboard or a screen reader can use a page: rules of axe-core, controls and the focus."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pytest

#: Rules broken at this weight make a test fail.
GRAVE = ("serious", "critical")

#: In scripts: ``all(root)``, what lies below an element and in its shadow roots, in the order of the page.
ALL = """const all = (root, found = []) => {
    for (const child of root.children) {
        found.push(child);
        all(child, found);
        if (child.shadowRoot) { all(child.shadowRoot, found); }
    }
    return found;
};"""

#: Visible controls: [name, whether an arrow key of another one reaches it].
_CONTROLS = (
    "() => {"
    + ALL
    + """
    const name = node => [node.tagName.toLowerCase(), node.getAttribute("role"), node.getAttribute("aria-label")
        || node.labels?.[0]?.textContent || node.title || node.textContent].filter(Boolean).join(" ").slice(0, 60);
    window.controls = all(document.body).filter(node =>
        node.matches("a[href], button, input, select, textarea, summary, [role=slider], [role=tab], [tabindex='0']")
        && !node.disabled && node.type !== "hidden" && node.checkVisibility({ visibilityProperty: true }));
    // Tabs step among themselves, and the arrows of a number's field do what the buttons beside it do.
    const stepped = node => node.matches("[role=tab]:not(.bk-active), .bk-spin-btn");
    return window.controls.map((node, i) => [`${i} ${name(node)}`, stepped(node)]);
}"""
)

#: Number of the control that has the focus, -1 for what is none.
_FOCUSED = """() => {
    let at = document.activeElement;
    while (at?.shadowRoot?.activeElement) { at = at.shadowRoot.activeElement; }
    return window.controls.indexOf(at);
}"""


@cache
def _axe() -> str:
    pytest.importorskip("axe_playwright_python", reason="axe-core is missing: pip install '.[dev]'")
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Any) -> list[str]:
    """One line for each rule that the page breaks gravely, with the first elements that break it."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_axe())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false, selectors: false })")
    return [
        f"{rule['impact']} {rule['id']}: " + " | ".join(node["html"][:120] for node in rule["nodes"][:3])
        for rule in found["violations"]
        if rule["impact"] in GRAVE
    ]


def controls(page: Any) -> list[tuple[str, bool]]:
    """Visible controls in the order of the page: name, and whether an arrow key of another control reaches it."""
    return [(name, stepped) for name, stepped in page.evaluate(_CONTROLS)]


def focused(page: Any) -> int:
    """Number of the control of the last `controls` that has the focus, -1 for none."""
    return int(page.evaluate(_FOCUSED))


def walked(page: Any, key: str, most: int = 150) -> list[int]:
    """Controls that ``key`` gives the focus to one after the other, until it leaves the page's controls."""
    found: list[int] = []
    for _ in range(most):
        page.keyboard.press(key)
        at = focused(page)
        if at < 0 or at in found:
            return found
        found.append(at)
    return found
