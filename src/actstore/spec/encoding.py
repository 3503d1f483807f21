"""Texts that other programs saved: with a byte order mark, in UTF-16, or in the code page of a Windows machine."""

from __future__ import annotations

import codecs

#: Longest first: the mark of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(content: bytes) -> str:
    """The Unicode encoding of ``content`` by its byte order mark, or by where its zeros lie; ``utf-8`` for all else."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    # ASCII letters in UTF-16 without a mark: every second byte is 0.
    head = content[: min(len(content), 1024) // 4 * 4]
    if head and len(content) % 2 == 0:
        odd, even = head[1::2].count(0), head[::2].count(0)
        if max(odd, even) > len(head) // 4:
            wide = len(content) % 4 == 0 and head.count(0) > 5 * len(head) // 8
            return ("utf-32" if wide else "utf-16") + ("-be" if even > odd or head[0] == 0 else "-le")
    return "utf-8"
