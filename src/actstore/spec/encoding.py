"""Detects the encoding of text from other programs: with a byte order mark, UTF-16, or a Windows code page."""

from __future__ import annotations

import codecs

#: Longest first, since the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(content: bytes) -> str:
    """The Unicode encoding of ``content`` by its byte order mark or the position of zeros; else ``utf-8``."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    # In UTF-16 without a mark, every second byte of ASCII text is 0.
    head = content[: min(len(content), 1024) // 4 * 4]
    if head and len(content) % 2 == 0:
        odd, even = head[1::2].count(0), head[::2].count(0)
        if max(odd, even) > len(head) // 4:
            wide = len(content) % 4 == 0 and head.count(0) > 5 * len(head) // 8
            return ("utf-32" if wide else "utf-16") + ("-be" if even > odd or head[0] == 0 else "-le")
    return "utf-8"
